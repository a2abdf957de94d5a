//! Journals in memory, and what the tests of their parts share.

mod breakage;
mod files;
mod records;
mod round_trips;
mod strangeness;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::{Part, Record};

use super::{BatchEncoder, End, FIRST_BATCH_AT, PartPlace, replay};
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::Map;
use crate::file::journal::header::JournalHeader;
use crate::file::journal::replay::Replay;
use crate::file::place::LogPlace;

const STORE: StoreId = StoreId(*b"the tests' store");
const JOURNAL: u64 = 7;

/// Nothing is known to be durable.
const UNPROVEN: LogPlace = place(0);
/// Whatever was written to the journal is durable.
const SEALED: LogPlace = place(u64::MAX);

const fn place(offset: u64) -> LogPlace {
    LogPlace {
        journal: JOURNAL,
        offset,
    }
}

/// A map of bytes on the heap.
struct HeapMap(Bytes);

fn map(bytes: &[u8]) -> Arc<dyn Map> {
    Arc::new(HeapMap(Bytes::copy_from_slice(bytes)))
}

fn usizes(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl Map for HeapMap {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn look(&self, range: Range<u64>, look: &mut dyn FnMut(&[u8])) {
        look(&self.0[usizes(&range)]);
    }

    fn bytes(self: Arc<Self>, range: Range<u64>) -> Bytes {
        self.0.slice(usizes(&range))
    }

    fn is_resident(&self, _: Range<u64>) -> bool {
        true
    }

    fn populate(&self, range: Range<u64>) -> std::io::Result<()> {
        assert!(range.start < range.end && range.end <= self.len());
        Ok(())
    }
}

/// A batch as it was written.
#[derive(Clone)]
struct Written {
    number: u64,
    range: Range<usize>,
    synced: LogPlace,
    parts: Vec<Part>,
    places: Vec<PartPlace>,
}

/// A journal and what was written to it.
#[derive(Clone)]
struct Image {
    bytes: Vec<u8>,
    batches: Vec<Written>,
}

impl Image {
    /// A journal without batches, which has `bytes` bytes.
    fn new(bytes: usize) -> Self {
        let header = JournalHeader {
            number: JOURNAL,
            store: STORE,
        };
        let mut file = header.encode();
        file.resize(bytes, 0);
        Self {
            bytes: file,
            batches: Vec::new(),
        }
    }

    fn end(&self) -> usize {
        self.batches
            .last()
            .map_or(FIRST_BATCH_AT as usize, |batch| batch.range.end)
    }

    fn next_batch(&self) -> u64 {
        self.batches.last().map_or(1, |batch| batch.number + 1)
    }

    /// Writes a batch behind the last one, when the journal is durable up to byte `synced`.
    fn write(&mut self, records: &[Record], synced: usize) {
        let (at, number) = (self.end(), self.next_batch());
        let mut encoder = BatchEncoder::new(STORE);
        let synced = place(synced as u64);
        let encoded = encoder.encode(
            &records.iter().collect::<Vec<_>>(),
            number,
            place(at as u64),
            synced,
        );
        let range = at..at + encoded.bytes.len();
        if self.bytes.len() < range.end {
            self.bytes.resize(range.end, 0);
        }
        self.bytes[range.clone()].copy_from_slice(encoded.bytes);
        self.batches.push(Written {
            number,
            range,
            synced,
            parts: parts(records),
            places: encoded.places.to_vec(),
        });
    }
}

fn parts(records: &[Record]) -> Vec<Part> {
    records.iter().flat_map(|record| record.parts.clone()).collect()
}

/// What a replay applies, and what it answers.
struct Replayed {
    parts: Vec<Part>,
    places: Vec<PartPlace>,
    outcome: Result<Replay, BackendError>,
}

fn replay_from(bytes: &[u8], from: u64, next_batch: u64, proven: LogPlace) -> Replayed {
    let (mut parts, mut places) = (Vec::new(), Vec::new());
    let outcome = replay(
        &map(bytes),
        JOURNAL,
        STORE,
        from,
        next_batch,
        proven,
        &mut |part, place| {
            parts.push(part);
            places.push(place);
            Ok(())
        },
    );
    Replayed {
        parts,
        places,
        outcome,
    }
}

fn replay_all(bytes: &[u8], proven: LogPlace) -> Replayed {
    replay_from(bytes, FIRST_BATCH_AT, 1, proven)
}

impl Replayed {
    fn end(&self) -> &End {
        match &self.outcome {
            Ok(replay) => &replay.end,
            Err(error) => panic!("a journal that can be replayed: {error}"),
        }
    }

    /// What the error says of damage.
    fn damage(&self) -> &str {
        match &self.outcome {
            Err(BackendError::Damaged { what }) => what,
            other => panic!("damage is reported, not {other:?}"),
        }
    }

    /// What the error says of a later version.
    fn newer(&self) -> &str {
        match &self.outcome {
            Err(BackendError::Newer { what }) => what,
            other => panic!("a later version is named, not {other:?}"),
        }
    }
}
