//! Gives the space that nothing needs any more back to the disk, in a store that nobody has open.
//!
//! What is deleted makes room for what comes, in the same file; a file gets shorter by itself only as far as what is free
//! stands at its end.

use std::path::Path;

use super::layout::{self, Layout, cached};
use super::shard::Shard;
use super::tables::ShardMeta;
use crate::database::DatabaseOptions;
use crate::directory::OpenError;
use crate::disk::{Disk, RealDisk};

/// Memory for the pages of the shard that is being compacted.
const CACHE_BYTES: u64 = 64 << 20;

/// What compaction has made of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AcidCompactReport {
    /// Shards.
    pub shards: u64,
    /// The length of their files before, in bytes.
    pub bytes_before: u64,
    /// The length of their files now.
    pub bytes_after: u64,
}

/// Compacts the store of a directory, one shard after the other. No other process may use it meanwhile. Nothing that it
/// holds changes, also if the process ends before it is done.
///
/// # Errors
/// [`OpenError`] if there is no store of this mode, another process uses it, or the disk fails.
pub fn compact_directory(data_dir: &Path) -> Result<AcidCompactReport, OpenError> {
    let _lock = super::lock(data_dir)?;
    compact(&RealDisk, data_dir)
}

/// Compacts the store of a directory on any disk. Whoever calls it sees to it that nobody has it open.
///
/// # Errors
/// As [`compact_directory`].
pub fn compact(disk: &dyn Disk, data_dir: &Path) -> Result<AcidCompactReport, OpenError> {
    let found = super::identity_of(disk, data_dir)?;
    layout::upgrade(disk, data_dir, found.format, found.store)?;
    let layout = Layout::new(disk, data_dir);
    let count = layout.known_count()?;
    let mut report = AcidCompactReport::default();
    for number in 0..count {
        let path = layout.shard(number, count);
        let bytes = || {
            let file = disk.open_sealed(&path)?;
            file.len()
        };
        report.shards += 1;
        report.bytes_before += bytes().map_err(OpenError::io("read", &path))?;
        let options = DatabaseOptions {
            opens_quickly: true,
            ..cached(CACHE_BYTES, 1)
        };
        let meta = ShardMeta::new(found.store, number, count);
        Shard::open(disk, &path, options, &meta)?.compact()?;
        report.bytes_after += bytes().map_err(OpenError::io("read", &path))?;
    }
    Ok(report)
}
