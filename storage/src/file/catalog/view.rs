//! A snapshot of the catalog.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use redb::ReadTransaction;
use tailwater_stream::{Position, StreamId, StreamName, Timestamp};

use super::audit::{self, Audit};
use super::opened::{Shared, Snapshot};
use super::queries;
use super::rows::{Meta, SegmentRow, StreamRow};
use super::tables::Failure;
use crate::backend::BackendError;
use crate::file::segment::Run;

/// What the catalog says at one point in time. What is changed later takes space of its own as long as a view lives.
pub(in crate::file) struct CatalogView {
    shared: Arc<Shared>,
    snapshot: Snapshot,
    /// Shows the same after the database that `snapshot` reads from has failed for want of space.
    renewed: OnceLock<Snapshot>,
}

impl CatalogView {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, BackendError> {
        Ok(Self {
            snapshot: shared.snapshot()?,
            shared: Arc::clone(shared),
            renewed: OnceLock::new(),
        })
    }

    fn ask<T>(&self, question: impl Fn(&ReadTransaction) -> Result<T, Failure>) -> Result<T, BackendError> {
        let ask = |snapshot: &Snapshot| {
            let question = || question(&snapshot.transaction);
            snapshot.opened.ask(question)
        };
        if let Some(renewed) = self.renewed.get() {
            return ask(renewed);
        }
        ask(&self.snapshot).or_else(|error| {
            let renewed = self.shared.same_snapshot(&self.snapshot).ok_or(error)?;
            ask(self.renewed.get_or_init(|| renewed))
        })
    }

    /// Reads every row, and asks whether they agree with each other.
    pub(in crate::file) fn audit(&self) -> Result<Audit, BackendError> {
        self.ask(audit::audit)
    }

    /// Whether the catalog knows a run as its segment lists it; none if it does not know it at all.
    pub(in crate::file) fn knows_run(&self, segment: u64, run: &Run) -> Result<Option<bool>, BackendError> {
        self.ask(|tables| queries::knows_run(tables, segment, run))
    }

    /// What is known of the store as a whole.
    pub(in crate::file) fn meta(&self) -> Result<Meta, BackendError> {
        self.ask(queries::meta)
    }

    /// The newest stream of this name.
    pub(in crate::file) fn id_of(&self, name: &StreamName) -> Result<Option<StreamId>, BackendError> {
        self.ask(|tables| queries::id_of(tables, name))
    }

    /// What is known of a stream, with all its producers.
    pub(in crate::file) fn row(&self, id: StreamId) -> Result<Option<StreamRow>, BackendError> {
        self.ask(|tables| queries::row(tables, id))
    }

    /// Likewise without its producers, which costs less.
    pub(in crate::file) fn head(&self, id: StreamId) -> Result<Option<StreamRow>, BackendError> {
        self.ask(|tables| queries::head(tables, id))
    }

    /// Names that begin with `prefix` and stand behind `after`, in byte order.
    pub(in crate::file) fn names(
        &self,
        prefix: &str,
        after: Option<&str>,
        count_max: usize,
    ) -> Result<Vec<(StreamName, StreamId)>, BackendError> {
        self.ask(|tables| queries::names(tables, prefix, after, count_max))
    }

    /// The streams that were forked from this one.
    pub(in crate::file) fn forks_of(&self, source: StreamId) -> Result<Vec<StreamId>, BackendError> {
        self.ask(|tables| queries::forks_of(tables, source))
    }

    /// The streams that are deleted and not released.
    pub(in crate::file) fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        self.ask(queries::deleted)
    }

    /// Deadlines that have come, in order, from behind `after` on.
    pub(in crate::file) fn due(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, StreamId)>,
        count_max: usize,
    ) -> Result<Vec<(Timestamp, StreamId)>, BackendError> {
        self.ask(|tables| queries::due(tables, now, after, count_max))
    }

    /// The value of a control key.
    pub(in crate::file) fn control(&self, id: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.ask(|tables| queries::control(tables, id, key))
    }

    /// The control keys of a stream that begin with `prefix`, in order, with their values.
    pub(in crate::file) fn controls(
        &self,
        id: StreamId,
        prefix: &[u8],
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.ask(|tables| queries::controls(tables, id, prefix))
    }

    /// The runs of a stream, in order of position, each with its segment's number.
    pub(in crate::file) fn runs(&self, id: StreamId) -> Result<Vec<(u64, Run)>, BackendError> {
        self.ask(|tables| queries::runs(tables, id, Position::ZERO))
    }

    /// All segments, in order of their numbers.
    pub(in crate::file) fn segments(&self) -> Result<Vec<SegmentRow>, BackendError> {
        self.ask(queries::segments)
    }
}
