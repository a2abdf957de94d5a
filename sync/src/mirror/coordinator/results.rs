//! What comes back to the loop: what reads, jobs, looks and chores have brought, and what follows from that.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Coordinator;
use crate::event::{Chunk, Incarnation, Offset};
use crate::mirror::backlog::{Read, Standing, Ticket};
use crate::mirror::batch::{Batch, bytes_of};
use crate::mirror::ledger::{Answer, Job, Ledger, StreamError};
use crate::mirror::reach;
use crate::mirror::removal::{self, Absent};
use crate::mirror::upkeep::{Chore, ChoreKind};
use crate::partition::Partition;
use crate::postgres::survey::Known;
use crate::postgres::{self, NAME_BYTES_MAX, Outcome, Place};
use crate::source;
use crate::stats::RouteStats;
use crate::traces::TransactionSpan;

impl Coordinator {
    pub(super) fn has_read(&mut self, (read, brought): (Read, Result<Chunk, source::Error>)) {
        let now = Instant::now();
        let brought = match brought {
            Err(source::Error::OffsetGone { stream, oldest })
                if oldest.position() > read.after.position() =>
            {
                tracing::warn!(%stream, from = %read.after, to = %oldest, "trimmed before it was mirrored");
                self.stats.gaps.add(1);
                Ok(gap(&read, oldest))
            }
            brought => brought,
        };
        match brought {
            Ok(chunk) if chunk.events.is_empty() && !chunk.closed && !chunk.is_gap() => {
                // What the source has told of is not there. It says so no more often than it would fail.
                let _ = self.backlog.read_failed(&read.ticket, now, fastrand::f64(), None);
            }
            Ok(chunk) => {
                // Small ones may be exceptions, large ones are to be reckoned with.
                self.read_bytes = bytes_of(&chunk).max(self.read_bytes - self.read_bytes / 8);
                self.source_backoff.reset();
                self.stats.read_events.add(chunk.events.len() as u64);
                let bytes: usize = chunk
                    .events
                    .iter()
                    .map(|event| event.payload.as_bytes().len())
                    .sum();
                self.stats.read_bytes.add(bytes as u64);
                if self.backlog.read(&read.ticket, reach(&chunk), now) {
                    self.buffer.push(chunk, read.ticket, now);
                }
            }
            Err(error) if is_of_all_streams(&error) => {
                self.backlog.read_again(&read.ticket);
                self.stats.read_retries.add(1);
                // Reads that failed together wait once.
                if self.no_reads_before.is_none() {
                    let wait = self.source_backoff.next(fastrand::f64(), error.retry_after());
                    let wait_ms = wait.as_millis();
                    self.no_reads_before = Some(now + wait);
                    tracing::warn!(side = "source", wait_ms, %error, "nothing is read for a while");
                }
            }
            Err(error) => self.read_failed(&read, &error, now),
        }
    }

    fn read_failed(&mut self, read: &Read, error: &source::Error, now: Instant) {
        let wait = self
            .backlog
            .read_failed(&read.ticket, now, fastrand::f64(), error.retry_after());
        // One that is of no use any more, or whose stream is gone, is no failure.
        let Some(wait) = wait else { return };
        let (stream, wait_ms) = (&read.ticket.stream, wait.as_millis());
        if removal::is_absence(error) {
            tracing::debug!(%stream, wait_ms, %error, "the source will tell what became of it");
            return;
        }
        self.stats.read_retries.add(1);
        tracing::warn!(side = "source", %stream, wait_ms, %error, "the stream is read again after a while");
        if !error.heals() {
            self.note_error(stream, read.ticket.incarnation, error.to_string());
        }
    }

    fn note_error(&mut self, stream: &Arc<str>, incarnation: Incarnation, message: String) {
        self.notes.add_error(StreamError {
            stream: Arc::clone(stream),
            incarnation,
            message,
        });
    }

    pub(super) fn worked(&mut self, (ledger, job, answer, took): (Ledger, Job, Answer, Duration)) {
        self.ledger = Some(ledger);
        self.writing.clear();
        let now = Instant::now();
        match (job, answer) {
            (Job::Place(streams), Answer::Places(places)) => {
                for stream in streams {
                    let standing = places.get(&*stream).map(standing);
                    self.backlog.placed(&stream, standing, now);
                }
            }
            (Job::Commit(batch), Answer::Written(outcomes)) => self.written(&batch, outcomes, took, now),
            (Job::Survey { .. }, Answer::Surveyed(found)) => self.surveyed(found),
            _ => {}
        }
    }

    fn written(
        &mut self,
        batch: &Batch,
        outcomes: Vec<Result<Outcome, postgres::Error>>,
        took: Duration,
        now: Instant,
    ) {
        self.committing_bytes = 0;
        self.stats.commits.add(1);
        self.stats
            .commit_us
            .add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let mut rows_of_all = 0;
        let written = batch.chunks.iter().zip(&batch.reads).zip(outcomes);
        for ((chunk, (ticket, reads)), outcome) in written {
            match outcome {
                Ok(Outcome::Written { rows, dead_letters }) => {
                    self.stats.rows.add(rows);
                    rows_of_all += rows;
                    self.stats.dead_letters.add(dead_letters);
                    if let Some(route) = self.stats_of_route(&chunk.stream) {
                        route.rows.add(rows);
                        route.dead_letters.add(dead_letters);
                    }
                    self.count_delays(chunk);
                    self.backlog.committed(ticket, *reads, reach(chunk), now);
                    if dead_letters > 0 {
                        tracing::warn!(stream = %chunk.stream, dead_letters, "events cannot be rows");
                    }
                }
                Ok(Outcome::Moved { place }) => {
                    self.stats.moved.add(1);
                    tracing::info!(stream = %chunk.stream, from = %chunk.after, "the mirror stands elsewhere");
                    self.backlog.set_back(ticket, place.as_ref().map(standing), now);
                }
                Ok(Outcome::Fenced) => {
                    self.stats.fenced.add(1);
                    tracing::warn!(stream = %chunk.stream, from = %chunk.after, "not written: the lease is lost");
                    // If it was this instance's again meanwhile, it stands where others have brought it.
                    self.backlog.refused(ticket, now, fastrand::f64());
                }
                Ok(Outcome::NameTooLong) => {
                    let reason =
                        format!("its name is longer than the {NAME_BYTES_MAX} bytes that a table can hold");
                    self.write_failed(chunk, ticket, &reason, now);
                }
                Err(error) => self.write_failed(chunk, ticket, &error.to_string(), now),
            }
        }
        TransactionSpan::ended(took, batch.chunks.len(), rows_of_all);
    }

    fn write_failed(&mut self, chunk: &Chunk, ticket: &Ticket, reason: &str, now: Instant) {
        self.stats.write_failures.add(1);
        if let Some(route) = self.stats_of_route(&chunk.stream) {
            route.write_failures.add(1);
        }
        let wait_ms = self
            .backlog
            .refused(ticket, now, fastrand::f64())
            .map(|wait| wait.as_millis());
        tracing::error!(side = "postgres", stream = %chunk.stream, wait_ms, error = reason, "a stream stands still");
        self.note_error(&chunk.stream, chunk.incarnation, reason.to_owned());
    }

    fn stats_of_route(&self, stream: &str) -> Option<&RouteStats> {
        self.stats.routes.get(self.routes.of(stream)?)
    }

    fn count_delays(&self, chunk: &Chunk) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
        for event in &chunk.events {
            self.stats
                .delayed(u64::try_from(now_ms - event.at_ms).unwrap_or(0), 1);
        }
    }

    /// Looks for those that were deleted while nobody looked.
    fn surveyed(&mut self, found: Vec<Known>) {
        let after = found.last().map(|known| known.name.clone());
        let suspects: Vec<_> = found
            .into_iter()
            .filter(|known| !known.deleted && self.patterns.matches(&known.name))
            .filter(|known| self.territory.has(&known.name))
            .filter(|known| self.backlog.incarnation(&known.name) != Some(known.incarnation))
            .map(|known| Absent {
                stream: known.name.into(),
                incarnation: known.incarnation,
            })
            .collect();
        if after.is_some() {
            let source = self.source.clone();
            self.looks
                .spawn(async move { (removal::absent(&source, suspects).await, after) });
        } else {
            self.is_surveying = false;
            if std::mem::take(&mut self.surveys_again) {
                self.survey();
            }
        }
    }

    pub(super) fn looked(&mut self, (absent, after): (Vec<Absent>, Option<String>)) {
        for deleted in absent {
            self.note_deletion(deleted);
        }
        self.notes.add_survey(after);
    }

    pub(super) fn kept_up(&mut self, (chore, outcome): (Chore, Option<Result<(), source::Error>>)) {
        let (now, stream) = (Instant::now(), &chore.stream);
        let partition = Partition::of(stream);
        if let Some(at) = self.removing.iter().position(|removing| *removing == partition) {
            self.removing.swap_remove(at);
        }
        let Some(outcome) = outcome else {
            self.upkeep.failed(stream, now, fastrand::f64(), None);
            return;
        };
        match outcome {
            // Nothing is wrong. It is looked at now and then, for what has become of it.
            Err(error) if removal::is_kept_for_jobs(&error) => {
                self.upkeep
                    .failed(stream, now, fastrand::f64(), error.retry_after());
                tracing::debug!(%stream, kind = chore.kind.name(), %error, "the source keeps it for its jobs");
                return;
            }
            Err(error) if !removal::is_absence(&error) => {
                self.stats.upkeep_retries.add(1);
                let wait = self
                    .upkeep
                    .failed(stream, now, fastrand::f64(), error.retry_after());
                let (kind, wait_ms) = (chore.kind.name(), wait.as_millis());
                tracing::warn!(side = "source", %stream, kind, wait_ms, %error, "tried again after a while");
                return;
            }
            Err(_absent) => {}
            Ok(()) => match chore.kind {
                ChoreKind::Delete => {
                    self.stats.deletions.add(1);
                    tracing::info!(%stream, incarnation = %chore.incarnation, "deleted at the source: it is mirrored");
                }
                ChoreKind::Trim(_) => self.stats.trims.add(1),
            },
        }
        self.upkeep.done(stream, now);
    }
}

/// Whether what failed would fail for every stream.
fn is_of_all_streams(error: &source::Error) -> bool {
    match error {
        source::Error::Unreachable { .. }
        | source::Error::Tls { .. }
        | source::Error::Token { .. }
        | source::Error::Unauthorized { .. } => true,
        source::Error::Refused(refusal) => matches!(refusal.status.as_u16(), 429 | 503),
        _ => false,
    }
}

fn standing(place: &Place) -> Standing {
    Standing {
        of: place.of,
        next: place.next,
        events: place.events,
        closed: place.closed,
    }
}

fn gap(read: &Read, oldest: Offset) -> Chunk {
    Chunk {
        stream: Arc::clone(&read.ticket.stream),
        incarnation: read.ticket.incarnation,
        content_type: Arc::clone(&read.content_type),
        after: read.after,
        events: Vec::new(),
        next: oldest,
        closed: false,
    }
}
