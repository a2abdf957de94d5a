//! PUT: creates a stream, anew or as a fork (PROTOCOL.md §4.2, §5.1).

use http::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use tailwater_storage::stream::{CreateCommand, ForkRequest, OffsetToken, StreamName};

use super::caller::{self, Caller};
use super::error::Problem;
use super::{App, Response, ResponseBody, dispatch, headers, request_body};
use crate::limits::Client;

pub(super) async fn create(
    app: &App,
    caller: &Caller,
    client: Option<&Client>,
    name: &StreamName,
    request: &mut Request<Incoming>,
) -> Result<Response, Problem> {
    let head = request.headers();
    headers::check_body_is_plain(head)?;
    let content_type = headers::content_type(head)?;
    let lifetime = headers::lifetime(head)?;
    let fork = fork(app, head)?;
    let closed = headers::closed(head)?;
    let only_new = headers::only_new(head)?;
    let (body, _share) = request_body::receive(app, client, request.body_mut()).await?;
    let command = CreateCommand {
        content_type,
        lifetime,
        closed,
        fork,
        body,
        only_new,
    };
    let _waiting = app.writes.begin();
    let created = app.engine.create(name, command).await?;

    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = if created.new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let to = response.headers_mut();
    to.insert(CONTENT_TYPE, headers::text(created.content_type.as_str()));
    to.insert(&headers::STREAM_NEXT_OFFSET, headers::token(created.tail));
    if created.closed {
        to.insert(&headers::STREAM_CLOSED, headers::TRUE.clone());
    }
    if created.new
        && let Some(location) = location(app, caller, request)
    {
        to.insert(LOCATION, location);
    }
    Ok(response)
}

/// The stream's own URL, by the scheme and host that the client used.
fn location(app: &App, caller: &Caller, request: &Request<Incoming>) -> Option<HeaderValue> {
    let uri = request.uri();
    let origin = caller::origin_of(app, caller, request.headers(), uri);
    HeaderValue::try_from(format!("{origin}{}", uri.path())).ok()
}

fn fork(app: &App, from: &HeaderMap) -> Result<Option<ForkRequest>, Problem> {
    let source = headers::single(from, &headers::STREAM_FORKED_FROM)?;
    let offset = headers::single(from, &headers::STREAM_FORK_OFFSET)?;
    let sub_offset = headers::single(from, &headers::STREAM_FORK_SUB_OFFSET)?;
    let Some(source) = source else {
        return match (offset, sub_offset) {
            (None, None) => Ok(None),
            _ => Err(Problem::invalid_fork(
                "Stream-Fork-Offset and Stream-Fork-Sub-Offset need Stream-Forked-From; say what to fork from.",
            )),
        };
    };
    let offset = offset.map(|text| {
        OffsetToken::parse(text).ok_or_else(|| {
            Problem::invalid_fork(&format!(
                "Stream-Fork-Offset is {text:?}; send an offset as the source stream gave it."
            ))
        })
    });
    let sub_offset = sub_offset.map(|text| {
        headers::decimal(text, u64::MAX).ok_or_else(|| {
            Problem::invalid_fork(&format!(
                "Stream-Fork-Sub-Offset is {text:?}; send a whole number without sign or leading zeros."
            ))
        })
    });
    Ok(Some(ForkRequest {
        source: source_name(app, source)?,
        offset: offset.transpose()?,
        sub_offset: sub_offset.transpose()?.unwrap_or(0),
    }))
}

/// The stream that a path of this server names.
fn source_name(app: &App, path: &str) -> Result<StreamName, Problem> {
    let below = path
        .strip_prefix(app.base())
        .and_then(|rest| rest.strip_prefix('/'));
    let below = below.ok_or_else(|| {
        Problem::invalid_fork(&format!(
            "Stream-Forked-From is {path:?}; send the path of a stream on this server, which begins with {}/.",
            app.base()
        ))
    })?;
    dispatch::name(app, below)
}
