//! What the journals say that the catalog does not know yet: one generation of changes, in memory.
//!
//! Every value is absolute and not a difference, so that applying an overlay to a catalog that already holds it
//! changes nothing. That is what makes a fold atomic for those who read meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, MutexGuard};
use tailwater_stream::{
    Append, Created, ForkSource, Part, Position, ProducerId, ProducerMark, ProducerState, Producers,
    StreamId, StreamName, StreamState, Timestamp, Transition,
};

use super::catalog::StreamRow;
use super::journal::PartPlace;

use crate::stream_tables::deadline;

const SHARDS: usize = 64;
/// What a changed stream takes of memory beside its texts: estimated, and counted to know when to fold.
const DELTA_BYTES: u64 = 512;
/// What a text or a producer takes beside its bytes.
const ENTRY_BYTES: u64 = 128;

type Map<K, V> = HashMap<K, V, RandomState>;
type Set<K> = HashSet<K, RandomState>;

/// Where the bytes of one append stand in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JournalExtent {
    pub(super) from: u64,
    pub(super) journal: u64,
    pub(super) meta_at: u32,
    pub(super) meta_len: u32,
    pub(super) payload_at: u32,
    pub(super) payload_len: u32,
}

impl JournalExtent {
    pub(super) fn until(&self) -> u64 {
        self.from + u64::from(self.payload_len)
    }

    /// The entry's range in the journal.
    pub(super) fn meta(&self) -> std::ops::Range<u64> {
        let at = u64::from(self.meta_at);
        at..at + u64::from(self.meta_len)
    }

    /// The range in the journal of the bytes between two positions.
    pub(super) fn payload(&self, from: u64, until: u64) -> std::ops::Range<u64> {
        let at = u64::from(self.payload_at);
        at + (from - self.from)..at + (until - self.from)
    }
}

/// What the appends of a generation have made of a stream.
#[derive(Debug, Clone)]
struct Moved {
    tail: Position,
    messages: u64,
    closed: bool,
    last_append_at: Option<Timestamp>,
    /// Where the first bytes of this generation begin.
    first_bytes_at: Option<Position>,
}

/// What a generation says of one stream. What every append changes comes first and stands together, for where there are very
/// many streams it has to be fetched from memory each time.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Delta {
    /// In order of position, without gaps.
    pub(super) extents: Vec<JournalExtent>,
    touched_at: Timestamp,
    moved: Option<Moved>,
    stream_seq: Option<Box<str>>,
    producers: Map<ProducerId, ProducerState>,
    created: Option<Box<Created>>,
    /// What a completed import says of it, but for its producers.
    imported: Option<Box<StreamState>>,
    oldest: Option<Position>,
    /// Its own bytes before this position can go.
    pub(super) stored_from: Option<Position>,
    pub(super) controls: BTreeMap<Bytes, Option<Bytes>>,
    /// Whether what was created is being imported, and not completely there.
    staged: bool,
    deleted: bool,
    /// Everything of it can go.
    pub(super) released: bool,
}

impl Delta {
    pub(super) fn created(&self) -> Option<&Created> {
        self.created.as_deref()
    }

    /// The name that the stream was given in this generation, and its source; none if it was given none.
    pub(super) fn named(&self) -> Option<(&StreamName, Option<&ForkSource>)> {
        let created = self.created().filter(|_| !self.staged);
        match &self.imported {
            Some(state) => Some((&state.name, state.source.as_ref())),
            None => created.map(|created| (&created.name, created.source.as_ref())),
        }
    }

    /// Whether an import was completed in this generation.
    pub(super) fn is_imported(&self) -> bool {
        self.imported.is_some()
    }

    /// Whether it was trimmed in this generation.
    pub(super) fn is_trimmed(&self) -> bool {
        self.oldest.is_some()
    }

    pub(super) fn producers(&self) -> impl Iterator<Item = (&ProducerId, &ProducerState)> {
        self.producers.iter()
    }

    /// Applies it to what the catalog, or an older generation, says. Appends belong to `era`.
    pub(super) fn apply_to(&self, row: &mut Option<StreamRow>, era: u64) {
        if self.released {
            *row = None;
            return;
        }
        if let (None, Some(created)) = (&row, &self.created) {
            let state = StreamState::created(created);
            *row = Some(StreamRow {
                era,
                stored_from: state.tail,
                state,
                staged: self.staged,
                last_block: Vec::new(),
            });
        }
        let Some(row) = row else { return };
        if let Some(imported) = &self.imported {
            row.state.clone_from(imported);
            row.staged = false;
            row.era = era;
        }
        let state = &mut row.state;
        if let Some(moved) = &self.moved {
            if let Some(from) = moved.first_bytes_at.filter(|_| row.era != era) {
                state.lineage = renewed(&state.lineage, from, era);
                row.era = era;
            }
            state.tail = moved.tail;
            state.messages = moved.messages;
            state.closed = moved.closed;
            state.last_append_at = moved.last_append_at.or(state.last_append_at);
        }
        if self.stream_seq.is_some() {
            state.stream_seq.clone_from(&self.stream_seq);
        }
        for (id, known) in &self.producers {
            let mark = ProducerMark {
                id: id.clone(),
                epoch: known.epoch,
                seq: known.seq,
            };
            state.producers.record(&mark, known.end, known.at);
        }
        state.oldest = self
            .oldest
            .map_or(state.oldest, |oldest| state.oldest.max(oldest));
        state.touched_at = state.touched_at.max(self.touched_at);
        state.deleted |= self.deleted;
        row.stored_from = self
            .stored_from
            .map_or(row.stored_from, |from| row.stored_from.max(from));
    }

    /// Says all of it anew but where its bytes are.
    fn import(&mut self, state: &StreamState, place: PartPlace) -> u64 {
        self.moved = None;
        self.stream_seq = None;
        self.oldest = None;
        self.touched_at = state.touched_at;
        self.deleted = state.deleted;
        self.producers = state
            .producers
            .iter()
            .map(|(id, state)| (id.clone(), *state))
            .collect();
        self.imported = Some(Box::new(StreamState {
            producers: Producers::default(),
            ..state.clone()
        }));
        let producer_bytes = |id: &ProducerId| ENTRY_BYTES + id.as_str().len() as u64;
        DELTA_BYTES + text_bytes(&state.name, place) + self.producers.keys().map(producer_bytes).sum::<u64>()
    }

    fn append(&mut self, append: &Append, journal: u64, place: PartPlace) -> u64 {
        let has_bytes = !append.payload.is_empty();
        let before = self.moved.as_ref();
        let first_bytes_at = before.and_then(|moved| moved.first_bytes_at);
        self.moved = Some(Moved {
            tail: append.end(),
            messages: append.first_message + append.message_count(),
            closed: append.closes,
            last_append_at: if has_bytes {
                Some(append.at)
            } else {
                before.and_then(|moved| moved.last_append_at)
            },
            first_bytes_at: first_bytes_at.or(has_bytes.then_some(append.start)),
        });
        self.touched_at = self.touched_at.max(append.at);
        let mut bytes = 0;
        if has_bytes {
            bytes += size_of::<JournalExtent>() as u64;
            self.extents.push(JournalExtent {
                from: append.start.get(),
                journal,
                meta_at: place.meta_at,
                meta_len: place.meta_len,
                payload_at: place.payload_at,
                payload_len: u32::try_from(append.payload.len()).expect("journals are below 4 GiB"),
            });
        }
        if let Some(mark) = &append.producer {
            let known = ProducerState {
                epoch: mark.epoch,
                seq: mark.seq,
                end: append.end(),
                at: append.at,
            };
            if let Some(before) = self.producers.get_mut(&mark.id) {
                *before = known;
            } else {
                bytes += ENTRY_BYTES + mark.id.as_str().len() as u64;
                self.producers.insert(mark.id.clone(), known);
            }
        }
        if let Some(stream_seq) = &append.stream_seq {
            let known = self.stream_seq.as_ref().map_or(0, |known| known.len());
            bytes += stream_seq.len().saturating_sub(known) as u64;
            self.stream_seq = Some(stream_seq.clone());
        }
        bytes
    }
}

/// What the texts of a new stream take: those of its entry, and its name once more to find it by.
fn text_bytes(name: &StreamName, place: PartPlace) -> u64 {
    u64::from(place.meta_len) + name.as_str().len() as u64
}

/// The lineage of a stream whose positions from `from` on may have been given out in an earlier era and lost:
/// what is appended there has the era for its owner.
pub(super) fn renewed(
    lineage: &tailwater_stream::Lineage,
    from: Position,
    era: u64,
) -> tailwater_stream::Lineage {
    StreamId::new(era).map_or_else(|| lineage.clone(), |owner| lineage.renewed(from, owner))
}

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

/// One generation of changes.
pub(super) struct Overlay {
    shards: Vec<Mutex<Map<StreamId, Delta>>>,
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
            shards: (0..SHARDS).map(|_| Mutex::new(Map::default())).collect(),
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
    pub(super) fn shard(&self, id: StreamId) -> MutexGuard<'_, Map<StreamId, Delta>> {
        self.shards[id.get() as usize % SHARDS].lock()
    }

    /// Looks at what is said of a stream, if anything is.
    pub(super) fn with<T>(&self, id: StreamId, look: impl FnOnce(&Delta) -> T) -> Option<T> {
        self.shard(id).get(&id).map(look)
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
        let of_shard = |shard: &Mutex<Map<StreamId, Delta>>| shard.lock().keys().copied().collect::<Vec<_>>();
        let mut ids: Vec<_> = self.shards.iter().flat_map(of_shard).collect();
        ids.sort_unstable();
        ids
    }

    fn grow(&self, bytes: u64) {
        self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn change(&self, id: StreamId, change: impl FnOnce(&mut Delta) -> u64) {
        let mut shard = self.shard(id);
        let known = shard.len();
        let bytes = change(shard.entry(id).or_default());
        let added = shard.len() > known;
        drop(shard);
        self.grow(bytes + if added { DELTA_BYTES } else { 0 });
    }

    /// Applies a part that stands in a journal.
    pub(super) fn apply(&self, part: &Part, journal: u64, place: PartPlace) {
        match part {
            Part::Stream { id, transition } => match transition {
                Transition::Create(created) => self.create(created, place),
                Transition::Stage(created) => self.stage(created, place),
                Transition::Import(state) => self.import(state, place),
                Transition::Append(append) => {
                    self.change(*id, |delta| delta.append(append, journal, place));
                    self.stored_bytes
                        .fetch_add(append.payload.len() as i64, Ordering::Relaxed);
                }
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
            let (created, imported) = (delta.created.take(), delta.imported.take());
            *delta = Delta {
                created,
                staged: delta.staged,
                imported,
                deleted: true,
                released: true,
                ..Delta::default()
            };
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
