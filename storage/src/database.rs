//! One redb database in a file of the [`Disk`] seam, with a checksum for every page.
//!
//! Views are snapshots; one change at a time is made, and is durable once it is committed. When the disk is full, a
//! change fails, views go on, and so does the next change once there is space. Which tables there are is up to whoever
//! uses it; redb's types end there.
//!
//! | file | what stands there |
//! |---|---|
//! | `view.rs`, `change.rs` | a snapshot; a change that is being made |
//! | `row.rs` | how values begin, and why one cannot be read |
//! | `opened.rs` | one opening of the database, and another one after it has failed for want of space |
//! | `medium.rs`, `medium/backend.rs` | what redb writes to, and what has failed of it; what redb asks of it |
//! | `pages.rs`, `header.rs` | how redb's file stands in ours, with checksums |
//! | `log.rs` | what commits have changed, one after the other in a file of its own |
//! | `ahead.rs`, `space.rs` | space for pages before they are written; what a disk has left |
//! | `shadow.rs` | a file to look at that stays as it is |

mod ahead;
mod change;
mod header;
mod log;
mod medium;
mod opened;
mod pages;
pub(crate) mod row;
mod shadow;
mod space;
mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::WriteTransaction;

use crate::backend::BackendError;
use crate::disk::Disk;
use medium::LogFile;
pub(crate) use opened::Turn;
use opened::{Opened, Place, Shared};
use shadow::Shadow;

pub(crate) use change::{Change, META, changes};
pub(crate) use log::BYTES_MAX as LOG_BYTES_MAX;
pub(crate) use row::{Failure, Tables};
pub(crate) use view::View;

/// A database in a file.
pub(crate) struct Database {
    shared: Arc<Shared>,
}

/// How a database is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DatabaseOptions {
    /// What it is called in messages, such as `catalog`.
    pub(crate) called: &'static str,
    /// redb caches at most so many bytes.
    pub(crate) cache_bytes: u64,
    /// Whether each change notes which pages are free, so that opening it after a crash reads a few pages and not all.
    pub(crate) opens_quickly: bool,
    /// How long the log beside the file may get, in bytes, in which changes are made durable; none if there is none.
    pub(crate) log_bytes_max: Option<u64>,
}

impl Database {
    /// Makes a database whose tables `make` makes, durably but for the names of its files.
    ///
    /// # Errors
    /// If the file is there already or cannot be written.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        options: DatabaseOptions,
        make: impl FnOnce(&WriteTransaction) -> Result<(), Failure>,
    ) -> Result<Self, BackendError> {
        let file = disk
            .create(path)
            .map_err(opened::of_io("making", options.called, path))?;
        let log = match options.log_bytes_max {
            Some(bytes_max) => {
                let made = disk.create(&log_path(path));
                LogFile::Written(made.map_err(of_log("making", path, options))?, bytes_max)
            }
            None => LogFile::None,
        };
        let opened = Opened::create(&Place::new(path, file, log, options))?;
        opened.ask(|| change::make(&opened, make))?;
        let shared = Shared::new(opened);
        Ok(Self { shared })
    }

    /// Opens the database that is there, also after a crash.
    ///
    /// # Errors
    /// If the file cannot be read or holds no database.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, options: DatabaseOptions) -> Result<Self, BackendError> {
        let file = disk
            .open(path)
            .map_err(opened::of_io("opening", options.called, path))?;
        let log = match options.log_bytes_max {
            Some(bytes_max) => {
                let opened = disk.open(&log_path(path));
                LogFile::Written(opened.map_err(of_log("opening", path, options))?, bytes_max)
            }
            None => LogFile::None,
        };
        Self::over(&Place::new(path, file, log, options))
    }

    /// Opens the database that is there, also after a crash, and changes nothing of it.
    ///
    /// # Errors
    /// If the file cannot be read or holds no database.
    pub(crate) fn look_at(
        disk: &dyn Disk,
        path: &Path,
        options: DatabaseOptions,
    ) -> Result<Self, BackendError> {
        Self::over(&place_to_look_at(disk, path, options)?)
    }

    fn over(place: &Arc<Place>) -> Result<Self, BackendError> {
        let opened = Opened::open(place)?;
        let shared = Shared::new(opened);
        Ok(Self { shared })
    }

    /// Compares the checksums of all pages, and changes nothing.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if they are not those of the pages; [`BackendError::Io`] if they cannot be read.
    pub(crate) fn check_pages(
        disk: &dyn Disk,
        path: &Path,
        options: DatabaseOptions,
    ) -> Result<(), BackendError> {
        Opened::open(&place_to_look_at(disk, path, options)?)?.check_pages()
    }

    /// Moves pages to the front of the file and cuts off what is free behind them, durably. Whoever is interrupted at it
    /// leaves the database as it was, or smaller.
    ///
    /// # Errors
    /// If the disk fails.
    ///
    /// # Panics
    /// If views of it or a change are still there.
    pub(crate) fn compact(self) -> Result<(), BackendError> {
        Shared::into_opened(self.shared).compact()
    }

    /// What the database says now.
    ///
    /// # Errors
    /// If it has failed and cannot be opened anew.
    pub(crate) fn view(&self) -> Result<View, BackendError> {
        View::new(&self.shared)
    }

    /// Begins a change. Waits until no other one is being made.
    ///
    /// # Errors
    /// If the database has failed and cannot be opened anew.
    pub(crate) fn change(&self) -> Result<Change, BackendError> {
        Change::new(&self.shared)
    }

    /// Keeps everybody from making a change until the answer is dropped. Waits until none is being made.
    pub(crate) fn turn(&self) -> Turn {
        self.shared.turn()
    }

    /// The length of its file.
    ///
    /// # Errors
    /// If the disk cannot be asked.
    pub(crate) fn file_bytes(&self) -> Result<u64, BackendError> {
        self.shared.file_bytes()
    }

    /// Opens the database anew if it has failed and that helps. Views and changes do so themselves.
    ///
    /// # Errors
    /// If it has failed for good, or still fails.
    pub(crate) fn reopen(&self) -> Result<(), BackendError> {
        self.shared.usable().map(drop)
    }
}

/// The file of the log of the database in a file.
pub(crate) fn log_path(path: &Path) -> PathBuf {
    path.with_extension("log")
}

/// A database as its files are, which nobody changes.
fn place_to_look_at(
    disk: &dyn Disk,
    path: &Path,
    options: DatabaseOptions,
) -> Result<Arc<Place>, BackendError> {
    let shadow = disk.open_sealed(path).and_then(Shadow::new);
    let shadow = Arc::new(shadow.map_err(opened::of_io("opening", options.called, path))?);
    let log = if options.log_bytes_max.is_some() {
        let opened = disk.open_sealed(&log_path(path));
        LogFile::LookedAt(opened.map_err(of_log("opening", path, options))?)
    } else {
        LogFile::None
    };
    Ok(Place::new(path, shadow, log, options))
}

fn of_log<'a>(
    doing: &'a str,
    path: &'a Path,
    options: DatabaseOptions,
) -> impl FnOnce(io::Error) -> BackendError + 'a {
    move |error| opened::of_io(doing, &format!("log of the {}", options.called), &log_path(path))(error)
}

#[cfg(test)]
mod tests;
