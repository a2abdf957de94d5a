//! Writes a segment, from the front to the back.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tailwater_stream::{MessageEnds, Position, StreamId, Timestamp};

use super::Run;
use super::format::{self, BLOCK_ROW_BYTES, BlockRow, Trailer};
use crate::block_index::IndexWriter;
use crate::directory::StoreId;
use crate::disk::{Disk, DiskFile};

/// What is written at once: more would keep the core in the kernel for as long as a commit takes. A longer payload is written as it is, without a copy.
const BUFFER_BYTES: usize = 128 << 10;
/// A block ends once it has so many bytes of payload,
pub(super) const BLOCK_PAYLOAD_BYTES: u64 = 256 << 10;
/// or so many appends.
pub(super) const BLOCK_APPENDS: u32 = 4096;

/// What the index keeps of an append, beside where it starts and ends.
#[derive(Debug, Clone, Copy)]
pub(in crate::file) struct AppendHead<'a> {
    /// When it was accepted.
    pub(in crate::file) at: Timestamp,
    /// The index of its first message in the stream.
    pub(in crate::file) first_message: u64,
    /// Where its messages end.
    pub(in crate::file) ends: &'a MessageEnds,
}

/// What a finished segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::file) struct SegmentSummary {
    /// The segment's number.
    pub(in crate::file) number: u64,
    /// Length of the file.
    pub(in crate::file) bytes: u64,
    /// Bytes of all payloads.
    pub(in crate::file) payload_bytes: u64,
    /// How many runs there are.
    pub(in crate::file) runs: u64,
}

/// A segment in the making. After an error it is good for nothing but to be dropped and its file removed.
pub(in crate::file) struct SegmentWriter {
    file: Arc<dyn DiskFile>,
    number: u64,
    /// What follows the bytes that are written.
    buffer: Vec<u8>,
    written: u64,
    /// Always <= `written`.
    synced: u64,
    payload_bytes: u64,
    runs: Vec<Run>,
    open: Option<OpenRun>,
}

/// The run that is being written: its payload is in the file, its index is gathered here.
struct OpenRun {
    stream: StreamId,
    from: Position,
    until: Position,
    payload_at: u64,
    /// The index of the next append's first message; none before the first one.
    next_message: Option<u64>,
    index: IndexWriter,
    /// The blocks that have ended. Their indices are placed from 0, for the payload that they follow still grows.
    blocks: Vec<BlockRow>,
    block: OpenBlock,
}

/// The last block of the run.
#[derive(Default)]
struct OpenBlock {
    bytes: u64,
    appends: u32,
    first_message: u64,
    payload_crc: crc32fast::Hasher,
}

impl SegmentWriter {
    /// Makes the file.
    ///
    /// # Errors
    /// As the disk says, also if there is such a file.
    pub(in crate::file) fn create(
        disk: &dyn Disk,
        path: &Path,
        number: u64,
        store: StoreId,
    ) -> io::Result<Self> {
        let file = disk.create(path)?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        format::put_header(&mut buffer, number, store);
        Ok(Self {
            file,
            number,
            buffer,
            written: 0,
            synced: 0,
            payload_bytes: 0,
            runs: Vec::new(),
            open: None,
        })
    }

    /// Begins a run. The one before must have ended.
    pub(in crate::file) fn begin_run(&mut self, stream: StreamId, from: Position) {
        assert!(self.open.is_none(), "a run begins within another");
        self.open = Some(OpenRun {
            stream,
            from,
            until: from,
            payload_at: self.place(),
            next_message: None,
            index: IndexWriter::default(),
            blocks: Vec::new(),
            block: OpenBlock::default(),
        });
    }

    /// Adds the append that follows the one before. One without bytes leaves no trace.
    ///
    /// # Errors
    /// As the disk says; [`io::ErrorKind::InvalidInput`] for what no stream has: messages that are not counted on
    /// from those before, do not end where the payload ends, or lie behind the last position, or an append or
    /// an index of 4 GiB.
    pub(in crate::file) fn append(&mut self, head: AppendHead<'_>, payload: &[u8]) -> io::Result<()> {
        let run = self.open.as_mut().expect("a run has begun");
        if payload.is_empty() {
            return Ok(());
        }
        run.append(head, payload)?;
        self.payload_bytes += payload.len() as u64;
        self.put(payload)
    }

    /// Ends the run. None if nothing was appended.
    ///
    /// # Errors
    /// As the disk says.
    pub(in crate::file) fn end_run(&mut self) -> io::Result<Option<Run>> {
        let Some(mut open) = self.open.take() else {
            return Ok(None);
        };
        open.end_block()?;
        if open.blocks.is_empty() {
            return Ok(None);
        }
        let index_at = self.place();
        let index = open.index.bytes();
        self.put(index)?;
        let mut table = Vec::with_capacity(open.blocks.len() * BLOCK_ROW_BYTES as usize);
        let mut from = open.from.get();
        for block in &open.blocks {
            let start = block.index_at as usize;
            let row = BlockRow {
                index_at: index_at + block.index_at,
                ..*block
            };
            row.put(
                &mut table,
                open.stream,
                from,
                &index[start..start + block.index_len as usize],
            );
            from = block.until;
        }
        let run = Run {
            stream: open.stream,
            from: open.from,
            until: open.until,
            payload_at: open.payload_at,
            table_at: self.place(),
            blocks: u32::try_from(open.blocks.len()).expect("the table is in memory"),
            table_crc: crc32fast::hash(&table),
        };
        self.put(&table)?;
        self.runs.push(run);
        Ok(Some(run))
    }

    /// Bytes so far, with what the index of the open run takes; without the footer.
    pub(in crate::file) fn len(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| {
            open.index.bytes().len() as u64 + (open.blocks.len() as u64 + 1) * BLOCK_ROW_BYTES
        });
        self.place() + open
    }

    /// Memory that the index of the open run takes. It is written only when the run ends.
    pub(in crate::file) fn index_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| {
            (open.index.bytes().len() + open.blocks.len() * size_of::<BlockRow>()) as u64
        })
    }

    /// Makes durable what was written since the last call, so that the final sync is no burst. What is still
    /// gathered in the buffer is left there.
    ///
    /// # Errors
    /// As the disk says.
    pub(in crate::file) fn sync_written(&mut self) -> io::Result<()> {
        if self.synced < self.written {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Seals the segment and makes it durable, but for its name in the directory. The last run must have ended.
    ///
    /// # Errors
    /// As the disk says; [`io::ErrorKind::InvalidInput`] if two runs hold the same bytes of a stream.
    pub(in crate::file) fn finish(mut self) -> io::Result<SegmentSummary> {
        assert!(self.open.is_none(), "the last run has not ended");
        self.runs.sort_unstable_by_key(|run| (run.stream, run.from));
        let overlap = |pair: &[Run]| pair[0].stream == pair[1].stream && pair[0].until > pair[1].from;
        if self.runs.windows(2).any(overlap) {
            return Err(invalid("two runs hold the same bytes of a stream"));
        }
        let mut footer = Vec::new();
        self.runs.iter().for_each(|run| run.put(&mut footer));
        let trailer = Trailer {
            footer_at: self.place(),
            runs: self.runs.len() as u64,
            payload_bytes: self.payload_bytes,
            footer_crc: crc32fast::hash(&footer),
        };
        trailer.put(&mut footer, self.number);
        self.put(&footer)?;
        self.flush()?;
        self.file.sync()?;
        Ok(SegmentSummary {
            number: self.number,
            bytes: self.written,
            payload_bytes: self.payload_bytes,
            runs: trailer.runs,
        })
    }

    /// Where the next byte will stand.
    fn place(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.file.write_at(self.written, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl OpenRun {
    fn append(&mut self, head: AppendHead<'_>, payload: &[u8]) -> io::Result<()> {
        let Ok(bytes) = u32::try_from(payload.len()) else {
            return Err(invalid("an append of 4 GiB"));
        };
        let last_end = match head.ends {
            MessageEnds::One => Some(bytes),
            MessageEnds::Many(ends) => ends.last().copied(),
        };
        if last_end != Some(bytes) {
            return Err(invalid("messages do not end where their append ends"));
        }
        if self.next_message.is_some_and(|next| next != head.first_message) {
            return Err(invalid("messages are not counted on"));
        }
        let messages = head.ends.count(payload.len());
        let next_message = head.first_message.checked_add(messages);
        let until = self.until.advance(u64::from(bytes));
        let (Some(next_message), Some(until)) = (next_message, until) else {
            return Err(invalid("an append behind the last position"));
        };
        (self.next_message, self.until) = (Some(next_message), until);
        let block = &mut self.block;
        if block.appends == 0 {
            block.first_message = head.first_message;
        }
        block.payload_crc.update(payload);
        block.bytes += u64::from(bytes);
        block.appends += 1;
        self.index.push(bytes, head.at, head.ends);
        if self.block.bytes >= BLOCK_PAYLOAD_BYTES || self.block.appends >= BLOCK_APPENDS {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        if block.appends == 0 {
            return Ok(());
        }
        self.index.end_block();
        let index_end = self.index.bytes().len() as u64;
        let index_at = self
            .blocks
            .last()
            .map_or(0, |last| last.index_at + u64::from(last.index_len));
        let Ok(index_len) = u32::try_from(index_end - index_at) else {
            return Err(invalid(
                "an append of so many messages that their ends take 4 GiB",
            ));
        };
        self.blocks.push(BlockRow {
            until: self.until.get(),
            index_at,
            index_len,
            appends: block.appends,
            first_message: block.first_message,
            payload_crc: block.payload_crc.finalize(),
        });
        Ok(())
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
