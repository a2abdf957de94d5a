//! How far behind the source the mirror is, and for how long it has been. Knows nothing of why.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::Offset;

/// How far behind the source all streams together are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Streams with something that is not committed.
    pub streams: usize,
    /// What is not committed, as streams count bytes.
    pub bytes: u64,
    /// Events that are not committed, as far as they are known of.
    pub events: u64,
    /// How long ago the oldest of it was known of.
    pub oldest: Duration,
}

impl Lag {
    /// Adds what one stream is behind.
    pub(super) fn add(&mut self, tails: &Tails, now: Instant) {
        let Some((_, since)) = tails.first else { return };
        self.streams += 1;
        self.bytes += tails.last.position().saturating_sub(tails.committed.position());
        self.events += tails.told_events.saturating_sub(tails.committed_events);
        self.oldest = self.oldest.max(now.saturating_duration_since(since));
    }
}

/// Where one stream ends, and what of it is committed.
///
/// Not every tail is kept that a stream has had, only the first one that is not committed and the last one. Once the
/// first is committed, the last one takes its place; so the age that is told is never too small for what was there when
/// it began.
#[derive(Debug)]
pub(super) struct Tails {
    committed: Offset,
    /// None if nothing is behind `committed`.
    first: Option<(Offset, Instant)>,
    last: Offset,
    last_since: Instant,
    /// How many events the stream has had, as far as it is known.
    told_events: u64,
    committed_events: u64,
}

impl Tails {
    pub(super) fn new(tail: Offset, events: u64, now: Instant) -> Self {
        let mut tails = Self {
            committed: Offset::BEGINNING,
            first: None,
            last: Offset::BEGINNING,
            last_since: now,
            told_events: 0,
            committed_events: 0,
        };
        tails.move_to(tail, events, now);
        tails
    }

    pub(super) fn last(&self) -> Offset {
        self.last
    }

    /// How many events there are before [`Tails::last`], as far as it is known.
    pub(super) fn events(&self) -> u64 {
        self.told_events
    }

    /// Whether something is not committed.
    pub(super) fn is_behind(&self) -> bool {
        self.first.is_some()
    }

    /// The stream ends here now, behind so many events as far as it is known. A tail never goes back.
    pub(super) fn move_to(&mut self, tail: Offset, events: u64, now: Instant) {
        self.told_events = self.told_events.max(events);
        if tail.position() > self.last.position() {
            self.last = tail;
            self.last_since = now;
            self.first.get_or_insert((tail, now));
        }
    }

    /// What is before `next` is committed, so many events, and no more.
    pub(super) fn reached(&mut self, next: Offset, events: u64, now: Instant) {
        self.move_to(next, events, now);
        self.committed = next;
        self.committed_events = events;
        let is_behind = next.position() < self.last.position();
        self.first = match self.first {
            _ if !is_behind => None,
            Some((tail, since)) if next.position() < tail.position() => Some((tail, since)),
            Some(_) => Some((self.last, self.last_since)),
            None => Some((self.last, now)),
        };
    }
}
