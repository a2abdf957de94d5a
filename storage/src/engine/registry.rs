//! The open streams, by name. A stream that nobody uses lives in the backend alone.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use tailwater_stream::{StreamName, Timestamp};

use super::sequencer::{Entry, Standing};
use crate::sync::{AtomicU64, Mutex};

/// The open streams of a shard.
#[derive(Default)]
struct Shard(HashTable<Slot>);

/// An entry beside the hash of its name: only where the hashes are equal are the names looked at, and a table that grows
/// looks at none.
struct Slot {
    hash: u64,
    entry: Arc<Entry>,
}

impl Shard {
    fn get(&self, hash: u64, name: &StreamName) -> Option<&Arc<Entry>> {
        let found = self.0.find(hash, |slot| slot.is_of(hash, name));
        found.map(|slot| &slot.entry)
    }

    fn insert(&mut self, hash: u64, entry: Arc<Entry>) {
        self.0.insert_unique(hash, Slot { hash, entry }, |slot| slot.hash);
    }

    /// Answers whether it was there.
    fn remove(&mut self, hash: u64, name: &StreamName) -> bool {
        let Ok(found) = self.0.find_entry(hash, |slot| slot.is_of(hash, name)) else {
            return false;
        };
        found.remove();
        true
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.iter().map(|slot| &slot.entry)
    }
}

impl Slot {
    fn is_of(&self, hash: u64, name: &StreamName) -> bool {
        self.hash == hash && self.entry.name == *name
    }
}

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

    /// The hash of a name, and the shard that it falls to. A table looks at the lowest bits and at the uppermost ones, so
    /// the shard is chosen by others.
    fn place(&self, name: &StreamName) -> (u64, &Mutex<Shard>) {
        let hash = self.hasher.hash_one(name);
        (hash, &self.shards[(hash >> 32) as usize % self.shards.len()])
    }

    pub(super) fn len(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The entry of this name, pinned; a new one, not loaded yet, if there is none.
    pub(super) fn pin(&self, name: &StreamName) -> Arc<Entry> {
        let (hash, shard) = self.place(name);
        let mut shard = shard.lock();
        if let Some(entry) = shard.get(hash, name) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry::new(name.clone()));
        shard.insert(hash, Arc::clone(&entry));
        self.count.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// The entry of this name, if it is open.
    pub(super) fn peek(&self, name: &StreamName) -> Option<Arc<Entry>> {
        let (hash, shard) = self.place(name);
        shard.lock().get(hash, name).cloned()
    }

    /// Drops an entry from the registry if no stream has its name and only the caller still holds it.
    pub(super) fn unpin_vacant(&self, entry: &Arc<Entry>) {
        let (hash, shard) = self.place(&entry.name);
        let mut shard = shard.lock();
        let only_ours = Arc::strong_count(entry) == 2;
        if only_ours && entry.sequencer.lock().is_vacant() && shard.remove(hash, &entry.name) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Open streams whose lifetime is over.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<Arc<Entry>> {
        let is_over = |entry: &&Arc<Entry>| matches!(entry.sequencer.lock().standing(now), Standing::Expired);
        let of_shard = |shard: &Mutex<Shard>| {
            shard
                .lock()
                .entries()
                .filter(is_over)
                .cloned()
                .collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// Looks at all open streams.
    pub(super) fn look_at_all(&self, mut look: impl FnMut(&Entry)) {
        for shard in &self.shards {
            shard.lock().entries().for_each(|entry| look(entry));
        }
    }

    /// Drops the entries of one shard that nobody pins, that `may_go` says, and that are clean, which they are but for a moment.
    /// Answers how many went.
    pub(super) fn evict(&self, shard: usize, mut may_go: impl FnMut(&Entry) -> bool) -> u64 {
        let mut shard = self.shards[shard].lock();
        let before = shard.0.len();
        shard.0.retain(|Slot { entry, .. }| {
            let unpinned = Arc::strong_count(entry) == 1;
            !(unpinned && may_go(entry) && entry.sequencer.lock().is_clean())
        });
        let evicted = (before - shard.0.len()) as u64;
        self.count.fetch_sub(evicted, Ordering::Relaxed);
        evicted
    }
}
