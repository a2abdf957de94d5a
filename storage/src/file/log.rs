//! The end of the journals, where records are written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tailwater_stream::{Part, Record, StreamId, Transition};

use super::catalog::Meta;
use super::journal::{BATCH_OVERHEAD_BYTES, BatchEncoder, FIRST_BATCH_AT};
use super::options::Durability;
use super::place::LogPlace;
use super::store::{Counters, Store, io_error};
use crate::backend::{BackendError, Outcome, Outcomes, frees_space};
use crate::directory::StoreId;
use crate::disk::{DiskFile, Map};

/// Room at a journal's end that only records which free space may use while there is no next journal: an eighth
/// of it, and not more than this.
const RESERVE_BYTES_MAX: u64 = 64 << 10;

/// An open journal. Nothing of this ever changes.
pub(super) struct Journal {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) map: Arc<dyn Map>,
    /// Its preallocated bytes; those behind them are never written.
    pub(super) capacity: u64,
    /// Whether it was made though there is no space: it takes only what frees some.
    pub(super) frees_only: bool,
}

/// The journal that is written to, and what is known of it.
pub(super) struct Log {
    pub(super) journal: Journal,
    /// Where the next batch goes.
    pub(super) end: LogPlace,
    pub(super) next_batch: u64,
    /// The journals are durable up to here. Always <= `end`.
    pub(super) synced: LogPlace,
    /// Bytes written to the journals since the active generation began.
    pub(super) unfolded_bytes: u64,
    /// When its first batch was written; none if it is empty.
    pub(super) began_at: Option<Instant>,
    encoder: BatchEncoder,
}

impl Log {
    /// A log that goes on in a journal from byte `at` on. Everything before that is durable.
    pub(super) fn new(
        store: StoreId,
        journal: Journal,
        at: u64,
        next_batch: u64,
        unfolded_bytes: u64,
    ) -> Self {
        let end = LogPlace {
            journal: journal.number,
            offset: at,
        };
        Self {
            journal,
            end,
            next_batch,
            synced: end,
            unfolded_bytes,
            began_at: (unfolded_bytes > 0).then(Instant::now),
            encoder: BatchEncoder::new(store),
        }
    }

    fn room(&self) -> u64 {
        self.journal.capacity - self.end.offset
    }

    /// Whether anything can be written to the journal.
    pub(super) fn has_room(&self) -> bool {
        self.room() > 0
    }

    fn sync(&mut self, store: &Store) -> Result<(), BackendError> {
        store.sync_journal(self.journal.number, self.journal.file.as_ref())?;
        self.synced = self.end;
        Ok(())
    }

    /// Goes on with the next journal. Its predecessor is synced first, in every mode.
    pub(super) fn rotate(&mut self, store: &Store, next: Journal) -> Result<(), BackendError> {
        if self.synced < self.end {
            self.sync(store)?;
        }
        store
            .files
            .write()
            .journals
            .insert(next.number, Arc::clone(&next.map));
        self.end = LogPlace {
            journal: next.number,
            offset: FIRST_BATCH_AT,
        };
        self.synced = self.end;
        self.journal = next;
        store.signals.update(|signals| signals.rotations += 1);
        Ok(())
    }

    fn write(&mut self, store: &Store, records: &[&Record]) -> Result<(), BackendError> {
        let encoded = self
            .encoder
            .encode(records, self.next_batch, self.end, self.synced);
        self.journal
            .file
            .write_at(self.end.offset, encoded.bytes)
            .map_err(|error| io_error("writing", &store.layout.journal(self.journal.number))(error))?;
        let bytes = encoded.bytes.len() as u64;
        if store.options.durability == Durability::Durable {
            store.sync_journal(self.journal.number, self.journal.file.as_ref())?;
            self.synced.offset = self.end.offset + bytes;
        }
        Counters::add(&store.counters.journal_bytes, bytes);
        // Held while the batch is shown, so that it belongs to one generation as a whole.
        let active = Arc::clone(&store.generations.read().active);
        let parts = || records.iter().flat_map(|record| &record.parts);
        for part in parts() {
            if let Part::Stream {
                transition: Transition::Create(created) | Transition::Stage(created),
                ..
            } = part
            {
                store.last_id.fetch_max(created.id.get(), Ordering::Relaxed);
            }
        }
        active.apply_all(parts().zip(encoded.places.iter().copied()), self.journal.number);
        self.end.offset += bytes;
        self.next_batch += 1;
        self.unfolded_bytes += bytes;
        self.began_at.get_or_insert_with(Instant::now);
        Ok(())
    }
}

impl Store {
    /// Writes a batch to the journals, makes it durable as the mode promises, and shows it to readers.
    pub(super) fn commit(&self, batch: &[Record]) -> Result<Outcomes, BackendError> {
        if self.failure().is_some() {
            return Err(BackendError::Poisoned);
        }
        self.wait_for_memory();
        let mut log = self.log.lock();
        // What it waited for may have failed meanwhile.
        if self.failure().is_some() {
            return Err(BackendError::Poisoned);
        }
        let outcomes = match self.commit_to(&mut log, batch) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.fail(&error);
                drop(log);
                self.note_possible_loss();
                return Err(error);
            }
        };
        let wants_fold = self.wants_fold(&log);
        drop(log);
        if wants_fold && !self.signals.now().fold {
            self.signals.update(|signals| signals.fold = true);
        }
        Ok(outcomes)
    }

    fn commit_to(&self, log: &mut Log, batch: &[Record]) -> Result<Outcomes, BackendError> {
        let bytes: usize = batch.iter().map(BatchEncoder::bytes_of).sum();
        let bytes = (BATCH_OVERHEAD_BYTES + bytes) as u64;
        let reserve = RESERVE_BYTES_MAX.min(self.options.journal_bytes / 8);
        let full = self.signals.now().full;
        if full || log.journal.frees_only || bytes + reserve > log.room() {
            let next = if full {
                None
            } else {
                self.spares.take(self, bytes + reserve)?
            };
            match next {
                Some(next) => log.rotate(self, next)?,
                None => return self.commit_without_space(log, batch),
            }
        }
        log.write(self, &batch.iter().collect::<Vec<_>>())?;
        self.counters.refuses_appends.store(false, Ordering::Relaxed);
        Ok(batch.iter().map(|_| Outcome::Durable).collect())
    }

    /// Writes what frees space to the room that is left for it, and refuses the rest.
    fn commit_without_space(&self, log: &mut Log, batch: &[Record]) -> Result<Outcomes, BackendError> {
        // Folding gives back what the journals hold twice or in vain.
        self.signals.update(|signals| signals.fold = true);
        let overhead = BATCH_OVERHEAD_BYTES as u64;
        let freeing = batch.iter().filter(|record| frees_space(record));
        let wanted: u64 = freeing.map(|record| BatchEncoder::bytes_of(record) as u64).sum();
        if wanted > 0
            && overhead + wanted > log.room()
            && let Some(next) = self.spares.take_kept_back(self)?
        {
            log.rotate(self, next)?;
        }
        let mut room = log.room().saturating_sub(overhead);
        let mut refused = HashSet::<StreamId, RandomState>::default();
        let outcomes: Outcomes = batch
            .iter()
            .map(|record| {
                let bytes = BatchEncoder::bytes_of(record) as u64;
                let follows_a_refused_one = record.streams().any(|stream| refused.contains(&stream));
                if !frees_space(record) || follows_a_refused_one || bytes > room {
                    refused.extend(record.streams());
                    return Outcome::Full;
                }
                room -= bytes;
                Outcome::Durable
            })
            .collect();
        if !refused.is_empty() {
            self.counters.refuses_appends.store(true, Ordering::Relaxed);
        }
        let admitted = batch.iter().zip(&outcomes);
        let admitted: Vec<_> = admitted
            .filter(|(_, outcome)| **outcome == Outcome::Durable)
            .map(|(record, _)| record)
            .collect();
        if !admitted.is_empty() {
            log.write(self, &admitted)?;
        }
        Ok(outcomes)
    }

    /// After a journal could not be written or synced, what was acknowledged may be lost though the machine goes on:
    /// the next start shall begin a new era also if it is in the same run of the machine. Nothing of the log is locked.
    fn note_possible_loss(&self) {
        if self.options.durability == Durability::Durable {
            return;
        }
        let _compacting = self.compaction.lock();
        let meta = self.generations.read().meta.clone();
        let noted = self.put_meta(Meta {
            boot_id: String::new(),
            ..meta
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "that something may be lost could not be noted");
        }
    }

    fn wants_fold(&self, log: &Log) -> bool {
        log.unfolded_bytes >= self.options.fold_bytes
            || self.generations.read().active.memory_bytes() >= self.options.index_bytes_max
    }

    /// Lets a fold catch up before memory for what is not folded grows beyond its limit.
    fn wait_for_memory(&self) {
        let over = || self.generations.read().active.memory_bytes() >= 2 * self.options.index_bytes_max;
        if !(self.options.compacts_by_itself && over()) {
            return;
        }
        let began = Instant::now();
        while over() {
            self.signals.update(|signals| signals.fold = true);
            let signals = self
                .signals
                .wait(Duration::from_secs(1), |signals| !signals.fold || signals.full);
            if signals.full || signals.stopping || self.failure().is_some() {
                break;
            }
        }
        Counters::add(&self.counters.memory_waits, 1);
        Counters::add_time(&self.counters.memory_wait_micros, began.elapsed());
    }

    /// Has the disk take all of a journal, and counts that. Never again once it has failed: the system tells of what is
    /// lost only once, and the next sync of the same file would succeed.
    fn sync_journal(&self, number: u64, file: &dyn DiskFile) -> Result<(), BackendError> {
        let _one_at_a_time = self.syncing.lock();
        if self.failure().is_some() {
            return Err(BackendError::Poisoned);
        }
        let began = Instant::now();
        let synced = file
            .sync()
            .map_err(|error| io_error("syncing", &self.layout.journal(number))(error));
        synced.inspect_err(|error| self.fail(error))?;
        Counters::add(&self.counters.syncs, 1);
        Counters::add_time(&self.counters.sync_micros, began.elapsed());
        Ok(())
    }

    /// Makes what was written so far durable, for a mode that does not do so with every batch.
    pub(super) fn sync_log(&self) -> Result<(), BackendError> {
        let (file, number, end) = {
            let log = self.log.lock();
            if log.synced >= log.end {
                return Ok(());
            }
            (Arc::clone(&log.journal.file), log.journal.number, log.end)
        };
        // Not under the lock: commits go on meanwhile.
        let synced = self.sync_journal(number, file.as_ref());
        synced.inspect_err(|_| self.note_possible_loss())?;
        let mut log = self.log.lock();
        log.synced = log.synced.max(end);
        Ok(())
    }
}
