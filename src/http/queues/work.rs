//! What is posted to a queue: jobs come and go.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response as SideResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tailwater_storage::stream::StreamName;
use tailwater_storage::stream::queue::{Envelope, JsonText};

use super::body::Members;
use super::manage::{self, root};
use super::{Posted, document, posted, served};
use crate::http::caller::Caller;
use crate::http::control::{self, to_side};
use crate::http::error::Problem;
use crate::http::visitor::Limited;
use crate::http::{App, Response, headers};
use crate::limits::Client;

/// More than the names of workers need.
const WORKER_BYTES_MAX: usize = 256;
/// The header by which a job is known that is sent again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// POST: what is asked stands at the end of the path.
pub(super) async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(Limited(client)): Extension<Limited>,
    request: Request,
) -> Result<SideResponse, Problem> {
    served(&app)?;
    let (stream, posted) = posted(&app, request.uri().path())?;
    let root = root(&app, &caller, request.headers(), request.uri());
    let key = idempotency_key(request.headers())?;
    let bytes_max = app.config.queues.max_body_bytes;
    let (body, _share) = control::receive(&app, client.as_deref(), request, bytes_max).await?;
    match posted {
        Posted::Enqueue => enqueue(&app, &root, &stream, &body, key).await,
        Posted::Claim => claim(&app, &caller, client.as_ref(), &root, &stream, &body).await,
        Posted::Pause => manage::pause(&app, &stream, &body, true).await,
        Posted::Resume => manage::pause(&app, &stream, &body, false).await,
        Posted::Purge => manage::purge(&app, &stream, &body).await,
        Posted::Redrive => manage::redrive(&app, &root, &stream, &body).await,
    }
}

fn idempotency_key(head: &HeaderMap) -> Result<Option<String>, Problem> {
    let name = HeaderName::from_static(IDEMPOTENCY_KEY);
    match headers::single(head, &name)? {
        Some("") => Err(Problem::header(
            &name,
            "is empty; send a text that may end the name of a stream",
        )),
        key => Ok(key.map(str::to_owned)),
    }
}

/// A job comes. Sent again with the same id it is the same job.
async fn enqueue(
    app: &App,
    root: &str,
    stream: &StreamName,
    body: &[u8],
    key: Option<String>,
) -> Result<SideResponse, Problem> {
    let members = Members::of(body, &["payload", "id", "run_at", "max_attempts"])?;
    if members.json("payload").is_none() {
        return Err(Problem::member(
            "payload",
            "is missing; send what the worker is to be given",
        ));
    }
    let message = std::str::from_utf8(body).ok().and_then(JsonText::parse);
    let message = message.ok_or_else(|| Problem::json_body("is no JSON; send a JSON object"))?;
    let mut envelope = Envelope::parse(&message)?;
    if envelope.id.is_none() {
        envelope.id = key.map(Into::into);
    }
    let _waiting = app.writes.begin();
    let enqueued = served(app)?.enqueue(stream, envelope).await?;
    let mut response = control::json(&document::enqueued(&enqueued, root));
    if enqueued.new {
        *response.status_mut() = StatusCode::CREATED;
    }
    if let Ok(location) = HeaderValue::try_from(document::url(root, &enqueued.run)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(to_side(response))
}

/// Jobs go to a worker, at once or within the time that it waits, but not behind the end of the caller's.
async fn claim(
    app: &Arc<App>,
    caller: &Caller,
    client: Option<&Arc<Client>>,
    root: &str,
    stream: &StreamName,
    body: &[u8],
) -> Result<SideResponse, Problem> {
    let members = Members::of(body, &["worker", "max", "wait_ms"])?;
    let settings = &app.config.queues;
    let worker = members.required_text("worker", WORKER_BYTES_MAX)?;
    let count_max = members
        .number("max", 1, settings.max_claim_jobs as u64)?
        .unwrap_or(1);
    let wait_ms = members
        .number("wait_ms", 0, settings.max_claim_wait_ms)?
        .unwrap_or(0);
    let count_max = usize::try_from(count_max).unwrap_or(settings.max_claim_jobs);
    // Whoever waits is one of those who wait for something to come.
    let _live = if wait_ms > 0 {
        Some(app.admit_live_reader(client)?)
    } else {
        None
    };
    let mut stopping = app.stopping();
    let left_ms = caller.left_ms(app.engine.now()).unwrap_or(u64::MAX);
    let claim = served(app)?.claim(stream, &worker, count_max, wait_ms.min(left_ms));
    let claimed = tokio::select! {
        // A claim that is answered in the very moment in which the server stops is answered.
        biased;
        claimed = claim => claimed?,
        // Who is given a job in this very moment is not here any more, and it goes back.
        _ = stopping.wait_for(|stopping| *stopping) => Vec::new(),
    };
    let mut response = Response::new(document::claimed(&claimed, root).into_bytes().into());
    let to = response.headers_mut();
    to.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    to.insert(CACHE_CONTROL, headers::NO_STORE.clone());
    Ok(to_side(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&'static str]) -> Result<Option<String>, String> {
        let mut head = HeaderMap::new();
        for value in values {
            head.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
        }
        idempotency_key(&head).map_err(|problem| problem.detail().to_owned())
    }

    /// The first of two counted without a word, so a proxy that added one of its own chose which job it was.
    #[test]
    fn an_idempotency_key_comes_once_or_not_at_all() {
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["k"]), Ok(Some("k".into())));
        for (values, part) in [
            (["k", "other"].as_slice(), "more than once"),
            (["k", "k"].as_slice(), "more than once"),
            ([""].as_slice(), "is empty"),
        ] {
            let refusal = key(values).expect_err("refused");
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
