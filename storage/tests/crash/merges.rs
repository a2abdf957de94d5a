//! What merging gives back, and what it does about segments that cannot be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tailwater_storage::Backend;
use tailwater_storage::disk::Disk;
use tailwater_storage::file::{Durability, FileStats, verify};
use tailwater_storage::stream::StreamId;
use tailwater_storage::{FileOptions, FileStore};

use super::run::DIR;
use crate::author::{Author, Body, commit, release_all, text};
use crate::support::faulty_disk::FaultyDisk;

/// What an append holds here, most of the time.
const APPEND_BYTES: u64 = 4000;
/// What a segment takes beside the payload of a few streams.
const OVERHEAD_BYTES: u64 = 4000;

/// A store that compacts only when it is told to.
struct Shelf {
    disk: Arc<FaultyDisk>,
    store: FileStore,
    author: Author,
}

impl Shelf {
    fn new() -> Self {
        let options = FileOptions {
            journal_bytes: 1 << 20,
            segment_bytes_max: 1 << 20,
            compacts_by_itself: false,
            ..FileOptions::new(PathBuf::from(DIR), Durability::Durable, 1 << 20)
        };
        let disk = FaultyDisk::new(1);
        let store = FileStore::open_unlocked(Arc::clone(&disk) as Arc<dyn Disk>, options);
        Self {
            disk,
            store: store.expect("a new store"),
            author: Author::default(),
        }
    }

    /// A stream of appends of [`APPEND_BYTES`], each all of its own letter.
    fn stream(&mut self, name: &str, appends: u64) -> StreamId {
        let payloads: Vec<_> = (0..appends).map(|number| payload(number).to_string()).collect();
        let payloads: Vec<_> = payloads.iter().map(String::as_str).collect();
        self.author.stream_of(&self.store, name, &payloads)
    }

    fn trim(&mut self, id: StreamId, before: u64) {
        commit(&self.store, &[self.author.trim(id, before)]);
        self.store.reclaim(id).expect("the disk works");
    }

    fn delete(&mut self, id: StreamId) {
        commit(&self.store, &[self.author.delete(id)]);
        release_all(&self.store);
    }

    fn compact(&self) {
        self.store.compact().expect("the store goes on");
        assert!(self.store.failure().is_none());
    }

    fn stats(&self) -> FileStats {
        self.store.stats().expect("the disk works")
    }

    /// The paths of all segments.
    fn segments(&self) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
        files
    }

    fn unreadable(&self) -> u64 {
        self.store.activity().unreadable_segments
    }

    #[track_caller]
    fn assert_reads(&self, id: StreamId, from: u64, until: u64) {
        let read = text(&self.store, id, from, until, u64::MAX);
        let all: String = (0..until.div_ceil(APPEND_BYTES)).map(payload).collect();
        assert!(
            read == all[from as usize..until as usize],
            "from {from} to {until}"
        );
    }

    /// What `verify` finds in the store as a crash would leave it.
    fn damage(&self) -> Vec<String> {
        let disk = self.disk.crash_process();
        verify(disk.as_ref(), Path::new(DIR)).expect("a store").damage
    }

    #[track_caller]
    fn assert_is_whole(&self) {
        assert_eq!(self.damage(), [""; 0]);
    }

    /// Flips a bit in the first byte of a payload, where it stands in a segment.
    fn spoil(&self, path: &Path, payload: &str) {
        let content = self.disk.read_file(path);
        let mut windows = content.windows(payload.len());
        let place = windows.position(|bytes| bytes == payload.as_bytes());
        self.disk.flip_bit(path, place.expect("it is there") as u64);
    }
}

fn payload(number: u64) -> String {
    let letter = char::from(b'a' + (number % 26) as u8);
    std::iter::repeat_n(letter, APPEND_BYTES as usize).collect()
}

/// A run was live as a whole or not at all: a long stream that was trimmed all the time never gave space back.
#[test]
fn a_trim_within_a_run_gives_its_space_back() {
    let mut shelf = Shelf::new();
    let id = shelf.stream("a", 100);
    shelf.compact();
    let bytes = 100 * APPEND_BYTES;
    assert_eq!(shelf.stats().live_bytes, bytes);
    shelf.trim(id, 99 * APPEND_BYTES);
    shelf.compact();
    let stats = shelf.stats();
    assert_eq!((stats.live_bytes, stats.dead_bytes), (APPEND_BYTES, 0));
    assert!(stats.segment_bytes < APPEND_BYTES + OVERHEAD_BYTES, "{stats:?}");
    shelf.assert_reads(id, 99 * APPEND_BYTES, bytes);
    shelf.assert_is_whole();
}

/// Segments of at least half the greatest size are never merged for their number.
#[test]
fn a_large_segment_gives_back_what_is_trimmed_within_its_runs() {
    let mut shelf = Shelf::new();
    let ids = ["a", "b"].map(|name| shelf.stream(name, 120));
    shelf.compact();
    assert!(shelf.stats().segment_bytes > 1 << 19);
    for id in ids {
        shelf.trim(id, 110 * APPEND_BYTES);
    }
    shelf.compact();
    let stats = shelf.stats();
    assert_eq!(stats.live_bytes, 20 * APPEND_BYTES);
    assert!(
        stats.segment_bytes < 20 * APPEND_BYTES + OVERHEAD_BYTES,
        "{stats:?}"
    );
    shelf.assert_is_whole();
}

#[test]
fn live_bytes_are_those_that_are_wanted_whenever_they_are_trimmed() {
    let mut shelf = Shelf::new();
    let (trimmed, other) = (shelf.stream("a", 20), shelf.stream("b", 20));
    let (mut tail, mut oldest) = (20 * APPEND_BYTES, 0);
    // Before it was folded, at ends of appends and within them.
    for step in [
        1,
        APPEND_BYTES - 1,
        APPEND_BYTES,
        10,
        5 * APPEND_BYTES,
        123,
        7 * APPEND_BYTES,
    ] {
        oldest += step;
        shelf.trim(trimmed, oldest);
        shelf.compact();
        assert_eq!(
            shelf.stats().live_bytes,
            tail - oldest + 20 * APPEND_BYTES,
            "{oldest}"
        );
        shelf.assert_reads(trimmed, oldest, tail);
        shelf.assert_is_whole();
        let number = tail / APPEND_BYTES;
        let append = shelf.author.append(trimmed, Body::one(payload(number)));
        commit(&shelf.store, &[append]);
        tail += APPEND_BYTES;
    }
    shelf.compact();
    shelf.delete(other);
    shelf.compact();
    assert_eq!(shelf.stats().live_bytes, tail - oldest);
    shelf.assert_is_whole();
    shelf.trim(trimmed, tail);
    shelf.compact();
    assert!(shelf.segments().is_empty());
    shelf.assert_is_whole();
}

/// What is dead of an append does not go before the rest of it. Its segment must not be rewritten for that for ever.
#[test]
fn an_append_that_is_half_dead_is_rewritten_no_more_than_once() {
    let mut shelf = Shelf::new();
    let (id, create) = shelf.author.create("a");
    let message = &*payload(0);
    let body = Body::many(&[message; 10]);
    commit(&shelf.store, &[create, shelf.author.append(id, body)]);
    shelf.trim(id, 9 * APPEND_BYTES);
    for _ in 0..3 {
        shelf.compact();
    }
    assert_eq!(shelf.store.activity().merges, 1);
    assert_eq!(shelf.stats().live_bytes, APPEND_BYTES);
    shelf.assert_is_whole();
    let more = Body::many(&[message; 10]);
    commit(&shelf.store, &[shelf.author.append(id, more)]);
    shelf.trim(id, 10 * APPEND_BYTES);
    shelf.compact();
    let stats = shelf.stats();
    assert_eq!((stats.live_bytes, stats.dead_bytes), (10 * APPEND_BYTES, 0));
}

/// The server ended over it, and ended again whenever it was started.
#[test]
fn a_segment_that_cannot_be_read_is_left_as_it_is_and_stops_nothing() {
    let mut shelf = Shelf::new();
    let (spoilt, neighbour) = (shelf.stream("a", 10), shelf.stream("b", 10));
    shelf.compact();
    let [path] = &shelf.segments()[..] else {
        panic!("one segment");
    };
    shelf.spoil(path, &payload(3));
    // It is due to be rewritten.
    shelf.trim(neighbour, 9 * APPEND_BYTES);
    shelf.trim(spoilt, 2 * APPEND_BYTES);
    shelf.compact();
    assert_eq!(shelf.unreadable(), 1);
    assert_eq!(shelf.segments(), std::slice::from_ref(path));
    assert!(shelf.damage()[0].contains("the payload is not what was written"));
    shelf.assert_reads(spoilt, 4 * APPEND_BYTES, 10 * APPEND_BYTES);
    shelf.assert_reads(neighbour, 9 * APPEND_BYTES, 10 * APPEND_BYTES);

    // Others are merged, and this one is not tried over and over.
    let others: Vec<_> = ["c", "d", "e", "f"]
        .map(|name| {
            let id = shelf.stream(name, 2);
            shelf.compact();
            id
        })
        .into();
    assert_eq!(shelf.segments().len(), 2);
    assert_eq!(shelf.store.activity().merges, 1);
    for id in others {
        shelf.assert_reads(id, 0, 2 * APPEND_BYTES);
    }
    assert_eq!(shelf.unreadable(), 1);

    // Without the stream that is damaged, all can be read.
    shelf.delete(spoilt);
    shelf.compact();
    assert!(!shelf.segments().contains(path));
    shelf.assert_reads(neighbour, 9 * APPEND_BYTES, 10 * APPEND_BYTES);
    assert_eq!(shelf.unreadable(), 1);
    shelf.assert_is_whole();
}

#[test]
fn a_damaged_place_that_is_trimmed_away_hinders_nothing_any_more() {
    let mut shelf = Shelf::new();
    // A block of a run has 256 KiB, and is read as a whole.
    let spoilt = shelf.stream("a", 100);
    shelf.compact();
    let path = shelf.segments().remove(0);
    shelf.spoil(&path, &payload(3));
    shelf.trim(spoilt, 55 * APPEND_BYTES);
    shelf.compact();
    assert_eq!((shelf.unreadable(), shelf.segments().len()), (1, 1));
    // It is not tried for every trim, each of which would copy much of the segment in vain.
    shelf.trim(spoilt, 56 * APPEND_BYTES);
    shelf.compact();
    assert_eq!((shelf.unreadable(), shelf.segments().len()), (1, 1));
    shelf.trim(spoilt, 90 * APPEND_BYTES);
    shelf.compact();
    assert_eq!(shelf.unreadable(), 1);
    assert_eq!(shelf.stats().dead_bytes, 0);
    shelf.assert_reads(spoilt, 90 * APPEND_BYTES, 100 * APPEND_BYTES);
    shelf.assert_is_whole();
}

/// Its footer says what is in it. Without that nothing of it can be moved, but it goes once nothing is wanted.
#[test]
fn a_segment_of_which_it_is_not_known_what_is_in_it_goes_when_all_of_it_is_dead() {
    let mut shelf = Shelf::new();
    let (first, second) = (shelf.stream("a", 10), shelf.stream("b", 10));
    shelf.compact();
    let path = shelf.segments().remove(0);
    let len = shelf.disk.read_file(&path).len() as u64;
    // Before the trailer of 64 bytes, two entries of 48 bytes stand there.
    shelf.disk.flip_bit(&path, len - 64 - 50);
    shelf.delete(first);
    shelf.compact();
    assert_eq!((shelf.unreadable(), shelf.segments().len()), (1, 1));
    shelf.assert_reads(second, 0, 10 * APPEND_BYTES);
    shelf.delete(second);
    shelf.compact();
    assert!(shelf.segments().is_empty());
    assert_eq!(shelf.unreadable(), 1);
    shelf.assert_is_whole();
}
