//! The engine: create, append, read, watch, delete, trim and list streams over any backend.
//!
//! A stream has an accepted state, which commands are decided on, and a durable one, which is all that readers,
//! answers and wake-ups show. A refusal or a duplicate's answer waits until the state that it was decided on is
//! durable, so nothing that a crash could take back is ever told to anybody.
//!
//! | file | what stands there |
//! |---|---|
//! | `registry.rs` | the open streams by name, loaded on first use and evicted when idle |
//! | `sequencer.rs` | the order of one stream: accepted and durable state |
//! | `committer.rs` | one thread for each partition: many records, one commit |
//! | `batch.rs` | records that are committed together, and who waits for them |
//! | `backlog.rs` | how much waits for a commit |
//! | `watch.rs` | what readers see, and how they are woken |
//! | `changes.rs` | the change feed over all streams |
//! | `together.rs` | records over several streams |
//! | `create.rs append.rs delete.rs trim.rs reader.rs list.rs` | one operation each |
//! | `hidden.rs` | streams of the server's own, whose content is control keys |
//! | `pins.rs`, `leftovers.rs` | whose bytes must stay for forks and exports, and whose can go |
//! | `leads.rs` | names that lead to another partition |
//! | `sweep.rs` | lifetimes that end, streams that nobody uses |

mod append;
mod backlog;
mod batch;
mod changes;
mod committer;
mod create;
mod delete;
mod export;
mod hidden;
mod import;
mod leads;
mod leftovers;
mod list;
mod pins;
mod reader;
mod registry;
mod sequencer;
mod sweep;
mod together;
mod trim;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tailwater_stream::{Limits, Part, Record, StreamId, StreamName, StreamState, Timestamp};
use tokio::sync::{oneshot, watch as tokio_watch};

pub use append::{AppendError, AppendRequest, Appended, PreparedAppend};
pub use backlog::Backlog;
pub use changes::{Change, ChangeKind, ChangePage, ChangeToken, Changes, ChangesGone};
pub use create::{CreateError, Created, Origin};
pub use delete::DeleteError;
pub use export::{Export, ExportedAppend, ExportedStream, Exporter};
pub(crate) use hidden::HiddenError;
pub use import::{Begun, Existing, Finished, ImportError, Importer};
pub use list::{Listed, Listing};
pub use reader::{MessageRecord, OpenError, RECORD_BYTES, ReadFailure, Reader};
pub use registry::LookAhead;
pub use sequencer::Settled;
pub use sweep::SWEEP_INTERVAL_MS;
pub use together::{Draft, Footing, Held, NameTaken, Settling};
pub use trim::{TrimError, Trimmed};
pub use watch::{Incarnation, View};

use crate::backend::{Backend, BackendError, Nature, Outcome, Usage};
use crate::clock::Clock;
use crate::stats::EngineStats;
use crate::subscriptions::Moves;
use crate::sync::{AtomicU64, Mutex, thread};
use batch::{Concerned, Decided, Waiter};
use committer::{Partition, Publisher};
use leads::Leads;
use leftovers::{Leftover, Leftovers};
use pins::{Pins, StoragePin};
use registry::Registry;
use sequencer::{Decision, Entry, Sequencer, Standing};

/// How many storages that an earlier run left are looked at in one go. Meanwhile no fork is begun.
const RECLAIMED_AT_START: usize = 64;

/// The limits that an engine enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// The most bytes of its own that a stream may hold.
    pub stream_bytes_max: u64,
    /// The most producers that a stream remembers.
    pub producers_max: usize,
    /// Streams held ready. As many as are more are evicted, those first that were idle for longest.
    pub open_streams_max: u64,
    /// Events in the change feed.
    pub changes_max: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            stream_bytes_max: 10 << 20,
            producers_max: 1000,
            open_streams_max: 100_000,
            changes_max: 65_536,
        }
    }
}

impl EngineLimits {
    fn of_stream(&self) -> Limits {
        Limits {
            stream_bytes_max: self.stream_bytes_max,
            producers_max: self.producers_max,
        }
    }
}

/// Why the engine cannot do anything about a command, whatever it is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// There is no space left for what it would store.
    #[error("there is no space left to store this")]
    Full,
    /// The storage failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// A durable-stream engine over a backend. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Arc<dyn Backend>,
    nature: Nature,
    clock: Arc<dyn Clock>,
    limits: EngineLimits,
    registry: Registry,
    partitions: Vec<Partition>,
    committers: Mutex<Vec<thread::JoinHandle<()>>>,
    changes: Changes,
    pins: Pins,
    leads: Leads,
    leftovers: Leftovers,
    moves: Arc<Moves>,
    stats: EngineStats,
    last_id: AtomicU64,
    /// Imports that are under way.
    imports: AtomicU64,
    failure: tokio_watch::Sender<Option<BackendError>>,
    /// Whether `failure` tells of one; cheap to look at before every commit.
    has_failed: AtomicBool,
}

impl Shared {
    /// Makes the accepted state of a stream what it is after parts of a record.
    fn accept(&self, entry: &Arc<Entry>, sequencer: &mut Sequencer, parts: &[Part]) {
        if sequencer.accept(parts) {
            self.registry.watch_end(entry, sequencer);
        }
    }

    /// Takes over what the backend has stored of a stream.
    fn take_over(&self, entry: &Arc<Entry>, state: Option<StreamState>) {
        self.stats.loads.add(u64::from(state.is_some()));
        let mut sequencer = entry.sequencer.lock();
        sequencer.load(state);
        self.registry.watch_end(entry, &mut sequencer);
    }

    /// Shows parts of a record that has become durable to all who look.
    fn show(&self, sequencer: &mut Sequencer, parts: &[Part]) {
        sequencer.show(parts, &self.changes, &self.stats, &self.leftovers, &self.moves);
    }

    /// What is committed and what is shown may have parted, for any of the streams: lets no partition take records any
    /// more, and tells all who wait.
    fn fail_all(&self, error: BackendError) {
        self.fail(error);
        for partition in &self.partitions {
            drop(partition.fail());
        }
        self.registry.look_at_all(|entry| entry.sequencer.lock().fail());
    }

    fn fail(&self, error: BackendError) {
        self.has_failed.store(true, Ordering::Relaxed);
        self.failure.send_modify(|failure| {
            failure.get_or_insert(error);
        });
    }
}

impl Engine {
    /// Starts an engine. Within a runtime, finished batches are published in a task of it.
    ///
    /// # Errors
    /// If the backend cannot be read.
    pub fn start(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        limits: EngineLimits,
    ) -> Result<Self, BackendError> {
        let nature = backend.nature();
        let leftovers = Leftovers::default();
        for id in backend.deleted()? {
            leftovers.note(Leftover::Deleted(id));
        }
        for storages in backend.reclaimable()?.chunks(RECLAIMED_AT_START) {
            leftovers.note(Leftover::Trimmed(storages.into()));
        }
        let shared = Arc::new(Shared {
            nature,
            limits,
            registry: Registry::new(64),
            partitions: (0..nature.partitions).map(|_| Partition::default()).collect(),
            committers: Mutex::new(Vec::new()),
            changes: Changes::new(clock.now_micros(), limits.changes_max),
            pins: Pins::default(),
            leads: Leads::default(),
            leftovers,
            moves: Arc::default(),
            stats: EngineStats::default(),
            last_id: AtomicU64::new(backend.last_id().map_or(0, StreamId::get)),
            imports: AtomicU64::new(0),
            failure: tokio_watch::Sender::new(None),
            has_failed: AtomicBool::new(false),
            backend,
            clock,
        });
        if !nature.commits_inline {
            let committers = (0..nature.partitions)
                .map(|number| committer::spawn(Arc::clone(&shared), number, Publisher::of(&shared)));
            *shared.committers.lock() = committers.collect();
        }
        Ok(Self { shared })
    }

    /// Commits all that is queued and ends the committers. Call it once no more commands come; blocks. If what was committed
    /// may not be durable afterwards, [`Self::failure`] tells of it.
    pub fn stop(&self) {
        for partition in &self.shared.partitions {
            partition.close();
        }
        for committer in std::mem::take(&mut *self.shared.committers.lock()) {
            if committer.join().is_err() {
                tracing::error!("a committer ended with a panic");
            }
        }
        self.reclaim_at_stop();
        match self.shared.backend.stop() {
            Ok(()) => {}
            // What is committed is durable, and only stands where the next start has more to do.
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "there is no space to leave the storage in good order; the next start does so");
            }
            Err(error) => {
                tracing::error!(%error, "the storage could not be left in good order; the next start recovers");
                self.shared.fail(error);
            }
        }
    }

    /// What the engine has done so far.
    pub fn stats(&self) -> &EngineStats {
        &self.shared.stats
    }

    /// The change feed.
    pub fn changes(&self) -> &Changes {
        &self.shared.changes
    }

    /// How much is stored.
    pub fn usage(&self) -> Usage {
        self.shared.backend.usage()
    }

    /// Streams that are open now.
    pub fn open_streams(&self) -> u64 {
        self.shared.registry.len()
    }

    /// Tells when the storage has failed for good.
    pub fn failure(&self) -> tokio_watch::Receiver<Option<BackendError>> {
        self.shared.failure.subscribe()
    }

    /// The engine's time.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The engine's time that no setting of a clock moves: see [`Clock::monotonic_ms`].
    pub fn monotonic_ms(&self) -> u64 {
        self.shared.clock.monotonic_ms()
    }

    /// An id for a new stream, which says in which partition it stands: that of its name, or that of another stream.
    fn next_id(&self, name: &StreamName, beside: Option<StreamId>) -> StreamId {
        let now = self.shared.clock.now_micros();
        let next = |last: u64| self.shared.backend.next_id(now.max(last + 1), name, beside);
        let last = self
            .shared
            .last_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let last = last.expect("the update always succeeds");
        StreamId::new(next(last)).expect("the clock is centuries below the limit")
    }

    /// Asks the backend something, off the runtime if it may have to wait for a disk.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Backend) -> Result<T, BackendError> + Send + 'static,
    ) -> Result<T, EngineError> {
        if self.shared.nature.answers_inline {
            return Ok(question(self.shared.backend.as_ref())?);
        }
        let backend = Arc::clone(&self.shared.backend);
        let answer = tokio::task::spawn_blocking(move || question(backend.as_ref())).await;
        Ok(answer.map_err(|_panicked| BackendError::Poisoned)??)
    }

    /// The entry of a name, pinned and loaded.
    async fn open(&self, name: &StreamName) -> Result<Arc<Entry>, EngineError> {
        let shared = &self.shared;
        let entry = shared.registry.pin(name);
        if !entry.loaded.initialized() {
            Box::pin(entry.loaded.get_or_try_init(|| self.load(&entry))).await?;
            shared.registry.note_use(&entry);
        }
        Ok(entry)
    }

    async fn load(&self, entry: &Arc<Entry>) -> Result<(), EngineError> {
        let name = entry.name.clone();
        let state = self.ask(move |backend| backend.load(&name)).await?;
        self.shared.take_over(entry, state);
        Ok(())
    }

    /// Decides a command in its stream's turn, commits what it changes, and answers once that is durable.
    async fn sequence<T>(
        &self,
        entry: &Arc<Entry>,
        mut decide: impl FnMut(&Sequencer, Timestamp) -> Decision<T>,
    ) -> Result<T, EngineError> {
        loop {
            let (settled, answer) = {
                let mut sequencer = entry.sequencer.lock();
                let (settled, answer) = match decide(&sequencer, self.now()) {
                    Decision::Look(answer) => return Ok(answer),
                    Decision::Answer(answer) => (sequencer.wait_until_settled()?, answer),
                    Decision::Commit(record, answer) => {
                        (self.commit(entry, &mut sequencer, record, None)?, answer)
                    }
                    Decision::CommitFork(record, pin, answer) => {
                        (self.commit(entry, &mut sequencer, record, Some(pin))?, answer)
                    }
                };
                match settled {
                    None => return Ok(answer),
                    Some(settled) => (settled, answer),
                }
            };
            match settled.await.unwrap_or(Settled::Failed) {
                Settled::Durable => return Ok(answer),
                Settled::DecideAgain => {}
                Settled::Full => return Err(EngineError::Full),
                Settled::Failed => return Err(BackendError::Poisoned.into()),
            }
        }
    }

    /// Commits a record that was decided on the accepted state: at once, or through the committer, and then
    /// answers what to wait on. What `pin` holds is held until then.
    fn commit(
        &self,
        entry: &Arc<Entry>,
        sequencer: &mut Sequencer,
        record: Record,
        pin: Option<Arc<StoragePin>>,
    ) -> Result<Option<oneshot::Receiver<Settled>>, EngineError> {
        if self.shared.nature.commits_inline {
            self.commit_inline(entry, sequencer, &record)?;
            return Ok(None);
        }
        let (answer, settled) = oneshot::channel();
        self.shared.accept(entry, sequencer, &record.parts);
        let partition = partition_of(self.shared.backend.as_ref(), &record);
        let waiter = Waiter {
            concerned: Concerned::One(Decided {
                entry: Arc::clone(entry),
                generation: entry.generation(),
            }),
            answer,
            pin,
            #[cfg(feature = "watched-commits")]
            cause: self.shared.stats.watcher.cause(),
        };
        if let Err(error) = self.shared.partitions[partition].push(record, waiter) {
            sequencer.fail();
            return Err(error.into());
        }
        // The committer cannot settle it before this stream's turn is over.
        sequencer.count_queued();
        Ok(Some(settled))
    }

    fn commit_inline(
        &self,
        entry: &Arc<Entry>,
        sequencer: &mut Sequencer,
        record: &Record,
    ) -> Result<(), EngineError> {
        self.put_inline(record)?;
        self.shared.accept(entry, sequencer, &record.parts);
        self.shared.show(sequencer, &record.parts);
        Ok(())
    }

    /// Makes a record durable at once. Call it while all its streams are locked.
    fn put_inline(&self, record: &Record) -> Result<(), EngineError> {
        let shared = &self.shared;
        if shared.has_failed.load(Ordering::Relaxed) {
            return Err(BackendError::Poisoned.into());
        }
        let started = Instant::now();
        let records = std::slice::from_ref(record);
        let partition = partition_of(shared.backend.as_ref(), record);
        let outcomes = committer::commit_to(shared.backend.as_ref(), partition, records);
        let took = started.elapsed();
        shared.stats.observe_commit(1, took);
        #[cfg(feature = "watched-commits")]
        shared
            .stats
            .watcher
            .tell(1, took, || shared.stats.watcher.cause().into_iter().collect());
        match outcomes.inspect_err(|error| shared.fail(error.clone()))?[..] {
            [Outcome::Durable] => Ok(()),
            _ => Err(EngineError::Full),
        }
    }

    /// Ends a stream whose lifetime is over, in its turn: it may have been used in the meantime.
    async fn expire(&self, entry: &Arc<Entry>) -> Result<(), EngineError> {
        let expired = self
            .sequence(entry, |sequencer, now| {
                match (sequencer.standing(now), sequencer.accepted()) {
                    (Standing::Expired, Some(state)) => {
                        let delete = tailwater_stream::Transition::Delete { at: now };
                        Decision::Commit(Record::of(state.id, delete), Some(state.id))
                    }
                    _ => Decision::Answer(None),
                }
            })
            .await?;
        match expired {
            Some(id) => self.note_expired(entry, id).await,
            None => Ok(()),
        }
    }

    /// Likewise, for who does not need its name: it is over, whether there is space to record that or not. Answers whether
    /// there was.
    async fn expire_if_room(&self, entry: &Arc<Entry>) -> Result<bool, EngineError> {
        match self.expire(entry).await {
            Err(EngineError::Full) => Ok(false),
            expired => expired.map(|()| true),
        }
    }

    /// Counts a stream whose end is durable, and forgets it.
    async fn note_expired(&self, entry: &Entry, id: StreamId) -> Result<(), EngineError> {
        self.shared.stats.expirations.add(1);
        self.forget_deleted(entry, id).await
    }

    /// Forgets a stream whose deletion is durable, unless forks hold it.
    async fn forget_deleted(&self, entry: &Entry, id: StreamId) -> Result<(), EngineError> {
        self.clear_leftovers().await;
        // Somebody else may have taken over to clear it, and not be done: a source's name is free by now all the same.
        self.clear(Leftover::Deleted(id)).await;
        if !self.is_held_by_forks(id).await? {
            entry.sequencer.lock().forget_released(id);
        }
        Ok(())
    }

    /// Whether a deleted stream is kept because it has forks, made or in the making.
    async fn is_held_by_forks(&self, id: StreamId) -> Result<bool, EngineError> {
        if self.shared.pins.is_being_forked(id) {
            return Ok(true);
        }
        self.ask(move |backend| backend.has_forks(id)).await
    }
}

/// The partition of a record, all of whose streams stand in the same one.
fn partition_of(backend: &dyn Backend, record: &Record) -> usize {
    let mut partitions = record.streams().map(|stream| backend.partition_of(stream));
    let partition = partitions.next().expect("a record has a part");
    debug_assert!(
        partitions.all(|other| other == partition),
        "a record stays within one partition"
    );
    partition
}
