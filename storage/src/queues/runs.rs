//! Runs: found, shown, and called off.

use std::sync::Arc;

use tailwater_stream::queue::{Frontier, Job, OpenJob, RunState, RunStatus, Settled, WorkerRefusal};
use tailwater_stream::{Position, StreamId, StreamKind, StreamName, Timestamp, kind};

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

/// What has a name.
pub(super) enum Named {
    /// Nothing.
    Nobody,
    /// A deleted stream that forks do not let go of.
    Forks,
    /// A stream that cannot be read.
    Damaged,
    /// A stream.
    Stream {
        /// Which one.
        id: StreamId,
        /// What it is for.
        kind: StreamKind,
        /// The queue's stream, if it is a run.
        queue: Option<StreamName>,
        /// Whether it takes no more.
        closed: bool,
        /// Epoch and last number of its lease, if it is a run.
        lease: (u64, u64),
    },
}

/// How often a name is looked at that a deleted stream has.
const LOOKS_MAX: usize = 8;

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
                let turn = opened.lock().await;
                let turn = turn.as_ref();
                turn.and_then(|turn| turn.queue.jobs().get(&turn.job_of(run)?).cloned())
            }
            // Its queue was deleted, or is not served.
            Err(QueueError::RunNotFound | QueueError::PrefixTaken { .. } | QueueError::Unfit(_)) => None,
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
            let mut turn = opened.lock().await;
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
            turn.queue.cancel_without_job(run, 0, reason, now)
        } else if let Some(job) = self.unkeyed(turn, run, status.job).await? {
            turn.queue.cancel_unkeyed(&job, reason, now)
        } else {
            // An import has brought it as of another moment than the queue.
            let Named::Stream { lease, .. } = self.who_has(run).await? else {
                return Err(QueueError::RunNotFound);
            };
            turn.queue.cancel_without_job(run, lease.0, reason, now)
        };
        self.record_and_wait(opened, turn, &changes, Extra::default())
            .await?;
        Ok(at_once)
    }

    /// What has a name.
    pub(super) async fn who_has(&self, name: &StreamName) -> Result<Named, QueueError> {
        let engine = &self.shared.engine;
        let mut looks_at_deleted = 0;
        loop {
            let held = match engine
                .hold(std::slice::from_ref(name))
                .await
                .map_err(QueueError::from)
            {
                Err(error) if error.is_damage() => {
                    tracing::error!(stream = %name, %error, "a stream that has the name of a run cannot be read");
                    return Ok(Named::Damaged);
                }
                held => held?,
            };
            let (found, settling) = engine.together(&held, |draft| {
                let is_free = draft.check_free(0).is_ok();
                let stream = draft.state(0).map(|state| {
                    let lease = state.producers.get(&kind::lease_producer());
                    Named::Stream {
                        id: state.id,
                        kind: state.kind,
                        queue: state.beside.clone(),
                        closed: state.closed,
                        lease: lease.map_or((0, 0), |lease| (lease.epoch.get(), lease.seq.get())),
                    }
                });
                Ok::<_, QueueError>((stream, is_free))
            })?;
            match settling.settled().await {
                crate::engine::Settled::Durable => {}
                crate::engine::Settled::DecideAgain | crate::engine::Settled::Full => continue,
                crate::engine::Settled::Failed => return Err(crate::BackendError::Poisoned.into()),
            }
            match found {
                (Some(stream), _) => return Ok(stream),
                (None, true) => return Ok(Named::Nobody),
                // To hold the name frees it, unless forks hold it or another one was deleted since.
                (None, false) if looks_at_deleted == LOOKS_MAX => return Ok(Named::Forks),
                (None, false) => looks_at_deleted += 1,
            }
        }
    }

    /// The state of a run as it is stored.
    pub(super) async fn status_of(
        &self,
        run: &StreamName,
        id: StreamId,
    ) -> Result<Option<RunStatus>, QueueError> {
        let stored = self.shared.engine.control(id, codec::RUN_KEY).await?;
        let status = stored.map(|value| codec::decode_status(&value));
        status
            .transpose()
            .map_err(|malformed| damaged(&format!("the run `{run}`"), malformed))
    }

    /// The job of a message that is still there.
    pub(super) async fn message_at(
        &self,
        turn: &Turn,
        position: Position,
    ) -> Result<Option<Job>, QueueError> {
        if position < turn.reader.incarnation().view().oldest {
            return Ok(None);
        }
        let from = Frontier {
            position,
            messages: 0,
        };
        let admitted = turn.queue.state().admitted.position;
        let read = self.read_messages(turn, from, admitted, 1).await?;
        let message = read.into_iter().next();
        Ok(message.and_then(|message| message.into_job(turn.queue.config(), turn.created_at)))
    }

    /// The job of a run, which has no key, from its message. There always is one for a run that has not ended, has no job that
    /// has a key and is not awaited; but for one that an import has brought as of another moment than the queue.
    pub(super) async fn unkeyed(
        &self,
        turn: &Turn,
        run: &StreamName,
        job: Option<Position>,
    ) -> Result<Option<Job>, QueueError> {
        let state = turn.queue.state();
        let between = state.taken.position..state.admitted.position;
        let Some(position) = job.filter(|job| between.contains(job) && !turn.queue.jobs().contains_key(job))
        else {
            return Ok(None);
        };
        let ahead = turn.queue.ahead().iter().find(|job| job.position == position);
        let job = match ahead {
            Some(job) => Some(job.clone()),
            None => self.message_at(turn, position).await?,
        };
        // In another stream of the name another message may stand there.
        Ok(job.filter(|job| job.run == *run))
    }
}
