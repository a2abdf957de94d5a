//! Refusals of the operations on subscriptions, in the form that the protocol gives them (PROTOCOL.md §7).

use http::StatusCode;
use tailwater_storage::stream::subscription::{LeaseRefusal, StreamsRefusal};
use tailwater_storage::subscriptions::{SubscribeError, SubscriptionError};

use super::{Form, Problem, sentence};
use crate::webhooks::{TokenError, UrlError};

impl Problem {
    /// A refusal whose body is `{"error": {"code": …, "message": …}}`.
    fn protocol(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut problem = Self::new(status, code, message);
        problem.0.form = Form::Protocol;
        problem
    }

    /// What was sent cannot be meant. `what` names the field, the value and what to do.
    pub(crate) fn invalid_request(what: &(impl ToString + ?Sized)) -> Self {
        Self::protocol(
            StatusCode::BAD_REQUEST,
            "INVALID_REQUEST",
            sentence(&what.to_string()),
        )
    }

    pub(crate) fn webhook_url(error: &UrlError) -> Self {
        Self::protocol(StatusCode::BAD_REQUEST, "WEBHOOK_URL_REJECTED", sentence(error))
    }

    pub(crate) fn ack_offset(name: &str, offset: &str) -> Self {
        let message = format!(
            "`{name}.offset` is {offset:?}; send an offset as the wake gave it in `tail_offset`, or as an answer to a read \
             did in Stream-Next-Offset."
        );
        Self::protocol(StatusCode::CONFLICT, "INVALID_OFFSET", message)
    }

    pub(crate) fn missing_token() -> Self {
        let message = "The header Authorization is missing or does not begin with `Bearer `; send the token that came \
                       with the wake.";
        Self::protocol(StatusCode::UNAUTHORIZED, "TOKEN_INVALID", message)
    }

    pub(crate) fn token(error: &TokenError) -> Self {
        Self::protocol(StatusCode::UNAUTHORIZED, error.code(), sentence(error))
    }
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Exists { difference } => {
                let message = format!(
                    "A subscription of this id exists, but its {difference} differs; use it as it is, delete it first, or \
                     choose another id."
                );
                Self::protocol(StatusCode::CONFLICT, "SUBSCRIPTION_ALREADY_EXISTS", message)
            }
            SubscribeError::TooMany { subscriptions_max } => {
                let message = format!(
                    "There are {subscriptions_max} subscriptions already; delete some, or raise \
                     subscriptions.max_subscriptions."
                );
                Self::protocol(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "TOO_MANY_SUBSCRIPTIONS",
                    message,
                )
            }
            SubscribeError::Streams(refusal) => refusal.into(),
            SubscribeError::Engine(error) => error.into(),
        }
    }
}

impl From<SubscriptionError> for Problem {
    fn from(error: SubscriptionError) -> Self {
        match error {
            SubscriptionError::NotFound => Self::protocol(
                StatusCode::NOT_FOUND,
                "SUBSCRIPTION_NOT_FOUND",
                "There is no such subscription; make it with PUT.",
            ),
            SubscriptionError::Streams(refusal) => refusal.into(),
            SubscriptionError::Lease(refusal) => refusal.into(),
            SubscriptionError::Engine(error) => error.into(),
        }
    }
}

impl From<StreamsRefusal> for Problem {
    fn from(refusal: StreamsRefusal) -> Self {
        match refusal {
            StreamsRefusal::TooMany { links, links_max } => {
                let message = format!(
                    "The subscription would name {links} streams and may name {links_max}; use a pattern, or raise \
                     subscriptions.max_named_streams."
                );
                Self::protocol(StatusCode::INSUFFICIENT_STORAGE, "TOO_MANY_STREAMS", message)
            }
            StreamsRefusal::WakeStream { .. } => {
                Self::invalid_request(&format!("{refusal}; leave it out of `streams`"))
            }
        }
    }
}

impl From<LeaseRefusal> for Problem {
    fn from(refusal: LeaseRefusal) -> Self {
        let conflict = |code, message: String| Self::protocol(StatusCode::CONFLICT, code, message);
        let said = sentence(&refusal);
        match refusal {
            LeaseRefusal::WrongType { .. } => Self::invalid_request(&format!(
                "{refusal}; callbacks are for webhooks, claims, acks and releases for pull-wake"
            )),
            LeaseRefusal::AlreadyClaimed { holder, generation } => {
                conflict("ALREADY_CLAIMED", format!("{said} Wait for the next wake."))
                    .fact("current_holder", &*holder)
                    .fact("generation", generation)
            }
            LeaseRefusal::NoPendingWork => conflict("NO_PENDING_WORK", said),
            LeaseRefusal::Fenced { generation } => {
                let message = format!("{said} Stop, and begin anew with the next wake.");
                conflict("FENCED", message).fact("generation", generation)
            }
            LeaseRefusal::NotLinked { .. }
            | LeaseRefusal::UnknownOffset { .. }
            | LeaseRefusal::Regress { .. } => conflict("INVALID_OFFSET", said),
        }
    }
}
