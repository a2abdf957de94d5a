//! TLS, the token, and one request with the whole of its answer, each bounded in time and size. Knows no operation.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, IF_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;

use super::action::Action;
use super::error::{Error, Refusal};
use super::settings::{Root, Settings};
use super::token::{Token, TokenFault};
use crate::event::Offset;
use crate::traces::put_context;

/// A page of a listing or of the change feed, which have at most a thousand entries by default.
const CONTROL_BYTES_MAX: usize = 32 << 20;
/// A problem document. What is longer is somebody else's page.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// A refusal's text that is no problem document is shown up to here.
const DETAIL_CHARS_MAX: usize = 300;
/// Shorter than servers' and proxies' own idle timeouts, so that no request goes into a closing connection.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// A long-poll is silent for long. These tell within half a minute that nobody is there any more.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_RETRIES: u32 = 3;

/// All connections to one server.
#[derive(Debug)]
pub(super) struct Connection {
    http: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    pub(super) root: Root,
    pub(super) settings: Settings,
    token: Option<Token>,
    /// One for each request under way, but for those to the change feed.
    permits: Semaphore,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) action: Action<'a>,
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) body: Bytes,
    /// Only if that is the tail.
    pub(super) if_match: Option<Offset>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(action: Action<'a>, method: Method, url: String) -> Self {
        let body = Bytes::new();
        Self {
            action,
            method,
            url,
            body,
            if_match: None,
        }
    }
}

/// An answer that is no refusal, with all of its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Connection {
    /// Connects with the first request. Needs no runtime before that.
    pub(super) fn new(settings: Settings) -> Result<Self, Error> {
        let root = Root::parse(&settings.url)?;
        let token = settings.token_path.as_deref().map(|path| {
            Token::open(path).map_err(|source| Error::Token {
                path: path.to_owned(),
                source,
            })
        });
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEP_ALIVE_RETRIES));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(root.is_tls, &settings)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let connections_max = settings.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(connections_max.saturating_add(1))
            .build(connector);
        Ok(Self {
            http,
            root,
            token: token.transpose()?,
            permits: Semaphore::new(connections_max),
            settings,
        })
    }

    /// Makes a request once there is a connection for it. A token that is refused is read again, and if it is another
    /// one by now the request is made once more.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, Error> {
        let _permit = match ask.action {
            Action::Follow(_) => None,
            _ => Some(
                self.permits
                    .acquire()
                    .await
                    .expect("the semaphore is never closed"),
            ),
        };
        let Some(token) = &self.token else {
            return self.attempt(&ask, None).await;
        };
        let no_token = |source: TokenFault| Error::Token {
            path: token.path().to_owned(),
            source,
        };
        let authorization = token.authorization().await.map_err(no_token)?;
        let answer = self.attempt(&ask, Some(authorization.clone())).await;
        if matches!(answer, Err(Error::Unauthorized { .. })) {
            let renewed = token.renew().await.map_err(no_token)?;
            if renewed != authorization {
                return self.attempt(&ask, Some(renewed)).await;
            }
        }
        answer
    }

    async fn attempt(&self, ask: &Ask<'_>, authorization: Option<HeaderValue>) -> Result<Answer, Error> {
        let waited = match ask.action {
            Action::Follow(_) => self.settings.feed_timeout,
            _ => self.settings.request_timeout,
        };
        let exchange = self.exchange(ask, authorization);
        let timed_out = |_elapsed| Error::TimedOut {
            url: self.root.as_str().to_owned(),
            waited,
        };
        tokio::time::timeout(waited, exchange).await.map_err(timed_out)?
    }

    async fn exchange(&self, ask: &Ask<'_>, authorization: Option<HeaderValue>) -> Result<Answer, Error> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        // The root was good, so what is wrong comes from a name: its length.
        *request.uri_mut() = ask
            .url
            .parse()
            .map_err(|error: http::uri::InvalidUri| Error::BadUrl {
                url: self.root.as_str().to_owned(),
                reason: format!("cannot {}: {error}", ask.action),
            })?;
        let headers = request.headers_mut();
        // A cache on the way must not hide what is new.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        if let Some(tail) = ask.if_match {
            let tag = HeaderValue::try_from(format!("\"{tail}\"")).expect("digits and an underscore");
            headers.insert(IF_MATCH, tag);
        }
        if !ask.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        put_context(headers);
        let response = self.http.request(request).await.map_err(|source| {
            if source.is_connect() {
                Error::of_connect(self.root.as_str(), source)
            } else {
                self.broken(source)
            }
        })?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            // A refusal whose body gets lost is still a refusal.
            let body = self
                .collect(ask.action, body, REFUSAL_BYTES_MAX)
                .await
                .unwrap_or_default();
            return Err(self.refused(ask.action, head.status, &head.headers, &body));
        }
        let bytes_max = match ask.action {
            Action::Read(_) => self.settings.read_bytes_max,
            _ => CONTROL_BYTES_MAX,
        };
        Ok(Answer {
            headers: head.headers,
            body: self.collect(ask.action, body, bytes_max).await?,
        })
    }

    async fn collect(&self, action: Action<'_>, body: Incoming, bytes_max: usize) -> Result<Bytes, Error> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut body = Limited::new(body, bytes_max);
        let mut whole = BytesMut::with_capacity(announced.min(bytes_max));
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => whole.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(error) if error.is::<LengthLimitError>() => {
                    return Err(too_large(action, bytes_max));
                }
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(whole.freeze())
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Broken {
            url: self.root.as_str().to_owned(),
            source: source.into(),
        }
    }

    fn refused(&self, action: Action<'_>, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        let (code, detail) = describe(headers, body);
        let retry_after = text(headers, RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
        let refusal = Box::new(Refusal {
            action: action.to_string(),
            status,
            code,
            detail,
            retry_after: retry_after.map(Duration::from_secs),
        });
        match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized {
                refusal,
                token_path: self.settings.token_path.clone(),
            },
            StatusCode::FORBIDDEN => Error::Forbidden {
                refusal,
                entry: action.grant(),
                is_renewable: self.token.is_some(),
            },
            _ => Error::Refused(refusal),
        }
    }

    pub(super) fn unexpected(&self, action: Action<'_>, reason: impl Into<String>) -> Error {
        Error::Unexpected {
            action: action.to_string(),
            url: self.root.as_str().to_owned(),
            reason: reason.into(),
        }
    }
}

fn too_large(action: Action<'_>, bytes_max: usize) -> Error {
    let remedy = match action {
        Action::Read(_) => {
            "raise sync.read_bytes_max to a few times the server's limits.read_chunk_bytes and its longest message"
        }
        _ => "lower the server's limits.max_list_entries",
    };
    Error::TooLarge {
        action: action.to_string(),
        bytes_max,
        remedy,
    }
}

/// A header's text, if it is there and is text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a flag header says `true`; other values mean that it is absent (PROTOCOL.md §4.1).
pub(super) fn is_true(headers: &HeaderMap, name: &str) -> bool {
    text(headers, name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// Plain HTTP needs no authorities.
fn tls(is_tls: bool, settings: &Settings) -> Result<rustls::ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the versions of TLS that rustls deems safe");
    let no_authorities = |reason: String| Error::NoAuthorities {
        path: settings.ca_path.clone(),
        reason,
    };
    let builder = match &settings.ca_path {
        Some(path) => {
            let mut authorities = RootCertStore::empty();
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| no_authorities(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| no_authorities(error.to_string()))?;
                authorities
                    .add(certificate)
                    .map_err(|error| no_authorities(error.to_string()))?;
            }
            if authorities.is_empty() {
                return Err(no_authorities("it has no certificate in PEM".to_owned()));
            }
            builder.with_root_certificates(authorities)
        }
        None if is_tls => builder
            .with_native_roots()
            .map_err(|error| no_authorities(error.to_string()))?,
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

/// `code` and `detail` of a problem document (RFC 9457), or the beginning of a text.
fn describe(headers: &HeaderMap, body: &[u8]) -> (Option<String>, Option<String>) {
    #[derive(serde::Deserialize)]
    struct Document {
        code: Option<String>,
        detail: Option<String>,
    }
    let is_text =
        text(headers, CONTENT_TYPE.as_str()).is_some_and(|of_type| of_type.starts_with("text/plain"));
    match serde_json::from_slice::<Document>(body) {
        Ok(document) => (
            document.code.map(|code| printable(&code)),
            document.detail.map(|detail| printable(&detail)),
        ),
        Err(_) if is_text => {
            let detail = printable(&String::from_utf8_lossy(body));
            (None, Some(detail).filter(|detail| !detail.is_empty()))
        }
        Err(_) => (None, None),
    }
}

/// A server's text must not steer the terminal or break the log that shows it.
fn printable(text: &str) -> String {
    let shown = text.trim().chars().take(DETAIL_CHARS_MAX);
    shown
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(content_type: &'static str, body: &[u8]) -> (Option<String>, Option<String>) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        describe(&headers, body)
    }

    #[test]
    fn a_refusal_is_shown_in_one_short_line_whoever_wrote_it() {
        let text = |text: &str| Some(text.to_owned());
        let document = br#"{"code":"stream_gone","detail":"It is\n\u001bgone."}"#;
        assert_eq!(
            described("application/problem+json", document),
            (text("stream_gone"), text("It is  gone."))
        );
        assert_eq!(described("text/plain", b"no\nway\n"), (None, text("no way")));
        assert_eq!(described("text/html", b"<html>"), (None, None));
        let (_, long) = described("text/plain", &[b'x'; 5000]);
        assert_eq!(long.map(|detail| detail.len()), Some(DETAIL_CHARS_MAX));
    }
}
