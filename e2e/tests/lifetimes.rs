//! Connections and the server itself end when they should and how they should.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tailwater_e2e::frames::{ACK, DATA, GOAWAY, HEADERS, PING, frame};
use tailwater_e2e::{Connection, FrameClient, PATIENCE, Request, Server, Stream, eventually};

const TEXT: &str = "text/plain";

#[test]
fn a_request_head_that_does_not_come_in_time_ends_the_connection() {
    let server = Server::start_with(&[("DS_SERVER__HEADER_TIMEOUT_SECS", "1")]);
    let mut connection = server.connect();
    connection
        .write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .expect("the server reads");
    assert_refused_or_ended(&mut connection, 408);
    server.assert_well("a slow head");
    server.stop();
}

#[test]
fn a_body_that_pauses_too_long_is_refused_and_not_stored() {
    let server = Server::start_with(&[("DS_SERVER__BODY_TIMEOUT_SECS", "1")]);
    let stream = server.stream("slow").of_type(TEXT).create();
    let mut connection = server.connect();
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Content-Length", "100");
    connection.write(&head.encode()).expect("the server reads");
    connection.write(b"half").expect("the server reads");
    let answer = connection
        .read_response("POST")
        .expect("an answer")
        .expect("an answer")
        .expect(408);
    assert_eq!(answer.problem(), "body_timeout");
    assert!(stream.read("-1").body.is_empty());
    server.stop();
}

#[test]
fn an_idle_connection_is_closed_and_a_live_one_is_not() {
    let server = Server::start_with(&[
        ("DS_SERVER__IDLE_TIMEOUT_SECS", "1"),
        ("DS_HTTP__SSE_KEEP_ALIVE_SECS", "1"),
    ]);
    let stream = server.stream("idle").create();
    let mut follower = stream.follow("-1");
    let mut idle = server.connect();
    idle.send(&stream.request("HEAD")).expect(200);
    idle.read_end().expect("the server closes an idle connection");

    // By now the follower has been without data for longer than an idle connection may be.
    follower.await_comment();
    stream.append("1");
    stream.close();
    assert_eq!(follower.messages_to_close(), [1]);
    server.stop();
}

#[test]
fn a_stop_lets_what_is_under_way_end_well() {
    let mut server = Server::start_with(&[("DS_SERVER__SHUTDOWN_TIMEOUT_SECS", "60")]);
    let stream = server.stream("stopping").of_type(TEXT).create();
    stream.append("first,");
    let tail = stream.tail();
    let mut follower = stream.follow("-1");
    while follower.next_event().expect("an event").kind != "control" {}
    let mut poll = server.connect();
    poll.write(&stream.reading(&tail, "&live=long-poll").encode())
        .expect("the server reads");
    let mut append = begin_append(&stream, 6);
    append.write(b"sec").expect("the server reads");
    let mut idle = server.connect();
    idle.send(&Request::new("GET", "/readyz")).expect(200);
    // A request that the server has not read yet is not under way, so the long-poll must have arrived.
    eventually("both readers are live", || {
        server
            .get("/metrics")
            .text()
            .contains("\ntailwater_live_readers 2\n")
            .then_some(())
    });

    server.terminate();
    // The append is not finished, so the server is still there, but it takes no new work.
    let address = server.address();
    eventually("the server is not ready any more", || {
        (!is_ready(address)).then_some(())
    });
    idle.read_end().expect("an idle connection is closed");

    // Readers are sent away while the append is still held open: a stop does not wait for them to leave.
    let answer = poll
        .read_response("GET")
        .expect("the long-poll is answered")
        .expect("an answer");
    assert!(matches!(answer.status(), 204 | 503), "{answer:?}");
    while follower.next_event().is_some() {}
    assert!(
        follower.ended_cleanly(),
        "the event stream ends with its last chunk"
    );

    append.write(b"ond").expect("the server reads the rest");
    let answer = append
        .read_response("POST")
        .expect("an answer")
        .expect("the append is answered")
        .expect(204);
    assert!(answer.expect_header("stream-next-offset") > tail.as_str());
    assert!(server.wait().success(), "{}", server.stderr());
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

/// Clients were told that their appends were not stored, and the server's exit code said that all was well.
#[test]
fn a_storage_that_fails_while_the_server_stops_is_told_by_the_exit_code() {
    const BODY_BYTES: usize = 1 << 20;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data_dir = dir.path().join("data");
    let mut server = Server::start_with(&[
        ("DS_SERVER__SHUTDOWN_TIMEOUT_SECS", "60"),
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", &data_dir.display().to_string()),
        ("DS_STORAGE__JOURNAL_BYTES", "1MiB"),
    ]);
    let stream = server.stream("lost").of_type(TEXT).create();
    let mut appends: Vec<_> = (0..4).map(|_| begin_append(&stream, BODY_BYTES)).collect();
    server.terminate();
    let address = server.address();
    eventually("the server is not ready any more", || {
        (!is_ready(address)).then_some(())
    });
    // What is appended does not fit one journal, and no other one can be made.
    std::fs::remove_dir_all(&data_dir).expect("it can be removed");
    let mut refused = 0;
    for append in &mut appends {
        append.write(&[b'x'; BODY_BYTES]).expect("the server reads");
        let answer = append
            .read_response("POST")
            .expect("an answer")
            .expect("an answer");
        if answer.status() != 204 {
            assert_eq!(answer.problem(), "storage_failed");
            refused += 1;
        }
    }
    assert!(refused > 0, "all was stored");
    assert_eq!(server.wait().code(), Some(1), "{}", server.stderr());
    assert!(
        server.stderr().contains("the storage cannot be used"),
        "{}",
        server.stderr()
    );
}

/// A server that listens before it heeds signals dies of one that comes at that moment, as it does under a
/// supervisor that changes its mind.
#[test]
fn a_stop_right_after_the_start_is_as_good_as_a_later_one() {
    for _ in 0..20 {
        Server::start().stop();
    }
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_client_that_never_finishes() {
    let mut server = Server::start_with(&[("DS_SERVER__SHUTDOWN_TIMEOUT_SECS", "1")]);
    let stream = server.stream("stuck").of_type(TEXT).create();
    let _append = begin_append(&stream, 6);
    server.terminate();
    assert!(server.wait().success(), "{}", server.stderr());
    let said = server.stderr();
    assert!(said.contains("1 connections did not end within 1s"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// A second Ctrl-C did nothing, and people took to `kill -9`.
#[test]
fn a_second_signal_ends_the_server_without_waiting_any_longer() {
    let mut server = Server::start_with(&[("DS_SERVER__SHUTDOWN_TIMEOUT_SECS", "3600")]);
    let stream = server.stream("stuck").of_type(TEXT).create();
    let _append = begin_append(&stream, 6);
    server.terminate();
    eventually("the first signal is heard", || {
        server.stderr().contains("the server stops once").then_some(())
    });
    server.terminate();
    assert!(server.wait().success(), "{}", server.stderr());
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let server = Server::start();
    let address = server.address().to_string();
    let second = std::process::Command::new(tailwater_e2e::server::binary())
        .env("DS_SERVER__BIND_ADDRESS", &address)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    for word in [address.as_str(), "--bind", "DS_SERVER__BIND_ADDRESS"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    server.stop();
}

#[test]
fn streams_live_below_the_base_path_and_nowhere_else() {
    let server = Server::start_with(&[("DS_HTTP__STREAM_BASE_PATH", "/logs")]);
    assert_eq!(server.base_path(), "/logs");
    let stream = server.stream("moved").create();
    stream.append("1");
    assert_eq!(stream.messages(), [1]);
    let elsewhere = server.get("/v1/stream/moved").expect(404);
    assert_eq!(elsewhere.problem(), "not_found");
    server.get("/logs/__ds/streams").expect(200);
    server.stop();
}

/// An append whose head the server has read and whose body has not come yet.
#[track_caller]
fn begin_append(stream: &Stream<'_>, body_bytes: usize) -> Connection {
    let mut append = stream.connect();
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Expect", "100-continue")
        .header("Content-Length", &body_bytes.to_string());
    append.write(&head.encode()).expect("the server reads");
    let answer = append.read_response("POST").expect("an answer");
    answer.expect("an answer").expect(100);
    append
}

/// Whether a new client would be served: not when it cannot connect, is hung up on, or is told so.
fn is_ready(address: std::net::SocketAddr) -> bool {
    let Ok(mut connection) = Connection::try_open(address) else {
        return false;
    };
    let answer = connection
        .write(&Request::new("GET", "/readyz").encode())
        .and_then(|()| connection.read_response("GET"));
    matches!(answer, Ok(Some(response)) if response.status() == 200)
}

#[track_caller]
fn assert_refused_or_ended(connection: &mut Connection, status: u16) {
    match connection.read_response("GET") {
        Ok(None) => {}
        Ok(Some(answer)) => assert_eq!(answer.status(), status, "{answer:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// A request's body counted as the beginning of the next request's head, so that a connection which had sent one in a
/// second packet was closed after the time that a head may take.
#[test]
fn a_connection_is_idle_and_not_late_after_a_body_that_came_later_than_its_head() {
    let server = Server::start_with(&[
        ("DS_SERVER__HEADER_TIMEOUT_SECS", "1"),
        ("DS_SERVER__IDLE_TIMEOUT_SECS", "3600"),
    ]);
    let stream = server.stream("split").of_type(TEXT).create();
    let mut connection = begin_append(&stream, 4);
    connection.write(b"body").expect("the server reads");
    connection
        .read_response("POST")
        .expect("an answer")
        .expect("an answer")
        .expect(204);
    until_a_head_is_late(&server);
    connection.send(&stream.request("HEAD")).expect(200);
    server.stop();
}

/// Other connections show that the time for a head has passed, and more than once.
#[track_caller]
fn until_a_head_is_late(server: &Server) {
    for _ in 0..2 {
        let mut late = server.connect();
        late.write(b"GET / HTTP/1.1\r\n").expect("the server reads");
        assert_refused_or_ended(&mut late, 408);
    }
}

/// In HTTP/2 there are frames between requests too, as a ping or a wider window. Each counted as the beginning of a head, so
/// that an idle connection was closed after the time that a head may take, and a request that was on its way got lost.
#[test]
fn a_connection_of_http_2_is_idle_and_not_late_after_frames_that_are_no_request() {
    let server = Server::start_with(&[
        ("DS_SERVER__HEADER_TIMEOUT_SECS", "1"),
        ("DS_SERVER__IDLE_TIMEOUT_SECS", "3600"),
    ]);
    let mut client = FrameClient::open(server.address(), WINDOW_BYTES);
    ask_for_health(&mut client);
    client.ping().expect("it is answered");
    until_a_head_is_late(&server);
    ask_for_health(&mut client);
    // It would not hear that the server stops.
    drop(client);
    server.stop();
}

#[test]
fn a_connection_of_http_2_that_asks_for_nothing_is_closed_like_a_head_that_is_late() {
    let server = Server::start_with(&[
        ("DS_SERVER__HEADER_TIMEOUT_SECS", "1"),
        ("DS_SERVER__IDLE_TIMEOUT_SECS", "3600"),
    ]);
    let mut client = FrameClient::open(server.address(), WINDOW_BYTES);
    until_closed("one that asks for nothing", || client.next_frame().map(drop));
    server.stop();
}

/// What keeps a connection busy is requests, and neither pings, of whichever end, nor a head that never ends.
#[test]
fn a_connection_of_http_2_without_requests_is_closed_when_it_was_idle_for_too_long() {
    let server = Server::start_with(&[
        ("DS_SERVER__HEADER_TIMEOUT_SECS", "1"),
        ("DS_SERVER__IDLE_TIMEOUT_SECS", "1"),
    ]);
    let connect = || {
        let mut client = FrameClient::open(server.address(), WINDOW_BYTES);
        ask_for_health(&mut client);
        client
    };
    let mut pinging = connect();
    until_closed("one that pings", || {
        std::thread::sleep(PAUSE);
        pinging.ping()
    });
    let mut answering = connect();
    until_closed("one that answers pings", || {
        let asked = answering.next_frame()?;
        answering.send(&frame(PING, ACK, 0, &asked.payload))
    });
    let mut dripping = connect();
    let begun = frame(HEADERS, 0, 3, &[0x82]);
    dripping.send(&begun[..5]).expect("the server reads");
    until_closed("one with a head that never ends", || {
        dripping.next_frame().map(drop)
    });
    server.stop();
}

/// A request that is on its way when its connection is closed must not get lost: the server says up to which it answers
/// (RFC 9113, §6.8), and answers these.
#[test]
fn a_connection_of_http_2_that_is_idle_is_given_up_before_it_is_closed() {
    let server = Server::start_with(&[
        ("DS_SERVER__HEADER_TIMEOUT_SECS", "3600"),
        ("DS_SERVER__IDLE_TIMEOUT_SECS", "1"),
    ]);
    let mut client = FrameClient::open(server.address(), WINDOW_BYTES);
    ask_for_health(&mut client);
    while client.next_frame().expect("it is told first").kind != GOAWAY {}
    // The client asks for more before it has heard of that, and only then answers the ping by which the server knows.
    let late = client.request("GET", "/healthz").expect("the server reads");
    let (mut answered, mut pings) = (false, Vec::new());
    until_closed("one that has heard of it", || {
        let next = client.next_frame()?;
        answered |= next.kind == DATA && next.stream == late;
        if next.kind == PING {
            pings.push(next.payload);
        }
        let heard = if answered {
            std::mem::take(&mut pings)
        } else {
            Vec::new()
        };
        heard
            .iter()
            .try_for_each(|payload| client.send(&frame(PING, ACK, 0, payload)))
    });
    assert!(answered, "what was on its way got lost");
    server.stop();
}

/// Does that over and over, until it fails because the connection is closed.
#[track_caller]
fn until_closed(what: &str, mut act: impl FnMut() -> std::io::Result<()>) {
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        if let Err(error) = act() {
            break error;
        }
        assert!(Instant::now() < deadline, "never closed: {what}");
    };
    let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!is_late, "never closed: {what}: {error}");
}

/// Between two pings of a client.
const PAUSE: Duration = Duration::from_millis(20);
/// What a client of HTTP/2 takes of an answer without saying more.
const WINDOW_BYTES: u32 = 65_535;

#[track_caller]
fn ask_for_health(client: &mut FrameClient) {
    let stream = client.request("GET", "/healthz").expect("the server reads");
    client.next_data(stream).expect("an answer");
}
