//! A store on disk, of whichever mode: what the server and the commands on a data directory ask of any of them.

use std::sync::Arc;

use crate::acid::{self, AcidOptions, AcidStore};
use crate::backend::Backend;
use crate::directory::OpenError;
use crate::file::{self, FileOptions, FileStore};

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
}
