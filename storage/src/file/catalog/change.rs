//! A change of the catalog: all of it is made, durably, or nothing.

use redb::WriteTransaction;
use tailwater_stream::{Position, ProducerId, ProducerState, StreamId, StreamName, Timestamp};

use super::queries;
use super::rows::{self, Meta, SegmentRow};
use super::tables;
use crate::backend::BackendError;
use crate::database::{Change, Failure, META};
use crate::file::segment::Run;
use crate::stream_tables::keys::{id_key, number_key};
use crate::stream_tables::{StreamRow, StreamTables};

/// A change that is being made. It sees what it has written itself, and nobody else does before it is committed.
/// To drop it undoes it.
pub(in crate::file) struct CatalogChange(Change);

impl CatalogChange {
    pub(super) fn new(change: Change) -> Self {
        Self(change)
    }

    fn ask<T>(
        &self,
        answer: impl FnOnce(&WriteTransaction) -> Result<T, Failure>,
    ) -> Result<T, BackendError> {
        self.0.ask(answer)
    }

    fn ask_streams<T>(
        &self,
        answer: impl FnOnce(&mut StreamTables<'_>) -> Result<T, Failure>,
    ) -> Result<T, BackendError> {
        self.0
            .ask(|transaction| answer(&mut StreamTables::new(transaction)))
    }

    /// For tests that write what a change does not.
    #[cfg(test)]
    pub(in crate::file) fn transaction(&self) -> &WriteTransaction {
        self.0.transaction()
    }

    /// What is known of a stream, without its producers.
    pub(in crate::file) fn head(&self, id: StreamId) -> Result<Option<StreamRow>, BackendError> {
        self.ask_streams(|streams| streams.head(id))
    }

    /// All segments, in order of their numbers.
    pub(in crate::file) fn segments(&self) -> Result<Vec<SegmentRow>, BackendError> {
        self.ask(queries::segments)
    }

    /// As [`StreamTables::put_row`].
    pub(in crate::file) fn put_row(
        &mut self,
        row: &StreamRow,
        deadline: Option<Timestamp>,
    ) -> Result<(), BackendError> {
        self.ask_streams(|streams| streams.put_row(row, deadline))
    }

    /// As [`StreamTables::put_producers`].
    pub(in crate::file) fn put_producers<'a>(
        &mut self,
        id: StreamId,
        producers: impl IntoIterator<Item = (&'a ProducerId, &'a ProducerState)>,
    ) -> Result<(), BackendError> {
        self.ask_streams(|streams| streams.put_producers(id, producers))
    }

    /// As [`StreamTables::put_name`].
    pub(in crate::file) fn put_name(&mut self, name: &StreamName, id: StreamId) -> Result<(), BackendError> {
        self.ask_streams(|streams| streams.put_name(name, id))
    }

    /// As [`StreamTables::remove_name`].
    pub(in crate::file) fn remove_name(
        &mut self,
        name: &StreamName,
        id: StreamId,
    ) -> Result<(), BackendError> {
        self.ask_streams(|streams| streams.remove_name(name, id))
    }

    /// As [`StreamTables::put_fork`].
    pub(in crate::file) fn put_fork(&mut self, source: StreamId, fork: StreamId) -> Result<(), BackendError> {
        self.ask_streams(|streams| streams.put_fork(source, fork))
    }

    /// As [`StreamTables::mark_deleted`].
    pub(in crate::file) fn mark_deleted(&mut self, id: StreamId) -> Result<(), BackendError> {
        self.ask_streams(|streams| streams.mark_deleted(id))
    }

    /// As [`StreamTables::unmark_deleted`].
    pub(in crate::file) fn unmark_deleted(&mut self, id: StreamId) -> Result<(), BackendError> {
        self.ask_streams(|streams| streams.unmark_deleted(id))
    }

    /// As [`StreamTables::remove_stream`]; its runs stay.
    pub(in crate::file) fn remove_stream(&mut self, id: StreamId) -> Result<Option<StreamRow>, BackendError> {
        self.ask_streams(|streams| streams.remove_stream(id))
    }

    /// As [`StreamTables::put_control`].
    pub(in crate::file) fn put_control(
        &mut self,
        id: StreamId,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), BackendError> {
        self.ask_streams(|streams| streams.put_control(id, key, value))
    }

    /// Remembers whether a stream is stored from before its oldest position on.
    pub(in crate::file) fn mark_trimmed(
        &mut self,
        id: StreamId,
        is_trimmed: bool,
    ) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let mut trimmed = transaction.open_table(tables::TRIMMED)?;
            if is_trimmed {
                trimmed.insert(&id_key(id), ())?;
            } else {
                trimmed.remove(&id_key(id))?;
            }
            Ok(())
        })
    }

    /// Says where a run of a stream's bytes is.
    pub(in crate::file) fn put_run(&mut self, segment: u64, run: &Run) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let key = rows::key_of_run(segment, run);
            let mut runs = transaction.open_table(tables::RUNS)?;
            runs.insert(&key, rows::run_value(run).as_slice())?;
            Ok(())
        })
    }

    /// Forgets a run.
    pub(in crate::file) fn remove_run(&mut self, segment: u64, run: &Run) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let mut runs = transaction.open_table(tables::RUNS)?;
            runs.remove(&rows::key_of_run(segment, run))?;
            Ok(())
        })
    }

    /// Notes that a stream wants its bytes from `to` on, and no more those from `from` on: forgets the runs that end
    /// there or before. Answers which segments lose how many bytes by that, which may be part of a run that stays.
    pub(in crate::file) fn lose_runs(
        &mut self,
        id: StreamId,
        from: Position,
        to: Position,
    ) -> Result<Vec<(u64, u64)>, BackendError> {
        self.ask(|transaction| {
            let mut known = queries::runs(transaction, id, Position::ZERO)?;
            let lost = |(segment, run): &(u64, Run)| {
                let bytes = run.dead_bytes(to).saturating_sub(run.dead_bytes(from));
                (bytes > 0).then_some((*segment, bytes))
            };
            let lost = known.iter().filter_map(lost).collect();
            known.retain(|(_, run)| run.until <= to);
            if !known.is_empty() {
                let mut runs = transaction.open_table(tables::RUNS)?;
                for (segment, run) in &known {
                    runs.remove(&rows::key_of_run(*segment, run))?;
                }
            }
            Ok(lost)
        })
    }

    /// Says what is known of a segment.
    pub(in crate::file) fn put_segment(&mut self, row: &SegmentRow) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let key = number_key(row.number);
            let mut segments = transaction.open_table(tables::SEGMENTS)?;
            segments.insert(&key, row.value().as_slice())?;
            Ok(())
        })
    }

    /// Forgets a segment.
    pub(in crate::file) fn remove_segment(&mut self, number: u64) -> Result<(), BackendError> {
        self.ask(|transaction| {
            let mut segments = transaction.open_table(tables::SEGMENTS)?;
            segments.remove(&number_key(number))?;
            Ok(())
        })
    }

    /// Says what is known of the store as a whole.
    pub(in crate::file) fn put_meta(&mut self, meta: &Meta) -> Result<(), BackendError> {
        self.ask(|transaction| put_meta(transaction, meta))
    }

    /// As [`Change::commit`].
    pub(in crate::file) fn commit(self) -> Result<(), BackendError> {
        self.0.commit().map(drop)
    }
}

pub(super) fn put_meta(transaction: &WriteTransaction, meta: &Meta) -> Result<(), Failure> {
    let mut table = transaction.open_table(META)?;
    table.insert(tables::STORE, meta.value().as_slice())?;
    Ok(())
}
