//! When an event stream sends comments, and when it ends. Knows nothing of what is in it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::App;
use crate::config::HttpConfig;

/// When an event stream sends a comment, and when it ends so that the client comes again.
pub(super) struct Pace {
    timer: Pin<Box<Sleep>>,
    keep_alive: Duration,
    last_sent: Instant,
    ends_at: Instant,
    /// When the client has to go, if that is known: behind it nothing more is sent.
    deadline: Option<Instant>,
}

/// What it is time for.
pub(super) enum Due {
    KeepAlive,
    End,
}

impl Pace {
    /// Begins now; at a `deadline` the client has to go.
    pub(super) fn new(config: &HttpConfig, deadline: Option<Instant>) -> Self {
        let now = Instant::now();
        // Connections that were opened together do not end together.
        let duration = config.sse_duration_max;
        let ends_at = now + duration.mul_f64(0.9 + 0.2 * fastrand::f64());
        let ends_at = deadline.map_or(ends_at, |deadline| deadline.min(ends_at));
        let keep_alive = config.sse_keep_alive;
        let timer = Box::pin(sleep_until(ends_at.min(now + keep_alive)));
        Self {
            timer,
            keep_alive,
            last_sent: now,
            ends_at,
            deadline,
        }
    }

    pub(super) fn sent(&mut self) {
        self.last_sent = Instant::now();
    }

    /// Whether it was time to end when something was last sent, or the client's time is over by now. Without a deadline
    /// the clock is not looked at: one frame more does no harm then.
    pub(super) fn is_over(&self) -> bool {
        self.last_sent >= self.ends_at || !self.may_send()
    }

    /// Whether the client may still be sent something.
    pub(super) fn may_send(&self) -> bool {
        self.deadline.is_none_or(|deadline| Instant::now() < deadline)
    }

    /// Waits for `what`, but no longer than until something is due or the server begins to stop.
    pub(super) async fn wait_for<T>(
        &mut self,
        what: impl Future<Output = T>,
        stopping: &mut Stopping,
    ) -> Result<T, Due> {
        tokio::select! {
            biased;
            () = stopping.as_mut() => Err(Due::End),
            due = self.due() => Err(due),
            done = what => Ok(done),
        }
    }

    /// Waits until something is due. One timer serves the whole connection; it is set again only when it fires.
    pub(super) async fn due(&mut self) -> Due {
        loop {
            self.timer.as_mut().await;
            let now = Instant::now();
            if now >= self.ends_at {
                return Due::End;
            }
            let silent_since = self.last_sent;
            let is_silent = now >= silent_since + self.keep_alive;
            let next = if is_silent { now } else { silent_since } + self.keep_alive;
            self.timer.as_mut().reset(self.ends_at.min(next));
            if is_silent {
                self.last_sent = now;
                return Due::KeepAlive;
            }
        }
    }
}

/// Ends when the server begins to stop. One wait serves the whole connection.
pub(super) type Stopping = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

pub(super) fn stops(app: &App) -> Stopping {
    let mut stopping = app.stopping();
    Box::pin(async move {
        // The sender lives as long as the connection, so the wait ends only when the server stops.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn pace(left: Option<Duration>) -> Pace {
        let config = HttpConfig {
            sse_keep_alive: DAY,
            sse_duration_max: DAY,
            ..Config::default().http
        };
        Pace::new(&config, left.map(|left| Instant::now() + left))
    }

    #[tokio::test]
    async fn a_client_whose_time_is_over_gets_nothing_more_though_it_was_slow_to_take_what_came_before() {
        let mut pace = pace(Some(Duration::ZERO));
        // What was last sent was begun before the deadline.
        pace.last_sent -= Duration::from_secs(1);
        assert!(pace.is_over());
        assert!(matches!(pace.due().await, Due::End));
    }

    /// A turn may be long in coming. Connections fell silent meanwhile, and outlived their deadline and the server.
    #[tokio::test]
    async fn whoever_waits_for_something_keeps_alive_and_ends_in_time() {
        let never = || std::future::pending::<()>();
        let on = || -> Stopping { Box::pin(std::future::pending()) };
        let mut silent = Pace::new(
            &HttpConfig {
                sse_keep_alive: Duration::ZERO,
                ..Config::default().http
            },
            None,
        );
        let due = silent.wait_for(never(), &mut on()).await;
        assert!(matches!(due, Err(Due::KeepAlive)));
        let due = pace(Some(Duration::ZERO)).wait_for(never(), &mut on()).await;
        assert!(matches!(due, Err(Due::End)));
        let mut stops: Stopping = Box::pin(std::future::ready(()));
        let due = pace(None).wait_for(never(), &mut stops).await;
        assert!(matches!(due, Err(Due::End)));
        let done = pace(None).wait_for(std::future::ready(7), &mut on()).await;
        assert!(matches!(done, Ok(7)));
    }

    #[tokio::test]
    async fn a_deadline_that_is_further_away_than_the_end_changes_nothing() {
        assert!(!pace(None).is_over());
        let far = pace(Some(7 * DAY));
        assert!(!far.is_over());
        assert!(far.ends_at < Instant::now() + 2 * DAY);
    }
}
