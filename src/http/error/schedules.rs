//! Refusals of the operations on schedules.

use http::StatusCode;
use tailwater_storage::schedules::{PutError, ScheduleError};
use tailwater_storage::stream::subscription::IdRefusal;

use super::{Problem, sentence};

impl Problem {
    pub(crate) fn schedule_id(refusal: &IdRefusal) -> Self {
        Self::bad_request("invalid_schedule_id", sentence(refusal))
    }

    /// A schedule that was asked for with these texts.
    pub(crate) fn put_schedule(error: PutError, cron: &str, time_zone: &str) -> Self {
        match error {
            PutError::TooMany { schedules_max } => {
                let detail = format!(
                    "There are {schedules_max} schedules already; delete some, or raise schedules.max_schedules."
                );
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_schedules", detail)
                    .fact("max_schedules", schedules_max)
            }
            PutError::Zone => {
                let what = format!(
                    "is {time_zone:?}, which is no time zone; send an IANA name such as \"Europe/Berlin\""
                );
                Self::member("time_zone", &what)
            }
            PutError::Cron(refusal) => Self::member("cron", &format!("is {cron:?}: {refusal}")),
            PutError::NeverFires => {
                let what = format!(
                    "is {cron:?}, by which nothing would be enqueued any more; send another expression, or look at \
                     `start_at` and `end_at`"
                );
                Self::member("cron", &what)
            }
            PutError::NoStream { stream } => {
                let detail =
                    format!("There is no stream `{stream}`; create it first, or a queue of that name.");
                Self::conflict("schedule_stream_missing", detail).fact("stream", stream.as_str())
            }
            PutError::NotJson { stream, content_type } => {
                let detail = format!(
                    "The stream `{stream}` holds {content_type}, and schedules enqueue JSON; name a stream of \
                     application/json."
                );
                Self::conflict("schedule_stream_not_json", detail).fact("stream", stream.as_str())
            }
            PutError::Engine(error) => error.into(),
        }
    }
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::NotFound => {
                let detail = "There is no such schedule; make it with PUT.";
                Self::new(StatusCode::NOT_FOUND, "schedule_not_found", detail)
            }
            ScheduleError::Engine(error) => error.into(),
        }
    }
}
