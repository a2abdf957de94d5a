//! Imports streams that were exported elsewhere: under ids of their own here, and with the offsets that they had.
//!
//! A stream is staged first: its bytes are gathered under a new id that no name leads to. One record then lets the
//! name lead to it, and deletes the stream that it replaces if there is one. Whatever ends an import before that
//! leaves the name as it was, and what was staged is released like any deleted stream.

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

/// What becomes of a stream that an export begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Its control keys and appends come next, and then [`Importer::finish`].
    Staged,
    /// The very same stream is here already: pass over what comes of it.
    Present,
}

/// Why a stream is not imported. Nothing is changed then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImportError {
    /// Another stream has the name.
    #[error("another stream has this name; delete it, or import with replacement")]
    Exists,
    /// The name belongs to a deleted stream that forks still refer to.
    #[error(
        "the name belongs to a deleted stream that still has forks; delete them, or import with replacement"
    )]
    HeldByForks,
    /// A stream of this name was created and deleted meanwhile.
    #[error("the name was used by another stream meanwhile; import it again")]
    Changed,
    /// What it was forked from was not imported, or is gone again.
    #[error("its source `{source_name}` was not imported; import that first")]
    NoSource {
        /// The name of the source in the export.
        source_name: StreamName,
    },
    /// It does not follow from its source as that is here.
    #[error("it does not branch off its source `{source_name}` as that is here; import both from one export")]
    OtherSource {
        /// The name of the source in the export.
        source_name: StreamName,
    },
    /// Bytes that it inherits were trimmed off its source here.
    #[error(
        "its source `{source_name}` was trimmed up to {oldest} here, and it inherits bytes before that; import \
         both with replacement, or export it without its source"
    )]
    TrimmedSource {
        /// The name of the source in the export.
        source_name: StreamName,
        /// The oldest position of the source here.
        oldest: Position,
    },
    /// More producers than a stream may have here.
    #[error(
        "it has {producers} producers, and a stream may have {producers_max} here; raise \
         `limits.max_producers_per_stream`"
    )]
    TooManyProducers {
        /// How many it has.
        producers: usize,
        /// How many it may have.
        producers_max: usize,
    },
    /// More bytes than a stream may have here.
    #[error("it has {bytes} bytes, and a stream may have {bytes_max} here; raise `limits.max_stream_bytes`")]
    TooLarge {
        /// How many it has of its own.
        bytes: u64,
        /// How many it may have.
        bytes_max: u64,
    },
    /// A stream that it is to replace stands in another partition than its source, or than the stream that it belongs to,
    /// and no record lies in both.
    #[error(
        "it is kept beside `{beside}`, and the stream of its name that is to be replaced is not; delete it first, then \
         import again"
    )]
    Apart {
        /// The name of its source here, or of the stream that it belongs to.
        beside: StreamName,
    },
    /// Its ids lie in the future, so that new streams here would get the same ones.
    #[error("its id {id} was given by a clock that is far ahead of this machine's; set the clock")]
    FromTheFuture {
        /// The greatest id in its lineage.
        id: StreamId,
    },
    /// What the export says does not fit together.
    #[error("{what}; the export is damaged or was not made by an export: make it again")]
    Malformed {
        /// What does not fit.
        what: String,
    },
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn malformed(what: impl Into<String>) -> ImportError {
    ImportError::Malformed { what: what.into() }
}

/// Imports streams one after the other, sources before their forks. To drop it leaves out what is not finished.
pub struct Importer {
    engine: Engine,
    existing: Existing,
    /// Streams that forks may follow of, by the ids that they have in the export.
    sources: HashMap<StreamId, Source, RandomState>,
    staged: Option<Staged>,
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
            staged: None,
        }
    }
}

impl Importer {
    /// Begins with a stream. What was begun before and not finished is left out.
    ///
    /// # Errors
    /// [`ImportError`] if it cannot be imported: pass over what comes of it.
    pub async fn begin(&mut self, exported: ExportedStream) -> Result<Begun, ImportError> {
        self.staged = None;
        self.engine.check_import(&exported.state)?;
        // Before its id is given: whatever stream gets the name from now on is known to be newer or older.
        let named = self.engine.open(&exported.state.name).await?;
        let begun = self.begin_in(&named, exported).await;
        self.engine.shared.registry.unpin_vacant(&named);
        begun
    }

    async fn begin_in(&mut self, named: &Arc<Entry>, exported: ExportedStream) -> Result<Begun, ImportError> {
        let mut replaced = None;
        if let Some((_, pin, here)) = self.engine.pin_known(&named.name, Purpose::Fork).await? {
            if is_same(&here, &exported.state) {
                self.remember(&exported, &here, Arc::new(pin));
                return Ok(Begun::Present);
            }
            // Both change with one record.
            replaced = Some(here.id);
        }
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
        if let Some(beside) = beside {
            self.engine.lead(vec![named.name.clone()], beside).await?;
        }
        let lineage = lineage_of(id, &exported.state, source.as_ref())?;
        self.staged = Some(Staged::new(&self.engine, named, exported, id, lineage, source));
        Ok(Begun::Staged)
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
    /// If no stream is staged.
    pub async fn control(&mut self, key: Bytes, value: Bytes) -> Result<(), ImportError> {
        let staged = self.staged.as_mut().expect("a stream is staged");
        staged.control(key, value);
        staged.write_if_much().await
    }

    /// Adds the next append.
    ///
    /// # Errors
    /// [`ImportError`]; the stream is not imported then.
    ///
    /// # Panics
    /// If no stream is staged.
    pub async fn append(&mut self, append: ExportedAppend) -> Result<(), ImportError> {
        let staged = self.staged.as_mut().expect("a stream is staged");
        staged.append(append)?;
        staged.write_if_much().await
    }

    /// Lets the name lead to the stream that was begun. Answers once that is durable.
    ///
    /// # Errors
    /// [`ImportError`]; the stream is not imported then.
    ///
    /// # Panics
    /// If no stream is staged.
    pub async fn finish(&mut self) -> Result<(), ImportError> {
        let mut staged = self.staged.take().expect("a stream is staged");
        staged.finish(self.existing).await?;
        self.remember(&staged.exported, &staged.state, Arc::clone(&staged.pin));
        drop(staged);
        self.engine.clear_leftovers().await;
        Ok(())
    }

    /// Leaves out the stream that was begun.
    pub fn abandon(&mut self) {
        self.staged = None;
    }

    /// Remembers a stream that is here now, for its forks.
    fn remember(&mut self, exported: &ExportedStream, here: &StreamState, pin: Arc<StoragePin>) {
        if exported.has_forks {
            let source = Source {
                id: here.id,
                name: here.name.clone(),
                deleted: here.deleted.then(|| FoundSource::new(here, pin)),
            };
            self.sources.insert(exported.state.id, source);
        }
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

/// Whether a stream here is what an export says, so that there is nothing to import.
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
