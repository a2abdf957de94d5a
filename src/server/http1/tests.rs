//! That a connection is served the same whoever of the two serves a request, and whenever they take turns; in
//! `tests/narrow.rs` through sockets that make it hard.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tailwater_storage::stream::{CreateCommand, StreamName};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Join, ReadHalf, SimplexStream, WriteHalf,
};
use tokio::task::JoinHandle;

use super::{Connection, Left};
use crate::config::{Config, CorsOrigins};
use crate::http::{App, Peer, Visitor, begin_append};
use crate::limits::Meter;
use crate::server::append_socket::{self, End};
use crate::server::connection::{interruptions, timeouts};
use crate::server::watched::{Activity, Protocol, Watched};
use crate::server::whole_request::{self, WholePost};
use crate::server::{app_for_tests, event_socket, http1};

mod narrow;

const STREAM: &str = "/v1/stream/s";
const PATIENCE: Duration = Duration::from_secs(60);

fn visitor(app: &App) -> Visitor {
    let peer = Peer::new([127, 0, 0, 1].into(), false, &app.config.proxy.trusted);
    Visitor::admit(app, peer).expect("the first connection")
}

type Socket = Join<ReadHalf<SimplexStream>, WriteHalf<SimplexStream>>;

/// Both ends of a connection, on which so many bytes may be on their way to the server, and back.
fn sockets(request_bytes: usize, answer_bytes: usize) -> (Socket, Socket) {
    let (requests, to_server) = tokio::io::simplex(request_bytes);
    let (answers, to_client) = tokio::io::simplex(answer_bytes);
    (
        tokio::io::join(requests, to_client),
        tokio::io::join(answers, to_server),
    )
}

/// A client of a server that has one stream, and nobody else.
struct Client {
    app: Arc<App>,
    socket: Socket,
    server: JoinHandle<()>,
}

impl Client {
    async fn connect() -> Self {
        Self::connect_to(Config::default(), sockets(1 << 20, 1 << 20)).await
    }

    async fn connect_by(sockets: (impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Socket)) -> Self {
        Self::connect_to(Config::default(), sockets).await
    }

    async fn connect_to(
        config: Config,
        (theirs, socket): (impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Socket),
    ) -> Self {
        let app = app_of(config).await;
        let served = Arc::clone(&app);
        let server = tokio::spawn(async move {
            let visitor = visitor(&served);
            let side = axum::Router::new();
            let left = http1::serve(&served, theirs, &visitor, side, timeouts(&served)).await;
            if let Some((stream, response)) = left {
                event_socket::serve(&served, stream, response, PATIENCE).await;
            }
        });
        Self { app, socket, server }
    }

    async fn send(&mut self, bytes: &str) {
        self.socket
            .write_all(bytes.as_bytes())
            .await
            .expect("the server reads");
    }

    /// Sends bytes of which the server has read the first part before the second one comes.
    async fn send_in_two(&mut self, bytes: &str, first: usize) {
        self.send(&bytes[..first]).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        self.send(&bytes[first..]).await;
    }

    /// Appends `a`, by a request that comes whole or is cut there.
    async fn append(&mut self, cut: Option<usize>) {
        match cut {
            None => self.send(&append("a")).await,
            Some(first) => self.send_in_two(&append("a"), first).await,
        }
        self.expect(204).await;
    }

    /// The next byte; none at the end.
    async fn next(&mut self) -> Option<u8> {
        let next = tokio::time::timeout(PATIENCE, self.socket.read_u8()).await;
        next.expect("it comes in time").ok()
    }

    /// The next answer: its head, and its body if the head tells its length.
    async fn answer(&mut self) -> (String, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.next().await.expect("there is more")));
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        self.socket.read_exact(&mut body).await.expect("all of it");
        (head, String::from_utf8(body).expect("a text"))
    }

    /// The next answer has that status.
    async fn expect(&mut self, status: u16) -> (String, String) {
        let (head, body) = self.answer().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}{body}");
        (head, body)
    }

    /// What the stream holds.
    async fn read(&mut self) -> String {
        self.send(&format!("GET {STREAM} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .await;
        self.expect(200).await.1
    }
}

async fn app() -> Arc<App> {
    app_of(Config::default()).await
}

/// One with a stream.
async fn app_of(mut config: Config) -> Arc<App> {
    // A read that had to wait for its turn would wait for ever: nobody gives turns here.
    config.limits.max_read_share_percent = 100;
    let app = app_for_tests(config);
    let name = StreamName::parse("s", app.name_limits).expect("a name");
    let command = CreateCommand::default();
    app.engine.create(&name, command).await.expect("created");
    app
}

fn append(body: &str) -> String {
    append_to(STREAM, body)
}

fn append_to(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

fn chunked(body: &str) -> String {
    let length = body.len();
    format!(
        "POST {STREAM} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n\
         transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
    )
}

/// Wherever a request is cut in two, it is read once, and so are those around it.
#[tokio::test]
async fn an_append_may_come_in_two_parts_wherever_they_are_cut() {
    let mut client = Client::connect().await;
    let length = append("b").len();
    for first in 1..length {
        for body in ["a", "b", "c"] {
            let first = if body == "b" { first } else { length };
            client.send_in_two(&append(body), first).await;
            client.expect(204).await;
        }
    }
    assert_eq!(client.read().await, "abc".repeat(length - 1));
}

/// Requests that stand behind others in what was read at once belong to whoever serves the connection next.
#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order_wherever_they_are_cut() {
    let get = format!("GET {STREAM} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let all = [
        &append("1"),
        &chunked("2"),
        &append("3"),
        &get,
        &append("4"),
        &append("5"),
    ];
    let all: String = all.into_iter().map(String::as_str).collect();
    for first in 1..=all.len() {
        let mut client = Client::connect().await;
        client.send_in_two(&all, first).await;
        for _ in 0..3 {
            client.expect(204).await;
        }
        assert_eq!(client.expect(200).await.1, "123", "{first}");
        for _ in 0..2 {
            client.expect(204).await;
        }
        assert_eq!(client.read().await, "12345", "{first}");
    }
}

/// hyper may have read far ahead when it has answered an append.
#[tokio::test]
async fn nothing_is_lost_of_many_requests_that_stand_behind_a_large_one() {
    const COUNT: usize = 1500;
    let mut client = Client::connect().await;
    let large = "a".repeat(200 << 10);
    client.send(&(chunked(&large) + &append("b").repeat(COUNT))).await;
    for _ in 0..=COUNT {
        client.expect(204).await;
    }
    assert_eq!(client.read().await.len(), large.len() + COUNT);
}

/// A connection that has sent one append in two parts would be slower for ever.
#[tokio::test]
async fn a_connection_comes_back_from_hyper_once_it_appends_and_not_before() {
    let app = app().await;
    let (theirs, mut ours) = sockets(1 << 16, 1 << 16);
    let activity = Arc::new(Activity::new(Protocol::Http1));
    let connection = Connection {
        app: &app,
        visitor: &visitor(&app),
        side: &axum::Router::new(),
        meter: &Meter::default(),
    };
    let missing = append_to("/v1/stream/none", "a");
    let get = format!("GET {STREAM} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    ours.write_all((missing + &get).as_bytes())
        .await
        .expect("there is room");
    let mut interruptions = interruptions(&app, &activity, timeouts(&app));
    let stream = Watched::new(theirs, Arc::clone(&activity));
    let mut served = pin!(connection.serve_all_else(stream, &mut interruptions));
    for _ in 0..4 {
        let polled = poll_fn(|context| Poll::Ready(served.as_mut().poll(context).is_pending()));
        assert!(polled.await, "it is still hyper's");
    }
    ours.write_all((append("a") + "POST").as_bytes())
        .await
        .expect("there is room");
    let left = tokio::time::timeout(PATIENCE, served)
        .await
        .expect("it comes in time");
    let Left::Appending(mut stream) = left else {
        panic!("it has not come back");
    };
    let mut next = [0; 4];
    stream
        .read_exact(&mut next)
        .await
        .expect("what hyper has read of the next one");
    assert_eq!(&next, b"POST");
}

/// Only the date and the offset may have other values.
#[tokio::test]
async fn an_append_has_the_same_answer_whoever_serves_it() {
    let fields = |head: &str| {
        let comparable = |line: &str| match line.split_once(": ") {
            Some((name @ ("date" | "stream-next-offset"), _)) => name.to_owned(),
            _ => line.to_owned(),
        };
        let mut fields: Vec<_> = head.lines().map(comparable).collect();
        fields.sort();
        fields
    };
    let mut with_much_to_say = Config::default();
    let pages = vec!["http://page".to_owned(), "http://other".to_owned()];
    with_much_to_say.http.cors_origins = CorsOrigins::List(pages);
    with_much_to_say.limits.max_client_writes_per_sec = 10;
    let with = |field: &str| append("a").replace("host:", &format!("{field}\r\nhost:"));
    let producer = |seq: u64| {
        with(&format!(
            "Producer-Id: p\r\nProducer-EPOCH: 0\r\nproducer-seq: {seq}"
        ))
    };
    for request in [
        append("a"),
        append_to("/v1/stream/none", "a"),
        append_to("/v1/stream/%zz", "a"),
        append(""),
        append("a").replace("octet-stream", "json"),
        append("").replace("host:", "Stream-Closed: true\r\nhost:"),
        producer(0),
        producer(9),
        with("producer-id: p"),
        with("stream-seq: \u{e9}"),
        with("Stream-Seq: 1\r\nstream-seq: 1"),
        with("Origin: http://page"),
        with("Origin: http://stranger"),
        with("If-Match: \"0\""),
        with("Content-Encoding: gzip"),
    ] {
        for config in [Config::default(), with_much_to_say.clone()] {
            let mut client = Client::connect_to(config.clone(), sockets(1 << 20, 1 << 20)).await;
            client.send(&request).await;
            let (ours, our_body) = client.answer().await;
            let mut client = Client::connect_to(config, sockets(1 << 20, 1 << 20)).await;
            client.send_in_two(&request, 20).await;
            let (hypers, its_body) = client.answer().await;
            assert_eq!(fields(&ours), fields(&hypers), "{request}");
            assert_eq!(our_body, its_body, "{request}");
        }
    }
}

/// A client that sends the next append while the last one is on its way never lets the connection wait.
#[tokio::test]
async fn no_append_is_begun_once_the_server_stops_and_the_last_answer_says_so() {
    let app = app().await;
    let (theirs, mut ours) = sockets(1 << 16, 1 << 16);
    let mut stream = Watched::new(theirs, Arc::new(Activity::new(Protocol::Http1)));
    let (visitor, meter) = (visitor(&app), Meter::default());
    let begun = append("a");
    let mut room = whole_request::room();
    let post = WholePost::decode(begun.as_bytes(), &mut room, 1 << 10).expect("whole");
    let mut begun = begin_append(&app, &visitor, &meter, &post, post.body).expect("an append");
    app.stop();
    ours.write_all(append("b").as_bytes())
        .await
        .expect("there is room");
    let left = append_socket::answer(&app, &mut stream, &mut begun).await;
    assert_eq!(left.expect("a pipe"), b"", "there is room for it");
    let end = append_socket::serve(&app, &mut stream, &visitor, &meter).await;
    assert_eq!(end.expect("a pipe"), End::Closed);
    let mut answers = String::new();
    ours.read_to_string(&mut answers).await.expect("a text");
    assert_eq!(answers.matches("HTTP/1.1 204").count(), 1, "{answers}");
    assert!(answers.contains("connection: close\r\n"), "{answers}");
}

#[tokio::test]
async fn an_append_that_is_refused_leaves_the_connection_as_it_is() {
    let mut client = Client::connect().await;
    for _ in 0..2 {
        client.send(&append_to("/v1/stream/none", "a")).await;
        let (head, body) = client.expect(404).await;
        assert!(
            head.contains("content-type: application/problem+json\r\n"),
            "{head}"
        );
        assert!(body.contains("\"status\":404"), "{body}");
        client.send(&append("a")).await;
        client.expect(204).await;
    }
    assert_eq!(client.read().await, "aa");
}

/// A connection that stayed with hyper, or that hyper had something left of, would hold hyper's buffers for each reader.
#[tokio::test]
async fn an_event_stream_behind_an_append_is_served_past_hyper() {
    for cut in [None, Some(20)] {
        let mut client = Client::connect().await;
        client.append(cut).await;
        let request = format!("GET {STREAM}?offset=-1&live=sse HTTP/1.1\r\nhost: localhost\r\n\r\n");
        client.send(&request).await;
        let (head, _body) = client.expect(200).await;
        assert!(head.contains("connection: close\r\n"), "{head}");
    }
}

#[tokio::test]
async fn a_connection_that_waits_for_an_append_ends_when_the_server_stops() {
    for cut in [None, Some(20)] {
        let mut client = Client::connect().await;
        client.append(cut).await;
        client.app.stop();
        assert_eq!(client.next().await, None, "nothing but the end");
        (&mut client.server).await.expect("it ends by itself");
    }
}

#[tokio::test]
async fn a_client_that_has_closed_its_side_gets_its_answer_and_the_end() {
    let mut client = Client::connect().await;
    client.send(&append("a")).await;
    client.socket.shutdown().await.expect("a pipe");
    client.expect(204).await;
    assert_eq!(client.next().await, None, "nothing but the end");
}

/// What is here is only of use if appends come this way, and nothing else does.
#[tokio::test]
async fn appends_that_come_whole_are_served_before_hyper_and_nothing_else_is() {
    let app = app().await;
    let (theirs, mut ours) = sockets(1 << 16, 1 << 16);
    let mut stream = Watched::new(theirs, Arc::new(Activity::new(Protocol::Http1)));
    let (visitor, meter) = (visitor(&app), Meter::default());
    let get = format!("GET {STREAM} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let side = append_to("/v1/stream/__ds/subscriptions", "{}");
    for other in [&get, &side, &chunked("a"), &append(&"a".repeat(16 << 10))] {
        ours.write_all(append("a").as_bytes())
            .await
            .expect("there is room");
        let served = append_socket::serve(&app, &mut stream, &visitor, &meter);
        let sent = async {
            let mut answer = [0; 12];
            ours.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 204");
            ours.write_all(other.as_bytes()).await.expect("there is room");
        };
        let both = async { tokio::join!(served, sent) };
        let (end, ()) = tokio::time::timeout(PATIENCE, both)
            .await
            .expect("it comes in time");
        assert_eq!(end.expect("a pipe"), End::Other);
        let mut again = vec![0; other.len()];
        stream
            .read_exact(&mut again)
            .await
            .expect("what was put back and what follows");
        assert_eq!(again, other.as_bytes());
        let mut rest = vec![0; 4096];
        let _rest = ours.read(&mut rest).await.expect("the rest of the answer");
    }
    ours.shutdown().await.expect("a pipe");
    let end = append_socket::serve(&app, &mut stream, &visitor, &meter).await;
    assert_eq!(end.expect("a pipe"), End::Closed);
}
