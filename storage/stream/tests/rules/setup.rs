//! Streams and commands for the rules to meet.

use bytes::Bytes;
use tailwater_stream::{
    Append, AppendCommand, AppendDecision, AppendRefusal, ContentType, CreateCommand, CreateRequest, Created,
    EncodedBody, Epoch, ForkRequest, ForkSource, Limits, Lineage, NameLimits, OffsetToken, Position,
    ProducerId, ProducerMark, Seq, StreamId, StreamKind, StreamName, StreamState, Timestamp, Transition,
};

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";
pub(crate) const LIMITS: Limits = Limits {
    stream_bytes_max: 10,
    producers_max: 1,
};
pub(crate) const NOW: Timestamp = Timestamp::from_millis(5_000);

pub(crate) fn at(number: u64) -> Position {
    Position::new(number).expect("a position")
}

pub(crate) fn id(number: u64) -> StreamId {
    StreamId::new(number).expect("an id")
}

pub(crate) fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}

pub(crate) fn media(text: &str) -> ContentType {
    ContentType::parse(text).expect("a media type")
}

pub(crate) fn asking(content_type: Option<&str>) -> CreateCommand {
    CreateCommand {
        content_type: content_type.map(media),
        ..CreateCommand::default()
    }
}

pub(crate) fn created(command: &CreateCommand) -> StreamState {
    StreamState::created(&Created {
        id: id(1),
        name: name("s"),
        kind: StreamKind::Plain,
        beside: None,
        content_type: command.content_type.clone().unwrap_or_default(),
        lifetime: command.lifetime,
        requested: CreateRequest::from(command),
        lineage: Lineage::root(id(1)),
        source: None,
        oldest: Position::ZERO,
        messages: 0,
        at: NOW,
    })
}

pub(crate) fn stream(content_type: &str) -> StreamState {
    created(&asking(Some(content_type)))
}

/// A fork of `source` at `point`, of which the client asked what `command` says.
pub(crate) fn forked(source: &StreamState, point: u64, command: &CreateCommand) -> StreamState {
    StreamState::created(&Created {
        id: id(2),
        name: name("fork"),
        kind: StreamKind::Plain,
        beside: None,
        content_type: source.content_type.clone(),
        lifetime: source.lifetime,
        requested: CreateRequest::from(command),
        lineage: source.lineage.fork(id(2), at(point)),
        source: Some(ForkSource {
            id: source.id,
            name: source.name.clone(),
            point: at(point),
        }),
        oldest: source.oldest,
        messages: 7,
        at: NOW,
    })
}

pub(crate) fn asking_for_fork(offset: Option<OffsetToken>, sub_offset: u64) -> CreateCommand {
    CreateCommand {
        fork: Some(ForkRequest {
            source: name("s"),
            offset,
            sub_offset,
        }),
        ..CreateCommand::default()
    }
}

pub(crate) fn sending(state: &StreamState, body: &str) -> AppendCommand {
    AppendCommand {
        content_type: Some(state.content_type.clone()),
        body: EncodedBody::new(
            state.content_type.kind(),
            &Bytes::copy_from_slice(body.as_bytes()),
        ),
        body_is_empty: body.is_empty(),
        producer: None,
        stream_seq: None,
        if_match: None,
        closes: false,
    }
}

pub(crate) fn closing(state: &StreamState, body: &str) -> AppendCommand {
    AppendCommand {
        closes: true,
        ..sending(state, body)
    }
}

pub(crate) fn claim(epoch: u64, seq: u64) -> Option<ProducerMark> {
    Some(ProducerMark {
        id: ProducerId::parse("p").expect("an id"),
        epoch: Epoch::new(epoch).expect("an epoch"),
        seq: Seq::new(seq).expect("a number"),
    })
}

pub(crate) fn accepted(state: &StreamState, command: &AppendCommand) -> Append {
    match state.append(command, NOW, LIMITS) {
        Ok(AppendDecision::Accept(append)) => append,
        other => panic!("{other:?} instead of an accepted append"),
    }
}

pub(crate) fn refusal(state: &StreamState, command: &AppendCommand) -> AppendRefusal {
    state.append(command, NOW, LIMITS).expect_err("a refusal")
}

pub(crate) fn apply(state: &mut StreamState, command: &AppendCommand) {
    let append = accepted(state, command);
    state.apply(&Transition::Append(append));
}

pub(crate) fn add(state: &mut StreamState, body: &str) {
    let command = sending(state, body);
    apply(state, &command);
}

pub(crate) fn close(state: &mut StreamState, body: &str) {
    let command = closing(state, body);
    apply(state, &command);
}

/// A JSON stream that has a producer in epoch 3 and a Stream-Seq, and room for one byte.
pub(crate) fn busy() -> StreamState {
    let mut state = stream(JSON);
    let command = AppendCommand {
        producer: claim(3, 0),
        stream_seq: Some("m".into()),
        ..sending(&state, "\"1234\"")
    };
    apply(&mut state, &command);
    let command = AppendCommand {
        producer: claim(3, 1),
        ..sending(&state, "1")
    };
    apply(&mut state, &command);
    state
}
