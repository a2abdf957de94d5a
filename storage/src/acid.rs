//! The backend `acid`: redb databases, the *shards*. A stream stands whole in one of them, and each has one writer, which
//! makes all that is queued durable with one transaction.
//!
//! | file | what stands there |
//! |---|---|
//! | `placement.rs` | which shard a stream stands in |
//! | `layout.rs` | where the shards are, and how many |
//! | `shard.rs` | one shard: questions and changes |
//! | `batch.rs` | a batch of records as one change |
//! | `block.rs` | appends that were committed together, as one row |
//! | `read.rs` | bytes of a stream from its blocks |
//! | `tables.rs` | a shard's own tables |
//! | `stats.rs` | what operators ask of it |

mod batch;
mod block;
mod layout;
mod placement;
mod read;
mod shard;
mod stats;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tailwater_stream::{AppendExtent, Record, StreamId, StreamName, StreamState, Timestamp};

use crate::backend::{
    Backend, BackendError, ListRequest, Nature, Outcome, Outcomes, ReadError, ReadRequest, Slices, Usage,
    frees_space,
};
use crate::directory::{self, DirectoryLock, OpenError};
use crate::disk::{Disk, RealDisk};
use placement::Placement;
pub use placement::SHARDS_MAX;
use shard::Shard;
pub use stats::{AcidStats, stats_of};

/// The storage mode's name.
pub const MODE: &str = "acid";
/// Shards unless it is said how many.
pub const SHARDS_DEFAULT: u32 = 16;

/// How a store is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcidOptions {
    /// The store's directory. Made if it is missing.
    pub data_dir: PathBuf,
    /// How many shards there are: a power of two, up to [`SHARDS_MAX`]. Chosen when the store is made.
    pub shard_count: u32,
    /// Memory for the caches of all shards together, in bytes.
    pub cache_bytes: u64,
    /// Whether each commit also notes which pages are free, so that opening a shard after a crash reads a few pages and
    /// not all of them. It takes a second sync.
    pub quick_repair: bool,
}

impl AcidOptions {
    /// The defaults.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            shard_count: SHARDS_DEFAULT,
            cache_bytes: 64 << 20,
            quick_repair: false,
        }
    }
}

/// A store of shards in a directory.
pub struct AcidStore {
    shards: Vec<Shard>,
    /// Held as long as the store is open.
    _lock: Option<DirectoryLock>,
}

/// Opens the store of a directory, or makes one. No other process may use it meanwhile.
///
/// # Errors
/// [`OpenError`], which says what to do. Nothing is changed then.
pub fn open(options: &AcidOptions) -> Result<AcidStore, OpenError> {
    let lock = DirectoryLock::acquire(&options.data_dir)?;
    let mut store = AcidStore::open_unlocked(&(Arc::new(RealDisk) as Arc<dyn Disk>), options)?;
    store._lock = Some(lock);
    Ok(store)
}

impl AcidStore {
    /// Opens a store on any disk. Whoever calls it sees to it that nobody else has it open.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    ///
    /// # Panics
    /// If the number of shards is no power of two up to [`SHARDS_MAX`].
    pub fn open_unlocked(disk: &Arc<dyn Disk>, options: &AcidOptions) -> Result<Self, OpenError> {
        let count = options.shard_count;
        assert!(count.is_power_of_two() && count <= SHARDS_MAX, "{count} shards");
        let identity = directory::identify(disk.as_ref(), &options.data_dir, MODE, &[layout::PART])?;
        let shards = layout::open(disk.as_ref(), options, identity.store)?;
        Ok(Self { shards, _lock: None })
    }

    fn shard(&self, placement: Placement) -> &Shard {
        &self.shards[placement.shard(self.shards.len())]
    }

    fn shard_of(&self, id: StreamId) -> &Shard {
        self.shard(Placement::of_id(id))
    }
}

impl Backend for AcidStore {
    fn nature(&self) -> Nature {
        Nature {
            partitions: self.shards.len(),
            commits_inline: false,
            answers_inline: false,
        }
    }

    fn partition_of(&self, id: StreamId) -> usize {
        Placement::of_id(id).shard(self.shards.len())
    }

    fn next_id(&self, at_least: u64, name: &StreamName, beside: Option<StreamId>) -> u64 {
        let placement = beside.map_or_else(|| Placement::of_name(name), Placement::of_id);
        placement.next_id(at_least)
    }

    fn lead(&self, name: &StreamName, beside: StreamId) -> Result<(), BackendError> {
        let (own, other) = (Placement::of_name(name), Placement::of_id(beside));
        // Also if both are in one shard now: there may be more of them later.
        if own == other {
            return Ok(());
        }
        self.shard(own).redirect(name, other)
    }

    fn commit(&self, partition: usize, batch: &[Record]) -> Result<Outcomes, BackendError> {
        let shard = &self.shards[partition];
        let all: Vec<_> = batch.iter().collect();
        match shard.commit(&all) {
            Ok(()) => return Ok(batch.iter().map(|_| Outcome::Durable).collect()),
            Err(error) if error.is_full() => {}
            Err(error) => return Err(error),
        }
        // What makes room is still taken, as far as it finds any itself.
        let mut refused = HashSet::<StreamId, RandomState>::default();
        let mut outcomes: Outcomes = batch
            .iter()
            .map(|record| {
                let follows_a_refused_one = record.streams().any(|stream| refused.contains(&stream));
                if frees_space(record) && !follows_a_refused_one {
                    return Outcome::Durable;
                }
                refused.extend(record.streams());
                Outcome::Full
            })
            .collect();
        let taken = batch.iter().zip(&outcomes);
        let taken: Vec<_> = taken
            .filter(|(_, outcome)| **outcome == Outcome::Durable)
            .map(|(record, _)| record)
            .collect();
        if !taken.is_empty() {
            match shard.commit(&taken) {
                Ok(()) => {}
                Err(error) if error.is_full() => outcomes.fill(Outcome::Full),
                Err(error) => return Err(error),
            }
        }
        Ok(outcomes)
    }

    fn read(&self, request: ReadRequest) -> Result<Slices, ReadError> {
        if request.from >= request.until {
            return Ok(Slices::none(request.from));
        }
        if !request.may_wait {
            return Err(ReadError::Cold);
        }
        self.shard_of(request.stream).read(&request)
    }

    fn extents(&self, request: ReadRequest) -> Result<Vec<AppendExtent>, ReadError> {
        if request.from >= request.until {
            return Ok(Vec::new());
        }
        if !request.may_wait {
            return Err(ReadError::Cold);
        }
        self.shard_of(request.stream).extents(&request)
    }

    fn load(&self, name: &StreamName) -> Result<Option<StreamState>, BackendError> {
        let own = self.shard(Placement::of_name(name));
        if let Some(state) = own.load(name)? {
            return Ok(Some(state));
        }
        match own.redirected(name)? {
            Some(other) => self.shard(other).load(name),
            None => Ok(None),
        }
    }

    fn list(&self, request: &ListRequest<'_>) -> Result<Vec<StreamState>, BackendError> {
        let mut states = BTreeMap::new();
        // Each shard gives its first `count_max`, so the first `count_max` of all of them are among those.
        for shard in &self.shards {
            let listed = shard.list(request.prefix, request.after, request.count_max)?;
            states.extend(listed.into_iter().map(|state| (state.name.clone(), state)));
        }
        Ok(states.into_values().take(request.count_max).collect())
    }

    fn has_forks(&self, id: StreamId) -> Result<bool, BackendError> {
        Ok(!self.shard_of(id).forks_of(id)?.is_empty())
    }

    fn release(&self, id: StreamId) -> Result<Option<StreamId>, BackendError> {
        self.shard_of(id).release(id)
    }

    fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        let mut deleted = Vec::new();
        for shard in &self.shards {
            deleted.extend(shard.deleted()?);
        }
        Ok(deleted)
    }

    fn reclaim(&self, id: StreamId) -> Result<(), BackendError> {
        self.shard_of(id).reclaim(id)
    }

    fn due(&self, now: Timestamp, count_max: usize) -> Result<Vec<StreamName>, BackendError> {
        let mut due = Vec::new();
        for shard in &self.shards {
            due.extend(shard.due(now, count_max - due.len())?);
        }
        Ok(due)
    }

    fn control(&self, stream: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.shard_of(stream).control(stream, key)
    }

    fn controls(&self, stream: StreamId, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.shard_of(stream).controls(stream, prefix)
    }

    fn last_id(&self) -> Option<StreamId> {
        let last = self.shards.iter().map(|shard| shard.meta().last_id).max();
        last.and_then(StreamId::new)
    }

    fn usage(&self) -> Usage {
        self.shards
            .iter()
            .map(Shard::meta)
            .fold(Usage::default(), |usage, meta| Usage {
                streams: usage.streams + meta.streams,
                bytes: usage.bytes + meta.payload_bytes,
                bytes_max: None,
            })
    }
}
