//! The questions that a snapshot and a change answer alike.

use std::ops::Bound;

use bytes::Bytes;
use redb::ReadableTable;
use tailwater_stream::{NameLimits, Producers, StreamId, StreamName, Timestamp};

use super::keys::{self, Key};
use super::rows::{self, StreamRow};
use crate::backend::ControlsRequest;
use crate::codec::{Decoder, Malformed};
use crate::database::{Failure, Tables, row};

/// The row without its producers.
pub(crate) fn head(tables: &impl Tables, id: StreamId) -> Result<Option<StreamRow>, Failure> {
    head_in(&tables.table(keys::STREAMS)?, id)
}

pub(super) fn head_in(
    streams: &impl ReadableTable<Key<8>, keys::Bytes>,
    id: StreamId,
) -> Result<Option<StreamRow>, Failure> {
    let key = keys::id_key(id);
    let value = streams.get(&key)?;
    value
        .map(|value| StreamRow::read(id, &key, value.value()).map(|(row, _)| row))
        .transpose()
}

/// The row with all its producers.
pub(crate) fn with_producers(tables: &impl Tables, id: StreamId) -> Result<Option<StreamRow>, Failure> {
    let Some(mut row) = head(tables, id)? else {
        return Ok(None);
    };
    row.state.producers = producers(tables, id)?;
    Ok(Some(row))
}

fn producers(tables: &impl Tables, id: StreamId) -> Result<Producers, Failure> {
    let prefix = keys::id_key(id);
    let table = tables.table(keys::PRODUCERS)?;
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

/// The newest stream of a name.
pub(crate) fn id_of(tables: &impl Tables, name: &StreamName) -> Result<Option<StreamId>, Failure> {
    owner_in(&tables.table(keys::NAMES)?, name)
}

pub(crate) fn owner_in(
    names: &impl ReadableTable<keys::Bytes, keys::Bytes>,
    name: &StreamName,
) -> Result<Option<StreamId>, Failure> {
    let key = name.as_str().as_bytes();
    let value = names.get(key)?;
    value.map(|value| read_name(key, value.value())).transpose()
}

/// The stream that a name belongs to.
pub(crate) fn read_name(key: &[u8], value: &[u8]) -> Result<StreamId, Failure> {
    fn owner(from: &mut Decoder<'_>) -> Result<StreamId, Malformed> {
        from.id()
    }
    row::read("names", key, value, owner)
}

pub(crate) fn names(
    tables: &impl Tables,
    prefix: &str,
    after: Option<&str>,
    count_max: usize,
) -> Result<Vec<(StreamName, StreamId)>, Failure> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
        _ => Bound::Included(prefix.as_bytes()),
    };
    let table = tables.table(keys::NAMES)?;
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

/// The name that a key says.
pub(crate) fn parse_name(key: &[u8]) -> Result<StreamName, Failure> {
    let name = str::from_utf8(key)
        .ok()
        .and_then(|text| StreamName::parse_stored(text, NameLimits::NONE).ok());
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

pub(crate) fn forks_of(tables: &impl Tables, source: StreamId) -> Result<Vec<StreamId>, Failure> {
    let table = tables.table(keys::FORKS)?;
    let all = keys::pair_key(source.get(), 0)..=keys::pair_key(source.get(), u64::MAX);
    let entries = table.range::<&[u8; 16]>(all.start()..=all.end())?;
    entries
        .map(|entry| keys::pair_of_key("forks", entry?.0.value()).map(|(_, fork)| fork))
        .collect()
}

pub(crate) fn deleted(tables: &impl Tables) -> Result<Vec<StreamId>, Failure> {
    let table = tables.table(keys::DELETED)?;
    table
        .iter()?
        .map(|entry| keys::id_of_key("deleted", entry?.0.value()))
        .collect()
}

pub(crate) fn due(
    tables: &impl Tables,
    now: Timestamp,
    after: Option<(Timestamp, StreamId)>,
    count_max: usize,
) -> Result<Vec<(Timestamp, StreamId)>, Failure> {
    // No id is 0, so this excludes nothing unless a row is given.
    let after = after.map_or([0; 16], |(at, id)| keys::deadline_key(at, id));
    let until = keys::pair_key(now.as_millis(), u64::MAX);
    if after >= until {
        return Ok(Vec::new());
    }
    let table = tables.table(keys::DEADLINES)?;
    table
        .range::<&[u8; 16]>((Bound::Excluded(&after), Bound::Included(&until)))?
        .take(count_max)
        .map(|entry| {
            let (at, id) = keys::pair_of_key("deadlines", entry?.0.value())?;
            Ok((Timestamp::from_millis(at), id))
        })
        .collect()
}

pub(crate) fn control(tables: &impl Tables, id: StreamId, key: &[u8]) -> Result<Option<Bytes>, Failure> {
    let key = keys::owned_key(id, key);
    let table = tables.table(keys::CONTROLS)?;
    let value = table.get(key.as_slice())?;
    value.map(|value| read_control(&key, value.value())).transpose()
}

pub(crate) fn read_control(key: &[u8], value: &[u8]) -> Result<Bytes, Failure> {
    row::read("controls", key, value, |from| from.owned_bytes("a control value"))
}

pub(crate) fn controls(
    tables: &impl Tables,
    id: StreamId,
    request: &ControlsRequest<'_>,
) -> Result<Vec<(Bytes, Bytes)>, Failure> {
    let prefix = keys::owned_key(id, request.prefix);
    let from = request.begins().map(|key| keys::owned_key(id, key));
    let table = tables.table(keys::CONTROLS)?;
    let mut controls = Vec::new();
    if request.count_max == 0 {
        return Ok(controls);
    }
    for entry in table.range::<&[u8]>((from.as_ref().map(Vec::as_slice), Bound::Unbounded))? {
        let (key, value) = entry?;
        let key = key.value();
        if !key.starts_with(&prefix) || controls.len() == request.count_max {
            break;
        }
        controls.push((
            Bytes::copy_from_slice(&key[8..]),
            read_control(key, value.value())?,
        ));
    }
    Ok(controls)
}
