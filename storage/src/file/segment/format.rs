//! The bytes of a segment's header, block tables, footer and trailer. FORMAT.md describes them.

use tailwater_stream::StreamId;

use super::Run;
use crate::codec::{Decoder, Encode, Malformed};
use crate::directory::StoreId;

/// At a segment's beginning, and near its end.
const MAGIC: [u8; 8] = *b"TWSGMT\0\x01";
/// The format that is written, and the newest that is read.
const VERSION: u32 = 1;
/// The payload stands in the file as it is: neither compressed nor encrypted.
const PLAIN: u16 = 0;
const NO_KEY: u32 = 0;

pub(super) const HEADER_BYTES: u64 = 64;
pub(super) const TRAILER_BYTES: u64 = 64;
pub(super) const BLOCK_ROW_BYTES: u64 = 48;
pub(super) const FOOTER_ENTRY_BYTES: u64 = 48;
/// Where the checksum of a header or trailer stands, in every version: the last four of its bytes.
const CRC_AT: usize = 60;
/// Bytes of a block's row before its checksum.
const ROW_CRC_AT: usize = 36;

/// Why a file is not the segment that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it is no segment")]
    NoSegment,
    #[error("its header is not what was written")]
    Header,
    #[error("its trailer is not what was written")]
    Trailer,
    #[error("it has no trailer: it was not finished, or it was cut off")]
    Unfinished,
    #[error("it is segment {found}")]
    Number { found: u64 },
    #[error("it belongs to another store, {found}")]
    Store { found: StoreId },
    #[error("it has format version {found}, and this Tailwater knows none later than {VERSION}")]
    Version { found: u32 },
    #[error("it has flags, a codec or a key that this Tailwater does not know")]
    Features,
}

impl Refusal {
    /// Whether nothing is wrong with the file, and this version is too old for it.
    pub(super) fn is_newer(self) -> bool {
        matches!(self, Self::Version { .. } | Self::Features)
    }
}

pub(super) fn put_header(out: &mut Vec<u8>, number: u64, store: StoreId) {
    let start = out.len();
    out.put_slice(&MAGIC);
    out.put_u32(VERSION);
    out.put_u32(0);
    out.put_u64(number);
    out.put_slice(&store.0);
    out.put_u16(PLAIN);
    out.put_u16(0);
    out.put_u32(NO_KEY);
    out.resize(start + CRC_AT, 0);
    let crc = crc32fast::hash(&out[start..]);
    out.put_u32(crc);
}

/// Checks that these bytes are the header of this segment.
pub(super) fn check_header(
    bytes: &[u8; HEADER_BYTES as usize],
    number: u64,
    store: StoreId,
) -> Result<(), Refusal> {
    let mut expected = Vec::with_capacity(bytes.len());
    put_header(&mut expected, number, store);
    if expected == bytes {
        return Ok(());
    }
    Err(why_not(bytes, number, store).unwrap_or(Refusal::Header))
}

/// Why a header is not the expected one; an error if it is nothing that was ever written.
fn why_not(bytes: &[u8; HEADER_BYTES as usize], number: u64, store: StoreId) -> Result<Refusal, Malformed> {
    let what = "the header of a segment";
    let mut from = Decoder::new(bytes);
    if from.slice(MAGIC.len(), what)? != MAGIC {
        return Ok(Refusal::NoSegment);
    }
    if !is_sealed(bytes) {
        return Err(Malformed { what });
    }
    let version = from.u32(what)?;
    let _flags = from.u32(what)?;
    let found_number = from.u64(what)?;
    let mut found_store = StoreId([0; 16]);
    found_store.0.copy_from_slice(from.slice(16, what)?);
    Ok(if version > VERSION {
        Refusal::Version { found: version }
    } else if found_store != store {
        Refusal::Store { found: found_store }
    } else if found_number != number {
        Refusal::Number { found: found_number }
    } else {
        Refusal::Features
    })
}

/// Whether the checksum at the end of a header or trailer is that of the bytes before it.
fn is_sealed(bytes: &[u8; 64]) -> bool {
    bytes[CRC_AT..] == crc32fast::hash(&bytes[..CRC_AT]).to_le_bytes()
}

/// Where the footer stands, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) footer_at: u64,
    pub(super) runs: u64,
    pub(super) payload_bytes: u64,
    pub(super) footer_crc: u32,
}

impl Trailer {
    pub(super) fn put(&self, out: &mut Vec<u8>, number: u64) {
        let start = out.len();
        out.put_u64(self.footer_at);
        out.put_u64(self.runs);
        out.put_u64(self.payload_bytes);
        out.put_u64(number);
        out.put_u32(self.footer_crc);
        out.resize(start + CRC_AT - MAGIC.len(), 0);
        out.put_slice(&MAGIC);
        let crc = crc32fast::hash(&out[start..]);
        out.put_u32(crc);
    }

    /// Reads the trailer that stands at `at`, and checks that the footer ends there.
    pub(super) fn read(bytes: &[u8; TRAILER_BYTES as usize], at: u64, number: u64) -> Result<Self, Refusal> {
        if bytes[CRC_AT - MAGIC.len()..CRC_AT] != MAGIC {
            return Err(Refusal::Unfinished);
        }
        let (trailer, found) = Self::fields(bytes).map_err(|Malformed { .. }| Refusal::Trailer)?;
        let footer_end = trailer
            .runs
            .checked_mul(FOOTER_ENTRY_BYTES)
            .and_then(|bytes| bytes.checked_add(trailer.footer_at));
        let is_here = footer_end == Some(at) && trailer.footer_at >= HEADER_BYTES;
        if !is_sealed(bytes) || found != number || !is_here {
            return Err(Refusal::Trailer);
        }
        Ok(trailer)
    }

    fn fields(bytes: &[u8]) -> Result<(Self, u64), Malformed> {
        let what = "the trailer of a segment";
        let mut from = Decoder::new(bytes);
        let (footer_at, runs, payload_bytes) = (from.u64(what)?, from.u64(what)?, from.u64(what)?);
        let number = from.u64(what)?;
        let trailer = Self {
            footer_at,
            runs,
            payload_bytes,
            footer_crc: from.u32(what)?,
        };
        Ok((trailer, number))
    }
}

impl Run {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_id(self.stream);
        out.put_position(self.from);
        out.put_position(self.until);
        out.put_u64(self.payload_at);
        out.put_u64(self.table_at);
        out.put_u32(self.blocks);
        out.put_u32(self.table_crc);
    }

    pub(super) fn read(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let what = "a run";
        Ok(Self {
            stream: from.id()?,
            from: from.position()?,
            until: from.position()?,
            payload_at: from.u64(what)?,
            table_at: from.u64(what)?,
            blocks: from.u32(what)?,
            table_crc: from.u32(what)?,
        })
    }
}

/// A row of a run's table: some whole appends that follow each other, and where their index stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockRow {
    /// The position behind the last append.
    pub(super) until: u64,
    /// Where the index stands in the file.
    pub(super) index_at: u64,
    /// How many bytes the index has.
    pub(super) index_len: u32,
    /// How many appends there are.
    pub(super) appends: u32,
    /// The index of the first message in the stream.
    pub(super) first_message: u64,
    /// CRC-32 of the payload.
    pub(super) payload_crc: u32,
}

impl BlockRow {
    /// Adds the row, with a checksum that binds it to whose block it is, where that begins, and to its index.
    pub(super) fn put(&self, out: &mut Vec<u8>, stream: StreamId, from: u64, index: &[u8]) {
        let start = out.len();
        out.put_u64(self.until);
        out.put_u64(self.index_at);
        out.put_u32(self.index_len);
        out.put_u32(self.appends);
        out.put_u64(self.first_message);
        out.put_u32(self.payload_crc);
        let crc = row_crc(stream, from, &out[start..], index);
        out.put_u32(crc);
        out.put_u64(0);
    }

    /// Reads a row whose checksum is not known to be right.
    pub(super) fn read(bytes: &[u8; BLOCK_ROW_BYTES as usize]) -> Result<Self, Malformed> {
        let what = "a row of a table";
        let mut from = Decoder::new(bytes);
        let row = Self {
            until: from.u64(what)?,
            index_at: from.u64(what)?,
            index_len: from.u32(what)?,
            appends: from.u32(what)?,
            first_message: from.u64(what)?,
            payload_crc: from.u32(what)?,
        };
        Ok(row)
    }

    /// The position behind the last append of a row.
    pub(super) fn until_of(row: &[u8; BLOCK_ROW_BYTES as usize]) -> u64 {
        let (until, _) = row.split_first_chunk().expect("a row is longer");
        u64::from_le_bytes(*until)
    }

    /// Whether a row is that of the block of this stream that begins there and has this index.
    pub(super) fn is_sealed(
        row: &[u8; BLOCK_ROW_BYTES as usize],
        stream: StreamId,
        from: u64,
        index: &[u8],
    ) -> bool {
        let (fields, rest) = row.split_at(ROW_CRC_AT);
        let crc = row_crc(stream, from, fields, index).to_le_bytes();
        rest.starts_with(&crc) && rest[crc.len()..] == [0; 8]
    }
}

fn row_crc(stream: StreamId, from: u64, fields: &[u8], index: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&stream.get().to_le_bytes());
    crc.update(&from.to_le_bytes());
    crc.update(fields);
    crc.update(index);
    crc.finalize()
}
