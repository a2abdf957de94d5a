//! What stands in a journal's file: its batches, as far as they are whole.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::Part;

use super::super::place::LogPlace;
use super::entry::{Entry, check_entry};
use super::header::{BATCH_HEADER_BYTES, BatchHeader, HeaderRefusal, JournalHeader, candidates};
use super::{ALIGNMENT, FIRST_BATCH_AT, PartPlace, Unreadable};
use crate::backend::BackendError;
use crate::codec::{Decoder, Malformed};
use crate::directory::StoreId;
use crate::disk::Map;

/// What stands at a place where a batch may begin.
pub(super) enum Found {
    Batch(Batch),
    /// A batch that is not whole, and what is wrong with it.
    Torn(&'static str),
    /// Nothing that was written to this journal.
    Nothing,
}

/// A whole batch.
pub(super) struct Batch {
    pub(super) parts: Vec<(Part, PartPlace)>,
    pub(super) end: usize,
    /// The number of the batch behind it.
    pub(super) next: u64,
    pub(super) synced: LogPlace,
}

/// The bytes of one journal, of which less than 4 GiB are there.
pub(super) struct Contents {
    number: u64,
    store: StoreId,
    map: Arc<dyn Map>,
    bytes: Bytes,
}

impl Contents {
    /// Looks at a file that should be this journal.
    pub(super) fn open(map: &Arc<dyn Map>, header: JournalHeader) -> Result<Self, BackendError> {
        let JournalHeader { number, store } = header;
        let mut contents = Self {
            number,
            store,
            map: Arc::clone(map),
            bytes: Bytes::new(),
        };
        if !(FIRST_BATCH_AT..=u64::from(u32::MAX)).contains(&map.len()) {
            let what = format!("the file has {} bytes, which no journal has", map.len());
            return Err(contents.damaged(0, &what));
        }
        contents.populate(0, FIRST_BATCH_AT)?;
        contents.bytes = Arc::clone(map).bytes(0..map.len());
        match header.check(&contents.bytes) {
            Ok(()) => Ok(contents),
            Err(HeaderRefusal::Unreadable(unreadable)) => Err(contents.unreadable(0, unreadable)),
            Err(refusal) => Err(contents.damaged(0, &refusal.to_string())),
        }
    }

    /// Fetches everything from a place on, where a batch may begin.
    pub(super) fn beginning(&self, from: u64) -> Result<usize, BackendError> {
        let at = from as usize;
        if !(FIRST_BATCH_AT..=self.map.len()).contains(&from) || !at.is_multiple_of(ALIGNMENT) {
            let what = format!("a batch cannot begin there, in a file of {} bytes", self.len());
            return Err(self.damaged(at, &what));
        }
        self.populate(from, self.map.len())?;
        Ok(at)
    }

    /// Errors of the disk are reported only here: to meet one in the map would end the process.
    fn populate(&self, from: u64, until: u64) -> Result<(), BackendError> {
        if from == until {
            return Ok(());
        }
        self.map.populate(from..until).map_err(|source| BackendError::Io {
            what: format!("reading journal {:016}", self.number),
            source: Arc::new(source),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn place(&self, at: usize) -> LogPlace {
        LogPlace {
            journal: self.number,
            offset: at as u64,
        }
    }

    pub(super) fn damaged(&self, at: usize, what: &str) -> BackendError {
        BackendError::Damaged {
            what: format!(
                "journal {:016} at byte {at}: {what}; run `tailwater verify`",
                self.number
            ),
        }
    }

    fn unreadable(&self, at: usize, unreadable: Unreadable) -> BackendError {
        match unreadable {
            Unreadable::Malformed(malformed) => self.damaged(at, &malformed.to_string()),
            Unreadable::Newer(newer) => BackendError::Newer {
                what: format!("journal {:016} at byte {at}: {newer}", self.number),
            },
        }
    }

    /// The headers of this journal's batches that stand at or behind a place, whether the batches are whole or not.
    pub(super) fn headers(&self, from: usize) -> impl Iterator<Item = Result<BatchHeader, BackendError>> {
        candidates(&self.bytes[from..]).filter_map(move |(at, bytes)| {
            let header = BatchHeader::find(bytes, self.number, self.store);
            header
                .map_err(|error| self.unreadable(from + at, error))
                .transpose()
        })
    }

    /// Where at or behind a place the next header of this journal's batches stands that can be read, and the number
    /// of its batch.
    pub(super) fn next_header(&self, from: usize) -> Option<(usize, u64)> {
        let from = from.next_multiple_of(ALIGNMENT).min(self.len());
        candidates(&self.bytes[from..]).find_map(|(at, bytes)| {
            let header = BatchHeader::find(bytes, self.number, self.store).ok()??;
            Some((from + at, header.number))
        })
    }

    /// What stands at a place where batch `number` may begin.
    pub(super) fn find(&self, at: usize, number: u64) -> Result<Found, BackendError> {
        let rest = &self.bytes[at..];
        let mut head = [0; BATCH_HEADER_BYTES];
        let there = rest.len().min(BATCH_HEADER_BYTES);
        head[..there].copy_from_slice(&rest[..there]);
        let header = BatchHeader::find(&head, self.number, self.store)
            .map_err(|unreadable| self.unreadable(at, unreadable))?;
        let Some(header) = header else {
            let is_begun = BatchHeader::is_begun(&head, self.number, number);
            return Ok(if is_begun {
                Found::Torn("its header is broken")
            } else {
                Found::Nothing
            });
        };
        // Only one batch was ever written to this place, so this is none that was interrupted.
        if header.number != number {
            let what = format!("batch {} stands where batch {number} should", header.number);
            return Err(self.damaged(at, &what));
        }
        self.batch(at, &header)
            .map_err(|unreadable| self.unreadable(at, unreadable))
    }

    /// The batch of a header. Everything is checked before anything of it is used.
    fn batch(&self, at: usize, header: &BatchHeader) -> Result<Found, Unreadable> {
        let what = "a batch";
        let next = header.number.checked_add(1).ok_or(Malformed { what })?;
        if header.synced > self.place(at) {
            return Err(Malformed { what }.into());
        }
        if header.total_bytes > (self.len() - at) as u64 {
            return Ok(Found::Torn("the file ends before it does"));
        }
        let end = at + header.total_bytes as usize;
        let bytes = &self.bytes[at..end];
        let meta_end = BATCH_HEADER_BYTES + header.meta_bytes as usize;
        let meta = &bytes[BATCH_HEADER_BYTES..meta_end];
        if crc32fast::hash(meta) != header.meta_crc {
            return Ok(Found::Torn("the checksum of its entries is wrong"));
        }
        let entries = entries(meta, header, meta_end)?;
        let is_whole = entries.iter().all(|(entry, payload)| {
            let payload = payload.clone().map_or(&[][..], |payload| &bytes[payload]);
            check_entry(entry.bytes(), payload).is_ok()
        });
        if !is_whole {
            return Ok(Found::Torn("the checksum of a payload is wrong"));
        }
        let mut parts = Vec::with_capacity(entries.len());
        let mut meta_at = at + BATCH_HEADER_BYTES;
        for (entry, payload) in entries {
            let place = PartPlace {
                meta_at: meta_at as u32,
                meta_len: entry.bytes().len() as u32,
                payload_at: payload.as_ref().map_or(0, |payload| (at + payload.start) as u32),
            };
            meta_at += entry.bytes().len();
            let payload = payload.map_or_else(Bytes::new, |payload| {
                self.bytes.slice(at + payload.start..at + payload.end)
            });
            parts.push((entry.part(payload)?, place));
        }
        Ok(Found::Batch(Batch {
            parts,
            end,
            next,
            synced: header.synced,
        }))
    }
}

/// An entry, and its payload's range in the batch.
type Entries<'a> = Vec<(Entry<'a>, Option<std::ops::Range<usize>>)>;

/// The entries of a batch. Their payloads fill what follows the entries but for the padding.
fn entries<'a>(meta: &'a [u8], header: &BatchHeader, meta_end: usize) -> Result<Entries<'a>, Unreadable> {
    let what = "the entries of a batch";
    let malformed = Malformed { what };
    let mut from = Decoder::new(meta);
    let mut entries = Vec::new();
    let mut payload_bytes = 0;
    while !from.rest().is_empty() {
        let entry = Entry::take(&mut from)?;
        let payload = entry.payload()?;
        if let Some(payload) = &payload {
            payload_bytes += payload.end - payload.start;
            if payload.start < meta_end as u64 || payload.end > header.total_bytes {
                return Err(malformed.into());
            }
        }
        entries.push((
            entry,
            payload.map(|payload| payload.start as usize..payload.end as usize),
        ));
    }
    let fills = (meta_end as u64 + payload_bytes).next_multiple_of(ALIGNMENT as u64) == header.total_bytes;
    let ends_a_record = entries.last().is_none_or(|(entry, _)| !entry.goes_on());
    if entries.len() as u64 != u64::from(header.parts) || !fills || !ends_a_record {
        return Err(malformed.into());
    }
    Ok(entries)
}
