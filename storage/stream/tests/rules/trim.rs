//! What a stream forgets.

use tailwater_stream::{
    Lineage, OffsetRefusal, OffsetToken, StreamState, Transition, TrimDecision, TrimRefusal,
};

use super::setup::{NOW, TEXT, add, asking_for_fork, at, forked, id, stream};

fn abcdef() -> StreamState {
    let mut state = stream(TEXT);
    add(&mut state, "abc");
    add(&mut state, "def");
    state
}

fn trimmed(mut state: StreamState, before: u64) -> StreamState {
    let token = state.lineage.token(at(before));
    assert_eq!(state.trim(token), Ok(TrimDecision::Trim(at(before))));
    state.apply(&Transition::Trim {
        before: at(before),
        at: NOW,
    });
    state
}

#[test]
fn everything_up_to_the_tail_may_be_forgotten() {
    let state = trimmed(abcdef(), 6);
    assert_eq!((state.oldest, state.tail, state.own_bytes()), (at(6), at(6), 0));
    assert_eq!(state.messages, 2, "trimmed messages stay counted");
}

#[test]
fn what_is_forgotten_cannot_be_resolved_and_the_rest_can() {
    let state = trimmed(abcdef(), 3);
    let resolve = |position| {
        state
            .lineage
            .resolve(state.lineage.token(at(position)), state.oldest, state.tail)
    };
    assert!(resolve(2).is_err() && resolve(0).is_err());
    assert_eq!(resolve(3), Ok(at(3)));
}

#[test]
fn a_trim_to_where_it_is_trimmed_already_changes_nothing() {
    let state = trimmed(abcdef(), 3);
    for before in [0, 2, 3] {
        assert_eq!(
            state.trim(state.lineage.token(at(before))),
            Ok(TrimDecision::AlreadyTrimmed)
        );
    }
    assert_eq!(
        abcdef().trim(OffsetToken::START),
        Ok(TrimDecision::AlreadyTrimmed)
    );
}

#[test]
fn a_replayed_older_trim_brings_nothing_back() {
    let mut state = trimmed(abcdef(), 3);
    state.apply(&Transition::Trim {
        before: at(1),
        at: NOW,
    });
    assert_eq!(state.oldest, at(3));
}

#[test]
fn offsets_of_others_and_beyond_the_tail_are_unknown() {
    let state = abcdef();
    let unknown = [Lineage::root(id(9)).token(at(3)), state.lineage.token(at(7))];
    for before in unknown {
        assert_eq!(state.trim(before), Err(TrimRefusal::Unknown));
    }
}

#[test]
fn a_trim_is_a_use() {
    let mut state = abcdef();
    let later = NOW.plus_millis(900);
    state.apply(&Transition::Trim {
        before: at(3),
        at: later,
    });
    assert_eq!(state.touched_at, later);
}

#[test]
fn a_fork_forgets_what_it_inherited_without_its_own_bytes_getting_fewer() {
    let source = abcdef();
    let mut fork = forked(&source, 6, &asking_for_fork(None, 0));
    add(&mut fork, "ghi");
    let fork = trimmed(fork, 5);
    assert_eq!(fork.own_bytes(), 3);
    assert_eq!(trimmed(fork, 8).own_bytes(), 1);
    assert_eq!(source.oldest, at(0));
}

#[test]
fn a_fork_of_a_trimmed_stream_brings_nothing_back() {
    let source = trimmed(abcdef(), 3);
    let fork = forked(&source, 6, &asking_for_fork(None, 0));
    let start = fork.lineage.resolve(OffsetToken::START, fork.oldest, fork.tail);
    assert_eq!(
        start,
        Err(OffsetRefusal::Trimmed {
            oldest: source.lineage.token(at(3))
        })
    );
}

#[test]
#[should_panic(expected = "beyond its tail")]
fn a_trim_beyond_the_tail_is_a_bug() {
    abcdef().apply(&Transition::Trim {
        before: at(7),
        at: NOW,
    });
}
