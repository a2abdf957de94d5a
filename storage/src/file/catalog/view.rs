//! A snapshot of the catalog.

use bytes::Bytes;
use tailwater_stream::{Position, StreamId, StreamName, Timestamp};

use super::audit::{self, Audit};
use super::queries;
use super::rows::{Meta, SegmentRow};
use crate::backend::{BackendError, ControlsRequest};
use crate::database::View;
use crate::file::segment::Run;
use crate::stream_tables::{StreamRow, queries as streams};

/// What the catalog says at one point in time. What is changed later takes space of its own as long as a view lives.
pub(in crate::file) struct CatalogView(View);

impl CatalogView {
    pub(super) fn new(view: View) -> Self {
        Self(view)
    }

    /// Reads every row, and asks whether they agree with each other.
    pub(in crate::file) fn audit(&self) -> Result<Audit, BackendError> {
        self.0.ask(audit::audit)
    }

    /// Whether the catalog knows a run as its segment lists it; none if it does not know it at all.
    pub(in crate::file) fn knows_run(&self, segment: u64, run: &Run) -> Result<Option<bool>, BackendError> {
        self.0.ask(|tables| queries::knows_run(tables, segment, run))
    }

    /// What is known of the store as a whole.
    pub(in crate::file) fn meta(&self) -> Result<Meta, BackendError> {
        self.0.ask(queries::meta)
    }

    /// The newest stream of this name.
    pub(in crate::file) fn id_of(&self, name: &StreamName) -> Result<Option<StreamId>, BackendError> {
        self.0.ask(|tables| streams::id_of(tables, name))
    }

    /// What is known of a stream, with all its producers.
    pub(in crate::file) fn row(&self, id: StreamId) -> Result<Option<StreamRow>, BackendError> {
        self.0.ask(|tables| streams::with_producers(tables, id))
    }

    /// Likewise without its producers, which costs less.
    pub(in crate::file) fn head(&self, id: StreamId) -> Result<Option<StreamRow>, BackendError> {
        self.0.ask(|tables| streams::head(tables, id))
    }

    /// Names that begin with `prefix` and stand behind `after`, in byte order.
    pub(in crate::file) fn names(
        &self,
        prefix: &str,
        after: Option<&str>,
        count_max: usize,
    ) -> Result<Vec<(StreamName, StreamId)>, BackendError> {
        self.0
            .ask(|tables| streams::names(tables, prefix, after, count_max))
    }

    /// The streams that were forked from this one.
    pub(in crate::file) fn forks_of(&self, source: StreamId) -> Result<Vec<StreamId>, BackendError> {
        self.0.ask(|tables| streams::forks_of(tables, source))
    }

    /// The streams that are deleted and not released.
    pub(in crate::file) fn deleted(&self) -> Result<Vec<StreamId>, BackendError> {
        self.0.ask(streams::deleted)
    }

    /// The streams that are stored from before their oldest position on: their trims were noted before what they gave back
    /// was, or forks held that.
    pub(in crate::file) fn trimmed(&self) -> Result<Vec<StreamId>, BackendError> {
        self.0.ask(queries::trimmed)
    }

    /// Deadlines that have come, in order, from behind `after` on.
    pub(in crate::file) fn due(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, StreamId)>,
        count_max: usize,
    ) -> Result<Vec<(Timestamp, StreamId)>, BackendError> {
        self.0.ask(|tables| streams::due(tables, now, after, count_max))
    }

    /// The value of a control key.
    pub(in crate::file) fn control(&self, id: StreamId, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.0.ask(|tables| streams::control(tables, id, key))
    }

    /// The control keys of a stream that a request asks for, in order, with their values.
    pub(in crate::file) fn controls(
        &self,
        id: StreamId,
        request: &ControlsRequest<'_>,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        self.0.ask(|tables| streams::controls(tables, id, request))
    }

    /// The runs of a stream, in order of position, each with its segment's number.
    pub(in crate::file) fn runs(&self, id: StreamId) -> Result<Vec<(u64, Run)>, BackendError> {
        self.0.ask(|tables| queries::runs(tables, id, Position::ZERO))
    }

    /// All segments, in order of their numbers.
    pub(in crate::file) fn segments(&self) -> Result<Vec<SegmentRow>, BackendError> {
        self.0.ask(queries::segments)
    }
}
