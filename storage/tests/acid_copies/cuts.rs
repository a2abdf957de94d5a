//! Whatever interrupts a change of the number of shards, the store has the old ones or the new ones, whole.

use std::path::Path;
use std::sync::Arc;

use tailwater_storage::disk::Disk;

use super::shop::{DIR, Shop, assert_tidy, open, reshard, try_open};
use crate::naive::Naive;
use crate::sameness::assert_holds;
use crate::support::faulty_disk::FaultyDisk;

/// Opens a store that has one of two numbers of shards, and answers which.
fn open_either(disk: &Arc<FaultyDisk>, numbers: [u32; 2], model: &Naive) -> u32 {
    let found = numbers.into_iter().find_map(|number| {
        let store = try_open(disk, DIR, number).ok()?;
        assert_holds(&store, model);
        Some(number)
    });
    let found = found.unwrap_or_else(|| {
        let errors = numbers.map(|number| try_open(disk, DIR, number).err().expect("refused").to_string());
        panic!("the store does not open: {errors:?}")
    });
    assert_tidy(disk, DIR, found);
    found
}

#[test]
fn wherever_it_is_cut_off_the_shards_are_the_old_or_the_new_ones() {
    // Some operations by chance.
    for (from, to, step_max) in [(1, 2, 4), (4, 2, 12), (2, 8, 25)] {
        let (shop, _) = Shop::aged(u64::from(from), 25).reshard(from);
        let Shop {
            mut rng,
            disk: before,
            store,
            model,
            ..
        } = shop;
        drop(store);
        let (mut old, mut new, mut operation) = (0, 0, 1);
        loop {
            let disk = before.crash_process();
            disk.cut_at(operation);
            let done = reshard(&disk, to);
            assert_eq!(done.is_err(), disk.has_stopped());
            for crashed in [disk.crash_process(), disk.crash_machine()] {
                let opened = crashed.crash_process();
                let found = open_either(&opened, [from, to], &model);
                assert!(done.is_err() || found == to);
                new += u32::from(found == to);
                old += u32::from(found == from);
                // What was removed when it was opened is not missed after a power loss either.
                open_either(&opened.crash_machine(), [from, to], &model);
                // To do it again also helps.
                reshard(&crashed, to).expect("the disk works");
                assert_tidy(&crashed, DIR, to);
                assert_holds(&open(&crashed.crash_machine(), DIR, to), &model);
            }
            if done.is_ok() {
                break;
            }
            operation += rng.u64(1..=step_max);
        }
        println!("{from} to {to}: {old} with the old shards, {new} with the new ones");
        assert!(old > 20 && new > 1, "{old} {new}");
    }
}

/// The moments around the switch, and every outcome of a power loss there.
#[test]
fn a_power_loss_while_shards_are_switched_leaves_one_kind_of_them() {
    let (shop, _) = Shop::aged(8, 25).reshard(2);
    let Shop {
        disk: before,
        store,
        model,
        ..
    } = shop;
    drop(store);
    let operations = {
        let disk = before.crash_process();
        reshard(&disk, 4).expect("the disk works");
        disk.operations()
    };
    let mut found = Vec::new();
    for operation in operations - 20..=operations {
        for _ in 0..8 {
            let disk = before.crash_process();
            disk.cut_at(operation);
            drop(reshard(&disk, 4));
            found.push(open_either(&disk.crash_machine(), [2, 4], &model));
            let opened = disk.crash_process();
            open_either(&opened, [2, 4], &model);
            open_either(&opened.crash_machine(), [2, 4], &model);
        }
    }
    assert!(found.contains(&2) && found.contains(&4));
}

/// A process was killed right behind the switch, which the disk did not have yet, and the next one was cut off while it
/// removed the old shards.
#[test]
fn a_power_loss_while_old_shards_are_removed_leaves_the_new_ones() {
    let (shop, _) = Shop::aged(9, 25).reshard(2);
    let Shop {
        disk: before,
        store,
        model,
        ..
    } = shop;
    drop(store);
    let is_switched = |operation: &u64| {
        let disk = before.crash_process();
        disk.cut_at(*operation);
        drop(reshard(&disk, 4));
        try_open(&disk.crash_process(), DIR, 4).is_ok().then_some(disk)
    };
    let operations = {
        let disk = before.crash_process();
        reshard(&disk, 4).expect("the disk works");
        disk.operations()
    };
    let switched = (operations - 20..operations).find_map(|operation| is_switched(&operation));
    let switched = switched.expect("it is switched near the end");
    for operation in 1.. {
        let disk = switched.crash_process();
        disk.cut_at(operation);
        drop(try_open(&disk, DIR, 4));
        for _ in 0..8 {
            open_either(&disk.crash_machine(), [2, 4], &model);
        }
        if !disk.has_stopped() {
            break;
        }
    }
}

#[test]
fn shards_of_another_number_stay_while_the_stores_own_are_damaged() {
    let (shop, _) = Shop::aged(5, 40).reshard(2);
    let Shop {
        disk, store, model, ..
    } = shop;
    drop(store);
    // As if the machine had stopped right behind the switch.
    let operations = (1..).find(|operation| {
        let tried = disk.crash_process();
        tried.cut_at(*operation);
        drop(reshard(&tried, 4));
        try_open(&tried.crash_process(), DIR, 4).is_ok()
    });
    disk.cut_at(disk.operations() + operations.expect("it is switched at some point"));
    drop(reshard(&disk, 4));
    let disk = disk.crash_process();
    let files = disk.files();
    assert!(files.contains(&"/data/acid/shards-002/000.redb".into()));
    let lost = Path::new("/data/acid/shards-004/002.redb");
    disk.rename(lost, Path::new("/data/elsewhere"))
        .expect("it is there");
    try_open(&disk, DIR, 4).err().expect("a shard is missing");
    reshard(&disk, 2).expect_err("a shard is missing");
    assert!(disk.files().contains(&"/data/acid/shards-002/000.redb".into()));
    disk.rename(Path::new("/data/elsewhere"), lost)
        .expect("it is there");
    assert_eq!(disk.files(), files);
    assert_holds(&open(&disk, DIR, 4), &model);
    assert_tidy(&disk, DIR, 4);
}

#[test]
fn what_is_no_shard_is_not_removed() {
    let (shop, _) = Shop::aged(6, 20).reshard(2);
    let Shop { disk, store, .. } = shop;
    drop(store);
    for path in [
        "/data/acid/shards-008/notes",
        "/data/acid/shards-100/000.redb",
        "/data/acid/mine/000.redb",
    ] {
        let path = Path::new(path);
        disk.make_dir(path.parent().expect("a directory")).expect("made");
        drop(disk.create(path).expect("made"));
    }
    let files = disk.files();
    drop(open(&disk, DIR, 2));
    assert_eq!(disk.files(), files);
}
