//! Settings that are one of a few things. Knows nothing of how they are written, but for the names of storage modes.

/// Browser origins that may use the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Every origin (`*`).
    Any,
    /// These, each as `scheme://host[:port]`. Never empty.
    List(Vec<String>),
}

/// Who may cache what cannot change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePolicy {
    /// CDNs and browsers.
    Public,
    /// The client's own cache only.
    Private,
    /// Nobody.
    NoStore,
}

/// Where streams are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageMode {
    /// In RAM: everything is forgotten when the server stops.
    Memory,
    /// On disk, synced a moment after the acknowledgement.
    FileFast,
    /// On disk, synced before the acknowledgement.
    FileDurable,
    /// On disk in redb databases, each commit a transaction.
    Acid,
}

impl StorageMode {
    pub(super) const ALL: [Self; 4] = [Self::Memory, Self::FileFast, Self::FileDurable, Self::Acid];
    /// What `acid` may be called instead, after what it is made of.
    pub(super) const ACID_ALIAS: &str = "redb";

    /// The mode's name, as in `storage.mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::FileFast => "file-fast",
            Self::FileDurable => "file-durable",
            Self::Acid => "acid",
        }
    }

    pub(super) fn named(text: &str) -> Option<Self> {
        if text == Self::ACID_ALIAS {
            return Some(Self::Acid);
        }
        Self::ALL.into_iter().find(|mode| mode.name() == text)
    }

    /// Whether streams are on a disk, and memory only holds what is worked with.
    pub fn is_on_disk(self) -> bool {
        match self {
            Self::Memory => false,
            Self::FileFast | Self::FileDurable | Self::Acid => true,
        }
    }
}
