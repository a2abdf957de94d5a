//! What the parts of an open store owe each other, seen from within: moments that nobody outside can hold on to.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tailwater_stream::{
    Append, ContentType, ControlChange, CreateRequest, Created, Lifetime, Lineage, MessageEnds, NameLimits,
    Part, Position, Record, StreamId, StreamKind, StreamName, Timestamp, Transition,
};
use tempfile::TempDir;

use super::fold::GROUP_LEN;
use super::store::Store;
use super::{Durability, FileOptions, FileStore, upkeep};
use crate::backend::{Backend as _, BackendError, ControlsRequest, ReadError, ReadRequest};
use crate::disk::{Disk, DiskFile, RealDisk, sealed_place_of};

/// A place at which a thread can be held up.
struct Gate {
    reached: Sender<()>,
    go_on: Receiver<()>,
}

/// The real disk, which can be held up when a segment is made.
#[derive(Default)]
struct HeldDisk {
    gate: Mutex<Option<Gate>>,
}

impl HeldDisk {
    /// Holds up whoever makes the next segment: says so, and waits for an answer.
    fn hold(&self) -> (Receiver<()>, Sender<()>) {
        let (reached, is_reached) = channel();
        let (goes_on, go_on) = channel();
        *self.gate.lock() = Some(Gate { reached, go_on });
        (is_reached, goes_on)
    }
}

impl Disk for HeldDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let is_segment = path.extension().is_some_and(|extension| extension == "segment");
        let gate = if is_segment { self.gate.lock().take() } else { None };
        if let Some(gate) = gate {
            gate.reached.send(()).expect("somebody waits");
            gate.go_on.recv().expect("somebody answers");
        }
        RealDisk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_sealed(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }

    fn boot_id(&self) -> Option<String> {
        RealDisk.boot_id()
    }
}

/// An open store with one stream, that compacts only when it is told to.
struct Bench {
    disk: Arc<HeldDisk>,
    files: FileStore,
    tail: u64,
    _dir: TempDir,
}

pub(super) fn stream() -> StreamId {
    StreamId::new(1).expect("an id")
}

pub(super) fn at(position: u64) -> Position {
    Position::new(position).expect("a position")
}

pub(super) fn created() -> Created {
    Created {
        id: stream(),
        name: StreamName::parse("a", NameLimits::default()).expect("a name"),
        kind: StreamKind::Plain,
        beside: None,
        content_type: ContentType::default(),
        lifetime: Lifetime::Forever,
        requested: CreateRequest::default(),
        lineage: Lineage::root(stream()),
        oldest: Position::ZERO,
        messages: 0,
        source: None,
        at: Timestamp::from_millis(1),
    }
}

pub(super) fn append(start: u64, payload: &[u8]) -> Append {
    Append {
        start: at(start),
        payload: Bytes::copy_from_slice(payload),
        ends: MessageEnds::One,
        first_message: start / 5,
        producer: None,
        stream_seq: None,
        closes: false,
        at: Timestamp::from_millis(2),
    }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Arc::new(HeldDisk::default());
        let options = FileOptions {
            journal_bytes: 64 << 10,
            compacts_by_itself: false,
            ..FileOptions::new(PathBuf::from(dir.path()), Durability::Durable, 1 << 20)
        };
        let files = FileStore::open_unlocked(Arc::clone(&disk) as Arc<dyn Disk>, options);
        let bench = Self {
            disk,
            files: files.expect("a new store"),
            tail: 0,
            _dir: dir,
        };
        bench.commit(Transition::Create(Box::new(created())));
        bench
    }

    fn commit(&self, transition: Transition) {
        let record = Record::of(stream(), transition);
        self.files.commit(0, &[record]).expect("the disk works");
    }

    /// Appends five bytes.
    fn append(&mut self) {
        self.commit(Transition::Append(append(self.tail, b"hello")));
        self.tail += 5;
    }

    fn store(&self) -> &Store {
        &self.files.store
    }

    fn fold(&self) -> Result<(), BackendError> {
        let _compacting = self.store().compaction.lock();
        self.store().fold()
    }

    fn read(&self, may_wait: bool) -> Result<Vec<u8>, ReadError> {
        Ok(self.pieces(may_wait)?.concat())
    }

    fn pieces(&self, may_wait: bool) -> Result<Vec<Bytes>, ReadError> {
        let slices = self.files.read(ReadRequest {
            stream: stream(),
            from: Position::ZERO,
            until: at(self.tail),
            bytes_max: u64::MAX,
            may_wait,
        })?;
        Ok(slices.pieces.into_vec())
    }

    fn numbers(&self) -> Vec<u64> {
        let rows = self.store().catalog.view().and_then(|view| view.segments());
        rows.expect("it can be read")
            .iter()
            .map(|row| row.number)
            .collect()
    }

    /// Whether the segment that `work` makes is open at the moment at which the catalog names it.
    fn shows_in_time(&self, work: impl Fn(&Self) -> Result<(), BackendError> + Sync) -> bool {
        let before = self.numbers();
        let (reached, go_on) = self.disk.hold();
        thread::scope(|scope| {
            let worker = scope.spawn(|| work(self));
            reached.recv().expect("a segment is made");
            // Whoever has changed the catalog waits here.
            let generations = self.store().generations.read();
            go_on.send(()).expect("somebody waits");
            let named = loop {
                let named = self.numbers().into_iter().find(|number| !before.contains(number));
                assert!(named.is_some() || !worker.is_finished(), "it ended before");
                if let Some(named) = named {
                    break named;
                }
                thread::yield_now();
            };
            let is_open = self.store().files.read().segments.contains_key(&named);
            drop(generations);
            let done = worker.join().expect("no panic");
            done.expect("the disk works");
            is_open
        })
    }
}

/// A merge that looked at the catalog between the two took the store for damaged, and the server ended.
#[test]
fn a_segment_is_open_before_the_catalog_names_it() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.append();
        assert!(bench.shows_in_time(Bench::fold), "a fold");
    }
    assert_eq!(bench.numbers().len(), 4);
    assert!(bench.shows_in_time(|bench| bench.store().merge()), "a merge");
    assert_eq!(bench.numbers().len(), 1);
    assert_eq!(bench.read(true).expect("it is there"), b"hello".repeat(4));
}

/// A fold copies appends in groups: what fills one, what begins the next, and what stands behind the last whole one.
#[test]
fn a_fold_copies_all_appends_of_all_groups() {
    for count in [GROUP_LEN - 1, GROUP_LEN, GROUP_LEN + 1, 3 * GROUP_LEN + 5] {
        let mut bench = Bench::new();
        let mut written = Vec::new();
        for number in 0..count {
            // The first is longer than what of an append is called for ahead.
            let len = if number == 0 { 1500 } else { 1 + number * 29 % 150 };
            let bytes = vec![number as u8; len];
            bench.commit(Transition::Append(Append {
                first_message: number as u64,
                ..append(bench.tail, &bytes)
            }));
            bench.tail += bytes.len() as u64;
            written.extend(bytes);
        }
        bench.fold().expect("the disk works");
        assert!(bench.store().generations.read().active.is_empty());
        assert!(
            bench.read(true).expect("it is there") == written,
            "{count} appends"
        );
    }
}

/// A journal is written anew once nobody maps it, while a socket may still have its pages.
#[test]
fn what_is_folded_may_be_sent_from_its_file_and_what_is_in_a_journal_may_not() {
    let mut bench = Bench::new();
    let long = vec![7; 40_000];
    bench.commit(Transition::Append(append(0, &long)));
    bench.tail = 40_000;
    let in_journal = bench.pieces(true).expect("it is there");
    assert_eq!(in_journal, [&long[..]]);
    assert!(sealed_place_of(&in_journal[0]).is_none());
    bench.fold().expect("the disk works");
    let folded = bench.pieces(true).expect("it is there");
    assert_eq!(folded, [&long[..]]);
    let place = sealed_place_of(&folded[0]).expect("a segment is never written again");
    let mut stored = vec![0; long.len()];
    place.file.read_exact_at(&mut stored, place.offset).expect("read");
    assert!(stored == long);
}

#[test]
fn a_read_that_may_not_wait_does_not_wait_for_places_that_move() {
    let mut bench = Bench::new();
    bench.append();
    bench.fold().expect("the disk works");
    assert_eq!(bench.read(true).expect("it is there"), b"hello");
    assert_eq!(bench.read(false).expect("its place is known"), b"hello");
    let segments = std::mem::take(&mut bench.store().files.write().segments);
    assert!(matches!(bench.read(false), Err(ReadError::Cold)));
    bench.store().files.write().segments = segments;
    assert_eq!(bench.read(false).expect("its place is known"), b"hello");
}

/// The thread that folds ended without a word, and commits waited for it for ever.
#[test]
fn a_panic_of_a_thread_is_a_failure_of_the_store() {
    let bench = Bench::new();
    let thread = upkeep::spawn("panics", &bench.files.store, |_| panic!("as it was asked to"));
    thread.join().expect("it was caught");
    assert!(matches!(bench.files.failure(), Some(BackendError::Panicked)));
}

/// The thread that merges ended without a word, and no space was ever given back again.
#[test]
fn a_disk_that_does_not_say_how_much_is_free_is_a_failure_of_the_store() {
    let bench = Bench::new();
    std::fs::remove_dir(bench.store().layout.segments_dir()).expect("it is empty");
    bench.store().merge().expect_err("the directory is gone");
    assert!(bench.files.failure().is_some());
}

/// The journal's pages were touched without having been fetched, and the process was ended by SIGBUS.
#[test]
fn a_journal_that_cannot_be_read_is_an_error_of_the_fold() {
    let mut bench = Bench::new();
    bench.append();
    let number = bench.store().log.lock().journal.number;
    let path = bench.store().layout.journal(number);
    let file = OpenOptions::new().write(true).open(path).expect("it is there");
    file.set_len(0).expect("cut off");
    let error = bench.fold().expect_err("its pages are gone");
    assert!(matches!(error, BackendError::Io { .. }), "{error}");
    assert!(bench.files.failure().is_some());
}

/// Releases are in no journal: an idle store kept the space of what was deleted until the next write.
#[test]
fn what_is_given_back_waits_for_a_fold_like_what_is_written() {
    let mut bench = Bench::new();
    bench.append();
    bench.commit(Transition::Delete {
        at: Timestamp::from_millis(3),
    });
    assert!(bench.store().has_waited(Duration::ZERO), "there are batches");
    bench.fold().expect("the disk works");
    assert!(!bench.store().has_waited(Duration::ZERO), "all is folded");
    bench.files.release(stream()).expect("works");
    assert!(bench.store().has_waited(Duration::ZERO));
    assert!(!bench.store().has_waited(Duration::MAX));
    bench.fold().expect("the disk works");
    assert!(!bench.store().has_waited(Duration::ZERO), "all is folded");
}

#[test]
fn a_reclaim_waits_for_a_fold_too() {
    let mut bench = Bench::new();
    bench.append();
    bench.append();
    bench.commit(Transition::Trim {
        before: at(5),
        at: Timestamp::from_millis(3),
    });
    bench.fold().expect("the disk works");
    bench.files.reclaim(stream()).expect("works");
    assert!(bench.store().has_waited(Duration::ZERO));
}

/// A key that was removed since the last fold still stands in the catalog, in place of one that a page has room for.
#[test]
fn a_page_of_control_keys_is_full_though_some_were_removed_since_the_last_fold() {
    let bench = Bench::new();
    let set = |key: &'static str, value: Option<&'static str>| {
        let change = ControlChange {
            stream: stream(),
            key: Bytes::from(key),
            value: value.map(Bytes::from),
        };
        let parts = [Part::Control(change)].into_iter().collect();
        bench
            .files
            .commit(0, &[Record { parts }])
            .expect("the disk works");
    };
    for key in ["k/1", "k/2", "k/4", "k/5", "k/6"] {
        set(key, Some("kept"));
    }
    bench.fold().expect("the disk works");
    set("k/1", None);
    set("k/3", Some("new"));
    set("k/4", None);
    let page = |after: Option<&[u8]>, count_max| {
        let request = ControlsRequest {
            prefix: b"k/",
            after,
            count_max,
        };
        let page = bench.files.list_controls(stream(), &request);
        let page = page.expect("the disk works").into_iter();
        page.map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 1), ["k/2"]);
    assert_eq!(page(None, 3), ["k/2", "k/3", "k/5"]);
    assert_eq!(page(Some(b"k/3"), 1), ["k/5"]);
    assert_eq!(page(Some(b"k/3"), 9), ["k/5", "k/6"]);
}
