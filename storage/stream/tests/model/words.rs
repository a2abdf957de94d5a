//! Between the plain text of requests and outcomes and the types of the crate.

use bytes::Bytes;
use tailwater_stream::producer::ProducerRefusal;
use tailwater_stream::{
    AppendCommand, AppendRefusal, ContentKind, ContentType, CreateCommand, CreateRefusal, EncodedBody, Epoch,
    ForkRequest, Lifetime, NameLimits, OffsetToken, ProducerId, ProducerMark, Seq, StreamName, Timestamp,
};

use super::command::{Append, Create, Life};
use super::outcome::Outcome;

pub(crate) fn stream_name(name: usize) -> StreamName {
    StreamName::parse(&format!("runs/{name}"), NameLimits::default()).expect("a name")
}

pub(crate) fn token(text: &str) -> OffsetToken {
    OffsetToken::parse(text).expect("a well-formed token")
}

fn content_type(text: &str) -> ContentType {
    ContentType::parse(text).expect("a media type")
}

pub(crate) fn create_command(create: &Create) -> CreateCommand {
    CreateCommand {
        content_type: create.content_type.as_deref().map(content_type),
        lifetime: match create.lifetime {
            Life::Unsaid => Lifetime::Forever,
            Life::TtlSeconds(seconds) => Lifetime::Ttl { seconds },
            Life::UntilMs(at) => Lifetime::Until {
                at: Timestamp::from_millis(at),
            },
        },
        closed: create.closed,
        fork: create.fork.as_ref().map(|fork| ForkRequest {
            source: stream_name(fork.source),
            offset: fork.offset.as_deref().map(token),
            sub_offset: fork.sub_offset,
        }),
        body: Bytes::from(create.body.raw.clone()),
        only_new: false,
    }
}

pub(crate) fn append_command(append: &Append, kind: ContentKind) -> AppendCommand {
    AppendCommand {
        content_type: append.content_type.as_deref().map(content_type),
        body: EncodedBody::new(kind, &Bytes::from(append.body.raw.clone())),
        body_is_empty: append.body.raw.is_empty(),
        producer: append.producer.as_ref().map(|(id, epoch, seq)| ProducerMark {
            id: ProducerId::parse(id).expect("an id"),
            epoch: Epoch::new(*epoch).expect("an epoch"),
            seq: Seq::new(*seq).expect("a number"),
        }),
        stream_seq: append.stream_seq.as_deref().map(Into::into),
        if_match: append.if_match.as_deref().map(token),
        closes: append.closes,
    }
}

pub(crate) fn of_create_refusal(refusal: &CreateRefusal) -> Outcome {
    match refusal {
        CreateRefusal::Exists => unreachable!("nobody asks for new streams alone here"),
        CreateRefusal::Conflict { .. } => Outcome::Conflict,
        CreateRefusal::Json(_) => Outcome::InvalidJson,
        CreateRefusal::TooLarge { .. } => Outcome::TooLarge,
    }
}

pub(crate) fn of_append_refusal(refusal: &AppendRefusal) -> Outcome {
    match refusal {
        AppendRefusal::Empty => Outcome::Empty,
        AppendRefusal::Closed { tail } => Outcome::Closed {
            tail: tail.to_string(),
        },
        AppendRefusal::ContentType { expected } => Outcome::ContentType {
            expected: expected.to_string(),
        },
        AppendRefusal::Lease(_) => unreachable!("no stream of the model is a run"),
        AppendRefusal::Producer(ProducerRefusal::Fenced { current }) => Outcome::Fenced {
            current: current.get(),
        },
        AppendRefusal::Producer(ProducerRefusal::EpochStart) => Outcome::EpochStart,
        AppendRefusal::Producer(ProducerRefusal::Gap { expected, received }) => Outcome::Gap {
            expected: expected.get(),
            received: received.get(),
        },
        AppendRefusal::Producer(ProducerRefusal::TooMany { .. }) => Outcome::TooManyProducers,
        AppendRefusal::TailMismatch { tail } => Outcome::TailMismatch {
            tail: tail.to_string(),
        },
        AppendRefusal::StreamSeq { last } => Outcome::StreamSeq {
            last: last.to_string(),
        },
        AppendRefusal::Json(_) => Outcome::InvalidJson,
        AppendRefusal::NoMessages => Outcome::NoMessages,
        AppendRefusal::StreamFull { .. } => Outcome::StreamFull,
    }
}
