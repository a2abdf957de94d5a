//! Why a stream is not imported.

use tailwater_stream::{Position, StreamId, StreamName};

use crate::engine::EngineError;

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

pub(super) fn malformed(what: impl Into<String>) -> ImportError {
    ImportError::Malformed { what: what.into() }
}
