//! Streams by TLS are what they are in clear, in every version and protocol; and connections end in good order.

use std::sync::Arc;

use bytes::Bytes;
use http::Request as HttpRequest;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ProtocolVersion};
use tailwater_e2e::{Connection, Request, Server, eventually};

use super::certificates::{Authority, Client, EITHER, Files, NEWER, OLDER};

const TEXT: &str = "text/plain";

#[test]
fn every_version_and_protocol_is_agreed_on_and_no_other() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let server = files.serve(&Client::new(&authority), &[]);
    let versions = [
        (OLDER, ProtocolVersion::TLSv1_2),
        (NEWER, ProtocolVersion::TLSv1_3),
        (EITHER, ProtocolVersion::TLSv1_3),
    ];
    let protocols: [(&'static [&'static str], Option<&[u8]>); 4] = [
        (&[], None),
        (&["http/1.1"], Some(b"http/1.1")),
        (&["h2"], Some(b"h2")),
        (&["http/1.1", "h2"], Some(b"h2")),
    ];
    for (versions, version) in versions {
        for (protocols, protocol) in protocols {
            let client = Client {
                versions,
                protocols,
                ..Client::new(&authority)
            };
            let mut connection = Connection::try_open_tls(server.address(), &client.config())
                .unwrap_or_else(|error| panic!("{version:?} {protocols:?}: {error}"));
            let tls = connection.tls().expect("it is by TLS");
            assert_eq!(tls.protocol_version(), Some(version), "{protocols:?}");
            assert_eq!(tls.alpn_protocol(), protocol, "{version:?} {protocols:?}");
            if protocol != Some(b"h2") {
                connection.send(&Request::new("GET", "/healthz")).expect(200);
            }
        }
    }
    server.stop();
}

#[test]
fn a_stream_is_written_read_awaited_and_followed_by_tls() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    for versions in [OLDER, NEWER] {
        let client = Client {
            versions,
            ..Client::new(&authority)
        };
        let server = files.serve(&client, &[]);
        let stream = server.stream("safe");
        let created = stream.send(&stream.creation()).expect(201);
        let location = format!("https://localhost{}", stream.path());
        assert_eq!(created.header("location"), Some(location.as_str()));

        let mut follower = stream.follow("-1");
        let first = stream.append("1");
        assert_eq!(stream.messages(), [1]);
        let mut poll = stream.connect();
        poll.write(&stream.reading(&first, "&live=long-poll").encode())
            .expect("the server reads");
        let event = loop {
            let event = follower.next_event().expect("an event");
            if event.kind == "data" {
                break event;
            }
        };
        assert_eq!(event.messages(), [1]);
        assert_eq!(event.id.as_deref(), Some(first.as_str()));

        // The follower goes away and comes again where it was, and meanwhile the long-poll is answered.
        drop(follower);
        stream.append("2");
        let polled = poll
            .read_response("GET")
            .expect("an answer")
            .expect("an answer")
            .expect(200);
        assert_eq!(polled.json(), serde_json::json!([2]));
        let mut follower = stream.follow(&first);
        stream.append("3");
        stream.close();
        assert_eq!(follower.messages_to_close(), [2, 3]);
        assert!(follower.next_event().is_none() && follower.ended_cleanly());
        follower
            .read_end()
            .expect("TLS is closed before the connection is");
        server.stop();
    }
}

/// Longer than what sockets and TLS hold together, so that the server has to wait for the reader again and again.
#[test]
fn long_bodies_and_long_events_arrive_whole() {
    const LONG: usize = 9 << 20;
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let server = files.serve(
        &Client::new(&authority),
        &[
            ("DS_LIMITS__READ_CHUNK_BYTES", "10MiB"),
            ("DS_LIMITS__MAX_STREAM_BYTES", "20MiB"),
        ],
    );
    let stream = server.stream("long").of_type(TEXT).create();
    let mut follower = stream.follow("-1");
    let mut body = String::with_capacity(LONG);
    while body.len() < LONG {
        body.push_str(&format!("{:07} ", body.len()));
    }
    stream.append(body.as_str());
    assert_eq!(stream.read("-1").expect(200).text(), body);
    stream.close();
    let mut followed = String::new();
    while let Some(event) = follower.next_event() {
        if event.kind == "data" {
            followed.push_str(&event.data);
        }
    }
    assert!(followed == body, "{} bytes of {}", followed.len(), body.len());
    assert!(follower.ended_cleanly());
    server.stop();
}

#[test]
fn readers_that_take_nothing_are_cut_off_by_tls_too() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let server = files.serve(
        &Client::new(&authority),
        &[
            ("DS_SERVER__WRITE_TIMEOUT_SECS", "1"),
            ("DS_LIMITS__MAX_MEMORY_BYTES", "200MiB"),
            ("DS_LIMITS__MAX_STREAM_BYTES", "100MiB"),
            ("DS_LIMITS__READ_CHUNK_BYTES", "100MiB"),
        ],
    );
    let stream = server.stream("heavy").of_type(TEXT).create();
    (0..5).for_each(|_| drop(stream.append("x".repeat(9 << 20))));
    let mut readers = [stream.connect(), stream.connect()];
    for (reader, more) in readers.iter_mut().zip(["", "&live=sse"]) {
        reader
            .write(&stream.reading("-1", more).encode())
            .expect("the server reads");
    }
    eventually("both are cut off", || {
        let page = server.get("/metrics");
        page.text().contains("\ntailwater_connections 1\n").then_some(())
    });
    server.stop();
}

#[test]
fn a_stop_closes_tls_before_it_closes_connections() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let mut server = files.serve(&Client::new(&authority), &[]);
    let stream = server.stream("stopping").create();
    stream.append("1");
    let tail = stream.tail();
    let mut follower = stream.follow("-1");
    while follower.next_event().expect("an event").kind != "control" {}
    let mut idle = server.connect();
    idle.send(&Request::new("GET", "/healthz")).expect(200);
    let mut poll = stream.connect();
    poll.write(&stream.reading(&tail, "&live=long-poll").encode())
        .expect("the server reads");
    eventually("both readers are live", || {
        let page = server.get("/metrics");
        page.text().contains("\ntailwater_live_readers 2\n").then_some(())
    });

    server.terminate();
    // An end of the connection without one of TLS is an error here, since it could be anybody's.
    while follower.next_event().is_some() {}
    assert!(follower.ended_cleanly());
    follower.read_end().expect("the follower is told");
    let answer = poll.read_response("GET").expect("an answer").expect("an answer");
    assert!(matches!(answer.status(), 204 | 503), "{answer:?}");
    poll.read_end().expect("the long-poll is told");
    idle.read_end().expect("the idle one is told");
    assert!(server.wait().success(), "{}", server.stderr());
}

#[test]
fn http_2_is_spoken_with_those_who_choose_it() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let client = Client {
        protocols: &["h2", "http/1.1"],
        ..Client::new(&authority)
    };
    let mut server = files.serve(&Client::new(&authority), &[]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(speak_http_2(&server, client.config()));
    assert!(server.wait().success(), "{}", server.stderr());
}

/// Writes a stream and follows it on one connection, and lets the server stop meanwhile.
async fn speak_http_2(server: &Server, tls: Arc<ClientConfig>) {
    let socket = tokio::net::TcpStream::connect(server.address())
        .await
        .expect("the server listens");
    let name = "localhost".try_into().expect("a name");
    let socket = tokio_rustls::TlsConnector::from(tls)
        .connect(name, socket)
        .await
        .expect("a handshake");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let uri = format!("https://localhost{}", server.path("h2"));
    let request = |method: &str, query: &str, body: &'static str| {
        HttpRequest::builder()
            .method(method)
            .uri(format!("{uri}{query}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a valid request")
    };
    let created = sender
        .send_request(request("PUT", "", ""))
        .await
        .expect("an answer");
    assert_eq!(created.status(), 201);
    assert_eq!(created.headers()["location"], uri);
    let followed = sender.send_request(request("GET", "?offset=-1&live=sse", ""));
    let mut events = followed.await.expect("an answer").into_body();
    let appended = sender
        .send_request(request("POST", "", "[1,2]"))
        .await
        .expect("an answer");
    assert_eq!(appended.status(), 204);
    let mut seen = String::new();
    while !seen.contains("1,2") {
        let frame = events.frame().await.expect("more events").expect("a frame");
        seen.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
    }
    server.terminate();
    while let Some(frame) = events.frame().await {
        frame.expect("the event stream ends in good order");
    }
    drop((sender, events));
    connection
        .await
        .expect("a task")
        .expect("the connection ends in good order");
}
