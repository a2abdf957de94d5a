//! The rules of one job queue: a queue is a stream, a job is a message in it, a run is a stream of its own.
//!
//! As with a stream, a command meets a state and becomes a refusal with facts or changes, and [`Queue::apply`] is the only
//! thing that changes a state. Time, a monotonic clock, randomness, and what is known of streams come in with the command.
//! Nothing here knows HTTP, storage, or how a record is made of changes.
//!
//! Two frontiers move through the queue's stream. Messages before **admitted** were looked at, and each has its run. Jobs
//! between **taken** and admitted that have no key are ready: they cost neither a key nor memory, but for a bounded
//! read-ahead. A job gets a key when it leaves that order: because it is scheduled, leased, waits for a retry, or is held
//! back by its concurrency key.
//!
//! | module | what stands there |
//! |---|---|
//! | [`config`] | what a queue was made with, and its document |
//! | [`backoff`] | when a job that failed is tried again |
//! | [`envelope`] | what a message asks for |
//! | [`json_text`] | a JSON value as it is stored |
//! | [`event`] | what stands in a run |
//! | [`reserved`] | types of events that only the server writes |
//! | [`job`] | a job that has a key, and one that has none |
//! | [`state`] | frontiers and counters; [`Change`] |
//! | [`index`] | which job is next, and when to look again |
//! | [`admit`] | messages become jobs |
//! | [`claim`] | jobs are leased |
//! | [`lease`] | what workers say of their leases |
//! | [`end`] | cancelled, expired, timed out, given up |
//! | [`agreement`] | jobs follow runs that are not as they were |

pub mod admit;
pub mod agreement;
pub mod backoff;
pub mod claim;
pub mod config;
pub mod end;
pub mod envelope;
pub mod event;
pub mod index;
pub mod job;
pub mod json_text;
pub mod lease;
pub mod reserved;
pub mod state;

use std::collections::{BTreeMap, VecDeque};

use crate::expiry::Timestamp;
use crate::name::StreamName;
use crate::offset::Position;

pub use admit::{Admitted, Arrived, Candidate, Found, Outcome};
pub use agreement::FoundRun;
pub use backoff::Backoff;
pub use claim::Leased;
pub use config::{ConfigRefusal, QueueConfig};
pub use end::Purge;
pub use envelope::{Envelope, EnvelopeRefusal};
pub use event::RunEvent;
pub use index::Index;
pub use job::{Job, JobPhase, OpenJob, Settlement, Verdict};
pub use json_text::JsonText;
pub use lease::{Beat, Settled, Word, WorkerRefusal};
pub use state::{
    Change, Counters, DeadLetter, DeadReason, Frontier, QueueState, RunAppend, RunState, RunStatus,
};

/// What a command changes, and what its answer says once that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided<T> {
    /// What changes.
    pub changes: Vec<Change>,
    /// What to say.
    pub answer: T,
}

/// The time as a command meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// By the wall clock, which may be set.
    pub wall: Timestamp,
    /// Milliseconds of a clock that only goes on, since any moment before the process began.
    pub monotonic_ms: u64,
}

/// One queue: what it was made with, how far it has come, its jobs that have keys, and those that are next.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The queue's stream.
    pub stream: StreamName,
    config: QueueConfig,
    state: QueueState,
    jobs: BTreeMap<Position, OpenJob>,
    index: Index,
    /// Leases that have ended since [`Queue::forget_ended_leases`]: their epochs, and when they would have ended by themselves.
    ended_leases: BTreeMap<Position, (u64, u64)>,
    /// Jobs without keys in the order of the stream, from the taken frontier on. Maybe not all of them.
    ahead: VecDeque<Job>,
    /// How far `ahead` reaches. Never before the taken frontier.
    ahead_end: Frontier,
}

impl Queue {
    /// A queue as it is stored. Every lease has its full time from now on.
    pub fn new(
        stream: StreamName,
        config: QueueConfig,
        state: QueueState,
        jobs: impl IntoIterator<Item = (Position, OpenJob)>,
        now: Now,
    ) -> Self {
        let ahead_end = state.taken;
        let mut queue = Self {
            stream,
            index: Index::new(config.leases_per_value()),
            config,
            state,
            jobs: jobs.into_iter().collect(),
            ended_leases: BTreeMap::new(),
            ahead: VecDeque::new(),
            ahead_end,
        };
        queue.build_index(now);
        queue
    }

    fn build_index(&mut self, now: Now) {
        let lease_ends_ms = now.monotonic_ms.saturating_add(self.config.lease_ms);
        let mut index = Index::new(self.config.leases_per_value());
        for (position, job) in &self.jobs {
            index.insert(*position, job, &self.config);
            if job.lease().is_some() {
                let known_ms = self.index.lease_ends_ms(*position);
                index.set_lease_end(*position, Some(known_ms.unwrap_or(lease_ends_ms)));
            }
        }
        self.index = index;
    }

    /// Takes over when leases end from the same queue as it was known before, those included that had ended there.
    pub fn keep_lease_ends(&mut self, before: &Self) {
        let leased = self.jobs.iter().filter(|(_, job)| job.lease().is_some());
        for (position, job) in leased {
            if let Some(at_ms) = before.lease_end_of(*position, job.epoch) {
                self.index.set_lease_end(*position, Some(at_ms));
            }
        }
    }

    /// When the lease of an epoch ends, or would have.
    fn lease_end_of(&self, position: Position, epoch: u64) -> Option<u64> {
        let job = self.jobs.get(&position).filter(|job| job.epoch == epoch);
        let ended = self.ended_leases.get(&position);
        job.and_then(|_| self.index.lease_ends_ms(position))
            .or_else(|| ended.filter(|(of, _)| *of == epoch).map(|(_, at_ms)| *at_ms))
    }

    /// What was decided so far is stored, so that no lease comes back.
    pub fn forget_ended_leases(&mut self) {
        self.ended_leases.clear();
    }

    /// What it was made with.
    pub fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// How far it has come.
    pub fn state(&self) -> &QueueState {
        &self.state
    }

    /// Jobs that have keys, by where their messages begin.
    pub fn jobs(&self) -> &BTreeMap<Position, OpenJob> {
        &self.jobs
    }

    /// The order of its jobs, and its times.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Jobs without keys that are next, from the taken frontier on.
    pub fn ahead(&self) -> &VecDeque<Job> {
        &self.ahead
    }

    /// From where to read more jobs without keys; none if all are known.
    pub fn ahead_from(&self) -> Option<Frontier> {
        (self.ahead_end.position < self.state.admitted.position).then_some(self.ahead_end)
    }

    /// Jobs without keys: those that are ready at no cost.
    pub fn unkeyed(&self) -> u64 {
        let keyed = self
            .jobs
            .range(self.state.taken.position..self.state.admitted.position);
        let between = self.state.admitted.messages - self.state.taken.messages;
        between.saturating_sub(keyed.count() as u64)
    }

    /// Adds jobs that were read from [`Queue::ahead_from`] on, in order, without those that have keys. They reach `end`.
    pub fn read_ahead(&mut self, jobs: impl IntoIterator<Item = Job>, end: Frontier) {
        let jobs = jobs
            .into_iter()
            .filter(|job| !self.jobs.contains_key(&job.position));
        self.ahead.extend(jobs);
        self.ahead_end = end;
    }

    /// Has jobs whose time has come by the wall clock stand among those that are ready. Changes nothing that is stored.
    pub fn wake(&mut self, now: Now) {
        self.index.wake(now.wall, &self.jobs);
    }

    /// Takes over another configuration.
    pub fn reconfigure(&mut self, config: QueueConfig, now: Now) {
        self.config = config;
        // Values of the concurrency key are read anew.
        self.ahead.clear();
        self.ahead_end = self.state.taken;
        self.build_index(now);
    }

    /// Applies what was decided on this state.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::State(state) => self.apply_state(state),
            Change::Job { position, job } => {
                if let Some(known) = self.jobs.remove(position) {
                    let lease_ends_ms = self.index.lease_ends_ms(*position);
                    self.ended_leases
                        .extend(lease_ends_ms.map(|at_ms| (*position, (known.epoch, at_ms))));
                    self.index.remove(*position, &known, &self.config);
                }
                if let Some(job) = job {
                    self.index.insert(*position, job, &self.config);
                    self.jobs.insert(*position, OpenJob::clone(job));
                    self.ahead.retain(|ahead| ahead.position != *position);
                }
            }
            Change::LeaseEnds { position, at_ms } => self.index.set_lease_end(*position, Some(*at_ms)),
            Change::Begin { .. }
            | Change::Append(_)
            | Change::Dead(_)
            | Change::Buried { .. }
            | Change::Adopted { .. }
            | Change::Ended { .. } => {}
        }
    }

    fn apply_state(&mut self, state: &QueueState) {
        self.state.clone_from(state);
        let taken = self.state.taken;
        while self
            .ahead
            .front()
            .is_some_and(|job| job.position < taken.position)
        {
            self.ahead.pop_front();
        }
        if self.ahead_end.position < taken.position {
            self.ahead_end = taken;
        }
    }

    /// Applies several changes, in order.
    pub fn apply_all(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply(change);
        }
    }
}
