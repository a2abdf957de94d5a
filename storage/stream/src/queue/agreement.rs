//! A job and its run that do not agree are made to: an import has brought the one without the other, or each as of another
//! moment. What happened to a run is what stands in it, so it is the job that follows.

use super::event::RunEvent;
use super::job::{JobPhase, OpenJob};
use super::json_text::JsonText;
use super::state::{Change, DeadLetter, DeadReason, QueueState, RunAppend, RunState, RunStatus};
use super::{Now, Queue};
use crate::expiry::Timestamp;
use crate::name::StreamName;
use crate::offset::Position;

/// What is found of a run that is not as its queue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundRun {
    /// It has ended.
    Ended,
    /// It has not.
    Open {
        /// The epoch of its lease, and the number of the last event of that.
        lease: (u64, u64),
        /// Attempts so far.
        attempt: u32,
    },
    /// There is none, and it may begin anew: its message is still there.
    Missing {
        /// What the worker is to be given.
        payload: JsonText,
    },
    /// There is none that can be read, and none can begin.
    Lost {
        /// Why not.
        reason: DeadReason,
    },
}

impl Queue {
    /// Has a job agree with what was found of its run, unless it does. One that has no key is given as [`OpenJob::waiting`]
    /// makes it.
    ///
    /// No epoch that the queue, or the run, knows is given again: whoever had one of them stays fenced off.
    pub fn agree(&self, position: Position, job: &OpenJob, found: &FoundRun, now: Now) -> Vec<Change> {
        let mut state = self.state.clone();
        let mut changes = Vec::new();
        match found {
            FoundRun::Ended => self.let_go(position, job, &mut state, &mut changes),
            FoundRun::Open { lease, .. } if agrees(job, *lease) => return changes,
            FoundRun::Open {
                lease: (epoch, _),
                attempt,
            } if *epoch > job.epoch => {
                self.follow_run(position, job, (*epoch, *attempt), now, &mut state, &mut changes);
            }
            FoundRun::Open { attempt, .. } => {
                self.fence_run(position, job, *attempt, now, &mut state, &mut changes);
            }
            FoundRun::Missing { payload } => self.begin_anew(position, job, payload, now, &mut changes),
            FoundRun::Lost { reason } => {
                self.let_go(position, job, &mut state, &mut changes);
                state.counters.dead += 1;
                state.dead_letters += 1;
                changes.push(Change::Dead(Box::new(DeadLetter {
                    job: position,
                    run: None,
                    reason: *reason,
                    error: Some(JsonText::string(&why_lost(&job.run, *reason))),
                    attempt: job.attempt,
                    at: now.wall,
                })));
            }
        }
        changes.push(Change::State(Box::new(state)));
        changes
    }

    /// The run has gone on without the queue. Whoever has it by what stands in it has its full time.
    fn follow_run(
        &self,
        position: Position,
        job: &OpenJob,
        (epoch, attempt): (u64, u32),
        now: Now,
        state: &mut QueueState,
        changes: &mut Vec<Change>,
    ) {
        let is_leased = !epoch.is_multiple_of(2);
        let phase = match &job.phase {
            JobPhase::Leased { .. } if is_leased => job.phase.clone(),
            _ if is_leased => JobPhase::Leased {
                worker: "".into(),
                cancel: None,
            },
            _ => JobPhase::Waiting {
                until: until(job, now),
                settled: None,
            },
        };
        let followed = OpenJob {
            // One that somebody has counts.
            attempt: attempt.max(u32::from(is_leased)),
            epoch,
            started_at: job.started_at.or(Some(now.wall)),
            phase,
            ..job.clone()
        };
        self.give_key(position, followed, state, changes);
        if is_leased {
            changes.push(Change::LeaseEnds {
                position,
                at_ms: now.monotonic_ms.saturating_add(self.config.lease_ms),
            });
        }
    }

    /// The run lacks what the queue has seen of it. Its lease ends, and somebody else is to do the job.
    fn fence_run(
        &self,
        position: Position,
        job: &OpenJob,
        attempt: u32,
        now: Now,
        state: &mut QueueState,
        changes: &mut Vec<Change>,
    ) {
        let epoch = next_even(job.epoch + 1);
        let attempt = attempt.max(job.attempt);
        let until = until(job, now);
        state.counters.leases_lost += 1;
        changes.push(Change::Append(RunAppend {
            run: job.run.clone(),
            producer: Some((epoch, 0)),
            event: RunEvent::LeaseLost {
                attempt,
                epoch: epoch - 1,
                retry_at: until,
            },
            status: Some(self.waiting_status(position, attempt)),
            at: now.wall,
        }));
        let fenced = OpenJob {
            attempt,
            epoch,
            phase: JobPhase::Waiting { until, settled: None },
            ..job.clone()
        };
        self.give_key(position, fenced, state, changes);
    }

    /// The run begins once more, from the message of its job. Attempts that were made count.
    fn begin_anew(
        &self,
        position: Position,
        job: &OpenJob,
        payload: &JsonText,
        now: Now,
        changes: &mut Vec<Change>,
    ) {
        let epoch = next_even(job.epoch);
        let until = until(job, now);
        changes.push(Change::Begin {
            run: job.run.clone(),
            event: RunEvent::Queued {
                queue: self.stream.clone(),
                job: Some(position),
                payload: payload.clone(),
                run_at: Some(until).filter(|until| *until > now.wall),
                retry_of: None,
            },
            epoch,
            status: self.waiting_status(position, job.attempt),
            at: now.wall,
        });
        // One that has no key stays where it is in the stream.
        if self.jobs.contains_key(&position) {
            let begun = OpenJob {
                epoch,
                phase: JobPhase::Waiting { until, settled: None },
                ..job.clone()
            };
            changes.push(Change::Job {
                position,
                job: Some(Box::new(begun)),
            });
        }
    }

    fn waiting_status(&self, position: Position, attempt: u32) -> RunStatus {
        RunStatus {
            state: RunState::of_waiting(attempt),
            attempt,
            queue: self.stream.clone(),
            job: Some(position),
        }
    }

    /// A job that may have none has this key from now on.
    fn give_key(&self, position: Position, job: OpenJob, state: &mut QueueState, changes: &mut Vec<Change>) {
        if !self.jobs.contains_key(&position) && position == state.taken.position {
            self.take_behind(job.end, state, changes);
        }
        changes.push(Change::Job {
            position,
            job: Some(Box::new(job)),
        });
    }
}

/// Whether a run is as its job has it. Nobody but a lease adds to it: after the event that has begun an even epoch comes none.
fn agrees(job: &OpenJob, (epoch, seq): (u64, u64)) -> bool {
    epoch == job.epoch && (job.lease().is_some() || seq == 0)
}

/// When a job may be given to a worker that nobody has.
fn until(job: &OpenJob, now: Now) -> Timestamp {
    match job.phase {
        JobPhase::Waiting { until, .. } => until,
        JobPhase::Leased { .. } | JobPhase::Passed => now.wall,
    }
}

/// Of epochs from this one on the first in which nobody has the lease.
fn next_even(epoch: u64) -> u64 {
    epoch.next_multiple_of(2)
}

fn why_lost(run: &StreamName, reason: DeadReason) -> String {
    match reason {
        DeadReason::NameTaken => format!("{run} is a stream, but no run of this job"),
        DeadReason::RunDamaged => format!("the run {run} cannot be read, because its stream is damaged"),
        _ => format!("the run {run} is not there, and no message from which it could begin"),
    }
}
