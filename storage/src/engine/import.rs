//! Imports streams that were exported elsewhere: under ids of their own here, and with the offsets that they had.
//!
//! A stream is staged first: its bytes are gathered under a new id that no name leads to. One record then lets the
//! name lead to it, and deletes the stream that it replaces if there is one. Whatever ends an import before that
//! leaves the name as it was, and what was staged is released like any deleted stream.

mod compared;
mod error;
mod staged;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tailwater_stream::{ForkSource, Lineage, Position, Span, StreamId, StreamName, StreamState};

use super::export::{ExportedAppend, ExportedStream};
use super::leftovers::Leftover;
use super::pins::{Purpose, StoragePin};
use super::sequencer::Entry;
use super::{Engine, EngineError};
use compared::Compared;
pub use error::ImportError;
use error::malformed;
use staged::Staged;

/// How far ahead of this machine's clock the ids of an export may be, in microseconds: a year.
const AHEAD_MICROS_MAX: u64 = 366 * 24 * 60 * 60 * 1_000_000;

/// What to do about a stream that has the name of an imported one, and is not the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the imported one is refused.
    Refuse,
    /// It is deleted in the moment in which the imported one is there.
    Replace,
}

/// What is to be done about a stream that an export begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Its control keys and appends come next, and then [`Importer::finish`], which says what has become of it.
    Staged,
    /// The very same stream is here already: pass over what comes of it.
    Present,
}

/// What has become of a stream that was imported to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is here now, and was not before.
    Imported,
    /// The very same stream was here already, with the same control keys.
    Present,
}

/// Imports streams one after the other, sources before their forks. To drop it leaves out what is not finished.
pub struct Importer {
    engine: Engine,
    existing: Existing,
    /// Streams that forks may follow of, by the ids that they have in the export.
    sources: HashMap<StreamId, Source, RandomState>,
    coming: Option<Coming>,
}

/// The stream whose control keys and appends come.
enum Coming {
    /// Whether it is here already depends on its control keys.
    Compared(Box<Compared>),
    Staged(Box<Staged>),
}

/// A stream that forks of the same export may branch off.
struct Source {
    id: StreamId,
    name: StreamName,
    /// A deleted one is held until its forks are there.
    deleted: Option<FoundSource>,
}

/// A stream here that a fork branches off, and what holds it.
#[derive(Clone)]
struct FoundSource {
    id: StreamId,
    name: StreamName,
    lineage: Lineage,
    oldest: Position,
    tail: Position,
    pin: Arc<StoragePin>,
}

impl FoundSource {
    fn new(state: &StreamState, pin: Arc<StoragePin>) -> Self {
        Self {
            id: state.id,
            name: state.name.clone(),
            lineage: state.lineage.clone(),
            oldest: state.oldest,
            tail: state.tail,
            pin,
        }
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        self.engine.shared.imports.fetch_sub(1, Ordering::Relaxed);
        // Deleted ones whose forks did not follow can go.
        for source in self.sources.values().filter(|source| source.deleted.is_some()) {
            self.engine.shared.leftovers.note(Leftover::Deleted(source.id));
        }
    }
}

impl Engine {
    /// Imports streams.
    pub fn import(&self, existing: Existing) -> Importer {
        self.shared.imports.fetch_add(1, Ordering::Relaxed);
        Importer {
            engine: self.clone(),
            existing,
            sources: HashMap::default(),
            coming: None,
        }
    }
}

impl Importer {
    /// Begins with a stream. What was begun before and not finished is left out.
    ///
    /// # Errors
    /// [`ImportError`] if it cannot be imported: pass over what comes of it.
    pub async fn begin(&mut self, exported: ExportedStream) -> Result<Begun, ImportError> {
        self.coming = None;
        self.engine.check_import(&exported.state)?;
        // Before its id is given: whatever stream gets the name from now on is known to be newer or older.
        let named = self.engine.open(&exported.state.name).await?;
        let begun = self.begin_in(&named, exported).await;
        self.engine.shared.registry.unpin_vacant(&named);
        begun
    }

    async fn begin_in(&mut self, named: &Arc<Entry>, exported: ExportedStream) -> Result<Begun, ImportError> {
        let mut replaced = None;
        if let Some((entry, pin, here)) = self.engine.pin_known(&named.name, Purpose::Fork).await? {
            // Both change with one record.
            replaced = Some(here.id);
            let is_same = |here: &StreamState| is_same(here, &exported.state);
            if is_same(&here) && self.existing == Existing::Refuse {
                self.remember(&exported, &here, Some(Arc::new(pin)));
                return Ok(Begun::Present);
            }
            if is_same(&here)
                && let Some((controls, here)) = self.engine.controls_and_state(&entry, here).await?
                && is_same(&here)
            {
                let compared = Compared::new(named, exported, here, controls, pin);
                self.coming = Some(Coming::Compared(Box::new(compared)));
                return Ok(Begun::Staged);
            }
        }
        let staged = self.stage(named, exported, replaced).await?;
        self.coming = Some(Coming::Staged(Box::new(staged)));
        Ok(Begun::Staged)
    }

    /// Begins to gather what comes of a stream, which will replace the stream `replaced` if there is that.
    async fn stage(
        &self,
        named: &Arc<Entry>,
        exported: ExportedStream,
        replaced: Option<StreamId>,
    ) -> Result<Staged, ImportError> {
        let source = match &exported.state.source {
            Some(source) => Some(self.source_of(source).await?),
            None => None,
        };
        let mut beside = source.as_ref().map(|source| source.id);
        if let (None, Some(belongs_to)) = (beside, &exported.state.beside) {
            beside = Some(self.engine.place_of(belongs_to).await?);
        }
        let beside = beside.or(replaced);
        let id = self.engine.next_id(&named.name, beside);
        let led = match beside {
            Some(beside) => Some(
                self.engine
                    .lead(vec![named.name.clone()], beside)
                    .await?
                    .for_now(),
            ),
            None => None,
        };
        let lineage = lineage_of(id, &exported.state, source.as_ref())?;
        Ok(Staged::new(
            &self.engine,
            named,
            exported,
            (id, lineage),
            source,
            led,
        ))
    }

    /// The stream that is staged; none if all that came so far is here already, unless `differs`.
    async fn staged(&mut self, differs: bool) -> Result<Option<&mut Staged>, ImportError> {
        if differs && let Some(Coming::Compared(compared)) = self.coming.take_if(Coming::is_compared) {
            let staged = compared.differs(self).await?;
            self.coming = Some(Coming::Staged(Box::new(staged)));
        }
        match self.coming.as_mut().expect("a stream was begun") {
            Coming::Staged(staged) => Ok(Some(staged.as_mut())),
            Coming::Compared(_) => Ok(None),
        }
    }

    /// The stream here that a fork branches off, held.
    async fn source_of(&self, exported: &ForkSource) -> Result<FoundSource, ImportError> {
        let gone = || ImportError::NoSource {
            source_name: exported.name.clone(),
        };
        let known = self.sources.get(&exported.id).ok_or_else(gone)?;
        if let Some(deleted) = &known.deleted {
            return Ok(deleted.clone());
        }
        let found = self.engine.pin_known(&known.name, Purpose::Fork).await?;
        let (_, pin, state) = found
            .filter(|(_, _, state)| state.id == known.id)
            .ok_or_else(gone)?;
        Ok(FoundSource::new(&state, Arc::new(pin)))
    }

    /// Adds a control key.
    ///
    /// # Errors
    /// [`ImportError`]; the stream is not imported then.
    ///
    /// # Panics
    /// If no stream was begun.
    pub async fn control(&mut self, key: Bytes, value: Bytes) -> Result<(), ImportError> {
        let differs = match &mut self.coming {
            Some(Coming::Compared(compared)) => !compared.has_next(&key, &value),
            Some(Coming::Staged(_)) | None => false,
        };
        if let Some(staged) = self.staged(differs).await? {
            staged.control(key, value);
            staged.write_if_much().await?;
        }
        Ok(())
    }

    /// Adds the next append.
    ///
    /// # Errors
    /// [`ImportError`]; the stream is not imported then.
    ///
    /// # Panics
    /// If no stream was begun.
    pub async fn append(&mut self, append: ExportedAppend) -> Result<(), ImportError> {
        if let Some(staged) = self.staged(self.lacks_controls()).await? {
            staged.append(append)?;
            staged.write_if_much().await?;
        }
        Ok(())
    }

    /// Lets the name lead to the stream that was begun, unless it turned out to be here already. Answers once that is
    /// durable.
    ///
    /// # Errors
    /// [`ImportError`]; the stream is not imported then.
    ///
    /// # Panics
    /// If no stream was begun.
    pub async fn finish(&mut self) -> Result<Finished, ImportError> {
        self.staged(self.lacks_controls()).await?;
        let finished = match self.coming.take().expect("a stream was begun") {
            Coming::Compared(compared) => {
                let Compared {
                    exported, here, pin, ..
                } = *compared;
                self.remember(&exported, &here, pin.map(Arc::new));
                Finished::Present
            }
            Coming::Staged(mut staged) => {
                staged.finish(self.existing).await?;
                self.remember(&staged.exported, &staged.state, Some(Arc::clone(&staged.pin)));
                drop(staged);
                Finished::Imported
            }
        };
        self.engine.clear_leftovers().await;
        Ok(finished)
    }

    /// Whether the stream here has control keys that did not come, now that all that come have.
    fn lacks_controls(&self) -> bool {
        matches!(&self.coming, Some(Coming::Compared(compared)) if compared.has_more())
    }

    /// Leaves out the stream that was begun.
    pub fn abandon(&mut self) {
        self.coming = None;
    }

    /// Remembers a stream that is here now, for its forks. One that is deleted is pinned.
    fn remember(&mut self, exported: &ExportedStream, here: &StreamState, pin: Option<Arc<StoragePin>>) {
        if exported.has_forks {
            let held = pin.filter(|_| here.deleted);
            let source = Source {
                id: here.id,
                name: here.name.clone(),
                deleted: held.map(|pin| FoundSource::new(here, pin)),
            };
            self.sources.insert(exported.state.id, source);
        }
    }
}

impl Coming {
    fn is_compared(&mut self) -> bool {
        matches!(self, Self::Compared(_))
    }
}

impl Engine {
    /// Whether streams may still come that belong to those that are here.
    pub(crate) fn is_importing(&self) -> bool {
        self.shared.imports.load(Ordering::Relaxed) > 0
    }

    /// An id of the place where a stream of this name stands, or where it will, if it was not imported yet.
    async fn place_of(&self, name: &StreamName) -> Result<StreamId, EngineError> {
        let loaded = name.clone();
        let state = self.ask(move |backend| backend.load(&loaded)).await?;
        let standing = state.filter(|state| !state.deleted).map(|state| state.id);
        Ok(standing.unwrap_or_else(|| self.next_id(name, None)))
    }

    /// Refuses what would go beyond the limits here, and makes new ids greater than the imported ones.
    fn check_import(&self, state: &StreamState) -> Result<(), ImportError> {
        let limits = self.shared.limits;
        let producers = state.producers.len();
        if producers > limits.producers_max {
            return Err(ImportError::TooManyProducers {
                producers,
                producers_max: limits.producers_max,
            });
        }
        let bytes = state.own_bytes();
        if bytes > limits.stream_bytes_max {
            return Err(ImportError::TooLarge {
                bytes,
                bytes_max: limits.stream_bytes_max,
            });
        }
        let owners = state.lineage.spans().iter().map(|span| span.owner);
        let newest = owners.max().expect("a lineage has a span");
        if newest.get() > self.shared.clock.now_micros() + AHEAD_MICROS_MAX {
            return Err(ImportError::FromTheFuture { id: newest });
        }
        self.shared.last_id.fetch_max(newest.get(), Ordering::Relaxed);
        Ok(())
    }
}

/// Whether a stream here is what an export says, but for its control keys. Two that went on separately since one of them was
/// exported may have the same tail under the same ids: the time of the last append tells them apart.
fn is_same(here: &StreamState, exported: &StreamState) -> bool {
    let known = |state: &StreamState| {
        (
            state.content_type.clone(),
            (state.kind, state.beside.clone()),
            state.lifetime,
            state.oldest,
            state.tail,
            state.messages,
            state.closed,
            state.deleted,
            state.last_append_at,
        )
    };
    let owners = |state: &StreamState| owners_of(&state.lineage).collect::<Vec<_>>();
    known(here) == known(exported)
        && owners(here) == owners(exported)
        && here.producers == exported.producers
        && here.stream_seq == exported.stream_seq
}

fn owners_of(lineage: &Lineage) -> impl Iterator<Item = (Position, StreamId)> + '_ {
    lineage.spans().iter().map(|span| (span.from, span.owner))
}

/// The lineage of a stream here that has the owners of the exported one.
fn lineage_of(
    id: StreamId,
    exported: &StreamState,
    source: Option<&FoundSource>,
) -> Result<Lineage, ImportError> {
    let own_from = exported
        .source
        .as_ref()
        .map_or(Position::ZERO, |source| source.point);
    let inherited = match source {
        None => Vec::new(),
        Some(source) => {
            let before = source.lineage.spans().iter().filter(|span| span.from < own_from);
            let inherited: Vec<_> = before.copied().collect();
            let before = owners_of(&exported.lineage).filter(|(from, _)| *from < own_from);
            if own_from > source.tail || !before.eq(inherited.iter().map(|span| (span.from, span.owner))) {
                return Err(ImportError::OtherSource {
                    source_name: source.name.clone(),
                });
            }
            if exported.oldest < own_from && exported.oldest < source.oldest {
                return Err(ImportError::TrimmedSource {
                    source_name: source.name.clone(),
                    oldest: source.oldest,
                });
            }
            inherited
        }
    };
    let own = owners_of(&exported.lineage).filter(|(from, _)| *from >= own_from);
    let own = own.map(|(from, owner)| Span {
        from,
        owner,
        stored_in: id,
    });
    let spans: Vec<_> = inherited.into_iter().chain(own).collect();
    let ends_with_its_own = spans.last().is_some_and(|span| span.stored_in == id);
    Lineage::from_spans(spans)
        .filter(|_| ends_with_its_own)
        .ok_or_else(|| malformed("its lineage does not begin at 0 or has no part of its own"))
}
