//! The base URL, TLS, and one request with its answer. Knows no operation.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::authorities;
use super::error::{ClientError, Problem};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the request until the answer's headers, and between two pieces of its body. Longer than a server
/// takes to receive a large body over a slow line.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// One answer that is not a live one. Servers cut reads long before.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// An answer's text that is not a problem document is shown up to here.
const DETAIL_CHARS_MAX: usize = 300;
/// What a path segment or a query value may have as it is.
pub(super) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The body of a request: there as a whole, or coming in pieces.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Talks to the streams below one URL. Cloning is cheap and shares the connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: HyperClient<HttpsConnector<HttpConnector>, RequestBody>,
    /// `scheme://host:port/path`, without a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client for the streams below `base_url`, such as `http://127.0.0.1:4437/v1/stream`. Connects when
    /// the first request is made. Needs no runtime before that.
    pub fn new(base_url: &str) -> Result<Self, ClientError> {
        Self::trusting(base_url, None)
    }

    /// Likewise, with a file of authorities in PEM that may have signed the server's certificate, beside those of the system.
    pub fn trusting(base_url: &str, authorities: Option<&Path>) -> Result<Self, ClientError> {
        let bad = |reason: &str| ClientError::BadUrl {
            url: base_url.to_owned(),
            reason: reason.to_owned(),
        };
        let base = base_url.trim_end_matches('/').to_owned();
        let uri: Uri = base
            .parse()
            .map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("it must start with http:// or https://")),
        };
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("it names no host"));
        }
        if uri.query().is_some() || base_url.contains('#') {
            return Err(bad("it must end with the path"));
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(bad("credentials go into a token, not into the URL"));
        }

        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(authorities::tls(is_tls, authorities)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than the servers' own idle timeouts, so that no request goes into a closing connection.
            .pool_idle_timeout(Duration::from_secs(20))
            .build(connector);
        Ok(Self {
            http,
            base,
            authorization: None,
        })
    }

    /// Sends `Authorization: Bearer <token>` with every request.
    pub fn with_token(mut self, token: &str) -> Result<Self, ClientError> {
        self.authorization = Some(bearer(token)?);
        Ok(self)
    }

    /// The base URL, without a slash at its end.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// The path of a stream's URL, as `Stream-Forked-From` takes it.
    pub(super) fn stream_path(&self, name: &str) -> String {
        let path_from = self.base.find("://").map_or(0, |scheme| scheme + 3);
        let path = self.base[path_from..]
            .find('/')
            .map_or("", |slash| &self.base[path_from + slash..]);
        format!("{path}/{}", escape_name(name))
    }

    pub(super) fn request(&self, method: Method, path: &str, action: String) -> ClientRequest<'_> {
        let (url, headers) = (format!("{}/{path}", self.base), HeaderMap::new());
        ClientRequest {
            client: self,
            method,
            url,
            headers,
            body: whole(Bytes::new()),
            answer_timeout: Some(ANSWER_TIMEOUT),
            action,
        }
    }

    /// A request for a path of the server itself, such as `/readyz`.
    pub(super) fn root_request(&self, method: Method, path: &str, action: String) -> ClientRequest<'_> {
        let path_from = self.base.find("://").map_or(0, |scheme| scheme + 3);
        let origin_to = self.base[path_from..]
            .find('/')
            .map_or(self.base.len(), |slash| path_from + slash);
        ClientRequest {
            url: format!("{}{path}", &self.base[..origin_to]),
            ..self.request(method, "", action)
        }
    }

    pub(super) fn stream_request(&self, method: Method, name: &str, action: String) -> ClientRequest<'_> {
        self.request(method, &escape_name(name), action)
    }

    pub(super) fn unexpected(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Unexpected {
            url: self.base.clone(),
            reason: reason.into(),
        }
    }

    pub(super) fn unsupported(&self, feature: &'static str) -> ClientError {
        ClientError::Unsupported {
            url: self.base.clone(),
            feature,
        }
    }

    pub(super) fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken {
            url: self.base.clone(),
            source: source.into(),
        }
    }

    pub(super) fn timed_out(&self, waited: Duration) -> ClientError {
        ClientError::TimedOut {
            url: self.base.clone(),
            waited,
        }
    }

    /// The next piece of an answer's body; none at its end.
    pub(super) async fn next_piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
        loop {
            match tokio::time::timeout(ANSWER_TIMEOUT, body.frame()).await {
                Err(_) => return Err(self.timed_out(ANSWER_TIMEOUT)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.broken(error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All of an answer's body.
    pub(super) async fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let mut body = Limited::new(body, ANSWER_BYTES_MAX);
        let mut whole = Vec::new();
        loop {
            match tokio::time::timeout(ANSWER_TIMEOUT, body.frame()).await {
                Err(_) => return Err(self.timed_out(ANSWER_TIMEOUT)),
                Ok(None) => return Ok(whole.into()),
                Ok(Some(Err(error))) => return Err(self.broken(error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        whole.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// An answer that is a JSON document.
    pub(super) async fn document<T: serde::de::DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let body = self.collect(response.into_body()).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.unexpected(format!("an answer that cannot be read: {error}")))
    }

    async fn problem(&self, action: String, is_safe: bool, response: Response<Incoming>) -> ClientError {
        let (head, body) = response.into_parts();
        let number = |name: &str| header_text(&head.headers, name)?.parse().ok();
        let mut problem = Problem {
            action,
            status: head.status,
            code: None,
            detail: None,
            field: None,
            closed: is_true(&head.headers, "stream-closed"),
            retry_after: number(RETRY_AFTER.as_str()).map(Duration::from_secs),
            producer_epoch: number("producer-epoch"),
            is_safe,
        };
        // A refusal whose body gets lost is still a refusal.
        if let Ok(body) = self.collect(body).await {
            describe(
                &mut problem,
                header_text(&head.headers, CONTENT_TYPE.as_str()),
                &body,
            );
        }
        ClientError::Refused {
            problem: Box::new(problem),
        }
    }
}

/// A request that is being put together.
pub(super) struct ClientRequest<'c> {
    client: &'c Client,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: RequestBody,
    /// How long to wait for the answer's headers; none means for as long as it takes.
    answer_timeout: Option<Duration>,
    /// For messages, such as ``read `orders` ``.
    action: String,
}

impl ClientRequest<'_> {
    /// Parameters in alphabetical order serve caches best (PROTOCOL.md §10.1).
    pub(super) fn query(mut self, parameters: &[(&str, &str)]) -> Self {
        for (index, (name, value)) in parameters.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            self.url = format!(
                "{}{separator}{name}={}",
                self.url,
                utf8_percent_encode(value, ESCAPED)
            );
        }
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Result<Self, ClientError> {
        let value =
            HeaderValue::from_str(value).map_err(|source| ClientError::BadHeader { what: name, source })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Shows this token instead of the client's own.
    pub(super) fn bearer(mut self, token: &str) -> Result<Self, ClientError> {
        self.headers.insert(AUTHORIZATION, bearer(token)?);
        Ok(self)
    }

    pub(super) fn json(self, body: &impl serde::Serialize) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(body).expect("bodies have no keys but texts");
        let request = self.header("content-type", "application/json")?;
        Ok(request.body(Bytes::from(body)))
    }

    pub(super) fn body(mut self, bytes: Bytes) -> Self {
        self.body = whole(bytes);
        self
    }

    /// Waits for the answer's headers no longer than that.
    pub(super) fn answer_within(mut self, timeout: Duration) -> Self {
        self.answer_timeout = Some(timeout);
        self
    }

    /// A body that comes in pieces, which the server answers when it has dealt with all of it.
    pub(super) fn long_body(mut self, body: RequestBody) -> Self {
        self.body = body;
        self.answer_timeout = None;
        self
    }

    /// Sends it. Every answer that is not a 2xx is an error.
    pub(super) async fn send(self) -> Result<Response<Incoming>, ClientError> {
        let client = self.client;
        let mut request = Request::new(self.body);
        let is_safe = self.method.is_safe();
        *request.method_mut() = self.method;
        // The base URL was good, so what is wrong comes from the name and the parameters: their length.
        let bad = |error: http::uri::InvalidUri| ClientError::BadUrl {
            url: client.base.clone(),
            reason: error.to_string(),
        };
        *request.uri_mut() = self.url.parse().map_err(bad)?;
        *request.headers_mut() = self.headers;
        if let Some(authorization) = &client.authorization {
            let own = request.headers_mut().entry(AUTHORIZATION);
            own.or_insert_with(|| authorization.clone());
        }
        let answer = client.http.request(request);
        let answer = match self.answer_timeout {
            Some(timeout) => tokio::time::timeout(timeout, answer).await,
            None => Ok(answer.await),
        };
        let response = match answer {
            Err(_) => return Err(client.timed_out(self.answer_timeout.unwrap_or(ANSWER_TIMEOUT))),
            Ok(Err(source)) if source.is_connect() => {
                return Err(ClientError::of_connect(&client.base, source));
            }
            Ok(Err(source)) => return Err(client.broken(source)),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(client.problem(self.action, is_safe, response).await)
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let bad = |source| ClientError::BadHeader {
        what: "token",
        source,
    };
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(bad)?;
    value.set_sensitive(true);
    Ok(value)
}

fn whole(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A header's text, if it is there and is text.
pub(super) fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a flag header says `true`; other values mean that it is absent (PROTOCOL.md §4.1).
pub(super) fn is_true(headers: &HeaderMap, name: &str) -> bool {
    header_text(headers, name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

pub(super) fn escape_name(name: &str) -> String {
    let segments: Vec<_> = name
        .split('/')
        .map(|segment| utf8_percent_encode(segment, ESCAPED).to_string())
        .collect();
    segments.join("/")
}

/// Takes `code`, `detail` and `field` out of a problem document (RFC 9457), or what stands for them in refusals of subscriptions
/// (PROTOCOL.md §7), or shows the beginning of a text.
fn describe(problem: &mut Problem, content_type: Option<&str>, body: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Document {
        code: Option<String>,
        detail: Option<String>,
        field: Option<String>,
        title: Option<String>,
        error: Option<Refusal>,
    }
    #[derive(serde::Deserialize)]
    struct Refusal {
        code: Option<String>,
        message: Option<String>,
    }
    if let Ok(document) = serde_json::from_slice::<Document>(body) {
        let (code, message) = document
            .error
            .map_or((None, None), |error| (error.code, error.message));
        problem.code = document.code.or(code).map(|code| printable(&code));
        problem.field = document.field;
        problem.detail = document
            .detail
            .or(document.title)
            .or(message)
            .map(|detail| printable(&detail));
    } else if content_type.is_some_and(|content_type| content_type.starts_with("text/plain")) {
        problem.detail = Some(printable(&String::from_utf8_lossy(body))).filter(|detail| !detail.is_empty());
    }
}

/// A server's text must not steer the terminal that it is shown on.
fn printable(text: &str) -> String {
    let shown = text.trim().chars().take(DETAIL_CHARS_MAX);
    shown
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Client, ClientError, Problem, describe, escape_name};
    use http::StatusCode;

    #[test]
    fn a_base_url_must_be_http_with_a_host_and_nothing_after_the_path() {
        for good in [
            "http://127.0.0.1:4437/v1/stream",
            "http://localhost",
            "https://s.example/a/",
            "http://[::1]:1/x",
        ] {
            let client = Client::new(good).expect(good);
            assert_eq!(client.base_url(), good.trim_end_matches('/'));
        }
        let long_host = format!("http://{}", "a".repeat(70_000));
        for bad in [
            "",
            "localhost:4437",
            "/v1",
            "ftp://h/x",
            "http://",
            "http://h/x?y=1",
            "http://h/x#y",
            "http://u:p@h/",
            &long_host,
        ] {
            assert!(
                matches!(Client::new(bad), Err(ClientError::BadUrl { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_name_is_escaped_but_for_its_slashes() {
        assert_eq!(escape_name("a/b c/ü?#%2f"), "a/b%20c/%C3%BC%3F%23%252f");
        let client = Client::new("http://h:1/v1/stream/").expect("a URL");
        assert_eq!(client.stream_path("a/b c"), "/v1/stream/a/b%20c");
        assert_eq!(Client::new("http://h:1").expect("a URL").stream_path("a"), "/a");
    }

    #[test]
    fn a_token_with_a_line_break_is_refused() {
        let client = Client::new("http://h:1").expect("a URL");
        assert!(matches!(
            client.with_token("a\nb"),
            Err(ClientError::BadHeader { .. })
        ));
    }

    #[test]
    fn problem_documents_and_texts_are_shown_without_control_characters() {
        let describe = |content_type, body: &[u8]| {
            let mut problem = Problem::bare("read `x`", StatusCode::CONFLICT);
            describe(&mut problem, Some(content_type), body);
            (problem.code, problem.detail)
        };
        let code_and_detail =
            |code: Option<&str>, detail: Option<&str>| (code.map(str::to_owned), detail.map(str::to_owned));
        assert_eq!(
            describe(
                "application/problem+json",
                br#"{"title":"T","code":"stream_closed","detail":"is \u001bclosed"}"#
            ),
            code_and_detail(Some("stream_closed"), Some("is  closed"))
        );
        assert_eq!(
            describe(
                "application/json",
                br#"{"error":{"code":"FENCED","message":"is\u0009over","generation":7}}"#
            ),
            code_and_detail(Some("FENCED"), Some("is over"))
        );
        assert_eq!(
            describe("application/problem+json", br#"{"title":"T"}"#),
            code_and_detail(None, Some("T"))
        );
        assert_eq!(
            describe("text/plain", b"no\nway\n"),
            code_and_detail(None, Some("no way"))
        );
        assert_eq!(describe("text/html", b"<html>"), code_and_detail(None, None));
        assert_eq!(
            describe("text/plain", &[b'x'; 5000]).1.map(|detail| detail.len()),
            Some(300)
        );
    }
}
