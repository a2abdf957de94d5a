//! The operations on runs: below `__ds/runs`. The name of a run has slashes, so what is asked of it is the last part of the
//! path. Translates; what may happen stands in the rules.

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response as SideResponse;
use axum::routing::get;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tailwater_storage::Queues;
use tailwater_storage::queues::{RetryFrom, ShownRun};
use tailwater_storage::stream::producer::NUMBER_MAX;
use tailwater_storage::stream::queue::{JobPhase, JsonText, Settled, Word};
use tailwater_storage::stream::{OffsetToken, StreamName, Timestamp};

use super::caller::Caller;
use super::control::{self, to_side};
use super::error::Problem;
use super::queues::body::Members;
use super::queues::{document, root};
use super::visitor::Limited;
use super::{App, dispatch, time};

/// What every path of a run begins with, below the base.
const PATH: &str = "/__ds/runs/";
/// What somebody may say who calls a run off.
const REASON_BYTES_MAX: usize = 1024;
/// A retry may be put off for so long: ten years, in milliseconds.
const RETRY_AFTER_MS_MAX: u64 = 10 * 365 * 24 * 3_600_000;

/// The routes below `{base}/__ds`.
pub(super) fn routes(base: &str) -> Router<Arc<App>> {
    Router::new().route(&format!("{base}/__ds/runs/{{*path}}"), get(show).post(post))
}

/// What may be asked of a path below `__ds`, to tell whoever asks for something else; none if it is no run's.
pub(super) fn allowed(path: &str) -> Option<&'static str> {
    let (_, below) = path.split_once("/__ds/")?;
    below.starts_with("runs/").then_some("GET, HEAD, POST")
}

/// What is posted to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Posted {
    Heartbeat,
    Complete,
    Fail,
    Release,
    Cancel,
    Retry,
}

const POSTED: [(&str, Posted); 6] = [
    ("/heartbeat", Posted::Heartbeat),
    ("/complete", Posted::Complete),
    ("/fail", Posted::Fail),
    ("/release", Posted::Release),
    ("/cancel", Posted::Cancel),
    ("/retry", Posted::Retry),
];

fn below<'a>(app: &App, path: &'a str) -> &'a str {
    let behind = path
        .strip_prefix(app.base())
        .and_then(|path| path.strip_prefix(PATH));
    behind.unwrap_or_default()
}

fn served(app: &App) -> Result<&Queues, Problem> {
    app.queues.as_ref().ok_or_else(Problem::shutting_down)
}

/// GET: a run as it is now.
async fn show(State(app): State<Arc<App>>, request: Request) -> Result<SideResponse, Problem> {
    let run = dispatch::name(&app, below(&app, request.uri().path()))?;
    let shown = served(&app)?.run(&run).await?;
    Ok(to_side(control::json(&describe(&run, &shown))))
}

fn describe(run: &StreamName, shown: &ShownRun) -> Value {
    let open = shown.open.as_ref();
    let (worker, cancel, until) = match open.map(|open| &open.phase) {
        Some(JobPhase::Leased { worker, cancel }) => (Some(worker.as_ref()), cancel.is_some(), None),
        // One that was held back before its first attempt waits for no time.
        Some(JobPhase::Waiting { until, .. }) => (
            None,
            false,
            Some(*until).filter(|until| *until > Timestamp::default()),
        ),
        Some(JobPhase::Passed) | None => (None, false, None),
    };
    json!({
        "run": run.as_str(),
        "state": shown.status.state.name(),
        "attempt": shown.status.attempt,
        "queue": shown.status.queue.as_str(),
        "job": document::job(shown.status.job),
        "epoch": open.map(|open| open.epoch),
        "worker": worker,
        "cancel": cancel,
        "waits_until": until.map(time::format),
        "started_at": open.and_then(|open| open.started_at).map(time::format),
        "created_at": time::format(shown.created_at),
        "last_event_at": shown.last_event_at.map(time::format),
    })
}

/// POST: what is asked stands at the end of the path.
async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(Limited(client)): Extension<Limited>,
    request: Request,
) -> Result<SideResponse, Problem> {
    let queues = served(&app)?;
    let below = below(&app, request.uri().path());
    let found = POSTED
        .iter()
        .find_map(|(operation, posted)| Some((below.strip_suffix(operation)?, *posted)));
    let Some((name, posted)) = found else {
        return Err(Problem::method_not_allowed(&Method::POST, "GET, HEAD"));
    };
    let run = dispatch::name(&app, name)?;
    let root = root(&app, &caller, request.headers(), request.uri());
    let bytes_max = app.config.queues.max_body_bytes;
    let (body, _share) = control::receive(&app, client.as_deref(), request, bytes_max).await?;
    let _waiting = app.writes.begin();
    match posted {
        Posted::Heartbeat => heartbeat(queues, &run, &body).await,
        Posted::Complete => {
            let members = Members::of(&body, &["epoch", "seq", "result"])?;
            let result = members.json("result");
            settle(queues, &run, &members, Word::Complete { result }).await
        }
        Posted::Fail => {
            let members = Members::of(&body, &["epoch", "seq", "error", "retry", "retry_after_ms"])?;
            let word = Word::Fail {
                error: members.json("error").unwrap_or_else(JsonText::null),
                retry: members.flag("retry")?.unwrap_or(true),
                retry_after_ms: members.number("retry_after_ms", 0, RETRY_AFTER_MS_MAX)?,
            };
            if matches!(
                word,
                Word::Fail {
                    retry: false,
                    retry_after_ms: Some(_),
                    ..
                }
            ) {
                return Err(Problem::member(
                    "retry_after_ms",
                    "means nothing beside `\"retry\": false`; leave one of them out",
                ));
            }
            settle(queues, &run, &members, word).await
        }
        Posted::Release => {
            let members = Members::of(&body, &["epoch", "seq"])?;
            settle(queues, &run, &members, Word::Release).await
        }
        Posted::Cancel => {
            let members = Members::of(&body, &["reason"])?;
            let reason = members.text("reason", REASON_BYTES_MAX)?;
            let settled = queues.cancel(&run, reason.map(Into::into)).await?;
            Ok(to_side(control::json(&settled_document(&settled))))
        }
        Posted::Retry => retry(queues, &root, &run, &body).await,
    }
}

async fn heartbeat(queues: &Queues, run: &StreamName, body: &[u8]) -> Result<SideResponse, Problem> {
    let members = Members::of(body, &["epoch"])?;
    let epoch = members.required_number("epoch", NUMBER_MAX)?;
    let beat = queues.heartbeat(run, epoch).await?;
    Ok(to_side(control::json(
        &json!({ "lease_ms": beat.lease_ms, "cancel": beat.cancel }),
    )))
}

async fn settle(
    queues: &Queues,
    run: &StreamName,
    members: &Members<'_>,
    word: Word,
) -> Result<SideResponse, Problem> {
    let epoch = members.required_number("epoch", NUMBER_MAX)?;
    let seq = members.required_number("seq", NUMBER_MAX)?;
    let settled = queues.settle_lease(run, (epoch, seq), word).await?;
    Ok(to_side(control::json(&settled_document(&settled))))
}

fn settled_document(settled: &Settled) -> Value {
    json!({
        "state": settled.state.name(),
        "retry_at": settled.retry_at.map(time::format),
    })
}

async fn retry(queues: &Queues, root: &str, run: &StreamName, body: &[u8]) -> Result<SideResponse, Problem> {
    let members = Members::of(body, &["from"])?;
    let from = match members.text("from", 100)?.as_deref() {
        None | Some("start") => RetryFrom::Start,
        Some("checkpoint") => RetryFrom::Checkpoint,
        Some(text) => {
            let fix = || {
                let what = format!("is {text:?}; send \"start\", \"checkpoint\" or an offset of the run");
                Problem::member("from", &what)
            };
            RetryFrom::At(OffsetToken::parse(text).ok_or_else(fix)?)
        }
    };
    let retried = queues.retry(run, from).await?;
    let mut response = control::json(&document::enqueued(&retried, root));
    *response.status_mut() = StatusCode::CREATED;
    Ok(to_side(response))
}

#[cfg(test)]
mod tests {
    use tailwater_storage::stream::queue::{OpenJob, RunState, RunStatus};
    use tailwater_storage::stream::{NameLimits, Position};

    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text, NameLimits::default()).expect("a name")
    }

    /// It was said to wait until 1970.
    #[test]
    fn a_run_that_its_concurrency_key_holds_back_waits_for_no_time() {
        let now = Timestamp::from_millis(5_000);
        let waits_until = |until| {
            let open = OpenJob {
                end: Position::ZERO,
                ready_at: now,
                run: name("runs/q/a"),
                max_attempts: None,
                value: Some("1".into()),
                attempt: 0,
                epoch: 0,
                started_at: None,
                phase: JobPhase::Waiting { until, settled: None },
            };
            let status = RunStatus {
                state: RunState::Queued,
                attempt: 0,
                queue: name("q"),
                job: Some(open.end),
            };
            let shown = ShownRun {
                status,
                created_at: now,
                last_event_at: Some(now),
                open: Some(open),
            };
            describe(&name("runs/q/a"), &shown)["waits_until"].clone()
        };
        assert_eq!(waits_until(Timestamp::default()), Value::Null);
        assert_eq!(waits_until(now), "1970-01-01T00:00:05.000Z");
    }
}
