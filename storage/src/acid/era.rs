//! The era of a copy. The original goes on giving out offsets behind what the copy has, and the copy does not know them:
//! what is appended to it must not be taken for what they stand for. So a copy is marked, and when it is opened for the
//! first time, all positions that its streams have not reached get another owner.

use std::ops::Bound;

use redb::{ReadableTable as _, WriteTransaction};
use tailwater_stream::StreamId;

use super::shard::Shard;
use crate::backend::BackendError;
use crate::clock::{Clock as _, SystemClock};
use crate::database::Failure;
use crate::stream_tables::keys::{STREAMS, id_key, id_of_key};
use crate::stream_tables::{StreamTables, deadline};

/// Streams that are looked at without anything being written.
const LOOKED_AT_MAX: usize = 1024;

/// Begins an era in the shards that are still marked as a copy, if any are. To be cut off in between does no harm: the
/// others begin another one the next time, and no offset was given out before.
pub(super) fn begin(shards: &[Shard]) -> Result<(), BackendError> {
    if !shards.iter().any(|shard| shard.meta().is_copy) {
        return Ok(());
    }
    let last_id = shards.iter().map(|shard| shard.meta().last_id).max().unwrap_or(0);
    let era = StreamId::new((last_id + 1).max(SystemClock.now_micros()));
    let era = era.ok_or_else(|| BackendError::Damaged {
        what: format!("the shards: they tell of the id {last_id}, and there is none behind that"),
    })?;
    tracing::warn!("this is a copy: offsets behind what is there are refused");
    for shard in shards.iter().filter(|shard| shard.meta().is_copy) {
        shard.change(|transaction, meta| {
            renew_all(transaction, era)?;
            meta.is_copy = false;
            meta.last_id = era.get();
            Ok(())
        })?;
    }
    Ok(())
}

/// Gives the positions behind the tails of a shard's streams another owner.
fn renew_all(transaction: &WriteTransaction, owner: StreamId) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let ids = ids_after(transaction, after)?;
        let Some(last) = ids.last() else {
            return Ok(());
        };
        after = Some(*last);
        let mut streams = StreamTables::new(transaction);
        for id in ids {
            let Some(mut row) = streams.head(id)? else {
                continue;
            };
            // Nobody can append to the others any more.
            if !row.state.closed && !row.state.deleted {
                row.state.lineage = row.state.lineage.renewed(row.state.tail, owner);
                streams.put_row(&row, deadline(&row.state))?;
            }
        }
    }
}

fn ids_after(transaction: &WriteTransaction, after: Option<StreamId>) -> Result<Vec<StreamId>, Failure> {
    let table = transaction.open_table(STREAMS)?;
    let after = after.map(id_key);
    let first = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let rows = table.range::<&[u8; 8]>((first, Bound::Unbounded))?;
    rows.take(LOOKED_AT_MAX)
        .map(|row| id_of_key("streams", row?.0.value()))
        .collect()
}
