//! POST `__ds/trim`: forgets the beginning of a stream.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use http::StatusCode;
use serde::Deserialize;
use tailwater_storage::stream::{OffsetToken, StreamName};

use super::control::{self, to_side};
use super::error::Problem;
use super::visitor::Limited;
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
    Extension(Limited(client)): Extension<Limited>,
    request: Request,
) -> Result<axum::response::Response, Problem> {
    let (body, _share) = control::receive(&app, client.as_deref(), request, BODY_BYTES_MAX).await?;
    let body: TrimBody = serde_json::from_slice(&body).map_err(|error| {
        Problem::json_body(&format!(
            "is not `{{\"stream\": name, \"before\": offset}}`: {error}"
        ))
    })?;
    let name = StreamName::parse(&body.stream, app.name_limits).map_err(|refusal| Problem::name(&refusal))?;
    let before = OffsetToken::parse(&body.before).ok_or_else(|| Problem::place(&body.before))?;
    if let Some(queues) = &app.queues
        && queues.is_queue(&name).await?
    {
        return Err(Problem::queue_trims_itself());
    }
    let _waiting = app.writes.begin();
    let trimmed = app.engine.trim(&name, before).await?;
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let to = response.headers_mut();
    to.insert(&headers::STREAM_OLDEST_OFFSET, headers::token(trimmed.oldest));
    to.insert(&headers::STREAM_NEXT_OFFSET, headers::token(trimmed.tail));
    Ok(to_side(response))
}
