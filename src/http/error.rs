//! Refusals as problem documents (RFC 9457), or as the protocol has them: the only place that knows status codes of
//! refusals.
//!
//! Each has a stable `code` for programs and a `detail` for people that says what to do.

#[cfg(test)]
mod codes;
mod engine;
mod overload;
mod queues;
mod schedules;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Map, Value, json};
use tailwater_storage::stream::NameRefusal;

use super::{Response, ResponseBody, headers};

/// A refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Debug, Clone, PartialEq)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    facts: Map<String, Value>,
    form: Form,
}

/// How a refusal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As a problem document (RFC 9457).
    Document,
    /// As the protocol has it for subscriptions: `{"error": {"code": …}}`.
    Protocol,
}

impl Problem {
    /// Codes of refusals that some limit, a time-out or the storage is behind, and nothing that is wrong with the request.
    pub(crate) const CODES_OF_LIMITS: [&str; 24] = [
        "TOO_MANY_STREAMS",
        "TOO_MANY_SUBSCRIPTIONS",
        "body_timeout",
        "body_too_large",
        "changes_gone",
        "job_undecided",
        "producer_limit",
        "run_adrift",
        "shutting_down",
        "storage_failed",
        "storage_full",
        "stream_full",
        "too_many_bytes_in_flight",
        "too_many_client_bytes_in_flight",
        "too_many_client_connections",
        "too_many_client_live_readers",
        "too_many_client_requests",
        "too_many_client_requests_at_once",
        "too_many_connections",
        "too_many_live_readers",
        "too_many_queues",
        "too_many_reads",
        "too_many_requests",
        "too_many_schedules",
    ];

    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self(Box::new(Parts {
            status,
            code,
            detail,
            headers: Vec::new(),
            facts: Map::new(),
            form: Form::Document,
        }))
    }

    fn with(mut self, name: &HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name.clone(), value));
        self
    }

    fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Says that another try may help, and when.
    fn retry_after_secs(self, seconds: u64) -> Self {
        self.with(&RETRY_AFTER, headers::number(seconds))
    }

    /// The stable name of the refusal.
    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }

    /// What it says to people.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The answer that carries it.
    pub(crate) fn into_response(self) -> Response {
        let parts = *self.0;
        let mut document = Map::new();
        let content_type = match parts.form {
            Form::Document => {
                let title = parts.status.canonical_reason().unwrap_or("Refused");
                document.insert(
                    "type".into(),
                    json!(format!("urn:tailwater:problem:{}", parts.code)),
                );
                document.insert("title".into(), json!(title));
                document.insert("status".into(), json!(parts.status.as_u16()));
                document.insert("code".into(), json!(parts.code));
                document.insert("detail".into(), json!(parts.detail));
                document.extend(parts.facts);
                "application/problem+json"
            }
            Form::Protocol => {
                let mut error = parts.facts;
                error.insert("code".into(), json!(parts.code));
                error.insert("message".into(), json!(parts.detail));
                document.insert("error".into(), Value::Object(error));
                "application/json"
            }
        };
        let body = Value::Object(document).to_string().into_bytes();
        let mut response = Response::new(ResponseBody::from(body));
        *response.status_mut() = parts.status;
        let to = response.headers_mut();
        to.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        to.insert(http::header::CACHE_CONTROL, headers::NO_STORE.clone());
        to.extend(parts.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response
    }

    fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(crate) fn header(name: &HeaderName, what: &str) -> Self {
        Self::bad_request("invalid_header", format!("The header {name} {what}."))
            .fact("header", name.as_str())
    }

    /// Told to a client, but meant for who runs the proxy: a header that only trusted proxies are believed is wrong.
    pub(crate) fn from_proxy(name: &HeaderName, what: &str) -> Self {
        Self::header(name, &format!("of a trusted proxy {what}"))
    }

    pub(crate) fn deadline_passed(name: &HeaderName, seconds: u64) -> Self {
        let detail = format!(
            "The time until which you may be answered, {seconds} s since 1970 by the header {name}, is over; come again \
             with a new token."
        );
        let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        Self::new(StatusCode::UNAUTHORIZED, "deadline_passed", detail)
            .with(&http::header::WWW_AUTHENTICATE, challenge)
            .fact("header", name.as_str())
    }

    pub(crate) fn query(name: &str, what: &str) -> Self {
        Self::bad_request("invalid_query", format!("The query parameter `{name}` {what}."))
            .fact("parameter", name)
    }

    pub(crate) fn offset(text: &str) -> Self {
        let fix = "send `-1`, `now`, or an offset exactly as the server gave it in Stream-Next-Offset";
        Self::bad_request("invalid_offset", format!("{text:?} is no offset; {fix}."))
    }

    /// `before` of a trim, which takes neither `-1` nor `now`.
    pub(crate) fn place(text: &str) -> Self {
        let fix = "send an offset exactly as the server gave it in Stream-Next-Offset";
        let detail = format!("`before` is {text:?}, which is no offset of a place in a stream; {fix}.");
        Self::bad_request("invalid_offset", detail)
    }

    pub(crate) fn json_body(what: &str) -> Self {
        Self::bad_request("invalid_json", format!("The body {what}."))
    }

    pub(crate) fn name(refusal: &NameRefusal) -> Self {
        Self::bad_request("invalid_name", sentence(refusal))
    }

    pub(crate) fn name_escape() -> Self {
        let detail =
            "The stream name has a `%` without two hexadecimal digits; write the `%` itself as `%25`.";
        Self::bad_request("invalid_name", detail)
    }

    pub(crate) fn name_not_utf8() -> Self {
        Self::bad_request(
            "invalid_name",
            "The stream name is not UTF-8 once its %-escapes are decoded; encode it as UTF-8.",
        )
    }

    pub(crate) fn path_not_utf8() -> Self {
        Self::bad_request(
            "invalid_name",
            "The path is not UTF-8 once its %-escapes are decoded; encode it as UTF-8.",
        )
    }

    pub(crate) fn missing_content_type() -> Self {
        let detail = "The body has no Content-Type; send the stream's own, which HEAD tells.";
        Self::bad_request("missing_content_type", detail)
    }

    pub(crate) fn encoded_body(coding: &[u8]) -> Self {
        let detail = format!(
            "The body has the Content-Encoding \"{}\", and streams keep bodies as they come; send it without any.",
            coding.escape_ascii()
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoded_body", detail).with(
            &http::header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        )
    }

    pub(crate) fn empty_body() -> Self {
        let detail = "The body is empty; send bytes to append, or `Stream-Closed: true` to close the stream.";
        Self::bad_request("empty_body", detail)
    }

    pub(crate) fn invalid_fork(detail: &str) -> Self {
        Self::bad_request("invalid_fork", detail)
    }

    pub(crate) fn not_found(path: &str, base: &str) -> Self {
        let detail = format!("There is nothing at {path}; streams are below {base}/.");
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(crate) fn method_not_allowed(method: &http::Method, allowed: &'static str) -> Self {
        let detail = format!("{method} means nothing here; allowed: {allowed}.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            .with(&http::header::ALLOW, HeaderValue::from_static(allowed))
    }

    pub(crate) fn body_too_large(bytes_max: usize) -> Self {
        let detail = format!(
            "The body is larger than {bytes_max} bytes; send it in several appends, or raise limits.max_body_bytes."
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).fact("max_bytes", bytes_max)
    }

    pub(crate) fn control_body_too_large(bytes_max: usize) -> Self {
        let detail =
            format!("The body is larger than {bytes_max} bytes; send only what this operation takes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).fact("max_bytes", bytes_max)
    }

    pub(crate) fn body_paused(pause_max: Duration) -> Self {
        Self::body_timeout(format!(
            "The body paused for more than {} s; send it without a pause.",
            pause_max.as_secs()
        ))
    }

    pub(crate) fn body_too_slow(bytes_per_sec_min: u64, pauses_max: Duration) -> Self {
        Self::body_timeout(format!(
            "The body came slower than {bytes_per_sec_min} bytes a second, with {} s for all pauses together; send it \
             faster, or less in one request.",
            pauses_max.as_secs()
        ))
    }

    pub(crate) fn body_not_in_time(duration_max: Duration) -> Self {
        Self::body_timeout(format!(
            "The body was not there within {} s; send it at once.",
            duration_max.as_secs()
        ))
    }

    fn body_timeout(detail: String) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
            .with(&http::header::CONNECTION, HeaderValue::from_static("close"))
    }

    pub(crate) fn body_broken(error: &impl std::fmt::Display) -> Self {
        Self::bad_request(
            "invalid_body",
            format!("The body could not be received: {error}."),
        )
    }

    pub(crate) fn tls_required() -> Self {
        Self::bad_request(
            "tls_required",
            "This port speaks TLS; begin the URL with https://.",
        )
    }

    pub(crate) fn shutting_down() -> Self {
        Self::busy(
            "shutting_down",
            "The server is stopping; try again on another one, or once it is back.",
        )
    }

    /// Answering the request panicked.
    pub(crate) fn interrupted() -> Self {
        let detail = "The request was cut off by a bug of the server, and whether it was done is not known. Look, and try \
                      again; the server's log says where it was.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "interrupted", detail)
    }

    pub(crate) fn storage_failed() -> Self {
        let detail =
            "The storage has failed and takes no more writes; restart the server once its log tells why.";
        Self::busy("storage_failed", detail)
    }

    /// Says how many streams were imported before the refusal.
    pub(crate) fn imported(mut self, streams: u64) -> Self {
        let before = format!(" Streams that were imported before: {streams}.");
        self.0.detail.push_str(&before);
        self.fact("imported", streams)
    }
}

/// A message from the rules as a sentence.
fn sentence(message: &impl ToString) -> String {
    let message = message.to_string();
    let mut letters = message.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
