//! One connection: HTTP/1.1 or HTTP/2, with one watchdog for its head and idle time-outs.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::watched::{Activity, Watched};
use crate::http::{App, Problem, handle};

/// How long a refused connection is drained, so that its answer is not lost to a reset.
const REFUSAL_DRAIN: Duration = Duration::from_secs(1);
/// HTTP/2 requests that one connection may have open at a time.
const HTTP2_STREAMS_MAX: u32 = 256;

/// Counts an open connection until it is dropped.
pub(super) struct Counted(pub(super) Arc<App>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection until it ends, is idle for too long, or the server stops. Holds `closed` until then.
pub(super) async fn serve(app: Arc<App>, stream: TcpStream, side: axum::Router, closed: watch::Receiver<()>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection could not be set to send at once");
    }
    let activity = Arc::new(Activity::new());
    let service = service_fn({
        let (app, activity) = (Arc::clone(&app), Arc::clone(&activity));
        move |request| {
            let (app, side, activity) = (Arc::clone(&app), side.clone(), Arc::clone(&activity));
            async move {
                let busy = activity.begin_request();
                let response = handle(app, side, request).await;
                Ok::<_, Infallible>(response.map(|body| busy.with_body(body)))
            }
        }
    });
    let limits = Limits::of(&app);
    let watchdog = activity.watch(limits.header_timeout, limits.idle_timeout);
    let speaks_http2 = tokio::select! {
        speaks_http2 = begins_with_http2_preface(&stream) => speaks_http2,
        () = tokio::time::sleep(limits.header_timeout.max(limits.idle_timeout)) => return,
        () = stops(&app) => return,
    };
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    if speaks_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(limits.idle_timeout))
            .keep_alive_timeout(limits.header_timeout);
        drive(&app, builder.serve_connection(io, service), watchdog).await;
    } else {
        let mut builder = http1::Builder::new();
        // The watchdog replaces hyper's timer for each request.
        builder
            .header_read_timeout(None)
            .max_header_size(limits.header_bytes_max);
        drive(&app, builder.serve_connection(io, service), watchdog).await;
    }
    drop(closed);
}

/// The settings that a connection needs.
struct Limits {
    header_bytes_max: usize,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl Limits {
    fn of(app: &App) -> Self {
        Self {
            header_bytes_max: app.config.limits.max_header_bytes,
            header_timeout: app.config.server.header_timeout,
            idle_timeout: app.config.server.idle_timeout,
        }
    }
}

/// Serves until the connection ends or the watchdog does. When the server stops, what is in flight finishes.
async fn drive<C: GracefulConnection>(app: &App, connection: C, watchdog: impl Future<Output = ()>)
where
    C::Error: std::fmt::Display,
{
    let mut connection = pin!(connection);
    let mut watchdog = pin!(watchdog);
    let mut stopping = pin!(stops(app));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            served = connection.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return;
            }
            () = watchdog.as_mut() => return,
            () = stopping.as_mut(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Ends when the server begins to stop.
async fn stops(app: &App) {
    if app.stopping().wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether the client begins with HTTP/2's preface, as it does in clear when it knows that the server speaks it.
async fn begins_with_http2_preface(stream: &TcpStream) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut beginning = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut beginning).await {
            Ok(0) | Err(_) => return false,
            Ok(length) if beginning[..length] != PREFACE[..length] => return false,
            Ok(length) if length == PREFACE.len() => return true,
            // A part of the preface: peeking tells nothing new until more has come.
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Tells a client that there are too many connections, whatever it asks for.
pub(super) async fn refuse(mut stream: TcpStream, connections_max: usize, _counted: Counted) {
    use http_body_util::BodyExt;
    let response = Problem::too_many_connections(connections_max).into_response();
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\n",
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
        std::io::Result::Ok(())
    };
    // The client may be gone, or may never close; both are its own affair.
    let _ = tokio::time::timeout(REFUSAL_DRAIN, answered).await;
}
