//! Where things stand on disk: numbers of files, and places in them.

use std::path::{Path, PathBuf};

/// A place in the journals. Everything before it was written before everything behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LogPlace {
    /// The journal's number.
    pub(super) journal: u64,
    /// Bytes from the file's beginning.
    pub(super) offset: u64,
}

/// The store's own random identity: files of another store are told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreId(pub(super) [u8; 16]);

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where the files of a store are, below its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// `DS_STORAGE__DATA_DIR`.
    pub(super) root: PathBuf,
}

impl Layout {
    /// The layout below a directory.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Says what store this is: format, mode, identity.
    pub(super) fn store_file(&self) -> PathBuf {
        self.root.join("STORE")
    }

    /// Locked by the process that uses the store.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    /// The catalog: one redb database.
    pub(super) fn catalog_file(&self) -> PathBuf {
        self.root.join("catalog.redb")
    }

    /// Holds the journals.
    pub(super) fn journals_dir(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Holds the segments.
    pub(super) fn segments_dir(&self) -> PathBuf {
        self.root.join("segments")
    }

    /// A journal's file.
    pub(super) fn journal(&self, number: u64) -> PathBuf {
        self.journals_dir().join(format!("{number:016}.journal"))
    }

    /// Kept back to become a journal when there is no space for another one. No journal has this number, and the next
    /// start removes it.
    pub(super) fn kept_back_file(&self) -> PathBuf {
        self.journal(0).with_extension("tmp")
    }

    /// A segment's file.
    pub(super) fn segment(&self, number: u64) -> PathBuf {
        self.segments_dir().join(format!("{number:016}.segment"))
    }

    /// The number in a file's name, if it is `{number:016}.{extension}`.
    pub(super) fn number_of(file_name: &str, extension: &str) -> Option<u64> {
        let (digits, found) = file_name.split_once('.')?;
        let is_number = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && found == extension).then(|| digits.parse().ok())?
    }
}
