//! A panic ends the request, or the connection, in which it happens and nothing else: who asked is told if that is still
//! possible, it is counted, and nothing stays held.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tailwater_storage::panics::Task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Client, append, create};
use crate::config::Config;
use crate::http::App;
use crate::server::{accept_for_ever, app_for_tests};

const PATIENCE: Duration = Duration::from_secs(60);

/// Routes that do what only a bug does: one panics before it has an answer, the other one in the midst of it.
pub(super) fn routes() -> axum::Router {
    let at_once = get(async || -> &'static str { panic!("a planted panic before the answer") });
    let in_the_midst = get(async || {
        let pieces = futures_util::stream::iter([0, 1]).map(|piece| {
            assert_eq!(piece, 0, "a planted panic within the answer");
            io::Result::Ok(Bytes::from_static(b"the first piece"))
        });
        Body::from_stream(pieces)
    });
    axum::Router::new()
        .route("/at-once", at_once)
        .route("/in-the-midst", in_the_midst)
}

/// A server that accepts connections in clear.
struct Server {
    app: Arc<App>,
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
    _closing: watch::Sender<()>,
}

impl Server {
    async fn start() -> Self {
        let app = app_for_tests(Config::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (closing, closed) = watch::channel(());
        let accepting = tokio::spawn({
            let app = Arc::clone(&app);
            async move { accept_for_ever(&app, None, listener, closed).await }
        });
        Self {
            app,
            address,
            accepting,
            _closing: closing,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it is listened on")
    }

    fn panics(&self, task: Task) -> u64 {
        self.app.engine.stats().panics.of(task)
    }

    /// Waits until nothing of any request or connection is held.
    async fn holds_nothing(&self) {
        until(|| {
            let app = &self.app;
            let connections = app.metrics.connections.load(Ordering::Relaxed);
            let held = [app.requests(), app.in_flight.bytes(), app.writes.waiting()];
            connections == 0 && held == [0; 3] && app.live_readers() == 0
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Waits for what must come.
async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it comes in time");
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("the server reads");
}

/// Reads until that has come.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut read = String::new();
    let reading = async {
        while !read.ends_with(end) {
            read.push(char::from(stream.read_u8().await.expect("there is more")));
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it comes in time");
    read
}

/// What comes next of the body of an answer.
async fn body_for(client: &mut Client) -> Vec<u8> {
    let next = tokio::time::timeout(PATIENCE, client.next_data());
    next.await.expect("it comes in time").0
}

/// Reads until the server ends the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read))
        .await
        .expect("it ends in time")
        .expect("nothing is lost");
    String::from_utf8(read).expect("text")
}

/// The client saw its connection end without a word, and nobody but the log knew of it.
#[tokio::test]
async fn a_request_that_panics_is_answered_counted_and_let_go() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let head = "Host: localhost\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n";
    send(&mut client, &format!("PUT /v1/stream/s HTTP/1.1\r\n{head}some")).await;
    read_to(&mut client, "\r\n\r\n").await;
    // It panics while it holds its place, and its part of the bytes in flight.
    send(&mut client, &format!("POST /v1/stream/s HTTP/1.1\r\n{head}mo")).await;
    until(|| server.app.in_flight.bytes() == 2).await;
    server.app.engine.stats().panics.plant(Task::Request);
    send(&mut client, "re").await;
    let answer = read_to(&mut client, "}").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    for part in [
        "application/problem+json",
        "\"code\":\"interrupted\"",
        "bug of the server",
    ] {
        assert!(answer.contains(part), "{part} is not in {answer}");
    }
    assert_eq!(server.panics(Task::Request), 1);
    assert_eq!(server.panics(Task::ClientConnection), 0);
    let page = server.app.metrics.page(&server.app).await;
    for sample in [
        "tailwater_task_panics_total{task=\"request\"} 1",
        "tailwater_refusals_total{code=\"interrupted\"} 1",
    ] {
        assert!(
            page.lines().any(|line| line == sample),
            "{sample} is not in {page}"
        );
    }
    drop(client);
    server.holds_nothing().await;
    // The stream takes what comes next.
    let mut client = server.connect().await;
    send(&mut client, &format!("POST /v1/stream/s HTTP/1.1\r\n{head}more")).await;
    let answer = read_to(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    // A connection on which nothing is left over goes on.
    let read = "GET /v1/stream/s HTTP/1.1\r\nHost: localhost\r\n\r\n";
    server.app.engine.stats().panics.plant(Task::Request);
    send(&mut client, read).await;
    let answer = read_to(&mut client, "}").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    send(&mut client, read).await;
    read_to(&mut client, "somemore").await;
}

#[tokio::test]
async fn a_connection_that_panics_ends_is_counted_and_let_go_and_the_next_one_is_served() {
    let server = Server::start().await;
    server.app.engine.stats().panics.plant(Task::ClientConnection);
    let mut client = server.connect().await;
    assert_eq!(read_to_end(&mut client).await, "");
    assert_eq!(server.panics(Task::ClientConnection), 1);
    server.holds_nothing().await;
    let mut client = server.connect().await;
    send(&mut client, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    read_to(&mut client, "\r\n\r\nok\n").await;
}

/// An event stream is served in a task of its own.
#[tokio::test]
async fn an_event_stream_that_panics_ends_is_counted_and_let_go() {
    let server = Server::start().await;
    let name = create(&server.app, "s").await;
    let mut client = server.connect().await;
    let follow = "GET /v1/stream/s?offset=-1&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n";
    send(&mut client, follow).await;
    read_to(&mut client, "upToDate").await;
    server.app.engine.stats().panics.plant(Task::ClientConnection);
    append(&server.app, &name).await;
    let rest = read_to_end(&mut client).await;
    assert!(!rest.contains("event: data"), "{rest}");
    assert_eq!(server.panics(Task::ClientConnection), 1);
    server.holds_nothing().await;
}

#[tokio::test]
async fn a_request_of_http_2_that_panics_is_answered_and_one_whose_answer_does_is_counted() {
    let mut client = Client::connect(Config::default(), false).await;
    let app = Arc::clone(&client.app);
    let panics = &app.engine.stats().panics;
    client.ask("GET", "/at-once").await;
    let body = String::from_utf8(body_for(&mut client).await).expect("text");
    assert!(body.contains("\"code\":\"interrupted\""), "{body}");
    assert_eq!(
        (panics.of(Task::Request), panics.of(Task::ClientConnection)),
        (1, 0)
    );
    client.ask("GET", "/in-the-midst").await;
    until(|| panics.of(Task::ClientConnection) == 1).await;
    until(|| app.requests() == 0).await;
    // The connection goes on with its other requests. Whether what was made before the panic still comes is left open.
    client.ask("GET", "/quick").await;
    while body_for(&mut client).await != b"answer" {}
    assert_eq!(panics.of(Task::Request), 1);
}
