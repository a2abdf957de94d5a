//! A change of the catalog: all of it is made, durably, or nothing.

use redb::WriteTransaction;
use tailwater_stream::{Position, StreamId};

use super::queries;
use super::rows::{self, Meta, SegmentRow};
use super::tables;
use crate::backend::BackendError;
use crate::database::{Change, Failure, META};
use crate::file::segment::Run;
use crate::stream_tables::keys::{Bytes, Key, id_key, number_key};
use crate::stream_tables::{LazyTable, StreamTables};

/// Rows of how many streams, or how many runs, are to be written in one part of a change.
pub(in crate::file) const WRITTEN_TOGETHER: usize = 256;

/// A change that is being made. It sees what it has written itself, and nobody else does before it is committed.
/// To drop it undoes it.
pub(in crate::file) struct CatalogChange(Change);

impl CatalogChange {
    pub(super) fn new(change: Change) -> Self {
        Self(change)
    }

    /// Writes a part of the change. What is written is kept in memory up to a limit, and whether the disk has taken the rest
    /// is looked at only here, so a long change is written in many parts.
    ///
    /// # Errors
    /// As [`Change::ask`].
    pub(in crate::file) fn write<T>(
        &mut self,
        write: impl FnOnce(&mut CatalogTables<'_>) -> Result<T, Failure>,
    ) -> Result<T, BackendError> {
        self.0
            .ask(|transaction| write(&mut CatalogTables::new(transaction)))
    }

    /// For tests that write what a change does not.
    #[cfg(test)]
    pub(in crate::file) fn transaction(&self) -> &WriteTransaction {
        self.0.transaction()
    }

    /// As [`Change::commit`].
    pub(in crate::file) fn commit(self) -> Result<(), BackendError> {
        self.0.commit().map(drop)
    }
}

/// The tables of the catalog as a change writes them, each opened when it is first used, and open until this is dropped: to
/// open one costs as much as to write a row.
pub(in crate::file) struct CatalogTables<'t> {
    transaction: &'t WriteTransaction,
    /// What is known of streams beside their bytes.
    pub(in crate::file) streams: StreamTables<'t>,
    trimmed: LazyTable<'t, Key<8>, ()>,
    runs: LazyTable<'t, Key<24>, Bytes>,
    segments: LazyTable<'t, Key<8>, Bytes>,
}

impl<'t> CatalogTables<'t> {
    fn new(transaction: &'t WriteTransaction) -> Self {
        Self {
            transaction,
            streams: StreamTables::new(transaction),
            trimmed: LazyTable::new(tables::TRIMMED),
            runs: LazyTable::new(tables::RUNS),
            segments: LazyTable::new(tables::SEGMENTS),
        }
    }

    /// All segments, in order of their numbers.
    pub(in crate::file) fn all_segments(&mut self) -> Result<Vec<SegmentRow>, Failure> {
        queries::segments_in(self.segments.open(self.transaction)?)
    }

    /// Remembers whether a stream is stored from before its oldest position on.
    pub(in crate::file) fn mark_trimmed(&mut self, id: StreamId, is_trimmed: bool) -> Result<(), Failure> {
        let trimmed = self.trimmed.open(self.transaction)?;
        if is_trimmed {
            trimmed.insert(&id_key(id), ())?;
        } else {
            trimmed.remove(&id_key(id))?;
        }
        Ok(())
    }

    /// Says where a run of a stream's bytes is.
    pub(in crate::file) fn put_run(&mut self, segment: u64, run: &Run) -> Result<(), Failure> {
        let key = rows::key_of_run(segment, run);
        let runs = self.runs.open(self.transaction)?;
        runs.insert(&key, rows::run_value(run).as_slice())?;
        Ok(())
    }

    /// Forgets a run.
    pub(in crate::file) fn remove_run(&mut self, segment: u64, run: &Run) -> Result<(), Failure> {
        let runs = self.runs.open(self.transaction)?;
        runs.remove(&rows::key_of_run(segment, run))?;
        Ok(())
    }

    /// Notes that a stream wants its bytes from `to` on, and no more those from `from` on: forgets the runs that end
    /// there or before. Answers which segments lose how many bytes by that, which may be part of a run that stays.
    pub(in crate::file) fn lose_runs(
        &mut self,
        id: StreamId,
        from: Position,
        to: Position,
    ) -> Result<Vec<(u64, u64)>, Failure> {
        let runs = self.runs.open(self.transaction)?;
        let mut known = queries::runs_in(runs, id, Position::ZERO)?;
        let lost = |(segment, run): &(u64, Run)| {
            let bytes = run.dead_bytes(to).saturating_sub(run.dead_bytes(from));
            (bytes > 0).then_some((*segment, bytes))
        };
        let lost = known.iter().filter_map(lost).collect();
        known.retain(|(_, run)| run.until <= to);
        for (segment, run) in &known {
            runs.remove(&rows::key_of_run(*segment, run))?;
        }
        Ok(lost)
    }

    /// Says what is known of a segment.
    pub(in crate::file) fn put_segment(&mut self, row: &SegmentRow) -> Result<(), Failure> {
        let segments = self.segments.open(self.transaction)?;
        segments.insert(&number_key(row.number), row.value().as_slice())?;
        Ok(())
    }

    /// Forgets a segment.
    pub(in crate::file) fn remove_segment(&mut self, number: u64) -> Result<(), Failure> {
        let segments = self.segments.open(self.transaction)?;
        segments.remove(&number_key(number))?;
        Ok(())
    }

    /// Says what is known of the store as a whole.
    pub(in crate::file) fn put_meta(&mut self, meta: &Meta) -> Result<(), Failure> {
        put_meta(self.transaction, meta)
    }
}

pub(super) fn put_meta(transaction: &WriteTransaction, meta: &Meta) -> Result<(), Failure> {
    let mut table = transaction.open_table(META)?;
    table.insert(tables::STORE, meta.value().as_slice())?;
    Ok(())
}
