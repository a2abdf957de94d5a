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
        let with = |taken: u64| taken.checked_add(bytes).filter(|with| *with <= self.bytes_max);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, with)
            .is_ok()
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
