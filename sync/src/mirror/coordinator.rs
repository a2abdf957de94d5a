//! The loop: news of streams come in, reads, transactions and chores go out, and what comes of them comes back. It
//! decides nothing by itself that [`Backlog`], [`Buffer`] and [`Upkeep`] can decide.

mod results;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tailwater_process::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backlog::{Backlog, Followup, Read, Sighting};
use super::batch::Buffer;
use super::discovery::News;
use super::ledger::{Answer, Job, Ledger};
use super::notes::Notes;
use super::removal::{self, Absent};
use super::territory::Territory;
use super::upkeep::{Chore, ChoreKind, Upkeep};
use super::{Limits, UPKEEP_MAX};
use crate::event::Chunk;
use crate::partition::Partition;
use crate::route::Routes;
use crate::source::{self, Change, Patterns, Source, Stream};
use crate::stats::{Snapshot, Stats};
use crate::traces::ReadSpan;

/// Streams whose places are asked for at once.
const PLACES_MAX: usize = 1000;
/// Streams whose tails are noted at once, and how often.
const TAILS_MAX: usize = 250;
const TAILS_INTERVAL: Duration = Duration::from_secs(5);
/// How often the metrics are brought up to date.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);

/// The loop, with all that it holds.
pub(super) struct Coordinator {
    source: Source,
    patterns: Patterns,
    limits: Limits,
    stats: Arc<Stats>,
    territory: Territory,
    routes: Arc<Routes>,
    backlog: Backlog,
    buffer: Buffer,
    upkeep: Upkeep,
    /// Beside places and commits.
    notes: Notes,
    was_note: bool,
    /// None while it has a job.
    ledger: Option<Ledger>,
    /// What the job under way writes.
    writing: BTreeSet<Partition>,
    /// One at most.
    job: JoinSet<(Ledger, Job, Answer, Duration)>,
    /// Of the batch that is being written.
    committing_bytes: usize,
    /// What a read is expected to bring, by what the last ones did.
    read_bytes: usize,
    reads: JoinSet<(Read, Result<Chunk, source::Error>)>,
    chores: JoinSet<(Chore, Option<Result<(), source::Error>>)>,
    /// Where each of the chores under way is.
    removing: Vec<Partition>,
    /// One at most.
    looks: JoinSet<(Vec<Absent>, Option<String>)>,
    /// Whether those are looked for that were deleted while nobody looked, and whether that begins anew behind its end.
    is_surveying: bool,
    surveys_again: bool,
    /// Nothing is read before: the source does not answer, or wants to be left alone.
    no_reads_before: Option<Instant>,
    source_backoff: Backoff,
    show_at: Instant,
    tails_at: Instant,
}

impl Coordinator {
    pub(super) fn new(
        source: Source,
        patterns: Patterns,
        ledger: Ledger,
        territory: Territory,
        routes: Arc<Routes>,
        limits: Limits,
        stats: Arc<Stats>,
    ) -> Self {
        let now = Instant::now();
        Self {
            source,
            patterns,
            limits,
            stats,
            territory,
            backlog: Backlog::new(Arc::clone(&routes)),
            routes,
            buffer: Buffer::new(limits.enough),
            upkeep: Upkeep::default(),
            notes: Notes::default(),
            was_note: false,
            ledger: Some(ledger),
            writing: BTreeSet::new(),
            job: JoinSet::new(),
            committing_bytes: 0,
            read_bytes: 0,
            reads: JoinSet::new(),
            chores: JoinSet::new(),
            removing: Vec::new(),
            looks: JoinSet::new(),
            is_surveying: false,
            surveys_again: false,
            no_reads_before: None,
            source_backoff: Backoff::default(),
            show_at: now,
            tails_at: now,
        }
    }

    /// Mirrors until it is told to stop, or until there are no more news. Then it finishes the transaction under way,
    /// if that does not take too long.
    pub(super) async fn run(mut self, mut news: mpsc::Receiver<News>, mut stop: watch::Receiver<bool>) {
        loop {
            self.advance(Instant::now());
            let wakes_at = self.wakes_at();
            tokio::select! {
                _ = stop.wait_for(|stops| *stops) => break,
                heard = news.recv() => match heard {
                    Some(heard) => self.hear(heard, Instant::now()),
                    None => break,
                },
                () = self.territory.changed() => self.share_anew(),
                Some(done) = self.job.join_next() => self.worked(finished(done)),
                Some(done) = self.reads.join_next() => self.has_read(finished(done)),
                Some(done) = self.chores.join_next() => self.kept_up(finished(done)),
                Some(done) = self.looks.join_next() => self.looked(finished(done)),
                () = tokio::time::sleep_until(wakes_at) => {}
            }
        }
        let patience = self.limits.shutdown_timeout;
        let last = async {
            if let Some(done) = self.job.join_next().await {
                self.worked(finished(done));
            }
            // Whoever has the leases next should find nothing under way.
            while self.chores.join_next().await.is_some() {}
        };
        if tokio::time::timeout(patience, last).await.is_err() {
            tracing::warn!(
                "what is under way did not end within {patience:?} and is cut off; the next run finds out about it"
            );
        }
    }

    /// Drops what is others' to do. What is this instance's now will be told of.
    fn share_anew(&mut self) {
        let lost = self.territory.update();
        if !lost.is_empty() {
            let is_lost = |stream: &str| lost.contains(&Partition::of(stream));
            self.backlog.forget(is_lost);
            self.upkeep.forget(is_lost);
            tracing::info!(
                partitions = lost.len(),
                "streams of partitions are left to others"
            );
        }
    }

    /// Begins whatever can be begun.
    fn advance(&mut self, now: Instant) {
        self.backlog.wake(now);
        while let Some(followup) = self.backlog.take_followup() {
            self.follow_up(followup, now);
        }
        while self.may_read(now)
            && let Some(read) = self.backlog.next_read(now)
        {
            let source = self.source.clone();
            self.reads.spawn(async move {
                let (stream, incarnation) = (&read.ticket.stream, read.ticket.incarnation);
                let span = ReadSpan::begin();
                let reading = source.read(stream, incarnation, &read.content_type, read.after);
                let brought = span.cover(reading).await;
                span.end(&brought);
                (read, brought)
            });
        }
        let until = self.territory.until();
        while self.chores.len() < UPKEEP_MAX
            && now < until
            && let Some(chore) = self.upkeep.take(now)
        {
            let source = self.source.clone();
            self.removing.push(Partition::of(&chore.stream));
            self.chores.spawn(removal::perform(source, chore, until));
        }
        if self.ledger.is_some()
            && let Some(job) = self.next_job(now)
            && let Some(mut ledger) = self.ledger.take()
        {
            self.writing = job.written().into_iter().map(Partition::of).collect();
            let fence = self.territory.fence().clone();
            self.job.spawn(async move {
                let begun = Instant::now();
                let answer = ledger.perform(&job, fence).await;
                (ledger, job, answer, begun.elapsed())
            });
        }
        let busy = &self.writing | &self.removing.iter().copied().collect();
        self.territory.finish(&busy);
        if self.show_at <= now {
            self.show_at = now + SHOW_INTERVAL;
            self.stats.show(Snapshot {
                streams: self.backlog.len(),
                lag: self.backlog.lag(now),
                lag_of_routes: self.backlog.lag_of_routes(now),
                buffered_bytes: self.buffer.bytes() + self.committing_bytes,
                buffered_bytes_max: self.limits.buffer_bytes,
                reads: self.reads.len(),
                reads_max: self.limits.readers,
                ready_streams: self.backlog.ready(),
                waiting_streams: self.backlog.waiting(),
                chores: self.upkeep.undone(),
                notes: self.notes.len(),
            });
        }
    }

    /// When there may be something to begin that nobody will tell of.
    fn wakes_at(&self) -> Instant {
        let is_idle = self.ledger.is_some();
        let has_hands = self.chores.len() < UPKEEP_MAX && Instant::now() < self.territory.until();
        let times = [
            self.buffer.due_at().filter(|_| is_idle),
            Some(self.tails_at).filter(|_| is_idle),
            self.upkeep.due_at().filter(|_| has_hands),
            self.backlog.wakes_at(),
            self.no_reads_before,
        ];
        times.into_iter().flatten().fold(self.show_at, Instant::min)
    }

    /// What is read and what is being read stays within the buffer, but one read is always let through.
    fn may_read(&mut self, now: Instant) -> bool {
        if self.no_reads_before.is_some_and(|time| now < time) {
            return false;
        }
        self.no_reads_before = None;
        let held = self.buffer.bytes() + self.committing_bytes + self.reads.len() * self.read_bytes;
        self.reads.len() < self.limits.readers
            && (held == 0 || held + self.read_bytes <= self.limits.buffer_bytes)
    }

    fn next_job(&mut self, now: Instant) -> Option<Job> {
        // Notes and transactions take turns, so that neither waits for the end of the other.
        if !std::mem::replace(&mut self.was_note, false)
            && let Some(note) = self.next_note(now)
        {
            self.was_note = true;
            return Some(note);
        }
        let unplaced = self.backlog.take_unplaced(PLACES_MAX, now);
        if !unplaced.is_empty() {
            return Some(Job::Place(unplaced));
        }
        if self.buffer.due_at().is_some_and(|due| due <= now) {
            let backlog = &self.backlog;
            let batch = self.buffer.take(|ticket| backlog.is_current(ticket));
            if !batch.chunks.is_empty() {
                self.committing_bytes = batch.bytes;
                return Some(Job::Commit(batch));
            }
        }
        self.next_note(now)
    }

    /// Also streams' tails, once in a while.
    fn next_note(&mut self, now: Instant) -> Option<Job> {
        let territory = &self.territory;
        let note = self.notes.next(|stream| territory.has(stream));
        if note.is_some() || now < self.tails_at {
            return note;
        }
        self.tails_at = now + TAILS_INTERVAL;
        let tails = self.backlog.take_tails(TAILS_MAX);
        (!tails.is_empty()).then_some(Job::NoteTails(tails))
    }

    fn hear(&mut self, news: News, now: Instant) {
        match news {
            News::Changes(changes) => changes
                .into_iter()
                .for_each(|change| self.hear_change(change, now)),
            News::Listed => {
                tracing::info!(
                    streams = self.backlog.len(),
                    "all streams of the source are known that are this instance's"
                );
                self.stats.is_listed.store(true, Ordering::Relaxed);
                self.survey();
            }
        }
    }

    /// Looks once more, and once only, for streams that were deleted while nobody looked.
    fn survey(&mut self) {
        self.surveys_again = self.is_surveying;
        if !self.is_surveying {
            self.is_surveying = true;
            self.notes.add_survey(None);
        }
    }

    fn hear_change(&mut self, change: Change, now: Instant) {
        let name = match &change {
            Change::Appeared(stream) | Change::Moved(stream) | Change::Closed(stream) => &stream.name,
            Change::Deleted { name, .. } => name,
        };
        if !self.territory.has(name) {
            return;
        }
        match change {
            Change::Appeared(stream) | Change::Moved(stream) | Change::Closed(stream) => {
                self.backlog.seen(sighting(stream), now);
            }
            Change::Deleted { name, incarnation } => self.backlog.gone(&name, incarnation),
        }
    }

    /// What there is no room to note now is found by another look for what was deleted while nobody looked.
    fn note_deletion(&mut self, deleted: Absent) {
        if !self.notes.add_deletion(deleted) {
            self.survey();
        }
    }

    fn follow_up(&mut self, followup: Followup, now: Instant) {
        let (stream, incarnation, kind) = match followup {
            Followup::Deleted { stream, incarnation } => {
                self.note_deletion(Absent { stream, incarnation });
                return;
            }
            Followup::Complete { stream, incarnation } if self.limits.delete_after_sync => {
                (stream, incarnation, ChoreKind::Delete)
            }
            Followup::Committed {
                stream,
                incarnation,
                next,
            } if self.limits.trim_after_sync => (stream, incarnation, ChoreKind::Trim(next)),
            Followup::Complete { .. } | Followup::Committed { .. } => return,
        };
        let chore = Chore {
            stream,
            incarnation,
            kind,
        };
        self.upkeep.add(chore, now);
    }
}

/// What a task has brought; one that has panicked takes the mirror with it, so that nothing goes on without it.
fn finished<T>(done: Result<T, tokio::task::JoinError>) -> T {
    match done {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => unreachable!("nobody cancels it: {error}"),
        },
    }
}

fn sighting(stream: Stream) -> Sighting {
    Sighting {
        stream: stream.name,
        incarnation: stream.incarnation,
        content_type: stream.content_type,
        tail: stream.next,
        events: stream.events,
        closed: stream.closed,
    }
}
