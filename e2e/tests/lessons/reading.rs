//! Stories of readers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tailwater_e2e::numbering::{assert_in_order, number_of, numbered};
use tailwater_e2e::{Events, Request, Server};

/// A peer told its live readers of a close before it had given them the last append, and hung up.
#[test]
fn a_live_reader_gets_the_last_append_before_the_close() {
    let server = Server::start();
    for round in 0..50 {
        let stream = server.stream(&format!("last/{round}")).create();
        let start = stream.tail();
        let mut follower = stream.follow("-1");
        let mut poll = server.connect();
        poll.write(&stream.reading(&start, "&live=long-poll").encode())
            .expect("the server reads");
        // Both in one write, so that the close comes as soon after the append as it can.
        let mut writer = server.connect();
        let closing = stream.request("POST").header("Stream-Closed", "true");
        let both = [
            stream.appending(numbered(0).to_string()).encode(),
            closing.encode(),
        ]
        .concat();
        writer.write(&both).expect("the server reads");
        assert_in_order(
            follower.messages_to_close().iter().map(number_of),
            1,
            "the follower",
        );
        assert!(follower.next_event().is_none() && follower.ended_cleanly());
        let polled = poll
            .read_response("GET")
            .expect("an answer")
            .expect("an answer")
            .expect(200);
        assert_eq!(polled.json(), serde_json::json!([numbered(0)]), "round {round}");
    }
    server.stop();
}

/// A peer's documentation told clients to resume from the `id:` of an event, and its server sent none: each
/// reconnect began at the offset of the URL, and everything was stored twice.
#[test]
fn a_reader_that_reconnects_with_the_last_id_misses_and_repeats_nothing() {
    const MESSAGES: usize = 300;
    let server = Server::start_with(&[("DS_HTTP__SSE_MAX_SECS", "1")]);
    let stream = server.stream("resumed").create();
    let (mut numbers, mut connections) = (Vec::new(), 0);
    let (mut last_id, mut closed) = (None::<String>, false);
    std::thread::scope(|scope| {
        let (halfway, second_half) = std::sync::mpsc::channel();
        let writer = &stream;
        scope.spawn(move || {
            for number in 0..MESSAGES {
                if number == MESSAGES / 2 {
                    // The rest waits until the server has ended the reader's connection once.
                    second_half.recv().expect("the reader reconnects");
                }
                writer.append(numbered(number).to_string());
            }
            writer.close();
        });
        while !closed {
            // As an EventSource does, always from the offset of the first URL.
            let mut request = stream.reading("-1", "&live=sse");
            if let Some(id) = &last_id {
                request = request.header("Last-Event-ID", id);
            }
            let mut events = server.connect().follow(&request);
            connections += 1;
            if connections == 2 {
                halfway.send(()).expect("the writer waits");
            }
            while let Some(event) = events.next_event() {
                if event.kind == "data" {
                    assert!(event.id.is_some(), "a data event without id: {event:?}");
                    numbers.extend(event.messages().iter().map(number_of));
                }
                closed |= event.says_closed();
                last_id = event.id.or(last_id.take());
            }
            assert!(
                events.ended_cleanly(),
                "the server ends the response, not the connection"
            );
        }
    });
    assert_in_order(numbers, MESSAGES, "the reader");
    assert!(connections > 1, "the server never ended a connection");
    let id = last_id.expect("the last event has an id");
    assert!(id.ends_with(".eof"), "the closing event's id is {id}");
    // This is what makes an EventSource give up.
    server
        .send(&stream.reading("-1", "&live=sse").header("Last-Event-ID", &id))
        .expect(204);
    server.stop();
}

/// Offsets of a deleted stream meant something in its re-created namesake: readers went on in the middle of
/// data that had nothing to do with theirs, and nobody noticed.
#[test]
fn a_token_of_a_deleted_stream_never_reads_its_namesake() {
    let server = Server::start();
    let stream = server.stream("name").create();
    let first = stream.append(r#"["old 1"]"#);
    let tail = stream.append(r#"["old 2"]"#);
    stream.delete();
    server.send(&stream.creation()).expect(201);
    stream.append(r#"["new 1", "new 2", "new 3"]"#);
    for token in [&first, &tail] {
        for more in ["", "&live=long-poll", "&live=sse", "&view=records"] {
            let refusal = stream.send(&stream.reading(token, more)).expect(410);
            assert_eq!(refusal.problem(), "offset_unknown", "{more}");
            assert!(!refusal.text().contains("new 1"), "{more}: {}", refusal.text());
        }
        let resumed = stream.reading("-1", "&live=sse").header("Last-Event-ID", token);
        assert_eq!(stream.send(&resumed).expect(410).problem(), "offset_unknown");
        let guarded = stream.appending("1").header("If-Match", &format!("\"{token}\""));
        assert_eq!(stream.send(&guarded).expect(412).problem(), "tail_mismatch");
    }
    server.stop();
}

/// In one server the headers of an answer came from one look at the stream and its body from another: the
/// next offset skipped what had been appended in between.
#[test]
fn a_read_during_appends_skips_and_repeats_nothing() {
    const MESSAGES: usize = 1_000;
    let server = Server::start_with(&[("DS_LIMITS__READ_CHUNK_BYTES", "1024")]);
    let stream = server.stream("moving").create();
    let numbers = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = server.connect();
            for number in 0..MESSAGES {
                connection
                    .send(&stream.appending(numbered(number).to_string()))
                    .expect(204);
            }
            stream.close();
        });
        let (mut numbers, mut offset) = (Vec::new(), "-1".to_owned());
        let mut connection = server.connect();
        loop {
            let answer = connection.send(&stream.reading(&offset, "")).expect(200);
            let batch = answer.json();
            numbers.extend(batch.as_array().expect("an array").iter().map(number_of));
            answer.expect_header("stream-next-offset").clone_into(&mut offset);
            if answer.header("stream-closed").is_some() {
                return numbers;
            }
        }
    });
    assert_in_order(numbers, MESSAGES, "the reader");
    server.stop();
}

/// The reference server said "up to date" of any answer that began at `-1`, though it had cut the answer to its
/// chunk size: clients took the first chunk for the whole stream.
#[test]
fn only_an_answer_that_reaches_the_tail_says_up_to_date() {
    let server = Server::start_with(&[("DS_LIMITS__READ_CHUNK_BYTES", "1024")]);
    let stream = server.stream("chunks").create();
    for number in 0..300 {
        stream.append(numbered(number).to_string());
    }
    stream.close();
    let tail = stream.tail();
    let (mut offset, mut answers) = ("-1".to_owned(), 0);
    while offset != tail {
        let answer = stream.read(&offset).expect(200);
        answer.expect_header("stream-next-offset").clone_into(&mut offset);
        let at_tail = (offset == tail).then_some("true");
        assert_eq!(answer.header("stream-up-to-date"), at_tail, "answer {answers}");
        assert_eq!(answer.header("stream-closed"), at_tail, "answer {answers}");
        answers += 1;
    }
    assert!(answers > 1, "the stream fitted into one answer");

    let mut events = stream.follow("-1");
    while let Some(event) = events.next_event() {
        if event.kind == "control" {
            let control = event.control();
            let at_tail = control["streamNextOffset"] == *tail;
            assert_eq!(control["streamClosed"] == true, at_tail, "{control}");
            assert!(at_tail || control["upToDate"].is_null(), "{control}");
        }
    }
    server.stop();
}

/// The reference server encoded the first events of a binary stream and sent those after the catch-up raw.
#[test]
fn binary_events_are_base64_in_catch_up_and_live() {
    let server = Server::start();
    let stream = server
        .stream("binary")
        .of_type("application/octet-stream")
        .create();
    let bytes: Vec<u8> = (0..=255).collect();
    stream.append(bytes.clone());
    let mut events = stream.follow("-1");
    assert_eq!(events.head.header("stream-sse-data-encoding"), Some("base64"));
    let mut received = Vec::new();
    let mut live = false;
    while let Some(event) = events.next_event() {
        if event.kind == "data" {
            let text = event.data.replace(['\n', '\r'], "");
            received.extend(STANDARD.decode(text).expect("valid base64"));
        } else if !std::mem::replace(&mut live, true) {
            // The reader has caught up; what comes now is live, with line ends that SSE would not survive raw.
            stream.append(b"\n\r\n\0data: x\n\n".as_slice());
            stream.append(bytes.clone());
            stream.close();
        }
    }
    assert_eq!(
        received,
        [bytes.as_slice(), b"\n\r\n\0data: x\n\n", &bytes].concat()
    );
    server.stop();
}

/// Text that looks like the event stream's own syntax has ended events early, forged them or lost its line ends.
#[test]
fn text_events_carry_any_line_ends_and_forge_nothing() {
    let server = Server::start();
    let stream = server.stream("text").of_type("text/plain").create();
    let pieces = [
        "plain",
        "two\nlines",
        "ends\n",
        "\n",
        "\n\n",
        "event: control\ndata: {\"streamClosed\":true}\n\n",
        " led",
        ": no comment",
        "data: x",
        "é\u{2028}€",
    ];
    for piece in pieces {
        stream.append(piece);
    }
    stream.close();
    assert_eq!(stream.read("-1").text(), pieces.concat());
    let (mut text, mut controls) = (String::new(), 0);
    let mut events = stream.follow("-1");
    while let Some(event) = events.next_event() {
        match event.kind.as_str() {
            "data" => text.push_str(&event.data),
            _ => {
                controls += 1;
                assert!(
                    !event.says_closed() || text == pieces.concat(),
                    "closed too early, after {text:?}"
                );
            }
        }
    }
    assert_eq!(text, pieces.concat());
    assert!(controls > 0);
    server.stop();
}

/// The beginning of a text, up to within its second character, and a rest that is longer than one frame of events.
fn cut_within_a_character() -> (Vec<u8>, Vec<u8>) {
    let text = format!("a\u{20ac}{}", "x".repeat(300 << 10)).into_bytes();
    (text[..3].to_vec(), text[3..].to_vec())
}

/// The text of all events up to the one that tells of the close, behind what was already shown.
#[track_caller]
fn text_to_close(events: &mut Events, mut shown: String) -> String {
    let mut controls = 0;
    while let Some(event) = events.next_event() {
        match event.kind.as_str() {
            "data" => shown.push_str(&event.data),
            _ if event.says_closed() => return shown,
            _ => controls += 1,
        }
        assert!(controls < 10, "events that bring nothing, without end");
    }
    panic!("the events ended before the close, behind {} bytes", shown.len());
}

/// An append ended within a character, and the next one was longer than a frame of events: whoever had been shown
/// everything before the character read only its beginning, again and again. A follower waited for ever...
#[test]
fn a_follower_gets_the_long_append_that_completes_a_character() {
    let server = Server::start();
    let stream = server.stream("open").of_type("text/plain").create();
    let (begun, rest) = cut_within_a_character();
    stream.append(begun.clone());
    let mut events = stream.follow("-1");
    let first = events.next_event().expect("an event");
    assert_eq!(first.data, "a", "what can be shown of the first append");
    stream.append(rest.clone());
    let mut shown = first.data;
    while shown.len() < begun.len() + rest.len() {
        let event = events.next_event().expect("the rest");
        if event.kind == "data" {
            shown.push_str(&event.data);
        }
    }
    stream.close();
    let shown = text_to_close(&mut events, shown);
    assert!(
        shown.into_bytes() == [begun, rest].concat(),
        "the text as it was appended"
    );
    assert!(events.next_event().is_none() && events.ended_cleanly());
    server.stop();
}

/// ... and the reader of a closed stream, or of a fork whose source ends within the character, got the same event
/// without end.
#[test]
fn the_reader_of_a_closed_text_gets_all_of_it_wherever_appends_and_forks_cut_it() {
    let server = Server::start();
    let source = server.stream("source").of_type("text/plain").create();
    let fork = server.stream("fork").of_type("text/plain");
    let (begun, rest) = cut_within_a_character();
    source.append(begun.clone());
    server.send(&fork.fork_of(&source)).expect(201);
    for stream in [&source, &fork] {
        stream.append(rest.clone());
        stream.close();
        let mut events = stream.follow("-1");
        let shown = text_to_close(&mut events, String::new());
        assert!(
            shown.into_bytes() == [begun.clone(), rest.clone()].concat(),
            "{} as it was appended",
            stream.path()
        );
        assert!(events.next_event().is_none() && events.ended_cleanly());
    }
    server.stop();
}

/// A peer answered everything with `no-store`, so that no cache could ever help it. What a token of this very
/// stream has behind it never changes once later data has come; the tail and its sentinels do.
#[test]
fn history_may_be_cached_for_ever_and_the_tail_may_not() {
    let settings = [
        ("DS_HTTP__CACHE", "public"),
        ("DS_LIMITS__READ_CHUNK_BYTES", "1024"),
    ];
    let server = Server::start_with(&settings);
    let stream = server.stream("cached").create();
    let early = stream.append(numbered(0).to_string());
    for number in 1..100 {
        stream.append(numbered(number).to_string());
    }
    let cache_control = |request: &Request| {
        let answer = stream.send(request).expect(200);
        answer.expect_header("cache-control").to_owned()
    };
    assert_eq!(
        cache_control(&stream.reading(&early, "")),
        "public, max-age=31536000, immutable"
    );
    assert!(!cache_control(&stream.reading(&stream.tail(), "")).contains("immutable"));
    // The same words mean another stream's data once the stream has been deleted and created anew.
    assert!(!cache_control(&stream.reading("-1", "")).contains("immutable"));
    assert_eq!(cache_control(&stream.reading("now", "")), "no-store");
    assert_eq!(cache_control(&stream.request("HEAD")), "no-store");
    server.stop();
}

/// Between a peer and its clients stood a cache that kept a refusal and gave it to whoever came later, so that clients came
/// again and again for something that had long been there. Caches may keep some refusals without being told so.
#[test]
fn no_refusal_may_be_kept_by_a_cache() {
    let server = Server::start_with(&[("DS_HTTP__CACHE", "public")]);
    let stream = server.stream("refused").create();
    let old = stream.append("1");
    stream.delete();
    server.send(&stream.creation()).expect(201);
    stream.append("[2, 3]");
    stream.close();
    let below = |path: &str| server.path(&format!("__ds/{path}"));
    let old_feed = below("changes?after=0000000000000001_0000000000000001");
    for (request, status) in [
        (server.stream("nobody").request("GET"), 404),
        (server.stream("nobody").request("HEAD"), 404),
        (Request::new("GET", "/elsewhere"), 404),
        (Request::new("GET", &below("nothing")), 404),
        (Request::new("GET", &below("subscriptions/nobody")), 404),
        (Request::new("GET", &below("subscriptions/%ff")), 400),
        (Request::new("GET", &below("schedules/%ff")), 400),
        (Request::new("GET", &below("queues/%ff")), 400),
        (Request::new("PATCH", stream.path()), 405),
        (Request::new("DELETE", &below("streams")), 405),
        (stream.reading("soon", ""), 400),
        (stream.reading(&old, ""), 410),
        (Request::new("GET", &old_feed), 410),
        (stream.appending("4"), 409),
    ] {
        let refusal = server.send(&request).expect(status);
        let told = format!("{request:?}: {refusal:?}");
        assert_eq!(refusal.header("cache-control"), Some("no-store"), "{told}");
        let content_type = refusal.expect_header("content-type");
        assert!(content_type.ends_with("json"), "{told}");
    }
    server.stop();
}
