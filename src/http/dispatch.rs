//! Which operation a request means. Streams come first and on the shortest way; all else goes through a router.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tailwater_storage::panics::{Panicked, Task};
use tailwater_storage::stream::StreamName;
use tower_service::Service;

use super::app::{CROSS_ORIGIN, HeldRequest, NOSNIFF, RequestTicket};
use super::caller::{Caller, ClientKey};
use super::control::Refused;
use super::error::Problem;
use super::sse::EVENT_STREAM;
use super::visitor::{self, Limited, Visitor};
use super::{App, Response, ResponseBody, append, cors, create, delete, head, headers, read};
use crate::limits::{Allowance, Client, Meter};
use crate::traces::RequestSpan;

const ALLOWED: &str = "GET, HEAD, PUT, POST, DELETE, OPTIONS";

/// Answers one request that `visitor` has sent. What it takes is measured by `meter`. What is given beside the answer counts
/// the request for as long as it lives, that is until the answer's body is sent.
///
/// A connection keeps this future while its request is answered, so it is kept small: futures of rarer operations have
/// a place of their own.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would hold the request twice"
)]
pub(crate) fn handle<'a>(
    app: &'a Arc<App>,
    visitor: &'a Visitor,
    meter: &'a Meter,
    side: &'a axum::Router,
    mut request: Request<Incoming>,
) -> impl Future<Output = (Response, Option<HeldRequest>)> + use<'a> {
    async move {
        let span = RequestSpan::begin(app, &visitor.peer, &request);
        let origin = cors::origin(request.headers());
        // Pages read answers only if they sent their origin; but a GET may be answered from a cache later.
        let shown_to_pages = origin.is_some() || request.method() == Method::GET;
        let caller = Caller::of(visitor.peer, request.headers(), &app.config.proxy, || {
            app.engine.now()
        });
        let mut allowance = None;
        let mut ticket = None;
        let (client, answered) = match caller {
            Ok(caller) => {
                let limited = visitor.client_of(app, &caller);
                let limited = limited.as_deref();
                let kind = visitor::kind(request.method(), request.uri().path());
                let admitted = kind.map(|kind| app.admit_request(limited, kind));
                let answered = match admitted.transpose() {
                    Ok(admitted) => {
                        let (counted, left) = admitted.unzip();
                        ticket = counted;
                        allowance = left.flatten();
                        match visitor::take_turn(app, meter, kind).await {
                            Ok(()) => match stream_path(app, request.uri().path()) {
                                Some(path) => match name(app, path) {
                                    Ok(name) => {
                                        let answer = on_stream(app, &caller, limited, &name, &mut request);
                                        unless_it_panics(app, span.cover(answer)).await
                                    }
                                    Err(problem) => Err(problem),
                                },
                                None => {
                                    let answer = on_side(app, &caller, limited, side.clone(), request);
                                    unless_it_panics(app, span.cover(Box::pin(answer))).await
                                }
                            },
                            Err(problem) => Err(problem),
                        }
                    }
                    Err(problem) => {
                        visitor::refuse_turn(app, meter, kind);
                        Err(problem)
                    }
                };
                (caller.client, answered)
            }
            Err(problem) => (visitor.peer.client(), Err(problem)),
        };
        let mut response = answered.unwrap_or_else(|problem| {
            note_refusal(app, &client, problem.code());
            problem.into_response()
        });
        let answer = response.headers_mut();
        answer.insert(http::header::X_CONTENT_TYPE_OPTIONS, NOSNIFF.clone());
        answer.insert(&headers::CROSS_ORIGIN_RESOURCE_POLICY, CROSS_ORIGIN.clone());
        if let Some(Allowance { limit, remaining }) = allowance {
            put_allowance(limit, remaining, answer);
        }
        if shown_to_pages {
            app.cors.put(origin.as_ref(), answer);
        }
        span.end(&response);
        let held = ticket.filter(|_| counts_while_sent(&response));
        (response, held.map(RequestTicket::hold))
    }
}

/// Finds an answer. If that panics, the client is told so, and all that the request held is let go.
fn unless_it_panics<'a>(
    app: &'a App,
    answer: impl Future<Output = Result<Response, Problem>> + 'a,
) -> impl Future<Output = Result<Response, Problem>> + 'a {
    let watched = app.engine.stats().panics.watch(Task::Request, answer);
    watched.map(|ended| ended.unwrap_or_else(|Panicked| Err(Problem::interrupted())))
}

/// Whether a request counts among those of all clients until its answer's body is sent. One whose answer is an event
/// stream has a place among the live readers instead.
fn counts_while_sent(response: &Response) -> bool {
    match response.body() {
        ResponseBody::Empty | ResponseBody::Subscribed(_) | ResponseBody::Live(_) => false,
        ResponseBody::Whole(_) | ResponseBody::Pieces(..) => true,
        // No side path gives bytes of a stream, whose type anybody may choose.
        ResponseBody::Side(_) => {
            let content_type = response.headers().get(http::header::CONTENT_TYPE);
            content_type.is_none_or(|content_type| content_type != EVENT_STREAM)
        }
    }
}

/// The part of a path that names a stream; none if it leads elsewhere.
fn stream_path<'a>(app: &App, path: &'a str) -> Option<&'a str> {
    let below = path.strip_prefix(app.base())?.strip_prefix('/')?;
    let reserved = below == "__ds" || below.starts_with("__ds/");
    (!reserved).then_some(below)
}

/// The stream that a path below the root names.
pub(crate) fn name(app: &App, path: &str) -> Result<StreamName, Problem> {
    let decoded = if path.contains('%') {
        if !has_whole_escapes(path) {
            return Err(Problem::name_escape());
        }
        percent_decode_str(path)
            .decode_utf8()
            .map_err(|_not_utf8| Problem::name_not_utf8())?
    } else {
        Cow::Borrowed(path)
    };
    StreamName::parse(&decoded, app.name_limits).map_err(|refusal| Problem::name(&refusal))
}

/// Whether every `%` is followed by two hexadecimal digits.
fn has_whole_escapes(path: &str) -> bool {
    let bytes = path.as_bytes();
    memchr::memchr_iter(b'%', bytes).all(|place| {
        bytes[place + 1..]
            .iter()
            .take(2)
            .filter(|byte| byte.is_ascii_hexdigit())
            .count()
            == 2
    })
}

/// Says what is left of the client's requests, unless the answer says that something else of its is used up.
fn put_allowance(limit: u64, remaining: u64, answer: &mut HeaderMap) {
    if !answer.contains_key(&headers::X_RATELIMIT_LIMIT) {
        answer.insert(&headers::X_RATELIMIT_LIMIT, headers::number(limit));
        answer.insert(&headers::X_RATELIMIT_REMAINING, headers::number(remaining));
    }
}

/// Counts a refusal. The log of it tells who is meant by the client where there are proxies in between.
fn note_refusal(app: &App, client: &ClientKey, code: &'static str) {
    tracing::debug!(%client, code, "a request was refused");
    app.metrics.refused(code);
}

async fn on_stream(
    app: &Arc<App>,
    caller: &Caller,
    client: Option<&Arc<Client>>,
    name: &StreamName,
    request: &mut Request<Incoming>,
) -> Result<Response, Problem> {
    match *request.method() {
        Method::POST => append::append(app, client.map(Arc::as_ref), name, request).await,
        Method::GET => read::read(app, caller, client, name, request).await,
        Method::HEAD => head::head(app, name).await,
        Method::PUT => {
            Box::pin(create::create(
                app,
                caller,
                client.map(Arc::as_ref),
                name,
                request,
            ))
            .await
        }
        Method::DELETE => delete::delete(app, name, request.headers()).await,
        Method::OPTIONS => Ok(options()),
        ref other => Err(Problem::method_not_allowed(other, ALLOWED)),
    }
}

fn options() -> Response {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
        .headers_mut()
        .insert(http::header::ALLOW, http::HeaderValue::from_static(ALLOWED));
    cors::Cors::put_preflight(response.headers_mut());
    response
}

async fn on_side(
    app: &App,
    caller: &Caller,
    client: Option<&Arc<Client>>,
    mut side: axum::Router,
    mut request: Request<Incoming>,
) -> Result<Response, Problem> {
    if request.method() == Method::OPTIONS {
        return Ok(options());
    }
    // The router would refuse it in words of its own.
    if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
        return Err(Problem::path_not_utf8());
    }
    request.extensions_mut().insert(caller.clone());
    request.extensions_mut().insert(Limited(client.cloned()));
    let request = request.map(axum::body::Body::new);
    let response = side.call(request).await.unwrap_or_else(|never| match never {});
    if let Some(Refused(code)) = response.extensions().get() {
        note_refusal(app, &caller.client, code);
    }
    Ok(response.map(ResponseBody::Side))
}
