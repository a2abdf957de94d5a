//! The lock of those who only look at a store.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{OpenError, held, lock_file};

/// Held while a store is looked at. Several may look at once, and nobody uses the store meanwhile. To take it writes
/// nothing, so that it can be taken on a medium that is read only.
#[derive(Debug)]
pub(crate) struct SharedLock {
    /// None if nobody has ever used the store, as a backup.
    file: Option<File>,
    root: PathBuf,
}

impl SharedLock {
    /// # Errors
    /// If another process uses the store.
    pub(crate) fn acquire(root: &Path) -> Result<Self, OpenError> {
        let path = lock_file(root);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    file: None,
                    root: root.to_owned(),
                });
            }
            Err(error) => return Err(OpenError::io("open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Self {
                file: Some(file),
                root: root.to_owned(),
            }),
            Err(TryLockError::WouldBlock) => Err(held(file, root)),
            Err(TryLockError::Error(source)) => Err(OpenError::io("lock", &path)(source)),
        }
    }

    /// Lets go of the lock.
    ///
    /// # Errors
    /// If somebody has begun to use the store meanwhile after all: whoever uses it first makes the file.
    pub(crate) fn release(self) -> Result<(), OpenError> {
        if self.file.is_none() && lock_file(&self.root).exists() {
            return Err(OpenError::Locked {
                dir: self.root,
                pid: None,
            });
        }
        Ok(())
    }
}

/// What a look at a store answers that nobody uses meanwhile.
///
/// # Errors
/// [`OpenError::Locked`] if another process uses the store, and what the look says.
pub(crate) fn while_unused<T>(
    root: &Path,
    look: impl FnOnce() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let lock = SharedLock::acquire(root)?;
    let seen = look();
    lock.release()?;
    seen
}
