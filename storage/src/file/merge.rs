//! Merges segments: small ones into larger ones, so that a stream stands in few pieces, and those with much dead
//! space into smaller ones, so that space comes back.
//!
//! A segment that cannot be read stops nothing: it is left as it is, and with it all that can still be read of it.

mod choice;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::Position;

use super::catalog::{CatalogView, Meta, SegmentRow, WRITTEN_TOGETHER};
use super::segment::{Run, Segment};
use super::segments_out::{Segments, SegmentsOut};
use super::store::{Counters, Store, io_error};
use crate::backend::BackendError;
use choice::{Candidate, DEAD_PERCENT, Limits, choose, is_sparse};

/// What the catalog and a new segment's index take beside the bytes that are rewritten.
const REWRITE_OVERHEAD_BYTES: u64 = 512 << 10;

/// What a run takes of memory while it is merged: in the lists of what is read and of what is written, and in the
/// footer of the new segment.
const RUN_MEMORY_BYTES: u64 = 256;

/// What merges remember of segments as long as the store is open.
#[derive(Default)]
pub(super) struct Merging {
    /// Those that could not be read, and what was wanted of the run that could not; none if it was all of them.
    unreadable: HashMap<u64, Option<Wanted>, RandomState>,
    /// Those that came out of a merge with few live bytes, and how many those were.
    sparse: HashMap<u64, u64, RandomState>,
}

/// A run of which bytes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    run: Run,
    /// Bytes before this are not wanted any more. Before the run's end.
    from: Position,
}

/// What stands in a segment that is to be merged.
struct Live {
    segment: Arc<Segment>,
    wanted: Wanted,
}

/// Why a group was not merged.
enum Hindrance {
    /// A segment of it cannot be read: at a run, or at all.
    Unreadable {
        segment: u64,
        at: Option<Wanted>,
        error: BackendError,
    },
    /// The catalog or what is written.
    Store(BackendError),
}

impl From<BackendError> for Hindrance {
    fn from(error: BackendError) -> Self {
        Self::Store(error)
    }
}

impl Store {
    /// Merges what is worth it, one group after the other. Folds go on meanwhile.
    ///
    /// # Errors
    /// Any error is for good. Without space it only ends early, and what cannot be read is passed over.
    pub(super) fn merge(&self) -> Result<(), BackendError> {
        let mut merging = self.merging.lock();
        match self.merge_groups(&mut merging) {
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "no space to merge segments; it is tried again later");
                Ok(())
            }
            merged => merged.inspect_err(|error| self.fail(error)),
        }
    }

    fn merge_groups(&self, merging: &mut Merging) -> Result<(), BackendError> {
        while let Some(group) = self.next_group(merging)? {
            match self.merge_group(&group) {
                Ok(made) => merging.note(&group, &made),
                Err(Hindrance::Unreadable { segment, at, error }) => {
                    tracing::error!(%error, segment, "a segment cannot be read, and is left as it is");
                    Counters::add(&self.counters.unreadable_segments, 1);
                    merging.unreadable.insert(segment, at);
                }
                Err(Hindrance::Store(error)) => return Err(error),
            }
            if self.signals.now().stopping {
                break;
            }
        }
        Ok(())
    }

    /// The segments to merge next, if any are worth it and there is space for what comes out.
    fn next_group(&self, merging: &Merging) -> Result<Option<Vec<SegmentRow>>, BackendError> {
        let view = self.catalog.view()?;
        let mut candidates = Vec::new();
        for row in view.segments()? {
            // Nothing is read of one that is dead.
            if row.live_bytes == 0 || merging.may_be_readable(&view, row.number)? {
                candidates.push(Candidate {
                    runs: self.segment(row.number)?.run_count(),
                    live_at_first: merging.sparse.get(&row.number).copied(),
                    row,
                });
            }
        }
        let dir = self.layout.segments_dir();
        let free = self
            .disk
            .free_bytes(&dir)
            .map_err(io_error("asking for the free space of", &dir))?;
        // What is folded meanwhile is copied before its journals go, unless there is no space for that anyway.
        let is_full = self.signals.now().full;
        let folding = if is_full { 0 } else { self.journal_bytes() };
        let limits = Limits {
            segment_bytes_max: self.options.segment_bytes_max,
            runs_max: self.options.index_bytes_max / RUN_MEMORY_BYTES,
            room: free.saturating_sub(folding + REWRITE_OVERHEAD_BYTES),
        };
        Ok(choose(&candidates, limits))
    }

    /// What rewriting any segment of which half is dead takes, before that segment goes and gives back more. It is kept
    /// free of journals: otherwise nothing that is deleted from a full disk would ever make room.
    pub(super) fn rewriting_bytes(&self) -> Result<u64, BackendError> {
        let rows = self.catalog.view()?.segments()?;
        let greatest = rows.iter().map(|row| row.bytes).max().unwrap_or(0);
        Ok(greatest * (100 - DEAD_PERCENT) / 100 + REWRITE_OVERHEAD_BYTES)
    }

    fn segment(&self, number: u64) -> Result<Arc<Segment>, BackendError> {
        let found = self.files.read().segments.get(&number).map(Arc::clone);
        found.ok_or_else(|| BackendError::Damaged {
            what: format!("segment {number} is not open though the catalog names it"),
        })
    }

    /// Answers the segments that came out of it.
    fn merge_group(&self, group: &[SegmentRow]) -> Result<Vec<SegmentRow>, Hindrance> {
        let began = Instant::now();
        let live = self.live_runs(&self.catalog.view()?, group)?;
        let mut out = SegmentsOut::new(self);
        for live in &live {
            live.copy_to(&mut out)?;
        }
        let mut segments = out.finish()?;
        segments.show(self);
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
            live.iter()
                .for_each(|live| self.runs.forget(live.wanted.run.stream));
            for row in group {
                files.segments.remove(&row.number);
            }
        }
        for row in group {
            // Those who read from it hold its map, and with it the file.
            let path = self.layout.segment(row.number);
            self.disk.remove(&path).map_err(io_error("removing", &path))?;
        }
        Counters::add(&self.counters.merges, 1);
        Counters::add(&self.counters.merged_bytes, merged_bytes);
        Counters::add_time(&self.counters.merge_micros, began.elapsed());
        tracing::debug!(segments = group.len(), merged_bytes, "merged segments");
        Ok(segments.rows)
    }

    /// What is still read of these segments, by stream and position.
    fn live_runs(&self, view: &CatalogView, group: &[SegmentRow]) -> Result<Vec<Live>, Hindrance> {
        let mut live = Vec::new();
        for row in group {
            let segment = self.segment(row.number)?;
            let unreadable = |error| Hindrance::Unreadable {
                segment: row.number,
                at: None,
                error,
            };
            let runs = match segment.runs() {
                // Nothing of it is wanted, and that it cannot be read does not matter.
                Err(_) if row.live_bytes == 0 => continue,
                runs => runs.map_err(unreadable)?,
            };
            let mut kept = None;
            for run in runs {
                let stored_from = match kept {
                    Some((stream, stored_from)) if stream == run.stream => stored_from,
                    _ => stored_from(view, &run)?,
                };
                kept = Some((run.stream, stored_from));
                if stored_from >= run.until {
                    continue;
                }
                match view.knows_run(row.number, &run)? {
                    Some(_) if row.live_bytes == 0 => return Err(miscounted(row.number).into()),
                    Some(true) => live.push(Live {
                        segment: Arc::clone(&segment),
                        wanted: Wanted {
                            run,
                            from: run.from.max(stored_from),
                        },
                    }),
                    None => {}
                    Some(false) => return Err(unreadable(segment.unlike_the_catalog(&run))),
                }
            }
        }
        live.sort_unstable_by_key(|live| (live.wanted.run.stream, live.wanted.run.from));
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
        for live in live.chunks(WRITTEN_TOGETHER) {
            change.write(|tables| {
                live.iter()
                    .try_for_each(|live| tables.remove_run(live.segment.number(), &live.wanted.run))
            })?;
        }
        let mut dead = HashMap::<u64, u64, RandomState>::default();
        for runs in segments.runs.chunks(WRITTEN_TOGETHER) {
            change.write(|tables| {
                for (segment, run) in runs {
                    let row = tables.streams.head(run.stream)?;
                    let stored_from = row.map_or(Position::LAST, |row| row.stored_from);
                    if stored_from < run.until {
                        tables.put_run(*segment, run)?;
                    }
                    *dead.entry(*segment).or_default() += run.dead_bytes(stored_from);
                }
                Ok(())
            })?;
        }
        for row in &mut segments.rows {
            row.live_bytes -= dead.get(&row.number).copied().unwrap_or(0);
        }
        let meta = Meta {
            next_segment: self.next_segment.load(Ordering::Relaxed),
            ..self.generations.read().meta.clone()
        };
        change.write(|tables| {
            group
                .iter()
                .try_for_each(|row| tables.remove_segment(row.number))?;
            segments.rows.iter().try_for_each(|row| tables.put_segment(row))?;
            tables.put_meta(&meta)
        })?;
        change.commit()?;
        Ok(meta)
    }
}

/// From where on a run's stream keeps its bytes; behind all of them if there is no such stream any more.
fn stored_from(view: &CatalogView, run: &Run) -> Result<Position, BackendError> {
    let row = view.head(run.stream)?;
    Ok(row.map_or(Position::LAST, |row| row.stored_from))
}

fn miscounted(number: u64) -> BackendError {
    BackendError::Damaged {
        what: format!("the catalog counts no live bytes in segment {number}, and has some there"),
    }
}

impl Live {
    fn copy_to(&self, out: &mut SegmentsOut<'_>) -> Result<(), Hindrance> {
        let Wanted { run, from } = self.wanted;
        let mut not_written = None;
        let copied = self.segment.copy_run(&run, from, &mut |start, head, payload| {
            let appended = out.append(run.stream, start, head, payload);
            appended.inspect_err(|error| not_written = Some(error.clone()))
        });
        match (copied, not_written) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(error)) => Err(Hindrance::Store(error)),
            (Err(error), None) => Err(Hindrance::Unreadable {
                segment: self.segment.number(),
                at: Some(self.wanted),
                error,
            }),
        }
    }
}

impl Merging {
    fn note(&mut self, merged: &[SegmentRow], made: &[SegmentRow]) {
        for row in merged {
            self.sparse.remove(&row.number);
            self.unreadable.remove(&row.number);
        }
        let sparse = made.iter().filter(|row| is_sparse(row));
        self.sparse.extend(sparse.map(|row| (row.number, row.live_bytes)));
    }

    /// Whether nothing is known that hinders the reading of a segment: not any more, once half of what was wanted of
    /// the run that could not be read is not wanted any more. It is not tried for every trim.
    fn may_be_readable(&self, view: &CatalogView, number: u64) -> Result<bool, BackendError> {
        match self.unreadable.get(&number) {
            None => Ok(true),
            Some(None) => Ok(false),
            Some(Some(Wanted { run, from })) => {
                if view.knows_run(number, run)?.is_none() {
                    return Ok(true);
                }
                let died = run.dead_bytes(stored_from(view, run)?) - run.dead_bytes(*from);
                Ok(died > 0 && 2 * died >= run.until.since(*from))
            }
        }
    }
}
