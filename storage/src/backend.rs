//! The trait [`Backend`]: keeps committed bytes.
//!
//! A backend knows nothing of HTTP, of producers' rules or of content types. It applies the transitions it is
//! given and gives back states and bytes. The suite in `tests/contract.rs` says what it owes the engine.

use std::ops::Bound;

use bytes::Bytes;
use smallvec::SmallVec;
use tailwater_stream::{
    AppendExtent, Part, Position, Record, StreamId, StreamName, StreamState, Timestamp, Transition,
};

/// Keeps committed bytes.
pub trait Backend: Send + Sync + 'static {
    /// How this backend wants to be called.
    fn nature(&self) -> Nature;

    /// The partition that holds a stream, below [`Nature::partitions`]. It follows from the id alone.
    fn partition_of(&self, id: StreamId) -> usize;

    /// The least id, `at_least` or above, with which a stream of this name stands in the partition that the name is
    /// looked up in; or in that of another stream, if it is to stand beside one.
    fn next_id(&self, at_least: u64, name: &StreamName, beside: Option<StreamId>) -> u64 {
        let _ = (name, beside);
        at_least
    }

    /// Lets names be looked up in the partition of a stream, durably, for other streams that will stand beside that
    /// one. If none comes to have such a name there, nothing is found under it.
    ///
    /// # Errors
    /// If the backend cannot be written. Some of the names may lead there then.
    fn lead(&self, names: &[StreamName], beside: StreamId) -> Result<(), BackendError> {
        let _ = (names, beside);
        Ok(())
    }

    /// Whether a name has to be led for a stream to stand beside another one: also if it is led already. Never waits.
    fn wants_lead(&self, name: &StreamName, beside: StreamId) -> bool {
        let _ = (name, beside);
        false
    }

    /// The name of a stream, if anything leads that name anywhere.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn led_name(&self, id: StreamId) -> Result<Option<StreamName>, BackendError> {
        let _ = id;
        Ok(None)
    }

    /// Lets a name lead no more, durably, to where no stream has it but one that is `released` next: that one need not be
    /// found by its name any more. The engine holds this back while a stream may be made where the name was led.
    ///
    /// # Errors
    /// If the backend cannot be read or written.
    fn end_leads(&self, name: &StreamName, released: Option<StreamId>) -> Result<(), BackendError> {
        let _ = (name, released);
        Ok(())
    }

    /// Lets some prefixes lead no more, durably, at most `count_max`: those below which no stream is, and that nobody has led,
    /// or relied on, since the backend was opened. Answers whether there may be more of them. The engine holds this back
    /// while names are led.
    ///
    /// # Errors
    /// If the backend cannot be read or written.
    fn end_unused_leads(&self, count_max: usize) -> Result<bool, BackendError> {
        let _ = count_max;
        Ok(false)
    }

    /// Lets all names be looked up there that begin with a prefix, which ends with `/`. Names that lead elsewhere by their
    /// prefix need not be led one by one.
    ///
    /// # Errors
    /// If the backend cannot be written.
    fn lead_below(&self, prefix: &str, beside: StreamId) -> Result<(), BackendError> {
        let _ = (prefix, beside);
        Ok(())
    }

    /// Makes records durable, in order, each whole or absent, and says what became of each.
    ///
    /// Once a record is refused, the later ones of the batch that touch a stream of it are refused too, because
    /// they were decided on it. Only one thread at a time commits to a partition, unless the backend commits
    /// inline: then only one at a time commits to a stream.
    ///
    /// # Errors
    /// If it is not known what became of the batch. The partition takes no more commits then.
    fn commit(&self, partition: usize, batch: &[Record]) -> Result<Outcomes, BackendError>;

    /// Committed bytes of one stream's own storage, from a position on, ending at the end of a message.
    ///
    /// # Errors
    /// [`ReadError::Cold`] if it would have to wait for a disk and may not: ask again off the runtime.
    fn read(&self, request: ReadRequest) -> Result<Slices, ReadError>;

    /// The appends in one stream's own storage that have bytes between `from` and `until`, in order, as many as
    /// begin before `from + bytes_max` and at least one, the last cut off at `until`.
    ///
    /// # Errors
    /// As [`Backend::read`].
    fn extents(&self, request: ReadRequest) -> Result<Vec<AppendExtent>, ReadError>;

    /// The committed state of the stream that has this name, deleted ones included until they are released.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn load(&self, name: &StreamName) -> Result<Option<StreamState>, BackendError>;

    /// The same of some names, in their order.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn load_all(&self, names: &[StreamName]) -> Result<Vec<Option<StreamState>>, BackendError> {
        names.iter().map(|name| self.load(name)).collect()
    }

    /// Committed streams that are not deleted, in the order of their names.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn list(&self, request: &ListRequest<'_>) -> Result<Vec<StreamState>, BackendError>;

    /// Whether any stream that is not yet released was forked from this one.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn has_forks(&self, id: StreamId) -> Result<bool, BackendError>;

    /// Forgets a deleted stream: its name, unless another stream has it by now, its bytes and its control keys.
    /// Answers its source if that is deleted too, for the engine to ask whether it can go as well.
    ///
    /// # Errors
    /// If the backend cannot be written.
    fn release(&self, id: StreamId) -> Result<Option<StreamId>, BackendError>;

    /// Deleted streams that are not released, for example because the process ended in between.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn deleted(&self) -> Result<Vec<StreamId>, BackendError>;

    /// Gives back the space of bytes in this stream's own storage that were trimmed and that no fork can read
    /// any more. The engine holds it back while a fork is being made.
    ///
    /// # Errors
    /// If the backend cannot be written.
    fn reclaim(&self, id: StreamId) -> Result<(), BackendError>;

    /// Storages of which a reclaim may give something back that an earlier run left, for example because the process
    /// ended before what it had given back was durable. Asked once, when an engine starts.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn reclaimable(&self) -> Result<Vec<StreamId>, BackendError> {
        Ok(Vec::new())
    }

    /// Streams that are not deleted and whose lifetime would be over if they were loaded at `now`, at most
    /// `count_max`. A load assumes a use that was not recorded ([`Lifetime::touched_at_load`]), so to be due
    /// any earlier would load them in vain.
    ///
    /// [`Lifetime::touched_at_load`]: tailwater_stream::Lifetime::touched_at_load
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn due(&self, now: Timestamp, count_max: usize) -> Result<Vec<StreamName>, BackendError>;

    /// The value of a control key.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn control(&self, stream: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError>;

    /// The control keys of a stream that a request asks for, in order, with their values. It reads about as many as it
    /// answers, however many there are.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn list_controls(
        &self,
        stream: StreamId,
        request: &ControlsRequest<'_>,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError>;

    /// All control keys of a stream that begin with `prefix`, in order, with their values.
    ///
    /// # Errors
    /// If the backend cannot be read.
    fn controls(&self, stream: StreamId, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.list_controls(stream, &ControlsRequest::all(prefix))
    }

    /// The greatest id that was ever given to a stream here.
    fn last_id(&self) -> Option<StreamId>;

    /// How much is stored.
    fn usage(&self) -> Usage;

    /// Why the backend takes no more commits, if something that it does by itself has failed for good.
    fn failure(&self) -> Option<BackendError> {
        None
    }

    /// Ends what the backend does by itself, and leaves everything as the next start likes it best. Nothing is
    /// asked of it afterwards.
    ///
    /// # Errors
    /// If that fails. What was committed is as durable as before.
    fn stop(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// How a backend wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nature {
    /// Logs that are committed to independently.
    pub partitions: usize,
    /// Whether a commit is done at once, so that it may be called while a stream is locked and from any thread.
    /// Otherwise each partition has a thread of its own that commits what has gathered.
    pub commits_inline: bool,
    /// Whether everything else is answered from memory, so that it may be called on the runtime.
    pub answers_inline: bool,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Durable,
    /// There was no space for it, and nothing of it is kept.
    Full,
    /// Another writer's records came first. Nothing of it is kept; load the stream again and decide anew.
    Moved,
}

/// What became of each record of a batch, in order.
pub type Outcomes = SmallVec<[Outcome; 1]>;

/// Which bytes to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// The stream whose own storage to read.
    pub stream: StreamId,
    /// The first position.
    pub from: Position,
    /// Where to stop at the latest: a tail or a fork point. Committed.
    pub until: Position,
    /// How many bytes to give at the most, unless the first message alone is longer.
    pub bytes_max: u64,
    /// Whether the call may wait for a disk.
    pub may_wait: bool,
}

/// Committed bytes, in one or several pieces that own what they borrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    /// The pieces, in order; none is empty.
    pub pieces: SmallVec<[Bytes; 2]>,
    /// The position behind the last byte.
    pub end: Position,
}

impl Slices {
    /// No bytes, at a position.
    pub fn none(at: Position) -> Self {
        Self {
            pieces: SmallVec::new(),
            end: at,
        }
    }

    /// How many bytes the pieces hold.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// All bytes in one piece; copies only if there are several.
    pub fn into_contiguous(mut self) -> Bytes {
        match self.pieces.len() {
            0 => Bytes::new(),
            1 => self.pieces.swap_remove(0),
            _ => self.pieces.concat().into(),
        }
    }
}

/// Which streams to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRequest<'a> {
    /// Only names that begin with this.
    pub prefix: &'a str,
    /// Only names behind this one.
    pub after: Option<&'a str>,
    /// At most so many.
    pub count_max: usize,
}

/// Which control keys of a stream to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlsRequest<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a [u8],
    /// Only keys behind this one, which need not be there.
    pub after: Option<&'a [u8]>,
    /// At most so many.
    pub count_max: usize,
}

impl<'a> ControlsRequest<'a> {
    /// All keys that begin with `prefix`.
    pub const fn all(prefix: &'a [u8]) -> Self {
        Self {
            prefix,
            after: None,
            count_max: usize::MAX,
        }
    }

    /// Where the keys begin that are asked for.
    pub(crate) fn begins(&self) -> Bound<&'a [u8]> {
        match self.after {
            Some(after) if after >= self.prefix => Bound::Excluded(after),
            _ => Bound::Included(self.prefix),
        }
    }
}

/// How much a backend stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Streams that are not released.
    pub streams: u64,
    /// Bytes stored, with what the backend needs to find them.
    pub bytes: u64,
    /// Bytes that may be stored; none if the medium alone sets the limit.
    pub bytes_max: Option<u64>,
}

/// A backend that cannot do its work. Clients are not to blame and retrying does not help.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    /// The medium failed.
    #[error("the storage failed {what}: {source}")]
    Io {
        /// What was being done, and with which file.
        what: String,
        /// What the operating system says.
        #[source]
        source: std::sync::Arc<std::io::Error>,
    },
    /// What was read is not what was written.
    #[error("the storage is damaged: {what}")]
    Damaged {
        /// What was found, and where.
        what: String,
    },
    /// It was written by a later version, and this one would lose what it does not know.
    #[error("{what}: it was written by a later version of Tailwater; use that one, or a later one still")]
    Newer {
        /// What was found, and where.
        what: String,
    },
    /// The backend itself is broken: it panicked.
    #[error("the storage panicked, which is a bug; restart the server")]
    Panicked,
    /// An earlier failure has stopped this partition.
    #[error("the storage has failed before and takes no more writes; restart the server")]
    Poisoned,
}

impl BackendError {
    /// Whether it says only that there is no space.
    pub(crate) fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// Whether a record makes room, and nothing else. One that only costs next to nothing does not: there may be any
/// number of them, and they would take what room is kept back from those that make some.
pub(crate) fn frees_space(record: &Record) -> bool {
    record.parts.iter().all(|part| match part {
        Part::Stream { transition, .. } => match transition {
            Transition::Delete { .. } | Transition::Trim { .. } => true,
            Transition::Create(_)
            | Transition::Stage(_)
            | Transition::Import(_)
            | Transition::Append(_)
            | Transition::Touch { .. } => false,
        },
        Part::Control(change) => change.value.is_none(),
    })
}

/// Why bytes cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The bytes must be fetched from a disk first.
    #[error("the bytes must be fetched from the disk first")]
    Cold,
    /// The stream, or this part of it, has been released since.
    #[error("the bytes are no longer stored")]
    Gone,
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
