//! What stands in a run: one JSON object for each thing that happened, with its `type` and the time `at` which. The server
//! writes those that begin with [`run.`](super::reserved::PREFIX); all others are the workers' own.

use super::json_text::JsonText;
use super::state::DeadReason;
use crate::expiry::Timestamp;
use crate::name::StreamName;
use crate::offset::Position;
use crate::rfc3339;

/// An event that the server writes into a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// The job was admitted, or the run is tried anew.
    Queued {
        /// The queue's stream.
        queue: StreamName,
        /// The job; none if its message is not in the queue yet.
        job: Option<Position>,
        /// What the worker is given.
        payload: JsonText,
        /// Not before then.
        run_at: Option<Timestamp>,
        /// The run that this one tries anew.
        retry_of: Option<StreamName>,
    },
    /// A worker has it.
    Leased {
        /// Who.
        worker: Box<str>,
        /// The how-manieth attempt, from 1.
        attempt: u32,
        /// By which its events are told from those of others.
        epoch: u64,
    },
    /// The worker was silent for too long, and is fenced off.
    LeaseLost {
        /// The attempt.
        attempt: u32,
        /// The epoch that has ended.
        epoch: u64,
        /// Not before then is it given to another one.
        retry_at: Timestamp,
    },
    /// The worker gave the attempt up.
    Failed {
        /// The attempt.
        attempt: u32,
        /// The epoch that has ended.
        epoch: u64,
        /// What the worker says of it.
        error: JsonText,
        /// Not before then is it given to another one.
        retry_at: Timestamp,
    },
    /// The worker gave it back without having tried.
    Released {
        /// The attempt, which does not count.
        attempt: u32,
        /// The epoch that has ended.
        epoch: u64,
    },
    /// The very same job was in the queue once more.
    Duplicate {
        /// That message.
        job: Position,
    },
    /// It is done. Ends the run, as do all that follow.
    Succeeded {
        /// The attempt.
        attempt: u32,
        /// What the worker says of it.
        result: Option<JsonText>,
    },
    /// It was given up.
    Dead {
        /// Attempts that were made.
        attempt: u32,
        /// Why.
        reason: DeadReason,
        /// What the last worker said of it.
        error: Option<JsonText>,
    },
    /// Somebody called it off.
    Cancelled {
        /// What that one said.
        reason: Option<Box<str>>,
    },
    /// Nobody began it in time.
    Expired,
    /// It was not done in time.
    TimedOut {
        /// The attempt.
        attempt: u32,
    },
}

impl RunEvent {
    /// Its `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "run.queued",
            Self::Leased { .. } => "run.leased",
            Self::LeaseLost { .. } => "run.lease_lost",
            Self::Failed { .. } => "run.failed",
            Self::Released { .. } => "run.released",
            Self::Duplicate { .. } => "run.duplicate",
            Self::Succeeded { .. } => "run.succeeded",
            Self::Dead { .. } => "run.dead",
            Self::Cancelled { .. } => "run.cancelled",
            Self::Expired => "run.expired",
            Self::TimedOut { .. } => "run.timed_out",
        }
    }

    /// Whether nothing follows it.
    pub fn ends_run(&self) -> bool {
        match self {
            Self::Queued { .. }
            | Self::Leased { .. }
            | Self::LeaseLost { .. }
            | Self::Failed { .. }
            | Self::Released { .. }
            | Self::Duplicate { .. } => false,
            Self::Succeeded { .. }
            | Self::Dead { .. }
            | Self::Cancelled { .. }
            | Self::Expired
            | Self::TimedOut { .. } => true,
        }
    }

    /// The event as JSON.
    pub fn document(&self, at: Timestamp) -> String {
        let mut document = Document::new(self.name(), at);
        match self {
            Self::Queued {
                queue,
                job,
                payload,
                run_at,
                retry_of,
            } => {
                document.text("queue", queue.as_str());
                document.maybe("job", job.map(job_text).as_deref());
                document.json("payload", payload);
                document.maybe("run_at", run_at.map(rfc3339::format).as_deref());
                document.maybe("retry_of", retry_of.as_ref().map(StreamName::as_str));
            }
            Self::Leased {
                worker,
                attempt,
                epoch,
            } => {
                document.text("worker", worker);
                document.attempt(*attempt, Some(*epoch));
            }
            Self::LeaseLost {
                attempt,
                epoch,
                retry_at,
            } => {
                document.attempt(*attempt, Some(*epoch));
                document.text("reason", "the worker was silent for longer than its lease");
                document.text("retry_at", &rfc3339::format(*retry_at));
            }
            Self::Failed {
                attempt,
                epoch,
                error,
                retry_at,
            } => {
                document.attempt(*attempt, Some(*epoch));
                document.json("error", error);
                document.text("retry_at", &rfc3339::format(*retry_at));
            }
            Self::Released { attempt, epoch } => document.attempt(*attempt, Some(*epoch)),
            Self::Duplicate { job } => document.text("job", &job_text(*job)),
            Self::Succeeded { attempt, result } => {
                document.attempt(*attempt, None);
                if let Some(result) = result {
                    document.json("result", result);
                }
            }
            Self::Dead {
                attempt,
                reason,
                error,
            } => {
                document.attempt(*attempt, None);
                document.text("reason", reason.code());
                if let Some(error) = error {
                    document.json("error", error);
                }
            }
            Self::Cancelled { reason } => document.maybe("reason", reason.as_deref()),
            Self::Expired => {}
            Self::TimedOut { attempt } => document.attempt(*attempt, None),
        }
        document.end()
    }
}

/// A job as it is told of: sixteen digits, which sort as the queue's messages do.
pub fn job_text(job: Position) -> String {
    format!("{:016}", job.get())
}

/// Reads what [`job_text`] writes; none for anything else.
pub fn parse_job(text: &str) -> Option<Position> {
    let is_one = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_one
        .then(|| text.parse().ok().and_then(Position::new))
        .flatten()
}

/// A JSON object that is written member by member, so that values that came as text are kept as they were.
struct Document(String);

/// Most events are no longer, but for what jobs and workers say.
const EVENT_BYTES: usize = 256;

impl Document {
    fn new(kind: &str, at: Timestamp) -> Self {
        let mut text = String::with_capacity(EVENT_BYTES);
        text += "{\"type\":\"";
        text += kind;
        text += "\",\"at\":\"";
        text += &rfc3339::format(at);
        text.push('"');
        Self(text)
    }

    fn json(&mut self, name: &str, value: &JsonText) {
        self.raw(name, value.as_str());
    }

    fn text(&mut self, name: &str, text: &str) {
        self.raw(name, JsonText::string(text).as_str());
    }

    fn maybe(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn attempt(&mut self, attempt: u32, epoch: Option<u64>) {
        self.raw("attempt", &attempt.to_string());
        if let Some(epoch) = epoch {
            self.raw("epoch", &epoch.to_string());
        }
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.0 += ",\"";
        self.0 += name;
        self.0 += "\":";
        self.0 += value;
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameLimits;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text, NameLimits::default()).expect("a name")
    }

    #[test]
    fn events_say_what_happened() {
        let at = Timestamp::from_millis(1_500);
        let queued = RunEvent::Queued {
            queue: name("jobs"),
            job: Position::new(42),
            payload: JsonText::parse("{\"a\": 1.0}").expect("JSON"),
            run_at: None,
            retry_of: Some(name("runs/jobs/x")),
        };
        assert_eq!(
            queued.document(at),
            "{\"type\":\"run.queued\",\"at\":\"1970-01-01T00:00:01.500Z\",\"queue\":\"jobs\",\
             \"job\":\"0000000000000042\",\"payload\":{\"a\": 1.0},\"retry_of\":\"runs/jobs/x\"}"
        );
        let failed = RunEvent::Failed {
            attempt: 2,
            epoch: 3,
            error: JsonText::string("no"),
            retry_at: at,
        };
        assert_eq!(
            failed.document(at),
            "{\"type\":\"run.failed\",\"at\":\"1970-01-01T00:00:01.500Z\",\"attempt\":2,\"epoch\":3,\
             \"error\":\"no\",\"retry_at\":\"1970-01-01T00:00:01.500Z\"}"
        );
        assert_eq!(
            RunEvent::Expired.document(at),
            "{\"type\":\"run.expired\",\"at\":\"1970-01-01T00:00:01.500Z\"}"
        );
    }

    #[test]
    fn a_job_reads_back_from_its_text() {
        let job = Position::new(42).expect("a position");
        assert_eq!(parse_job(&job_text(job)), Some(job));
        for text in ["42", "", "000000000000004x", "+000000000000042"] {
            assert_eq!(parse_job(text), None, "{text}");
        }
    }
}
