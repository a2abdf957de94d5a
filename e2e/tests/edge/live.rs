//! Live reads through the edge. An event is appended only once the one before has arrived, so an edge that collected
//! events would be waited for in vain.

use std::sync::Arc;

use bytes::Bytes;
use http::Request as HttpRequest;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tailwater_e2e::edge::Configuration;
use tailwater_e2e::{Edge, Events, PATIENCE, Request, authority, edge, eventually};

const OPTIONS: &[&str] = &["--read", "runs/", "--write", "runs/"];

/// The next event with data.
#[track_caller]
fn next_data(events: &mut Events) -> tailwater_e2e::Event {
    loop {
        let event = events.next_event().expect("the event stream goes on");
        if event.kind == "data" {
            return event;
        }
    }
}

#[test]
fn each_event_arrives_before_the_next_one_is_written() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    let caller = edge.caller(&edge.token(OPTIONS));
    caller.create("runs/1");
    let mut events = caller.follow("runs/1", "-1");
    let mut delays = Vec::new();
    for number in 0..200 {
        let written = std::time::Instant::now();
        caller.append("runs/1", &number.to_string());
        assert_eq!(next_data(&mut events).messages(), [number]);
        delays.push(written.elapsed());
    }
    delays.sort();
    println!(
        "from append to event: median {:?}, longest {:?}",
        delays[100], delays[199]
    );

    // A reader that comes again with the last id goes on behind it, also after it was away for some.
    let last = next_id(&caller, &mut events);
    drop(events);
    caller.append("runs/1", "201");
    let again = caller
        .request("GET", "runs/1?offset=-1&live=sse")
        .header("Last-Event-ID", &last);
    let mut events = edge.connect().follow(&again);
    assert_eq!(next_data(&mut events).messages(), [201]);
    caller.append("runs/1", "202");
    assert_eq!(next_data(&mut events).messages(), [202]);
    let closing = caller.request("POST", "runs/1").header("Stream-Closed", "true");
    edge.send(&closing).expect(204);
    let end = std::iter::from_fn(|| events.next_event())
        .last()
        .expect("an event");
    assert!(end.says_closed() && events.ended_cleanly(), "{end:?}");
    let over = caller
        .request("GET", "runs/1?offset=-1&live=sse")
        .header("Last-Event-ID", &end.id.expect("the last event has an id"));
    edge.send(&over).expect(204);
    server.stop();
}

/// Appends once more and returns the id of its event.
#[track_caller]
fn next_id(caller: &edge::Caller<'_>, events: &mut Events) -> String {
    caller.append("runs/1", "200");
    next_data(events).id.expect("an id")
}

#[test]
fn long_polls_wait_at_the_edge_and_are_answered_by_the_next_append() {
    let server = edge::server(&[("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "2")]);
    let edge = Edge::before(server.address());
    let caller = edge.caller(&edge.token(OPTIONS));
    caller.create("runs/1");
    let mut offset = "now".to_owned();
    let mut connection = edge.connect();
    for number in 0..50 {
        let poll = caller.request("GET", &format!("runs/1?offset={offset}&live=long-poll"));
        connection.write(&poll.encode()).expect("the edge reads");
        eventually("the poll waits", || {
            let page = server.get("/metrics");
            page.text().contains("\ntailwater_live_readers 1\n").then_some(())
        });
        caller.append("runs/1", &number.to_string());
        let answer = connection
            .read_response("GET")
            .expect("an answer")
            .expect("an answer")
            .expect(200);
        assert_eq!(answer.json(), serde_json::json!([number]));
        answer.expect_header("stream-next-offset").clone_into(&mut offset);
    }
    // One that waits in vain is answered by the server, and not by a timeout of the edge.
    let poll = caller.request("GET", &format!("runs/1?offset={offset}&live=long-poll"));
    connection.send(&poll).expect(204);
    let changes = edge.caller(&edge.token(&["--read", "*"]));
    changes.send("GET", "__ds/changes?live=long-poll").expect(200);
    server.stop();
}

/// A silent tail carries comments, and is neither ended nor held up for want of data.
#[test]
fn a_silent_tail_carries_the_comments_of_the_server() {
    let server = edge::server(&[("DS_HTTP__SSE_KEEP_ALIVE_SECS", "1")]);
    let edge = Edge::before(server.address());
    let caller = edge.caller(&edge.token(OPTIONS));
    caller.create("runs/1");
    let mut events = caller.follow("runs/1", "-1");
    events.await_comment();
    caller.append("runs/1", "1");
    assert_eq!(next_data(&mut events).messages(), [1]);
    server.stop();
}

#[test]
fn http_2_carries_many_tails_and_appends_on_one_connection() {
    let server = edge::server(&[]);
    let configuration = Configuration::development(server.address());
    let pem =
        std::fs::read_to_string(configuration.directory().join("certificate.pem")).expect("a certificate");
    let edge = Edge::of(configuration);
    let caller = edge.caller(&edge.token(OPTIONS));
    caller.create("runs/1");
    let token = edge.token(OPTIONS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let tls = authority::trusting(&pem, &["h2", "http/1.1"]);
    let spoken = async { tokio::time::timeout(PATIENCE, speak_http_2(&edge, tls, &token)).await };
    runtime.block_on(spoken).expect("it ends");
    server.stop();
}

async fn speak_http_2(edge: &Edge, tls: Arc<rustls::ClientConfig>, token: &str) {
    const TAILS: usize = 50;
    let socket = tokio::net::TcpStream::connect(edge.address())
        .await
        .expect("the edge listens");
    let name = "localhost".try_into().expect("a name");
    let socket = tokio_rustls::TlsConnector::from(tls)
        .connect(name, socket)
        .await
        .expect("a handshake");
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let uri = format!("{}/v1/stream/runs/1", edge.origin());
    let request = |method: &str, query: &str, body: &str| {
        HttpRequest::builder()
            .method(method)
            .uri(format!("{uri}{query}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("a valid request")
    };
    let mut tails = Vec::new();
    for _ in 0..TAILS {
        let followed = sender.send_request(request("GET", "?offset=-1&live=sse", ""));
        let followed = followed.await.expect("an answer");
        assert_eq!(followed.status(), 200);
        tails.push((followed.into_body(), String::new()));
    }
    for number in 0..5 {
        let appended = sender.send_request(request("POST", "", &format!("\"number {number}\"")));
        assert_eq!(appended.await.expect("an answer").status(), 204);
        for (events, seen) in &mut tails {
            while !seen.contains(&format!("number {number}")) {
                let frame = events.frame().await.expect("more events").expect("a frame");
                seen.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
            }
        }
    }
    let refused = HttpRequest::get(&uri)
        .body(Full::default())
        .expect("a valid request");
    assert_eq!(
        sender.send_request(refused).await.expect("an answer").status(),
        401
    );
    drop((sender, tails));
    connection
        .await
        .expect("a task")
        .expect("the connection ends in good order");
}

/// While the server is away, clients are told so; once it is back, the same edge serves them again, and a reader goes
/// on where it was.
#[test]
fn a_server_that_is_started_again_is_found_by_the_same_edge() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().display().to_string();
    let on_disk = [
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", data.as_str()),
    ];
    let server = edge::server(&on_disk);
    let edge = Edge::before(server.address());
    let caller = edge.caller(&edge.token(OPTIONS));
    caller.create("runs/1");
    let mut events = caller.follow("runs/1", "-1");
    caller.append("runs/1", "1");
    let seen = next_data(&mut events);
    let address = server.address().to_string();
    server.stop();
    while events.next_event().is_some() {}

    for request in [
        caller.request("GET", "runs/1"),
        caller.request("POST", "runs/1").body("2"),
    ] {
        let answer = edge.send(&request).expect(503);
        assert_eq!(answer.problem(), "unavailable");
    }
    edge.send(&Request::new("GET", "/healthz")).expect(503);

    let bound = [
        on_disk[0],
        on_disk[1],
        ("DS_SERVER__BIND_ADDRESS", address.as_str()),
    ];
    let server = edge::server(&bound);
    let again = caller
        .request("GET", "runs/1?offset=-1&live=sse")
        .header("Last-Event-ID", &seen.id.expect("an id"));
    let mut events = edge.connect().follow(&again);
    caller.append("runs/1", "3");
    assert_eq!(next_data(&mut events).messages(), [3]);
    assert_eq!(server.stream("runs/1").messages(), [1, 3]);
    server.stop();
}
