//! Checks the journals from the place on up to which they are folded, and what they add to the streams.

use std::sync::Arc;

use tailwater_stream::{Position, StreamId, StreamState};

use super::Verification;
use crate::backend::BackendError;
use crate::directory::OpenError;
use crate::directory::StoreId;
use crate::disk::{Disk, Map};
use crate::file::catalog::{CatalogView, Meta, StreamRow};
use crate::file::journal::{self, FIRST_BATCH_AT};
use crate::file::overlay::{Delta, Overlay};
use crate::file::place::{Layout, LogPlace};
use crate::file::recovery::check_row;
use crate::file::store::io_error;

/// What the journals say that the catalog does not.
#[derive(Default)]
pub(in crate::file) struct Unfolded {
    pub(in crate::file) overlay: Overlay,
    pub(in crate::file) batches: u64,
    pub(in crate::file) bytes: u64,
    /// The journals that end with a write that was interrupted, and what is wrong there.
    pub(in crate::file) torn: Vec<(u64, String)>,
}

/// Replays journals without changing them. `numbers` are those that are not wholly folded, in order.
pub(in crate::file) fn replay(
    disk: &dyn Disk,
    layout: &Layout,
    store: StoreId,
    meta: &Meta,
    numbers: &[u64],
    damaged: &mut dyn FnMut(BackendError),
) -> Unfolded {
    let mut unfolded = Unfolded::default();
    if let Err(error) = check_row(meta, numbers) {
        damaged(error);
    }
    let mut maps = Vec::new();
    for number in numbers {
        match map(disk, layout, *number) {
            Ok(map) => maps.push((*number, map)),
            Err(error) => damaged(error),
        }
    }
    let last_used = maps
        .iter()
        .rposition(|(number, map)| journal::has_batches(map, *number, store));
    let mut next_batch = Some(meta.next_batch);
    let mut expected = meta.folded.journal;
    for (index, (number, map)) in maps.iter().enumerate() {
        if *number > expected && index > 0 {
            next_batch = None;
        }
        expected = number + 1;
        let from = if *number == meta.folded.journal {
            meta.folded.offset
        } else {
            FIRST_BATCH_AT
        };
        // A journal is synced before the next one gets its first batch.
        let proven = if last_used.is_some_and(|last| index < last) {
            LogPlace {
                journal: *number,
                offset: u64::MAX,
            }
        } else {
            meta.folded
        };
        let overlay = &unfolded.overlay;
        let survey = journal::survey(
            map,
            (*number, store),
            from,
            next_batch,
            proven,
            &mut |part, place| overlay.apply(&part, *number, place),
            damaged,
        );
        unfolded.batches += survey.batches;
        unfolded.bytes += survey.bytes;
        unfolded.torn.extend(survey.torn.map(|reason| (*number, reason)));
        next_batch = survey.next_batch;
    }
    unfolded
}

fn map(disk: &dyn Disk, layout: &Layout, number: u64) -> Result<Arc<dyn Map>, BackendError> {
    let path = layout.journal(number);
    let file = disk.open_sealed(&path).map_err(io_error("opening", &path))?;
    let len = file.len().map_err(io_error("asking for the length of", &path))?;
    file.map(len).map_err(io_error("mapping", &path))
}

impl Verification<'_> {
    pub(super) fn journals(&mut self, view: &CatalogView, meta: &Meta) -> Result<(), OpenError> {
        let dir = self.layout.journals_dir();
        let mut numbers = self.numbers_in(&dir, "journal")?;
        numbers.retain(|number| *number >= meta.folded.journal);
        self.report.journals = numbers.len() as u64;
        let known = self.found.count();
        let found = &mut self.found;
        let unfolded = replay(
            self.disk,
            &self.layout,
            self.store,
            meta,
            &numbers,
            &mut |error| found.add(error.to_string()),
        );
        self.report.journal_batches = unfolded.batches;
        self.report.journal_bytes = unfolded.bytes;
        for (number, reason) in &unfolded.torn {
            self.found.note(format!(
                "journal {number} ends with a write that was interrupted and never acknowledged, which is cut off \
                 at the next start: {reason}"
            ));
        }
        if self.found.count() > known {
            self.found
                .note("what the journals add to the streams was not checked".to_owned());
            return Ok(());
        }
        for id in unfolded.overlay.ids() {
            let checked = view.head(id).map(|row| {
                let checked = unfolded
                    .overlay
                    .with(id, |delta| gap_of(id, row, delta, meta.era));
                checked.flatten()
            });
            match checked {
                Ok(None) => {}
                Ok(Some(what)) => self.found.add(format!("journals, stream {id}: {what}")),
                Err(error) => self.found.add(error.to_string()),
            }
        }
        Ok(())
    }
}

/// What does not fit between what the catalog says of a stream and what the journals do.
fn gap_of(id: StreamId, mut row: Option<StreamRow>, delta: &Delta, era: u64) -> Option<String> {
    let created = || delta.created().map(|created| StreamState::created(created).tail);
    let start = row.as_ref().map(|row| row.state.tail).or_else(created);
    delta.apply_to(&mut row, era);
    let (Some(start), Some(row)) = (start, row) else {
        return (!delta.extents.is_empty()).then(|| format!("nobody has created stream {id}"));
    };
    let mut end = start.get();
    for extent in &delta.extents {
        if extent.from != end {
            return Some(format!("bytes end at {end}, and go on at {}", extent.from));
        }
        end = extent.until();
    }
    let tail = row.state.tail;
    (Position::new(end) != Some(tail)).then(|| format!("its bytes end at {end}, and its tail is {tail}"))
}
