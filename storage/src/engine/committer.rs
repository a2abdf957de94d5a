//! The committer of a partition: one thread that commits all that has gathered as one batch, while the next one
//! gathers.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tailwater_stream::{Part, Record};
use tokio::sync::{mpsc, oneshot};

use super::pins::StoragePin;
use super::sequencer::{Entry, Settled};
use super::{Backlog, Shared};
use crate::backend::{Backend, BackendError, Outcome, Outcomes};
use crate::sync::{Condvar, Mutex, thread, wait};

/// Records in one batch at the most, so that a commit's duration is bounded.
const BATCH_RECORDS_MAX: usize = 8192;
/// Payload bytes in one batch at the most, but for a record that is longer alone.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Who waits for a record that was accepted.
pub(super) struct Waiter {
    pub(super) concerned: Concerned,
    pub(super) answer: oneshot::Sender<Settled>,
    /// What a fork in the making holds: until the record is settled, also when its client has gone away.
    pub(super) pin: Option<Arc<StoragePin>>,
    /// What asked for the record.
    #[cfg(feature = "watched-commits")]
    pub(super) cause: Option<crate::watched_commits::Cause>,
}

/// The streams that a record changes.
pub(super) enum Concerned {
    One(Decided),
    /// Each with a share of the record.
    Several(Box<Several>),
}

/// A stream, as it was when a record was decided on its accepted state.
pub(super) struct Decided {
    pub(super) entry: Arc<Entry>,
    /// The entry's generation then.
    pub(super) generation: u64,
}

/// The streams of one record, and which of its parts concern each.
pub(super) struct Several {
    pub(super) shares: Vec<(Decided, Range<usize>)>,
    /// What forks in the making hold.
    pub(super) _pins: Vec<Arc<StoragePin>>,
}

impl Decided {
    /// Whether the state that the record was decided on has not been taken back.
    fn stands(&self) -> bool {
        self.generation == self.entry.generation()
    }

    /// Sets the accepted state back to the committed one, unless that was done since.
    fn take_back(&self, backend: &dyn Backend) -> Result<(), BackendError> {
        // Of many refused records of a stream only the first has something to take back.
        if !self.stands() {
            return Ok(());
        }
        let committed = backend.load(&self.entry.name)?;
        self.entry.take_back(self.generation, committed);
        Ok(())
    }
}

impl Waiter {
    fn decided(&self) -> impl Iterator<Item = &Decided> {
        let (one, several) = match &self.concerned {
            Concerned::One(one) => (Some(one), &[][..]),
            Concerned::Several(several) => (None, &several.shares[..]),
        };
        one.into_iter().chain(several.iter().map(|(decided, _)| decided))
    }

    /// The streams, and the parts of the record that concern each.
    fn shares<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = (&'a Decided, &'a [Part])> {
        let (one, several) = match &self.concerned {
            Concerned::One(one) => (Some((one, &record.parts[..])), &[][..]),
            Concerned::Several(several) => (None, &several.shares[..]),
        };
        let several = several
            .iter()
            .map(|(decided, parts)| (decided, &record.parts[parts.clone()]));
        one.into_iter().chain(several)
    }

    /// Whether nothing that the record was decided on has been taken back.
    fn stands(&self) -> bool {
        self.decided().all(Decided::stands)
    }

    /// Whether some of what the record was decided on has been taken back, and some has not.
    fn is_torn(&self) -> bool {
        let Concerned::Several(several) = &self.concerned else {
            return false;
        };
        let (mut stands, mut is_void) = (false, false);
        for (decided, _) in &several.shares {
            let stood = decided.stands();
            stands |= stood;
            is_void |= !stood;
        }
        stands && is_void
    }

    /// Sets the accepted states of all its streams back to the committed ones. Answers whether the record's decision
    /// still stood.
    fn take_back(&self, backend: &dyn Backend) -> Result<bool, BackendError> {
        let stood = self.stands();
        self.decided()
            .try_for_each(|decided| decided.take_back(backend))?;
        Ok(stood)
    }
}

fn payload_bytes(record: &Record) -> usize {
    use tailwater_stream::Transition;
    let bytes = |part: &Part| match part {
        Part::Stream {
            transition: Transition::Append(append),
            ..
        } => append.payload.len(),
        Part::Stream { .. } | Part::Control(_) => 0,
    };
    record.parts.iter().map(bytes).sum()
}

/// Records in the order in which they were accepted, and who waits for each. They stay in place, for there are many and they
/// are large.
#[derive(Default)]
pub(super) struct Batch {
    records: Vec<Record>,
    waiters: Vec<Waiter>,
}

impl Batch {
    fn with_capacity(records: usize) -> Self {
        Self {
            records: Vec::with_capacity(records),
            waiters: Vec::with_capacity(records),
        }
    }

    fn push(&mut self, record: Record, waiter: Waiter) {
        self.records.push(record);
        self.waiters.push(waiter);
    }

    fn into_iter(self) -> impl Iterator<Item = (Record, Waiter)> {
        self.records.into_iter().zip(self.waiters)
    }

    /// Takes the first `count` out.
    fn take_first(&mut self, count: usize) -> Self {
        Self {
            records: self.records.drain(..count).collect(),
            waiters: self.waiters.drain(..count).collect(),
        }
    }

    /// Takes out those that were decided on what has been taken back. What others have decided on these is taken back as
    /// well, so that a record over several streams is void in all of them.
    ///
    /// # Errors
    /// If the committed states cannot be read. Nothing is taken out then.
    fn take_void(&mut self, backend: &dyn Backend) -> Result<Self, BackendError> {
        let mut void = Self::default();
        if self.waiters.iter().all(Waiter::stands) {
            return Ok(void);
        }
        // Each round takes a stream back, whose records in this batch are void then.
        while let Some(torn) = self.waiters.iter().find(|waiter| waiter.is_torn()) {
            torn.take_back(backend)?;
        }
        let all = std::mem::take(self);
        for (record, waiter) in all.into_iter() {
            let to = if waiter.stands() { &mut *self } else { &mut void };
            to.push(record, waiter);
        }
        Ok(void)
    }

    fn settled(self, settled: Settled) -> Finished {
        let settled = vec![settled; self.records.len()];
        Finished { batch: self, settled }
    }
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    /// Of all records in it.
    payload_bytes: usize,
    closing: bool,
    failed: bool,
}

impl Queue {
    /// The most that may be one batch.
    fn take(&mut self) -> Batch {
        let count = self.batch.records.len();
        if count <= BATCH_RECORDS_MAX && self.payload_bytes <= BATCH_BYTES_MAX {
            self.payload_bytes = 0;
            // The next batch is about as long.
            return std::mem::replace(&mut self.batch, Batch::with_capacity(count));
        }
        let mut bytes = 0;
        let fitting = self
            .batch
            .records
            .iter()
            .take(BATCH_RECORDS_MAX)
            .take_while(|record| {
                let first = bytes == 0;
                bytes += payload_bytes(record) + 1;
                first || bytes <= BATCH_BYTES_MAX
            });
        let batch = self.batch.take_first(fitting.count());
        self.payload_bytes -= batch.records.iter().map(payload_bytes).sum::<usize>();
        batch
    }
}

/// The queue of a partition. Its length is bounded by what feeds it: one record for each request in flight.
#[derive(Default)]
pub(super) struct Partition {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Partition {
    /// Queues a record. Call it while the stream is locked: order of acceptance is order in the log.
    ///
    /// # Errors
    /// If the partition has failed. The record is not queued then.
    pub(super) fn push(&self, record: Record, waiter: Waiter) -> Result<(), BackendError> {
        let mut queue = self.queue.lock();
        if queue.failed {
            return Err(BackendError::Poisoned);
        }
        let was_empty = queue.batch.records.is_empty();
        queue.payload_bytes += payload_bytes(&record);
        queue.batch.push(record, waiter);
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// What no commit has taken yet.
    pub(super) fn backlog(&self) -> Backlog {
        let queue = self.queue.lock();
        Backlog {
            records: queue.batch.records.len(),
            payload_bytes: queue.payload_bytes,
        }
    }

    /// Lets the committer end once all that is queued is committed.
    pub(super) fn close(&self) {
        self.queue.lock().closing = true;
        self.filled.notify_one();
    }

    /// The next batch; none when the partition is closed and all is committed.
    fn take(&self) -> Option<Batch> {
        let mut queue = self.queue.lock();
        while queue.batch.records.is_empty() {
            if queue.closing {
                return None;
            }
            wait(&self.filled, &mut queue);
        }
        // Whoever shares the core with the committer and has more to append does so first, and this sync serves them
        // too. Where there is a core to spare it takes no time.
        drop(queue);
        thread::yield_now();
        Some(self.queue.lock().take())
    }

    /// Takes no records any more. Answers those that no commit has taken.
    pub(super) fn fail(&self) -> Batch {
        let mut queue = self.queue.lock();
        queue.failed = true;
        std::mem::take(&mut queue.batch)
    }
}

/// A batch that is settled: each record, and what became of it.
#[derive(Default)]
pub(super) struct Finished {
    batch: Batch,
    settled: Vec<Settled>,
}

impl Finished {
    fn push(&mut self, record: Record, waiter: Waiter, settled: Settled) {
        self.batch.push(record, waiter);
        self.settled.push(settled);
    }

    fn and(mut self, mut other: Self) -> Self {
        if self.settled.is_empty() {
            return other;
        }
        self.batch.records.append(&mut other.batch.records);
        self.batch.waiters.append(&mut other.batch.waiters);
        self.settled.append(&mut other.settled);
        self
    }
}

/// Where finished batches are published.
pub(super) enum Publisher {
    /// On the committer's thread.
    Here,
    /// In one task of the runtime, so that a batch costs one wake across threads and not one for each waiter.
    Task(mpsc::UnboundedSender<Finished>),
}

pub(super) fn spawn(shared: Arc<Shared>, number: usize, publisher: Publisher) -> thread::JoinHandle<()> {
    let committer = Committer {
        shared,
        number,
        publisher,
    };
    #[cfg(not(feature = "shuttle"))]
    return thread::Builder::new()
        .name(format!("committer-{number}"))
        .spawn(move || {
            // Whoever waits for a commit would wait for ever.
            if catch_unwind(AssertUnwindSafe(|| committer.run())).is_err() {
                tracing::error!(
                    partition = committer.number,
                    "a committer panicked: no more writes are taken"
                );
                committer.shared.fail_all(BackendError::Panicked);
            }
        })
        .expect("a thread for the committer can be made");
    #[cfg(feature = "shuttle")]
    return thread::spawn(move || committer.run());
}

struct Committer {
    shared: Arc<Shared>,
    number: usize,
    publisher: Publisher,
}

impl Committer {
    fn run(&self) {
        while let Some(mut batch) = self.shared.partitions[self.number].take() {
            let void = match batch.take_void(self.shared.backend.as_ref()) {
                Ok(void) => void.settled(Settled::DecideAgain),
                Err(error) => {
                    self.fail(error, batch.settled(Settled::Failed));
                    return;
                }
            };
            match self.commit(batch) {
                Ok(finished) => self.publish(void.and(finished)),
                Err((error, finished)) => {
                    self.fail(error, void.and(finished));
                    return;
                }
            }
        }
    }

    /// Answers what became of each record, also if the partition has failed.
    fn commit(&self, batch: Batch) -> Result<Finished, (BackendError, Finished)> {
        if batch.records.is_empty() {
            return Ok(Finished::default());
        }
        let backend = &self.shared.backend;
        let started = Instant::now();
        let outcomes = commit_to(backend.as_ref(), self.number, &batch.records);
        let took = started.elapsed();
        self.shared.stats.observe_commit(batch.records.len(), took);
        #[cfg(feature = "watched-commits")]
        self.shared.stats.watcher.tell(batch.records.len(), took, || {
            batch.waiters.iter().filter_map(|waiter| waiter.cause).collect()
        });
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => return Err((error, batch.settled(Settled::Failed))),
        };
        assert_eq!(
            outcomes.len(),
            batch.records.len(),
            "the backend answers for each record"
        );
        if outcomes.iter().all(|outcome| *outcome == Outcome::Durable) {
            return Ok(batch.settled(Settled::Durable));
        }
        let mut finished = Finished::default();
        let mut failure = None;
        for (outcome, (record, waiter)) in outcomes.into_iter().zip(batch.into_iter()) {
            let settled = match outcome {
                Outcome::Durable => Settled::Durable,
                // A later record of the same stream was decided on a refused one, unless its state was taken
                // back before: then its own generation is already void and it only decides again.
                refused => match waiter.take_back(backend.as_ref()) {
                    Ok(true) if refused == Outcome::Full => Settled::Full,
                    Ok(_) => Settled::DecideAgain,
                    Err(error) => {
                        failure = Some(error);
                        Settled::Failed
                    }
                },
            };
            finished.push(record, waiter, settled);
        }
        match failure {
            None => Ok(finished),
            Some(error) => Err((error, finished)),
        }
    }

    fn publish(&self, finished: Finished) {
        match &self.publisher {
            Publisher::Here => publish(&self.shared, finished),
            Publisher::Task(sender) => {
                if let Err(unsent) = sender.send(finished) {
                    // The runtime is gone and with it all who wait; the state is published all the same.
                    publish(&self.shared, unsent.0);
                }
            }
        }
    }

    fn fail(&self, error: BackendError, finished: Finished) {
        tracing::error!(partition = self.number, %error, "the storage failed: no more writes are taken");
        let queued = self.shared.partitions[self.number].fail();
        self.shared.fail(error);
        self.publish(finished.and(queued.settled(Settled::Failed)));
    }
}

/// Commits, and takes a panic of the backend for a failure of it, so that nobody waits for ever.
pub(super) fn commit_to(
    backend: &dyn Backend,
    partition: usize,
    records: &[Record],
) -> Result<Outcomes, BackendError> {
    let commit = AssertUnwindSafe(|| backend.commit(partition, records));
    catch_unwind(commit).unwrap_or(Err(BackendError::Panicked))
}

/// Shows what has become durable, then answers those who wait for it. Not the request's work but the
/// committer's: a client that goes away stalls nothing.
pub(super) fn publish(shared: &Shared, finished: Finished) {
    let Finished { batch, settled } = finished;
    let records = batch.records.iter().zip(settled);
    for ((record, settled), waiter) in records.zip(batch.waiters) {
        for (decided, parts) in waiter.shares(record) {
            let mut sequencer = decided.entry.sequencer.lock();
            if settled == Settled::Durable {
                shared.show(&mut sequencer, parts);
            }
            if settled == Settled::Failed {
                sequencer.fail();
            }
            sequencer.settle();
        }
        let Waiter {
            concerned,
            answer,
            pin,
            ..
        } = waiter;
        // Whoever is answered finds the streams and the fork's source unpinned.
        drop((concerned, pin));
        // Whoever waited may have gone away.
        let _ = answer.send(settled);
    }
}
