//! Messages of a queue's stream are looked at: each becomes a job with a run, or a dead letter, or is one again.

use std::collections::{HashSet, VecDeque};

use tailwater_stream::queue::{
    Admitted, Arrived, Candidate, Decided, EnvelopeRefusal, Found, Frontier, Job, JsonText, Outcome,
};
use tailwater_stream::{NameLimits, Position, QueueConfig, StreamKind, StreamName, Timestamp};

use super::Queues;
use super::error::QueueError;
use super::opened::{AT_ONCE_MAX, Enqueued, Turn, now_of};
use super::pending::Pending;
use super::record::{Extra, Message, RecordError};
use super::runs::Named;
use super::turns::AHEAD_BYTES;
use crate::engine::{MessageRecord, Settling};

/// The bytes of messages that are looked at in one record, but for a message that is longer alone.
pub(super) const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// How often names are looked up anew that were taken in between.
const LOOKS_MAX: usize = 8;

/// A message of a queue's stream.
pub(super) struct Read {
    pub(super) start: Position,
    record: MessageRecord,
}

impl Read {
    /// The place behind it.
    pub(super) fn frontier(&self) -> Frontier {
        Frontier {
            position: self.record.end,
            messages: self.record.index + 1,
        }
    }

    pub(super) fn text(&self) -> JsonText {
        let message = self.record.data.strip_suffix(b",").unwrap_or(&self.record.data);
        let text = std::str::from_utf8(message).ok().and_then(JsonText::parse);
        text.unwrap_or_else(JsonText::null)
    }

    /// Since when it is in a queue that was made at `made_at`: the message may have been there before.
    fn queued_at(&self, made_at: Timestamp) -> Timestamp {
        self.record.at.max(made_at)
    }

    /// The job that it was admitted as by a queue that was made at `made_at`; none if it is none. What was once allowed stays a
    /// name, whatever the limits are now.
    pub(super) fn into_job(self, config: &QueueConfig, made_at: Timestamp) -> Option<Job> {
        let names = NameLimits::NONE;
        let text = self.text();
        let candidate = match config.candidate(&text, self.start, names) {
            Ok(candidate) => candidate,
            // The concurrency key was changed since, and means something that is too long.
            Err(EnvelopeRefusal::KeyTooLong { .. }) => {
                without_key(config).candidate(&text, self.start, names).ok()?
            }
            Err(_) => return None,
        };
        Some(candidate.job(self.start, self.record.end, self.queued_at(made_at)))
    }
}

/// A message that is about to be looked at.
pub(super) struct Incoming {
    pub(super) position: Position,
    pub(super) end: Position,
    pub(super) at: Timestamp,
    pub(super) text: JsonText,
    pub(super) asks: Result<Candidate, EnvelopeRefusal>,
}

/// What is known of the name that a run is to have.
pub(super) struct Look {
    pub(super) found: Found,
    /// The job of the run that has it.
    pub(super) job: Option<Position>,
}

impl Queues {
    /// Durable messages from a place on, before `until`.
    pub(super) async fn read_messages(
        &self,
        turn: &Turn,
        from: Frontier,
        until: Position,
        bytes_max: u64,
    ) -> Result<Vec<Read>, QueueError> {
        let mut view = turn.reader.incarnation().view();
        view.tail = view.tail.min(until);
        if from.position >= view.tail {
            return Ok(Vec::new());
        }
        let records = turn.reader.records(from.position, &view, bytes_max).await?;
        let mut start = from.position;
        let read = records.into_iter().map(|record| {
            let read = Read { start, record };
            start = read.record.end;
            read
        });
        Ok(read.collect())
    }

    /// Looks at durable messages behind the admitted frontier. Answers whether there may be more.
    pub(super) async fn admit(&self, turn: &mut Turn, pending: &mut Pending) -> Result<bool, QueueError> {
        if turn.queue.state().deleting {
            return Ok(false);
        }
        let admitted = turn.queue.state().admitted;
        let read = self
            .read_messages(turn, admitted, Position::LAST, MESSAGE_BYTES_MAX)
            .await?;
        if read.is_empty() {
            return Ok(false);
        }
        let mut names = HashSet::new();
        let mut incoming = Vec::new();
        for message in read.into_iter().take(turn.at_once_max) {
            let text = message.text();
            let asks = self.asks(turn, &text, message.start);
            // One that names the run of another one waits until that is there.
            if asks
                .as_ref()
                .is_ok_and(|candidate| !names.insert(candidate.run.clone()))
            {
                break;
            }
            incoming.push(Incoming {
                position: message.start,
                end: message.record.end,
                at: message.queued_at(turn.created_at),
                text,
                asks,
            });
        }
        let mut looks: Vec<Option<Look>> = incoming.iter().map(|_| None).collect();
        for _ in 0..LOOKS_MAX {
            match self.admit_as(turn, &incoming, &looks, None).await {
                Ok((settling, outcomes)) => {
                    pending.push_silent(settling);
                    tell_expecting(turn, &incoming, &looks, &outcomes, pending);
                    turn.go_on();
                    return Ok(!turn.is_stale);
                }
                Err(RecordError::NameTaken) => looks = self.look_for_all(turn, &incoming).await?,
                Err(error) => return Err(error.into()),
            }
        }
        // Somebody makes streams of these names as fast as they are looked up.
        Ok(true)
    }

    /// What a message asks for. A run that is tried anew waits for its message, which stood for a job once, whatever
    /// concurrency key the queue has by now.
    pub(super) fn asks(
        &self,
        turn: &Turn,
        text: &JsonText,
        at: Position,
    ) -> Result<Candidate, EnvelopeRefusal> {
        let config = turn.queue.config();
        let asks = config.candidate(text, at, self.names());
        if !matches!(asks, Err(EnvelopeRefusal::KeyTooLong { .. })) {
            return asks;
        }
        let without_key = without_key(config).candidate(text, at, self.names());
        match without_key {
            Ok(candidate) if turn.awaited.contains_key(&candidate.run) => Ok(candidate),
            _ => asks,
        }
    }

    /// Admits messages for what their names were found to be; those that were not looked for are taken to be free. In the
    /// same record they are appended, if they are not in the stream yet.
    pub(super) async fn admit_as(
        &self,
        turn: &mut Turn,
        incoming: &[Incoming],
        looks: &[Option<Look>],
        message: Option<Message>,
    ) -> Result<(Settling, Vec<Outcome>), RecordError> {
        let arrived: Vec<_> = incoming
            .iter()
            .zip(looks)
            .map(|(message, look)| Arrived {
                position: message.position,
                end: message.end,
                at: message.at,
                asks: message.asks.clone().map(|candidate| {
                    let found = look.as_ref().map_or(Found::Free, |look| look.found);
                    (candidate, found)
                }),
            })
            .collect();
        let payloads = incoming.iter().map(|message| {
            let payload = match &message.asks {
                Ok(candidate) => candidate.envelope.payload.clone(),
                Err(_) => message.text.clone(),
            };
            (message.position, payload)
        });
        let extra = Extra {
            message,
            payloads: payloads.collect(),
            ..Extra::default()
        };
        let Decided {
            changes,
            answer: Admitted { outcomes, ready },
        } = turn.queue.admit(&arrived, now_of(&self.shared.engine));
        let ahead_is_whole = turn.queue.ahead_from().is_none();
        let settling = self.record(turn, &changes, extra, false).await?;
        if ahead_is_whole && has_room(turn.queue.ahead()) {
            let end = turn.queue.state().admitted;
            turn.queue.read_ahead(ready, end);
        }
        Ok((settling, outcomes))
    }

    /// What has the names of the runs that messages are to have.
    pub(super) async fn look_for_all(
        &self,
        turn: &Turn,
        incoming: &[Incoming],
    ) -> Result<Vec<Option<Look>>, QueueError> {
        let mut looks = Vec::with_capacity(incoming.len());
        for message in incoming {
            let look = match &message.asks {
                Ok(candidate) => Some(self.look_for(turn, candidate, message.position).await?),
                Err(_) => None,
            };
            looks.push(look);
        }
        Ok(looks)
    }

    async fn look_for(
        &self,
        turn: &Turn,
        candidate: &Candidate,
        position: Position,
    ) -> Result<Look, QueueError> {
        let without_job = |found| Look { found, job: None };
        let (id, kind, queue, closed) = match self.who_has(&candidate.run).await? {
            Named::Nobody => return Ok(without_job(Found::Free)),
            Named::Forks => return Ok(without_job(Found::HeldByForks)),
            Named::Damaged => return Ok(without_job(Found::Damaged)),
            Named::Stream {
                id,
                kind,
                queue,
                closed,
                ..
            } => (id, kind, queue, closed),
        };
        let taken = without_job(Found::Taken);
        if kind != StreamKind::Run || queue.as_ref() != Some(&turn.queue.stream) {
            return Ok(taken);
        }
        let status = match self.status_of(&candidate.run, id).await {
            Err(error) if error.is_damage() => return Ok(without_job(Found::Damaged)),
            status => status?,
        };
        let Some(status) = status else {
            return Ok(taken);
        };
        // A stream of the same name has had the queue's messages before: its jobs have the same numbers. Or the number is the
        // id of another job.
        let is_of_another = id < turn.id || status.job != Some(position);
        if candidate.envelope.id.is_none() && is_of_another {
            return Ok(taken);
        }
        let payload = self.readable_payload_of(&candidate.run).await?;
        // Of a run whose beginning was trimmed, or is damaged, nobody knows what it was given.
        let is_same = payload.is_none_or(|payload| payload == candidate.envelope.payload);
        let found = if !is_same {
            Found::OtherPayload
        } else if turn.awaited.contains_key(&candidate.run) {
            Found::Awaited
        } else if !closed && !self.knows(turn, &candidate.run, status.job).await? {
            Found::Orphan {
                attempt: status.attempt,
            }
        } else {
            Found::Same { is_open: !closed }
        };
        Ok(Look {
            found,
            job: status.job,
        })
    }

    /// Whether the queue has the job of a run that has not ended and is not awaited.
    async fn knows(&self, turn: &Turn, run: &StreamName, job: Option<Position>) -> Result<bool, QueueError> {
        Ok(turn.job_of(run).is_some() || self.unkeyed(turn, run, job).await?.is_some())
    }

    /// Sends the messages of runs that are tried anew. Those that were sent before a crash are known by their numbers.
    pub(super) async fn send_retries(
        &self,
        turn: &mut Turn,
        pending: &mut Pending,
    ) -> Result<(), QueueError> {
        let mut unsent: Vec<_> = turn
            .awaited
            .iter()
            .filter(|(_, number)| **number >= turn.retries_sent)
            .collect();
        unsent.sort_unstable_by_key(|(_, number)| **number);
        let unsent: Vec<(StreamName, u64)> = unsent
            .into_iter()
            .map(|(run, number)| (run.clone(), *number))
            .collect();
        for (run, number) in unsent {
            let sent = match self.readable_payload_of(&run).await? {
                Some(payload) => self.send_retry(turn, &run, number, payload),
                None => Err(QueueError::RunNotFound),
            };
            match sent {
                Ok((settling, _)) => pending.push_silent(settling),
                // Nothing will ever come for it.
                Err(error @ (QueueError::Closed | QueueError::RunNotFound)) => {
                    turn.retries_sent = number + 1;
                    let reason = Some(match error {
                        QueueError::Closed => "the queue's stream was closed",
                        _ => "what was to be done is not known any more",
                    });
                    let changes = turn
                        .queue
                        .cancel_without_job(&run, 0, reason, now_of(&self.shared.engine));
                    pending.push_silent(self.record(turn, &changes, Extra::default(), false).await?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The same without a concurrency key.
fn without_key(config: &QueueConfig) -> QueueConfig {
    QueueConfig {
        concurrency_key: None,
        ..config.clone()
    }
}

/// Whoever enqueued a message by a call is told what became of it once that is durable. If it does not come to be, they
/// wait on.
fn tell_expecting(
    turn: &Turn,
    incoming: &[Incoming],
    looks: &[Option<Look>],
    outcomes: &[Outcome],
    pending: &mut Pending,
) {
    for ((message, look), outcome) in incoming.iter().zip(looks).zip(outcomes) {
        let position = message.position;
        if !turn.expected.contains_key(&position) {
            continue;
        }
        let said = said_of(message, look.as_ref(), *outcome);
        pending.push_done(None, move |turn, settled| {
            if settled.is_ok()
                && let Some(expecting) = turn.expected.remove(&position)
            {
                // Whoever asked may have gone away.
                let _ = expecting.answer.send(said);
            }
        });
    }
}

/// What became of a message, as whoever enqueued it is told.
fn said_of(message: &Incoming, look: Option<&Look>, outcome: Outcome) -> Result<Enqueued, QueueError> {
    // The queue may have been changed since the call was looked at.
    let run = message.asks.as_ref().map_err(Clone::clone)?.run.clone();
    match outcome {
        Outcome::New => Ok(Enqueued {
            new: true,
            job: Some(message.position),
            run,
        }),
        Outcome::Duplicate => Ok(Enqueued {
            new: false,
            job: look.and_then(|look| look.job),
            run,
        }),
        Outcome::Dead(_) => Err(refusal_of(look.map(|look| look.found), run)),
    }
}

/// Whether more jobs may be known before they are next, with what their workers are given.
fn has_room(ahead: &VecDeque<Job>) -> bool {
    let bytes = match (ahead.front(), ahead.back()) {
        (Some(first), Some(last)) => last.end.since(first.position),
        _ => 0,
    };
    ahead.len() < AT_ONCE_MAX && bytes < AHEAD_BYTES
}

/// Why a job is refused whose name was found to be this.
pub(super) fn refusal_of(found: Option<Found>, run: StreamName) -> QueueError {
    match found {
        Some(Found::HeldByForks) => QueueError::NameHeldByForks { run },
        Some(Found::Damaged) => QueueError::RunDamaged { run },
        Some(Found::Taken) => QueueError::NameTaken { run },
        _ => QueueError::Conflict { run },
    }
}
