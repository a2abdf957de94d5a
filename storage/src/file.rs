//! The backends `file-durable` and `file-fast`: a log-structured store. FORMAT.md describes every byte of it.
//!
//! Records are written to journals, many streams side by side, and one sync makes a whole batch durable. Later the
//! journals are folded into segments, in which each stream's bytes stand together, and into the catalog, which
//! says what is known of each stream and where its bytes are. What an append costs does not depend on how many
//! streams there are.
//!
//! | file | what stands there |
//! |---|---|
//! | `recovery.rs` | opens a store: replays the journals, cuts off a torn end |
//! | `journal.rs`, `journal/` | the format of journals: batches of records |
//! | `log.rs`, `spares.rs`, `spares/` | the end of the journals, where records are written; journals made ahead |
//! | `overlay.rs`, `overlay/` | what the journals say that the catalog does not know yet |
//! | `catalog.rs`, `catalog/` | one redb database: streams, names, places |
//! | `segment.rs`, `segment/` | the format of segments: sorted, sealed |
//! | `fold.rs`, `merge.rs`, `merge/`, `segments_out.rs` | compaction: journals into segments, segments into larger ones |
//! | `lookup.rs`, `read.rs`, `run_cache.rs` | answers questions, reads bytes |
//! | `upkeep.rs` | the threads of a store |
//! | `backup.rs`, `stats.rs`, `verify.rs`, `verify/` | what operators ask of it |
//! | `place.rs`, `options.rs`, `store.rs` | what the others share |

mod backup;
mod catalog;
mod fold;
mod journal;
mod log;
mod lookup;
mod merge;
mod options;
mod overlay;
mod place;
mod read;
mod recovery;
mod run_cache;
mod segment;
mod segments_out;
mod spares;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use tailwater_stream::{AppendExtent, Record, StreamId, StreamName, StreamState, Timestamp};

pub use backup::BackupReport;
pub use options::{Durability, FileOptions};
pub use stats::{FileStats, StoreActivity, stats_of};
pub use verify::{VerifyReport, verify};

use crate::backend::{
    Backend, BackendError, ControlsRequest, ListRequest, Nature, Outcomes, ReadError, ReadRequest, Slices,
    Usage,
};
pub use crate::backup::BackupError;
use crate::directory::{self, DirectoryLock, OpenError};
use crate::disk::{Disk, RealDisk};
use catalog::Meta;
use place::Layout;
use store::Store;

/// A log-structured store in a directory.
pub struct FileStore {
    store: Arc<Store>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the store is open.
    _lock: Option<DirectoryLock>,
}

/// Opens the store of a directory, or makes one. No other process may use it meanwhile.
///
/// # Errors
/// [`OpenError`], which says what to do. Nothing is changed then.
pub fn open(options: FileOptions) -> Result<FileStore, OpenError> {
    let lock = DirectoryLock::acquire(&options.data_dir)?;
    let mut store = FileStore::open_unlocked(Arc::new(RealDisk), options)?;
    store._lock = Some(lock);
    Ok(store)
}

/// Checks the store of a directory, and changes nothing of it.
///
/// # Errors
/// As [`verify()`]; [`OpenError::Locked`] if another process uses the store.
pub fn verify_directory(data_dir: &Path) -> Result<VerifyReport, OpenError> {
    directory::while_unused(data_dir, || verify(&RealDisk, data_dir))
}

/// What the store of a directory holds. Changes nothing of it.
///
/// # Errors
/// As [`stats_of`]; [`OpenError::Locked`] if another process uses the store.
pub fn stats_of_directory(data_dir: &Path) -> Result<FileStats, OpenError> {
    directory::while_unused(data_dir, || stats_of(&RealDisk, data_dir))
}

impl FileStore {
    /// Opens a store on any disk. Whoever calls it sees to it that nobody else has it open.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open_unlocked(disk: Arc<dyn Disk>, options: FileOptions) -> Result<Self, OpenError> {
        let layout = Layout::new(&options.data_dir);
        let identity = directory::identify(
            disk.as_ref(),
            &layout.root,
            options.durability.mode(),
            &Layout::PARTS,
        )?;
        let store = Arc::new(recovery::open(disk, layout, identity.store, options)?);
        let threads = upkeep::start(&store);
        Ok(Self {
            store,
            threads: Mutex::new(threads),
            _lock: None,
        })
    }

    /// Folds all that is committed into segments, and merges those that are worth it.
    ///
    /// # Errors
    /// If the disk fails or is full; nothing is lost then.
    pub fn compact(&self) -> Result<(), BackendError> {
        {
            let _compacting = self.store.compaction.lock();
            self.store.fold()?;
        }
        self.store.merge()
    }

    /// Makes what was committed so far durable, for a mode that does not do so with every commit.
    ///
    /// # Errors
    /// If the disk fails. The store takes no more commits then.
    pub fn sync(&self) -> Result<(), BackendError> {
        self.store.sync_log()
    }

    fn end_threads(&self) {
        self.store.signals.update(|signals| signals.stopping = true);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                self.store.fail(&BackendError::Panicked);
            }
        }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.end_threads();
    }
}

impl Backend for FileStore {
    fn nature(&self) -> Nature {
        Nature {
            partitions: 1,
            commits_inline: false,
            answers_inline: false,
        }
    }

    fn partition_of(&self, _: StreamId) -> usize {
        0
    }

    fn commit(&self, _: usize, batch: &[Record]) -> Result<Outcomes, BackendError> {
        self.store.commit(batch)
    }

    fn read(&self, request: ReadRequest) -> Result<Slices, ReadError> {
        self.store.read(request)
    }

    fn extents(&self, request: ReadRequest) -> Result<Vec<AppendExtent>, ReadError> {
        self.store.extents(request)
    }

    fn load(&self, name: &StreamName) -> Result<Option<StreamState>, BackendError> {
        self.store.load(name)
    }

    fn list(&self, request: &ListRequest<'_>) -> Result<Vec<StreamState>, BackendError> {
        self.store.list(request)
    }

    fn has_forks(&self, id: StreamId) -> Result<bool, BackendError> {
        Ok(!self.store.sight()?.forks_of(id)?.is_empty())
    }

    fn release(&self, id: StreamId) -> Result<Option<StreamId>, BackendError> {
        self.store.release(id)
    }

    fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        self.store.deleted()
    }

    fn reclaim(&self, id: StreamId) -> Result<(), BackendError> {
        self.store.reclaim(id)
    }

    fn reclaimable(&self) -> Result<Vec<StreamId>, BackendError> {
        self.store.reclaimable()
    }

    fn due(&self, now: Timestamp, count_max: usize) -> Result<Vec<StreamName>, BackendError> {
        self.store.due(now, count_max)
    }

    fn control(&self, stream: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.store.control(stream, key)
    }

    fn list_controls(
        &self,
        stream: StreamId,
        request: &ControlsRequest<'_>,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.store.controls(stream, request)
    }

    fn last_id(&self) -> Option<StreamId> {
        StreamId::new(self.store.last_id.load(Ordering::Relaxed))
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn failure(&self) -> Option<BackendError> {
        self.store.failure()
    }

    fn stop(&self) -> Result<(), BackendError> {
        self.end_threads();
        if let Some(error) = self.store.failure() {
            return Err(error);
        }
        self.store.sync_log()?;
        let _compacting = self.store.compaction.lock();
        self.store.fold()?;
        let meta = self.store.generations.read().meta.clone();
        self.store.put_meta(Meta { clean: true, ..meta })
    }
}
