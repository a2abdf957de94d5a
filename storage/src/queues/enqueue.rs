//! Jobs that are enqueued by a call of its own: appended and admitted in one record, if nothing else has come in between.

use std::collections::HashSet;

use tailwater_stream::producer::ProducerRefusal;
use tailwater_stream::queue::{Candidate, Envelope, EnvelopeRefusal, Found, JsonText, Outcome};
use tailwater_stream::{
    AppendDecision, AppendRefusal, Epoch, Position, ProducerId, ProducerMark, Seq, StreamName, StreamState,
};

use super::Queues;
use super::admit::{Incoming, refusal_of};
use super::error::QueueError;
use super::opened::{AT_ONCE_MAX, Command, Enqueued, Enqueuer, Expecting, Turn};
use super::pending::Pending;
use super::record::{Message, QUEUE, RecordError, check_ground, json};
use crate::engine::Settling;

/// The bytes of payloads that are enqueued in one record, but for one that is longer alone. They stand in it twice.
const ENQUEUED_BYTES_MAX: usize = 1 << 20;
/// The producer of messages of runs that are tried anew. No client takes such an id by chance.
const RETRY_PRODUCER: &str = "__ds/queues/retry";

impl Queues {
    /// Enqueues a job. Answers once it is durable and has its run.
    ///
    /// # Errors
    /// [`QueueError::Undecided`] if it is in the queue, and its run could not begin yet. With any other [`QueueError`] it
    /// is no job: if it stands in the queue's stream at all, then as a dead letter.
    pub async fn enqueue(&self, queue: &StreamName, envelope: Envelope) -> Result<Enqueued, QueueError> {
        let opened = self.find(queue).await?;
        self.ask(&opened, |answer| Command::Enqueue(Enqueuer { envelope, answer }))
            .await
    }

    /// Enqueues all that were asked for. Answers those that are left for the next turn: all of them, if the queue has to be
    /// loaded anew first.
    pub(super) async fn enqueue_all(
        &self,
        turn: &mut Turn,
        enqueuers: Vec<Enqueuer>,
        pending: &mut Pending,
    ) -> Vec<Enqueuer> {
        if turn.is_stale {
            return enqueuers;
        }
        let mut later = Vec::new();
        let mut ids = HashSet::new();
        let mut asked: Vec<Enqueuer> = Vec::new();
        let mut bytes = 0;
        for enqueuer in enqueuers {
            if turn.queue.state().deleting {
                let _ = enqueuer.answer.send(Err(QueueError::Deleting));
                continue;
            }
            // The value for the queue is looked at so that a job that cannot be meant is not appended at all.
            if let Err(refusal) = enqueuer.envelope.value_for(turn.queue.config(), self.names()) {
                let _ = enqueuer.answer.send(Err(refusal.into()));
                continue;
            }
            let is_again = enqueuer.envelope.id.clone().is_some_and(|id| !ids.insert(id));
            let length = enqueuer.envelope.payload.as_str().len();
            let has_room = asked.is_empty() || bytes + length <= ENQUEUED_BYTES_MAX;
            if is_again || !has_room || asked.len() == AT_ONCE_MAX {
                later.push(enqueuer);
            } else {
                bytes += length;
                asked.push(enqueuer);
            }
        }
        if let Err((error, asked)) = self.enqueue_these(turn, asked, pending).await {
            for asked in asked {
                let _ = asked.answer.send(Err(error.clone()));
            }
        }
        later
    }

    async fn enqueue_these(
        &self,
        turn: &mut Turn,
        mut asked: Vec<Enqueuer>,
        pending: &mut Pending,
    ) -> Result<(), (QueueError, Vec<Enqueuer>)> {
        // Once all are free of others, and once more because they may have been taken in between.
        for _ in 0..3 {
            if asked.is_empty() {
                return Ok(());
            }
            let incoming = match self.incoming(turn, &asked) {
                Ok(incoming) => incoming,
                Err(refusal) => return Err((refusal.into(), asked)),
            };
            let message = Message {
                body: body(&asked),
                at: turn.queue.state().admitted.position,
            };
            let looks: Vec<_> = incoming.iter().map(|_| None).collect();
            match self.admit_as(turn, &incoming, &looks, Some(message)).await {
                Ok((settling, outcomes)) => {
                    debug_assert!(outcomes.iter().all(|outcome| *outcome == Outcome::New));
                    pending.push_silent(settling);
                    for (asked, message) in asked.into_iter().zip(incoming) {
                        let run = message.asks.expect("made of candidates").run;
                        let said = Enqueued {
                            new: true,
                            job: Some(message.position),
                            run,
                        };
                        pending.push(None, asked.answer, Ok(said));
                    }
                    return Ok(());
                }
                Err(RecordError::NameTaken) => {}
                Err(error) => return Err((error.into(), asked)),
            }
            asked = self.without_known(turn, asked, pending).await?;
        }
        self.append_only(turn, asked, pending).await
    }

    /// What is about to be appended behind all that was looked at.
    fn incoming(&self, turn: &Turn, asked: &[Enqueuer]) -> Result<Vec<Incoming>, EnvelopeRefusal> {
        let now = self.shared.engine.now();
        let mut position = turn.queue.state().admitted.position;
        let mut incoming = Vec::with_capacity(asked.len());
        for enqueuer in asked {
            let message = enqueuer.envelope.message();
            // A message is followed by a comma.
            let end = position
                .advance(message.len() as u64 + 1)
                .unwrap_or(Position::LAST);
            let envelope = enqueuer.envelope.clone();
            let config = turn.queue.config();
            let candidate = config.candidate_of(envelope, position, self.names())?;
            incoming.push(Incoming {
                position,
                end,
                at: now,
                text: JsonText::parse(&message).unwrap_or_else(JsonText::null),
                asks: Ok(candidate),
            });
            position = end;
        }
        Ok(incoming)
    }

    /// Answers those whose runs exist. The others are answered back.
    async fn without_known(
        &self,
        turn: &mut Turn,
        asked: Vec<Enqueuer>,
        pending: &mut Pending,
    ) -> Result<Vec<Enqueuer>, (QueueError, Vec<Enqueuer>)> {
        let incoming = match self.incoming(turn, &asked) {
            Ok(incoming) => incoming,
            Err(refusal) => return Err((refusal.into(), asked)),
        };
        let looks = match self.look_for_all(turn, &incoming).await {
            Ok(looks) => looks,
            Err(error) => return Err((error, asked)),
        };
        let mut free = Vec::new();
        for ((asked, message), look) in asked.into_iter().zip(incoming).zip(looks) {
            let run = message.asks.expect("made of candidates").run;
            let Some(look) = look.filter(|_| asked.envelope.id.is_some()) else {
                free.push(asked);
                continue;
            };
            let said = match look.found {
                Found::Free | Found::Orphan { .. } => {
                    free.push(asked);
                    continue;
                }
                Found::Same { .. } | Found::Awaited => Ok(Enqueued {
                    new: false,
                    job: look.job,
                    run,
                }),
                found @ (Found::OtherPayload | Found::HeldByForks | Found::Damaged | Found::Taken) => {
                    Err(refusal_of(Some(found), run))
                }
            };
            pending.push(None, asked.answer, said);
        }
        Ok(free)
    }

    /// Appends jobs behind messages that were not looked at yet. Whoever asked waits until that is done.
    async fn append_only(
        &self,
        turn: &mut Turn,
        asked: Vec<Enqueuer>,
        pending: &mut Pending,
    ) -> Result<(), (QueueError, Vec<Enqueuer>)> {
        let asked = if turn.has_caught_up {
            asked
        } else {
            self.without_those_in_backlog(turn, asked).await?
        };
        if asked.is_empty() {
            return Ok(());
        }
        let (id, footing) = (turn.id, turn.footing);
        let body = body(&asked);
        let held = std::slice::from_ref(&turn.stream);
        let appended = self.shared.engine.together(held, |draft| {
            check_ground(draft, id, footing)?;
            let appended = draft.append(QUEUE, body, None, false);
            match appended.map_err(append_error)? {
                AppendDecision::Accept(append) => Ok(append),
                AppendDecision::Duplicate(_) | AppendDecision::AlreadyClosed => {
                    Err(QueueError::Closed.into())
                }
            }
        });
        let (append, settling) = match appended {
            Ok(appended) => appended,
            Err(error) => {
                turn.is_stale |= matches!(error, RecordError::Stale);
                return Err((error.into(), asked));
            }
        };
        if let Some(crate::engine::Settled::Full) = settling.known() {
            return Err((crate::engine::EngineError::Full.into(), asked));
        }
        let mut positions = Vec::with_capacity(asked.len());
        let mut position = append.start;
        for (asked, end) in asked.into_iter().zip(append.ends.relative(append.payload.len())) {
            match turn
                .queue
                .config()
                .candidate_of(asked.envelope, position, self.names())
            {
                Ok(Candidate { run, .. }) => {
                    let answer = asked.answer;
                    turn.expected.insert(position, Expecting { run, answer });
                    positions.push(position);
                }
                Err(refusal) => pending.push(None, asked.answer, Err(refusal.into())),
            }
            position = append.start.advance(u64::from(end)).unwrap_or(Position::LAST);
        }
        pending.push_done(Some(settling), move |turn, settled| {
            if let Err(error) = settled {
                refuse_expecting(turn, &positions, &error);
            }
        });
        Ok(())
    }

    /// Appends the message of a run that is tried anew, unless it is there. Answers where it begins if it was not.
    ///
    /// It is the only one of an epoch of its own, and messages are sent in the order of their numbers: one whose run has
    /// ended before it was sent is left out.
    pub(super) fn send_retry(
        &self,
        turn: &mut Turn,
        run: &StreamName,
        number: u64,
        payload: JsonText,
    ) -> Result<(Settling, Option<Position>), QueueError> {
        let id = run
            .as_str()
            .strip_prefix(&*turn.queue.config().run_prefix)
            .unwrap_or_default();
        let envelope = Envelope {
            payload,
            id: Some(id.into()),
            run_at: None,
            max_attempts: None,
        };
        let mark = ProducerMark {
            id: retry_producer(),
            epoch: Epoch::new(number).expect("fewer retries than JavaScript counts"),
            seq: Seq::ZERO,
        };
        let (id, footing) = (turn.id, turn.footing);
        let held = std::slice::from_ref(&turn.stream);
        let sent = self.shared.engine.together(held, |draft| {
            check_ground(draft, id, footing)?;
            let sent = draft.append_whatever_its_size(QUEUE, json(envelope.message()), Some(mark), false);
            match sent {
                Ok(AppendDecision::Accept(append)) => Ok(Some(append.start)),
                // Later ones are there already, and so is this one.
                Ok(_) | Err(AppendRefusal::Producer(ProducerRefusal::Fenced { .. })) => Ok(None),
                Err(refusal) => Err(append_error(refusal).into()),
            }
        });
        match sent {
            Ok((start, settling)) => {
                turn.retries_sent = number + 1;
                Ok((settling, start))
            }
            Err(error) => {
                turn.is_stale |= matches!(error, RecordError::Stale);
                Err(error.into())
            }
        }
    }
}

/// Messages have not come to be, and whoever waits for them is told so.
fn refuse_expecting(turn: &mut Turn, positions: &[Position], error: &QueueError) {
    for position in positions {
        if let Some(expecting) = turn.expected.remove(position) {
            // Whoever asked may have gone away.
            let _ = expecting.answer.send(Err(error.clone()));
        }
    }
}

fn retry_producer() -> ProducerId {
    ProducerId::parse(RETRY_PRODUCER).expect("an identifier")
}

/// The first number that no message of a run that is tried anew has had in a stream. It may have been a queue before.
pub(super) fn first_retry_of(stream: &StreamState) -> u64 {
    let last = stream.producers.get(&retry_producer());
    last.map_or(0, |last| last.epoch.get() + 1)
}

pub(super) fn append_error(refusal: AppendRefusal) -> QueueError {
    match refusal {
        AppendRefusal::Closed { .. } => QueueError::Closed,
        refusal => QueueError::Append(refusal),
    }
}

/// Messages as they are appended together.
fn body(asked: &[Enqueuer]) -> tailwater_stream::EncodedBody {
    let messages: Vec<_> = asked.iter().map(|asked| asked.envelope.message()).collect();
    json(format!("[{}]", messages.join(",")))
}
