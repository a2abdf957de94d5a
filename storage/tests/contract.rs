//! What every backend owes the engine, as `backend.rs` promises it: the same tests for each of them.
#![cfg(not(feature = "shuttle"))]

mod support;

mod contract {
    #[allow(dead_code, reason = "the crash tests use more of it")]
    mod author;
    mod catalog;
    mod controls;
    mod forks;
    mod lifetimes;
    mod model;
    #[allow(dead_code, reason = "the crash tests use more of it")]
    mod naive;
    mod reading;
    mod records;
    mod space;
    pub(crate) mod tended;
}

use std::sync::Arc;

use contract::tended::{FAST, Tended};
use support::faulty_disk::FaultyDisk;
use tailwater_storage::acid::{AcidOptions, AcidStore};
use tailwater_storage::disk::Disk;
use tailwater_storage::file::Durability::Durable;
use tailwater_storage::{Backend, Memory};

/// A backend, by its name in failures, and how to make an empty one.
struct Row {
    name: &'static str,
    /// One that stores at most so many bytes if it is bounded, and otherwise as many as its medium takes.
    with_bytes_max: fn(u64) -> Box<dyn Backend>,
    /// Whether it stores just so many bytes, and counts all that it stores.
    is_bounded: bool,
}

/// A backend that a disk alone sets limits to.
const fn on_disk(name: &'static str, with_bytes_max: fn(u64) -> Box<dyn Backend>) -> Row {
    Row {
        name,
        with_bytes_max,
        is_bounded: false,
    }
}

/// Every backend there is. Those that keep everything in journals are compacted behind every commit in another row.
const BACKENDS: &[Row] = &[
    Row {
        name: "memory",
        with_bytes_max: |bytes_max| Box::new(Memory::new(bytes_max)),
        is_bounded: true,
    },
    on_disk("file-durable", |_| Tended::in_memory(Durable, false)),
    on_disk("file-durable, compacted", |_| Tended::in_memory(Durable, true)),
    on_disk("file-fast", |_| Tended::in_memory(FAST, false)),
    on_disk("file-fast, compacted", |_| Tended::in_memory(FAST, true)),
    on_disk("file-fast in a directory", |_| Tended::on_disk(FAST)),
    on_disk("acid", |_| acid_in_memory(1)),
];

/// A store of shards in memory.
fn acid_in_memory(shard_count: u32) -> Box<dyn Backend> {
    let disk: Arc<dyn Disk> = FaultyDisk::new(0);
    let options = AcidOptions {
        shard_count,
        cache_bytes: 1 << 20,
        ..AcidOptions::new("/data".into())
    };
    Box::new(AcidStore::open_unlocked(&disk, &options).expect("a new store"))
}

/// Holds a promise against some backends, each with room for `bytes_max` if it is bounded.
fn some_within(bytes_max: u64, which: impl Fn(&Row) -> bool, promise: impl Fn(&dyn Backend)) {
    for row in BACKENDS.iter().filter(|row| which(row)) {
        println!("backend: {}", row.name);
        promise((row.with_bytes_max)(bytes_max).as_ref());
    }
}

/// Holds a promise against every backend, each with room for `bytes_max` if it is bounded.
fn within(bytes_max: u64, promise: impl Fn(&dyn Backend)) {
    some_within(bytes_max, |_| true, promise);
}

/// Holds a promise against every backend, each with ample room.
fn every_backend(promise: impl Fn(&dyn Backend)) {
    within(1 << 30, promise);
}

/// Holds a promise against the backends that count every byte, each with room for `bytes_max`.
fn bounded(bytes_max: u64, promise: impl Fn(&dyn Backend)) {
    some_within(bytes_max, |row| row.is_bounded, promise);
}
