//! Waits out refusals for load: the server asks its clients to come again, and they do.

use std::time::Duration;

use tailwater_process::Backoff;
use tokio::time::Instant;

use crate::client::ClientError;

/// Whoever waits in front of a terminal is told after this that it was for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries until it is done or refused for another reason than load, or until patience ends. Waits for at least as long as
/// the server asks for.
pub(super) async fn patiently<T>(
    attempt: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    within(PATIENCE, attempt).await
}

async fn within<T>(
    patience: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let ends_at = Instant::now() + patience;
    let mut backoff = Backoff::default();
    loop {
        let error = match attempt().await {
            Err(error) if error.is_overload() => error,
            done => return done,
        };
        let asked = error.problem().and_then(|problem| problem.retry_after);
        let delay = backoff.next(fastrand::f64(), asked);
        if Instant::now() + delay > ends_at {
            return Err(error);
        }
        eprintln!("{error}; trying again in {:.1} s", delay.as_secs_f64());
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::within;
    use crate::client::{ClientError, Problem};

    fn refused(status: u16, code: &str, retry_after_secs: u64) -> ClientError {
        ClientError::Refused {
            problem: Box::new(Problem {
                action: "read `orders`".to_owned(),
                status: StatusCode::from_u16(status).expect("a status"),
                code: Some(code.to_owned()),
                detail: None,
                field: None,
                closed: false,
                retry_after: Some(Duration::from_secs(retry_after_secs)),
                producer_epoch: None,
                is_safe: false,
            }),
        }
    }

    #[tokio::test]
    async fn what_is_refused_for_load_is_tried_again_until_it_is_done() {
        let mut attempts = 0;
        let done = within(Duration::from_secs(600), async || {
            attempts += 1;
            match attempts {
                1 => Err(refused(429, "too_many_client_requests", 0)),
                2 => Err(refused(503, "too_many_reads", 0)),
                _ => Ok("done"),
            }
        });
        assert_eq!(done.await.expect("the third attempt"), "done");
        assert_eq!(attempts, 3);
    }

    #[tokio::test]
    async fn other_refusals_and_too_long_waits_are_told_at_once() {
        for (status, code, seconds) in [
            (404, "stream_not_found", 0),
            (503, "storage_failed", 0),
            // More than patience has left.
            (429, "too_many_client_requests", 30),
        ] {
            let mut attempts = 0;
            let outcome = within(Duration::from_secs(10), async || {
                attempts += 1;
                Err::<(), _>(refused(status, code, seconds))
            });
            outcome.await.expect_err("refused");
            assert_eq!(attempts, 1, "{code}");
        }
    }
}
