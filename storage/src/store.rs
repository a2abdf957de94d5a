//! A store on disk, of whichever mode: what the server and the commands on a data directory ask of any of them.

use std::path::Path;
use std::sync::Arc;

use crate::acid::{self, AcidOptions, AcidStats, AcidStore, AcidVerifyReport};
use crate::backend::{Backend, BackendError};
use crate::directory::{self, OpenError};
use crate::disk::RealDisk;
use crate::file::{self, Durability, FileOptions, FileStats, FileStore};

pub use crate::file::BackupError;

/// How a store is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOptions {
    /// In journals and segments.
    File(FileOptions),
    /// In shards.
    Acid(AcidOptions),
}

/// A store that is open.
#[derive(Clone)]
pub enum Store {
    /// Of journals and segments.
    File(Arc<FileStore>),
    /// Of shards.
    Acid(Arc<AcidStore>),
}

/// What a copy of a store consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupReport {
    /// One of journals and segments.
    File(file::BackupReport),
    /// One of shards.
    Acid(acid::BackupReport),
}

/// What is in a store, and what is damaged of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyReport {
    /// One of journals and segments.
    File(file::VerifyReport),
    /// One of shards.
    Acid(AcidVerifyReport),
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreStats {
    /// One of journals and segments.
    File(FileStats),
    /// One of shards.
    Acid(AcidStats),
}

impl StoreOptions {
    /// For a store of this mode in a directory, within `memory_bytes` in all. None if no store has that mode.
    pub fn of_mode(mode: &str, data_dir: &Path, memory_bytes: u64) -> Option<Self> {
        if mode == acid::MODE {
            return Some(Self::Acid(AcidOptions {
                cache_bytes: memory_bytes / 4,
                ..AcidOptions::new(data_dir.to_owned())
            }));
        }
        let durability = Durability::of_mode(mode)?;
        let options = FileOptions::new(data_dir.to_owned(), durability, memory_bytes);
        Some(Self::File(options))
    }

    /// For the store that a directory holds, as it was made. None if this version does not know its mode.
    ///
    /// # Errors
    /// [`OpenError`] if there is no store in the directory.
    pub fn as_made(data_dir: &Path, memory_bytes: u64) -> Result<Option<Self>, OpenError> {
        let mode = directory::read_identity(&RealDisk, data_dir)?.mode;
        let mut options = Self::of_mode(&mode, data_dir, memory_bytes);
        if let Some(Self::Acid(options)) = &mut options
            && let Some(count) = acid::shard_count_of(data_dir)?
        {
            options.shard_count = count;
        }
        Ok(options)
    }
}

impl Store {
    /// Opens the store of a directory, or makes one. No other process may use it meanwhile.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do. Nothing is changed then.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        Ok(match options {
            StoreOptions::File(options) => Self::File(Arc::new(file::open(options)?)),
            StoreOptions::Acid(options) => Self::Acid(Arc::new(acid::open(&options)?)),
        })
    }

    /// What keeps its bytes.
    pub fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Self::File(store) => Arc::clone(store) as _,
            Self::Acid(store) => Arc::clone(store) as _,
        }
    }

    /// What the store holds. May wait for the disk.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn stats(&self) -> Result<StoreStats, BackendError> {
        Ok(match self {
            Self::File(store) => StoreStats::File(store.stats()?),
            Self::Acid(store) => StoreStats::Acid(store.stats()?),
        })
    }

    /// Bytes that the disk has left for it. May wait for the disk.
    ///
    /// # Errors
    /// If the disk does not say.
    pub fn free_bytes(&self) -> Result<u64, BackendError> {
        match self {
            Self::File(store) => store.free_bytes(),
            Self::Acid(store) => store.free_bytes(),
        }
    }

    /// Copies the store as it is now into a directory that is new or empty. Commits go on meanwhile.
    ///
    /// # Errors
    /// [`BackupError`]. What is there then is no store.
    pub fn backup(&self, to: &Path) -> Result<BackupReport, BackupError> {
        Ok(match self {
            Self::File(store) => BackupReport::File(store.backup(to)?),
            Self::Acid(store) => BackupReport::Acid(store.backup(to)?),
        })
    }
}

/// What the store of a directory holds. Changes nothing of it. None if this version does not know its mode.
///
/// # Errors
/// [`OpenError`] if there is no store, it is in use, or it cannot be read. Not all damage is found.
pub fn stats_of_directory(data_dir: &Path) -> Result<Option<StoreStats>, OpenError> {
    let mode = directory::read_identity(&RealDisk, data_dir)?.mode;
    if mode == acid::MODE {
        return Ok(Some(StoreStats::Acid(acid::stats_of_directory(data_dir)?)));
    }
    if Durability::of_mode(&mode).is_none() {
        return Ok(None);
    }
    Ok(Some(StoreStats::File(file::stats_of_directory(data_dir)?)))
}

/// Checks the store of a directory, and changes nothing of it. None if this version does not know its mode.
///
/// # Errors
/// [`OpenError`] if there is no store, it is in use, a later version has made it, or it cannot be looked at.
pub fn verify_directory(data_dir: &Path) -> Result<Option<VerifyReport>, OpenError> {
    let mode = match directory::read_identity(&RealDisk, data_dir) {
        Ok(description) => description.mode,
        // Whatever the mode is, that is all that can be told.
        Err(OpenError::Damaged { .. }) => acid::MODE.to_owned(),
        Err(error) => return Err(error),
    };
    if mode == acid::MODE {
        return Ok(Some(VerifyReport::Acid(acid::verify_directory(data_dir)?)));
    }
    if Durability::of_mode(&mode).is_none() {
        return Ok(None);
    }
    Ok(Some(VerifyReport::File(file::verify_directory(data_dir)?)))
}
