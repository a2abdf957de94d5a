//! How far a queue has come, and what may change about it and its runs.

use super::event::RunEvent;
use super::job::OpenJob;
use super::json_text::JsonText;
use crate::expiry::Timestamp;
use crate::name::StreamName;
use crate::offset::Position;

/// A place between two messages of the queue's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frontier {
    /// The place.
    pub position: Position,
    /// Messages of the stream before it.
    pub messages: u64,
}

/// What has become of jobs since the queue was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Jobs that were admitted with a run.
    pub enqueued: u64,
    /// Messages that were the very same job as an earlier one.
    pub duplicates: u64,
    /// Leases that were given.
    pub claimed: u64,
    /// Attempts that workers gave up, and were to be repeated.
    pub failed: u64,
    /// Leases that ended because their workers were silent.
    pub leases_lost: u64,
    /// Leases that were given back.
    pub released: u64,
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Jobs that were given up, those included that never had a run.
    pub dead: u64,
    /// Runs that were called off.
    pub cancelled: u64,
    /// Runs that nobody began in time.
    pub expired: u64,
    /// Runs that were not done in time.
    pub timed_out: u64,
}

/// All that is known of a queue but its configuration and its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueState {
    /// Messages before it were looked at.
    pub admitted: Frontier,
    /// Jobs without keys behind it and before `admitted` are ready. Never behind `admitted`.
    pub taken: Frontier,
    /// Whether nothing is given to workers.
    pub paused: bool,
    /// Whether the queue is being deleted: what is open is called off, and nothing more is taken in.
    pub deleting: bool,
    /// Dead letters that were neither redriven nor purged.
    pub dead_letters: u64,
    /// Runs that were tried anew so far: the number of the next one's message among those of the server.
    pub retries: u64,
    /// What has become of jobs.
    pub counters: Counters,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Nobody has begun it.
    Queued,
    /// A worker has it.
    Leased,
    /// It was begun, and waits for another attempt.
    Retrying,
    /// It is done.
    Succeeded,
    /// It was given up.
    Dead,
    /// It was called off.
    Cancelled,
    /// Nobody began it in time.
    Expired,
    /// It was not done in time.
    TimedOut,
}

impl RunState {
    /// All of them, each beside its number in the store.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Leased,
        Self::Retrying,
        Self::Succeeded,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
        Self::TimedOut,
    ];

    /// That of a run which nobody has, after so many attempts.
    pub fn of_waiting(attempt: u32) -> Self {
        if attempt == 0 {
            Self::Queued
        } else {
            Self::Retrying
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::TimedOut => "timed_out",
        }
    }

    /// Whether the run has ended.
    pub fn has_ended(self) -> bool {
        match self {
            Self::Queued | Self::Leased | Self::Retrying => false,
            Self::Succeeded | Self::Dead | Self::Cancelled | Self::Expired | Self::TimedOut => true,
        }
    }
}

/// What a run's own key says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStatus {
    /// Where it stands.
    pub state: RunState,
    /// Attempts so far.
    pub attempt: u32,
    /// The queue's stream.
    pub queue: StreamName,
    /// The job; none if its message is not in the queue yet.
    pub job: Option<Position>,
}

/// Why a job was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadReason {
    /// Its worker said so.
    Failed,
    /// It was begun as many times as it may be, and its last worker said that it failed.
    AttemptsUsedUp,
    /// It was begun as many times as it may be, and its last worker was silent.
    LeaseLost,
    /// There is a run of its id with another payload.
    Conflict,
    /// A stream that is no run of the job has the name of its run, or forks of a deleted one do not let go of it.
    NameTaken,
    /// Its envelope cannot be meant.
    InvalidEnvelope,
    /// Its run is not there, and nothing from which it could begin: an import has brought the queue without it.
    RunMissing,
    /// The stream that has the name of its run cannot be read.
    RunDamaged,
}

impl DeadReason {
    /// All of them, each beside its number in the store.
    pub const ALL: [Self; 8] = [
        Self::Failed,
        Self::AttemptsUsedUp,
        Self::LeaseLost,
        Self::Conflict,
        Self::NameTaken,
        Self::InvalidEnvelope,
        Self::RunMissing,
        Self::RunDamaged,
    ];

    /// Its name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::AttemptsUsedUp => "attempts_used_up",
            Self::LeaseLost => "lease_lost",
            Self::Conflict => "conflict",
            Self::NameTaken => "name_taken",
            Self::InvalidEnvelope => "invalid_envelope",
            Self::RunMissing => "run_missing",
            Self::RunDamaged => "run_damaged",
        }
    }
}

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The job.
    pub job: Position,
    /// Its run; none if it never had one.
    pub run: Option<StreamName>,
    /// Why.
    pub reason: DeadReason,
    /// What is known of it beside.
    pub error: Option<JsonText>,
    /// Attempts that were made.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
}

/// An event that the server adds to a run that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAppend {
    /// The run.
    pub run: StreamName,
    /// Epoch and sequence number of its lease's producer; none if the event belongs to no lease.
    pub producer: Option<(u64, u64)>,
    /// What happened.
    pub event: RunEvent,
    /// What the run's key says from then on; none if nothing changes about it.
    pub status: Option<RunStatus>,
    /// When.
    pub at: Timestamp,
}

/// What changes about a queue and its runs. All that one command changes is stored in one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This is the state now.
    State(Box<QueueState>),
    /// This is a job's key now; none if it has none any more.
    Job {
        /// Where its message begins.
        position: Position,
        /// The key.
        job: Option<Box<OpenJob>>,
    },
    /// A worker's lease ends then, by the monotonic clock. Not stored.
    LeaseEnds {
        /// The job.
        position: Position,
        /// When, in milliseconds.
        at_ms: u64,
    },
    /// A run begins.
    Begin {
        /// Its name.
        run: StreamName,
        /// Its first event.
        event: RunEvent,
        /// The epoch of its lease, which nobody has.
        epoch: u64,
        /// What its key says.
        status: RunStatus,
        /// When.
        at: Timestamp,
    },
    /// Something happened to a run.
    Append(RunAppend),
    /// A job was given up.
    Dead(Box<DeadLetter>),
    /// A dead letter was redriven or purged.
    Buried {
        /// The job.
        job: Position,
    },
    /// The message of a run that is tried anew has come: it waits for it no longer.
    Adopted {
        /// The run.
        run: StreamName,
        /// What its key says from then on.
        status: RunStatus,
    },
    /// A run has ended, and is to be deleted once its time has come.
    Ended {
        /// The run.
        run: StreamName,
        /// When it ended.
        at: Timestamp,
    },
}
