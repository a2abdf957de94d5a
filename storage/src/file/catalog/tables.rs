//! The catalog's tables and their keys.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `store` or `changes` | [`Meta`](super::Meta); how many changes were made |
//! | `streams` | id | [`StreamRow`](super::StreamRow), with the deadline that `deadlines` has for it |
//! | `names` | name | the highest id that was given it |
//! | `producers` | id, producer id | [`ProducerState`](tailwater_stream::ProducerState) |
//! | `controls` | id, control key | the value |
//! | `forks` | source's id, fork's id | |
//! | `deleted` | id | |
//! | `deadlines` | time in milliseconds, id | |
//! | `runs` | id, first position, segment's number | the rest of a [`Run`](crate::file::segment::Run) |
//! | `segments` | number | [`SegmentRow`](super::SegmentRow) |
//!
//! Numbers in keys are big-endian, so that byte order is their order, and have eight bytes. What a value looks like
//! is said in `rows.rs`.

use redb::{
    CommitError, DatabaseError, ReadTransaction, ReadableTable, StorageError, TableDefinition, TableError,
    TransactionError, WriteTransaction,
};
use tailwater_stream::{Position, StreamId, Timestamp};

use crate::file::codec::Malformed;

pub(super) type Bytes = &'static [u8];
type Key<const N: usize> = &'static [u8; N];

pub(super) const META: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("meta");
pub(super) const STREAMS: TableDefinition<'_, Key<8>, Bytes> = TableDefinition::new("streams");
pub(super) const NAMES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("names");
pub(super) const PRODUCERS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("producers");
pub(super) const CONTROLS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("controls");
pub(super) const FORKS: TableDefinition<'_, Key<16>, ()> = TableDefinition::new("forks");
pub(super) const DELETED: TableDefinition<'_, Key<8>, ()> = TableDefinition::new("deleted");
pub(super) const DEADLINES: TableDefinition<'_, Key<16>, ()> = TableDefinition::new("deadlines");
pub(super) const RUNS: TableDefinition<'_, Key<24>, Bytes> = TableDefinition::new("runs");
pub(super) const SEGMENTS: TableDefinition<'_, Key<8>, Bytes> = TableDefinition::new("segments");

pub(super) const META_STORE: &[u8] = b"store";
pub(super) const META_CHANGES: &[u8] = b"changes";

/// Why the catalog cannot be read or written.
#[derive(Debug)]
pub(super) enum Failure {
    Storage(StorageError),
    /// What was found, and where.
    Damaged(String),
}

impl Failure {
    /// A row that cannot be read.
    pub(super) fn of_row(table: &str, key: &[u8], why: &dyn std::fmt::Display) -> Self {
        Self::Damaged(format!("the row {} of table {table}: {why}", key.escape_ascii()))
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => Self::Storage(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Storage(error) => Self::Storage(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl From<TransactionError> for Failure {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => Self::Storage(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => Self::Storage(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// Where tables are read: a snapshot, or a change that sees what it has written itself.
pub(super) trait Tables {
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, Failure>;
}

impl Tables for ReadTransaction {
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, Failure> {
        Ok(self.open_table(definition)?)
    }
}

impl Tables for WriteTransaction {
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, Failure> {
        Ok(self.open_table(definition)?)
    }
}

/// Makes all tables, so that every later transaction finds them.
pub(super) fn make_all(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(META)?;
    transaction.open_table(STREAMS)?;
    transaction.open_table(NAMES)?;
    transaction.open_table(PRODUCERS)?;
    transaction.open_table(CONTROLS)?;
    transaction.open_table(FORKS)?;
    transaction.open_table(DELETED)?;
    transaction.open_table(DEADLINES)?;
    transaction.open_table(RUNS)?;
    transaction.open_table(SEGMENTS)?;
    Ok(())
}

pub(super) fn number_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(super) fn id_key(id: StreamId) -> [u8; 8] {
    number_key(id.get())
}

/// A key of two numbers; those with the same first one stand together.
pub(super) fn pair_key(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

pub(super) fn deadline_key(at: Timestamp, id: StreamId) -> [u8; 16] {
    pair_key(at.as_millis(), id.get())
}

pub(super) fn fork_key(source: StreamId, fork: StreamId) -> [u8; 16] {
    pair_key(source.get(), fork.get())
}

pub(super) fn run_key(stream: StreamId, from: u64, segment: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&pair_key(stream.get(), from));
    key[16..].copy_from_slice(&segment.to_be_bytes());
    key
}

/// The key of something that belongs to a stream; everything of one stream stands together.
pub(super) fn owned_key(stream: StreamId, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + rest.len());
    key.extend_from_slice(&id_key(stream));
    key.extend_from_slice(rest);
    key
}

/// The numbers in a key, which has no other bytes.
fn numbers<const N: usize>(key: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = key.as_chunks::<8>();
    let chunks: &[[u8; 8]; N] = chunks.try_into().ok()?;
    rest.is_empty().then(|| chunks.map(u64::from_be_bytes))
}

pub(super) fn id_of_key(table: &str, key: &[u8]) -> Result<StreamId, Failure> {
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
pub(super) fn pair_of_key(table: &str, key: &[u8]) -> Result<(u64, StreamId), Failure> {
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

/// The stream, the first position and the segment's number in a run's key.
pub(super) fn run_of_key(key: &[u8]) -> Result<(StreamId, Position, u64), Failure> {
    numbers::<3>(key)
        .and_then(|[id, from, segment]| Some((StreamId::new(id)?, Position::new(from)?, segment)))
        .ok_or_else(|| Failure::of_row("runs", key, &Malformed { what: "a run's key" }))
}
