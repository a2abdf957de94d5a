//! A store, its disk, and what may be there after a crash.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::backend::Outcome;
use tailwater_storage::disk::Disk;
use tailwater_storage::file::{Durability, verify};
use tailwater_storage::stream::{OffsetToken, Record, StreamId, StreamName};
use tailwater_storage::{Backend, BackendError, FileOptions, FileStore};

use super::history::{Crash, History, is_full};
use super::workload::{Workload, describe};
use crate::naive::Naive;
use crate::support::faulty_disk::FaultyDisk;

/// The store's directory.
pub(super) const DIR: &str = "/data";

pub(super) const FAST: Durability = Durability::Fast {
    sync_interval_ms: 1_000,
};

/// A token that was given out, of a position that was lost afterwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lost {
    pub(super) token: OffsetToken,
    pub(super) stream: StreamId,
    pub(super) name: StreamName,
}

/// A store on a faulty disk, with all that it may say after a crash.
pub(super) struct Run {
    history: History,
    pub(super) rng: Rng,
    workload: Workload,
    pub(super) options: FileOptions,
    pub(super) disk: Arc<FaultyDisk>,
    pub(super) store: Option<FileStore>,
    /// What the store said when it was opened, and then after each batch that it was given since.
    pub(super) snapshots: Vec<Naive>,
    /// The last snapshot whose batch was acknowledged.
    pub(super) acknowledged: usize,
    /// The last snapshot that is known to be durable whatever the mode promises.
    pub(super) synced: usize,
    /// Released before the last compaction.
    pub(super) released_for_good: BTreeSet<StreamId>,
    pub(super) lost: Vec<Lost>,
    /// The machine has crashed since the store was last opened.
    pub(super) machine_crashed: bool,
    /// The store has failed since it was last opened.
    pub(super) has_failed: bool,
    /// It was to be stopped before that, or never open: if that has come to an end, nothing may be lost.
    pub(super) stopped: bool,
    /// A read fails once in this life, and what failed of it can be tried again.
    pub(super) reads_fail: bool,
    was_open: bool,
}

impl Run {
    pub(super) fn new(seed: u64, durability: Durability) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut options = FileOptions::new(PathBuf::from(DIR), durability, 1 << 20);
        options.compacts_by_itself = false;
        options.journal_bytes = rng.u64(4..16) * 4096;
        options.fold_bytes = 2 * options.journal_bytes;
        options.segment_bytes_max = rng.u64(2..16) * 4096;
        let disk = FaultyDisk::new(rng.u64(..));
        Self {
            history: History::new(seed, &options),
            workload: Workload::new(rng.fork(), options.journal_bytes),
            rng,
            options,
            disk,
            store: None,
            snapshots: vec![Naive::default()],
            acknowledged: 0,
            synced: 0,
            released_for_good: BTreeSet::new(),
            lost: Vec::new(),
            machine_crashed: false,
            has_failed: false,
            stopped: true,
            reads_fail: false,
            was_open: false,
        }
    }

    pub(super) fn is_fast(&self) -> bool {
        self.options.durability == FAST
    }

    pub(super) fn note(&mut self, step: impl Into<String>) {
        self.history.note(step, &self.disk);
    }

    pub(super) fn store(&self) -> &FileStore {
        self.store.as_ref().expect("the store is open")
    }

    /// What was acknowledged.
    pub(super) fn current(&self) -> &Naive {
        &self.snapshots[self.acknowledged]
    }

    fn current_mut(&mut self) -> &mut Naive {
        &mut self.snapshots[self.acknowledged]
    }

    /// Opens the store, which must succeed, and compares it with what may be there.
    pub(super) fn open(&mut self) {
        self.verify();
        let opened = self.try_open();
        opened.unwrap_or_else(|error| panic!("the store cannot be opened: {error}"));
    }

    /// Opens the store, and compares it with what may be there.
    pub(super) fn try_open(&mut self) -> Result<(), tailwater_storage::OpenError> {
        self.note("open");
        let disk: Arc<dyn Disk> = Arc::clone(&self.disk) as Arc<dyn Disk>;
        self.store = Some(FileStore::open_unlocked(disk, self.options.clone())?);
        self.note("opened");
        self.was_open = true;
        self.adopt();
        Ok(())
    }

    pub(super) fn next_batch(&mut self) -> Vec<Record> {
        self.workload.batch(None, &self.snapshots[self.acknowledged])
    }

    /// Whatever a crash leaves of a store that was once open is no damage.
    fn verify(&mut self) {
        if self.was_open && self.rng.u8(..4) == 0 {
            let report = verify(self.disk.as_ref(), &self.options.data_dir).expect("a store");
            assert!(report.is_clean(), "{:#?}", report.damage);
        }
    }

    /// Commits a batch of the workload. Whether the store goes on.
    pub(super) fn commit_some(&mut self) -> bool {
        let batch = self.next_batch();
        self.commit(&batch).is_some()
    }

    /// Commits a batch. None if the store does not go on.
    pub(super) fn commit(&mut self, batch: &[Record]) -> Option<Vec<Outcome>> {
        let records: Vec<_> = batch.iter().map(describe).collect();
        self.note(format!("commit {}", records.join("; ")));
        assert_eq!(
            self.acknowledged + 1,
            self.snapshots.len(),
            "the store has failed"
        );
        let mut next = self.current().clone();
        let committed = self.store().commit(0, batch);
        let outcomes = match &committed {
            Ok(outcomes) => outcomes.to_vec(),
            Err(error) => {
                self.note(format!("failed: {error}"));
                vec![Outcome::Durable; batch.len()]
            }
        };
        next.apply_batch(batch, &outcomes);
        self.snapshots.push(next);
        if committed.is_err() {
            self.check_failed(batch);
            return None;
        }
        self.acknowledged += 1;
        if !self.is_fast() {
            self.synced = self.acknowledged;
        }
        Some(outcomes)
    }

    /// After a commit has failed: nothing more is taken, and nothing of it is shown.
    fn check_failed(&mut self, batch: &[Record]) {
        assert!(self.store().failure().is_some());
        assert!(matches!(
            self.store().commit(0, batch),
            Err(BackendError::Poisoned)
        ));
        if !self.disk.has_stopped() {
            self.check();
        }
    }

    /// Whether the store goes on.
    pub(super) fn compact(&mut self) -> bool {
        self.note("compact");
        match self.store().compact() {
            Ok(()) => {
                self.synced = self.acknowledged;
                self.released_for_good = self.current().released.clone();
                true
            }
            Err(error) => {
                self.note(format!("failed: {error}"));
                let goes_on = self.store().failure().is_none();
                assert!(!goes_on || is_full(&error), "the store goes on after {error}");
                goes_on
            }
        }
    }

    /// Whether the store goes on.
    pub(super) fn sync(&mut self) -> bool {
        self.note("sync");
        match self.store().sync() {
            Ok(()) => {
                self.synced = self.acknowledged;
                true
            }
            Err(error) => {
                self.note(format!("failed: {error}"));
                assert!(self.store().failure().is_some());
                false
            }
        }
    }

    /// Stops the store as a server does that ends. Whether that succeeds.
    pub(super) fn stop(&mut self) -> bool {
        self.note("stop");
        self.stopped = true;
        match self.store().stop() {
            Ok(()) => {
                self.synced = self.acknowledged;
                self.released_for_good = self.current().released.clone();
                true
            }
            Err(error) => {
                self.note(format!("failed: {error}"));
                false
            }
        }
    }

    /// Releases a deleted stream that has no forks, if there is one.
    pub(super) fn release_one(&mut self) {
        let Some(id) = self.current().releasable().map(|state| state.id) else {
            return;
        };
        self.note(format!("release {}", id.get()));
        let released = self.store().release(id);
        let expected = self.current_mut().release(id);
        match released {
            Ok(source) => assert_eq!(source, expected, "the source that may go as well"),
            Err(error) => {
                self.note(format!("failed: {error}"));
                assert!(self.reads_fail, "{error}");
                // It may have been done, and then says nothing of a source.
                self.store().release(id).expect("it is asked again");
            }
        }
    }

    pub(super) fn release_all(&mut self) {
        self.note("release all");
        while self.current().releasable().is_some() {
            self.release_one();
        }
    }

    /// Deletes all streams and releases them, for which there is always space.
    pub(super) fn delete_all(&mut self) {
        let alive: Vec<_> = self.current().alive().iter().map(|state| state.id).collect();
        for id in alive {
            let delete = self.current().clone().author.delete(id);
            assert_eq!(self.commit(&[delete]), Some(vec![Outcome::Durable]));
        }
        self.release_all();
    }

    pub(super) fn reclaim_all(&mut self) {
        self.note("reclaim all");
        for id in self.current().reclaimable().collect::<Vec<_>>() {
            if let Err(error) = self.store().reclaim(id) {
                self.note(format!("failed: {error}"));
                assert!(self.reads_fail, "{error}");
                self.store().reclaim(id).expect("it is asked again");
            }
        }
    }

    /// One step by chance. Whether the store goes on.
    pub(super) fn step(&mut self) -> bool {
        match self.rng.u8(..40) {
            0..=3 => self.compact(),
            4..=5 => {
                self.release_one();
                true
            }
            6 => {
                self.release_all();
                true
            }
            7..=8 => {
                self.reclaim_all();
                true
            }
            9..=10 if self.is_fast() => self.sync(),
            11 => {
                self.check();
                true
            }
            _ => self.commit_some(),
        }
    }

    /// Ends this life of the store.
    pub(super) fn crash(&mut self, crash: Crash) {
        self.note(format!("{crash:?} crash"));
        let disk = crash.of(&self.disk);
        self.has_failed |= self.store.as_ref().is_some_and(|store| store.failure().is_some());
        // Whatever the store does when it is dropped, it does to the disk of before.
        self.store = None;
        self.disk = disk;
        self.reads_fail = false;
        self.machine_crashed |= crash == Crash::Machine;
    }

    pub(super) fn some_crash(&mut self) -> Crash {
        Crash::some(&mut self.rng)
    }

    /// The store goes on as any other, and in the end nothing is left of it.
    pub(super) fn finish(&mut self) {
        for _ in 0..3 {
            assert!(self.commit_some());
        }
        self.check();
        assert!(self.compact());
        self.check();
        assert!(self.stop());
        self.store = None;
        self.open();
        self.delete_all();
        assert!(self.compact());
        self.check();
        let usage = self.store().usage();
        assert_eq!((usage.streams, usage.bytes), (0, 0));
        assert!(self.files("segment").is_empty(), "everything was released");
    }

    /// The paths of all files with this extension.
    pub(super) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files
            .retain(|path| path.starts_with(DIR) && path.extension().is_some_and(|found| found == extension));
        files
    }
}
