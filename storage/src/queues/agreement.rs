//! Jobs follow runs that are not as the queue has them. A queue and its runs change in one record, and agree; but an import
//! takes each stream for itself, and may bring the one without the other, or each as of another moment; and a stream may be
//! damaged.

use std::sync::Arc;

use tailwater_stream::queue::{DeadReason, FoundRun, JsonText, OpenJob};
use tailwater_stream::{Position, StreamKind, StreamName, Timestamp};

use super::error::QueueError;
use super::opened::{Opened, Turn, now_of};
use super::record::Extra;
use super::runs::Named;
use super::{Queues, codec};

/// Runs that are looked at in one turn; more wait for the next, so that workers are heard in between.
const LOOKS_MAX: usize = 256;

impl Queues {
    /// Has jobs agree with their runs that were found not to. What cannot be done now is tried again later.
    pub(super) async fn agree_with_runs(&self, opened: &Arc<Opened>, turn: &mut Turn) {
        if !turn.has_looked_at_all {
            turn.has_looked_at_all = true;
            // What has parted one of them may have parted any, and messages from which runs could begin are trimmed.
            let jobs = turn.queue.jobs().iter().filter(|(_, job)| !job.is_passed());
            let all: Vec<_> = jobs.map(|(at, job)| (job.run.clone(), Some(*at))).collect();
            turn.adrift.extend(all);
        }
        for _ in 0..LOOKS_MAX {
            let Some(run) = turn.adrift.keys().next().cloned() else {
                break;
            };
            if let Err(error) = self.agree_with(opened, turn, &run).await {
                self.note_trouble(opened, turn, &error);
                return;
            }
        }
        opened.bell.notify_one();
    }

    /// Has the job of one run agree with it.
    ///
    /// # Errors
    /// [`QueueError`]; it is tried again then.
    pub(super) async fn agree_with(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        run: &StreamName,
    ) -> Result<(), QueueError> {
        let known = turn.adrift.get(run).copied().flatten();
        if turn.awaited.contains_key(run) {
            self.await_no_longer(opened, turn, run).await?;
        } else if let Some((position, job)) = self.job_at(turn, run, known).await? {
            let (found, payload) = self.find_run(turn, run, position).await?;
            let changes = turn
                .queue
                .agree(position, &job, &found, now_of(&self.shared.engine));
            if !changes.is_empty() {
                tracing::warn!(queue = %opened.name, %run, "a run was not as its queue has it, which follows it");
                let extra = Extra {
                    payloads: payload.map(|payload| (position, payload)).into_iter().collect(),
                    ..Extra::default()
                };
                self.record_and_wait(opened, turn, &changes, extra).await?;
            }
            if matches!(found, FoundRun::Ended | FoundRun::Lost { .. }) {
                turn.by_run.remove(run);
            }
        }
        turn.adrift.remove(run);
        Ok(())
    }

    /// The message of a run that is tried anew does not come for one that is not there.
    async fn await_no_longer(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        run: &StreamName,
    ) -> Result<(), QueueError> {
        self.check_whether_more_comes(run)?;
        tracing::warn!(queue = %opened.name, %run, "a run that was to be tried anew is not there");
        let extra = Extra {
            controls: vec![(codec::retry_key(run), None)],
            ..Extra::default()
        };
        self.record_and_wait(opened, turn, &[], extra).await?;
        turn.awaited.remove(run);
        Ok(())
    }

    /// A run that is not here may still be brought by an import.
    fn check_whether_more_comes(&self, run: &StreamName) -> Result<(), QueueError> {
        if self.shared.engine.is_importing() {
            return Err(QueueError::Adrift { run: run.clone() });
        }
        Ok(())
    }

    /// The job of a run; none if there is none any more.
    async fn job_at(
        &self,
        turn: &Turn,
        run: &StreamName,
        known: Option<Position>,
    ) -> Result<Option<(Position, OpenJob)>, QueueError> {
        let Some(position) = known.or_else(|| turn.job_of(run)) else {
            return Ok(None);
        };
        if let Some(job) = turn.queue.jobs().get(&position) {
            let is_it = !job.is_passed() && job.run == *run;
            return Ok(is_it.then(|| (position, job.clone())));
        }
        let job = self.unkeyed(turn, run, Some(position)).await?;
        Ok(job.map(|job| (position, OpenJob::waiting(&job, Timestamp::default()))))
    }

    /// What there is of the run of a job, and what its worker is to be given, if its message is still there.
    async fn find_run(
        &self,
        turn: &Turn,
        run: &StreamName,
        position: Position,
    ) -> Result<(FoundRun, Option<JsonText>), QueueError> {
        let named = self.who_has(run).await?;
        let mut is_damaged = matches!(named, Named::Damaged);
        if let Named::Stream {
            id,
            kind: StreamKind::Run,
            queue: Some(queue),
            closed,
            lease,
        } = &named
            && *queue == turn.queue.stream
        {
            let status = match self.status_of(run, *id).await {
                Err(error) if error.is_damage() => {
                    is_damaged = true;
                    None
                }
                status => status?,
            };
            if let Some(status) = status.filter(|status| status.job.is_none_or(|job| job == position)) {
                let found = if *closed {
                    FoundRun::Ended
                } else {
                    FoundRun::Open {
                        lease: *lease,
                        attempt: status.attempt,
                    }
                };
                return Ok((found, None));
            }
        }
        if !is_damaged {
            self.check_whether_more_comes(run)?;
        }
        let message = self.message_at(turn, position).await?;
        let payload = message.filter(|job| job.run == *run).map(|job| job.payload);
        let found = match (&named, &payload) {
            _ if is_damaged => FoundRun::Lost {
                reason: DeadReason::RunDamaged,
            },
            (Named::Nobody, Some(payload)) => FoundRun::Missing {
                payload: payload.clone(),
            },
            (Named::Nobody, None) => FoundRun::Lost {
                reason: DeadReason::RunMissing,
            },
            (Named::Forks | Named::Damaged | Named::Stream { .. }, _) => FoundRun::Lost {
                reason: DeadReason::NameTaken,
            },
        };
        Ok((found, payload))
    }
}
