//! Reads bytes of one stream from the blocks of a snapshot.

use bytes::{Bytes, BytesMut};
use redb::ReadableTable;
use smallvec::SmallVec;
use tailwater_stream::{AppendExtent, Position, StreamId};

use super::block::{Block, INLINE_BYTES_MAX, PIECE_BYTES, stream_and_start};
use super::tables::{BLOCKS, PIECES};
use crate::backend::{ReadRequest, Slices};
use crate::block_index::{first_message_end, last_message_end};
use crate::codec::Malformed;
use crate::database::{Failure, Tables};
use crate::stream_tables::keys::pair_key;
use crate::stream_tables::queries;

/// What becomes of a question about bytes; none if they are not there any more.
type Found<T> = Result<Option<T>, Failure>;

/// Bytes from `request.from` to the end of the last message that ends within what is wanted, or else to the end of the
/// first message; in any case at most to `request.until`.
pub(super) fn bytes(tables: &impl Tables, request: &ReadRequest) -> Found<Slices> {
    let (from, until) = (request.from.get(), request.until.get());
    let wanted = from.saturating_add(request.bytes_max.max(1));
    let mut gathered = BytesMut::new();
    let mut at = from;
    let found = each_block(tables, request.stream, from, |block| {
        let bounds = block.bounds();
        if bounds.from > at {
            return Err(gap(request.stream, at, bounds.from));
        }
        let whole = bounds.until.min(until);
        let end = if whole <= wanted {
            whole
        } else {
            let malformed =
                |why: Malformed| Failure::Damaged(format!("a block of stream {}: {why}", request.stream));
            // What is wanted ends within the block, for the one before ended before that.
            let last = last_message_end(block.groups(), wanted).map_err(malformed)?;
            if last > at {
                last
            } else if gathered.is_empty() {
                first_message_end(block.groups(), at)
                    .map_err(malformed)?
                    .min(until)
            } else {
                return Ok(false);
            }
        };
        copy(tables, request.stream, block, at, end, &mut gathered)?;
        at = end;
        Ok(end == bounds.until && end < until.min(wanted))
    })?;
    if !found {
        return Ok(None);
    }
    let end = Position::new(at).ok_or_else(|| gap(request.stream, at, at))?;
    let pieces: SmallVec<[Bytes; 2]> = SmallVec::from_iter([gathered.freeze()]);
    Ok(Some(Slices { pieces, end }))
}

/// The appends that have bytes between `request.from` and `request.until`, in order, as many as begin within what is
/// wanted and at least one, the last cut off at `request.until`.
pub(super) fn extents(tables: &impl Tables, request: &ReadRequest) -> Found<Vec<AppendExtent>> {
    let (from, until) = (request.from.get(), request.until.get());
    let begins_before = from.saturating_add(request.bytes_max.max(1)).min(until);
    let mut extents = Vec::new();
    let mut at = from;
    let found = each_block(tables, request.stream, from, |block| {
        let bounds = block.bounds();
        if bounds.from > at {
            return Err(gap(request.stream, at, bounds.from));
        }
        let malformed =
            |why: Malformed| Failure::Damaged(format!("a block of stream {}: {why}", request.stream));
        let mut groups = block.groups();
        while let Some(group) = groups.next().map_err(malformed)? {
            let first = group.ended_at(from);
            if first == group.count {
                continue;
            }
            let ends = group.ends().map_err(malformed)?;
            for append in (first..group.count).map(|number| group.append(number)) {
                if append.start >= begins_before {
                    return Ok(false);
                }
                let place = |at: u64| Position::new(at).ok_or_else(|| gap(request.stream, at, at));
                extents.push(AppendExtent {
                    start: place(append.start)?,
                    end: place(append.end.min(until))?,
                    at: append.at,
                    first_message: append.first_message,
                    ends: ends.clone(),
                });
            }
        }
        at = bounds.until;
        Ok(at < begins_before)
    })?;
    Ok(found.then_some(extents))
}

/// Shows blocks of a stream in order, from the one that holds `from` on, until `look` has seen enough. Answers whether
/// there is one that holds it.
fn each_block<T: Tables>(
    tables: &T,
    stream: StreamId,
    from: u64,
    mut look: impl FnMut(&Block<'_>) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let row = queries::head(tables, stream)?;
    // A part of the first block may be gone.
    let Some(row) = row.filter(|row| row.stored_from.get() <= from) else {
        return Ok(false);
    };
    let last = Block::last(&row)?;
    let Some(last) = last else {
        return Ok(each_row(tables, stream, from, &mut look)? != Seen::Nothing);
    };
    let bounds = last.bounds();
    if bounds.from > from {
        match each_row(tables, stream, from, &mut look)? {
            Seen::Nothing => return Ok(false),
            Seen::Enough => return Ok(true),
            Seen::All => {}
        }
    } else if bounds.until <= from {
        return Ok(false);
    }
    look(&last)?;
    Ok(true)
}

/// What was seen of a stream's blocks.
#[derive(PartialEq, Eq)]
enum Seen {
    Nothing,
    Enough,
    All,
}

/// As [`each_block`], of the blocks that are rows.
fn each_row<T: Tables>(
    tables: &T,
    stream: StreamId,
    from: u64,
    look: &mut impl FnMut(&Block<'_>) -> Result<bool, Failure>,
) -> Result<Seen, Failure> {
    let blocks = tables.table(BLOCKS)?;
    let (first, here) = (pair_key(stream.get(), 0), pair_key(stream.get(), from));
    let begin = {
        let mut before = blocks.range::<&[u8; 16]>(&first..=&here)?;
        match before.next_back().transpose()? {
            Some((key, _)) => *key.value(),
            None => return Ok(Seen::Nothing),
        }
    };
    let last = pair_key(stream.get(), u64::MAX);
    for entry in blocks.range::<&[u8; 16]>(&begin..=&last)? {
        let (key, value) = entry?;
        let block = Block::read(key.value(), value.value())?;
        if block.bounds().until <= from {
            // The block before has ended; what follows it is not there.
            return Ok(Seen::Nothing);
        }
        if !look(&block)? {
            return Ok(Seen::Enough);
        }
    }
    Ok(Seen::All)
}

/// Adds bytes between two positions that stand in the pieces of a block.
fn copy_pieces(
    tables: &impl Tables,
    stream: StreamId,
    block: u64,
    (from, end): (u64, u64),
    to: &mut BytesMut,
) -> Result<(), Failure> {
    let into_piece = (from - block) % PIECE_BYTES as u64;
    let (mut at, first) = (from, from - into_piece);
    let range = pair_key(stream.get(), first)..pair_key(stream.get(), end);
    let pieces = tables.table(PIECES)?;
    for entry in pieces.range::<&[u8; 16]>(&range.start..&range.end)? {
        let (key, piece) = entry?;
        let (_, start) = stream_and_start(key.value())?;
        let piece = piece.value();
        let skipped = usize::try_from(at - start.min(at)).unwrap_or(usize::MAX);
        let wanted = usize::try_from(end - start)
            .unwrap_or(usize::MAX)
            .min(piece.len());
        let part = piece.get(skipped..wanted).filter(|_| start <= at);
        let part = part.ok_or_else(|| gap(stream, at, end))?;
        to.extend_from_slice(part);
        at += part.len() as u64;
    }
    if at == end {
        Ok(())
    } else {
        Err(gap(stream, at, end))
    }
}

/// Adds bytes of a block between two positions.
fn copy(
    tables: &impl Tables,
    stream: StreamId,
    block: &Block<'_>,
    from: u64,
    end: u64,
    to: &mut BytesMut,
) -> Result<(), Failure> {
    let start = block.bounds().from;
    match block.inline {
        Some(inline) => {
            debug_assert!(inline.len() <= INLINE_BYTES_MAX);
            to.extend_from_slice(&inline[(from - start) as usize..(end - start) as usize]);
            Ok(())
        }
        None => copy_pieces(tables, stream, start, (from, end), to),
    }
}

/// Nothing is ever given in place of bytes that are missing.
fn gap(stream: StreamId, from: u64, until: u64) -> Failure {
    Failure::Damaged(format!("stream {stream} lacks the bytes from {from} to {until}"))
}
