//! Space that a store keeps back for deletions, in a file that gives it away when nothing else is left.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile};

/// Zeros are written in pieces of this length.
const PIECE_BYTES: usize = 64 << 10;

/// The file that keeps space.
pub(super) struct Spare {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    bytes: u64,
    is_held: Mutex<bool>,
}

impl Spare {
    /// For so many bytes, of which nothing is kept yet.
    pub(super) fn new(disk: &Arc<dyn Disk>, dir: PathBuf, name: &str, bytes: u64) -> Self {
        Self {
            disk: Arc::clone(disk),
            path: dir.join(name),
            dir,
            bytes,
            is_held: Mutex::new(false),
        }
    }

    /// Whether the disk has room for so much beside what is to be kept. If it does not say, what is written will.
    pub(super) fn leaves_room_for(&self, bytes: u64) -> bool {
        let Ok(free) = self.disk.free_bytes(&self.dir) else {
            return true;
        };
        let kept_yet = if *self.is_held.lock() { self.bytes } else { 0 };
        free >= bytes.saturating_add(self.bytes - kept_yet)
    }

    /// Whether the space is kept.
    pub(super) fn is_held(&self) -> bool {
        *self.is_held.lock()
    }

    /// Keeps the space again if it is not kept and the disk has it.
    pub(super) fn keep(&self) {
        let mut is_held = self.is_held.lock();
        if !*is_held && let Ok(free) = self.disk.free_bytes(&self.dir) {
            *is_held = self.hold(free);
        }
    }

    /// Keeps the space if there is twice as much. Without, the store works as well, but for deletions on a full disk.
    fn hold(&self, free: u64) -> bool {
        let len = self.len();
        if len == self.bytes {
            return true;
        }
        if free.saturating_add(len) < 2 * self.bytes {
            return false;
        }
        let made = self.make();
        if let Err(error) = &made {
            tracing::debug!(path = %self.path.display(), %error, "no space is kept back");
        }
        made.is_ok()
    }

    /// Gives the space away. Answers whether there was any.
    pub(super) fn let_go(&self) -> bool {
        let mut is_held = self.is_held.lock();
        let was_held = std::mem::take(&mut *is_held);
        was_held
            && self
                .disk
                .open(&self.path)
                .and_then(|file| file.set_len(0))
                .is_ok()
    }

    /// How much is kept in the file. It may be that of another number of shards.
    fn len(&self) -> u64 {
        let len = self.disk.open_sealed(&self.path).and_then(|file| file.len());
        len.unwrap_or(0)
    }

    fn make(&self) -> io::Result<()> {
        let file = match self.disk.create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.disk.open(&self.path)?,
            made => made?,
        };
        let written = self.fill(file.as_ref());
        if written.is_err() {
            // What was written of it is space that others lack.
            file.set_len(0)?;
        }
        written
    }

    fn fill(&self, file: &dyn DiskFile) -> io::Result<()> {
        file.set_len(0)?;
        let zeros = [0; PIECE_BYTES];
        for at in (0..self.bytes).step_by(PIECE_BYTES) {
            file.write_at(at, &zeros)?;
        }
        Ok(())
    }
}
