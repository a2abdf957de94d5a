//! Refusals of the operations on queues and runs.

use http::StatusCode;
use tailwater_storage::queues::{QueueError, UnfitStream};
use tailwater_storage::stream::queue::event::job_text;
use tailwater_storage::stream::queue::{ConfigRefusal, EnvelopeRefusal, WorkerRefusal};
use tailwater_storage::stream::{AppendRefusal, ForkRefusal};

use super::{Problem, sentence};
use crate::http::headers;

impl Problem {
    /// A member of a body cannot be meant. `what` says its value and what to do.
    pub(crate) fn member(name: &str, what: &str) -> Self {
        Self::bad_request("invalid_member", format!("`{name}` {what}.")).fact("field", name)
    }

    pub(crate) fn stream_is_queue(name: &str, base: &str) -> Self {
        let detail = format!(
            "The stream is a job queue, which trims it by itself; delete the queue first: DELETE \
             {base}/__ds/queues/{name} ends what is open and leaves a plain stream."
        );
        Self::conflict("stream_is_queue", detail)
    }

    pub(crate) fn queue_trims_itself() -> Self {
        let detail = "The stream is a job queue, which is trimmed by itself as its jobs are taken; purge the queue if they are not \
                      wanted.";
        Self::conflict("stream_is_queue", detail)
    }

    pub(crate) fn queue_name(name: &str) -> Self {
        let detail = format!(
            "`{name}` ends with `dead`, and the path of its queue would mean dead letters; choose another name for the \
             stream."
        );
        Self::bad_request("invalid_queue", detail)
    }

    fn queue_not_found() -> Self {
        let detail = "There is no such queue; make it with PUT.";
        Self::new(StatusCode::NOT_FOUND, "queue_not_found", detail)
    }

    fn run_adrift(run: &str) -> Self {
        let detail = format!(
            "The run `{run}` is not as its queue has it, because an import has brought one of them as of another moment, or is \
             still bringing it, or because its stream is damaged; the job follows its run, so try again."
        );
        Self::busy("run_adrift", detail).fact("run", run)
    }

    fn run_not_found() -> Self {
        let detail = "There is no such run, or its queue was deleted.";
        Self::new(StatusCode::NOT_FOUND, "run_not_found", detail)
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let said = sentence(&error);
        match error {
            QueueError::NotFound => Self::queue_not_found(),
            QueueError::Interrupted => {
                let detail = format!("{said} Look, and try again; the server's log says where it was.");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "interrupted", detail)
            }
            QueueError::Stopping => Self::shutting_down(),
            QueueError::RunNotFound => Self::run_not_found(),
            QueueError::Deleting => {
                Self::conflict("queue_deleting", format!("{said} Make it anew once it is gone."))
            }
            QueueError::TooMany { queues_max } => {
                let detail = format!(
                    "There are {queues_max} queues already; delete some, or raise queues.max_queues."
                );
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_queues", detail)
            }
            QueueError::Config(refusal) => refusal.into(),
            QueueError::Unchangeable { field } => {
                let detail = format!("{said} Send it as it is, or delete the queue first.");
                Self::conflict("queue_conflict", detail).fact("field", field)
            }
            QueueError::PrefixTaken { queue } => {
                let detail = format!("{said} Choose another `run_prefix`, or delete one of the two queues.");
                Self::conflict("run_prefix_taken", detail).fact("queue", queue.as_str())
            }
            QueueError::NumberTaken { run } => {
                let detail = format!("{said} Choose another `run_prefix`, or delete the runs below it.");
                Self::conflict("run_prefix_taken", detail).fact("run", run.as_str())
            }
            QueueError::Unfit(unfit) => unfit.into(),
            QueueError::Closed => {
                Self::conflict("queue_closed", format!("{said} Make a queue of another stream."))
            }
            QueueError::Append(refusal) => AppendRefusal::into(refusal),
            QueueError::Envelope(refusal) => EnvelopeRefusal::into(refusal),
            QueueError::Conflict { run } => {
                let detail = format!("{said} Send it with another id, or the payload of before.");
                Self::conflict("job_conflict", detail).fact("run", run.as_str())
            }
            QueueError::NameTaken { run } => {
                let detail = format!("{said} Choose another id.");
                Self::conflict("run_name_taken", detail).fact("run", run.as_str())
            }
            QueueError::NameHeldByForks { run } => {
                let detail = format!("{said} Choose another id, or delete the forks first.");
                Self::conflict("run_name_taken", detail).fact("run", run.as_str())
            }
            QueueError::RunDamaged { run } => {
                let detail = format!("{said} Choose another id, or restore the run from a backup.");
                Self::conflict("run_damaged", detail).fact("run", run.as_str())
            }
            QueueError::Undecided { job, run } => {
                let detail = format!(
                    "{said} It begins by itself once there is space, the server is back, or the queue is made anew. Do not send \
                     it as another job: ask for that run, or send it again with the `id` or Idempotency-Key that it had."
                );
                Self::busy("job_undecided", detail)
                    .fact("job", job_text(job))
                    .fact("run", run.as_str())
            }
            QueueError::Worker(refusal) => refusal.into(),
            QueueError::Seq { expected, received } => {
                let detail = format!("{said} Send the number behind that of your last event.");
                Self::conflict("producer_seq_gap", detail)
                    .with(&headers::PRODUCER_EXPECTED_SEQ, headers::number(expected))
                    .with(&headers::PRODUCER_RECEIVED_SEQ, headers::number(received))
                    .fact("expected", expected)
                    .fact("received", received)
            }
            QueueError::NotEnded { state } => {
                let detail = format!("{said} Cancel it first, or wait for its end.");
                Self::conflict("run_open", detail).fact("state", state.name())
            }
            QueueError::NoCheckpoint => {
                Self::conflict("no_checkpoint", format!("{said} Try it anew from the start."))
            }
            QueueError::Fork(refusal) => Self::run_fork(refusal),
            QueueError::DeadNotFound => {
                let detail = format!("{said} It was redriven or purged, or never there.");
                Self::new(StatusCode::NOT_FOUND, "dead_letter_not_found", detail)
            }
            QueueError::DeadInvalid(_) => {
                let detail = format!("{said} Enqueue it as it was meant, and purge the dead letters.");
                Self::conflict("dead_letter_invalid", detail)
            }
            QueueError::DeadLost => {
                let detail = format!("{said} Enqueue what was to be done as another job.");
                Self::new(StatusCode::GONE, "dead_letter_lost", detail)
            }
            QueueError::Adrift { run } => Self::run_adrift(run.as_str()),
            QueueError::Engine(error) => error.into(),
        }
    }
}

impl Problem {
    fn run_fork(refusal: ForkRefusal) -> Self {
        match refusal {
            ForkRefusal::Trimmed => {
                let detail = "The beginning of the run was trimmed, and with it what its worker was given; enqueue the job \
                              anew.";
                Self::new(StatusCode::GONE, "run_trimmed", detail)
            }
            ForkRefusal::Offset | ForkRefusal::SubOffset => {
                let detail = "`from` is no place between two events of the run, or behind its end; send an offset that a \
                              read of the run gave.";
                Self::bad_request("invalid_member", detail).fact("field", "from")
            }
        }
    }
}

impl From<ConfigRefusal> for Problem {
    fn from(refusal: ConfigRefusal) -> Self {
        Self::bad_request("invalid_queue", sentence(&refusal)).fact("field", &*refusal.field)
    }
}

impl From<EnvelopeRefusal> for Problem {
    fn from(refusal: EnvelopeRefusal) -> Self {
        let field = match &refusal {
            EnvelopeRefusal::Unknown { field } => field.to_string(),
            EnvelopeRefusal::Wrong { field, .. } => (*field).to_owned(),
            EnvelopeRefusal::Id { .. } => "id".to_owned(),
            EnvelopeRefusal::KeyTooLong { .. } => "payload".to_owned(),
        };
        Self::bad_request("invalid_job", sentence(&refusal)).fact("field", field)
    }
}

impl From<UnfitStream> for Problem {
    fn from(unfit: UnfitStream) -> Self {
        let said = sentence(&unfit);
        let fix = match unfit {
            UnfitStream::NotJson { .. } => "Use a stream of application/json, or a name that no stream has.",
            UnfitStream::HasLifetime { .. } => {
                "Use a stream without one; `run_retention_ms` deletes runs that have ended."
            }
            UnfitStream::Fork { .. } => "Use a stream of its own.",
            UnfitStream::Run { .. } => "Choose another name.",
            UnfitStream::Queue { .. } => "Name another stream for `dead_letter`.",
            UnfitStream::DeadLetters { .. } => {
                "Choose another name; dead letters are tried anew by `dead/redrive`."
            }
            UnfitStream::Deleted { .. } => "Choose another name, or delete its forks.",
            UnfitStream::Apart { .. } => {
                "Delete that stream, or name one for `dead_letter` that does not exist yet."
            }
        };
        Self::conflict("unfit_stream", format!("{said} {fix}"))
    }
}

impl From<WorkerRefusal> for Problem {
    fn from(refusal: WorkerRefusal) -> Self {
        let said = sentence(&refusal);
        match refusal {
            WorkerRefusal::Fenced { current, .. } => {
                let detail = format!("{said} Stop, and claim another job.");
                Self::new(StatusCode::FORBIDDEN, "lease_fenced", detail).fact("epoch", current)
            }
            WorkerRefusal::UnknownEpoch { current, .. } => {
                let detail = format!("{said} Send the epoch of your own claim.");
                Self::new(StatusCode::FORBIDDEN, "lease_unknown", detail).fact("epoch", current)
            }
            WorkerRefusal::Ended { state } => Self::conflict("run_ended", said).fact("state", state.name()),
        }
    }
}
