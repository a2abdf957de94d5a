//! A check finds rows of the catalog that do not agree with each other, though each is as it was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{ReadableTable as _, TableDefinition};
use tailwater_stream::{
    Append, ContentType, ControlChange, CreateRequest, Created, Epoch, ForkSource, Lifetime, Lineage,
    MessageEnds, NameLimits, Part, Position, ProducerId, ProducerMark, Record, Seq, StreamId, StreamKind,
    StreamName, StreamState, Timestamp, Transition,
};
use tempfile::TempDir;

use crate::backend::{Backend as _, Outcome};
use crate::file::catalog::Catalog;
use crate::file::{self, Durability, FileOptions, FileStore, RealDisk, verify_directory};

type Raw = &'static [u8];

const META: TableDefinition<'_, Raw, Raw> = TableDefinition::new("meta");
const STREAMS: TableDefinition<'_, &'static [u8; 8], Raw> = TableDefinition::new("streams");
const NAMES: TableDefinition<'_, Raw, Raw> = TableDefinition::new("names");
const PRODUCERS: TableDefinition<'_, Raw, Raw> = TableDefinition::new("producers");
const CONTROLS: TableDefinition<'_, Raw, Raw> = TableDefinition::new("controls");
const FORKS: TableDefinition<'_, &'static [u8; 16], ()> = TableDefinition::new("forks");
const DELETED: TableDefinition<'_, &'static [u8; 8], ()> = TableDefinition::new("deleted");
const DEADLINES: TableDefinition<'_, &'static [u8; 16], ()> = TableDefinition::new("deadlines");
const TRIMMED: TableDefinition<'_, &'static [u8; 8], ()> = TableDefinition::new("trimmed");
const RUNS: TableDefinition<'_, &'static [u8; 24], Raw> = TableDefinition::new("runs");
const SEGMENTS: TableDefinition<'_, &'static [u8; 8], Raw> = TableDefinition::new("segments");

/// A store that has a row in every table.
struct Store {
    _above: TempDir,
    dir: PathBuf,
}

/// Writes records that follow each other.
struct Writer {
    store: FileStore,
    states: BTreeMap<u64, StreamState>,
}

impl Writer {
    fn commit(&mut self, number: u64, transition: Transition) {
        match &transition {
            Transition::Create(created) => {
                self.states.insert(number, StreamState::created(created));
            }
            transition => self.states.get_mut(&number).expect("created").apply(transition),
        }
        let record = Record::of(stream(number), transition);
        assert_eq!(
            self.store.commit(0, &[record]).expect("the disk works")[..],
            [Outcome::Durable]
        );
    }

    fn create(&mut self, number: u64, name: &str, lifetime: Lifetime, source: Option<(u64, u64)>) {
        let name = StreamName::parse(name, NameLimits::default()).expect("a name");
        let source = source.map(|(source, point)| {
            let state = self.states[&source].clone();
            (state, Position::new(point).expect("a position"))
        });
        let lineage = source.as_ref().map_or_else(
            || Lineage::root(stream(number)),
            |(source, point)| source.lineage.fork(stream(number), *point),
        );
        let created = Created {
            id: stream(number),
            name,
            kind: StreamKind::Plain,
            beside: None,
            content_type: ContentType::default(),
            lifetime,
            requested: CreateRequest::default(),
            lineage,
            oldest: Position::ZERO,
            messages: 0,
            source: source.map(|(source, point)| ForkSource {
                id: source.id,
                name: source.name,
                point,
            }),
            at: Timestamp::from_millis(1),
        };
        self.commit(number, Transition::Create(Box::new(created)));
    }

    fn append(&mut self, number: u64, payload: &'static str, producer: Option<ProducerMark>) {
        let state = &self.states[&number];
        let append = Append {
            start: state.tail,
            payload: Bytes::from_static(payload.as_bytes()),
            ends: MessageEnds::One,
            first_message: state.messages,
            producer,
            stream_seq: None,
            closes: false,
            at: Timestamp::from_millis(2),
        };
        self.commit(number, Transition::Append(append));
    }
}

fn stream(number: u64) -> StreamId {
    StreamId::new(number).expect("an id")
}

fn store() -> Store {
    let above = tempfile::tempdir().expect("a directory");
    let dir = above.path().join("store");
    let options = FileOptions {
        journal_bytes: 64 << 10,
        compacts_by_itself: false,
        ..FileOptions::new(dir.clone(), Durability::Durable, 1 << 20)
    };
    let mut writer = Writer {
        store: file::open(options).expect("a new store"),
        states: BTreeMap::new(),
    };
    let mark = ProducerMark {
        id: ProducerId::parse("p").expect("an id"),
        epoch: Epoch::ZERO,
        seq: Seq::new(0).expect("a number"),
    };
    let control = ControlChange {
        stream: stream(1),
        key: Bytes::from_static(b"k"),
        value: Some(Bytes::from_static(b"v")),
    };
    writer.create(1, "a", Lifetime::Forever, None);
    writer.append(1, "one", None);
    writer.append(1, "two", None);
    writer.create(2, "fork", Lifetime::Forever, Some((1, 3)));
    writer.append(2, "own", None);
    writer.create(3, "living", Lifetime::Ttl { seconds: 10 }, None);
    writer.append(1, "three", Some(mark));
    writer.create(4, "gone", Lifetime::Forever, None);
    writer.append(4, "x", None);
    let at = Timestamp::from_millis(3);
    writer.commit(4, Transition::Delete { at });
    let record = Record {
        parts: [Part::Control(control)].into_iter().collect(),
    };
    writer.store.commit(0, &[record]).expect("the disk works");
    writer.store.compact().expect("the disk works");
    writer.append(1, "four", None);
    writer.store.compact().expect("the disk works");
    writer.store.stop().expect("the disk works");
    Store { _above: above, dir }
}

/// A value with `by` added to the number that stands `from_end` numbers before its end.
fn changed(value: &[u8], from_end: usize, by: u64) -> Vec<u8> {
    let mut value = value.to_vec();
    let at = value.len() - 8 * from_end;
    let number = u64::from_le_bytes(value[at..at + 8].try_into().expect("eight bytes"));
    value[at..at + 8].copy_from_slice(&number.wrapping_add(by).to_le_bytes());
    value
}

fn id(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id(first));
    key[8..].copy_from_slice(&id(second));
    key
}

type Tamper = fn(&redb::WriteTransaction);

fn change(store: &Store, tamper: impl FnOnce(&redb::WriteTransaction)) {
    let path = store.dir.join("catalog.redb");
    let catalog = Catalog::open(&RealDisk, &path, 1 << 20).expect("a catalog");
    let change = catalog.change().expect("the disk works");
    tamper(change.transaction());
    change.commit().expect("the disk works");
}

/// Changes the catalog, and expects just these words among what the check says.
#[track_caller]
fn expect(words: &[&str], tamper: Tamper) {
    let store = store();
    assert_eq!(damage(&store.dir), [""; 0], "before it is tampered with");
    change(&store, tamper);
    let damage = damage(&store.dir);
    for words in words {
        assert!(
            damage.iter().any(|what| what.contains(words)),
            "{words:?} is not told of: {damage:?}"
        );
    }
    assert_eq!(damage.len(), words.len(), "{damage:?}");
}

fn damage(dir: &Path) -> Vec<String> {
    verify_directory(dir).expect("a store").damage
}

macro_rules! table {
    ($transaction:expr, $table:expr) => {
        $transaction.open_table($table).expect("there is one")
    };
}

#[test]
fn names_and_streams_that_do_not_lead_to_each_other() {
    expect(&["a leads nowhere and not to stream"], |t| {
        table!(t, NAMES).remove(&b"a"[..]).expect("removed");
    });
    expect(
        &["b leads to stream 0000000000000001, which does not have it"],
        |t| {
            let mut value = vec![1];
            value.extend_from_slice(&1_u64.to_le_bytes());
            table!(t, NAMES).insert(&b"b"[..], &value[..]).expect("put");
        },
    );
}

#[test]
fn marks_that_are_missing_or_too_many() {
    expect(&["forks: stream 0000000000000002, a fork of"], |t| {
        table!(t, FORKS).remove(&pair(1, 2)).expect("removed");
    });
    expect(&["stream 0000000000000003 is not a fork of 1"], |t| {
        table!(t, FORKS).insert(&pair(1, 3), ()).expect("put");
    });
    expect(&["deleted: stream 0000000000000004 is missing"], |t| {
        table!(t, DELETED).remove(&id(4)).expect("removed");
    });
    expect(&["stream 0000000000000001 is not deleted"], |t| {
        table!(t, DELETED).insert(&id(1), ()).expect("put");
    });
    expect(&["trimmed: stream 0000000000000001 keeps nothing"], |t| {
        table!(t, TRIMMED).insert(&id(1), ()).expect("put");
    });
    expect(&["deadlines: stream 0000000000000003 is missing"], |t| {
        let mut deadlines = table!(t, DEADLINES);
        deadlines.retain(|_, ()| false).expect("removed");
    });
    expect(&["stream 0000000000000001 has no deadline at 7"], |t| {
        table!(t, DEADLINES).insert(&pair(7, 1), ()).expect("put");
    });
}

#[test]
fn rows_that_belong_to_nobody() {
    let stray: Tamper = |t| {
        let mut key = id(99).to_vec();
        key.extend_from_slice(b"k");
        let value = [1, 1, b'v'];
        table!(t, CONTROLS).insert(&key[..], &value[..]).expect("put");
    };
    expect(&["controls: the row"], stray);
    let lost: Tamper = |t| {
        table!(t, STREAMS).remove(&id(1)).expect("removed");
    };
    expect(
        &[
            "stream 0000000000000001 is missing, and stream 0000000000000002 was forked from it",
            "names: a leads to stream 0000000000000001",
            "producers: the row",
            "controls: the row",
            "runs: the row",
            "runs: the row",
            "4 streams are counted, and 3 are there",
            "bytes are counted",
        ],
        lost,
    );
}

#[test]
fn rows_that_are_not_as_they_were_written() {
    let broken: Tamper = |t| {
        let mut producers = table!(t, PRODUCERS);
        let (key, mut value) = {
            let entry = producers.first().expect("read").expect("there is one");
            (entry.0.value().to_vec(), entry.1.value().to_vec())
        };
        // Values begin with their version.
        value[0] = 9;
        producers.insert(&key[..], &value[..]).expect("put");
    };
    expect(&["table producers: the row"], broken);
}

#[test]
fn counts_that_are_wrong() {
    for (from_end, words) in [
        (2, "5 streams are counted, and 4 are there"),
        (1, "bytes are counted"),
    ] {
        let store = store();
        change(&store, |t| {
            let mut meta = table!(t, META);
            let value = meta
                .get(&b"store"[..])
                .expect("read")
                .expect("there")
                .value()
                .to_vec();
            let value = changed(&value, from_end, 1);
            meta.insert(&b"store"[..], &value[..]).expect("put");
        });
        let damage = damage(&store.dir);
        assert!(damage.len() == 1 && damage[0].contains(words), "{damage:?}");
    }
    expect(&["live bytes of segment"], |t| {
        let mut segments = table!(t, SEGMENTS);
        let (key, value) = {
            let entry = segments.first().expect("read").expect("there is one");
            (*entry.0.value(), entry.1.value().to_vec())
        };
        let value = changed(&value, 1, u64::MAX);
        segments.insert(&key, &value[..]).expect("put");
    });
}

#[test]
fn runs_that_do_not_follow_each_other() {
    let removed: Tamper = |t| {
        let mut runs = table!(t, RUNS);
        let key = *runs.first().expect("read").expect("there is one").0.value();
        runs.remove(&key).expect("removed");
    };
    expect(
        &[
            "runs: stream 0000000000000001: no run has the positions",
            "live bytes of segment",
        ],
        removed,
    );
    let moved: Tamper = |t| {
        let mut runs = table!(t, RUNS);
        let (key, value) = {
            let entry = runs.first().expect("read").expect("there is one");
            (*entry.0.value(), entry.1.value().to_vec())
        };
        let mut value = value;
        // Behind the version and the end stands where the payload is.
        value[9] ^= 1;
        runs.insert(&key, &value[..]).expect("put");
    };
    expect(&["positions 0 to 11: the catalog says otherwise"], moved);
}
