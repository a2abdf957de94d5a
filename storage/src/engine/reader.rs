//! Reads one incarnation of a stream: only durable bytes, across the storages that they stand in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tailwater_stream::{
    AppendExtent, ContentKind, Offset, OffsetRefusal, OffsetToken, Position, Record, StreamId, StreamName,
    Timestamp, Transition,
};

use super::sequencer::{Entry, Sequencer};
use super::{Engine, EngineError, Incarnation, View};
use crate::backend::{Backend, BackendError, ReadError, ReadRequest, Slices};

/// What a record takes beside its data, wherever it is written: many small messages make a long answer.
pub const RECORD_BYTES: u64 = 256;

/// Why a stream cannot be read at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// No stream has this name.
    #[error("there is no such stream")]
    NotFound,
    /// The stream was deleted, and forks of it remain.
    #[error("the stream was deleted")]
    Gone,
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why some bytes of a stream cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadFailure {
    /// The stream was deleted in the meantime.
    #[error("the stream was deleted")]
    Gone,
    /// The bytes were trimmed in the meantime.
    #[error("the bytes were trimmed")]
    Trimmed {
        /// The oldest place that can still be read from.
        oldest: OffsetToken,
    },
    /// The engine cannot do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// One message of a stream, or one append if its type has no messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// The position behind it.
    pub end: Position,
    /// When it was accepted.
    pub at: Timestamp,
    /// Its number in the stream, from 0; trimmed ones are counted.
    pub index: u64,
    /// Its bytes; a JSON message comes with the comma that follows it.
    pub data: Bytes,
}

/// A stream that is open for reading. Pins it in memory.
pub struct Reader {
    engine: Engine,
    _pin: Arc<Entry>,
    incarnation: Arc<Incarnation>,
}

/// What is asked of the backend about one storage, on the runtime and, if it may have to wait for a disk, once more off it.
type Question<T> = fn(&dyn Backend, ReadRequest) -> Result<T, ReadError>;

enum Look {
    Found(Arc<Incarnation>),
    Expired,
    Deleted(StreamId),
    Missing,
}

impl Engine {
    /// Opens a stream for reading, which starts a sliding lifetime anew.
    ///
    /// # Errors
    /// [`OpenError`] if there is no such stream.
    pub async fn reader(&self, name: &StreamName) -> Result<Reader, OpenError> {
        self.open_reader(name, true).await
    }

    /// Opens a stream for looking at it, which does not count as a use.
    ///
    /// # Errors
    /// [`OpenError`] if there is no such stream.
    pub async fn look(&self, name: &StreamName) -> Result<Reader, OpenError> {
        self.open_reader(name, false).await
    }

    async fn open_reader(&self, name: &StreamName, uses: bool) -> Result<Reader, OpenError> {
        let entry = self.open(name).await?;
        loop {
            let look = {
                let mut sequencer = entry.sequencer.lock();
                let look = self.look_at_durable(&sequencer);
                if uses && let Look::Found(incarnation) = &look {
                    self.use_stream(&entry, &mut sequencer, incarnation.id);
                }
                look
            };
            match look {
                Look::Found(incarnation) => return Ok(Reader::new(self.clone(), entry, incarnation)),
                Look::Expired if self.expire_if_room(&entry).await? => {}
                Look::Expired => return Err(OpenError::NotFound),
                Look::Missing => {
                    self.shared.registry.unpin_vacant(&entry);
                    return Err(OpenError::NotFound);
                }
                Look::Deleted(id) if self.is_held_by_forks(id).await? => return Err(OpenError::Gone),
                Look::Deleted(_) => return Err(OpenError::NotFound),
            }
        }
    }

    fn look_at_durable(&self, sequencer: &Sequencer) -> Look {
        let Some(incarnation) = sequencer.durable() else {
            return Look::Missing;
        };
        if incarnation.view().deleted {
            return Look::Deleted(incarnation.id);
        }
        // Its own last use, and not that of what may be accepted in its place.
        let used_at = sequencer.used_at(incarnation.id);
        if used_at.is_some_and(|used_at| incarnation.lifetime.is_over(used_at, self.now())) {
            // What is accepted may already be another stream, or deleted; then that is about to be shown.
            let accepted = sequencer
                .accepted()
                .filter(|state| state.id == incarnation.id && !state.deleted);
            return if accepted.is_some() {
                Look::Expired
            } else {
                Look::Missing
            };
        }
        Look::Found(Arc::clone(incarnation))
    }

    /// Counts a request that changed nothing as a use: a retry that had been accepted before.
    pub(super) fn use_again(&self, entry: &Arc<Entry>) {
        let mut sequencer = entry.sequencer.lock();
        if let Some(id) = sequencer.accepted().map(|state| state.id) {
            self.use_stream(entry, &mut sequencer, id);
        }
    }

    /// Starts a sliding lifetime anew. Nobody waits for the record of it, and if there is no space for it the
    /// stream only ends earlier after a restart.
    fn use_stream(&self, entry: &Arc<Entry>, sequencer: &mut Sequencer, id: StreamId) {
        let now = self.now();
        if sequencer.mark_used(id, now) {
            let touch = Record::of(id, Transition::Touch { at: now });
            if let Err(error) = self.commit(entry, sequencer, touch, None) {
                tracing::warn!(stream = %entry.name, %error, "a use of the stream could not be recorded");
            }
        }
    }
}

impl Reader {
    pub(super) fn new(engine: Engine, pin: Arc<Entry>, incarnation: Arc<Incarnation>) -> Self {
        Self {
            engine,
            _pin: pin,
            incarnation,
        }
    }

    /// The stream that is read.
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// The position that an offset names, by a view of the stream.
    ///
    /// # Errors
    /// The refusal if the stream would not give out that offset; within it, a failure to look it up.
    pub async fn resolve(
        &self,
        offset: Offset,
        view: &View,
    ) -> Result<Result<Position, OffsetRefusal>, ReadFailure> {
        let token = match offset {
            Offset::Now => return Ok(Ok(view.tail)),
            Offset::Start => OffsetToken::START,
            Offset::At(token) => token,
        };
        let position = match self.incarnation.lineage.resolve(token, view.oldest, view.tail) {
            Ok(position) => position,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(if self.is_message_end(position, view).await? {
            Ok(position)
        } else {
            Err(OffsetRefusal::Unknown)
        })
    }

    /// Durable bytes from `from` on, ending at the end of a message: at most `bytes_max`, unless the first
    /// message alone is longer.
    ///
    /// # Errors
    /// [`ReadFailure`] if the bytes are not there any more.
    pub async fn read(&self, from: Position, view: &View, bytes_max: u64) -> Result<Slices, ReadFailure> {
        let read = |backend: &dyn Backend, request| Ok((backend.read(request)?, ()));
        self.gather(from, view, bytes_max, read, |()| {}).await
    }

    /// As [`Reader::read`], which `read` does in each storage, with what it finds beside the bytes.
    async fn gather<T: Send + 'static>(
        &self,
        from: Position,
        view: &View,
        bytes_max: u64,
        read: Question<(Slices, T)>,
        mut take: impl FnMut(T),
    ) -> Result<Slices, ReadFailure> {
        let mut slices = Slices::none(from);
        while slices.end < view.tail && slices.end.since(from) < bytes_max {
            let bytes_left = bytes_max - slices.end.since(from);
            let (request, span_end) = self.request(slices.end, view.tail, bytes_left);
            let (more, beside) = self.ask(request, read).await?;
            // The first message of a further storage may be longer than what is left.
            if !slices.is_empty() && more.end.since(from) > bytes_max {
                break;
            }
            let stopped_early = more.end < span_end;
            slices.pieces.extend(more.pieces);
            slices.end = more.end;
            take(beside);
            if stopped_early {
                break;
            }
        }
        Ok(slices)
    }

    /// The messages in the durable bytes from `from` on, as [`Reader::read`] would give them, but no more than
    /// fit `bytes_max` when each is counted with [`RECORD_BYTES`], and at least one.
    ///
    /// # Errors
    /// [`ReadFailure`] if the bytes are not there any more.
    pub async fn records(
        &self,
        from: Position,
        view: &View,
        bytes_max: u64,
    ) -> Result<Vec<MessageRecord>, ReadFailure> {
        let mut extents = Vec::new();
        let slices = self
            .gather(from, view, bytes_max, read_with_extents, |more| {
                extents.extend(more);
            })
            .await?;
        let end = slices.end;
        let bytes = slices.into_contiguous();
        let mut records = Vec::new();
        let mut start = from;
        let mut cost = 0;
        for extent in extents {
            for (number, message_end) in extent.message_ends().enumerate() {
                if message_end <= start {
                    continue;
                }
                cost += RECORD_BYTES + message_end.since(start);
                if cost > bytes_max && !records.is_empty() {
                    return Ok(records);
                }
                let range = start.since(from) as usize..message_end.since(from) as usize;
                records.push(MessageRecord {
                    end: message_end,
                    at: extent.at,
                    index: extent.first_message + number as u64,
                    data: bytes.slice(range),
                });
                start = message_end;
            }
        }
        debug_assert_eq!(start, end, "records cover what was read");
        Ok(records)
    }

    /// The appends from `from` on that stand in one storage and begin within `bytes_max`, at least one.
    pub(super) async fn extents_of_chunk(
        &self,
        from: Position,
        view: &View,
        bytes_max: u64,
    ) -> Result<Vec<AppendExtent>, ReadFailure> {
        let (request, _) = self.request(from, view.tail, bytes_max);
        self.ask(request, Backend::extents).await
    }

    /// The append that holds the byte at `position`; none at the tail.
    pub(super) async fn append_at(
        &self,
        position: Position,
        view: &View,
    ) -> Result<Option<AppendExtent>, ReadFailure> {
        if position >= view.tail {
            return Ok(None);
        }
        let (request, _) = self.request(position, view.tail, 1);
        Ok(self.ask(request, Backend::extents).await?.into_iter().next())
    }

    /// Messages that end at or before `position`, counted from the stream's beginning; one that a fork cuts off
    /// there counts.
    pub(super) async fn messages_before(&self, position: Position, view: &View) -> Result<u64, ReadFailure> {
        if position == view.tail {
            return Ok(view.messages);
        }
        let Some(last_byte) = position.get().checked_sub(1).and_then(Position::new) else {
            return Ok(0);
        };
        if last_byte < view.oldest {
            // The append before the oldest position may be gone; the one behind it knows its own number.
            let next = self.append_at(position, view).await?;
            return Ok(next.map_or(view.messages, |append| {
                if append.start < position {
                    append.messages_before(position)
                } else {
                    append.first_message
                }
            }));
        }
        let append = self.append_at(last_byte, view).await?;
        Ok(append.map_or(view.messages, |append| append.messages_before(position)))
    }

    /// Whether an answer may begin or end at `position`. Only JSON cannot be cut anywhere.
    pub(super) async fn is_message_end(&self, position: Position, view: &View) -> Result<bool, ReadFailure> {
        if self.incarnation.content_type.kind() != ContentKind::Json
            || position <= view.oldest
            || position >= view.tail
        {
            return Ok(true);
        }
        let last_byte = Position::new(position.get() - 1).expect("behind the oldest position");
        let append = self.append_at(last_byte, view).await?;
        Ok(append.is_some_and(|append| append.message_ends().any(|end| end == position)))
    }

    /// What to ask the backend for, and where the storage that holds `from` ends.
    fn request(&self, from: Position, until: Position, bytes_max: u64) -> (ReadRequest, Position) {
        let (span, span_end) = self.incarnation.lineage.span_at(from);
        let until = span_end.map_or(until, |end| end.min(until));
        (
            ReadRequest {
                stream: span.stored_in,
                from,
                until,
                bytes_max,
                may_wait: false,
            },
            until,
        )
    }

    async fn ask<T: Send + 'static>(
        &self,
        request: ReadRequest,
        question: Question<T>,
    ) -> Result<T, ReadFailure> {
        let mut answer = question(self.engine.shared.backend.as_ref(), request);
        if let Err(ReadError::Cold) = answer {
            let shared = Arc::clone(&self.engine.shared);
            let request = ReadRequest {
                may_wait: true,
                ..request
            };
            let asked = tokio::task::spawn_blocking(move || {
                let began = thread_nanos();
                let answer = question(shared.backend.as_ref(), request);
                // Counted here, as who asks may have gone away.
                let took = thread_nanos().saturating_sub(began);
                shared.stats.slow_read_nanos.add(took);
                answer
            });
            answer = asked
                .await
                .map_err(|_panicked| EngineError::Backend(BackendError::Poisoned))?;
        }
        answer.map_err(|error| match error {
            ReadError::Backend(error) => ReadFailure::Engine(error.into()),
            ReadError::Gone | ReadError::Cold => self.why_gone(request.from),
        })
    }

    fn why_gone(&self, from: Position) -> ReadFailure {
        let view = self.incarnation.view();
        if !view.deleted && from < view.oldest {
            ReadFailure::Trimmed {
                oldest: self.incarnation.token(view.oldest),
            }
        } else {
            ReadFailure::Gone
        }
    }
}

/// CPU time of this thread so far, in nanoseconds.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let time = Duration::try_from(time).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes, and the appends that have them, with one look at the disk.
fn read_with_extents(
    backend: &dyn Backend,
    request: ReadRequest,
) -> Result<(Slices, Vec<AppendExtent>), ReadError> {
    let slices = backend.read(request)?;
    let extents = backend.extents(ReadRequest {
        until: slices.end,
        bytes_max: u64::MAX,
        ..request
    })?;
    Ok((slices, extents))
}
