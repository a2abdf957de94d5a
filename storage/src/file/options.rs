//! How a store is to be kept.

use std::path::PathBuf;

/// What an acknowledged record survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the process; and of the machine, but for what was written in the last `sync_interval_ms`.
    Fast {
        /// How long a record may wait for its sync, in milliseconds.
        sync_interval_ms: u64,
    },
    /// A crash of the process or of the machine.
    Durable,
}

impl Durability {
    /// The one that a storage mode promises, but for how long `file-fast` may wait for a sync. None if that is no mode of
    /// these.
    pub fn of_mode(name: &str) -> Option<Self> {
        let fast = Self::Fast {
            sync_interval_ms: 100,
        };
        [Self::Durable, fast]
            .into_iter()
            .find(|durability| durability.mode() == name)
    }

    /// The storage mode's name.
    pub fn mode(self) -> &'static str {
        match self {
            Self::Fast { .. } => "file-fast",
            Self::Durable => "file-durable",
        }
    }
}

/// How a store is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    /// The store's directory. Made if it is missing.
    pub data_dir: PathBuf,
    /// What an acknowledged record survives.
    pub durability: Durability,
    /// Length of a journal file in bytes; a longer one is made for a batch that is longer alone.
    pub journal_bytes: u64,
    /// Once the journals hold so many bytes that are not folded into segments, they are.
    pub fold_bytes: u64,
    /// Once what the journals hold takes so many bytes of memory, it is folded into segments. What is merged takes no
    /// more than this either, but for two segments.
    pub index_bytes_max: u64,
    /// After so many milliseconds it is folded into segments in any case.
    pub fold_interval_ms: u64,
    /// A segment's length in bytes, at most about.
    pub segment_bytes_max: u64,
    /// Memory for the catalog's cache, in bytes.
    pub catalog_cache_bytes: u64,
    /// Whether journals are compacted by a thread of the store. Otherwise only when it is told to, as tests do.
    pub compacts_by_itself: bool,
}

impl FileOptions {
    /// The defaults, within `memory_bytes` in all.
    pub fn new(data_dir: PathBuf, durability: Durability, memory_bytes: u64) -> Self {
        Self {
            data_dir,
            durability,
            journal_bytes: 64 << 20,
            fold_bytes: 256 << 20,
            index_bytes_max: memory_bytes / 4,
            fold_interval_ms: 5 * 60 * 1000,
            segment_bytes_max: 1 << 30,
            catalog_cache_bytes: memory_bytes / 8,
            compacts_by_itself: true,
        }
    }
}
