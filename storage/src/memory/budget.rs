//! The bytes that the memory backend may hold, in all.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Budget {
    taken: AtomicU64,
    bytes_max: u64,
}

impl Budget {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            taken: AtomicU64::new(0),
            bytes_max,
        }
    }

    /// Takes `bytes` if they are there. A record without a cost is never refused, so that a full server can
    /// still close, trim and delete.
    pub(super) fn take(&self, bytes: u64) -> bool {
        if bytes == 0 {
            return true;
        }
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let fits = before
            .checked_add(bytes)
            .is_some_and(|after| after <= self.bytes_max);
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    pub(super) fn give_back(&self, bytes: u64) {
        let before = self.taken.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more is given back than was taken");
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}
