//! Spans that go to a collector by OTLP over HTTP, if the environment names one. Knows no span by name.
//!
//! What is sent, where to and how much of it is said by the variables that every program has for it: `OTEL_SERVICE_NAME`,
//! `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_…`, and `OTEL_EXPORTER_OTLP_…` or
//! `OTEL_EXPORTER_OTLP_TRACES_…`. Spans wait in a bounded queue; those that find it full are dropped, and a collector that
//! is away holds nobody up.

mod collector;
mod current;
mod exporter;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use collector::Collector;
pub use current::{current, within};
use exporter::Watched;

/// One of these says where the collector is. Without both nothing is traced.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
/// The only protocol that is spoken.
const PROTOCOL: &str = "http/protobuf";
const SERVICE_NAME: &str = "service.name";
/// What the library calls a service that was not named.
const UNNAMED: &str = "unknown_service";

/// Why nothing can be traced though it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// A variable has a value that means nothing here.
    #[error("{variable} cannot be `{value}`; allowed: {allowed}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// As it was given.
        value: String,
        /// What would do.
        allowed: &'static str,
    },
    /// Some variable `OTEL_EXPORTER_OTLP_…` is wrong.
    #[error(
        "spans cannot be sent: {0}; see the variables OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS and _COMPRESSION"
    )]
    Exporter(#[from] ExporterBuildError),
}

/// Sends spans until it is stopped.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Begins, if the environment names a collector. `service` is the name unless the environment has another one. Must be
    /// called within a runtime, in which the collector is talked to.
    ///
    /// # Errors
    /// [`TracesError`], which names the variable.
    pub fn start(service: &'static str, version: &'static str) -> Result<Option<Self>, TracesError> {
        if !is_wanted()? {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new())
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Watched::new(exporter))
            .with_resource(resource(service, version))
            .build();
        let tracer = provider.tracer(service);
        Ok(Some(Self { provider, tracer }))
    }

    /// Makes spans. Cloning is cheap.
    #[must_use]
    pub fn tracer(&self) -> SdkTracer {
        self.tracer.clone()
    }

    /// Sends what is there, within that time, and ends. Blocks; the runtime must go on meanwhile.
    pub fn stop(&self, within: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(within) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_wanted() -> Result<bool, TracesError> {
    if ENDPOINTS.iter().all(|name| variable(name).is_none()) {
        return Ok(false);
    }
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(false),
        Some(value) => {
            return Err(TracesError::Variable {
                variable: "OTEL_TRACES_EXPORTER",
                value: value.to_owned(),
                allowed: "otlp, or none",
            });
        }
    }
    for name in PROTOCOLS {
        if let Some(value) = variable(name).filter(|value| value != PROTOCOL) {
            return Err(TracesError::Variable {
                variable: name,
                value,
                allowed: PROTOCOL,
            });
        }
    }
    Ok(true)
}

fn resource(service: &'static str, version: &'static str) -> Resource {
    let detected = Resource::builder().build();
    let name = detected.get(&Key::from_static_str(SERVICE_NAME));
    let is_named = name.is_some_and(|name| !name.as_str().starts_with(UNNAMED));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", version));
    if is_named {
        builder.build()
    } else {
        builder.with_service_name(service).build()
    }
}
