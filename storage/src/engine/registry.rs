//! The open streams, by name. A stream that nobody uses lives in the backend alone.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::{StreamName, Timestamp};

use super::sequencer::{Entry, Standing};
use crate::sync::{AtomicU64, Mutex};

type Shard = HashMap<StreamName, Arc<Entry>, RandomState>;

/// The registry's own handle is one `Arc` of an entry; every other one is a pin. New pins are made only under
/// the lock of the entry's shard, so an entry that has none while the lock is held can go.
pub(super) struct Registry {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    count: AtomicU64,
}

impl Registry {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::default())).collect(),
            hasher: RandomState::default(),
            count: AtomicU64::new(0),
        }
    }

    fn shard(&self, name: &StreamName) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(name) as usize % self.shards.len()]
    }

    pub(super) fn len(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The entry of this name, pinned; a new one, not loaded yet, if there is none.
    pub(super) fn pin(&self, name: &StreamName) -> Arc<Entry> {
        let mut shard = self.shard(name).lock();
        if let Some(entry) = shard.get(name) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry::new(name.clone()));
        shard.insert(name.clone(), Arc::clone(&entry));
        self.count.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// The entry of this name, if it is open.
    pub(super) fn peek(&self, name: &StreamName) -> Option<Arc<Entry>> {
        self.shard(name).lock().get(name).cloned()
    }

    /// Drops an entry from the registry if no stream has its name and only the caller still holds it.
    pub(super) fn unpin_vacant(&self, entry: &Arc<Entry>) {
        let mut shard = self.shard(&entry.name).lock();
        let only_ours = Arc::strong_count(entry) == 2;
        if only_ours && entry.sequencer.lock().is_vacant() && shard.remove(&entry.name).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Open streams whose lifetime is over.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<Arc<Entry>> {
        let is_over = |entry: &&Arc<Entry>| matches!(entry.sequencer.lock().standing(now), Standing::Expired);
        let of_shard =
            |shard: &Mutex<Shard>| shard.lock().values().filter(is_over).cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// Drops the entries of one shard that are clean, that nobody pins, and that `idle` says may go. Answers how
    /// many went.
    pub(super) fn evict(&self, shard: usize, idle: impl Fn(&Entry) -> bool) -> u64 {
        let mut shard = self.shards[shard].lock();
        let before = shard.len();
        shard.retain(|_, entry| {
            let unpinned = Arc::strong_count(entry) == 1;
            !(unpinned && idle(entry) && entry.sequencer.lock().is_clean())
        });
        let evicted = (before - shard.len()) as u64;
        self.count.fetch_sub(evicted, Ordering::Relaxed);
        evicted
    }
}
