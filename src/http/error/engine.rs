//! What the engine refuses, and the rules of streams behind it. Its facts become words and headers here.

use http::StatusCode;
use tailwater_storage::engine::{
    AppendError, ChangesGone, CreateError, DeleteError, EngineError, OpenError, ReadFailure, TrimError,
};
use tailwater_storage::stream::producer::ProducerRefusal;
use tailwater_storage::stream::{
    AppendRefusal, CreateRefusal, DeleteRefusal, ForkRefusal, LeaseRefusal, OffsetRefusal, OffsetToken,
    TrimRefusal,
};

use super::{Problem, sentence};
use crate::http::headers;
use crate::transfer::IntakeError;

impl Problem {
    fn stream_not_found() -> Self {
        let detail = "There is no such stream; create it with PUT.";
        Self::new(StatusCode::NOT_FOUND, "stream_not_found", detail)
    }

    fn stream_gone() -> Self {
        let detail = "The stream was deleted and is kept only for its forks; use another name.";
        Self::new(StatusCode::GONE, "stream_gone", detail)
    }

    fn open_run() -> Self {
        let detail = "The stream is a run that has not ended; cancel it first, or wait for its end.";
        Self::conflict("run_open", detail)
    }

    fn stream_full(bytes: u64, bytes_max: u64) -> Self {
        let detail = format!(
            "The stream would hold {bytes} bytes and may hold {bytes_max}; trim it, begin another one, or raise \
             limits.max_stream_bytes."
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "stream_full", detail).fact("max_bytes", bytes_max)
    }

    fn content_type_mismatch(expected: &str) -> Self {
        let detail = format!("The stream's content type is {expected}; send that as Content-Type.");
        Self::conflict("content_type_mismatch", detail).fact("expected", expected)
    }

    fn tail_mismatch(tail: OffsetToken) -> Self {
        let detail = "The tail is not the offset in If-Match; read what is new and decide again.";
        Self::new(StatusCode::PRECONDITION_FAILED, "tail_mismatch", detail).next_offset(tail)
    }

    fn next_offset(self, tail: OffsetToken) -> Self {
        self.with(&headers::STREAM_NEXT_OFFSET, headers::token(tail))
            .fact("next_offset", tail.to_string())
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Full => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage_full",
                "There is no space left; delete or trim streams, or raise limits.max_memory_bytes in memory mode, or \
                 make room on the disk in the other modes.",
            ),
            EngineError::Backend(_) => Self::storage_failed(),
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        let detail = sentence(&error);
        match error {
            IntakeError::Storage { error, .. } => error.into(),
            IntakeError::Format(_) | IntakeError::LongLine { .. } | IntakeError::CutOff { .. } => {
                Self::bad_request("invalid_export", detail)
            }
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotFound => Self::stream_not_found(),
            OpenError::Gone => Self::stream_gone(),
            OpenError::Engine(error) => error.into(),
        }
    }
}

impl From<ReadFailure> for Problem {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Gone => Self::stream_not_found(),
            ReadFailure::Trimmed { oldest } => OffsetRefusal::Trimmed { oldest }.into(),
            ReadFailure::Engine(error) => error.into(),
        }
    }
}

impl From<OffsetRefusal> for Problem {
    fn from(refusal: OffsetRefusal) -> Self {
        match refusal {
            OffsetRefusal::Unknown => {
                let detail = "The stream never gave out this offset, or was deleted and created anew since; begin \
                              again from `-1`.";
                Self::new(StatusCode::GONE, "offset_unknown", detail)
            }
            OffsetRefusal::Trimmed { oldest } => {
                let detail = format!("The stream begins at {oldest} by now; read from there.");
                Self::new(StatusCode::GONE, "offset_trimmed", detail)
                    .with(&headers::STREAM_OLDEST_OFFSET, headers::token(oldest))
                    .fact("oldest_offset", oldest.to_string())
            }
        }
    }
}

impl From<DeleteError> for Problem {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::NotFound => Self::stream_not_found(),
            DeleteError::Gone => Self::stream_gone(),
            DeleteError::Refused(DeleteRefusal::OpenRun) => Self::open_run(),
            DeleteError::Refused(DeleteRefusal::TailMismatch { tail }) => Self::tail_mismatch(tail),
            DeleteError::Engine(error) => error.into(),
        }
    }
}

impl From<TrimError> for Problem {
    fn from(error: TrimError) -> Self {
        match error {
            TrimError::NotFound => Self::stream_not_found(),
            TrimError::Gone => Self::stream_gone(),
            TrimError::Refused(TrimRefusal::OpenRun) => Self::open_run(),
            TrimError::Refused(TrimRefusal::Unknown) => OffsetRefusal::Unknown.into(),
            TrimError::Engine(error) => error.into(),
        }
    }
}

impl From<ChangesGone> for Problem {
    fn from(_: ChangesGone) -> Self {
        let detail = "The change feed does not reach back to this token; list the streams again and go on with the \
                      token that the listing gives.";
        Self::new(StatusCode::GONE, "changes_gone", detail)
    }
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Refused(refusal) => refusal.into(),
            CreateError::HeldByForks => Self::conflict(
                "name_held_by_forks",
                "The name belongs to a deleted stream that still has forks; delete them first or use another name.",
            ),
            CreateError::SourceNotFound => Self::new(
                StatusCode::NOT_FOUND,
                "source_not_found",
                "There is no stream at the path in Stream-Forked-From; create it first.",
            ),
            CreateError::SourceGone => Self::conflict(
                "source_gone",
                "The stream at the path in Stream-Forked-From was deleted; fork from one that exists.",
            ),
            CreateError::ForkContentType { expected } => Self::content_type_mismatch(expected.as_str()),
            CreateError::Fork(refusal) => Self::from(refusal),
            CreateError::Engine(error) => error.into(),
        }
    }
}

impl From<ForkRefusal> for Problem {
    fn from(refusal: ForkRefusal) -> Self {
        match refusal {
            ForkRefusal::Offset | ForkRefusal::Trimmed | ForkRefusal::SubOffset => {
                Self::bad_request("invalid_fork", sentence(&refusal))
            }
        }
    }
}

impl From<CreateRefusal> for Problem {
    fn from(refusal: CreateRefusal) -> Self {
        match refusal {
            CreateRefusal::Exists => {
                let detail = "A stream of that name exists, and only a new one was wanted (If-None-Match: *); use it as it is, or \
                              another name.";
                Self::new(StatusCode::PRECONDITION_FAILED, "already_exists", detail)
            }
            CreateRefusal::Conflict { difference } => {
                let detail = format!(
                    "A stream of that name exists, but its {difference} differs; use it as it is, or another name."
                );
                Self::conflict("stream_exists", detail).fact("difference", difference)
            }
            CreateRefusal::Json(refusal) => Self::bad_request("invalid_json", sentence(&refusal)),
            CreateRefusal::TooLarge { bytes, bytes_max } => Self::stream_full(bytes, bytes_max),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NotFound => Self::stream_not_found(),
            AppendError::Gone => Self::stream_gone(),
            AppendError::Refused(refusal) => refusal.into(),
            AppendError::Engine(error) => error.into(),
        }
    }
}

impl From<AppendRefusal> for Problem {
    fn from(refusal: AppendRefusal) -> Self {
        match refusal {
            AppendRefusal::Empty => Self::empty_body(),
            AppendRefusal::Closed { tail } => {
                let detail = "The stream is closed and takes no more appends; begin another one.";
                Self::conflict("stream_closed", detail)
                    .with(&headers::STREAM_CLOSED, headers::TRUE.clone())
                    .next_offset(tail)
            }
            AppendRefusal::ContentType { expected } => Self::content_type_mismatch(expected.as_str()),
            AppendRefusal::Lease(refusal) => refusal.into(),
            AppendRefusal::Producer(refusal) => refusal.into(),
            AppendRefusal::TailMismatch { tail } => Self::tail_mismatch(tail),
            AppendRefusal::StreamSeq { last } => {
                let detail =
                    format!("Stream-Seq must be greater, byte by byte, than the last one, {last:?}.");
                Self::conflict("stream_seq_regression", detail).fact("last", &*last)
            }
            AppendRefusal::Json(refusal) => Self::bad_request("invalid_json", sentence(&refusal)),
            AppendRefusal::NoMessages => {
                let detail = "The body is an empty array, which appends nothing; send at least one message.";
                Self::bad_request("empty_json_array", detail)
            }
            AppendRefusal::StreamFull { bytes, bytes_max } => Self::stream_full(bytes, bytes_max),
        }
    }
}

impl From<LeaseRefusal> for Problem {
    fn from(refusal: LeaseRefusal) -> Self {
        let why = sentence(&refusal);
        let what = match refusal {
            LeaseRefusal::Reserved { kind, .. } => {
                let detail =
                    format!("{why} Name it otherwise, or end the run by completing or failing its job.");
                return Self::bad_request("reserved_event_type", detail).fact("event_type", &*kind);
            }
            LeaseRefusal::NotTheLease => {
                "Claim the job, and append with Producer-Id, Producer-Epoch and Producer-Seq as the claim says."
            }
            LeaseRefusal::NotLeased => "Stop: claim the job again to go on with it.",
            LeaseRefusal::NotGiven { .. } => "Send the epoch of your own claim.",
            LeaseRefusal::Closes => {
                "Leave Stream-Closed out, and end the run by completing or failing its job."
            }
        };
        Self::new(StatusCode::FORBIDDEN, "run_lease", format!("{why} {what}"))
    }
}

impl From<ProducerRefusal> for Problem {
    fn from(refusal: ProducerRefusal) -> Self {
        match refusal {
            ProducerRefusal::Fenced { current } => {
                let current = current.get();
                let detail = format!(
                    "Epoch {current} of this producer has taken over; stop, or claim it with a greater epoch."
                );
                Self::new(StatusCode::FORBIDDEN, "producer_fenced", detail)
                    .with(&headers::PRODUCER_EPOCH, headers::number(current))
                    .fact("current_epoch", current)
            }
            ProducerRefusal::EpochStart => Self::bad_request(
                "producer_epoch_start",
                "A new Producer-Epoch must begin with Producer-Seq 0.",
            ),
            ProducerRefusal::Gap { expected, received } => {
                let (expected, received) = (expected.get(), received.get());
                let detail = format!(
                    "Producer-Seq {expected} is next, but {received} came; send the missing ones first."
                );
                Self::conflict("producer_seq_gap", detail)
                    .with(&headers::PRODUCER_EXPECTED_SEQ, headers::number(expected))
                    .with(&headers::PRODUCER_RECEIVED_SEQ, headers::number(received))
                    .fact("expected", expected)
                    .fact("received", received)
            }
            ProducerRefusal::TooMany { producers_max } => {
                let detail = format!(
                    "The stream already has {producers_max} producers; reuse their ids, or raise \
                     limits.max_producers_per_stream."
                );
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "producer_limit", detail)
                    .fact("max_producers", producers_max)
            }
        }
    }
}
