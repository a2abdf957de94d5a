//! The backend that keeps everything on the heap, within a budget. Nothing survives the process.
//!
//! Full means refused: nothing is evicted to make room. What is deleted, trimmed or expired gives its share of
//! the budget back exactly.

mod budget;
mod chunks;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use tailwater_stream::{
    AppendExtent, Part, Record, StreamId, StreamName, StreamState, Timestamp, Transition,
};

use crate::backend::{
    Backend, BackendError, ControlsRequest, ListRequest, Nature, Outcome, Outcomes, ReadError, ReadRequest,
    Slices, Usage,
};
use crate::reachable::oldest_reachable;
use crate::sync::{Mutex, RwLock};
use budget::Budget;
use stored::Stored;

type Map<K, V> = HashMap<K, V, RandomState>;
type SharedStream = Arc<Mutex<Stored>>;

const SHARDS: usize = 64;

/// A backend on the heap.
pub struct Memory {
    budget: Budget,
    /// Stored streams by id, in shards so that appends to different streams rarely meet.
    streams: Vec<RwLock<Map<StreamId, SharedStream>>>,
    names: RwLock<BTreeMap<StreamName, StreamId>>,
    /// Direct forks of each stream that has any, deleted ones included until they are released.
    forks: Mutex<Map<StreamId, HashSet<StreamId, RandomState>>>,
    /// When to look at a stream that has a lifetime. Uses since may have moved its end.
    deadlines: Mutex<BTreeSet<(Timestamp, StreamId)>>,
    last_id: AtomicU64,
}

impl Memory {
    /// An empty backend that stores at most `bytes_max`.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            budget: Budget::new(bytes_max),
            streams: (0..SHARDS).map(|_| RwLock::new(Map::default())).collect(),
            names: RwLock::new(BTreeMap::new()),
            forks: Mutex::new(Map::default()),
            deadlines: Mutex::new(BTreeSet::new()),
            last_id: AtomicU64::new(0),
        }
    }

    fn shard(&self, id: StreamId) -> &RwLock<Map<StreamId, SharedStream>> {
        // Ids of streams created together are neighbours, so the low bits spread them best.
        &self.streams[id.get() as usize % SHARDS]
    }

    fn stored(&self, id: StreamId) -> Option<SharedStream> {
        self.shard(id).read().get(&id).cloned()
    }

    fn existing(&self, id: StreamId) -> SharedStream {
        self.stored(id)
            .expect("the engine commits only to streams that exist")
    }

    fn commit_record(&self, record: &Record) -> Outcome {
        let cost = record.parts.iter().map(|part| self.cost_of(part)).sum();
        if !self.budget.take(cost) {
            return Outcome::Full;
        }
        let used: u64 = record.parts.iter().map(|part| self.apply(part)).sum();
        // A producer that appears twice in the record was counted twice, for it was not known yet.
        if used < cost {
            self.budget.give_back(cost - used);
        }
        Outcome::Durable
    }

    fn cost_of(&self, part: &Part) -> u64 {
        match part {
            Part::Stream {
                transition: Transition::Create(created) | Transition::Stage(created),
                ..
            } => stored::cost_of_stream(created),
            Part::Stream {
                transition: Transition::Import(state),
                ..
            } => stored::cost_of_import(state),
            Part::Stream {
                id,
                transition: Transition::Append(append),
            } => {
                // The stream may be created by the same record, and then it knows no producer yet.
                let known = append.producer.as_ref().is_some_and(|mark| {
                    self.stored(*id)
                        .is_some_and(|stored| stored.lock().knows_producer(&mark.id))
                });
                stored::cost_of_append(append, known)
            }
            Part::Stream { .. } => 0,
            Part::Control(change) => stored::cost_of_control(change),
        }
    }

    /// Answers what the part takes of the budget.
    fn apply(&self, part: &Part) -> u64 {
        match part {
            Part::Stream {
                transition: Transition::Create(created),
                ..
            } => {
                let state = StreamState::created(created);
                let cost = self.begin(state.clone());
                self.show(&state);
                cost
            }
            Part::Stream {
                transition: Transition::Stage(created),
                ..
            } => self.begin(StreamState::staged(created)),
            Part::Stream {
                id,
                transition: Transition::Import(state),
            } => {
                let cost = self.existing(*id).lock().import(state);
                self.show(state);
                cost
            }
            Part::Stream { id, transition } => self.existing(*id).lock().apply(transition),
            Part::Control(change) => {
                let freed = self.existing(change.stream).lock().apply_control(change);
                self.budget.give_back(freed);
                stored::cost_of_control(change)
            }
        }
    }

    /// Keeps a stream that nobody can find yet; answers what it costs.
    fn begin(&self, state: StreamState) -> u64 {
        let id = state.id;
        let stored = Stored::new(state);
        let cost = stored.cost();
        self.last_id.fetch_max(id.get(), Ordering::Relaxed);
        self.shard(id).write().insert(id, Arc::new(Mutex::new(stored)));
        cost
    }

    /// Lets a stream be found by its name, its source and its deadline.
    fn show(&self, state: &StreamState) {
        if let Some(at) = self.existing(state.id).lock().look_at() {
            self.deadlines.lock().insert((at, state.id));
        }
        if let Some(source) = &state.source {
            self.forks.lock().entry(source.id).or_default().insert(state.id);
        }
        self.names.write().insert(state.name.clone(), state.id);
    }
}

impl Backend for Memory {
    fn nature(&self) -> Nature {
        Nature {
            partitions: 1,
            commits_inline: true,
            answers_inline: true,
        }
    }

    fn partition_of(&self, _: StreamId) -> usize {
        0
    }

    fn commit(&self, _: usize, batch: &[Record]) -> Result<Outcomes, BackendError> {
        if let [record] = batch {
            return Ok(smallvec::smallvec![self.commit_record(record)]);
        }
        let mut refused = HashSet::<StreamId, RandomState>::default();
        let outcomes = batch.iter().map(|record| {
            let follows_a_refused_one = record.streams().any(|stream| refused.contains(&stream));
            let outcome = if follows_a_refused_one {
                Outcome::Full
            } else {
                self.commit_record(record)
            };
            if outcome != Outcome::Durable {
                refused.extend(record.streams());
            }
            outcome
        });
        Ok(outcomes.collect())
    }

    fn read(&self, request: ReadRequest) -> Result<Slices, ReadError> {
        let stored = self.stored(request.stream).ok_or(ReadError::Gone)?;
        let stored = stored.lock();
        stored.read(request)
    }

    fn extents(&self, request: ReadRequest) -> Result<Vec<AppendExtent>, ReadError> {
        let stored = self.stored(request.stream).ok_or(ReadError::Gone)?;
        let stored = stored.lock();
        stored.extents(request)
    }

    fn load(&self, name: &StreamName) -> Result<Option<StreamState>, BackendError> {
        let id = self.names.read().get(name).copied();
        Ok(id
            .and_then(|id| self.stored(id))
            .map(|stored| stored.lock().state().clone()))
    }

    fn list(&self, request: &ListRequest<'_>) -> Result<Vec<StreamState>, BackendError> {
        use std::ops::Bound;
        let from = match request.after {
            Some(after) if after >= request.prefix => Bound::Excluded(after),
            _ => Bound::Included(request.prefix),
        };
        let names = self.names.read();
        let states = names
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.as_str().starts_with(request.prefix))
            .filter_map(|(_, id)| self.stored(*id))
            .filter_map(|stored| {
                let stored = stored.lock();
                (!stored.state().deleted).then(|| stored.state().clone())
            });
        Ok(states.take(request.count_max).collect())
    }

    fn has_forks(&self, id: StreamId) -> Result<bool, BackendError> {
        Ok(self.forks.lock().contains_key(&id))
    }

    fn release(&self, id: StreamId) -> Result<Option<StreamId>, BackendError> {
        let Some(stored) = self.shard(id).write().remove(&id) else {
            return Ok(None);
        };
        let (cost, name, source, look_at) = {
            let stored = stored.lock();
            let state = stored.state();
            assert!(state.deleted, "stream {id} is released but not deleted");
            (
                stored.cost(),
                state.name.clone(),
                state.source.clone(),
                stored.look_at(),
            )
        };
        self.budget.give_back(cost);
        if let Some(at) = look_at {
            self.deadlines.lock().remove(&(at, id));
        }
        {
            let mut names = self.names.write();
            if names.get(&name) == Some(&id) {
                names.remove(&name);
            }
        }
        let Some(source) = source else { return Ok(None) };
        {
            let mut forks = self.forks.lock();
            if let Some(siblings) = forks.get_mut(&source.id) {
                siblings.remove(&id);
                if siblings.is_empty() {
                    forks.remove(&source.id);
                }
            }
        }
        let source_is_deleted = self
            .stored(source.id)
            .is_some_and(|source| source.lock().state().deleted);
        Ok(source_is_deleted.then_some(source.id))
    }

    fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        let of_shard = |shard: &RwLock<Map<StreamId, SharedStream>>| {
            let shard = shard.read();
            let deleted = shard.values().filter_map(|stored| {
                let stored = stored.lock();
                stored.state().deleted.then(|| stored.state().id)
            });
            deleted.collect::<Vec<_>>()
        };
        Ok(self.streams.iter().flat_map(of_shard).collect())
    }

    fn reclaim(&self, id: StreamId) -> Result<(), BackendError> {
        let forks_of = |source: StreamId| {
            let forks = self.forks.lock();
            let forks = forks.get(&source).into_iter().flatten();
            Ok::<_, BackendError>(forks.copied().collect())
        };
        let state_of = |id| Ok(self.stored(id).map(|stored| stored.lock().state().clone()));
        let reachable = oldest_reachable(id, forks_of, state_of)?;
        // Under the lock of the shard, for a release meanwhile would give the same bytes back once more.
        if let Some(stored) = self.shard(id).read().get(&id) {
            self.budget.give_back(stored.lock().forget_before(reachable));
        }
        Ok(())
    }

    fn due(&self, now: Timestamp, count_max: usize) -> Result<Vec<StreamName>, BackendError> {
        let mut due = Vec::new();
        let mut again = Vec::new();
        while due.len() < count_max {
            let Some((at, id)) = ({
                let mut deadlines = self.deadlines.lock();
                let first = deadlines.first().copied().filter(|(at, _)| *at <= now);
                first.inspect(|first| {
                    deadlines.remove(first);
                })
            }) else {
                break;
            };
            let Some(stored) = self.stored(id) else { continue };
            let mut stored = stored.lock();
            if stored.state().deleted {
                continue;
            }
            let deadline = stored.deadline().expect("a stream with a lifetime").max(at);
            if deadline <= now {
                due.push(stored.state().name.clone());
            }
            stored.look_again_at(deadline);
            again.push((deadline, id));
        }
        self.deadlines.lock().extend(again);
        Ok(due)
    }

    fn control(&self, stream: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        Ok(self.stored(stream).and_then(|stored| stored.lock().control(key)))
    }

    fn list_controls(
        &self,
        stream: StreamId,
        request: &ControlsRequest<'_>,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        Ok(self
            .stored(stream)
            .map(|stored| stored.lock().controls(request))
            .unwrap_or_default())
    }

    fn last_id(&self) -> Option<StreamId> {
        StreamId::new(self.last_id.load(Ordering::Relaxed))
    }

    fn usage(&self) -> Usage {
        Usage {
            streams: self.streams.iter().map(|shard| shard.read().len() as u64).sum(),
            bytes: self.budget.taken(),
            bytes_max: Some(self.budget.bytes_max()),
        }
    }
}
