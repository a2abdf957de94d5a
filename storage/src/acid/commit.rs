//! Commits a batch, as far as there is room for it.

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use tailwater_stream::{Record, StreamId};

use super::room::{Room, needed_by};
use super::shard::Shard;
use crate::backend::{BackendError, Outcome, Outcomes, frees_space};

/// Makes records durable, in order, each whole or absent, and says what became of each.
///
/// # Errors
/// If it is not known what became of the batch.
pub(super) fn commit(shard: &Shard, room: &Room, batch: &[Record]) -> Result<Outcomes, BackendError> {
    let needed = batch
        .iter()
        .filter(|record| !frees_space(record))
        .map(needed_by)
        .sum();
    let all: Vec<_> = batch.iter().collect();
    let is_taken = put(shard, room, &all, needed)?;
    if needed > 0 {
        room.answered(is_taken);
    }
    if is_taken {
        return Ok(batch.iter().map(|_| Outcome::Durable).collect());
    }
    // What makes room is still taken, and each by itself, for it writes pages too.
    let mut refused = HashSet::<StreamId, RandomState>::default();
    let mut outcomes = Outcomes::new();
    for record in batch {
        let follows_a_refused_one = record.streams().any(|stream| refused.contains(&stream));
        if frees_space(record) && !follows_a_refused_one && put(shard, room, &[record], 0)? {
            outcomes.push(Outcome::Durable);
        } else {
            refused.extend(record.streams());
            outcomes.push(Outcome::Full);
        }
    }
    Ok(outcomes)
}

/// Makes records durable, all of them or none. Answers whether there was room.
fn put(shard: &Shard, room: &Room, records: &[&Record], needed: u64) -> Result<bool, BackendError> {
    let put = if needed == 0 {
        room.make_room(|| shard.put(records))
    } else if room.is_on_disk_for(needed) {
        shard.put(records)
    } else if room.may_be_within(shard.file_bytes().unwrap_or(0)) {
        let put = if room.is_kept_on_disk() {
            shard.put(records)
        } else {
            shard.put_and_keep_room(records)
        };
        if put.is_ok() {
            room.was_within();
        }
        put
    } else {
        return Ok(false);
    };
    match put {
        Ok(()) => Ok(true),
        Err(error) if error.is_full() => {
            room.is_full();
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
