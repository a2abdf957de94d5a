//! The lock of those who only look at a store.

use std::fs::{File, TryLockError};
use std::io;

use super::{OpenError, held};
use crate::file::place::Layout;

/// Held while a store is looked at. Several may look at once, and nobody uses the store meanwhile. To take it writes
/// nothing, so that it can be taken on a medium that is read only.
#[derive(Debug)]
pub(in crate::file) struct SharedLock {
    /// None if nobody has ever used the store, as a backup.
    file: Option<File>,
    layout: Layout,
}

impl SharedLock {
    /// # Errors
    /// If another process uses the store.
    pub(in crate::file) fn acquire(layout: &Layout) -> Result<Self, OpenError> {
        let path = layout.lock_file();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    file: None,
                    layout: layout.clone(),
                });
            }
            Err(error) => return Err(OpenError::io("open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Self {
                file: Some(file),
                layout: layout.clone(),
            }),
            Err(TryLockError::WouldBlock) => Err(held(file, &layout.root)),
            Err(TryLockError::Error(source)) => Err(OpenError::io("lock", &path)(source)),
        }
    }

    /// Lets go of the lock.
    ///
    /// # Errors
    /// If somebody has begun to use the store meanwhile after all: whoever uses it first makes the file.
    pub(in crate::file) fn release(self) -> Result<(), OpenError> {
        if self.file.is_none() && self.layout.lock_file().exists() {
            return Err(OpenError::Locked {
                dir: self.layout.root,
                pid: None,
            });
        }
        Ok(())
    }
}
