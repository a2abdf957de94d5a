//! What is taken away at the source, and what was taken away there while nobody looked. Decides nothing.

use std::sync::Arc;
use std::task::Poll;

use tailwater_process::Backoff;
use tokio::time::Instant;

use super::upkeep::{Chore, ChoreKind};
use crate::event::Incarnation;
use crate::source::{Error, Source};

/// A stream that the mirror has and the source has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Absent {
    pub(super) stream: Arc<str>,
    pub(super) incarnation: Incarnation,
}

/// Does a chore, and gives it back with what came of it; nothing, if it was not done before the lease may have ended.
/// Then no further step of it is made, also by a process that stood still in the middle of one.
pub(super) async fn perform(
    source: Source,
    chore: Chore,
    until: Instant,
) -> (Chore, Option<Result<(), Error>>) {
    let work = async {
        match chore.kind {
            ChoreKind::Delete => source.delete(&chore.stream, chore.incarnation).await,
            ChoreKind::Trim(before) => {
                let trimmed = source.trim(&chore.stream, chore.incarnation, before);
                trimmed.await.map(drop)
            }
        }
    };
    let guarded = while_held(|| Instant::now() < until, work);
    let done = tokio::time::timeout_at(until, guarded).await.ok().flatten();
    (chore, done)
}

/// What comes of some work, of which no step is made once something is not held any more.
async fn while_held<T>(is_held: impl Fn() -> bool, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| match is_held() {
        true => work.as_mut().poll(context).map(Some),
        false => Poll::Ready(None),
    })
    .await
}

/// Whether there is no such stream any more.
pub(super) fn is_absence(error: &Error) -> bool {
    matches!(error, Error::StreamGone { .. } | Error::Replaced { .. })
}

/// Whether the source keeps it for its jobs: the stream of a queue, or a run that has not ended.
pub(super) fn is_kept_for_jobs(error: &Error) -> bool {
    let Error::Refused(refusal) = error else {
        return false;
    };
    matches!(refusal.code.as_deref(), Some("stream_is_queue" | "run_open"))
}

/// Those of the suspects that are not at the source. Asks until it is answered.
pub(super) async fn absent(source: &Source, suspects: Vec<Absent>) -> Vec<Absent> {
    let mut absent = Vec::new();
    for suspect in suspects {
        if !is_present(source, &suspect).await {
            absent.push(suspect);
        }
    }
    absent
}

async fn is_present(source: &Source, suspect: &Absent) -> bool {
    let mut backoff = Backoff::default();
    loop {
        match source.look(&suspect.stream).await {
            Ok(found) => return found.is_some_and(|stream| stream.incarnation == suspect.incarnation),
            Err(error) => {
                let wait = backoff.next(fastrand::f64(), error.retry_after());
                let (stream, wait_ms) = (&suspect.stream, wait.as_millis());
                tracing::warn!(side = "source", %stream, wait_ms, %error, "looked for again after a while");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::while_held;

    /// A process that was stopped between a look at a stream and its deletion, and goes on when others have its leases.
    #[tokio::test]
    async fn no_further_step_is_made_once_the_lease_may_have_ended() {
        let (is_held, steps) = (Cell::new(true), Cell::new(0));
        let work = async {
            steps.set(1);
            is_held.set(false);
            tokio::task::yield_now().await;
            steps.set(2);
        };
        assert_eq!(while_held(|| is_held.get(), work).await, None);
        assert_eq!(steps.get(), 1);
        let work = async { steps.set(3) };
        assert_eq!(while_held(|| is_held.get(), work).await, None);
        assert_eq!(steps.get(), 1, "nothing is begun");
        assert_eq!(while_held(|| true, async { 4 }).await, Some(4));
    }
}
