//! GET `__ds/export`: streams with all that is known of them, as lines that `__ds/import` takes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use bytes::Bytes;
use futures_util::stream::unfold;

use super::control::to_side;
use super::error::Problem;
use super::{App, Response, ResponseBody, headers, query};
use crate::transfer::{CONTENT_TYPE, Outlet};

pub(super) async fn export(
    State(app): State<Arc<App>>,
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
        (app, Some(first), outlet),
        |(app, first, mut outlet)| async move {
            let piece = match first {
                Some(first) => first,
                None => next_piece(&app, &mut outlet).await?,
            };
            Some((piece, (app, None, outlet)))
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

/// What cannot be read ends the export without its last line, by which clients know that it is not complete.
async fn next_piece(app: &App, outlet: &mut Outlet) -> Option<Bytes> {
    let entered = app.next_read().await;
    let piece = outlet.next().await;
    // What it took is measured with its connection.
    app.read_share.settle(entered, Duration::ZERO);
    piece.unwrap_or_else(|error| {
        tracing::error!(%error, "an export was cut off: the storage cannot be read");
        None
    })
}
