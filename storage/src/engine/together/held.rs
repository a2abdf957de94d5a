//! Names that are held open for records over several streams.

use std::sync::Arc;

use tailwater_stream::{StreamId, StreamName};

use super::super::leads::Led;
use super::super::sequencer::{Entry, Standing};
use super::super::{Engine, EngineError};

/// A name that is held open, with the stream that has it or may come to have it. Cheap to clone.
#[derive(Clone)]
pub struct Held {
    pub(super) entry: Arc<Entry>,
    /// The deleted stream of which it is known that the name is free of it.
    pub(super) free_of: Option<StreamId>,
    /// The stream that a new one of this name is to be placed beside.
    pub(super) beside: Option<(StreamName, StreamId)>,
    /// Lets the name lead there.
    _led: Option<Arc<Led>>,
}

/// Grows whenever something that was accepted of a stream is taken back, for as long as the stream is held. Whoever
/// remembers what it has accepted itself, such as control keys, knows by it whether that still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Footing(u64);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Held").field(&self.entry.name).finish()
    }
}

impl Held {
    /// The name.
    pub fn name(&self) -> &StreamName {
        &self.entry.name
    }

    /// The footing now. Take it while nothing of one's own is on its way, and before reading what is stored: then what
    /// is read stands as long as this does.
    pub fn footing(&self) -> Footing {
        Footing(self.entry.generation())
    }
}

impl Engine {
    /// Holds names open, in the order given. Asks the backend once for all that are not open yet.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn hold(&self, names: &[StreamName]) -> Result<Vec<Held>, EngineError> {
        let registry = &self.shared.registry;
        let entries: Vec<_> = names.iter().map(|name| registry.pin(name)).collect();
        self.load_all(&entries).await?;
        let mut held = Vec::with_capacity(entries.len());
        for entry in entries {
            registry.note_use(&entry);
            let free_of = self.free(&entry).await?;
            held.push(Held {
                entry,
                free_of,
                beside: None,
                _led: None,
            });
        }
        Ok(held)
    }

    /// Likewise, and lets those names that no stream has be looked up beside the stream `id`, whose name is `beside`, so
    /// that streams may be created under them there. Answers once that is durable. If there are many partitions it is one
    /// write for each, but none for names below a prefix that leads there: see [`Self::lead_below`].
    ///
    /// # Errors
    /// If the storage cannot be read or written.
    pub async fn hold_beside(
        &self,
        names: &[StreamName],
        beside: &StreamName,
        id: StreamId,
    ) -> Result<Vec<Held>, EngineError> {
        let mut held = self.hold(names).await?;
        let is_vacant = |held: &&mut Held| {
            let sequencer = held.entry.sequencer.lock();
            sequencer.accepted().is_none_or(|state| state.deleted)
        };
        let vacant: Vec<_> = held.iter_mut().filter(is_vacant).collect();
        let names = vacant.iter().map(|held| held.entry.name.clone()).collect();
        let led = Arc::new(self.lead(names, id).await?);
        for held in vacant {
            held.beside = Some((beside.clone(), id));
            held._led = Some(Arc::clone(&led));
        }
        Ok(held)
    }

    /// Lets every name that begins with `prefix` be looked up beside the stream `id`, durably, so that to hold names
    /// there takes no writing: see [`Self::hold_beside`]. Also where there is but one partition, for there may be more later.
    ///
    /// # Errors
    /// If the storage cannot be written.
    ///
    /// # Panics
    /// If the prefix does not end with `/`.
    pub async fn lead_below(&self, prefix: &str, id: StreamId) -> Result<(), EngineError> {
        assert!(
            prefix.ends_with('/'),
            "the prefix {prefix:?} ends within a segment"
        );
        let prefix = prefix.to_owned();
        self.ask_to_lead(move |backend| backend.lead_below(&prefix, id))
            .await
    }

    /// Whether two streams stand in one partition, so that a record may change both.
    pub fn are_together(&self, one: StreamId, other: StreamId) -> bool {
        let partition = |id| self.shared.backend.partition_of(id);
        partition(one) == partition(other)
    }

    /// Loads those that are not loaded yet. Nobody changes a stream before its entry is loaded, so what is read here
    /// is right if nobody else has loaded it by then.
    async fn load_all(&self, entries: &[Arc<Entry>]) -> Result<(), EngineError> {
        let missing: Vec<_> = entries
            .iter()
            .filter(|entry| !entry.loaded.initialized())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|entry| entry.name.clone()).collect();
        let states = self.ask(move |backend| backend.load_all(&names)).await?;
        for (entry, state) in missing.into_iter().zip(states) {
            let take_over = async || self.shared.take_over(entry, state);
            entry.loaded.get_or_init(take_over).await;
        }
        Ok(())
    }

    /// Ends a lifetime that is over, and frees the name of a deleted stream that no fork holds. Answers which one it
    /// is known to be free of.
    async fn free(&self, entry: &Arc<Entry>) -> Result<Option<StreamId>, EngineError> {
        loop {
            let deleted = {
                let mut sequencer = entry.sequencer.lock();
                match sequencer.standing(self.now()) {
                    Standing::Missing | Standing::Alive(_) => return Ok(None),
                    Standing::Expired => None,
                    Standing::Deleted(id) => Some((id, sequencer.wait_until_settled()?)),
                }
            };
            let Some((id, settled)) = deleted else {
                self.expire(entry).await?;
                continue;
            };
            if let Some(settled) = settled {
                // Whatever became of it, it is looked at again.
                let _ = settled.await;
                continue;
            }
            if self.is_held_by_forks(id).await? {
                return Ok(None);
            }
            self.forget_deleted(entry, id).await?;
            return Ok(Some(id));
        }
    }
}
