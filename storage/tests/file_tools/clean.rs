//! A check finds nothing where nothing is, and changes nothing. So does a look at the numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tailwater_storage::Backend;
use tailwater_storage::OpenError;
use tailwater_storage::disk::RealDisk;
use tailwater_storage::file::{
    self, Durability, VerifyReport, stats_of, stats_of_directory, verify, verify_directory,
};

use super::shop::{DIR, FAST, Shop, contents, open, options};
use crate::author::{Author, Body, commit};
use crate::naive::Naive;
use crate::support::faulty_disk::FaultyDisk;

/// Checks a store that must be whole, and that this changes nothing.
fn checked(disk: &FaultyDisk) -> VerifyReport {
    let (before, operations) = (contents(disk), disk.operations());
    let report = verify(disk, Path::new(DIR)).expect("there is a store");
    assert_eq!(report.damage, [""; 0]);
    assert!(report.is_clean());
    stats_of(disk, Path::new(DIR)).expect("there is a store");
    assert!(contents(disk) == before, "the directory was changed");
    assert_eq!(disk.operations(), operations, "something was written");
    report
}

fn assert_counts(disk: &FaultyDisk, model: &Naive) {
    let stats = stats_of(disk, Path::new(DIR)).expect("there is a store");
    let deleted = model.stored().filter(|state| state.deleted).count() as u64;
    assert_eq!(
        (stats.streams, stats.deleted_streams),
        (model.stored().count() as u64, deleted)
    );
    let segments = disk.files().into_iter().filter(|path| {
        let extension = path.extension();
        extension.is_some_and(|extension| extension == "segment")
    });
    assert_eq!(stats.segments, segments.count() as u64);
}

#[test]
fn nothing_is_wrong_at_any_moment_of_a_life() {
    for seed in 0..60 {
        let durability = if seed % 2 == 0 { Durability::Durable } else { FAST };
        let mut shop = Shop::new(seed, durability);
        for _ in 0..shop.rng.usize(1..60) {
            shop.step();
        }
        println!("seed {seed}: the process is killed");
        checked(&shop.disk.crash_process());
        println!("seed {seed}: the power goes");
        checked(&shop.disk.crash_machine());
        println!("seed {seed}: it stops, and nothing is left in the journals");
        let (disk, model) = shop.stop();
        assert_eq!(checked(&disk).journal_batches, 0);
        assert_counts(&disk, &model);
    }
}

#[test]
fn what_stands_in_journals_alone_is_counted_too() {
    let mut shop = Shop::new(1, Durability::Durable);
    for _ in 0..40 {
        shop.commit();
    }
    let online = shop.store.stats().expect("the disk works");
    let (disk, model) = shop.crash();
    let report = checked(&disk);
    assert_eq!((report.streams, report.segments), (0, 0), "nothing was folded");
    assert_eq!(report.journal_batches, 40);
    assert_counts(&disk, &model);
    let offline = stats_of(disk.as_ref(), Path::new(DIR)).expect("there is a store");
    assert_eq!(offline, online);
    assert_eq!(offline.unfolded_bytes, report.journal_bytes);
}

#[test]
fn numbers_of_an_open_store_are_those_of_its_directory() {
    for seed in 0..20 {
        let mut shop = Shop::new(seed, FAST);
        for _ in 0..50 {
            shop.commit();
        }
        shop.compact();
        for _ in 0..5 {
            shop.commit();
        }
        let activity = shop.store.activity();
        assert!(activity.folds > 0 && activity.folded_bytes > 0 && activity.index_bytes > 0);
        assert!(activity.journal_bytes_written > 0 && !activity.refuses_appends);
        let online = shop.store.stats().expect("the disk works");
        assert!(online.live_bytes + online.dead_bytes <= online.segment_bytes);
        let (disk, model) = shop.crash();
        assert_counts(&disk, &model);
        let offline = stats_of(disk.as_ref(), Path::new(DIR)).expect("there is a store");
        assert_eq!(offline, online, "seed {seed}");
    }
}

#[test]
fn a_write_that_was_interrupted_is_told_of_and_is_no_damage() {
    let mut told = 0;
    for seed in 0..40 {
        let mut shop = Shop::new(seed, Durability::Durable);
        for _ in 0..10 {
            shop.commit();
        }
        let state = shop.model.alive().first().map(|state| state.id);
        let Some(stream) = state.filter(|id| !shop.model.author.state(*id).closed) else {
            continue;
        };
        shop.disk.cut_at(shop.disk.operations() + 1);
        let append = shop
            .model
            .author
            .append(stream, Body::one("lost in the middle".repeat(200)));
        shop.store.commit(0, &[append]).expect_err("the machine stops");
        let disk = shop.disk.crash_process();
        let report = checked(&disk);
        told += usize::from(report.notes.iter().any(|note| note.contains("cut off")));
        // The check and the start agree.
        drop(open(&disk, Path::new(DIR), Durability::Durable));
    }
    assert!(told > 5, "only {told} of the writes left something behind");
}

#[test]
fn a_new_store_is_whole() {
    let disk = FaultyDisk::new(1);
    drop(open(&disk, Path::new(DIR), FAST));
    let report = checked(&disk);
    assert_eq!(
        (report.streams, report.segments, report.journal_batches),
        (0, 0, 0)
    );
}

#[test]
fn a_directory_without_a_store_is_refused_and_not_made() {
    let above = tempfile::tempdir().expect("a directory");
    let absent = above.path().join("absent");
    for dir in [above.path(), &absent] {
        assert!(matches!(verify_directory(dir), Err(OpenError::NoStore { .. })));
        assert!(matches!(stats_of_directory(dir), Err(OpenError::NoStore { .. })));
    }
    assert_eq!(std::fs::read_dir(above.path()).expect("it is there").count(), 0);
}

/// All files below a directory, with all their bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut tree = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tree.extend(self::tree(&path));
        } else {
            tree.insert(path.clone(), std::fs::read(&path).expect("a file"));
        }
    }
    tree
}

#[test]
fn a_store_in_use_is_refused_and_otherwise_left_as_it_is() {
    let above = tempfile::tempdir().expect("a directory");
    let dir = above.path().join("store");
    let store = file::open(options(&dir, Durability::Durable)).expect("a new store");
    let mut author = Author::default();
    author.stream_of(&store, "a", &["one", "two"]);
    assert!(
        matches!(verify_directory(&dir), Err(OpenError::Locked { pid, .. }) if pid == Some(std::process::id()))
    );
    assert!(matches!(stats_of_directory(&dir), Err(OpenError::Locked { .. })));
    store.compact().expect("the disk works");
    let a = author.states.keys().next().copied().expect("one stream");
    commit(&store, &[author.append(a, Body::one("three"))]);
    drop(store);

    let before = tree(&dir);
    let report = verify_directory(&dir).expect("nobody uses it");
    assert_eq!(report.damage, [""; 0]);
    assert_eq!(
        (report.streams, report.appends, report.journal_batches),
        (1, 2, 1)
    );
    assert_eq!(stats_of_directory(&dir).expect("nobody uses it").stored_bytes, 11);
    assert!(tree(&dir) == before, "the directory was changed");

    std::fs::remove_file(dir.join("LOCK")).expect("it was there");
    assert!(verify_directory(&dir).expect("nobody uses it").is_clean());
    assert!(!dir.join("LOCK").exists(), "a file was made");
    let store = file::open(options(&dir, Durability::Durable)).expect("the same store");
    assert_eq!(store.usage().bytes, 11);
    drop(store);
    assert!(verify(&RealDisk, &dir).expect("a store").is_clean());
}
