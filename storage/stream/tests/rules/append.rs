//! What a stream answers to an append, and in which order it refuses.

use bytes::Bytes;
use tailwater_stream::producer::ProducerRefusal;
use tailwater_stream::{
    Append, AppendCommand, AppendDecision, AppendRefusal, Epoch, MessageEnds, OffsetToken, Transition,
};

use super::setup::{
    JSON, LIMITS, NOW, TEXT, accepted, add, apply, asking_for_fork, at, busy, claim, close, closing, forked,
    media, refusal, sending, stream,
};

/// All that can be wrong at once, then one thing after the other put right.
#[test]
fn each_refusal_is_spoken_before_all_that_follow_it() {
    let open = busy();
    let tail = open.tail_token();
    let mut closed = open.clone();
    apply(&mut closed, &closing(&open, ""));

    let mut command = AppendCommand {
        content_type: Some(media(TEXT)),
        producer: claim(2, 9),
        stream_seq: Some("a".into()),
        if_match: Some(OffsetToken::START),
        ..sending(&open, "")
    };
    assert_eq!(refusal(&closed, &command), AppendRefusal::Empty);
    command.body = sending(&open, "[1,").body;
    command.body_is_empty = false;
    assert_eq!(refusal(&closed, &command), AppendRefusal::Closed { tail });
    let expected = open.content_type.clone();
    assert_eq!(refusal(&open, &command), AppendRefusal::ContentType { expected });
    command.content_type = Some(media(JSON));
    let fenced = ProducerRefusal::Fenced {
        current: Epoch::new(3).expect("an epoch"),
    };
    assert_eq!(refusal(&open, &command), AppendRefusal::Producer(fenced));
    command.producer = claim(3, 2);
    assert_eq!(refusal(&open, &command), AppendRefusal::TailMismatch { tail });
    command.if_match = Some(tail);
    assert_eq!(
        refusal(&open, &command),
        AppendRefusal::StreamSeq { last: "m".into() }
    );
    command.stream_seq = Some("n".into());
    assert!(matches!(refusal(&open, &command), AppendRefusal::Json(_)));
    command.body = sending(&open, " [ ] ").body;
    assert_eq!(refusal(&open, &command), AppendRefusal::NoMessages);
    command.body = sending(&open, "[1,2]").body;
    let full = AppendRefusal::StreamFull {
        bytes: 13,
        bytes_max: 10,
    };
    assert_eq!(refusal(&open, &command), full);
    command.body = sending(&open, "").body;
    command.body_is_empty = true;
    command.closes = true;
    assert!(accepted(&open, &command).closes);
}

#[test]
fn an_accepted_append_carries_all_that_changes() {
    let mut state = stream(JSON);
    add(&mut state, "[1,2]");
    let command = AppendCommand {
        producer: claim(5, 0),
        stream_seq: Some("a".into()),
        if_match: Some(state.tail_token()),
        ..closing(&state, "[[3],\n4]")
    };
    let append = accepted(&state, &command);
    let expected = Append {
        start: at(4),
        payload: Bytes::from_static(b"[3],4,"),
        ends: MessageEnds::from_ends(vec![4, 6]),
        first_message: 2,
        producer: claim(5, 0),
        stream_seq: Some("a".into()),
        closes: true,
        at: NOW,
    };
    assert_eq!(append, expected);
    state.apply(&Transition::Append(append));
    assert_eq!((state.tail, state.messages, state.closed), (at(10), 4, true));
    assert_eq!(state.stream_seq.as_deref(), Some("a"));
    assert_eq!(state.producers.len(), 1);
}

#[test]
fn the_content_type_of_a_bare_close_is_not_looked_at() {
    let state = stream(JSON);
    for content_type in [None, Some(media(TEXT))] {
        let command = AppendCommand {
            content_type,
            ..closing(&state, "")
        };
        assert!(accepted(&state, &command).closes);
    }
}

#[test]
fn a_body_without_content_type_has_the_wrong_one() {
    let state = stream(TEXT);
    let command = AppendCommand {
        content_type: None,
        ..sending(&state, "x")
    };
    assert!(matches!(
        refusal(&state, &command),
        AppendRefusal::ContentType { .. }
    ));
}

#[test]
fn a_duplicate_is_known_before_tail_sequence_and_body_are_looked_at() {
    let state = busy();
    let command = AppendCommand {
        producer: claim(3, 0),
        stream_seq: Some("a".into()),
        if_match: Some(OffsetToken::START),
        ..sending(&state, "[1,")
    };
    let Ok(AppendDecision::Duplicate(known)) = state.append(&command, NOW, LIMITS) else {
        panic!("a duplicate");
    };
    assert_eq!((known.seq.get(), known.end), (1, state.tail));
}

#[test]
fn a_retry_of_the_closing_request_is_a_duplicate() {
    let mut state = stream(TEXT);
    let command = AppendCommand {
        producer: claim(0, 0),
        ..closing(&state, "end")
    };
    apply(&mut state, &command);
    assert!(matches!(
        state.append(&command, NOW, LIMITS),
        Ok(AppendDecision::Duplicate(_))
    ));
}

#[test]
fn a_closed_stream_takes_nothing_new_from_any_producer() {
    let mut state = busy();
    close(&mut state, "");
    let tail = state.tail_token();
    for producer in [claim(3, 2), claim(3, 7), claim(2, 0), claim(4, 0), claim(4, 1)] {
        for body in ["1", ""] {
            let command = AppendCommand {
                producer: producer.clone(),
                ..closing(&state, body)
            };
            assert_eq!(refusal(&state, &command), AppendRefusal::Closed { tail });
        }
    }
}

#[test]
fn a_bare_close_of_a_closed_stream_succeeds_and_one_with_content_does_not() {
    let mut state = stream(TEXT);
    close(&mut state, "x");
    assert_eq!(
        state.append(&closing(&state, ""), NOW, LIMITS),
        Ok(AppendDecision::AlreadyClosed)
    );
    let tail = state.tail_token();
    assert_eq!(
        refusal(&state, &closing(&state, "x")),
        AppendRefusal::Closed { tail }
    );
}

#[test]
fn an_empty_array_is_refused_even_if_it_closes() {
    let state = stream(JSON);
    assert_eq!(refusal(&state, &closing(&state, "[]")), AppendRefusal::NoMessages);
}

#[test]
fn a_sequence_must_grow_byte_by_byte_and_not_as_a_number() {
    let mut state = stream(TEXT);
    let with = |seq: &str| AppendCommand {
        stream_seq: Some(seq.into()),
        ..sending(&stream(TEXT), "x")
    };
    apply(&mut state, &with("9"));
    for refused in ["", "9", "10", "8zzz"] {
        assert_eq!(
            refusal(&state, &with(refused)),
            AppendRefusal::StreamSeq { last: "9".into() }
        );
    }
    for next in ["90", "Z", "a", "\u{e9}"] {
        apply(&mut state, &with(next));
    }
    add(&mut state, "x");
    assert_eq!(
        state.stream_seq.as_deref(),
        Some("\u{e9}"),
        "an append without one keeps it"
    );
}

#[test]
fn a_stream_is_filled_to_the_last_byte_and_no_further() {
    let mut state = stream(TEXT);
    add(&mut state, "1234567890");
    let full = AppendRefusal::StreamFull {
        bytes: 11,
        bytes_max: 10,
    };
    assert_eq!(refusal(&state, &sending(&state, "1")), full);
    state.apply(&Transition::Trim {
        before: at(1),
        at: NOW,
    });
    add(&mut state, "1");
    assert!(matches!(
        refusal(&state, &sending(&state, "1")),
        AppendRefusal::StreamFull { .. }
    ));
    assert!(
        accepted(&state, &closing(&state, "")).closes,
        "closing needs no room"
    );
}

#[test]
fn what_a_fork_inherits_takes_no_room() {
    let mut source = stream(TEXT);
    add(&mut source, "1234567890");
    let mut fork = forked(&source, 10, &asking_for_fork(None, 0));
    add(&mut fork, "1234567890");
    assert_eq!((fork.tail, fork.own_bytes()), (at(20), 10));
}

#[test]
#[should_panic(expected = "does not begin at its tail")]
fn bytes_that_do_not_begin_at_the_tail_are_a_bug() {
    let mut state = stream(TEXT);
    let append = accepted(&state, &sending(&state, "x"));
    state.apply(&Transition::Append(append.clone()));
    state.apply(&Transition::Append(append));
}

#[test]
#[should_panic(expected = "append to the closed stream")]
fn an_append_behind_the_close_is_a_bug() {
    let mut state = stream(TEXT);
    let append = accepted(&state, &closing(&state, ""));
    state.apply(&Transition::Append(append.clone()));
    state.apply(&Transition::Append(append));
}
