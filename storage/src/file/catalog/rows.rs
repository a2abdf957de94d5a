//! What stands in the catalog's own rows, and how it becomes bytes and is read back.

use crate::codec::{Encode as _, Malformed};
use crate::database::Failure;
use crate::database::row::{read, value};
use crate::file::place::LogPlace;
use crate::file::segment::Run;

use super::tables::{run_key, run_of_key};

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
