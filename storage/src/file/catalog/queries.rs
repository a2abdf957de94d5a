//! The questions of the catalog's own that a snapshot and a change answer alike.

use redb::{ReadTransaction, ReadableTable, StorageError, TableError};
use tailwater_stream::{Position, StreamId};

use super::rows::{self, Meta, SegmentRow};
use super::tables;
use crate::database::{Failure, META, Tables};
use crate::file::segment::Run;
use crate::stream_tables::keys::{self, Bytes, Key};

pub(super) fn meta(tables: &impl Tables) -> Result<Meta, Failure> {
    let table = tables.table(META)?;
    let value = table
        .get(tables::STORE)?
        .ok_or_else(|| Failure::of_row("meta", tables::STORE, &"it is missing"))?;
    Meta::read(tables::STORE, value.value())
}

/// The runs of a stream that begin at `from` or behind it.
pub(super) fn runs(tables: &impl Tables, id: StreamId, from: Position) -> Result<Vec<(u64, Run)>, Failure> {
    runs_in(&tables.table(tables::RUNS)?, id, from)
}

pub(super) fn runs_in(
    runs: &impl ReadableTable<Key<24>, Bytes>,
    id: StreamId,
    from: Position,
) -> Result<Vec<(u64, Run)>, Failure> {
    let first = tables::run_key(id, from.get(), 0);
    let last = tables::run_key(id, u64::MAX, u64::MAX);
    runs.range::<&[u8; 24]>(&first..=&last)?.map(read_run).collect()
}

type RunEntry<'a> = (
    redb::AccessGuard<'a, &'static [u8; 24]>,
    redb::AccessGuard<'a, &'static [u8]>,
);

fn read_run(entry: Result<RunEntry<'_>, StorageError>) -> Result<(u64, Run), Failure> {
    let (key, value) = entry?;
    rows::read_run(key.value(), value.value())
}

/// Whether a run is known as it is; none if it is not known at all.
pub(super) fn knows_run(tables: &impl Tables, segment: u64, run: &Run) -> Result<Option<bool>, Failure> {
    let key = rows::key_of_run(segment, run);
    let table = tables.table(tables::RUNS)?;
    let value = table.get(&key)?;
    // One that cannot be read is not equal, and whoever reads all rows tells of it.
    let is_equal = |value: &[u8]| rows::read_run(&key, value).is_ok_and(|(_, known)| known == *run);
    Ok(value.map(|value| is_equal(value.value())))
}

/// The streams that are stored from before their oldest position on.
pub(super) fn trimmed(transaction: &ReadTransaction) -> Result<Vec<StreamId>, Failure> {
    let table = match transaction.open_table(tables::TRIMMED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    table
        .iter()?
        .map(|entry| keys::id_of_key("trimmed", entry?.0.value()))
        .collect()
}

pub(super) fn segments(tables: &impl Tables) -> Result<Vec<SegmentRow>, Failure> {
    segments_in(&tables.table(tables::SEGMENTS)?)
}

pub(super) fn segments_in(segments: &impl ReadableTable<Key<8>, Bytes>) -> Result<Vec<SegmentRow>, Failure> {
    segments
        .iter()?
        .map(|entry| {
            let (key, value) = entry?;
            SegmentRow::read(key.value(), value.value())
        })
        .collect()
}
