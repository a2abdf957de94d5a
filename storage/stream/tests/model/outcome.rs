//! What became of a request, in words that the reference and the driver share. Offsets are text.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created(Described),
    Exists(Described),
    Conflict,
    HeldByForks,
    SourceNotFound,
    SourceGone,
    ForkContentType { expected: String },
    ForkOffset,
    ForkTrimmed,
    ForkSubOffset,
    TooLarge,
    Appended(Appended),
    Duplicate(Appended),
    AlreadyClosed { tail: String },
    Empty,
    Closed { tail: String },
    ContentType { expected: String },
    Fenced { current: u64 },
    EpochStart,
    Gap { expected: u64, received: u64 },
    TooManyProducers,
    TailMismatch { tail: String },
    StreamSeq { last: String },
    InvalidJson,
    NoMessages,
    StreamFull,
    Trimmed { oldest: String },
    AlreadyTrimmed { oldest: String },
    UnknownOffset,
    Deleted,
    NotFound,
    Gone,
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) content_type: String,
    pub(crate) tail: String,
    pub(crate) closed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) tail: String,
    pub(crate) closed: bool,
    pub(crate) producer: Option<(u64, u64)>,
}

/// Everything that is to be seen of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) content_type: String,
    pub(crate) oldest: String,
    pub(crate) tail: String,
    pub(crate) closed: bool,
    pub(crate) messages: u64,
    pub(crate) own_bytes: u64,
    pub(crate) stream_seq: Option<String>,
    /// Id, epoch, sequence number, and the tail after that; in order of the id.
    pub(crate) producers: Vec<(String, u64, u64, String)>,
    pub(crate) last_append_ms: Option<u64>,
    pub(crate) readable: Answer,
}

/// What a read gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Data {
        body: Vec<u8>,
        /// Number, end and bytes of each message.
        records: Vec<(u64, String, Vec<u8>)>,
    },
    Trimmed {
        oldest: String,
    },
    Unknown,
}

/// Whether a stream of some name can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing<T> {
    Missing,
    Gone,
    Alive(T),
}

impl Outcome {
    /// The class alone, without its facts.
    pub(crate) fn class(&self) -> String {
        let text = format!("{self:?}");
        let end = text.find([' ', '(']).unwrap_or(text.len());
        text[..end].to_owned()
    }
}
