//! A PostgreSQL with the mirror's tables, and streams that are known to the last event.

use std::ops::Range;
use std::sync::Arc;

use tailwater_e2e::Postgres;
use tailwater_sync::event::{Chunk, Event, Incarnation, Offset, Payload};
use tailwater_sync::postgres::{Outcome, Settings, Store};

/// The database of the tests.
pub(crate) const DATABASE: &str = "postgres";
/// Every event of a source takes that many bytes of its stream, whatever it is.
pub(crate) const EVENT_BYTES: u64 = 10;
/// When the first event of a source was accepted: 2026-11-20T22:20:32.175Z. Each of the others came a second later.
pub(crate) const FIRST_AT_MS: i64 = 1_795_213_232_175;

/// A PostgreSQL that has the tables.
pub(crate) struct Scene {
    pub(crate) postgres: Postgres,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Postgres::start()).await
    }

    pub(crate) async fn with(postgres: Postgres) -> Self {
        let scene = Self { postgres };
        scene.store().await.migrate().await.unwrap();
        scene
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::from_url(&self.postgres.url(DATABASE)).unwrap()
    }

    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.settings()).await.unwrap()
    }

    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.postgres.sql(DATABASE, sql)
    }

    /// The rows of a stream are the first `count` events of the source, each once and in order, and so says its
    /// place.
    #[track_caller]
    pub(crate) fn check(&self, source: &Source, count: usize) {
        let (name, number) = (&source.name, source.incarnation.number());
        let rows = format!(
            "SELECT position, index, payload FROM tailwater.events WHERE stream = '{name}' AND incarnation = {number} \
             ORDER BY position"
        );
        let expected: Vec<_> = (0..count).map(|at| source.row(at)).collect();
        assert_eq!(self.sql(&rows), expected.join("\n"), "rows of {name}");
        let place = format!(
            "SELECT next_offset, position, next_index, events FROM tailwater.streams WHERE name = '{name}'"
        );
        let next = source.offset(count);
        let expected = format!("{next}|{}|{count}|{count}", next.position());
        assert_eq!(self.sql(&place), expected, "the place of {name}");
    }
}

/// One incarnation of a stream of JSON, all of it.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) name: Arc<str>,
    pub(crate) incarnation: Incarnation,
    pub(crate) payloads: Vec<Payload>,
}

impl Source {
    /// Events that are numbered from 0.
    pub(crate) fn new(name: &str, incarnation: u64, events: usize) -> Self {
        let payloads = (0..events).map(|n| Payload::Json(format!("{{\"n\": {n}}}").into()));
        Self::of(name, incarnation, payloads)
    }

    pub(crate) fn of(name: &str, incarnation: u64, payloads: impl IntoIterator<Item = Payload>) -> Self {
        Self {
            name: name.into(),
            incarnation: format!("{incarnation:016}").parse().unwrap(),
            payloads: payloads.into_iter().collect(),
        }
    }

    /// The offset before the event of that number.
    pub(crate) fn offset(&self, at: usize) -> Offset {
        if at == 0 {
            return Offset::BEGINNING;
        }
        let position = at as u64 * EVENT_BYTES;
        format!("{}_{position:016}", self.incarnation).parse().unwrap()
    }

    pub(crate) fn chunk(&self, range: Range<usize>) -> Chunk {
        let event = |at: usize| Event {
            offset: self.offset(at + 1),
            index: at as u64,
            at_ms: FIRST_AT_MS + at as i64 * 1_000,
            payload: self.payloads[at].clone(),
        };
        let is_json = !matches!(self.payloads.first(), Some(Payload::Bytes(_)));
        let content_type = if is_json {
            "application/json"
        } else {
            "application/octet-stream"
        };
        Chunk {
            stream: Arc::clone(&self.name),
            incarnation: self.incarnation,
            content_type: content_type.into(),
            after: self.offset(range.start),
            next: self.offset(range.end),
            events: range.map(event).collect(),
            closed: false,
        }
    }

    /// Where in the stream an offset is, in events.
    pub(crate) fn events_before(&self, offset: Offset) -> usize {
        usize::try_from(offset.position() / EVENT_BYTES).unwrap()
    }

    fn row(&self, at: usize) -> String {
        let text = String::from_utf8_lossy(self.payloads[at].as_bytes()).into_owned();
        format!("{}|{at}|{text}", self.offset(at + 1).position())
    }
}

pub(crate) fn written(rows: u64) -> Outcome {
    Outcome::Written {
        rows,
        dead_letters: 0,
    }
}

/// Where to go on in a source, in events, after a chunk that ends at `end`: what the mirror does with every outcome.
pub(crate) fn go_on(source: &Source, outcome: Outcome, end: usize) -> usize {
    match outcome {
        Outcome::Written { .. } => end,
        Outcome::Moved { place: None } => 0,
        Outcome::Moved { place: Some(place) } => source.events_before(place.next),
        Outcome::NameTooLong => panic!("the name fits"),
        Outcome::Fenced => panic!("there is no fence"),
    }
}
