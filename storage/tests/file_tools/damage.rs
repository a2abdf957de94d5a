//! A check finds what was planted.

use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::Backend;
use tailwater_storage::disk::Disk;
use tailwater_storage::file::{Durability, VerifyReport, verify};

use super::shop::{DIR, Shop, files, try_open};
use crate::author::{Author, Body, commit};
use crate::naive::Naive;
use crate::sameness::assert_holds;
use crate::support::faulty_disk::FaultyDisk;

fn check(disk: &FaultyDisk) -> VerifyReport {
    verify(disk, Path::new(DIR)).expect("it is a store, however damaged")
}

/// A store with segments and with records that are in a journal alone.
fn some_store(seed: u64) -> Shop {
    let mut shop = Shop::new(seed, Durability::Durable);
    for _ in 0..40 {
        shop.commit();
    }
    shop.compact();
    for _ in 0..8 {
        shop.commit();
    }
    shop
}

/// Flips a bit of many bytes of a file, one at a time, in `range`. What is not found must not matter.
fn flip_each(
    (disk, model): &(Arc<FaultyDisk>, Naive),
    path: &Path,
    range: std::ops::Range<u64>,
    step: usize,
) -> (u64, u64) {
    let (mut found, mut harmless) = (0, 0);
    for at in range.step_by(step) {
        let disk = disk.crash_process();
        disk.flip_bit(path, at);
        let report = check(&disk);
        if report.is_clean() {
            harmless += 1;
            let store = try_open(&disk, Path::new(DIR), Durability::Durable)
                .unwrap_or_else(|error| panic!("{} at {at} was not found: {error}", path.display()));
            assert_holds(&store, model);
        } else {
            found += 1;
        }
    }
    (found, harmless)
}

#[test]
fn a_flipped_bit_anywhere_in_a_segment_is_found() {
    let shop = some_store(1).crash();
    for path in files(&shop.0, DIR, "segment") {
        let len = shop.0.read_file(&path).len() as u64;
        let (found, harmless) = flip_each(&shop, &path, 0..len, (len / 400) as usize | 1);
        assert!(found > 0);
        assert_eq!(harmless, 0, "{}", path.display());
    }
}

#[test]
fn every_damaged_run_is_told_of() {
    let disk = FaultyDisk::new(1);
    let store = try_open(&disk, Path::new(DIR), Durability::Durable).expect("a new store");
    let mut author = Author::default();
    let streams: Vec<_> = (0..5)
        .map(|number| author.stream_of(&store, &format!("s{number}"), &["payload"]))
        .collect();
    store.compact().expect("the disk works");
    store.stop().expect("the disk works");
    let [segment] = &files(&disk, DIR, "segment")[..] else {
        panic!("one fold makes one segment")
    };
    let bytes = disk.read_file(segment);
    let payloads = bytes
        .windows(7)
        .enumerate()
        .filter(|(_, found)| found == b"payload");
    let payloads: Vec<_> = payloads.map(|(at, _)| at).collect();
    assert_eq!(payloads.len(), 5);
    for hurt in [1, 3] {
        disk.flip_bit(segment, payloads[hurt] as u64 + 2);
    }
    let report = check(&disk);
    assert_eq!(report.damage.len(), 2, "{:?}", report.damage);
    for (what, hurt) in report.damage.iter().zip([1, 3]) {
        assert!(what.contains(&format!("stream {}", streams[hurt])), "{what}");
    }
    assert_eq!((report.streams, report.runs, report.appends), (5, 5, 3));
}

/// Where the last byte stands that is not 0.
fn written(disk: &FaultyDisk, path: &Path) -> u64 {
    let bytes = disk.read_file(path);
    bytes.iter().rposition(|byte| *byte != 0).expect("a header") as u64 + 1
}

#[test]
fn a_flipped_bit_in_an_acknowledged_batch_is_found() {
    let disk = FaultyDisk::new(3);
    let store = try_open(&disk, Path::new(DIR), Durability::Durable).expect("a new store");
    let mut model = Naive::default();
    let mut ends = Vec::new();
    let (a, create) = model.author.create("a");
    model.note(&create);
    commit(&store, &[create]);
    let [journal] = &files(&disk, DIR, "journal")[..] else {
        panic!("there is one journal")
    };
    for number in 0..4 {
        let append = model
            .author
            .append(a, Body::one(format!("number {number} ").repeat(9)));
        model.note(&append);
        commit(&store, &[append]);
        ends.push(written(&disk, journal));
    }
    let shop = (disk.crash_process(), model);
    // What proves a batch to have been durable is the next one: whether the last one was is not known.
    let proven = ends[2];
    let (found, harmless) = flip_each(&shop, journal, 4096..proven, 1);
    assert!(harmless < 8 * 5, "{harmless} bytes are more than padding");
    assert!(found > 300);
    let last = (ends[2].next_multiple_of(8)..ends[3]).step_by(7);
    for at in last {
        let disk = shop.0.crash_process();
        disk.flip_bit(journal, at);
        let report = check(&disk);
        assert!(report.is_clean(), "{:?}", report.damage);
        assert_eq!(report.journal_batches, 4);
        assert!(report.notes[0].contains("cut off"), "{:?}", report.notes);
    }
}

#[test]
fn two_damaged_batches_of_one_journal_are_both_told_of() {
    let disk = FaultyDisk::new(3);
    let store = try_open(&disk, Path::new(DIR), Durability::Durable).expect("a new store");
    let mut author = Author::default();
    author.stream_of(&store, "a", &["one", "two", "three", "four", "five"]);
    drop(store);
    let [journal] = &files(&disk, DIR, "journal")[..] else {
        panic!("there is one journal")
    };
    let bytes = disk.read_file(journal);
    for text in ["two", "four"] {
        let at = bytes
            .windows(text.len())
            .position(|found| found == text.as_bytes());
        disk.flip_bit(journal, at.expect("it was written") as u64);
    }
    let report = check(&disk);
    assert_eq!(report.damage.len(), 2, "{:?}", report.damage);
    assert_eq!(report.journal_batches, 4, "the others were read");
}

#[test]
fn files_that_are_missing_are_found() {
    let (disk, _) = some_store(5).crash();
    let segments = files(&disk, DIR, "segment");
    let catalog = Path::new(DIR).join("catalog.redb");
    for path in segments.iter().chain([&catalog]) {
        let disk = disk.crash_process();
        disk.remove(path).expect("it is there");
        let report = check(&disk);
        let named = |what: &String| what.contains(&path.display().to_string());
        assert!(
            report.damage.iter().any(named),
            "{}: {:?}",
            path.display(),
            report.damage
        );
    }
}

/// A copy has no journals, and one that had lost its catalog passed for a new store.
#[test]
fn a_copy_that_lacks_its_catalog_is_damaged() {
    let shop = some_store(5);
    shop.store.backup(Path::new("/copy")).expect("the disk works");
    let (disk, _) = shop.crash();
    let check = || verify(disk.as_ref(), Path::new("/copy")).expect("it is a store, however damaged");
    assert!(check().is_clean());
    let catalog = Path::new("/copy").join("catalog.redb");
    disk.remove(&catalog).expect("it is there");
    let report = check();
    let [what] = &report.damage[..] else {
        panic!("{:?}", report.damage)
    };
    assert!(what.contains("/copy/catalog.redb is missing"), "{what}");
    assert!(report.segments > 0, "those are checked for themselves");
}

/// A journal that was folded is not missed, and nothing stands behind the newest one that could tell of it.
#[test]
fn journals_that_are_missing_are_found_if_they_are_needed() {
    let mut missed = 0;
    // How far a store is folded depends on the lengths of its records.
    for seed in 0..8 {
        let (disk, model) = some_store(seed).crash();
        let journals = files(&disk, DIR, "journal");
        let (_newest, older) = journals.split_last().expect("one is written to");
        for path in older {
            let disk = disk.crash_process();
            disk.remove(path).expect("it is there");
            let report = check(&disk);
            if report.is_clean() {
                assert_holds(
                    &try_open(&disk, Path::new(DIR), Durability::Durable).expect("it is whole"),
                    &model,
                );
            } else {
                missed += 1;
                assert!(report.damage[0].contains("is missing"), "{:?}", report.damage);
            }
        }
    }
    assert!(missed > 0);
}

#[test]
fn files_that_are_too_short_are_found() {
    let (disk, _) = some_store(6).crash();
    for path in files(&disk, DIR, "segment") {
        for kept in [0, 1, 63, 64, 100] {
            let disk = disk.crash_process();
            let file = disk.open(&path).expect("it is there");
            let len = file.len().expect("it has a length");
            file.set_len(len.min(kept)).expect("cut off");
            drop(file);
            assert!(!check(&disk).is_clean(), "{} of {kept} bytes", path.display());
        }
    }
}

#[test]
fn a_damaged_identity_is_damage() {
    let (disk, _) = some_store(7).stop();
    let path = Path::new(DIR).join("STORE");
    for at in 0..disk.read_file(&path).len() as u64 {
        let disk = disk.crash_process();
        disk.flip_bit(&path, at);
        let report = check(&disk);
        assert!(report.damage[0].contains("STORE"), "{:?}", report.damage);
    }
}

#[test]
fn what_a_flipped_bit_in_the_catalog_hurts_is_found() {
    let shop = some_store(8);
    shop.store.stop().expect("the disk works");
    let shop = shop.crash();
    let path = Path::new(DIR).join("catalog.redb");
    let bytes = shop.0.read_file(&path);
    let mut rng = Rng::with_seed(8);
    let mut found = 0;
    for _ in 0..300 {
        // Most of the file was never written.
        let at = loop {
            let at = rng.usize(..bytes.len());
            if bytes[at] != 0 {
                break at as u64;
            }
        };
        let disk = shop.0.crash_process();
        disk.flip_bit(&path, at);
        let report = check(&disk);
        if report.is_clean() {
            // What was written before the last change may still stand there, and does not count.
            let store = try_open(&disk, Path::new(DIR), Durability::Durable)
                .unwrap_or_else(|error| panic!("byte {at} was not found: {error}"));
            assert_holds(&store, &shop.1);
        } else {
            found += 1;
        }
    }
    assert!(found > 30, "{found} of 300");
}
