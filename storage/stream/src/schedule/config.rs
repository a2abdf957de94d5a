//! What a client asks of a schedule.

use crate::expiry::Timestamp;
use crate::name::StreamName;

/// What is done about fire times that passed while nobody could enqueue for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misfire {
    /// Nothing: the next one comes.
    Skip,
    /// The last one of them is made up for.
    #[default]
    Once,
    /// Each is made up for, in order.
    All,
}

/// What a fire enqueues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnqueueAs {
    /// An envelope with the payload and an id, as queues know it.
    #[default]
    Job,
    /// The payload itself.
    Message,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// The JSON stream that is appended to.
    pub stream: StreamName,
    /// The cron expression: five fields, or six if seconds come first.
    pub cron: Box<str>,
    /// The IANA name of the time zone by whose clocks the expression goes.
    pub time_zone: Box<str>,
    /// What is enqueued: a JSON text.
    pub payload: Box<str>,
    /// In which form.
    pub enqueue_as: EnqueueAs,
    /// What is done about fire times that passed.
    pub misfire: Misfire,
    /// Whether fire times pass without anything being enqueued.
    pub paused: bool,
    /// No fire time is before this.
    pub start_at: Option<Timestamp>,
    /// Every fire time is before this.
    pub end_at: Option<Timestamp>,
}

impl ScheduleConfig {
    /// Whether `other` has the same fire times.
    pub fn fires_like(&self, other: &Self) -> bool {
        let of = |config: &Self| {
            (
                config.cron.clone(),
                config.time_zone.clone(),
                config.start_at,
                config.end_at,
            )
        };
        of(self) == of(other)
    }
}
