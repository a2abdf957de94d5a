//! Passes on what the source tells of its streams, and waits out what keeps it from that. Decides nothing.

use std::convert::Infallible;
use std::sync::Arc;

use tailwater_process::Backoff;
use tokio::sync::mpsc;

use crate::source::{Change, Discovery, Error, Patterns, Source};
use crate::stats::Stats;

/// What was found out.
#[derive(Debug)]
pub(super) enum News {
    /// In the order in which it happened.
    Changes(Vec<Change>),
    /// All streams have been told of, for the first time.
    Listed,
}

/// Tells of all streams until nobody listens. Ends with an error only if the source will not do from the start on.
pub(super) async fn discover(
    source: Source,
    patterns: Patterns,
    news: mpsc::Sender<News>,
    stats: Arc<Stats>,
) -> Result<Infallible, Error> {
    let mut discovery = Discovery::new(source, patterns);
    let mut backoff = Backoff::default();
    let (mut has_answered, mut is_listed) = (false, false);
    loop {
        match discovery.step().await {
            Ok(changes) => {
                has_answered = true;
                stats.source.answered();
                backoff.reset();
                let mut told = Vec::new();
                if !changes.is_empty() {
                    told.push(News::Changes(changes));
                }
                if discovery.is_complete() && !is_listed {
                    is_listed = true;
                    told.push(News::Listed);
                }
                for one in told {
                    if news.send(one).await.is_err() {
                        // The one who listens has stopped, and with it this task ends.
                        return std::future::pending().await;
                    }
                }
            }
            Err(error) if !error.heals() && !has_answered => return Err(error),
            Err(error) => {
                stats.source.failed();
                let wait = backoff.next(fastrand::f64(), error.retry_after());
                let wait_ms = wait.as_millis();
                if error.heals() {
                    tracing::warn!(side = "source", wait_ms, %error, "its changes are asked for again after a while");
                } else {
                    tracing::error!(side = "source", wait_ms, %error, "its changes are asked for again after a while");
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
}
