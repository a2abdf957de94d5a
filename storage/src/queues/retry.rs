//! An ended run is tried anew: as a fork of it, which is a run of its own. First it begins, and that its message is to
//! come stands in the same record; then the message is appended. A crash in between repeats the append, once.

use std::sync::Arc;

use tailwater_stream::queue::{Change, RunEvent, RunState, RunStatus};
use tailwater_stream::{ForkRefusal, ForkRequest, OffsetToken, Position, StreamName};

use super::error::QueueError;
use super::opened::{Enqueued, Opened, now_of};
use super::pending::outcome;
use super::record::{Extra, RecordError};
use super::{Queues, codec};
use crate::to_its_end::to_its_end;

/// How many names are tried for a run that is tried anew.
const NAMES_MAX: u64 = 10_000;

/// How much of a run one that tries it anew inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryFrom {
    /// What its worker was given.
    Start,
    /// All before and with its last checkpoint.
    Checkpoint,
    /// All before an offset.
    At(OffsetToken),
}

impl Queues {
    /// Tries an ended run anew. Answers once that is durable.
    ///
    /// # Errors
    /// [`QueueError`]; nothing is changed then.
    pub async fn retry(&self, run: &StreamName, from: RetryFrom) -> Result<Enqueued, QueueError> {
        let (opened, _) = self.find_by_run(run).await?;
        let (all, run) = (self.clone(), run.clone());
        to_its_end(async move { all.retry_in_turn(&opened, &run, from, None).await }).await
    }

    /// Likewise, and forgets the dead letter of the run.
    pub(super) async fn retry_in_turn(
        &self,
        opened: &Arc<Opened>,
        run: &StreamName,
        from: RetryFrom,
        dead: Option<Position>,
    ) -> Result<Enqueued, QueueError> {
        // A run that has ended does not change, and reading it may take long.
        let offset = self.retry_point(run, from).await?;
        let payload = self.payload_of(run).await?.ok_or(ForkRefusal::Trimmed)?;
        let mut turn = opened.lock().await;
        let turn = turn.as_mut().ok_or(QueueError::NotFound)?;
        if turn.queue.state().deleting {
            return Err(QueueError::Deleting);
        }
        // A queue of this name that was deleted named its runs otherwise, and no message of this one can mean them.
        if !run.as_str().starts_with(&*turn.queue.config().run_prefix) {
            return Err(QueueError::RunNotFound);
        }
        if turn.reader.incarnation().view().closed {
            return Err(QueueError::Closed);
        }
        if let Some(job) = dead {
            // Somebody else may have redriven or purged it.
            self.dead_letter(turn.id, job).await?;
        }
        for nth in 2..NAMES_MAX {
            let name = StreamName::parse(&format!("{run}.{nth}"), self.names());
            let name = name.map_err(|_too_long| QueueError::NameTaken { run: run.clone() })?;
            let request = ForkRequest {
                source: run.clone(),
                offset: Some(offset),
                sub_offset: 0,
            };
            let origin = self.shared.engine.origin_of_fork(request).await?;
            let number = turn.queue.state().retries;
            let now = now_of(&self.shared.engine);
            let mut changes = turn.queue.count_retry();
            if let Some(job) = dead {
                changes = turn.queue.bury_and_count_retry(job);
            }
            changes.push(Change::Begin {
                run: name.clone(),
                event: RunEvent::Queued {
                    queue: turn.queue.stream.clone(),
                    job: None,
                    payload: payload.clone(),
                    run_at: None,
                    retry_of: Some(run.clone()),
                },
                epoch: 0,
                status: RunStatus {
                    state: RunState::Queued,
                    attempt: 0,
                    queue: turn.queue.stream.clone(),
                    job: None,
                },
                at: now.wall,
            });
            let extra = Extra {
                origins: [(name.clone(), origin)].into_iter().collect(),
                controls: vec![(codec::retry_key(&name), Some(codec::encode_number(number)))],
                ..Extra::default()
            };
            match self.record(turn, &changes, extra, false).await {
                Ok(settling) => {
                    let others_come_first = turn.awaited.values().any(|other| *other >= turn.retries_sent);
                    turn.awaited.insert(name.clone(), number);
                    let sent = if others_come_first {
                        None
                    } else {
                        self.send_retry(turn, &name, number, payload).ok()
                    };
                    let settled = outcome(settling.settled().await);
                    let mut job = None;
                    if let Some((settling, start)) = sent {
                        match outcome(settling.settled().await) {
                            Ok(()) => job = start,
                            // That it is to come is stored, and it is sent again.
                            Err(_no_space) => turn.is_stale = true,
                        }
                    }
                    if settled.is_err() || turn.is_stale {
                        self.reload(opened, turn).await?;
                    }
                    opened.bell.notify_one();
                    settled?;
                    return Ok(Enqueued {
                        new: true,
                        job,
                        run: name,
                    });
                }
                Err(RecordError::NameTaken) => {}
                Err(error) => {
                    if turn.is_stale {
                        self.reload(opened, turn).await?;
                    }
                    return Err(error.into());
                }
            }
        }
        Err(QueueError::NameTaken { run: run.clone() })
    }

    /// Where a run that tries another one anew branches off.
    async fn retry_point(&self, run: &StreamName, from: RetryFrom) -> Result<OffsetToken, QueueError> {
        let reader = self
            .shared
            .engine
            .look(run)
            .await
            .map_err(|error| match QueueError::from(error) {
                QueueError::NotFound => QueueError::RunNotFound,
                error => error,
            })?;
        let incarnation = reader.incarnation();
        let view = incarnation.view();
        if !view.closed {
            let status = self.status_of(run, incarnation.id).await?;
            let state = status.map_or(RunState::Queued, |status| status.state);
            return Err(QueueError::NotEnded { state });
        }
        if view.oldest > Position::ZERO {
            return Err(ForkRefusal::Trimmed.into());
        }
        match from {
            RetryFrom::Start => {
                let records = reader.records(Position::ZERO, &view, 1).await?;
                let first = records.first().ok_or(QueueError::RunNotFound)?;
                Ok(incarnation.token(first.end))
            }
            RetryFrom::Checkpoint => {
                let checkpoint = self.last_checkpoint(run).await?;
                Ok(checkpoint.ok_or(QueueError::NoCheckpoint)?.end)
            }
            // Behind the last event is behind the end of the run.
            RetryFrom::At(offset) if offset.position() >= view.tail => Err(ForkRefusal::Offset.into()),
            RetryFrom::At(offset) => Ok(offset),
        }
    }
}
