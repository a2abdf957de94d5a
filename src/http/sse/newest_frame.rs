//! The newest frame of a stream, which its subscribers share until all of them have it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tailwater_storage::stream::Position;

use super::Events;
use crate::http::query;

/// A frame that subscribers at the same place share.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) events: Events,
    pub(super) end: Position,
    /// Whether the frame tells of the close.
    pub(super) closed: bool,
}

/// What a frame is made from: the same key gives the same frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameKey {
    pub(super) from: Position,
    pub(super) tail: Position,
    pub(super) closed: bool,
    pub(super) cursor: u64,
    pub(super) view: query::View,
}

/// The newest frame of a stream, and who may still want it. A frame may have hundreds of KiB, and a stream may be followed
/// for days without anything new: so a frame is forgotten once all subscribers wait behind it.
#[derive(Default)]
pub(super) struct NewestFrame(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    frame: Option<(FrameKey, Frame)>,
    /// How many subscribers there are.
    seats: usize,
    /// The greatest tail that any of them has waited at.
    tail: Position,
    /// How many have waited there. Never more than `seats`.
    waiting: usize,
}

impl NewestFrame {
    /// A place among the subscribers of the stream, until it is dropped.
    pub(super) fn take_seat(newest: &Arc<Self>) -> Seat {
        newest.kept().seats += 1;
        Seat {
            newest: Arc::clone(newest),
            waits_at: None,
        }
    }

    /// Whether a frame is kept.
    #[cfg(test)]
    pub(super) fn keeps_any(&self) -> bool {
        self.kept().frame.is_some()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Takes away the frame if nobody will ask for it any more.
    fn settle(&mut self) -> Option<(FrameKey, Frame)> {
        // Who has seen the end of the stream, or has gone away, waits nowhere.
        let (tail, is_left) = (self.tail, self.seats == 0);
        let all_wait = self.waiting == self.seats;
        self.frame
            .take_if(|(key, _)| is_left || (all_wait && key.tail <= tail))
    }
}

/// A subscriber's place among those of its stream.
pub(super) struct Seat {
    newest: Arc<NewestFrame>,
    /// The tail that it has last waited at. It is counted as waiting if that is the greatest of all.
    waits_at: Option<Position>,
}

impl Seat {
    /// The newest frame, if it is made from that.
    pub(super) fn newest(&self, key: FrameKey) -> Option<Frame> {
        let kept = self.newest.kept();
        let frame = kept.frame.as_ref().filter(|(known, _)| *known == key);
        frame.map(|(_, frame)| frame.clone())
    }

    /// Shares a frame with those who come to the same place.
    pub(super) fn share(&self, key: FrameKey, frame: &Frame) {
        let before = self.newest.kept().frame.replace((key, frame.clone()));
        // Freed without the lock.
        drop(before);
    }

    /// The subscriber has all there is up to the stream's tail, and waits for more.
    pub(super) fn wait_at(&mut self, tail: Position) {
        if self.waits_at == Some(tail) {
            return;
        }
        let mut kept = self.newest.kept();
        if self.waits_at == Some(kept.tail) {
            kept.waiting -= 1;
        }
        if tail > kept.tail {
            (kept.tail, kept.waiting) = (tail, 0);
        }
        if tail == kept.tail {
            kept.waiting += 1;
        }
        self.waits_at = Some(tail);
        let done_with = kept.settle();
        drop(kept);
        drop(done_with);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut kept = self.newest.kept();
        kept.seats -= 1;
        if self.waits_at == Some(kept.tail) {
            kept.waiting -= 1;
        }
        let done_with = kept.settle();
        drop(kept);
        drop(done_with);
    }
}
