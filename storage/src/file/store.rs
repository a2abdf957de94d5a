//! What the parts of an open store share: the catalog, the generations of changes over it, the open files.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, RwLock};

use super::catalog::{Catalog, CatalogView, Meta};
use super::log::Log;
use super::merge::Merging;
use super::options::FileOptions;
use super::overlay::Overlay;
use super::place::Layout;
use super::run_cache::RunCache;
use super::segment::Segment;
use super::spares::Spares;
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::{Disk, Map};

/// The generations of changes over the catalog.
pub(super) struct Generations {
    /// Takes what is committed now.
    pub(super) active: Arc<Overlay>,
    /// Is being folded into the catalog, or waits to be because the last attempt found no space.
    pub(super) frozen: Option<Arc<Frozen>>,
    /// What the catalog said when it was last changed.
    pub(super) meta: Meta,
    /// Grows with every change of the catalog, after which places found before may be gone.
    pub(super) version: u64,
}

/// A generation that is folded, and where the journals stood when it ended.
pub(super) struct Frozen {
    pub(super) overlay: Arc<Overlay>,
    pub(super) folded: super::place::LogPlace,
    pub(super) next_batch: u64,
    /// What its batches take in the journals.
    pub(super) bytes: u64,
}

/// The files that bytes are read from.
#[derive(Default)]
pub(super) struct Files {
    /// By number; those wholly folded are gone from here.
    pub(super) journals: BTreeMap<u64, Arc<dyn Map>>,
    /// By number: at least those that the catalog names.
    pub(super) segments: HashMap<u64, Arc<Segment>, RandomState>,
}

/// What one look at the store sees, from one moment.
pub(super) struct Sight {
    pub(super) active: Arc<Overlay>,
    pub(super) frozen: Option<Arc<Frozen>>,
    pub(super) catalog: CatalogView,
    pub(super) version: u64,
}

impl Sight {
    /// The generations over the catalog, older ones first.
    pub(super) fn overlays(&self) -> impl DoubleEndedIterator<Item = &Overlay> {
        let frozen = self.frozen.as_ref().map(|frozen| frozen.overlay.as_ref());
        frozen.into_iter().chain([self.active.as_ref()])
    }
}

/// An open store.
pub(super) struct Store {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    pub(super) options: FileOptions,
    pub(super) id: StoreId,
    /// The era that appends of this run belong to: an id that owns the positions which follow a loss, or 0.
    pub(super) era: u64,
    pub(super) catalog: Catalog,
    /// Held by whoever commits, and for a moment to begin a new generation.
    pub(super) log: Mutex<Log>,
    /// Held while a journal is synced, until it is noted if that has failed.
    pub(super) syncing: Mutex<()>,
    pub(super) spares: Spares,
    pub(super) generations: RwLock<Generations>,
    pub(super) files: RwLock<Files>,
    pub(super) runs: RunCache,
    pub(super) last_id: AtomicU64,
    /// Held by whoever changes what the catalog says: which segments there are, and what is folded.
    pub(super) compaction: Mutex<()>,
    /// Held by whoever merges segments. Taken before `compaction`.
    pub(super) merging: Mutex<Merging>,
    /// The number of the next segment to be begun.
    pub(super) next_segment: AtomicU64,
    /// Held while a stream is released or reclaimed.
    pub(super) giving_back: Mutex<()>,
    pub(super) signals: Signals,
    pub(super) counters: Counters,
    failure: Mutex<Option<BackendError>>,
}

/// What the threads of a store tell each other.
#[derive(Default)]
pub(super) struct Signals {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
pub(super) struct SignalState {
    pub(super) stopping: bool,
    /// Somebody wants the journals folded now.
    pub(super) fold: bool,
    /// The last fold found no space.
    pub(super) full: bool,
    /// How many journals have been begun.
    pub(super) rotations: u64,
}

impl Signals {
    pub(super) fn update(&self, change: impl FnOnce(&mut SignalState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    pub(super) fn now(&self) -> SignalState {
        *self.state.lock()
    }

    /// Waits for a change that `until` wants, at most so long. Answers the state then.
    pub(super) fn wait(&self, timeout: Duration, until: impl Fn(&SignalState) -> bool) -> SignalState {
        let deadline = std::time::Instant::now() + timeout;
        let mut state = self.state.lock();
        while !until(&state) {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        *state
    }
}

/// What a store has done since it was opened.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) journal_bytes: AtomicU64,
    pub(super) folds: AtomicU64,
    pub(super) folded_bytes: AtomicU64,
    pub(super) merges: AtomicU64,
    pub(super) merged_bytes: AtomicU64,
    pub(super) unreadable_segments: AtomicU64,
    pub(super) syncs: AtomicU64,
    /// Time that they took, in microseconds; likewise below.
    pub(super) sync_micros: AtomicU64,
    pub(super) fold_micros: AtomicU64,
    pub(super) merge_micros: AtomicU64,
    /// Folds that found no space.
    pub(super) full_folds: AtomicU64,
    /// Batches that waited for a fold because what is not folded took too much memory.
    pub(super) memory_waits: AtomicU64,
    pub(super) memory_wait_micros: AtomicU64,
    /// The last batch was refused in part or as a whole, for want of space.
    pub(super) refuses_appends: AtomicBool,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn add_time(micros: &AtomicU64, time: Duration) {
        Self::add(micros, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

/// The parts that an open store is made of.
pub(super) struct Parts {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    pub(super) options: FileOptions,
    pub(super) id: StoreId,
    pub(super) catalog: Catalog,
    pub(super) meta: Meta,
    pub(super) log: Log,
    pub(super) spares: Spares,
    pub(super) overlay: Overlay,
    pub(super) files: Files,
    pub(super) last_id: u64,
}

impl Store {
    pub(super) fn new(parts: Parts) -> Self {
        let next_segment = AtomicU64::new(parts.meta.next_segment);
        Self {
            disk: parts.disk,
            layout: parts.layout,
            id: parts.id,
            era: parts.meta.era,
            catalog: parts.catalog,
            log: Mutex::new(parts.log),
            syncing: Mutex::new(()),
            spares: parts.spares,
            generations: RwLock::new(Generations {
                active: Arc::new(parts.overlay),
                frozen: None,
                meta: parts.meta,
                version: 0,
            }),
            files: RwLock::new(parts.files),
            runs: RunCache::new(parts.options.catalog_cache_bytes / 2),
            options: parts.options,
            last_id: AtomicU64::new(parts.last_id),
            compaction: Mutex::new(()),
            merging: Mutex::default(),
            next_segment,
            giving_back: Mutex::new(()),
            signals: Signals::default(),
            counters: Counters::default(),
            failure: Mutex::new(None),
        }
    }

    /// Looks at the store as it is now.
    pub(super) fn sight(&self) -> Result<Sight, BackendError> {
        let generations = self.generations.read();
        Ok(Sight {
            active: Arc::clone(&generations.active),
            frozen: generations.frozen.clone(),
            // Begun under the guard: a fold cannot be published between the two.
            catalog: self.catalog.view()?,
            version: generations.version,
        })
    }

    /// How long the journals are that are not folded.
    pub(super) fn journal_bytes(&self) -> u64 {
        self.files.read().journals.values().map(|map| map.len()).sum()
    }

    /// Bytes that the disk has left for the store.
    pub(super) fn free_bytes(&self) -> Result<u64, BackendError> {
        let dir = self.layout.journals_dir();
        self.disk
            .free_bytes(&dir)
            .map_err(io_error("asking for the free space of", &dir))
    }

    /// Takes no more writes, because of this.
    pub(super) fn fail(&self, error: &BackendError) {
        let mut failure = self.failure.lock();
        if failure.is_none() {
            tracing::error!(%error, "the store failed and takes no more writes");
            *failure = Some(error.clone());
        }
    }

    pub(super) fn failure(&self) -> Option<BackendError> {
        self.failure.lock().clone()
    }
}

/// Says what was being done with which file when the system refused it.
pub(super) fn io_error<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> BackendError + 'a {
    move |source| BackendError::Io {
        what: format!("{what} {}", path.display()),
        source: Arc::new(source),
    }
}
