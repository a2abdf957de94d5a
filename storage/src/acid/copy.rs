//! Copies all that shards say into new ones, of which there may be more or fewer. Each row goes to the shard that its
//! stream stands in there.
//!
//! Rows are copied as they are, some MiB at a time. At the end the tables are counted by the names that the databases
//! themselves have for them, so that a table which is not copied is noticed.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{
    Key as RowKey, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
    TableHandle as _, Value as RowValue, WriteTransaction,
};

use super::placement::Placement;
use super::shard::{Shard, kept_bytes};
use super::tables::{self, BLOCKS, PIECES, REDIRECTS, ShardMeta};
use crate::backend::BackendError;
use crate::codec::Malformed;
use crate::database::{Failure, META, Tables, View};
use crate::stream_tables::keys::{self, id_of_key};
use crate::stream_tables::{StreamRow, queries};

/// Bytes of rows that are in memory at a time, and one row more.
const PART_BYTES: usize = 8 << 20;

/// Rows of each table, by its name.
type Counts = BTreeMap<String, u64>;

/// New shards that are being filled.
pub(super) struct ShardCopy {
    shards: Vec<Shard>,
    /// What is to be in all of them together.
    expected: Counts,
}

/// A row that stands at `placement`.
struct Row {
    placement: Placement,
    key: Vec<u8>,
    value: Vec<u8>,
}

type Place = fn(&[u8], &[u8]) -> Result<Placement, Failure>;
type Count = fn(&WriteTransaction, &mut ShardMeta, &[u8], &[u8]) -> Result<(), Failure>;
type Choose = fn(&[u8], Vec<u8>, Vec<u8>) -> Result<Vec<u8>, Failure>;

/// A table, and what its rows mean for a copy.
struct Copied<K: RowKey + 'static, V: RowValue + 'static> {
    definition: TableDefinition<'static, K, V>,
    /// Where the row of this key and this value stands.
    place: Place,
    /// Counts a row of this key and this value in the shard that it is written to.
    count: Count,
    /// Which of two values of this key stays, if there may be one in each of two shards.
    choose: Choose,
}

impl<K: RowKey + 'static, V: RowValue + 'static> Copied<K, V> {
    fn new(definition: TableDefinition<'static, K, V>, place: Place) -> Self {
        Self {
            definition,
            place,
            count: |_, _, _, _| Ok(()),
            choose: |key, _, _| {
                Err(Failure::Damaged(format!(
                    "two shards have the row {}",
                    key.escape_ascii()
                )))
            },
        }
    }
}

impl ShardCopy {
    /// A copy into shards that are new, each with what its [`ShardMeta`] says beside the counters.
    pub(super) fn new(shards: Vec<Shard>) -> Self {
        Self {
            shards,
            expected: Counts::new(),
        }
    }

    /// Copies all that a shard says. Before each part `go_on` says whether to.
    ///
    /// # Errors
    /// Those of `go_on`, and if what is there cannot be read or what is new cannot be written.
    pub(super) fn take<E: From<BackendError>>(
        &mut self,
        from: &View,
        go_on: &dyn Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        for (table, rows) in from.ask(rows_of)? {
            *self.expected.entry(table).or_default() += rows;
        }
        let streams = Copied {
            count: count_stream,
            ..Copied::new(keys::STREAMS, of_first_id)
        };
        let names = Copied {
            choose: newest,
            ..Copied::new(keys::NAMES, of_named)
        };
        self.copy(from, &streams, go_on)?;
        self.copy(from, &names, go_on)?;
        self.copy(from, &Copied::new(keys::PRODUCERS, of_first_id), go_on)?;
        self.copy(from, &Copied::new(keys::CONTROLS, of_first_id), go_on)?;
        self.copy(from, &Copied::new(keys::FORKS, of_first_id), go_on)?;
        self.copy(from, &Copied::new(keys::DELETED, of_first_id), go_on)?;
        self.copy(from, &Copied::new(keys::DEADLINES, of_second_id), go_on)?;
        self.copy(from, &Copied::new(BLOCKS, of_first_id), go_on)?;
        self.copy(from, &Copied::new(PIECES, of_first_id), go_on)?;
        self.copy(from, &Copied::new(REDIRECTS, of_name), go_on)
    }

    fn copy<K: RowKey + 'static, V: RowValue + 'static, E: From<BackendError>>(
        &mut self,
        from: &View,
        table: &Copied<K, V>,
        go_on: &dyn Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            go_on()?;
            let rows = from.ask(|tables| rows_after(tables, table, after.as_deref()))?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some(last.key.clone());
            let mut parts: Vec<Vec<Row>> = self.shards.iter().map(|_| Vec::new()).collect();
            for row in rows {
                parts[row.placement.shard(self.shards.len())].push(row);
            }
            for (shard, rows) in self.shards.iter().zip(parts) {
                if !rows.is_empty() {
                    let twice = shard.change(|transaction, meta| put(transaction, meta, table, &rows))?;
                    if let Some(expected) = self.expected.get_mut(table.definition.name()) {
                        *expected -= twice.min(*expected);
                    }
                }
            }
        }
    }

    /// The new shards, once it is known that they have all rows.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if they have not.
    pub(super) fn finish(self) -> Result<Vec<Shard>, BackendError> {
        let mut found = Counts::new();
        for shard in &self.shards {
            for (table, rows) in shard.view()?.ask(rows_of)? {
                *found.entry(table).or_default() += rows;
            }
        }
        if found == self.expected {
            return Ok(self.shards);
        }
        let (found, expected) = (counted(&found), counted(&self.expected));
        let what = format!("the copy of the shards: it has {found}, and was to have {expected}");
        Err(BackendError::Damaged { what })
    }
}

fn counted(rows: &Counts) -> String {
    let tables: Vec<_> = rows
        .iter()
        .map(|(table, rows)| format!("{rows} {table}"))
        .collect();
    tables.join(", ")
}

/// How many rows there are in each table but that of what is known of the shard itself.
fn rows_of(tables: &ReadTransaction) -> Result<Counts, Failure> {
    let mut rows = Counts::new();
    for table in tables.list_tables()? {
        let name = table.name().to_owned();
        if name != META.name() {
            rows.insert(name, tables.open_untyped_table(table)?.len()?);
        }
    }
    Ok(rows)
}

/// The next rows of a table. None if there is no further one.
fn rows_after<K: RowKey + 'static, V: RowValue + 'static>(
    tables: &impl Tables,
    table: &Copied<K, V>,
    after: Option<&[u8]>,
) -> Result<Vec<Row>, Failure> {
    let opened = tables.table(table.definition)?;
    let first = after.map_or(Bound::Unbounded, |after| Bound::Excluded(K::from_bytes(after)));
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for entry in opened.range::<K::SelfType<'_>>((first, Bound::Unbounded))? {
        let (key, value) = entry?;
        let (key, value) = (key.value(), value.value());
        let (key, value) = (
            K::as_bytes(&key).as_ref().to_vec(),
            V::as_bytes(&value).as_ref().to_vec(),
        );
        let placement = (table.place)(&key, &value)?;
        bytes += key.len() + value.len();
        rows.push(Row {
            placement,
            key,
            value,
        });
        if bytes >= PART_BYTES {
            break;
        }
    }
    Ok(rows)
}

/// Writes rows into a new shard, and counts them there. Answers of how many of them there was one already.
fn put<K: RowKey + 'static, V: RowValue + 'static>(
    transaction: &WriteTransaction,
    meta: &mut ShardMeta,
    table: &Copied<K, V>,
    rows: &[Row],
) -> Result<u64, Failure> {
    let mut opened = transaction.open_table(table.definition)?;
    let mut twice = 0;
    for Row { key, value, .. } in rows {
        (table.count)(transaction, meta, key, value)?;
        let before = opened
            .insert(K::from_bytes(key), V::from_bytes(value))?
            .map(|before| V::as_bytes(&before.value()).as_ref().to_vec());
        if let Some(before) = before {
            twice += 1;
            let chosen = (table.choose)(key, before, value.clone())?;
            opened.insert(K::from_bytes(key), V::from_bytes(&chosen))?;
        }
    }
    Ok(twice)
}

/// Counts a stream, and marks it anew if it keeps trimmed bytes: marks are none of the rows that are copied.
fn count_stream(
    transaction: &WriteTransaction,
    meta: &mut ShardMeta,
    key: &[u8],
    value: &[u8],
) -> Result<(), Failure> {
    let id = id_of_key("streams", key)?;
    let (row, _) = StreamRow::read(id, key, value)?;
    meta.streams += 1;
    meta.payload_bytes += kept_bytes(&row);
    if row.keeps_trimmed_bytes() {
        tables::mark_trimmed(transaction, id, true)?;
    }
    Ok(())
}

/// A name belongs to the highest id that was given it. A stream that is deleted and not released may have it still, in
/// another shard than the one that has it now.
fn newest(key: &[u8], one: Vec<u8>, other: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let one_is_newer = queries::read_name(key, &one)? > queries::read_name(key, &other)?;
    Ok(if one_is_newer { one } else { other })
}

/// The row belongs to the stream that its key begins with.
fn of_first_id(key: &[u8], _: &[u8]) -> Result<Placement, Failure> {
    of_id_at(0, key)
}

/// The row belongs to the stream that stands behind a number in its key.
fn of_second_id(key: &[u8], _: &[u8]) -> Result<Placement, Failure> {
    of_id_at(8, key)
}

fn of_id_at(at: usize, key: &[u8]) -> Result<Placement, Failure> {
    let what = "a stream's id";
    let id = key.get(at..at + 8);
    let id = id.ok_or_else(|| Failure::of_row("streams' rows", key, &Malformed { what }))?;
    Ok(Placement::of_id(id_of_key("streams' rows", id)?))
}

/// A name stands beside its stream.
fn of_named(key: &[u8], value: &[u8]) -> Result<Placement, Failure> {
    Ok(Placement::of_id(queries::read_name(key, value)?))
}

/// What leads a name elsewhere stands where the name itself would place its stream.
fn of_name(key: &[u8], _: &[u8]) -> Result<Placement, Failure> {
    Ok(Placement::of_name_bytes(key))
}
