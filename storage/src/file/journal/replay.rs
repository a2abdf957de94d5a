//! Reads a journal back, batch after batch, and judges what stands where the next batch is missing: the journal's
//! end, a write that was interrupted, or damage.

use std::sync::Arc;

use tailwater_stream::Part;

use super::super::place::LogPlace;
use super::contents::{Contents, Found};
use super::header::JournalHeader;
use super::{FIRST_BATCH_AT, PartPlace};
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::Map;

/// How a journal ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::file) enum End {
    /// Nothing stands behind the last batch.
    Clean {
        /// Behind the last batch.
        end: LogPlace,
    },
    /// Nothing proves that what stands behind the last whole batch was ever durable: it is to be cut off.
    Torn {
        /// Behind the last whole batch.
        cut: LogPlace,
        /// What is wrong there.
        reason: String,
    },
}

/// What a replay has found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::file) struct Replay {
    pub(in crate::file) end: End,
    /// The number of the next batch to be written.
    pub(in crate::file) next_batch: u64,
    /// The journals are known to be durable up to here. Never behind the end.
    pub(in crate::file) synced: LogPlace,
}

/// Replays journal `number` of a store from byte `from`, where batch `next_batch` stands if there is one. All parts
/// of a batch are applied, in order, if it is whole, and none otherwise.
///
/// The journals are known to be durable up to `proven`. If that lies behind the file, all that was ever written to
/// it is durable, wherever that ends; that no batch is missing at its end is then for the next journal to tell, whose
/// batches are numbered on.
///
/// # Errors
/// If the disk fails; if what was durable is broken, or what stands there is not what an interrupted write leaves;
/// if a later version has written it; or what `apply` says.
pub(in crate::file) fn replay(
    map: &Arc<dyn Map>,
    number: u64,
    store: StoreId,
    from: u64,
    next_batch: u64,
    proven: LogPlace,
    apply: &mut dyn FnMut(Part, PartPlace) -> Result<(), BackendError>,
) -> Result<Replay, BackendError> {
    let contents = Contents::open(map, JournalHeader { number, store })?;
    let mut at = contents.beginning(from)?;
    let mut next_batch = next_batch;
    let mut synced = proven;
    let wrong = loop {
        match contents.find(at, next_batch)? {
            Found::Batch(batch) => {
                for (part, place) in batch.parts {
                    apply(part, place)?;
                }
                at = batch.end;
                next_batch = batch.next;
                synced = synced.max(batch.synced);
            }
            Found::Torn(what) => break Some(what),
            Found::Nothing => break None,
        }
    };
    let end = judge(&contents, at, next_batch, wrong, proven)?;
    Ok(Replay {
        end,
        next_batch,
        synced: synced.min(contents.place(at)),
    })
}

/// Judges the place where the next batch is missing, or not whole and then `wrong`.
pub(super) fn judge(
    contents: &Contents,
    at: usize,
    next_batch: u64,
    wrong: Option<&'static str>,
    proven: LogPlace,
) -> Result<End, BackendError> {
    let place = contents.place(at);
    // Later batches were written when earlier ones were durable up to some place, and say so.
    let mut later: Option<(u64, LogPlace)> = None;
    for header in contents.headers(at) {
        let header = header?;
        if header.number > next_batch {
            let (first, synced) = later.unwrap_or((header.number, header.synced));
            later = Some((first, synced.max(header.synced)));
        }
    }
    let reason = match (wrong, later) {
        (Some(wrong), _) => format!("batch {next_batch} is not whole: {wrong}"),
        (None, Some((later, _))) => {
            format!("batch {next_batch} is missing, and batch {later} stands behind it")
        }
        (None, None) if proven <= place || contents.place(contents.len()) < proven => {
            return Ok(End::Clean { end: place });
        }
        (None, None) => format!("batch {next_batch} is missing"),
    };
    let proven = later.map_or(proven, |(_, synced)| synced.max(proven));
    if place < proven {
        return Err(contents.damaged(at, &format!("{reason}, though it was durable")));
    }
    Ok(End::Torn { cut: place, reason })
}

/// Whether a batch was ever written to a journal, whole or not. Says yes if that cannot be found out, because then
/// nothing in the journals before it may be taken for torn.
pub(in crate::file) fn has_batches(map: &Arc<dyn Map>, number: u64, store: StoreId) -> bool {
    let looked = Contents::open(map, JournalHeader { number, store })
        .and_then(|contents| Ok((contents.beginning(FIRST_BATCH_AT)?, contents)));
    looked.map_or(true, |(at, contents)| contents.headers(at).next().is_some())
}
