//! What workers ask for: jobs, and that they still have them, and how their leases end.

use std::collections::VecDeque;
use std::sync::Arc;

use tailwater_stream::queue::{Beat, Change, JsonText, Leased, RunStatus, Settled, Word, WorkerRefusal};
use tailwater_stream::{OffsetToken, Position, StreamName, kind};

use super::Queues;
use super::error::QueueError;
use super::opened::{Answer, Claimant, Command, Handover, Opened, Turn, now_of};
use super::pending::Pending;
use super::record::{Extra, RecordError};
use crate::engine::{EngineError, Reader};

/// A job that a worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The job.
    pub job: Position,
    /// Its run.
    pub run: StreamName,
    /// The epoch of its lease.
    pub epoch: u64,
    /// The how-manieth attempt, from 1.
    pub attempt: u32,
    /// How long the worker may be silent.
    pub lease_ms: u64,
    /// What it is given.
    pub payload: JsonText,
    /// From where a reader of the run begins with its last checkpoint; none if there is none.
    pub resume_from: Option<OffsetToken>,
}

/// A claim that was given jobs whose messages have so many bytes is given no more of them, however many it asks for.
const CLAIM_BYTES: u64 = 4 << 20;
/// So many jobs are leased between two looks at their bytes.
const CLAIMED_AT_ONCE: usize = 16;

/// The last checkpoint of a run.
pub(super) struct Checkpoint {
    pub(super) start: OffsetToken,
    pub(super) end: OffsetToken,
}

impl Queues {
    /// Gives at most `count_max` jobs to a worker, and waits for at most `wait_ms` until there is one. If whoever waits goes
    /// away, nobody has them.
    ///
    /// # Errors
    /// [`QueueError`]. Of jobs that cannot be read nobody is told; their leases end, which counts as an attempt.
    pub async fn claim(
        &self,
        queue: &StreamName,
        worker: &str,
        count_max: usize,
        wait_ms: u64,
    ) -> Result<Vec<Claimed>, QueueError> {
        let opened = self.find(queue).await?;
        let until_ms = self.shared.engine.monotonic_ms().saturating_add(wait_ms);
        let handover = self
            .ask(&opened, |answer| {
                Command::Claim(Claimant {
                    worker: worker.into(),
                    count_max,
                    until_ms,
                    answer,
                })
            })
            .await?;
        let mut claimed = Vec::with_capacity(handover.leased().len());
        let mut failure = None;
        for leased in handover.leased() {
            match self.claimed(leased.clone()).await {
                Ok(one) => claimed.push(one),
                Err(error) => failure = Some(error),
            }
        }
        handover.take_over();
        match failure {
            Some(error) if claimed.is_empty() => Err(error),
            _ => Ok(claimed),
        }
    }

    async fn claimed(&self, leased: Leased) -> Result<Claimed, QueueError> {
        let payload = match leased.payload {
            Some(payload) => payload,
            None => self
                .payload_of(&leased.run)
                .await?
                .ok_or(QueueError::RunNotFound)?,
        };
        // A run that nobody has begun before has a checkpoint only if it inherits one.
        let may_have_one = leased.epoch > 1 || {
            let reader = self.shared.engine.look(&leased.run).await?;
            reader.incarnation().source.is_some()
        };
        let checkpoint = if may_have_one {
            self.last_checkpoint(&leased.run).await?
        } else {
            None
        };
        Ok(Claimed {
            job: leased.job,
            run: leased.run,
            epoch: leased.epoch,
            attempt: leased.attempt,
            lease_ms: leased.lease_ms,
            payload,
            resume_from: checkpoint.map(|checkpoint| checkpoint.start),
        })
    }

    /// A worker is still at it.
    ///
    /// # Errors
    /// [`QueueError`], for example if its lease is over.
    pub async fn heartbeat(&self, run: &StreamName, epoch: u64) -> Result<Beat, QueueError> {
        let came_ms = self.shared.engine.monotonic_ms();
        let (opened, id) = self.find_by_run(run).await?;
        let name = run.clone();
        let beat = self
            .ask(&opened, |answer| Command::Beat {
                run: name,
                epoch,
                came_ms,
                answer,
            })
            .await;
        match beat {
            Err(QueueError::Worker(refusal)) => match self.status_of(run, id).await? {
                Some(RunStatus { state, .. }) if state.has_ended() => {
                    Err(WorkerRefusal::Ended { state }.into())
                }
                _ => Err(refusal.into()),
            },
            beat => beat,
        }
    }

    /// A worker ends its lease.
    ///
    /// # Errors
    /// [`QueueError`]; the lease is as before then.
    pub async fn settle_lease(
        &self,
        run: &StreamName,
        lease: (u64, u64),
        word: Word,
    ) -> Result<Settled, QueueError> {
        let came_ms = self.shared.engine.monotonic_ms();
        let (opened, id) = self.find_by_run(run).await?;
        let name = run.clone();
        let said = word.clone();
        let settled = self
            .ask(&opened, |answer| Command::Settle {
                run: name,
                lease,
                word: said,
                came_ms,
                answer,
            })
            .await;
        match settled {
            Err(QueueError::Worker(refusal)) => self.ended_before(run, id, lease, &word, refusal).await,
            settled => settled,
        }
    }

    /// The answer to a worker that has ended the run by this very call before.
    async fn ended_before(
        &self,
        run: &StreamName,
        id: tailwater_stream::StreamId,
        (epoch, seq): (u64, u64),
        word: &Word,
        refusal: WorkerRefusal,
    ) -> Result<Settled, QueueError> {
        use tailwater_stream::queue::RunState::{Cancelled, Dead, Succeeded};
        let Some(status) = self
            .status_of(run, id)
            .await?
            .filter(|status| status.state.has_ended())
        else {
            return Err(refusal.into());
        };
        let held = self.shared.engine.hold(std::slice::from_ref(run)).await?;
        let (last, _settling) = self.shared.engine.together(&held, |draft| {
            let lease = draft
                .state(0)
                .and_then(|state| state.producers.get(&kind::lease_producer()).copied());
            Ok::<_, QueueError>(lease)
        })?;
        let is_last = last.is_some_and(|last| (last.epoch.get(), last.seq.get()) == (epoch, seq));
        let is_so = match word {
            Word::Complete { .. } => status.state == Succeeded,
            Word::Fail { .. } => matches!(status.state, Dead | Cancelled),
            Word::Release => status.state == Cancelled,
        };
        if is_last && is_so {
            return Ok(Settled {
                state: status.state,
                retry_at: None,
            });
        }
        Err(WorkerRefusal::Ended { state: status.state }.into())
    }

    pub(super) fn beat(
        &self,
        turn: &mut Turn,
        run: &StreamName,
        epoch: u64,
        answer: Answer<Beat>,
        pending: &mut Pending,
    ) {
        let position = turn.job_of(run);
        let decided = turn.queue.heartbeat(
            position.unwrap_or(Position::LAST),
            epoch,
            now_of(&self.shared.engine),
        );
        let said = decided.map(|decided| {
            turn.apply(&decided.changes);
            decided.answer
        });
        if said.is_err() {
            self.shared.stats.fenced.add(1);
        }
        pending.push(None, answer, said.map_err(Into::into));
    }

    pub(super) async fn settle(
        &self,
        turn: &mut Turn,
        run: &StreamName,
        lease: (u64, u64),
        word: &Word,
        answer: Answer<Settled>,
        pending: &mut Pending,
    ) {
        let position = turn.job_of(run).unwrap_or(Position::LAST);
        let now = now_of(&self.shared.engine);
        let decided = match turn.queue.settle(position, lease, word, now, fastrand::u64(..)) {
            Ok(decided) => decided,
            Err(refusal) => {
                self.shared.stats.fenced.add(1);
                pending.push(None, answer, Err(refusal.into()));
                return;
            }
        };
        if decided.changes.is_empty() {
            pending.push(None, answer, Ok(decided.answer));
            return;
        }
        let extra = Extra {
            speaks: Some((run.clone(), lease)),
            ..Extra::default()
        };
        match self.record(turn, &decided.changes, extra, false).await {
            Ok(settling) => pending.push(Some(settling), answer, Ok(decided.answer)),
            Err(error) => pending.push(None, answer, Err(error.into())),
        }
    }

    /// Takes a job back from somebody who had gone away when it was to be handed over.
    pub(super) async fn give_back(
        &self,
        turn: &mut Turn,
        job: Position,
        epoch: u64,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        let now = now_of(&self.shared.engine);
        let Ok(decided) = turn.queue.settle(job, (epoch, 1), &Word::Release, now, 0) else {
            return Ok(());
        };
        let settling = self
            .record(turn, &decided.changes, Extra::default(), false)
            .await?;
        pending.push_silent(settling);
        Ok(())
    }

    /// Gives jobs to those who wait for them, in the order in which they came.
    pub(super) async fn serve(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        let served = match turn.adrift.keys().next() {
            Some(run) => Err(QueueError::Adrift { run: run.clone() }),
            None => self.serve_those_there_are_jobs_for(opened, turn, pending).await,
        };
        // It is put right once this turn is over, and they are served then.
        if matches!(served, Err(QueueError::Adrift { .. })) && turn.paused_until_ms.is_none() {
            return served;
        }
        let now_ms = self.shared.engine.monotonic_ms();
        let claimants = std::mem::take(&mut turn.claimants);
        let (due, waiting): (VecDeque<_>, VecDeque<_>) = claimants
            .into_iter()
            .partition(|claimant| claimant.until_ms <= now_ms || claimant.answer.is_closed());
        turn.claimants = waiting;
        for claimant in due {
            // Whoever waits no longer, and is still there, is told why there is no job, too.
            let nothing = served.clone().map(|()| Handover::new(opened, Vec::new()));
            pending.push(None, claimant.answer, nothing);
        }
        served
    }

    async fn serve_those_there_are_jobs_for(
        &self,
        opened: &Arc<Opened>,
        turn: &mut Turn,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        while let Some(claimant) = turn.claimants.front() {
            if claimant.answer.is_closed() {
                turn.claimants.pop_front();
                continue;
            }
            let (worker, count_max) = (claimant.worker.clone(), claimant.count_max);
            let (changes, leased) = self.lease(turn, &worker, count_max).await?;
            if changes.is_empty() {
                break;
            }
            let recorded = self.record(turn, &changes, Extra::default(), true).await;
            if leased.is_empty() {
                // Jobs were only passed over.
                pending.push_silent(recorded?);
                break;
            }
            let Some(claimant) = turn.claimants.pop_front() else {
                break;
            };
            match recorded {
                Ok(settling) => pending.push_claim(settling, opened, claimant.answer, leased),
                Err(error @ RecordError::Adrift { .. }) => {
                    turn.claimants.push_front(claimant);
                    return Err(error.into());
                }
                Err(error) => {
                    let _ = claimant.answer.send(Err(error.into()));
                    return Err(EngineError::Full.into());
                }
            }
            if turn.is_stale {
                break;
            }
        }
        Ok(())
    }

    async fn lease(
        &self,
        turn: &mut Turn,
        worker: &str,
        count_max: usize,
    ) -> Result<(Vec<Change>, Vec<Leased>), QueueError> {
        let (mut changes, mut leased) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        loop {
            let now = now_of(&self.shared.engine);
            let count = (count_max - leased.len()).min(CLAIMED_AT_ONCE);
            let decided = turn
                .queue
                .claim(worker, count, self.shared.limits.held_jobs_max, now);
            let is_all = decided.answer.len() < count;
            bytes += decided
                .answer
                .iter()
                .map(|leased| length(turn, leased))
                .sum::<u64>();
            changes.extend(decided.changes);
            leased.extend(decided.answer);
            if leased.len() == count_max || bytes >= CLAIM_BYTES || !turn.queue.may_lease() {
                return Ok((changes, leased));
            }
            if !is_all {
                continue;
            }
            let read = if turn.queue.ahead().is_empty() {
                self.read_ahead(turn).await
            } else {
                Ok(false)
            };
            match read {
                Ok(true) => {}
                // What was leased already is given out; whoever asks for more is told of the trouble.
                Err(error) if changes.is_empty() => return Err(error),
                Ok(false) | Err(_) => return Ok((changes, leased)),
            }
        }
    }

    /// The last event `checkpoint` of a run.
    pub(super) async fn last_checkpoint(&self, run: &StreamName) -> Result<Option<Checkpoint>, QueueError> {
        let reader = self.shared.engine.look(run).await?;
        let view = reader.incarnation().view();
        let mut from = view.oldest;
        let mut last = None;
        while from < view.tail {
            for record in reader.records(from, &view, 1 << 20).await? {
                if is_checkpoint(&record.data) {
                    last = Some((from, record.end));
                }
                from = record.end;
            }
        }
        let token = |reader: &Reader, position| reader.incarnation().token(position);
        Ok(last.map(|(start, end)| Checkpoint {
            start: token(&reader, start),
            end: token(&reader, end),
        }))
    }
}

/// The length of the message of a job that was leased just now.
fn length(turn: &Turn, leased: &Leased) -> u64 {
    let job = turn.queue.jobs().get(&leased.job);
    job.map_or(0, |job| job.end.since(leased.job))
}

fn is_checkpoint(message: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Event<'a> {
        #[serde(borrow, rename = "type")]
        kind: std::borrow::Cow<'a, str>,
    }
    let event = message.strip_suffix(b",").unwrap_or(message);
    serde_json::from_slice::<Event<'_>>(event).is_ok_and(|event| event.kind == "checkpoint")
}
