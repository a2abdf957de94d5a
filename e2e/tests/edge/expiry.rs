//! Nobody reads on behind the end of a token: event streams end there, long-polls are answered, and who comes again
//! needs a new one. The server would let them wait for an hour otherwise, without a comment, so nothing else ends them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tailwater_e2e::edge::Caller;
use tailwater_e2e::issuer::{Signer, claims, now};
use tailwater_e2e::{Edge, Events, PATIENCE, Server, authority, edge};

/// How long tokens are valid here, in seconds. Long enough to begin with them.
const LIFETIME: u64 = 10;
const STREAMS: &[&str] = &["read:*", "write:*"];

fn start() -> (Server, Edge) {
    let server = edge::server(&[
        ("DS_HTTP__SSE_MAX_SECS", "3600"),
        ("DS_HTTP__SSE_KEEP_ALIVE_SECS", "3600"),
        ("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "3600"),
    ]);
    let edge = Edge::before(server.address());
    (server, edge)
}

/// A token that ends soon, and when that is.
fn short_token(edge: &Edge) -> (String, u64) {
    let mut claims = claims(STREAMS);
    let expires = now() + LIFETIME;
    claims["exp"] = expires.into();
    (Signer::of(&edge.file("")).sign(&claims), expires)
}

/// Panics unless that time has come. It is asked behind what must not happen before.
#[track_caller]
fn assert_over(expires: u64, what: &str) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is behind 1970");
    assert!(
        now.as_secs() >= expires,
        "{what} ended at {now:?}, before {expires}"
    );
}

#[track_caller]
fn next_data(events: &mut Events) -> tailwater_e2e::Event {
    std::iter::from_fn(|| events.next_event())
        .find(|event| event.kind == "data")
        .expect("an event with data")
}

#[test]
fn an_event_stream_ends_with_its_token_and_goes_on_with_a_new_one() {
    let (server, edge) = start();
    let lasting = edge.caller(&edge.token(&["--write", "*", "--read", "*"]));
    lasting.create("runs/1");
    let (token, expires) = short_token(&edge);
    let caller = edge.caller(&token);
    // Whatever the client says of its deadline, and whichever way it follows.
    let request = caller
        .request("GET", "runs/1?offset=-1&live=sse")
        .header("X-Tailwater-Deadline", "99999999999");
    let mut events = edge.connect().follow(&request);
    let mut records = edge
        .connect()
        .follow(&caller.request("GET", "runs/1?offset=-1&live=sse&view=records"));
    let mut changes = edge
        .connect()
        .follow(&caller.request("GET", "__ds/changes?live=sse"));
    lasting.append("runs/1", "1");
    let seen = next_data(&mut events);
    assert_eq!(seen.messages(), [1]);

    for (name, events) in [
        ("data", &mut events),
        ("records", &mut records),
        ("changes", &mut changes),
    ] {
        while events.next_event().is_some() {}
        assert!(events.ended_cleanly(), "{name} was cut off");
        assert_over(expires, name);
    }
    let resume = |caller: &Caller<'_>| {
        caller
            .request("GET", "runs/1?offset=-1&live=sse")
            .header("Last-Event-ID", seen.id.as_deref().expect("an id"))
    };
    // For the second that clocks may differ by the edge lets it in, and the server does not.
    edge.send(&resume(&caller)).expect(401);
    lasting.append("runs/1", "2");
    let mut events = edge.connect().follow(&resume(&lasting));
    assert_eq!(next_data(&mut events).messages(), [2]);
    server.stop();
}

#[test]
fn a_long_poll_is_answered_when_its_token_ends() {
    let (server, edge) = start();
    let lasting = edge.caller(&edge.token(&["--write", "*", "--read", "*"]));
    lasting.create("runs/1");
    let (token, expires) = short_token(&edge);
    let caller = edge.caller(&token);
    let mut polls = ["runs/1?offset=now&live=long-poll", "__ds/changes?live=long-poll"].map(|path| {
        let mut connection = edge.connect();
        let request = caller
            .request("GET", path)
            .header("x-tailwater-deadline", "99999999999");
        connection.write(&request.encode()).expect("the edge reads");
        connection
    });
    for poll in &mut polls {
        let answer = poll.read_response("GET").expect("an answer").expect("an answer");
        assert!(matches!(answer.status(), 200 | 204), "{answer:?}");
        assert_over(expires, "a long-poll");
    }
    server.stop();
}

/// A connection of HTTP/2 outlives its first token. A tail on it does not, and the next one brings another token.
#[test]
fn a_tail_by_http_2_ends_with_its_token_while_its_connection_goes_on() {
    let (server, edge) = start();
    let lasting = edge.token(&["--write", "*", "--read", "*"]);
    edge.caller(&lasting).create("runs/1");
    let pem = std::fs::read_to_string(edge.file("certificate.pem")).expect("a certificate");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let followed = async {
        let tls = authority::trusting(&pem, &["h2"]);
        tokio::time::timeout(PATIENCE, follow_twice(&edge, tls, &lasting)).await
    };
    runtime.block_on(followed).expect("it ends");
    server.stop();
}

async fn follow_twice(edge: &Edge, tls: Arc<rustls::ClientConfig>, lasting: &str) {
    let socket = tokio::net::TcpStream::connect(edge.address())
        .await
        .expect("the edge listens");
    let name = "localhost".try_into().expect("a name");
    let connector = tokio_rustls::TlsConnector::from(tls);
    let socket = connector.connect(name, socket).await.expect("a handshake");
    let executor = TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(socket))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let request = |token: &str| {
        http::Request::get(format!("{}/v1/stream/runs/1?offset=-1&live=sse", edge.origin()))
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::<bytes::Bytes>::new())
            .expect("a valid request")
    };
    let (token, expires) = short_token(edge);
    let tail = sender.send_request(request(&token)).await.expect("an answer");
    assert_eq!(tail.status(), 200);
    let mut tail = tail.into_body();
    while let Some(frame) = tail.frame().await {
        frame.expect("the tail ends in good order");
    }
    assert_over(expires, "the tail");
    let status = sender
        .send_request(request(&token))
        .await
        .expect("an answer")
        .status();
    assert_eq!(status, 401);
    let tail = sender.send_request(request(lasting)).await.expect("an answer");
    assert_eq!(tail.status(), 200);
    tail.into_body()
        .frame()
        .await
        .expect("it begins")
        .expect("a frame");
}
