//! What a record changes: the unit that backends commit, replay and hand to the rules again.
//!
//! A transition says *everything* that changes, so that there is no second place to get out of step: bytes,
//! producer, sequence, closure and times travel together and are durable together or not at all.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::content_type::ContentType;
use crate::expiry::{Lifetime, Timestamp};
use crate::fork::ForkSource;
use crate::kind::StreamKind;
use crate::lineage::Lineage;
use crate::name::StreamName;
use crate::offset::{Position, StreamId};
use crate::producer::ProducerMark;
use crate::stream::{CreateRequest, StreamState};

/// An atomic list of parts within one partition: all of it is committed, or nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// The parts, applied in order.
    pub parts: SmallVec<[Part; 1]>,
}

impl Record {
    /// A record of one transition.
    pub fn of(stream: StreamId, transition: Transition) -> Self {
        let mut parts = SmallVec::new();
        parts.push(Part::Stream {
            id: stream,
            transition,
        });
        Self { parts }
    }

    /// Adds a transition.
    pub fn push(&mut self, stream: StreamId, transition: Transition) {
        self.parts.push(Part::Stream {
            id: stream,
            transition,
        });
    }

    /// The streams that the record changes, in the order of its parts; one may come several times.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.parts.iter().map(|part| match part {
            Part::Stream { id, .. } => *id,
            Part::Control(change) => change.stream,
        })
    }
}

/// One change within a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A change of a stream's state.
    Stream {
        /// Which incarnation.
        id: StreamId,
        /// What changes.
        transition: Transition,
    },
    /// A change of a control key.
    Control(ControlChange),
}

/// Sets or removes a small keyed value that belongs to a stream and ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlChange {
    /// The stream that the key belongs to.
    pub stream: StreamId,
    /// The key; keys of a stream are ordered byte by byte.
    pub key: Bytes,
    /// The new value; none removes the key.
    pub value: Option<Bytes>,
}

/// A change of one stream's state.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition {
    /// The stream begins.
    Create(Box<Created>),
    /// The stream begins unseen, to be filled by an import: under no name, and deleted from the beginning, so that
    /// it is released like any deleted stream unless the import is completed. It has no source, and its own bytes
    /// begin at `oldest`.
    Stage(Box<Created>),
    /// The import of a staged stream is complete: from now on it is what this state says, under its name. The tail
    /// is the staged one.
    Import(Box<StreamState>),
    /// Bytes are added, or the stream is closed, or both.
    Append(Append),
    /// The stream ends. Its bytes stay as long as forks refer to them.
    Delete {
        /// When.
        at: Timestamp,
    },
    /// What is before a position is forgotten.
    Trim {
        /// The new oldest position.
        before: Position,
        /// When.
        at: Timestamp,
    },
    /// A sliding lifetime starts anew.
    Touch {
        /// When the stream was used.
        at: Timestamp,
    },
}

/// The beginning of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Created {
    /// The incarnation.
    pub id: StreamId,
    /// Its name.
    pub name: StreamName,
    /// What it is for.
    pub kind: StreamKind,
    /// The name of the stream that it belongs to, and is kept beside.
    pub beside: Option<StreamName>,
    /// Its content type, inherited or requested.
    pub content_type: ContentType,
    /// Its lifetime, inherited or requested.
    pub lifetime: Lifetime,
    /// What the client asked for, to know a repeated request by.
    pub requested: CreateRequest,
    /// Its lineage; a fork's begins with its ancestors' spans.
    pub lineage: Lineage,
    /// What it was forked from.
    pub source: Option<ForkSource>,
    /// The oldest readable position: 0, a fork's source's, or where the own bytes of a staged stream begin.
    pub oldest: Position,
    /// Messages before the first own one: 0, or those inherited.
    pub messages: u64,
    /// When.
    pub at: Timestamp,
}

/// Bytes added to a stream, its closing, or both at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// Where the bytes begin: the tail before.
    pub start: Position,
    /// The bytes as they are stored and sent. May be empty only if the append closes the stream.
    pub payload: Bytes,
    /// Where the messages in them end.
    pub ends: MessageEnds,
    /// The index of the first message in the stream.
    pub first_message: u64,
    /// The producer that sent them.
    pub producer: Option<ProducerMark>,
    /// The writer's `Stream-Seq`.
    pub stream_seq: Option<Box<str>>,
    /// Whether the stream is closed after it.
    pub closes: bool,
    /// When.
    pub at: Timestamp,
}

impl Append {
    /// The tail after it.
    pub fn end(&self) -> Position {
        self.start
            .advance(self.payload.len() as u64)
            .expect("decided within the last position")
    }

    /// How many messages it adds.
    pub fn message_count(&self) -> u64 {
        self.ends.count(self.payload.len())
    }
}

/// Where the messages of a payload end, counted from its start. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageEnds {
    /// The payload is one message, or empty.
    One,
    /// So many messages, each ending (exclusively) where its number says, in order.
    Many(Arc<[u32]>),
}

impl MessageEnds {
    /// From the ends of each message, in order.
    pub fn from_ends(ends: Vec<u32>) -> Self {
        if ends.len() == 1 {
            Self::One
        } else {
            Self::Many(ends.into())
        }
    }

    /// The ends of the messages in a payload of `payload_bytes`.
    pub fn relative(&self, payload_bytes: usize) -> impl Iterator<Item = u32> + '_ {
        let (one, many) = match self {
            Self::One if payload_bytes == 0 => (None, &[][..]),
            Self::One => (Some(u32::try_from(payload_bytes).expect("below 4 GiB")), &[][..]),
            Self::Many(ends) => (None, &ends[..]),
        };
        one.into_iter().chain(many.iter().copied())
    }

    /// How many messages a payload of `payload_bytes` has.
    pub fn count(&self, payload_bytes: usize) -> u64 {
        match self {
            Self::One => u64::from(payload_bytes > 0),
            Self::Many(ends) => ends.len() as u64,
        }
    }
}
