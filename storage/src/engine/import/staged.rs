//! A stream that is being imported: its bytes are gathered where nobody sees them, until all are there.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::{
    Append, ContentKind, ControlChange, Created, ForkSource, Lineage, Part, Position, Record, StreamId,
    StreamState, Transition, json,
};

use super::{Existing, FoundSource, ImportError, malformed};
use crate::backend::BackendError;
use crate::engine::export::{ExportedAppend, ExportedStream};
use crate::engine::leads::Led;
use crate::engine::leftovers::Leftover;
use crate::engine::pins::StoragePin;
use crate::engine::sequencer::{Decision, Entry, Settled, Standing};
use crate::engine::{Engine, EngineError};

/// Appends and control keys are gathered into records of about so many bytes.
const RECORD_BYTES: usize = 1 << 20;
/// Parts in one record at the most.
const RECORD_PARTS: usize = 1024;

/// A stream that is being imported.
pub(super) struct Staged {
    engine: Engine,
    /// What it will be.
    pub(super) state: StreamState,
    pub(super) exported: ExportedStream,
    /// The name that will lead to it. Pinned since before its id was given, so that it knows of newer streams.
    named: Arc<Entry>,
    /// The order of what is staged.
    entry: Arc<Entry>,
    /// Holds it and its source, also for what is queued.
    pub(super) pin: Arc<StoragePin>,
    /// Where the next append begins.
    tail: Position,
    /// Messages before that; not known before the first append.
    messages: Option<u64>,
    gathered: Record,
    gathered_bytes: usize,
    /// Something of it may be stored that nobody else gives back. Whether its name leads to it need not be known.
    is_left_over: bool,
    /// Held until its name has come to lead to it.
    led: Option<Led>,
}

/// What came of letting the name lead to it.
enum Step {
    Shown,
    Refused(ImportError),
    /// The name is a deleted stream's.
    Deleted(StreamId),
    /// The name is that of a stream whose lifetime is over, and which stands in another partition.
    ExpiredApart,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.is_left_over {
            let staged = Leftover::Staged(self.state.id, self.state.name.clone());
            self.engine.shared.leftovers.note(staged);
        }
    }
}

impl Staged {
    pub(super) fn new(
        engine: &Engine,
        named: &Arc<Entry>,
        exported: ExportedStream,
        (id, lineage): (StreamId, Lineage),
        source: Option<FoundSource>,
        led: Option<Led>,
    ) -> Self {
        let held = source.as_ref().map(|source| source.pin.as_ref());
        let pin = Arc::new(engine.shared.pins.pin_staged(id, held));
        let from = exported
            .state
            .source
            .as_ref()
            .map_or(Position::ZERO, |source| source.point);
        let source = source.map(|source| ForkSource {
            id: source.id,
            name: source.name,
            point: from,
        });
        let tail = exported.state.oldest.max(from);
        let state = StreamState {
            id,
            lineage,
            source,
            ..exported.state.clone()
        };
        Self {
            engine: engine.clone(),
            tail,
            gathered: Self::stage(&state, tail),
            state,
            exported,
            named: Arc::clone(named),
            entry: Arc::new(Entry::unregistered(named.name.clone())),
            pin,
            messages: None,
            gathered_bytes: 0,
            is_left_over: false,
            led,
        }
    }

    /// What it begins with. Everything else of its state comes with its import.
    fn stage(state: &StreamState, from: Position) -> Record {
        let created = Created {
            id: state.id,
            name: state.name.clone(),
            kind: state.kind,
            beside: state.beside.clone(),
            content_type: state.content_type.clone(),
            lifetime: state.lifetime,
            requested: state.requested.clone(),
            lineage: Lineage::root(state.id),
            source: None,
            oldest: from,
            messages: 0,
            at: state.created_at,
        };
        Record::of(state.id, Transition::Stage(Box::new(created)))
    }

    pub(super) fn control(&mut self, key: Bytes, value: Bytes) {
        self.gathered_bytes += key.len() + value.len();
        self.gathered.parts.push(Part::Control(ControlChange {
            stream: self.state.id,
            key,
            value: Some(value),
        }));
    }

    pub(super) fn append(&mut self, append: ExportedAppend) -> Result<(), ImportError> {
        self.check(&append)?;
        let append = Append {
            start: append.start,
            payload: append.payload,
            ends: append.ends,
            first_message: append.first_message,
            producer: None,
            stream_seq: None,
            closes: false,
            at: append.at,
        };
        self.tail = append.end();
        self.messages = Some(append.first_message + append.message_count());
        self.gathered_bytes += append.payload.len();
        self.gathered.push(self.state.id, Transition::Append(append));
        Ok(())
    }

    fn check(&self, append: &ExportedAppend) -> Result<(), ImportError> {
        let bytes = append.payload.len();
        if append.start != self.tail
            || self
                .messages
                .is_some_and(|messages| messages != append.first_message)
        {
            return Err(malformed(format!(
                "an append at {} does not follow the one before, which ends at {}",
                append.start, self.tail
            )));
        }
        if bytes == 0 || self.state.tail.since(self.tail) < bytes as u64 {
            return Err(malformed(format!(
                "an append at {} has {bytes} bytes",
                append.start
            )));
        }
        let mut start = 0;
        for end in append.ends.relative(bytes) {
            let message = append.payload.get(start..end as usize).unwrap_or_default();
            let is_json = self.state.content_type.kind() == ContentKind::Json;
            if message.is_empty() || (is_json && !json::is_stored_message(message)) {
                return Err(malformed(format!(
                    "an append at {} has something that is no message of {}",
                    append.start, self.state.content_type
                )));
            }
            start = end as usize;
        }
        if start != bytes
            || append
                .first_message
                .checked_add(append.ends.count(bytes))
                .is_none()
        {
            return Err(malformed(format!(
                "the messages of an append at {} end elsewhere",
                append.start
            )));
        }
        Ok(())
    }

    /// Writes what is gathered once it is worth a commit.
    pub(super) async fn write_if_much(&mut self) -> Result<(), ImportError> {
        if self.gathered_bytes >= RECORD_BYTES || self.gathered.parts.len() >= RECORD_PARTS {
            self.write().await?;
        }
        Ok(())
    }

    /// Makes what is gathered durable.
    async fn write(&mut self) -> Result<(), EngineError> {
        let record = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        if record.parts.is_empty() {
            return Ok(());
        }
        self.is_left_over = true;
        let settled = {
            let mut sequencer = self.entry.sequencer.lock();
            self.engine
                .commit(&self.entry, &mut sequencer, record, Some(Arc::clone(&self.pin)))?
        };
        let settled = match settled {
            Some(settled) => settled.await.unwrap_or(Settled::Failed),
            None => Settled::Durable,
        };
        match settled {
            Settled::Durable => Ok(()),
            Settled::Full | Settled::DecideAgain => Err(EngineError::Full),
            Settled::Failed => Err(BackendError::Poisoned.into()),
        }
    }

    /// Writes the rest of it, and lets its name lead to it.
    pub(super) async fn finish(&mut self, existing: Existing) -> Result<(), ImportError> {
        let messages = self.messages.unwrap_or(self.state.messages);
        if (self.tail, messages) != (self.state.tail, self.state.messages) {
            return Err(malformed(format!(
                "its appends end at {} and message {messages}, and its tail is {} and message {}",
                self.tail, self.state.tail, self.state.messages
            )));
        }
        self.write().await?;
        let mut free_of = None;
        loop {
            match self.show(existing, free_of).await? {
                Step::Shown => return Ok(()),
                Step::Refused(refusal) => return Err(refusal),
                Step::Deleted(id)
                    if existing == Existing::Refuse && self.engine.is_held_by_forks(id).await? =>
                {
                    return Err(ImportError::HeldByForks);
                }
                Step::Deleted(id) => free_of = Some(id),
                Step::ExpiredApart => self.engine.expire(&self.named).await?,
            }
        }
    }

    /// Lets the name lead to it, in the turn of the name. A name is taken from a deleted stream only once that is
    /// durable: `free_of` says of which one it is known.
    async fn show(&mut self, existing: Existing, free_of: Option<StreamId>) -> Result<Step, ImportError> {
        let (named, state, pin) = (Arc::clone(&self.named), self.state.clone(), Arc::clone(&self.pin));
        let backend = &self.engine.shared.backend;
        let is_apart = |id| backend.partition_of(id) != backend.partition_of(state.id);
        let shown = self
            .engine
            .sequence(&named, |sequencer, now| {
                if sequencer.has_had_newer_than(state.id) {
                    return Decision::Answer(Step::Refused(ImportError::Changed));
                }
                let mut record = Record::default();
                match (sequencer.standing(now), sequencer.accepted()) {
                    (Standing::Deleted(id), _) if free_of != Some(id) => {
                        return Decision::Answer(Step::Deleted(id));
                    }
                    (Standing::Alive(_), _) if existing == Existing::Refuse => {
                        return Decision::Answer(Step::Refused(ImportError::Exists));
                    }
                    (Standing::Expired, Some(old)) if is_apart(old.id) => {
                        return Decision::Look(Step::ExpiredApart);
                    }
                    (Standing::Alive(_), Some(old)) if is_apart(old.id) => {
                        // Nothing else is placed by anything else than what is replaced.
                        let source = state.source.as_ref().map(|source| &source.name);
                        let beside = source.or(state.beside.as_ref()).unwrap_or(&state.name).clone();
                        return Decision::Answer(Step::Refused(ImportError::Apart { beside }));
                    }
                    (Standing::Alive(_) | Standing::Expired, Some(old)) => {
                        record.push(old.id, Transition::Delete { at: now });
                    }
                    _ => {}
                }
                record.push(state.id, Transition::Import(Box::new(state.clone())));
                Decision::CommitFork(record, Arc::clone(&pin), Step::Shown)
            })
            .await;
        // After a failure nothing is known. Refused for want of space or of the name, it is still staged.
        if matches!(shown, Ok(Step::Shown) | Err(EngineError::Backend(_))) {
            self.is_left_over = false;
            self.led.iter_mut().for_each(Led::keep);
        }
        Ok(shown?)
    }
}
