//! POST `__ds/import`: makes streams of what `__ds/export` gave, here or elsewhere.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::json;
use tailwater_storage::engine::Existing;

use super::caller::Caller;
use super::control::{self, to_side};
use super::error::Problem;
use super::request_body::Share;
use super::visitor::Limited;
use super::{App, query};
use crate::transfer::Intake;

pub(super) async fn import(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(Limited(client)): Extension<Limited>,
    request: Request,
) -> Result<axum::response::Response, Problem> {
    let existing = existing(request.uri().query().unwrap_or_default())?;
    let mut intake = Intake::new(
        &app.engine,
        existing,
        app.name_limits,
        app.config.limits.max_body_bytes,
    );
    let mut body = request.into_body();
    let pause_max = app.config.server.body_timeout;
    let mut share = Share::of(&app, client.as_deref());
    if let Err(problem) = take_all(&app, &caller, &mut share, &mut intake, &mut body).await {
        // The answer would get lost if the connection were reset while the client still sends. One that goes on and on
        // may lose it.
        let rest = async { while let Ok(Some(_)) = next_piece(&mut body, pause_max).await {} };
        let _in_time = tokio::time::timeout(pause_max, rest).await;
        return Err(problem.imported(intake.report().imported));
    }
    let _waiting = app.writes.begin();
    match intake.finish().await {
        Ok(report) => Ok(to_side(control::json(&json!(report)))),
        Err((error, report)) => Err(Problem::from(error).imported(report.imported)),
    }
}

fn existing(query: &str) -> Result<Existing, Problem> {
    let allowed = [("refuse", Existing::Refuse), ("replace", Existing::Replace)];
    let mut existing = Existing::Refuse;
    for (name, value) in query::pairs(query) {
        if name == "existing" {
            existing = query::choice("existing", &value, &allowed)?;
        }
    }
    Ok(existing)
}

/// Takes a body as long as it is, and as long as its client may stay.
async fn take_all(
    app: &App,
    caller: &Caller,
    share: &mut Share<'_>,
    intake: &mut Intake,
    body: &mut Body,
) -> Result<(), Problem> {
    let pause_max = app.config.server.body_timeout;
    while let Some(piece) = next_piece(body, pause_max).await? {
        caller.check_deadline(&app.config.proxy, app.engine.now())?;
        share.set(intake.held_bytes() + piece.len())?;
        // What has come is written piece by piece; the rest may be long in coming.
        let waiting = app.writes.begin();
        intake.feed(&piece).await?;
        drop(waiting);
        share.set(intake.held_bytes())?;
    }
    Ok(())
}

/// The next data of a body; none at its end.
async fn next_piece(body: &mut Body, pause_max: Duration) -> Result<Option<Bytes>, Problem> {
    loop {
        let frame = tokio::time::timeout(pause_max, body.frame()).await;
        match frame.map_err(|_elapsed| Problem::body_paused(pause_max))? {
            None => return Ok(None),
            Some(Err(error)) => return Err(Problem::body_broken(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
