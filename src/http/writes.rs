//! How many writes wait for their answers. Knows nothing of what they write, or of reads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes all of whose request is there, and that are not answered yet.
///
/// One whose body is still coming is none of them: it needs no time of the server, however long its client takes, and
/// would hold reads to their share for nothing.
#[derive(Debug, Default)]
pub(crate) struct Writes(AtomicUsize);

impl Writes {
    /// Counts a write until what is returned is dropped. To be called once its body is complete.
    pub(super) fn begin(&self) -> WaitingWrite<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        WaitingWrite(self)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A write that waits for its answer.
#[must_use]
pub(super) struct WaitingWrite<'a>(&'a Writes);

impl Drop for WaitingWrite<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
