//! The router of everything that is no stream: health, metrics, and the operations below `__ds`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;

use super::error::Problem;
use super::request_body::Share;
use super::{
    App, Response, ResponseBody, changes, export, headers, health, import, list, openapi, queues, runs,
    schedules, subscriptions, trim,
};
use crate::limits::Client;

/// The routes beside the streams.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let base = app.base().to_owned();
    let metrics = match app.config.metrics.address {
        None => health::metrics_route(),
        Some(_elsewhere) => Router::new(),
    };
    Router::new()
        .merge(health::routes())
        .merge(metrics)
        .route(&format!("{base}/__ds/streams"), get(list::list))
        .route(&format!("{base}/__ds/changes"), get(changes::changes))
        .route(&format!("{base}/__ds/trim"), post(trim::trim))
        .route(&format!("{base}/__ds/export"), get(export::export))
        .route(&format!("{base}/__ds/import"), post(import::import))
        .route(&format!("{base}/__ds/openapi.json"), get(openapi::show))
        .merge(subscriptions::routes(&base))
        .merge(queues::routes(&base))
        .merge(runs::routes(&base))
        .merge(schedules::routes(&base))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(Arc::clone(app))
}

/// What the port of metrics serves, if there is one.
pub(crate) fn metrics_router(app: &Arc<App>) -> Router {
    health::routes()
        .merge(health::metrics_route())
        .with_state(Arc::clone(app))
}

async fn not_found(State(app): State<Arc<App>>, request: Request) -> Problem {
    Problem::not_found(request.uri().path(), app.base())
}

async fn method_not_allowed(request: Request) -> Problem {
    let posted = ["/__ds/trim", "/__ds/import"];
    let path = request.uri().path();
    let of_others = subscriptions::allowed(path).or_else(|| schedules::allowed(path));
    let of_jobs = queues::allowed(path).or_else(|| runs::allowed(path));
    let allowed = if let Some(allowed) = of_others.or(of_jobs) {
        allowed
    } else if posted.iter().any(|posted| path.ends_with(posted)) {
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

/// Receives the whole body of a request that has a small one. Its share of the bytes in flight is to be held until the
/// request is answered.
pub(super) async fn receive<'a>(
    app: &'a App,
    client: Option<&'a Client>,
    request: Request,
    bytes_max: usize,
) -> Result<(Bytes, Share<'a>), Problem> {
    let duration_max = app.config.server.body_timeout;
    let mut share = Share::of(app, client);
    let mut body = Limited::new(request.into_body(), bytes_max);
    let mut whole = BytesMut::new();
    let take_all = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Problem::control_body_too_large(bytes_max)
                } else {
                    Problem::body_broken(&error)
                }
            })?;
            if let Ok(data) = frame.into_data() {
                share.set(whole.len() + data.len())?;
                whole.extend_from_slice(&data);
            }
        }
        Ok(())
    };
    match tokio::time::timeout(duration_max, take_all).await {
        Err(_elapsed) => Err(Problem::body_not_in_time(duration_max)),
        Ok(Err(problem)) => Err(problem),
        Ok(Ok(())) => Ok((whole.freeze(), share)),
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
pub(super) fn json(document: &impl Serialize) -> Response {
    let document = serde_json::to_vec(document).expect("documents have no keys but texts");
    let mut response = Response::new(document.into());
    let to = response.headers_mut();
    to.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    to.insert(http::header::CACHE_CONTROL, headers::NO_STORE.clone());
    response
}

/// An answer without one.
pub(super) fn no_content() -> axum::response::Response {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    let to = response.headers_mut();
    to.insert(http::header::CACHE_CONTROL, headers::NO_STORE.clone());
    to_side(response)
}
