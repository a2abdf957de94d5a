//! What a store holds, in numbers.

use std::path::Path;
use std::sync::Arc;

use super::{AcidStore, layout};
use crate::backend::{Backend as _, BackendError};
use crate::directory::{self, OpenError};
use crate::disk::Disk;

/// What a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AcidStats {
    /// Streams that are not released.
    pub streams: u64,
    /// Those of them that are deleted.
    pub deleted_streams: u64,
    /// Bytes of their payloads that are kept.
    pub stored_bytes: u64,
    /// Shards.
    pub shards: u64,
    /// The length of their files.
    pub shard_bytes: u64,
}

impl AcidStore {
    /// What the store holds. May wait for the disk.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn stats(&self) -> Result<AcidStats, BackendError> {
        let usage = self.usage();
        let mut stats = AcidStats {
            streams: usage.streams,
            deleted_streams: self.deleted()?.len() as u64,
            stored_bytes: usage.bytes,
            shards: self.shards.len() as u64,
            shard_bytes: 0,
        };
        for shard in &self.shards {
            stats.shard_bytes += shard.file_bytes()?;
        }
        Ok(stats)
    }
}

/// What the store of a directory holds that nobody has open. Changes nothing of it.
///
/// # Errors
/// [`OpenError`] if there is no store or it cannot be read. Not all damage is found.
pub fn stats_of(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<AcidStats, OpenError> {
    let store = directory::read_identity(disk.as_ref(), data_dir)?.store;
    let shards = layout::look_at(disk.as_ref(), data_dir, store)?;
    Ok(AcidStore::over(shards, disk, data_dir).stats()?)
}
