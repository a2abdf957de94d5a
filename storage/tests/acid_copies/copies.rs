//! Copies are the store as it was at one moment, and live on by themselves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tailwater_storage::acid::AcidStore;
use tailwater_storage::backend::Outcome;
use tailwater_storage::disk::Disk;
use tailwater_storage::stream::{OffsetRefusal, OffsetToken, StreamId};
use tailwater_storage::{Backend, OpenError};

use super::shop::{DIR, Shop, assert_tidy, commit, open, options, try_open};
use crate::author::{Author, Body, load};
use crate::naive::Naive;
use crate::sameness::{assert_holds, in_new_era};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::gated_disk::{GatedDisk, Passage};

/// Appends to every stream of a store that takes any, and answers the tokens of the places behind.
fn append_to_all(store: &AcidStore, model: &mut Naive, bytes: usize) -> Vec<(StreamId, OffsetToken)> {
    let open = model.alive().into_iter().filter(|state| !state.closed);
    let open: Vec<_> = open.map(|state| state.id).collect();
    let mut tokens = Vec::new();
    for id in open {
        for _ in 0..2 {
            let append = model.author.append(id, Body::one("z".repeat(bytes)));
            model.note(&append);
            commit(store, append);
            tokens.push((id, model.author.state(id).tail_token()));
        }
    }
    tokens
}

fn assert_refused(copy: &AcidStore, model: &Naive, tokens: &[(StreamId, OffsetToken)]) {
    for (id, token) in tokens {
        let name = &model.author.states[id].name;
        let state = load(copy, name.as_str()).expect("it is there");
        assert_eq!(
            state.lineage.resolve(*token, state.oldest, state.tail),
            Err(OffsetRefusal::Unknown),
            "{token} of {id}"
        );
    }
}

#[test]
fn copies_of_any_moment_are_what_was_there_and_refuse_what_the_original_gave_out_later() {
    for seed in 0..20 {
        println!("seed {seed}");
        let (mut shop, _) = Shop::aged(seed, 60).reshard(1 << (seed % 5));
        let shards = shop.store.nature().partitions as u32;
        let report = shop.store.backup(Path::new("/copy")).expect("the disk works");
        let usage = shop.store.usage();
        assert_eq!(
            (report.streams, report.stored_bytes),
            (usage.streams, usage.bytes)
        );
        assert_eq!(report.shards, u64::from(shards));
        let then = shop.model.clone();
        let given_out = append_to_all(&shop.store, &mut shop.model, 100);
        assert_holds(&shop.store, &shop.model);
        // All of it is durable.
        let disk = shop.disk.crash_machine();
        assert_tidy(&disk, "/copy", shards);
        let copy = open(&disk, "/copy", shards);
        let mut model = in_new_era(&then, &copy);
        assert_holds(&copy, &model);
        assert_refused(&copy, &model, &given_out);
        append_to_all(&copy, &mut model, 400);
        assert_refused(&copy, &model, &given_out);
        assert_holds(&copy, &model);
        drop(copy);
        // It is a copy no more.
        assert_holds(&open(&disk, "/copy", shards), &model);
        assert_holds(&open(&disk, DIR, shards), &shop.model);
    }
}

#[test]
fn copies_of_copies_and_of_empty_stores_are_stores() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk, DIR, 4);
    store.backup(Path::new("/empty")).expect("the disk works");
    let mut author = Author::of_shards();
    let (a, create) = author.create("a");
    commit(&store, create);
    commit(&store, author.append(a, Body::one("one")));
    store.backup(Path::new("/one")).expect("the disk works");
    let one = open(&disk, "/one", 4);
    commit(&one, author.append(a, Body::one("two")));
    one.backup(Path::new("/two")).expect("the disk works");
    let bytes = ["/empty", "/two"].map(|dir| open(&disk, dir, 4).usage().bytes);
    assert_eq!(bytes, [0, 6]);
    let refused = try_open(&disk, "/two", 2).err();
    assert!(matches!(
        refused,
        Some(OpenError::OtherShardCount { found: 4, .. })
    ));
}

/// Whoever kills a copy while it begins must not find some of its streams in no era of their own.
#[test]
fn wherever_the_first_start_of_a_copy_is_cut_off_the_next_one_goes_on() {
    let (mut shop, _) = Shop::aged(11, 60).reshard(4);
    shop.store.backup(Path::new("/copy")).expect("the disk works");
    let then = shop.model.clone();
    let given_out = append_to_all(&shop.store, &mut shop.model, 100);
    assert!(!given_out.is_empty());
    let newest = then.author.last_id();
    let before = shop.disk.crash_process();
    for operation in 1.. {
        let disk = before.crash_process();
        disk.cut_at(operation);
        let opened = try_open(&disk, "/copy", 4).map(drop);
        for disk in [disk.crash_process(), disk.crash_machine()] {
            let copy = open(&disk, "/copy", 4);
            let mut model = then.clone();
            for state in model.author.states.values_mut() {
                if let Some(found) = load(&copy, state.name.as_str()).filter(|found| found.id == state.id) {
                    let owner = found.lineage.span_at(state.tail).0.owner;
                    assert!(
                        state.closed || state.deleted || Some(owner) > newest,
                        "cut at {operation}"
                    );
                    state.lineage = found.lineage;
                }
            }
            assert_holds(&copy, &model);
            assert_refused(&copy, &model, &given_out);
            append_to_all(&copy, &mut model, 400);
            assert_refused(&copy, &model, &given_out);
        }
        if opened.is_ok() {
            break;
        }
    }
}

/// Appends numbers to streams in turn, each once the one before is durable, until it is told to end.
fn count_up(store: &AcidStore, author: &mut Author, streams: &[StreamId], progress: &Progress) {
    while !progress.is_done.load(Ordering::Acquire) {
        let number = progress.acknowledged.load(Ordering::Relaxed);
        let body = Body::one(format!("{number:08}"));
        commit(
            store,
            author.append(streams[number as usize % streams.len()], body),
        );
        progress.acknowledged.store(number + 1, Ordering::Release);
    }
}

#[derive(Default)]
struct Progress {
    acknowledged: AtomicU64,
    is_done: AtomicBool,
}

impl Progress {
    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Waits until so many numbers are acknowledged, or until it is clear that it takes long.
    fn wait_for(&self, count: u64) {
        let begun = Instant::now();
        while self.acknowledged() < count && begun.elapsed() < Duration::from_secs(1) {
            std::thread::yield_now();
        }
    }
}

/// A copy that has a number without those before it is of no moment that there ever was.
fn assert_of_one_moment(copy: &AcidStore, streams: &[String], (before, after): (u64, u64)) {
    let mut found: Vec<u64> = streams
        .iter()
        .flat_map(|stream| numbers_in(copy, stream))
        .collect();
    found.sort_unstable();
    let count = found.len() as u64;
    assert!(found.into_iter().eq(0..count), "there is a gap");
    // One more may be committed that is not acknowledged yet.
    assert!(
        (before..=after + 1).contains(&count),
        "{count}, not {before} to {after}"
    );
}

#[test]
fn commits_go_on_and_each_copy_is_of_one_moment() {
    let disk = FaultyDisk::new(3);
    let store = open(&disk, DIR, 16);
    let mut author = Author::of_shards();
    let names: Vec<_> = (0..32).map(|number| format!("s/{number}")).collect();
    let streams = create_all(&store, &mut author, &names);
    let progress = Progress::default();
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| count_up(&store, &mut author, &streams, &progress));
        for number in 0..8 {
            let to = format!("/copy{number}");
            let before = progress.acknowledged();
            store.backup(Path::new(&to)).expect("the disk works");
            copies.push((to, before, progress.acknowledged()));
        }
        progress.is_done.store(true, Ordering::Release);
    });
    assert!(
        copies.iter().any(|(_, before, after)| before < after),
        "nothing went on"
    );
    for (to, before, after) in copies {
        assert_of_one_moment(&open(&disk, &to, 16), &names, (before, after));
    }
}

/// One shard takes long to be looked at, for it has to be opened anew. What is committed meanwhile in one that was looked
/// at before and then in one that is looked at later must not be in the copy by half.
#[test]
fn a_shard_that_is_looked_at_late_does_not_part_the_moment_of_the_others() {
    let disk = FaultyDisk::new(5);
    let (gated, gate) = GatedDisk::new(Arc::clone(&disk), "/data/acid/shards-004/001.redb");
    let store = AcidStore::open_unlocked(&(gated as Arc<dyn Disk>), &options(Path::new(DIR), 4));
    let store = store.expect("a new store");
    let mut author = Author::of_shards();
    let names: Vec<_> = (0..40).map(|number| format!("s/{number}")).collect();
    let all = create_all(&store, &mut author, &names);
    let in_shard = |shard: usize| {
        let found = all.iter().position(|id| store.partition_of(*id) == shard);
        found.expect("some stream stands in it")
    };
    let late = all[in_shard(1)];
    let counted = [in_shard(0), in_shard(2)];
    let streams = counted.map(|index| all[index]);
    let counted = counted.map(|index| names[index].clone());

    gate.set_reads(Passage::Fails);
    disk.set_free_bytes(Some(0));
    let refused = author.clone().append(late, Body::one("x".repeat(3_000_000)));
    let outcomes = store.commit(1, &[refused]);
    assert!(outcomes.is_err() || outcomes.is_ok_and(|outcomes| outcomes[..] == [Outcome::Full]));
    disk.set_free_bytes(None);
    gate.set_reads(Passage::Waits);

    let progress = Progress::default();
    let (before, after) = std::thread::scope(|scope| {
        scope.spawn(|| count_up(&store, &mut author, &streams, &progress));
        progress.wait_for(4);
        let before = progress.acknowledged();
        let copying = scope.spawn(|| store.backup(Path::new("/copy")));
        gate.reached();
        progress.wait_for(progress.acknowledged() + 6);
        gate.set_reads(Passage::Succeeds);
        copying.join().expect("no panic").expect("the disk works");
        progress.is_done.store(true, Ordering::Release);
        (before, progress.acknowledged())
    });
    assert_of_one_moment(&open(&disk, "/copy", 4), &counted, (before, after));
}

fn create_all(store: &AcidStore, author: &mut Author, names: &[String]) -> Vec<StreamId> {
    let created = names.iter().map(|name| {
        let (id, create) = author.create(name);
        commit(store, create);
        id
    });
    created.collect()
}

fn numbers_in(copy: &AcidStore, stream: &str) -> Vec<u64> {
    let state = load(copy, stream).expect("it is there");
    let text = crate::author::text(copy, state.id, 0, state.tail.get(), u64::MAX);
    let numbers = text.as_bytes().chunks(8);
    numbers
        .map(|text| String::from_utf8_lossy(text).parse().expect("a number"))
        .collect()
}
