//! What is taken away at the source, and what was taken away there while nobody looked. Decides nothing.

use std::sync::Arc;

use tailwater_process::Backoff;

use super::upkeep::{Chore, ChoreKind};
use crate::event::Incarnation;
use crate::source::{Error, Source};

/// A stream that the mirror has and the source has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Absent {
    pub(super) stream: Arc<str>,
    pub(super) incarnation: Incarnation,
}

/// Does a chore, and gives it back with what came of it.
pub(super) async fn perform(source: Source, chore: Chore) -> (Chore, Result<(), Error>) {
    let done = match chore.kind {
        ChoreKind::Delete => source.delete(&chore.stream, chore.incarnation).await,
        ChoreKind::Trim(before) => source
            .trim(&chore.stream, chore.incarnation, before)
            .await
            .map(drop),
    };
    (chore, done)
}

/// Whether there is no such stream any more.
pub(super) fn is_absence(error: &Error) -> bool {
    matches!(error, Error::StreamGone { .. } | Error::Replaced { .. })
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
