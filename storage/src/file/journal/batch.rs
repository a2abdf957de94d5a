//! Records become the bytes of a batch, which is written at once.

use tailwater_stream::{Record, StreamId};

use super::super::place::LogPlace;
use super::entry::{payload_of, put_entry, set_checksum, set_length, set_payload};
use super::header::{BATCH_HEADER_BYTES, BatchHeader};
use super::{ALIGNMENT, FIRST_BATCH_AT};
use crate::codec::Encode;
use crate::directory::StoreId;

/// What a batch takes at most beyond its records.
pub(in crate::file) const BATCH_OVERHEAD_BYTES: usize = BATCH_HEADER_BYTES + ALIGNMENT;
/// A buffer that had to grow beyond this is not kept.
const BUFFER_BYTES_KEPT: usize = 16 << 20;

/// Where one part stands in its journal, counted from the file's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::file) struct PartPlace {
    /// Its entry.
    pub(in crate::file) meta_at: u32,
    /// The entry's length.
    pub(in crate::file) meta_len: u32,
    /// Its payload; 0 if it has none.
    pub(in crate::file) payload_at: u32,
}

/// Encodes batches, one after the other, in one buffer.
pub(in crate::file) struct BatchEncoder {
    store: StoreId,
    bytes: Vec<u8>,
    places: Vec<PartPlace>,
}

/// A batch that is ready to be written.
pub(in crate::file) struct Encoded<'a> {
    /// All of it, to be written with one call.
    pub(in crate::file) bytes: &'a [u8],
    /// Where each part will stand, in the order of records and parts.
    pub(in crate::file) places: &'a [PartPlace],
}

/// A payload that is still to be copied.
struct Payload<'a> {
    stream: StreamId,
    part: usize,
    bytes: &'a [u8],
}

impl BatchEncoder {
    /// An encoder of batches of this store.
    pub(in crate::file) fn new(store: StoreId) -> Self {
        Self {
            store,
            bytes: Vec::new(),
            places: Vec::new(),
        }
    }

    /// How many bytes a record takes in a batch.
    pub(in crate::file) fn bytes_of(record: &Record) -> usize {
        let mut count = Count(0);
        for part in &record.parts {
            put_entry(&mut count, part, false);
            count.0 += payload_of(part).map_or(0, |(_, bytes)| bytes.len());
        }
        count.0
    }

    /// Encodes batch `number`, to be written at `place`, when the journals are durable up to `synced`.
    pub(in crate::file) fn encode(
        &mut self,
        records: &[&Record],
        number: u64,
        place: LogPlace,
        synced: LogPlace,
    ) -> Encoded<'_> {
        assert!(place.offset >= FIRST_BATCH_AT && place.offset.is_multiple_of(ALIGNMENT as u64));
        assert!(synced <= place, "what is not written yet is not durable");
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_BYTES_KEPT);
        self.places.clear();
        self.bytes.resize(BATCH_HEADER_BYTES, 0);
        let mut payloads = self.put_entries(records, place.offset);
        let meta_end = self.bytes.len();
        // What one batch adds to a stream stands together, and is read as one slice.
        if !payloads.is_sorted_by_key(|payload| payload.stream) {
            payloads.sort_unstable_by_key(|payload| (payload.stream, payload.part));
        }
        self.put_payloads(&payloads, place.offset);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        assert!(
            place.offset + self.bytes.len() as u64 <= u32::MAX.into(),
            "journals are below 4 GiB"
        );
        let meta = &self.bytes[BATCH_HEADER_BYTES..meta_end];
        let header = BatchHeader {
            number,
            total_bytes: self.bytes.len() as u64,
            meta_bytes: narrow(meta.len() as u64),
            parts: narrow(self.places.len() as u64),
            synced,
            meta_crc: crc32fast::hash(meta),
        };
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode(place.journal, self.store));
        Encoded {
            bytes: &self.bytes,
            places: &self.places,
        }
    }

    /// Answers the payloads, in the order of their parts. Entries that have none are complete.
    fn put_entries<'a>(&mut self, records: &[&'a Record], batch_at: u64) -> Vec<Payload<'a>> {
        let mut payloads = Vec::with_capacity(records.len());
        for record in records {
            let mut parts = record.parts.iter().peekable();
            while let Some(part) = parts.next() {
                let at = self.bytes.len();
                put_entry(&mut self.bytes, part, parts.peek().is_some());
                let entry = &mut self.bytes[at..];
                set_length(entry);
                let place = PartPlace {
                    meta_at: narrow(batch_at + at as u64),
                    meta_len: narrow(entry.len() as u64),
                    payload_at: 0,
                };
                match payload_of(part) {
                    None => set_checksum(entry, &[]),
                    Some((stream, bytes)) => payloads.push(Payload {
                        stream,
                        part: self.places.len(),
                        bytes,
                    }),
                }
                self.places.push(place);
            }
        }
        payloads
    }

    fn put_payloads(&mut self, payloads: &[Payload<'_>], batch_at: u64) {
        let total: usize = payloads.iter().map(|payload| payload.bytes.len()).sum();
        self.bytes.reserve(total + ALIGNMENT);
        for payload in payloads {
            let at = self.bytes.len();
            self.bytes.extend_from_slice(payload.bytes);
            let place = &mut self.places[payload.part];
            place.payload_at = narrow(batch_at + at as u64);
            let entry_at = (u64::from(place.meta_at) - batch_at) as usize;
            let entry = &mut self.bytes[entry_at..entry_at + place.meta_len as usize];
            set_payload(entry, narrow(at as u64));
            set_checksum(entry, payload.bytes);
        }
    }
}

/// A place in a journal, or a length.
fn narrow(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("journals are below 4 GiB")
}

/// Counts bytes instead of keeping them.
struct Count(usize);

impl Encode for Count {
    fn put_u8(&mut self, _: u8) {
        self.0 += 1;
    }

    fn put_u16(&mut self, _: u16) {
        self.0 += 2;
    }

    fn put_u32(&mut self, _: u32) {
        self.0 += 4;
    }

    fn put_u64(&mut self, _: u64) {
        self.0 += 8;
    }

    fn put_varint(&mut self, value: u64) {
        let bits = u64::BITS - (value | 1).leading_zeros();
        self.0 += bits.div_ceil(7) as usize;
    }

    fn put_slice(&mut self, value: &[u8]) {
        self.0 += value.len();
    }
}
