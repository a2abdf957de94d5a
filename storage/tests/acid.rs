//! The backend `acid` with several shards: where streams stand, and what is there after a restart or a crash. What every
//! backend owes is in `contract.rs`.
#![cfg(not(feature = "shuttle"))]

mod support;

mod acid {
    mod leads;
}

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use support::ask::{Rig, run, waits};
use support::faulty_disk::FaultyDisk;
use support::gated_disk::GatedDisk;
use tailwater_storage::acid::{AcidOptions, AcidStore};
use tailwater_storage::disk::Disk;
use tailwater_storage::engine::CreateError;
use tailwater_storage::{Backend as _, OpenError};

fn try_open<D: Disk>(disk: &Arc<D>, shard_count: u32) -> Result<AcidStore, OpenError> {
    try_open_with(disk, |options| options.shard_count = shard_count)
}

fn try_open_with<D: Disk>(
    disk: &Arc<D>,
    change: impl FnOnce(&mut AcidOptions),
) -> Result<AcidStore, OpenError> {
    let disk: Arc<dyn Disk> = Arc::<D>::clone(disk);
    let mut options = AcidOptions {
        shard_count: 4,
        cache_bytes: 4 << 20,
        ..AcidOptions::new("/data".into())
    };
    change(&mut options);
    AcidStore::open_unlocked(&disk, &options)
}

fn open(disk: &Arc<FaultyDisk>) -> Rig {
    Rig::over(Arc::new(try_open(disk, 4).expect("the store opens")))
}

/// Ends an engine, and with it all who use its store.
fn stop(rig: Rig) {
    let Rig { engine, .. } = rig;
    engine.stop();
}

#[test]
fn streams_and_their_forks_are_found_in_every_shard_also_after_a_restart() {
    let disk = FaultyDisk::new(1);
    run(async {
        let rig = open(&disk);
        for number in 0..24 {
            let stream = format!("runs/{number}");
            rig.create(&stream).await.expect("created");
            rig.append(&stream, &format!("first of {number};"))
                .await
                .expect("appended");
            rig.fork(&format!("fork of/{number}"), &stream)
                .await
                .expect("forked");
            rig.append(&stream, "later").await.expect("appended");
        }
        stop(rig);
        let rig = open(&disk);
        for number in 0..24 {
            assert_eq!(
                rig.text(&format!("runs/{number}")).await,
                format!("first of {number};later")
            );
            assert_eq!(
                rig.text(&format!("fork of/{number}")).await,
                format!("first of {number};")
            );
        }
        assert_eq!(rig.usage().0, 48);
    });
}

/// Whoever looks a name up in its own shard must find a stream that stands in another one, and another stream of the
/// name once that is gone.
#[test]
fn the_name_of_a_fork_is_free_for_a_stream_in_its_own_shard_once_the_fork_is_gone() {
    let disk = FaultyDisk::new(2);
    run(async {
        let rig = open(&disk);
        rig.create("source").await.expect("created");
        for number in 0..8 {
            let fork = format!("fork/{number}");
            rig.fork(&fork, "source").await.expect("forked");
            rig.delete(&fork).await;
            rig.create(&fork).await.expect("created anew");
            rig.append(&fork, "anew").await.expect("appended");
        }
        stop(rig);
        let rig = open(&disk);
        for number in 0..8 {
            assert_eq!(rig.text(&format!("fork/{number}")).await, "anew");
        }
    });
}

/// A deleted source is held by its forks, and its name is not free for others.
#[test]
fn the_name_of_a_held_source_is_not_free_in_whatever_shard_that_stands() {
    let disk = FaultyDisk::new(8);
    run(async {
        let rig = open(&disk);
        rig.create("source").await.expect("created");
        for number in 0..8 {
            let held = format!("held/{number}");
            rig.fork(&held, "source").await.expect("forked");
            rig.fork(&format!("holder/{number}"), &held)
                .await
                .expect("forked");
            rig.delete(&held).await;
        }
        stop(rig);
        let rig = open(&disk);
        for number in 0..8 {
            let refused = rig.create(&format!("held/{number}")).await;
            assert!(
                matches!(refused, Err(CreateError::HeldByForks)),
                "{number}: {refused:?}"
            );
        }
    });
}

/// The bytes of a long append stand in pieces, and a reader comes for a part of it, from a place within a piece.
#[test]
fn a_long_append_is_read_a_part_at_a_time() {
    let disk = FaultyDisk::new(4);
    run(async {
        let rig = open(&disk);
        rig.create_json("long").await;
        let messages: Vec<_> = (0..3000)
            .map(|number| format!("{{\"n\":\"{number:0100}\"}}"))
            .collect();
        rig.append_json("long", &format!("[{}]", messages.join(",")))
            .await;
        let stored = messages.join(",") + ",";
        assert!(stored.len() > 4 * (63 << 10), "several pieces");
        let reader = rig.look("long").await;
        let view = reader.incarnation().view();
        let (mut at, mut read) = (view.oldest, String::new());
        while at < view.tail {
            let slices = reader.read(at, &view, 10_000).await.expect("readable");
            assert!(slices.len() <= 10_000, "{} bytes", slices.len());
            at = slices.end;
            let part = slices.into_contiguous();
            assert!(part.ends_with(b"},"), "a read ends at the end of a message");
            read.push_str(std::str::from_utf8(&part).expect("text"));
        }
        assert_eq!(read, stored);
    });
}

/// The writer of the only shard stands in its sync, and nothing was read before.
#[test]
fn whoever_reads_does_not_wait_for_the_writer() {
    let disk = FaultyDisk::new(5);
    let (gated, gate) = GatedDisk::new(Arc::clone(&disk), "/data/acid/shards-001/000.redb");
    run(async {
        let rig = Rig::over(Arc::new(try_open(&disk, 1).expect("a new store")));
        for stream in ["read", "written"] {
            rig.create(stream).await.expect("created");
            rig.append(stream, "what was there").await.expect("appended");
        }
        stop(rig);
        let rig = Rig::over(Arc::new(try_open(&gated, 1).expect("the store opens")));
        {
            let held = gate.hold_syncs();
            let mut append = pin!(rig.append("written", ", and more"));
            while !gate.is_reached() {
                assert!(waits(append.as_mut()).await, "the sync is waited for");
                tokio::task::yield_now().await;
            }
            assert_eq!(rig.text("read").await, "what was there");
            assert_eq!(rig.text("written").await, "what was there");
            let listed = rig.engine.list("", None, 10).await.expect("a listing");
            assert_eq!(listed.streams.len(), 2);
            assert!(waits(append.as_mut()).await, "the sync is waited for");
            drop(held);
            append.await.expect("appended");
        }
        assert_eq!(rig.text("written").await, "what was there, and more");
        stop(rig);
    });
}

#[test]
fn a_power_loss_takes_nothing_that_was_acknowledged() {
    for seed in 0..20 {
        let mut disk = FaultyDisk::new(seed);
        let mut texts = vec![String::new(); 8];
        run(async {
            for life in 0..3 {
                // Each life may be recovered by one that commits otherwise.
                let quick_repair = (seed + life) % 2 == 0;
                let store = try_open_with(&disk, |options| options.quick_repair = quick_repair);
                let rig = Rig::over(Arc::new(store.expect("the store opens")));
                for (number, text) in texts.iter_mut().enumerate() {
                    let stream = format!("s/{number}");
                    if life == 0 {
                        rig.create(&stream).await.expect("created");
                    }
                    assert_eq!(rig.text(&stream).await, *text, "seed {seed}, life {life}");
                    let more = format!("{life}.{number} ").repeat(number * 5000 + 1);
                    rig.append(&stream, &more).await.expect("appended");
                    text.push_str(&more);
                }
                // What still runs of the old life writes to a disk that nobody has any more.
                disk = disk.crash_machine();
                stop(rig);
            }
            let rig = open(&disk);
            for (number, text) in texts.iter().enumerate() {
                assert_eq!(rig.text(&format!("s/{number}")).await, *text, "seed {seed}");
            }
        });
    }
}

#[test]
fn another_number_of_shards_is_refused_with_the_one_that_there_is() {
    let disk = FaultyDisk::new(3);
    drop(try_open(&disk, 4).expect("made"));
    let refused = try_open(&disk, 16).err().expect("another number");
    let said = refused.to_string();
    assert!(said.contains("of 4 shards, and 16 are asked for"), "{said}");
    assert!(said.contains("storage.acid_shard_count"), "{said}");
    assert_eq!(try_open(&disk, 4).expect("as before").nature().partitions, 4);
}

/// Whoever lost the file that says how many shards there are must not lose the shards by the next start.
#[test]
fn shards_without_the_file_that_counts_them_are_refused_and_stay() {
    let disk = FaultyDisk::new(5);
    run(async {
        let rig = open(&disk);
        rig.create("kept").await.expect("created");
        let Rig { engine, .. } = rig;
        engine.stop();
    });
    let before = disk.files();
    disk.remove(Path::new("/data/acid/SHARDS")).expect("it was there");
    let said = try_open(&disk, 4).err().expect("it is missing").to_string();
    assert!(said.contains("no file SHARDS"), "{said}");
    assert_eq!(disk.files().len(), before.len() - 1);
}

#[test]
fn a_store_that_was_cut_off_while_it_was_made_is_made_again() {
    let whole = FaultyDisk::new(6);
    drop(try_open(&whole, 4).expect("made"));
    for operation in 0..whole.operations() {
        let disk = FaultyDisk::new(operation);
        disk.cut_at(operation);
        drop(try_open(&disk, 4));
        let disk = disk.crash_machine();
        run(async {
            let rig = open(&disk);
            rig.create("a").await.expect("created");
            rig.append("a", "b").await.expect("appended");
            assert_eq!(rig.text("a").await, "b", "cut at {operation}");
        });
    }
}

/// A commit was cut off when the bytes of all its pages were on the disk, and the checksum of one was not. The database
/// found it whole when it was opened, and took that page for damaged from then on.
#[test]
fn wherever_a_commit_is_cut_off_the_shard_opens_with_it_or_without() {
    let before = FaultyDisk::new(8);
    run(async {
        let rig = open(&before);
        rig.create("a").await.expect("created");
        rig.append("a", "first;").await.expect("appended");
        stop(rig);
    });
    for operation in 1.. {
        let disk = before.crash_process();
        let mut is_done = false;
        run(async {
            let rig = open(&disk);
            disk.cut_at(disk.operations() + operation);
            is_done = rig.append("a", "second;").await.is_ok();
            stop(rig);
        });
        let crashed = (0..8).map(|_| disk.crash_machine());
        for disk in crashed.chain([disk.crash_process()]) {
            run(async {
                for _ in 0..2 {
                    let rig = open(&disk);
                    let text = rig.text("a").await;
                    let whole = text == "first;second;";
                    assert!(
                        whole || !is_done && text == "first;",
                        "cut at {operation}: {text}"
                    );
                    stop(rig);
                }
            });
        }
        if is_done {
            break;
        }
    }
}
