//! POST: appends to a stream, closes it, or both (PROTOCOL.md §5.2, §5.3).

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use tailwater_storage::engine::{AppendRequest, Appended};
use tailwater_storage::stream::StreamName;

use super::error::Problem;
use super::request_body::Share;
use super::request_head::Fields;
use super::{App, Response, ResponseBody, headers, request_body, spare_headers};
use crate::limits::Client;

/// Appends what a request brings, once all of it has come.
pub(super) async fn append(
    app: &App,
    client: Option<&Client>,
    name: &StreamName,
    request: &mut Request<Incoming>,
) -> Result<Response, Problem> {
    // Refused before its body is waited for if its head alone is wrong.
    headers::check_body_is_plain(request.headers())?;
    let asked = asked(request.headers())?;
    let (body, _share) = request_body::receive(app, client, request.body_mut()).await?;
    let asked = with_body(asked, request.headers(), body)?;
    spare_headers::give(std::mem::take(request.headers_mut()));
    finish(app, name, asked).await
}

/// An append whose request is there.
pub(super) struct WholeAppend {
    name: StreamName,
    asked: AppendRequest,
}

impl WholeAppend {
    /// What a request asks for.
    pub(super) fn of(app: &App, name: StreamName, head: &impl Fields, body: &[u8]) -> Result<Self, Problem> {
        headers::check_body_is_plain(head)?;
        let asked = asked(head)?;
        request_body::check_size(app, body.len())?;
        let asked = with_body(asked, head, Bytes::copy_from_slice(body))?;
        Ok(Self { name, asked })
    }

    /// Appends it.
    pub(super) async fn answer(self, app: &App, client: Option<&Client>) -> Result<Response, Problem> {
        let _share = Share::whole(app, client, self.asked.body.len())?;
        finish(app, &self.name, self.asked).await
    }
}

fn with_body(mut asked: AppendRequest, head: &impl Fields, body: Bytes) -> Result<AppendRequest, Problem> {
    if !body.is_empty() {
        let given = headers::content_type(head)?;
        asked.content_type = Some(given.ok_or_else(Problem::missing_content_type)?);
    } else if !asked.closes {
        return Err(Problem::empty_body());
    }
    asked.body = body;
    Ok(asked)
}

async fn finish(app: &App, name: &StreamName, asked: AppendRequest) -> Result<Response, Problem> {
    let has_data = !asked.body.is_empty();
    let _waiting = app.writes.begin();
    let appended = app.engine.append(name, asked).await?;
    Ok(answer(&appended, has_data, spare_headers::take()))
}

/// What the head of a request asks for. A body that is empty has no type, whatever the client's library says of it, so
/// the type is looked at only once there is one.
fn asked(head: &impl Fields) -> Result<AppendRequest, Problem> {
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
