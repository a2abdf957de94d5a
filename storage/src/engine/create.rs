//! Creates a stream, anew or as a fork of another one.

use std::sync::Arc;

use tailwater_stream::{
    ContentType, CreateCommand, CreateDecision, CreateRefusal, CreateRequest, Created as CreatedTransition,
    EncodedBody, ForkPoint, ForkRefusal, ForkRequest, ForkSource, Lifetime, Lineage, OffsetToken, Position,
    Record, StreamId, StreamKind, StreamName, StreamState, Timestamp, Transition, fork,
};

use super::leads::Led;
use super::pins::{Purpose, StoragePin};
use super::sequencer::{Decision, Entry, Standing};
use super::{Engine, EngineError, Reader, View};
use crate::engine::reader::ReadFailure;

/// A stream that exists now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Whether this request made it.
    pub new: bool,
    /// Its content type.
    pub content_type: ContentType,
    /// Its tail.
    pub tail: OffsetToken,
    /// Whether it is closed.
    pub closed: bool,
}

/// Why a stream is not created.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] CreateRefusal),
    /// The name belongs to a deleted stream that forks still refer to.
    #[error("the name belongs to a deleted stream that still has forks")]
    HeldByForks,
    /// There is no stream to fork from.
    #[error("there is no source stream")]
    SourceNotFound,
    /// The stream to fork from was deleted.
    #[error("the source stream was deleted")]
    SourceGone,
    /// A fork has its source's content type.
    #[error("the source's content type is {expected}")]
    ForkContentType {
        /// The source's content type.
        expected: ContentType,
    },
    /// The fork cannot branch off there.
    #[error(transparent)]
    Fork(#[from] ForkRefusal),
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<ReadFailure> for CreateError {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Gone => Self::SourceNotFound,
            ReadFailure::Trimmed { .. } => Self::Fork(ForkRefusal::Trimmed),
            ReadFailure::Engine(error) => Self::Engine(error),
        }
    }
}

/// What a new stream begins with: nothing, or what it inherits.
pub struct Origin {
    requested: CreateRequest,
    content_type: ContentType,
    lifetime: Lifetime,
    lineage: Option<Lineage>,
    source: Option<ForkSource>,
    oldest: Position,
    messages: u64,
    /// Held until the fork is durable or refused.
    pin: Option<Arc<StoragePin>>,
}

impl Origin {
    /// That of a stream which inherits nothing.
    pub fn new(content_type: ContentType) -> Self {
        Self::of(&CreateCommand {
            content_type: Some(content_type),
            ..CreateCommand::default()
        })
    }

    fn of(command: &CreateCommand) -> Self {
        Self {
            requested: CreateRequest::from(command),
            content_type: command.content_type.clone().unwrap_or_default(),
            lifetime: command.lifetime,
            lineage: None,
            source: None,
            oldest: Position::ZERO,
            messages: 0,
            pin: None,
        }
    }

    /// The beginning of a stream.
    pub(super) fn begin(
        &self,
        id: StreamId,
        name: &StreamName,
        kind: StreamKind,
        beside: Option<StreamName>,
        now: Timestamp,
    ) -> CreatedTransition {
        let lineage = match (&self.lineage, &self.source) {
            (Some(inherited), Some(source)) => inherited.fork(id, source.point),
            _ => Lineage::root(id),
        };
        CreatedTransition {
            id,
            name: name.clone(),
            kind,
            beside,
            content_type: self.content_type.clone(),
            lifetime: self.lifetime,
            requested: self.requested.clone(),
            lineage,
            source: self.source.clone(),
            oldest: self.oldest,
            messages: self.messages,
            at: now,
        }
    }

    /// What holds the source of a fork until it is settled.
    pub(super) fn pin(&self) -> Option<Arc<StoragePin>> {
        self.pin.clone()
    }
}

enum Step {
    Done(Result<Created, CreateRefusal>),
    /// There is none yet: find out what it begins with.
    Prepare,
    Expired,
    /// The name is a deleted stream's.
    Deleted(StreamId),
}

impl Engine {
    /// Creates a stream, or finds that the very same exists. Answers once it is durable.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is changed then.
    pub async fn create(&self, name: &StreamName, command: CreateCommand) -> Result<Created, CreateError> {
        let created = self.try_create(name, &command).await;
        // A stream that was deleted while it was being forked could not be released until now.
        if command.fork.is_some() {
            self.clear_leftovers().await;
        }
        created
    }

    async fn try_create(&self, name: &StreamName, command: &CreateCommand) -> Result<Created, CreateError> {
        let entry = self.open(name).await?;
        let created = self.create_in(&entry, command).await;
        if created.is_err() {
            self.shared.registry.unpin_vacant(&entry);
        }
        created
    }

    async fn create_in(&self, entry: &Arc<Entry>, command: &CreateCommand) -> Result<Created, CreateError> {
        let mut origin: Option<(Origin, EncodedBody)> = None;
        let mut free_of: Option<StreamId> = None;
        let mut led = None;
        loop {
            let step = self
                .sequence(entry, |sequencer, now| {
                    match sequencer.standing(now) {
                        Standing::Alive(state) => {
                            let again = state.create_again(command);
                            return Decision::Answer(Step::Done(again.map(|decision| {
                                debug_assert_eq!(decision, CreateDecision::Exists);
                                describe(state, false)
                            })));
                        }
                        // The name is free only once the deletion is durable: before that it may be refused
                        // in the very batch that would use the name again.
                        Standing::Deleted(id) if free_of != Some(id) => {
                            return Decision::Answer(Step::Deleted(id));
                        }
                        Standing::Expired => return Decision::Look(Step::Expired),
                        Standing::Deleted(_) | Standing::Missing => {}
                    }
                    let Some((origin, body)) = &origin else {
                        return Decision::Look(Step::Prepare);
                    };
                    self.begin(&entry.name, command, origin, body, now)
                })
                .await?;
            match step {
                Step::Done(created) => {
                    if created.is_ok() {
                        led.iter_mut().for_each(Led::keep);
                    }
                    self.clear_leftovers().await;
                    if created.as_ref().is_ok_and(|created| !created.new) {
                        self.use_again(entry);
                    }
                    return Ok(created?);
                }
                Step::Prepare => {
                    let begins = self.origin(command).await?;
                    if let Some(source) = &begins.source {
                        let names = vec![entry.name.clone()];
                        led = Some(self.lead(names, source.id).await?.for_now());
                    }
                    let body = EncodedBody::new(begins.content_type.kind(), &command.body);
                    origin = Some((begins, body));
                }
                Step::Expired => self.expire(entry).await?,
                Step::Deleted(id) if self.is_held_by_forks(id).await? => {
                    return Err(CreateError::HeldByForks);
                }
                Step::Deleted(id) => free_of = Some(id),
            }
        }
    }

    /// Decides the beginning of a stream and its first content.
    fn begin(
        &self,
        name: &StreamName,
        command: &CreateCommand,
        origin: &Origin,
        body: &EncodedBody,
        now: Timestamp,
    ) -> Decision<Step> {
        let beside = origin.source.as_ref().map(|source| source.id);
        let id = self.next_id(name, beside);
        let created = origin.begin(id, name, StreamKind::Plain, None, now);
        let mut state = StreamState::created(&created);
        let mut record = Record::of(id, Transition::Create(Box::new(created)));
        match state.first_append(command, body, now, self.shared.limits.of_stream()) {
            Err(refusal) => return Decision::Answer(Step::Done(Err(refusal))),
            Ok(None) => {}
            Ok(Some(append)) => {
                let append = Transition::Append(append);
                state.apply(&append);
                record.push(id, append);
            }
        }
        let answer = Step::Done(Ok(describe(&state, true)));
        match &origin.pin {
            Some(pin) => Decision::CommitFork(record, Arc::clone(pin), answer),
            None => Decision::Commit(record, answer),
        }
    }

    /// What a stream begins with that is a fork as `request` says. Its source is held as long as this is.
    ///
    /// # Errors
    /// [`CreateError`] if there is nothing to fork from there.
    pub async fn origin_of_fork(&self, request: ForkRequest) -> Result<Origin, CreateError> {
        let command = CreateCommand {
            fork: Some(request),
            ..CreateCommand::default()
        };
        self.origin(&command).await
    }

    async fn origin(&self, command: &CreateCommand) -> Result<Origin, CreateError> {
        match &command.fork {
            Some(request) => self.fork_origin(command, request).await,
            None => Ok(Origin::of(command)),
        }
    }

    async fn fork_origin(
        &self,
        command: &CreateCommand,
        request: &ForkRequest,
    ) -> Result<Origin, CreateError> {
        let (reader, view, pin) = self.pin_source(&request.source).await?;
        let source = reader.incarnation();
        if let Some(requested) = &command.content_type
            && *requested != source.content_type
        {
            return Err(CreateError::ForkContentType {
                expected: source.content_type.clone(),
            });
        }
        let point = fork_point(&reader, view, request).await?;
        let lifetime = match command.lifetime {
            Lifetime::Forever => source.lifetime,
            requested => requested,
        };
        Ok(Origin {
            requested: CreateRequest::from(command),
            content_type: source.content_type.clone(),
            lifetime,
            lineage: Some(source.lineage.clone()),
            source: Some(ForkSource {
                id: source.id,
                name: source.name.clone(),
                point: point.position,
            }),
            oldest: view.oldest,
            messages: point.messages,
            pin: Some(Arc::new(pin)),
        })
    }

    /// The source of a fork, pinned in its turn while it is alive, and its durable state.
    async fn pin_source(&self, name: &StreamName) -> Result<(Reader, View, StoragePin), CreateError> {
        let entry = self.open(name).await?;
        loop {
            let found = self
                .sequence(&entry, |sequencer, now| match sequencer.standing(now) {
                    Standing::Missing => Decision::Answer(Source::Missing),
                    Standing::Deleted(id) => Decision::Answer(Source::Deleted(id)),
                    Standing::Expired => Decision::Look(Source::Expired),
                    Standing::Alive(state) => {
                        match self.shared.pins.pin(state.id, &state.lineage, Purpose::Fork) {
                            Some(pin) => Decision::Answer(Source::Pinned(pin)),
                            None => Decision::Look(Source::Busy),
                        }
                    }
                })
                .await?;
            match found {
                Source::Busy => self.shared.pins.reclaimed().await,
                Source::Expired if self.expire_if_room(&entry).await? => {}
                Source::Expired => return Err(CreateError::SourceNotFound),
                Source::Missing => {
                    self.shared.registry.unpin_vacant(&entry);
                    return Err(CreateError::SourceNotFound);
                }
                Source::Deleted(id) if self.is_held_by_forks(id).await? => {
                    return Err(CreateError::SourceGone);
                }
                Source::Deleted(_) => return Err(CreateError::SourceNotFound),
                Source::Pinned(pin) => {
                    let durable = entry.sequencer.lock().durable().cloned();
                    // It was deleted and replaced, or forgotten, while its creation became durable: look again.
                    let Some(source) = durable.filter(|source| pin.ids().contains(&source.id)) else {
                        continue;
                    };
                    let view = source.view();
                    return Ok((Reader::new(self.clone(), entry, source), view, pin));
                }
            }
        }
    }
}

enum Source {
    /// Bytes are being reclaimed.
    Busy,
    Missing,
    Deleted(StreamId),
    Expired,
    Pinned(StoragePin),
}

async fn fork_point(reader: &Reader, view: View, request: &ForkRequest) -> Result<ForkPoint, CreateError> {
    let source = reader.incarnation();
    let anchor = fork::anchor(request, &source.lineage, view.oldest, view.tail)?;
    if !reader.is_message_end(anchor, &view).await? {
        return Err(ForkRefusal::Offset.into());
    }
    let append = if request.sub_offset > 0 {
        reader.append_at(anchor, &view).await?
    } else {
        None
    };
    let position = fork::refine(
        source.content_type.kind(),
        anchor,
        request.sub_offset,
        append.as_ref(),
    )?;
    let messages = reader.messages_before(position, &view).await?;
    Ok(ForkPoint { position, messages })
}

fn describe(state: &StreamState, new: bool) -> Created {
    Created {
        new,
        content_type: state.content_type.clone(),
        tail: state.tail_token(),
        closed: state.closed,
    }
}
