//! Jobs of a queue are called off: by a purge, or all of them because the queue is deleted.

use std::sync::Arc;

use tailwater_stream::queue::Purge;
use tailwater_stream::{Position, StreamName};

use super::Queues;
use super::beside::Beside;
use super::codec;
use super::error::QueueError;
use super::opened::{Opened, Turn, now_of};
use super::pending::{Pending, outcome};
use super::record::Extra;
use super::recovery::Opening;
use crate::to_its_end::to_its_end;

/// Jobs that are called off in one record.
const PURGED_MAX: usize = 256;
/// Keys that are removed in one record.
const KEYS_MAX: usize = 1_000;
/// Batches of messages that are looked at between two purges.
const ADMISSIONS_MAX: usize = 16;

/// What a purge is to call off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeWhat {
    /// Jobs that are ready.
    Ready,
    /// Dead letters.
    Dead,
    /// All jobs that nobody has, and the dead letters. Workers are told to stop.
    All,
}

impl Queues {
    /// Calls jobs off that are there now, or forgets dead letters. Answers how many.
    ///
    /// # Errors
    /// [`QueueError`]; some may have been called off then.
    pub async fn purge(&self, queue: &StreamName, what: PurgeWhat) -> Result<u64, QueueError> {
        let opened = self.find(queue).await?;
        let all = self.clone();
        to_its_end(async move {
            let mut count = match what {
                PurgeWhat::Ready => {
                    all.purge_jobs(&opened, Purge::Ready, "the queue was purged")
                        .await?
                }
                PurgeWhat::All => {
                    all.purge_jobs(&opened, Purge::All, "the queue was purged")
                        .await?
                }
                PurgeWhat::Dead => 0,
            };
            if what != PurgeWhat::Ready {
                count += all.purge_dead(&opened).await?;
            }
            Ok(count)
        })
        .await
    }

    async fn purge_jobs(&self, opened: &Arc<Opened>, purge: Purge, reason: &str) -> Result<u64, QueueError> {
        let mut count = 0;
        let mut until = None;
        loop {
            let mut turn = opened.lock().await;
            let turn = turn.as_mut().ok_or(QueueError::NotFound)?;
            // Nothing more is looked at then.
            if purge != Purge::AtOnce && turn.queue.state().deleting {
                return Err(QueueError::Deleting);
            }
            let tail = turn.reader.incarnation().view().tail;
            let until = *until.get_or_insert(tail.max(turn.queue.state().admitted.position));
            // What was appended before is meant, too, once it has been looked at. Others have their turns meanwhile.
            if purge != Purge::AtOnce && turn.queue.state().admitted.position < until {
                self.admit_some(opened, turn).await?;
                continue;
            }
            let decided = turn
                .queue
                .purge(purge, reason, until, PURGED_MAX, now_of(&self.shared.engine));
            if decided.answer == 0 {
                // Those that have come since are not meant, however fast they come.
                let may_be_more = turn.queue.ahead_from().is_some_and(|from| from.position < until);
                if may_be_more && self.read_ahead(turn).await? {
                    continue;
                }
                return Ok(count);
            }
            let settled = match self.record(turn, &decided.changes, Extra::default(), true).await {
                Ok(settling) => outcome(settling.settled().await),
                Err(error) => Err(error.into()),
            };
            if settled.is_err() || turn.is_stale {
                self.reload(opened, turn).await?;
            }
            if let Err(QueueError::Adrift { run }) = &settled {
                self.agree_with(opened, turn, run).await?;
                continue;
            }
            settled?;
            count += decided.answer as u64;
        }
    }

    /// Looks at some more messages of a queue's stream, and waits until that is durable.
    async fn admit_some(&self, opened: &Arc<Opened>, turn: &mut Turn) -> Result<(), QueueError> {
        let mut pending = Pending::default();
        let mut admitted = Ok(true);
        for _ in 0..ADMISSIONS_MAX {
            if !matches!(admitted, Ok(true)) {
                break;
            }
            admitted = self.admit(turn, &mut pending).await;
        }
        let answered = self.answer(opened, turn, pending, Beside::nothing()).await;
        if turn.is_stale {
            self.reload(opened, turn).await?;
        }
        admitted.map(drop).and(answered)
    }

    /// Deletes a queue: all that is open is called off, whoever has a job is fenced off, and its stream is a plain one.
    ///
    /// # Errors
    /// [`QueueError`]. It goes on with the next start, or another call.
    pub async fn delete(&self, queue: &StreamName) -> Result<(), QueueError> {
        let opened = match self.find(queue).await {
            // One that an import has brought, and that cannot be served, must not stay for ever.
            Err(QueueError::PrefixTaken { .. } | QueueError::Unfit(_)) => {
                self.open_stored(queue, Opening::Deletion).await?
            }
            found => found?,
        };
        let all = self.clone();
        to_its_end(async move { all.delete_opened(&opened).await }).await
    }

    pub(super) async fn delete_opened(&self, opened: &Arc<Opened>) -> Result<(), QueueError> {
        {
            let mut turn = opened.lock().await;
            let turn = turn.as_mut().ok_or(QueueError::NotFound)?;
            let changes = turn.queue.begin_deletion();
            if !changes.is_empty() {
                // What was given to workers is no job of a queue that is made of the stream later.
                let taken = turn.queue.state().taken.position;
                let extra = Extra {
                    trim: Some(taken.min(turn.reader.incarnation().view().tail)),
                    ..Extra::default()
                };
                self.record_and_wait(opened, turn, &changes, extra).await?;
            }
            for claimant in turn.claimants.drain(..) {
                let _ = claimant.answer.send(Err(QueueError::Deleting));
            }
            // Their messages are not looked at any more, and stay in the plain stream.
            turn.tell_undecided(Position::LAST);
        }
        self.purge_jobs(opened, Purge::AtOnce, "the queue was deleted")
            .await?;
        let mut turn = opened.lock().await;
        let Some(deleted) = turn.as_mut() else {
            return Ok(());
        };
        for run in deleted.awaited.keys().cloned().collect::<Vec<_>>() {
            let now = now_of(&self.shared.engine);
            let changes = deleted
                .queue
                .cancel_without_job(&run, 0, Some("the queue was deleted"), now);
            match self
                .record_and_wait(opened, deleted, &changes, Extra::default())
                .await
            {
                Err(QueueError::Adrift { run }) => self.agree_with(opened, deleted, &run).await?,
                called_off => called_off?,
            }
        }
        self.remove_keys(opened, deleted).await?;
        self.shared
            .engine
            .delete_hidden(&StreamName::of_queue(&opened.name))
            .await?;
        opened.set_gone();
        self.forget(&opened.name);
        *turn = None;
        Ok(())
    }

    /// Removes the keys of a queue, that of its configuration with the last: a start that finds it goes on with the deletion.
    async fn remove_keys(&self, opened: &Arc<Opened>, turn: &mut Turn) -> Result<(), QueueError> {
        let all_others = [
            codec::ENDED_PREFIX,
            codec::JOB_PREFIX,
            codec::DEAD_PREFIX,
            codec::RETRY_PREFIX,
        ];
        for prefix in all_others.into_iter().chain([codec::QUEUE_PREFIX]) {
            loop {
                let engine = &self.shared.engine;
                let page = engine
                    .controls_behind(turn.id, prefix.to_vec(), None, KEYS_MAX)
                    .await?;
                if page.is_empty() {
                    break;
                }
                let extra = Extra {
                    controls: page.into_iter().map(|(key, _)| (key, None)).collect(),
                    ..Extra::default()
                };
                self.record_and_wait(opened, turn, &[], extra).await?;
            }
        }
        Ok(())
    }
}
