//! A connection of HTTP/1: appends that come whole are served at once (`append_socket.rs`), hyper serves all else, and an
//! event stream leaves both for good.

use std::convert::Infallible;
use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures_util::FutureExt as _;
use futures_util::stream::{Stream, StreamExt as _};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::append_socket::{self, End};
use super::connection::{Interruption, interruptions, note_end};
use super::watched::{Activity, Protocol, Timeouts, Watched};
use crate::http::{App, ResponseBody, Visitor, handle, is_append};
use crate::limits::Meter;

/// What all requests of a connection share.
struct Connection<'a> {
    app: &'a Arc<App>,
    visitor: &'a Visitor,
    side: &'a axum::Router,
    meter: &'a Meter,
}

/// Serves HTTP/1 until the connection ends, or until it is to be taken over by the subscriber in an answer.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    app: &Arc<App>,
    stream: S,
    visitor: &Visitor,
    side: axum::Router,
    timeouts: Timeouts,
) -> Option<(S, Response<ResponseBody>)> {
    let activity = Arc::new(Activity::new(Protocol::Http1));
    let meter = Meter::default();
    let connection = Connection {
        app,
        visitor,
        side: &side,
        meter: &meter,
    };
    let mut interruptions = interruptions(app, &activity, timeouts);
    let mut stream = Watched::new(stream, Arc::clone(&activity));
    let taken_over = loop {
        if !connection.serve_appends(&mut stream, &mut interruptions).await {
            break None;
        }
        match connection.serve_all_else(stream, &mut interruptions).await {
            Left::Ended => break None,
            Left::Subscribed(stream, response) => break Some((stream, response)),
            Left::Appending(back) => stream = back,
        }
    };
    meter.is_given_up(&app.read_share);
    taken_over
}

/// How hyper has left a connection.
enum Left<S> {
    Ended,
    /// The subscriber in this answer is to take it over.
    Subscribed(S, Response<ResponseBody>),
    /// An append has been answered, and no other request has come.
    Appending(Watched<S>),
}

impl Connection<'_> {
    /// Serves appends until something else comes; false if the connection has ended.
    async fn serve_appends<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut Watched<S>,
        interruptions: &mut (impl Stream<Item = Interruption> + Unpin),
    ) -> bool {
        let Self {
            app, visitor, meter, ..
        } = *self;
        let activity = Arc::clone(stream.activity());
        let mut served = pin!(append_socket::serve(app, stream, visitor, meter));
        poll_fn(|context| {
            match meter.measure(&app.read_share, || served.as_mut().poll(context)) {
                Poll::Ready(Ok(end)) => return Poll::Ready(end == End::Other),
                Poll::Ready(Err(error)) => {
                    note_end(Some(error));
                    return Poll::Ready(false);
                }
                Poll::Pending => {}
            }
            // Time-outs are for those who wait for their client. That the server stops is looked for with each request.
            if activity.is_busy() {
                return Poll::Pending;
            }
            match interruptions.poll_next_unpin(context) {
                Poll::Ready(Some(Interruption::ServerStops)) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(Some(Interruption::TimedOut(_))) => {
                    app.metrics.timed_out();
                    Poll::Ready(false)
                }
                Poll::Ready(None) => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Has hyper serve whatever comes, until it has answered an append.
    async fn serve_all_else<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: Watched<S>,
        interruptions: &mut (impl Stream<Item = Interruption> + Unpin),
    ) -> Left<S> {
        let Self {
            app,
            visitor,
            side,
            meter,
        } = *self;
        let activity = &Arc::clone(stream.activity());
        activity.appends(false);
        let service = service_fn(|request: Request<Incoming>| {
            let busy = activity.begin_request();
            let may_take_over = request.version() == Version::HTTP_11;
            let appends = is_append(app, &request);
            // Not a block that awaits it: that would hold it twice.
            handle(app, visitor, meter, side, request).then(move |(response, request)| {
                let is_subscribed = matches!(response.body(), ResponseBody::Subscribed(_));
                let kept = if may_take_over && is_subscribed {
                    activity.hand_over(response)
                } else {
                    Some(response)
                };
                match kept {
                    Some(response) => {
                        if is_subscribed {
                            // A subscriber pays by itself for what it catches up with, and for nothing else.
                            meter.turns_to(false, &app.read_share);
                        }
                        // One that is refused may be refused before all of it has come.
                        activity.appends(appends && response.status().is_success());
                        let response = response.map(|body| busy.with_body(body, request));
                        ready(Ok::<_, Infallible>(response)).left_future()
                    }
                    // The connection is taken from hyper before this is asked again.
                    None => pending().right_future(),
                }
            })
        });
        let mut builder = http1::Builder::new();
        // The watchdog replaces hyper's timer for each request.
        builder
            .header_read_timeout(None)
            .max_header_size(app.config.limits.max_header_bytes);
        let mut connection = builder.serve_connection(TokioIo::new(stream), service);
        /// Why hyper serves no more, while it still has the stream.
        enum Stop {
            Ended,
            Subscribed(Response<ResponseBody>),
            Appending,
        }
        let stop = poll_fn(|context| {
            let served = meter.measure(&app.read_share, || Pin::new(&mut connection).poll(context));
            if let Poll::Ready(served) = served {
                note_end(served.err());
                return Poll::Ready(Stop::Ended);
            }
            if let Some(response) = activity.taken_over() {
                return Poll::Ready(Stop::Subscribed(response));
            }
            if activity.is_idle_behind_append() {
                return Poll::Ready(Stop::Appending);
            }
            match interruptions.poll_next_unpin(context) {
                Poll::Ready(Some(Interruption::ServerStops)) => {
                    Pin::new(&mut connection).graceful_shutdown();
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(Some(Interruption::TimedOut(_))) => {
                    app.metrics.timed_out();
                    Poll::Ready(Stop::Ended)
                }
                Poll::Ready(None) => Poll::Ready(Stop::Ended),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        match stop {
            Stop::Ended => Left::Ended,
            Stop::Subscribed(response) => Left::Subscribed(stream.into_inner(), response),
            Stop::Appending => {
                stream.put_back(&parts.read_buf);
                Left::Appending(stream)
            }
        }
    }
}

#[cfg(test)]
mod tests;
