//! POST `__ds/trim`: forgets the beginning of a stream.

use std::sync::Arc;

use axum::extract::{Request, State};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tailwater_storage::stream::{OffsetToken, StreamName};

use super::control::to_side;
use super::error::Problem;
use super::{App, Response, ResponseBody, headers};

/// More than the longest name and an offset need.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrimBody {
    stream: String,
    before: String,
}

pub(super) async fn trim(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<axum::response::Response, Problem> {
    let body = receive(&app, request).await?;
    let body: TrimBody = serde_json::from_slice(&body).map_err(|error| {
        Problem::json_body(&format!(
            "is not `{{\"stream\": name, \"before\": offset}}`: {error}"
        ))
    })?;
    let name = StreamName::parse(&body.stream, app.name_limits).map_err(|refusal| Problem::name(&refusal))?;
    let before = OffsetToken::parse(&body.before).ok_or_else(|| Problem::offset(&body.before))?;
    let _waiting = app.writes.begin();
    let trimmed = app.engine.trim(&name, before).await?;
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let to = response.headers_mut();
    to.insert(&headers::STREAM_OLDEST_OFFSET, headers::token(trimmed.oldest));
    to.insert(&headers::STREAM_NEXT_OFFSET, headers::token(trimmed.tail));
    Ok(to_side(response))
}

async fn receive(app: &App, request: Request) -> Result<Bytes, Problem> {
    let pause_max = app.config.server.body_timeout;
    let whole = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    match tokio::time::timeout(pause_max, whole).await {
        Err(_elapsed) => Err(Problem::body_timeout(pause_max)),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Problem::control_body_too_large(BODY_BYTES_MAX))
        }
        Ok(Err(error)) => Err(Problem::json_body(&format!("could not be received: {error}"))),
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
    }
}
