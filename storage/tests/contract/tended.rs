//! A file store as the contract's tests want it: made in one call, and compacted behind every commit if they say so.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::backend::{
    ControlsRequest, ListRequest, Nature, Outcomes, ReadError, ReadRequest, Slices, Usage,
};
use tailwater_storage::disk::{Disk, RealDisk};
use tailwater_storage::file::Durability;
use tailwater_storage::stream::{AppendExtent, Record, StreamId, StreamName, StreamState, Timestamp};
use tailwater_storage::{Backend, BackendError, FileOptions, FileStore};
use tempfile::TempDir;

use crate::support::faulty_disk::FaultyDisk;

pub(crate) const FAST: Durability = Durability::Fast {
    sync_interval_ms: 1_000,
};

/// A file store with small files.
pub(crate) struct Tended {
    store: FileStore,
    /// Whether everything is compacted behind every commit, so that all answers come from segments.
    compacts: bool,
    /// Removed behind the store.
    _dir: Option<TempDir>,
}

impl Tended {
    fn open(disk: Arc<dyn Disk>, dir: PathBuf, durability: Durability) -> FileStore {
        let options = FileOptions {
            journal_bytes: 64 << 10,
            fold_bytes: 128 << 10,
            segment_bytes_max: 64 << 10,
            compacts_by_itself: false,
            ..FileOptions::new(dir, durability, 1 << 20)
        };
        FileStore::open_unlocked(disk, options).expect("a new store")
    }

    /// A store in memory.
    pub(crate) fn in_memory(durability: Durability, compacts: bool) -> Box<dyn Backend> {
        Box::new(Self {
            store: Self::open(FaultyDisk::new(0), "/data".into(), durability),
            compacts,
            _dir: None,
        })
    }

    /// A store in a directory of its own.
    pub(crate) fn on_disk(durability: Durability) -> Box<dyn Backend> {
        let dir = tempfile::tempdir().expect("a directory");
        Box::new(Self {
            store: Self::open(Arc::new(RealDisk), dir.path().join("store"), durability),
            compacts: false,
            _dir: Some(dir),
        })
    }
}

impl Backend for Tended {
    fn nature(&self) -> Nature {
        self.store.nature()
    }

    fn partition_of(&self, id: StreamId) -> usize {
        self.store.partition_of(id)
    }

    fn commit(&self, partition: usize, batch: &[Record]) -> Result<Outcomes, BackendError> {
        let outcomes = self.store.commit(partition, batch)?;
        if self.compacts {
            self.store.compact()?;
        }
        Ok(outcomes)
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
        self.store.has_forks(id)
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
        self.store.list_controls(stream, request)
    }

    fn last_id(&self) -> Option<StreamId> {
        self.store.last_id()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn failure(&self) -> Option<BackendError> {
        self.store.failure()
    }

    fn stop(&self) -> Result<(), BackendError> {
        self.store.stop()
    }
}
