//! Exports streams: each with all that is known of it, from one moment, in an order in which they can be imported.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::{
    AppendExtent, ForkSource, MessageEnds, Position, StreamId, StreamName, StreamState, Timestamp,
};

use super::pins::{Purpose, StoragePin};
use super::sequencer::{Decision, Entry, Standing};
use super::{Engine, EngineError, Incarnation, ReadFailure, Reader, View};
use crate::backend::{Backend, BackendError, ListRequest};

/// A stream as an export has it. In its lineage only the owners count: where its bytes were stored says nothing
/// elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedStream {
    /// Its state. It has a source only if that was exported before it; then what it inherits is not repeated.
    pub state: StreamState,
    /// Whether streams that may follow have it for their source.
    pub has_forks: bool,
}

/// One append of a stream as an export has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedAppend {
    /// Where its bytes begin.
    pub start: Position,
    /// When it was accepted.
    pub at: Timestamp,
    /// The index of its first message in the stream.
    pub first_message: u64,
    /// Where its messages end, counted from `start`.
    pub ends: MessageEnds,
    /// Its bytes, at least one.
    pub payload: Bytes,
}

/// Bytes read at a time, if an append is not longer alone.
const CHUNK_BYTES: u64 = 1 << 20;
/// Names asked for at a time.
const PAGE_NAMES: usize = 256;
/// How often a stream is looked at that is changed meanwhile.
const LOOKS_MAX: usize = 4;

/// Control keys with their values.
pub(super) type Controls = Vec<(Bytes, Bytes)>;

/// Exports the streams whose names begin with a prefix, in the order of their names, but sources before their
/// forks.
pub struct Exporter {
    engine: Engine,
    prefix: String,
    after: Option<StreamName>,
    is_last_page: bool,
    /// Next first.
    names: VecDeque<StreamName>,
    /// Forks that wait for their sources; the innermost source last.
    waiting: Vec<StreamName>,
    /// What was exported of each stream that forks may follow of; none if none were told to follow.
    exported: HashMap<StreamId, Option<Kept>, RandomState>,
}

/// Which positions of a stream were exported.
struct Kept {
    oldest: Position,
    tail: Position,
}

impl Kept {
    /// Whether all is there that a fork inherits.
    fn covers(&self, fork: &StreamState, point: Position) -> bool {
        point <= self.tail && self.oldest <= fork.oldest.min(point)
    }
}

/// A stream that is being exported. Its bytes are kept as long as this is, also if it is deleted meanwhile.
pub struct Export {
    stream: ExportedStream,
    controls: Controls,
    reader: Reader,
    view: View,
    /// The next byte.
    from: Position,
    /// Read and not given out yet.
    appends: VecDeque<ExportedAppend>,
    _pin: StoragePin,
}

/// What there is to export under a name.
enum Found {
    Nothing,
    /// Bytes are being reclaimed.
    Busy,
    Expired,
    Pinned(StoragePin),
}

impl Engine {
    /// Exports the streams whose names begin with `prefix`.
    pub fn export(&self, prefix: &str) -> Exporter {
        Exporter {
            engine: self.clone(),
            prefix: prefix.to_owned(),
            after: None,
            is_last_page: false,
            names: VecDeque::new(),
            waiting: Vec::new(),
            exported: HashMap::default(),
        }
    }
}

impl Exporter {
    /// The next stream as it is now; none after the last one. A stream that is deleted before its turn comes is
    /// left out, unless forks still refer to it.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn next(&mut self) -> Result<Option<Export>, EngineError> {
        while let Some(name) = self.next_name().await? {
            let Some((entry, pin, state)) = self.engine.pin_known(&name, Purpose::Reading).await? else {
                continue;
            };
            if self.exported.contains_key(&state.id) {
                continue;
            }
            if let Some(source) = &state.source
                && !self.exported.contains_key(&source.id)
                && self.waits_for(&name, source).await?
            {
                continue;
            }
            let Some((controls, state)) = self.engine.controls_and_state(&entry, state).await? else {
                self.waiting.push(name);
                continue;
            };
            let source = state.source.clone().filter(|source| {
                let kept = self.exported.get(&source.id).and_then(Option::as_ref);
                kept.is_some_and(|kept| kept.covers(&state, source.point))
            });
            let id = state.id;
            let has_forks = self.engine.ask(move |backend| backend.has_forks(id)).await?;
            let (oldest, tail) = (state.oldest, state.tail);
            self.exported
                .insert(id, has_forks.then_some(Kept { oldest, tail }));
            let own = source.as_ref().map_or(Position::ZERO, |source| source.point);
            let incarnation = Arc::new(Incarnation::new(&state));
            let view = incarnation.view();
            return Ok(Some(Export {
                from: state.oldest.max(own),
                stream: ExportedStream {
                    state: StreamState { source, ..state },
                    has_forks,
                },
                controls,
                reader: Reader::new(self.engine.clone(), entry, incarnation),
                view,
                appends: VecDeque::new(),
                _pin: pin,
            }));
        }
        Ok(None)
    }

    async fn next_name(&mut self) -> Result<Option<StreamName>, EngineError> {
        if let Some(name) = self.waiting.pop() {
            return Ok(Some(name));
        }
        while self.names.is_empty() && !self.is_last_page {
            let request = (self.prefix.clone(), self.after.clone());
            let states = self
                .engine
                .ask(move |backend| {
                    backend.list(&ListRequest {
                        prefix: &request.0,
                        after: request.1.as_ref().map(StreamName::as_str),
                        count_max: PAGE_NAMES,
                    })
                })
                .await?;
            self.is_last_page = states.len() < PAGE_NAMES;
            self.after = states.last().map(|state| state.name.clone());
            self.names.extend(states.into_iter().map(|state| state.name));
        }
        Ok(self.names.pop_front())
    }

    /// Lets a fork wait for its source, if that is to be exported too.
    async fn waits_for(&mut self, fork: &StreamName, source: &ForkSource) -> Result<bool, EngineError> {
        if !source.name.as_str().starts_with(&self.prefix) {
            return Ok(false);
        }
        let name = source.name.clone();
        let found = self.engine.ask(move |backend| backend.load(&name)).await?;
        let is_there = found.is_some_and(|found| found.id == source.id);
        if is_there {
            self.waiting.extend([fork.clone(), source.name.clone()]);
        }
        Ok(is_there)
    }
}

impl Engine {
    /// The durable state of a stream, deleted ones that have forks included, and what holds its bytes.
    pub(super) async fn pin_known(
        &self,
        name: &StreamName,
        purpose: Purpose,
    ) -> Result<Option<(Arc<Entry>, StoragePin, StreamState)>, EngineError> {
        let entry = self.open(name).await?;
        loop {
            let pin = |state: &StreamState| match self.shared.pins.pin(state.id, &state.lineage, purpose) {
                Some(pin) => Decision::Answer(Found::Pinned(pin)),
                None => Decision::Look(Found::Busy),
            };
            let found = self
                .sequence(&entry, |sequencer, now| {
                    match (sequencer.standing(now), sequencer.accepted()) {
                        (Standing::Expired, _) => Decision::Look(Found::Expired),
                        (Standing::Alive(_) | Standing::Deleted(_), Some(state)) => pin(state),
                        _ => Decision::Answer(Found::Nothing),
                    }
                })
                .await?;
            let pin = match found {
                Found::Pinned(pin) => pin,
                Found::Busy => {
                    self.shared.pins.reclaimed().await;
                    continue;
                }
                Found::Expired if self.expire_if_room(&entry).await? => continue,
                Found::Expired | Found::Nothing => break,
            };
            let loaded = name.clone();
            let state = self.ask(move |backend| backend.load(&loaded)).await?;
            match state {
                None => break,
                // Another stream has taken its name in between.
                Some(state) if !pin.ids().contains(&state.id) => {}
                Some(state) if state.deleted && !self.is_forked(state.id).await? => break,
                Some(state) => return Ok(Some((entry, pin, state))),
            }
        }
        self.shared.registry.unpin_vacant(&entry);
        Ok(None)
    }

    /// The control keys of a pinned stream and its state, of one moment; none if another stream has its name by now. Of one
    /// that is changed whenever it is looked at the keys are the older ones, and say nothing of bytes that it does not have.
    pub(super) async fn controls_and_state(
        &self,
        entry: &Entry,
        state: StreamState,
    ) -> Result<Option<(Controls, StreamState)>, EngineError> {
        let id = state.id;
        let controls = self.ask(move |backend| backend.controls(id, b"")).await?;
        if controls.is_empty() {
            // Most streams have none, and then there is nothing that the state has to fit.
            return Ok(Some((controls, state)));
        }
        let look = move |backend: &dyn Backend, name: &StreamName| {
            let controls = backend.controls(id, b"")?;
            let state = backend.load(name)?.filter(|state| state.id == id);
            Ok::<_, BackendError>(state.map(|state| (controls, state)))
        };
        if self.shared.nature.commits_inline {
            let _nobody_commits = entry.sequencer.lock();
            return Ok(look(self.shared.backend.as_ref(), &entry.name)?);
        }
        let mut found = None;
        for _ in 0..LOOKS_MAX {
            let before = entry.sequencer.lock().settled_records();
            let name = entry.name.clone();
            found = self.ask(move |backend| look(backend, &name)).await?;
            if before.is_some() && before == entry.sequencer.lock().settled_records() {
                break;
            }
        }
        Ok(found)
    }

    async fn is_forked(&self, id: StreamId) -> Result<bool, EngineError> {
        self.ask(move |backend| backend.has_forks(id)).await
    }
}

impl Export {
    /// The stream.
    pub fn stream(&self) -> &ExportedStream {
        &self.stream
    }

    /// Its control keys with their values, in order.
    pub fn controls(&self) -> &[(Bytes, Bytes)] {
        &self.controls
    }

    /// The next append of it, in order; none after the last one.
    ///
    /// # Errors
    /// [`ReadFailure`] if the bytes are not there any more, or cannot be read.
    pub async fn next(&mut self) -> Result<Option<ExportedAppend>, ReadFailure> {
        if self.appends.is_empty() && self.from < self.view.tail {
            self.read_on().await?;
        }
        Ok(self.appends.pop_front())
    }

    async fn read_on(&mut self) -> Result<(), ReadFailure> {
        let from = self.from;
        let extents = self
            .reader
            .extents_of_chunk(from, &self.view, CHUNK_BYTES)
            .await?;
        let until = extents.last().map_or(from, |last| last.end);
        let view = View {
            tail: until,
            ..self.view
        };
        let slices = self.reader.read(from, &view, u64::MAX).await?;
        if until <= from || slices.end != until {
            let what = format!(
                "stream {}: appends up to {until} are known behind {from}, and bytes up to {}",
                self.stream.state.id, slices.end
            );
            return Err(ReadFailure::Engine(BackendError::Damaged { what }.into()));
        }
        let bytes = slices.into_contiguous();
        self.appends = extents
            .iter()
            .map(|extent| exported(extent, from, &bytes))
            .collect();
        self.from = until;
        Ok(())
    }
}

/// The part of an append behind `from`, where `bytes` begin.
fn exported(extent: &AppendExtent, from: Position, bytes: &Bytes) -> ExportedAppend {
    let start = extent.start.max(from);
    let payload = bytes.slice(start.since(from) as usize..extent.end.since(from) as usize);
    let mut first_message = extent.first_message;
    let mut ends = Vec::new();
    for end in extent.message_ends() {
        if end <= start {
            first_message += 1;
        } else {
            ends.push(end.since(start) as u32);
        }
    }
    // A message that a fork cuts off ends at the cut.
    let end = payload.len() as u32;
    if ends.last() != Some(&end) {
        ends.push(end);
    }
    ExportedAppend {
        start,
        at: extent.at,
        first_message,
        ends: MessageEnds::from_ends(ends),
        payload,
    }
}
