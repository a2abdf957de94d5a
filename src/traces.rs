//! Spans of requests and commits, in builds with the feature `otlp`. In others nothing of it is there.
//!
//! A request's span begins with its head and ends with its answer's head: what is sent behind that, as events, is no part
//! of it. It goes on the trace that `traceparent` names. Commits have spans of their own, each the root of a trace and linked to
//! the requests whose records it made durable; in memory mode they are no work of their own and have none.

#[cfg(feature = "otlp")]
mod commits;
#[cfg(feature = "otlp")]
mod requests;
#[cfg(feature = "otlp")]
mod route;

#[cfg(feature = "otlp")]
pub(crate) use requests::{RequestSpan, Tracing, TracingError};

#[cfg(not(feature = "otlp"))]
pub(crate) use nothing::RequestSpan;

/// What stands in where nothing is traced.
#[cfg(not(feature = "otlp"))]
mod nothing {
    use http::{HeaderValue, StatusCode};

    use crate::http::{App, Peer, RequestHead};

    /// No span.
    pub(crate) struct RequestSpan;

    impl RequestSpan {
        /// Does nothing.
        pub(crate) fn begin(_: &App, _: &Peer, _: &impl RequestHead) -> Self {
            Self
        }

        /// Does the work.
        pub(crate) fn cover<F: Future>(&self, work: F) -> F {
            work
        }

        /// Does nothing.
        pub(crate) fn end(&mut self, _: StatusCode, _: impl FnOnce() -> Option<HeaderValue>) {}
    }
}
