//! Dead letters: those of a queue are listed, tried anew, and forgotten. They stay in the store and are read in pages, so
//! that any number of them takes no memory.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::queue::{DeadReason, Envelope, EnvelopeRefusal};
use tailwater_stream::{AppendDecision, ForkRefusal, Position, StreamId, StreamName, Timestamp};

use super::Queues;
use super::codec::{self, StoredDead};
use super::enqueue::append_error;
use super::error::{QueueError, damaged};
use super::opened::{Enqueued, Opened, Turn};
use super::pending::outcome;
use super::record::{Extra, QUEUE, RecordError, check_ground, control_of, json};
use super::retry::RetryFrom;
use crate::to_its_end::to_its_end;

/// Dead letters that are read or forgotten at once.
const PAGE: usize = 1_000;
/// Dead letters that are named which were not tried anew; more are counted.
const LEFT_MAX: usize = 100;

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

/// What became of dead letters that were to be tried anew.
#[derive(Debug, Clone, Default)]
pub struct Redriven {
    /// The new runs.
    pub redriven: Vec<Enqueued>,
    /// Those that were left, each with the reason why. The first of them, if they are many.
    pub left: Vec<(Position, QueueError)>,
    /// How many others were left.
    pub more_left: u64,
}

impl Redriven {
    fn leave(&mut self, job: Position, why: QueueError) {
        if self.left.len() < LEFT_MAX {
            self.left.push((job, why));
        } else {
            self.more_left += 1;
        }
    }
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
        let id = opened.lock().await.as_ref().ok_or(QueueError::NotFound)?.id;
        let mut stored = self.stored_dead(id, after, count_max.saturating_add(1)).await?;
        let more = stored.len() > count_max;
        stored.truncate(count_max);
        let dead = stored.into_iter().map(|(job, stored)| DeadJob {
            job,
            run: stored.run,
            reason: stored.reason,
            attempt: stored.attempt,
            at: stored.at,
        });
        Ok((dead.collect(), more))
    }

    async fn stored_dead(
        &self,
        id: StreamId,
        after: Option<Position>,
        count_max: usize,
    ) -> Result<Vec<(Position, StoredDead)>, QueueError> {
        let prefix = codec::DEAD_PREFIX.to_vec();
        let after = after.map(codec::dead_key);
        let stored = self.shared.engine.controls_behind(id, prefix, after, count_max);
        let place = "the dead letters of a queue";
        let decode = |(key, value): (Bytes, Bytes)| {
            let job = codec::job_of(&key, codec::DEAD_PREFIX)?;
            Ok((job, codec::decode_dead(&value)?))
        };
        let stored: Result<_, _> = stored.await?.into_iter().map(decode).collect();
        stored.map_err(|malformed| damaged(place, malformed))
    }

    /// A dead letter that was neither redriven nor purged.
    ///
    /// # Errors
    /// [`QueueError::DeadNotFound`] if there is none.
    pub(super) async fn dead_letter(&self, id: StreamId, job: Position) -> Result<StoredDead, QueueError> {
        let stored = self.shared.engine.control_at(id, codec::dead_key(job)).await?;
        let stored = stored.ok_or(QueueError::DeadNotFound)?;
        codec::decode_dead(&stored).map_err(|malformed| damaged("the dead letters of a queue", malformed))
    }

    /// Tries one dead letter anew.
    ///
    /// # Errors
    /// [`QueueError`]; nothing is changed then.
    pub async fn redrive(&self, queue: &StreamName, job: Position) -> Result<Enqueued, QueueError> {
        let opened = self.find(queue).await?;
        let id = opened.lock().await.as_ref().ok_or(QueueError::NotFound)?.id;
        let letter = self.dead_letter(id, job).await?;
        let all = self.clone();
        to_its_end(async move {
            let retried = match &letter.run {
                Some(run) if all.is_run_of(run, job).await? => {
                    all.retry_in_turn(&opened, run, RetryFrom::Start, Some(job)).await
                }
                _ => Err(QueueError::RunNotFound),
            };
            match retried {
                // What it never had, or has lost since, stands in its letter; and the name of its run may be as long as names
                // are, with no room for a number behind it.
                Err(
                    QueueError::RunNotFound
                    | QueueError::Fork(ForkRefusal::Trimmed)
                    | QueueError::NameTaken { .. },
                ) => all.enqueue_dead(&opened, job).await,
                retried => retried,
            }
        })
        .await
    }

    /// Whether a run is that of a job, and not a later one of its name.
    async fn is_run_of(&self, run: &StreamName, job: Position) -> Result<bool, QueueError> {
        let reader = match self.shared.engine.look(run).await.map_err(QueueError::from) {
            Ok(reader) => reader,
            Err(QueueError::NotFound) => return Ok(false),
            Err(error) => return Err(error),
        };
        let status = self.status_of(run, reader.incarnation().id).await?;
        Ok(status.is_some_and(|status| status.job == Some(job)))
    }

    /// Tries all dead letters anew that are there now. One that cannot be tried anew, such as one that is no job, keeps no
    /// other one from it.
    ///
    /// # Errors
    /// [`QueueError`] if none can be tried anew; some may have been then.
    pub async fn redrive_all(&self, queue: &StreamName) -> Result<Redriven, QueueError> {
        // Those that are tried anew may be given up again meanwhile, and stand behind it.
        let until = {
            let opened = self.find(queue).await?;
            let turn = opened.lock().await;
            let turn = turn.as_ref().ok_or(QueueError::NotFound)?;
            turn.queue.state().admitted.position
        };
        let (mut redriven, mut after) = (Redriven::default(), None);
        loop {
            let (dead, more) = self.dead(queue, after, PAGE).await?;
            for letter in dead.iter().take_while(|letter| letter.job < until) {
                match self.redrive(queue, letter.job).await {
                    Ok(enqueued) => redriven.redriven.push(enqueued),
                    // Somebody else has redriven or purged it meanwhile.
                    Err(QueueError::DeadNotFound) => {}
                    Err(error) if keeps_all(&error) => return Err(error),
                    Err(error) => redriven.leave(letter.job, error),
                }
            }
            after = dead.last().map(|letter| letter.job);
            if !more || after.is_none_or(|after| after >= until) {
                return Ok(redriven);
            }
        }
    }

    /// Appends a job again whose run cannot be tried anew, and forgets its dead letter in the same record.
    async fn enqueue_dead(&self, opened: &Arc<Opened>, job: Position) -> Result<Enqueued, QueueError> {
        let mut turn = opened.lock().await;
        let turn = turn.as_mut().ok_or(QueueError::NotFound)?;
        if turn.queue.state().deleting {
            return Err(QueueError::Deleting);
        }
        let letter = self.dead_letter(turn.id, job).await?;
        let envelope = self.envelope_of(turn, job, &letter).await?;
        let changes = turn.queue.bury(&[job]);
        let (id, footing) = (turn.id, turn.footing);
        let held = std::slice::from_ref(&turn.stream);
        let sent = self.shared.engine.together(held, |draft| {
            check_ground(draft, id, footing)?;
            let message = json(envelope.message());
            let appended = draft.append_whatever_its_size(QUEUE, message, None, false);
            let AppendDecision::Accept(append) = appended.map_err(append_error)? else {
                return Err(RecordError::from(QueueError::Closed));
            };
            for (key, value) in changes.iter().filter_map(control_of) {
                draft.control(QUEUE, key, value);
            }
            Ok(append.start)
        });
        let settled = match sent {
            Ok((start, settling)) => {
                turn.apply(&changes);
                outcome(settling.settled().await).map(|()| start)
            }
            Err(error) => {
                turn.is_stale |= matches!(error, RecordError::Stale);
                Err(error.into())
            }
        };
        if turn.is_stale || matches!(settled, Err(QueueError::Engine(_))) {
            self.reload(opened, turn).await?;
        }
        opened.bell.notify_one();
        let start = settled?;
        let candidate = turn.queue.config().candidate_of(envelope, start, self.names())?;
        Ok(Enqueued {
            new: true,
            job: Some(start),
            run: candidate.run,
        })
    }

    /// What was to be done, as a job of its own: its id was another job's, cannot be one, or means a run that is gone.
    async fn envelope_of(
        &self,
        turn: &Turn,
        job: Position,
        letter: &StoredDead,
    ) -> Result<Envelope, QueueError> {
        let told = match letter.letter {
            Some(at) => self.read_letter(turn, job, at).await?,
            None => None,
        };
        let told = told.ok_or(QueueError::DeadLost)?;
        let mut envelope = match letter.reason {
            DeadReason::InvalidEnvelope => Envelope::parse(&told).map_err(QueueError::DeadInvalid)?,
            _ => Envelope::of_payload(told),
        };
        let config = turn.queue.config();
        if let Err(EnvelopeRefusal::Id { .. }) = envelope.value_for(config, self.names()) {
            envelope.id = None;
        }
        envelope
            .value_for(config, self.names())
            .map_err(QueueError::DeadInvalid)?;
        Ok(envelope)
    }

    /// Forgets all dead letters that are there now, also in their stream. Answers how many.
    pub(super) async fn purge_dead(&self, opened: &Arc<Opened>) -> Result<u64, QueueError> {
        let (dead_letter, is_shared) = {
            let turn = opened.lock().await;
            let turn = turn.as_ref().ok_or(QueueError::NotFound)?;
            (
                turn.queue.config().dead_letter.clone(),
                self.shares_dead_letters(turn),
            )
        };
        // There may be many of them, and others have their turns meanwhile.
        let has_others = is_shared || self.has_letters_of_others(&dead_letter, &opened.name).await?;
        let mut turn = opened.lock().await;
        let turn = turn.as_mut().ok_or(QueueError::NotFound)?;
        let mut count = 0;
        loop {
            let page = self.stored_dead(turn.id, None, PAGE).await?;
            if page.is_empty() {
                return Ok(count);
            }
            let jobs: Vec<Position> = page.into_iter().map(|(job, _)| job).collect();
            let changes = turn.queue.bury(&jobs);
            let extra = Extra {
                // What other queues have put there stays.
                trims_dead: count == 0 && !has_others && !self.shares_dead_letters(turn),
                ..Extra::default()
            };
            self.record_and_wait(opened, turn, &changes, extra).await?;
            count += jobs.len() as u64;
        }
    }
}

/// Whether what keeps a dead letter from being tried anew keeps all others, too.
fn keeps_all(error: &QueueError) -> bool {
    match error {
        error if error.is_damage() => false,
        QueueError::NotFound
        | QueueError::Stopping
        | QueueError::Deleting
        | QueueError::Closed
        | QueueError::Append(_)
        | QueueError::Engine(_) => true,
        _ => false,
    }
}
