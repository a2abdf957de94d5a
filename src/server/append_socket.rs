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
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::answer_head::AnswerHead;
use super::watched::Watched;
use super::whole_request::{self, WholePost};
use crate::http::{
    AnswerFields as _, App, BegunAppend, FinishedAppend, HeldRequest, Response, Visitor, begin_append,
};
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
    // All of it stays in this place until it is answered. By the time it is, the cache has lost most of it.
    let mut append = None;
    loop {
        let next = poll_fn(|context| poll_append(app, stream, visitor, meter, &mut append, context)).await?;
        match next {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(End::Other) => return Ok(End::Other),
            ControlFlow::Break(End::Closed) => break,
        }
        if let Some(begun) = &mut append {
            let left = answer(app, stream, begun).await?;
            // What a client does not take of its answer may stay for long, and nothing counts what was appended any more.
            append = None;
            if !left.is_empty() {
                stream.write_all(&left).await?;
            }
            stream.flush().await?;
        }
    }
    stream.shutdown().await?;
    Ok(End::Closed)
}

/// Appends, and sends as much of the answer as the socket takes at once. Gives back what is left of it.
pub(super) async fn answer<S: AsyncWrite + Unpin>(
    app: &App,
    stream: &mut Watched<S>,
    append: &mut BegunAppend<'_>,
) -> io::Result<Vec<u8>> {
    let _busy = stream.activity().begin_request();
    match append.finish().await {
        FinishedAppend::Done(done) => {
            let fields = |head: &mut AnswerHead<'_>| done.put(head);
            poll_fn(|context| Poll::Ready(write(app, stream, context, done.status(), fields, &[]))).await
        }
        FinishedAppend::Refused(refused) => Box::pin(write_refusal(app, stream, *refused)).await,
    }
}

/// Reads what has come and begins to answer it, if it is an append; says else why not.
fn poll_append<'a, S: AsyncRead + Unpin>(
    app: &'a Arc<App>,
    stream: &mut Watched<S>,
    visitor: &'a Visitor,
    meter: &Meter,
    append: &mut Option<BegunAppend<'a>>,
    context: &mut Context<'_>,
) -> Poll<io::Result<ControlFlow<End>>> {
    if app.is_stopping() {
        return Poll::Ready(Ok(ControlFlow::Break(End::Closed)));
    }
    CAME.with_borrow_mut(|buffer| {
        buffer.resize(REQUEST_BYTES_MAX, 0);
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
        let came = buffer.filled();
        let mut room = whole_request::room();
        let post = WholePost::decode(came, &mut room, app.config.limits.max_header_bytes);
        *append = post.and_then(|post| begin_append(app, visitor, meter, &post, post.body));
        Poll::Ready(Ok(if append.is_some() {
            ControlFlow::Continue(())
        } else if came.is_empty() {
            ControlFlow::Break(End::Closed)
        } else {
            stream.put_back(came);
            ControlFlow::Break(End::Other)
        }))
    })
}

/// Writes the answer to an append that is refused, like [`write`].
async fn write_refusal<S: AsyncWrite + Unpin>(
    app: &App,
    stream: &mut Watched<S>,
    (response, _held): (Response, Option<HeldRequest>),
) -> io::Result<Vec<u8>> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let fields = |to: &mut AnswerHead<'_>| to.put_all(&head.headers);
    poll_fn(|context| Poll::Ready(write(app, stream, context, head.status, fields, &body))).await
}

/// Writes as much of an answer as the socket takes at once, and gives back what is left of it.
fn write<S: AsyncWrite + Unpin>(
    app: &App,
    stream: &mut Watched<S>,
    context: &mut Context<'_>,
    status: StatusCode,
    fields: impl FnOnce(&mut AnswerHead<'_>),
    body: &[u8],
) -> io::Result<Vec<u8>> {
    let is_last = app.is_stopping();
    ANSWER.with_borrow_mut(|answer| {
        answer.clear();
        let mut head = AnswerHead::begin(status, answer);
        fields(&mut head);
        if is_last {
            head.put(&CONNECTION, b"close");
        }
        if status != StatusCode::NO_CONTENT {
            head.put(&CONTENT_LENGTH, itoa::Buffer::new().format(body.len()).as_bytes());
        }
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(body);
        let written = match Pin::new(stream).poll_write(context, answer) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        Ok(answer[written..].to_vec())
    })
}
