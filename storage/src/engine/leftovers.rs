//! What deletes and trims leave behind: bytes that go once nobody refers to them any more.

use std::sync::Arc;

use smallvec::SmallVec;
use tailwater_stream::{StreamId, StreamName};

use super::Engine;
use super::EngineError;
use crate::sync::Mutex;

/// Space that may be given back.
#[derive(Debug, Clone)]
pub(super) enum Leftover {
    /// A deleted stream.
    Deleted(StreamId),
    /// What was staged for an import to this name that was given up: at the last moment it may have come about.
    Staged(StreamId, StreamName),
    /// The beginnings of these storages.
    Trimmed(SmallVec<[StreamId; 2]>),
    /// Where a name leads, for a stream that may not have been made.
    Led(StreamName),
}

/// Noted when a delete or a trim becomes durable, so that it is not lost with the request that asked for it.
#[derive(Default)]
pub(super) struct Leftovers {
    noted: Mutex<Vec<Leftover>>,
    /// Held while a stream is released: whoever asks for what is being done already waits until it is done.
    releasing: Arc<tokio::sync::Mutex<()>>,
}

impl Leftovers {
    pub(super) fn note(&self, leftover: Leftover) {
        self.noted.lock().push(leftover);
    }

    fn take(&self) -> Taken<'_> {
        Taken {
            left: std::mem::take(&mut *self.noted.lock()),
            leftovers: self,
        }
    }
}

/// Leftovers that somebody clears. Those that are left are noted again, also when that somebody goes away.
struct Taken<'a> {
    left: Vec<Leftover>,
    leftovers: &'a Leftovers,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.left.is_empty() {
            self.leftovers.noted.lock().append(&mut self.left);
        }
    }
}

impl Engine {
    /// Gives back what nobody refers to any more. What a fork in the making refers to waits for the next call, and so does
    /// everything once there is no room for that: to find that out again for each would take long.
    pub(super) async fn clear_leftovers(&self) {
        let mut taken = self.shared.leftovers.take();
        while let Some(leftover) = taken.left.last().cloned() {
            let had_room = self.clear(leftover).await;
            taken.left.pop();
            if !had_room {
                break;
            }
        }
    }

    /// Gives back one leftover. Answers whether there was room for that. One that cannot be given back, because the storage
    /// cannot read it, is nobody's concern who is here for another one: it stays, and the next start tries again.
    pub(super) async fn clear(&self, leftover: Leftover) -> bool {
        let cleared = match leftover.clone() {
            Leftover::Deleted(id) => self.release(id).await,
            Leftover::Staged(id, name) => self.release_staged(id, name).await,
            Leftover::Trimmed(storages) => self.reclaim(storages).await,
            Leftover::Led(name) => self.release_led(name).await,
        };
        cleared.unwrap_or_else(|error| {
            tracing::error!(?leftover, %error, "what was deleted or trimmed could not be given back");
            true
        })
    }

    /// Releases what was staged, unless the name leads to it by now. As [`Self::release`].
    async fn release_staged(&self, id: StreamId, name: StreamName) -> Result<bool, EngineError> {
        let shared = Arc::clone(&self.shared);
        // The pin is looked at first: once it is gone, it is known whether the name leads to it.
        if shared.pins.is_pinned(id) {
            shared.leftovers.note(Leftover::Staged(id, name));
            return Ok(true);
        }
        let named = self.ask(move |backend| backend.load(&name)).await?;
        if named.is_some_and(|state| state.id == id && !state.deleted) {
            return Ok(true);
        }
        self.release(id).await
    }

    /// Lets a name lead nowhere where no stream has it.
    async fn release_led(&self, name: StreamName) -> Result<bool, EngineError> {
        let shared = Arc::clone(&self.shared);
        self.ask(move |_| shared.end_leads(&name, None)).await?;
        Ok(true)
    }

    /// Releases a deleted stream that has no forks, and then its source if it was waiting for that. To give space back
    /// takes some: if there is none it is noted for later, and the answer is false.
    async fn release(&self, id: StreamId) -> Result<bool, EngineError> {
        let shared = Arc::clone(&self.shared);
        let alone = Arc::clone(&shared.leftovers.releasing).lock_owned().await;
        // One question for all of it: it is not given up halfway when whoever asks goes away.
        self.ask(move |backend| {
            let _alone = alone;
            let mut next = Some(id);
            while let Some(id) = next {
                // The pin is looked at first: once it is gone, the fork is durable and seen, or refused.
                if shared.pins.is_pinned(id) {
                    shared.leftovers.note(Leftover::Deleted(id));
                    return Ok(true);
                }
                next = if backend.has_forks(id)? {
                    // What it alone could read can go nevertheless.
                    shared
                        .leftovers
                        .note(Leftover::Trimmed([id].into_iter().collect()));
                    None
                } else {
                    // First, so that whatever ends the process in between leaves a stream that is released again. It does
                    // no harm if they stay.
                    if let Err(error) = shared.end_leads_of(id) {
                        tracing::warn!(stream = %id, %error, "where the name of a deleted stream leads could not be removed");
                    }
                    match backend.release(id) {
                        Err(error) if error.is_full() => {
                            shared.leftovers.note(Leftover::Deleted(id));
                            return Ok(false);
                        }
                        released => released?,
                    }
                };
            }
            Ok(true)
        })
        .await
    }

    /// Gives back what was trimmed and is still noted: the next start would not know of it. Deleted streams it does
    /// know of.
    pub(super) fn reclaim_at_stop(&self) {
        let shared = &self.shared;
        for leftover in std::mem::take(&mut shared.leftovers.take().left) {
            let Leftover::Trimmed(storages) = leftover else {
                continue;
            };
            for id in storages.into_iter().filter(|id| !shared.pins.is_pinned(*id)) {
                if let Err(error) = shared.backend.reclaim(id) {
                    tracing::warn!(stream = %id, %error, "what was trimmed could not be given back");
                }
            }
        }
    }

    /// As [`Self::release`].
    async fn reclaim(&self, storages: SmallVec<[StreamId; 2]>) -> Result<bool, EngineError> {
        let no_new_pins = self.shared.pins.reclaim().await;
        if storages.iter().any(|id| self.shared.pins.is_pinned(*id)) {
            self.shared.leftovers.note(Leftover::Trimmed(storages));
            return Ok(true);
        }
        let shared = Arc::clone(&self.shared);
        self.ask(move |backend| {
            // Held by the work itself, which goes on when whoever asks goes away.
            let _no_new_pins = no_new_pins;
            let mut failed = None;
            for id in &storages {
                match backend.reclaim(*id) {
                    Ok(()) => {}
                    Err(error) if error.is_full() => {
                        shared.leftovers.note(Leftover::Trimmed(storages));
                        return Ok(false);
                    }
                    // One that cannot be read keeps none of the others.
                    Err(error) => failed = Some(error),
                }
            }
            failed.map_or(Ok(true), Err)
        })
        .await
    }
}
