//! Appends to a stream, closes it, or both.

use std::future::Future;

use bytes::Bytes;
use tailwater_stream::{
    AppendCommand, AppendDecision, AppendRefusal, ContentKind, ContentType, EncodedBody, Epoch, OffsetToken,
    ProducerMark, Record, Seq, StreamId, StreamName, StreamState, Transition,
};

use super::registry::LookAhead;
use super::sequencer::{Decision, Standing};
use super::{Engine, EngineError};

/// What a client asks to append. The body is as it was sent.
#[derive(Debug, Clone, Default)]
pub struct AppendRequest {
    /// The body; empty only to close.
    pub body: Bytes,
    /// The body's content type.
    pub content_type: Option<ContentType>,
    /// Which request of which producer it is.
    pub producer: Option<ProducerMark>,
    /// The writer's `Stream-Seq`.
    pub stream_seq: Option<Box<str>>,
    /// Append only if this is the tail.
    pub if_match: Option<OffsetToken>,
    /// Whether to close the stream after it.
    pub closes: bool,
}

/// A durable append, or one that had been accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The tail after it; for a duplicate, after the producer's newest accepted request.
    pub tail: OffsetToken,
    /// Whether the stream is closed.
    pub closed: bool,
    /// Whether nothing was added, because it had been before.
    pub duplicate: bool,
    /// The producer's epoch and highest accepted sequence number.
    pub producer: Option<(Epoch, Seq)>,
}

/// Why an append is not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// No stream has this name.
    #[error("there is no such stream")]
    NotFound,
    /// The stream was deleted, and forks of it remain.
    #[error("the stream was deleted")]
    Gone,
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] AppendRefusal),
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

enum Step {
    Done(Result<Appended, AppendRefusal>),
    /// The body must be encoded for a stream of this kind first, outside of the stream's turn.
    Encode(ContentKind),
    Expired,
    Deleted(StreamId),
    Missing,
}

impl Engine {
    /// Lets an append to this stream find in the processor's cache what it looks at first. It is called for from memory in
    /// two steps, each of which wants something else to be done before what it called for is looked at. Without it all is the
    /// same, and with very many streams slower.
    pub fn look_ahead(&self, name: &StreamName) -> LookAhead<'_> {
        self.shared.registry.look_ahead(name)
    }

    /// Appends bytes to a stream, closes it, or both at once. Answers once it is durable.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is changed then.
    pub fn append<'a>(
        &'a self,
        name: &'a StreamName,
        request: AppendRequest,
    ) -> impl Future<Output = Result<Appended, AppendError>> + use<'a> {
        // An `async fn` would keep the request beside what is made of it.
        let mut append = request.prepare();
        async move { self.append_prepared(name, &mut append).await }
    }

    /// Like [`Self::append`], for whoever has a place where the append stays until it is done: nothing of it is moved.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is changed then.
    pub async fn append_prepared(
        &self,
        name: &StreamName,
        append: &mut PreparedAppend,
    ) -> Result<Appended, AppendError> {
        append.encode_for(append.told_kind());
        let entry = self.open(name).await?;
        loop {
            let limits = self.shared.limits.of_stream();
            let step = self
                .sequence(&entry, |sequencer, now| {
                    let state = match sequencer.standing(now) {
                        Standing::Alive(state) => state,
                        Standing::Missing => return Decision::Answer(Step::Missing),
                        Standing::Deleted(id) => return Decision::Answer(Step::Deleted(id)),
                        Standing::Expired => return Decision::Look(Step::Expired),
                    };
                    let kind = state.content_type.kind();
                    if append.command.body.kind() != kind {
                        return Decision::Look(Step::Encode(kind));
                    }
                    decide(state, state.append(&append.command, now, limits))
                })
                .await?;
            match step {
                Step::Done(done) => {
                    if done.as_ref().is_ok_and(|appended| appended.duplicate) {
                        self.shared.stats.duplicates.add(1);
                        self.use_again(&entry);
                    }
                    return Ok(done?);
                }
                Step::Encode(kind) => append.encode_for(kind),
                // What is rare has a place of its own: all appends that wait would have to have room for it.
                Step::Expired if Box::pin(self.expire_if_room(&entry)).await? => {}
                Step::Expired => return Err(AppendError::NotFound),
                Step::Missing => {
                    self.shared.registry.unpin_vacant(&entry);
                    return Err(AppendError::NotFound);
                }
                Step::Deleted(id) if Box::pin(self.is_held_by_forks(id)).await? => {
                    return Err(AppendError::Gone);
                }
                Step::Deleted(_) => return Err(AppendError::NotFound),
            }
        }
    }
}

/// An append that is done where it stands. Its body is encoded only then, for the kind of stream that its content type
/// tells: most streams are decided at the first look.
#[derive(Debug)]
pub struct PreparedAppend {
    body: Bytes,
    command: AppendCommand,
}

impl AppendRequest {
    /// Makes it ready to be done.
    pub fn prepare(self) -> PreparedAppend {
        let command = AppendCommand {
            // Bytes stay as they are.
            body: EncodedBody::new(ContentKind::Binary, &self.body),
            content_type: self.content_type,
            body_is_empty: self.body.is_empty(),
            producer: self.producer,
            stream_seq: self.stream_seq,
            if_match: self.if_match,
            closes: self.closes,
        };
        PreparedAppend {
            body: self.body,
            command,
        }
    }
}

impl PreparedAppend {
    /// The body as it was sent; empty only to close.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What the content type says of the stream's kind, which may be another one.
    fn told_kind(&self) -> ContentKind {
        let content_type = self.command.content_type.as_ref();
        content_type.map_or(ContentKind::Binary, ContentType::kind)
    }

    fn encode_for(&mut self, kind: ContentKind) {
        if self.command.body.kind() != kind {
            self.command.body = EncodedBody::new(kind, &self.body);
        }
    }
}

fn decide(state: &StreamState, decision: Result<AppendDecision, AppendRefusal>) -> Decision<Step> {
    let appended = |tail, closed, duplicate, producer| {
        Step::Done(Ok(Appended {
            tail,
            closed,
            duplicate,
            producer,
        }))
    };
    match decision {
        Err(refusal) => Decision::Answer(Step::Done(Err(refusal))),
        Ok(AppendDecision::AlreadyClosed) => Decision::Answer(appended(state.tail_token(), true, true, None)),
        Ok(AppendDecision::Duplicate(known)) => {
            let tail = state.lineage.token(known.end);
            Decision::Answer(appended(tail, state.closed, true, Some((known.epoch, known.seq))))
        }
        Ok(AppendDecision::Accept(append)) => {
            let tail = state.lineage.token(append.end());
            let producer = append.producer.as_ref().map(|mark| (mark.epoch, mark.seq));
            let answer = appended(tail, append.closes, false, producer);
            Decision::Commit(Record::of(state.id, Transition::Append(append)), answer)
        }
    }
}
