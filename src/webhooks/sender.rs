//! Sends one webhook: finds the receiver, connects to an address that was judged, posts, and reads the answer, all of it
//! within bounds. The receiver may be hostile, and so may whoever chose it (PROTOCOL.md §12.8).
//!
//! Each delivery has a connection of its own, to an address that was judged a moment before; nothing is looked up between
//! the judgement and the connection. Redirects are failures. What a receiver sends is never passed on to anybody.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::addresses;
use super::authorities::{Authorities, NoAuthorities};
use super::network::{Network, Wire};
use super::url::{Host, UrlError, UrlRules, WebhookUrl};

static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// What the head of an answer may have.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// A name may lead to any number of addresses; so many are tried.
const ADDRESSES_MAX: usize = 4;

/// What sending is bounded by.
#[derive(Debug, Clone, Copy)]
pub(super) struct SendLimits {
    pub(super) connect_timeout: Duration,
    pub(super) answer_bytes_max: usize,
}

/// What is sent.
pub(super) struct Letter {
    pub(super) body: Bytes,
    pub(super) signature: HeaderValue,
}

/// A success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It says `{"done": true}`.
    Done,
    /// It says something else, or nothing.
    Taken,
}

/// Why a webhook was not taken. The texts go to whoever may see the subscription, so they name no address that a name
/// leads to, and repeat nothing that a receiver has sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("`{host}` cannot be looked up: {source}")]
    LookUp { host: String, source: io::Error },
    #[error("`{host}` leads to no address")]
    NoAddress { host: String },
    #[error("`{host}` leads to no public address, and webhooks go to no other ones")]
    NotPublic { host: String },
    #[error("no connection to `{host}`: {source}")]
    Connect { host: String, source: io::Error },
    #[error("no connection to `{host}` within {} ms", waited.as_millis())]
    ConnectTimedOut { host: String, waited: Duration },
    #[error(transparent)]
    NoAuthorities(#[from] NoAuthorities),
    #[error("no TLS with `{host}`: {source}")]
    Tls { host: String, source: io::Error },
    #[error("no whole answer within {} ms", waited.as_millis())]
    TimedOut { waited: Duration },
    #[error("the answer cannot be read: {0}")]
    Broken(#[source] hyper::Error),
    #[error("the answer has more than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
    #[error("the answer is a redirect ({}), which is not followed", status.as_u16())]
    Redirect { status: StatusCode },
    #[error("the answer is {}", status.as_u16())]
    Status { status: StatusCode },
}

/// Sends webhooks.
pub(super) struct Sender {
    network: Arc<dyn Network>,
    authorities: Authorities,
    rules: UrlRules,
    limits: SendLimits,
}

impl Sender {
    pub(super) fn new(
        network: Arc<dyn Network>,
        authorities: Authorities,
        rules: UrlRules,
        limits: SendLimits,
    ) -> Self {
        Self {
            network,
            authorities,
            rules,
            limits,
        }
    }

    /// Judges a URL by what is configured now; a subscription may be older than that.
    pub(super) fn url(&self, text: &str) -> Result<WebhookUrl, SendError> {
        Ok(WebhookUrl::parse(text, &self.rules)?)
    }

    /// Sends one webhook and reads the answer, all of it `within` that time.
    pub(super) async fn send(
        &self,
        url: &WebhookUrl,
        letter: Letter,
        within: Duration,
    ) -> Result<Answer, SendError> {
        let sent = timeout(within, self.exchange(url, letter)).await;
        sent.unwrap_or(Err(SendError::TimedOut { waited: within }))
    }

    async fn exchange(&self, url: &WebhookUrl, letter: Letter) -> Result<Answer, SendError> {
        let connected = timeout(self.limits.connect_timeout, self.connect(url)).await;
        let wire = connected.unwrap_or_else(|_too_long| {
            Err(SendError::ConnectTimedOut {
                host: url.host_text.clone(),
                waited: self.limits.connect_timeout,
            })
        })?;
        let (mut requests, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(SendError::Broken)?;
        // The connection ends with this set, whichever way this ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = requests
            .send_request(request(url, letter))
            .await
            .map_err(SendError::Broken)?;
        self.read(response).await
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Answer, SendError> {
        let status = response.status();
        if status.is_redirection() {
            return Err(SendError::Redirect { status });
        }
        if !status.is_success() {
            return Err(SendError::Status { status });
        }
        let bytes_max = self.limits.answer_bytes_max;
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(broken) => SendError::Broken(*broken),
            Err(other) => {
                debug_assert!(other.is::<LengthLimitError>(), "{other}");
                SendError::TooLong { bytes_max }
            }
        })?;
        Ok(answer(&body.to_bytes()))
    }

    async fn connect(&self, url: &WebhookUrl) -> Result<Box<dyn Wire>, SendError> {
        let host = || url.host_text.clone();
        let addresses = self.addresses(url).await?;
        let wire = self.dial(url, &addresses).await?;
        if !url.is_tls {
            return Ok(wire);
        }
        let tls = TlsConnector::from(self.authorities.tls().await?);
        let not_tls = |source| SendError::Tls { host: host(), source };
        let name = ServerName::try_from(host()).map_err(|wrong| not_tls(io::Error::other(wrong)))?;
        let wire = tls.connect(name, wire).await.map_err(not_tls)?;
        Ok(Box::new(wire))
    }

    /// The addresses to try. Each was judged, but for those of this machine, which the URL itself has named.
    async fn addresses(&self, url: &WebhookUrl) -> Result<Vec<IpAddr>, SendError> {
        let name = match &url.host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Local(addresses) => return Ok(addresses.clone()),
            Host::Name(name) => name,
        };
        let host = || name.clone();
        let found = self.network.look_up(name).await;
        let found = found.map_err(|source| SendError::LookUp { host: host(), source })?;
        if found.is_empty() {
            return Err(SendError::NoAddress { host: host() });
        }
        let judged = found.into_iter().filter(|address| {
            addresses::check(*address)
                .inspect_err(|refused| tracing::warn!(host = name, "no webhook is sent there: {refused}"))
                .is_ok()
        });
        let judged: Vec<_> = judged.take(ADDRESSES_MAX).collect();
        if judged.is_empty() {
            return Err(SendError::NotPublic { host: host() });
        }
        Ok(judged)
    }

    /// Connects to the first of some addresses that lets it, each of which gets its share of the time.
    async fn dial(&self, url: &WebhookUrl, addresses: &[IpAddr]) -> Result<Box<dyn Wire>, SendError> {
        let share = self.limits.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let mut failure = io::Error::from(io::ErrorKind::TimedOut);
        for address in addresses {
            match timeout(share, self.network.dial(SocketAddr::new(*address, url.port))).await {
                Ok(Ok(wire)) => return Ok(wire),
                Ok(Err(error)) => failure = error,
                Err(_too_long) => {}
            }
        }
        Err(SendError::Connect {
            host: url.host_text.clone(),
            source: failure,
        })
    }
}

fn request(url: &WebhookUrl, letter: Letter) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(letter.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.path.clone().into();
    let headers = request.headers_mut();
    headers.insert(HOST, url.authority.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("tailwater/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(&WEBHOOK_SIGNATURE, letter.signature);
    request
}

/// What the body of a success says. Whatever is not understood says nothing: many receivers answer with a page.
fn answer(body: &[u8]) -> Answer {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    match said.as_ref().and_then(|said| said.get("done")) {
        Some(serde_json::Value::Bool(true)) => Answer::Done,
        _ => Answer::Taken,
    }
}
