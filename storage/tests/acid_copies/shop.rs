//! A store of shards with a model of what it holds, that lives by chance while it has one shard.

use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::acid::{AcidOptions, AcidStore, ReshardReport, reshard_unlocked};
use tailwater_storage::backend::Outcome;
use tailwater_storage::disk::Disk;
use tailwater_storage::stream::{Part, Record, Transition};
use tailwater_storage::{Backend as _, OpenError};

use crate::author::{Author, release_all};
use crate::naive::Naive;
use crate::support::faulty_disk::FaultyDisk;
use crate::workload::Workload;

/// The store's directory.
pub(super) const DIR: &str = "/data";

pub(super) struct Shop {
    pub(super) rng: Rng,
    pub(super) disk: Arc<FaultyDisk>,
    pub(super) store: AcidStore,
    pub(super) model: Naive,
    workload: Workload,
}

impl Shop {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = FaultyDisk::new(rng.u64(..));
        let store = open(&disk, DIR, 1);
        let mut model = Naive::default();
        model.author = Author::of_shards();
        Self {
            // Some bodies stand in pieces.
            workload: Workload::new(rng.fork(), 100 << 10),
            rng,
            disk,
            store,
            model,
        }
    }

    /// One that has lived for a while.
    pub(super) fn aged(seed: u64, steps: usize) -> Self {
        let mut shop = Self::new(seed);
        for _ in 0..steps {
            shop.step();
        }
        shop
    }

    pub(super) fn commit(&mut self) {
        let batch = self.workload.batch(None, &self.model);
        for record in &batch {
            lead(&self.store, record);
        }
        let outcomes = self.store.commit(0, &batch).expect("the disk works");
        for (record, outcome) in batch.iter().zip(outcomes) {
            assert_eq!(outcome, Outcome::Durable, "there is space");
            self.model.apply(record);
        }
    }

    /// Something by chance.
    pub(super) fn step(&mut self) {
        match self.rng.u8(..20) {
            0 => {
                release_all(&self.store);
                self.model.release_all();
            }
            1 => {
                // An engine pins what is staged.
                let staged = &self.model.author.staged;
                for state in self.model.stored().filter(|state| !staged.contains(&state.id)) {
                    self.store.reclaim(state.id).expect("the disk works");
                }
            }
            _ => self.commit(),
        }
    }

    /// Gives the store so many shards. The model stays what it was.
    pub(super) fn reshard(self, to: u32) -> (Self, ReshardReport) {
        let Self {
            rng,
            disk,
            store,
            model,
            workload,
        } = self;
        drop(store);
        let report = reshard(&disk, to).expect("the disk works");
        let shop = Self {
            store: open(&disk, DIR, to),
            rng,
            disk,
            model,
            workload,
        };
        (shop, report)
    }
}

/// Lets the names of forks lead to them, as an engine does before it commits.
fn lead(store: &AcidStore, record: &Record) {
    for part in &record.parts {
        if let Part::Stream {
            transition: Transition::Create(created),
            ..
        } = part
            && let Some(source) = &created.source
        {
            // Names below a prefix may lead there one by one, or all at once.
            let led = match created.name.as_str().split_once('/') {
                Some((first, _)) => store.lead_below(&format!("{first}/"), source.id),
                None => store.lead(std::slice::from_ref(&created.name), source.id),
            };
            led.expect("the disk works");
        }
    }
}

/// Commits one record where its stream stands.
pub(super) fn commit(store: &AcidStore, record: Record) {
    let stream = record.streams().next().expect("it is of a stream");
    let outcomes = store.commit(store.partition_of(stream), &[record]);
    assert_eq!(outcomes.expect("the disk works")[..], [Outcome::Durable]);
}

pub(super) fn reshard(disk: &Arc<FaultyDisk>, to: u32) -> Result<ReshardReport, OpenError> {
    reshard_unlocked(&(Arc::clone(disk) as Arc<dyn Disk>), Path::new(DIR), to)
}

pub(super) fn open(disk: &Arc<FaultyDisk>, dir: &str, shard_count: u32) -> AcidStore {
    try_open(disk, dir, shard_count).unwrap_or_else(|error| panic!("the store does not open: {error}"))
}

pub(super) fn try_open(disk: &Arc<FaultyDisk>, dir: &str, shard_count: u32) -> Result<AcidStore, OpenError> {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    AcidStore::open_unlocked(&disk, &options(Path::new(dir), shard_count))
}

pub(super) fn options(dir: &Path, shard_count: u32) -> AcidOptions {
    AcidOptions {
        shard_count,
        cache_bytes: 4 << 20,
        log_bytes_max: 128 << 10,
        ..AcidOptions::new(dir.to_owned())
    }
}

/// What stands in the directory of the shards, beside and in that of so many shards.
pub(super) fn assert_tidy(disk: &FaultyDisk, dir: &str, shard_count: u32) {
    let dir = Path::new(dir).join("acid");
    let shards = format!("shards-{shard_count:03}");
    let mut names = disk.list(&dir).expect("a directory");
    // What keeps space back comes with the first commit.
    names.retain(|name| name != "SPARE");
    names.sort();
    assert_eq!(names, ["SHARDS".to_owned(), shards.clone()]);
    let mut names = disk.list(&dir.join(shards)).expect("a directory");
    names.sort();
    let files = (0..shard_count).flat_map(|number| ["log", "redb"].map(|kind| format!("{number:03}.{kind}")));
    assert_eq!(names, files.collect::<Vec<_>>());
}
