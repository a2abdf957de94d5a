//! What stands in the rows of streams and producers, and how it becomes bytes and is read back.

use tailwater_stream::{
    Position, ProducerId, ProducerMark, ProducerState, Producers, StreamId, StreamState, Timestamp,
};

use crate::codec::{Decoder, Encode, Malformed};
use crate::database::{Failure, row};

/// The stream is staged: see [`StreamRow::staged`].
const STAGED: u8 = 4;
/// A block stands behind the state: see [`StreamRow::last_block`].
const HAS_LAST_BLOCK: u8 = 8;

/// What is known of one stream beside its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StreamRow {
    /// Its state. Without its producers in what `head` answers.
    pub(crate) state: StreamState,
    /// The number of the era in which its tail was last moved, or in which it was created.
    pub(crate) era: u64,
    /// The first own position whose bytes are still kept.
    pub(crate) stored_from: Position,
    /// Whether it is being imported, and not completely there: then it is deleted, and has no name.
    pub(crate) staged: bool,
    /// What a backend keeps of the stream's last bytes in this row, in a form of its own; empty if it keeps none here.
    pub(crate) last_block: Vec<u8>,
}

impl StreamRow {
    /// Whether bytes before the oldest position are still stored: for forks, or because they were not given back yet.
    pub(crate) fn keeps_trimmed_bytes(&self) -> bool {
        self.stored_from < self.state.oldest
    }

    /// The deadline comes first, so that it can be read alone.
    pub(crate) fn value(&self, deadline: Option<Timestamp>) -> Vec<u8> {
        row::value(|out| {
            out.put_option(deadline, Encode::put_time);
            self.put(out);
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        let state = &self.state;
        out.put_varint(self.era);
        out.put_position(self.stored_from);
        let has_last_block = !self.last_block.is_empty();
        let flags = (u8::from(self.staged) * STAGED) | (u8::from(has_last_block) * HAS_LAST_BLOCK);
        out.put_state(state, flags);
        if has_last_block {
            out.put_bytes(&self.last_block);
        }
    }

    /// The row, without producers, and the deadline that it remembers.
    pub(crate) fn read(id: StreamId, key: &[u8], value: &[u8]) -> Result<(Self, Option<Timestamp>), Failure> {
        row::read("streams", key, value, |from| {
            let deadline = from.option("a deadline", Decoder::time)?;
            Ok((Self::take(id, from)?, deadline))
        })
    }

    fn take(id: StreamId, from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let era = from.varint("an era")?;
        let stored_from = from.position()?;
        let (state, flags) = from.state(id, STAGED | HAS_LAST_BLOCK)?;
        let staged = flags & STAGED != 0;
        if stored_from > state.tail || (staged && !state.deleted) {
            return Err(Malformed {
                what: "the state of a stream",
            });
        }
        let last_block = if flags & HAS_LAST_BLOCK == 0 {
            Vec::new()
        } else {
            from.bytes("a stream's last block")?.to_vec()
        };
        Ok(Self {
            state,
            era,
            stored_from,
            staged,
            last_block,
        })
    }
}

/// Only the deadline that a stream's row remembers.
pub(crate) fn read_deadline(key: &[u8], value: &[u8]) -> Result<Option<Timestamp>, Failure> {
    let deadline = row::said("streams", key, value)?.option("a deadline", Decoder::time);
    deadline.map_err(|why| Failure::of_row("streams", key, &why))
}

pub(crate) fn producer_value(state: &ProducerState) -> Vec<u8> {
    row::value(|out| {
        out.put_varint(state.epoch.get());
        out.put_varint(state.seq.get());
        out.put_position(state.end);
        out.put_time(state.at);
    })
}

/// Adds a producer to those of a stream. Its id stands in the key, behind the stream's.
pub(crate) fn read_producer(key: &[u8], value: &[u8], producers: &mut Producers) -> Result<(), Failure> {
    row::read("producers", key, value, |from| {
        let what = "a producer's id";
        let id = key
            .get(8..)
            .and_then(|id| ProducerId::parse(str::from_utf8(id).ok()?));
        let mark = ProducerMark {
            id: id.ok_or(Malformed { what })?,
            epoch: from.epoch()?,
            seq: from.seq()?,
        };
        producers.record(&mark, from.position()?, from.time()?);
        Ok(())
    })
}
