//! Records such as an engine commits, by chance: each follows from those before it.

use bytes::Bytes;
use fastrand::Rng;
use tailwater_storage::stream::{
    ControlChange, Epoch, Lifetime, MessageEnds, Part, ProducerId, ProducerMark, Record, Seq, StreamState,
    Transition,
};

use crate::author::{Body, Marks, control, millis, together};
use crate::naive::Naive;

/// The names that streams may have.
pub(crate) const NAMES: [&str; 6] = ["a", "a/1", "a/2", "b", "c", "d"];
const KEYS: [&str; 3] = ["k", "k/1", "l"];
const PRODUCERS: [&str; 3] = ["p", "q", "r"];

/// A source of records.
#[derive(Clone)]
pub(super) struct Workload {
    rng: Rng,
    /// Some payloads are about as long as this.
    journal_bytes: u64,
}

impl Workload {
    pub(super) fn new(rng: Rng, journal_bytes: u64) -> Self {
        Self { rng, journal_bytes }
    }

    /// Records for one batch, of streams in one place if one is given. Those that others wait for are taken as they stand
    /// in `committed`.
    pub(super) fn batch(&mut self, place: Option<u64>, committed: &Naive) -> Vec<Record> {
        let mut draft = committed.clone();
        if let Some(place) = place {
            draft.author.go_to(place);
        }
        let count = if self.rng.u8(..4) > 0 {
            1
        } else {
            self.rng.usize(2..6)
        };
        let mut batch = Vec::new();
        while batch.len() < count {
            let parts = if self.rng.u8(..4) > 0 {
                1
            } else {
                self.rng.usize(2..5)
            };
            let records: Vec<_> = (0..parts)
                .filter_map(|_| self.record(place, &mut draft, committed))
                .collect();
            if !records.is_empty() {
                batch.push(together(records));
            }
        }
        batch
    }

    fn record(&mut self, place: Option<u64>, draft: &mut Naive, committed: &Naive) -> Option<Record> {
        let is_here =
            |state: &&StreamState| place.is_none_or(|place| draft.author.place_of(state.id) == place);
        let alive: Vec<_> = draft.alive().into_iter().filter(is_here).cloned().collect();
        let name = NAMES[self.rng.usize(..NAMES.len())];
        let mut taken = draft.alive().into_iter().chain(committed.alive());
        let is_free = taken.all(|taken| taken.name.as_str() != name);
        let some = self.rng.choice(&alive).cloned();
        let staged = draft.staged().into_iter().filter(is_here);
        let staged: Vec<_> = staged.map(|state| state.id).collect();
        let record = match self.rng.u8(..24) {
            0 if is_free && name == "c" => draft.author.create_run(name, "d").1,
            0..=2 if is_free => {
                let lifetime = match self.rng.u8(..4) {
                    0 => Lifetime::Ttl {
                        seconds: self.rng.u64(1..100),
                    },
                    1 => Lifetime::Until {
                        at: millis(self.rng.u64(1..100_000)),
                    },
                    _ => Lifetime::Forever,
                };
                draft.author.create_living(name, lifetime).1
            }
            3..=4 if is_free => {
                let source = committed.author.states.get(&some?.id)?.clone();
                let point = *self.rng.choice(&committed.places(&source))?;
                draft.author.fork_of(source, name, point).1
            }
            5..=6 => {
                let state = some?;
                let place = *self.rng.choice(&draft.places(&state))?;
                draft.author.trim(state.id, place)
            }
            7 => {
                let state = some?;
                let at = state.touched_at.plus_millis(self.rng.u64(..9_000));
                draft.author.touch(state.id, at)
            }
            8 => draft.author.delete(some?.id),
            9..=10 => {
                let key = KEYS[self.rng.usize(..KEYS.len())];
                let value = "v".repeat(self.rng.usize(..40));
                control(some?.id, key, (self.rng.u8(..3) > 0).then_some(value.as_str()))
            }
            20 => {
                let source = some.and_then(|some| committed.author.states.get(&some.id).cloned());
                let places = source.map(|source| committed.places(&source)).unwrap_or_default();
                let start = self.rng.choice(&places).copied().unwrap_or_default();
                draft.author.stage(name, start).1
            }
            21..=22 => {
                let (id, body) = (*self.rng.choice(&staged)?, self.body());
                let append = draft.author.append(id, body);
                // Nobody sees how long it is by now, so that says it.
                let tail = draft.author.state(id).tail.to_string();
                together([append, control(id, "tail", Some(&tail))])
            }
            23 => {
                let seconds = self.rng.bool().then(|| self.rng.u64(1..100));
                draft.import(*self.rng.choice(&staged)?, seconds, committed)?
            }
            _ => self.append(draft, &some.filter(|state| !state.closed)?),
        };
        draft.note(&record);
        Some(record)
    }

    fn append(&mut self, draft: &mut Naive, state: &StreamState) -> Record {
        let closes = self.rng.u8(..15) == 0;
        let body = if closes && self.rng.bool() {
            Body::one("")
        } else {
            self.body()
        };
        let marks = Marks {
            producer: (self.rng.u8(..3) == 0).then(|| self.producer(state)),
            stream_seq: (self.rng.u8(..5) == 0).then(|| format!("{:08}", state.tail.get()).into()),
            closes,
        };
        draft.author.append_with(state.id, body, marks)
    }

    fn producer(&mut self, state: &StreamState) -> ProducerMark {
        let id = PRODUCERS[self.rng.usize(..PRODUCERS.len())];
        let id = ProducerId::parse(id).expect("an id");
        let known = state.producers.get(&id);
        let epoch = known.map_or(0, |known| known.epoch.get());
        let seq = known.map_or(0, |known| known.seq.get() + 1);
        let (epoch, seq) = if self.rng.u8(..8) == 0 {
            (epoch + 1, 0)
        } else {
            (epoch, seq)
        };
        ProducerMark {
            id,
            epoch: Epoch::new(epoch).expect("an epoch"),
            seq: Seq::new(seq).expect("a number"),
        }
    }

    /// Random bytes, so that no other place in a file looks like them.
    fn body(&mut self) -> Body {
        let bytes = match self.rng.u8(..100) {
            0..60 => self.rng.usize(1..40),
            60..85 => self.rng.usize(40..600),
            85..95 => self.rng.usize(600..5_000),
            95..99 => self.rng.usize(5_000..20_000),
            _ => self.rng.usize(..2 * self.journal_bytes as usize) + 1,
        };
        let mut payload = vec![0; bytes];
        self.rng.fill(&mut payload);
        let messages = if self.rng.bool() { 1 } else { self.rng.usize(1..12) };
        let mut ends: Vec<_> = (1..messages).map(|_| self.rng.usize(1..=bytes) as u32).collect();
        ends.push(bytes as u32);
        ends.sort_unstable();
        ends.dedup();
        Body {
            payload: Bytes::from(payload),
            ends: MessageEnds::from_ends(ends),
        }
    }
}

/// A record in a few words.
pub(super) fn describe(record: &Record) -> String {
    let parts = record.parts.iter().map(|part| match part {
        Part::Stream { id, transition } => match transition {
            Transition::Create(created) => match &created.source {
                None => format!("create {} {:?}", id.get(), created.name.as_str()),
                Some(source) => format!(
                    "fork {} {:?} of {} at {}",
                    id.get(),
                    created.name.as_str(),
                    source.id.get(),
                    source.point
                ),
            },
            Transition::Stage(created) => {
                format!(
                    "stage {} {:?} from {}",
                    id.get(),
                    created.name.as_str(),
                    created.oldest
                )
            }
            Transition::Import(state) => match &state.source {
                None => format!("import {}", id.get()),
                Some(source) => format!(
                    "import {} as a fork of {} at {}",
                    id.get(),
                    source.id,
                    source.point
                ),
            },
            Transition::Append(append) => {
                let closes = if append.closes { " closes" } else { "" };
                format!(
                    "append {} {}+{}{closes}",
                    id.get(),
                    append.start,
                    append.payload.len()
                )
            }
            Transition::Delete { .. } => format!("delete {}", id.get()),
            Transition::Trim { before, .. } => format!("trim {} {before}", id.get()),
            Transition::Touch { .. } => format!("touch {}", id.get()),
        },
        Part::Control(ControlChange { stream, key, value }) => {
            let value = value.as_ref().map(Bytes::len);
            format!(
                "control {} {:?} {value:?}",
                stream.get(),
                String::from_utf8_lossy(key)
            )
        }
    });
    parts.collect::<Vec<_>>().join(" & ")
}
