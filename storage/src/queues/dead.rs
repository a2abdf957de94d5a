//! Dead letters: those of a queue are listed, tried anew, and forgotten.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use tailwater_stream::queue::{Change, DeadReason};
use tailwater_stream::{Position, StreamName, Timestamp};

use super::error::{QueueError, damaged};
use super::opened::{Enqueued, Opened};
use super::record::Extra;
use super::retry::RetryFrom;
use super::{Queues, codec};
use crate::to_its_end::to_its_end;

/// Dead letters that are forgotten in one record.
const BURIED_MAX: usize = 1_000;

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadJob {
    /// The job.
    pub job: Position,
    /// Its run; none if it never had one.
    pub run: Option<StreamName>,
    /// Why.
    pub reason: DeadReason,
    /// Attempts that were made.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
}

impl Queues {
    /// Dead letters of a queue in the order of their jobs, behind `after`, at most `count_max`, and whether more follow.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn dead(
        &self,
        queue: &StreamName,
        after: Option<Position>,
        count_max: usize,
    ) -> Result<(Vec<DeadJob>, bool), QueueError> {
        let opened = self.find(queue).await?;
        let turn = opened.turn.lock().await;
        let turn = turn.as_ref().ok_or(QueueError::NotFound)?;
        let from = after.map_or(Unbounded, Excluded);
        let mut keys: Vec<_> = turn
            .dead
            .range((from, Unbounded))
            .take(count_max + 1)
            .map(|job| codec::dead_key(*job))
            .collect();
        let more = keys.len() > count_max;
        keys.truncate(count_max);
        let stored = self.shared.engine.controls_at(turn.id, keys).await?;
        let mut dead = Vec::with_capacity(stored.len());
        for (key, value) in stored {
            let place = "the dead letters of a queue";
            let job =
                codec::job_of(&key, codec::DEAD_PREFIX).map_err(|malformed| damaged(place, malformed))?;
            let Some(value) = value else { continue };
            let stored = codec::decode_dead(&value).map_err(|malformed| damaged(place, malformed))?;
            dead.push(DeadJob {
                job,
                run: stored.run,
                reason: stored.reason,
                attempt: stored.attempt,
                at: stored.at,
            });
        }
        Ok((dead, more))
    }

    /// Tries one dead letter anew, or all that have runs. Answers the new runs.
    ///
    /// # Errors
    /// [`QueueError`]; some may be tried anew then.
    pub async fn redrive(
        &self,
        queue: &StreamName,
        job: Option<Position>,
    ) -> Result<Vec<Enqueued>, QueueError> {
        let mut redriven = Vec::new();
        let mut after = job
            .and_then(|job| job.get().checked_sub(1))
            .and_then(Position::new);
        loop {
            let count_max = if job.is_some() { 1 } else { 100 };
            let (dead, more) = self.dead(queue, after, count_max).await?;
            for letter in &dead {
                match &letter.run {
                    Some(run) if job.is_none_or(|job| job == letter.job) => {
                        redriven.push(self.retry_dead(queue, letter.job, run).await?);
                    }
                    None if job == Some(letter.job) => return Err(QueueError::DeadWithoutRun),
                    _ => {}
                }
            }
            after = dead.last().map(|letter| letter.job);
            if job.is_some() && redriven.is_empty() {
                return Err(QueueError::DeadNotFound);
            }
            if job.is_some() || !more {
                return Ok(redriven);
            }
        }
    }

    async fn retry_dead(
        &self,
        queue: &StreamName,
        job: Position,
        run: &StreamName,
    ) -> Result<Enqueued, QueueError> {
        let opened = self.find(queue).await?;
        let (all, run) = (self.clone(), run.clone());
        to_its_end(async move {
            all.retry_in_turn(&opened, &run, RetryFrom::Start, Some(job))
                .await
        })
        .await
    }

    /// Forgets all dead letters that are there now, also in their stream. Answers how many.
    pub(super) async fn purge_dead(&self, opened: &Arc<Opened>) -> Result<u64, QueueError> {
        let mut turn = opened.turn.lock().await;
        let turn = turn.as_mut().ok_or(QueueError::NotFound)?;
        let jobs: Vec<Position> = turn.dead.iter().copied().collect();
        for chunk in jobs.chunks(BURIED_MAX) {
            let mut state = turn.queue.state().clone();
            let mut changes: Vec<Change> = Vec::new();
            for job in chunk {
                state.dead_letters = state.dead_letters.saturating_sub(1);
                changes.push(Change::Buried { job: *job });
            }
            changes.push(Change::State(Box::new(state)));
            let extra = Extra {
                trims_dead: true,
                ..Extra::default()
            };
            self.record_and_wait(opened, turn, &changes, extra).await?;
        }
        Ok(jobs.len() as u64)
    }
}
