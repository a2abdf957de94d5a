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

/// Where the files of a store are, below its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// `DS_STORAGE__DATA_DIR`.
    pub(super) root: PathBuf,
}

impl Layout {
    /// The directories that every store has.
    pub(super) const PARTS: [&'static str; 2] = ["journal", "segments"];

    /// The layout below a directory.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The catalog: one redb database.
    pub(super) fn catalog_file(&self) -> PathBuf {
        self.root.join("catalog.redb")
    }

    /// Holds the journals.
    pub(super) fn journals_dir(&self) -> PathBuf {
        self.root.join(Self::PARTS[0])
    }

    /// Holds the segments.
    pub(super) fn segments_dir(&self) -> PathBuf {
        self.root.join(Self::PARTS[1])
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
