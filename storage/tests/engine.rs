//! What the engine promises, over a backend that commits inline, over one with committer threads, and over one with
//! several partitions.
#![cfg(not(feature = "shuttle"))]

mod support;

mod engine {
    mod batches;
    mod concurrency;
    mod durability;
    mod failures;
    mod feed;
    mod forks;
    mod imports;
    mod incarnations;
    mod lifetimes;
    mod residency;
    mod space;
    mod together;
    mod without_space;
}

use std::future::Future;
use std::sync::Arc;

use support::ask::{Rig, run};
use support::faulty_disk::FaultyDisk;
use support::gated::Gated;
use tailwater_storage::acid::{AcidOptions, AcidStore};
use tailwater_storage::disk::Disk;
use tailwater_storage::{EngineLimits, Memory};

/// Runs a test over every kind of backend, each with room for `bytes_max`.
fn over_each<F: Future<Output = ()>>(bytes_max: u64, limits: EngineLimits, test: impl Fn(Rig) -> F) {
    run(async {
        println!("over memory, inline");
        test(Rig::limited(Arc::new(Memory::new(bytes_max)), limits)).await;
        println!("over committer threads");
        test(Rig::limited(Gated::new(bytes_max), limits)).await;
        println!("over committer threads, asked off the runtime");
        test(Rig::limited(Gated::slow(bytes_max), limits)).await;
    });
}

/// Runs a test over every kind of backend, with ample room.
fn over_all<F: Future<Output = ()>>(test: impl Fn(Rig) -> F) {
    over_each(1 << 30, EngineLimits::default(), &test);
    println!("over several partitions");
    run(async { test(over_shards()).await });
}

/// An engine over four shards on a disk in memory.
fn over_shards() -> Rig {
    let disk: Arc<dyn Disk> = FaultyDisk::new(0);
    let options = AcidOptions {
        shard_count: 4,
        cache_bytes: 1 << 20,
        ..AcidOptions::new("/data".into())
    };
    Rig::over(Arc::new(
        AcidStore::open_unlocked(&disk, &options).expect("the store opens"),
    ))
}

/// Runs a test over committer threads behind a gate.
fn behind_a_gate<F: Future<Output = ()>>(test: impl FnOnce(Rig, Arc<Gated>) -> F) {
    let gated = Gated::new(1 << 30);
    run(async { test(Rig::over(Arc::<Gated>::clone(&gated)), gated).await });
}
