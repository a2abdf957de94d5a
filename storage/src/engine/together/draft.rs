//! A record over several streams in the making: what is changed of each, decided in a turn of all of them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tailwater_stream::{
    AppendCommand, AppendDecision, AppendRefusal, ControlChange, EncodedBody, Limits, Part, Position,
    ProducerMark, Record, StreamId, StreamKind, StreamState, Timestamp, Transition,
};

use super::super::Engine;
use super::super::batch::Decided;
use super::super::create::Origin;
use super::super::pins::StoragePin;
use super::super::sequencer::{Sequencer, Standing};
use super::held::{Footing, Held};
use crate::backend::Backend;
use crate::sync::MutexGuard;

/// A record in the making. Streams are named by their places among those that were given. Each is as it was accepted,
/// and as the draft has changed it so far.
pub struct Draft<'a> {
    engine: &'a Engine,
    now: Timestamp,
    streams: Vec<Drafted<'a>>,
}

/// Why no stream is begun under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameTaken {
    /// A stream has it.
    #[error("a stream has this name")]
    Exists,
    /// A deleted stream has it, whose forks hold it or whose deletion is not durable yet. Hold it anew to find out.
    #[error("a deleted stream has this name")]
    Deleted,
}

/// A stream of a draft.
pub(super) struct Drafted<'a> {
    pub(super) held: &'a Held,
    pub(super) sequencer: MutexGuard<'a, Sequencer>,
    parts: Vec<Part>,
    /// The state after the first parts; none if those have not changed the accepted one.
    changed: Option<StreamState>,
    /// How many parts those are.
    applied: usize,
    /// Whether what is decided depends on it.
    is_looked_at: bool,
    /// What a fork in the making holds.
    pub(super) pin: Option<Arc<StoragePin>>,
    /// Its parts of the record that was gathered.
    pub(super) share: Range<usize>,
}

impl<'a> Draft<'a> {
    /// Locks all streams. Everybody locks those that they have in common in the same order, and whoever locks one alone
    /// waits for no other.
    pub(super) fn lock(engine: &'a Engine, streams: &'a [Held]) -> Self {
        let mut order: Vec<_> = (0..streams.len()).collect();
        order.sort_unstable_by(|one, other| streams[*one].name().cmp(streams[*other].name()));
        for pair in order.windows(2) {
            let [one, other] = [pair[0], pair[1]].map(|nth| streams[nth].name());
            assert_ne!(one, other, "a stream is given once");
        }
        let mut locked: Vec<_> = streams.iter().map(|_| None).collect();
        for nth in order {
            locked[nth] = Some(streams[nth].entry.sequencer.lock());
        }
        let drafted = streams.iter().zip(locked).map(|(held, sequencer)| Drafted {
            held,
            sequencer: sequencer.expect("each was locked"),
            parts: Vec::new(),
            changed: None,
            applied: 0,
            is_looked_at: false,
            pin: None,
            share: 0..0,
        });
        Self {
            engine,
            now: engine.now(),
            streams: drafted.collect(),
        }
    }

    pub(super) fn into_streams(self) -> Vec<Drafted<'a>> {
        self.streams
    }

    /// The time of everything in it.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The footing of the `nth` stream.
    pub fn footing(&self, nth: usize) -> Footing {
        self.streams[nth].held.footing()
    }

    /// The `nth` stream; none if no stream has the name, or one that is deleted or over.
    pub fn state(&mut self, nth: usize) -> Option<&StreamState> {
        let stream = &mut self.streams[nth];
        stream.is_looked_at = true;
        stream.state(self.now)
    }

    /// Whether a stream may begin under the `nth` name.
    ///
    /// # Errors
    /// [`NameTaken`] if none may.
    pub fn check_free(&mut self, nth: usize) -> Result<(), NameTaken> {
        let now = self.now;
        let stream = &mut self.streams[nth];
        stream.is_looked_at = true;
        if stream.state(now).is_some() {
            return Err(NameTaken::Exists);
        }
        let is_free = match stream.sequencer.standing(now) {
            Standing::Missing => true,
            Standing::Deleted(id) => stream.held.free_of == Some(id),
            Standing::Expired | Standing::Alive(_) => false,
        };
        if is_free && stream.parts.is_empty() {
            Ok(())
        } else {
            Err(NameTaken::Deleted)
        }
    }

    /// Begins the `nth` stream, beside the one that its name was held beside. Answers its id.
    ///
    /// # Errors
    /// [`NameTaken`]; nothing is changed then. Also if the name was not held to be placed, because a stream had it then.
    pub fn create(&mut self, nth: usize, kind: StreamKind, origin: &Origin) -> Result<StreamId, NameTaken> {
        self.check_free(nth)?;
        let (engine, now) = (self.engine, self.now);
        let stream = &mut self.streams[nth];
        let name = stream.held.name();
        // A stream that had the name when it was held may be gone since.
        let Some((beside, beside_id)) = stream.held.beside.as_ref() else {
            return Err(NameTaken::Deleted);
        };
        let id = engine.next_id(name, Some(*beside_id));
        let created = origin.begin(id, name, kind, Some(beside.clone()), now);
        stream.pin = origin.pin();
        stream.push(id, Transition::Create(Box::new(created)));
        Ok(id)
    }

    /// Appends to the `nth` stream as the server itself. Nothing is changed by a duplicate.
    ///
    /// # Errors
    /// What the rules refuse; nothing is changed then.
    ///
    /// # Panics
    /// If there is no such stream, or the body was encoded for another kind.
    pub fn append(
        &mut self,
        nth: usize,
        body: EncodedBody,
        producer: Option<ProducerMark>,
        closes: bool,
    ) -> Result<AppendDecision, AppendRefusal> {
        let limits = self.engine.shared.limits.of_stream();
        self.append_within(limits, nth, body, producer, closes)
    }

    /// Likewise, also if the stream or its producers are over the limits: what the server has to say of a stream, such as
    /// the end of a run, does not depend on how much its clients have put there.
    ///
    /// # Errors
    /// As [`Self::append`].
    ///
    /// # Panics
    /// As [`Self::append`].
    pub fn append_whatever_its_size(
        &mut self,
        nth: usize,
        body: EncodedBody,
        producer: Option<ProducerMark>,
        closes: bool,
    ) -> Result<AppendDecision, AppendRefusal> {
        let limits = Limits {
            stream_bytes_max: u64::MAX,
            producers_max: usize::MAX,
        };
        self.append_within(limits, nth, body, producer, closes)
    }

    fn append_within(
        &mut self,
        limits: Limits,
        nth: usize,
        body: EncodedBody,
        producer: Option<ProducerMark>,
        closes: bool,
    ) -> Result<AppendDecision, AppendRefusal> {
        let now = self.now;
        let stream = &mut self.streams[nth];
        stream.is_looked_at = true;
        let state = stream.existing(now);
        let command = AppendCommand {
            content_type: Some(state.content_type.clone()),
            body_is_empty: body.get().is_ok_and(|(payload, _)| payload.is_empty()),
            body,
            producer,
            stream_seq: None,
            if_match: None,
            closes,
        };
        let id = state.id;
        let decision = state.append_by_server(&command, now, limits)?;
        if let AppendDecision::Accept(append) = &decision {
            stream.push(id, Transition::Append(append.clone()));
        }
        Ok(decision)
    }

    /// Sets a control key of the `nth` stream, or removes it.
    ///
    /// # Panics
    /// If there is no such stream.
    pub fn control(&mut self, nth: usize, key: Bytes, value: Option<Bytes>) {
        let now = self.now;
        let stream = &mut self.streams[nth];
        let change = ControlChange {
            stream: stream.existing(now).id,
            key,
            value,
        };
        stream.parts.push(Part::Control(change));
    }

    /// Forgets what the `nth` stream has before a position, which is the end of a message.
    ///
    /// # Panics
    /// If there is no such stream, or it ends before that.
    pub fn trim(&mut self, nth: usize, before: Position) {
        let now = self.now;
        let stream = &mut self.streams[nth];
        let state = stream.existing(now);
        let (id, oldest) = (state.id, state.oldest);
        assert!(before <= state.tail, "trim of stream {id} beyond its tail");
        if before > oldest {
            stream.push(id, Transition::Trim { before, at: now });
        }
    }

    /// Deletes the `nth` stream.
    ///
    /// # Panics
    /// If there is no such stream.
    pub fn delete(&mut self, nth: usize) {
        let now = self.now;
        let stream = &mut self.streams[nth];
        let id = stream.existing(now).id;
        stream.push(id, Transition::Delete { at: now });
    }
}

impl Drafted<'_> {
    fn push(&mut self, id: StreamId, transition: Transition) {
        self.parts.push(Part::Stream { id, transition });
    }

    fn existing(&mut self, now: Timestamp) -> &StreamState {
        self.state(now).expect("there is such a stream")
    }

    /// The accepted state, copied only once it is looked at after a change of the draft's own.
    fn state(&mut self, now: Timestamp) -> Option<&StreamState> {
        for part in &self.parts[self.applied..] {
            let Part::Stream { transition, .. } = part else {
                continue;
            };
            if let Transition::Create(created) = transition {
                self.changed = Some(StreamState::created(created));
                continue;
            }
            let accepted = || {
                self.sequencer
                    .accepted()
                    .cloned()
                    .expect("only what is there is changed")
            };
            self.changed.get_or_insert_with(accepted).apply(transition);
        }
        self.applied = self.parts.len();
        match &self.changed {
            Some(state) => Some(state).filter(|state| !state.deleted),
            None => match self.sequencer.standing(now) {
                Standing::Alive(state) => Some(state),
                Standing::Missing | Standing::Deleted(_) | Standing::Expired => None,
            },
        }
    }

    /// In which partition it is changed; none if it is not.
    pub(super) fn changes_in(&self, backend: &dyn Backend) -> Option<usize> {
        self.parts.first().map(|part| {
            let (Part::Stream { id, .. } | Part::Control(ControlChange { stream: id, .. })) = part;
            backend.partition_of(*id)
        })
    }

    /// Lets the record rest on what was looked at and not changed, if that may be taken back: in the same partition by
    /// recording that the stream was used. Answers whether it must be waited for instead.
    pub(super) fn rest_on(&mut self, backend: &dyn Backend, partition: usize) -> bool {
        let may_be_taken_back = self.is_looked_at && self.parts.is_empty() && !self.sequencer.is_settled();
        // That there is no stream is never taken back.
        let Some(accepted) = self.sequencer.accepted().filter(|_| may_be_taken_back) else {
            return false;
        };
        let (id, at) = (accepted.id, accepted.touched_at);
        if !accepted.deleted && backend.partition_of(id) == partition {
            self.push(id, Transition::Touch { at });
            return false;
        }
        let seen = |id, deleted, closed| (id, deleted, closed);
        let accepted = seen(accepted.id, accepted.deleted, accepted.closed);
        let durable = self
            .sequencer
            .durable()
            .map(|durable| (durable.id, durable.view()));
        durable.is_none_or(|(id, view)| seen(id, view.deleted, view.closed) != accepted)
    }

    pub(super) fn decided(&self) -> Decided {
        Decided {
            entry: Arc::clone(&self.held.entry),
            generation: self.held.entry.generation(),
        }
    }
}

/// One record of all that is drafted, in which the parts of each stream stand together.
pub(super) fn gather(streams: &mut [Drafted<'_>]) -> Record {
    let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
    for stream in streams {
        let from = parts.len();
        parts.extend(stream.parts.drain(..));
        stream.share = from..parts.len();
    }
    Record { parts }
}
