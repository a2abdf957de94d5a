//! A shard's own tables, beside those of [`stream_tables`](crate::stream_tables).
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `shard`; `trimmed/…`; `ballast/…` | [`ShardMeta`]; nothing, of a stream that keeps trimmed bytes; for a moment, zeros that keep pages free ([`room`](super::room)) |
//! | `blocks` | id, first position | a [`Block`](super::block::Block) |
//! | `pieces` | id, first position | bytes of a block that has none in its own row |
//! | `redirects` | name, or `/` and a prefix of names | placements where a stream that has it may stand, beside the name's own: a byte each |

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use tailwater_stream::StreamId;

use super::placement::Placement;
use super::prefixes;
use super::room::KEPT_BACK_BYTES;
use crate::codec::{Encode as _, Malformed};
use crate::database::row::{read, value};
use crate::database::{Failure, META, Tables};
use crate::directory::StoreId;
use crate::stream_tables::keys::{self, Bytes, Key};

pub(super) const BLOCKS: TableDefinition<'_, Key<16>, Bytes> = TableDefinition::new("blocks");
pub(super) const PIECES: TableDefinition<'_, Key<16>, Bytes> = TableDefinition::new("pieces");
pub(super) const REDIRECTS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("redirects");

const SHARD: &[u8] = b"shard";
/// Rows that hold pages for a moment, so that they are free afterwards: together as much as is kept back. Each has a number
/// behind this, and stands in a page of 16 KiB, for those are easier to find than a longer one.
const BALLAST: &[u8] = b"ballast/";
const BALLAST_ROWS: u8 = 16;
const BALLAST_ROW_BYTES: usize = KEPT_BACK_BYTES as usize / BALLAST_ROWS as usize - 1024;

/// Behind this stands the id of a stream that is stored from before its oldest position on.
const TRIMMED: &[u8] = b"trimmed/";
/// The first key behind all of those.
const BEHIND_TRIMMED: &[u8] = b"trimmed0";

/// What is known of a shard as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardMeta {
    /// The store that it belongs to.
    pub(super) store: StoreId,
    /// Which one it is.
    pub(super) number: u32,
    /// Of how many.
    pub(super) count: u32,
    /// The greatest id that was ever given to a stream of it; 0 if none was.
    pub(super) last_id: u64,
    /// Streams that are not released.
    pub(super) streams: u64,
    /// Bytes of their payloads that are kept.
    pub(super) payload_bytes: u64,
    /// Whether the shard is a copy and what it has may have been gone on with elsewhere: see [`era`](super::era).
    pub(super) is_copy: bool,
}

impl ShardMeta {
    /// That of an empty shard.
    pub(super) fn new(store: StoreId, number: u32, count: u32) -> Self {
        Self {
            store,
            number,
            count,
            last_id: 0,
            streams: 0,
            payload_bytes: 0,
            is_copy: false,
        }
    }

    /// Which shard it is of which store.
    ///
    /// # Errors
    /// What it is, if it is not the one that `expected` says. What that counts is not looked at.
    pub(super) fn check_identity(&self, expected: &Self) -> Result<(), String> {
        let identity = |meta: &Self| (meta.store, meta.number, meta.count);
        if identity(self) == identity(expected) {
            return Ok(());
        }
        let (store, number, count) = identity(self);
        Err(format!("it is number {number} of {count} of the store {store}"))
    }

    fn value(&self) -> Vec<u8> {
        value(|out| {
            out.put_slice(&self.store.0);
            out.put_u32(self.number);
            out.put_u32(self.count);
            out.put_u64(self.last_id);
            out.put_u64(self.streams);
            out.put_u64(self.payload_bytes);
            out.put_u8(u8::from(self.is_copy));
        })
    }
}

/// Makes all tables, so that every later transaction finds them.
pub(super) fn make_all(transaction: &WriteTransaction, meta: &ShardMeta) -> Result<(), Failure> {
    keys::make(transaction)?;
    transaction.open_table(BLOCKS)?;
    transaction.open_table(PIECES)?;
    transaction.open_table(REDIRECTS)?;
    put_meta(transaction, meta)
}

pub(super) fn put_meta(transaction: &WriteTransaction, meta: &ShardMeta) -> Result<(), Failure> {
    let mut table = transaction.open_table(META)?;
    table.insert(SHARD, meta.value().as_slice())?;
    Ok(())
}

pub(super) fn meta(tables: &impl Tables) -> Result<ShardMeta, Failure> {
    let table = tables.table(META)?;
    let value = table
        .get(SHARD)?
        .ok_or_else(|| Failure::of_row("meta", SHARD, &"it is missing"))?;
    read("meta", SHARD, value.value(), |from| {
        let what = "what is known of the shard";
        let mut store = [0; 16];
        for byte in &mut store {
            *byte = from.u8(what)?;
        }
        Ok(ShardMeta {
            store: StoreId(store),
            number: from.u32(what)?,
            count: from.u32(what)?,
            last_id: from.u64(what)?,
            streams: from.u64(what)?,
            payload_bytes: from.u64(what)?,
            is_copy: match from.u8(what)? {
                0 => false,
                1 => true,
                _ => return Err(Malformed { what }),
            },
        })
    })
}

/// Takes pages that any later change gives back.
pub(super) fn put_ballast(transaction: &WriteTransaction) -> Result<(), Failure> {
    let mut table = transaction.open_table(META)?;
    let zeros = [0; BALLAST_ROW_BYTES];
    for number in 0..BALLAST_ROWS {
        table.insert([BALLAST, &[number]].concat().as_slice(), zeros.as_slice())?;
    }
    Ok(())
}

/// Gives back what was taken, also before a crash, or on a disk that had no room for that.
pub(super) fn remove_ballast(transaction: &WriteTransaction) -> Result<(), Failure> {
    let mut table = transaction.open_table(META)?;
    let first = [BALLAST, &[0]].concat();
    if table.get(first.as_slice())?.is_some() {
        let behind = [BALLAST, &[BALLAST_ROWS]].concat();
        table.retain_in::<&[u8], _>(first.as_slice()..behind.as_slice(), |_, _| false)?;
    }
    Ok(())
}

/// Marks a stream that keeps trimmed bytes, so that they can be given back whatever ends the process before they are; or
/// takes the mark away.
pub(super) fn mark_trimmed(
    transaction: &WriteTransaction,
    id: StreamId,
    is_trimmed: bool,
) -> Result<(), Failure> {
    let mut table = transaction.open_table(META)?;
    let key = [TRIMMED, &keys::id_key(id)].concat();
    if is_trimmed {
        table.insert(key.as_slice(), value(|_nothing| ()).as_slice())?;
    } else {
        table.remove(key.as_slice())?;
    }
    Ok(())
}

/// The streams that are marked. An earlier build marks none, and takes no mark away.
pub(super) fn trimmed(tables: &impl Tables) -> Result<Vec<StreamId>, Failure> {
    let table = tables.table(META)?;
    table
        .range::<&[u8]>(TRIMMED..BEHIND_TRIMMED)?
        .map(|entry| {
            let key = entry?.0;
            keys::id_of_key("meta", key.value().strip_prefix(TRIMMED).unwrap_or_default())
        })
        .collect()
}

/// Adds to each of a few names the placement beside it.
pub(super) fn put_redirects(
    transaction: &WriteTransaction,
    names: &[(&str, Placement)],
) -> Result<(), Failure> {
    let mut names = names.iter();
    names.try_for_each(|(name, to)| put_redirect(transaction, name, to.0))
}

/// Adds a placement to those that a name leads to.
pub(super) fn put_redirect(transaction: &WriteTransaction, name: &str, placement: u8) -> Result<(), Failure> {
    let mut placements = redirects(transaction, name)?;
    if !placements.contains(&placement) {
        placements.push(placement);
    }
    keep_redirects(transaction, name, &placements)
}

/// Lets a name lead to these placements only; nowhere, if there are none.
pub(super) fn keep_redirects(
    transaction: &WriteTransaction,
    name: &str,
    placements: &[u8],
) -> Result<(), Failure> {
    let mut table = transaction.open_table(REDIRECTS)?;
    if placements.is_empty() {
        table.remove(name.as_bytes())?;
    } else {
        let value = value(|out| out.put_bytes(placements));
        table.insert(name.as_bytes(), value.as_slice())?;
    }
    Ok(())
}

/// Where a stream of this name may stand beside the place that the name itself gives.
pub(super) fn redirects(tables: &impl Tables, name: &str) -> Result<Vec<u8>, Failure> {
    redirects_in(&tables.table(REDIRECTS)?, name)
}

pub(super) fn redirects_in(table: &impl ReadableTable<Bytes, Bytes>, name: &str) -> Result<Vec<u8>, Failure> {
    let key = name.as_bytes();
    let found = table.get(key)?;
    found.map_or(Ok(Vec::new()), |found| read_redirects(key, found.value()))
}

/// The prefixes of names that have redirects, and the placements that they lead to.
pub(super) fn prefixes(tables: &impl Tables) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let table = tables.table(REDIRECTS)?;
    let range = prefixes::MARK.as_bytes()..prefixes::BEHIND_MARK.as_bytes();
    let mut found = Vec::new();
    for entry in table.range::<&[u8]>(range)? {
        let (key, value) = entry?;
        let prefix = read_prefix(key.value())?;
        found.push((prefix.to_owned(), read_redirects(key.value(), value.value())?));
    }
    Ok(found)
}

/// The prefix that the key of a redirect says.
pub(super) fn read_prefix(key: &[u8]) -> Result<&str, Failure> {
    let text = str::from_utf8(key).ok();
    let prefix = text.and_then(|text| text.strip_prefix(prefixes::MARK));
    prefix
        .filter(|prefix| prefix.ends_with('/'))
        .ok_or_else(|| Failure::of_row("redirects", key, &"it is the prefix of no name"))
}

/// The placements that a name leads to.
pub(super) fn read_redirects(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Failure> {
    read("redirects", key, value, |from| {
        Ok(from.bytes("placements")?.to_vec())
    })
}
