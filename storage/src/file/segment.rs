//! Sealed files in which the bytes of each stream stand together, sorted by stream, with their index beside them.
//! Knows nothing of journals, nor of which runs are still wanted.
//!
//! A file is a header, *runs*, a footer that lists the runs, and a trailer. A [`Run`] is one stream's bytes of
//! contiguous positions: its payload, then the index of its appends in blocks, then a table of the blocks. It is
//! written once, by a [`SegmentWriter`], and afterwards only read, through a [`Segment`].
//!
//! Beside its payload a run of one append takes about 105 bytes of the file: 48 in the table, 48 in the footer, and
//! eight or nine of index. Each further append takes three bytes or four, one that is like the one before it takes
//! none, and each message of several in an append takes one or two.

mod format;
mod reader;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tailwater_stream::{Position, StreamId};

use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::{Disk, Map};
use format::{BLOCK_ROW_BYTES, HEADER_BYTES, Refusal, TRAILER_BYTES, Trailer};

pub(super) use verify::SegmentReport;
pub(super) use writer::{AppendHead, SegmentWriter};

/// One stream's bytes of contiguous positions within a segment. Copied into the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Whose bytes they are.
    pub(super) stream: StreamId,
    /// The position of the first byte.
    pub(super) from: Position,
    /// The position behind the last byte.
    pub(super) until: Position,
    /// Where the first byte stands in the file. The blocks of the index follow the last one.
    pub(super) payload_at: u64,
    /// Where the table of the blocks stands in the file, right behind the last block's index.
    pub(super) table_at: u64,
    /// Rows of the table.
    pub(super) blocks: u32,
    /// CRC-32 of the table.
    pub(super) table_crc: u32,
}

impl Run {
    /// How many bytes of payload it has.
    fn payload_bytes(&self) -> u64 {
        self.until.since(self.from)
    }

    /// How many of its bytes nobody wants any more, once its stream keeps only those from a position on.
    pub(super) fn dead_bytes(&self, stored_from: Position) -> u64 {
        // It may come from a row of the catalog that makes no sense.
        let end = stored_from.get().min(self.until.get());
        end.saturating_sub(self.from.get())
    }

    /// Whether all its parts lie between the header and the footer, in their order. What else is asked of a run
    /// relies on it: no sum overflows then.
    fn fits(&self, footer_at: u64) -> bool {
        let payload_end = self.payload_at.checked_add(self.payload_bytes());
        let table_end = self
            .table_at
            .checked_add(u64::from(self.blocks) * BLOCK_ROW_BYTES);
        self.from < self.until
            && self.blocks > 0
            && self.payload_at >= HEADER_BYTES
            && payload_end.is_some_and(|end| end <= self.table_at)
            && table_end.is_some_and(|end| end <= footer_at)
    }

    /// Where its payload stands in the file.
    fn payload(&self) -> Range<u64> {
        self.payload_at..self.payload_at + self.payload_bytes()
    }

    /// Where the blocks of its index stand in the file.
    fn index(&self) -> Range<u64> {
        self.payload().end..self.table_at
    }

    /// Where its table stands in the file.
    fn table(&self) -> Range<u64> {
        self.table_at..self.table_at + u64::from(self.blocks) * BLOCK_ROW_BYTES
    }
}

/// An open sealed segment. Cheap: it holds a map of the file, and no more of it on the heap than its trailer.
pub(super) struct Segment {
    path: Box<Path>,
    number: u64,
    store: StoreId,
    trailer: Trailer,
    map: Arc<dyn Map>,
}

impl Segment {
    /// Opens a finished segment, and checks header and trailer. What stands between them is checked when it is
    /// used, or all at once by [`Self::survey`].
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if it is no segment, not this one or not all of it; [`BackendError::Newer`] if a
    /// later version has written it; [`BackendError::Io`] if the disk cannot read it.
    pub(super) fn open(
        disk: &dyn Disk,
        path: &Path,
        number: u64,
        store: StoreId,
    ) -> Result<Self, BackendError> {
        let unreadable = |error| unreadable(path, error);
        let file = disk.open_sealed(path).map_err(unreadable)?;
        let len = file.len().map_err(unreadable)?;
        if len < HEADER_BYTES + TRAILER_BYTES {
            return Err(refused(path, len, Refusal::Unfinished));
        }
        // A map would answer a disk's error with a signal.
        let mut header = [0; HEADER_BYTES as usize];
        file.read_at(0, &mut header).map_err(unreadable)?;
        format::check_header(&header, number, store).map_err(|refusal| refused(path, 0, refusal))?;
        let trailer_at = len - TRAILER_BYTES;
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.read_at(trailer_at, &mut trailer).map_err(unreadable)?;
        let trailer = Trailer::read(&trailer, trailer_at, number)
            .map_err(|refusal| refused(path, trailer_at, refusal))?;
        Ok(Self {
            path: path.into(),
            number,
            store,
            trailer,
            map: file.map_sealed(len).map_err(unreadable)?,
        })
    }

    /// The whole file.
    pub(super) fn map(&self) -> &Arc<dyn Map> {
        &self.map
    }

    /// Bytes of payload, as its trailer says.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.trailer.payload_bytes
    }

    /// How many runs it has, as its trailer says.
    pub(super) fn run_count(&self) -> u64 {
        self.trailer.runs
    }

    /// The segment's number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Shows some bytes of the file, which must lie within it.
    fn look<T>(&self, range: Range<u64>, look: impl FnOnce(&[u8]) -> T) -> T {
        let mut look = Some(look);
        let mut seen = None;
        self.map.look(range, &mut |bytes| {
            seen = look.take().map(|look| look(bytes));
        });
        seen.expect("a map shows what it is asked for, once")
    }

    /// Reads some bytes from the disk, so that looking at them does not have to.
    fn fetch(&self, range: Range<u64>) -> Result<(), BackendError> {
        self.map
            .populate(range)
            .map_err(|error| unreadable(&self.path, error))
    }

    /// What is wrong if the catalog knows a run of it otherwise.
    pub(super) fn unlike_the_catalog(&self, run: &Run) -> BackendError {
        self.run_damaged(
            run,
            self.trailer.footer_at,
            "the catalog says otherwise where it is",
        )
    }

    /// What is wrong at a byte of the file.
    fn damaged(&self, at: u64, reason: impl fmt::Display) -> BackendError {
        damaged(&self.path, at, reason)
    }

    /// What is wrong with a run, at a byte of the file.
    fn run_damaged(&self, run: &Run, at: u64, reason: impl fmt::Display) -> BackendError {
        let Run {
            stream, from, until, ..
        } = run;
        self.damaged(
            at,
            format_args!("stream {stream}, positions {from} to {until}: {reason}"),
        )
    }
}

fn damaged(path: &Path, at: u64, reason: impl fmt::Display) -> BackendError {
    BackendError::Damaged {
        what: format!(
            "{} at byte {at}: {reason}; run `tailwater verify`",
            path.display()
        ),
    }
}

fn refused(path: &Path, at: u64, refusal: Refusal) -> BackendError {
    if !refusal.is_newer() {
        return damaged(path, at, refusal);
    }
    BackendError::Newer {
        what: format!("{}: {refusal}", path.display()),
    }
}

fn unreadable(path: &Path, error: io::Error) -> BackendError {
    BackendError::Io {
        what: format!("reading {}", path.display()),
        source: Arc::new(error),
    }
}
