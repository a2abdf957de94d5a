//! Streams that a fork is being made from, or that are being exported. Their bytes stay until the fork is durable or
//! refused, and the export is over.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use tailwater_stream::{Lineage, StreamId};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use crate::sync::Mutex;

type Counts = HashMap<StreamId, Held, RandomState>;

/// What a pin holds streams for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A fork in the making: a deleted stream keeps its name for it.
    Fork,
    /// Reading: the bytes stay, and the name of a deleted stream is free.
    Reading,
}

/// How many pins hold a stream.
#[derive(Default)]
struct Held {
    for_forks: usize,
    for_reading: usize,
}

impl Held {
    fn pins_mut(&mut self, purpose: Purpose) -> &mut usize {
        match purpose {
            Purpose::Fork => &mut self.for_forks,
            Purpose::Reading => &mut self.for_reading,
        }
    }

    fn is_free(&self) -> bool {
        self.for_forks + self.for_reading == 0
    }
}

#[derive(Default)]
pub(super) struct Pins {
    counts: Arc<Mutex<Counts>>,
    /// Written while bytes are reclaimed, read while a pin is made: a fork that is begun meanwhile may still
    /// see an oldest position from before the trim that a reclaim already goes by.
    reclaiming: Arc<RwLock<()>>,
}

/// Holds the storages that a fork in the making, or an export, will read from.
pub(super) struct StoragePin {
    counts: Arc<Mutex<Counts>>,
    purpose: Purpose,
    ids: SmallVec<[StreamId; 2]>,
}

impl Pins {
    /// Pins a stream and all that it inherits from; none while bytes are reclaimed. Call it while the stream is
    /// locked and not deleted.
    pub(super) fn pin(&self, id: StreamId, lineage: &Lineage, purpose: Purpose) -> Option<StoragePin> {
        let _not_reclaiming = self.reclaiming.try_read().ok()?;
        let storages = lineage.spans().iter().map(|span| span.stored_in);
        Some(self.hold(storages.chain([id]), purpose))
    }

    /// Pins a stream that is being staged, and those that `held` holds already.
    pub(super) fn pin_staged(&self, id: StreamId, held: Option<&StoragePin>) -> StoragePin {
        let held = held.map(StoragePin::ids).unwrap_or_default();
        self.hold(held.into_iter().chain([id]), Purpose::Fork)
    }

    fn hold(&self, ids: impl Iterator<Item = StreamId>, purpose: Purpose) -> StoragePin {
        let mut ids: SmallVec<[StreamId; 2]> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        let mut counts = self.counts.lock();
        for id in &ids {
            *counts.entry(*id).or_default().pins_mut(purpose) += 1;
        }
        drop(counts);
        StoragePin {
            counts: Arc::clone(&self.counts),
            purpose,
            ids,
        }
    }

    /// Whether the bytes of a stream must stay, whatever for.
    pub(super) fn is_pinned(&self, id: StreamId) -> bool {
        self.counts.lock().contains_key(&id)
    }

    /// Whether a fork of a stream is in the making.
    pub(super) fn is_being_forked(&self, id: StreamId) -> bool {
        self.counts.lock().get(&id).is_some_and(|held| held.for_forks > 0)
    }

    /// While this is held no pin is made.
    pub(super) async fn reclaim(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.reclaiming).write_owned().await
    }

    /// Waits until pins can be made again.
    pub(super) async fn reclaimed(&self) {
        drop(self.reclaiming.read().await);
    }
}

impl StoragePin {
    /// The streams it holds.
    pub(super) fn ids(&self) -> SmallVec<[StreamId; 2]> {
        self.ids.clone()
    }
}

impl Drop for StoragePin {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        for id in &self.ids {
            if let Some(held) = counts.get_mut(id) {
                *held.pins_mut(self.purpose) -= 1;
                if held.is_free() {
                    counts.remove(id);
                }
            }
        }
    }
}
