//! A job as the queue knows it: one that has a key, and one that is only next in its stream.

use crate::expiry::Timestamp;
use crate::name::StreamName;
use crate::offset::Position;

use super::json_text::JsonText;

/// A job without a key: admitted, and ready where it stands in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Where its message begins.
    pub position: Position,
    /// Where its message ends.
    pub end: Position,
    /// Since when it could have been begun: since its message is in the queue, or since its `run_at`, if that is later.
    pub ready_at: Timestamp,
    /// Its run.
    pub run: StreamName,
    /// How many times it is begun at the most, if it says so itself.
    pub max_attempts: Option<u32>,
    /// What stands at the queue's concurrency key, as JSON.
    pub value: Option<Box<str>>,
    /// What the worker is given.
    pub payload: JsonText,
}

/// A job that has a key. What its worker is given stands in its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob {
    /// Where its message ends.
    pub end: Position,
    /// Since when it could have been begun for the first time.
    pub ready_at: Timestamp,
    /// Its run.
    pub run: StreamName,
    /// How many times it is begun at the most, if it says so itself.
    pub max_attempts: Option<u32>,
    /// What stands at the queue's concurrency key, as JSON.
    pub value: Option<Box<str>>,
    /// Attempts that count, the current one included.
    pub attempt: u32,
    /// The epoch of its run: odd while somebody has it.
    pub epoch: u64,
    /// When it was first begun.
    pub started_at: Option<Timestamp>,
    /// Where it stands.
    pub phase: JobPhase,
}

/// Where a job that has a key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobPhase {
    /// Nobody has it.
    Waiting {
        /// Not before then. In the past it is ready, unless its concurrency key holds it back.
        until: Timestamp,
        /// How the lease before it ended, to know a repeated call by.
        settled: Option<Settlement>,
    },
    /// A worker has it.
    Leased {
        /// Who.
        worker: Box<str>,
        /// Whether it is to be called off, and why.
        cancel: Option<Option<Box<str>>>,
    },
    /// There is no job: the message was a duplicate, or invalid. Kept until the taken frontier is behind it.
    Passed,
}

/// How a worker ended its lease, other than by ending the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// The lease's epoch.
    pub epoch: u64,
    /// The sequence number of the call.
    pub seq: u64,
    /// What it was.
    pub verdict: Verdict,
}

/// What a worker says at the end of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Completed,
    /// It could not be done.
    Failed,
    /// It was not tried.
    Released,
}

impl OpenJob {
    /// A job that leaves the order of the stream: nobody has begun it, and it waits until `until`.
    pub fn waiting(job: &Job, until: Timestamp) -> Self {
        Self {
            end: job.end,
            ready_at: job.ready_at,
            run: job.run.clone(),
            max_attempts: job.max_attempts,
            value: job.value.clone(),
            attempt: 0,
            epoch: 0,
            started_at: None,
            phase: JobPhase::Waiting { until, settled: None },
        }
    }

    /// Who has it, and whether it is to be called off; none if nobody has it.
    pub fn lease(&self) -> Option<(&str, bool)> {
        match &self.phase {
            JobPhase::Leased { worker, cancel } => Some((worker, cancel.is_some())),
            JobPhase::Waiting { .. } | JobPhase::Passed => None,
        }
    }

    /// Whether it is no job.
    pub fn is_passed(&self) -> bool {
        self.phase == JobPhase::Passed
    }

    /// When it is too late to begin it, if a job may wait for `ttl_ms`.
    pub fn start_by(&self, ttl_ms: u64) -> Option<Timestamp> {
        match self.phase {
            JobPhase::Waiting { until, .. } if self.started_at.is_none() => {
                Some(self.ready_at.max(until).plus_millis(ttl_ms))
            }
            _ => None,
        }
    }
}
