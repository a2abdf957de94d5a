//! Writes the outcome of a compaction into as many segments as it takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tailwater_stream::{Position, StreamId};

use super::catalog::SegmentRow;
use super::segment::{AppendHead, Run, Segment, SegmentWriter};
use super::store::{Store, io_error};
use crate::backend::BackendError;

/// After so many bytes the writing pauses, so that commits keep their latency.
const PACE_BYTES: u64 = 2 << 20;
/// After so many bytes others may have the core. Each time costs a turn of all who want it: with 32 KiB a fold took three
/// times as long as it took to fill the journals again.
const YIELD_BYTES: u64 = 256 << 10;

/// A run whose index has grown to this ends, for the index is kept in memory until then.
const INDEX_BYTES_MAX: u64 = 8 << 20;

/// New segments in the making. What is not finished is removed.
pub(super) struct SegmentsOut<'a> {
    store: &'a Store,
    /// Of the segment that is being written.
    number: u64,
    writer: Option<SegmentWriter>,
    /// The stream whose run is being written, and where it goes on.
    run: Option<(StreamId, Position)>,
    paced_at: u64,
    yielded_at: u64,
    used_since: Instant,
    done: Segments,
}

/// Finished segments that the catalog does not know yet.
#[derive(Default)]
pub(super) struct Segments {
    pub(super) rows: Vec<SegmentRow>,
    pub(super) runs: Vec<(u64, Run)>,
    opened: Vec<Segment>,
}

impl Segments {
    /// Lets them be read from. To be called before the catalog names them, for others look at it at any time.
    pub(super) fn show(&mut self, store: &Store) {
        let mut files = store.files.write();
        for segment in self.opened.drain(..) {
            files.segments.insert(segment.number(), Arc::new(segment));
        }
    }

    /// Removes them after a change of the catalog failed, unless it may have become durable.
    pub(super) fn discard_unless_known(&self, store: &Store, error: &BackendError) {
        if error.is_full() {
            let mut files = store.files.write();
            for row in &self.rows {
                files.segments.remove(&row.number);
            }
            drop(files);
            self.discard(store);
        }
    }

    fn discard(&self, store: &Store) {
        for row in &self.rows {
            let _ = store.disk.remove(&store.layout.segment(row.number));
        }
    }
}

impl<'a> SegmentsOut<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self {
            store,
            number: 0,
            writer: None,
            run: None,
            paced_at: 0,
            yielded_at: 0,
            used_since: Instant::now(),
            done: Segments::default(),
        }
    }

    /// Adds an append. Those of one stream come in order of position, streams in order of id.
    pub(super) fn append(
        &mut self,
        stream: StreamId,
        start: Position,
        head: AppendHead<'_>,
        payload: &[u8],
    ) -> Result<(), BackendError> {
        let segment_bytes_max = self.store.options.segment_bytes_max;
        let is_full = self.writer.as_ref().is_some_and(|writer| {
            writer.len() > 0 && writer.len() + payload.len() as u64 > segment_bytes_max
        });
        if is_full {
            self.finish_segment()?;
        }
        let index_is_long = self
            .writer
            .as_ref()
            .is_some_and(|writer| writer.index_bytes() > INDEX_BYTES_MAX);
        if self.run != Some((stream, start)) || index_is_long {
            self.end_run()?;
            self.writer()?.begin_run(stream, start);
        }
        let appended = self.writer()?.append(head, payload);
        appended.map_err(|error| io_error("writing", &self.path())(error))?;
        let end = start.advance(payload.len() as u64).expect("within the stream");
        self.run = Some((stream, end));
        self.pace()
    }

    fn path(&self) -> std::path::PathBuf {
        self.store.layout.segment(self.number)
    }

    fn writer(&mut self) -> Result<&mut SegmentWriter, BackendError> {
        if self.writer.is_none() {
            self.number = self.store.next_segment.fetch_add(1, Ordering::Relaxed);
            let path = self.path();
            let disk = self.store.disk.as_ref();
            let writer = SegmentWriter::create(disk, &path, self.number, self.store.id);
            self.writer = Some(writer.map_err(io_error("making", &path))?);
        }
        Ok(self.writer.as_mut().expect("just made"))
    }

    /// Writes back what has gathered and lets commits pass, so that a sync of theirs does not wait for all of it.
    fn pace(&mut self) -> Result<(), BackendError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if writer.len() >= self.yielded_at + YIELD_BYTES {
            self.yielded_at = writer.len();
            std::thread::yield_now();
        }
        if writer.len() < self.paced_at + PACE_BYTES {
            return Ok(());
        }
        self.paced_at = writer.len();
        let synced = writer.sync_written();
        synced.map_err(|error| io_error("syncing", &self.path())(error))?;
        self.store.yield_to_commits(&mut self.used_since);
        Ok(())
    }

    fn end_run(&mut self) -> Result<(), BackendError> {
        self.run = None;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let run = writer.end_run();
        let run = run.map_err(|error| io_error("writing", &self.path())(error))?;
        let number = self.number;
        self.done.runs.extend(run.map(|run| (number, run)));
        Ok(())
    }

    fn finish_segment(&mut self) -> Result<(), BackendError> {
        self.end_run()?;
        let path = self.path();
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let summary = writer.finish().map_err(|error| {
            let _ = self.store.disk.remove(&path);
            io_error("finishing", &path)(error)
        })?;
        self.done.rows.push(SegmentRow {
            number: summary.number,
            bytes: summary.bytes,
            payload_bytes: summary.payload_bytes,
            live_bytes: summary.payload_bytes,
        });
        let disk = self.store.disk.as_ref();
        self.done
            .opened
            .push(Segment::open(disk, &path, summary.number, self.store.id)?);
        (self.paced_at, self.yielded_at) = (0, 0);
        Ok(())
    }

    /// Makes all of it durable, its names included.
    pub(super) fn finish(mut self) -> Result<Segments, BackendError> {
        self.finish_segment()?;
        let dir = self.store.layout.segments_dir();
        if !self.done.rows.is_empty() {
            self.store
                .disk
                .sync_dir(&dir)
                .map_err(io_error("syncing", &dir))?;
        }
        Ok(std::mem::take(&mut self.done))
    }
}

impl Drop for SegmentsOut<'_> {
    fn drop(&mut self) {
        self.done.discard(self.store);
        if self.writer.take().is_some() {
            let _ = self.store.disk.remove(&self.path());
        }
    }
}
