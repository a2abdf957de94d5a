//! HEAD: tells of a stream without its data (PROTOCOL.md §5.5).

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use tailwater_storage::engine::Incarnation;
use tailwater_storage::stream::queue::RunStatus;
use tailwater_storage::stream::{OffsetToken, Position, StreamKind, StreamName};

use super::caching::Picture;
use super::error::Problem;
use super::queues::document;
use super::{App, Response, ResponseBody, headers};

/// Where a run stands; none if the stream is none.
async fn run_status(app: &App, stream: &Incarnation) -> Result<Option<RunStatus>, Problem> {
    match &app.queues {
        Some(queues) if stream.kind == StreamKind::Run => {
            Ok(queues.statuses(vec![stream.id]).await?.pop().flatten())
        }
        _ => Ok(None),
    }
}

pub(super) async fn head(app: &App, name: &StreamName) -> Result<Response, Problem> {
    let reader = app.engine.look(name).await?;
    let stream = reader.incarnation();
    let view = stream.view();
    let tail = stream.token(view.tail);
    let mut response = Response::new(ResponseBody::Empty);
    let to = response.headers_mut();
    to.insert(CONTENT_TYPE, headers::text(stream.content_type.as_str()));
    to.insert(&headers::STREAM_NEXT_OFFSET, headers::token(tail));
    to.insert(CACHE_CONTROL, headers::NO_STORE.clone());
    if view.closed {
        to.insert(&headers::STREAM_CLOSED, headers::TRUE.clone());
    }
    if view.oldest > Position::ZERO {
        to.insert(
            &headers::STREAM_OLDEST_OFFSET,
            headers::token(stream.token(view.oldest)),
        );
    }
    headers::put_lifetime(to, stream.lifetime);
    if let Some(status) = run_status(app, stream).await? {
        to.insert(&headers::RUN_STATE, headers::text(status.state.name()));
        to.insert(&headers::RUN_ATTEMPT, headers::number(u64::from(status.attempt)));
        to.insert(
            &headers::RUN_QUEUE,
            headers::text(&document::encoded(&status.queue)),
        );
    }
    let picture = Picture {
        id: stream.id,
        from: OffsetToken::START,
        to: tail,
        closed: view.closed,
        up_to_date: true,
        records: false,
        encoding: None,
    };
    to.insert(ETAG, picture.tag());
    Ok(response)
}
