//! `/healthz`, `/readyz` and `/metrics`: for those who run the mirror. Changes nothing.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::stats::{Side, Stats};

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers until `stop` ends.
///
/// # Errors
/// What the socket says.
pub async fn serve(
    listener: TcpListener,
    stats: Arc<Stats>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route(
            "/healthz",
            get(async || plain(StatusCode::OK, TEXT, "ok\n".to_owned())),
        )
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(stats);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn ready(State(stats): State<Arc<Stats>>) -> Response {
    if stats.is_ready() {
        return plain(StatusCode::OK, TEXT, "ready\n".to_owned());
    }
    let word = |side: &Side| if side.is_well() { "well" } else { "not answering" };
    let (source, postgres) = (word(&stats.source), word(&stats.postgres));
    let leases = match stats.is_idle.load(Ordering::Relaxed) {
        true => ", no partition is held yet",
        false => "",
    };
    let text = format!("not ready: source {source}, postgres {postgres}{leases}; the log says why\n");
    plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

async fn metrics(State(stats): State<Arc<Stats>>) -> Response {
    // The kernel is asked for what the process takes.
    let page = tokio::task::spawn_blocking(move || stats.render()).await;
    plain(StatusCode::OK, METRICS, page.unwrap_or_default())
}

fn plain(status: StatusCode, content_type: &'static str, text: String) -> Response {
    (
        status,
        [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")],
        text,
    )
        .into_response()
}
