//! Why operations on schedules are refused.

use tailwater_stream::StreamName;
use tailwater_stream::schedule::CronRefusal;

use crate::engine::{EngineError, HiddenError};

/// Why a schedule is neither made nor changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// There are as many as there may be.
    #[error("there are {schedules_max} schedules already")]
    TooMany {
        /// How many there may be.
        schedules_max: usize,
    },
    /// Nobody knows the time zone.
    #[error("there is no such time zone")]
    Zone,
    /// The cron expression has another form.
    #[error(transparent)]
    Cron(#[from] CronRefusal),
    /// It would not fire once.
    #[error("it would never fire")]
    NeverFires,
    /// There is no stream to append to.
    #[error("there is no stream `{stream}`")]
    NoStream {
        /// Its name.
        stream: StreamName,
    },
    /// The stream does not hold JSON.
    #[error("the stream `{stream}` holds {content_type}")]
    NotJson {
        /// Its name.
        stream: StreamName,
        /// What it holds.
        content_type: Box<str>,
    },
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why nothing is told of a schedule, or it is not deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ScheduleError {
    /// There is none of that id.
    #[error("there is no such schedule")]
    NotFound,
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<HiddenError> for ScheduleError {
    fn from(error: HiddenError) -> Self {
        match error {
            HiddenError::Gone => Self::NotFound,
            HiddenError::Engine(error) => Self::Engine(error),
        }
    }
}
