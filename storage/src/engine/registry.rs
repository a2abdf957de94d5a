//! The open streams, by name. A stream that nobody uses lives in the backend alone.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use tailwater_stream::{StreamName, Timestamp};

use super::sequencer::{Entry, Sequencer, Standing};
use crate::ahead;
use crate::sync::{AtomicU64, Mutex};
use crate::timers::Timers;

/// The open streams of a shard.
#[derive(Default)]
struct Shard(HashTable<Slot>);

/// An entry, and what is asked of very many without a look at any: whoever looks at each has to fetch each from memory.
struct Slot {
    /// Of its name. Only where the hashes are equal are the names looked at, and a table that grows looks at none.
    hash: Hash,
    /// The sweep during which it was last used.
    used_in_sweep: u32,
    entry: Arc<Entry>,
}

/// Half of a name's hash: two names of a shard with the same one cost no more than a look.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Hash(u32);

impl Hash {
    /// A table looks at the lowest bits and at the uppermost ones.
    fn of_table(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

impl Shard {
    fn get(&self, hash: Hash, name: &StreamName) -> Option<&Slot> {
        self.0.find(hash.of_table(), |slot| slot.is_of(hash, name))
    }

    fn get_mut(&mut self, hash: Hash, name: &StreamName) -> Option<&mut Slot> {
        self.0.find_mut(hash.of_table(), |slot| slot.is_of(hash, name))
    }

    fn insert(&mut self, slot: Slot) {
        self.0
            .insert_unique(slot.hash.of_table(), slot, |slot| slot.hash.of_table());
    }

    /// Answers whether it was there.
    fn remove(&mut self, hash: Hash, entry: &Arc<Entry>) -> bool {
        let is_it = |slot: &Slot| Arc::ptr_eq(&slot.entry, entry);
        let Ok(found) = self.0.find_entry(hash.of_table(), is_it) else {
            return false;
        };
        found.remove();
        true
    }
}

impl Slot {
    fn is_of(&self, hash: Hash, name: &StreamName) -> bool {
        if self.hash != hash {
            return false;
        }
        // Its name stands in the first of its lines, and it is this one but for the rarest of cases.
        ahead::call_for(&*self.entry);
        self.entry.name == *name
    }
}

/// A stream that is about to be looked up, if it is open.
#[must_use = "only its slot has been called for"]
pub struct LookAhead<'r> {
    hash: Hash,
    shard: &'r Mutex<Shard>,
}

impl LookAhead<'_> {
    /// Calls for what is known of the stream, once it has had time to come where that stands.
    pub fn go_on(self) {
        let shard = self.shard.lock();
        if let Some(slot) = shard.0.find(self.hash.of_table(), |slot| slot.hash == self.hash) {
            ahead::call_for(&*slot.entry);
        }
    }
}

/// The registry's own handle is one `Arc` of an entry; every other one is a pin. New pins are made only under
/// the lock of the entry's shard, so an entry that has none while the lock is held can go: whoever gets it from a timer
/// looks then whether it is still there.
pub(super) struct Registry {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    count: AtomicU64,
    /// The number of the sweep that is next.
    next_sweep: AtomicU64,
    /// When to look at the lifetimes of open streams: none is over before that.
    ends: Timers<Entry>,
}

impl Registry {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::default())).collect(),
            hasher: RandomState::default(),
            count: AtomicU64::new(0),
            next_sweep: AtomicU64::new(1),
            ends: Timers::default(),
        }
    }

    /// The hash of a name, and the shard that it falls to, which the other half of the hash chooses.
    fn place(&self, name: &StreamName) -> (Hash, &Mutex<Shard>) {
        let hash = self.hasher.hash_one(name);
        let shard = (hash >> 32) as usize % self.shards.len();
        (Hash(hash as u32), &self.shards[shard])
    }

    pub(super) fn len(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The entry of this name, pinned; a new one, not loaded yet, if there is none. That is a use if it is loaded.
    pub(super) fn pin(&self, name: &StreamName) -> Arc<Entry> {
        let (hash, shard) = self.place(name);
        let mut shard = shard.lock();
        if let Some(slot) = shard.get_mut(hash, name) {
            if slot.entry.loaded.initialized() {
                slot.used_in_sweep = self.next_sweep();
            }
            return Arc::clone(&slot.entry);
        }
        let entry = Arc::new(Entry::new(name.clone()));
        shard.insert(Slot {
            hash,
            used_in_sweep: 0,
            entry: Arc::clone(&entry),
        });
        self.count.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// Calls for where the entry of this name stands, if it is open.
    pub(super) fn look_ahead(&self, name: &StreamName) -> LookAhead<'_> {
        let (hash, shard) = self.place(name);
        let call_for = |slot: &Slot| {
            ahead::call_for(slot);
            // It may be of another name, which is not looked at: there may be several to call for.
            false
        };
        shard.lock().0.find(hash.of_table(), call_for);
        LookAhead { hash, shard }
    }

    /// The entry of this name, if it is open.
    pub(super) fn peek(&self, name: &StreamName) -> Option<Arc<Entry>> {
        let (hash, shard) = self.place(name);
        shard.lock().get(hash, name).map(|slot| Arc::clone(&slot.entry))
    }

    /// Drops an entry from the registry if no stream has its name and only the caller still holds it.
    pub(super) fn unpin_vacant(&self, entry: &Arc<Entry>) {
        let (hash, shard) = self.place(&entry.name);
        let mut shard = shard.lock();
        if Arc::strong_count(entry) != 2 {
            return;
        }
        let mut sequencer = entry.sequencer.lock();
        if sequencer.is_vacant() && shard.remove(hash, entry) {
            self.ends.set(entry, &mut sequencer.timer, None);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes that an entry that was not loaded when it was pinned is used.
    pub(super) fn note_use(&self, entry: &Entry) {
        let (hash, shard) = self.place(&entry.name);
        if let Some(slot) = shard.lock().get_mut(hash, &entry.name) {
            slot.used_in_sweep = self.next_sweep();
        }
    }

    /// Looks at a stream's lifetime when it may be over. Call it whenever the accepted incarnation has become another one;
    /// a use that prolongs its lifetime is found out then.
    pub(super) fn watch_end(&self, entry: &Arc<Entry>, sequencer: &mut Sequencer) {
        if !entry.is_registered {
            return;
        }
        let ends_at = sequencer.ends_at();
        self.ends.set(entry, &mut sequencer.timer, ends_at);
    }

    /// Open streams whose lifetime is over. Those that are not ended are found again.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<Arc<Entry>> {
        let mut due = self.ends.due(now);
        due.retain(|entry| {
            // One that was evicted meanwhile is nobody's any more.
            let pinned = self.peek(&entry.name);
            if !pinned.is_some_and(|pinned| Arc::ptr_eq(&pinned, entry)) {
                return false;
            }
            let mut sequencer = entry.sequencer.lock();
            self.watch_end(entry, &mut sequencer);
            matches!(sequencer.standing(now), Standing::Expired)
        });
        due
    }

    /// Looks at all open streams.
    pub(super) fn look_at_all(&self, mut look: impl FnMut(&Entry)) {
        for shard in &self.shards {
            shard.lock().0.iter().for_each(|slot| look(&slot.entry));
        }
    }

    /// The number of the sweep that is next: all who use a stream until it begins use it in that one. One begins each
    /// second, so the numbers are enough for more than a hundred years.
    pub(super) fn next_sweep(&self) -> u32 {
        self.next_sweep.load(Ordering::Relaxed) as u32
    }

    /// Begins a sweep, and answers its number.
    pub(super) fn begin_sweep(&self) -> u32 {
        self.next_sweep.fetch_add(1, Ordering::Relaxed) as u32
    }

    /// Looks at the sweeps in which all open streams were last used.
    pub(super) fn look_at_uses(&self, mut look: impl FnMut(u32)) {
        for shard in &self.shards {
            shard.lock().0.iter().for_each(|slot| look(slot.used_in_sweep));
        }
    }

    /// Drops the entries of one shard that were last used in sweep `used_until` or before, that nobody pins, that `may_go`
    /// says, which is told the sweep, and that are clean, which they are but for a moment. Answers how many went.
    pub(super) fn evict(
        &self,
        shard: usize,
        used_until: u32,
        mut may_go: impl FnMut(&Entry, u32) -> bool,
    ) -> u64 {
        let mut shard = self.shards[shard].lock();
        let before = shard.0.len();
        shard.0.retain(|slot| {
            let (entry, last_used) = (&slot.entry, slot.used_in_sweep);
            let goes = last_used <= used_until
                && Arc::strong_count(entry) == 1
                && may_go(entry, last_used)
                && self.is_let_go(entry);
            !goes
        });
        let evicted = (before - shard.0.len()) as u64;
        self.count.fetch_sub(evicted, Ordering::Relaxed);
        evicted
    }

    /// Whether an entry is clean. Its lifetime is not looked at any more then.
    fn is_let_go(&self, entry: &Arc<Entry>) -> bool {
        let mut sequencer = entry.sequencer.lock();
        let is_clean = sequencer.is_clean();
        if is_clean {
            self.ends.set(entry, &mut sequencer.timer, None);
        }
        is_clean
    }
}

// The model checker's locks work only within a model.
#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use tailwater_stream::{
        ContentType, CreateRequest, Created, Lifetime, Lineage, NameLimits, Position, StreamId, StreamKind,
        StreamState,
    };

    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text, NameLimits::default()).expect("a name")
    }

    fn opened(registry: &Registry) -> Arc<Entry> {
        let id = StreamId::new(1).expect("not 0");
        let state = StreamState::created(&Created {
            id,
            name: name("a"),
            kind: StreamKind::Plain,
            beside: None,
            content_type: ContentType::default(),
            lifetime: Lifetime::Ttl { seconds: 3_600 },
            requested: CreateRequest::default(),
            lineage: Lineage::root(id),
            source: None,
            oldest: Position::default(),
            messages: 0,
            at: Timestamp::default(),
        });
        let entry = registry.pin(&name("a"));
        let mut sequencer = entry.sequencer.lock();
        sequencer.load(Some(state));
        registry.watch_end(&entry, &mut sequencer);
        drop(sequencer);
        entry
    }

    /// Streams that come and go would have left their ends behind each time, for as long as they live.
    #[test]
    fn the_end_of_an_evicted_stream_is_not_waited_for() {
        let registry = Registry::new(1);
        drop(opened(&registry));
        assert_eq!(registry.ends.len(), 1);
        let sweep = registry.begin_sweep();
        assert_eq!(registry.evict(0, sweep, |_, _| false), 0);
        assert_eq!(registry.ends.len(), 1);
        assert_eq!(registry.evict(0, sweep, |_, _| true), 1);
        assert_eq!((registry.len(), registry.ends.len()), (0, 0));
    }

    /// What an importer prepares has the name of the stream that it may replace, and is not in the registry.
    #[test]
    fn the_end_of_a_stream_that_is_not_registered_is_not_waited_for() {
        let registry = Registry::new(1);
        let real = opened(&registry);
        let other = Arc::new(Entry::unregistered(name("a")));
        let mut sequencer = other.sequencer.lock();
        sequencer.load(real.sequencer.lock().accepted().cloned());
        registry.watch_end(&other, &mut sequencer);
        drop(sequencer);
        assert_eq!(registry.ends.len(), 1);
        assert_eq!(registry.expired(Timestamp::from_millis(u64::MAX >> 16)).len(), 1);
        let vacant = Arc::new(Entry::unregistered(name("a")));
        let _second = Arc::clone(&vacant);
        registry.unpin_vacant(&vacant);
        assert!(Arc::ptr_eq(&registry.pin(&name("a")), &real));
    }

    /// It is found by its timer at the same moment.
    #[test]
    fn a_stream_that_was_evicted_meanwhile_is_not_ended() {
        let registry = Registry::new(1);
        let entry = opened(&registry);
        let (hash, shard) = registry.place(&entry.name);
        assert!(shard.lock().remove(hash, &entry));
        assert!(
            registry
                .expired(Timestamp::from_millis(u64::MAX >> 16))
                .is_empty()
        );
        assert_eq!(registry.ends.len(), 0);
    }

    #[test]
    fn names_of_one_hash_are_told_apart() {
        let (one, other) = (name("one"), name("other"));
        let hash = Hash(7);
        let mut shard = Shard::default();
        for name in [&one, &other] {
            assert!(shard.get(hash, name).is_none());
            shard.insert(Slot {
                hash,
                used_in_sweep: 1,
                entry: Arc::new(Entry::new(name.clone())),
            });
        }
        let entry = Arc::clone(&shard.get(hash, &one).expect("there").entry);
        assert!(shard.remove(hash, &entry));
        assert!(shard.get(hash, &one).is_none());
        assert_eq!(shard.get(hash, &other).expect("there").entry.name, other);
    }

    #[test]
    fn looking_ahead_opens_nothing_and_finds_what_is_open() {
        let registry = Registry::new(4);
        registry.look_ahead(&name("a")).go_on();
        assert_eq!(registry.len(), 0);
        let entry = opened(&registry);
        registry.look_ahead(&name("a")).go_on();
        assert_eq!((registry.len(), Arc::strong_count(&entry)), (1, 2));
        assert!(Arc::ptr_eq(&entry, &registry.pin(&name("a"))));
    }
}
