//! GET with `live=long-poll`: waits at the tail for one more answer (PROTOCOL.md §5.7).

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderMap;
use tailwater_storage::stream::StreamName;
use tokio::time::Instant;

use super::caller::Caller;
use super::error::Problem;
use super::place::Place;
use super::query::ReadQuery;
use super::{App, Response, answer, cursor};
use crate::limits::Client;

pub(super) async fn long_poll(
    app: &Arc<App>,
    caller: &Caller,
    client: Option<&Arc<Client>>,
    name: &StreamName,
    query: ReadQuery,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let mut place = Place::find(app, name, query.offset).await?;
    if place.from == place.view.tail && !place.view.closed {
        wait(app, caller, client, &mut place).await?;
        if place.view.deleted {
            // Whether the name is free or held by forks is told as to any later reader.
            app.engine.look(name).await?;
            return Err(tailwater_storage::engine::OpenError::NotFound.into());
        }
    }
    let cursor = cursor::answer(app.engine.now(), query.cursor, fastrand::u64(..));
    if place.from == place.view.tail {
        return Ok(answer::at_tail(
            &place,
            query.view,
            StatusCode::NO_CONTENT,
            Some(cursor),
        ));
    }
    answer::answer(app, &place, query.view, request, Some(cursor)).await
}

/// When a long-poll that has just begun is answered without anything to tell: after its time, or at the end of the
/// client's.
pub(super) fn time_out(app: &App, caller: &Caller) -> Instant {
    let time_out = Instant::now() + app.config.limits.long_poll_timeout;
    let deadline = caller.ends_at(app.engine.now());
    deadline.map_or(time_out, |deadline| deadline.min(time_out))
}

/// Waits until there is something to tell, or until it is time to answer without.
async fn wait(
    app: &Arc<App>,
    caller: &Caller,
    client: Option<&Arc<Client>>,
    place: &mut Place,
) -> Result<(), Problem> {
    let _ticket = app.admit_live_reader(client)?;
    // Subscribed first, then looked at: no change is missed.
    let mut changes = place.reader.incarnation().subscribe();
    let from = place.from;
    let mut stopping = app.stopping();
    tokio::select! {
        _ = changes.wait_for(|view| view.tail > from || view.closed || view.deleted) => {}
        () = tokio::time::sleep_until(time_out(app, caller)) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    place.view = place.reader.incarnation().view();
    Ok(())
}
