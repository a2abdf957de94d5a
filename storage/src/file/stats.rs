//! What a store holds and what it has done, in numbers.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::FileStore;
use super::catalog::{Catalog, CatalogView, Meta};
use super::place::Layout;
use super::store::{Store, io_error};
use super::verify;
use crate::backend::BackendError;
use crate::directory::{self, OpenError};
use crate::disk::Disk;

/// Memory for the catalog's pages.
const CATALOG_CACHE_BYTES: u64 = 16 << 20;

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileStats {
    /// Streams that are not released.
    pub streams: u64,
    /// Those of them that are deleted.
    pub deleted_streams: u64,
    /// Bytes of their payloads that are kept.
    pub stored_bytes: u64,
    /// Names the era of positions given out now: 0 until something may have been lost.
    pub era: u64,
    /// Files in which journals are, were, or will be.
    pub journals: u64,
    /// Their length.
    pub journal_bytes: u64,
    /// What was written to journals and is not in segments yet.
    pub unfolded_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Their length.
    pub segment_bytes: u64,
    /// Bytes of payload in them that are wanted.
    pub live_bytes: u64,
    /// Bytes of payload in them that are not.
    pub dead_bytes: u64,
    /// Length of the catalog's file.
    pub catalog_bytes: u64,
}

/// What an open store has done since it was opened, and how it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreActivity {
    /// Bytes written to journals.
    pub journal_bytes_written: u64,
    /// Syncs of journals.
    pub syncs: u64,
    /// Time that these took.
    pub sync_time: Duration,
    /// Times that the journals were folded.
    pub folds: u64,
    /// Time that this took.
    pub fold_time: Duration,
    /// Times that there was no space for it.
    pub full_folds: u64,
    /// Bytes of segments that came out of that.
    pub folded_bytes: u64,
    /// Times that segments were merged.
    pub merges: u64,
    /// Time that this took.
    pub merge_time: Duration,
    /// Bytes of segments that came out of that.
    pub merged_bytes: u64,
    /// Times that a segment could not be read when it was to be merged. It is left as it is.
    pub unreadable_segments: u64,
    /// Memory that the index of what is not folded takes, about.
    pub index_bytes: u64,
    /// At so much of it commits wait for a fold: what was committed meanwhile may take it a little beyond.
    pub index_bytes_max: u64,
    /// Batches that waited for that.
    pub memory_waits: u64,
    /// How long.
    pub memory_wait_time: Duration,
    /// Appends are refused, because the disk is full.
    pub refuses_appends: bool,
}

impl FileStore {
    /// What the store holds. May wait for the disk.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn stats(&self) -> Result<FileStats, BackendError> {
        let store = &self.store;
        let usage = store.usage();
        let view = store.catalog.view()?;
        let stats = FileStats {
            streams: usage.streams,
            deleted_streams: store.deleted()?.len() as u64,
            stored_bytes: usage.bytes,
            era: store.era,
            unfolded_bytes: store.unfolded_bytes(),
            ..FileStats::default()
        };
        with_files(stats, store.disk.as_ref(), &store.layout, &view)
    }

    /// Bytes that the disk has left for it. May wait for the disk.
    ///
    /// # Errors
    /// If the disk does not say.
    pub fn free_bytes(&self) -> Result<u64, BackendError> {
        self.store.free_bytes()
    }

    /// What the store has done. Waits for nothing.
    pub fn activity(&self) -> StoreActivity {
        let counters = &self.store.counters;
        let time = |micros: &AtomicU64| Duration::from_micros(micros.load(Ordering::Relaxed));
        let generations = self.store.generations.read();
        let frozen = generations.frozen.as_ref().map(|frozen| &frozen.overlay);
        let overlays = frozen.into_iter().chain([&generations.active]);
        StoreActivity {
            journal_bytes_written: counters.journal_bytes.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            sync_time: time(&counters.sync_micros),
            folds: counters.folds.load(Ordering::Relaxed),
            fold_time: time(&counters.fold_micros),
            full_folds: counters.full_folds.load(Ordering::Relaxed),
            folded_bytes: counters.folded_bytes.load(Ordering::Relaxed),
            merges: counters.merges.load(Ordering::Relaxed),
            merge_time: time(&counters.merge_micros),
            merged_bytes: counters.merged_bytes.load(Ordering::Relaxed),
            unreadable_segments: counters.unreadable_segments.load(Ordering::Relaxed),
            index_bytes: overlays.map(|overlay| overlay.memory_bytes()).sum(),
            index_bytes_max: 2 * self.store.options.index_bytes_max,
            memory_waits: counters.memory_waits.load(Ordering::Relaxed),
            memory_wait_time: time(&counters.memory_wait_micros),
            refuses_appends: counters.refuses_appends.load(Ordering::Relaxed),
        }
    }
}

impl Store {
    fn unfolded_bytes(&self) -> u64 {
        let log = self.log.lock();
        let generations = self.generations.read();
        let frozen = generations.frozen.as_ref().map_or(0, |frozen| frozen.bytes);
        log.unfolded_bytes + frozen
    }
}

/// What the store of a directory holds that nobody has open. Changes nothing of it.
///
/// # Errors
/// [`OpenError`] if there is no store or it cannot be read. Not all damage is found.
pub fn stats_of(disk: &dyn Disk, data_dir: &Path) -> Result<FileStats, OpenError> {
    let layout = Layout::new(data_dir);
    let store = directory::read_identity(disk, &layout.root)?.store;
    let path = layout.catalog_file();
    let names = disk
        .list(&layout.root)
        .map_err(io_error("listing", &layout.root))?;
    if !names.iter().any(|name| name == "catalog.redb") {
        // It was made just now, and never opened to the end.
        return Ok(FileStats::default());
    }
    let view = Catalog::look_at(disk, &path, CATALOG_CACHE_BYTES)?.view()?;
    let meta = view.meta()?;
    let mut numbers: Vec<u64> = numbers_in(disk, &layout.journals_dir(), "journal")?;
    numbers.retain(|number| *number >= meta.folded.journal);
    let mut damage = None;
    let unfolded = verify::replay(disk, &layout, store, &meta, &numbers, &mut |error| {
        damage.get_or_insert(error);
    });
    if let Some(error) = damage {
        return Err(error.into());
    }
    let Meta {
        streams,
        payload_bytes,
        era,
        ..
    } = meta;
    let mut deleted = view.deleted()?;
    deleted.extend(unfolded.overlay.deleted());
    deleted.sort_unstable();
    deleted.dedup();
    deleted.retain(|id| !unfolded.overlay.is_alive_by_import(*id));
    let stats = FileStats {
        streams: streams.saturating_add_signed(unfolded.overlay.streams()),
        deleted_streams: deleted.len() as u64,
        stored_bytes: payload_bytes.saturating_add_signed(unfolded.overlay.stored_bytes()),
        era,
        unfolded_bytes: unfolded.bytes,
        ..FileStats::default()
    };
    Ok(with_files(stats, disk, &layout, &view)?)
}

fn numbers_in(disk: &dyn Disk, dir: &Path, extension: &str) -> Result<Vec<u64>, BackendError> {
    let names = disk.list(dir).map_err(io_error("listing", dir))?;
    let mut numbers: Vec<_> = names
        .iter()
        .filter_map(|name| Layout::number_of(name, extension))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Adds what is known of the files.
fn with_files(
    mut stats: FileStats,
    disk: &dyn Disk,
    layout: &Layout,
    view: &CatalogView,
) -> Result<FileStats, BackendError> {
    for number in numbers_in(disk, &layout.journals_dir(), "journal")? {
        // One that was removed meanwhile is none.
        let len = disk
            .open_sealed(&layout.journal(number))
            .and_then(|file| file.len());
        if let Ok(len) = len {
            stats.journals += 1;
            stats.journal_bytes += len;
        }
    }
    for row in view.segments()? {
        stats.segments += 1;
        stats.segment_bytes += row.bytes;
        stats.live_bytes += row.live_bytes;
        stats.dead_bytes += row.payload_bytes - row.live_bytes;
    }
    let catalog = layout.catalog_file();
    let len = disk.open_sealed(&catalog).and_then(|file| file.len());
    stats.catalog_bytes = len.map_err(io_error("asking for the length of", &catalog))?;
    Ok(stats)
}
