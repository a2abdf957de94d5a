//! What requests take of the share of reads: here those of HTTP/2, and in `tests/http1.rs` those of HTTP/1; and in
//! `tests/panics.rs` what becomes of those that panic. Looked at is only whether something is taken, or how much at
//! least, so that no machine is too slow for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use tailwater_storage::engine::AppendRequest;
use tailwater_storage::stream::{ContentType, CreateCommand, StreamName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;

use super::{serve_http2, timeouts};
use crate::config::Config;
use crate::http::{App, Peer, Visitor};
use crate::server::app_for_tests;

mod http1;
mod panics;

/// How long each thing takes that is to be measured.
const SPIN: Duration = Duration::from_millis(5);
/// The preface and a frame without settings (RFC 9113, §3.4).
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DATA: u8 = 0;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn spin() {
    let began = Instant::now();
    while began.elapsed() < SPIN {
        std::hint::spin_loop();
    }
}

/// A socket that may take its time to write.
struct Socket {
    stream: DuplexStream,
    spins: bool,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.spins {
            spin();
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A client, and the server that serves it and nobody else.
struct Client {
    app: Arc<App>,
    socket: DuplexStream,
    next_stream: u8,
    server: JoinHandle<()>,
}

impl Client {
    async fn connect(config: Config, writing_spins: bool) -> Self {
        Self::of(app_for_tests(config), writing_spins).await
    }

    async fn of(app: Arc<App>, writing_spins: bool) -> Self {
        let (stream, mut socket) = tokio::io::duplex(1 << 20);
        let theirs = Socket {
            stream,
            spins: writing_spins,
        };
        let server = tokio::spawn(serve(Arc::clone(&app), theirs));
        socket.write_all(BEGINNING).await.expect("the server reads");
        Self {
            app,
            socket,
            next_stream: 1,
            server,
        }
    }

    /// Sends a request without a body. The numbers are those of RFC 7541, appendix A.
    async fn ask(&mut self, method: &str, path: &str) {
        let mut fields = vec![0x86];
        for (name, value) in [(2, method), (4, path), (1, "localhost")] {
            fields.extend([name, u8::try_from(value.len()).expect("a short value")]);
            fields.extend(value.as_bytes());
        }
        let length = u8::try_from(fields.len()).expect("a short head");
        let frame = [0, 0, length, 1, 0b101, 0, 0, 0, self.next_stream];
        self.next_stream += 2;
        let sent = [&frame[..], &fields].concat();
        self.socket.write_all(&sent).await.expect("the server reads");
    }

    /// Gives up the request of that stream (RFC 9113, §6.4).
    async fn give_up(&mut self, stream: u8) {
        let frame = [0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 8];
        self.socket.write_all(&frame).await.expect("the server reads");
    }

    /// What comes next of the body of an answer, and what reads are known to have taken by then.
    async fn next_data(&mut self) -> (Vec<u8>, Duration) {
        loop {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.socket.read_exact(&mut payload).await.expect("all of it");
            if head[3] == DATA && !payload.is_empty() {
                return (payload, Duration::from_nanos(self.app.read_share.taken_ns()));
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(app: Arc<App>, socket: Socket) {
    let answer = || Bytes::from_static(b"answer");
    let slow = move || async move {
        spin();
        Body::from_stream(futures_util::stream::once(async move {
            spin();
            io::Result::Ok(answer())
        }))
    };
    let side = axum::Router::new()
        .route("/slow", get(slow).post(slow))
        .route("/quick", get(move || async move { answer() }))
        .merge(panics::routes());
    let peer = Peer::new([127, 0, 0, 1].into(), false, &app.config.proxy.trusted);
    let visitor = Visitor::admit(&app, peer).expect("the first connection");
    serve_http2(&app, socket, &Arc::new(visitor), side, timeouts(&app)).await;
}

/// What reads have taken once there is the answer to that.
async fn taken_by(method: &str, path: &str, writing_spins: bool) -> Duration {
    let mut client = Client::connect(Config::default(), writing_spins).await;
    client.ask(method, path).await;
    let (body, taken) = client.next_data().await;
    assert_eq!(body, b"answer");
    taken
}

/// hyper makes answers in tasks of their own, at which no meter looked: only the connection's own task was measured, so
/// that reads in HTTP/2 took more than their share.
#[tokio::test]
async fn what_it_takes_to_make_an_answer_in_http_2_and_its_body_is_paid_for() {
    let taken = taken_by("GET", "/slow", false).await;
    assert!(taken >= 2 * SPIN, "{taken:?}");
}

#[tokio::test]
async fn what_it_takes_to_write_the_answer_to_a_read_in_http_2_is_paid_for() {
    let taken = taken_by("GET", "/quick", true).await;
    // A part of it is for the bytes that came.
    assert!(taken >= SPIN * 3 / 4, "{taken:?}");
}

#[tokio::test]
async fn what_takes_time_in_http_2_and_is_no_read_is_not_paid_for_by_reads() {
    assert_eq!(taken_by("POST", "/slow", true).await, Duration::ZERO);
}

/// To deliver what appends bring is a part of appending, on whatever way it goes.
#[tokio::test]
async fn an_event_stream_in_http_2_pays_for_nothing_at_its_tail() {
    let mut client = Client::connect(Config::default(), false).await;
    let name = create(&client.app, "live").await;
    client.ask("GET", "/v1/stream/live?offset=now&live=sse").await;
    let (_placed, before) = client.next_data().await;
    for _ in 0..10 {
        append(&client.app, &name).await;
        let (_event, taken) = client.next_data().await;
        assert_eq!(taken, before);
    }
}

/// A client that had made more requests than it may was refused at the cost of nobody in HTTP/2, and of all readers in
/// HTTP/1.1.
#[tokio::test]
async fn a_read_that_is_refused_for_its_clients_limit_is_measured_as_a_refusal() {
    let mut config = Config::default();
    config.limits.max_client_reads_per_sec = 1;
    config.limits.client_burst = Duration::from_secs(1);
    let mut client = Client::connect(config, false).await;
    let mut taken_before = Duration::ZERO;
    loop {
        client.ask("GET", "/quick").await;
        let (body, taken) = client.next_data().await;
        if body != b"answer" {
            assert!(body.starts_with(b"{"), "a problem document");
            // It is told of by the connection too, but only if it is known to be one.
            assert!(taken > taken_before);
            return;
        }
        // On a slow machine a second may have passed, and the next one is not refused.
        taken_before = taken;
    }
}

/// An app in which a read waits for its turn all day, for something has just been written.
async fn app_without_turns() -> Arc<App> {
    let mut config = Config::default();
    config.limits.max_read_share_percent = 0;
    config.limits.max_read_wait_ms = DAY_MS;
    let app = app_for_tests(config);
    create(&app, "written").await;
    app
}

async fn create(app: &App, name: &str) -> StreamName {
    let name = StreamName::parse(name, app.name_limits).expect("a name");
    let command = CreateCommand::default();
    app.engine.create(&name, command).await.expect("created");
    name
}

async fn append(app: &App, name: &StreamName) {
    let append = AppendRequest {
        body: Bytes::from_static(b"event"),
        content_type: Some(ContentType::default()),
        ..AppendRequest::default()
    };
    app.engine.append(name, append).await.expect("appended");
}

async fn until_so_many_wait(app: &App, count: usize) {
    while app.read_share.waiting() != count {
        tokio::task::yield_now().await;
    }
}

/// Whoever asked and gave up while it waited, over and over, paid nothing for what that took.
#[tokio::test]
async fn a_read_in_http_2_that_is_given_up_while_it_waits_is_paid_for() {
    let mut client = Client::of(app_without_turns().await, false).await;
    client.ask("GET", "/quick").await;
    until_so_many_wait(&client.app, 1).await;
    assert_eq!(
        client.app.read_share.taken_ns(),
        0,
        "nobody knows what becomes of it"
    );
    client.give_up(1).await;
    until_so_many_wait(&client.app, 0).await;
    assert!(client.app.read_share.taken_ns() > 0);
}
