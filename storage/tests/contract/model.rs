//! Random batches against a naive model: every byte, every extent, every state, and nothing left in the end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use tailwater_storage::Backend;
use tailwater_storage::backend::{ListRequest, Outcome};
use tailwater_storage::stream::{
    AppendExtent, Epoch, Lifetime, Part, Position, ProducerId, ProducerMark, Record, Seq, StreamId,
    StreamState, Transition,
};

use super::author::{Author, Body, at, control, load, millis, read, release_all, request, together};
use crate::within;

#[derive(Debug, Clone)]
enum Op {
    Create {
        name: usize,
        seconds: Option<u64>,
    },
    Append {
        stream: Index,
        messages: Vec<usize>,
        producer: Option<usize>,
        closes: bool,
    },
    Fork {
        source: Index,
        name: usize,
        message: Index,
    },
    Trim {
        stream: Index,
        message: Index,
    },
    Touch {
        stream: Index,
    },
    Delete {
        stream: Index,
    },
    Control {
        stream: Index,
        key: usize,
        value: Option<usize>,
    },
}

const NAMES: [&str; 5] = ["a", "a/1", "a/2", "b", "c"];
const KEYS: [&str; 3] = ["k", "k/1", "l"];

fn op() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    let messages = prop_oneof![
        9 => prop::collection::vec(1_usize..20, 1..5),
        1 => prop::collection::vec(1_000_usize..9_000, 1..3),
    ];
    prop_oneof![
        3 => (0..NAMES.len(), prop::option::of(1_u64..100))
            .prop_map(|(name, seconds)| Op::Create { name, seconds }),
        8 => (index(), messages, prop::option::of(0_usize..2), prop::bool::weighted(0.05)).prop_map(
            |(stream, messages, producer, closes)| Op::Append { stream, messages, producer, closes }
        ),
        2 => (index(), 0..NAMES.len(), index())
            .prop_map(|(source, name, message)| Op::Fork { source, name, message }),
        2 => (index(), index()).prop_map(|(stream, message)| Op::Trim { stream, message }),
        1 => index().prop_map(|stream| Op::Touch { stream }),
        1 => index().prop_map(|stream| Op::Delete { stream }),
        2 => (index(), 0..KEYS.len(), prop::option::of(0_usize..30))
            .prop_map(|(stream, key, value)| Op::Control { stream, key, value }),
    ]
}

/// What happens between two looks at the whole: a batch of records, each of some operations, or upkeep.
#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<Vec<Op>>),
    ReclaimAll,
    ReleaseAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(prop::collection::vec(op(), 1..4), 1..6).prop_map(Step::Batch),
        1 => Just(Step::ReclaimAll),
        1 => Just(Step::ReleaseAll),
    ]
}

/// A backend as simple as can be: it never forgets a byte.
#[derive(Clone, Default)]
struct Model {
    author: Author,
    /// Own appends of each stream, with their bytes.
    appends: BTreeMap<StreamId, Vec<(AppendExtent, Vec<u8>)>>,
    controls: BTreeMap<StreamId, BTreeMap<String, String>>,
    released: BTreeSet<StreamId>,
}

impl Model {
    fn apply(&mut self, record: &Record) {
        self.author.apply(record);
        self.note(record);
    }

    /// Notes what the author does not know of: bytes, extents and control keys.
    fn note(&mut self, record: &Record) {
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
                    appends.push((extent, append.payload.to_vec()));
                }
                Part::Stream { .. } => {}
                Part::Control(change) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                    let controls = self.controls.entry(change.stream).or_default();
                    match &change.value {
                        Some(value) => controls.insert(text(&change.key), text(value)),
                        None => controls.remove(&text(&change.key)),
                    };
                }
            }
        }
    }

    fn stored(&self) -> impl Iterator<Item = &StreamState> {
        self.author
            .states
            .values()
            .filter(|state| !self.released.contains(&state.id))
    }

    fn alive(&self) -> Vec<&StreamState> {
        self.stored().filter(|state| !state.deleted).collect()
    }

    /// The stream that a name leads to.
    fn named(&self, name: &str) -> Option<&StreamState> {
        let newest = self
            .author
            .states
            .values()
            .rfind(|state| state.name.as_str() == name);
        newest.filter(|state| !self.released.contains(&state.id))
    }

    fn forks_of(&self, id: StreamId) -> impl Iterator<Item = &StreamState> {
        self.stored()
            .filter(move |state| state.source.as_ref().is_some_and(|source| source.id == id))
    }

    fn own_start(&self, state: &StreamState) -> u64 {
        state.source.as_ref().map_or(0, |source| source.point.get())
    }

    /// What `read` owes: bytes up to the last message end that fits, or the first one, or `until`.
    fn read(&self, id: StreamId, from: u64, until: u64, bytes_max: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (extent, payload) in self.appends.get(&id).into_iter().flatten() {
            bytes.extend_from_slice(payload);
            ends.extend(extent.message_ends().map(Position::get));
        }
        let start = self.own_start(self.author.state(id));
        ends.retain(|end| *end > from && *end < until);
        ends.push(until);
        let fitting = ends.iter().rfind(|end| **end - from <= bytes_max);
        let end = *fitting.unwrap_or(&ends[0]);
        bytes[(from - start) as usize..(end - start) as usize].to_vec()
    }

    fn extents(&self, id: StreamId, from: u64, until: u64, bytes_max: u64) -> Vec<AppendExtent> {
        let overlapping = self
            .appends
            .get(&id)
            .into_iter()
            .flatten()
            .map(|(extent, _)| extent);
        let mut extents: Vec<_> = overlapping
            .filter(|extent| extent.end.get() > from && extent.start.get() < until)
            .cloned()
            .collect();
        let mut number = 0;
        extents.retain(|extent| {
            number += 1;
            number == 1 || extent.start.get() < from + bytes_max
        });
        for extent in &mut extents {
            extent.end = extent.end.min(at(until));
        }
        extents
    }

    /// Where an operation may cut a stream: the ends of its own messages behind its oldest position, and that.
    fn places(&self, state: &StreamState) -> Vec<u64> {
        let own = self.appends.get(&state.id).into_iter().flatten();
        let ends = own.flat_map(|(extent, _)| extent.message_ends().collect::<Vec<_>>());
        let start = state.oldest.get().max(self.own_start(state));
        [start]
            .into_iter()
            .chain(ends.map(Position::get).filter(|end| *end > start))
            .collect()
    }

    /// The record of an operation, decided on this model; none if it makes no sense now. A name is taken again,
    /// and a stream forked, only as it stands in `committed`: an engine waits for that.
    fn decide(&mut self, op: &Op, committed: &Self) -> Option<Record> {
        let alive: Vec<_> = self.alive().into_iter().cloned().collect();
        let pick = |index: &Index| (!alive.is_empty()).then(|| index.get(&alive).clone());
        let is_free = |name: usize| {
            let mut taken = alive.iter().chain(committed.alive());
            taken.all(|state| state.name.as_str() != NAMES[name])
        };
        let record = match op {
            Op::Create { name, seconds } => {
                let lifetime = seconds.map_or(Lifetime::Forever, |seconds| Lifetime::Ttl { seconds });
                is_free(*name).then(|| self.author.create_living(NAMES[*name], lifetime).1)?
            }
            Op::Append {
                stream,
                messages,
                producer,
                closes,
            } => {
                let state = pick(stream).filter(|state| !state.closed)?;
                let letter = (b'a' + (state.tail.get() % 26) as u8) as char;
                let messages: Vec<_> = messages
                    .iter()
                    .map(|length| letter.to_string().repeat(*length))
                    .collect();
                let messages: Vec<_> = messages.iter().map(String::as_str).collect();
                let mark = producer.map(|producer| {
                    let id = ProducerId::parse(["p", "q"][producer]).expect("an id");
                    let next = state.producers.get(&id).map_or(0, |known| known.seq.get() + 1);
                    ProducerMark {
                        id,
                        epoch: Epoch::ZERO,
                        seq: Seq::new(next).expect("a number"),
                    }
                });
                self.author
                    .append_as(state.id, Body::many(&messages), mark, *closes)
            }
            Op::Fork {
                source,
                name,
                message,
            } => {
                let source = committed.author.states.get(&pick(source)?.id)?.clone();
                let point = *message.get(&committed.places(&source));
                is_free(*name).then(|| self.author.fork_of(source, NAMES[*name], point).1)?
            }
            Op::Trim { stream, message } => {
                let state = pick(stream)?;
                self.author.trim(state.id, *message.get(&self.places(&state)))
            }
            Op::Touch { stream } => {
                let state = pick(stream)?;
                self.author.touch(state.id, state.touched_at.plus_millis(5_000))
            }
            Op::Delete { stream } => self.author.delete(pick(stream)?.id),
            Op::Control { stream, key, value } => {
                let value = value.map(|length| "v".repeat(length));
                control(pick(stream)?.id, KEYS[*key], value.as_deref())
            }
        };
        self.note(&record);
        Some(record)
    }

    /// Decides a batch, commits it, and keeps what the backend says is durable.
    fn commit(&mut self, backend: &dyn Backend, batch: &[Vec<Op>]) {
        let mut draft = self.clone();
        let records: Vec<_> = batch
            .iter()
            .map(|ops| {
                together(
                    ops.iter()
                        .filter_map(|op| draft.decide(op, self))
                        .collect::<Vec<_>>(),
                )
            })
            .filter(|record| !record.parts.is_empty())
            .collect();
        let outcomes = backend.commit(0, &records).expect("the backend works");
        assert_eq!(outcomes.len(), records.len());
        let mut refused = BTreeSet::new();
        for (record, outcome) in records.iter().zip(outcomes) {
            if record.streams().any(|stream| refused.contains(&stream)) {
                assert_eq!(outcome, Outcome::Full, "decided on a refused record");
            }
            match outcome {
                Outcome::Durable => self.apply(record),
                _ => refused.extend(record.streams()),
            }
        }
    }

    fn check(&self, backend: &dyn Backend) {
        for name in NAMES {
            assert_eq!(load(backend, name).as_ref(), self.named(name), "{name}");
        }
        for (prefix, after) in [("", None), ("a", Some("a")), ("a/", None), ("", Some("a/2"))] {
            let request = ListRequest {
                prefix,
                after,
                count_max: 3,
            };
            let mut expected: Vec<_> = self
                .alive()
                .into_iter()
                .filter(|state| state.name.as_str().starts_with(prefix))
                .filter(|state| after.is_none_or(|after| state.name.as_str() > after))
                .collect();
            expected.sort_by_key(|state| state.name.clone());
            expected.truncate(3);
            let listed = backend.list(&request).expect("the backend works");
            assert_eq!(listed.iter().collect::<Vec<_>>(), expected);
        }
        let deleted: BTreeSet<_> = backend
            .deleted()
            .expect("the backend works")
            .into_iter()
            .collect();
        assert_eq!(
            deleted,
            self.stored()
                .filter(|state| state.deleted)
                .map(|state| state.id)
                .collect()
        );
        assert_eq!(backend.usage().streams, self.stored().count() as u64);
        assert_eq!(backend.last_id(), self.author.states.keys().next_back().copied());
        for state in self.stored() {
            let has_forks = backend.has_forks(state.id).expect("the backend works");
            assert_eq!(
                has_forks,
                self.forks_of(state.id).next().is_some(),
                "{}",
                state.id
            );
            let controls = backend.controls(state.id, b"k").expect("the backend works");
            let expected = self.controls.get(&state.id).cloned().unwrap_or_default();
            let expected = expected.iter().filter(|(key, _)| key.starts_with('k'));
            assert!(
                controls
                    .iter()
                    .map(|(k, v)| (&k[..], &v[..]))
                    .eq(expected.map(|(k, v)| (k.as_bytes(), v.as_bytes())))
            );
        }
        self.check_due(backend);
        for state in self.alive() {
            self.check_bytes(backend, state);
        }
    }

    fn check_due(&self, backend: &dyn Backend) {
        for now in [1_000, 30_000, 70_000] {
            let due = backend.due(millis(now), 100).expect("the backend works");
            let due: BTreeSet<_> = due.iter().map(ToString::to_string).collect();
            let over = self.alive().into_iter().filter(|state| {
                let assumed = state.lifetime.touched_at_load(state.touched_at);
                state.lifetime.is_over(assumed, millis(now))
            });
            assert_eq!(due, over.map(|state| state.name.to_string()).collect());
        }
    }

    /// Every readable byte, storage by storage, in windows of several sizes.
    fn check_bytes(&self, backend: &dyn Backend, state: &StreamState) {
        let mut from = state.oldest;
        while from < state.tail {
            let (span, end) = state.lineage.span_at(from);
            let until = end.unwrap_or(state.tail);
            for bytes_max in [1, 7, u64::from(u32::MAX)] {
                let request = request(span.stored_in, from.get(), until.get(), bytes_max);
                let slices = read(backend, request).expect("a byte that can be read");
                let expected = self.read(span.stored_in, from.get(), until.get(), bytes_max);
                assert_eq!(slices.into_contiguous(), expected, "{} from {from}", state.name);
                let extents = backend.extents(request).expect("a byte that can be read");
                assert_eq!(
                    extents,
                    self.extents(span.stored_in, from.get(), until.get(), bytes_max)
                );
            }
            let step = self.read(span.stored_in, from.get(), until.get(), 3).len() as u64;
            from = from.advance(step).expect("within the stream");
        }
    }

    fn release_all(&mut self, backend: &dyn Backend) {
        release_all(backend);
        loop {
            let free = self
                .stored()
                .find(|state| state.deleted && self.forks_of(state.id).next().is_none())
                .map(|state| state.id);
            let Some(free) = free else { return };
            self.released.insert(free);
        }
    }

    fn delete_all(&mut self, backend: &dyn Backend) {
        for id in self.alive().iter().map(|state| state.id).collect::<Vec<_>>() {
            let delete = self.author.delete(id);
            assert_eq!(
                backend.commit(0, &[delete]).expect("works")[..],
                [Outcome::Durable]
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4_000, ..ProptestConfig::default() })]
    #[test]
    fn any_records_leave_what_a_naive_model_keeps_and_nothing_once_all_is_released(
        steps in prop::collection::vec(step(), 1..25),
        is_small: bool,
    ) {
        within(if is_small { 16 * 1024 } else { 1 << 30 }, |backend| {
            let mut model = Model::default();
            for step in &steps {
                match step {
                    Step::Batch(batch) => model.commit(backend, batch),
                    Step::ReleaseAll => model.release_all(backend),
                    Step::ReclaimAll => {
                        for state in model.stored() {
                            backend.reclaim(state.id).expect("the backend works");
                        }
                    }
                }
                model.check(backend);
            }
            model.delete_all(backend);
            model.release_all(backend);
            assert_eq!((backend.usage().streams, backend.usage().bytes), (0, 0));
        });
    }
}
