//! Stories of appends.

use std::collections::HashSet;

use serde_json::{Value, json};
use tailwater_e2e::numbering::{assert_in_order, number_of, numbered};
use tailwater_e2e::{Request, Response, Server, Stream};

/// The reference server read the tail, waited for its disk and then wrote: two appends at once got the same
/// offset, and the stream was broken for good.
#[test]
fn concurrent_appends_never_share_an_offset() {
    const WRITERS: usize = 8;
    const APPENDS: usize = 100;
    let server = Server::start();
    let stream = server.stream("concurrent").create();
    let tails: Vec<Vec<String>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let stream = stream.clone();
                scope.spawn(move || {
                    let mut connection = stream.connect();
                    (0..APPENDS)
                        .map(|number| {
                            let message = json!({ "writer": writer, "number": number });
                            let answer = connection
                                .send(&stream.appending(message.to_string()))
                                .expect(204);
                            answer.expect_header("stream-next-offset").to_owned()
                        })
                        .collect()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("the writer succeeds"))
            .collect()
    });
    let distinct: HashSet<&String> = tails.iter().flatten().collect();
    assert_eq!(
        distinct.len(),
        WRITERS * APPENDS,
        "every append has a tail of its own"
    );
    for (writer, tails) in tails.iter().enumerate() {
        assert!(tails.is_sorted(), "writer {writer} saw the tail go back");
        let own = stream
            .messages()
            .into_iter()
            .filter(|message| message["writer"] == writer);
        assert_in_order(
            own.map(|message| number_of(&message)),
            APPENDS,
            &format!("writer {writer}"),
        );
    }
    // Each tail is where exactly the messages after it begin.
    let mut tails: Vec<&String> = distinct.into_iter().collect();
    tails.sort();
    let all = stream.messages();
    assert_eq!(all.len(), WRITERS * APPENDS);
    for (index, tail) in tails.iter().enumerate().step_by(97) {
        assert_eq!(
            stream.read(tail).expect(200).json(),
            Value::from(&all[index + 1..]),
            "after {tail}"
        );
    }
    server.stop();
}

/// A peer's server parsed and stored a batch message by message, so a batch with a bad end left its beginning
/// behind, and the client's corrected retry stored that beginning twice.
#[test]
fn half_a_json_batch_is_never_stored() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_STREAM_BYTES", "16KiB")]);
    let stream = server.stream("batch").create();
    let tail = stream.append(r#"["first"]"#);
    for body in [
        r#"["a", "b", }"#,
        r#"["a", "b""#,
        r#"["a", "b"] "c""#,
        r#"["a", "b", nul]"#,
    ] {
        let refusal = stream.send(&stream.appending(body)).expect(400);
        assert_eq!(refusal.problem(), "invalid_json", "{body}");
    }
    // The same holds for a batch whose beginning would still have found room.
    let message = json!("x".repeat(1000));
    let batch = Value::from(vec![message; 32]).to_string();
    assert_eq!(
        stream.send(&stream.appending(batch)).expect(413).problem(),
        "stream_full"
    );
    assert_eq!(stream.messages(), ["first"]);
    assert_eq!(stream.tail(), tail);

    let created = server.stream("batch/at-creation");
    let creation = created.creation().body(r#"["a", "b", }"#);
    server.send(&creation).expect(400);
    server.send(&created.request("HEAD")).expect(404);
    server.stop();
}

/// An empty array is an append of nothing, which is a client's mistake; on creation it is a stream without
/// messages. Servers have taken the one for the other.
#[test]
fn an_empty_array_is_refused_in_an_append_and_means_nothing_in_a_creation() {
    let server = Server::start();
    let stream = server.stream("empty");
    server.send(&stream.creation().body("[]")).expect(201);
    assert_eq!(stream.read("-1").expect(200).text(), "[]");
    let tail = stream.tail();
    for body in ["[]", " [ ] "] {
        let refusal = stream.send(&stream.appending(body)).expect(400);
        assert_eq!(refusal.problem(), "empty_json_array");
    }
    // Refused even where it would close the stream: the close must not slip through alone.
    stream
        .send(&stream.appending("[]").header("Stream-Closed", "true"))
        .expect(400);
    assert_eq!(stream.send(&stream.request("HEAD")).header("stream-closed"), None);
    assert_eq!(stream.tail(), tail);
    stream.append("[[]]");
    assert_eq!(stream.read("-1").expect(200).text(), "[[]]");
    server.stop();
}

/// One level of an array makes messages of its elements. Servers have flattened none, or all of them.
#[test]
fn exactly_one_level_of_an_array_becomes_messages() {
    let server = Server::start();
    let stream = server.stream("flat").create();
    let records = |stream: &Stream<'_>| -> Vec<Value> {
        let answer = stream.send(&stream.reading("-1", "&view=records")).expect(200);
        let lines = answer.text().lines();
        lines
            .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line")["data"].clone())
            .collect()
    };
    let mut expected = Vec::new();
    for (body, messages) in [
        (r#"{"event": "created"}"#, json!([{ "event": "created" }])),
        (
            r#"[{"event": "a"}, {"event": "b"}]"#,
            json!([{ "event": "a" }, { "event": "b" }]),
        ),
        ("[[1,2], [3,4]]", json!([[1, 2], [3, 4]])),
        ("[[[1,2,3]]]", json!([[[1, 2, 3]]])),
        ("7", json!([7])),
        (r#""text""#, json!(["text"])),
        ("null", json!([null])),
    ] {
        stream.append(body);
        expected.extend(messages.as_array().expect("an array").clone());
        assert_eq!(stream.messages(), expected, "after {body}");
        assert_eq!(records(&stream), expected, "as records, after {body}");
    }
    stream.close();
    assert_eq!(stream.follow("-1").messages_to_close(), expected, "as events");
    server.stop();
}

/// A peer published the new tail in the task of the request, so a client that hung up in the middle of its
/// append left data that no reader was told of.
#[test]
fn an_append_whose_client_hangs_up_is_seen_by_every_reader_or_by_none() {
    let server = Server::start();
    let stream = server.stream("abandoned").create();
    let mut follower = stream.follow("-1");
    for number in 0..200 {
        let mut connection = server.connect();
        connection
            .write(&stream.appending(numbered(number).to_string()).encode())
            .expect("the server reads");
        drop(connection);
    }
    stream.append(numbered(200).to_string());
    stream.close();
    let live = follower.messages_to_close();
    assert_eq!(
        live,
        stream.messages(),
        "live readers and later ones see the same"
    );
    assert_eq!(live.iter().filter(|message| number_of(message) == 200).count(), 1);
    let distinct: HashSet<usize> = live.iter().map(number_of).collect();
    assert_eq!(distinct.len(), live.len(), "no append is stored twice");
    server.stop();
}

/// In one server an append and its close were two steps, between which another append could slip, so that the
/// final message was not the last.
#[test]
fn an_append_that_closes_is_the_last_however_many_others_race_with_it() {
    let server = Server::start();
    for round in 0..20 {
        let stream = server.stream(&format!("closing/{round}")).create();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut connection = stream.connect();
                    loop {
                        let answer = connection.send(&stream.appending(r#""other""#));
                        if answer.status() == 409 {
                            assert_eq!(answer.expect_header("stream-closed"), "true");
                            return;
                        }
                        answer.expect(204);
                    }
                });
            }
            let closing = stream.appending(r#""final""#).header("Stream-Closed", "true");
            assert_eq!(
                stream.send(&closing).expect(204).expect_header("stream-closed"),
                "true"
            );
        });
        let messages = stream.messages();
        let finals = messages.iter().filter(|message| *message == "final").count();
        assert_eq!(
            (finals, messages.last()),
            (1, Some(&json!("final"))),
            "round {round}"
        );
    }
    server.stop();
}

/// A peer read its body to the end before it looked at the size, and ran out of memory.
#[test]
fn a_body_beyond_the_limit_is_refused_however_it_is_framed() {
    const LIMIT: usize = 65_536;
    let server = Server::start_with(&[("DS_LIMITS__MAX_BODY_BYTES", "65536")]);
    let stream = server.stream("big").of_type("text/plain").create();
    stream.append("x".repeat(LIMIT));
    let tail = stream.tail();
    let refused = |answer: Response| {
        assert_eq!(answer.expect(413).problem(), "body_too_large");
        assert_eq!(stream.tail(), tail, "nothing of it is stored");
    };
    refused(stream.send(&stream.appending("x".repeat(LIMIT + 1))));

    // A length alone is enough to know: nothing is sent here.
    let announced: Request = stream
        .request("POST")
        .header("Content-Type", "text/plain")
        .header("Content-Length", "1099511627776");
    refused(stream.send(&announced));

    let mut connection = server.connect();
    let head = stream
        .request("POST")
        .header("Content-Type", "text/plain")
        .header("Transfer-Encoding", "chunked");
    connection
        .write(&head.encode())
        .expect("the server reads the head");
    let chunk = format!("{LIMIT:x}\r\n{}\r\n1\r\nx", "x".repeat(LIMIT));
    connection
        .write(chunk.as_bytes())
        .expect("the server reads up to its limit");
    refused(
        connection
            .read_response("POST")
            .expect("an answer")
            .expect("an answer"),
    );

    let created = server.stream("big/at-creation").of_type("text/plain");
    server
        .send(&created.creation().body("x".repeat(LIMIT + 1)))
        .expect(413);
    server.send(&created.request("HEAD")).expect(404);
    server.stop();
}
