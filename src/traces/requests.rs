//! Spans of requests, if the environment names a collector. What they tell of is bounded: no name that a client has chosen,
//! and no address, unless a setting asks for it.

use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Version};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Span as _, SpanContext, SpanKind, Status, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, Span};
pub(crate) use tailwater_process::traces::TracesError as TracingError;
use tailwater_process::traces::{Traces, within};
use tailwater_storage::Engine;

use super::commits::Commits;
use super::route;
use crate::config::Config;
use crate::http::{App, Peer, RequestHead};

/// Of the process; none if nothing is traced.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Traces until it is stopped.
pub(crate) struct Tracing(Option<Traces>);

impl Tracing {
    /// Begins, if the environment names a collector.
    ///
    /// # Errors
    /// If a variable has a value that means nothing here.
    pub(crate) fn start(config: &Config, engine: &Engine) -> Result<Self, TracingError> {
        let traces = Traces::start("tailwater", env!("CARGO_PKG_VERSION"))?;
        if let Some(traces) = &traces {
            let tracer = TRACER.get_or_init(|| traces.tracer());
            if config.storage.mode.is_on_disk() {
                let mode = config.storage.mode.name();
                engine.stats().watch_commits(Commits { tracer, mode });
            }
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

/// The span of a request, until its answer's head is made or it is given up.
pub(crate) struct RequestSpan(Option<Box<Span>>);

impl RequestSpan {
    /// Begins with the request's head.
    pub(crate) fn begin(app: &App, peer: &Peer, request: &impl RequestHead) -> Self {
        let Some(tracer) = TRACER.get() else {
            return Self(None);
        };
        let route = route::template(app.base(), request.path());
        let method = method(request.method());
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.clone()),
            KeyValue::new("url.scheme", if peer.is_tls() { "https" } else { "http" }),
            KeyValue::new("network.protocol.version", version(request.version())),
        ];
        let traces = &app.config.traces;
        if traces.client_addresses {
            attributes.push(KeyValue::new("client.address", peer.address().to_string()));
        }
        if traces.stream_names {
            attributes.push(KeyValue::new("url.path", request.path().to_owned()));
        }
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(&request.map()));
        let span = tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(tracer, &parent);
        Self(Some(Box::new(span)))
    }

    /// Does the request's work for the span.
    pub(crate) fn cover<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let span = self.0.as_ref();
        let context = span.map_or(SpanContext::NONE, |span| span.span_context().clone());
        within(context, work)
    }

    /// Ends with the answer's head. Where the stream ends says which one it is without its name.
    pub(crate) fn end(&mut self, status: StatusCode, next_offset: impl FnOnce() -> Option<HeaderValue>) {
        let Some(mut span) = self.0.take() else { return };
        span.set_attribute(KeyValue::new(
            "http.response.status_code",
            i64::from(status.as_u16()),
        ));
        let next_offset = next_offset();
        if let Some(offset) = next_offset.as_ref().and_then(|offset| offset.to_str().ok()) {
            span.set_attribute(KeyValue::new("tailwater.next_offset", offset.to_owned()));
        }
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// Methods that nobody has heard of are all alike.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "_OTHER",
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
