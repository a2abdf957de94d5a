//! When a repeated creation finds its stream.

use bytes::Bytes;
use tailwater_stream::{
    ContentType, CreateCommand, CreateDecision, CreateRefusal, ForkRequest, Lifetime, OffsetToken,
    StreamState,
};

use super::setup::{
    JSON, NOW, TEXT, add, asking, asking_for_fork, close, created, forked, media, name, stream,
};

fn difference(state: &StreamState, command: &CreateCommand) -> &'static str {
    match state.create_again(command) {
        Err(CreateRefusal::Conflict { difference }) => difference,
        other => panic!("{other:?} instead of a conflict"),
    }
}

#[test]
fn the_same_request_finds_its_stream() {
    let command = CreateCommand {
        lifetime: Lifetime::Ttl { seconds: 60 },
        ..asking(Some(TEXT))
    };
    let mut state = created(&command);
    assert_eq!(state.create_again(&command), Ok(CreateDecision::Exists));
    add(&mut state, "x");
    let with_body = CreateCommand {
        body: Bytes::from_static(b"other"),
        ..command
    };
    assert_eq!(
        state.create_again(&with_body),
        Ok(CreateDecision::Exists),
        "content is not compared"
    );
}

/// `If-None-Match: *` was passed over, and two who wanted to be the first were both told that all is well.
#[test]
fn whoever_wants_a_new_stream_does_not_find_the_same() {
    let command = asking(Some(TEXT));
    let state = created(&command);
    let only_new = CreateCommand {
        only_new: true,
        ..command
    };
    assert_eq!(state.create_again(&only_new), Err(CreateRefusal::Exists));
    let another = CreateCommand {
        only_new: true,
        ..asking(Some(JSON))
    };
    assert_eq!(
        state.create_again(&another),
        Err(CreateRefusal::Exists),
        "that it differs does not matter"
    );
}

#[test]
fn no_content_type_means_the_default_one() {
    let default = created(&asking(None));
    assert_eq!(
        default.create_again(&asking(Some(ContentType::DEFAULT))),
        Ok(CreateDecision::Exists)
    );
    assert_eq!(default.create_again(&asking(None)), Ok(CreateDecision::Exists));
    assert_eq!(difference(&stream(TEXT), &asking(None)), "content type");
}

#[test]
fn case_and_parameters_of_the_content_type_do_not_differ() {
    assert_eq!(
        stream(TEXT).create_again(&asking(Some("Text/PLAIN; charset=utf-8"))),
        Ok(CreateDecision::Exists)
    );
}

#[test]
fn another_lifetime_differs_also_if_it_ends_at_the_same_time() {
    let ttl = CreateCommand {
        lifetime: Lifetime::Ttl { seconds: 60 },
        ..asking(Some(TEXT))
    };
    let until = CreateCommand {
        lifetime: Lifetime::Until {
            at: NOW.plus_millis(60_000),
        },
        ..ttl.clone()
    };
    assert_eq!(difference(&created(&ttl), &until), "TTL or expiry");
    assert_eq!(difference(&created(&ttl), &asking(Some(TEXT))), "TTL or expiry");
    assert_eq!(difference(&stream(TEXT), &ttl), "TTL or expiry");
}

#[test]
fn closure_is_compared_with_what_it_is_now() {
    let open = asking(Some(TEXT));
    let closed = CreateCommand {
        closed: true,
        ..open.clone()
    };
    let mut state = created(&open);
    assert_eq!(difference(&state, &closed), "closure status");
    close(&mut state, "");
    assert_eq!(difference(&state, &open), "closure status");
    assert_eq!(state.create_again(&closed), Ok(CreateDecision::Exists));
}

/// A peer stored the type and the lifetime that a fork had inherited as if they had been asked for, and
/// answered 409 to the retry of the very request that had made the fork.
#[test]
fn a_fork_that_named_neither_type_nor_lifetime_is_found_by_the_same_request() {
    let source = created(&CreateCommand {
        lifetime: Lifetime::Ttl { seconds: 60 },
        ..asking(Some(JSON))
    });
    let command = asking_for_fork(None, 0);
    let fork = forked(&source, 0, &command);
    assert_eq!(fork.lifetime, source.lifetime);
    assert_eq!(fork.create_again(&command), Ok(CreateDecision::Exists));
    let naming_the_type = CreateCommand {
        content_type: Some(media(JSON)),
        ..command.clone()
    };
    assert_eq!(fork.create_again(&naming_the_type), Ok(CreateDecision::Exists));
    let naming_another = CreateCommand {
        content_type: Some(media(TEXT)),
        ..command.clone()
    };
    assert_eq!(difference(&fork, &naming_another), "content type");
    let naming_a_lifetime = CreateCommand {
        lifetime: source.lifetime,
        ..command
    };
    assert_eq!(difference(&fork, &naming_a_lifetime), "TTL or expiry");
}

#[test]
fn a_fork_at_the_tail_is_found_again_after_its_source_has_grown() {
    let mut source = stream(TEXT);
    add(&mut source, "abc");
    let command = asking_for_fork(None, 0);
    let fork = forked(&source, 3, &command);
    add(&mut source, "def");
    assert_eq!(fork.create_again(&command), Ok(CreateDecision::Exists));
}

#[test]
fn another_source_offset_or_sub_offset_differs() {
    let mut source = stream(TEXT);
    add(&mut source, "abc");
    let token = Some(source.tail_token());
    let fork = forked(&source, 3, &asking_for_fork(token, 0));
    let elsewhere = CreateCommand {
        fork: Some(ForkRequest {
            source: name("other"),
            offset: token,
            sub_offset: 0,
        }),
        ..CreateCommand::default()
    };
    let others = [
        elsewhere,
        asking_for_fork(Some(OffsetToken::START), 0),
        asking_for_fork(token, 1),
        asking(Some(TEXT)),
    ];
    for command in others {
        assert_eq!(difference(&fork, &command), "fork source or offset");
    }
    assert_eq!(
        difference(&source, &asking_for_fork(None, 0)),
        "fork source or offset"
    );
}
