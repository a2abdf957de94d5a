//! Reads all of a journal, and goes on behind what is damaged: to tell of all damage at once.

use std::sync::Arc;

use tailwater_stream::Part;

use super::super::place::LogPlace;
use super::contents::{Contents, Found};
use super::header::JournalHeader;
use super::replay::{End, judge};
use super::{FIRST_BATCH_AT, PartPlace};
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::Map;

/// What was found in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::file) struct Survey {
    /// Whole batches.
    pub(in crate::file) batches: u64,
    /// Bytes of what was looked at, up to the end.
    pub(in crate::file) bytes: u64,
    /// The number of the batch behind the last one; none if that is not known any more.
    pub(in crate::file) next_batch: Option<u64>,
    /// Why a write that was interrupted is thought to stand at the end.
    pub(in crate::file) torn: Option<String>,
}

/// Replays a journal as [`replay`](super::replay()) does, and tells of all damage instead of ending at the first.
/// Behind it, it goes on with the next batch that can be recognised. Without `next_batch` the first one may have any
/// number.
pub(in crate::file) fn survey(
    map: &Arc<dyn Map>,
    header: (u64, StoreId),
    from: u64,
    next_batch: Option<u64>,
    proven: LogPlace,
    apply: &mut dyn FnMut(Part, PartPlace),
    damaged: &mut dyn FnMut(BackendError),
) -> Survey {
    let (number, store) = header;
    let mut survey = Survey {
        next_batch,
        ..Survey::default()
    };
    let opened = Contents::open(map, JournalHeader { number, store })
        .and_then(|contents| Ok((contents.beginning(from)?, contents)));
    let (mut at, contents) = match opened {
        Ok((at, contents)) => (at, contents),
        Err(error) => {
            damaged(error);
            survey.next_batch = None;
            return survey;
        }
    };
    loop {
        let Some(expected) = survey.next_batch else {
            let Some((found, number)) = contents.next_header(at) else {
                break;
            };
            (at, survey.next_batch) = (found, Some(number));
            continue;
        };
        let wrong = match contents.find(at, expected) {
            Ok(Found::Batch(batch)) => {
                survey.batches += 1;
                survey.next_batch = Some(batch.next);
                at = batch.end;
                for (part, place) in batch.parts {
                    apply(part, place);
                }
                continue;
            }
            Ok(Found::Torn(what)) => Ok(Some(what)),
            Ok(Found::Nothing) => Ok(None),
            Err(error) => Err(error),
        };
        let end = wrong.and_then(|wrong| judge(&contents, at, expected, wrong, proven));
        match end {
            Ok(end) => {
                if let End::Torn { reason, .. } = end {
                    survey.torn = Some(reason);
                }
                break;
            }
            Err(error) => {
                damaged(error);
                // What stands here may be a header too, of a batch that is broken.
                let Some((found, number)) = contents.next_header(at + 1) else {
                    survey.next_batch = None;
                    break;
                };
                (at, survey.next_batch) = (found, Some(number));
            }
        }
    }
    survey.bytes = (at as u64).saturating_sub(from.max(FIRST_BATCH_AT));
    survey
}
