//! Merges segments: small ones into larger ones, so that a stream stands in few pieces, and those with much dead
//! space into smaller ones, so that space comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::Position;

use super::catalog::{CatalogView, Meta, SegmentRow};
use super::segment::{Run, Segment};
use super::segments_out::{Segments, SegmentsOut};
use super::store::{Counters, Store, io_error, is_full};
use crate::backend::BackendError;

/// So many segments of one size class are merged into one of the next.
const CLASS_SEGMENTS: usize = 4;
/// A segment is rewritten once so many percent of its bytes are dead.
const DEAD_PERCENT: u64 = 50;

/// What the catalog and a new segment's index take beside the bytes that are rewritten.
const REWRITE_OVERHEAD_BYTES: u64 = 512 << 10;

/// A run that the catalog knows, and the segment that holds it.
struct Live {
    segment: Arc<Segment>,
    run: Run,
    /// Bytes before this are not wanted any more; may be the run's end.
    from: Position,
}

impl Store {
    /// Merges what is worth it, one group after the other. Folds go on meanwhile.
    ///
    /// # Errors
    /// Any error is for good. Without space it only ends early.
    pub(super) fn merge(&self) -> Result<(), BackendError> {
        let _merging = self.merging.lock();
        while let Some(group) = self.next_group()? {
            let merged = self.merge_group(&group);
            match merged {
                Ok(()) => {}
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "no space to merge segments; it is tried again later");
                    return Ok(());
                }
                Err(error) => {
                    self.fail(&error);
                    return Err(error);
                }
            }
            if self.signals.now().stopping {
                break;
            }
        }
        Ok(())
    }

    /// The segments to merge next, if any are worth it and there is space for what comes out.
    fn next_group(&self) -> Result<Option<Vec<SegmentRow>>, BackendError> {
        let rows = self.catalog.view()?.segments()?;
        let dir = self.layout.segments_dir();
        let free = self
            .disk
            .free_bytes(&dir)
            .map_err(io_error("asking for the free space of", &dir))?;
        // What is folded meanwhile is copied before its journals go, unless there is no space for that anyway.
        let is_full = self.signals.now().full;
        let folding = if is_full { 0 } else { self.journal_bytes() };
        let room = free.saturating_sub(folding + REWRITE_OVERHEAD_BYTES);
        Ok(choose(&rows, self.options.segment_bytes_max, room))
    }

    /// What rewriting any segment of which half is dead takes, before that segment goes and gives back more. It is kept
    /// free of journals: otherwise nothing that is deleted from a full disk would ever make room.
    pub(super) fn rewriting_bytes(&self) -> Result<u64, BackendError> {
        let rows = self.catalog.view()?.segments()?;
        let greatest = rows.iter().map(|row| row.bytes).max().unwrap_or(0);
        Ok(greatest * (100 - DEAD_PERCENT) / 100 + REWRITE_OVERHEAD_BYTES)
    }

    fn merge_group(&self, group: &[SegmentRow]) -> Result<(), BackendError> {
        let live = self.live_runs(&self.catalog.view()?, group)?;
        let mut out = SegmentsOut::new(self);
        for live in live.iter().filter(|live| live.from < live.run.until) {
            live.segment
                .copy_run(&live.run, live.from, &mut |start, head, payload| {
                    out.append(live.run.stream, start, head, payload)
                })?;
        }
        let mut segments = out.finish()?;
        let merged_bytes = segments.rows.iter().map(|row| row.bytes).sum();
        {
            // Only now: a fold that waited for all of this would hold up commits.
            let _compacting = self.compaction.lock();
            let meta = self
                .switch(group, &live, &mut segments)
                .inspect_err(|error| segments.discard_unless_known(self, error))?;
            let mut generations = self.generations.write();
            let mut files = self.files.write();
            generations.meta = meta;
            generations.version += 1;
            live.iter().for_each(|live| self.runs.forget(live.run.stream));
            for row in group {
                files.segments.remove(&row.number);
            }
            let opened = segments.opened.into_iter();
            files
                .segments
                .extend(opened.map(|segment| (segment.number(), Arc::new(segment))));
        }
        for row in group {
            // Those who read from it hold its map, and with it the file.
            let path = self.layout.segment(row.number);
            self.disk.remove(&path).map_err(io_error("removing", &path))?;
        }
        Counters::add(&self.counters.merges, 1);
        Counters::add(&self.counters.merged_bytes, merged_bytes);
        tracing::debug!(segments = group.len(), merged_bytes, "merged segments");
        Ok(())
    }

    /// What is still read of these segments, by stream and position.
    fn live_runs(&self, view: &CatalogView, group: &[SegmentRow]) -> Result<Vec<Live>, BackendError> {
        let mut all = Vec::new();
        for row in group {
            let found = self.files.read().segments.get(&row.number).map(Arc::clone);
            let segment = found.ok_or_else(|| BackendError::Damaged {
                what: format!("segment {} is not open though the catalog names it", row.number),
            })?;
            all.extend(segment.runs()?.into_iter().map(|run| (Arc::clone(&segment), run)));
        }
        all.sort_by_key(|(_, run)| (run.stream, run.from));
        let mut live = Vec::new();
        for of_stream in all.chunk_by(|(_, a), (_, b)| a.stream == b.stream) {
            let stream = of_stream[0].1.stream;
            let stored_from = view.head(stream)?.map_or(Position::LAST, |row| row.stored_from);
            let known = view.runs(stream)?;
            let wanted = of_stream
                .iter()
                .filter(|(segment, run)| known.contains(&(segment.number(), *run)));
            live.extend(wanted.map(|(segment, run)| Live {
                segment: Arc::clone(segment),
                run: *run,
                from: run.from.max(stored_from).min(run.until),
            }));
        }
        Ok(live)
    }

    /// Puts the new runs in the place of the old ones, but for those that have died meanwhile.
    fn switch(
        &self,
        group: &[SegmentRow],
        live: &[Live],
        segments: &mut Segments,
    ) -> Result<Meta, BackendError> {
        let mut change = self.catalog.change()?;
        for live in live {
            change.remove_run(live.segment.number(), &live.run)?;
        }
        let mut dead = HashMap::<u64, u64, RandomState>::default();
        for (segment, run) in &segments.runs {
            let row = change.head(run.stream)?;
            if row.is_some_and(|row| row.stored_from < run.until) {
                change.put_run(*segment, run)?;
            } else {
                *dead.entry(*segment).or_default() += run.until.since(run.from);
            }
        }
        for row in group {
            change.remove_segment(row.number)?;
        }
        for row in &mut segments.rows {
            row.live_bytes -= dead.get(&row.number).copied().unwrap_or(0);
            change.put_segment(row)?;
        }
        let meta = Meta {
            next_segment: self.next_segment.load(Ordering::Relaxed),
            ..self.generations.read().meta.clone()
        };
        change.put_meta(&meta)?;
        change.commit()?;
        Ok(meta)
    }
}

/// Which segments to merge: those that are dead, then those of which much is dead, then those of one size of which
/// there are many. What comes out fits the room.
fn choose(rows: &[SegmentRow], segment_bytes_max: u64, room: u64) -> Option<Vec<SegmentRow>> {
    let dead: Vec<_> = rows.iter().filter(|row| row.live_bytes == 0).cloned().collect();
    if !dead.is_empty() {
        return Some(dead);
    }
    let is_sparse = |row: &&SegmentRow| {
        row.live_bytes.saturating_mul(100) <= row.payload_bytes.saturating_mul(100 - DEAD_PERCENT)
    };
    let mut sparse: Vec<_> = rows.iter().filter(is_sparse).cloned().collect();
    // Those that take the least room first: they make room for the others.
    sparse.sort_by_key(|row| row.live_bytes);
    let mut bytes = 0;
    sparse.retain(|row| {
        bytes += row.live_bytes;
        bytes <= room && (bytes <= segment_bytes_max || bytes == row.live_bytes)
    });
    if !sparse.is_empty() {
        return Some(sparse);
    }
    (0..=class_of(segment_bytes_max / 2)).find_map(|class| {
        let of_class = rows
            .iter()
            .filter(|row| class_of(row.bytes) == class && row.bytes < segment_bytes_max / 2);
        let of_class: Vec<_> = of_class.cloned().collect();
        let bytes: u64 = of_class.iter().map(|row| row.bytes).sum();
        // What comes out may have to be rewritten in turn.
        (of_class.len() >= CLASS_SEGMENTS && bytes + bytes / 2 <= room).then_some(of_class)
    })
}

/// Sizes within a factor of four are one class.
fn class_of(bytes: u64) -> u32 {
    bytes.max(1).ilog2() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64, bytes: u64, live_bytes: u64) -> SegmentRow {
        SegmentRow {
            number,
            bytes,
            payload_bytes: bytes,
            live_bytes,
        }
    }

    fn chosen(rows: &[SegmentRow]) -> Vec<u64> {
        let group = choose(rows, 1 << 20, u64::MAX).unwrap_or_default();
        group.iter().map(|row| row.number).collect()
    }

    #[test]
    fn segments_without_live_bytes_go_first() {
        let rows = [
            row(1, 1000, 1000),
            row(2, 1000, 0),
            row(3, 1000, 400),
            row(4, 9, 0),
        ];
        assert_eq!(chosen(&rows), [2, 4]);
    }

    #[test]
    fn a_segment_that_is_half_dead_is_rewritten() {
        assert_eq!(chosen(&[row(1, 1000, 501), row(2, 1000, 500)]), [2]);
        assert_eq!(chosen(&[row(1, 1000, 501), row(2, 1000, 501)]), [0; 0]);
    }

    #[test]
    fn what_is_rewritten_at_once_is_bounded() {
        let half = 1 << 19;
        let rows = [
            row(1, half * 4, half),
            row(2, half * 4, half),
            row(3, half * 4, half),
        ];
        assert_eq!(chosen(&rows), [1, 2]);
    }

    #[test]
    fn four_of_a_size_are_merged_and_large_ones_never_for_their_number() {
        let rows: Vec<_> = (1..=3).map(|number| row(number, 5000, 5000)).collect();
        assert_eq!(chosen(&rows), [0; 0]);
        let rows: Vec<_> = (1..=4)
            .map(|number| row(number, 4096 + number, 4096 + number))
            .collect();
        assert_eq!(chosen(&rows), [1, 2, 3, 4]);
        let rows: Vec<_> = (1..=9).map(|number| row(number, 1 << 19, 1 << 19)).collect();
        assert_eq!(chosen(&rows), [0; 0]);
    }
    #[test]
    fn what_is_merged_fits_the_room_and_the_smallest_part_goes_first() {
        let rows = [row(1, 4000, 2000), row(2, 4000, 500), row(3, 4000, 1000)];
        let chosen = |rows: &[SegmentRow], room| {
            let group = choose(rows, 1 << 20, room).unwrap_or_default();
            group.iter().map(|row| row.number).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&rows, 3500), [2, 3, 1]);
        assert_eq!(chosen(&rows, 1500), [2, 3]);
        assert_eq!(chosen(&rows, 499), [0; 0]);
        let whole: Vec<_> = (1..=4).map(|number| row(number, 5000, 5000)).collect();
        assert_eq!(chosen(&whole, 30_000), [1, 2, 3, 4]);
        assert_eq!(chosen(&whole, 29_999), [0; 0]);
    }
}
