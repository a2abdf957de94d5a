//! A port of its own for metrics, and what it does to the port of streams.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};

use tailwater_e2e::{Connection, Request, Server, eventually};

/// Marks the line of the banner that says where it is.
const METRICS: &str = "  metrics      http://";

/// A server with such a port, and where that is.
fn server_with_port(settings: &[(&str, &str)]) -> (Server, SocketAddr) {
    let server = Server::start_with(&[&[("DS_METRICS__ADDRESS", "127.0.0.1:0")], settings].concat());
    let address = eventually("the server says where its metrics are", || {
        let said = server.stderr();
        let line = said.lines().find_map(|line| line.strip_prefix(METRICS))?;
        line.strip_suffix("/metrics")?.parse().ok()
    });
    (server, address)
}

#[track_caller]
fn get(address: SocketAddr, path: &str) -> tailwater_e2e::Response {
    let mut connection = Connection::try_open(address).expect("the port is listened on");
    connection.send(&Request::new("GET", path))
}

#[test]
fn metrics_have_a_port_of_their_own_and_are_nowhere_else() {
    let (server, port) = server_with_port(&[]);
    server.stream("x").create().append("[1]");
    let page = get(port, "/metrics").expect(200);
    assert!(
        page.text()
            .lines()
            .any(|line| line == "tailwater_appends_total 1"),
        "{}",
        page.text()
    );
    for path in ["/healthz", "/health", "/ok", "/readyz"] {
        get(port, path).expect(200);
        server.get(path).expect(200);
    }
    server.get("/metrics").expect(404);
    for path in [server.path("x"), server.path("__ds/streams"), "/".to_owned()] {
        get(port, &path).expect(404);
    }
    server.stop();
    assert!(TcpStream::connect(port).is_err(), "the port goes with the server");
}

#[test]
fn the_port_answers_while_the_server_has_no_place_for_another_connection() {
    let (server, port) = server_with_port(&[("DS_LIMITS__MAX_CONNECTIONS", "1")]);
    let only = server.connect();
    eventually("nobody else is served", || {
        server.try_connect().ok().and_then(|mut other| {
            other.write(&Request::new("GET", "/healthz").encode()).ok()?;
            let refused = other.read_response("GET").ok()??;
            (refused.status() == 503).then_some(())
        })
    });
    let page = get(port, "/metrics").expect(200);
    for line in [
        "tailwater_connections 1",
        "tailwater_limit{of=\"connections\"} 1",
        "tailwater_refusals_total{code=\"too_many_connections\"} ",
    ] {
        assert!(page.text().contains(line), "{line} is not in {}", page.text());
    }
    drop(only);
    server.stop();
}

/// Whoever holds all places of the port would keep it from those who look after the server.
#[test]
fn clients_that_send_nothing_do_not_keep_the_port_for_themselves() {
    let (server, port) = server_with_port(&[("DS_SERVER__HEADER_TIMEOUT_SECS", "1")]);
    let silent: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(port).expect("the port is listened on");
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\n")
                .expect("it is open");
            stream
        })
        .collect();
    get(port, "/metrics").expect(200);
    drop(silent);
    server.stop();
}

#[test]
fn a_port_that_another_process_has_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let (code, said) = Server::refusal(&[("DS_METRICS__ADDRESS", &address)]);
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "cannot listen on",
        &address,
        "choose another one with DS_METRICS__ADDRESS",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let (code, said) = Server::refusal(&[("DS_METRICS__ADDRESS", "localhost:9")]);
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "DS_METRICS__ADDRESS",
        "`localhost:9`",
        "an IP address with a port",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}
