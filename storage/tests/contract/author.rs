//! Writes records as an engine would: knows the accepted state of each stream, so that what it writes follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tailwater_storage::Backend;
use tailwater_storage::backend::{Outcome, ReadError, ReadRequest, Slices};
use tailwater_storage::stream::{
    Append, ContentType, ControlChange, CreateRequest, Created, ForkSource, Lifetime, Lineage, MessageEnds,
    NameLimits, Part, Position, ProducerMark, Record, Span, StreamId, StreamKind, StreamName, StreamState,
    Timestamp, Transition,
};

/// Streams that were imported by any test.
static IMPORTS: AtomicU64 = AtomicU64::new(0);

pub(super) fn at(number: u64) -> Position {
    Position::new(number).expect("a position")
}

pub(super) fn name(text: &str) -> StreamName {
    StreamName::parse_stored(text, NameLimits::default()).expect("a name")
}

pub(super) fn millis(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// An append's body, given by its messages.
pub(super) struct Body {
    pub(super) payload: Bytes,
    pub(super) ends: MessageEnds,
}

impl Body {
    pub(super) fn one(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            ends: MessageEnds::One,
        }
    }

    pub(super) fn many(messages: &[&str]) -> Self {
        let mut payload = String::new();
        let mut ends = Vec::new();
        for message in messages {
            payload.push_str(message);
            ends.push(u32::try_from(payload.len()).expect("short"));
        }
        Self {
            payload: payload.into(),
            ends: MessageEnds::from_ends(ends),
        }
    }
}

/// What comes with an append beside its body.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) producer: Option<ProducerMark>,
    pub(super) stream_seq: Option<Box<str>>,
    pub(super) closes: bool,
}

/// The accepted state of every stream that was ever created.
#[derive(Clone, Default)]
pub(super) struct Author {
    pub(super) states: BTreeMap<StreamId, StreamState>,
    /// Streams that are staged for an import, and not imported.
    pub(super) staged: BTreeSet<StreamId>,
    records: u64,
    /// The next stream gets a greater id, even if no stream has this one.
    ids_given: u64,
    /// Where streams are placed, which their ids say.
    placing: Placing,
}

/// Where streams are placed.
#[derive(Debug, Clone, Copy, Default)]
enum Placing {
    /// There is but one place.
    #[default]
    Nowhere,
    /// An id's lowest bits say it, and whoever creates streams chooses it.
    Chosen { bits: u32, place: u64 },
    /// An id's lowest byte says it, and it follows from the name or the source.
    ByName,
}

impl Author {
    /// One for a store of shards: ids have a place in their lowest byte, that of the source of a fork, and else that of the
    /// name.
    pub(super) fn of_shards() -> Self {
        Self {
            placing: Placing::ByName,
            ..Self::default()
        }
    }

    /// The time of the next record: one millisecond after the one before.
    fn now(&mut self) -> Timestamp {
        self.records += 1;
        millis(self.records)
    }

    /// The next record is of `millis`.
    pub(super) fn skip_to(&mut self, millis: u64) {
        self.records = millis - 1;
    }

    /// The next stream gets an id that is greater than this one.
    pub(super) fn skip_ids(&mut self, last: StreamId) {
        self.ids_given = last.get();
    }

    /// From now on there are `1 << bits` places, and ids say in which one a stream stands.
    pub(super) fn part_by(&mut self, bits: u32) {
        self.placing = Placing::Chosen { bits, place: 0 };
    }

    /// How many places there are.
    pub(super) fn places(&self) -> u64 {
        match self.placing {
            Placing::Nowhere => 1,
            Placing::Chosen { bits, .. } => 1 << bits,
            Placing::ByName => 256,
        }
    }

    /// Where a stream stands.
    pub(super) fn place_of(&self, id: StreamId) -> u64 {
        id.get() % self.places()
    }

    /// The streams that are created from now on stand there.
    pub(super) fn go_to(&mut self, to: u64) {
        if let Placing::Chosen { place, .. } = &mut self.placing {
            *place = to;
        }
    }

    /// The greatest id that was given.
    pub(super) fn last_id(&self) -> Option<StreamId> {
        let newest = self.states.keys().next_back().map_or(0, |id| id.get());
        StreamId::new(newest.max(self.ids_given))
    }

    fn next_id(&self, name: &str, source: Option<StreamId>) -> StreamId {
        let least = self.last_id().map_or(0, StreamId::get) + 1;
        let place = match (self.placing, source) {
            (Placing::Nowhere, _) => 0,
            (Placing::Chosen { place, .. }, _) => place,
            (Placing::ByName, Some(source)) => source.get(),
            (Placing::ByName, None) => u64::from(crc32fast::hash(name.as_bytes())),
        };
        let further = place.wrapping_sub(least) % self.places();
        StreamId::new(least + further).expect("an id")
    }

    pub(super) fn state(&self, id: StreamId) -> &StreamState {
        &self.states[&id]
    }

    fn accept(&mut self, id: StreamId, transition: Transition) -> Record {
        let record = Record::of(id, transition);
        self.apply(&record);
        record
    }

    pub(super) fn apply(&mut self, record: &Record) {
        for part in &record.parts {
            match part {
                Part::Stream {
                    id,
                    transition: Transition::Create(created),
                } => {
                    self.states.insert(*id, StreamState::created(created));
                }
                Part::Stream {
                    id,
                    transition: Transition::Stage(created),
                } => {
                    self.states.insert(*id, StreamState::staged(created));
                    self.staged.insert(*id);
                }
                Part::Stream { id, transition } => {
                    let state = self.states.get_mut(id).expect("created before");
                    state.apply(transition);
                    if matches!(transition, Transition::Import(_)) {
                        self.staged.remove(id);
                    }
                }
                Part::Control(_) => {}
            }
        }
    }

    pub(super) fn create(&mut self, stream: &str) -> (StreamId, Record) {
        self.create_living(stream, Lifetime::Forever)
    }

    pub(super) fn create_living(&mut self, stream: &str, lifetime: Lifetime) -> (StreamId, Record) {
        self.begin(stream, lifetime, None)
    }

    /// A run that belongs to a stream.
    pub(super) fn create_run(&mut self, stream: &str, beside: &str) -> (StreamId, Record) {
        let (id, mut record) = self.begin(stream, Lifetime::Forever, None);
        let Some(Part::Stream {
            transition: Transition::Create(created),
            ..
        }) = record.parts.first_mut()
        else {
            panic!("a stream begins with its creation");
        };
        created.kind = StreamKind::Run;
        created.beside = Some(name(beside));
        self.apply(&record);
        (id, record)
    }

    /// A fork of `source` at `point`, which must be the end of one of its messages, or cut one.
    pub(super) fn fork(&mut self, source: StreamId, stream: &str, point: u64) -> (StreamId, Record) {
        let source = self.state(source).clone();
        self.fork_of(source, stream, point)
    }

    /// A fork of a state of its source from before, as one that is in the making.
    pub(super) fn fork_of(&mut self, source: StreamState, stream: &str, point: u64) -> (StreamId, Record) {
        self.begin(stream, Lifetime::Forever, Some((source, at(point))))
    }

    fn begin(
        &mut self,
        stream: &str,
        lifetime: Lifetime,
        source: Option<(StreamState, Position)>,
    ) -> (StreamId, Record) {
        let id = self.next_id(stream, source.as_ref().map(|(source, _)| source.id));
        let created = Created {
            id,
            name: name(stream),
            kind: StreamKind::Plain,
            beside: None,
            content_type: ContentType::default(),
            lifetime,
            requested: CreateRequest::default(),
            lineage: match &source {
                Some((source, point)) => source.lineage.fork(id, *point),
                None => Lineage::root(id),
            },
            oldest: source
                .as_ref()
                .map_or(Position::ZERO, |(source, _)| source.oldest),
            messages: source.as_ref().map_or(0, |(source, _)| source.messages),
            source: source.map(|(source, point)| ForkSource {
                id: source.id,
                name: source.name,
                point,
            }),
            at: self.now(),
        };
        (id, self.accept(id, Transition::Create(Box::new(created))))
    }

    /// Stages a stream whose own bytes begin at `from`.
    pub(super) fn stage(&mut self, stream: &str, from: u64) -> (StreamId, Record) {
        let id = self.next_id(stream, None);
        let created = Created {
            id,
            name: name(stream),
            kind: StreamKind::Plain,
            beside: None,
            content_type: ContentType::default(),
            lifetime: Lifetime::Forever,
            requested: CreateRequest::default(),
            lineage: Lineage::root(id),
            source: None,
            oldest: at(from),
            messages: 0,
            at: self.now(),
        };
        (id, self.accept(id, Transition::Stage(Box::new(created))))
    }

    /// Completes the import of a staged stream that was exported under another id, and is now what `change` makes
    /// of it.
    pub(super) fn import(&mut self, id: StreamId, change: impl FnOnce(&mut StreamState)) -> Record {
        // Another one for each import, also for one that a crash undid: they are not the same stream.
        let number = IMPORTS.fetch_add(1, Ordering::Relaxed);
        let elsewhere = StreamId::new(5_000_000_000_000_000 + number).expect("an id");
        let own = Span {
            from: Position::ZERO,
            owner: elsewhere,
            stored_in: id,
        };
        let now = self.now();
        let mut state = StreamState {
            deleted: false,
            lineage: Lineage::from_spans(vec![own]).expect("it begins at 0"),
            touched_at: now,
            ..self.state(id).clone()
        };
        change(&mut state);
        self.accept(id, Transition::Import(Box::new(state)))
    }

    pub(super) fn append(&mut self, id: StreamId, body: Body) -> Record {
        self.append_as(id, body, None, false)
    }

    pub(super) fn append_as(
        &mut self,
        id: StreamId,
        body: Body,
        producer: Option<ProducerMark>,
        closes: bool,
    ) -> Record {
        let marks = Marks {
            producer,
            stream_seq: None,
            closes,
        };
        self.append_with(id, body, marks)
    }

    pub(super) fn append_with(&mut self, id: StreamId, body: Body, marks: Marks) -> Record {
        let append = Append {
            start: self.state(id).tail,
            payload: body.payload,
            ends: body.ends,
            first_message: self.state(id).messages,
            producer: marks.producer,
            stream_seq: marks.stream_seq,
            closes: marks.closes,
            at: self.now(),
        };
        self.accept(id, Transition::Append(append))
    }

    pub(super) fn close(&mut self, id: StreamId) -> Record {
        self.append_as(id, Body::one(""), None, true)
    }

    pub(super) fn delete(&mut self, id: StreamId) -> Record {
        let at = self.now();
        self.accept(id, Transition::Delete { at })
    }

    pub(super) fn trim(&mut self, id: StreamId, before: u64) -> Record {
        let now = self.now();
        self.accept(
            id,
            Transition::Trim {
                before: at(before),
                at: now,
            },
        )
    }

    pub(super) fn touch(&mut self, id: StreamId, at: Timestamp) -> Record {
        self.accept(id, Transition::Touch { at })
    }

    /// A stream with one append of each of these payloads, committed.
    pub(super) fn stream_of(&mut self, backend: &dyn Backend, stream: &str, payloads: &[&str]) -> StreamId {
        let (id, create) = self.create(stream);
        commit(backend, &[create]);
        for payload in payloads {
            commit(backend, &[self.append(id, Body::one((*payload).to_owned()))]);
        }
        id
    }
}

pub(super) fn control(stream: StreamId, key: &str, value: Option<&str>) -> Record {
    let mut record = Record::default();
    record.parts.push(Part::Control(ControlChange {
        stream,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    }));
    record
}

/// Several records as one, whole or absent.
pub(super) fn together(records: impl IntoIterator<Item = Record>) -> Record {
    Record {
        parts: records.into_iter().flat_map(|record| record.parts).collect(),
    }
}

pub(super) fn outcomes(backend: &dyn Backend, batch: &[Record]) -> Vec<Outcome> {
    backend.commit(0, batch).expect("the backend works").to_vec()
}

/// Commits what must have space.
pub(super) fn commit(backend: &dyn Backend, batch: &[Record]) {
    assert_eq!(outcomes(backend, batch), vec![Outcome::Durable; batch.len()]);
}

pub(super) fn load(backend: &dyn Backend, stream: &str) -> Option<StreamState> {
    backend.load(&name(stream)).expect("the backend works")
}

pub(super) fn request(stream: StreamId, from: u64, until: u64, bytes_max: u64) -> ReadRequest {
    ReadRequest {
        stream,
        from: at(from),
        until: at(until),
        bytes_max,
        may_wait: true,
    }
}

/// Reads, and checks what holds for every read: no empty piece, and an end that fits the bytes.
pub(super) fn read(backend: &dyn Backend, request: ReadRequest) -> Result<Slices, ReadError> {
    let slices = backend.read(request)?;
    assert!(
        slices.pieces.iter().all(|piece| !piece.is_empty()),
        "an empty piece"
    );
    assert_eq!(
        slices.end.since(request.from),
        slices.len() as u64,
        "an end that does not fit"
    );
    assert!(
        slices.end <= request.until.max(request.from),
        "more than was asked for"
    );
    Ok(slices)
}

pub(super) fn text(backend: &dyn Backend, stream: StreamId, from: u64, until: u64, bytes_max: u64) -> String {
    let slices = read(backend, request(stream, from, until, bytes_max)).expect("stored bytes");
    String::from_utf8(slices.into_contiguous().to_vec()).expect("text")
}

/// Releases all deleted streams that have no forks, sources last.
pub(super) fn release_all(backend: &dyn Backend) {
    loop {
        let deleted = backend.deleted().expect("the backend works");
        let free = deleted
            .iter()
            .find(|id| !backend.has_forks(**id).expect("the backend works"));
        let Some(free) = free else { return };
        backend.release(*free).expect("the backend works");
    }
}
