//! What the driver stored, and reads of it through the lineage of a stream.

use std::collections::BTreeMap;

use tailwater_stream::{
    AppendExtent, ContentKind, Created, OffsetRefusal, Position, StreamId, StreamState, Timestamp, Transition,
};

use super::outcome::Answer;
use super::words::token;

/// One incarnation, with what it stored itself.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) state: StreamState,
    pub(crate) created: Created,
    /// All transitions after its creation, and the state after each.
    pub(crate) log: Vec<(Transition, StreamState)>,
    start: Position,
    bytes: Vec<u8>,
    extents: Vec<AppendExtent>,
    /// The last use, recorded or not.
    pub(crate) used_at: Timestamp,
    /// Whether its name was given up, because it is deleted and no fork holds it.
    pub(crate) released: bool,
}

/// All incarnations there ever were.
#[derive(Debug, Default)]
pub(crate) struct Storage(pub(crate) BTreeMap<StreamId, Stored>);

impl Storage {
    pub(crate) fn read(&self, id: StreamId, offset: &str) -> Answer {
        let state = &self.0[&id].state;
        let from = match state.lineage.resolve(token(offset), state.oldest, state.tail) {
            Ok(position) if self.is_message_end(state, position) => position,
            Ok(_) | Err(OffsetRefusal::Unknown) => return Answer::Unknown,
            Err(OffsetRefusal::Trimmed { oldest }) => {
                return Answer::Trimmed {
                    oldest: oldest.to_string(),
                };
            }
        };
        let mut body = Vec::new();
        let mut records = Vec::new();
        let mut start = from;
        while start < state.tail {
            let (stored, end) = self.stored_at(state, start);
            body.extend_from_slice(stored.slice(start, end));
            for extent in stored.extents_between(start, end) {
                for (number, message_end) in extent.message_ends().enumerate() {
                    if message_end > start {
                        let index = extent.first_message + number as u64;
                        let end = state.lineage.token(message_end).to_string();
                        records.push((index, end, stored.slice(start, message_end).to_vec()));
                        start = message_end;
                    }
                }
            }
            assert_eq!(start, end, "the messages of stream {id} cover its bytes");
        }
        if state.content_type.kind() == ContentKind::Json {
            body.insert(0, b'[');
            if body.len() > 1 {
                body.pop();
            }
            body.push(b']');
        }
        Answer::Data { body, records }
    }

    /// Where the byte at a position is stored, and where that storage ends.
    fn stored_at(&self, state: &StreamState, position: Position) -> (&Stored, Position) {
        let (span, end) = state.lineage.span_at(position);
        (
            &self.0[&span.stored_in],
            end.unwrap_or(state.tail).min(state.tail),
        )
    }

    pub(crate) fn append_at(&self, state: &StreamState, position: Position) -> Option<AppendExtent> {
        if position >= state.tail {
            return None;
        }
        let (stored, end) = self.stored_at(state, position);
        stored.extents_between(position, end).next()
    }

    pub(crate) fn is_message_end(&self, state: &StreamState, position: Position) -> bool {
        if state.content_type.kind() != ContentKind::Json
            || position <= state.oldest
            || position >= state.tail
        {
            return true;
        }
        let append = self.append_at(state, byte_before(position));
        append.is_some_and(|append| append.message_ends().any(|end| end == position))
    }

    pub(crate) fn messages_before(&self, state: &StreamState, position: Position) -> u64 {
        if position == state.tail {
            return state.messages;
        }
        if position == Position::ZERO {
            return 0;
        }
        let append = self.append_at(state, byte_before(position));
        append.expect("before the tail").messages_before(position)
    }
}

impl Stored {
    pub(crate) fn new(created: Created) -> Self {
        let state = StreamState::created(&created);
        Self {
            start: state.tail,
            used_at: state.touched_at,
            state,
            created,
            log: Vec::new(),
            bytes: Vec::new(),
            extents: Vec::new(),
            released: false,
        }
    }

    pub(crate) fn apply(&mut self, transition: Transition) {
        if let Transition::Append(append) = &transition
            && !append.payload.is_empty()
        {
            self.bytes.extend_from_slice(&append.payload);
            self.extents.push(AppendExtent {
                start: append.start,
                end: append.end(),
                at: append.at,
                first_message: append.first_message,
                ends: append.ends.clone(),
            });
        }
        self.state.apply(&transition);
        self.used_at = self.used_at.max(self.state.touched_at);
        self.log.push((transition, self.state.clone()));
    }

    fn slice(&self, from: Position, until: Position) -> &[u8] {
        &self.bytes[from.since(self.start) as usize..until.since(self.start) as usize]
    }

    /// The appends that have bytes between two positions, the last one cut off.
    fn extents_between(&self, from: Position, until: Position) -> impl Iterator<Item = AppendExtent> + '_ {
        self.extents
            .iter()
            .filter(move |extent| extent.end > from && extent.start < until)
            .map(move |extent| AppendExtent {
                end: extent.end.min(until),
                ..extent.clone()
            })
    }
}

fn byte_before(position: Position) -> Position {
    Position::new(position.get() - 1).expect("a smaller one")
}
