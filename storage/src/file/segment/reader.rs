//! Answers from a run's index, in place: nothing of it is kept on the heap.

use std::ops::Range;

use tailwater_stream::{AppendExtent, Position};

use super::format::{BLOCK_ROW_BYTES, BlockRow};
use super::{AppendHead, Run, Segment};
use crate::backend::BackendError;
use crate::block_index::{Bounds, Groups, first_message_end, last_message_end};
use crate::codec::Malformed;

/// An index that is not longer is fetched as a whole.
const WHOLE_INDEX_BYTES: u64 = 64 << 10;

/// Takes an append: where it starts, what the index keeps of it, its bytes.
type CopyTo<'a> = dyn FnMut(Position, AppendHead<'_>, &[u8]) -> Result<(), BackendError> + 'a;

type Row = [u8; BLOCK_ROW_BYTES as usize];

/// A block of a run. Its row and what the row says of the index lie within the run; whether it is what was written
/// is known once its index was looked at.
struct Block {
    /// The row's number.
    number: u32,
    from: u64,
    bytes: Row,
    row: BlockRow,
}

impl Block {
    fn index(&self) -> Range<u64> {
        self.row.index_at..self.row.index_at + u64::from(self.row.index_len)
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            from: self.from,
            until: self.row.until,
            appends: self.row.appends,
            first_message: self.row.first_message,
        }
    }
}

impl Segment {
    /// Where the positions from `from` up to `until` of a run stand in the file.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if the run is none of this segment's, or has not all of these positions.
    pub(in crate::file) fn payload(
        &self,
        run: &Run,
        from: Position,
        until: Position,
    ) -> Result<Range<u64>, BackendError> {
        self.check_fits(run)?;
        if from < run.from || from > until || until > run.until {
            let reason = format_args!("it has not all positions from {from} to {until}");
            return Err(self.run_damaged(run, run.payload_at, reason));
        }
        let at = |position: Position| run.payload_at + position.since(run.from);
        Ok(at(from)..at(until))
    }

    /// Where the table stands that [`Self::index_range`] looks at to answer: to be fetched before. None if it
    /// answers without.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if the run is none of this segment's.
    pub(in crate::file) fn table_range(&self, run: &Run) -> Result<Option<Range<u64>>, BackendError> {
        self.check_fits(run)?;
        let whole = run.index().start..run.table().end;
        Ok((whole.end - whole.start > WHOLE_INDEX_BYTES).then(|| run.table()))
    }

    /// Where the index stands that answers questions about the positions from `from` up to `until`: to be fetched,
    /// like [`Self::table_range`], before they are asked. It may hold more than that.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if the run is none of this segment's, or its table is damaged.
    pub(in crate::file) fn index_range(
        &self,
        run: &Run,
        from: Position,
        until: Position,
    ) -> Result<Range<u64>, BackendError> {
        if self.table_range(run)?.is_none() {
            return Ok(run.index().start..run.table().end);
        }
        let last = run.until.get() - 1;
        let first = from.get().clamp(run.from.get(), last);
        let last = until.get().saturating_sub(1).clamp(first, last);
        let start = self.block_at(run, first)?.index().start;
        Ok(start..self.block_at(run, last)?.index().end.max(start))
    }

    /// The end of the last message that ends behind `from` and not behind `limit`, if any does.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if the index is.
    pub(in crate::file) fn last_message_end(
        &self,
        run: &Run,
        from: Position,
        limit: Position,
    ) -> Result<Option<Position>, BackendError> {
        self.check_fits(run)?;
        let (from, limit) = (from.max(run.from).get(), limit.min(run.until).get());
        if limit <= from {
            return Ok(None);
        }
        let block = self.block_at(run, limit - 1)?;
        let end = self.decode(run, &block, |groups| last_message_end(groups, limit))?;
        Ok((end > from).then(|| position(end)))
    }

    /// The end of the first message that ends behind `from`, which is one of the run's positions.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if the index is, or if the run has no such position.
    pub(in crate::file) fn first_message_end(
        &self,
        run: &Run,
        from: Position,
    ) -> Result<Position, BackendError> {
        self.check_fits(run)?;
        if from < run.from || from >= run.until {
            return Err(self.run_damaged(run, run.table_at, format_args!("it has no position {from}")));
        }
        let from = from.get();
        let block = self.block_at(run, from)?;
        self.decode(run, &block, |groups| first_message_end(groups, from))
            .map(position)
    }

    /// The appends that have bytes between `from` and `until`, in order, as many as begin before `begins_before`
    /// and at least one if there is any, the last cut off at `until`. Behind the run's end there are none.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if the index is.
    pub(in crate::file) fn extents(
        &self,
        run: &Run,
        from: Position,
        until: Position,
        begins_before: Position,
    ) -> Result<Vec<AppendExtent>, BackendError> {
        self.check_fits(run)?;
        let (from, until) = (from.max(run.from).get(), until.min(run.until).get());
        let mut extents = Vec::new();
        if from >= until {
            return Ok(extents);
        }
        let begins_before = begins_before.get().max(from + 1).min(until);
        let mut next = from;
        while next < begins_before {
            let block = self.block_at(run, next)?;
            self.decode(run, &block, |mut groups| {
                while let Some(group) = groups.next()? {
                    let first = group.ended_at(from);
                    if first == group.count {
                        continue;
                    }
                    let ends = group.ends()?;
                    for append in (first..group.count).map(|number| group.append(number)) {
                        if append.start >= begins_before {
                            return Ok(());
                        }
                        extents.push(AppendExtent {
                            start: position(append.start),
                            end: position(append.end.min(until)),
                            at: append.at,
                            first_message: append.first_message,
                            ends: ends.clone(),
                        });
                    }
                }
                Ok(())
            })?;
            next = block.row.until;
        }
        Ok(extents)
    }

    /// Gives every append of the run that has bytes at or behind `from`, whole, with where it starts: the first one
    /// may start before `from`. What is given has been checked, and is fetched from the disk as it goes.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] if the table, or the index or payload of a block is, before anything of the block
    /// is given; [`BackendError::Io`] if the disk cannot read it; and what `to` answers.
    pub(in crate::file) fn copy_run(
        &self,
        run: &Run,
        from: Position,
        to: &mut CopyTo<'_>,
    ) -> Result<(), BackendError> {
        self.check_table(run)?;
        if from >= run.until {
            return Ok(());
        }
        let from = from.max(run.from).get();
        let first = self.block_at(run, from)?.number;
        for number in first..run.blocks {
            let block = self.block(run, number)?;
            let start = run.payload_at + (block.from - run.from.get());
            let payload = start..start + (block.row.until - block.from);
            self.fetch(block.index())?;
            self.fetch(payload.clone())?;
            self.with_index(run, &block, |groups| {
                self.look(payload, |payload| {
                    self.copy_block(run, &block, groups, payload, from, to)
                })
            })??;
        }
        Ok(())
    }

    fn copy_block(
        &self,
        run: &Run,
        block: &Block,
        mut groups: Groups<'_>,
        payload: &[u8],
        from: u64,
        to: &mut CopyTo<'_>,
    ) -> Result<(), BackendError> {
        if crc32fast::hash(payload) != block.row.payload_crc {
            let at = run.payload_at + (block.from - run.from.get());
            return Err(self.run_damaged(run, at, "the payload is not what was written"));
        }
        let malformed = |error| self.run_damaged(run, block.row.index_at, error);
        while let Some(group) = groups.next().map_err(malformed)? {
            let ends = group.ends().map_err(malformed)?;
            for append in (group.ended_at(from)..group.count).map(|number| group.append(number)) {
                let head = AppendHead {
                    at: append.at,
                    first_message: append.first_message,
                    ends: &ends,
                };
                let in_block = (append.start - block.from) as usize..(append.end - block.from) as usize;
                to(position(append.start), head, &payload[in_block])?;
            }
        }
        Ok(())
    }

    /// Fetches a run's table, and checks it.
    pub(super) fn check_table(&self, run: &Run) -> Result<(), BackendError> {
        self.check_fits(run)?;
        self.fetch(run.table())?;
        if self.look(run.table(), crc32fast::hash) == run.table_crc {
            return Ok(());
        }
        Err(self.run_damaged(run, run.table_at, "the table is not what was written"))
    }

    /// Where the index of a block stands in the file.
    pub(super) fn index_of(&self, run: &Run, number: u32) -> Result<Range<u64>, BackendError> {
        Ok(self.block(run, number)?.index())
    }

    fn check_fits(&self, run: &Run) -> Result<(), BackendError> {
        if run.fits(self.trailer.footer_at) {
            return Ok(());
        }
        Err(self.run_damaged(run, run.payload_at, "it is no run of this segment"))
    }

    /// The block that holds one of the run's positions.
    fn block_at(&self, run: &Run, position: u64) -> Result<Block, BackendError> {
        let number = self.look(run.table(), |table| {
            let (rows, _) = table.as_chunks();
            rows.partition_point(|row| BlockRow::until_of(row) <= position)
        });
        let block = self.block(run, number as u32)?;
        // What is not in order may be found where it is not.
        if (block.from..block.row.until).contains(&position) {
            return Ok(block);
        }
        Err(self.row_damaged(run, block.number))
    }

    /// A block by its number.
    fn block(&self, run: &Run, number: u32) -> Result<Block, BackendError> {
        let rows = self.look(run.table(), |table| {
            let (rows, _): (&[Row], _) = table.as_chunks();
            let row = rows.get(number as usize).copied();
            let before = number.checked_sub(1).map(|before| rows.get(before as usize));
            (row, before.flatten().map(BlockRow::until_of))
        });
        let (Some(bytes), before) = rows else {
            return Err(self.row_damaged(run, number));
        };
        let from = before.unwrap_or(run.from.get());
        let row =
            BlockRow::read(&bytes).map_err(|malformed| self.run_damaged(run, run.table_at, malformed))?;
        let index = run.index();
        let index_end = row.index_at.checked_add(u64::from(row.index_len));
        let is_last = number + 1 == run.blocks;
        let fits = from >= run.from.get()
            && from < row.until
            && row.until <= run.until.get()
            && (row.until == run.until.get()) == is_last
            && row.index_at >= index.start
            && index_end.is_some_and(|end| end <= index.end);
        if !fits {
            return Err(self.row_damaged(run, number));
        }
        Ok(Block {
            number,
            from,
            bytes,
            row,
        })
    }

    /// Reads the index of a block, once its checksum is right.
    fn decode<T>(
        &self,
        run: &Run,
        block: &Block,
        read: impl FnOnce(Groups<'_>) -> Result<T, Malformed>,
    ) -> Result<T, BackendError> {
        self.with_index(run, block, read)?
            .map_err(|malformed| self.run_damaged(run, block.row.index_at, malformed))
    }

    /// Looks at the index of a block, once its checksum is right.
    fn with_index<T>(
        &self,
        run: &Run,
        block: &Block,
        look: impl FnOnce(Groups<'_>) -> T,
    ) -> Result<T, BackendError> {
        let looked = self.look(block.index(), |index| {
            BlockRow::is_sealed(&block.bytes, run.stream, block.from, index)
                .then(|| look(Groups::new(block.bounds(), index)))
        });
        looked.ok_or_else(|| {
            let reason = format_args!(
                "the index of a block, or row {} of the table at {}, is not what was written",
                block.number, run.table_at
            );
            self.run_damaged(run, block.row.index_at, reason)
        })
    }

    fn row_damaged(&self, run: &Run, number: u32) -> BackendError {
        let at = run.table_at + u64::from(number) * BLOCK_ROW_BYTES;
        self.run_damaged(run, at, "the table is not what was written")
    }
}

fn position(number: u64) -> Position {
    Position::new(number).expect("positions of a run lie before its end")
}
