//! A store gets smaller and keeps every byte, wherever that is interrupted.

use std::path::Path;
use std::sync::Arc;

use tailwater_storage::acid::{self, AcidCompactReport, AcidOptions, compact, compact_directory};
use tailwater_storage::file::{self, Durability, FileOptions};
use tailwater_storage::{Backend as _, OpenError};

use super::shop::{DIR, Model, SHARDS, Shop, checked, shard_bytes, try_open};
use crate::support::ask::run;
use crate::support::faulty_disk::FaultyDisk;

fn compact_on(disk: &FaultyDisk) -> Result<AcidCompactReport, OpenError> {
    compact(disk, Path::new(DIR))
}

/// A store of which much was deleted, among what was not.
fn much_deleted(seed: u64, streams: usize, bytes: usize) -> Shop {
    let mut shop = Shop::new(seed);
    run(async {
        for number in 0..streams {
            let name = format!("s/{number}");
            assert!(shop.create(&name, None).await);
            let text = format!("{number:07};").repeat(bytes / 8);
            for part in text.as_bytes().chunks(bytes / 2) {
                let part = std::str::from_utf8(part).expect("text");
                assert!(shop.append(&name, part).await);
            }
        }
        assert!(shop.create("fork", Some("s/0")).await);
        for number in (0..streams).filter(|number| number % 8 != 0) {
            shop.delete(&format!("s/{number}")).await;
        }
    });
    shop
}

#[test]
fn a_store_of_which_much_was_deleted_gets_smaller_and_keeps_every_byte() {
    for (seed, crashes) in [(1, false), (2, true)] {
        let shop = much_deleted(seed, 64, 64_000);
        let (mut disk, model) = shop.stop();
        if crashes {
            disk = disk.crash_machine();
        }
        let before = shard_bytes(&disk);
        let report = compact_on(&disk).expect("the disk works");
        let after = shard_bytes(&disk);
        println!("{before} bytes became {after}");
        assert_eq!(
            (report.shards, report.bytes_before, report.bytes_after),
            (4, before, after)
        );
        assert!(after < before / 2, "{before} bytes became {after}");
        // What it has done is durable.
        let disk = disk.crash_machine();
        assert_eq!(shard_bytes(&disk), after);
        checked(&disk);
        model.assert_is_in(&disk);
        let again = compact_on(&disk).expect("the disk works");
        assert!(again.bytes_after <= after, "{again:?}");
    }
}

/// A small store, as a crash has left it if `seed` is odd.
fn small(seed: u64) -> (Arc<FaultyDisk>, Model) {
    let shop = much_deleted(seed, 24, 24_000);
    let (disk, model) = (shop.disk.crash_machine(), shop.model.clone());
    let stopped = shop.stop();
    if seed % 2 == 1 { (disk, model) } else { stopped }
}

/// How many operations the compaction of a store takes.
fn operations_of(whole: &FaultyDisk) -> u64 {
    let disk = whole.crash_process();
    compact_on(&disk).expect("the disk works");
    disk.operations()
}

#[test]
fn wherever_a_compaction_is_cut_the_store_is_whole() {
    for seed in [10, 11] {
        let (whole, model) = small(seed);
        let operations = operations_of(&whole);
        println!("seed {seed}: {operations} operations");
        for operation in 1..=operations {
            let disk = whole.crash_process();
            disk.cut_at(operation);
            compact_on(&disk).expect_err("the machine stops");
            let disk = if operation % 3 == 0 {
                disk.crash_process()
            } else {
                disk.crash_machine()
            };
            checked(&disk);
            if operation % 4 == 0 {
                compact_on(&disk).expect("the disk works");
                checked(&disk);
            }
            model.assert_is_in(&disk);
        }
    }
}

#[test]
fn wherever_a_compaction_fails_the_store_is_whole() {
    type Fail = fn(&FaultyDisk, u64);
    let (whole, model) = small(12);
    let operations = operations_of(&whole);
    let faults: [(&str, Fail); 3] = [
        ("a sync", FaultyDisk::fail_sync),
        ("a write", FaultyDisk::fail_write),
        ("a write for want of space", FaultyDisk::refuse_write),
    ];
    for (what, fail) in faults {
        for nth in 1.. {
            let disk = whole.crash_process();
            fail(&disk, nth);
            let failed = compact_on(&disk).is_err();
            for disk in [disk.crash_process(), disk.crash_machine()] {
                println!("{what}, the {nth}th");
                checked(&disk);
                model.assert_is_in(&disk);
            }
            // What finds no space in a shard's log, or for its place, is written in its place.
            let is_elsewhere = what.ends_with("space") && disk.operations() != operations;
            if !failed && !is_elsewhere {
                // Also what redb does when it closes a shard, of which it does not tell whether it failed.
                assert_eq!(disk.operations(), operations, "{what}, the {nth}th, is told of");
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_gets_room() {
    let (disk, model) = small(14);
    disk.set_free_bytes(Some(0));
    let report = compact_on(&disk).expect("what is cut off needs no room");
    assert!(report.bytes_after < report.bytes_before, "{report:?}");
    checked(&disk);
    model.assert_is_in(&disk);
}

#[test]
fn what_is_no_store_of_shards_is_refused_and_left_as_it_is() {
    let above = tempfile::tempdir().expect("a directory");
    let [absent, files, shards] = ["absent", "files", "shards"].map(|name| above.path().join(name));
    assert!(matches!(
        compact_directory(&absent),
        Err(OpenError::NoStore { .. })
    ));
    assert!(!absent.exists());
    let options = FileOptions::new(files.clone(), Durability::Durable, 1 << 20);
    file::open(options)
        .expect("a new store")
        .stop()
        .expect("it stops");
    let error = compact_directory(&files).expect_err("another mode");
    assert!(
        matches!(error, OpenError::OtherMode { ref found, .. } if found == "file-durable"),
        "{error}"
    );
    let options = AcidOptions {
        shard_count: 2,
        ..AcidOptions::new(shards.clone())
    };
    let store = acid::open(&options).expect("a new store");
    assert!(matches!(
        compact_directory(&shards),
        Err(OpenError::Locked { .. })
    ));
    drop(store);
    assert_eq!(compact_directory(&shards).expect("nobody uses it").shards, 2);
}

#[test]
fn shards_that_are_not_those_of_the_store_are_refused() {
    let disk = FaultyDisk::new(20);
    drop(try_open(&disk, SHARDS, false).expect("made"));
    use tailwater_storage::disk::Disk as _;
    let shards = Path::new(DIR).join("acid/shards-004");
    let [first, second] = ["000.redb", "001.redb"].map(|name| shards.join(name));
    disk.rename(&first, &second).expect("renamed");
    let said = compact_on(&disk).expect_err("one is missing").to_string();
    assert!(said.contains("000.redb"), "{said}");
    disk.link(&second, &first).expect("linked");
    let said = compact_on(&disk).expect_err("one is another one").to_string();
    assert!(said.contains("it is number 0 of 4"), "{said}");
    disk.remove(&Path::new(DIR).join("acid/SHARDS")).expect("removed");
    let said = compact_on(&disk).expect_err("nothing counts them").to_string();
    assert!(said.contains("no file SHARDS"), "{said}");
}
