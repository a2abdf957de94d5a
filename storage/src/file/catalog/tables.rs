//! The catalog's own tables and their keys, beside those of [`stream_tables`](crate::stream_tables).
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `store` | [`Meta`](super::Meta) |
//! | `runs` | id, first position, segment's number | the rest of a [`Run`](crate::file::segment::Run) |
//! | `segments` | number | [`SegmentRow`](super::SegmentRow) |
//! | `trimmed` | id of a stream that is stored from before its oldest position on | |
//!
//! What a value looks like is said in `rows.rs`.

use redb::{TableDefinition, WriteTransaction};
use tailwater_stream::{Position, StreamId};

use crate::codec::Malformed;
use crate::database::Failure;
use crate::stream_tables::keys::{self, Bytes, Key, numbers, pair_key};

pub(super) const RUNS: TableDefinition<'_, Key<24>, Bytes> = TableDefinition::new("runs");
pub(super) const SEGMENTS: TableDefinition<'_, Key<8>, Bytes> = TableDefinition::new("segments");

/// A catalog of an earlier build has none before it is first changed.
pub(super) const TRIMMED: TableDefinition<'_, Key<8>, ()> = TableDefinition::new("trimmed");

/// The key in the database's `meta`.
pub(super) const STORE: &[u8] = b"store";

/// Makes all tables, so that every later transaction finds them.
pub(super) fn make_all(transaction: &WriteTransaction) -> Result<(), Failure> {
    keys::make(transaction)?;
    transaction.open_table(RUNS)?;
    transaction.open_table(SEGMENTS)?;
    transaction.open_table(TRIMMED)?;
    Ok(())
}

pub(super) fn run_key(stream: StreamId, from: u64, segment: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&pair_key(stream.get(), from));
    key[16..].copy_from_slice(&segment.to_be_bytes());
    key
}

/// The stream, the first position and the segment's number in a run's key.
pub(super) fn run_of_key(key: &[u8]) -> Result<(StreamId, Position, u64), Failure> {
    numbers::<3>(key)
        .and_then(|[id, from, segment]| Some((StreamId::new(id)?, Position::new(from)?, segment)))
        .ok_or_else(|| Failure::of_row("runs", key, &Malformed { what: "a run's key" }))
}
