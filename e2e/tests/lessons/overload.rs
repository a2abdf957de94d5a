//! Stories of a client that costs the others more than itself.

use tailwater_e2e::{Request, Server, eventually};

const TEXT: &str = "text/plain";

/// A frame that told only where a reader was, with the first byte of a character held back, was shared with a reader
/// who knew that already, and came again and again without end.
#[test]
fn a_character_that_is_not_complete_is_waited_for_in_silence() {
    let server = Server::start();
    let stream = server.stream("half").of_type(TEXT).create();
    stream.append(b"\xe2".as_slice());
    let mut readers: Vec<_> = (0..3)
        .map(|_| {
            let mut events = stream.follow("-1");
            let first = events.next_event().expect("where the reader is");
            assert_eq!(
                (first.kind.as_str(), &first.control()["upToDate"]),
                ("control", &true.into())
            );
            events
        })
        .collect();
    stream.append(b"\x82\xac".as_slice());
    stream.close();
    for events in &mut readers {
        let rest: Vec<_> = std::iter::from_fn(|| events.next_event()).collect();
        let texts: String = rest
            .iter()
            .filter(|event| event.kind == "data")
            .map(|e| e.data.as_str())
            .collect();
        assert_eq!(texts, "\u{20ac}");
        // The data with its control event, and the close; nothing else had anything to tell.
        assert!(rest.len() <= 3, "{} events: {rest:?}", rest.len());
    }
    server.stop();
}

/// A reader who waits to be told that he has all there is was never told, because a byte that nobody could show yet
/// counted as missing.
#[test]
fn a_held_back_character_does_not_hide_that_the_reader_has_all_there_is() {
    let server = Server::start();
    let stream = server.stream("half").of_type(TEXT).create();
    stream.append(b"a\xe2".as_slice());
    let mut events = stream.follow("-1");
    assert_eq!(events.next_event().expect("the data").data, "a");
    assert_eq!(
        events.next_event().expect("its control").control()["upToDate"],
        true
    );
    drop(events);
    server.stop();
}

/// Whoever was refused for the number of connections counted as one of them, so that the refused kept the others out
/// for good.
#[test]
fn refused_connections_keep_nobody_out() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CONNECTIONS", "2")]);
    let health = Request::new("GET", "/healthz");
    let mut held: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for connection in &mut held {
        connection.send(&health).expect(200);
    }
    // These stay open on their side, so that the server drains them for a while.
    let mut refused: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for connection in &mut refused {
        let answer = connection
            .read_response("GET")
            .expect("an answer")
            .expect("an answer")
            .expect(503);
        assert_eq!(answer.problem(), "too_many_connections");
    }
    drop(held);
    // Whoever is refused meanwhile stays too, as a client does that tries again and again.
    eventually("a connection is served again", || {
        let mut connection = server.connect();
        connection.write(&health.encode()).ok()?;
        let answer = connection.read_response("GET").ok()??;
        refused.push(connection);
        (answer.status() == 200).then_some(())
    });
    drop(refused);
    server.stop();
}

/// A megabyte of one-digit messages made fifty megabytes of records in one answer.
#[test]
fn records_of_many_small_messages_come_in_answers_of_bounded_size() {
    let server = Server::start_with(&[("DS_LIMITS__READ_CHUNK_BYTES", "64KiB")]);
    let stream = server.stream("small").create();
    let messages = 5_000;
    stream.append(format!("[{}1]", "1,".repeat(messages - 1)));
    let (mut seen, mut offset) = (0, "-1".to_owned());
    loop {
        let answer = stream.send(&stream.reading(&offset, "&view=records")).expect(200);
        assert!(
            answer.body.len() <= 64 * 1024,
            "{} bytes in one answer",
            answer.body.len()
        );
        seen += answer.text().lines().count();
        if answer.header("stream-up-to-date") == Some("true") {
            break;
        }
        answer.expect_header("stream-next-offset").clone_into(&mut offset);
    }
    assert_eq!(seen, messages);
    server.stop();
}

/// Clients that announced much and sent little took all the room there was for bodies.
#[test]
fn what_is_announced_takes_no_room_until_it_comes() {
    let server = Server::start_with(&[
        ("DS_LIMITS__MAX_BODY_BYTES", "1MiB"),
        ("DS_LIMITS__MAX_IN_FLIGHT_BYTES", "2MiB"),
    ]);
    let stream = server.stream("slow").of_type(TEXT).create();
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Content-Length", "1048576");
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = server.connect();
            connection.write(&head.encode()).expect("the server reads");
            connection.write(b"x").expect("the server reads");
            connection
        })
        .collect();
    stream.append("there is room");
    drop(slow);
    server.stop();
}

/// Readers who were sent away while they were behind had to begin again, or missed what was on its way.
#[test]
fn a_reader_who_is_sent_away_while_he_is_behind_resumes_and_misses_nothing() {
    let server = Server::start_with(&[("DS_HTTP__SSE_MAX_SECS", "1")]);
    let stream = server.stream("long").of_type(TEXT).create();
    let piece = "x".repeat(512 * 1024);
    let (pieces, mut read, mut offset) = (12, 0, "-1".to_owned());
    for _ in 0..pieces {
        stream.append(piece.clone());
    }
    stream.close();
    'connections: loop {
        let mut events = stream.follow(&offset);
        while let Some(event) = events.next_event() {
            if event.says_closed() {
                break 'connections;
            }
            if event.kind == "data" {
                read += event.data.len();
                offset = event.id.expect("an id");
            }
        }
    }
    assert_eq!(read, pieces * piece.len());
    server.stop();
}
