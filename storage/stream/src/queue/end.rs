//! How runs end that no worker ends: cancelled, expired, timed out, given up. Each has exactly one end.

use super::event::RunEvent;
use super::job::{Job, JobPhase, OpenJob};
use super::lease::Settled;
use super::state::{Change, Counters, DeadLetter, DeadReason, QueueState, RunAppend, RunState, RunStatus};
use super::{Decided, Now, Queue};
use crate::name::StreamName;
use crate::offset::Position;

/// Which jobs to call off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// Those that are ready, or held back by their concurrency key.
    Ready,
    /// Also those whose time has not come. Workers are told to stop.
    All,
    /// All of them at once; workers are fenced off.
    AtOnce,
}

impl Queue {
    /// Ends a job's run.
    pub(super) fn end_job(
        &self,
        position: Position,
        job: &OpenJob,
        end: RunEvent,
        producer: (u64, u64),
        now: Now,
    ) -> Decided<Settled> {
        let mut state = self.state.clone();
        let mut changes = Vec::new();
        self.let_go(position, job, &mut state, &mut changes);
        let run = (position, &job.run, job.attempt);
        let ended = self.end_run(run, end, producer, now, &mut state, &mut changes);
        changes.push(Change::State(Box::new(state)));
        Decided {
            changes,
            answer: Settled {
                state: ended,
                retry_at: None,
            },
        }
    }

    /// There is no such job any more.
    pub(super) fn let_go(
        &self,
        position: Position,
        job: &OpenJob,
        state: &mut QueueState,
        changes: &mut Vec<Change>,
    ) {
        if position == state.taken.position {
            return self.take_behind(job.end, state, changes);
        }
        // Without a key it would be ready where it stands, if nobody has been there.
        let passed = (position > state.taken.position).then(|| {
            Box::new(OpenJob {
                phase: JobPhase::Passed,
                ..job.clone()
            })
        });
        changes.push(Change::Job {
            position,
            job: passed,
        });
    }

    /// Adds the end to a run, and whatever follows from it. Answers the run's state.
    fn end_run(
        &self,
        (position, run, attempt): (Position, &StreamName, u32),
        end: RunEvent,
        producer: (u64, u64),
        now: Now,
        state: &mut QueueState,
        changes: &mut Vec<Change>,
    ) -> RunState {
        let ended = count(&mut state.counters, &end);
        if let RunEvent::Dead { reason, error, .. } = &end {
            state.dead_letters += 1;
            changes.push(Change::Dead(Box::new(DeadLetter {
                job: position,
                run: Some(run.clone()),
                reason: *reason,
                error: error.clone(),
                attempt,
                at: now.wall,
            })));
        }
        changes.push(Change::Append(RunAppend {
            run: run.clone(),
            producer: Some(producer),
            event: end,
            status: Some(RunStatus {
                state: ended,
                attempt,
                queue: self.stream.clone(),
                job: Some(position),
            }),
            at: now.wall,
        }));
        if self.config.run_retention_ms.is_some() {
            changes.push(Change::Ended {
                run: run.clone(),
                at: now.wall,
            });
        }
        ended
    }

    /// What is overdue: a lease that has ended, a run that takes too long, a job that nobody has begun in time. One thing
    /// at a time; none if nothing is.
    pub fn overdue(&self, now: Now, random: u64) -> Option<Vec<Change>> {
        if let Some((at_ms, position)) = self.index.first_lease_end()
            && at_ms <= now.monotonic_ms
        {
            return Some(self.lose_lease(position, now, random));
        }
        if let Some((at, position)) = self.index.first_run_end()
            && at <= now.wall
        {
            let job = self.jobs.get(&position)?;
            let end = match job.started_at {
                Some(_) => RunEvent::TimedOut { attempt: job.attempt },
                None => RunEvent::Expired,
            };
            return Some(self.end_job(position, job, end, next_of_server(job), now).changes);
        }
        let job = self.ahead.front()?;
        let start_by = job.ready_at.plus_millis(self.config.start_ttl_ms?);
        (start_by <= now.wall).then(|| self.end_unkeyed(job, RunEvent::Expired, now))
    }

    fn lose_lease(&self, position: Position, now: Now, random: u64) -> Vec<Change> {
        let job = self.jobs.get(&position).expect("what is leased has a key");
        let attempt = job.attempt;
        let attempts_max = job.max_attempts.unwrap_or(self.config.max_attempts);
        let end = match &job.phase {
            JobPhase::Leased {
                cancel: Some(reason), ..
            } => RunEvent::Cancelled {
                reason: reason.clone(),
            },
            _ if attempt >= attempts_max => RunEvent::Dead {
                attempt,
                reason: DeadReason::LeaseLost,
                error: None,
            },
            _ => {
                let retry_at = now.wall.plus_millis(self.config.backoff.wait_ms(attempt, random));
                let event = RunEvent::LeaseLost {
                    attempt,
                    epoch: job.epoch,
                    retry_at,
                };
                return self.wait_again(position, job, event, retry_at, None, now).changes;
            }
        };
        let mut changes = self.end_job(position, job, end, next_of_server(job), now).changes;
        if let Some(Change::State(state)) = changes.last_mut() {
            state.counters.leases_lost += 1;
        }
        changes
    }

    /// When something will be overdue, or a job's time comes, by the wall clock.
    pub fn next_at(&self) -> Option<crate::expiry::Timestamp> {
        let run_end = self.index.first_run_end().map(|(at, _)| at);
        let start_by = self.config.start_ttl_ms.and_then(|ttl_ms| {
            let job = self.ahead.front()?;
            Some(job.ready_at.plus_millis(ttl_ms))
        });
        [run_end, start_by, self.index.next_wake()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When a lease ends next, by the monotonic clock.
    pub fn next_at_ms(&self) -> Option<u64> {
        self.index.first_lease_end().map(|(at_ms, _)| at_ms)
    }

    /// Calls off a job that has a key: at once if nobody has it, and otherwise once its worker, or the end of its lease,
    /// has the last word. Answers the run's state.
    pub fn cancel(&self, position: Position, reason: Option<&str>, now: Now) -> Option<Decided<Settled>> {
        let job = self.jobs.get(&position).filter(|job| !job.is_passed())?;
        let JobPhase::Leased { worker, cancel } = &job.phase else {
            let end = RunEvent::Cancelled {
                reason: reason.map(Into::into),
            };
            return Some(self.end_job(position, job, end, next_of_server(job), now));
        };
        let answer = Settled {
            state: RunState::Leased,
            retry_at: None,
        };
        if cancel.is_some() {
            return Some(Decided {
                changes: Vec::new(),
                answer,
            });
        }
        let told = OpenJob {
            phase: JobPhase::Leased {
                worker: worker.clone(),
                cancel: Some(reason.map(Into::into)),
            },
            ..job.clone()
        };
        let at_ms = self.index.lease_ends_ms(position).unwrap_or(now.monotonic_ms);
        Some(Decided {
            changes: vec![
                Change::Job {
                    position,
                    job: Some(Box::new(told)),
                },
                Change::LeaseEnds { position, at_ms },
            ],
            answer,
        })
    }

    /// Calls off a job that has no key.
    pub fn cancel_unkeyed(&self, job: &Job, reason: Option<&str>, now: Now) -> Vec<Change> {
        let end = RunEvent::Cancelled {
            reason: reason.map(Into::into),
        };
        self.end_unkeyed(job, end, now)
    }

    fn end_unkeyed(&self, job: &Job, end: RunEvent, now: Now) -> Vec<Change> {
        let mut state = self.state.clone();
        let mut changes = Vec::new();
        let open = OpenJob::waiting(job, crate::expiry::Timestamp::default());
        self.let_go(job.position, &open, &mut state, &mut changes);
        self.end_run(
            (job.position, &job.run, 0),
            end,
            (0, 1),
            now,
            &mut state,
            &mut changes,
        );
        changes.push(Change::State(Box::new(state)));
        changes
    }

    /// Calls off a run whose job is not here: its message has not come. Its lease is at `epoch`, and whoever has it is fenced off.
    pub fn cancel_without_job(
        &self,
        run: &StreamName,
        epoch: u64,
        reason: Option<&str>,
        now: Now,
    ) -> Vec<Change> {
        let producer = match epoch {
            0 => (0, 1),
            epoch => ((epoch + 1).next_multiple_of(2), 0),
        };
        let mut state = self.state.clone();
        state.counters.cancelled += 1;
        let status = RunStatus {
            state: RunState::Cancelled,
            attempt: 0,
            queue: self.stream.clone(),
            job: None,
        };
        let append = RunAppend {
            run: run.clone(),
            producer: Some(producer),
            event: RunEvent::Cancelled {
                reason: reason.map(Into::into),
            },
            status: Some(status.clone()),
            at: now.wall,
        };
        let mut changes = vec![
            Change::Append(append),
            Change::Adopted {
                run: run.clone(),
                status,
            },
        ];
        if self.config.run_retention_ms.is_some() {
            changes.push(Change::Ended {
                run: run.clone(),
                at: now.wall,
            });
        }
        changes.push(Change::State(Box::new(state)));
        changes
    }

    /// Calls off jobs whose messages begin before `until`, at most `count_max` of them. What changes is applied already.
    /// Answers how many; fewer than `count_max` only if jobs without keys are not all known, or there are no more.
    pub fn purge(
        &mut self,
        purge: Purge,
        reason: &str,
        until: Position,
        count_max: usize,
        now: Now,
    ) -> Decided<usize> {
        self.wake(now);
        let meant: Vec<Position> = self
            .jobs
            .range(..until)
            .filter(|(_, job)| is_meant(job, purge, now))
            .map(|(position, _)| *position)
            .take(count_max)
            .collect();
        let mut decided = Decided {
            changes: Vec::new(),
            answer: 0,
        };
        for position in meant {
            let job = &self.jobs[&position];
            let changes = if job.lease().is_some() && purge == Purge::AtOnce {
                let end = RunEvent::Cancelled {
                    reason: Some(reason.into()),
                };
                self.end_job(position, job, end, next_of_server(job), now).changes
            } else {
                let cancelled = self.cancel(position, Some(reason), now);
                cancelled.map_or_else(Vec::new, |cancelled| cancelled.changes)
            };
            self.apply_all(&changes);
            decided.changes.extend(changes);
            decided.answer += 1;
        }
        while decided.answer < count_max
            && let Some(job) = self.ahead.front().filter(|job| job.position < until)
        {
            let changes = self.cancel_unkeyed(job, Some(reason), now);
            self.apply_all(&changes);
            decided.changes.extend(changes);
            decided.answer += 1;
        }
        decided
    }

    /// Stops giving jobs to workers, or begins again.
    pub fn set_paused(&self, paused: bool) -> Vec<Change> {
        self.change_state(|state| state.paused = paused)
    }

    /// Begins to delete the queue: nothing more is taken in or given out.
    pub fn begin_deletion(&self) -> Vec<Change> {
        self.change_state(|state| state.deleting = true)
    }

    /// Forgets dead letters.
    pub fn bury(&self, jobs: &[Position]) -> Vec<Change> {
        let count = jobs.len() as u64;
        let mut changes =
            self.change_state(|state| state.dead_letters = state.dead_letters.saturating_sub(count));
        changes.extend(jobs.iter().map(|job| Change::Buried { job: *job }));
        changes
    }

    /// Counts a run that is tried anew, and forgets the dead letter of the one before.
    pub fn bury_and_count_retry(&self, job: Position) -> Vec<Change> {
        let mut changes = self.change_state(|state| {
            state.dead_letters = state.dead_letters.saturating_sub(1);
            state.retries += 1;
        });
        changes.push(Change::Buried { job });
        changes
    }

    /// Counts a run that is tried anew.
    pub fn count_retry(&self) -> Vec<Change> {
        self.change_state(|state| state.retries += 1)
    }

    fn change_state(&self, change: impl FnOnce(&mut QueueState)) -> Vec<Change> {
        let mut state = self.state.clone();
        change(&mut state);
        if state == self.state {
            return Vec::new();
        }
        vec![Change::State(Box::new(state))]
    }
}

fn is_meant(job: &OpenJob, purge: Purge, now: Now) -> bool {
    match (&job.phase, purge) {
        (JobPhase::Passed, _) | (JobPhase::Leased { .. }, Purge::Ready) => false,
        (JobPhase::Waiting { until, .. }, Purge::Ready) => *until <= now.wall,
        (JobPhase::Leased { cancel, .. }, Purge::All) => cancel.is_none(),
        (JobPhase::Waiting { .. }, Purge::All) | (_, Purge::AtOnce) => true,
    }
}

/// Epoch and sequence number of what the server adds to a run of its own accord: whoever has it is fenced off.
fn next_of_server(job: &OpenJob) -> (u64, u64) {
    match job.phase {
        JobPhase::Leased { .. } => (job.epoch + 1, 0),
        // The event by which it came to wait has number 0.
        JobPhase::Waiting { .. } | JobPhase::Passed => (job.epoch, 1),
    }
}

/// Counts an end, and answers the state of a run that has it.
fn count(counters: &mut Counters, end: &RunEvent) -> RunState {
    let (counter, state) = match end {
        RunEvent::Succeeded { .. } => (&mut counters.succeeded, RunState::Succeeded),
        RunEvent::Dead { .. } => (&mut counters.dead, RunState::Dead),
        RunEvent::Cancelled { .. } => (&mut counters.cancelled, RunState::Cancelled),
        RunEvent::Expired => (&mut counters.expired, RunState::Expired),
        RunEvent::TimedOut { .. } => (&mut counters.timed_out, RunState::TimedOut),
        RunEvent::Queued { .. }
        | RunEvent::Leased { .. }
        | RunEvent::LeaseLost { .. }
        | RunEvent::Failed { .. }
        | RunEvent::Released { .. }
        | RunEvent::Duplicate { .. } => panic!("{} is no end of a run", end.name()),
    };
    *counter += 1;
    state
}
