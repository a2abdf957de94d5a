//! Whether there is room for what a shard is to take, on a disk that may be full.
//!
//! A write that finds no space costs much: redb's database has to be opened anew then, and all of it be read. So what needs
//! room is refused before that. Deletions write pages too before they give any back: for them space is kept back.
//!
//! A full disk is not all there is: pages that were freed within a shard are room for that shard. How many there are redb
//! does not say, so it is tried out, and after a failure only once enough was removed since.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tailwater_stream::{Part, Record, Transition};

use super::spare::Spare;
use crate::backend::BackendError;

/// What a shard keeps back, in bytes: more than a change takes that makes room.
pub(super) const KEPT_BACK_BYTES: u64 = 256 << 10;
/// A record changes a few pages of some tables, in bytes.
const RECORD_BYTES: u64 = 16 << 10;
/// Bytes that are read in vain at the most, three times over, for each that was given back.
const FILE_BYTES_PER_BYTE_GIVEN_BACK: u64 = 256;
/// The last that was tried within the shard fitted in, or nothing was tried yet.
const NOT_FULL: u64 = u64::MAX;

/// The room for a shard.
pub(super) struct Room {
    spare: Arc<Spare>,
    /// Bytes that were removed from the shard since something did not fit in.
    given_back: AtomicU64,
    /// Whether the last that needed room got none.
    has_refused: AtomicBool,
}

impl Room {
    /// For one of the shards of a store.
    pub(super) fn new(spare: &Arc<Spare>) -> Self {
        Self {
            spare: Arc::clone(spare),
            given_back: AtomicU64::new(NOT_FULL),
            has_refused: AtomicBool::new(false),
        }
    }

    /// Whether the disk has room for so much, and still for deletions then.
    pub(super) fn is_on_disk_for(&self, bytes: u64) -> bool {
        self.spare.keep();
        self.spare.leaves_room_for(bytes)
    }

    /// Whether space is kept for deletions on the disk. Otherwise it is to be kept within the shard.
    pub(super) fn is_kept_on_disk(&self) -> bool {
        self.spare.is_held()
    }

    /// Whether there may be room within the shard, whose file is so long. To find out that there is none takes as long as to
    /// read all of that, and is worth it only once a part of it was given back. If the disk does not say how long it is,
    /// what is written will fail too.
    pub(super) fn may_be_within(&self, file_bytes: u64) -> bool {
        self.given_back.load(Ordering::Relaxed) >= file_bytes / FILE_BYTES_PER_BYTE_GIVEN_BACK
    }

    /// Something fitted in within the shard.
    pub(super) fn was_within(&self) {
        self.given_back.store(NOT_FULL, Ordering::Relaxed);
    }

    /// Bytes were removed from the shard.
    pub(super) fn given_back(&self, bytes: u64) {
        let known = |given_back: u64| {
            (given_back != NOT_FULL).then(|| given_back.saturating_add(bytes).min(NOT_FULL - 1))
        };
        let _known = self
            .given_back
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, known);
    }

    /// Something that needed room was taken, or refused for want of it.
    pub(super) fn answered(&self, is_taken: bool) {
        self.has_refused.store(!is_taken, Ordering::Relaxed);
    }

    /// Whether what needs room is refused.
    pub(super) fn refuses(&self) -> bool {
        self.has_refused.load(Ordering::Relaxed) && !self.spare.leaves_room_for(RECORD_BYTES)
    }

    /// Something found no space.
    pub(super) fn is_full(&self) {
        self.given_back.store(0, Ordering::Relaxed);
    }

    /// Makes a change that makes room. If it finds no space, what is kept back for it is given away, and kept again as soon as
    /// there is enough.
    pub(super) fn make_room<T>(
        &self,
        change: impl Fn() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let changed = match change() {
            Err(error) if error.is_full() && self.spare.let_go() => change(),
            changed => changed,
        };
        if changed.is_ok() {
            self.spare.keep();
        }
        changed
    }
}

/// Room for a record, in bytes: a page of redb may be twice as long as what it holds.
pub(super) fn needed_by(record: &Record) -> u64 {
    let payload = |part: &Part| match part {
        Part::Stream {
            transition: Transition::Append(append),
            ..
        } => append.payload.len() as u64,
        Part::Control(change) => change.value.as_ref().map_or(0, |value| value.len() as u64),
        Part::Stream { .. } => 0,
    };
    RECORD_BYTES + 2 * record.parts.iter().map(payload).sum::<u64>()
}

/// Room for what leads so many names elsewhere, in bytes.
pub(super) fn needed_by_names(names: &[&str]) -> u64 {
    RECORD_BYTES + 2 * names.iter().map(|name| name.len() as u64).sum::<u64>()
}
