//! What a store holds, in numbers.

use std::path::Path;
use std::sync::Arc;

use super::shard::Shard;
use super::{AcidStore, layout};
use crate::backend::BackendError;
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
        stats(&self.shards)
    }

    /// Bytes that the disk has left for it. May wait for the disk.
    ///
    /// # Errors
    /// If the disk does not say.
    pub fn free_bytes(&self) -> Result<u64, BackendError> {
        self.disk
            .free_bytes(&self.data_dir)
            .map_err(|source| BackendError::Io {
                what: format!("asking for the free space of {}", self.data_dir.display()),
                source: Arc::new(source),
            })
    }
}

fn stats(shards: &[Shard]) -> Result<AcidStats, BackendError> {
    let mut stats = AcidStats {
        shards: shards.len() as u64,
        ..AcidStats::default()
    };
    for shard in shards {
        let meta = shard.meta();
        stats.streams += meta.streams;
        stats.deleted_streams += shard.deleted()?.len() as u64;
        stats.stored_bytes += meta.payload_bytes;
        stats.shard_bytes += shard.file_bytes()?;
    }
    Ok(stats)
}

/// What the store of a directory holds that nobody has open. Changes nothing of it.
///
/// # Errors
/// [`OpenError`] if there is no store or it cannot be read. Not all damage is found.
pub fn stats_of(disk: &dyn Disk, data_dir: &Path) -> Result<AcidStats, OpenError> {
    let found = directory::read_identity(disk, data_dir)?;
    Ok(stats(&layout::look_at(disk, data_dir, &found)?)?)
}
