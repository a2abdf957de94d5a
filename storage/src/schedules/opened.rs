//! A schedule as the runtime holds it, and whose turn it is.

use std::sync::atomic::{AtomicBool, Ordering};

use tailwater_stream::{Schedule, ScheduleId, StreamId, Timestamp};

use crate::timers::TimerKey;

/// A schedule, or the place of one that is being made.
pub(super) struct Opened {
    pub(super) id: ScheduleId,
    /// Whoever holds it decides, and nobody else meanwhile. None before the schedule is made, and once it is deleted.
    pub(super) turn: tokio::sync::Mutex<Option<Turn>>,
    /// Whether a task is about to take a turn.
    scheduled: AtomicBool,
    /// Whether it was deleted, or never came to be.
    gone: AtomicBool,
}

/// What is known of a schedule, in its turn.
pub(super) struct Turn {
    pub(super) schedule: Schedule,
    /// The hidden stream in which it is stored.
    pub(super) stream: StreamId,
    pub(super) created_at: Timestamp,
    /// Nothing is done by itself before, because it could not be stored.
    pub(super) paused_until: Option<Timestamp>,
    pub(super) timer: Option<TimerKey>,
}

impl Turn {
    pub(super) fn new(schedule: Schedule, stream: StreamId, created_at: Timestamp) -> Self {
        Self {
            schedule,
            stream,
            created_at,
            paused_until: None,
            timer: None,
        }
    }
}

impl Opened {
    pub(super) fn new(id: ScheduleId) -> Self {
        Self {
            id,
            turn: tokio::sync::Mutex::new(None),
            scheduled: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// Whether the caller is the one that is to take a turn soon.
    pub(super) fn schedule(&self) -> bool {
        !self.scheduled.swap(true, Ordering::SeqCst)
    }

    /// A turn begins: whoever wants something from now on schedules another one.
    pub(super) fn unschedule(&self) {
        self.scheduled.store(false, Ordering::SeqCst);
    }

    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}
