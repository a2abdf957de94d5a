//! What the disk of a database has left.

use std::io;

use crate::disk::DiskFile;

/// On a disk that has less than so many bytes nothing is written ahead, and pages at once in their places.
pub(super) const PLENTY_BYTES: u64 = 64 << 20;

/// Whether a file's disk is known to have enough left.
pub(super) fn has_plenty(file: &dyn DiskFile) -> bool {
    file.free_bytes().is_ok_and(|free| free >= PLENTY_BYTES)
}

/// Whether a write failed for want of space alone.
pub(super) fn finds_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
