//! Connections that are too many, too slow or too busy, and those to the server that break.

use std::io::ErrorKind;
use std::sync::Arc;

use rustls::ClientConfig;
use tailwater_e2e::edge::{Caller, Configuration};
use tailwater_e2e::frames::{
    ACK, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, field, frame, read_frame,
};
use tailwater_e2e::recorder::Recorder;
use tailwater_e2e::{Connection, Edge, Request, authority, edge, eventually};

/// Requests that a connection of HTTP/2 may have at once, as the configurations have it.
const REQUESTS_AT_ONCE: u32 = 100;
/// The number of the setting that says so (RFC 9113, §6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;
const HEALTH: &str = "/healthz";

#[test]
fn one_connection_too_many_is_closed_until_there_is_room() {
    let server = edge::server(&[]);
    let configuration = Configuration::development(server.address()).set("connections", "3");
    let edge = Edge::of(configuration);
    let tls = trusting(&edge, &[]);
    let is_served = |connection: &mut Connection| {
        let sent = connection.write(&Request::new("GET", HEALTH).encode());
        let answer = sent.and_then(|()| connection.read_response("GET"));
        matches!(answer, Ok(Some(answer)) if answer.status() == 200)
    };
    let mut held: Vec<_> = (0..3).map(|_| edge.connect()).collect();
    for connection in &mut held {
        assert!(is_served(connection));
    }
    for _ in 0..5 {
        let refused = edge.try_connect_as(&tls);
        assert!(!refused.is_ok_and(|mut connection| is_served(&mut connection)));
    }
    assert!(held.iter_mut().all(is_served), "those that are there go on");
    held.pop();
    eventually("there is room again", || {
        let connected = edge.try_connect_as(&tls);
        connected
            .is_ok_and(|mut connection| is_served(&mut connection))
            .then_some(())
    });
    server.stop();
}

#[test]
fn a_head_that_does_not_come_in_time_is_not_waited_for() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    let mut slow = edge.connect();
    slow.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        .expect("the edge reads");
    let answer = slow
        .read_response("GET")
        .expect("the edge ends it before the test does");
    assert!(answer.is_none_or(|answer| answer.status() == 408));
    edge.send(&Request::new("GET", HEALTH)).expect(200);
    server.stop();
}

/// Each tail is a connection to the server, so one client may not have any number of them on one of its own.
#[test]
fn one_connection_of_http_2_has_so_many_requests_at_once_and_no_more() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    let token = edge.token(&["--read", "runs/", "--write", "runs/"]);
    edge.caller(&token).create("runs/1");
    let mut connection = edge
        .try_connect_as(&trusting(&edge, &["h2"]))
        .expect("a connection");
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    connection.write(&bytes).expect("the edge reads");
    let told = read_frame(&mut connection).expect("its settings");
    assert_eq!(told.kind, SETTINGS);
    let at_once = told.payload.chunks(6).find_map(|setting| {
        let (name, value) = setting.split_at(2);
        (name == MAX_CONCURRENT_STREAMS.to_be_bytes()).then_some(value)
    });
    assert_eq!(at_once, Some(&REQUESTS_AT_ONCE.to_be_bytes()[..]));
    connection
        .write(&frame(SETTINGS, ACK, 0, &[]))
        .expect("the edge reads");

    let authorization = format!("Bearer {token}");
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/v1/stream/runs/1?offset=-1&live=sse"),
        (":authority", "localhost"),
        ("authorization", &authorization),
    ];
    let block = fields.map(|(name, value)| field(name.as_bytes(), value.as_bytes()));
    let block = block.concat();
    let mut ask = |number: u32| {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &block);
        connection.write(&request)?;
        loop {
            let frame = read_frame(&mut connection)?;
            if frame.stream == 2 * number + 1 && [HEADERS, RST_STREAM].contains(&frame.kind) {
                return std::io::Result::Ok(frame.kind);
            }
        }
    };
    for number in 0..REQUESTS_AT_ONCE {
        assert_eq!(ask(number).expect("an answer"), HEADERS, "{number}");
    }
    match ask(REQUESTS_AT_ONCE) {
        Ok(kind) => assert_eq!(kind, RST_STREAM, "it is answered"),
        Err(error) => assert!(
            !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "it is left without an answer: {error}"
        ),
    }
    server.stop();
}

/// A server that dies of a request has perhaps done what it asked for. Nobody but the client can know whether to try again,
/// by an idempotent producer.
#[test]
fn what_has_been_sent_to_the_server_is_not_sent_again() {
    let recorder = Recorder::start_hanging_up();
    let edge = Edge::before(recorder.address());
    let caller = edge.caller(&edge.token(&["--read", "runs/", "--write", "runs/"]));
    let sent = |caller: &Caller<'_>, method: &str| {
        let before = recorder.requests().len();
        let forced = caller
            .request(method, "runs/1")
            .header("X-Envoy-Retry-On", "5xx,reset,gateway-error")
            .header("X-Envoy-Max-Retries", "3");
        assert_eq!(edge.send(&forced).status(), 503, "{method}");
        // The edge has answered, so it tries nothing more.
        recorder.requests().len() - before
    };
    for method in ["POST", "PUT", "DELETE", "GET", "HEAD"] {
        assert_eq!(sent(&caller, method), 1, "{method}");
    }
    assert_eq!(edge.envoy().stat("cluster.server.upstream_rq_retry"), 0);
}

/// A client that trusts the certificate of this edge.
fn trusting(edge: &Edge, protocols: &[&str]) -> Arc<ClientConfig> {
    let pem = std::fs::read_to_string(edge.file("certificate.pem")).expect("envoy/setup has made it");
    authority::trusting(&pem, protocols)
}
