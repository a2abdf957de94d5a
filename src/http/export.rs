//! GET `__ds/export`: streams with all that is known of them, as lines that `__ds/import` takes.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use bytes::Bytes;
use futures_util::stream::unfold;

use super::caller::Caller;
use super::control::to_side;
use super::error::Problem;
use super::{App, Response, ResponseBody, headers, query};
use crate::transfer::{CONTENT_TYPE, Outlet};

pub(super) async fn export(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<axum::response::Response, Problem> {
    let mut prefix = String::new();
    for (name, value) in query::pairs(query.as_deref().unwrap_or_default()) {
        if name == "prefix" {
            prefix = value.into_owned();
        }
    }
    let mut outlet = Outlet::new(&app.engine, &prefix);
    // What fails at once is answered as such.
    let first = outlet.next().await?.unwrap_or_default();
    // The first piece's turn was the request's.
    let pieces = unfold(
        (app, caller, Some(first), outlet),
        |(app, caller, first, mut outlet)| async move {
            let piece = match first {
                Some(first) => first,
                None => next_piece(&app, &caller, &mut outlet).await?,
            };
            Some((piece, (app, caller, None, outlet)))
        },
    );
    let mut response = Response::new(ResponseBody::Live(Box::pin(pieces)));
    let to = response.headers_mut();
    to.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(CONTENT_TYPE),
    );
    to.insert(http::header::CACHE_CONTROL, headers::NO_STORE.clone());
    Ok(to_side(response))
}

/// What cannot be read, or not any more by this client, ends the export without its last line, by which clients know that it
/// is not complete. It shows each stream as it is by then: to a slow client what came long after it.
async fn next_piece(app: &App, caller: &Caller, outlet: &mut Outlet) -> Option<Bytes> {
    app.take_turn_for_a_piece().await;
    if caller
        .check_deadline(&app.config.proxy, app.engine.now())
        .is_err()
    {
        return None;
    }
    let piece = outlet.next().await;
    piece.unwrap_or_else(|error| {
        tracing::error!(%error, "an export was cut off: the storage cannot be read");
        None
    })
}
