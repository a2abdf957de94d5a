//! A backend as simple as can be: it never forgets a byte. What it says is what every backend has to say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tailwater_storage::Backend;
use tailwater_storage::backend::{BackendError, ListRequest, Outcome};
use tailwater_storage::stream::{
    AppendExtent, ControlChange, Epoch, ForkSource, Lifetime, Lineage, Part, Position, ProducerId,
    ProducerMark, Record, Seq, Span, StreamId, StreamState, Transition,
};

use super::author::{Author, at, millis, name, read, request};

/// All that the accepted records say, and what was released since.
#[derive(Clone, Default)]
pub(super) struct Naive {
    pub(super) author: Author,
    /// Own appends of each stream, with their bytes.
    appends: BTreeMap<StreamId, Vec<(AppendExtent, Bytes)>>,
    controls: BTreeMap<StreamId, BTreeMap<Bytes, Bytes>>,
    pub(super) released: BTreeSet<StreamId>,
}

/// All that a backend says of its streams but their bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    /// What the names lead to.
    pub(super) states: BTreeMap<&'static str, StreamState>,
    /// In the order in which they are listed.
    pub(super) listed: Vec<StreamState>,
    pub(super) deleted: BTreeSet<StreamId>,
    pub(super) forked: BTreeSet<StreamId>,
    pub(super) controls: BTreeMap<StreamId, Vec<(Bytes, Bytes)>>,
    /// Names of those whose lifetime is over, at some times.
    pub(super) due: Vec<BTreeSet<String>>,
    pub(super) streams: u64,
}

/// When to ask which lifetimes are over.
const DUE_AT: [u64; 4] = [1_000, 30_000, 70_000, 120_000];

impl View {
    /// What a backend says of the streams that may have these names.
    ///
    /// # Errors
    /// If the backend fails.
    pub(super) fn of(backend: &dyn Backend, names: &[&'static str]) -> Result<Self, BackendError> {
        let mut states = BTreeMap::new();
        for text in names {
            if let Some(state) = backend.load(&name(text))? {
                states.insert(*text, state);
            }
        }
        let everything = ListRequest {
            prefix: "",
            after: None,
            count_max: 10_000,
        };
        let deleted: BTreeSet<_> = backend.deleted()?.into_iter().collect();
        let stored: BTreeSet<_> = states
            .values()
            .map(|state| state.id)
            .chain(deleted.clone())
            .collect();
        let mut forked = BTreeSet::new();
        let mut controls = BTreeMap::new();
        for id in stored {
            if backend.has_forks(id)? {
                forked.insert(id);
            }
            let found = backend.controls(id, b"")?;
            for (key, value) in &found {
                assert_eq!(backend.control(id, key)?.as_ref(), Some(value), "{id} {key:?}");
            }
            if !found.is_empty() {
                controls.insert(id, found);
            }
        }
        let mut due = Vec::new();
        for now in DUE_AT {
            let names = backend.due(millis(now), 1_000)?;
            due.push(names.iter().map(ToString::to_string).collect());
        }
        Ok(Self {
            states,
            listed: backend.list(&everything)?,
            deleted,
            forked,
            controls,
            due,
            streams: backend.usage().streams,
        })
    }
}

/// The lineage of an imported fork: its own part has the owner that it had elsewhere. One that a crash undid and that is imported
/// anew is another stream, whose offsets are others.
fn fork_elsewhere(source: &Lineage, start: Position, elsewhere: &Lineage) -> Lineage {
    let own = Span {
        from: start,
        ..elsewhere.spans()[0]
    };
    let inherited = source.spans().iter().filter(|span| span.from < start);
    Lineage::from_spans(inherited.copied().chain([own]).collect()).expect("it begins at 0")
}

impl Naive {
    pub(super) fn apply(&mut self, record: &Record) {
        self.author.apply(record);
        self.note(record);
    }

    /// Applies what a backend has taken of a batch. What follows a refused record of the same stream must be refused.
    pub(super) fn apply_batch(&mut self, batch: &[Record], outcomes: &[Outcome]) {
        assert_eq!(outcomes.len(), batch.len());
        let mut refused = BTreeSet::new();
        for (record, outcome) in batch.iter().zip(outcomes) {
            if record.streams().any(|stream| refused.contains(&stream)) {
                assert_eq!(*outcome, Outcome::Full, "decided on a refused record");
            }
            match outcome {
                Outcome::Durable => self.apply(record),
                Outcome::Full => refused.extend(record.streams()),
                Outcome::Moved => panic!("nobody else writes"),
            }
        }
    }

    /// Notes what the author does not know of: bytes, extents and control keys.
    pub(super) fn note(&mut self, record: &Record) {
        for part in &record.parts {
            match part {
                Part::Stream {
                    id,
                    transition: Transition::Append(append),
                } if !append.payload.is_empty() => {
                    let extent = AppendExtent {
                        start: append.start,
                        end: append.end(),
                        at: append.at,
                        first_message: append.first_message,
                        ends: append.ends.clone(),
                    };
                    let appends = self.appends.entry(*id).or_default();
                    appends.push((extent, append.payload.clone()));
                }
                Part::Stream { .. } => {}
                Part::Control(change) => self.note_control(change),
            }
        }
    }

    fn note_control(&mut self, change: &ControlChange) {
        let controls = self.controls.entry(change.stream).or_default();
        match &change.value {
            Some(value) => controls.insert(change.key.clone(), value.clone()),
            None => controls.remove(&change.key),
        };
    }

    pub(super) fn stored(&self) -> impl Iterator<Item = &StreamState> {
        self.author
            .states
            .values()
            .filter(|state| !self.released.contains(&state.id))
    }

    pub(super) fn alive(&self) -> Vec<&StreamState> {
        self.stored().filter(|state| !state.deleted).collect()
    }

    /// The stream that a name leads to.
    pub(super) fn named(&self, name: &str) -> Option<&StreamState> {
        let newest = self
            .author
            .states
            .values()
            .filter(|state| !self.author.staged.contains(&state.id))
            .rfind(|state| state.name.as_str() == name);
        newest.filter(|state| !self.released.contains(&state.id))
    }

    pub(super) fn forks_of(&self, id: StreamId) -> impl Iterator<Item = &StreamState> {
        self.stored()
            .filter(move |state| state.source.as_ref().is_some_and(|source| source.id == id))
    }

    /// Streams that are being imported.
    pub(super) fn staged(&self) -> Vec<&StreamState> {
        let is_staged = |state: &&StreamState| self.author.staged.contains(&state.id);
        self.stored().filter(is_staged).collect()
    }

    /// Completes the import of a staged stream, as it stands now: as a fork if its bytes begin where one of
    /// another stream can branch off, and in place of the stream that has its name, if one has. None if that has to
    /// wait for what is not committed yet, or a newer stream has had the name, or the one that has it stands elsewhere.
    pub(super) fn import(&mut self, id: StreamId, seconds: Option<u64>, committed: &Self) -> Option<Record> {
        let staged = committed.author.states.get(&id)?;
        let (name, start) = (staged.name.clone(), staged.oldest);
        let with_name = |naive: &Self| {
            let states = naive.author.states.values().filter(|state| state.name == name);
            let mut others = states.filter(|state| !naive.author.staged.contains(&state.id));
            others.next_back().map(|state| (state.id, state.deleted))
        };
        let known = with_name(committed);
        let place = self.author.place_of(id);
        let is_elsewhere = |id: StreamId| self.author.place_of(id) != place;
        let cannot_go = |(newest, deleted): (StreamId, bool)| newest > id || !deleted && is_elsewhere(newest);
        if known != with_name(self) || known.is_some_and(cannot_go) {
            return None;
        }
        let can_fork = |state: &&StreamState| {
            let now = self.author.states.get(&state.id);
            let replaced = known.is_some_and(|(old, _)| old == state.id);
            let is_alive = now.is_some_and(|now| !now.deleted) && !replaced;
            is_alive
                && !is_elsewhere(state.id)
                && start > Position::ZERO
                && committed.places(state).contains(&start.get())
        };
        let source = committed.alive().into_iter().find(can_fork).cloned();
        let mut record = Record::default();
        if let Some((old, false)) = known {
            record.parts.extend(self.author.delete(old).parts);
        }
        let imported = self.author.import(id, |state| {
            if let Some(source) = source {
                state.lineage = fork_elsewhere(&source.lineage, start, &state.lineage);
                state.oldest = source.oldest;
                state.source = Some(ForkSource {
                    id: source.id,
                    name: source.name,
                    point: start,
                });
            }
            state.lifetime = seconds.map_or(Lifetime::Forever, |seconds| Lifetime::Ttl { seconds });
            state.closed = state.tail.get() % 5 == 1;
            let mark = ProducerMark {
                id: ProducerId::parse("imported").expect("an id"),
                epoch: Epoch::new(3).expect("an epoch"),
                seq: Seq::new(7).expect("a number"),
            };
            state.producers.record(&mark, state.tail, state.touched_at);
        });
        record.parts.extend(imported.parts);
        Some(record)
    }

    /// What a backend has to say of it.
    pub(super) fn view(&self, names: &[&'static str]) -> View {
        let mut listed: Vec<_> = self.alive().into_iter().cloned().collect();
        listed.sort_by_key(|state| state.name.clone());
        let controls_of = |state: &StreamState| {
            let controls = self
                .controls
                .get(&state.id)
                .filter(|controls| !controls.is_empty())?;
            Some((state.id, controls.clone().into_iter().collect()))
        };
        let is_over = |state: &&StreamState, now| {
            let assumed = state.lifetime.touched_at_load(state.touched_at);
            state.lifetime.is_over(assumed, millis(now))
        };
        let due_at = |now| {
            let over = self.alive().into_iter().filter(|state| is_over(state, now));
            over.map(|state| state.name.to_string()).collect()
        };
        View {
            states: names
                .iter()
                .filter_map(|name| Some((*name, self.named(name)?.clone())))
                .collect(),
            deleted: self
                .stored()
                .filter(|state| state.deleted)
                .map(|state| state.id)
                .collect(),
            forked: self
                .stored()
                .filter(|state| self.forks_of(state.id).next().is_some())
                .map(|state| state.id)
                .collect(),
            controls: self.stored().filter_map(controls_of).collect(),
            due: DUE_AT.map(due_at).into(),
            streams: self.stored().count() as u64,
            listed,
        }
    }

    /// What `read` owes: bytes up to the last message end that fits, or the first one, or `until`.
    pub(super) fn read(&self, id: StreamId, from: u64, until: u64, bytes_max: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (extent, payload) in self.overlapping(id, from, until) {
            let skipped = from.saturating_sub(extent.start.get());
            bytes.extend_from_slice(&payload[skipped as usize..]);
            ends.extend(extent.message_ends().map(Position::get));
        }
        ends.retain(|end| *end > from && *end < until);
        ends.push(until);
        let fitting = ends.iter().rfind(|end| **end - from <= bytes_max);
        let end = *fitting.unwrap_or(&ends[0]);
        bytes.truncate((end - from) as usize);
        bytes
    }

    fn overlapping(
        &self,
        id: StreamId,
        from: u64,
        until: u64,
    ) -> impl Iterator<Item = &(AppendExtent, Bytes)> {
        let own = self.appends.get(&id).into_iter().flatten();
        own.filter(move |(extent, _)| extent.end.get() > from && extent.start.get() < until)
    }

    pub(super) fn extents(&self, id: StreamId, from: u64, until: u64, bytes_max: u64) -> Vec<AppendExtent> {
        let overlapping = self.overlapping(id, from, until);
        let mut extents: Vec<_> = overlapping.map(|(extent, _)| extent).cloned().collect();
        let mut number = 0;
        extents.retain(|extent| {
            number += 1;
            number == 1 || extent.start.get() < from.saturating_add(bytes_max)
        });
        for extent in &mut extents {
            extent.end = extent.end.min(at(until));
        }
        extents
    }

    /// Where an operation may cut a stream: the ends of its own messages behind its oldest position, and that.
    pub(super) fn places(&self, state: &StreamState) -> Vec<u64> {
        let own = self.appends.get(&state.id).into_iter().flatten();
        let ends = own.flat_map(|(extent, _)| extent.message_ends().collect::<Vec<_>>());
        let own_start = state.source.as_ref().map_or(0, |source| source.point.get());
        let start = state.oldest.get().max(own_start);
        [start]
            .into_iter()
            .chain(ends.map(Position::get).filter(|end| *end > start))
            .collect()
    }

    /// Asks for bytes and for extents, and compares.
    pub(super) fn check_window(
        &self,
        backend: &dyn Backend,
        (id, from, until): (StreamId, u64, u64),
        bytes_max: u64,
    ) {
        let request = request(id, from, until, bytes_max);
        let slices = read(backend, request).expect("a byte that can be read");
        let expected = self.read(id, from, until, bytes_max);
        let end = from + expected.len() as u64;
        assert_eq!(
            slices.end.get(),
            end,
            "{id} from {from} to {until}, {bytes_max} bytes"
        );
        assert!(
            slices.into_contiguous() == expected,
            "other bytes: {id} from {from} to {until}, {bytes_max} bytes"
        );
        let extents = backend.extents(request).expect("a byte that can be read");
        assert_eq!(extents, self.extents(id, from, until, bytes_max));
    }

    /// Every readable byte, storage by storage, in windows of several sizes.
    pub(super) fn check_bytes(&self, backend: &dyn Backend, state: &StreamState) {
        let mut from = state.oldest;
        while from < state.tail {
            let (span, end) = state.lineage.span_at(from);
            let until = end.unwrap_or(state.tail).min(state.tail);
            let window = (span.stored_in, from.get(), until.get());
            for bytes_max in [1, 7, u64::from(u32::MAX)] {
                self.check_window(backend, window, bytes_max);
            }
            let step = self.read(span.stored_in, from.get(), until.get(), 3).len() as u64;
            from = from.advance(step).expect("within the stream");
        }
    }

    /// A deleted stream that has no forks, if there is one.
    pub(super) fn releasable(&self) -> Option<&StreamState> {
        self.stored()
            .find(|state| state.deleted && self.forks_of(state.id).next().is_none())
    }

    /// Notes that a stream was released. Answers its source if that is deleted too, as a backend has to.
    pub(super) fn release(&mut self, id: StreamId) -> Option<StreamId> {
        self.released.insert(id);
        let source = self.author.state(id).source.as_ref()?.id;
        let mut deleted = self.stored().filter(|state| state.deleted);
        deleted.any(|state| state.id == source).then_some(source)
    }

    /// Streams that are not released, but for what is staged, which an engine pins.
    pub(super) fn reclaimable(&self) -> impl Iterator<Item = StreamId> {
        let staged = &self.author.staged;
        self.stored()
            .map(|state| state.id)
            .filter(|id| !staged.contains(id))
    }

    /// Releases all deleted streams that have no forks, sources last.
    pub(super) fn release_all(&mut self) {
        while let Some(free) = self.releasable() {
            self.released.insert(free.id);
        }
    }
}
