//! What workers say of their leases: that they are still at it, and how it ended.

use super::event::RunEvent;
use super::job::{JobPhase, OpenJob, Settlement, Verdict};
use super::json_text::JsonText;
use super::state::{Change, DeadReason, RunAppend, RunState, RunStatus};
use super::{Decided, Now, Queue};
use crate::expiry::Timestamp;
use crate::offset::Position;

/// What a worker is told that is still at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// How long it may be silent from now on.
    pub lease_ms: u64,
    /// Whether it is to stop.
    pub cancel: bool,
}

/// How a worker says that its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It is done.
    Complete {
        /// What came of it.
        result: Option<JsonText>,
    },
    /// It could not be done.
    Fail {
        /// Why.
        error: JsonText,
        /// Whether it is worth another attempt.
        retry: bool,
        /// When, in place of the queue's backoff.
        retry_after_ms: Option<u64>,
    },
    /// It was not tried.
    Release,
}

impl Word {
    /// Which of them it is.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Complete { .. } => Verdict::Completed,
            Self::Fail { .. } => Verdict::Failed,
            Self::Release => Verdict::Released,
        }
    }
}

/// Where the run stands once a lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The state.
    pub state: RunState,
    /// When it is tried again; none if it is not.
    pub retry_at: Option<Timestamp>,
}

/// Why a worker's word does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkerRefusal {
    /// Its lease is over: the server has fenced it off.
    #[error("the lease of epoch {epoch} is over; the run is at epoch {current}")]
    Fenced {
        /// The worker's epoch.
        epoch: u64,
        /// The run's.
        current: u64,
    },
    /// The server has never given this epoch to anybody.
    #[error("epoch {epoch} was not given to any worker; the run is at epoch {current}")]
    UnknownEpoch {
        /// The worker's epoch.
        epoch: u64,
        /// The run's.
        current: u64,
    },
    /// The run has ended.
    #[error("the run has ended: it is {}", .state.name())]
    Ended {
        /// How.
        state: RunState,
    },
}

impl Queue {
    fn held_by(&self, position: Position, epoch: u64) -> Result<&OpenJob, WorkerRefusal> {
        let job = self.jobs.get(&position);
        let current = job.map_or(0, |job| job.epoch);
        match job {
            Some(job) if job.epoch == epoch && job.lease().is_some() => Ok(job),
            _ if epoch > current || epoch.is_multiple_of(2) => {
                Err(WorkerRefusal::UnknownEpoch { epoch, current })
            }
            _ => Err(WorkerRefusal::Fenced { epoch, current }),
        }
    }

    /// Gives a worker its full time from now on.
    ///
    /// # Errors
    /// [`WorkerRefusal`] if it does not have the job.
    pub fn heartbeat(
        &self,
        position: Position,
        epoch: u64,
        now: Now,
    ) -> Result<Decided<Beat>, WorkerRefusal> {
        let job = self.held_by(position, epoch)?;
        let lease_ms = self.config.lease_ms;
        Ok(Decided {
            changes: vec![Change::LeaseEnds {
                position,
                at_ms: now.monotonic_ms.saturating_add(lease_ms),
            }],
            answer: Beat {
                lease_ms,
                cancel: job.lease().is_some_and(|(_, cancel)| cancel),
            },
        })
    }

    /// Ends a worker's lease as it says. That its `seq` is the next one is for the run's stream to say. A word that was
    /// taken before is answered as then, and changes nothing.
    ///
    /// # Errors
    /// [`WorkerRefusal`] if it does not have the job.
    pub fn settle(
        &self,
        position: Position,
        (epoch, seq): (u64, u64),
        word: &Word,
        now: Now,
        random: u64,
    ) -> Result<Decided<Settled>, WorkerRefusal> {
        if let Some(answer) = self.settled_before(position, (epoch, seq), word.verdict()) {
            return Ok(Decided {
                changes: Vec::new(),
                answer,
            });
        }
        let job = self.held_by(position, epoch)?;
        let producer = (epoch, seq);
        let cancel = match &job.phase {
            JobPhase::Leased { cancel, .. } => cancel.clone(),
            JobPhase::Waiting { .. } | JobPhase::Passed => None,
        };
        let attempts_max = job.max_attempts.unwrap_or(self.config.max_attempts);
        let attempt = job.attempt;
        let end = match (word, cancel) {
            (Word::Complete { result }, _) => RunEvent::Succeeded {
                attempt,
                result: result.clone(),
            },
            (_, Some(reason)) => RunEvent::Cancelled { reason },
            (
                Word::Fail {
                    error, retry: false, ..
                },
                None,
            ) => RunEvent::Dead {
                attempt,
                reason: DeadReason::Failed,
                error: Some(error.clone()),
            },
            (Word::Fail { error, .. }, None) if attempt >= attempts_max => RunEvent::Dead {
                attempt,
                reason: DeadReason::AttemptsUsedUp,
                error: Some(error.clone()),
            },
            (
                Word::Fail {
                    error,
                    retry_after_ms,
                    ..
                },
                None,
            ) => {
                let wait_ms = retry_after_ms.unwrap_or_else(|| self.config.backoff.wait_ms(attempt, random));
                let retry_at = now.wall.plus_millis(wait_ms);
                let event = RunEvent::Failed {
                    attempt,
                    epoch,
                    error: error.clone(),
                    retry_at,
                };
                return Ok(self.wait_again(
                    position,
                    job,
                    event,
                    retry_at,
                    Some((seq, Verdict::Failed)),
                    now,
                ));
            }
            (Word::Release, None) => {
                let event = RunEvent::Released { attempt, epoch };
                let settled = Some((seq, Verdict::Released));
                return Ok(self.wait_again(position, job, event, now.wall, settled, now));
            }
        };
        Ok(self.end_job(position, job, end, producer, now))
    }

    /// What was answered to a word that was taken before.
    fn settled_before(
        &self,
        position: Position,
        (epoch, seq): (u64, u64),
        verdict: Verdict,
    ) -> Option<Settled> {
        let job = self.jobs.get(&position)?;
        match &job.phase {
            JobPhase::Waiting {
                until,
                settled: Some(settled),
            } if *settled == Settlement { epoch, seq, verdict } => Some(waiting_answer(job, *until)),
            _ => None,
        }
    }

    /// Fences a job's worker off and has the job wait.
    pub(super) fn wait_again(
        &self,
        position: Position,
        job: &OpenJob,
        event: RunEvent,
        until: Timestamp,
        settled: Option<(u64, Verdict)>,
        now: Now,
    ) -> Decided<Settled> {
        let mut state = self.state.clone();
        let mut attempt = job.attempt;
        match event {
            RunEvent::Failed { .. } => state.counters.failed += 1,
            RunEvent::LeaseLost { .. } => state.counters.leases_lost += 1,
            _ => {
                state.counters.released += 1;
                attempt -= 1;
            }
        }
        let waiting = OpenJob {
            attempt,
            epoch: job.epoch + 1,
            phase: JobPhase::Waiting {
                until,
                settled: settled.map(|(seq, verdict)| Settlement {
                    epoch: job.epoch,
                    seq,
                    verdict,
                }),
            },
            ..job.clone()
        };
        let answer = waiting_answer(&waiting, until);
        let append = RunAppend {
            run: job.run.clone(),
            producer: Some((waiting.epoch, 0)),
            event,
            status: Some(RunStatus {
                state: answer.state,
                attempt,
                queue: self.stream.clone(),
                job: Some(position),
            }),
            at: now.wall,
        };
        Decided {
            changes: vec![
                Change::Append(append),
                Change::Job {
                    position,
                    job: Some(Box::new(waiting)),
                },
                Change::State(Box::new(state)),
            ],
            answer,
        }
    }
}

fn waiting_answer(job: &OpenJob, until: Timestamp) -> Settled {
    Settled {
        state: RunState::of_waiting(job.attempt),
        retry_at: Some(until),
    }
}
