//! Jobs are leased: in the order of the stream, as far as concurrency allows.

use super::event::RunEvent;
use super::job::{JobPhase, OpenJob};
use super::json_text::JsonText;
use super::state::{Change, Frontier, QueueState, RunAppend, RunState, RunStatus};
use super::{Decided, Now, Queue};
use crate::expiry::Timestamp;
use crate::name::StreamName;
use crate::offset::Position;

/// A job that a worker has from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The job.
    pub job: Position,
    /// Its run.
    pub run: StreamName,
    /// The how-manieth attempt, from 1.
    pub attempt: u32,
    /// By which its events are told from those of others.
    pub epoch: u64,
    /// How long the worker may be silent.
    pub lease_ms: u64,
    /// What it is given; none if that is to be read from the run.
    pub payload: Option<JsonText>,
}

impl Queue {
    /// Gives at most `count_max` jobs to a worker. Jobs that their concurrency key holds back are passed over, at most
    /// `held_max` of them. What changes is applied already.
    ///
    /// If jobs without keys are not all known, read more of them and claim again.
    pub fn claim(
        &mut self,
        worker: &str,
        count_max: usize,
        held_max: usize,
        now: Now,
    ) -> Decided<Vec<Leased>> {
        let mut decided = Decided {
            changes: Vec::new(),
            answer: Vec::new(),
        };
        while decided.answer.len() < count_max && self.may_lease() {
            self.wake(now);
            let changes = match self.next_step(worker, held_max, now) {
                Step::Lease(changes, leased) => {
                    decided.answer.push(leased);
                    changes
                }
                Step::Hold(changes) => changes,
                Step::Stop => break,
            };
            self.apply_all(&changes);
            decided.changes.extend(changes);
        }
        decided
    }

    /// Whether anything at all may be given to a worker now.
    pub fn may_lease(&self) -> bool {
        let has_room = self
            .config
            .concurrency
            .is_none_or(|most| self.index.leased() < most);
        has_room && !self.state.paused && !self.state.deleting
    }

    fn next_step(&self, worker: &str, held_max: usize, now: Now) -> Step {
        let keyed = self.index.next_ready();
        let ahead = self.ahead.front();
        // What is not known yet stands before a job that has a key, unless that is before the frontier.
        let known_until = ahead.map_or_else(
            || self.ahead_from().map(|from| from.position),
            |job| Some(job.position),
        );
        if let Some(position) = keyed.filter(|keyed| known_until.is_none_or(|until| *keyed < until)) {
            return self.lease_keyed(position, worker, now);
        }
        let Some(job) = ahead else { return Step::Stop };
        if self.index.has_room(job.value.as_deref()) {
            let open = OpenJob::waiting(job, Timestamp::default());
            let mut state = self.state.clone();
            let mut changes = Vec::new();
            self.take_behind(job.end, &mut state, &mut changes);
            return self.lease(
                job.position,
                open,
                Some(job.payload.clone()),
                state,
                changes,
                (worker, now),
            );
        }
        if self.index.in_lanes() >= held_max {
            return keyed.map_or(Step::Stop, |position| self.lease_keyed(position, worker, now));
        }
        let mut state = self.state.clone();
        let mut changes = Vec::new();
        self.take_behind(job.end, &mut state, &mut changes);
        changes.push(Change::Job {
            position: job.position,
            job: Some(Box::new(OpenJob::waiting(job, Timestamp::default()))),
        });
        changes.push(Change::State(Box::new(state)));
        Step::Hold(changes)
    }

    fn lease_keyed(&self, position: Position, worker: &str, now: Now) -> Step {
        let job = self.jobs.get(&position).expect("what is ready has a key").clone();
        self.lease(position, job, None, self.state.clone(), Vec::new(), (worker, now))
    }

    fn lease(
        &self,
        position: Position,
        job: OpenJob,
        payload: Option<JsonText>,
        mut state: QueueState,
        mut changes: Vec<Change>,
        (worker, now): (&str, Now),
    ) -> Step {
        let leased = Leased {
            job: position,
            run: job.run.clone(),
            attempt: job.attempt + 1,
            epoch: job.epoch + 1,
            lease_ms: self.config.lease_ms,
            payload,
        };
        state.counters.claimed += 1;
        changes.push(Change::Append(RunAppend {
            run: job.run.clone(),
            producer: Some((leased.epoch, 0)),
            event: RunEvent::Leased {
                worker: worker.into(),
                attempt: leased.attempt,
                epoch: leased.epoch,
            },
            status: Some(RunStatus {
                state: RunState::Leased,
                attempt: leased.attempt,
                queue: self.stream.clone(),
                job: Some(position),
            }),
            at: now.wall,
        }));
        changes.push(Change::Job {
            position,
            job: Some(Box::new(OpenJob {
                attempt: leased.attempt,
                epoch: leased.epoch,
                started_at: job.started_at.or(Some(now.wall)),
                phase: JobPhase::Leased {
                    worker: worker.into(),
                    cancel: None,
                },
                ..job
            })),
        });
        changes.push(Change::LeaseEnds {
            position,
            at_ms: now.monotonic_ms.saturating_add(self.config.lease_ms),
        });
        changes.push(Change::State(Box::new(state)));
        Step::Lease(changes, leased)
    }

    /// Moves the taken frontier from a job that stands there to behind it, and behind those that follow and have keys.
    pub(super) fn take_behind(&self, end: Position, state: &mut QueueState, changes: &mut Vec<Change>) {
        debug_assert!(
            !self.jobs.contains_key(&state.taken.position),
            "the taken frontier does not stand at a job that has a key"
        );
        let mut end = end;
        let mut messages = state.taken.messages + 1;
        while let Some(job) = self.jobs.get(&end) {
            if job.is_passed() {
                changes.push(Change::Job {
                    position: end,
                    job: None,
                });
            }
            end = job.end;
            messages += 1;
        }
        state.taken = Frontier {
            position: end,
            messages,
        };
    }
}

enum Step {
    /// A worker has a job.
    Lease(Vec<Change>, Leased),
    /// A job is passed over.
    Hold(Vec<Change>),
    /// There is none, or it is not known.
    Stop,
}
