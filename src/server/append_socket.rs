//! Serves appends before hyper: those that come whole and are answered whole, one after the other.
//!
//! Most requests of a busy server are such appends, and very many connections wait for the same sync. What each of them
//! touches between its request and its answer is what the cache loses of the others, so it is little: requests are read
//! into one buffer of the thread, and answers are written from another. Anything else that a client sends is hyper's from
//! its first byte on, and so is the rest of a request that did not come whole. Once hyper has answered an append, the
//! connection comes back here.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http::response::Parts;
use http_body_util::{BodyExt as _, Collected};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::answer_head;
use super::watched::Watched;
use super::whole_request::{self, WholePost};
use crate::http::{App, BegunAppend, Response, ResponseBody, Visitor, begin_append, spare_headers};
use crate::limits::Meter;

/// A request with more is left to hyper.
const REQUEST_BYTES_MAX: usize = 16 << 10;

thread_local! {
    /// What was read last.
    static CAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The answer that was written last.
    static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Why no more appends are served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client has closed the connection, or the server stops.
    Closed,
    /// Something else has come. The stream gives it again.
    Other,
}

/// Serves appends until the client closes the connection or sends something else, or the server stops.
///
/// # Errors
/// Those of the stream.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    app: &Arc<App>,
    stream: &mut Watched<S>,
    visitor: &Visitor,
    meter: &Meter,
) -> io::Result<End> {
    loop {
        let append = match poll_fn(|context| poll_append(app, stream, visitor, meter, context)).await? {
            Ok(append) => append,
            Err(End::Other) => return Ok(End::Other),
            Err(End::Closed) => break,
        };
        answer(app, stream, append).await?;
    }
    stream.shutdown().await?;
    Ok(End::Closed)
}

/// Appends, and sends the answer once that is done.
pub(super) async fn answer<S: AsyncWrite + Unpin>(
    app: &App,
    stream: &mut Watched<S>,
    append: BegunAppend<'_>,
) -> io::Result<()> {
    let busy = stream.activity().begin_request();
    let (response, held) = append.answer().await;
    let left = {
        let (head, body) = whole(response).await?;
        let left = poll_fn(|context| Poll::Ready(poll_answer(app, stream, context, &head, &body))).await?;
        spare_headers::give(head.headers);
        left
    };
    drop((busy, held));
    if !left.is_empty() {
        stream.write_all(&left).await?;
    }
    stream.flush().await
}

/// Reads what has come and begins to answer it, if it is an append; says else why not.
fn poll_append<'a, S: AsyncRead + Unpin>(
    app: &'a Arc<App>,
    stream: &mut Watched<S>,
    visitor: &'a Visitor,
    meter: &Meter,
    context: &mut Context<'_>,
) -> Poll<io::Result<Result<BegunAppend<'a>, End>>> {
    if app.is_stopping() {
        return Poll::Ready(Ok(Err(End::Closed)));
    }
    CAME.with_borrow_mut(|buffer| {
        buffer.resize(REQUEST_BYTES_MAX, 0);
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
        let came = buffer.filled();
        let mut room = whole_request::room();
        let post = WholePost::decode(came, &mut room, app.config.limits.max_header_bytes);
        let append = post.and_then(|post| begin_append(app, visitor, meter, &post, post.body));
        Poll::Ready(Ok(match append {
            Some(append) => Ok(append),
            None if came.is_empty() => Err(End::Closed),
            None => {
                stream.put_back(came);
                Err(End::Other)
            }
        }))
    })
}

/// An answer whose body is in one piece, as those to appends are.
async fn whole(response: Response) -> io::Result<(Parts, Bytes)> {
    let (head, body) = response.into_parts();
    let body = match body {
        ResponseBody::Empty => Bytes::new(),
        ResponseBody::Whole(body) => body,
        other => {
            let collected = Box::pin(other.collect()).await.map_err(io::Error::other)?;
            Collected::to_bytes(collected)
        }
    };
    Ok((head, body))
}

/// Writes as much of an answer as the socket takes at once, and gives back what is left of it.
fn poll_answer<S: AsyncWrite + Unpin>(
    app: &App,
    stream: &mut Watched<S>,
    context: &mut Context<'_>,
    head: &Parts,
    body: &[u8],
) -> io::Result<Vec<u8>> {
    let is_last = app.is_stopping();
    ANSWER.with_borrow_mut(|answer| {
        answer.clear();
        encode(head, body, is_last, answer);
        let written = match Pin::new(stream).poll_write(context, answer) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        Ok(answer[written..].to_vec())
    })
}

fn encode(head: &Parts, body: &[u8], is_last: bool, into: &mut Vec<u8>) {
    answer_head::write(head.status, &head.headers, into);
    if is_last {
        into.extend_from_slice(b"connection: close\r\n");
    }
    if head.status != StatusCode::NO_CONTENT {
        into.extend_from_slice(b"content-length: ");
        into.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        into.extend_from_slice(b"\r\n");
    }
    into.extend_from_slice(b"\r\n");
    into.extend_from_slice(body);
}
