//! The files that a start finds: the catalog, the segments that it knows, and what nobody needs any more.

use std::path::Path;
use std::sync::Arc;

use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::Disk;
use crate::file::catalog::{Catalog, Meta};
use crate::file::journal::FIRST_BATCH_AT;
use crate::file::place::{Layout, LogPlace};
use crate::file::segment::Segment;
use crate::file::store::io_error;

/// The catalog; a new one bears another name until it is whole.
pub(super) fn open_catalog(
    disk: &dyn Disk,
    layout: &Layout,
    cache_bytes: u64,
) -> Result<Catalog, BackendError> {
    let path = layout.catalog_file();
    let is_there = files_in(disk, &layout.root)?
        .iter()
        .any(|name| Some(name.as_str()) == path.file_name().and_then(|name| name.to_str()));
    if !is_there {
        let journals = files_of(disk, &layout.journals_dir(), "journal")?;
        let segments = files_of(disk, &layout.segments_dir(), "segment")?;
        let journal = journals.first().map(|number| layout.journal(*number));
        let segment = || segments.first().map(|number| layout.segment(*number));
        if let Some(there) = journal.or_else(segment) {
            return Err(BackendError::Damaged {
                what: format!(
                    "{} is missing though there is {}; restore the directory from a backup",
                    path.display(),
                    there.display()
                ),
            });
        }
        let new = path.with_extension("tmp");
        if files_in(disk, &layout.root)?
            .iter()
            .any(|name| name == "catalog.tmp")
        {
            disk.remove(&new).map_err(io_error("removing", &new))?;
        }
        let meta = Meta {
            folded: LogPlace {
                journal: 1,
                offset: FIRST_BATCH_AT,
            },
            next_batch: 1,
            last_id: 0,
            era: 0,
            boot_id: String::new(),
            clean: true,
            next_segment: 1,
            streams: 0,
            payload_bytes: 0,
        };
        drop(Catalog::create(disk, &new, cache_bytes, &meta)?);
        disk.rename(&new, &path).map_err(io_error("renaming", &new))?;
        disk.sync_dir(&layout.root)
            .map_err(io_error("syncing", &layout.root))?;
    }
    Catalog::open(disk, &path, cache_bytes)
}

fn files_in(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, BackendError> {
    disk.list(dir).map_err(io_error("listing", dir))
}

/// The numbers of a kind of file, in order. Files that were never finished are removed.
pub(super) fn files_of(disk: &dyn Disk, dir: &Path, extension: &str) -> Result<Vec<u64>, BackendError> {
    let mut numbers = Vec::new();
    for name in files_in(disk, dir)? {
        if let Some(number) = Layout::number_of(&name, extension) {
            numbers.push(number);
        } else if Layout::number_of(&name, "tmp").is_some() {
            let path = dir.join(name);
            disk.remove(&path).map_err(io_error("removing", &path))?;
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) type Segments = hashbrown::HashMap<u64, Arc<Segment>, foldhash::fast::RandomState>;

pub(super) fn open_segments(
    disk: &dyn Disk,
    layout: &Layout,
    id: StoreId,
    catalog: &Catalog,
) -> Result<Segments, BackendError> {
    let mut segments = Segments::default();
    for row in catalog.view()?.segments()? {
        let segment = Segment::open(disk, &layout.segment(row.number), row.number, id)?;
        segments.insert(row.number, Arc::new(segment));
    }
    Ok(segments)
}

/// Removes what a compaction left behind that ended before the catalog knew of it, or after it had forgotten it. Only
/// once the journals go on where the catalog ends: an older catalog does not know the segments that follow it.
pub(super) fn remove_strays(
    disk: &dyn Disk,
    layout: &Layout,
    segments: &Segments,
) -> Result<(), BackendError> {
    for number in files_of(disk, &layout.segments_dir(), "segment")? {
        if !segments.contains_key(&number) {
            let path = layout.segment(number);
            disk.remove(&path).map_err(io_error("removing", &path))?;
        }
    }
    Ok(())
}

/// Removes folded journals but those whose files can be used again.
pub(super) fn keep_for_use(
    disk: &dyn Disk,
    layout: &Layout,
    folded: &[u64],
    journal_bytes: u64,
) -> Result<Vec<u64>, BackendError> {
    let mut used = Vec::new();
    for number in folded {
        let path = layout.journal(*number);
        let file = disk.open_sealed(&path).map_err(io_error("opening", &path))?;
        let fits =
            file.len().is_ok_and(|len| len == journal_bytes) && file.links().is_ok_and(|links| links == 1);
        if fits && used.len() < 2 {
            used.push(*number);
        } else {
            disk.remove(&path).map_err(io_error("removing", &path))?;
        }
    }
    Ok(used)
}
