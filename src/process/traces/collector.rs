//! The way to the collector: HTTP/1.1, in clear or in TLS. Knows nothing of spans.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;

/// An answer is a few words, or what is wrong.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Unless a variable says otherwise, as OpenTelemetry has it.
const TIMEOUT_MS: u64 = 10_000;
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

/// Sends requests in the runtime, whatever thread asks for it.
#[derive(Debug)]
pub(super) struct Collector {
    runtime: Handle,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Collector {
    /// One in the runtime that this is called in.
    pub(super) fn new() -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls())
            .https_or_http()
            .enable_http1()
            .build();
        let timeout_ms = TIMEOUTS
            .iter()
            .find_map(|name| super::variable(name)?.parse().ok())
            .unwrap_or(TIMEOUT_MS);
        Self {
            runtime: Handle::current(),
            client: Client::builder(TokioExecutor::new()).build(connector),
            timeout: Duration::from_millis(timeout_ms),
        }
    }
}

/// Trusts whom the system trusts; nobody if it trusts nobody.
fn tls() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let sent = self.client.request(request.map(Full::new));
        let answered = within(self.timeout, async move {
            let (parts, body) = sent.await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
            Ok::<_, HttpError>(Response::from_parts(parts, body.to_bytes()))
        });
        // The thread that asks has no runtime of its own.
        let answered = self.runtime.spawn(answered);
        Box::pin(async move { answered.await? })
    }
}

async fn within<T>(
    timeout: Duration,
    answered: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    match tokio::time::timeout(timeout, answered).await {
        Ok(answered) => answered,
        Err(_elapsed) => Err(format!("no answer within {timeout:?}").into()),
    }
}
