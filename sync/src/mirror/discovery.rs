//! Passes on what the source tells of its streams, tells again of those in partitions that were gained, and waits out
//! what keeps it from that. Decides nothing.

use std::convert::Infallible;
use std::sync::Arc;

use tailwater_process::Backoff;
use tokio::sync::{mpsc, watch};

use crate::partition::Partition;
use crate::postgres::Leases;
use crate::source::{Change, Discovery, Error, Patterns, Source};
use crate::stats::Stats;

/// Streams that are told of at once when they are told of again.
const PAGE_STREAMS: usize = 1000;

/// What was found out.
#[derive(Debug)]
pub(super) enum News {
    /// In the order in which it happened.
    Changes(Vec<Change>),
    /// All streams that were wanted have been told of.
    Listed,
}

/// Tells of all streams, and again of those in partitions that are `wanted` by another lease than before, until
/// nobody listens. Ends with an error only if the source will not do from the start on.
pub(super) async fn discover(
    source: Source,
    patterns: Patterns,
    news: mpsc::Sender<News>,
    mut wanted: watch::Receiver<Leases>,
    stats: Arc<Stats>,
) -> Result<Infallible, Error> {
    let mut discovery = Discovery::new(source, patterns);
    let mut backoff = Backoff::default();
    let (mut has_answered, mut is_listed) = (false, false);
    let mut told_by = wanted.borrow_and_update().clone();
    loop {
        let step = tokio::select! {
            step = discovery.step() => step,
            Ok(()) = wanted.changed() => {
                let now = wanted.borrow_and_update().clone();
                let before = std::mem::replace(&mut told_by, now);
                let is_gained = |partition| told_by.get(&partition) != before.get(&partition)
                    && told_by.contains_key(&partition);
                if !told_by.keys().any(|partition| is_gained(*partition)) {
                    continue;
                }
                if tell_again(&discovery, is_gained, is_listed, &news).await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
        };
        match step {
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

/// Tells of the streams in some partitions, page by page, and at the end that this was all, if it was.
async fn tell_again(
    discovery: &Discovery,
    is_gained: impl Fn(Partition) -> bool,
    is_listed: bool,
    news: &mpsc::Sender<News>,
) -> Result<(), mpsc::error::SendError<News>> {
    let mut page = Vec::new();
    for stream in discovery
        .streams()
        .filter(|stream| is_gained(Partition::of(&stream.name)))
    {
        page.push(Change::Appeared(stream.clone()));
        if page.len() == PAGE_STREAMS {
            news.send(News::Changes(std::mem::take(&mut page))).await?;
        }
    }
    if !page.is_empty() {
        news.send(News::Changes(page)).await?;
    }
    if is_listed {
        news.send(News::Listed).await?;
    }
    Ok(())
}
