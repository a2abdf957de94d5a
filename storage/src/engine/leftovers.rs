//! What deletes and trims leave behind: bytes that go once nobody refers to them any more.

use smallvec::SmallVec;
use tailwater_stream::StreamId;

use super::Engine;
use super::EngineError;
use crate::sync::Mutex;

/// Space that may be given back.
#[derive(Debug, Clone)]
pub(super) enum Leftover {
    /// A deleted stream.
    Deleted(StreamId),
    /// The beginnings of these storages.
    Trimmed(SmallVec<[StreamId; 2]>),
}

/// Noted when a delete or a trim becomes durable, so that it is not lost with the request that asked for it.
#[derive(Default)]
pub(super) struct Leftovers(Mutex<Vec<Leftover>>);

impl Leftovers {
    pub(super) fn note(&self, leftover: Leftover) {
        self.0.lock().push(leftover);
    }

    fn take(&self) -> Vec<Leftover> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Engine {
    /// Gives back what nobody refers to any more. What a fork in the making refers to waits for the next call.
    pub(super) async fn clear_leftovers(&self) -> Result<(), EngineError> {
        for leftover in self.shared.leftovers.take() {
            match leftover {
                Leftover::Deleted(id) => self.release(id).await?,
                Leftover::Trimmed(storages) => self.reclaim(storages).await?,
            }
        }
        Ok(())
    }

    /// Releases a deleted stream that has no forks, and then its source if it was waiting for that.
    async fn release(&self, id: StreamId) -> Result<(), EngineError> {
        let mut next = Some(id);
        while let Some(id) = next {
            // The pin is looked at first: once it is gone, the fork is durable and seen, or refused.
            if self.shared.pins.is_pinned(id) {
                self.shared.leftovers.note(Leftover::Deleted(id));
                return Ok(());
            }
            next = self
                .ask(move |backend| {
                    if backend.has_forks(id)? {
                        Ok(None)
                    } else {
                        backend.release(id)
                    }
                })
                .await?;
        }
        Ok(())
    }

    async fn reclaim(&self, storages: SmallVec<[StreamId; 2]>) -> Result<(), EngineError> {
        if storages.iter().any(|id| self.shared.pins.is_pinned(*id)) {
            self.shared.leftovers.note(Leftover::Trimmed(storages));
            return Ok(());
        }
        self.ask(move |backend| storages.iter().try_for_each(|id| backend.reclaim(*id)))
            .await
    }
}
