//! The driver: plays the engine's part for the crate under test.
//!
//! It keeps a state per incarnation, the bytes and the extents that each one stored itself, and the transitions
//! that made it. It decides with the crate's methods alone and reads bytes through the crate's lineage.

use std::collections::BTreeMap;

use tailwater_stream::fork;
use tailwater_stream::{
    AppendDecision, ContentType, CreateCommand, CreateDecision, CreateRequest, Created, EncodedBody,
    ForkRefusal, ForkRequest, ForkSource, Lifetime, Limits, Lineage, Position, ProducerState, StreamId,
    StreamKind, StreamName, StreamState, Timestamp, Transition, TrimDecision, TrimRefusal,
};

use super::command::{Append, BEGIN_MS, Create, Fork, Request};
use super::outcome::{Answer, Appended, Described, Outcome, Snapshot, Standing};
use super::reference::{PRODUCERS_MAX, STREAM_BYTES_MAX};
use super::stored::{Storage, Stored};
use super::words::{
    append_command, create_command, of_append_refusal, of_create_refusal, stream_name, token,
};

const LIMITS: Limits = Limits {
    stream_bytes_max: STREAM_BYTES_MAX as u64,
    producers_max: PRODUCERS_MAX,
};

#[derive(Debug)]
pub(crate) struct Driver {
    storage: Storage,
    names: BTreeMap<StreamName, StreamId>,
    now: Timestamp,
}

/// What a fork begins with.
struct Origin {
    content_type: ContentType,
    lifetime: Lifetime,
    lineage: Option<Lineage>,
    source: Option<ForkSource>,
    oldest: Position,
    messages: u64,
}

impl Driver {
    pub(crate) fn new() -> Self {
        Self {
            storage: Storage::default(),
            names: BTreeMap::new(),
            now: Timestamp::from_millis(BEGIN_MS),
        }
    }

    /// Every incarnation there ever was.
    pub(crate) fn incarnations(&self) -> impl Iterator<Item = &Stored> {
        self.storage.0.values()
    }

    pub(crate) fn handle(&mut self, request: &Request) -> Outcome {
        match request {
            Request::Create(create) => self.create(create),
            Request::Append(append) => self.append(append),
            Request::Delete { name } => self.with(*name, |driver, id| {
                driver.apply(id, Transition::Delete { at: driver.now });
                Outcome::Deleted
            }),
            Request::Trim { name, before } => self.with(*name, |driver, id| driver.trim(id, before)),
            Request::Use { name } => self.with(*name, |driver, id| {
                let now = driver.now;
                let stored = driver.storage.0.get_mut(&id).expect("it is there");
                stored.used_at = stored.used_at.max(now);
                if stored.state.lifetime.wants_touch(stored.state.touched_at, now) {
                    driver.apply(id, Transition::Touch { at: now });
                }
                Outcome::Done
            }),
            Request::Wait { ms } => {
                self.now = self.now.plus_millis(*ms);
                Outcome::Done
            }
        }
    }

    pub(crate) fn snapshot(&mut self, name: usize) -> Standing<Snapshot> {
        let id = match self.standing(name) {
            Standing::Missing => return Standing::Missing,
            Standing::Gone => return Standing::Gone,
            Standing::Alive(id) => id,
        };
        let state = &self.storage.0[&id].state;
        let oldest = state.lineage.token(state.oldest).to_string();
        let mut producers: Vec<_> = state
            .producers
            .iter()
            .map(|(id, known)| {
                let end = state.lineage.token(known.end).to_string();
                (id.as_str().to_owned(), known.epoch.get(), known.seq.get(), end)
            })
            .collect();
        producers.sort();
        Standing::Alive(Snapshot {
            content_type: state.content_type.to_string(),
            tail: state.tail_token().to_string(),
            closed: state.closed,
            messages: state.messages,
            own_bytes: state.own_bytes(),
            stream_seq: state.stream_seq.as_deref().map(str::to_owned),
            producers,
            last_append_ms: state.last_append_at.map(Timestamp::as_millis),
            readable: self.storage.read(id, &oldest),
            oldest,
        })
    }

    /// What the stream of a name, if there is one, gives from an offset on.
    pub(crate) fn read(&mut self, name: usize, offset: &str) -> Option<Answer> {
        match self.standing(name) {
            Standing::Alive(id) => Some(self.storage.read(id, offset)),
            Standing::Missing | Standing::Gone => None,
        }
    }

    /// When the stream of a name, if there is one, would expire if it were loaded now.
    pub(crate) fn end_after_load_ms(&mut self, name: usize) -> Option<u64> {
        match self.standing(name) {
            Standing::Alive(id) => {
                let state = &self.storage.0[&id].state;
                let assumed = state.lifetime.touched_at_load(state.touched_at);
                state.lifetime.deadline(assumed).map(Timestamp::as_millis)
            }
            Standing::Missing | Standing::Gone => None,
        }
    }

    fn with(&mut self, name: usize, act: impl FnOnce(&mut Self, StreamId) -> Outcome) -> Outcome {
        match self.standing(name) {
            Standing::Missing => Outcome::NotFound,
            Standing::Gone => Outcome::Gone,
            Standing::Alive(id) => act(self, id),
        }
    }

    /// Who has a name now. Ends lifetimes, and gives up names that nobody holds any more.
    fn standing(&mut self, name: usize) -> Standing<StreamId> {
        let expired: Vec<StreamId> = self
            .storage
            .0
            .iter()
            .filter(|(_, stored)| {
                !stored.state.deleted && stored.state.lifetime.is_over(stored.used_at, self.now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.apply(id, Transition::Delete { at: self.now });
        }
        // A fork is younger than its source, so one round from young to old gives up whole chains.
        let deleted: Vec<StreamId> = self.storage.0.keys().rev().copied().collect();
        for id in deleted {
            let is_held = self.storage.0.values().any(|stored| {
                !stored.released && stored.state.source.as_ref().is_some_and(|source| source.id == id)
            });
            let stored = self.storage.0.get_mut(&id).expect("listed");
            if stored.state.deleted && !is_held && !stored.released {
                stored.released = true;
                self.names.remove(&stored.state.name);
            }
        }
        match self.names.get(&stream_name(name)) {
            None => Standing::Missing,
            Some(id) if self.storage.0[id].state.deleted => Standing::Gone,
            Some(id) => Standing::Alive(*id),
        }
    }

    fn apply(&mut self, id: StreamId, transition: Transition) {
        let stored = self.storage.0.get_mut(&id).expect("it is there");
        stored.apply(transition);
    }

    fn create(&mut self, create: &Create) -> Outcome {
        let command = create_command(create);
        match self.standing(create.name) {
            Standing::Alive(id) => {
                let state = &self.storage.0[&id].state;
                return match state.create_again(&command) {
                    Ok(decision) => {
                        assert_eq!(decision, CreateDecision::Exists);
                        Outcome::Exists(describe(state))
                    }
                    Err(refusal) => of_create_refusal(&refusal),
                };
            }
            Standing::Gone => return Outcome::HeldByForks,
            Standing::Missing => {}
        }
        let origin = match &create.fork {
            None => Origin {
                content_type: command.content_type.clone().unwrap_or_default(),
                lifetime: command.lifetime,
                lineage: None,
                source: None,
                oldest: Position::ZERO,
                messages: 0,
            },
            Some(fork) => match self.fork_origin(&command, fork) {
                Ok(origin) => origin,
                Err(refusal) => return refusal,
            },
        };
        let id = StreamId::new(self.storage.0.len() as u64 + 1).expect("an id");
        let lineage = match (&origin.lineage, &origin.source) {
            (Some(lineage), Some(source)) => lineage.fork(id, source.point),
            _ => Lineage::root(id),
        };
        let created = Created {
            id,
            name: stream_name(create.name),
            kind: StreamKind::Plain,
            beside: None,
            content_type: origin.content_type,
            lifetime: origin.lifetime,
            requested: CreateRequest::from(&command),
            lineage,
            source: origin.source,
            oldest: origin.oldest,
            messages: origin.messages,
            at: self.now,
        };
        let state = StreamState::created(&created);
        let body = EncodedBody::new(state.content_type.kind(), &command.body);
        let first = match state.first_append(&command, &body, self.now, LIMITS) {
            Ok(first) => first,
            Err(refusal) => return of_create_refusal(&refusal),
        };
        let stored = Stored::new(created);
        self.names.insert(stored.state.name.clone(), id);
        self.storage.0.insert(id, stored);
        if let Some(first) = first {
            self.apply(id, Transition::Append(first));
        }
        Outcome::Created(describe(&self.storage.0[&id].state))
    }

    fn fork_origin(&mut self, command: &CreateCommand, asked: &Fork) -> Result<Origin, Outcome> {
        let id = match self.standing(asked.source) {
            Standing::Missing => return Err(Outcome::SourceNotFound),
            Standing::Gone => return Err(Outcome::SourceGone),
            Standing::Alive(id) => id,
        };
        let source = &self.storage.0[&id].state;
        if command
            .content_type
            .as_ref()
            .is_some_and(|asked| *asked != source.content_type)
        {
            return Err(Outcome::ForkContentType {
                expected: source.content_type.to_string(),
            });
        }
        let request = command.fork.as_ref().expect("a fork");
        let point = self
            .fork_point(source, request)
            .map_err(|refusal| match refusal {
                ForkRefusal::Offset => Outcome::ForkOffset,
                ForkRefusal::Trimmed => Outcome::ForkTrimmed,
                ForkRefusal::SubOffset => Outcome::ForkSubOffset,
            })?;
        Ok(Origin {
            content_type: source.content_type.clone(),
            lifetime: match command.lifetime {
                Lifetime::Forever => source.lifetime,
                asked => asked,
            },
            lineage: Some(source.lineage.clone()),
            oldest: source.oldest,
            messages: self.storage.messages_before(source, point),
            source: Some(ForkSource {
                id,
                name: source.name.clone(),
                point,
            }),
        })
    }

    fn fork_point(&self, source: &StreamState, request: &ForkRequest) -> Result<Position, ForkRefusal> {
        let anchor = fork::anchor(request, &source.lineage, source.oldest, source.tail)?;
        if !self.storage.is_message_end(source, anchor) {
            return Err(ForkRefusal::Offset);
        }
        let append = self.storage.append_at(source, anchor);
        fork::refine(
            source.content_type.kind(),
            anchor,
            request.sub_offset,
            append.as_ref(),
        )
    }

    fn append(&mut self, append: &Append) -> Outcome {
        let id = match self.standing(append.name) {
            Standing::Missing => return Outcome::NotFound,
            Standing::Gone => return Outcome::Gone,
            Standing::Alive(id) => id,
        };
        let state = &self.storage.0[&id].state;
        let command = append_command(append, state.content_type.kind());
        let appended = |tail: Position, closed, producer| Appended {
            tail: state.lineage.token(tail).to_string(),
            closed,
            producer,
        };
        match state.append(&command, self.now, LIMITS) {
            Ok(AppendDecision::Accept(append)) => {
                let producer = append
                    .producer
                    .as_ref()
                    .map(|mark| (mark.epoch.get(), mark.seq.get()));
                let outcome = Outcome::Appended(appended(append.end(), append.closes, producer));
                self.apply(id, Transition::Append(append));
                outcome
            }
            Ok(AppendDecision::Duplicate(ProducerState { epoch, seq, end, .. })) => {
                Outcome::Duplicate(appended(end, state.closed, Some((epoch.get(), seq.get()))))
            }
            Ok(AppendDecision::AlreadyClosed) => Outcome::AlreadyClosed {
                tail: state.tail_token().to_string(),
            },
            Err(refusal) => of_append_refusal(&refusal),
        }
    }

    fn trim(&mut self, id: StreamId, before: &str) -> Outcome {
        let state = &self.storage.0[&id].state;
        let before = token(before);
        if before.position() > state.oldest && !self.storage.is_message_end(state, before.position()) {
            return Outcome::UnknownOffset;
        }
        match state.trim(before) {
            Err(TrimRefusal::Unknown) => Outcome::UnknownOffset,
            Err(TrimRefusal::OpenRun) => unreachable!("no stream of the model is a run"),
            Ok(TrimDecision::AlreadyTrimmed) => Outcome::AlreadyTrimmed {
                oldest: state.lineage.token(state.oldest).to_string(),
            },
            Ok(TrimDecision::Trim(before)) => {
                let oldest = state.lineage.token(before).to_string();
                self.apply(id, Transition::Trim { before, at: self.now });
                Outcome::Trimmed { oldest }
            }
        }
    }
}

fn describe(state: &StreamState) -> Described {
    Described {
        content_type: state.content_type.to_string(),
        tail: state.tail_token().to_string(),
        closed: state.closed,
    }
}
