//! Random batches against a naive model: every byte, every extent, every state, and nothing left in the end.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use tailwater_storage::Backend;
use tailwater_storage::backend::{ListRequest, Outcome};
use tailwater_storage::stream::{Epoch, Lifetime, ProducerId, ProducerMark, Record, Seq, StreamState};

use super::author::{Body, control, release_all, together};
use super::naive::{Naive, View};
use crate::within;

#[derive(Debug, Clone)]
enum Op {
    Create {
        name: usize,
        seconds: Option<u64>,
    },
    CreateRun {
        name: usize,
        beside: usize,
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
    Stage {
        name: usize,
        /// Where its bytes begin: a place where it could branch off this stream.
        source: Option<(Index, Index)>,
    },
    Fill {
        stream: Index,
        messages: Vec<usize>,
    },
    Import {
        stream: Index,
        seconds: Option<u64>,
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
        7 => prop::collection::vec(1_usize..20, 1..5),
        2 => prop::collection::vec(100_usize..500, 1..4),
        1 => prop::collection::vec(1_000_usize..9_000, 1..3),
    ];
    let staged_messages = prop::collection::vec(1_usize..20, 1..5);
    prop_oneof![
        2 => (0..NAMES.len(), prop::option::of((index(), index())))
            .prop_map(|(name, source)| Op::Stage { name, source }),
        2 => (index(), staged_messages).prop_map(|(stream, messages)| Op::Fill { stream, messages }),
        2 => (index(), prop::option::of(1_u64..100))
            .prop_map(|(stream, seconds)| Op::Import { stream, seconds }),
        3 => (0..NAMES.len(), prop::option::of(1_u64..100))
            .prop_map(|(name, seconds)| Op::Create { name, seconds }),
        1 => (0..NAMES.len(), 0..NAMES.len()).prop_map(|(name, beside)| Op::CreateRun { name, beside }),
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

impl Naive {
    /// The record of an operation, decided on this model; none if it makes no sense now. A name is taken again,
    /// and a stream forked, only as it stands in `committed`: an engine waits for that.
    fn decide(&mut self, op: &Op, committed: &Self) -> Option<Record> {
        let alive: Vec<_> = self.alive().into_iter().cloned().collect();
        let pick = |index: &Index| (!alive.is_empty()).then(|| index.get(&alive).clone());
        let newest_committed = committed.author.states.keys().next_back().copied();
        let made_since: Vec<_> = self
            .stored()
            .filter(|state| Some(state.id) > newest_committed)
            .cloned()
            .collect();
        let is_free = |name: usize| {
            let mut taken = alive.iter().chain(committed.alive()).chain(&made_since);
            taken.all(|state| state.name.as_str() != NAMES[name])
        };
        let record = match op {
            Op::Create { name, seconds } => {
                let lifetime = seconds.map_or(Lifetime::Forever, |seconds| Lifetime::Ttl { seconds });
                is_free(*name).then(|| self.author.create_living(NAMES[*name], lifetime).1)?
            }
            Op::CreateRun { name, beside } => {
                is_free(*name).then(|| self.author.create_run(NAMES[*name], NAMES[*beside]).1)?
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
            Op::Stage { name, source } => {
                let start = source.as_ref().map_or(Some(0), |(source, message)| {
                    let source = committed.author.states.get(&pick(source)?.id)?.clone();
                    Some(*message.get(&committed.places(&source)))
                })?;
                self.author.stage(NAMES[*name], start).1
            }
            Op::Fill { stream, messages } => {
                let staged: Vec<_> = self.staged().into_iter().map(|state| state.id).collect();
                let id = (!staged.is_empty()).then(|| *stream.get(&staged))?;
                let messages: Vec<_> = messages.iter().map(|length| "i".repeat(*length)).collect();
                let messages: Vec<_> = messages.iter().map(String::as_str).collect();
                self.author.append(id, Body::many(&messages))
            }
            Op::Import { stream, seconds } => {
                let staged: Vec<_> = self.staged().into_iter().map(|state| state.id).collect();
                let id = (!staged.is_empty()).then(|| *stream.get(&staged))?;
                self.import(id, *seconds, committed)?
            }
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
        let view = View::of(backend, &NAMES).expect("the backend works");
        assert_eq!(view, self.view(&NAMES));
        for (prefix, after) in [("a", Some("a")), ("a/", None), ("", Some("a/2"))] {
            let request = ListRequest {
                prefix,
                after,
                count_max: 3,
            };
            let mut expected = self.view(&NAMES).listed;
            expected.retain(|state| state.name.as_str().starts_with(prefix));
            expected.retain(|state| after.is_none_or(|after| state.name.as_str() > after));
            expected.truncate(3);
            assert_eq!(backend.list(&request).expect("the backend works"), expected);
        }
        assert_eq!(backend.last_id(), self.author.states.keys().next_back().copied());
        for state in self.alive() {
            self.check_bytes(backend, state);
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
            let mut model = Naive::default();
            for step in &steps {
                match step {
                    Step::Batch(batch) => model.commit(backend, batch),
                    Step::ReleaseAll => {
                        release_all(backend);
                        model.release_all();
                    }
                    Step::ReclaimAll => {
                        // An engine pins what is staged.
                        let is_staged = |state: &&StreamState| model.author.staged.contains(&state.id);
                        for state in model.stored().filter(|state| !is_staged(state)) {
                            backend.reclaim(state.id).expect("the backend works");
                        }
                    }
                }
                model.check(backend);
            }
            model.delete_all(backend);
            release_all(backend);
            assert_eq!((backend.usage().streams, backend.usage().bytes), (0, 0));
        });
    }
}
