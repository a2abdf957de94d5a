//! How far a schedule has come.

use crate::expiry::Timestamp;

/// What is stored of a schedule beside what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleState {
    /// No fire time up to this one is looked at again, whatever the clock shows.
    pub settled: Timestamp,
    /// How many fires were enqueued.
    pub fires: u64,
    /// The fire time that is being enqueued for, or was when the process ended.
    pub begun: Option<Timestamp>,
    /// Fire times that passed up to this one are made up for.
    pub making_up_until: Option<Timestamp>,
    /// The last fire that was enqueued.
    pub last: Option<Fired>,
    /// What keeps it from enqueueing.
    pub trouble: Option<Trouble>,
}

/// A fire that was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    /// Its fire time.
    pub at: Timestamp,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
}

/// Attempts to enqueue that failed, in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// How many.
    pub failures: u32,
    /// When it is tried again.
    pub next_attempt_at: Timestamp,
    /// When it was tried last.
    pub failed_at: Timestamp,
    /// Why that failed, for people.
    pub error: Box<str>,
}

impl ScheduleState {
    /// Of a schedule that begins: no fire time up to `now` is looked at.
    pub fn new(now: Timestamp) -> Self {
        Self {
            settled: now,
            fires: 0,
            begun: None,
            making_up_until: None,
            last: None,
            trouble: None,
        }
    }
}
