//! What stands in the catalog's rows, and how it becomes bytes and is read back.
//!
//! Every value is a version byte and then what it says.

use tailwater_stream::{
    Position, ProducerId, ProducerMark, ProducerState, Producers, StreamId, StreamState, Timestamp,
};

use super::tables::{Failure, run_key, run_of_key};
use crate::file::codec::{Decoder, Encode, Malformed};
use crate::file::place::LogPlace;
use crate::file::segment::Run;

const VERSION: u8 = 1;

/// The stream is staged: see [`StreamRow::staged`].
const STAGED: u8 = 4;

/// What is known of one stream beside its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::file) struct StreamRow {
    /// Its state. Without its producers in what `head` answers.
    pub(in crate::file) state: StreamState,
    /// The number of the era in which its tail was last moved, or in which it was created.
    pub(in crate::file) era: u64,
    /// The first own position whose bytes are still kept.
    pub(in crate::file) stored_from: Position,
    /// Whether it is being imported, and not completely there: then it is deleted, and has no name.
    pub(in crate::file) staged: bool,
}

/// What is known of the store as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::file) struct Meta {
    /// Up to where the journals are in the catalog and in segments.
    pub(in crate::file) folded: LogPlace,
    /// The number of the batch that stands there.
    pub(in crate::file) next_batch: u64,
    /// The greatest id that was ever given to a stream.
    pub(in crate::file) last_id: u64,
    /// The id that owns positions given out in this era; 0 in the first one.
    pub(in crate::file) era: u64,
    /// The run of the machine in which the store was last opened.
    pub(in crate::file) boot_id: String,
    /// Whether it was closed since, so that nothing can be lost.
    pub(in crate::file) clean: bool,
    /// The number of the next segment.
    pub(in crate::file) next_segment: u64,
    /// Streams that are not released.
    pub(in crate::file) streams: u64,
    /// Bytes of their payloads that are kept.
    pub(in crate::file) payload_bytes: u64,
}

/// What is known of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::file) struct SegmentRow {
    pub(in crate::file) number: u64,
    /// Its length.
    pub(in crate::file) bytes: u64,
    /// Bytes of payload in it.
    pub(in crate::file) payload_bytes: u64,
    /// How many of those are still wanted. Always <= `payload_bytes`.
    pub(in crate::file) live_bytes: u64,
}

/// A value that says what `put` puts.
pub(super) fn value(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = Vec::with_capacity(256);
    value.put_u8(VERSION);
    put(&mut value);
    value
}

/// What a value says, all of which `read` must read.
pub(super) fn read<T>(
    table: &'static str,
    key: &[u8],
    value: &[u8],
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, Malformed>,
) -> Result<T, Failure> {
    let mut from = said(table, key, value)?;
    let read = read(&mut from).and_then(|read| from.end("what stands behind it").map(|()| read));
    read.map_err(|why| Failure::of_row(table, key, &why))
}

/// What a value says, once its version is known.
fn said<'a>(table: &'static str, key: &[u8], value: &'a [u8]) -> Result<Decoder<'a>, Failure> {
    match value {
        [VERSION, said @ ..] => Ok(Decoder::new(said)),
        [version, ..] => {
            let why = format!("it has version {version}, which a newer program has written");
            Err(Failure::of_row(table, key, &why))
        }
        [] => Err(Failure::of_row(table, key, &"it is empty")),
    }
}

impl StreamRow {
    /// The deadline comes first, so that it can be read alone.
    pub(super) fn value(&self, deadline: Option<Timestamp>) -> Vec<u8> {
        value(|out| {
            out.put_option(deadline, Encode::put_time);
            self.put(out);
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        let state = &self.state;
        out.put_varint(self.era);
        out.put_position(self.stored_from);
        out.put_state(state, u8::from(self.staged) * STAGED);
    }

    /// The row, without producers, and the deadline that it remembers.
    pub(super) fn read(id: StreamId, key: &[u8], value: &[u8]) -> Result<(Self, Option<Timestamp>), Failure> {
        read("streams", key, value, |from| {
            let deadline = from.option("a deadline", Decoder::time)?;
            Ok((Self::take(id, from)?, deadline))
        })
    }

    fn take(id: StreamId, from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let era = from.varint("an era")?;
        let stored_from = from.position()?;
        let (state, flags) = from.state(id, STAGED)?;
        let staged = flags & STAGED != 0;
        if stored_from > state.tail || (staged && !state.deleted) {
            return Err(Malformed {
                what: "the state of a stream",
            });
        }
        Ok(Self {
            state,
            era,
            stored_from,
            staged,
        })
    }
}

/// Only the deadline that a stream's row remembers.
pub(super) fn read_deadline(key: &[u8], value: &[u8]) -> Result<Option<Timestamp>, Failure> {
    let deadline = said("streams", key, value)?.option("a deadline", Decoder::time);
    deadline.map_err(|why| Failure::of_row("streams", key, &why))
}

pub(super) fn producer_value(state: &ProducerState) -> Vec<u8> {
    value(|out| {
        out.put_varint(state.epoch.get());
        out.put_varint(state.seq.get());
        out.put_position(state.end);
        out.put_time(state.at);
    })
}

/// Adds a producer to those of a stream. Its id stands in the key, behind the stream's.
pub(super) fn read_producer(key: &[u8], value: &[u8], producers: &mut Producers) -> Result<(), Failure> {
    read("producers", key, value, |from| {
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

pub(super) fn run_value(run: &Run) -> Vec<u8> {
    value(|out| {
        out.put_position(run.until);
        out.put_u64(run.payload_at);
        out.put_u64(run.table_at);
        out.put_u32(run.blocks);
        out.put_u32(run.table_crc);
    })
}

/// The segment that holds a run, and the run.
pub(super) fn read_run(key: &[u8], value: &[u8]) -> Result<(u64, Run), Failure> {
    let (stream, from, segment) = run_of_key(key)?;
    let run = read("runs", key, value, |bytes| {
        let what = "a run";
        Ok(Run {
            stream,
            from,
            until: bytes.position()?,
            payload_at: bytes.u64(what)?,
            table_at: bytes.u64(what)?,
            blocks: bytes.u32(what)?,
            table_crc: bytes.u32(what)?,
        })
    })?;
    Ok((segment, run))
}

pub(super) fn key_of_run(segment: u64, run: &Run) -> [u8; 24] {
    run_key(run.stream, run.from.get(), segment)
}

impl SegmentRow {
    pub(super) fn value(&self) -> Vec<u8> {
        value(|out| {
            out.put_u64(self.bytes);
            out.put_u64(self.payload_bytes);
            out.put_u64(self.live_bytes);
        })
    }

    pub(super) fn read(key: &[u8; 8], value: &[u8]) -> Result<Self, Failure> {
        let number = u64::from_be_bytes(*key);
        read("segments", key, value, |from| {
            let what = "a segment";
            let row = Self {
                number,
                bytes: from.u64(what)?,
                payload_bytes: from.u64(what)?,
                live_bytes: from.u64(what)?,
            };
            if row.live_bytes > row.payload_bytes {
                return Err(Malformed { what });
            }
            Ok(row)
        })
    }
}

impl Meta {
    pub(super) fn value(&self) -> Vec<u8> {
        value(|out| {
            out.put_u64(self.folded.journal);
            out.put_u64(self.folded.offset);
            out.put_u64(self.next_batch);
            out.put_u64(self.last_id);
            out.put_u64(self.era);
            out.put_str(&self.boot_id);
            out.put_u8(u8::from(self.clean));
            out.put_u64(self.next_segment);
            out.put_u64(self.streams);
            out.put_u64(self.payload_bytes);
        })
    }

    pub(super) fn read(key: &[u8], value: &[u8]) -> Result<Self, Failure> {
        read("meta", key, value, |from| {
            let what = "what is known of the store";
            Ok(Self {
                folded: LogPlace {
                    journal: from.u64(what)?,
                    offset: from.u64(what)?,
                },
                next_batch: from.u64(what)?,
                last_id: from.u64(what)?,
                era: from.u64(what)?,
                boot_id: from.str(what)?.to_owned(),
                clean: match from.u8(what)? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed { what }),
                },
                next_segment: from.u64(what)?,
                streams: from.u64(what)?,
                payload_bytes: from.u64(what)?,
            })
        })
    }
}
