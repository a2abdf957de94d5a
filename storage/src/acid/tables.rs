//! A shard's own tables, beside those of [`stream_tables`](crate::stream_tables).
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `shard` | [`ShardMeta`] |
//! | `blocks` | id, first position | a [`Block`](super::block::Block) |
//! | `pieces` | id, first position | bytes of a block that has none in its own row |
//! | `redirects` | name | the placement of the stream that has it, which is not the name's own |

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use crate::codec::{Encode as _, Malformed};
use crate::database::row::{read, value};
use crate::database::{Failure, META, Tables};
use crate::directory::StoreId;
use crate::stream_tables::keys::{self, Bytes, Key};

pub(super) const BLOCKS: TableDefinition<'_, Key<16>, Bytes> = TableDefinition::new("blocks");
pub(super) const PIECES: TableDefinition<'_, Key<16>, Bytes> = TableDefinition::new("pieces");
pub(super) const REDIRECTS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("redirects");

const SHARD: &[u8] = b"shard";

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
        }
    }

    fn value(&self) -> Vec<u8> {
        value(|out| {
            out.put_slice(&self.store.0);
            out.put_u32(self.number);
            out.put_u32(self.count);
            out.put_u64(self.last_id);
            out.put_u64(self.streams);
            out.put_u64(self.payload_bytes);
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
        })
    })
}

pub(super) fn put_redirect(transaction: &WriteTransaction, name: &str, placement: u8) -> Result<(), Failure> {
    let mut table = transaction.open_table(REDIRECTS)?;
    table.insert(name.as_bytes(), value(|out| out.put_u8(placement)).as_slice())?;
    Ok(())
}

/// Where the stream of this name stands, if it does not stand where names place it.
pub(super) fn redirect(tables: &impl Tables, name: &str) -> Result<Option<u8>, Failure> {
    let table = tables.table(REDIRECTS)?;
    let key = name.as_bytes();
    let found = table.get(key)?;
    let placement = |value: &[u8]| {
        read("redirects", key, value, |from| {
            from.u8("a placement")
                .map_err(|_short| Malformed { what: "a placement" })
        })
    };
    found.map(|found| placement(found.value())).transpose()
}
