//! The questions that a snapshot and a change answer alike.

use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadableTable, StorageError};
use tailwater_stream::{NameLimits, Position, Producers, StreamId, StreamName, Timestamp};

use super::rows::{self, Meta, SegmentRow, StreamRow};
use super::tables::{self, Failure, Tables};
use crate::file::codec::{Decoder, Malformed};
use crate::file::segment::Run;

pub(super) fn meta(tables: &impl Tables) -> Result<Meta, Failure> {
    let table = tables.table(tables::META)?;
    let value = table
        .get(tables::META_STORE)?
        .ok_or_else(|| missing(tables::META_STORE))?;
    Meta::read(tables::META_STORE, value.value())
}

/// How many changes were committed.
pub(super) fn changes(tables: &impl Tables) -> Result<u64, Failure> {
    let table = tables.table(tables::META)?;
    let value = table
        .get(tables::META_CHANGES)?
        .ok_or_else(|| missing(tables::META_CHANGES))?;
    rows::read("meta", tables::META_CHANGES, value.value(), |from| {
        from.u64("a number of changes")
    })
}

fn missing(key: &[u8]) -> Failure {
    Failure::of_row("meta", key, &"it is missing")
}

/// The row without its producers.
pub(super) fn head(tables: &impl Tables, id: StreamId) -> Result<Option<StreamRow>, Failure> {
    let key = tables::id_key(id);
    let table = tables.table(tables::STREAMS)?;
    let value = table.get(&key)?;
    value
        .map(|value| StreamRow::read(id, &key, value.value()).map(|(row, _)| row))
        .transpose()
}

pub(super) fn row(tables: &impl Tables, id: StreamId) -> Result<Option<StreamRow>, Failure> {
    let Some(mut row) = head(tables, id)? else {
        return Ok(None);
    };
    row.state.producers = producers(tables, id)?;
    Ok(Some(row))
}

fn producers(tables: &impl Tables, id: StreamId) -> Result<Producers, Failure> {
    let prefix = tables::id_key(id);
    let table = tables.table(tables::PRODUCERS)?;
    let mut producers = Producers::default();
    for entry in table.range::<&[u8]>(prefix.as_slice()..)? {
        let (key, value) = entry?;
        if !key.value().starts_with(&prefix) {
            break;
        }
        rows::read_producer(key.value(), value.value(), &mut producers)?;
    }
    Ok(producers)
}

pub(super) fn id_of(tables: &impl Tables, name: &StreamName) -> Result<Option<StreamId>, Failure> {
    let key = name.as_str().as_bytes();
    let table = tables.table(tables::NAMES)?;
    let value = table.get(key)?;
    value.map(|value| read_name(key, value.value())).transpose()
}

/// The stream that a name belongs to.
pub(super) fn read_name(key: &[u8], value: &[u8]) -> Result<StreamId, Failure> {
    fn owner(from: &mut Decoder<'_>) -> Result<StreamId, Malformed> {
        from.id()
    }
    rows::read("names", key, value, owner)
}

pub(super) fn names(
    tables: &impl Tables,
    prefix: &str,
    after: Option<&str>,
    count_max: usize,
) -> Result<Vec<(StreamName, StreamId)>, Failure> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
        _ => Bound::Included(prefix.as_bytes()),
    };
    let table = tables.table(tables::NAMES)?;
    let mut names = Vec::new();
    for entry in table.range::<&[u8]>((from, Bound::Unbounded))?.take(count_max) {
        let (key, value) = entry?;
        let key = key.value();
        if !key.starts_with(prefix.as_bytes()) {
            break;
        }
        names.push((parse_name(key)?, read_name(key, value.value())?));
    }
    Ok(names)
}

fn parse_name(key: &[u8]) -> Result<StreamName, Failure> {
    // What was once allowed stays a name, whatever the limits are now.
    let any = NameLimits {
        bytes_max: usize::MAX,
        segments_max: usize::MAX,
    };
    let name = str::from_utf8(key)
        .ok()
        .and_then(|text| StreamName::parse(text, any).ok());
    name.ok_or_else(|| {
        Failure::of_row(
            "names",
            key,
            &Malformed {
                what: "a stream's name",
            },
        )
    })
}

pub(super) fn forks_of(tables: &impl Tables, source: StreamId) -> Result<Vec<StreamId>, Failure> {
    let table = tables.table(tables::FORKS)?;
    let all = tables::pair_key(source.get(), 0)..=tables::pair_key(source.get(), u64::MAX);
    let entries = table.range::<&[u8; 16]>(all.start()..=all.end())?;
    entries
        .map(|entry| tables::pair_of_key("forks", entry?.0.value()).map(|(_, fork)| fork))
        .collect()
}

pub(super) fn deleted(tables: &impl Tables) -> Result<Vec<StreamId>, Failure> {
    let table = tables.table(tables::DELETED)?;
    table
        .iter()?
        .map(|entry| tables::id_of_key("deleted", entry?.0.value()))
        .collect()
}

pub(super) fn due(
    tables: &impl Tables,
    now: Timestamp,
    after: Option<(Timestamp, StreamId)>,
    count_max: usize,
) -> Result<Vec<(Timestamp, StreamId)>, Failure> {
    // No id is 0, so this excludes nothing unless a row is given.
    let after = after.map_or([0; 16], |(at, id)| tables::deadline_key(at, id));
    let until = tables::pair_key(now.as_millis(), u64::MAX);
    if after >= until {
        return Ok(Vec::new());
    }
    let table = tables.table(tables::DEADLINES)?;
    table
        .range::<&[u8; 16]>((Bound::Excluded(&after), Bound::Included(&until)))?
        .take(count_max)
        .map(|entry| {
            let (at, id) = tables::pair_of_key("deadlines", entry?.0.value())?;
            Ok((Timestamp::from_millis(at), id))
        })
        .collect()
}

pub(super) fn control(tables: &impl Tables, id: StreamId, key: &[u8]) -> Result<Option<Bytes>, Failure> {
    let key = tables::owned_key(id, key);
    let table = tables.table(tables::CONTROLS)?;
    let value = table.get(key.as_slice())?;
    value.map(|value| read_control(&key, value.value())).transpose()
}

pub(super) fn read_control(key: &[u8], value: &[u8]) -> Result<Bytes, Failure> {
    rows::read("controls", key, value, |from| from.owned_bytes("a control value"))
}

pub(super) fn controls(
    tables: &impl Tables,
    id: StreamId,
    prefix: &[u8],
) -> Result<Vec<(Bytes, Bytes)>, Failure> {
    let prefix = tables::owned_key(id, prefix);
    let table = tables.table(tables::CONTROLS)?;
    let mut controls = Vec::new();
    for entry in table.range::<&[u8]>(prefix.as_slice()..)? {
        let (key, value) = entry?;
        let key = key.value();
        if !key.starts_with(&prefix) {
            break;
        }
        controls.push((
            Bytes::copy_from_slice(&key[8..]),
            read_control(key, value.value())?,
        ));
    }
    Ok(controls)
}

/// The runs of a stream that begin at `from` or behind it.
pub(super) fn runs(tables: &impl Tables, id: StreamId, from: Position) -> Result<Vec<(u64, Run)>, Failure> {
    let table = tables.table(tables::RUNS)?;
    let first = tables::run_key(id, from.get(), 0);
    let last = tables::run_key(id, u64::MAX, u64::MAX);
    table.range::<&[u8; 24]>(&first..=&last)?.map(read_run).collect()
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

pub(super) fn segments(tables: &impl Tables) -> Result<Vec<SegmentRow>, Failure> {
    let table = tables.table(tables::SEGMENTS)?;
    table
        .iter()?
        .map(|entry| {
            let (key, value) = entry?;
            SegmentRow::read(key.value(), value.value())
        })
        .collect()
}
