//! Live reads end by the deadline that a trusted proxy gives, in good order, and nothing begins behind it.

use tailwater_e2e::{Connection, Events, Request, Response, Server, Stream, eventually};

use super::{DEADLINE, PROXY, STRANGER, TRUSTED, connect, now, send, serve, with_deadline};

/// Nothing but a deadline ends a live read.
const PATIENT: [(&str, &str); 3] = [
    ("DS_HTTP__SSE_MAX_SECS", "86400"),
    ("DS_HTTP__SSE_KEEP_ALIVE_SECS", "86400"),
    ("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "86400"),
];
const FAR: &str = "18446744073709551615";

fn over() -> String {
    (now().as_secs() - 1).to_string()
}

/// Follows from an address; nothing if the server says that the time is over.
fn follow(server: &Server, source: std::net::IpAddr, request: &Request) -> Option<Events> {
    connect(server, source).try_follow(request).ok()
}

/// The messages of all events to the end, and the id to go on from.
#[track_caller]
fn messages_to_end(events: &mut Events) -> (Vec<serde_json::Value>, String) {
    let (mut messages, mut id) = (Vec::new(), None);
    while let Some(event) = events.next_event() {
        if event.kind == "data" {
            messages.extend(event.messages());
        }
        id = event.id.or(id);
    }
    (messages, id.expect("an id to go on from"))
}

/// The messages up to `last`, of a stream of events that goes on.
#[track_caller]
fn messages_up_to(events: &mut Events, last: i64) -> Vec<serde_json::Value> {
    let mut messages = Vec::new();
    while messages.last() != Some(&last.into()) {
        let event = events.next_event().expect("an event");
        if event.kind == "data" {
            messages.extend(event.messages());
        }
    }
    messages
}

/// Waits at the tail; nothing if the server says that the time is over.
#[track_caller]
fn poll(mut connection: Connection, request: &Request) -> Option<Response> {
    let answer = connection.send(request);
    (answer.status() != 401).then_some(answer)
}

#[test]
fn an_event_stream_ends_at_the_deadline_and_goes_on_with_a_new_one() {
    let server = serve(&PATIENT);
    let stream = server.stream("followed").create();
    stream.append("1");
    let following = stream.reading("-1", "&live=sse");
    let (deadline, mut follower) =
        with_deadline(|deadline| follow(&server, PROXY, &following.clone().header(DEADLINE, deadline)));
    let as_text = deadline.as_secs().to_string();
    let claims = following.header(DEADLINE, &as_text);
    let mut stranger = follow(&server, STRANGER, &claims).expect("nobody ends what a stranger says ends");

    let (messages, id) = messages_to_end(&mut follower);
    assert!(now() >= deadline, "it ended before its time");
    assert_eq!(messages, [1]);
    assert!(follower.ended_cleanly());
    follower.read_end().expect("the connection ends with it");

    stream.append("2");
    assert_eq!(messages_up_to(&mut stranger, 2), [1, 2]);
    let again = stream.reading("-1", "&live=sse").header("Last-Event-ID", &id);
    let refused = send(&server, PROXY, &again.clone().header(DEADLINE, &as_text)).expect(401);
    assert_eq!(refused.problem(), "deadline_passed");
    let again = again.header(DEADLINE, FAR);
    let mut follower = follow(&server, PROXY, &again).expect("there is time");
    assert_eq!(messages_up_to(&mut follower, 2), [2]);
    server.stop();
}

#[test]
fn a_long_poll_is_answered_at_the_deadline_as_at_its_time_out() {
    let server = serve(&PATIENT);
    let stream = server.stream("awaited").create();
    let tail = stream.append("1");
    let polling = |stream: &Stream<'_>, tail: &str| stream.reading(tail, "&live=long-poll");
    let waits = polling(&stream, &tail);
    let (deadline, answer) =
        with_deadline(|deadline| poll(connect(&server, PROXY), &waits.clone().header(DEADLINE, deadline)));
    assert!(now() >= deadline, "it was answered before its time");
    let answer = answer.expect(204);
    assert_eq!(answer.expect_header("stream-next-offset"), tail);
    assert_eq!(answer.expect_header("stream-up-to-date"), "true");

    let impatient = serve(&[("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "1")]);
    let other = impatient.stream("awaited").create();
    let timed_out = other.send(&polling(&other, &other.append("1"))).expect(204);
    let names = |answer: &Response| {
        let names = answer
            .head
            .headers
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&answer), names(&timed_out));
    impatient.stop();

    // What comes in time is given out, and what a stranger says of its time means nothing.
    let mut waiting = [(PROXY, FAR), (STRANGER, "1")].map(|(source, deadline)| {
        let mut connection = connect(&server, source);
        let request = waits.clone().header(DEADLINE, deadline);
        connection.write(&request.encode()).expect("the server reads");
        connection
    });
    live_readers(&server, 2);
    stream.append("2");
    for connection in &mut waiting {
        let answer = connection.read_response("GET").expect("an answer");
        assert_eq!(
            answer.expect("an answer").expect(200).json(),
            serde_json::json!([2])
        );
    }
    server.stop();
}

#[test]
fn the_change_feed_ends_at_the_deadline_too() {
    let server = serve(&PATIENT);
    let feed = |live: &str| Request::new("GET", &server.path(&format!("__ds/changes?live={live}")));
    let (deadline, mut events) =
        with_deadline(|deadline| follow(&server, PROXY, &feed("sse").header(DEADLINE, deadline)));
    while events.next_event().is_some() {}
    assert!(events.ended_cleanly());
    assert!(now() >= deadline, "it ended before its time");

    let (deadline, answer) = with_deadline(|deadline| {
        poll(
            connect(&server, PROXY),
            &feed("long-poll").header(DEADLINE, deadline),
        )
    });
    assert!(now() >= deadline, "it was answered before its time");
    assert_eq!(answer.expect(200).json()["changes"], serde_json::json!([]));
    server.stop();
}

/// A worker waited for a job beyond the end of its token, and was given one.
#[test]
fn a_claim_waits_no_longer_than_its_deadline() {
    let server = serve(&[("DS_QUEUES__MAX_CLAIM_WAIT_MS", "3600000")]);
    let queue = server.path("__ds/queues/jobs/mail");
    let make = Request::new("PUT", &queue)
        .header("Content-Type", "application/json")
        .body("{}");
    server.send(&make).expect(201);
    let claim = Request::new("POST", &format!("{queue}/claim"))
        .header("Content-Type", "application/json")
        .body(r#"{"worker":"w","wait_ms":3600000}"#);
    let (deadline, answer) =
        with_deadline(|deadline| poll(connect(&server, PROXY), &claim.clone().header(DEADLINE, deadline)));
    assert!(now() >= deadline, "it was answered before its time");
    assert_eq!(answer.expect(200).json(), serde_json::json!({ "jobs": [] }));
    server.stop();
}

#[test]
fn a_deadline_that_is_far_away_prolongs_nothing() {
    let server = serve(&[
        ("DS_HTTP__SSE_MAX_SECS", "1"),
        ("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "1"),
    ]);
    let stream = server.stream("short").create();
    let tail = stream.append("1");
    let following = stream.reading("-1", "&live=sse").header(DEADLINE, FAR);
    let mut follower = follow(&server, PROXY, &following).expect("there is time");
    assert_eq!(messages_to_end(&mut follower).0, [1]);
    assert!(follower.ended_cleanly());
    let polling = stream.reading(&tail, "&live=long-poll").header(DEADLINE, FAR);
    send(&server, PROXY, &polling).expect(204);
    server.stop();
}

#[test]
fn nothing_is_done_for_a_client_whose_time_is_over() {
    let server = serve(&[]);
    let stream = server.stream("kept").create();
    stream.append("1");
    let requests = [
        stream.reading("-1", ""),
        stream.reading("-1", "&live=sse"),
        stream.reading("now", "&live=long-poll"),
        stream.appending("2"),
        stream.request("HEAD"),
        stream.request("DELETE"),
        server.stream("another").creation(),
        Request::new("GET", &server.path("__ds/streams")),
        Request::new("GET", "/metrics"),
        Request::new("GET", "/nowhere"),
    ];
    for request in &requests {
        for deadline in ["0", &over()] {
            let request = request.clone().header("Origin", "https://page.example");
            let refused = send(&server, PROXY, &request.header(DEADLINE, deadline)).expect(401);
            assert!(refused.expect_header("www-authenticate").starts_with("Bearer"));
            // A page is to know why its event stream ended.
            assert_eq!(refused.expect_header("access-control-allow-origin"), "*");
            if request_has_document(&refused) {
                assert_eq!(refused.problem(), "deadline_passed");
                assert_eq!(refused.json()["header"], "x-tailwater-deadline");
            }
        }
    }
    assert_eq!(stream.messages(), [1]);
    server
        .stream("another")
        .send(&server.stream("another").request("HEAD"))
        .expect(404);
    let counted = format!(
        "tailwater_refusals_total{{code=\"deadline_passed\"}} {}\n",
        2 * requests.len()
    );
    let metrics = server.get("/metrics");
    assert!(metrics.text().contains(&counted), "{}", metrics.text());
    server.stop();
}

/// HEAD has none.
fn request_has_document(answer: &Response) -> bool {
    !answer.body.is_empty()
}

#[test]
fn a_deadline_that_cannot_be_meant_is_refused_by_its_name() {
    let server = serve(&[]);
    let stream = server.stream("read").create();
    for deadline in [
        "",
        "soon",
        "-1",
        "1e10",
        "1900000000.0",
        "0x10",
        "99999999999999999999",
    ] {
        let request = stream.reading("-1", "").header(DEADLINE, deadline);
        let refused = send(&server, PROXY, &request).expect(400);
        assert_eq!(refused.problem(), "invalid_header", "{deadline}");
        assert_eq!(refused.json()["header"], "x-tailwater-deadline");
        send(&server, STRANGER, &request).expect(200);
    }
    let twice = stream
        .reading("-1", "")
        .header(DEADLINE, FAR)
        .header(DEADLINE, FAR);
    send(&server, PROXY, &twice).expect(400);
    server.stop();
}

/// A reader that takes its events slowly would have stayed for as long as there was something to take.
#[test]
fn a_reader_that_is_far_behind_has_to_go_at_the_deadline_and_misses_nothing() {
    const PIECE_BYTES: usize = 4 << 20;
    const PIECES: usize = 6;
    let server = Server::start_with(&[
        (TRUSTED.0, "127.0.0.1"),
        PATIENT[0],
        ("DS_SERVER__WRITE_TIMEOUT_SECS", "86400"),
        ("DS_LIMITS__MAX_STREAM_BYTES", "64MiB"),
    ]);
    let stream = server.stream("long").of_type("text/plain").create();
    let mut whole = String::new();
    for piece in 0..PIECES {
        let from = piece * PIECE_BYTES;
        let numbers = (from..from + PIECE_BYTES).step_by(16);
        let text: String = numbers.map(|number| format!("{number:015} ")).collect();
        stream.append(text.as_str());
        whole.push_str(&text);
    }
    let following = stream.reading("-1", "&live=sse");
    let (deadline, mut slow) = with_deadline(|deadline| {
        let connection = Connection::open_narrow(server.address(), 64 << 10).expect("a connection");
        connection
            .try_follow(&following.clone().header(DEADLINE, deadline))
            .ok()
    });
    eventually("the deadline", || (now() > deadline).then_some(()));
    let (mut text, mut id) = (String::new(), None);
    while let Some(event) = slow.next_event() {
        if event.kind == "data" {
            text.push_str(&event.data);
            id = event.id;
        }
    }
    assert!(slow.ended_cleanly());
    assert!(text.len() < whole.len(), "all of it was sent behind the deadline");
    assert!(whole.starts_with(&text));
    let rest = stream.reading(&id.expect("an id"), "&live=sse");
    let mut follower = stream.connect().follow(&rest);
    while text.len() < whole.len() {
        let event = follower.next_event().expect("an event");
        if event.kind == "data" {
            text.push_str(&event.data);
        }
    }
    assert!(text == whole, "it goes on where it was");
    server.stop();
}

#[track_caller]
fn live_readers(server: &Server, count: usize) {
    let line = format!("\ntailwater_live_readers {count}\n");
    eventually("the readers are live", || {
        server.get("/metrics").text().contains(&line).then_some(())
    });
}

/// An import may go on for as long as its client has something to send.
#[test]
fn an_import_is_refused_what_comes_behind_its_deadline() {
    let server = serve(&[]);
    let admitted = |deadline: &str| {
        let mut connection = connect(&server, PROXY);
        let head = format!(
            "POST {}/__ds/import HTTP/1.1\r\nHost: tailwater\r\nExpect: 100-continue\r\n\
             Transfer-Encoding: chunked\r\n{DEADLINE}: {deadline}\r\n\r\n",
            server.base_path()
        );
        connection.write(head.as_bytes()).expect("the head is taken");
        let answer = connection.read_head().expect("an answer").expect("a head");
        (answer.status == 100).then_some(connection)
    };
    let (deadline, mut importing) = with_deadline(admitted);
    while now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    importing.write(b"1\r\n{\r\n0\r\n\r\n").expect("it is taken");
    let answer = importing
        .read_response("POST")
        .expect("readable")
        .expect("an answer");
    assert_eq!(answer.expect(401).problem(), "deadline_passed");
}

/// An export shows each stream as it is when it comes to it.
#[test]
fn an_export_ends_at_the_deadline_and_is_not_complete() {
    let server = serve(&[("DS_LIMITS__MAX_MEMORY_BYTES", "1GiB")]);
    // More than the sockets of both ends hold.
    for number in 0..8 {
        let stream = server
            .stream(&format!("large/{number}"))
            .of_type("text/plain")
            .create();
        stream.append("x".repeat(8 << 20));
    }
    let export = Request::new("GET", &server.path("__ds/export"));
    let begun = |deadline: &str| {
        let mut connection = connect(&server, PROXY);
        let request = export.clone().header(DEADLINE, deadline);
        connection.write(&request.encode()).expect("the head is taken");
        let head = connection.read_head().expect("an answer").expect("a head");
        (head.status == 200).then_some(connection)
    };
    let (deadline, mut exporting) = with_deadline(begun);
    while now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let (mut answer, mut rest) = (Vec::new(), vec![0; 1 << 16]);
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        let count = std::io::Read::read(&mut exporting, &mut rest).expect("the answer goes on");
        assert!(count > 0, "the answer has an end");
        answer.extend_from_slice(&rest[..count]);
    }
    assert!(answer.len() < 64 << 20, "nothing of it was left out");
    let lines = String::from_utf8_lossy(&answer);
    assert!(!lines.contains("\"complete\""), "it says that it is complete");
    server.stop();
}
