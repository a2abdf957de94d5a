//! What the backlog is told, and what it tells. Knows no rule.

use std::sync::Arc;

use crate::event::{Incarnation, Offset};

/// What the source says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its name.
    pub stream: Arc<str>,
    /// Which stream of that name.
    pub incarnation: Incarnation,
    /// Of the stream.
    pub content_type: Arc<str>,
    /// Where it ends.
    pub tail: Offset,
    /// How many events it has had; 0 if it is not known.
    pub events: u64,
    /// Whether it ends there for good.
    pub closed: bool,
}

/// Where the mirror stands in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which stream of that name.
    pub of: Incarnation,
    /// What is before it is mirrored.
    pub next: Offset,
    /// How many events these are.
    pub events: u64,
    /// Whether the end is mirrored too.
    pub closed: bool,
}

/// How far a chunk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Where it ends.
    pub next: Offset,
    /// How many events its stream has had there, as far as it is known.
    pub events: u64,
    /// Whether the stream is closed and ends there.
    pub closed: bool,
}

/// One read that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// To be given back with what came of it.
    pub ticket: Ticket,
    /// Of the stream.
    pub content_type: Arc<str>,
    /// From where on.
    pub after: Offset,
}

/// Names a stretch of reads of one stream that follow one another. One that is out of date is told by the backlog, and
/// what it was given for is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The stream.
    pub stream: Arc<str>,
    /// Which stream of that name.
    pub incarnation: Incarnation,
    pub(super) number: u64,
}

/// What is to be done beside reading and writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followup {
    /// The end of a closed stream is committed.
    Complete {
        /// Its name.
        stream: Arc<str>,
        /// Which stream of that name.
        incarnation: Incarnation,
    },
    /// More of an open stream is committed.
    Committed {
        /// Its name.
        stream: Arc<str>,
        /// Which stream of that name.
        incarnation: Incarnation,
        /// Up to where.
        next: Offset,
    },
    /// A stream is deleted at the source, and nothing of it is on its way any more.
    Deleted {
        /// Its name.
        stream: Arc<str>,
        /// Which stream of that name.
        incarnation: Incarnation,
    },
}

impl Followup {
    /// Which stream it is about.
    pub(super) fn stream(&self) -> &str {
        match self {
            Self::Complete { stream, .. } | Self::Committed { stream, .. } | Self::Deleted { stream, .. } => {
                stream
            }
        }
    }
}
