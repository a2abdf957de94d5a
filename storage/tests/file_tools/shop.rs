//! A store with a model of what it holds, that lives by chance.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::backend::Outcome;
use tailwater_storage::disk::Disk;
use tailwater_storage::file::Durability;
use tailwater_storage::{Backend as _, FileOptions, FileStore};

use crate::author::release_all;
use crate::naive::Naive;
use crate::support::faulty_disk::FaultyDisk;
use crate::workload::Workload;

/// The store's directory.
pub(super) const DIR: &str = "/data";

pub(super) const FAST: Durability = Durability::Fast {
    sync_interval_ms: 1_000,
};

pub(super) fn options(dir: &Path, durability: Durability) -> FileOptions {
    FileOptions {
        journal_bytes: 32 << 10,
        fold_bytes: 64 << 10,
        segment_bytes_max: 40 << 10,
        compacts_by_itself: false,
        ..FileOptions::new(dir.to_owned(), durability, 1 << 20)
    }
}

pub(super) struct Shop {
    pub(super) rng: Rng,
    pub(super) disk: Arc<FaultyDisk>,
    pub(super) store: FileStore,
    pub(super) model: Naive,
    workload: Workload,
}

impl Shop {
    pub(super) fn new(seed: u64, durability: Durability) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = FaultyDisk::new(rng.u64(..));
        let store = open(&disk, Path::new(DIR), durability);
        Self {
            workload: Workload::new(rng.fork(), 32 << 10),
            rng,
            disk,
            store,
            model: Naive::default(),
        }
    }

    pub(super) fn commit(&mut self) {
        let batch = self.workload.batch(None, &self.model);
        let outcomes = self.store.commit(0, &batch).expect("the disk works");
        for (record, outcome) in batch.iter().zip(outcomes) {
            assert_eq!(outcome, Outcome::Durable, "there is space");
            self.model.apply(record);
        }
    }

    pub(super) fn compact(&self) {
        self.store.compact().expect("the disk works");
    }

    /// Something by chance.
    pub(super) fn step(&mut self) {
        match self.rng.u8(..20) {
            0 => self.compact(),
            1 => {
                release_all(&self.store);
                self.model.release_all();
            }
            2 => {
                // An engine pins what is staged.
                let staged = &self.model.author.staged;
                for state in self.model.stored().filter(|state| !staged.contains(&state.id)) {
                    self.store.reclaim(state.id).expect("the disk works");
                }
            }
            _ => self.commit(),
        }
    }

    /// The store is left as a crash of its process leaves it.
    pub(super) fn crash(self) -> (Arc<FaultyDisk>, Naive) {
        (self.disk.crash_process(), self.model)
    }

    /// The store is left as a server leaves it that ends.
    pub(super) fn stop(self) -> (Arc<FaultyDisk>, Naive) {
        self.store.stop().expect("the disk works");
        (self.disk, self.model)
    }
}

pub(super) fn open(disk: &Arc<FaultyDisk>, dir: &Path, durability: Durability) -> FileStore {
    try_open(disk, dir, durability).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

pub(super) fn try_open(
    disk: &Arc<FaultyDisk>,
    dir: &Path,
    durability: Durability,
) -> Result<FileStore, tailwater_storage::OpenError> {
    FileStore::open_unlocked(Arc::clone(disk) as Arc<dyn Disk>, options(dir, durability))
}

/// All files with all their bytes.
pub(super) fn contents(disk: &FaultyDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk.files().into_iter();
    files
        .map(|path| {
            let bytes = disk.read_file(&path);
            (path, bytes)
        })
        .collect()
}

/// The paths below a directory that end so.
pub(super) fn files(disk: &FaultyDisk, dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.starts_with(dir) && path.extension().is_some_and(|found| found == extension));
    files
}
