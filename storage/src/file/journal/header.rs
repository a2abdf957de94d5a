//! What a journal and each of its batches say of themselves.

use super::super::place::LogPlace;
use super::{ALIGNMENT, FIRST_BATCH_AT, Newer, Unreadable};
use crate::codec::{Decoder, Encode as _, Malformed};
use crate::directory::StoreId;

const JOURNAL_MAGIC: [u8; 8] = *b"TWJRNL\0\x01";
const JOURNAL_VERSION: u32 = 1;
const JOURNAL_WHAT: &str = "the journal's header";
/// Where the checksum of a journal's header stands; it covers everything before it, in every version.
const JOURNAL_CRC_AT: usize = 60;
pub(super) const JOURNAL_HEADER_BYTES: usize = 64;

const BATCH_MAGIC: [u8; 4] = *b"TWBT";
const BATCH_VERSION: u16 = 1;
const BATCH_WHAT: &str = "a batch's header";
/// Where the checksum of a batch's header stands; it covers everything before it, in every version.
const BATCH_CRC_AT: usize = 76;
pub(super) const BATCH_HEADER_BYTES: usize = 80;

/// Why a file is not the journal that its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderRefusal {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("it says that it is journal {found}")]
    OtherNumber { found: u64 },
    #[error("it belongs to the store {found}, and this is the store {wanted}")]
    OtherStore { found: StoreId, wanted: StoreId },
}

/// What a journal says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JournalHeader {
    pub(super) number: u64,
    pub(super) store: StoreId,
}

impl JournalHeader {
    /// All that stands before the first batch.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIRST_BATCH_AT as usize);
        bytes.put_slice(&JOURNAL_MAGIC);
        bytes.put_u32(JOURNAL_VERSION);
        bytes.put_u32(0);
        bytes.put_u64(self.number);
        bytes.put_slice(&self.store.0);
        bytes.resize(JOURNAL_CRC_AT, 0);
        bytes.put_u32(crc32fast::hash(&bytes));
        bytes.resize(FIRST_BATCH_AT as usize, 0);
        bytes
    }

    /// Whether a file that begins with `bytes` is this journal.
    pub(super) fn check(self, bytes: &[u8]) -> Result<(), HeaderRefusal> {
        let found = Self::decode(bytes)?;
        if found.store != self.store {
            return Err(HeaderRefusal::OtherStore {
                found: found.store,
                wanted: self.store,
            });
        }
        if found.number != self.number {
            return Err(HeaderRefusal::OtherNumber { found: found.number });
        }
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let malformed = Malformed { what: JOURNAL_WHAT };
        let bytes: &[u8; JOURNAL_HEADER_BYTES] = bytes.first_chunk().ok_or(malformed)?;
        let (checked, crc) = bytes.split_at(JOURNAL_CRC_AT);
        if crc != crc32fast::hash(checked).to_le_bytes() {
            return Err(malformed.into());
        }
        let mut from = Decoder::new(checked);
        if from.slice(JOURNAL_MAGIC.len(), JOURNAL_WHAT)? != JOURNAL_MAGIC {
            return Err(malformed.into());
        }
        known_version(JOURNAL_WHAT, from.u32(JOURNAL_WHAT)?, JOURNAL_VERSION)?;
        known_flags(JOURNAL_WHAT, from.u32(JOURNAL_WHAT)?, 0)?;
        let number = from.u64(JOURNAL_WHAT)?;
        let store = from.slice(16, JOURNAL_WHAT)?.first_chunk().ok_or(malformed)?;
        Ok(Self {
            number,
            store: StoreId(*store),
        })
    }
}

/// What a batch says of itself. The journal's number and the store's mark, which it carries as well, are asked for
/// when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) number: u64,
    /// Header, entries, payloads and padding.
    pub(super) total_bytes: u64,
    pub(super) meta_bytes: u32,
    pub(super) parts: u32,
    /// The journals were durable up to here when the batch was written. Never behind the batch itself.
    pub(super) synced: LogPlace,
    pub(super) meta_crc: u32,
}

/// Half of the store's identity. Who may write payloads does not know it, so that no payload can be made to look
/// like a batch: what an earlier use of the file left may come to stand where the next batch is looked for.
fn mark_of(store: StoreId) -> [u8; 8] {
    *store.0.first_chunk().expect("an identity has 16 bytes")
}

impl BatchHeader {
    pub(super) fn encode(&self, journal: u64, store: StoreId) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &BATCH_MAGIC);
        put(4, &BATCH_VERSION.to_le_bytes());
        put(8, &self.number.to_le_bytes());
        put(16, &journal.to_le_bytes());
        put(24, &self.total_bytes.to_le_bytes());
        put(32, &self.meta_bytes.to_le_bytes());
        put(36, &self.parts.to_le_bytes());
        put(40, &self.synced.journal.to_le_bytes());
        put(48, &self.synced.offset.to_le_bytes());
        put(64, &self.meta_crc.to_le_bytes());
        put(68, &mark_of(store));
        let crc = crc32fast::hash(&bytes[..BATCH_CRC_AT]);
        bytes[BATCH_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header of a batch of this journal, if one stands in `bytes` whole. Where that is told from stays the same
    /// in every version.
    pub(super) fn find(
        bytes: &[u8; BATCH_HEADER_BYTES],
        journal: u64,
        store: StoreId,
    ) -> Result<Option<Self>, Unreadable> {
        let is_own = bytes.starts_with(&BATCH_MAGIC)
            && bytes[16..24] == journal.to_le_bytes()
            && bytes[68..BATCH_CRC_AT] == mark_of(store)
            && has_right_checksum(bytes);
        if is_own {
            Self::decode(bytes).map(Some)
        } else {
            Ok(None)
        }
    }

    fn decode(bytes: &[u8; BATCH_HEADER_BYTES]) -> Result<Self, Unreadable> {
        let mut from = Decoder::new(&bytes[BATCH_MAGIC.len()..]);
        let what = BATCH_WHAT;
        known_version(what, from.u16(what)?.into(), BATCH_VERSION.into())?;
        known_flags(what, from.u16(what)?.into(), 0)?;
        let number = from.u64(what)?;
        from.u64(what)?;
        let total_bytes = from.u64(what)?;
        let meta_bytes = from.u32(what)?;
        let parts = from.u32(what)?;
        let synced = LogPlace {
            journal: from.u64(what)?,
            offset: from.u64(what)?,
        };
        from.u64("a batch's writer")?;
        let meta_crc = from.u32(what)?;
        let is_long_enough = total_bytes >= BATCH_HEADER_BYTES as u64 + u64::from(meta_bytes);
        if !is_long_enough || !total_bytes.is_multiple_of(ALIGNMENT as u64) {
            return Err(Malformed { what }.into());
        }
        Ok(Self {
            number,
            total_bytes,
            meta_bytes,
            parts,
            synced,
            meta_crc,
        })
    }

    /// Whether something stands in `bytes` that a torn write of this batch's header may have left.
    pub(super) fn is_begun(bytes: &[u8; BATCH_HEADER_BYTES], journal: u64, number: u64) -> bool {
        let numbers_fit = bytes[8..16] == number.to_le_bytes() && bytes[16..24] == journal.to_le_bytes();
        (bytes.starts_with(&BATCH_MAGIC) || numbers_fit) && !has_right_checksum(bytes)
    }
}

/// Where batches of this journal may begin in `bytes`, which begin where one may.
pub(super) fn candidates(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8; BATCH_HEADER_BYTES])> {
    let steps = bytes.chunks_exact(ALIGNMENT).enumerate();
    let marked = steps.filter(|(_, step)| step.starts_with(&BATCH_MAGIC));
    marked.filter_map(|(index, _)| {
        let at = index * ALIGNMENT;
        Some((at, bytes[at..].first_chunk()?))
    })
}

fn has_right_checksum(bytes: &[u8; BATCH_HEADER_BYTES]) -> bool {
    let (checked, crc) = bytes.split_at(BATCH_CRC_AT);
    crc == crc32fast::hash(checked).to_le_bytes()
}

/// Versions grow from 1.
pub(super) fn known_version(of: &'static str, found: u32, known: u32) -> Result<(), Unreadable> {
    match found {
        0 => Err(Malformed { what: of }.into()),
        found if found > known => Err(Newer::Version { of, found, known }.into()),
        _ => Ok(()),
    }
}

pub(super) fn known_flags(of: &'static str, found: u32, known: u32) -> Result<(), Unreadable> {
    if found & !known == 0 {
        Ok(())
    } else {
        Err(Newer::Flags { of, found, known }.into())
    }
}
