//! Folds the journals: what they hold goes into segments, sorted by stream, and into the catalog.
//!
//! One transaction of the catalog switches over, so that a crash leaves either the journals or the segments to be
//! read from, and both say the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use tailwater_stream::{Position, StreamId};

use super::catalog::{CatalogTables, Meta, StreamRow, WRITTEN_TOGETHER};
use super::journal;
use super::overlay::{Delta, JournalExtent, Overlay};
use super::place::Layout;
use super::segment::AppendHead;
use super::segments_out::{Segments, SegmentsOut};
use super::store::{Counters, Frozen, Store, io_error};
use crate::ahead::LINE_BYTES;
use crate::backend::BackendError;
use crate::database::Failure;
use crate::disk::Map;
use crate::stream_tables::deadline;

/// Live bytes that segments have lost, by their numbers.
type Losses = HashMap<u64, u64, RandomState>;

/// From where on streams of a generation are stored, of those for which it says so.
type StoredFrom = HashMap<StreamId, Position, RandomState>;

/// Journals are fetched in pieces of so many bytes.
const FETCH_BYTES: u64 = 1 << 20;
/// Appends are copied, and streams looked at, in groups of so many.
pub(super) const GROUP_LEN: usize = 64;
/// Of an append so many bytes are called for ahead. What follows them in memory it takes by itself.
const CALLED_FOR_BYTES_MAX: u64 = 1024;

impl Store {
    /// Begins a new generation; the old one waits to be folded. None if it is empty or one waits already.
    fn freeze(&self) -> Option<Arc<Frozen>> {
        // No batch is half shown while nobody commits.
        let mut log = self.log.lock();
        let mut generations = self.generations.write();
        if generations.frozen.is_some() || generations.active.is_empty() {
            return generations.frozen.clone();
        }
        let frozen = Arc::new(Frozen {
            overlay: std::mem::take(&mut generations.active),
            folded: log.end,
            next_batch: log.next_batch,
            bytes: log.unfolded_bytes,
        });
        generations.frozen = Some(Arc::clone(&frozen));
        log.unfolded_bytes = 0;
        log.began_at = None;
        Some(frozen)
    }

    /// Folds all that was committed before the call. Whoever calls it holds the lock of compaction.
    ///
    /// # Errors
    /// If there is no space, which changes nothing; any other error is for good.
    pub(super) fn fold(&self) -> Result<(), BackendError> {
        let folded = self.try_fold();
        let full = folded.as_ref().err().is_some_and(BackendError::is_full);
        self.signals.update(|signals| {
            signals.fold = false;
            signals.full = full;
        });
        if let Err(error) = &folded {
            if full {
                Counters::add(&self.counters.full_folds, 1);
                tracing::warn!(%error, "no space to compact the journals: appends are refused until there is");
            } else {
                self.fail(error);
            }
        }
        folded
    }

    fn try_fold(&self) -> Result<(), BackendError> {
        let waited = self.generations.read().frozen.is_some();
        self.fold_frozen()?;
        if waited {
            self.fold_frozen()?;
        }
        Ok(())
    }

    fn fold_frozen(&self) -> Result<(), BackendError> {
        let Some(frozen) = self.freeze() else {
            return Ok(());
        };
        let began = Instant::now();
        let ids = frozen.overlay.ids();
        let mut out = SegmentsOut::new(self);
        let written = self
            .write_extents(&frozen.overlay, &ids, &mut out)
            .and_then(|()| out.finish());
        let mut segments = written?;
        segments.show(self);
        let meta = self
            .change_catalog(&frozen, &ids, &segments)
            .inspect_err(|error| segments.discard_unless_known(self, error))?;
        let folded_bytes = segments.rows.iter().map(|row| row.bytes).sum();
        let journals = {
            let mut generations = self.generations.write();
            let mut files = self.files.write();
            generations.frozen = None;
            generations.meta = meta;
            generations.version += 1;
            ids.iter().for_each(|id| self.runs.forget(*id));
            let kept = files.journals.split_off(&frozen.folded.journal);
            std::mem::replace(&mut files.journals, kept)
        };
        for (number, map) in journals {
            self.spares.give_back(self, number, map)?;
        }
        Counters::add(&self.counters.folds, 1);
        Counters::add(&self.counters.folded_bytes, folded_bytes);
        Counters::add_time(&self.counters.fold_micros, began.elapsed());
        tracing::debug!(streams = ids.len(), folded_bytes, took = ?began.elapsed(), "folded the journals");
        Ok(())
    }

    fn write_extents(
        &self,
        overlay: &Overlay,
        ids: &[StreamId],
        out: &mut SegmentsOut<'_>,
    ) -> Result<(), BackendError> {
        let mut journals = Journals {
            maps: self.files.read().journals.clone(),
            fetched: HashSet::default(),
            layout: &self.layout,
        };
        let mut group = Vec::with_capacity(GROUP_LEN);
        for ids in ids.chunks(GROUP_LEN) {
            overlay.call_for(ids);
            for id in ids {
                for extent in overlay.with(*id, kept_extents).unwrap_or_default() {
                    group.push((*id, extent));
                    if group.len() == GROUP_LEN {
                        copy_group(&mut journals, &group, out)?;
                        group.clear();
                    }
                }
            }
        }
        copy_group(&mut journals, &group, out)
    }

    fn change_catalog(
        &self,
        frozen: &Frozen,
        ids: &[StreamId],
        segments: &Segments,
    ) -> Result<Meta, BackendError> {
        let mut change = self.catalog.change()?;
        let mut losses = Losses::default();
        let mut stored_from = StoredFrom::default();
        for ids in ids.chunks(WRITTEN_TOGETHER) {
            frozen.overlay.call_for(ids);
            change.write(|tables| {
                ids.iter().try_for_each(|id| {
                    let folded = frozen.overlay.with(*id, |delta| {
                        stored_from.extend(delta.stored_from.map(|from| (*id, from)));
                        fold_delta(tables, *id, delta, self.era, &mut losses)
                    });
                    folded.expect("it is one of the overlay's")
                })
            })?;
        }
        for runs in segments.runs.chunks(WRITTEN_TOGETHER) {
            change.write(|tables| {
                runs.iter()
                    .try_for_each(|(segment, run)| tables.put_run(*segment, run))
            })?;
        }
        // Appends are copied whole.
        for (segment, run) in &segments.runs {
            if let Some(stored_from) = stored_from.get(&run.stream) {
                *losses.entry(*segment).or_default() += run.dead_bytes(*stored_from);
            }
        }
        let before = self.generations.read().meta.clone();
        let meta = Meta {
            folded: frozen.folded,
            next_batch: frozen.next_batch,
            last_id: self.last_id.load(Ordering::Relaxed),
            next_segment: self.next_segment.load(Ordering::Relaxed),
            streams: before.streams.saturating_add_signed(frozen.overlay.streams()),
            payload_bytes: before
                .payload_bytes
                .saturating_add_signed(frozen.overlay.stored_bytes()),
            ..before
        };
        change.write(|tables| {
            segments.rows.iter().try_for_each(|row| tables.put_segment(row))?;
            take_losses(tables, &losses)?;
            tables.put_meta(&meta)
        })?;
        change.commit()?;
        Ok(meta)
    }
}

/// The journals that a fold reads.
struct Journals<'a> {
    maps: BTreeMap<u64, Arc<dyn Map>>,
    /// Pieces that were fetched, by journal and number.
    fetched: HashSet<(u64, u64), RandomState>,
    layout: &'a Layout,
}

impl Journals<'_> {
    fn map(&self, number: u64) -> Result<&Arc<dyn Map>, BackendError> {
        self.maps.get(&number).ok_or_else(|| BackendError::Damaged {
            what: format!("journal {number} is not open though it is not folded"),
        })
    }

    /// Reads from the disk what is to be looked at: a map would answer a disk's error with a signal.
    fn fetch(&mut self, extent: &JournalExtent) -> Result<(), BackendError> {
        let map = Arc::clone(self.map(extent.journal)?);
        for range in [extent.meta(), extent.payload(extent.from, extent.until())] {
            for piece in range.start / FETCH_BYTES..range.end.div_ceil(FETCH_BYTES) {
                if self.fetched.insert((extent.journal, piece)) {
                    let at = piece * FETCH_BYTES;
                    let path = self.layout.journal(extent.journal);
                    map.populate(at..map.len().min(at + FETCH_BYTES))
                        .map_err(io_error("reading", &path))?;
                }
            }
        }
        Ok(())
    }
}

/// Copies appends in their order. They are scattered over the journals, so each would wait for memory by itself; called for one right
/// after the other, they come together.
fn copy_group(
    journals: &mut Journals<'_>,
    group: &[(StreamId, JournalExtent)],
    out: &mut SegmentsOut<'_>,
) -> Result<(), BackendError> {
    for (_, extent) in group {
        journals.fetch(extent)?;
    }
    for (_, extent) in group {
        call_for(journals.map(extent.journal)?.as_ref(), extent);
    }
    for (id, extent) in group {
        copy_append(journals.map(extent.journal)?, *id, extent, out)?;
    }
    Ok(())
}

/// Looks at a byte of each line of an append, and does nothing with it: so nothing waits for it.
fn call_for(map: &dyn Map, extent: &JournalExtent) {
    let called_for = extent.from + u64::from(extent.payload_len).min(CALLED_FOR_BYTES_MAX);
    let mut seen = 0;
    for range in [extent.meta(), extent.payload(extent.from, called_for)] {
        map.look(range, &mut |bytes| {
            seen ^= bytes.iter().step_by(LINE_BYTES).fold(0, |seen, byte| seen ^ byte);
        });
    }
    std::hint::black_box(seen);
}

/// The appends whose bytes are still wanted.
fn kept_extents(delta: &Delta) -> Vec<JournalExtent> {
    if delta.released {
        return Vec::new();
    }
    let stored_from = delta.stored_from.map_or(0, Position::get);
    let first = delta
        .extents
        .partition_point(|extent| extent.until() <= stored_from);
    delta.extents[first..].to_vec()
}

/// Copies an append, once its checksum is right, behind the one before it.
fn copy_append(
    map: &Arc<dyn Map>,
    id: StreamId,
    extent: &JournalExtent,
    out: &mut SegmentsOut<'_>,
) -> Result<(), BackendError> {
    let damaged = |error: crate::codec::Malformed| BackendError::Damaged {
        what: format!(
            "journal {} at byte {}: {error}; run `tailwater verify`",
            extent.journal, extent.meta_at
        ),
    };
    let mut copied = Ok(());
    map.look(extent.meta(), &mut |entry| {
        map.look(extent.payload(extent.from, extent.until()), &mut |payload| {
            copied = (|| {
                journal::check_entry(entry, payload).map_err(damaged)?;
                let meta = journal::append_meta(entry).map_err(damaged)?;
                let head = AppendHead {
                    at: meta.at,
                    first_message: meta.first_message,
                    ends: &meta.ends,
                };
                out.append(id, meta.start, head, payload)
            })();
        });
    });
    copied
}

fn fold_delta(
    tables: &mut CatalogTables<'_>,
    id: StreamId,
    delta: &Delta,
    era: u64,
    losses: &mut Losses,
) -> Result<(), Failure> {
    if delta.released {
        if let Some((name, _)) = delta.named() {
            // An older stream that had the name before it does not get it back.
            tables.streams.remove_name(name, id)?;
        }
        let row = tables.streams.remove_stream(id)?;
        if row.as_ref().is_some_and(StreamRow::keeps_trimmed_bytes) {
            tables.mark_trimmed(id, false)?;
        }
        lose(
            losses,
            tables.lose_runs(id, stored_from(row.as_ref()), Position::LAST)?,
        );
        return Ok(());
    }
    let mut row = tables.streams.head(id)?;
    let stored_before = stored_from(row.as_ref());
    let kept_trimmed_bytes = row.as_ref().is_some_and(StreamRow::keeps_trimmed_bytes);
    let needs_name = row.as_ref().is_none_or(|row| row.staged);
    delta.apply_to(&mut row, era);
    let Some(row) = row else { return Ok(()) };
    if let (true, Some((name, source))) = (needs_name, delta.named()) {
        tables.streams.put_name(name, id)?;
        if let Some(source) = source {
            tables.streams.put_fork(source.id, id)?;
        }
    }
    tables.streams.put_row(&row, deadline(&row.state))?;
    let keeps_trimmed_bytes = row.keeps_trimmed_bytes();
    if keeps_trimmed_bytes || kept_trimmed_bytes {
        tables.mark_trimmed(id, keeps_trimmed_bytes)?;
    }
    tables.streams.put_producers(id, delta.producers())?;
    if row.state.deleted {
        tables.streams.mark_deleted(id)?;
    } else if delta.is_imported() {
        tables.streams.unmark_deleted(id)?;
    }
    for (key, value) in &delta.controls {
        tables.streams.put_control(id, key, value.as_deref())?;
    }
    if delta.stored_from.is_some() {
        lose(losses, tables.lose_runs(id, stored_before, row.stored_from)?);
    }
    Ok(())
}

fn stored_from(row: Option<&StreamRow>) -> Position {
    row.map_or(Position::ZERO, |row| row.stored_from)
}

fn lose(losses: &mut Losses, lost: Vec<(u64, u64)>) {
    for (segment, bytes) in lost {
        *losses.entry(segment).or_default() += bytes;
    }
}

/// Counts bytes that segments have lost.
fn take_losses(tables: &mut CatalogTables<'_>, losses: &Losses) -> Result<(), Failure> {
    if losses.is_empty() {
        return Ok(());
    }
    for mut row in tables.all_segments()? {
        if let Some(lost) = losses.get(&row.number) {
            row.live_bytes = row.live_bytes.saturating_sub(*lost);
            tables.put_segment(&row)?;
        }
    }
    Ok(())
}
