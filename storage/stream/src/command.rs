//! What clients ask of a stream, and why it may be refused.

use bytes::Bytes;

use crate::content_type::{ContentKind, ContentType};
use crate::expiry::Lifetime;
use crate::fork::ForkRequest;
use crate::json::{self, JsonRefusal};
use crate::kind::LeaseRefusal;
use crate::lineage::OffsetRefusal;
use crate::offset::{OffsetToken, Position};
use crate::producer::{ProducerMark, ProducerRefusal, ProducerState};
use crate::transition::{Append, MessageEnds};

/// The limits that the rules enforce on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of its own that a stream may hold.
    pub stream_bytes_max: u64,
    /// The most producers that a stream remembers.
    pub producers_max: usize,
}

/// A body in the form in which a stream of one kind stores it, or why it has none.
///
/// Made before the stream's turn comes, because it costs time; a refusal is spoken only at its place among the
/// others.
#[derive(Debug, Clone)]
pub struct EncodedBody {
    kind: ContentKind,
    encoded: Result<(Bytes, MessageEnds), JsonRefusal>,
}

impl EncodedBody {
    /// Brings a body into the form in which streams of `kind` store it.
    pub fn new(kind: ContentKind, body: &Bytes) -> Self {
        let encoded = match kind {
            ContentKind::Json if !body.is_empty() => {
                json::split(body).map(|messages| (messages.payload, messages.ends))
            }
            ContentKind::Json | ContentKind::Text | ContentKind::Binary => {
                Ok((body.clone(), MessageEnds::One))
            }
        };
        Self { kind, encoded }
    }

    /// For which kind of stream it was encoded.
    pub fn kind(&self) -> ContentKind {
        self.kind
    }

    /// The stored form.
    ///
    /// # Errors
    /// If a JSON stream cannot store the body.
    pub fn get(&self) -> Result<&(Bytes, MessageEnds), JsonRefusal> {
        self.encoded.as_ref().map_err(Clone::clone)
    }
}

/// Creates a stream (PUT).
#[derive(Debug, Clone, Default)]
pub struct CreateCommand {
    /// The content type; none means the default one, or the source's.
    pub content_type: Option<ContentType>,
    /// The lifetime; `Forever` means none was asked for, and a fork inherits its source's.
    pub lifetime: Lifetime,
    /// Whether it is created closed.
    pub closed: bool,
    /// What to fork it from.
    pub fork: Option<ForkRequest>,
    /// Its first content, as sent.
    pub body: Bytes,
    /// Whether a stream that exists is reason to refuse, also the very same one.
    pub only_new: bool,
}

/// What became of a create command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateDecision {
    /// There is no such stream: create it.
    Create,
    /// The very stream exists already.
    Exists,
}

/// Why a stream is not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateRefusal {
    /// There is a stream of that name, and only a new one was wanted.
    #[error("a stream of that name exists")]
    Exists,
    /// A stream of that name exists with another configuration.
    #[error("a stream of that name exists, but its {difference} differs")]
    Conflict {
        /// What differs.
        difference: &'static str,
    },
    /// The body is no JSON, though the stream holds JSON.
    #[error(transparent)]
    Json(#[from] JsonRefusal),
    /// The first content alone is over the limit of a stream.
    #[error("the content has {bytes} bytes; a stream may hold {bytes_max}")]
    TooLarge {
        /// Bytes that the stream would hold.
        bytes: u64,
        /// Bytes that it may hold.
        bytes_max: u64,
    },
}

/// Adds bytes to a stream, closes it, or both (POST).
#[derive(Debug, Clone)]
pub struct AppendCommand {
    /// The content type of the body; looked at only if there is a body.
    pub content_type: Option<ContentType>,
    /// The body, encoded for the stream's kind.
    pub body: EncodedBody,
    /// Whether the client sent no body at all.
    pub body_is_empty: bool,
    /// Which request of which producer it is.
    pub producer: Option<ProducerMark>,
    /// The writer's `Stream-Seq`; must be greater, byte by byte, than the last one accepted in this stream.
    pub stream_seq: Option<Box<str>>,
    /// Append only if this is the tail.
    pub if_match: Option<OffsetToken>,
    /// Whether to close the stream after it.
    pub closes: bool,
}

/// What became of an append command.
#[derive(Debug, Clone, PartialEq)]
pub enum AppendDecision {
    /// Append it.
    Accept(Append),
    /// It was accepted before. Carries the producer's highest accepted request.
    Duplicate(ProducerState),
    /// It asks only to close, and the stream is closed.
    AlreadyClosed,
}

/// Why an append is refused. The order of the variants is the order in which they are looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefusal {
    /// Neither bytes nor a close.
    #[error("the body is empty")]
    Empty,
    /// The stream is closed.
    #[error("the stream is closed at {tail}")]
    Closed {
        /// The final tail.
        tail: OffsetToken,
    },
    /// The body has another content type than the stream.
    #[error("the stream's content type is {expected}")]
    ContentType {
        /// The stream's content type.
        expected: ContentType,
    },
    /// The stream is a run, and a client may not append this to it.
    #[error(transparent)]
    Lease(#[from] LeaseRefusal),
    /// The producer's claim does not hold.
    #[error(transparent)]
    Producer(#[from] ProducerRefusal),
    /// The tail is not the one that the client expects.
    #[error("the tail is {tail}")]
    TailMismatch {
        /// The tail.
        tail: OffsetToken,
    },
    /// `Stream-Seq` does not grow.
    #[error("the last Stream-Seq was {last:?}")]
    StreamSeq {
        /// The last one accepted.
        last: Box<str>,
    },
    /// The body is no JSON, though the stream holds JSON.
    #[error(transparent)]
    Json(#[from] JsonRefusal),
    /// The body is an empty JSON array.
    #[error("the body is an empty array")]
    NoMessages,
    /// The stream would be over its limit.
    #[error("the stream would hold {bytes} bytes; it may hold {bytes_max}")]
    StreamFull {
        /// Bytes that the stream would hold.
        bytes: u64,
        /// Bytes that it may hold.
        bytes_max: u64,
    },
}

/// Why a trim is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrimRefusal {
    /// It is a run that has not ended.
    #[error("the stream is a run that has not ended")]
    OpenRun,
    /// The offset is not one of this stream's.
    #[error("the offset is not known to this stream")]
    Unknown,
}

impl From<OffsetRefusal> for TrimRefusal {
    fn from(_: OffsetRefusal) -> Self {
        Self::Unknown
    }
}

/// Why a stream is not deleted for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRefusal {
    /// It is a run that has not ended.
    #[error("the stream is a run that has not ended")]
    OpenRun,
    /// The tail is not the one that the client expects.
    #[error("the tail is {tail}")]
    TailMismatch {
        /// The tail.
        tail: OffsetToken,
    },
}

/// What became of a trim command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrimDecision {
    /// Forget what is before this position.
    Trim(Position),
    /// It is forgotten already.
    AlreadyTrimmed,
}
