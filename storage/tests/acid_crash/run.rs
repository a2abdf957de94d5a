//! A store of shards, its disk, and what may be there after a crash.

use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::acid::{AcidOptions, AcidStore};
use tailwater_storage::backend::Outcome;
use tailwater_storage::disk::Disk;
use tailwater_storage::stream::{Part, Record, StreamId, StreamName, Transition};
use tailwater_storage::{Backend, BackendError, OpenError};

use super::history::{Crash, History, is_full};
use super::workload::{Workload, describe};
use crate::naive::Naive;
use crate::support::faulty_disk::FaultyDisk;

/// Some payloads are about as long as this, so that a few of them stand in pieces.
const LONG_BYTES: u64 = 80 << 10;
/// Caches from none, so that every page is read and written at once, to one that holds everything.
const CACHE_BYTES: [u64; 3] = [0, 256 << 10, 8 << 20];
/// Logs from those that hold hardly a record, or a few, to those that are never full.
const LOG_BYTES: [u64; 4] = [16 << 10, 64 << 10, 192 << 10, 16 << 20];

/// Whether commits note which pages are free, and so are synced twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    Quick,
    Slow,
    /// Now so and now so, from one opening to the next.
    Changing,
}

/// A store on a faulty disk, with all that it may say after a crash.
pub(super) struct Run {
    history: History,
    pub(super) rng: Rng,
    workload: Workload,
    repair: Repair,
    pub(super) options: AcidOptions,
    pub(super) disk: Arc<FaultyDisk>,
    pub(super) store: Option<AcidStore>,
    /// What was acknowledged.
    pub(super) known: Naive,
    /// The same with what was under way when the store failed, of which nobody knows whether it was done.
    pub(super) pending: Option<Naive>,
    /// The bytes that the store counted when it crashed, if nothing was under way.
    pub(super) known_bytes: Option<u64>,
    /// Deleted streams that no name may lead to any more.
    pub(super) unled: BTreeSet<StreamId>,
    /// Something has failed in this life before it was done.
    is_interrupted: bool,
    /// A read fails once in this life, and what failed of it can be tried again.
    pub(super) reads_fail: bool,
}

/// What a name begins with, up to where a segment ends.
fn prefix_of(name: &StreamName) -> Option<&str> {
    let (first, _) = name.as_str().split_once('/')?;
    Some(&name.as_str()[..=first.len()])
}

impl Run {
    pub(super) fn new(seed: u64, repair: Repair) -> Self {
        let mut rng = Rng::with_seed(seed);
        let shard_bits = *rng.choice(&[0, 0, 1, 2]).expect("some");
        let options = AcidOptions {
            shard_count: 1 << shard_bits,
            cache_bytes: *rng.choice(&CACHE_BYTES).expect("some"),
            quick_repair: repair == Repair::Quick,
            log_bytes_max: *rng.choice(&LOG_BYTES).expect("some"),
            ..AcidOptions::new("/data".into())
        };
        let mut known = Naive::default();
        known.author.part_by(shard_bits);
        Self {
            history: History::new(seed, &options),
            workload: Workload::new(rng.fork(), LONG_BYTES),
            disk: FaultyDisk::new(rng.u64(..)),
            rng,
            repair,
            options,
            store: None,
            known,
            pending: None,
            known_bytes: Some(0),
            unled: BTreeSet::new(),
            is_interrupted: false,
            reads_fail: false,
        }
    }

    /// A run that goes on from here by itself, as if the process had ended.
    pub(super) fn branch(&self) -> Self {
        Self {
            history: self.history.clone(),
            rng: self.rng.clone(),
            workload: self.workload.clone(),
            repair: self.repair,
            options: self.options.clone(),
            disk: self.disk.crash_process(),
            store: None,
            known: self.known.clone(),
            pending: self.pending.clone(),
            known_bytes: self.known_bytes,
            unled: self.unled.clone(),
            is_interrupted: false,
            reads_fail: false,
        }
    }

    pub(super) fn note(&mut self, step: impl Into<String>) {
        self.history.note(step, &self.disk);
    }

    pub(super) fn store(&self) -> &AcidStore {
        self.store.as_ref().expect("the store is open")
    }

    /// Opens the store, which must succeed, and compares it with what may be there.
    pub(super) fn open(&mut self) {
        let opened = self.try_open();
        opened.unwrap_or_else(|error| panic!("the store cannot be opened: {error}"));
    }

    /// Opens the store, and compares it with what may be there. No crash makes it a damaged one.
    pub(super) fn try_open(&mut self) -> Result<(), OpenError> {
        let opened = self.try_open_only();
        match &opened {
            Ok(()) => self.adopt(),
            Err(error) => assert!(!is_damage(error), "{error}"),
        }
        opened
    }

    pub(super) fn try_open_only(&mut self) -> Result<(), OpenError> {
        if self.repair == Repair::Changing {
            self.options.quick_repair = self.rng.bool();
        }
        self.note(format!("open, quick_repair {}", self.options.quick_repair));
        let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(&self.disk);
        self.store = Some(AcidStore::open_unlocked(&disk, &self.options)?);
        self.note("opened");
        Ok(())
    }

    /// Records of streams in some shard.
    pub(super) fn next_batch(&mut self) -> Vec<Record> {
        let place = self.rng.u64(..self.known.author.places());
        self.workload.batch(Some(place), &self.known)
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
        // A staged stream that was to be released and is imported after all is led there anew, as no engine has to.
        let imported = imports(batch).filter(|(id, _)| self.unled.remove(id));
        let led: Vec<_> = beginnings(batch).into_iter().chain(imported).collect();
        for (id, name) in led {
            match self.lead(&name, id) {
                Ok(()) => {}
                Err(error) => {
                    self.note(format!("not led: {error}"));
                    return is_full(&error).then(|| vec![Outcome::Full; batch.len()]);
                }
            }
        }
        let partition = self.partition_of(&batch[0]);
        let mut next = self.known.clone();
        match self.store().commit(partition, batch) {
            Ok(outcomes) => {
                next.apply_batch(batch, &outcomes);
                self.known = next;
                Some(outcomes.to_vec())
            }
            Err(error) => {
                self.note(format!("failed: {error}"));
                assert!(!is_full(&error), "of a full disk each record is told");
                next.apply_batch(batch, &vec![Outcome::Durable; batch.len()]);
                self.pending = Some(next);
                self.check_failed(partition, batch);
                None
            }
        }
    }

    fn partition_of(&self, record: &Record) -> usize {
        let ids = record.parts.iter().map(|part| match part {
            Part::Stream { id, .. } => *id,
            Part::Control(change) => change.stream,
        });
        let mut partitions: Vec<_> = ids.map(|id| self.store().partition_of(id)).collect();
        partitions.dedup();
        assert_eq!(partitions.len(), 1, "a record is of one partition");
        partitions[0]
    }

    /// Lets a name lead to a stream that is to be, as an engine does before it makes a fork. Now and then somebody else
    /// has led it elsewhere and made nothing.
    fn lead(&mut self, name: &StreamName, id: StreamId) -> Result<(), BackendError> {
        let own = StreamId::new(self.store().next_id(1, name, None)).expect("an id");
        let is_its_own = self.store().partition_of(own) == self.store().partition_of(id);
        let elsewhere = (self.rng.u8(..8) == 0).then(|| self.rng.u64(1..256));
        if let Some(elsewhere) = elsewhere.and_then(StreamId::new) {
            self.store().lead(std::slice::from_ref(name), elsewhere)?;
        }
        if !is_its_own || self.rng.bool() {
            match prefix_of(name).filter(|_| id.get().is_multiple_of(2)) {
                Some(prefix) => self.store().lead_below(prefix, id)?,
                None => self.store().lead(std::slice::from_ref(name), id)?,
            }
        }
        let elsewhere = (self.rng.u8(..8) == 0).then(|| self.rng.u64(1..256));
        match elsewhere.and_then(StreamId::new) {
            Some(elsewhere) => self.store().lead(std::slice::from_ref(name), elsewhere),
            None => Ok(()),
        }
    }

    /// After a commit has failed: nothing of it is shown, and nothing more is taken unless it is known what became of
    /// it.
    fn check_failed(&mut self, partition: usize, batch: &[Record]) {
        if !self.reads_fail {
            let again = self.store().commit(partition, batch);
            assert!(again.is_err(), "a store that has failed takes more");
        }
        self.check_what_is_shown();
    }

    /// Releases a deleted stream that has no forks, if there is one. Whether the store goes on.
    pub(super) fn release_one(&mut self) -> bool {
        let Some(id) = self.known.releasable().map(|state| state.id) else {
            return true;
        };
        if !self.end_leads(id) {
            return false;
        }
        self.note(format!("release {}", id.get()));
        match self.store().release(id) {
            Ok(source) => {
                let expected = self.known.release(id);
                assert_eq!(source, expected, "the source that may go as well");
                true
            }
            Err(error) => {
                let mut next = self.known.clone();
                next.release(id);
                if self.has_ended(&error) {
                    self.pending = Some(next);
                    return false;
                }
                if !is_full(&error) {
                    // It may have been done, and then says nothing of a source.
                    self.store().release(id).expect("it is asked again");
                    self.known = next;
                }
                true
            }
        }
    }

    /// Lets the name of a stream that is about to be released lead there no more, as an engine does unless another one of
    /// that name may be about to come; and unless its id is odd, for earlier builds did not. Whether the store goes on.
    fn end_leads(&mut self, id: StreamId) -> bool {
        let name = self.known.author.state(id).name.clone();
        let staged = self.known.staged().into_iter();
        let may_come = staged
            .filter(|state| state.id != id)
            .any(|state| state.name == name);
        if may_come || !id.get().is_multiple_of(2) {
            return true;
        }
        self.note(format!("end leads of {}", id.get()));
        self.unled.insert(id);
        match self.store().end_leads(&name, Some(id)) {
            Ok(()) => true,
            Err(error) => !self.has_ended(&error),
        }
    }

    /// Releases all that can go, sources last. Whether the store goes on. Ends where there is no space.
    pub(super) fn release_all(&mut self) -> bool {
        while self.known.releasable().is_some() {
            let before = self.known.released.len();
            if !self.release_one() {
                return false;
            }
            if self.known.released.len() == before {
                break;
            }
        }
        true
    }

    /// Whether the store goes on. Ends where there is no space.
    pub(super) fn reclaim_all(&mut self) -> bool {
        self.note("reclaim all");
        let storages: Vec<_> = self.known.reclaimable().collect();
        self.reclaim(&storages)
    }

    /// Reclaims what an engine does that starts: storages that the store tells of, and deleted ones. Likewise.
    pub(super) fn reclaim_what_a_start_finds(&mut self) -> bool {
        self.note("reclaim what a start finds");
        let mut storages = self.store().reclaimable().expect("the store can be read");
        storages.extend(self.store().deleted().expect("the store can be read"));
        let staged = &self.known.author.staged;
        storages.retain(|id| !staged.contains(id));
        self.reclaim(&storages)
    }

    fn reclaim(&mut self, storages: &[StreamId]) -> bool {
        for id in storages.iter().copied() {
            let Err(error) = self.store().reclaim(id) else {
                continue;
            };
            if self.has_ended(&error) {
                return false;
            }
            if is_full(&error) {
                return true;
            }
            self.store().reclaim(id).expect("it is asked again");
        }
        true
    }

    /// Whether an error of what can be asked again is the end of this life.
    fn has_ended(&mut self, error: &BackendError) -> bool {
        self.note(format!("failed: {error}"));
        let has_ended = !is_full(error) && !self.reads_fail;
        self.is_interrupted |= has_ended;
        has_ended
    }

    /// Deletes some stream. Whether the store goes on.
    pub(super) fn delete_one(&mut self) -> bool {
        let Some(id) = self.known.alive().first().map(|state| state.id) else {
            return true;
        };
        let delete = self.known.clone().author.delete(id);
        self.commit(&[delete]).is_some()
    }

    /// Deletes all streams and releases them.
    pub(super) fn delete_all(&mut self) {
        let alive: Vec<_> = self.known.alive().iter().map(|state| state.id).collect();
        for id in alive {
            let delete = self.known.clone().author.delete(id);
            assert_eq!(self.commit(&[delete]), Some(vec![Outcome::Durable]));
        }
        assert!(self.release_all());
    }

    /// One step by chance. Whether the store goes on.
    pub(super) fn step(&mut self) -> bool {
        match self.rng.u8(..40) {
            0..=3 => self.release_one(),
            4 => self.release_all(),
            5..=7 => self.reclaim_all(),
            8..=9 => {
                self.check();
                true
            }
            _ => self.commit_some(),
        }
    }

    /// Closes the store as a server does that ends.
    pub(super) fn close(&mut self) {
        self.note("close");
        self.remember_bytes();
        self.store = None;
        self.note("closed");
    }

    /// Ends this life of the store.
    pub(super) fn crash(&mut self, crash: Crash) {
        self.note(format!("{crash:?} crash"));
        self.remember_bytes();
        let disk = crash.of(&self.disk);
        // Whatever the store does when it is dropped, it does to the disk of before.
        self.store = None;
        self.disk = disk;
        (self.reads_fail, self.is_interrupted) = (false, false);
    }

    fn remember_bytes(&mut self) {
        if let Some(store) = &self.store {
            let is_known = self.pending.is_none() && !self.is_interrupted;
            self.known_bytes = is_known.then(|| store.usage().bytes);
        }
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
        self.check_reclaimed();
        self.close();
        self.open();
        self.delete_all();
        self.check();
        let usage = self.store().usage();
        assert_eq!((usage.streams, usage.bytes), (0, 0));
    }
}

/// The streams that are imported with a batch, with their names.
fn imports(batch: &[Record]) -> impl Iterator<Item = (StreamId, StreamName)> {
    let parts = batch.iter().flat_map(|record| &record.parts);
    parts.filter_map(|part| match part {
        Part::Stream {
            id,
            transition: Transition::Import(state),
        } => Some((*id, state.name.clone())),
        _ => None,
    })
}

/// The streams that a batch begins, with their names.
fn beginnings(batch: &[Record]) -> Vec<(StreamId, StreamName)> {
    let parts = batch.iter().flat_map(|record| &record.parts);
    let begun = parts.filter_map(|part| match part {
        Part::Stream {
            id,
            transition: Transition::Create(created) | Transition::Stage(created),
        } => Some((*id, created.name.clone())),
        _ => None,
    });
    begun.collect()
}

pub(super) fn is_damage(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Damaged { .. } | OpenError::Backend(BackendError::Damaged { .. })
    )
}
