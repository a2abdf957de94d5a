//! The tables and their keys.

use redb::{TableDefinition, WriteTransaction};
use tailwater_stream::{StreamId, Timestamp};

use crate::codec::Malformed;
use crate::database::Failure;

pub(crate) type Bytes = &'static [u8];
pub(crate) type Key<const N: usize> = &'static [u8; N];

pub(crate) const STREAMS: TableDefinition<'_, Key<8>, Bytes> = TableDefinition::new("streams");
pub(crate) const NAMES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("names");
pub(crate) const PRODUCERS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("producers");
pub(crate) const CONTROLS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("controls");
pub(crate) const FORKS: TableDefinition<'_, Key<16>, ()> = TableDefinition::new("forks");
pub(crate) const DELETED: TableDefinition<'_, Key<8>, ()> = TableDefinition::new("deleted");
pub(crate) const DEADLINES: TableDefinition<'_, Key<16>, ()> = TableDefinition::new("deadlines");

/// Makes the tables, so that every later transaction finds them.
pub(crate) fn make(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(STREAMS)?;
    transaction.open_table(NAMES)?;
    transaction.open_table(PRODUCERS)?;
    transaction.open_table(CONTROLS)?;
    transaction.open_table(FORKS)?;
    transaction.open_table(DELETED)?;
    transaction.open_table(DEADLINES)?;
    Ok(())
}

pub(crate) fn number_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(crate) fn id_key(id: StreamId) -> [u8; 8] {
    number_key(id.get())
}

/// A key of two numbers; those with the same first one stand together.
pub(crate) fn pair_key(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

pub(crate) fn deadline_key(at: Timestamp, id: StreamId) -> [u8; 16] {
    pair_key(at.as_millis(), id.get())
}

pub(crate) fn fork_key(source: StreamId, fork: StreamId) -> [u8; 16] {
    pair_key(source.get(), fork.get())
}

/// The key of something that belongs to a stream; everything of one stream stands together.
pub(crate) fn owned_key(stream: StreamId, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + rest.len());
    key.extend_from_slice(&id_key(stream));
    key.extend_from_slice(rest);
    key
}

/// The numbers in a key, which has no other bytes.
pub(crate) fn numbers<const N: usize>(key: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = key.as_chunks::<8>();
    let chunks: &[[u8; 8]; N] = chunks.try_into().ok()?;
    rest.is_empty().then(|| chunks.map(u64::from_be_bytes))
}

pub(crate) fn id_of_key(table: &str, key: &[u8]) -> Result<StreamId, Failure> {
    numbers::<1>(key)
        .and_then(|[id]| StreamId::new(id))
        .ok_or_else(|| {
            Failure::of_row(
                table,
                key,
                &Malformed {
                    what: "a stream's id",
                },
            )
        })
}

/// The number and the id in a key of two.
pub(crate) fn pair_of_key(table: &str, key: &[u8]) -> Result<(u64, StreamId), Failure> {
    numbers::<2>(key)
        .and_then(|[first, id]| Some((first, StreamId::new(id)?)))
        .ok_or_else(|| {
            Failure::of_row(
                table,
                key,
                &Malformed {
                    what: "a stream's id",
                },
            )
        })
}
