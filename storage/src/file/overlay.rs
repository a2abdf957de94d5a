//! What the journals say that the catalog does not know yet: one generation of changes, in memory.
//!
//! Every value is absolute and not a difference, so that applying an overlay to a catalog that already holds it
//! changes nothing. That is what makes a fold atomic for those who read meanwhile.

mod delta;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};
use tailwater_stream::{
    Append, Created, Part, Position, StreamId, StreamName, StreamState, Timestamp, Transition,
};

use super::journal::PartPlace;
use crate::stream_tables::deadline;
use delta::text_bytes;
pub(super) use delta::{Delta, JournalExtent, renewed};

const SHARDS: usize = 16;
/// Streams whose ids follow each other share a shard by so many, since a fold goes through them in that order.
const NEIGHBOURS: u64 = 16;
/// A batch's appends are applied in groups of so many at the most, for each of which a shard is locked.
const APPLIED_TOGETHER: usize = 64;
/// What a changed stream takes of memory beside its texts: estimated, and counted to know when to fold.
const DELTA_BYTES: u64 = 512;
/// What a text or a producer takes beside its bytes.
const ENTRY_BYTES: u64 = 128;

type Map<K, V> = HashMap<K, V, RandomState>;
type Set<K> = HashSet<K, RandomState>;

/// What concerns more than one stream.
#[derive(Debug, Default)]
struct Indexes {
    names: BTreeMap<StreamName, StreamId>,
    /// Forks made in this generation, by their sources.
    forks: Map<StreamId, Vec<StreamId>>,
    /// Streams made in this generation whose lifetime ends, by when to look at them.
    deadlines: BTreeSet<(Timestamp, StreamId)>,
    deleted: Set<StreamId>,
}

/// What is said of the streams of a shard.
type Shard = Map<StreamId, Delta>;

/// An append that stands in a journal.
struct Placed<'a> {
    stream: StreamId,
    append: &'a Append,
    place: PartPlace,
}

/// One generation of changes.
pub(super) struct Overlay {
    /// Whoever folds a generation only looks, and so keeps no reader waiting.
    shards: Vec<RwLock<Shard>>,
    indexes: Mutex<Indexes>,
    /// What it takes of memory, about.
    memory_bytes: AtomicU64,
    /// When something was first given back in it, which is in no journal.
    given_back_at: OnceLock<Instant>,
    /// Streams that this generation adds to the store, less those that it takes away.
    streams: AtomicI64,
    /// Likewise stored bytes.
    stored_bytes: AtomicI64,
}

impl Default for Overlay {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::new(Shard::default())).collect(),
            indexes: Mutex::new(Indexes::default()),
            memory_bytes: AtomicU64::new(0),
            given_back_at: OnceLock::new(),
            streams: AtomicI64::new(0),
            stored_bytes: AtomicI64::new(0),
        }
    }
}

impl Overlay {
    /// The shard that says whether and how a stream has changed.
    fn shard(&self, id: StreamId) -> &RwLock<Shard> {
        &self.shards[shard_of(id)]
    }

    /// Looks at what is said of a stream, if anything is.
    pub(super) fn with<T>(&self, id: StreamId, look: impl FnOnce(&Delta) -> T) -> Option<T> {
        self.shard(id).read().get(&id).map(look)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.memory_bytes.load(Ordering::Relaxed) == 0
    }

    /// When a release or a reclaim was first noted, neither of which is a batch of the journals.
    pub(super) fn given_back_at(&self) -> Option<Instant> {
        self.given_back_at.get().copied()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn streams(&self) -> i64 {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn stored_bytes(&self) -> i64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    /// Every changed stream, in order of id.
    pub(super) fn ids(&self) -> Vec<StreamId> {
        let of_shard = |shard: &RwLock<Shard>| shard.read().keys().copied().collect::<Vec<_>>();
        let mut ids: Vec<_> = self.shards.iter().flat_map(of_shard).collect();
        ids.sort_unstable();
        ids
    }

    fn grow(&self, bytes: u64) {
        self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn change(&self, id: StreamId, change: impl FnOnce(&mut Delta) -> u64) {
        let bytes = change_in(&mut self.shard(id).write(), id, change);
        self.grow(bytes);
    }

    /// Calls for what is said of these streams, best neighbours: it is scattered over the memory, so that whoever looks at one
    /// after the other waits for each by itself. Called for one right after the other, they come together.
    pub(super) fn call_for(&self, ids: &[StreamId]) {
        for neighbours in ids.chunk_by(|one, next| shard_of(*one) == shard_of(*next)) {
            call_for_in(&self.shard(neighbours[0]).read(), neighbours.iter().copied());
        }
    }

    /// Applies the parts of a batch, which stand in a journal. The outcome is as if one after the other; whoever looks meanwhile
    /// may find an append to one stream before an earlier one to another.
    pub(super) fn apply_all<'a>(&self, parts: impl Iterator<Item = (&'a Part, PartPlace)>, journal: u64) {
        let mut appends = Vec::with_capacity(parts.size_hint().1.unwrap_or(0));
        for (part, place) in parts {
            match part {
                Part::Stream {
                    id,
                    transition: Transition::Append(append),
                } => appends.push(Placed {
                    stream: *id,
                    append,
                    place,
                }),
                other => {
                    self.append_all(&mut appends, journal);
                    appends.clear();
                    self.apply(other, journal, place);
                }
            }
        }
        self.append_all(&mut appends, journal);
    }

    /// Applies appends of one journal. Those of each stream keep their order, and that of the others is of no account.
    fn append_all(&self, appends: &mut [Placed<'_>], journal: u64) {
        if appends.is_empty() {
            return;
        }
        let key = |placed: &Placed<'_>| (shard_of(placed.stream), placed.place.meta_at);
        if !appends.is_sorted_by_key(key) {
            appends.sort_unstable_by_key(key);
        }
        let (mut memory_bytes, mut stored_bytes) = (0, 0);
        let of_shards = appends.chunk_by(|one, next| shard_of(one.stream) == shard_of(next.stream));
        for group in of_shards.flat_map(|of_shard| of_shard.chunks(APPLIED_TOGETHER)) {
            let mut shard = self.shard(group[0].stream).write();
            if group.len() > 1 {
                call_for_in(&shard, group.iter().map(|placed| placed.stream));
            }
            for Placed {
                stream,
                append,
                place,
            } in group
            {
                memory_bytes += change_in(&mut shard, *stream, |delta| delta.append(append, journal, *place));
                stored_bytes += append.payload.len() as i64;
            }
        }
        self.grow(memory_bytes);
        self.stored_bytes.fetch_add(stored_bytes, Ordering::Relaxed);
    }

    /// Applies a part that stands in a journal.
    pub(super) fn apply(&self, part: &Part, journal: u64, place: PartPlace) {
        match part {
            Part::Stream { id, transition } => match transition {
                Transition::Create(created) => self.create(created, place),
                Transition::Stage(created) => self.stage(created, place),
                Transition::Import(state) => self.import(state, place),
                Transition::Append(append) => self.append_all(
                    &mut [Placed {
                        stream: *id,
                        append,
                        place,
                    }],
                    journal,
                ),
                Transition::Delete { .. } => {
                    self.change(*id, |delta| {
                        delta.deleted = true;
                        0
                    });
                    self.indexes.lock().deleted.insert(*id);
                }
                Transition::Trim { before, at } => self.change(*id, |delta| {
                    delta.oldest = delta.oldest.max(Some(*before));
                    delta.touched_at = delta.touched_at.max(*at);
                    0
                }),
                Transition::Touch { at } => self.change(*id, |delta| {
                    delta.touched_at = delta.touched_at.max(*at);
                    0
                }),
            },
            Part::Control(change) => self.change(change.stream, |delta| {
                let value_bytes = change.value.as_ref().map_or(0, Bytes::len);
                // The key and value may be slices of a whole request or of a journal's map.
                let value = change.value.as_deref().map(Bytes::copy_from_slice);
                delta.controls.insert(Bytes::copy_from_slice(&change.key), value);
                ENTRY_BYTES + (change.key.len() + value_bytes) as u64
            }),
        }
    }

    fn create(&self, created: &Created, place: PartPlace) {
        self.begin(created, place, false);
        self.show(&StreamState::created(created));
    }

    fn stage(&self, created: &Created, place: PartPlace) {
        self.begin(created, place, true);
        self.indexes.lock().deleted.insert(created.id);
    }

    fn begin(&self, created: &Created, place: PartPlace, staged: bool) {
        let text_bytes = text_bytes(&created.name, place);
        self.change(created.id, |delta| {
            delta.created = Some(Box::new(created.clone()));
            delta.staged = staged;
            delta.deleted = staged;
            delta.touched_at = created.at;
            DELTA_BYTES + text_bytes
        });
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    fn import(&self, state: &StreamState, place: PartPlace) {
        self.change(state.id, |delta| delta.import(state, place));
        self.show(state);
    }

    /// Lets a stream be found by its name, its source and its deadline.
    fn show(&self, state: &StreamState) {
        let mut indexes = self.indexes.lock();
        indexes.names.insert(state.name.clone(), state.id);
        if let Some(source) = &state.source {
            indexes.forks.entry(source.id).or_default().push(state.id);
        }
        if state.deleted {
            indexes.deleted.insert(state.id);
        } else {
            indexes.deleted.remove(&state.id);
        }
        let deadline = deadline(state).map(|at| (at, state.id));
        indexes.deadlines.extend(deadline);
    }

    /// Notes that everything of a deleted stream can go, which stores `bytes`.
    pub(super) fn release(&self, id: StreamId, bytes: u64) {
        self.change(id, |delta| {
            delta.release();
            0
        });
        self.streams.fetch_sub(1, Ordering::Relaxed);
        self.give_back(bytes);
    }

    /// Notes that a stream's own bytes before `from` can go, which are `bytes`.
    pub(super) fn reclaim(&self, id: StreamId, from: Position, bytes: u64) {
        self.change(id, |delta| {
            delta.stored_from = delta.stored_from.max(Some(from));
            0
        });
        self.give_back(bytes);
    }

    fn give_back(&self, bytes: u64) {
        self.stored_bytes.fetch_sub(bytes as i64, Ordering::Relaxed);
        self.given_back_at.get_or_init(Instant::now);
    }

    pub(super) fn id_of(&self, name: &StreamName) -> Option<StreamId> {
        self.indexes.lock().names.get(name).copied()
    }

    /// Names given in this generation that begin with `prefix` and stand behind `after`, in order.
    pub(super) fn names(
        &self,
        prefix: &str,
        after: Option<&str>,
        count_max: usize,
    ) -> Vec<(StreamName, StreamId)> {
        use std::ops::Bound;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let indexes = self.indexes.lock();
        let names = indexes.names.range::<str, _>((from, Bound::Unbounded));
        names
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .take(count_max)
            .map(|(name, id)| (name.clone(), *id))
            .collect()
    }

    pub(super) fn forks_of(&self, source: StreamId) -> Vec<StreamId> {
        self.indexes
            .lock()
            .forks
            .get(&source)
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn deleted(&self) -> Vec<StreamId> {
        self.indexes.lock().deleted.iter().copied().collect()
    }

    /// Streams of this generation to look at, because their lifetime may be over.
    pub(super) fn deadlines(&self, now: Timestamp) -> Vec<(Timestamp, StreamId)> {
        let indexes = self.indexes.lock();
        let due = indexes.deadlines.iter().take_while(|(at, _)| *at <= now);
        due.copied().collect()
    }

    /// Looks at a stream at another time; never, if there is none.
    pub(super) fn look_again(&self, old: (Timestamp, StreamId), at: Option<Timestamp>) {
        let mut indexes = self.indexes.lock();
        indexes.deadlines.remove(&old);
        indexes.deadlines.extend(at.map(|at| (at, old.1)));
    }

    /// Whether an import of this generation made it a stream that is not deleted.
    pub(super) fn is_alive_by_import(&self, id: StreamId) -> bool {
        self.with(id, |delta| delta.is_imported() && !delta.deleted)
            .unwrap_or(false)
    }

    pub(super) fn is_released(&self, id: StreamId) -> bool {
        self.with(id, |delta| delta.released).unwrap_or(false)
    }
}

fn shard_of(id: StreamId) -> usize {
    (id.get() / NEIGHBOURS) as usize % SHARDS
}

/// Answers what it takes of memory.
fn change_in(shard: &mut Shard, id: StreamId, change: impl FnOnce(&mut Delta) -> u64) -> u64 {
    let known = shard.len();
    let bytes = change(shard.entry(id).or_default());
    let added = shard.len() > known;
    bytes + if added { DELTA_BYTES } else { 0 }
}

/// Looks at what is said of each stream, and does nothing with it: so nothing waits for it.
fn call_for_in(shard: &Shard, ids: impl Iterator<Item = StreamId>) {
    let looked_at = ids.filter_map(|id| shard.get(&id)).map(Delta::call_for);
    std::hint::black_box(looked_at.fold(0, |seen, looked_at| seen ^ looked_at));
}
