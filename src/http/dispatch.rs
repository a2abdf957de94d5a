//! Which operation a request means. Streams come first and on the shortest way; all else goes through a router.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tailwater_storage::panics::{Panicked, Task};
use tailwater_storage::stream::StreamName;
use tower_service::Service;

use super::admission::{Admission, note_refusal};
use super::answer_fields::AnswerFields;
use super::app::HeldRequest;
use super::append::{Done, WholeAppend};
use super::caller::Caller;
use super::control::Refused;
use super::error::Problem;
use super::request_head::RequestHead;
use super::visitor::{self, Limited, Visitor};
use super::{App, Response, ResponseBody, append, cors, create, delete, head, read};
use crate::limits::{Client, Meter};

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
        let (mut admission, admitted) = Admission::of(app, visitor, meter, &request);
        let turn = match admitted {
            Ok(kind) => visitor::take_turn(app, meter, kind).await,
            Err(problem) => Err(problem),
        };
        let (caller, client) = (&admission.caller, admission.client());
        let answered = match turn {
            Ok(()) => match stream_path(app, request.uri().path()) {
                Some(path) => match name(app, path) {
                    Ok(name) => {
                        let answer = on_stream(app, caller, client, &name, &mut request);
                        unless_it_panics(app, admission.span.cover(answer)).await
                    }
                    Err(problem) => Err(problem),
                },
                None => {
                    let answer = on_side(app, caller, client, side.clone(), request);
                    unless_it_panics(app, admission.span.cover(Box::pin(answer))).await
                }
            },
            Err(problem) => Err(problem),
        };
        admission.answer(answered)
    }
}

/// An append all of which has come, as [`handle`] would answer it. What is kept of it while it waits is little, for nearly
/// all requests of a busy server wait at the same time.
pub(crate) struct BegunAppend<'a> {
    app: &'a App,
    admission: Admission<'a>,
    asked: Result<WholeAppend, Problem>,
}

/// Begins to answer a request that `visitor` has sent, if it is an append. Nothing of it is needed any more then.
pub(crate) fn begin_append<'a>(
    app: &'a Arc<App>,
    visitor: &'a Visitor,
    meter: &Meter,
    head: &impl RequestHead,
    body: &[u8],
) -> Option<BegunAppend<'a>> {
    let path = appended_path(app, head.method(), head.path())?;
    let named = name(app, path).map(|name| (app.engine.look_ahead(&name), name));
    let (admission, admitted) = Admission::of(app, visitor, meter, head);
    let asked = admitted.and_then(|_write| {
        visitor::go_on(app, meter);
        let (ahead, name) = named?;
        ahead.go_on();
        let panics = &app.engine.stats().panics;
        let asked = panics.guard(Task::Request, || WholeAppend::of(app, name, head.fields(), body));
        asked.unwrap_or_else(|Panicked| Err(Problem::interrupted()))
    });
    Some(BegunAppend {
        app,
        admission,
        asked,
    })
}

impl<'a> BegunAppend<'a> {
    /// Appends, and tells what to answer.
    pub(crate) async fn finish(&mut self) -> FinishedAppend<'_, 'a> {
        let Self {
            app,
            admission,
            asked,
        } = self;
        let finished = match asked {
            Ok(append) => {
                let client = admission.client().map(Arc::as_ref);
                let done = pin!(append.finish(app, client));
                unless_it_panics(app, admission.span.cover(done)).await
            }
            Err(problem) => Err(std::mem::replace(problem, Problem::interrupted())),
        };
        match finished {
            Ok(done) => {
                admission.end(done.status(), done.next_offset());
                FinishedAppend::Done(DoneAppend { done, admission })
            }
            Err(problem) => FinishedAppend::Refused(Box::new(admission.answer(Err(problem)))),
        }
    }
}

/// The answer to an append.
pub(crate) enum FinishedAppend<'r, 'a> {
    /// It is done, and the answer has no body.
    Done(DoneAppend<'r, 'a>),
    /// It is refused. What is given beside the answer counts the request until that is sent.
    Refused(Box<(Response, Option<HeldRequest>)>),
}

/// The answer to an append that is done.
pub(crate) struct DoneAppend<'r, 'a> {
    done: Done,
    admission: &'r Admission<'a>,
}

impl DoneAppend<'_, '_> {
    pub(crate) fn status(&self) -> StatusCode {
        self.done.status()
    }

    /// Puts all fields of the answer but those that tell of its body.
    pub(crate) fn put(&self, answer: &mut impl AnswerFields) {
        self.done.put(answer);
        self.admission.put_common(answer);
    }
}

/// Finds an answer. If that panics, the client is told so, and all that the request held is let go.
fn unless_it_panics<'a, T>(
    app: &'a App,
    answer: impl Future<Output = Result<T, Problem>> + 'a,
) -> impl Future<Output = Result<T, Problem>> + 'a {
    let watched = app.engine.stats().panics.watch(Task::Request, answer);
    watched.map(|ended| ended.unwrap_or_else(|Panicked| Err(Problem::interrupted())))
}

/// The part of a path that names a stream; none if it leads elsewhere.
fn stream_path<'a>(app: &App, path: &'a str) -> Option<&'a str> {
    let below = path.strip_prefix(app.base())?.strip_prefix('/')?;
    let reserved = below == "__ds" || below.starts_with("__ds/");
    (!reserved).then_some(below)
}

/// Whether a request appends to a stream. Nothing of its answer is made while it is sent then.
pub(crate) fn is_append<B>(app: &App, request: &Request<B>) -> bool {
    appended_path(app, request.method(), request.uri().path()).is_some()
}

/// The part of a request's path that names the stream that it appends to; none if it is no append.
fn appended_path<'p>(app: &App, method: &Method, path: &'p str) -> Option<&'p str> {
    stream_path(app, path).filter(|_| *method == Method::POST)
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
