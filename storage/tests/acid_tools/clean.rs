//! A check finds nothing where nothing is, and changes nothing.

use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::acid::{self, AcidOptions, verify, verify_directory};
use tailwater_storage::backend::Outcome;
use tailwater_storage::stream::{Part, Transition};
use tailwater_storage::{Backend, OpenError};

use super::shop::{DIR, SHARDS, Shop, checked, try_open};
use crate::author::{Author, Body, commit, release_all};
use crate::naive::Naive;
use crate::support::ask::{Rig, run};
use crate::support::faulty_disk::FaultyDisk;
use crate::workload::Workload;

#[test]
fn nothing_is_wrong_at_any_moment_of_a_life() {
    for seed in 0..16 {
        let mut shop = Shop::new(seed);
        for life in 0..3 {
            run(async {
                for _ in 0..shop.rng.usize(1..40) {
                    assert!(shop.step().await);
                }
            });
            println!("seed {seed}, life {life}: the process is killed");
            checked(&shop.disk.crash_process());
            println!("seed {seed}, life {life}: the power goes");
            let after = shop.disk.crash_machine();
            checked(&after);
            let rng = shop.rng.fork();
            let (stopped, model) = shop.stop();
            println!("seed {seed}, life {life}: it is stopped");
            checked(&stopped);
            shop = Shop::on(after, rng, model);
        }
        let (disk, model) = shop.stop();
        model.assert_is_in(&disk);
    }
}

#[test]
fn nothing_is_wrong_wherever_the_machine_stops() {
    for seed in 100..160 {
        run(async {
            let mut shop = Shop::new(seed);
            for _ in 0..shop.rng.usize(0..20) {
                assert!(shop.step().await);
            }
            let cut = shop.disk.operations() + shop.rng.u64(1..60);
            shop.disk.cut_at(cut);
            while shop.step().await {}
            println!("seed {seed}: cut at {cut}");
            checked(&shop.disk.crash_process());
            checked(&shop.disk.crash_machine());
        });
    }
}

/// Imports, control keys, producers and lifetimes, as the contract's tests of backends write them.
#[test]
fn nothing_is_wrong_whatever_records_say() {
    for seed in 0..12 {
        let mut rng = Rng::with_seed(seed);
        let disk = FaultyDisk::new(seed);
        let store = try_open(&disk, 1, rng.bool()).expect("a new store");
        let mut workload = Workload::new(rng.fork(), 100 << 10);
        let mut model = Naive::default();
        for _ in 0..60 {
            let batch = workload.batch(None, &model);
            for (record, outcome) in batch.iter().zip(store.commit(0, &batch).expect("the disk works")) {
                assert_eq!(outcome, Outcome::Durable, "there is space");
                model.apply(record);
            }
            match rng.u8(..8) {
                0 => {
                    release_all(&store);
                    model.release_all();
                }
                1 => {
                    // An engine pins what is staged.
                    let staged = &model.author.staged;
                    for state in model.stored().filter(|state| !staged.contains(&state.id)) {
                        store.reclaim(state.id).expect("the disk works");
                    }
                }
                2 => {
                    checked(&disk.crash_machine());
                }
                _ => {}
            }
        }
        let report = checked(&disk.crash_process());
        let deleted = model.stored().filter(|state| state.deleted).count() as u64;
        assert_eq!(
            (report.streams, report.deleted_streams),
            (model.stored().count() as u64, deleted)
        );
        assert!(report.appends >= report.blocks && report.messages >= report.appends);
    }
}

/// A commit writes the rows of the streams that it changes anyway, and for short appends few pages beside them.
#[test]
fn short_appends_are_put_together() {
    let disk = FaultyDisk::new(8);
    let store = try_open(&disk, 1, false).expect("a new store");
    let mut author = Author::default();
    let (id, create) = author.create("tokens");
    commit(&store, &[create]);
    for number in 0..500 {
        commit(&store, &[author.append(id, Body::one(format!("token {number}")))]);
    }
    let report = checked(&disk.crash_process());
    assert_eq!((report.appends, report.messages), (500, 500));
    assert!(report.blocks <= 10, "{} blocks", report.blocks);
}

/// What is exported of a trimmed stream begins with a later message than the first. While it is staged, nobody knows how
/// many there are before that.
#[test]
fn a_trimmed_stream_that_was_not_imported_to_its_end_is_no_damage() {
    let disk = FaultyDisk::new(7);
    let store = try_open(&disk, 1, false).expect("a new store");
    let mut author = Author::default();
    let (id, stage) = author.stage("imported", 700);
    let mut append = author.append(id, Body::many(&["one;", "two;"]));
    let Part::Stream {
        transition: Transition::Append(first),
        ..
    } = &mut append.parts[0]
    else {
        panic!("an append")
    };
    first.first_message = 70;
    commit(&store, &[stage, append]);
    let report = checked(&disk.crash_process());
    assert_eq!(
        (report.streams, report.deleted_streams, report.messages),
        (1, 1, 2)
    );
}

#[test]
fn a_store_that_is_cut_off_while_it_is_made_is_no_damage() {
    let whole = FaultyDisk::new(6);
    drop(try_open(&whole, SHARDS, false).expect("made"));
    let operations = whole.operations();
    let mut unfinished = 0;
    for operation in 1..=operations {
        let disk = FaultyDisk::new(operation);
        disk.cut_at(operation);
        drop(try_open(&disk, SHARDS, false));
        for disk in [disk.crash_process(), disk.crash_machine()] {
            match verify(disk.as_ref(), Path::new(DIR)) {
                Ok(report) => {
                    assert!(report.is_clean(), "cut at {operation}: {:?}", report.damage);
                    unfinished += u64::from(
                        report
                            .notes
                            .iter()
                            .any(|note| note.contains("not made to its end")),
                    );
                }
                Err(OpenError::NoStore { .. }) => {}
                Err(error) => panic!("cut at {operation}: {error}"),
            }
        }
    }
    assert!(unfinished > 0, "of {operations} operations");
}

#[test]
fn a_store_in_use_is_refused_and_otherwise_left_as_it_is() {
    let above = tempfile::tempdir().expect("a directory");
    let dir = above.path().join("store");
    assert!(matches!(verify_directory(&dir), Err(OpenError::NoStore { .. })));
    assert!(!dir.exists());
    let options = AcidOptions {
        shard_count: 2,
        ..AcidOptions::new(dir.clone())
    };
    let store = Arc::new(acid::open(&options).expect("a new store"));
    run(async {
        let rig = Rig::over(Arc::clone(&store) as Arc<dyn Backend>);
        rig.create("a").await.expect("created");
        rig.append("a", "b").await.expect("appended");
        assert!(matches!(verify_directory(&dir), Err(OpenError::Locked { .. })));
        let Rig { engine, .. } = rig;
        engine.stop();
    });
    drop(store);
    let report = verify_directory(&dir).expect("nobody uses it");
    assert_eq!((report.damage.len(), report.streams, report.shards), (0, 1, 2));
}
