//! Spans of commits. Each is the root of a trace of its own, for it makes the records of many requests durable, and is
//! linked to the spans of these.

use std::time::SystemTime;

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use tailwater_process::traces::current;
use tailwater_storage::watched_commits::{Cause, Commit, WatchCommits};

/// Makes a span of each commit.
pub(super) struct Commits {
    pub(super) tracer: &'static SdkTracer,
    /// The storage mode.
    pub(super) mode: &'static str,
}

impl WatchCommits for Commits {
    fn cause(&self) -> Option<Cause> {
        let span = current().filter(SpanContext::is_sampled)?;
        Some(Cause {
            trace: span.trace_id().to_bytes(),
            span: span.span_id().to_bytes(),
        })
    }

    fn committed(&self, commit: Commit) {
        let end = SystemTime::now();
        let mut span = self
            .tracer
            .span_builder("commit")
            .with_kind(SpanKind::Internal)
            .with_start_time(end.checked_sub(commit.took).unwrap_or(end))
            .with_attributes([
                KeyValue::new("tailwater.commit.records", count(commit.records)),
                KeyValue::new("tailwater.storage.mode", self.mode),
            ])
            .with_links(links(commit.causes))
            .start_with_context(self.tracer, &Context::new());
        span.end_with_timestamp(end);
    }
}

/// A link to each request. A span takes `OTEL_SPAN_LINK_COUNT_LIMIT` of them (128 unless it says otherwise), and counts the
/// others.
fn links(mut causes: Vec<Cause>) -> Vec<Link> {
    causes.dedup();
    let link = |cause: Cause| {
        let trace = TraceId::from_bytes(cause.trace);
        let span = SpanId::from_bytes(cause.span);
        Link::with_context(SpanContext::new(
            trace,
            span,
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ))
    };
    causes.into_iter().map(link).collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
