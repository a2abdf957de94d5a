//! How every row's value begins, and why a row, or a whole database, cannot be read or written.
//!
//! Every value is a version byte and then what it says.

use redb::{
    CommitError, DatabaseError, ReadTransaction, ReadableTable, StorageError, TableDefinition, TableError,
    TransactionError, WriteTransaction,
};

use crate::codec::{Decoder, Encode as _, Malformed};

const VERSION: u8 = 1;

/// Why a database cannot be read or written.
#[derive(Debug)]
pub(crate) enum Failure {
    Storage(StorageError),
    /// What was found, and where.
    Damaged(String),
}

impl Failure {
    /// A row that cannot be read.
    pub(crate) fn of_row(table: &str, key: &[u8], why: &dyn std::fmt::Display) -> Self {
        Self::Damaged(format!("the row {} of table {table}: {why}", key.escape_ascii()))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Damaged(what) => what.fmt(f),
        }
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
pub(crate) trait Tables {
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

/// A value that says what `put` puts.
pub(crate) fn value(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = Vec::with_capacity(256);
    value.put_u8(VERSION);
    put(&mut value);
    value
}

/// What a value says, all of which `read` must read.
pub(crate) fn read<T>(
    table: &'static str,
    key: &[u8],
    value: &[u8],
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, Malformed>,
) -> Result<T, Failure> {
    let mut from = said(table, key, value)?;
    let read = read(&mut from).and_then(|read| from.end("what stands behind it").map(|()| read));
    read.map_err(|why| Failure::of_row(table, key, &why))
}

/// What a value says, once its version is known.
pub(crate) fn said<'a>(table: &'static str, key: &[u8], value: &'a [u8]) -> Result<Decoder<'a>, Failure> {
    match value {
        [VERSION, said @ ..] => Ok(Decoder::new(said)),
        [version, ..] => {
            let why = format!("it has version {version}, which a newer program has written");
            Err(Failure::of_row(table, key, &why))
        }
        [] => Err(Failure::of_row(table, key, &"it is empty")),
    }
}
