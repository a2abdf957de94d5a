//! Runs: found, shown, and called off.

use std::sync::Arc;

use tailwater_stream::queue::{OpenJob, RunState, RunStatus, Settled, WorkerRefusal};
use tailwater_stream::{Position, StreamId, StreamKind, StreamName, Timestamp};

use super::error::{QueueError, damaged};
use super::opened::{Opened, Turn, now_of};
use super::record::Extra;
use super::{Queues, codec};
use crate::to_its_end::to_its_end;

/// A run as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRun {
    /// Where it stands.
    pub status: RunStatus,
    /// When it began.
    pub created_at: Timestamp,
    /// When the last event came.
    pub last_event_at: Option<Timestamp>,
    /// Its job, if that has a key: because somebody has it, or it waits for something.
    pub open: Option<OpenJob>,
}

impl Queues {
    /// The queue of a run, and the run's stream.
    pub(super) async fn find_by_run(&self, run: &StreamName) -> Result<(Arc<Opened>, StreamId), QueueError> {
        let run_not_found = |error| match error {
            QueueError::NotFound => QueueError::RunNotFound,
            error => error,
        };
        let reader = self.shared.engine.look(run).await;
        let reader = reader.map_err(|error| run_not_found(error.into()))?;
        let incarnation = reader.incarnation();
        let queue = match (incarnation.kind, &incarnation.beside) {
            (StreamKind::Run, Some(queue)) => queue,
            _ => return Err(QueueError::RunNotFound),
        };
        let opened = self.find(queue).await.map_err(run_not_found)?;
        Ok((opened, incarnation.id))
    }

    /// A run as it is now, also if its queue has been deleted.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn run(&self, run: &StreamName) -> Result<ShownRun, QueueError> {
        let reader = match self.shared.engine.look(run).await {
            Ok(reader) => reader,
            Err(error) => {
                return Err(match error.into() {
                    QueueError::NotFound => QueueError::RunNotFound,
                    error => error,
                });
            }
        };
        let incarnation = reader.incarnation();
        if incarnation.kind != StreamKind::Run {
            return Err(QueueError::RunNotFound);
        }
        let open = match self.find_by_run(run).await {
            Ok((opened, _)) => {
                let turn = opened.turn.lock().await;
                let turn = turn.as_ref();
                turn.and_then(|turn| turn.queue.jobs().get(&turn.job_of(run)?).cloned())
            }
            Err(QueueError::RunNotFound) => None,
            Err(error) => return Err(error),
        };
        let status = self.status_of(run, incarnation.id).await?;
        Ok(ShownRun {
            status: status.ok_or(QueueError::RunNotFound)?,
            created_at: incarnation.created_at,
            last_event_at: incarnation.view().last_append_at,
            open,
        })
    }

    /// Where runs stand, as far as those streams are runs.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn statuses(&self, runs: Vec<StreamId>) -> Result<Vec<Option<RunStatus>>, QueueError> {
        let stored = self.shared.engine.control_of_each(runs, codec::RUN_KEY).await?;
        let decode = |value: Option<bytes::Bytes>| {
            let status = value.map(|value| codec::decode_status(&value)).transpose();
            status.map_err(|malformed| damaged("the state of a run", malformed))
        };
        stored.into_iter().map(decode).collect()
    }

    /// Calls a run off. A worker that has it is told so, and has the last word.
    ///
    /// # Errors
    /// [`QueueError`], for example if the run has ended.
    pub async fn cancel(&self, run: &StreamName, reason: Option<Box<str>>) -> Result<Settled, QueueError> {
        let (opened, id) = self.find_by_run(run).await?;
        let (all, run) = (self.clone(), run.clone());
        to_its_end(async move {
            let mut turn = opened.turn.lock().await;
            let turn = turn.as_mut().ok_or(QueueError::RunNotFound)?;
            let cancelled = all
                .cancel_in_turn(&opened, turn, &run, id, reason.as_deref())
                .await;
            opened.bell.notify_one();
            cancelled
        })
        .await
    }

    async fn cancel_in_turn(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        run: &StreamName,
        id: StreamId,
        reason: Option<&str>,
    ) -> Result<Settled, QueueError> {
        let now = now_of(&self.shared.engine);
        let at_once = Settled {
            state: RunState::Cancelled,
            retry_at: None,
        };
        let job = turn.job_of(run);
        if let Some(decided) = job.and_then(|job| turn.queue.cancel(job, reason, now)) {
            if !decided.changes.is_empty() {
                self.record_and_wait(opened, turn, &decided.changes, Extra::default())
                    .await?;
            }
            return Ok(decided.answer);
        }
        let status = self.status_of(run, id).await?.ok_or(QueueError::RunNotFound)?;
        if status.state.has_ended() {
            return Err(WorkerRefusal::Ended { state: status.state }.into());
        }
        let changes = if turn.awaited.contains_key(run) {
            turn.queue.cancel_awaited(run, reason, now)
        } else {
            let job = self.unkeyed(turn, status.job).await?;
            turn.queue.cancel_unkeyed(&job, reason, now)
        };
        self.record_and_wait(opened, turn, &changes, Extra::default())
            .await?;
        Ok(at_once)
    }

    /// A job that has no key, from its message.
    async fn unkeyed(
        &self,
        turn: &Turn,
        job: Option<Position>,
    ) -> Result<tailwater_stream::queue::Job, QueueError> {
        let state = turn.queue.state();
        let position = job.ok_or(QueueError::RunNotFound)?;
        if position < state.taken.position || position >= state.admitted.position {
            return Err(QueueError::RunNotFound);
        }
        if let Some(job) = turn.queue.ahead().iter().find(|job| job.position == position) {
            return Ok(job.clone());
        }
        let from = tailwater_stream::queue::Frontier {
            position,
            messages: 0,
        };
        let read = self.read_messages(turn, from, state.admitted.position, 1).await?;
        let message = read.into_iter().next().ok_or(QueueError::RunNotFound)?;
        message
            .into_job(turn.queue.config())
            .ok_or(QueueError::RunNotFound)
    }
}
