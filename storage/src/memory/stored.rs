//! One stream as the memory backend keeps it: its state, its bytes, and an index of its appends.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tailwater_stream::fork::AppendExtent;
use tailwater_stream::{
    Append, ControlChange, Created, MessageEnds, Position, ProducerId, StreamName, StreamState, Timestamp,
    Transition,
};

use super::chunks::Chunks;
use crate::backend::{ControlsRequest, ReadError, ReadRequest, Slices};

/// What a stream costs beside its name: states, maps and index at their emptiest.
const STREAM_BYTES: u64 = 1024;
/// What an append costs beside its payload.
const APPEND_BYTES: u64 = 48;
/// What each further message of an append costs.
const MESSAGE_BYTES: u64 = 4;
/// What a producer costs beside its id; it is kept here and in the engine.
const PRODUCER_BYTES: u64 = 192;
/// What a control key costs beside its key and value.
const CONTROL_BYTES: u64 = 64;

pub(super) fn cost_of_stream(created: &Created) -> u64 {
    cost_of_name(&created.name)
}

fn cost_of_name(name: &StreamName) -> u64 {
    STREAM_BYTES + name.as_str().len() as u64
}

/// What a completed import costs beside the bytes that were staged.
pub(super) fn cost_of_import(state: &StreamState) -> u64 {
    let ids = state.producers.iter().map(|(id, _)| id.as_str().len() as u64);
    ids.map(|bytes| PRODUCER_BYTES + bytes).sum()
}

pub(super) fn cost_of_append(append: &Append, producer_is_known: bool) -> u64 {
    let producer = match &append.producer {
        Some(mark) if !producer_is_known => PRODUCER_BYTES + mark.id.as_str().len() as u64,
        _ => 0,
    };
    producer + cost_of_extent(append.payload.len() as u64, &append.ends)
}

fn cost_of_extent(bytes: u64, ends: &MessageEnds) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let messages = match ends {
        MessageEnds::One => 0,
        MessageEnds::Many(ends) => ends.len() as u64,
    };
    bytes + APPEND_BYTES + messages * MESSAGE_BYTES
}

pub(super) fn cost_of_control(change: &ControlChange) -> u64 {
    change
        .value
        .as_ref()
        .map_or(0, |value| cost_of_entry(&change.key, value))
}

fn cost_of_entry(key: &Bytes, value: &Bytes) -> u64 {
    CONTROL_BYTES + (key.len() + value.len()) as u64
}

/// The index entry of an append; it starts where the one before ends.
#[derive(Debug)]
struct Indexed {
    end: u64,
    at: Timestamp,
    first_message: u64,
    ends: MessageEnds,
}

#[derive(Debug)]
pub(super) struct Stored {
    state: StreamState,
    chunks: Chunks,
    /// Where the first indexed append starts.
    index_start: u64,
    index: VecDeque<Indexed>,
    controls: BTreeMap<Bytes, Bytes>,
    /// When its lifetime is to be looked at; never behind its deadline.
    look_at: Option<Timestamp>,
    /// What all of it takes of the budget.
    cost: u64,
}

impl Stored {
    /// A stream that has no bytes yet.
    pub(super) fn new(state: StreamState) -> Self {
        let start = state.tail.get();
        Self {
            look_at: deadline(&state),
            chunks: Chunks::starting_at(start),
            index_start: start,
            index: VecDeque::new(),
            controls: BTreeMap::new(),
            cost: cost_of_name(&state.name),
            state,
        }
    }

    /// Completes an import whose cost has been taken from the budget; answers that cost.
    pub(super) fn import(&mut self, state: &StreamState) -> u64 {
        let cost = cost_of_import(state);
        self.state.apply(&Transition::Import(Box::new(state.clone())));
        self.look_at = deadline(&self.state);
        self.cost += cost;
        cost
    }

    pub(super) fn state(&self) -> &StreamState {
        &self.state
    }

    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// When a load would find its lifetime over; none if it does not end.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        deadline(&self.state)
    }

    pub(super) fn look_at(&self) -> Option<Timestamp> {
        self.look_at
    }

    pub(super) fn look_again_at(&mut self, at: Timestamp) {
        self.look_at = Some(at);
    }

    pub(super) fn knows_producer(&self, id: &ProducerId) -> bool {
        self.state.producers.get(id).is_some()
    }

    /// Applies a committed transition whose cost has been taken from the budget; answers that cost.
    pub(super) fn apply(&mut self, transition: &Transition) -> u64 {
        let mut cost = 0;
        if let Transition::Append(append) = transition {
            let known = append
                .producer
                .as_ref()
                .is_some_and(|mark| self.knows_producer(&mark.id));
            cost = cost_of_append(append, known);
            if !append.payload.is_empty() {
                self.chunks.append(&append.payload);
                self.index.push_back(Indexed {
                    end: append.end().get(),
                    at: append.at,
                    first_message: append.first_message,
                    ends: append.ends.clone(),
                });
            }
        }
        self.state.apply(transition);
        self.cost += cost;
        cost
    }

    /// Applies a change whose cost has been taken from the budget; answers what it gives back.
    pub(super) fn apply_control(&mut self, change: &ControlChange) -> u64 {
        self.cost += cost_of_control(change);
        let replaced = match &change.value {
            Some(value) => self.controls.insert(change.key.clone(), value.clone()),
            None => self.controls.remove(&change.key),
        };
        let freed = replaced.map_or(0, |value| cost_of_entry(&change.key, &value));
        self.cost -= freed;
        freed
    }

    pub(super) fn control(&self, key: &[u8]) -> Option<Bytes> {
        self.controls.get(key).cloned()
    }

    pub(super) fn controls(&self, request: &ControlsRequest<'_>) -> Vec<(Bytes, Bytes)> {
        let from = self
            .controls
            .range::<[u8], _>((request.begins(), std::ops::Bound::Unbounded));
        from.take_while(|(key, _)| key.starts_with(request.prefix))
            .take(request.count_max)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    pub(super) fn read(&self, request: ReadRequest) -> Result<Slices, ReadError> {
        let (from, until) = (request.from.get(), request.until.get());
        if from >= until {
            return Ok(Slices::none(request.from));
        }
        if from < self.index_start {
            return Err(ReadError::Gone);
        }
        let end = self.last_message_end(from, until, request.bytes_max);
        Ok(Slices {
            pieces: self.chunks.read(from, end),
            end: position(end),
        })
    }

    /// The end of the last message that ends within `bytes_max` of `from`, or else of the first one behind
    /// `from`; in any case at most `until`.
    fn last_message_end(&self, from: u64, until: u64, bytes_max: u64) -> u64 {
        let wanted = from.saturating_add(bytes_max);
        if wanted >= until {
            return until;
        }
        let next = self.index.partition_point(|append| append.end <= wanted);
        let whole_appends = next
            .checked_sub(1)
            .map_or(self.index_start, |last| self.index[last].end);
        // The append in which `wanted` lies may have messages that end before it.
        let part = self.index.get(next).and_then(|append| {
            let MessageEnds::Many(ends) = &append.ends else {
                return None;
            };
            let start = self.start_of(next);
            let fitting = ends.partition_point(|end| start + u64::from(*end) <= wanted);
            fitting.checked_sub(1).map(|last| start + u64::from(ends[last]))
        });
        let end = part.unwrap_or(whole_appends);
        if end > from {
            end
        } else {
            self.first_message_end(from).min(until)
        }
    }

    fn first_message_end(&self, from: u64) -> u64 {
        let number = self.index.partition_point(|append| append.end <= from);
        let append = &self.index[number];
        match &append.ends {
            MessageEnds::One => append.end,
            MessageEnds::Many(ends) => {
                let start = self.start_of(number);
                start + u64::from(ends[ends.partition_point(|end| start + u64::from(*end) <= from)])
            }
        }
    }

    fn start_of(&self, number: usize) -> u64 {
        number
            .checked_sub(1)
            .map_or(self.index_start, |before| self.index[before].end)
    }

    pub(super) fn extents(&self, request: ReadRequest) -> Result<Vec<AppendExtent>, ReadError> {
        let (from, until) = (request.from.get(), request.until.get());
        if from >= until {
            return Ok(Vec::new());
        }
        if from < self.index_start {
            return Err(ReadError::Gone);
        }
        let first = self.index.partition_point(|append| append.end <= from);
        let begins_before = from.saturating_add(request.bytes_max.max(1)).min(until);
        let mut start = self.start_of(first);
        let mut extents = Vec::new();
        for append in self.index.range(first..) {
            if start >= begins_before {
                break;
            }
            extents.push(AppendExtent {
                start: position(start),
                end: position(append.end.min(until)),
                at: append.at,
                first_message: append.first_message,
                ends: append.ends.clone(),
            });
            start = append.end;
        }
        Ok(extents)
    }

    /// Forgets appends that lie before `oldest`; answers what that gives back.
    pub(super) fn forget_before(&mut self, oldest: Position) -> u64 {
        let oldest = oldest.get();
        let mut freed = 0;
        while self.index.front().is_some_and(|append| append.end <= oldest) {
            let append = self.index.pop_front().expect("looked at");
            freed += cost_of_extent(append.end - self.index_start, &append.ends);
            self.index_start = append.end;
        }
        self.chunks.forget_before(self.index_start);
        self.cost -= freed;
        freed
    }
}

/// A use may have gone unrecorded, so the end is the one that a load assumes.
fn deadline(state: &StreamState) -> Option<Timestamp> {
    if state.deleted {
        return None;
    }
    let used_at = state.lifetime.touched_at_load(state.touched_at);
    state.lifetime.deadline(used_at)
}

fn position(number: u64) -> Position {
    Position::new(number).expect("positions come from appends")
}
