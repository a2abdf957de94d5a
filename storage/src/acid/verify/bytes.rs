//! Asks whether a stream's own bytes are all there: blocks that follow each other, whose indices can be read, and the
//! pieces of those that are long.

use redb::{ReadableTable, TableDefinition};
use tailwater_stream::StreamId;

use crate::acid::block::{Block, PIECE_BYTES, stream_and_start};
use crate::acid::tables::{BLOCKS, PIECES};
use crate::block_index::count_messages;
use crate::database::Failure;
use crate::stream_tables::audit::{Auditor, Coverage};
use crate::stream_tables::keys::{self, Key, pair_key};
use crate::stream_tables::rows::StreamRow;

/// How much there is.
#[derive(Default)]
pub(super) struct Bytes {
    pub(super) blocks: u64,
    pub(super) appends: u64,
    pub(super) messages: u64,
}

/// What was seen of a stream's blocks, which are looked at in order.
struct Seen<'r, I: Iterator> {
    row: &'r StreamRow,
    coverage: Coverage,
    pieces: Pieces<I>,
    /// The number of the message behind the last block.
    next_message: Option<u64>,
    /// Whether all of them could be read.
    is_whole: bool,
}

/// Where a piece begins, and how long it is.
type ReadPiece = Result<(u64, u64), Failure>;

/// The pieces of a stream that are there, against those that its blocks have.
struct Pieces<I: Iterator> {
    rest: std::iter::Peekable<I>,
    wrong: Vec<String>,
}

impl Bytes {
    /// Checks all that a stream has stored itself.
    pub(super) fn check_stream(&mut self, auditor: &mut Auditor<'_>, row: &StreamRow) -> Result<(), Failure> {
        let id = row.state.id;
        let (first, last) = (pair_key(id.get(), 0), pair_key(id.get(), u64::MAX));
        let rows = auditor.transaction.open_table(BLOCKS)?;
        let pieces = auditor.transaction.open_table(PIECES)?;
        let mut seen = Seen {
            row,
            coverage: Coverage::of(row, "block"),
            pieces: pieces_of(id, &pieces)?,
            next_message: None,
            is_whole: true,
        };
        for entry in rows.range::<&[u8; 16]>(&first..=&last)? {
            let (key, value) = entry?;
            let block = Block::read(key.value(), value.value());
            self.check_block(auditor, &mut seen, "blocks", block)?;
        }
        if let Some(last) = Block::last(row).transpose() {
            self.check_block(auditor, &mut seen, "streams", last)?;
        }
        seen.end(auditor)
    }

    /// Checks the next block of a stream, as it was read from a table.
    fn check_block<I: Iterator<Item = ReadPiece>>(
        &mut self,
        auditor: &mut Auditor<'_>,
        seen: &mut Seen<'_, I>,
        table: &'static str,
        block: Result<Block<'_>, Failure>,
    ) -> Result<(), Failure> {
        let state = &seen.row.state;
        self.blocks += 1;
        let read = block.and_then(|block| {
            let messages = count_messages(block.groups());
            let key = pair_key(state.id.get(), block.bounds().from);
            let messages = messages.map_err(|why| Failure::of_row(table, &key, &why))?;
            Ok((block, messages))
        });
        let Some((block, messages)) = auditor.row(table, read) else {
            seen.is_whole = false;
            return Ok(());
        };
        let bounds = block.bounds();
        self.appends += u64::from(bounds.appends);
        self.messages += messages;
        seen.coverage.show(bounds.from, bounds.until);
        if let Some(next) = seen.next_message
            && next != bounds.first_message
            && seen.is_whole
        {
            let what = format!(
                "stream {}: the block at {} begins with message {}, and the one before ends with {next}",
                state.id, bounds.from, bounds.first_message
            );
            auditor.wrong(table, &what);
        }
        seen.next_message = bounds.first_message.checked_add(messages);
        // What lies behind the tail is told of for itself, and may be absurdly much.
        if block.inline.is_none() && bounds.until <= state.tail.get() {
            seen.pieces.expect(bounds.from, bounds.until)?;
        }
        Ok(())
    }

    /// Looks for blocks and pieces of streams that are not there.
    pub(super) fn check_owners(auditor: &mut Auditor<'_>) {
        auditor.pass("blocks", |auditor| check_owners_in(auditor, "blocks", BLOCKS));
        auditor.pass("pieces", |auditor| check_owners_in(auditor, "pieces", PIECES));
    }
}

impl<I: Iterator<Item = ReadPiece>> Seen<'_, I> {
    /// Tells what is wrong, once all blocks were seen.
    fn end(mut self, auditor: &mut Auditor<'_>) -> Result<(), Failure> {
        let state = &self.row.state;
        let id = state.id;
        self.pieces.end()?;
        // What stands in a block that cannot be read is not known, and so neither what is missing beside it.
        if !self.is_whole {
            return Ok(());
        }
        if let Some(what) = self.coverage.gap() {
            auditor.wrong("blocks", &format!("stream {id}: {what}"));
        }
        // Messages of one that is staged are known once it is imported.
        if let Some(next) = self.next_message
            && next != state.messages
            && !self.row.staged
        {
            let messages = state.messages;
            let what = format!("stream {id}: its blocks end with message {next}, and it has {messages}");
            auditor.wrong("blocks", &what);
        }
        for what in self.pieces.wrong {
            auditor.wrong("pieces", &format!("stream {id}: {what}"));
        }
        Ok(())
    }
}

/// Looks at one row of each stream that has some, for all of them may be much.
fn check_owners_in(
    auditor: &mut Auditor<'_>,
    called: &str,
    table: TableDefinition<'_, Key<16>, keys::Bytes>,
) -> Result<(), Failure> {
    let table = auditor.transaction.open_table(table)?;
    let mut from = [0; 16];
    while let Some(entry) = table.range::<&[u8; 16]>(&from..)?.next() {
        let key = *entry?.0.value();
        auditor.check_owner(called, &key)?;
        let [owner, _] = keys::numbers(&key).expect("two numbers");
        let Some(next) = owner.checked_add(1) else { break };
        from = pair_key(next, 0);
    }
    Ok(())
}

fn pieces_of<'t>(
    stream: StreamId,
    table: &'t impl ReadableTable<Key<16>, keys::Bytes>,
) -> Result<Pieces<impl Iterator<Item = ReadPiece> + 't>, Failure> {
    let (first, last) = (pair_key(stream.get(), 0), pair_key(stream.get(), u64::MAX));
    let pieces = table.range::<&[u8; 16]>(&first..=&last)?.map(|entry| {
        let (key, value) = entry?;
        let (_, start) = stream_and_start(key.value())?;
        Ok((start, value.value().len() as u64))
    });
    Ok(Pieces {
        rest: pieces.peekable(),
        wrong: Vec::new(),
    })
}

impl<I: Iterator<Item = ReadPiece>> Pieces<I> {
    /// Expects the pieces of a long block, behind those that were expected before.
    fn expect(&mut self, from: u64, until: u64) -> Result<(), Failure> {
        for start in (from..until).step_by(PIECE_BYTES) {
            let bytes = (until - start).min(PIECE_BYTES as u64);
            self.pass_over(|at| at < start)?;
            let found = self
                .rest
                .next_if(|piece| matches!(piece, Ok((at, _)) if *at == start));
            match found.transpose()? {
                Some((_, found)) if found == bytes => {}
                Some((_, found)) => {
                    let what = format!("the piece at {start} has {found} bytes, and should have {bytes}");
                    self.wrong.push(what);
                }
                None => self.wrong.push(format!("the piece at {start} is missing")),
            }
        }
        Ok(())
    }

    /// Passes over pieces that no block has.
    fn pass_over(&mut self, which: impl Fn(u64) -> bool) -> Result<(), Failure> {
        let is_over = |piece: &ReadPiece| piece.as_ref().map_or(true, |(at, _)| which(*at));
        while let Some(piece) = self.rest.next_if(is_over) {
            let (at, _) = piece?;
            self.wrong.push(format!("no block has the piece at {at}"));
        }
        Ok(())
    }

    /// Expects no more pieces.
    fn end(&mut self) -> Result<(), Failure> {
        self.pass_over(|_| true)
    }
}
