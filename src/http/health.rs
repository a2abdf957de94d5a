//! `/healthz`, `/readyz` and `/metrics`: for those who run the server. Outside of every limit but that on
//! connections.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::control::to_side;
use super::error::Problem;
use super::{App, Response, ResponseBody, headers};

/// Paths on which the server answers however busy it is: who looks after it must see that.
const EXEMPT: [&str; 5] = ["/healthz", "/health", "/ok", "/readyz", "/metrics"];

/// Whether requests for this path are never refused for being too many.
pub(super) fn is_exempt(path: &str) -> bool {
    EXEMPT.contains(&path)
}

/// The routes of health, for whoever serves them.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/health", get(alive))
        .route("/ok", get(alive))
        .route("/readyz", get(ready))
}

/// The route of metrics, which may have a port of its own.
pub(super) fn metrics_route() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

fn plain(text: impl Into<Vec<u8>>, content_type: &'static str) -> axum::response::Response {
    let mut response = Response::new(ResponseBody::from(text.into()));
    let to = response.headers_mut();
    to.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    to.insert(CACHE_CONTROL, headers::NO_STORE.clone());
    to_side(response)
}

/// The process is up.
async fn alive() -> axum::response::Response {
    plain("ok\n", "text/plain; charset=utf-8")
}

/// The server takes requests and its storage works.
async fn ready(State(app): State<Arc<App>>) -> Result<axum::response::Response, Problem> {
    if app.is_stopping() {
        return Err(Problem::shutting_down());
    }
    if app.engine.failure().borrow().is_some() {
        return Err(Problem::storage_failed());
    }
    Ok(plain("ready\n", "text/plain; charset=utf-8"))
}

/// What the server counts, as text for Prometheus.
async fn metrics(State(app): State<Arc<App>>) -> axum::response::Response {
    let page = app.metrics.page(&app).await;
    plain(page, "text/plain; version=0.0.4; charset=utf-8")
}
