//! Copies a store that is open, as it was at one moment of all its shards, while commits go on.
//!
//! Nobody changes any shard while a view of each is opened; what the views show is copied into new shards, which are marked
//! as a copy: they begin an [era](super::era) of their own when they are opened.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::copy::ShardCopy;
use super::layout::{self, Layout};
use super::shard::Shard;
use super::tables::{self, ShardMeta};
use super::{AcidStore, MODE};
use crate::backend::BackendError;
use crate::backup::{self, BackupError};
use crate::database::{Turn, View};
use crate::directory;

/// Memory for the pages of a shard that is being made.
const CACHE_BYTES: u64 = 16 << 20;

/// What a copy consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupReport {
    /// Streams in it.
    pub streams: u64,
    /// Bytes of their payloads.
    pub stored_bytes: u64,
    /// Shards.
    pub shards: u64,
    /// The length of their files.
    pub shard_bytes: u64,
}

impl AcidStore {
    /// Copies the store as it is now into a directory that is new or empty. Commits go on meanwhile; what they change
    /// takes space of its own until the shard is copied.
    ///
    /// # Errors
    /// [`BackupError`]. What is there then is no store.
    pub fn backup(&self, to: &Path) -> Result<BackupReport, BackupError> {
        let disk = self.disk.as_ref();
        let to = backup::place_for(disk, to, &self.data_dir)?;
        let layout = Layout::new(disk, &to);
        let count = u32::try_from(self.shards.len()).expect("at most a few hundred");
        // From here on the directory is neither empty nor a store.
        backup::make_dir(disk, &layout.shards_dir(count))?;
        let (views, last_id) = self.views()?;
        let mut report = BackupReport::default();
        for (number, view) in (0..count).zip(views) {
            let meta = ShardMeta {
                last_id,
                is_copy: true,
                ..ShardMeta::new(self.id, number, count)
            };
            let shard = layout.make_shard(layout::cached(CACHE_BYTES, 1), number, count, meta)?;
            let mut copy = ShardCopy::new(vec![shard]);
            copy.take(&view, &|| self.check_going_on())?;
            drop(view);
            for shard in copy.finish()? {
                let meta = shard.meta();
                report.streams += meta.streams;
                report.stored_bytes += meta.payload_bytes;
                report.shards += 1;
                report.shard_bytes += shard.file_bytes()?;
            }
        }
        layout.sync(count)?;
        layout.draft_count(count)?;
        layout.put_count()?;
        disk.sync_dir(&to)
            .map_err(directory::OpenError::io("sync", &to))?;
        directory::sync_above(disk, &to)?;
        directory::put_identity(disk, &to, MODE, self.id)?;
        Ok(report)
    }

    /// All shards as they are at one moment, and the greatest id until then.
    fn views(&self) -> Result<(Vec<View>, u64), BackendError> {
        let turns: Vec<Turn> = self.shards.iter().map(Shard::turn).collect();
        let views = self.shards.iter().map(Shard::view);
        let views = views.collect::<Result<Vec<_>, _>>()?;
        drop(turns);
        let mut last_id = 0;
        for view in &views {
            last_id = last_id.max(view.ask(tables::meta)?.last_id);
        }
        Ok((views, last_id))
    }

    fn check_going_on(&self) -> Result<(), BackupError> {
        if self.is_stopping.load(Ordering::Acquire) {
            return Err(BackupError::Stopping);
        }
        Ok(())
    }
}
