//! Why a directory cannot be used as a store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::backend::BackendError;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the store.
    #[error(
        "{} is in use by {}; stop that one, or choose another directory (storage.data_dir)",
        dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"))
    )]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// As the process itself has written it down.
        pid: Option<u32>,
    },
    /// The directory belongs to another user, who could not use anymore what this one would write.
    #[error(
        "{} belongs to the user {owner}, and this process runs as the user {user}; run it as {owner}, or give the \
         directory away with `chown -R {user} {}`",
        dir.display(),
        dir.display()
    )]
    WrongOwner {
        /// The store's directory.
        dir: PathBuf,
        /// The user id of the directory's owner.
        owner: u32,
        /// The process's effective user id.
        user: u32,
    },
    /// The directory is not there, and the one that it would be made in is another user's.
    #[error(
        "cannot make the directory {}: {} belongs to the user {owner}, and this process runs as the user {user}, who may \
         not write there; make it with `install -d -o {user} {}` (for a container, where its volume comes from), or \
         choose another directory (storage.data_dir)",
        dir.display(),
        above.display(),
        dir.display()
    )]
    AboveIsNotOurs {
        /// The store's directory.
        dir: PathBuf,
        /// The last one of its path that is there.
        above: PathBuf,
        /// The user id of that one's owner.
        owner: u32,
        /// The process's effective user id.
        user: u32,
    },
    /// The store was made for another storage mode.
    #[error(
        "{} holds a store of the mode `{found}`, and `{wanted}` is asked for; set storage.mode to `{found}`, or \
         choose another directory (storage.data_dir)",
        dir.display()
    )]
    OtherMode {
        /// The store's directory.
        dir: PathBuf,
        /// The store's mode.
        found: String,
        /// The mode that was asked for.
        wanted: &'static str,
    },
    /// The store has another number of shards.
    #[error(
        "{} holds a store of {found} shards, and {wanted} are asked for; set storage.acid_shard_count to {found}, give \
         it {wanted} with `tailwater reshard --data-dir {} --to {wanted}`, or export the streams and import them into \
         another directory",
        dir.display(),
        dir.display()
    )]
    OtherShardCount {
        /// The store's directory.
        dir: PathBuf,
        /// How many shards it has.
        found: u32,
        /// How many were asked for.
        wanted: u32,
    },
    /// The store was written by a later version.
    #[error(
        "{} holds a store of format {found}, and this version knows none later than {known}; use the version that \
         wrote it, or a later one",
        dir.display()
    )]
    NewerFormat {
        /// The store's directory.
        dir: PathBuf,
        /// The store's format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// The directory has no STORE and is not empty.
    #[error(
        "{} is not a store: it has {found:?} but no file STORE; choose a new or an empty directory \
         (storage.data_dir), or put STORE back from a backup if this was one",
        dir.display()
    )]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// One of the entries that no new store has.
        found: String,
    },
    /// The directory is to be looked at, and holds no store.
    #[error("{} holds no store: it has no file STORE", dir.display())]
    NoStore {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory is a store, and what identifies it is not as it was written.
    #[error("the store in {} is damaged: {what}; put it back from a backup", dir.display())]
    Damaged {
        /// The store's directory.
        dir: PathBuf,
        /// What was found, and where.
        what: String,
    },
    /// The operating system refuses.
    #[error("cannot {what}: {source}; {}", advice(source))]
    Io {
        /// What was being done, and with which file.
        what: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The store is there and cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl OpenError {
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{what} {}", path.display());
        move |source| Self::Io { what, source }
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "let the user that this process runs as read, write and enter the directory, or choose another one \
             (storage.data_dir)"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount it writable, or choose another directory (storage.data_dir)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or choose another directory (storage.data_dir)"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "something that is no directory is in the way: choose another directory (storage.data_dir)"
        }
        _ => "choose another directory (storage.data_dir) if it cannot be mended",
    }
}
