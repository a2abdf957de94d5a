//! The router of everything that is no stream: health, metrics, and the operations below `__ds`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};

use super::error::Problem;
use super::{App, Response, changes, export, health, import, list, trim};

/// The routes beside the streams.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let base = app.base().to_owned();
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/health", get(health::alive))
        .route("/ok", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route(&format!("{base}/__ds/streams"), get(list::list))
        .route(&format!("{base}/__ds/changes"), get(changes::changes))
        .route(&format!("{base}/__ds/trim"), post(trim::trim))
        .route(&format!("{base}/__ds/export"), get(export::export))
        .route(&format!("{base}/__ds/import"), post(import::import))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(Arc::clone(app))
}

async fn not_found(State(app): State<Arc<App>>, request: Request) -> Problem {
    Problem::not_found(request.uri().path(), app.base())
}

async fn method_not_allowed(request: Request) -> Problem {
    let posted = ["/__ds/trim", "/__ds/import"];
    let allowed = if posted.iter().any(|path| request.uri().path().ends_with(path)) {
        "POST"
    } else {
        "GET, HEAD"
    };
    Problem::method_not_allowed(request.method(), allowed)
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let code = self.code();
        let mut response = to_side(Self::into_response(self));
        response.extensions_mut().insert(Refused(code));
        response
    }
}

/// Marks an answer of the side paths as a refusal, for the count of them.
#[derive(Clone, Copy)]
pub(crate) struct Refused(pub(crate) &'static str);

/// An answer for the router to pass on.
pub(super) fn to_side(response: Response) -> axum::response::Response {
    response.map(axum::body::Body::new)
}

/// An answer with a JSON document that no cache keeps.
pub(super) fn json(document: &serde_json::Value) -> Response {
    let mut response = Response::new(document.to_string().into_bytes().into());
    let to = response.headers_mut();
    to.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    to.insert(http::header::CACHE_CONTROL, super::headers::NO_STORE.clone());
    response
}
