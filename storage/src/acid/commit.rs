//! Commits a batch, as far as there is room for it, and what leads to streams that a later one makes.

use std::io;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use redb::WriteTransaction;
use tailwater_stream::{Record, StreamId};

use super::placement::Placement;
use super::room::{Room, needed_by, needed_by_names};
use super::shard::Shard;
use super::tables::ShardMeta;
use super::{batch, tables};
use crate::backend::{BackendError, Outcome, Outcomes, frees_space};
use crate::database::Failure;

/// Writes a change.
type Write<'w> = dyn Fn(&WriteTransaction, &mut ShardMeta) -> Result<(), Failure> + 'w;

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
    let is_taken = put_records(shard, room, &all, needed)?;
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
        if frees_space(record) && !follows_a_refused_one && put_records(shard, room, &[record], 0)? {
            outcomes.push(Outcome::Durable);
        } else {
            refused.extend(record.streams());
            outcomes.push(Outcome::Full);
        }
    }
    Ok(outcomes)
}

/// Leads names to a place where streams may come to have them, beside those that they lead to already: one of them may
/// stand there, or another one may be about to. Nothing is written if all of them lead there.
///
/// # Errors
/// If the disk fails, or there is no room for that.
pub(super) fn lead(shard: &Shard, room: &Room, names: &[&str], to: Placement) -> Result<(), BackendError> {
    let to_there: Vec<_> = names.iter().map(|name| (*name, to)).collect();
    let new = shard.not_led(&to_there)?;
    if new.is_empty() {
        return Ok(());
    }
    let write = |transaction: &WriteTransaction, _: &mut ShardMeta| tables::put_redirects(transaction, &new);
    if put(shard, room, needed_by_names(names), &write)? {
        return Ok(());
    }
    Err(BackendError::Io {
        what: format!("noting where streams of {} names will stand", new.len()),
        source: Arc::new(io::ErrorKind::StorageFull.into()),
    })
}

/// Makes records durable, all of them or none. Answers whether there was room.
fn put_records(shard: &Shard, room: &Room, records: &[&Record], needed: u64) -> Result<bool, BackendError> {
    put(shard, room, needed, &|transaction, meta| {
        batch::write(transaction, meta, records)
    })
}

/// Makes a change durable that needs so much room, or makes room if it needs none. Answers whether there was room.
fn put(shard: &Shard, room: &Room, needed: u64, write: &Write<'_>) -> Result<bool, BackendError> {
    let put = if needed == 0 {
        room.make_room(|| shard.change(write))
    } else if room.is_on_disk_for(needed) {
        shard.change(write)
    } else if room.may_be_within(shard.file_bytes().unwrap_or(0)) {
        let put = if room.is_kept_on_disk() {
            shard.change(write)
        } else {
            shard.change_and_keep_room(write)
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
