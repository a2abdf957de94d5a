//! POST: appends to a stream, closes it, or both (PROTOCOL.md §5.2, §5.3).

use http::{Request, StatusCode};
use hyper::body::Incoming;
use tailwater_storage::engine::{AppendRequest, Appended};
use tailwater_storage::stream::StreamName;

use super::error::Problem;
use super::{App, Response, ResponseBody, headers, request_body};

pub(super) async fn append(
    app: &App,
    name: &StreamName,
    request: Request<Incoming>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let closes = headers::closed(&parts.headers);
    let producer = headers::producer(&parts.headers)?;
    let stream_seq = headers::single(&parts.headers, &headers::STREAM_SEQ)?.map(Into::into);
    let if_match = headers::if_match(&parts.headers)?;
    let received = request_body::receive(app, body).await?;
    // A body that is empty has no type, whatever the client's library says of it.
    let content_type = match received.bytes.is_empty() {
        true if closes => None,
        true => return Err(Problem::empty_body()),
        false => {
            let given = headers::content_type(&parts.headers)?;
            Some(given.ok_or_else(Problem::missing_content_type)?)
        }
    };
    let request = AppendRequest {
        body: received.bytes.clone(),
        content_type,
        producer,
        stream_seq,
        if_match,
        closes,
    };
    let has_data = !request.body.is_empty();
    Ok(answer(&app.engine.append(name, request).await?, has_data))
}

/// New data of a producer is told from a duplicate by its status; all else has nothing to tell.
fn answer(appended: &Appended, has_data: bool) -> Response {
    let mut response = Response::new(ResponseBody::Empty);
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
