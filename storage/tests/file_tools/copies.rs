//! Copies are the store as it was at one moment, and live on by themselves.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tailwater_storage::Backend;
use tailwater_storage::disk::Disk;
use tailwater_storage::file::{self, Durability, verify};
use tailwater_storage::stream::{OffsetRefusal, OffsetToken, StreamId};

use super::shop::{FAST, Shop, files, open, options};
use crate::author::{Author, Body, commit, load};
use crate::naive::Naive;
use crate::sameness::{assert_holds, in_new_era};
use crate::support::faulty_disk::FaultyDisk;

fn assert_whole(disk: &dyn Disk, dir: &Path) {
    let report = verify(disk, dir).expect("a store");
    assert_eq!(report.damage, [""; 0]);
}

/// Tokens of places behind the tails of `then` that were handed out until `now`.
fn handed_out_since(then: &Naive, now: &Naive) -> Vec<(StreamId, OffsetToken)> {
    let alive = then.alive().into_iter().filter(|state| !state.closed);
    let moved = alive.filter_map(|state| {
        let later = now.author.states.get(&state.id)?;
        (later.tail > state.tail).then(|| (state.id, later.tail_token()))
    });
    moved.collect()
}

#[test]
fn copies_of_any_moment_are_what_was_there_and_live_on() {
    for seed in 0..40 {
        println!("seed {seed}");
        let durability = if seed % 2 == 0 { Durability::Durable } else { FAST };
        let mut shop = Shop::new(seed, durability);
        let mut copies: Vec<(PathBuf, Naive)> = Vec::new();
        for _ in 0..60 {
            if shop.rng.u8(..15) == 0 {
                let to = PathBuf::from(format!("/copies/{}", copies.len()));
                let report = shop.store.backup(&to).expect("the disk works");
                assert_eq!(report.streams, shop.model.stored().count() as u64);
                assert_eq!(
                    report.segments,
                    files(&shop.disk, &to.display().to_string(), "segment").len() as u64
                );
                assert_eq!(report.copied_segments, 0);
                copies.push((to, shop.model.clone()));
            }
            shop.step();
        }
        // Merging removes the names of segments that copies have too.
        shop.compact();
        assert_holds(&shop.store, &shop.model);
        for (to, then) in copies {
            assert_whole(shop.disk.as_ref(), &to);
            let copy = open(&shop.disk, &to, durability);
            let model = in_new_era(&then, &copy);
            assert_holds(&copy, &model);
            live_on(&copy, model, &handed_out_since(&then, &shop.model));
            copy.stop().expect("the disk works");
            drop(copy);
            assert_whole(shop.disk.as_ref(), &to);
        }
        assert_holds(&shop.store, &shop.model);
        let (disk, model) = shop.stop();
        assert_holds(&open(&disk, Path::new("/data"), durability), &model);
    }
}

/// Appends to all streams of a copy, beyond all that was handed out by the original, whose tokens stay refused.
fn live_on(copy: &file::FileStore, mut model: Naive, handed_out: &[(StreamId, OffsetToken)]) {
    let assert_refused = |model: &Naive| {
        for (id, token) in handed_out {
            let name = &model.author.states[id].name;
            let state = load(copy, name.as_str()).expect("it is there");
            assert_eq!(
                state.lineage.resolve(*token, state.oldest, state.tail),
                Err(OffsetRefusal::Unknown),
                "{token} of {id}"
            );
        }
    };
    assert_refused(&model);
    let open: Vec<_> = model
        .alive()
        .into_iter()
        .filter(|state| !state.closed)
        .map(|state| state.id)
        .collect();
    for id in open {
        for _ in 0..2 {
            let append = model.author.append(id, Body::one("z".repeat(70_000 / 4)));
            model.note(&append);
            commit(copy, &[append]);
        }
    }
    assert_refused(&model);
    copy.compact().expect("the disk works");
    assert_refused(&model);
    assert_holds(copy, &model);
}

#[test]
fn copies_of_copies_and_of_empty_stores_are_stores() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk, Path::new("/data"), Durability::Durable);
    store.backup(Path::new("/empty")).expect("the disk works");
    let mut author = Author::default();
    author.stream_of(&store, "a", &["one"]);
    store.backup(Path::new("/one")).expect("the disk works");
    let one = open(&disk, Path::new("/one"), Durability::Durable);
    let a = load(&one, "a").expect("it is there").id;
    commit(&one, &[author.append(a, Body::one("two"))]);
    one.backup(Path::new("/two")).expect("the disk works");
    let bytes = ["/empty", "/two"].map(|dir| {
        assert_whole(disk.as_ref(), Path::new(dir));
        open(&disk, Path::new(dir), Durability::Durable).usage().bytes
    });
    assert_eq!(bytes, [0, 6]);
}

#[test]
fn segments_are_links_that_outlive_their_originals() {
    let above = tempfile::tempdir().expect("a directory");
    let (dir, to) = (above.path().join("store"), above.path().join("deep/down/copy"));
    let store = file::open(options(&dir, Durability::Durable)).expect("a new store");
    let mut author = Author::default();
    let a = author.stream_of(&store, "a", &["one", "two"]);
    let report = store.backup(&to).expect("the disk works");
    let segments = |dir: &Path| {
        let entries = std::fs::read_dir(dir.join("segments")).expect("a directory");
        let mut inodes: Vec<_> = entries
            .map(|entry| entry.expect("an entry").metadata().expect("a file").ino())
            .collect();
        inodes.sort_unstable();
        inodes
    };
    assert_eq!((report.segments, report.copied_segments), (1, 0));
    assert_eq!(segments(&to), segments(&dir));
    let mode = |path: &Path| path.metadata().expect("it is there").mode() & 0o777;
    assert_eq!((mode(&to), mode(&to.join("catalog.redb"))), (0o700, 0o600));

    commit(&store, &[author.delete(a)]);
    store.release(a).expect("the disk works");
    store.compact().expect("the disk works");
    assert_eq!(segments(&dir), [0; 0], "the original lets go of its bytes");
    let copy = file::open(options(&to, Durability::Durable)).expect("a store");
    assert_eq!(crate::author::text(&copy, a, 0, 6, 100), "onetwo");
}

/// Refuses links, as between two file systems.
struct Unlinked(Arc<FaultyDisk>);

impl Disk for Unlinked {
    fn create(&self, path: &Path) -> std::io::Result<Arc<dyn tailwater_storage::disk::DiskFile>> {
        self.0.create(path)
    }

    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn tailwater_storage::disk::DiskFile>> {
        self.0.open(path)
    }

    fn open_sealed(&self, path: &Path) -> std::io::Result<Arc<dyn tailwater_storage::disk::DiskFile>> {
        self.0.open_sealed(path)
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.0.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.remove_dir(dir)
    }

    fn link(&self, _: &Path, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::CrossesDevices.into())
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> std::io::Result<u64> {
        self.0.free_bytes(dir)
    }

    fn boot_id(&self) -> Option<String> {
        self.0.boot_id()
    }
}

#[test]
fn where_links_are_impossible_segments_are_copied() {
    for seed in 0..5 {
        let mut shop = Shop::new(seed, Durability::Durable);
        for _ in 0..40 {
            shop.step();
        }
        let Shop {
            disk, store, model, ..
        } = shop;
        store.stop().expect("the disk works");
        drop(store);
        let options = options(Path::new("/data"), Durability::Durable);
        let store = file::FileStore::open_unlocked(Arc::new(Unlinked(Arc::clone(&disk))), options)
            .expect("the store opens");
        let report = store.backup(Path::new("/copy")).expect("the disk works");
        assert_eq!(report.copied_segments, report.segments);
        assert!(report.segments > 0);
        drop(store);
        // All of it is durable.
        let disk = disk.crash_machine();
        for path in files(&disk, "/data", "segment") {
            disk.remove(&path).expect("it is there");
        }
        assert_whole(disk.as_ref(), Path::new("/copy"));
        let copy = open(&disk, Path::new("/copy"), Durability::Durable);
        assert_holds(&copy, &in_new_era(&model, &copy));
    }
}

/// What is appended while copies are made is in them up to some moment, and nothing behind that.
#[test]
fn commits_go_on_and_a_copy_has_all_of_them_up_to_one_moment() {
    let above = tempfile::tempdir().expect("a directory");
    let dir = above.path().join("store");
    let options = file::FileOptions {
        compacts_by_itself: true,
        ..options(&dir, FAST)
    };
    let store = file::open(options.clone()).expect("a new store");
    let mut author = Author::default();
    let streams: Vec<_> = (0..3)
        .map(|number| author.stream_of(&store, &format!("s{number}"), &[]))
        .collect();
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let number = acknowledged.load(Ordering::Relaxed);
                let body = Body::one(format!("{number:08}"));
                let stream = streams[number as usize % streams.len()];
                commit(&store, &[author.append(stream, body)]);
                acknowledged.store(number + 1, Ordering::Release);
            }
        });
        for number in 0..6 {
            let to = above.path().join(format!("copy{number}"));
            let before = acknowledged.load(Ordering::Acquire);
            store.backup(&to).expect("the disk works");
            copies.push((to, before, acknowledged.load(Ordering::Acquire)));
            // The next copy is one of a later moment.
            while acknowledged.load(Ordering::Acquire) < before + 100 {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
    });
    for (to, before, after) in copies {
        assert_whole(&tailwater_storage::disk::RealDisk, &to);
        let copy = file::open(file::FileOptions {
            data_dir: to,
            compacts_by_itself: false,
            ..options.clone()
        });
        let copy = copy.expect("a store");
        let mut found = Vec::new();
        for (number, stream) in streams.iter().enumerate() {
            let tail = load(&copy, &format!("s{number}")).expect("it is there").tail;
            let text = crate::author::text(&copy, *stream, 0, tail.get(), u64::MAX);
            let numbers = text.as_bytes().chunks(8);
            found.extend(numbers.map(|text| String::from_utf8_lossy(text).parse::<u64>().expect("a number")));
        }
        found.sort_unstable();
        let count = found.len() as u64;
        assert!(found.into_iter().eq(0..count), "there is a gap");
        // One more may be committed that is not acknowledged yet.
        assert!(
            (before..=after + 1).contains(&count),
            "{count}, not {before} to {after}"
        );
    }
}
