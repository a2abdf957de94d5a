//! The committer of a partition: one thread that commits all that has gathered as one batch, while the next one
//! gathers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tailwater_stream::Record;
use tokio::sync::mpsc;

use super::batch::{Batch, SettledBatch, Waiter, payload_bytes};
use super::sequencer::Settled;
use super::{Backlog, Shared};
use crate::backend::{Backend, BackendError, Outcome, Outcomes};
use crate::panics::Task;
use crate::sync::{Condvar, Mutex, thread, wait};

/// Records in one batch at the most, so that a commit's duration is bounded.
const BATCH_RECORDS_MAX: usize = 8192;
/// Payload bytes in one batch at the most, but for a record that is longer alone.
const BATCH_BYTES_MAX: usize = 16 << 20;

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
        let count = self.batch.records().len();
        if count <= BATCH_RECORDS_MAX && self.payload_bytes <= BATCH_BYTES_MAX {
            self.payload_bytes = 0;
            // The next batch is about as long.
            return std::mem::replace(&mut self.batch, Batch::with_capacity(count));
        }
        let mut bytes = 0;
        let fitting = self
            .batch
            .records()
            .iter()
            .take(BATCH_RECORDS_MAX)
            .take_while(|record| {
                let first = bytes == 0;
                bytes += payload_bytes(record) + 1;
                first || bytes <= BATCH_BYTES_MAX
            });
        let batch = self.batch.take_first(fitting.count());
        self.payload_bytes -= batch.records().iter().map(payload_bytes).sum::<usize>();
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
        let was_empty = queue.batch.records().is_empty();
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
            records: queue.batch.records().len(),
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
        while queue.batch.records().is_empty() {
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

/// Where finished batches are published.
pub(super) enum Publisher {
    /// On the committer's thread.
    Here,
    /// In one task of the runtime, so that a batch costs one wake across threads and not one for each waiter.
    Task(mpsc::UnboundedSender<SettledBatch>),
}

impl Publisher {
    /// One task if there is a runtime to run it.
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Self::Here;
        };
        let (sender, mut finished) = mpsc::unbounded_channel::<SettledBatch>();
        let shared = Arc::downgrade(shared);
        runtime.spawn(async move {
            while let Some(batch) = finished.recv().await {
                let Some(shared) = shared.upgrade() else { return };
                let publishing = async { batch.publish(&shared) };
                if shared
                    .stats
                    .panics
                    .watch(Task::Publisher, publishing)
                    .await
                    .is_err()
                {
                    // What is durable and not shown would be decided upon as if it were not there.
                    shared.fail_all(BackendError::Panicked);
                    return;
                }
            }
        });
        Self::Task(sender)
    }
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
            let void = match batch.take_void(&self.shared) {
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
    fn commit(&self, batch: Batch) -> Result<SettledBatch, (BackendError, SettledBatch)> {
        if batch.records().is_empty() {
            return Ok(SettledBatch::default());
        }
        let backend = &self.shared.backend;
        let started = Instant::now();
        let outcomes = commit_to(backend.as_ref(), self.number, batch.records());
        let took = started.elapsed();
        self.shared.stats.observe_commit(batch.records().len(), took);
        #[cfg(feature = "watched-commits")]
        self.shared
            .stats
            .watcher
            .tell(batch.records().len(), took, || batch.causes().collect());
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => return Err((error, batch.settled(Settled::Failed))),
        };
        assert_eq!(
            outcomes.len(),
            batch.records().len(),
            "the backend answers for each record"
        );
        if outcomes.iter().all(|outcome| *outcome == Outcome::Durable) {
            return Ok(batch.settled(Settled::Durable));
        }
        let mut finished = SettledBatch::default();
        let mut failure = None;
        for (outcome, (record, waiter)) in outcomes.into_iter().zip(batch.into_iter()) {
            let settled = match outcome {
                Outcome::Durable => Settled::Durable,
                // A later record of the same stream was decided on a refused one, unless its state was taken
                // back before: then its own generation is already void and it only decides again.
                refused => match waiter.take_back(&self.shared) {
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

    fn publish(&self, finished: SettledBatch) {
        match &self.publisher {
            Publisher::Here => finished.publish(&self.shared),
            Publisher::Task(sender) => {
                if let Err(unsent) = sender.send(finished) {
                    // The runtime is gone and with it all who wait; the state is published all the same.
                    unsent.0.publish(&self.shared);
                }
            }
        }
    }

    fn fail(&self, error: BackendError, finished: SettledBatch) {
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
