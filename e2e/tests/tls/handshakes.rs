//! Clients that do not get as far as HTTP cost little, hinder nobody and are sent away.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use tailwater_e2e::{Connection, PATIENCE, Request, Server, eventually};

use super::certificates::{Authority, Client, Files, metric};

const FAILURES: &str = "tailwater_tls_handshake_failures_total";

#[test]
fn a_request_in_clear_is_told_to_come_by_tls_and_nothing_else() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let server = files.serve(&Client::new(&authority), &[]);
    let mut clear = Connection::open(server.address());
    let answer = clear
        .send(&Request::new("PUT", &server.path("clear")))
        .expect(400);
    assert_eq!(answer.problem(), "tls_required");
    clear.read_end().expect("the connection is closed");
    server.get(&server.path("clear")).expect(404);

    // What is neither is dropped.
    let mut neither = Connection::open(server.address());
    neither.write(b"\x00\x01\x02 hello").expect("the server reads");
    let mut said = Vec::new();
    let _ = neither.read_to_end(&mut said);
    assert!(said.len() < 16, "more than an alert: {said:?}");
    assert_eq!(metric(&server, FAILURES), 1);
    server.stop();
}

#[test]
fn tls_on_a_clear_port_ends_and_hinders_nobody() {
    let authority = Authority::new("ours");
    let server = Server::start();
    let error = Connection::try_open_tls(server.address(), &Client::new(&authority).config())
        .expect_err("the server speaks no TLS");
    assert_ne!(
        error.kind(),
        std::io::ErrorKind::WouldBlock,
        "it was kept waiting"
    );
    let page = server.get("/metrics").text().to_owned();
    assert!(!page.contains("tailwater_tls"), "{page}");
    server.assert_well("a client by TLS");
    server.stop();
}

#[test]
fn handshakes_that_never_end_are_cut_off_and_hinder_nobody() {
    const STALLED: usize = 50;
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let server = files.serve(
        &Client::new(&authority),
        &[("DS_SERVER__HEADER_TIMEOUT_SECS", "3600")],
    );
    let stalled: Vec<_> = (0..STALLED).map(|each| half_a_handshake(&server, each)).collect();
    eventually("all are there", || {
        (metric(&server, "tailwater_connections") == STALLED as u64 + 1).then_some(())
    });
    server.get("/healthz").expect(200);
    drop(stalled);
    server.stop();

    let server = files.serve(
        &Client::new(&authority),
        &[("DS_SERVER__HEADER_TIMEOUT_SECS", "1")],
    );
    for each in 0..3 {
        let mut stalled = half_a_handshake(&server, each);
        let mut rest = Vec::new();
        let ended = stalled.read_to_end(&mut rest);
        assert!(
            matches!(&ended, Ok(0))
                || matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
            "{ended:?}: {rest:?}"
        );
    }
    assert_eq!(metric(&server, FAILURES), 3);
    server.stop();
}

/// A client that sends nothing, the beginning of a record, or a record's head and nothing of it.
fn half_a_handshake(server: &Server, which: usize) -> TcpStream {
    let mut socket = TcpStream::connect(server.address()).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let sent: &[u8] = [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"][which % 3];
    socket.write_all(sent).expect("the server reads");
    socket
}

#[test]
fn a_client_that_shares_no_protocol_or_trusts_nobody_here_is_counted() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let files = Files::new(&authority.issue());
    let server = files.serve(&Client::new(&authority), &[]);
    let other = Client {
        protocols: &["smtp"],
        ..Client::new(&authority)
    };
    let refused = Connection::try_open_tls(server.address(), &other.config());
    assert!(refused.is_err(), "a protocol that the server does not speak");
    let mistrusted = Connection::try_open_tls(server.address(), &Client::new(&stranger).config());
    assert!(mistrusted.is_err(), "a certificate of another authority");
    eventually("both are counted", || {
        (metric(&server, FAILURES) == 2).then_some(())
    });
    server.stop();
}

#[test]
fn no_more_connections_are_held_than_may_be_with_handshakes_among_them() {
    let authority = Authority::new("ours");
    let files = Files::new(&authority.issue());
    let client = Client::new(&authority);
    let server = files.serve(&client, &[("DS_LIMITS__MAX_CONNECTIONS", "3")]);
    let mut open = server.connect();
    open.send(&Request::new("GET", "/healthz")).expect(200);
    let stalled = [half_a_handshake(&server, 0), half_a_handshake(&server, 1)];
    let text = |open: &mut Connection| {
        let page = open.send(&Request::new("GET", "/metrics")).expect(200);
        page.text().to_owned()
    };
    eventually("all three count", || {
        text(&mut open)
            .contains("\ntailwater_connections 3\n")
            .then_some(())
    });

    let mut refused = TcpStream::connect(server.address()).expect("the server listens");
    refused.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut said = Vec::new();
    let ended = refused.read_to_end(&mut said);
    assert!(said.is_empty(), "nothing is said in clear: {said:?}");
    assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
    let page = text(&mut open);
    assert!(
        page.contains("tailwater_refusals_total{code=\"too_many_connections\"} 1\n"),
        "{page}"
    );

    for socket in stalled {
        socket.shutdown(Shutdown::Both).expect("it is open");
    }
    eventually("there is room again", || {
        text(&mut open)
            .contains("\ntailwater_connections 1\n")
            .then_some(())
    });
    server.get("/healthz").expect(200);
    server.stop();
}
