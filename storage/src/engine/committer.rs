//! The committer of a partition: one thread that commits all that has gathered as one batch, while the next one
//! gathers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tailwater_stream::Record;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::pins::ForkPin;
use super::sequencer::{Entry, Settled};
use crate::backend::{Backend, BackendError, Outcome, Outcomes};
use crate::sync::{Condvar, Mutex, thread, wait};

/// Records in one batch at the most, so that a commit's duration is bounded.
const BATCH_RECORDS_MAX: usize = 8192;
/// Payload bytes in one batch at the most, but for a record that is longer alone.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// A record that was accepted, and who waits for it.
pub(super) struct Queued {
    pub(super) record: Record,
    pub(super) entry: Arc<Entry>,
    /// The sequencer's generation in which it was decided.
    pub(super) generation: u64,
    pub(super) answer: Option<oneshot::Sender<Settled>>,
    /// What a fork in the making holds: until this record is settled, also when its client has gone away.
    pub(super) _pin: Option<Arc<ForkPin>>,
}

impl Queued {
    fn payload_bytes(&self) -> usize {
        use tailwater_stream::{Part, Transition};
        let bytes = |part: &Part| match part {
            Part::Stream {
                transition: Transition::Append(append),
                ..
            } => append.payload.len(),
            Part::Stream { .. } | Part::Control(_) => 0,
        };
        self.record.parts.iter().map(bytes).sum()
    }
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Queued>,
    closing: bool,
    failed: bool,
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
    pub(super) fn push(&self, queued: Queued) -> Result<(), BackendError> {
        let mut queue = self.queue.lock();
        if queue.failed {
            return Err(BackendError::Poisoned);
        }
        let was_empty = queue.records.is_empty();
        queue.records.push_back(queued);
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Lets the committer end once all that is queued is committed.
    pub(super) fn close(&self) {
        self.queue.lock().closing = true;
        self.filled.notify_one();
    }

    /// The next batch; none when the partition is closed and all is committed.
    fn take(&self) -> Option<Vec<Queued>> {
        let mut queue = self.queue.lock();
        while queue.records.is_empty() {
            if queue.closing {
                return None;
            }
            wait(&self.filled, &mut queue);
        }
        // Whoever shares the core with the committer and has more to append does so first, and this sync serves them
        // too. Where there is a core to spare it takes no time.
        drop(queue);
        thread::yield_now();
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        let fitting = queue.records.iter().take(BATCH_RECORDS_MAX).take_while(|queued| {
            let first = bytes == 0;
            bytes += queued.payload_bytes() + 1;
            first || bytes <= BATCH_BYTES_MAX
        });
        let count = fitting.count();
        Some(queue.records.drain(..count).collect())
    }

    fn fail(&self) -> VecDeque<Queued> {
        let mut queue = self.queue.lock();
        queue.failed = true;
        std::mem::take(&mut queue.records)
    }
}

/// A committed batch: each record and what became of it.
pub(super) type Finished = Vec<(Queued, Settled)>;

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
        .spawn(move || committer.run())
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
        while let Some(batch) = self.shared.partitions[self.number].take() {
            let (valid, void): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .partition(|queued| queued.generation == queued.entry.sequencer.lock().generation());
            let mut finished: Finished = void
                .into_iter()
                .map(|queued| (queued, Settled::DecideAgain))
                .collect();
            if let Err(error) = self.commit(valid, &mut finished) {
                self.fail(error, finished);
                return;
            }
            self.publish(finished);
        }
    }

    fn commit(&self, batch: Vec<Queued>, finished: &mut Finished) -> Result<(), BackendError> {
        if batch.is_empty() {
            return Ok(());
        }
        let backend = &self.shared.backend;
        let (records, waiters): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|mut queued| (std::mem::take(&mut queued.record), queued))
            .unzip();
        let started = Instant::now();
        let outcomes = commit_to(backend.as_ref(), self.number, &records);
        self.shared.stats.observe_commit(records.len(), started.elapsed());
        let mut batch = waiters
            .into_iter()
            .zip(records)
            .map(|(queued, record)| Queued { record, ..queued });
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => {
                finished.extend(batch.map(|queued| (queued, Settled::Failed)));
                return Err(error);
            }
        };
        assert_eq!(outcomes.len(), batch.len(), "the backend answers for each record");
        let mut failure = Ok(());
        for outcome in outcomes {
            let queued = batch.next().expect("as many as outcomes");
            let settled = match outcome {
                Outcome::Durable => Settled::Durable,
                // A later record of the same stream was decided on a refused one, unless its state was taken
                // back before: then its own generation is already void and it only decides again.
                refused => match take_back(backend.as_ref(), &queued) {
                    Ok(true) if refused == Outcome::Full => Settled::Full,
                    Ok(_) => Settled::DecideAgain,
                    Err(error) => {
                        failure = Err(error);
                        Settled::Failed
                    }
                },
            };
            finished.push((queued, settled));
        }
        failure
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

    fn fail(&self, error: BackendError, mut finished: Finished) {
        tracing::error!(partition = self.number, %error, "the storage failed: no more writes are taken");
        let queued = self.shared.partitions[self.number].fail();
        finished.extend(queued.into_iter().map(|queued| (queued, Settled::Failed)));
        self.shared.fail(error);
        self.publish(finished);
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

/// Sets the accepted state back to the committed one. Answers whether this record's decision still stood.
fn take_back(backend: &dyn Backend, queued: &Queued) -> Result<bool, BackendError> {
    let committed = backend.load(&queued.entry.name)?;
    let mut sequencer = queued.entry.sequencer.lock();
    let stood = sequencer.generation() == queued.generation;
    if stood {
        sequencer.take_back(committed);
    }
    Ok(stood)
}

/// Shows what has become durable, then answers those who wait for it. Not the request's work but the
/// committer's: a client that goes away stalls nothing.
pub(super) fn publish(shared: &Shared, finished: Finished) {
    for (queued, settled) in finished {
        {
            let mut sequencer = queued.entry.sequencer.lock();
            if settled == Settled::Durable {
                sequencer.show(&queued.record, &shared.changes, &shared.stats, &shared.leftovers);
            }
            if settled == Settled::Failed {
                sequencer.fail();
            }
            sequencer.settle();
        }
        answer(queued, settled);
    }
}

fn answer(mut queued: Queued, settled: Settled) {
    let waiter = queued.answer.take();
    // Whoever is answered finds the stream and the fork's source unpinned.
    drop(queued);
    if let Some(waiter) = waiter {
        // Whoever waited may have gone away.
        let _ = waiter.send(settled);
    }
}
