//! With what a stream begins.

use bytes::Bytes;
use tailwater_stream::{Append, CreateCommand, CreateRefusal, EncodedBody, StreamState, Transition};

use super::setup::{JSON, LIMITS, NOW, TEXT, add, asking_for_fork, at, busy, close, forked, stream};

fn first(state: &StreamState, closed: bool, body: &str) -> Result<Option<Append>, CreateRefusal> {
    let command = CreateCommand {
        closed,
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..CreateCommand::default()
    };
    let body = EncodedBody::new(state.content_type.kind(), &command.body);
    state.first_append(&command, &body, NOW, LIMITS)
}

#[test]
fn without_content_nothing_is_appended() {
    assert_eq!(first(&stream(TEXT), false, ""), Ok(None));
    assert_eq!(first(&stream(JSON), false, ""), Ok(None));
    assert_eq!(
        first(&stream(JSON), false, "[ ]"),
        Ok(None),
        "an empty array is an empty stream"
    );
}

#[test]
fn an_empty_stream_can_be_created_closed() {
    for (content_type, body) in [(TEXT, ""), (JSON, ""), (JSON, "[]")] {
        let mut state = stream(content_type);
        let append = first(&state, true, body).expect("accepted").expect("a close");
        state.apply(&Transition::Append(append));
        assert_eq!((state.closed, state.tail, state.messages), (true, at(0), 0));
        assert_eq!(state.last_append_at, None);
    }
}

#[test]
fn content_and_close_are_one_append() {
    let mut state = stream(JSON);
    let append = first(&state, true, "[1,[2]]")
        .expect("accepted")
        .expect("content");
    assert_eq!((&append.payload[..], append.closes), (&b"1,[2],"[..], true));
    state.apply(&Transition::Append(append));
    assert_eq!((state.closed, state.messages), (true, 2));
}

#[test]
fn content_that_is_no_json_is_refused_only_where_json_is_stored() {
    assert!(matches!(
        first(&stream(JSON), false, "[1,"),
        Err(CreateRefusal::Json(_))
    ));
    assert!(matches!(
        first(&stream(JSON), true, "[1,"),
        Err(CreateRefusal::Json(_))
    ));
    assert!(matches!(first(&stream(TEXT), false, "[1,"), Ok(Some(_))));
}

#[test]
fn content_may_fill_the_stream_and_no_more() {
    assert!(matches!(first(&stream(TEXT), false, "1234567890"), Ok(Some(_))));
    assert_eq!(
        first(&stream(TEXT), false, "12345678901"),
        Err(CreateRefusal::TooLarge {
            bytes: 11,
            bytes_max: 10
        })
    );
}

#[test]
fn a_forks_content_follows_what_it_inherits() {
    let mut source = stream(TEXT);
    add(&mut source, "1234567890");
    let fork = forked(&source, 4, &asking_for_fork(None, 0));
    let append = first(&fork, false, "abc").expect("accepted").expect("content");
    assert_eq!((append.start, append.first_message), (at(4), 7));
}

#[test]
fn a_fork_of_a_closed_stream_is_open_and_knows_no_writers() {
    let mut source = busy();
    close(&mut source, "");
    let fork = forked(&source, source.tail.get(), &asking_for_fork(None, 0));
    assert!(!fork.closed && fork.producers.is_empty());
    assert_eq!(fork.stream_seq, None);
    assert_eq!(fork.last_append_at, None);
}
