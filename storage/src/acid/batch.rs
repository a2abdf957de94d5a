//! A batch of records as one change of a shard.

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use redb::{Table, WriteTransaction};
use tailwater_stream::{Append, Part, Record, StreamId, StreamState, Transition};

use super::block::BlockWriter;
use super::tables::{self, ShardMeta};
use crate::database::Failure;
use crate::stream_tables::keys::{Bytes, Key, pair_key};
use crate::stream_tables::{StreamRow, StreamTables, deadline};

/// Writes all that records change, and counts it.
pub(super) fn write(
    transaction: &WriteTransaction,
    meta: &mut ShardMeta,
    records: &[&Record],
) -> Result<(), Failure> {
    let mut batch = Batch {
        meta,
        streams: StreamTables::new(transaction),
        blocks: transaction.open_table(tables::BLOCKS)?,
        transaction,
        touched: HashMap::default(),
        controls: BTreeMap::new(),
    };
    for part in records.iter().flat_map(|record| &record.parts) {
        batch.apply(part)?;
    }
    batch.finish()
}

struct Batch<'t, 'm, 'r> {
    meta: &'m mut ShardMeta,
    streams: StreamTables<'t>,
    blocks: Table<'t, Key<16>, Bytes>,
    transaction: &'t WriteTransaction,
    touched: HashMap<StreamId, Touched, RandomState>,
    /// Control keys with the last value that the batch gives each; none for those that it removes.
    controls: BTreeMap<(StreamId, &'r [u8]), Option<&'r [u8]>>,
}

/// A stream that the batch changes. Its row is written once, however often it changes.
struct Touched {
    /// Its producers are those that the batch has to do with.
    row: StreamRow,
    /// Whether its row is marked as one that keeps trimmed bytes.
    is_marked: bool,
    block: Option<BlockWriter>,
}

impl Touched {
    fn new(row: StreamRow) -> Self {
        Self {
            is_marked: row.keeps_trimmed_bytes(),
            row,
            block: None,
        }
    }
}

impl<'r> Batch<'_, '_, 'r> {
    fn apply(&mut self, part: &'r Part) -> Result<(), Failure> {
        let (id, transition) = match part {
            Part::Stream { id, transition } => (*id, transition),
            Part::Control(change) => {
                let key = (change.stream, change.key.as_ref());
                self.controls.insert(key, change.value.as_deref());
                return Ok(());
            }
        };
        match transition {
            Transition::Create(created) => self.begin(StreamState::created(created), false),
            Transition::Stage(created) => self.begin(StreamState::staged(created), true),
            Transition::Import(state) => self.import(id, state),
            Transition::Append(append) => self.append(id, append, transition),
            Transition::Delete { .. } => {
                self.touched(id)?.row.state.apply(transition);
                self.streams.mark_deleted(id)
            }
            Transition::Trim { .. } | Transition::Touch { .. } => {
                self.touched(id)?.row.state.apply(transition);
                Ok(())
            }
        }
    }

    fn begin(&mut self, state: StreamState, staged: bool) -> Result<(), Failure> {
        let id = state.id;
        self.meta.last_id = self.meta.last_id.max(id.get());
        self.meta.streams += 1;
        if staged {
            self.streams.mark_deleted(id)?;
        } else {
            self.show(&state)?;
        }
        let row = StreamRow {
            era: 0,
            stored_from: state.tail,
            staged,
            state,
            last_block: Vec::new(),
        };
        self.touched.insert(id, Touched::new(row));
        Ok(())
    }

    /// Lets a stream be found by its name and by its source.
    fn show(&mut self, state: &StreamState) -> Result<(), Failure> {
        self.streams.put_name(&state.name, state.id)?;
        if let Some(source) = &state.source {
            self.streams.put_fork(source.id, state.id)?;
        }
        Ok(())
    }

    fn import(&mut self, id: StreamId, state: &StreamState) -> Result<(), Failure> {
        let row = &mut self.touched(id)?.row;
        row.state.clone_from(state);
        row.staged = false;
        self.show(state)?;
        if !state.deleted {
            self.streams.unmark_deleted(id)?;
        }
        Ok(())
    }

    fn append(&mut self, id: StreamId, append: &Append, transition: &Transition) -> Result<(), Failure> {
        let touched = self.touched(id)?;
        if append.payload.is_empty() {
            touched.row.state.apply(transition);
            return Ok(());
        }
        if touched.block.is_none() {
            touched.block = BlockWriter::resume(&mut touched.row)?;
        }
        touched.row.state.apply(transition);
        let full = match &mut touched.block {
            Some(block) if block.fits(append) => {
                block.push(append);
                None
            }
            block => block.replace(BlockWriter::begin(append)),
        };
        self.meta.payload_bytes += append.payload.len() as u64;
        full.map_or(Ok(()), |block| self.put_block(id, block))
    }

    fn put_block(&mut self, id: StreamId, mut block: BlockWriter) -> Result<(), Failure> {
        let key = pair_key(id.get(), block.from.get());
        self.blocks.insert(&key, block.value().as_slice())?;
        let mut pieces = block.pieces().peekable();
        if pieces.peek().is_none() {
            return Ok(());
        }
        let mut table = self.transaction.open_table(tables::PIECES)?;
        for (from, piece) in pieces {
            table.insert(&pair_key(id.get(), from), piece)?;
        }
        Ok(())
    }

    fn touched(&mut self, id: StreamId) -> Result<&mut Touched, Failure> {
        match self.touched.entry(id) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let row = self.streams.head(id)?;
                let missing = || Failure::Damaged(format!("stream {id} is to be changed, and is not there"));
                let row = row.ok_or_else(missing)?;
                Ok(entry.insert(Touched::new(row)))
            }
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        let mut touched: Vec<_> = std::mem::take(&mut self.touched).into_iter().collect();
        // Rows that stand together are written one after the other; and the same records write the same pages in any run.
        touched.sort_unstable_by_key(|(id, _)| *id);
        for (id, mut touched) in touched {
            if let Some(mut block) = touched.block {
                match block.last() {
                    Some(last) => touched.row.last_block = last,
                    None => self.put_block(id, block)?,
                }
            }
            let state = &touched.row.state;
            self.streams.put_row(&touched.row, deadline(state))?;
            self.streams.put_producers(id, state.producers.iter())?;
            let keeps_trimmed_bytes = touched.row.keeps_trimmed_bytes();
            if keeps_trimmed_bytes != touched.is_marked {
                tables::mark_trimmed(self.transaction, id, keeps_trimmed_bytes)?;
            }
        }
        for ((id, key), value) in self.controls {
            self.streams.put_control(id, key, value)?;
        }
        Ok(())
    }
}
