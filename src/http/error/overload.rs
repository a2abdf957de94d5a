//! What is refused because there is too much of it: of one client with 429, of all together with 503. Each says when to come
//! again.

use std::time::Duration;

use http::StatusCode;

use super::Problem;
use crate::http::headers;
use crate::limits::{Excess, Kind};

/// When another try may help, if nothing says more.
const RETRY_WAIT: Duration = Duration::from_secs(1);

impl Problem {
    pub(super) fn busy(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after_secs(RETRY_WAIT.as_secs())
    }

    /// A client has more than its part, while the server has room for others.
    fn excessive(code: &'static str, excess: &Excess, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail).limited_to(excess)
    }

    pub(crate) fn too_many_bytes_in_flight(bytes_max: usize) -> Self {
        let detail = format!(
            "Request bodies in flight exceed {bytes_max} bytes; try again shortly, or raise limits.max_in_flight_bytes."
        );
        Self::busy("too_many_bytes_in_flight", detail)
    }

    pub(crate) fn too_many_live_readers(readers_max: usize) -> Self {
        let detail = format!(
            "{readers_max} live reads are open; try again shortly, or raise limits.max_live_readers."
        );
        Self::busy("too_many_live_readers", detail)
    }

    pub(crate) fn too_many_reads() -> Self {
        let detail = "Reads would take too much of the time that appends need; try again shortly, or raise \
                      limits.max_read_share_percent or limits.max_read_wait_ms.";
        Self::busy("too_many_reads", detail)
    }

    pub(crate) fn too_many_requests(requests_max: usize) -> Self {
        let detail = format!(
            "{requests_max} requests are being answered; try again shortly, or raise limits.max_requests."
        );
        Self::busy("too_many_requests", detail)
    }

    pub(crate) fn too_many_client_requests(kind: Kind, excess: &Excess) -> Self {
        let (what, setting) = match kind {
            Kind::Read => ("reads", "limits.max_client_reads_per_sec"),
            Kind::Write => ("writes", "limits.max_client_writes_per_sec"),
        };
        let detail = format!(
            "This client makes more {what} than it may; slow down and try again after Retry-After, or raise {setting}."
        );
        Self::excessive("too_many_client_requests", excess, detail)
    }

    pub(crate) fn too_many_client_requests_at_once(excess: &Excess) -> Self {
        let detail = format!(
            "{} requests of this client are being answered; wait for answers before you send more, or raise \
             limits.max_client_requests.",
            excess.limit
        );
        Self::excessive("too_many_client_requests_at_once", excess, detail)
    }

    pub(crate) fn too_many_client_connections(excess: &Excess) -> Self {
        let detail = format!(
            "This client has {} connections open; use them again, or close some, or raise \
             limits.max_client_connections.",
            excess.limit
        );
        Self::excessive("too_many_client_connections", excess, detail)
    }

    pub(crate) fn too_many_client_live_readers(excess: &Excess) -> Self {
        let detail = format!(
            "This client has {} live reads open; end some, or raise limits.max_client_live_readers.",
            excess.limit
        );
        Self::excessive("too_many_client_live_readers", excess, detail)
    }

    pub(crate) fn too_many_client_bytes_in_flight(excess: &Excess) -> Self {
        let detail = format!(
            "This client's request bodies in flight exceed {} bytes; wait for answers before you send more, or raise \
             limits.max_client_in_flight_bytes.",
            excess.limit
        );
        Self::excessive("too_many_client_bytes_in_flight", excess, detail)
    }

    pub(crate) fn too_many_connections(connections_max: usize) -> Self {
        let detail = format!(
            "{connections_max} connections are open; try again shortly, or raise limits.max_connections."
        );
        Self::busy("too_many_connections", detail)
    }

    /// Says how much is allowed to a client that has nothing left.
    fn limited_to(self, excess: &Excess) -> Self {
        // Whole seconds, rounded up: whoever comes then is not refused again for having come too early.
        let wait = excess.wait.unwrap_or(RETRY_WAIT);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.retry_after_secs(seconds.max(1))
            .with(&headers::X_RATELIMIT_LIMIT, headers::number(excess.limit))
            .with(&headers::X_RATELIMIT_REMAINING, headers::number(0))
            .fact("limit", excess.limit)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::RETRY_AFTER;

    use super::{Excess, Kind, Problem};

    #[test]
    fn whoever_comes_after_the_time_that_is_told_does_not_come_too_early() {
        for (wait_ms, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (59_999, "60")] {
            let excess = Excess {
                limit: 7,
                wait: Some(Duration::from_millis(wait_ms)),
            };
            let refusal = Problem::too_many_client_requests(Kind::Read, &excess).into_response();
            assert_eq!(refusal.status(), 429);
            assert_eq!(refusal.headers()[RETRY_AFTER], seconds, "{wait_ms} ms");
            assert_eq!(refusal.headers()["x-ratelimit-limit"], "7");
        }
    }
}
