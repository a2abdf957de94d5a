//! A subscription as the runtime holds it: its turn, and the streams that have moved since the last one.

use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tailwater_stream::{StreamId, StreamName, Subscription, SubscriptionId, Timestamp};

use crate::sync::Mutex;
use crate::timers::TimerKey;

/// Streams that are looked at, and whose links are changed, in one go.
pub(super) const CHUNK: usize = 500;

/// A subscription, or the place of one that is being made.
pub(crate) struct Opened {
    pub(crate) id: SubscriptionId,
    /// Whoever holds it decides, and nobody else meanwhile. None before the subscription is made, and once it is deleted.
    pub(super) turn: tokio::sync::Mutex<Option<Turn>>,
    moved: Mutex<HashSet<StreamName, RandomState>>,
    /// Whether a task is about to take a turn.
    scheduled: AtomicBool,
    /// Whether it has come to be.
    made: AtomicBool,
    /// Whether it was deleted, or never came to be.
    gone: AtomicBool,
}

/// What is known of a subscription, in its turn.
pub(super) struct Turn {
    pub(super) subscription: Subscription,
    /// The hidden stream in which it is stored.
    pub(super) stream: StreamId,
    /// The URL of the stream root, as the client that made it used it.
    pub(super) root: Box<str>,
    /// Whether an attempt to send a wake is under way. There is one at most.
    pub(super) is_sending: bool,
    /// Nothing is done by itself before, because there was no space for it.
    pub(super) paused_until: Option<Timestamp>,
    pub(super) timer: Option<TimerKey>,
}

impl Turn {
    pub(super) fn new(subscription: Subscription, stream: StreamId, root: Box<str>) -> Self {
        Self {
            subscription,
            stream,
            root,
            is_sending: false,
            paused_until: None,
            timer: None,
        }
    }
}

impl Opened {
    pub(super) fn new(id: SubscriptionId) -> Self {
        Self {
            id,
            turn: tokio::sync::Mutex::new(None),
            moved: Mutex::new(HashSet::default()),
            scheduled: AtomicBool::new(false),
            made: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// The hidden stream's name.
    pub(super) fn name(&self) -> StreamName {
        self.id.stream()
    }

    pub(super) fn note(&self, stream: StreamName) {
        self.moved.lock().insert(stream);
    }

    /// Takes the streams that have moved until now. Those that move from now on are left to the next turn, or else one
    /// that sees ever more of them would never come to an end.
    pub(super) fn take_moved(&self) -> Vec<StreamName> {
        std::mem::take(&mut *self.moved.lock()).into_iter().collect()
    }

    #[cfg(test)]
    pub(super) fn moved_count(&self) -> usize {
        self.moved.lock().len()
    }

    /// Whether the caller is the one that is to take a turn soon.
    pub(super) fn schedule(&self) -> bool {
        !self.scheduled.swap(true, Ordering::SeqCst)
    }

    /// A turn begins: whoever notes a stream from now on schedules another one.
    pub(super) fn unschedule(&self) {
        self.scheduled.store(false, Ordering::SeqCst);
    }

    pub(super) fn set_made(&self) {
        self.made.store(true, Ordering::SeqCst);
    }

    /// Whether it has come to be. It may be deleted by now.
    pub(super) fn is_made(&self) -> bool {
        self.made.load(Ordering::SeqCst)
    }

    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}
