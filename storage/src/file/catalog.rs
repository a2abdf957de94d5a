//! What is known of each stream beside its bytes, and where those are: one redb database.
//!
//! redb's types end here. Views are snapshots; one change at a time is made, and is durable once it is committed.
//! When the disk is full, a change fails, views go on, and so does the next change once there is space.

mod audit;
mod change;
mod queries;
mod rows;
mod tables;
#[cfg(test)]
mod tests;
mod view;

use std::path::Path;

use crate::backend::BackendError;
use crate::database::{Database, DatabaseOptions};
use crate::disk::Disk;

pub(super) use crate::stream_tables::StreamRow;
pub(super) use audit::Audit;
pub(super) use change::{CatalogChange, CatalogTables, WRITTEN_TOGETHER};
pub(super) use rows::{Meta, SegmentRow};
pub(super) use view::CatalogView;

/// The catalog of a store.
pub(super) struct Catalog(Database);

fn options(cache_bytes: u64) -> DatabaseOptions {
    DatabaseOptions {
        called: "catalog",
        cache_bytes,
        opens_quickly: true,
        log_bytes_max: None,
    }
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
        let make = |transaction: &_| {
            tables::make_all(transaction)?;
            change::put_meta(transaction, meta)
        };
        Database::create(disk, path, options(cache_bytes), make).map(Self)
    }

    /// Opens the catalog that is there, also after a crash.
    ///
    /// # Errors
    /// If the file cannot be read or is no catalog.
    pub(super) fn open(disk: &dyn Disk, path: &Path, cache_bytes: u64) -> Result<Self, BackendError> {
        Database::open(disk, path, options(cache_bytes)).map(Self)
    }

    /// Opens the catalog that is there, also after a crash, and changes nothing of it.
    ///
    /// # Errors
    /// If the file cannot be read or is no catalog.
    pub(super) fn look_at(disk: &dyn Disk, path: &Path, cache_bytes: u64) -> Result<Self, BackendError> {
        Database::look_at(disk, path, options(cache_bytes)).map(Self)
    }

    /// As [`Database::check_pages`].
    pub(super) fn check_pages(disk: &dyn Disk, path: &Path, cache_bytes: u64) -> Result<(), BackendError> {
        Database::check_pages(disk, path, options(cache_bytes))
    }

    /// As [`Database::view`].
    pub(super) fn view(&self) -> Result<CatalogView, BackendError> {
        self.0.view().map(CatalogView::new)
    }

    /// As [`Database::change`].
    pub(super) fn change(&self) -> Result<CatalogChange, BackendError> {
        self.0.change().map(CatalogChange::new)
    }

    /// As [`Database::reopen`].
    pub(super) fn reopen(&self) -> Result<(), BackendError> {
        self.0.reopen()
    }
}
