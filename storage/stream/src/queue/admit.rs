//! Messages become jobs: each is looked at once, in the order of the stream.

use super::config::QueueConfig;
use super::envelope::{Envelope, EnvelopeRefusal};
use super::event::{RunEvent, job_text};
use super::job::{Job, JobPhase, OpenJob};
use super::json_text::JsonText;
use super::state::{Change, DeadLetter, DeadReason, Frontier, QueueState, RunAppend, RunState, RunStatus};
use super::{Decided, Now, Queue};
use crate::expiry::Timestamp;
use crate::name::{NameLimits, StreamName};
use crate::offset::Position;

/// What a message asks for, and the run that it is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What it asks for.
    pub envelope: Envelope,
    /// The run.
    pub run: StreamName,
    /// What stands at the queue's concurrency key, as JSON.
    pub value: Option<Box<str>>,
}

impl Candidate {
    /// The job of a message between two places, which was in the queue from `at` on.
    pub fn job(&self, position: Position, end: Position, at: Timestamp) -> Job {
        Job {
            position,
            end,
            ready_at: at.max(self.envelope.run_at.unwrap_or_default()),
            run: self.run.clone(),
            max_attempts: self.envelope.max_attempts,
            value: self.value.clone(),
            payload: self.envelope.payload.clone(),
        }
    }
}

/// What has the name of a run already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Free,
    /// A run of this queue with the same payload.
    Same {
        /// Whether it has not ended.
        is_open: bool,
    },
    /// A run that is tried anew and waits for this very message.
    Awaited,
    /// A run of this queue with the same payload that has not ended, and whose job is not here: an import has brought it as of
    /// another moment than the queue. This message is its job.
    Orphan {
        /// Attempts so far.
        attempt: u32,
    },
    /// A run of this queue with another payload.
    OtherPayload,
    /// A deleted stream that was tried anew, or forked otherwise: its name is free once its forks are gone.
    HeldByForks,
    /// A stream that cannot be read. Whether it is the run of this job nobody knows.
    Damaged,
    /// Something else.
    Taken,
}

/// A message that nobody has looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Where it begins.
    pub position: Position,
    /// Where it ends.
    pub end: Position,
    /// Since when it is in the queue.
    pub at: Timestamp,
    /// What it asks for, and what has the name of its run.
    pub asks: Result<(Candidate, Found), EnvelopeRefusal>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is a job.
    New,
    /// It is the same job as an earlier one.
    Duplicate,
    /// It is none, and stands among the dead letters.
    Dead(DeadReason),
}

/// What became of messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admitted {
    /// Of each, in order.
    pub outcomes: Vec<Outcome>,
    /// Those that are ready where they stand.
    pub ready: Vec<Job>,
}

impl QueueConfig {
    /// What a message at `position` asks for.
    ///
    /// # Errors
    /// [`EnvelopeRefusal`] if it is no job that this queue can have.
    pub fn candidate(
        &self,
        message: &JsonText,
        position: Position,
        names: NameLimits,
    ) -> Result<Candidate, EnvelopeRefusal> {
        let envelope = Envelope::parse(message)?;
        self.candidate_of(envelope, position, names)
    }

    /// What an envelope at `position` asks for.
    ///
    /// # Errors
    /// [`EnvelopeRefusal`] if it is no job that this queue can have.
    pub fn candidate_of(
        &self,
        envelope: Envelope,
        position: Position,
        names: NameLimits,
    ) -> Result<Candidate, EnvelopeRefusal> {
        let value = envelope.value_for(self, names)?;
        let number = job_text(position);
        let id = envelope.id.as_deref().unwrap_or(&number);
        let run = self.run_of_id(id, names).map_err(|refusal| EnvelopeRefusal::Id {
            id: id.into(),
            refusal,
        })?;
        Ok(Candidate { envelope, run, value })
    }
}

/// What the messages of one call change.
struct Admission<'a> {
    queue: &'a Queue,
    now: Now,
    state: QueueState,
    changes: Vec<Change>,
    admitted: Admitted,
}

impl Queue {
    /// Looks at the messages behind the admitted frontier, in order.
    pub fn admit(&self, arrived: &[Arrived], now: Now) -> Decided<Admitted> {
        let mut admission = Admission {
            queue: self,
            now,
            state: self.state.clone(),
            changes: Vec::new(),
            admitted: Admitted::default(),
        };
        for message in arrived {
            debug_assert_eq!(message.position, admission.state.admitted.position, "in order");
            let outcome = match &message.asks {
                Err(refusal) => admission.refuse(message, DeadReason::InvalidEnvelope, &refusal.to_string()),
                Ok((candidate, found)) => admission.weigh(message, candidate, *found),
            };
            admission.admitted.outcomes.push(outcome);
            admission.state.admitted = Frontier {
                position: message.end,
                messages: admission.state.admitted.messages + 1,
            };
        }
        admission.changes.push(Change::State(Box::new(admission.state)));
        Decided {
            changes: admission.changes,
            answer: admission.admitted,
        }
    }
}

impl Admission<'_> {
    fn weigh(&mut self, message: &Arrived, candidate: &Candidate, found: Found) -> Outcome {
        let status = RunStatus {
            state: RunState::Queued,
            attempt: 0,
            queue: self.queue.stream.clone(),
            job: Some(message.position),
        };
        match found {
            Found::Free => {
                self.changes.push(Change::Begin {
                    run: candidate.run.clone(),
                    event: RunEvent::Queued {
                        queue: self.queue.stream.clone(),
                        job: Some(message.position),
                        payload: candidate.envelope.payload.clone(),
                        run_at: candidate.envelope.run_at,
                        retry_of: None,
                    },
                    epoch: 0,
                    status,
                    at: self.now.wall,
                });
                self.enter(message, candidate);
                Outcome::New
            }
            Found::Awaited => {
                self.adopt(message, candidate, status);
                Outcome::New
            }
            Found::Orphan { attempt } => {
                let state = RunState::of_waiting(attempt);
                self.adopt(
                    message,
                    candidate,
                    RunStatus {
                        state,
                        attempt,
                        ..status
                    },
                );
                Outcome::New
            }
            Found::Same { is_open } => {
                if is_open {
                    self.changes.push(Change::Append(RunAppend {
                        run: candidate.run.clone(),
                        producer: None,
                        event: RunEvent::Duplicate {
                            job: message.position,
                        },
                        status: None,
                        at: self.now.wall,
                    }));
                }
                self.state.counters.duplicates += 1;
                self.pass(message);
                Outcome::Duplicate
            }
            Found::OtherPayload => {
                let error = format!("the run {} has another payload", candidate.run);
                self.refuse(message, DeadReason::Conflict, &error)
            }
            Found::HeldByForks => {
                let error = format!("{} was deleted, and forks of it are still there", candidate.run);
                self.refuse(message, DeadReason::NameTaken, &error)
            }
            Found::Damaged => {
                let error = format!("{} cannot be read, because its stream is damaged", candidate.run);
                self.refuse(message, DeadReason::RunDamaged, &error)
            }
            Found::Taken => {
                let error = format!("{} is a stream, but no run of this job", candidate.run);
                self.refuse(message, DeadReason::NameTaken, &error)
            }
        }
    }

    /// The message is the job of a run that is there.
    fn adopt(&mut self, message: &Arrived, candidate: &Candidate, status: RunStatus) {
        self.changes.push(Change::Adopted {
            run: candidate.run.clone(),
            status,
        });
        self.enter(message, candidate);
    }

    /// The message is a job, now or at its time.
    fn enter(&mut self, message: &Arrived, candidate: &Candidate) {
        self.state.counters.enqueued += 1;
        let job = candidate.job(message.position, message.end, message.at);
        match candidate.envelope.run_at.filter(|run_at| *run_at > self.now.wall) {
            None => self.admitted.ready.push(job),
            Some(run_at) => {
                self.changes.push(Change::Job {
                    position: message.position,
                    job: Some(Box::new(OpenJob::waiting(&job, run_at))),
                });
                self.take(message);
            }
        }
    }

    fn refuse(&mut self, message: &Arrived, reason: DeadReason, error: &str) -> Outcome {
        self.changes.push(Change::Dead(Box::new(DeadLetter {
            job: message.position,
            run: None,
            reason,
            error: Some(JsonText::string(error)),
            attempt: 0,
            at: self.now.wall,
        })));
        self.state.counters.dead += 1;
        self.state.dead_letters += 1;
        self.pass(message);
        Outcome::Dead(reason)
    }

    /// The message is no job.
    fn pass(&mut self, message: &Arrived) {
        if !self.take(message) {
            let passed = OpenJob {
                end: message.end,
                ready_at: message.at,
                run: self.queue.stream.clone(),
                max_attempts: None,
                value: None,
                attempt: 0,
                epoch: 0,
                started_at: None,
                phase: JobPhase::Passed,
            };
            self.changes.push(Change::Job {
                position: message.position,
                job: Some(Box::new(passed)),
            });
        }
    }

    /// Moves the taken frontier behind the message if it stands before it. Answers whether it did.
    fn take(&mut self, message: &Arrived) -> bool {
        let is_next = self.state.taken.position == message.position;
        if is_next {
            self.state.taken = Frontier {
                position: message.end,
                messages: self.state.taken.messages + 1,
            };
        }
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_MS: u64 = 300;

    fn at(wall_ms: u64) -> Now {
        Now {
            wall: Timestamp::from_millis(wall_ms),
            monotonic_ms: wall_ms,
        }
    }

    /// A job whose time came before it was looked at expired so long after its message.
    #[test]
    fn a_job_could_be_begun_since_its_message_or_its_time_whichever_is_later() {
        let stream = StreamName::parse("q", NameLimits::NONE).expect("a name");
        let document = serde_json::json!({ "start_ttl_ms": TTL_MS });
        let config = QueueConfig::parse(
            document.as_object().expect("an object"),
            &stream,
            NameLimits::NONE,
        );
        let config = config.expect("a configuration");
        for (message_ms, run_at_ms, ready_ms) in [(100, 500, 500), (500, 100, 500), (100, 700, 700)] {
            let mut queue = Queue::new(stream.clone(), config.clone(), QueueState::default(), [], at(0));
            let message = JsonText::parse(&format!(r#"{{"payload":1,"run_at":{run_at_ms}}}"#)).expect("JSON");
            let candidate = config
                .candidate(&message, Position::ZERO, NameLimits::NONE)
                .expect("a job");
            let arrived = Arrived {
                position: Position::ZERO,
                end: Position::new(10).expect("a position"),
                at: Timestamp::from_millis(message_ms),
                asks: Ok((candidate, Found::Free)),
            };
            let decided = queue.admit(&[arrived], at(600));
            queue.apply_all(&decided.changes);
            let end = queue.state().admitted;
            queue.read_ahead(decided.answer.ready, end);
            queue.wake(at(ready_ms + TTL_MS - 1));
            assert_eq!(
                queue.overdue(at(ready_ms + TTL_MS - 1), 0),
                None,
                "{message_ms} {run_at_ms}"
            );
            assert!(
                queue.overdue(at(ready_ms + TTL_MS), 0).is_some(),
                "{message_ms} {run_at_ms}"
            );
        }
    }
}
