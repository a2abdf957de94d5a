//! Streams that a fork is being made from. Their bytes stay until the fork is durable or refused.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use tailwater_stream::{Lineage, StreamId};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use crate::sync::Mutex;

type Counts = HashMap<StreamId, usize, RandomState>;

#[derive(Default)]
pub(super) struct Pins {
    counts: Arc<Mutex<Counts>>,
    /// Written while bytes are reclaimed, read while a pin is made: a fork that is begun meanwhile may still
    /// see an oldest position from before the trim that a reclaim already goes by.
    reclaiming: Arc<RwLock<()>>,
}

/// Holds the storages that a fork in the making will read from.
pub(super) struct ForkPin {
    counts: Arc<Mutex<Counts>>,
    ids: SmallVec<[StreamId; 2]>,
}

impl Pins {
    /// Pins a stream and all that it inherits from; none while bytes are reclaimed. Call it while the stream is
    /// locked and not deleted.
    pub(super) fn pin(&self, id: StreamId, lineage: &Lineage) -> Option<ForkPin> {
        let _not_reclaiming = self.reclaiming.try_read().ok()?;
        let storages = lineage.spans().iter().map(|span| span.stored_in);
        Some(self.hold(storages.chain([id])))
    }

    /// Pins a stream that is being staged, and those that `held` holds already.
    pub(super) fn pin_staged(&self, id: StreamId, held: Option<&ForkPin>) -> ForkPin {
        let held = held.map(ForkPin::ids).unwrap_or_default();
        self.hold(held.into_iter().chain([id]))
    }

    fn hold(&self, ids: impl Iterator<Item = StreamId>) -> ForkPin {
        let mut ids: SmallVec<[StreamId; 2]> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        let mut counts = self.counts.lock();
        for id in &ids {
            *counts.entry(*id).or_insert(0) += 1;
        }
        drop(counts);
        ForkPin {
            counts: Arc::clone(&self.counts),
            ids,
        }
    }

    pub(super) fn is_pinned(&self, id: StreamId) -> bool {
        self.counts.lock().contains_key(&id)
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

impl ForkPin {
    /// The streams it holds.
    pub(super) fn ids(&self) -> SmallVec<[StreamId; 2]> {
        self.ids.clone()
    }
}

impl Drop for ForkPin {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        for id in &self.ids {
            if let Some(count) = counts.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(id);
                }
            }
        }
    }
}
