//! The state of one stream: decides commands and applies transitions.

use crate::command::{
    AppendCommand, AppendDecision, AppendRefusal, CreateCommand, CreateDecision, CreateRefusal,
    DeleteRefusal, Limits, TrimDecision, TrimRefusal,
};
use crate::content_type::ContentType;
use crate::expiry::{Lifetime, Timestamp};
use crate::fork::{ForkRequest, ForkSource};
use crate::kind::{LeaseRefusal, StreamKind, check_lease};
use crate::lineage::{Lineage, OffsetRefusal};
use crate::name::StreamName;
use crate::offset::{OffsetToken, Position, StreamId};
use crate::producer::{ProducerVerdict, Producers};
use crate::transition::{Append, Created, Transition};

/// What a client asked for when it created a stream, as it asked: a repeated request is known by it, and what
/// was derived from it (an inherited type, a default fork point) is not compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateRequest {
    /// The content type, if one was given.
    pub content_type: Option<ContentType>,
    /// The lifetime, `Forever` if none was given.
    pub lifetime: Lifetime,
    /// The fork headers, if any were given.
    pub fork: Option<ForkRequest>,
}

impl From<&CreateCommand> for CreateRequest {
    fn from(command: &CreateCommand) -> Self {
        Self {
            content_type: command.content_type.clone(),
            lifetime: command.lifetime,
            fork: command.fork.clone(),
        }
    }
}

/// All that is known of one incarnation of a stream but its bytes: the sum of its transitions. What every append looks at
/// comes first and stands together, for where there are very many streams it has to be fetched from memory each time.
#[derive(Debug, Clone, PartialEq)]
#[repr(C)]
pub struct StreamState {
    /// The incarnation.
    pub id: StreamId,
    /// The position behind the last byte.
    pub tail: Position,
    /// Messages before the tail, counted from the beginning, also those trimmed since.
    pub messages: u64,
    /// The oldest readable position. Always <= `tail`.
    pub oldest: Position,
    /// When bytes were last added to it.
    pub last_append_at: Option<Timestamp>,
    /// The last recorded use.
    pub touched_at: Timestamp,
    /// Its lifetime.
    pub lifetime: Lifetime,
    /// Its content type.
    pub content_type: ContentType,
    /// Whose bytes stand where.
    pub lineage: Lineage,
    /// What it is for.
    pub kind: StreamKind,
    /// Whether it takes no more appends.
    pub closed: bool,
    /// Whether it was deleted; its bytes may still be kept for forks.
    pub deleted: bool,
    /// Its idempotent producers.
    pub producers: Producers,
    /// The last `Stream-Seq` accepted.
    pub stream_seq: Option<Box<str>>,
    /// Its name.
    pub name: StreamName,
    /// The name of the stream that it belongs to, and is kept beside: a run's queue, for example.
    pub beside: Option<StreamName>,
    /// What the client asked for at creation.
    pub requested: CreateRequest,
    /// What it was forked from.
    pub source: Option<ForkSource>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl StreamState {
    /// The state of a stream that was just created.
    pub fn created(created: &Created) -> Self {
        let start = created
            .source
            .as_ref()
            .map_or(created.oldest, |source| source.point);
        Self {
            id: created.id,
            name: created.name.clone(),
            kind: created.kind,
            beside: created.beside.clone(),
            content_type: created.content_type.clone(),
            lifetime: created.lifetime,
            requested: created.requested.clone(),
            lineage: created.lineage.clone(),
            source: created.source.clone(),
            oldest: created.oldest,
            tail: start,
            messages: created.messages,
            closed: false,
            stream_seq: None,
            producers: Producers::default(),
            created_at: created.at,
            last_append_at: None,
            touched_at: created.at,
            deleted: false,
        }
    }

    /// The state of a stream that was just staged.
    pub fn staged(created: &Created) -> Self {
        Self {
            deleted: true,
            ..Self::created(created)
        }
    }

    /// Applies a transition that was decided on this state, or is replayed onto it.
    ///
    /// # Panics
    /// If the transition does not follow from this state: another stream's beginning, bytes that do not begin at
    /// the tail, or an import that has another one. That is a bug, never a client's doing.
    pub fn apply(&mut self, transition: &Transition) {
        match transition {
            Transition::Create(created) | Transition::Stage(created) => {
                panic!("stream {} is created twice", created.id)
            }
            Transition::Import(state) => {
                assert_eq!(
                    (state.id, state.tail),
                    (self.id, self.tail),
                    "stream {} is imported as another one",
                    self.id
                );
                self.clone_from(state);
            }
            Transition::Append(append) => self.apply_append(append),
            Transition::Delete { .. } => self.deleted = true,
            Transition::Trim { before, at } => {
                assert!(*before <= self.tail, "trim of stream {} beyond its tail", self.id);
                self.oldest = self.oldest.max(*before);
                self.touched_at = self.touched_at.max(*at);
            }
            Transition::Touch { at } => self.touched_at = self.touched_at.max(*at),
        }
    }

    fn apply_append(&mut self, append: &Append) {
        assert_eq!(
            append.start, self.tail,
            "append to stream {} does not begin at its tail",
            self.id
        );
        assert!(!self.closed, "append to the closed stream {}", self.id);
        self.tail = append.end();
        self.messages += append.message_count();
        self.closed = append.closes;
        self.touched_at = self.touched_at.max(append.at);
        if !append.payload.is_empty() {
            self.last_append_at = Some(append.at);
        }
        if let Some(mark) = &append.producer {
            self.producers.record(mark, self.tail, append.at);
        }
        if append.stream_seq.is_some() {
            self.stream_seq.clone_from(&append.stream_seq);
        }
    }

    /// The token of the tail.
    pub fn tail_token(&self) -> OffsetToken {
        self.lineage.token(self.tail)
    }

    /// Bytes in the stream's own storage that are not trimmed. What a fork inherits is not its own.
    pub fn own_bytes(&self) -> u64 {
        let start = self.source.as_ref().map_or(Position::ZERO, |source| source.point);
        self.tail.since(start.max(self.oldest))
    }

    /// Whether a repeated create command asks for this very stream (PROTOCOL.md §5.1).
    ///
    /// # Errors
    /// [`CreateRefusal::Exists`] if only a new stream was wanted, else [`CreateRefusal::Conflict`] naming the first thing that
    /// differs.
    pub fn create_again(&self, command: &CreateCommand) -> Result<CreateDecision, CreateRefusal> {
        if command.only_new {
            return Err(CreateRefusal::Exists);
        }
        let differs = |difference| Err(CreateRefusal::Conflict { difference });
        if command.fork != self.requested.fork {
            return differs("fork source or offset");
        }
        let same_type = match &command.content_type {
            Some(requested) => *requested == self.content_type,
            None => command.fork.is_some() || self.content_type == ContentType::default(),
        };
        if !same_type {
            return differs("content type");
        }
        if command.lifetime != self.requested.lifetime {
            return differs("TTL or expiry");
        }
        if command.closed != self.closed {
            return differs("closure status");
        }
        Ok(CreateDecision::Exists)
    }

    /// Decides a client's append, close, or both (PROTOCOL.md §5.2, §5.2.1, §5.3).
    ///
    /// A retry of an accepted request is a duplicate also after the stream was closed: its bytes are there.
    ///
    /// # Errors
    /// The first [`AppendRefusal`] in their order.
    ///
    /// # Panics
    /// If the body was encoded for another kind of stream.
    pub fn append(
        &self,
        command: &AppendCommand,
        now: Timestamp,
        limits: Limits,
    ) -> Result<AppendDecision, AppendRefusal> {
        self.decide_append(command, now, limits, Self::check_client)
    }

    /// Decides an append of the server's own, which the lease of a run does not bind, nor a limit on producers, nor one
    /// on the bytes of a run: its end must fit in. Everything else does.
    ///
    /// # Errors
    /// As [`Self::append`].
    ///
    /// # Panics
    /// As [`Self::append`].
    pub fn append_by_server(
        &self,
        command: &AppendCommand,
        now: Timestamp,
        limits: Limits,
    ) -> Result<AppendDecision, AppendRefusal> {
        let limits = Limits {
            stream_bytes_max: match self.kind {
                StreamKind::Plain => limits.stream_bytes_max,
                StreamKind::Run => u64::MAX,
            },
            producers_max: usize::MAX,
        };
        self.decide_append(command, now, limits, |_, _| Ok(()))
    }

    fn decide_append(
        &self,
        command: &AppendCommand,
        now: Timestamp,
        limits: Limits,
        check_author: impl FnOnce(&Self, &AppendCommand) -> Result<(), LeaseRefusal>,
    ) -> Result<AppendDecision, AppendRefusal> {
        assert_eq!(
            command.body.kind(),
            self.content_type.kind(),
            "the body was encoded for another stream"
        );
        if command.body_is_empty && !command.closes {
            return Err(AppendRefusal::Empty);
        }
        let verdict = command
            .producer
            .as_ref()
            .map(|mark| self.producers.judge(mark, limits.producers_max));
        if self.closed {
            return match verdict {
                Some(Ok(ProducerVerdict::Duplicate(state))) => Ok(AppendDecision::Duplicate(state)),
                None if command.body_is_empty => Ok(AppendDecision::AlreadyClosed),
                _ => Err(AppendRefusal::Closed {
                    tail: self.tail_token(),
                }),
            };
        }
        self.check_content_type(command)?;
        check_author(self, command)?;
        if let Some(ProducerVerdict::Duplicate(state)) = verdict.transpose()? {
            return Ok(AppendDecision::Duplicate(state));
        }
        if command
            .if_match
            .is_some_and(|expected| expected != self.tail_token())
        {
            return Err(AppendRefusal::TailMismatch {
                tail: self.tail_token(),
            });
        }
        self.check_stream_seq(command)?;
        let (payload, ends) = command.body.get()?;
        if payload.is_empty() && !command.body_is_empty {
            return Err(AppendRefusal::NoMessages);
        }
        self.check_size(payload.len() as u64, limits)?;
        Ok(AppendDecision::Accept(Append {
            start: self.tail,
            payload: payload.clone(),
            ends: ends.clone(),
            first_message: self.messages,
            producer: command.producer.clone(),
            stream_seq: command.stream_seq.clone(),
            closes: command.closes,
            at: now,
        }))
    }

    fn check_client(&self, command: &AppendCommand) -> Result<(), LeaseRefusal> {
        match self.kind {
            StreamKind::Plain => Ok(()),
            StreamKind::Run => check_lease(&self.producers, command),
        }
    }

    fn check_content_type(&self, command: &AppendCommand) -> Result<(), AppendRefusal> {
        let same = command.content_type.as_ref() == Some(&self.content_type);
        if command.body_is_empty || same {
            Ok(())
        } else {
            Err(AppendRefusal::ContentType {
                expected: self.content_type.clone(),
            })
        }
    }

    fn check_stream_seq(&self, command: &AppendCommand) -> Result<(), AppendRefusal> {
        match (&command.stream_seq, &self.stream_seq) {
            (Some(next), Some(last)) if next.as_bytes() <= last.as_bytes() => {
                Err(AppendRefusal::StreamSeq { last: last.clone() })
            }
            _ => Ok(()),
        }
    }

    fn check_size(&self, added: u64, limits: Limits) -> Result<(), AppendRefusal> {
        let bytes = self.own_bytes() + added;
        let fits = bytes <= limits.stream_bytes_max && self.tail.advance(added).is_some();
        if fits || added == 0 {
            Ok(())
        } else {
            Err(AppendRefusal::StreamFull {
                bytes,
                bytes_max: limits.stream_bytes_max,
            })
        }
    }

    /// The first content of a stream that is just being created.
    ///
    /// # Errors
    /// [`CreateRefusal`] if the body cannot be stored in it.
    pub fn first_append(
        &self,
        command: &CreateCommand,
        body: &crate::command::EncodedBody,
        now: Timestamp,
        limits: Limits,
    ) -> Result<Option<Append>, CreateRefusal> {
        let (payload, ends) = body.get()?;
        if payload.is_empty() && !command.closed {
            return Ok(None);
        }
        let bytes = payload.len() as u64;
        if bytes > limits.stream_bytes_max {
            return Err(CreateRefusal::TooLarge {
                bytes,
                bytes_max: limits.stream_bytes_max,
            });
        }
        Ok(Some(Append {
            start: self.tail,
            payload: payload.clone(),
            ends: ends.clone(),
            first_message: self.messages,
            producer: None,
            stream_seq: None,
            closes: command.closed,
            at: now,
        }))
    }

    /// Whether this is a run that has not ended.
    pub fn is_open_run(&self) -> bool {
        self.kind == StreamKind::Run && !self.closed
    }

    /// Whether a client may delete it, who may expect its tail to be there.
    ///
    /// # Errors
    /// [`DeleteRefusal::OpenRun`] if it is a run that has not ended, [`DeleteRefusal::TailMismatch`] if its tail is elsewhere.
    pub fn delete(&self, if_match: Option<OffsetToken>) -> Result<(), DeleteRefusal> {
        if self.is_open_run() {
            return Err(DeleteRefusal::OpenRun);
        }
        let tail = self.tail_token();
        match if_match.filter(|expected| *expected != tail) {
            None => Ok(()),
            Some(_elsewhere) => Err(DeleteRefusal::TailMismatch { tail }),
        }
    }

    /// Decides a client's trim.
    ///
    /// # Errors
    /// [`TrimRefusal::OpenRun`] if it is a run that has not ended, [`TrimRefusal::Unknown`] if the token is none of
    /// this stream's.
    pub fn trim(&self, before: OffsetToken) -> Result<TrimDecision, TrimRefusal> {
        if self.is_open_run() {
            return Err(TrimRefusal::OpenRun);
        }
        match self.lineage.resolve(before, self.oldest, self.tail) {
            Ok(position) if position > self.oldest => Ok(TrimDecision::Trim(position)),
            Ok(_) | Err(OffsetRefusal::Trimmed { .. }) => Ok(TrimDecision::AlreadyTrimmed),
            Err(OffsetRefusal::Unknown) => Err(TrimRefusal::Unknown),
        }
    }
}
