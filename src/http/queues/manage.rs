//! Make, show, list, pause, purge and delete queues; dead letters.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, Request, State};
use axum::response::Response as SideResponse;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde_json::{Map, Value, json};
use tailwater_storage::queues::{PurgeWhat, Redriven};
use tailwater_storage::stream::queue::event::{job_text, parse_job};
use tailwater_storage::stream::{Position, StreamName};

use super::body::Members;
use super::{below, document, served};
use crate::http::caller::{self, Caller};
use crate::http::control::{self, to_side};
use crate::http::error::Problem;

use crate::http::visitor::Limited;
use crate::http::{App, dispatch, query};

/// The URL of the stream root, by the scheme and host that the client used.
pub(in crate::http) fn root(app: &App, caller: &Caller, head: &HeaderMap, uri: &Uri) -> String {
    let origin = caller::origin_of(app, caller, head, uri);
    format!("{origin}{}", app.base())
}

/// PUT: makes a queue of a stream, or changes it.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(Limited(client)): Extension<Limited>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let queues = served(&app)?;
    let stream = dispatch::name(&app, below(&app, request.uri().path()))?;
    if stream.as_str() == "dead" || stream.as_str().ends_with("/dead") {
        return Err(Problem::queue_name(stream.as_str()));
    }
    let root = root(&app, &caller, request.headers(), request.uri());
    let bytes_max = app.config.queues.max_body_bytes;
    let (body, _share) = control::receive(&app, client.as_deref(), request, bytes_max).await?;
    let config: Map<String, Value> = if body.is_empty() {
        Map::new()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| Problem::json_body(&format!("is no JSON object ({error}); send one")))?
    };
    let _waiting = app.writes.begin();
    let made = queues.put(&stream, &config).await?;
    let mut response = control::json(&document::described(&made.described));
    if made.new {
        *response.status_mut() = StatusCode::CREATED;
        if let Ok(location) = HeaderValue::try_from(document::location(&root, &stream)) {
            response.headers_mut().insert(LOCATION, location);
        }
    }
    Ok(to_side(response))
}

/// GET: a queue, or its dead letters.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<SideResponse, Problem> {
    let below = below(&app, request.uri().path());
    if let Some(stream) = below.strip_suffix("/dead") {
        let root = root(&app, &caller, request.headers(), request.uri());
        let stream = dispatch::name(&app, stream)?;
        return dead(&app, &root, &stream, query.as_deref()).await;
    }
    let described = served(&app)?.get(&dispatch::name(&app, below)?).await?;
    Ok(to_side(control::json(&document::described(&described))))
}

/// DELETE: ends what is open and leaves a plain stream.
pub(super) async fn delete(State(app): State<Arc<App>>, request: Request) -> Result<SideResponse, Problem> {
    let stream = dispatch::name(&app, below(&app, request.uri().path()))?;
    let _waiting = app.writes.begin();
    served(&app)?.delete(&stream).await?;
    Ok(control::no_content())
}

/// GET of all: pages of queues without their configurations.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<SideResponse, Problem> {
    let limit_max = app.config.limits.max_list_entries;
    let (mut after, mut limit) = (None, limit_max);
    for (name, value) in query::pairs(query.as_deref().unwrap_or_default()) {
        match name {
            "after" => {
                let name = StreamName::parse(&value, app.name_limits);
                after = Some(
                    name.map_err(|refusal| Problem::query("after", &format!("is {value:?}: {refusal}")))?,
                );
            }
            "limit" => limit = query::limit(&value, limit_max)?,
            _ => {}
        }
    }
    let (listed, more) = served(&app)?.list(after.as_ref(), limit).await;
    let next = listed.last().filter(|_| more).map(|last| last.stream.to_string());
    let queues: Vec<Value> = listed.iter().map(document::summary).collect();
    Ok(to_side(control::json(&json!({ "queues": queues, "next": next }))))
}

async fn dead(
    app: &App,
    root: &str,
    stream: &StreamName,
    query: Option<&str>,
) -> Result<SideResponse, Problem> {
    let limit_max = app.config.limits.max_list_entries;
    let (mut after, mut limit) = (None, limit_max);
    for (name, value) in query::pairs(query.unwrap_or_default()) {
        match name {
            "after" => {
                let job = parse_job(&value);
                let fix =
                    || Problem::query("after", &format!("is {value:?}; send the `job` of a dead letter"));
                after = Some(job.ok_or_else(fix)?);
            }
            "limit" => limit = query::limit(&value, limit_max)?,
            _ => {}
        }
    }
    let (listed, more) = served(app)?.dead(stream, after, limit).await?;
    let next = listed.last().filter(|_| more).map(|last| job_text(last.job));
    let dead: Vec<Value> = listed.iter().map(|letter| document::dead(letter, root)).collect();
    Ok(to_side(control::json(&json!({ "dead": dead, "next": next }))))
}

/// POST: nothing is given to workers, or something is again.
pub(super) async fn pause(
    app: &App,
    stream: &StreamName,
    body: &[u8],
    paused: bool,
) -> Result<SideResponse, Problem> {
    Members::of(body, &[])?;
    let _waiting = app.writes.begin();
    served(app)?.pause(stream, paused).await?;
    Ok(to_side(control::json(&json!({ "paused": paused }))))
}

/// POST: jobs are called off, dead letters forgotten.
pub(super) async fn purge(app: &App, stream: &StreamName, body: &[u8]) -> Result<SideResponse, Problem> {
    let members = Members::of(body, &["what"])?;
    let words = [
        ("ready", PurgeWhat::Ready),
        ("dead", PurgeWhat::Dead),
        ("all", PurgeWhat::All),
    ];
    let what = members.choice("what", &words)?.unwrap_or(PurgeWhat::Ready);
    let _waiting = app.writes.begin();
    let cancelled = served(app)?.purge(stream, what).await?;
    Ok(to_side(control::json(&json!({ "cancelled": cancelled }))))
}

/// POST: dead letters are tried anew.
pub(super) async fn redrive(
    app: &App,
    root: &str,
    stream: &StreamName,
    body: &[u8],
) -> Result<SideResponse, Problem> {
    let members = Members::of(body, &["job", "all"])?;
    let job: Option<Position> = match members.text("job", 16)? {
        None => None,
        Some(text) => {
            let job = parse_job(&text);
            let fix = || Problem::member("job", &format!("is {text:?}; send the `job` of a dead letter"));
            Some(job.ok_or_else(fix)?)
        }
    };
    let redriven = match (job, members.flag("all")?) {
        (None, Some(true)) => {
            let _waiting = app.writes.begin();
            served(app)?.redrive_all(stream).await?
        }
        (Some(job), None | Some(false)) => {
            let _waiting = app.writes.begin();
            Redriven {
                redriven: vec![served(app)?.redrive(stream, job).await?],
                ..Redriven::default()
            }
        }
        (Some(_), Some(true)) => {
            return Err(Problem::member("all", "is true beside a `job`; send one of them"));
        }
        (None, _) => {
            return Err(Problem::member(
                "job",
                "is missing; send the `job` of a dead letter, or `\"all\": true`",
            ));
        }
    };
    Ok(to_side(control::json(&document::redriven(redriven, root))))
}
