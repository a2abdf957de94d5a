//! How long a client may be answered: the end of the token that a proxy has let it in with.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use tailwater_storage::stream::Timestamp;
use tokio::time::Instant;

use super::error::Problem;
use super::headers;

/// When a client has to go. What waits on its behalf ends by then; an answer that has begun is sent to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline(Timestamp);

impl Deadline {
    /// The deadline in the header `name`, whole seconds since 1970, as a trusted proxy gives it; none if it gives none.
    pub(super) fn of(
        head: &HeaderMap,
        name: &HeaderName,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Option<Self>, Problem> {
        let mut values = head.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            let fix = "comes more than once; let the proxy set it and take out what clients send";
            return Err(Problem::from_proxy(name, fix));
        }
        let seconds = value
            .to_str()
            .ok()
            .and_then(|text| headers::decimal(text, u64::MAX));
        let Some(seconds) = seconds else {
            let fix = "let the proxy send whole seconds since 1970, such as 1795213228";
            return Err(Problem::from_proxy(name, &format!("is {value:?}; {fix}")));
        };
        let deadline = Self(Timestamp::from_millis(seconds.saturating_mul(1000)));
        deadline.check(name, now())?;
        Ok(Some(deadline))
    }

    /// # Errors
    /// If the time is over.
    pub(super) fn check(self, name: &HeaderName, now: Timestamp) -> Result<(), Problem> {
        if self.0 <= now {
            return Err(Problem::deadline_passed(name, self.0.as_millis() / 1000));
        }
        Ok(())
    }

    /// Milliseconds until then.
    pub(super) fn left_ms(self, now: Timestamp) -> u64 {
        self.0.millis_since(now)
    }

    /// The same on the clock that timers go by, for which it is `now`; none if it is too far for that.
    pub(super) fn instant(self, now: Timestamp) -> Option<Instant> {
        let left = Duration::from_millis(self.left_ms(now));
        Instant::now().checked_add(left)
    }
}
