//! Why operations on subscriptions are refused.

use tailwater_stream::subscription::{LeaseRefusal, StreamsRefusal};

use crate::engine::{EngineError, HiddenError};

/// Why a subscription is not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubscribeError {
    /// There is one of that id that was asked for in another way.
    #[error("a subscription of this id exists, but its {difference} differs")]
    Exists {
        /// The first thing that differs.
        difference: &'static str,
    },
    /// There are as many as there may be.
    #[error("there are {subscriptions_max} subscriptions already")]
    TooMany {
        /// How many there may be.
        subscriptions_max: usize,
    },
    /// Its streams cannot be linked.
    #[error(transparent)]
    Streams(#[from] StreamsRefusal),
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why nothing is told of a subscription, or it is not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubscriptionError {
    /// There is none of that id.
    #[error("there is no such subscription")]
    NotFound,
    /// Streams cannot be linked.
    #[error(transparent)]
    Streams(#[from] StreamsRefusal),
    /// The rules refuse what a worker says.
    #[error(transparent)]
    Lease(#[from] LeaseRefusal),
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<HiddenError> for SubscriptionError {
    fn from(error: HiddenError) -> Self {
        match error {
            HiddenError::Gone => Self::NotFound,
            HiddenError::Engine(error) => Self::Engine(error),
        }
    }
}

/// A hidden stream that nobody else knows cannot go away while it is filled.
impl From<HiddenError> for SubscribeError {
    fn from(error: HiddenError) -> Self {
        match error {
            HiddenError::Gone => Self::Engine(crate::BackendError::Poisoned.into()),
            HiddenError::Engine(error) => Self::Engine(error),
        }
    }
}
