//! What all clients together may have.

use tailwater_e2e::{Connection, Server, Stream, eventually};

use crate::support::{assert_refused, connect_from, metric, refusals};

const TEXT: &str = "text/plain";

/// Requests that are waited for count, from whomever they come, until they are answered or their connection is cut.
#[test]
fn no_more_requests_are_answered_at_once_than_the_server_takes() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_REQUESTS", "2")]);
    let stream = server.stream("slow").of_type(TEXT).create();
    let begin = |last| begin_append(&server, &stream, last, b"slow");
    let mut slow = [begin(2), begin(3)];
    eventually("both are being answered", || {
        (metric(&server, "tailwater_requests") == 2).then_some(())
    });
    for request in [
        stream.reading("-1", ""),
        stream.appending("x"),
        stream.request("DELETE"),
    ] {
        assert_refused(connect_from(&server, 4).send(&request), 503, "too_many_requests");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        server.get(path).expect(200);
    }
    assert_eq!(refusals(&server, "too_many_requests"), 3);
    slow[0].write(b" body.").expect("the server reads");
    let answer = slow[0]
        .read_response("POST")
        .expect("an answer")
        .expect("an answer");
    answer.expect(204);
    assert_eq!(stream.read("-1").expect(200).text(), "slow body.");
    // The other one goes away in the midst of its body.
    drop(slow);
    eventually("no request is left", || {
        (metric(&server, "tailwater_requests") == 0).then_some(())
    });
    server.stop();
}

/// What has come of bodies counts, from whomever it comes, until it is answered or its connection is cut.
#[test]
fn no_more_bytes_of_bodies_are_held_than_the_server_takes() {
    const HELD: usize = 60 * 1024;
    let server = Server::start_with(&[
        ("DS_LIMITS__MAX_BODY_BYTES", "64KiB"),
        ("DS_LIMITS__MAX_IN_FLIGHT_BYTES", "128KiB"),
    ]);
    let stream = server.stream("slow").of_type(TEXT).create();
    let begin = |last| begin_append(&server, &stream, last, &[b'x'; HELD]);
    let slow = [begin(2), begin(3)];
    eventually("all that has come is counted", || {
        (metric(&server, "tailwater_in_flight_bytes") == 2 * HELD as u64).then_some(())
    });
    // One that fits is taken meanwhile.
    connect_from(&server, 4).send(&stream.appending("y")).expect(204);
    let more = stream.appending("y".repeat(16 * 1024));
    assert_refused(
        connect_from(&server, 4).send(&more),
        503,
        "too_many_bytes_in_flight",
    );
    assert_eq!(refusals(&server, "too_many_bytes_in_flight"), 1);
    drop(slow);
    eventually("nothing is in flight", || {
        (metric(&server, "tailwater_in_flight_bytes") == 0).then_some(())
    });
    connect_from(&server, 4).send(&more).expect(204);
    server.stop();
}

/// An append from 127.0.0.`last` whose body begins so; the last six bytes of it are still to come.
#[track_caller]
fn begin_append(server: &Server, stream: &Stream<'_>, last: u8, body: &[u8]) -> Connection {
    let whole = body.len() + 6;
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Content-Length", &whole.to_string());
    let mut connection = connect_from(server, last);
    connection.write(&head.encode()).expect("the server reads");
    connection.write(body).expect("the server reads");
    connection
}
