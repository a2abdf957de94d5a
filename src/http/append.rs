//! POST: appends to a stream, closes it, or both (PROTOCOL.md §5.2, §5.3).

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use tailwater_storage::engine::{AppendRequest, Appended};
use tailwater_storage::stream::StreamName;

use super::error::Problem;
use super::{App, Response, ResponseBody, headers, request_body};
use crate::limits::Client;

pub(super) async fn append(
    app: &App,
    client: Option<&Client>,
    name: &StreamName,
    request: &mut Request<Incoming>,
) -> Result<Response, Problem> {
    // Refused before its body is waited for if its head alone is wrong.
    headers::check_body_is_plain(request.headers())?;
    let mut asked = asked(request.headers())?;
    let (body, _share) = request_body::receive(app, client, request.body_mut()).await?;
    let has_data = !body.is_empty();
    if has_data {
        let given = headers::content_type(request.headers())?;
        asked.content_type = Some(given.ok_or_else(Problem::missing_content_type)?);
    } else if !asked.closes {
        return Err(Problem::empty_body());
    }
    asked.body = body;
    let _waiting = app.writes.begin();
    let appended = app.engine.append(name, asked).await?;
    // What the head came in is used again for the answer's, and by hyper for the next request's: it has room enough.
    let mut headers = std::mem::take(request.headers_mut());
    headers.clear();
    Ok(answer(&appended, has_data, headers))
}

/// What the head of a request asks for. A body that is empty has no type, whatever the client's library says of it, so
/// the type is looked at only once there is one.
fn asked(head: &HeaderMap) -> Result<AppendRequest, Problem> {
    Ok(AppendRequest {
        closes: headers::closed(head)?,
        producer: headers::producer(head)?,
        stream_seq: headers::single(head, &headers::STREAM_SEQ)?.map(Into::into),
        if_match: headers::if_match(head)?,
        body: Bytes::new(),
        content_type: None,
    })
}

/// New data of a producer is told from a duplicate by its status; all else has nothing to tell.
fn answer(appended: &Appended, has_data: bool, headers: HeaderMap) -> Response {
    let mut response = Response::new(ResponseBody::Empty);
    *response.headers_mut() = headers;
    let new_from_producer = has_data && appended.producer.is_some() && !appended.duplicate;
    let status = if new_from_producer {
        StatusCode::OK
    } else {
        StatusCode::NO_CONTENT
    };
    *response.status_mut() = status;
    let to = response.headers_mut();
    to.insert(&headers::STREAM_NEXT_OFFSET, headers::token(appended.tail));
    if appended.closed {
        to.insert(&headers::STREAM_CLOSED, headers::TRUE.clone());
    }
    if let Some((epoch, seq)) = appended.producer {
        to.insert(&headers::PRODUCER_EPOCH, headers::number(epoch.get()));
        to.insert(&headers::PRODUCER_SEQ, headers::number(seq.get()));
    }
    response
}
