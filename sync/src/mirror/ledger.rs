//! The one who talks to PostgreSQL: one job at a time, each tried until it is done. Knows no turn and no source.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use tailwater_process::Backoff;
use tokio::sync::watch;

use super::backlog::Sighting;
use super::batch::Batch;
use super::removal::Absent;
use crate::event::{Chunk, Incarnation};
use crate::postgres::survey::Known;
use crate::postgres::{Error, Fault, Fence, Outcome, Place, Settings, Store, Tail};
use crate::stats::Stats;

/// Something to do in PostgreSQL.
#[derive(Debug)]
pub(super) enum Job {
    /// Tell where the mirror stands in these streams.
    Place(Vec<Arc<str>>),
    /// Write chunks.
    Commit(Batch),
    /// Note that streams are deleted at the source.
    MarkDeleted(Vec<Absent>),
    /// Note what went wrong with streams.
    NoteErrors(Vec<StreamError>),
    /// Note where streams end.
    NoteTails(Vec<Sighting>),
    /// Tell some of the streams that the mirror knows, behind a name.
    Survey { after: Option<String> },
}

/// What went wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamError {
    pub(super) stream: Arc<str>,
    pub(super) incarnation: Incarnation,
    pub(super) message: String,
}

impl Job {
    /// The streams that it writes something of.
    pub(super) fn written(&self) -> Vec<&str> {
        match self {
            Self::Commit(batch) => batch.chunks.iter().map(|chunk| &*chunk.stream).collect(),
            Self::MarkDeleted(deleted) => deleted.iter().map(|deleted| &*deleted.stream).collect(),
            Self::NoteErrors(errors) => errors.iter().map(|error| &*error.stream).collect(),
            Self::NoteTails(sightings) => sightings.iter().map(|sighting| &*sighting.stream).collect(),
            Self::Place(_) | Self::Survey { .. } => Vec::new(),
        }
    }
}

/// What a job has brought.
#[derive(Debug)]
pub(super) enum Answer {
    Places(HashMap<String, Place>),
    /// For each chunk of the batch, in its order.
    Written(Vec<Result<Outcome, Error>>),
    Noted,
    /// It was not done: PostgreSQL failed, and the mirror is to stop.
    GivenUp,
    /// None behind the last one.
    Surveyed(Vec<Known>),
}

/// A connection to PostgreSQL that is made anew when it is lost.
pub(super) struct Ledger {
    settings: Settings,
    store: Option<Store>,
    /// By what it writes. None while it only makes the tables.
    fence: Option<Fence>,
    stats: Arc<Stats>,
    /// Whether to stop. What is being done is finished then, but nothing that failed is tried again.
    stop: watch::Receiver<bool>,
}

impl Ledger {
    /// Connects, makes the tables and looks at those of routes. Waits for a server that is not there yet; one that will
    /// not do ends it. None, if the mirror is to stop meanwhile.
    pub(super) async fn open(
        settings: Settings,
        stats: Arc<Stats>,
        stop: watch::Receiver<bool>,
    ) -> Result<Option<Self>, Error> {
        let mut ledger = Self {
            settings,
            store: None,
            fence: None,
            stats,
            stop,
        };
        let mut backoff = Backoff::default();
        loop {
            let migrated = match ledger.connected().await {
                Ok(store) => begin(store).await,
                Err(error) => Err(error),
            };
            match migrated {
                Ok(()) => {
                    ledger.stats.postgres.answered();
                    return Ok(Some(ledger));
                }
                Err(error) if error.heals() => {
                    if ledger.wait_out(&error, &mut backoff).await.is_break() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Does a job, however long it takes, by the leases that were held when it was given.
    pub(super) async fn perform(&mut self, job: &Job, fence: Fence) -> Answer {
        self.fence = Some(fence);
        let mut backoff = Backoff::default();
        loop {
            let tried = match self.connected().await {
                Ok(store) => attempt(store, job).await,
                Err(error) => Err(error),
            };
            match tried {
                Ok(answer) => {
                    self.stats.postgres.answered();
                    return answer;
                }
                Err(error) => match job {
                    Job::Commit(batch) if is_of_one_stream(&error) => {
                        return Answer::Written(self.commit_apart(&batch.chunks).await);
                    }
                    _ if self.wait_out(&error, &mut backoff).await.is_break() => return Answer::GivenUp,
                    _ => {}
                },
            }
        }
    }

    /// Writes each chunk by itself, so that one which is refused takes no other with it.
    async fn commit_apart(&mut self, chunks: &[Chunk]) -> Vec<Result<Outcome, Error>> {
        let mut outcomes = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let outcome = self.commit_alone(chunk).await;
            if let Err(Error::Unmappable { position, .. }) = &outcome {
                self.commit_before(chunk, *position).await;
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Writes what a chunk has before the event that ends at `position`, so that its stream stands still just in front
    /// of that.
    async fn commit_before(&mut self, chunk: &Chunk, position: u64) {
        let mut before = chunk.clone();
        before.events.retain(|event| event.offset.position() < position);
        if let Some(last) = before.events.last() {
            before.next = last.offset;
            before.closed = false;
            // If it is not written now, it will be read again.
            if let Ok(Outcome::Written { rows, .. }) = self.commit_alone(&before).await {
                self.stats.rows.add(rows);
            }
        }
    }

    async fn commit_alone(&mut self, chunk: &Chunk) -> Result<Outcome, Error> {
        let mut backoff = Backoff::default();
        loop {
            let tried = match self.connected().await {
                Ok(store) => store.commit(std::slice::from_ref(chunk)).await,
                Err(error) => Err(error),
            };
            match tried {
                Ok(outcomes) => {
                    self.stats.postgres.answered();
                    return Ok(outcomes[0]);
                }
                Err(error) => {
                    if is_of_one_stream(&error) || self.wait_out(&error, &mut backoff).await.is_break() {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn connected(&mut self) -> Result<&mut Store, Error> {
        let store = match self.store.take().filter(|store| !store.is_closed()) {
            Some(store) => store,
            None => Store::connect(&self.settings).await?,
        };
        let store = self.store.insert(store);
        if let Some(fence) = &self.fence {
            store.fence(fence.clone());
        }
        Ok(store)
    }

    /// Waits until it is time to try again. Breaks if the mirror is to stop.
    async fn wait_out(&mut self, error: &Error, backoff: &mut Backoff) -> ControlFlow<()> {
        self.stats.postgres.failed();
        let wait = backoff.next(fastrand::f64(), None);
        let wait_ms = wait.as_millis();
        if error.heals() {
            tracing::warn!(side = "postgres", kind = error.kind(), wait_ms, %error, "tried again after a while");
        } else {
            tracing::error!(side = "postgres", kind = error.kind(), wait_ms, %error, "tried again after a while");
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => ControlFlow::Continue(()),
            _ = self.stop.wait_for(|stops| *stops) => ControlFlow::Break(()),
        }
    }
}

async fn begin(store: &mut Store) -> Result<(), Error> {
    store.migrate().await?;
    let faults = store.route_faults().await?;
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::Routes { faults })
    }
}

/// Whether an error may be the fault of what one stream brings. All others would meet each stream alike.
fn is_of_one_stream(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused { .. }
            | Error::Unmappable { .. }
            | Error::Foreign { .. }
            | Error::Routes { .. }
            | Error::RoutedTable { .. }
    )
}

async fn attempt(store: &mut Store, job: &Job) -> Result<Answer, Error> {
    match job {
        Job::Place(streams) => {
            let names: Vec<&str> = streams.iter().map(AsRef::as_ref).collect();
            Ok(Answer::Places(store.places(&names).await?))
        }
        Job::Commit(batch) => match &batch.chunks[..] {
            [gap] if gap.is_gap() => {
                let outcome = store
                    .skip(&gap.stream, gap.incarnation, gap.after, gap.next)
                    .await?;
                Ok(Answer::Written(vec![Ok(outcome)]))
            }
            chunks => Ok(Answer::Written(
                store.commit(chunks).await?.into_iter().map(Ok).collect(),
            )),
        },
        Job::MarkDeleted(deleted) => {
            let streams: Vec<_> = deleted
                .iter()
                .map(|deleted| (&*deleted.stream, deleted.incarnation))
                .collect();
            for stream in store.mark_deleted(&streams).await? {
                tracing::info!(stream, "deleted at the source; its rows stay");
            }
            Ok(Answer::Noted)
        }
        Job::NoteErrors(errors) => {
            let faults: Vec<_> = errors.iter().map(fault).collect();
            store.note_errors(&faults).await?;
            Ok(Answer::Noted)
        }
        Job::NoteTails(sightings) => {
            let tails: Vec<_> = sightings.iter().map(tail).collect();
            store.note_tails(&tails).await?;
            Ok(Answer::Noted)
        }
        Job::Survey { after } => Ok(Answer::Surveyed(store.known(after.as_deref()).await?)),
    }
}

fn fault(error: &StreamError) -> Fault<'_> {
    Fault {
        stream: &error.stream,
        incarnation: error.incarnation,
        message: &error.message,
    }
}

fn tail(sighting: &Sighting) -> Tail<'_> {
    Tail {
        stream: &sighting.stream,
        incarnation: sighting.incarnation,
        next: sighting.tail,
        events: sighting.events,
    }
}
