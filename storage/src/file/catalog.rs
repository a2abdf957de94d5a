//! What is known of each stream beside its bytes, and where those are: one redb database.
//!
//! redb's types end here. Views are snapshots; one change at a time is made, and is durable once it is committed.
//! When the disk is full, a change fails, views go on, and so does the next change once there is space.

mod audit;
mod change;
mod header;
mod medium;
mod opened;
mod pages;
mod queries;
mod rows;
mod shadow;
mod tables;
#[cfg(test)]
mod tests;
mod view;

use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use crate::backend::BackendError;
use opened::{Opened, Place, Shared};
use shadow::Shadow;

pub(super) use audit::Audit;
pub(super) use change::CatalogChange;
pub(super) use rows::{Meta, SegmentRow, StreamRow};
pub(super) use view::CatalogView;

/// The catalog of a store.
pub(super) struct Catalog {
    shared: Arc<Shared>,
}

impl Catalog {
    /// Makes a catalog that knows no stream, durably but for the file's name. redb caches at most `cache_bytes`.
    ///
    /// # Errors
    /// If the file is there already or cannot be written.
    pub(super) fn create(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: u64,
        meta: &Meta,
    ) -> Result<Self, BackendError> {
        let file = disk.create(path).map_err(opened::of_io("making", path))?;
        let opened = Opened::create(&Place::new(path, file, cache_bytes))?;
        opened.ask(|| change::make(&opened, meta))?;
        let shared = Shared::new(opened);
        Ok(Self { shared })
    }

    /// Opens the catalog that is there, also after a crash.
    ///
    /// # Errors
    /// If the file cannot be read or is no catalog.
    pub(super) fn open(disk: &dyn Disk, path: &Path, cache_bytes: u64) -> Result<Self, BackendError> {
        let file = disk.open(path).map_err(opened::of_io("opening", path))?;
        Self::over(file, path, cache_bytes)
    }

    /// Opens the catalog that is there, also after a crash, and changes nothing of it.
    ///
    /// # Errors
    /// If the file cannot be read or is no catalog.
    pub(super) fn look_at(disk: &dyn Disk, path: &Path, cache_bytes: u64) -> Result<Self, BackendError> {
        Self::over(shadow_of(disk, path)?, path, cache_bytes)
    }

    fn over(file: Arc<dyn DiskFile>, path: &Path, cache_bytes: u64) -> Result<Self, BackendError> {
        let opened = Opened::open(&Place::new(path, file, cache_bytes))?;
        let shared = Shared::new(opened);
        Ok(Self { shared })
    }

    /// Compares the checksums of all pages, and changes nothing.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if they are not those of the pages; [`BackendError::Io`] if they cannot be read.
    pub(super) fn check_pages(disk: &dyn Disk, path: &Path, cache_bytes: u64) -> Result<(), BackendError> {
        Opened::open(&Place::new(path, shadow_of(disk, path)?, cache_bytes))?.check_pages()
    }

    /// What the catalog says now.
    ///
    /// # Errors
    /// If the catalog has failed and cannot be opened anew.
    pub(super) fn view(&self) -> Result<CatalogView, BackendError> {
        CatalogView::new(&self.shared)
    }

    /// Begins a change. Waits until no other one is being made.
    ///
    /// # Errors
    /// If the catalog has failed and cannot be opened anew.
    pub(super) fn change(&self) -> Result<CatalogChange, BackendError> {
        CatalogChange::new(&self.shared)
    }

    /// Opens the database anew if it has failed and that helps. Views and changes do so themselves.
    ///
    /// # Errors
    /// If it has failed for good, or still fails.
    pub(super) fn reopen(&self) -> Result<(), BackendError> {
        self.shared.usable().map(drop)
    }
}

fn shadow_of(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, BackendError> {
    let shadow = disk.open_sealed(path).and_then(Shadow::new);
    Ok(Arc::new(shadow.map_err(opened::of_io("opening", path))?))
}
