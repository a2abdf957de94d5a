//! A block: appends of one stream that follow each other.
//!
//! What it says is, in this order: how many appends there are and the number of the first message (varints), their
//! index ([`block_index`](crate::block_index)) as bytes, and their length (varint). Up to [`INLINE_BYTES_MAX`] the
//! bytes themselves follow. Longer ones stand in pieces of [`PIECE_BYTES`], so that whoever reads a part of a long append
//! reads no more than that.
//!
//! A block is a row. But while the last one of a stream is short, it stands in the stream's own row, and later appends
//! are added to it: a commit writes that row anyway, and so no other pages for a short append.

use bytes::Bytes;
use smallvec::SmallVec;
use tailwater_stream::{Append, Position, StreamId};

use crate::block_index::{Bounds, Groups, IndexWriter};
use crate::codec::{Decoder, Encode as _, Malformed};
use crate::database::Failure;
use crate::database::row;
use crate::stream_tables::StreamRow;
use crate::stream_tables::keys::{id_key, numbers};

/// Bytes of a block that stand in its own row, at the most: with its index, it fits in a page of 64 KiB.
pub(super) const INLINE_BYTES_MAX: usize = 56 << 10;
/// The length of each piece but the last. redb's pages are powers of two, and it has some to say beside the piece.
pub(super) const PIECE_BYTES: usize = 63 << 10;
/// What a block in its stream's row says, in bytes, at the most: a commit writes all of it again.
const LAST_BLOCK_BYTES_MAX: usize = 1 << 10;
/// Appends in one block at the most, so that its index stays short.
const APPENDS_MAX: u32 = 4096;

/// A block that is being put together.
pub(super) struct BlockWriter {
    pub(super) from: Position,
    until: Position,
    first_message: u64,
    appends: u32,
    index: IndexWriter,
    payloads: SmallVec<[Bytes; 1]>,
    payload_bytes: usize,
}

/// A block that is written.
pub(super) struct Block<'a> {
    bounds: Bounds,
    index: &'a [u8],
    /// None if the bytes stand in pieces.
    pub(super) inline: Option<&'a [u8]>,
}

impl BlockWriter {
    /// A block that begins with an append, which has at least one byte.
    pub(super) fn begin(append: &Append) -> Self {
        let mut block = Self {
            from: append.start,
            until: append.start,
            first_message: append.first_message,
            appends: 0,
            index: IndexWriter::default(),
            payloads: SmallVec::new(),
            payload_bytes: 0,
        };
        block.push(append);
        block
    }

    /// Goes on with the block in a stream's row, if there is one, and takes it out of there.
    pub(super) fn resume(row: &mut StreamRow) -> Result<Option<Self>, Failure> {
        let Some(last) = Block::last(row)? else {
            return Ok(None);
        };
        let (bounds, bytes) = (last.bounds, last.inline.unwrap_or_default());
        let index = IndexWriter::resume(last.groups()).map_err(|why| malformed_last(row.state.id, &why))?;
        let block = Self {
            from: Position::new(bounds.from).expect("before the tail"),
            until: row.state.tail,
            first_message: bounds.first_message,
            appends: bounds.appends,
            index,
            payloads: SmallVec::from_iter([Bytes::copy_from_slice(bytes)]),
            payload_bytes: bytes.len(),
        };
        row.last_block.clear();
        Ok(Some(block))
    }

    /// Whether an append fits in that follows.
    pub(super) fn fits(&self, append: &Append) -> bool {
        self.appends < APPENDS_MAX && self.payload_bytes + append.payload.len() <= INLINE_BYTES_MAX
    }

    pub(super) fn push(&mut self, append: &Append) {
        debug_assert_eq!(append.start, self.until, "appends follow each other");
        let bytes = u32::try_from(append.payload.len()).expect("a request's body is below 4 GiB");
        self.index.push(bytes, append.at, &append.ends);
        self.appends += 1;
        self.payload_bytes += append.payload.len();
        self.payloads.push(append.payload.clone());
        self.until = append.end();
    }

    /// What its row says.
    pub(super) fn value(&mut self) -> Vec<u8> {
        row::value(|out| self.put(out))
    }

    /// What the stream's row says of it; none if it is too long for that.
    pub(super) fn last(&mut self) -> Option<Vec<u8>> {
        if self.payload_bytes > LAST_BLOCK_BYTES_MAX {
            return None;
        }
        let mut last = Vec::with_capacity(LAST_BLOCK_BYTES_MAX);
        self.put(&mut last);
        (last.len() <= LAST_BLOCK_BYTES_MAX).then_some(last)
    }

    fn put(&mut self, out: &mut Vec<u8>) {
        self.index.end_block();
        out.put_varint(u64::from(self.appends));
        out.put_varint(self.first_message);
        out.put_bytes(self.index.bytes());
        out.put_varint(self.payload_bytes as u64);
        if self.payload_bytes <= INLINE_BYTES_MAX {
            self.payloads.iter().for_each(|payload| out.put_slice(payload));
        }
    }

    /// What does not stand in its row, with where each piece begins.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let long = self
            .payloads
            .first()
            .filter(|_| self.payload_bytes > INLINE_BYTES_MAX);
        let from = self.from.get();
        long.into_iter().flat_map(move |payload| {
            let pieces = payload.chunks(PIECE_BYTES).enumerate();
            pieces.map(move |(number, piece)| (from + (number * PIECE_BYTES) as u64, piece))
        })
    }
}

impl<'a> Block<'a> {
    /// Reads the row of a block.
    pub(super) fn read(key: &[u8; 16], value: &'a [u8]) -> Result<Self, Failure> {
        let (_, from) = stream_and_start(key)?;
        let mut said = row::said("blocks", key, value)?;
        let block = Self::take(&mut said, |_| Some(from));
        block.map_err(|why| Failure::of_row("blocks", key, &why))
    }

    /// The block that stands in a stream's row, if there is one. It ends at the stream's tail.
    pub(super) fn last(row: &'a StreamRow) -> Result<Option<Self>, Failure> {
        if row.last_block.is_empty() {
            return Ok(None);
        }
        let mut said = Decoder::new(&row.last_block);
        let block = Self::take(&mut said, |bytes| row.state.tail.get().checked_sub(bytes));
        let block = block.and_then(|block| {
            let what = "a last block with its bytes elsewhere";
            block.inline.ok_or(Malformed { what }).map(|_| block)
        });
        block.map(Some).map_err(|why| malformed_last(row.state.id, &why))
    }

    fn take(said: &mut Decoder<'a>, begins: impl FnOnce(u64) -> Option<u64>) -> Result<Self, Malformed> {
        let what = "a block";
        let appends = u32::try_from(said.varint(what)?).map_err(|_too_many| Malformed { what })?;
        let first_message = said.varint(what)?;
        let index = said.bytes(what)?;
        let bytes = said.varint(what)?;
        let is_inline = bytes <= INLINE_BYTES_MAX as u64;
        let inline = is_inline.then(|| said.rest());
        let fits = match inline {
            Some(inline) => inline.len() as u64 == bytes && bytes > 0,
            None => said.rest().is_empty(),
        };
        let bounds = begins(bytes).filter(|_| fits);
        let bounds = bounds.and_then(|from| Some((from, from.checked_add(bytes)?)));
        let (from, until) = bounds.ok_or(Malformed { what })?;
        Ok(Self {
            bounds: Bounds {
                from,
                until,
                appends,
                first_message,
            },
            index,
            inline,
        })
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Its appends, group by group.
    pub(super) fn groups(&self) -> Groups<'a> {
        Groups::new(self.bounds, self.index)
    }
}

fn malformed_last(stream: StreamId, why: &Malformed) -> Failure {
    Failure::of_row("streams", &id_key(stream), why)
}

/// What a key of `blocks` or `pieces` says.
pub(super) fn stream_and_start(key: &[u8; 16]) -> Result<(StreamId, u64), Failure> {
    let found = numbers::<2>(key).and_then(|[stream, start]| Some((StreamId::new(stream)?, start)));
    let what = "a block's key";
    found.ok_or_else(|| Failure::of_row("blocks", key, &Malformed { what }))
}
