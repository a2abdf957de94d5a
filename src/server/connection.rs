//! One connection, in clear or in TLS, with one watchdog for its head and idle time-outs. HTTP/2 is served here, HTTP/1 in
//! `http1.rs`.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Response;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tailwater_storage::Engine;
use tailwater_storage::panics::{Task, TaskPanics};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::clear_socket::ClearSocket;
use super::event_socket;
use super::http1;
use super::metered::MeteredRequest;
use super::tls::{self, NoTls, Tls};
use super::untaken::UntakenBody;
use super::watched::{Activity, Overdue, Protocol, Timeouts, Watched};
use crate::http::{App, Peer, Problem, ResponseBody, Visitor, handle};
use crate::limits::SharedMeter;

/// How long a refused connection is drained, so that its answer is not lost to a reset.
const REFUSAL_DRAIN: Duration = Duration::from_secs(1);
/// HTTP/2 requests that one connection may have open at a time.
const HTTP2_STREAMS_MAX: u32 = 256;

/// A connection that was accepted, and is counted until this is dropped.
pub(super) struct Admitted {
    app: Arc<App>,
    visitor: Arc<Visitor>,
}

impl Admitted {
    /// Counts one more connection of the peer.
    ///
    /// # Errors
    /// If there are too many, of its client or of all together.
    pub(super) fn new(app: &Arc<App>, peer: Peer) -> Result<Self, Problem> {
        let visitor = Arc::new(Visitor::admit(app, peer)?);
        let connections_max = app.config.limits.max_connections;
        let before = app.metrics.connections.fetch_add(1, Ordering::Relaxed);
        let admitted = Self {
            app: Arc::clone(app),
            visitor,
        };
        if before < connections_max {
            Ok(admitted)
        } else {
            Err(Problem::too_many_connections(connections_max))
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection in clear until it ends, keeps the server waiting for too long, or the server stops. Holds
/// `admitted` and `closed` until then.
pub(super) async fn serve(
    app: Arc<App>,
    stream: TcpStream,
    side: axum::Router,
    admitted: Admitted,
    closed: watch::Receiver<()>,
) {
    send_at_once(&stream);
    let timeouts = timeouts(&app);
    let speaks_http2 = tokio::select! {
        speaks_http2 = begins_with_http2_preface(&stream) => speaks_http2,
        () = tokio::time::sleep(timeouts.header.max(timeouts.idle)) => return app.metrics.timed_out(),
        () = stops(&app) => return,
    };
    if speaks_http2 {
        return serve_http2(&app, stream, &admitted.visitor, side, timeouts).await;
    }
    let socket = ClearSocket::new(stream, Arc::clone(&app.metrics));
    let served = http1::serve(&app, socket, &admitted.visitor, side, timeouts);
    if let Some((socket, response)) = served.await {
        take_over(app, socket, response, admitted, closed);
    }
}

/// The same in TLS, which says by itself what is spoken in it. Is not a part of [`serve`], so that connections in
/// clear do not hold room for it.
pub(super) async fn serve_tls(
    app: Arc<App>,
    tls: Arc<Tls>,
    stream: TcpStream,
    side: axum::Router,
    admitted: Admitted,
    closed: watch::Receiver<()>,
) {
    send_at_once(&stream);
    let timeouts = timeouts(&app);
    let shaken = tokio::select! {
        shaken = tls.handshake(stream) => shaken,
        () = tokio::time::sleep(timeouts.header) => Err(NoTls::Failed(io::ErrorKind::TimedOut.into())),
        () = stops(&app) => return,
    };
    let stream = match shaken {
        Ok(stream) => stream,
        Err(NoTls::InClear(stream)) => {
            app.metrics.refused(Problem::tls_required().code());
            return refuse(stream, Problem::tls_required()).await;
        }
        Err(NoTls::Failed(error)) => {
            tls.metrics.handshake_failed();
            return tracing::debug!(%error, "a TLS handshake failed");
        }
    };
    if tls::is_http2(&stream) {
        serve_http2(&app, stream, &admitted.visitor, side, timeouts).await;
    } else if let Some((stream, response)) =
        http1::serve(&app, stream, &admitted.visitor, side, timeouts).await
    {
        take_over(app, stream, response, admitted, closed);
    }
}

fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection could not be set to send at once");
    }
}

pub(super) fn timeouts(app: &App) -> Timeouts {
    let server = &app.config.server;
    Timeouts {
        header: server.header_timeout,
        idle: server.idle_timeout,
        write: server.write_timeout,
    }
}

/// Serves an event stream past hyper. A task of its own is small: it holds a subscriber and a socket, and nothing of
/// hyper.
fn take_over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    app: Arc<App>,
    stream: S,
    response: Response<ResponseBody>,
    admitted: Admitted,
    closed: watch::Receiver<()>,
) {
    let engine = app.engine.clone();
    spawn(&engine, async move {
        let write_timeout = app.config.server.write_timeout;
        event_socket::serve(&app, stream, response, write_timeout).await;
        drop((admitted, closed));
    });
}

/// Begins what serves a client. If it panics it ends, with all that it held, which is told of and counted.
pub(super) fn spawn(engine: &Engine, serving: impl Future<Output: Send> + Send + 'static) {
    let panics = &engine.stats().panics;
    tokio::spawn(TaskPanics::watch_spawned(panics, Task::ClientConnection, serving));
}

/// Runs what hyper does beside a connection of HTTP/2: each of its requests.
#[derive(Clone)]
struct Watchful(Engine);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Watchful {
    fn execute(&self, serving: F) {
        spawn(&self.0, serving);
    }
}

async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin>(
    app: &Arc<App>,
    stream: S,
    visitor: &Arc<Visitor>,
    side: axum::Router,
    timeouts: Timeouts,
) {
    let activity = Arc::new(Activity::new(Protocol::Http2));
    let meter = Arc::new(SharedMeter::default());
    let service = service_fn(|request| {
        let (app, side, busy) = (Arc::clone(app), side.clone(), activity.begin_request());
        let visitor = Arc::clone(visitor);
        let metered = MeteredRequest::new(&app.read_share, &meter);
        async move {
            let (response, request) = {
                let handled = pin!(handle(&app, &visitor, metered.meter(), &side, request));
                metered.answer(handled).await
            };
            Ok::<_, Infallible>(response.map(|body| UntakenBody::new(metered.with_body(body), busy, request)))
        }
    });
    let header_bytes_max = app.config.limits.max_header_bytes;
    let mut builder = http2::Builder::new(Watchful(app.engine.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(timeouts.idle))
        .keep_alive_timeout(timeouts.header);
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut interruptions = interruptions(app, &activity, timeouts);
    let is_idle = poll_fn(|context| {
        let served = meter.measure(
            &app.read_share,
            || connection.as_mut().poll(context),
            || activity.came_bytes(),
        );
        if let Poll::Ready(served) = served {
            note_end(served.err());
            return Poll::Ready(false);
        }
        match interruptions.poll_next_unpin(context) {
            Poll::Ready(Some(Interruption::ServerStops)) => {
                connection.as_mut().graceful_shutdown();
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Interruption::TimedOut(overdue))) => {
                app.metrics.timed_out();
                Poll::Ready(overdue == Overdue::Request)
            }
            Poll::Ready(None) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    if is_idle {
        // The client is told not to come again on this connection. A request that is on its way is answered, unless that
        // takes longer than a client may take to heed it.
        connection.as_mut().graceful_shutdown();
        let _in_time = tokio::time::timeout(timeouts.header, connection).await;
    }
}

pub(super) fn note_end(error: Option<impl std::fmt::Display>) {
    if let Some(error) = error {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Why a connection does not simply go on.
pub(super) enum Interruption {
    /// What is in flight is to be finished, and nothing new begun.
    ServerStops,
    /// The client has kept the server waiting for too long.
    TimedOut(Overdue),
}

/// What may interrupt a connection. They are polled only when they were woken themselves, and not whenever something
/// is sent or received.
pub(super) fn interruptions<'a>(
    app: &'a App,
    activity: &'a Arc<Activity>,
    timeouts: Timeouts,
) -> FuturesUnordered<impl Future<Output = Interruption> + 'a> {
    let stops = stops(app).map(|()| Interruption::ServerStops).left_future();
    let times_out = activity
        .watch(timeouts)
        .map(Interruption::TimedOut)
        .right_future();
    [stops, times_out].into_iter().collect()
}

/// Ends when the server begins to stop.
async fn stops(app: &App) {
    if app.stopping().wait_for(|stopping| *stopping).await.is_err() {
        pending::<()>().await;
    }
}

/// Whether the client begins with HTTP/2's preface, as it does in clear when it knows that the server speaks it.
async fn begins_with_http2_preface(stream: &TcpStream) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut beginning = [0; PREFACE.len()];
    let mut pause = Duration::from_millis(1);
    loop {
        match stream.peek(&mut beginning).await {
            Ok(0) | Err(_) => return false,
            Ok(length) if beginning[..length] != PREFACE[..length] => return false,
            Ok(length) if length == PREFACE.len() => return true,
            // A part of the preface: peeking tells nothing new until more has come.
            Ok(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        }
    }
}

/// Tells a client, in clear and whatever it asks for, why it is not served.
pub(super) async fn refuse(mut stream: TcpStream, why: Problem) {
    use http_body_util::BodyExt;
    let response = why.into_response();
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\nx-content-type-options: nosniff\r\n",
        parts.status,
        body.len()
    );
    for (name, value) in &parts.headers {
        answer.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    answer.push_str("\r\n");
    let answered = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    };
    // The client may be gone, or may never close; both are its own affair.
    let _ = tokio::time::timeout(REFUSAL_DRAIN, answered).await;
}

#[cfg(test)]
mod tests;
