//! Serves an event stream past hyper: a socket, a subscriber, and nothing between them.
//!
//! Such a connection lives long and is mostly idle, so hyper's buffers would be most of its memory. Its chunks are
//! shared by all subscribers at the same place, and each is written with one call. The socket may be one in clear or
//! one in TLS, which keeps a little of what it was given until it is flushed.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::answer_head::AnswerHead;
use crate::http::{App, ResponseBody, Subscriber};

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Sends the answer's head and then events until the subscriber ends, or the client does.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    app: &Arc<App>,
    mut stream: S,
    response: Response<ResponseBody>,
    write_timeout: Duration,
) {
    let head = head(&response);
    let ResponseBody::Subscribed(mut subscriber) = response.into_body() else {
        return;
    };
    let served = async {
        send(app, &mut stream, &head, write_timeout).await?;
        send_events(app, &mut stream, &mut subscriber, write_timeout).await?;
        send(app, &mut stream, LAST_CHUNK, write_timeout).await?;
        within(app, write_timeout, stream.shutdown()).await
    };
    if let Err(error) = served.await {
        tracing::debug!(%error, "an event stream ended early");
    }
}

async fn send_events<S: AsyncRead + AsyncWrite + Unpin>(
    app: &Arc<App>,
    stream: &mut S,
    subscriber: &mut Subscriber,
    write_timeout: Duration,
) -> io::Result<()> {
    loop {
        let events = tokio::select! {
            biased;
            events = subscriber.next_events() => events,
            gone = client_gone(stream) => return gone,
        };
        let Some(events) = events else { return Ok(()) };
        send(app, stream, events.chunk(), write_timeout).await?;
    }
}

/// Writes at once what the socket takes, and waits for the rest: a slow reader holds nothing but this chunk.
async fn send<S: AsyncWrite + Unpin>(
    app: &Arc<App>,
    stream: &mut S,
    mut bytes: &[u8],
    write_timeout: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        // Time-outs are made only for a socket that does not take anything at once.
        let at_once = poll_fn(|context| Poll::Ready(poll_write(stream, context, bytes))).await;
        let written = match at_once {
            Poll::Ready(written) => written?,
            Poll::Pending => {
                let write = poll_fn(|context| poll_write(stream, context, bytes));
                within(app, write_timeout, write).await?
            }
        };
        bytes = &bytes[written..];
    }
    let at_once = poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_flush(context))).await;
    match at_once {
        Poll::Ready(flushed) => flushed,
        Poll::Pending => within(app, write_timeout, stream.flush()).await,
    }
}

/// Writes a part of `bytes`, and never nothing of them.
fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(stream).poll_write(context, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(written),
    }
}

/// Waits until the client takes more, but not for ever. The time begins anew whenever it has taken some.
async fn within<T>(
    app: &Arc<App>,
    write_timeout: Duration,
    done: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut stopping = app.stopping();
    tokio::select! {
        biased;
        done = done => done,
        () = tokio::time::sleep(write_timeout) => {
            app.metrics.timed_out();
            Err(io::ErrorKind::TimedOut.into())
        }
        // A reader that takes nothing does not hold the server up when it stops.
        _ = stopping.wait_for(|stopping| *stopping) => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Ends when the client closes its side. What it sends meanwhile means nothing and is dropped.
async fn client_gone<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    poll_fn(|context| {
        let mut dropped = [0; 64];
        loop {
            let mut buffer = ReadBuf::new(&mut dropped);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    })
    .await
}

fn head(response: &Response<ResponseBody>) -> Vec<u8> {
    let mut head = Vec::new();
    AnswerHead::begin(response.status(), &mut head).put_all(response.headers());
    head.extend_from_slice(b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    head
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, BufStream};

    use super::send;
    use crate::config::Config;
    use crate::server::app_for_tests;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// TLS keeps the end of what it was given if the socket did not take all of it at once. Without a flush
    /// readers would get the end of an event with the next one.
    #[tokio::test]
    async fn nothing_that_was_sent_stays_in_a_socket_that_keeps_something() {
        let app = app_for_tests(Config::default());
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = BufStream::new(ours);
        let sent = send(&app, &mut ours, b"one event", PATIENCE);
        let mut received = [0; 9];
        let received = theirs.read_exact(&mut received);
        let (sent, received) = tokio::time::timeout(PATIENCE, async { tokio::join!(sent, received) })
            .await
            .expect("all of it comes");
        sent.expect("it is sent");
        assert_eq!(received.expect("it is received"), 9);
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_what_the_socket_keeps_is_given_up() {
        let app = app_for_tests(Config::default());
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut ours = BufStream::new(ours);
        let sent = send(&app, &mut ours, b"one event", Duration::from_millis(20));
        let sent = tokio::time::timeout(PATIENCE, sent).await.expect("an end");
        assert_eq!(
            sent.expect_err("nobody reads").kind(),
            std::io::ErrorKind::TimedOut
        );
    }
}
