//! The backend `acid`: redb databases, the *shards*. A stream stands whole in one of them, and each has one writer, which
//! makes all that is queued durable with one transaction.
//!
//! | file | what stands there |
//! |---|---|
//! | `placement.rs`, `prefixes.rs` | which shard a stream stands in, and what leads there |
//! | `layout.rs` | where the shards are, and how many |
//! | `shard.rs` | one shard: questions and changes |
//! | `commit.rs`, `room.rs`, `spare.rs` | commits a batch, or leads names, as far as there is room for it |
//! | `batch.rs` | records as one change |
//! | `block.rs` | appends that were committed together, as one row |
//! | `read.rs` | bytes of a stream from its blocks |
//! | `tables.rs` | a shard's own tables |
//! | `copy.rs` | rows of shards in other shards |
//! | `reshard.rs` | another number of shards |
//! | `backup.rs`, `era.rs` | a copy of the store, and where it parts from the original |
//! | `stats.rs`, `verify.rs`, `verify/`, `compact.rs` | what operators ask of it |

mod backup;
mod batch;
mod block;
mod commit;
mod compact;
mod copy;
mod era;
mod layout;
mod lookup;
mod placement;
mod prefixes;
mod read;
mod reshard;
mod room;
mod shard;
mod spare;
mod stats;
mod tables;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tailwater_stream::{AppendExtent, Record, StreamId, StreamName, StreamState, Timestamp};

use crate::backend::{
    Backend, BackendError, ControlsRequest, ListRequest, Nature, Outcomes, ReadError, ReadRequest, Slices,
    Usage,
};
pub use crate::backup::BackupError;
use crate::database::LOG_BYTES_MAX;
use crate::directory::{self, Description, DirectoryLock, OpenError, StoreId};
use crate::disk::{Disk, RealDisk};
pub use backup::BackupReport;
pub use compact::{AcidCompactReport, compact, compact_directory};
use placement::Placement;
pub use placement::SHARDS_MAX;
use prefixes::Prefixes;
pub use reshard::{ReshardReport, reshard, reshard_unlocked};
use room::{KEPT_BACK_BYTES, Room};
use shard::Shard;
use spare::Spare;
pub use stats::{AcidStats, stats_of};
pub use verify::{AcidVerifyReport, verify};

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
    /// How long the log of a shard may get, in bytes: no longer than the shard but for 1 MiB, and than 16 MiB.
    pub log_bytes_max: u64,
}

impl AcidOptions {
    /// The defaults.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            shard_count: SHARDS_DEFAULT,
            cache_bytes: 64 << 20,
            quick_repair: false,
            log_bytes_max: LOG_BYTES_MAX,
        }
    }
}

/// A store of shards in a directory.
pub struct AcidStore {
    shards: Vec<Shard>,
    /// For each shard.
    rooms: Vec<Room>,
    prefixes: Prefixes,
    id: StoreId,
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    /// Nothing is copied any more.
    is_stopping: AtomicBool,
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

/// Which store of this mode a directory holds.
fn identity_of(disk: &dyn Disk, data_dir: &Path) -> Result<Description, OpenError> {
    let description = directory::read_identity(disk, data_dir)?;
    if description.mode == MODE {
        return Ok(description);
    }
    Err(OpenError::OtherMode {
        dir: data_dir.to_owned(),
        found: description.mode,
        wanted: MODE,
    })
}

/// Locks a directory that holds a store of this mode. One that holds none is left as it is, and not made.
fn lock(data_dir: &Path) -> Result<DirectoryLock, OpenError> {
    identity_of(&RealDisk, data_dir)?;
    DirectoryLock::acquire(data_dir)
}

/// How many shards the store of a directory has. None if it was never made to the end.
///
/// # Errors
/// [`OpenError`] if that cannot be read.
pub fn shard_count_of(data_dir: &Path) -> Result<Option<u32>, OpenError> {
    layout::shard_count(&RealDisk, data_dir)
}

/// What the store of a directory holds. Changes nothing of it.
///
/// # Errors
/// As [`stats_of`]; [`OpenError::Locked`] if another process uses the store.
pub fn stats_of_directory(data_dir: &Path) -> Result<AcidStats, OpenError> {
    directory::while_unused(data_dir, || stats_of(&RealDisk, data_dir))
}

/// Checks the store of a directory, and changes nothing of it.
///
/// # Errors
/// As [`verify()`]; [`OpenError::Locked`] if another process uses the store.
pub fn verify_directory(data_dir: &Path) -> Result<AcidVerifyReport, OpenError> {
    directory::while_unused(data_dir, || verify(&RealDisk, data_dir))
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
        assert!(layout::is_count(count), "{count} shards");
        let identity = directory::identify(disk.as_ref(), &options.data_dir, MODE, &[layout::PART])?;
        let shards = layout::open(disk.as_ref(), options, &identity)?;
        let kept_back = KEPT_BACK_BYTES * shards.len() as u64;
        let spare = Arc::new(Spare::new(
            disk,
            options.data_dir.join(layout::PART),
            layout::SPARE,
            kept_back,
        ));
        Ok(Self {
            rooms: shards.iter().map(|_| Room::new(&spare)).collect(),
            prefixes: Prefixes::load(&shards)?,
            shards,
            id: identity.store,
            disk: Arc::clone(disk),
            data_dir: options.data_dir.clone(),
            is_stopping: AtomicBool::new(false),
            _lock: None,
        })
    }

    /// Whether appends are refused, at least those to some streams, because the disk is full.
    pub fn refuses_appends(&self) -> bool {
        self.rooms.iter().any(Room::refuses)
    }

    fn room_of(&self, id: StreamId) -> &Room {
        &self.rooms[self.partition_of(id)]
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

    fn lead(&self, names: &[StreamName], beside: StreamId) -> Result<(), BackendError> {
        let other = Placement::of_id(beside);
        let rooms = self.shards.iter().zip(&self.rooms);
        let mut of_shards: Vec<_> = rooms.map(|(shard, room)| (shard, room, Vec::new())).collect();
        for name in names {
            if self.wants_lead(name, beside) {
                let own = Placement::of_name(name).shard(self.shards.len());
                of_shards[own].2.push(name.as_str());
            }
        }
        of_shards.retain(|(_, _, names)| !names.is_empty());
        // Each shard syncs by itself, and most of that is waiting.
        let Some(((first, room, names), others)) = of_shards.split_first() else {
            return Ok(());
        };
        std::thread::scope(|threads| {
            let others = others.iter().map(|(shard, room, names)| {
                let lead = || commit::lead(shard, room, names, other);
                let thread = std::thread::Builder::new().name("lead".to_owned());
                thread
                    .spawn_scoped(threads, lead)
                    .expect("a thread for a shard can be made")
            });
            let others: Vec<_> = others.collect();
            let led = commit::lead(first, room, names, other);
            let others = others
                .into_iter()
                .map(|other| other.join().unwrap_or(Err(BackendError::Panicked)));
            others.fold(led, Result::and)
        })
    }

    fn wants_lead(&self, name: &StreamName, beside: StreamId) -> bool {
        // Also if both are in one shard now: there may be more of them later.
        let other = Placement::of_id(beside);
        Placement::of_name(name) != other && !self.prefixes.lead(name, other)
    }

    fn led_name(&self, id: StreamId) -> Result<Option<StreamName>, BackendError> {
        let Some(name) = self.shard_of(id).name_of(id)? else {
            return Ok(None);
        };
        let led = self.shard(Placement::of_name(&name)).redirects(name.as_str())?;
        Ok((!led.is_empty()).then_some(name))
    }

    fn end_leads(&self, name: &StreamName, released: Option<StreamId>) -> Result<(), BackendError> {
        let own = Placement::of_name(name).shard(self.shards.len());
        let led = self.shards[own].redirects(name.as_str())?;
        let mut needed = Vec::new();
        for placement in &led {
            let owner = self.shard(*placement).owner(name)?;
            let owner = owner.filter(|owner| Some(*owner) != released);
            if owner.is_some_and(|owner| Placement::of_id(owner) == *placement) {
                needed.push(*placement);
            }
        }
        if needed.len() == led.len() {
            return Ok(());
        }
        self.rooms[own].make_room(|| self.shards[own].lead_only(name.as_str(), &needed))
    }

    fn end_unused_leads(&self, count_max: usize) -> Result<bool, BackendError> {
        let mut ended = 0;
        for (prefix, to) in self.prefixes.unused() {
            if ended == count_max {
                return Ok(true);
            }
            if self.shard(to).has_names_below(&prefix)? || !self.prefixes.forget_unused(&prefix, to) {
                continue;
            }
            let key = prefixes::key_of(&prefix);
            let own = Placement::of_name_bytes(key.as_bytes()).shard(self.shards.len());
            let mut left = self.shards[own].redirects(&key)?;
            left.retain(|placement| *placement != to);
            self.rooms[own].make_room(|| self.shards[own].lead_only(&key, &left))?;
            ended += 1;
        }
        Ok(false)
    }

    fn lead_below(&self, prefix: &str, beside: StreamId) -> Result<(), BackendError> {
        let (key, other) = (prefixes::key_of(prefix), Placement::of_id(beside));
        let own = Placement::of_name_bytes(key.as_bytes()).shard(self.shards.len());
        commit::lead(&self.shards[own], &self.rooms[own], &[&key], other)?;
        self.prefixes.add(prefix, other);
        Ok(())
    }

    fn commit(&self, partition: usize, batch: &[Record]) -> Result<Outcomes, BackendError> {
        commit::commit(&self.shards[partition], &self.rooms[partition], batch)
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
        let found = self.load_all(std::slice::from_ref(name))?;
        Ok(found.into_iter().next().flatten())
    }

    fn load_all(&self, names: &[StreamName]) -> Result<Vec<Option<StreamState>>, BackendError> {
        lookup::newest(&self.shards, &self.prefixes, names)
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
        let room = self.room_of(id);
        let (source, bytes) = room.make_room(|| self.shard_of(id).release(id))?;
        room.given_back(bytes);
        Ok(source)
    }

    fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        let mut deleted = Vec::new();
        for shard in &self.shards {
            deleted.extend(shard.deleted()?);
        }
        Ok(deleted)
    }

    fn reclaim(&self, id: StreamId) -> Result<(), BackendError> {
        let room = self.room_of(id);
        let bytes = room.make_room(|| self.shard_of(id).reclaim(id))?;
        room.given_back(bytes);
        Ok(())
    }

    fn reclaimable(&self) -> Result<Vec<StreamId>, BackendError> {
        let mut trimmed = Vec::new();
        for shard in &self.shards {
            trimmed.extend(shard.trimmed()?);
        }
        Ok(trimmed)
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

    fn list_controls(
        &self,
        stream: StreamId,
        request: &ControlsRequest<'_>,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.shard_of(stream).controls(stream, request)
    }

    fn stop(&self) -> Result<(), BackendError> {
        // Ends copies that are being made, and every later one.
        self.is_stopping.store(true, Ordering::Release);
        Ok(())
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
