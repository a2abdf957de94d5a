//! Spans of reads and transactions, in builds with the feature `otlp`. In others nothing of it is there.
//!
//! They tell how much was read and written, and of no stream by its name. The server is told of a read's span by `traceparent`,
//! so that its own spans are on the same trace.

#[cfg(feature = "otlp")]
pub(crate) use spans::{ReadSpan, Tracing, TransactionSpan, put_context};

#[cfg(not(feature = "otlp"))]
pub(crate) use nothing::{ReadSpan, TransactionSpan, put_context};

#[cfg(feature = "otlp")]
mod spans {
    use std::sync::OnceLock;
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderValue};
    use opentelemetry::trace::{Span as _, SpanContext, SpanKind, Status, Tracer as _};
    use opentelemetry::{Context, KeyValue};
    use opentelemetry_sdk::trace::{SdkTracer, Span};
    use tailwater_process::traces::{Traces, TracesError, current, within};

    use crate::event::Chunk;
    use crate::source;

    /// Of the process; none if nothing is traced.
    static TRACER: OnceLock<SdkTracer> = OnceLock::new();

    /// Traces until it is stopped.
    pub(crate) struct Tracing(Option<Traces>);

    impl Tracing {
        /// Begins, if the environment names a collector.
        ///
        /// # Errors
        /// If a variable has a value that means nothing here.
        pub(crate) fn start() -> Result<Self, TracesError> {
            let traces = Traces::start("tailwater-sync", env!("CARGO_PKG_VERSION"))?;
            if let Some(traces) = &traces {
                TRACER.get_or_init(|| traces.tracer());
            }
            Ok(Self(traces))
        }

        /// Sends what is there, within that time.
        pub(crate) async fn stop(self, within: Duration) {
            if let Some(traces) = self.0
                && tokio::task::spawn_blocking(move || traces.stop(within))
                    .await
                    .is_err()
            {
                tracing::error!("the last spans could not be sent");
            }
        }
    }

    fn begin(name: &'static str) -> Option<Span> {
        let tracer = TRACER.get()?;
        let builder = tracer.span_builder(name).with_kind(SpanKind::Client);
        Some(builder.start_with_context(tracer, &Context::new()))
    }

    fn count(number: u64) -> i64 {
        i64::try_from(number).unwrap_or(i64::MAX)
    }

    /// A read of one stream from the source.
    pub(crate) struct ReadSpan(Option<Span>);

    impl ReadSpan {
        pub(crate) fn begin() -> Self {
            Self(begin("read"))
        }

        /// Does the read's work for the span.
        pub(crate) fn cover<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
            let span = self.0.as_ref();
            within(
                span.map_or(SpanContext::NONE, |span| span.span_context().clone()),
                work,
            )
        }

        pub(crate) fn end(self, brought: &Result<Chunk, source::Error>) {
            let Some(mut span) = self.0 else { return };
            match brought {
                Ok(chunk) => {
                    let events = count(chunk.events.len() as u64);
                    span.set_attribute(KeyValue::new("tailwater.events", events));
                }
                Err(_) => span.set_status(Status::error("")),
            }
            span.end();
        }
    }

    /// Tells a server by a request's headers which span the request is for, if it is for one (W3C Trace Context).
    pub(crate) fn put_context(headers: &mut HeaderMap) {
        let Some(span) = current() else { return };
        let (trace, flags) = (span.trace_id(), span.trace_flags().to_u8());
        let told = format!("00-{trace}-{}-{flags:02x}", span.span_id());
        let told = HeaderValue::from_str(&told).expect("hexadecimal digits and hyphens");
        headers.insert("traceparent", told);
    }

    /// A transaction with rows, that has ended.
    pub(crate) struct TransactionSpan;

    impl TransactionSpan {
        /// One that took so long, for so many chunks, and committed so many rows.
        pub(crate) fn ended(took: Duration, chunks: usize, rows: u64) {
            let Some(tracer) = TRACER.get() else { return };
            let end = SystemTime::now();
            let mut span = tracer
                .span_builder("commit")
                .with_kind(SpanKind::Client)
                .with_start_time(end.checked_sub(took).unwrap_or(end))
                .with_attributes([
                    KeyValue::new("tailwater.chunks", count(chunks as u64)),
                    KeyValue::new("tailwater.rows", count(rows)),
                    KeyValue::new("db.system.name", "postgresql"),
                ])
                .start_with_context(tracer, &Context::new());
            span.end_with_timestamp(end);
        }
    }
}

/// What stands in where nothing is traced.
#[cfg(not(feature = "otlp"))]
mod nothing {
    use std::time::Duration;

    use http::HeaderMap;

    use crate::event::Chunk;
    use crate::source;

    /// Tells nothing.
    pub(crate) fn put_context(_: &mut HeaderMap) {}

    /// No span.
    pub(crate) struct ReadSpan;

    impl ReadSpan {
        /// Does nothing.
        pub(crate) fn begin() -> Self {
            Self
        }

        /// Does the work.
        pub(crate) fn cover<F: Future>(&self, work: F) -> F {
            work
        }

        /// Does nothing.
        pub(crate) fn end(self, _: &Result<Chunk, source::Error>) {}
    }

    /// No span.
    pub(crate) struct TransactionSpan;

    impl TransactionSpan {
        /// Does nothing.
        pub(crate) fn ended(_: Duration, _: usize, _: u64) {}
    }
}
