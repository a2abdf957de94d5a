//! What clients may do to a run, which the server governs, and what the server may do.

use proptest::prelude::*;
use tailwater_stream::producer::ProducerRefusal;
use tailwater_stream::{
    AppendCommand, AppendDecision, AppendRefusal, DeleteRefusal, Epoch, LEASE_PRODUCER, LeaseRefusal, Limits,
    ProducerId, ProducerMark, Seq, StreamKind, StreamState, Transition, TrimDecision, TrimRefusal,
};

use super::setup::{JSON, LIMITS, NOW, TEXT, add, at, claim, closing, refusal, sending, stream};

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).expect("an epoch")
}

fn lease(epoch_number: u64, seq: u64) -> Option<ProducerMark> {
    Some(ProducerMark {
        id: ProducerId::parse(LEASE_PRODUCER).expect("an id"),
        epoch: epoch(epoch_number),
        seq: Seq::new(seq).expect("a number"),
    })
}

fn by(mark: Option<ProducerMark>, command: AppendCommand) -> AppendCommand {
    AppendCommand {
        producer: mark,
        ..command
    }
}

/// What the server appends, which must be accepted.
fn say(state: &mut StreamState, command: &AppendCommand) {
    let decision = state.append_by_server(command, NOW, LIMITS);
    let Ok(AppendDecision::Accept(append)) = decision else {
        panic!("{decision:?}");
    };
    state.apply(&Transition::Append(append));
}

/// A run whose lease has this epoch.
fn run(epoch_number: u64) -> StreamState {
    let mut state = StreamState {
        kind: StreamKind::Run,
        ..stream(TEXT)
    };
    for number in 0..=epoch_number {
        let event = by(lease(number, 0), sending(&state, "e"));
        say(&mut state, &event);
    }
    state
}

fn ended(epoch_number: u64) -> StreamState {
    let mut state = run(epoch_number);
    let end = by(lease(epoch_number, 1), closing(&state, "e"));
    say(&mut state, &end);
    state
}

fn lease_refusal(state: &StreamState, command: &AppendCommand) -> LeaseRefusal {
    match refusal(state, command) {
        AppendRefusal::Lease(refusal) => refusal,
        other => panic!("{other:?} instead of a refusal for want of the lease"),
    }
}

#[test]
fn the_holder_of_a_lease_appends_to_its_run_and_its_retries_are_known() {
    let mut state = run(1);
    let event = by(lease(1, 1), sending(&state, "x"));
    let decision = state.append(&event, NOW, LIMITS).expect("accepted");
    let AppendDecision::Accept(append) = decision else {
        panic!("{decision:?}")
    };
    state.apply(&Transition::Append(append));
    let again = state.append(&event, NOW, LIMITS);
    assert!(matches!(again, Ok(AppendDecision::Duplicate(_))), "{again:?}");
    let gap = by(lease(1, 3), sending(&state, "x"));
    assert!(matches!(
        refusal(&state, &gap),
        AppendRefusal::Producer(ProducerRefusal::Gap { .. })
    ));
}

#[test]
fn who_is_not_the_lease_appends_nothing_to_a_run() {
    for epoch in [0, 1, 2] {
        let state = run(epoch);
        for mark in [None, claim(epoch, 0), claim(epoch + 1, 0)] {
            let event = by(mark, sending(&state, "x"));
            assert_eq!(lease_refusal(&state, &event), LeaseRefusal::NotTheLease);
        }
    }
}

/// Also the very request that the server made counts as no duplicate then: nobody else can have made it.
#[test]
fn while_nobody_holds_the_lease_nobody_appends() {
    for current in [0, 2] {
        let state = run(current);
        for seq in [0, 1, 2] {
            let event = by(lease(current, seq), sending(&state, "x"));
            assert_eq!(lease_refusal(&state, &event), LeaseRefusal::NotLeased);
        }
    }
}

#[test]
fn an_epoch_that_the_server_did_not_give_is_refused() {
    for current in [0, 1, 2, 3] {
        let state = run(current);
        for claimed in [current + 1, current + 2] {
            for command in [sending(&state, "x"), closing(&state, "x")] {
                let refused = LeaseRefusal::NotGiven {
                    current: epoch(current),
                    claimed: epoch(claimed),
                };
                assert_eq!(lease_refusal(&state, &by(lease(claimed, 0), command)), refused);
            }
        }
    }
}

#[test]
fn whose_lease_is_over_is_fenced() {
    for current in [2, 3] {
        let state = run(current);
        for (seq, command) in [(0, sending(&state, "x")), (1, closing(&state, ""))] {
            assert_eq!(
                refusal(&state, &by(lease(1, seq), command)),
                AppendRefusal::Producer(ProducerRefusal::Fenced {
                    current: epoch(current)
                })
            );
        }
    }
}

#[test]
fn only_the_server_closes_a_run() {
    let state = run(1);
    for body in ["", "x"] {
        let end = by(lease(1, 1), closing(&state, body));
        assert_eq!(lease_refusal(&state, &end), LeaseRefusal::Closes);
    }
    assert_eq!(
        lease_refusal(&state, &closing(&state, "")),
        LeaseRefusal::NotTheLease
    );
    assert!(ended(1).closed);
}

/// A worker could end its run in the eyes of all who follow it, and go on.
#[test]
fn only_the_server_says_what_has_happened_to_a_run() {
    const ROOM: Limits = Limits {
        stream_bytes_max: 1_000,
        ..LIMITS
    };
    let mut state = StreamState {
        kind: StreamKind::Run,
        ..stream(JSON)
    };
    let begin = |state: &mut StreamState, number: u64| {
        let event = by(lease(number, 0), sending(state, r#"{"type":"run.leased"}"#));
        let decision = state.append_by_server(&event, NOW, ROOM);
        let Ok(AppendDecision::Accept(append)) = decision else {
            panic!("{decision:?}");
        };
        state.apply(&Transition::Append(append));
    };
    begin(&mut state, 0);
    begin(&mut state, 1);
    let say = |epoch: u64, body: &str| state.append(&by(lease(epoch, 1), sending(&state, body)), NOW, ROOM);
    for (body, nth) in [
        (r#"{"type":"run.succeeded"}"#, 1),
        (r#"[{"type":"log"},{"type":"run.dead"},{"type":"log"}]"#, 2),
    ] {
        let refused = say(1, body);
        assert!(
            matches!(refused, Err(AppendRefusal::Lease(LeaseRefusal::Reserved { nth: found, .. })) if found == nth),
            "{refused:?}"
        );
    }
    assert!(say(1, r#"[{"type":"log","line":"run.dead"},{"type":"runs"}]"#).is_ok());
    assert!(matches!(say(1, "{"), Err(AppendRefusal::Json(_))));
    // Whoever is fenced off is told that.
    begin(&mut state, 2);
    let late = by(lease(1, 1), sending(&state, r#"{"type":"run.succeeded"}"#));
    assert!(matches!(refusal(&state, &late), AppendRefusal::Producer(_)));
    // In other streams it means nothing.
    let plain = stream(JSON);
    let event = sending(&plain, r#"{"type":"run.succeeded"}"#);
    assert!(plain.append(&event, NOW, ROOM).is_ok());
}

/// A repeated call is answered as the first was, though the run has ended by it.
#[test]
fn what_the_server_says_twice_is_said_once() {
    for state in [ended(1), ended(2)] {
        let current = state.producers.iter().next().expect("the lease").1.epoch;
        let end = by(lease(current.get(), 1), closing(&state, "e"));
        let again = state.append_by_server(&end, NOW, LIMITS);
        assert!(matches!(again, Ok(AppendDecision::Duplicate(_))), "{again:?}");
        let next = by(lease(current.get() + 1, 0), sending(&state, "e"));
        let refused = state.append_by_server(&next, NOW, LIMITS);
        assert!(
            matches!(refused, Err(AppendRefusal::Closed { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn an_ended_run_is_closed_for_everybody_like_any_stream() {
    let state = ended(1);
    for mark in [None, claim(0, 0), lease(0, 0), lease(1, 2), lease(3, 0)] {
        let refused = refusal(&state, &by(mark, sending(&state, "x")));
        assert!(matches!(refused, AppendRefusal::Closed { .. }), "{refused:?}");
    }
}

#[test]
fn a_run_is_deleted_and_trimmed_once_it_has_ended() {
    let open = run(1);
    assert!(open.is_open_run());
    assert_eq!(open.delete(None), Err(DeleteRefusal::OpenRun));
    assert_eq!(open.trim(open.lineage.token(at(1))), Err(TrimRefusal::OpenRun));
    assert_eq!(open.trim(open.lineage.token(at(0))), Err(TrimRefusal::OpenRun));
    let ended = ended(1);
    assert_eq!(ended.delete(None), Ok(()));
    assert_eq!(
        ended.trim(ended.lineage.token(at(1))),
        Ok(TrimDecision::Trim(at(1)))
    );
}

#[test]
fn a_plain_stream_knows_no_lease() {
    let mut state = stream(TEXT);
    add(&mut state, "x");
    for mark in [None, lease(0, 0), lease(2, 0), claim(7, 0)] {
        let event = by(mark, closing(&state, "x"));
        assert!(state.append(&event, NOW, LIMITS).is_ok());
    }
    assert_eq!(state.delete(None), Ok(()));
}

#[test]
fn a_run_that_is_full_takes_what_the_server_says_and_a_queue_does_not() {
    let none = Limits {
        stream_bytes_max: 0,
        producers_max: 0,
    };
    let state = run(1);
    let event = by(lease(1, 1), sending(&state, "x"));
    assert!(matches!(
        state.append(&event, NOW, none),
        Err(AppendRefusal::StreamFull { .. })
    ));
    assert!(state.append_by_server(&event, NOW, none).is_ok());
    let queue = stream(TEXT);
    let job = by(claim(0, 0), sending(&queue, "x"));
    let refused = queue.append_by_server(&job, NOW, none);
    assert!(
        matches!(refused, Err(AppendRefusal::StreamFull { .. })),
        "{refused:?}"
    );
    let some = Limits {
        producers_max: 0,
        ..LIMITS
    };
    assert!(queue.append_by_server(&job, NOW, some).is_ok());
}

proptest! {
    /// Whatever a client sends, an open run takes it only from the holder of its lease, in order, and never closes by it.
    #[test]
    fn nothing_but_the_next_event_of_the_holder_is_accepted(
        current in 0_u64..5,
        is_lease: bool,
        claimed in 0_u64..6,
        seq in 0_u64..4,
        closes: bool,
        body in "[a-z]{0,2}",
    ) {
        let state = run(current);
        let mark = if is_lease { lease(claimed, seq) } else { claim(claimed, seq) };
        let command = if closes { closing(&state, &body) } else { sending(&state, &body) };
        let decision = state.append(&by(mark, command), NOW, LIMITS);
        let may = is_lease && claimed == current && current % 2 == 1 && !closes && !body.is_empty();
        match decision {
            Ok(AppendDecision::Accept(append)) => prop_assert!(may && seq == 1 && !append.closes),
            Ok(AppendDecision::Duplicate(_)) => prop_assert!(may && seq == 0),
            Ok(AppendDecision::AlreadyClosed) => prop_assert!(false),
            Err(_) => prop_assert!(!(may && seq <= 1)),
        }
    }
}
