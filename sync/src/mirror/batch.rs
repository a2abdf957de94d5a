//! What is read and not written: chunks in the order in which they came, and when there are enough of them for a
//! transaction. Reads no clock and does no IO.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backlog::Ticket;
use crate::event::Chunk;

/// What an event takes of memory beside its payload, about.
const EVENT_BYTES: usize = 128;

/// When a transaction has enough to do.
#[derive(Debug, Clone, Copy)]
pub struct Enough {
    /// Payloads, and what the events take beside.
    pub bytes: usize,
    /// Events.
    pub rows: usize,
    /// How long the oldest chunk may wait.
    pub age: Duration,
}

/// A chunk, and the read that it came from.
#[derive(Debug)]
pub struct Pending {
    /// What is to be written.
    pub chunk: Chunk,
    /// Of the read.
    pub ticket: Ticket,
    bytes: usize,
    since: Instant,
}

/// The chunks that wait for a transaction. How many there may be is for those to say who read.
#[derive(Debug)]
pub struct Buffer {
    enough: Enough,
    pending: VecDeque<Pending>,
    bytes: usize,
    rows: usize,
}

impl Buffer {
    /// An empty one.
    #[must_use]
    pub fn new(enough: Enough) -> Self {
        Self {
            enough,
            pending: VecDeque::new(),
            bytes: 0,
            rows: 0,
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a chunk in.
    pub fn push(&mut self, chunk: Chunk, ticket: Ticket, now: Instant) {
        let bytes = bytes_of(&chunk);
        self.bytes += bytes;
        self.rows += chunk.events.len();
        self.pending.push_back(Pending {
            chunk,
            ticket,
            bytes,
            since: now,
        });
    }

    /// From when on a transaction is worth while; at once if there is enough for it.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        let oldest = self.pending.front()?;
        if self.bytes >= self.enough.bytes || self.rows >= self.enough.rows {
            return Some(oldest.since);
        }
        Some(oldest.since + self.enough.age)
    }

    /// What the next transaction is to write: the oldest chunks, one at least, up to what is enough. Chunks of one
    /// stream that follow one another are made one; one that does not follow is left for the next transaction. What is
    /// not current any more is dropped.
    pub fn take(&mut self, is_current: impl Fn(&Ticket) -> bool) -> Batch {
        let mut batch = Batch::default();
        while let Some(pending) = self.pending.front() {
            let rows = pending.chunk.events.len();
            if !is_current(&pending.ticket) {
                self.bytes -= pending.bytes;
                self.rows -= rows;
                self.pending.pop_front();
                continue;
            }
            let is_full =
                batch.bytes + pending.bytes > self.enough.bytes || batch.rows + rows > self.enough.rows;
            let fits = batch.chunks.is_empty() || !is_full && batch.may_take(&pending.chunk);
            if !fits {
                break;
            }
            let Some(pending) = self.pending.pop_front() else {
                break;
            };
            self.bytes -= pending.bytes;
            self.rows -= rows;
            batch.bytes += pending.bytes;
            batch.rows += rows;
            batch.add(pending);
        }
        batch
    }
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub struct Batch {
    /// One for each run of chunks of a stream, in their order.
    pub chunks: Vec<Chunk>,
    /// For each of `chunks`, the ticket of the reads that it was made of, and how many these are.
    pub reads: Vec<(Ticket, usize)>,
    /// Of all of them, as the buffer counts.
    pub bytes: usize,
    /// Events in all of them.
    pub rows: usize,
    /// Where in `chunks` each stream is.
    places: HashMap<Arc<str>, usize>,
}

impl Batch {
    /// Whether a chunk is the only one of its stream, or follows the one that is there. A gap is a transaction of its
    /// own.
    fn may_take(&self, chunk: &Chunk) -> bool {
        if chunk.is_gap() || self.chunks.first().is_some_and(Chunk::is_gap) {
            return false;
        }
        let Some(place) = self.places.get(&chunk.stream) else {
            return true;
        };
        let before = &self.chunks[*place];
        before.incarnation == chunk.incarnation && before.next == chunk.after
    }

    fn add(&mut self, pending: Pending) {
        let Pending { chunk, ticket, .. } = pending;
        if let Some(place) = self.places.get(&chunk.stream) {
            let before = &mut self.chunks[*place];
            before.events.extend(chunk.events);
            before.next = chunk.next;
            before.closed = chunk.closed;
            self.reads[*place].1 += 1;
            return;
        }
        self.places.insert(Arc::clone(&chunk.stream), self.chunks.len());
        self.chunks.push(chunk);
        self.reads.push((ticket, 1));
    }
}

/// What a chunk takes of memory, about.
pub(super) fn bytes_of(chunk: &Chunk) -> usize {
    let payloads: usize = chunk
        .events
        .iter()
        .map(|event| event.payload.as_bytes().len())
        .sum();
    payloads + chunk.events.len() * EVENT_BYTES
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
