//! How far the mirror has come in a stream, and what became of a chunk. Knows no SQL.

use crate::event::{Incarnation, Offset};

/// How far the mirror has come in a stream: everything before `next` is in the tables, and nothing behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which of the streams of that name.
    pub of: Incarnation,
    /// Where the next chunk has to begin.
    pub next: Offset,
    /// Whether the stream is closed and ends at `next`.
    pub closed: bool,
    /// Whether this incarnation was deleted at the source. Its rows stay.
    pub deleted: bool,
    /// Events of this incarnation that were written, dead letters among them.
    pub events: u64,
}

/// What became of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its events are in the tables, and the stream's place is behind them.
    Written {
        /// Events that are rows now.
        rows: u64,
        /// Events that are dead letters now.
        dead_letters: u64,
    },
    /// Nothing of it was written, since the stream's place is not where it begins: the answer to an earlier commit
    /// was lost, another mirror was faster, or the stream has been created anew.
    Moved {
        /// Where the mirror stands. None, if it has nothing of the stream: it is to be read from the beginning.
        place: Option<Place>,
    },
    /// Nothing of it was written, since the lease on its stream's partition is another mirror's, or nobody's.
    Fenced,
    /// Nothing of it was written, and nothing ever can be: the stream's name is longer than
    /// [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX).
    NameTooLong,
}

/// Where a stream ends, as its source has told.
#[derive(Debug, Clone, Copy)]
pub struct Tail<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Which stream of that name.
    pub incarnation: Incarnation,
    /// Its next offset.
    pub next: Offset,
    /// How many events it has had.
    pub events: u64,
}

/// What went wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Which stream of that name.
    pub incarnation: Incarnation,
    /// In words for people.
    pub message: &'a str,
}
