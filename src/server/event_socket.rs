//! Serves an event stream past hyper: a socket, a subscriber, and nothing between them.
//!
//! Such a connection lives long and is mostly idle, so hyper's buffers would be most of its memory. Its chunks are
//! shared by all subscribers at the same place, and each is written with one call.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Response;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::{App, ResponseBody, Subscriber};

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Sends the answer's head and then events until the subscriber ends, or the client does.
pub(super) async fn serve(
    app: &Arc<App>,
    mut stream: TcpStream,
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
        stream.shutdown().await
    };
    if let Err(error) = served.await {
        tracing::debug!(%error, "an event stream ended early");
    }
}

async fn send_events(
    app: &Arc<App>,
    stream: &mut TcpStream,
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
async fn send(
    app: &Arc<App>,
    stream: &mut TcpStream,
    mut bytes: &[u8],
    write_timeout: Duration,
) -> io::Result<()> {
    loop {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if bytes.is_empty() {
            return Ok(());
        }
        writable(app, stream, write_timeout).await?;
    }
}

/// Waits until the client takes more. The time-out begins anew whenever it has taken some.
async fn writable(app: &Arc<App>, stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    let mut stopping = app.stopping();
    tokio::select! {
        ready = stream.writable() => ready,
        () = tokio::time::sleep(write_timeout) => Err(io::ErrorKind::TimedOut.into()),
        // A reader that takes nothing does not hold the server up when it stops.
        _ = stopping.wait_for(|stopping| *stopping) => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Ends when the client closes its side. What it sends meanwhile means nothing and is dropped.
async fn client_gone(stream: &TcpStream) -> io::Result<()> {
    let mut dropped = [0; 64];
    loop {
        poll_fn(|context| stream.poll_read_ready(context)).await?;
        match stream.try_read(&mut dropped) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn head(response: &Response<ResponseBody>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    let date = httpdate::fmt_http_date(SystemTime::now());
    let rest = format!("date: {date}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    head.extend_from_slice(rest.as_bytes());
    head
}
