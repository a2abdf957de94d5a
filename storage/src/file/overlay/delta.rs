//! What a generation says of one stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use tailwater_stream::{
    Append, Created, ForkSource, Position, ProducerId, ProducerMark, ProducerState, Producers, StreamId,
    StreamName, StreamState, Timestamp,
};

use super::{DELTA_BYTES, ENTRY_BYTES, Map};
use crate::file::catalog::StreamRow;
use crate::file::journal::PartPlace;

/// Where the bytes of one append stand in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::file) struct JournalExtent {
    pub(in crate::file) from: u64,
    pub(in crate::file) journal: u64,
    pub(in crate::file) meta_at: u32,
    pub(in crate::file) meta_len: u32,
    pub(in crate::file) payload_at: u32,
    pub(in crate::file) payload_len: u32,
}

impl JournalExtent {
    pub(in crate::file) fn until(&self) -> u64 {
        self.from + u64::from(self.payload_len)
    }

    /// The entry's range in the journal.
    pub(in crate::file) fn meta(&self) -> std::ops::Range<u64> {
        let at = u64::from(self.meta_at);
        at..at + u64::from(self.meta_len)
    }

    /// The range in the journal of the bytes between two positions.
    pub(in crate::file) fn payload(&self, from: u64, until: u64) -> std::ops::Range<u64> {
        let at = u64::from(self.payload_at);
        at + (from - self.from)..at + (until - self.from)
    }
}

/// What the appends of a generation have made of a stream.
#[derive(Debug, Clone)]
struct Moved {
    tail: Position,
    messages: u64,
    closed: bool,
    last_append_at: Option<Timestamp>,
    /// Where the first bytes of this generation begin.
    first_bytes_at: Option<Position>,
}

/// What a generation says of one stream. What every append changes and a fold begins with comes first and stands together, for
/// where there are very many streams it has to be fetched from memory each time.
#[derive(Debug, Default)]
#[repr(C)]
pub(in crate::file) struct Delta {
    /// In order of position, without gaps.
    pub(in crate::file) extents: Vec<JournalExtent>,
    pub(super) touched_at: Timestamp,
    moved: Option<Moved>,
    /// Its own bytes before this position can go.
    pub(in crate::file) stored_from: Option<Position>,
    /// Whether what was created is being imported, and not completely there.
    pub(super) staged: bool,
    pub(super) deleted: bool,
    /// Everything of it can go.
    pub(in crate::file) released: bool,
    stream_seq: Option<Box<str>>,
    producers: Map<ProducerId, ProducerState>,
    pub(super) created: Option<Box<Created>>,
    /// What a completed import says of it, but for its producers.
    imported: Option<Box<StreamState>>,
    pub(super) oldest: Option<Position>,
    pub(in crate::file) controls: BTreeMap<Bytes, Option<Bytes>>,
}

impl Delta {
    /// Looks at what the next append changes and a fold begins with: both ends of the delta's beginning, and of its extents.
    /// Answers a number that depends on them and says nothing.
    pub(super) fn call_for(&self) -> u64 {
        let oldest = self.extents.first().map_or(0, |extent| extent.from);
        let newest = self.extents.last().map_or(0, |extent| extent.from);
        oldest ^ newest ^ self.touched_at.as_millis() ^ u64::from(self.released)
    }

    pub(in crate::file) fn created(&self) -> Option<&Created> {
        self.created.as_deref()
    }

    /// The name that the stream was given in this generation, and its source; none if it was given none.
    pub(in crate::file) fn named(&self) -> Option<(&StreamName, Option<&ForkSource>)> {
        let created = self.created().filter(|_| !self.staged);
        match &self.imported {
            Some(state) => Some((&state.name, state.source.as_ref())),
            None => created.map(|created| (&created.name, created.source.as_ref())),
        }
    }

    /// Whether an import was completed in this generation.
    pub(in crate::file) fn is_imported(&self) -> bool {
        self.imported.is_some()
    }

    /// Whether it was trimmed in this generation.
    pub(in crate::file) fn is_trimmed(&self) -> bool {
        self.oldest.is_some()
    }

    pub(in crate::file) fn producers(&self) -> impl Iterator<Item = (&ProducerId, &ProducerState)> {
        self.producers.iter()
    }

    /// Applies it to what the catalog, or an older generation, says. Appends belong to `era`.
    pub(in crate::file) fn apply_to(&self, row: &mut Option<StreamRow>, era: u64) {
        if self.released {
            *row = None;
            return;
        }
        if let (None, Some(created)) = (&row, &self.created) {
            let state = StreamState::created(created);
            *row = Some(StreamRow {
                era,
                stored_from: state.tail,
                state,
                staged: self.staged,
                last_block: Vec::new(),
            });
        }
        let Some(row) = row else { return };
        if let Some(imported) = &self.imported {
            row.state.clone_from(imported);
            row.staged = false;
            row.era = era;
        }
        let state = &mut row.state;
        if let Some(moved) = &self.moved {
            if let Some(from) = moved.first_bytes_at.filter(|_| row.era != era) {
                state.lineage = renewed(&state.lineage, from, era);
                row.era = era;
            }
            state.tail = moved.tail;
            state.messages = moved.messages;
            state.closed = moved.closed;
            state.last_append_at = moved.last_append_at.or(state.last_append_at);
        }
        if self.stream_seq.is_some() {
            state.stream_seq.clone_from(&self.stream_seq);
        }
        for (id, known) in &self.producers {
            let mark = ProducerMark {
                id: id.clone(),
                epoch: known.epoch,
                seq: known.seq,
            };
            state.producers.record(&mark, known.end, known.at);
        }
        state.oldest = self
            .oldest
            .map_or(state.oldest, |oldest| state.oldest.max(oldest));
        state.touched_at = state.touched_at.max(self.touched_at);
        state.deleted |= self.deleted;
        row.stored_from = self
            .stored_from
            .map_or(row.stored_from, |from| row.stored_from.max(from));
    }

    /// Says all of it anew but where its bytes are.
    pub(super) fn import(&mut self, state: &StreamState, place: PartPlace) -> u64 {
        self.moved = None;
        self.stream_seq = None;
        self.oldest = None;
        self.touched_at = state.touched_at;
        self.deleted = state.deleted;
        self.producers = state
            .producers
            .iter()
            .map(|(id, state)| (id.clone(), *state))
            .collect();
        self.imported = Some(Box::new(StreamState {
            producers: Producers::default(),
            ..state.clone()
        }));
        let producer_bytes = |id: &ProducerId| ENTRY_BYTES + id.as_str().len() as u64;
        DELTA_BYTES + text_bytes(&state.name, place) + self.producers.keys().map(producer_bytes).sum::<u64>()
    }

    /// Keeps only what was begun under which name, and that all of it can go.
    pub(super) fn release(&mut self) {
        let (created, imported) = (self.created.take(), self.imported.take());
        *self = Self {
            created,
            staged: self.staged,
            imported,
            deleted: true,
            released: true,
            ..Self::default()
        };
    }

    pub(super) fn append(&mut self, append: &Append, journal: u64, place: PartPlace) -> u64 {
        let has_bytes = !append.payload.is_empty();
        let before = self.moved.as_ref();
        let first_bytes_at = before.and_then(|moved| moved.first_bytes_at);
        self.moved = Some(Moved {
            tail: append.end(),
            messages: append.first_message + append.message_count(),
            closed: append.closes,
            last_append_at: if has_bytes {
                Some(append.at)
            } else {
                before.and_then(|moved| moved.last_append_at)
            },
            first_bytes_at: first_bytes_at.or(has_bytes.then_some(append.start)),
        });
        self.touched_at = self.touched_at.max(append.at);
        let mut bytes = 0;
        if has_bytes {
            bytes += size_of::<JournalExtent>() as u64;
            self.extents.push(JournalExtent {
                from: append.start.get(),
                journal,
                meta_at: place.meta_at,
                meta_len: place.meta_len,
                payload_at: place.payload_at,
                payload_len: u32::try_from(append.payload.len()).expect("journals are below 4 GiB"),
            });
        }
        if let Some(mark) = &append.producer {
            let known = ProducerState {
                epoch: mark.epoch,
                seq: mark.seq,
                end: append.end(),
                at: append.at,
            };
            if let Some(before) = self.producers.get_mut(&mark.id) {
                *before = known;
            } else {
                bytes += ENTRY_BYTES + mark.id.as_str().len() as u64;
                self.producers.insert(mark.id.clone(), known);
            }
        }
        if let Some(stream_seq) = &append.stream_seq {
            let known = self.stream_seq.as_ref().map_or(0, |known| known.len());
            bytes += stream_seq.len().saturating_sub(known) as u64;
            self.stream_seq = Some(stream_seq.clone());
        }
        bytes
    }
}

/// What the texts of a new stream take: those of its entry, and its name once more to find it by.
pub(super) fn text_bytes(name: &StreamName, place: PartPlace) -> u64 {
    u64::from(place.meta_len) + name.as_str().len() as u64
}

/// The lineage of a stream whose positions from `from` on may have been given out in an earlier era and lost:
/// what is appended there has the era for its owner.
pub(in crate::file) fn renewed(
    lineage: &tailwater_stream::Lineage,
    from: Position,
    era: u64,
) -> tailwater_stream::Lineage {
    StreamId::new(era).map_or_else(|| lineage.clone(), |owner| lineage.renewed(from, owner))
}
