//! Stores on a disk with faults, small enough that tests reach all that happens in them.

use std::sync::Arc;

use tailwater_storage::acid::{AcidOptions, AcidStore};
use tailwater_storage::disk::Disk;
use tailwater_storage::file::Durability;
use tailwater_storage::{Backend, FileOptions, FileStore};

use super::faulty_disk::FaultyDisk;

pub(crate) fn file_store(disk: &Arc<FaultyDisk>) -> Arc<dyn Backend> {
    file_store_of(disk, Durability::Durable)
}

pub(crate) fn fast_store(disk: &Arc<FaultyDisk>) -> Arc<dyn Backend> {
    let sync_interval_ms = 1_000;
    file_store_of(disk, Durability::Fast { sync_interval_ms })
}

fn file_store_of(disk: &Arc<FaultyDisk>, durability: Durability) -> Arc<dyn Backend> {
    let options = FileOptions {
        journal_bytes: 64 << 10,
        fold_bytes: 128 << 10,
        segment_bytes_max: 64 << 10,
        compacts_by_itself: false,
        ..FileOptions::new("/data".into(), durability, 1 << 20)
    };
    let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
    Arc::new(FileStore::open_unlocked(disk, options).expect("the store opens"))
}

pub(crate) fn acid_store(disk: &Arc<FaultyDisk>) -> Arc<dyn Backend> {
    let options = AcidOptions {
        shard_count: 2,
        cache_bytes: 1 << 20,
        ..AcidOptions::new("/data".into())
    };
    let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
    Arc::new(AcidStore::open_unlocked(&disk, &options).expect("the store opens"))
}
