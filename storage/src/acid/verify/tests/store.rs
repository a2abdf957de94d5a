//! A store of two shards that has a row in every table, and how to tamper with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use redb::WriteTransaction;
use tailwater_stream::{
    ContentType, ControlChange, CreateCommand, Epoch, ForkRequest, Lifetime, NameLimits, Part, ProducerId,
    ProducerMark, Record, Seq, StreamId, StreamName,
};
use tempfile::TempDir;

use crate::acid::layout::{self, Layout};
use crate::acid::placement::Placement;
use crate::acid::{AcidOptions, AcidVerifyReport, open, verify_directory};
use crate::backend::Backend as _;
use crate::clock::ManualClock;
use crate::database::Database;
use crate::disk::RealDisk;
use crate::engine::{AppendRequest, Engine, EngineLimits};

const SHARDS: u32 = 2;
/// So long that it does not stand in its stream's row. As a varint it takes two bytes.
pub(super) const ROW_BYTES: usize = 2_000;
/// So long that it stands in three pieces.
pub(super) const LONG_BYTES: usize = 150_000;

/// What has what role in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Who {
    /// In shard 0. Has two appends of [`ROW_BYTES`], a producer and a control key.
    Source,
    /// Stands beside that one, and its name is looked up in shard 1. Has an append of three bytes, in its row.
    Fork,
    /// In shard 0, with one append of [`LONG_BYTES`].
    Long,
    /// In shard 0, and will expire.
    Living,
    /// Deleted, in shard 1, with one append of [`ROW_BYTES`], and held by [`Who::Heir`].
    Gone,
    /// A fork of that one, in shard 1.
    Heir,
}

/// A store that nobody has open.
pub(super) struct Store {
    _above: Option<TempDir>,
    pub(super) dir: PathBuf,
    streams: BTreeMap<Who, (StreamId, StreamName)>,
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}

/// A name that is looked up in a shard.
pub(super) fn name_in(shard: usize, beginning: &str) -> StreamName {
    let mut names = (0..).map(|number| name(&format!("{beginning}{number}")));
    names
        .find(|name| Placement::of_name(name).shard(SHARDS as usize) == shard)
        .expect("there are names for every shard")
}

fn body(text: impl Into<Bytes>) -> AppendRequest {
    AppendRequest {
        body: text.into(),
        content_type: Some(ContentType::default()),
        ..AppendRequest::default()
    }
}

async fn fill(engine: &Engine, names: &BTreeMap<Who, StreamName>) {
    let create = async |who, lifetime, source: Option<Who>| {
        let command = CreateCommand {
            lifetime,
            fork: source.map(|source| ForkRequest {
                source: names[&source].clone(),
                offset: None,
                sub_offset: 0,
            }),
            ..CreateCommand::default()
        };
        engine.create(&names[&who], command).await.expect("created");
    };
    let append = async |who, request| {
        engine.append(&names[&who], request).await.expect("appended");
    };
    let mark = ProducerMark {
        id: ProducerId::parse("p").expect("an id"),
        epoch: Epoch::ZERO,
        seq: Seq::new(0).expect("a number"),
    };
    let marked = AppendRequest {
        producer: Some(mark),
        ..body(vec![b'2'; ROW_BYTES])
    };
    create(Who::Source, Lifetime::Forever, None).await;
    append(Who::Source, body(vec![b'1'; ROW_BYTES])).await;
    append(Who::Source, marked).await;
    create(Who::Fork, Lifetime::Forever, Some(Who::Source)).await;
    append(Who::Fork, body("own")).await;
    create(Who::Long, Lifetime::Forever, None).await;
    append(Who::Long, body(vec![b'x'; LONG_BYTES])).await;
    create(Who::Living, Lifetime::Ttl { seconds: 10 }, None).await;
    create(Who::Gone, Lifetime::Forever, None).await;
    append(Who::Gone, body(vec![b'l'; ROW_BYTES])).await;
    create(Who::Heir, Lifetime::Forever, Some(Who::Gone)).await;
    engine.delete(&names[&Who::Gone]).await.expect("deleted");
}

fn make() -> Store {
    let above = tempfile::tempdir().expect("a directory");
    let dir = above.path().join("store");
    let options = AcidOptions {
        shard_count: SHARDS,
        cache_bytes: 1 << 20,
        ..AcidOptions::new(dir.clone())
    };
    let backend = Arc::new(open(&options).expect("a new store"));
    let names = BTreeMap::from([
        (Who::Source, name_in(0, "source")),
        (Who::Fork, name_in(1, "fork/")),
        (Who::Long, name_in(0, "long")),
        (Who::Living, name_in(0, "living")),
        (Who::Gone, name_in(1, "gone")),
        (Who::Heir, name_in(1, "heir")),
    ]);
    let clock = Arc::new(ManualClock::at_millis(1_000_000_000));
    let shown = Arc::clone(&backend) as Arc<dyn crate::Backend>;
    let engine = Engine::start(shown, clock, EngineLimits::default()).expect("it starts");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(fill(&engine, &names));
    let streams: BTreeMap<_, _> = names
        .into_iter()
        .map(|(who, name)| {
            let state = backend.load(&name).expect("readable").expect("it is there");
            (who, (state.id, name))
        })
        .collect();
    engine.stop();
    let control = ControlChange {
        stream: streams[&Who::Source].0,
        key: Bytes::from_static(b"k"),
        value: Some(Bytes::from_static(b"v")),
    };
    let record = Record {
        parts: [Part::Control(control)].into_iter().collect(),
    };
    backend.commit(0, &[record]).expect("committed");
    Store {
        _above: Some(above),
        dir,
        streams,
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}

impl Store {
    /// A store of one's own.
    pub(super) fn new() -> Self {
        static MADE: OnceLock<Store> = OnceLock::new();
        let made = MADE.get_or_init(make);
        let above = tempfile::tempdir().expect("a directory");
        let dir = above.path().join("store");
        copy(&made.dir, &dir);
        Self {
            _above: Some(above),
            dir,
            streams: made.streams.clone(),
        }
    }

    pub(super) fn id(&self, who: Who) -> StreamId {
        self.streams[&who].0
    }

    pub(super) fn name(&self, who: Who) -> &StreamName {
        &self.streams[&who].1
    }

    pub(super) fn shard_file(&self, number: u32) -> PathBuf {
        Layout::new(&RealDisk, &self.dir).shard(number, SHARDS)
    }

    /// Changes a shard as no commit would.
    pub(super) fn change(&self, shard: u32, tamper: impl FnOnce(&WriteTransaction)) {
        let options = layout::cached(1 << 20, SHARDS);
        let database = Database::open(&RealDisk, &self.shard_file(shard), options).expect("a shard");
        let change = database.change().expect("the disk works");
        tamper(change.transaction());
        change.commit().expect("the disk works");
    }

    pub(super) fn check(&self) -> AcidVerifyReport {
        verify_directory(&self.dir).expect("a store")
    }

    /// Expects just these words among what a check says.
    #[track_caller]
    pub(super) fn expect(&self, words: &[String]) {
        let damage = self.check().damage;
        for words in words {
            assert!(
                damage.iter().any(|what| what.contains(words)),
                "{words:?} is not told of: {damage:?}"
            );
        }
        assert_eq!(damage.len(), words.len(), "{damage:?}");
    }
}

/// Changes a shard of a store, and expects just these words among what a check says.
#[track_caller]
pub(super) fn expect(shard: u32, words: &[&str], tamper: impl FnOnce(&Store, &WriteTransaction)) {
    let store = Store::new();
    store.change(shard, |transaction| tamper(&store, transaction));
    store.expect(&words.iter().map(|words| (*words).to_owned()).collect::<Vec<_>>());
}
