//! The streams are the same in any number of shards.

use std::path::Path;
use std::sync::Arc;

use tailwater_storage::OpenError;
use tailwater_storage::acid::{self, AcidStore};
use tailwater_storage::disk::Disk;
use tailwater_storage::engine::AppendRequest;
use tailwater_storage::file::{Durability, FileOptions, FileStore};
use tailwater_storage::{Backend as _, Engine};

use super::shop::{DIR, Shop, assert_tidy, commit, open, options, reshard, try_open};
use crate::author::{Author, release_all};
use crate::sameness::assert_holds;
use crate::support::ask::{Rig, bytes, producer, run};
use crate::support::faulty_disk::FaultyDisk;

#[test]
fn any_streams_are_the_same_in_any_number_of_shards_and_leave_nothing_in_the_end() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut shop = Shop::new(seed);
        let mut shards = 1;
        let many = if seed == 0 { 256 } else { 32 };
        for to in [4, 16, 2, 1, many, 1] {
            if shards == 1 {
                for _ in 0..40 {
                    shop.step();
                }
            }
            let (usage, last_id) = (shop.store.usage(), shop.store.last_id());
            let report;
            (shop, report) = shop.reshard(to);
            assert_eq!((report.from, report.to), (shards, to));
            assert_eq!(
                (report.streams, report.stored_bytes),
                (usage.streams, usage.bytes)
            );
            assert_holds(&shop.store, &shop.model);
            assert_eq!((shop.store.usage(), shop.store.last_id()), (usage, last_id));
            assert_tidy(&shop.disk, DIR, to);
            shards = to;
        }
        let (mut shop, _) = shop.reshard(8);
        for id in shop
            .model
            .alive()
            .iter()
            .map(|state| state.id)
            .collect::<Vec<_>>()
        {
            commit(&shop.store, shop.model.author.delete(id));
        }
        release_all(&shop.store);
        let usage = shop.store.usage();
        assert_eq!((usage.streams, usage.bytes), (0, 0));
    }
}

/// The last token of each stream, which a client may hold.
async fn tails(rig: &Rig, streams: &[String]) -> Vec<String> {
    let mut tails = Vec::new();
    for stream in streams {
        let view = rig.look(stream).await;
        let incarnation = view.incarnation();
        tails.push(incarnation.token(incarnation.view().tail).to_string());
    }
    tails
}

fn stop(rig: Rig) {
    let Rig { engine, .. } = rig;
    Engine::stop(&engine);
}

fn rig(disk: &Arc<FaultyDisk>, shard_count: u32) -> Rig {
    Rig::over(Arc::new(open(disk, DIR, shard_count)))
}

fn from_producer(body: &str, seq: u64) -> AppendRequest {
    AppendRequest {
        producer: Some(producer("p", 0, seq)),
        ..bytes(body)
    }
}

/// In a store of one shard no name was led anywhere: forks and runs were not found any more once it had several.
#[test]
fn an_engine_goes_on_where_it_was() {
    go_on_from(4);
    go_on_from(1);
}

fn go_on_from(first: u32) {
    let disk = FaultyDisk::new(7);
    // More than is copied at a time.
    let long = "0123456789abcdef".repeat(600_000);
    let streams: Vec<_> = (0..12).map(|number| format!("runs/{number}")).collect();
    let forks: Vec<_> = (0..12).map(|number| format!("fork of/{number}")).collect();
    run(async {
        let made = rig(&disk, first);
        for (stream, fork) in streams.iter().zip(&forks) {
            made.create(stream).await.expect("created");
            let first = made
                .engine
                .append(&name(stream), from_producer("first;", 0))
                .await;
            first.expect("appended");
            made.fork(fork, stream).await.expect("forked");
            made.append(fork, "of the fork;").await.expect("appended");
            made.append(stream, "second;").await.expect("appended");
        }
        made.append("runs/0", &long).await.expect("appended");
        // Deleted and held, closed, trimmed.
        made.delete("runs/1").await;
        made.close("runs/2").await.expect("closed");
        made.trim("runs/3", 6).await;
        made.sweep().await;
        let kept: Vec<_> = streams
            .iter()
            .chain(&forks)
            .filter(|name| *name != "runs/1")
            .cloned()
            .collect();
        let mut known = tails(&made, &kept).await;
        let usage = made.usage();
        stop(made);
        let (mut from, mut appended) = (first, String::new());
        for to in [16, 2, 1, 4] {
            let report = reshard(&disk, to).expect("the disk works");
            assert_eq!((report.from, report.to), (from, to));
            let rig = rig(&disk, to);
            assert_eq!(tails(&rig, &kept).await, known, "{from} to {to}");
            assert_eq!(rig.text("runs/0").await, format!("first;second;{long}"));
            assert_eq!(rig.text("runs/2").await, "first;second;");
            assert_eq!(rig.text("runs/3").await, "second;");
            for fork in &forks {
                let more = if fork == "fork of/5" {
                    appended.as_str()
                } else {
                    ""
                };
                assert_eq!(
                    rig.text(fork).await,
                    format!("first;of the fork;{more}"),
                    "{fork}"
                );
            }
            rig.append("runs/2", "x").await.expect_err("closed");
            rig.create("runs/1").await.expect_err("held by a fork");
            // A retry is answered as the append was, and changes nothing.
            let again = rig
                .engine
                .append(&name("runs/4"), from_producer("first;", 0))
                .await;
            again.expect("known");
            assert_eq!(rig.text("runs/4").await, "first;second;");
            assert_eq!(rig.usage(), (usage.0, usage.1 + appended.len() as u64));
            rig.append("fork of/5", "more;").await.expect("appended");
            appended.push_str("more;");
            known = tails(&rig, &kept).await;
            stop(rig);
            from = to;
        }
        let rig = rig(&disk, 4);
        for stream in streams.iter().filter(|name| *name != "runs/1").chain(&forks) {
            rig.delete(stream).await;
        }
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0));
        // All names are free, also where they once led elsewhere.
        for stream in streams.iter().chain(&forks) {
            rig.create(stream).await.expect("created");
            rig.append(stream, "anew").await.expect("appended");
        }
        stop(rig);
        reshard(&disk, 16).expect("the disk works");
        let rig = self::rig(&disk, 16);
        for stream in streams.iter().chain(&forks) {
            assert_eq!(rig.text(stream).await, "anew", "{stream}");
        }
    });
}

/// A stream beside another one, in one shard, whose name leads nowhere.
#[test]
fn names_that_never_led_anywhere_lead_to_their_streams_in_other_shards() {
    for seed in 0..8 {
        let disk = FaultyDisk::new(seed);
        let store = open(&disk, DIR, 1);
        let mut author = Author::of_shards();
        let source = author.stream_of(&store, "source", &["first;"]);
        let forks: Vec<_> = (0..16).map(|number| format!("fork/{number}")).collect();
        for fork in &forks {
            let (_, record) = author.fork(source, fork, 6);
            commit(&store, record);
        }
        drop(store);
        reshard(&disk, 8).expect("the disk works");
        let store = open(&disk, DIR, 8);
        for fork in &forks {
            let found = store.load(&name(fork)).expect("readable");
            assert!(found.is_some_and(|state| state.name.as_str() == fork), "{fork}");
        }
        drop(store);
        assert_tidy(&disk, DIR, 8);
    }
}

fn name(text: &str) -> tailwater_storage::stream::StreamName {
    crate::support::ask::name(text)
}

#[test]
fn for_as_many_shards_as_there_are_nothing_is_done() {
    let (shop, _) = Shop::aged(1, 30).reshard(4);
    let files = shop.disk.files();
    let usage = shop.store.usage();
    let (shop, report) = shop.reshard(4);
    assert_eq!((report.from, report.to, report.streams), (4, 4, usage.streams));
    assert_eq!(shop.disk.files(), files);
    assert_holds(&shop.store, &shop.model);
}

#[test]
fn what_has_no_shards_is_refused_and_stays() {
    let disk = FaultyDisk::new(2);
    let refused = reshard(&disk, 4);
    assert!(matches!(refused, Err(OpenError::NoStore { .. })), "{refused:?}");
    assert_eq!(disk.files().len(), 0);
    let options = FileOptions::new(DIR.into(), Durability::Durable, 1 << 20);
    drop(FileStore::open_unlocked(Arc::clone(&disk) as Arc<dyn Disk>, options).expect("a new store"));
    let refused = reshard(&disk, 4);
    assert!(
        matches!(&refused, Err(OpenError::OtherMode { found, .. }) if found == "file-durable"),
        "{refused:?}"
    );
}

#[test]
fn a_store_that_is_used_is_left_alone() {
    let above = tempfile::tempdir().expect("a directory");
    let dir = above.path().join("store");
    let refused = acid::reshard(&dir, 4);
    assert!(matches!(refused, Err(OpenError::NoStore { .. })), "{refused:?}");
    assert!(!dir.exists(), "nothing is made");
    let store = acid::open(&options(&dir, 2)).expect("a new store");
    let refused = acid::reshard(&dir, 4);
    let this = std::process::id();
    assert!(
        matches!(refused, Err(OpenError::Locked { pid: Some(pid), .. }) if pid == this),
        "{refused:?}"
    );
    drop(store);
    assert_eq!(acid::reshard(&dir, 4).expect("nobody uses it").from, 2);
    let said = acid::open(&options(&dir, 2)).err().expect("it has 4").to_string();
    assert!(said.contains("tailwater reshard --data-dir"), "{said}");
    let store: AcidStore = acid::open(&options(&dir, 4)).expect("it has 4");
    assert_eq!(store.nature().partitions, 4);
    assert!(!dir.join("acid/shards-002").exists());
}

#[test]
fn a_full_disk_leaves_the_shards_that_there_were_and_no_others() {
    let (shop, _) = Shop::aged(3, 60).reshard(2);
    let Shop {
        disk, model, store, ..
    } = shop;
    drop(store);
    let files = disk.files();
    for free in [0, 10_000, 1_000_000, 5_000_000] {
        let disk = disk.crash_process();
        disk.set_free_bytes(Some(free));
        reshard(&disk, 16).expect_err("there is no space");
        assert_eq!(disk.files(), files, "{free}");
        assert!(
            !disk
                .list(Path::new("/data/acid"))
                .expect("a directory")
                .contains(&"shards-016".to_owned())
        );
        assert_holds(&open(&disk, DIR, 2), &model);
        disk.set_free_bytes(None);
        reshard(&disk, 16).expect("there is space again");
        assert_holds(&open(&disk, DIR, 16), &model);
        try_open(&disk, DIR, 2).err().expect("it has 16");
    }
}
