//! POST: appends to a stream, closes it, or both (PROTOCOL.md §5.2, §5.3).

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use tailwater_storage::engine::{AppendRequest, Appended, PreparedAppend};
use tailwater_storage::stream::{OffsetToken, StreamName};

use super::answer_fields::AnswerFields;
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
    let mut append = with_body(asked, request.headers(), body)?;
    spare_headers::give(std::mem::take(request.headers_mut()));
    let done = finish(app, name, &mut append).await?;
    Ok(done.into_response(spare_headers::take()))
}

/// An append whose request is there. It stays in its place while it is answered.
pub(super) struct WholeAppend {
    name: StreamName,
    append: PreparedAppend,
}

impl WholeAppend {
    /// What a request asks for.
    pub(super) fn of(app: &App, name: StreamName, head: &impl Fields, body: &[u8]) -> Result<Self, Problem> {
        headers::check_body_is_plain(head)?;
        let asked = asked(head)?;
        request_body::check_size(app, body.len())?;
        let append = with_body(asked, head, Bytes::copy_from_slice(body))?;
        Ok(Self { name, append })
    }

    /// Appends it.
    pub(super) async fn finish(&mut self, app: &App, client: Option<&Client>) -> Result<Done, Problem> {
        let _share = Share::whole(app, client, self.append.body().len())?;
        finish(app, &self.name, &mut self.append).await
    }
}

fn with_body(mut asked: AppendRequest, head: &impl Fields, body: Bytes) -> Result<PreparedAppend, Problem> {
    if !body.is_empty() {
        let given = headers::content_type(head)?;
        asked.content_type = Some(given.ok_or_else(Problem::missing_content_type)?);
    } else if !asked.closes {
        return Err(Problem::empty_body());
    }
    asked.body = body;
    Ok(asked.prepare())
}

async fn finish(app: &App, name: &StreamName, append: &mut PreparedAppend) -> Result<Done, Problem> {
    let _waiting = app.writes.begin();
    let appended = app.engine.append_prepared(name, append).await?;
    let has_data = !append.body().is_empty();
    Ok(Done { appended, has_data })
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

/// An append that is done, and is to be answered.
pub(super) struct Done {
    appended: Appended,
    has_data: bool,
}

impl Done {
    /// New data of a producer is told from a duplicate by its status; all else has nothing to tell.
    pub(super) fn status(&self) -> StatusCode {
        let Self { appended, has_data } = self;
        if *has_data && appended.producer.is_some() && !appended.duplicate {
            StatusCode::OK
        } else {
            StatusCode::NO_CONTENT
        }
    }

    pub(super) fn next_offset(&self) -> OffsetToken {
        self.appended.tail
    }

    /// Puts what the answer says of the append.
    pub(super) fn put(&self, answer: &mut impl AnswerFields) {
        let appended = &self.appended;
        answer.put(&headers::STREAM_NEXT_OFFSET, &appended.tail.to_text());
        if appended.closed {
            answer.put_value(&headers::STREAM_CLOSED, &headers::TRUE);
        }
        if let Some((epoch, seq)) = appended.producer {
            let mut digits = itoa::Buffer::new();
            answer.put(&headers::PRODUCER_EPOCH, digits.format(epoch.get()).as_bytes());
            answer.put(&headers::PRODUCER_SEQ, digits.format(seq.get()).as_bytes());
        }
    }

    /// The answer, in a map that is empty.
    fn into_response(self, mut headers: HeaderMap) -> Response {
        self.put(&mut headers);
        let mut response = Response::new(ResponseBody::Empty);
        *response.status_mut() = self.status();
        *response.headers_mut() = headers;
        response
    }
}
