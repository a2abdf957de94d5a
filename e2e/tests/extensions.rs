//! What the server offers beyond the protocol: guarded appends, trims, records, listings, the change feed.

use serde_json::{Value, json};
use tailwater_e2e::{Events, Request, Response, Server, eventually};

const TEXT: &str = "text/plain";

fn control(server: &Server, path: &str) -> String {
    format!("{}/__ds/{path}", server.base_path())
}

fn trim(server: &Server, stream: &str, before: &str) -> Response {
    let body = json!({ "stream": stream, "before": before }).to_string();
    server.send(&Request::new("POST", &control(server, "trim")).body(body))
}

fn changes(server: &Server, query: &str) -> Value {
    server
        .get(&control(server, &format!("changes?{query}")))
        .expect(200)
        .json()
}

/// Each change as its type and its stream.
fn told(page: &Value) -> Vec<(String, String)> {
    let text = |change: &Value, field: &str| change[field].as_str().expect("a text").to_owned();
    let changes = page["changes"].as_array().expect("a list of changes");
    changes
        .iter()
        .map(|change| (text(change, "type"), text(change, "stream")))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(kind, stream)| ((*kind).to_owned(), (*stream).to_owned()))
        .collect()
}

#[test]
fn an_append_guarded_by_the_tail_is_refused_once_somebody_else_has_appended() {
    let server = Server::start();
    let stream = server.stream("guarded").create();
    let tail = stream.append("1");
    let guarded = stream.appending("2").header("If-Match", &format!("\"{tail}\""));
    let next = stream
        .send(&guarded)
        .expect(204)
        .expect_header("stream-next-offset")
        .to_owned();
    let refused = stream.send(&guarded).expect(412);
    assert_eq!(refused.problem(), "tail_mismatch");
    assert_eq!(refused.expect_header("stream-next-offset"), next);
    assert_eq!(stream.messages(), [1, 2]);
}

/// The condition was passed over, and both were told that all is well.
#[test]
fn of_two_who_want_to_be_the_first_one_is_told_so() {
    let server = Server::start();
    let stream = server.stream("claims/1");
    let first = stream.creation().header("If-None-Match", "*");
    stream.send(&first).expect(201);
    let refused = stream.send(&first).expect(412);
    assert_eq!(refused.problem(), "already_exists");
    stream.send(&stream.creation()).expect(200);
    for (name, value) in [("If-None-Match", "\"x\""), ("If-Match", "*")] {
        let refused = stream.send(&stream.creation().header(name, value)).expect(400);
        assert_eq!(refused.problem(), "invalid_header");
    }
    stream.delete();
    stream.send(&first).expect(201);
    server.stop();
}

/// The condition was passed over, and the stream deleted whatever had come since.
#[test]
fn a_deletion_guarded_by_the_tail_deletes_nothing_that_has_come_since() {
    let server = Server::start();
    let stream = server.stream("guarded").create();
    let tail = stream.append("1");
    let guarded = |tail: &str| {
        stream
            .request("DELETE")
            .header("If-Match", &format!("\"{tail}\""))
    };
    let newer = stream.append("2");
    let refused = stream.send(&guarded(&tail)).expect(412);
    assert_eq!(refused.problem(), "tail_mismatch");
    assert_eq!(refused.expect_header("stream-next-offset"), newer);
    stream.delete();
    stream.send(&stream.creation()).expect(201);
    let anew = stream.append("[1, 2]");
    stream.send(&guarded(&newer)).expect(412);
    assert_eq!(stream.messages(), [1, 2]);
    stream.send(&guarded(&anew)).expect(204);
    stream.send(&guarded(&anew)).expect(404);
    server.stop();
}

/// The producer's answer was lost; its retry must not be told that somebody else was faster.
#[test]
fn a_retry_of_a_guarded_append_is_still_a_duplicate() {
    let server = Server::start();
    let stream = server.stream("guarded").create();
    let guarded = stream
        .appending("1")
        .header("If-Match", "\"0000000000000000_0000000000000000\"")
        .header("Producer-Id", "p")
        .header("Producer-Epoch", "0")
        .header("Producer-Seq", "0");
    stream.send(&guarded).expect(200);
    stream.send(&guarded).expect(204);
    assert_eq!(stream.messages(), [1]);
}

#[test]
fn what_is_trimmed_is_gone_and_the_rest_is_read_as_before() {
    let server = Server::start();
    let stream = server.stream("trimmed").create();
    let first = stream.append("[1,2]");
    let second = stream.append("3");
    let answer = trim(&server, "trimmed", &first).expect(204);
    assert_eq!(answer.expect_header("stream-oldest-offset"), first);
    for offset in ["-1", "0000000000000000_0000000000000000"] {
        let refused = stream.read(offset).expect(410);
        assert_eq!(refused.problem(), "offset_trimmed");
        assert_eq!(refused.expect_header("stream-oldest-offset"), first);
    }
    assert_eq!(stream.read(&first).expect(200).json(), json!([3]));
    assert_eq!(stream.read(&second).expect(200).json(), json!([]));
    let head = stream.send(&stream.request("HEAD")).expect(200);
    assert_eq!(head.expect_header("stream-oldest-offset"), first);
    // Trimming again, or less, changes nothing.
    trim(&server, "trimmed", &first).expect(204);
    assert_eq!(stream.append("4"), stream.tail());
}

#[test]
fn a_trim_that_cannot_be_meant_is_refused_with_what_to_do() {
    let server = Server::start();
    let stream = server.stream("trimmed").create();
    let tail = stream.append("[10,20]");
    let inside = format!("{}_{:016}", &tail[..16], 2);
    assert_eq!(
        trim(&server, "trimmed", &inside).expect(410).problem(),
        "offset_unknown"
    );
    assert_eq!(
        trim(&server, "trimmed", "7").expect(400).problem(),
        "invalid_offset"
    );
    for word in ["-1", "now"] {
        let refused = trim(&server, "trimmed", word).expect(400);
        assert_eq!(refused.problem(), "invalid_offset");
        let said = refused.text();
        assert!(
            said.contains("`before`") && !said.contains("send `-1`"),
            "{said} advises what a trim does not take"
        );
    }
    assert_eq!(
        trim(&server, "none", &tail).expect(404).problem(),
        "stream_not_found"
    );
    let unread = Request::new("POST", &control(&server, "trim")).body("{\"stream\":1}");
    assert_eq!(server.send(&unread).expect(400).problem(), "invalid_json");
    assert_eq!(stream.messages(), [10, 20]);
}

#[test]
fn records_tell_offset_time_and_number_of_each_message_however_they_were_appended() {
    let server = Server::start();
    let stream = server.stream("records").create();
    let first = stream.append("[{\"a\":1},\"two\"]");
    let second = stream.append("3");
    let answer = stream.send(&stream.reading("-1", "&view=records")).expect(200);
    assert_eq!(answer.expect_header("content-type"), "application/x-ndjson");
    let records: Vec<Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let data: Vec<_> = records.iter().map(|record| record["data"].clone()).collect();
    assert_eq!(data, [json!({"a":1}), json!("two"), json!(3)]);
    let numbers: Vec<_> = records.iter().map(|record| record["index"].clone()).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(
        (&records[1]["offset"], &records[2]["offset"]),
        (&json!(first), &json!(second))
    );
    assert!(
        records
            .iter()
            .all(|record| record["at"].as_str().is_some_and(|at| at.ends_with('Z')))
    );
    // Every record's offset is a place to go on from, also between messages of one append.
    let between = records[0]["offset"].as_str().expect("a text");
    assert_eq!(stream.read(between).expect(200).json(), json!(["two", 3]));
}

#[test]
fn records_of_other_types_are_appends_as_text_or_base64() {
    let server = Server::start();
    let text = server.stream("records/text").of_type(TEXT).create();
    text.append("a\n\"b\"");
    let binary = server
        .stream("records/binary")
        .of_type("application/octet-stream")
        .create();
    binary.append(b"\x00\xff".as_slice());
    let record = |stream: &tailwater_e2e::Stream<'_>| -> Value {
        let answer = stream.send(&stream.reading("-1", "&view=records")).expect(200);
        serde_json::from_str(answer.text().trim_end()).expect("one record")
    };
    assert_eq!(record(&text)["data"], "a\n\"b\"");
    assert_eq!(
        (&record(&binary)["data"], &record(&binary)["encoding"]),
        (&json!("AP8="), &json!("base64"))
    );
}

#[test]
fn records_are_events_of_their_own_in_a_live_read() {
    let server = Server::start();
    let stream = server.stream("records").create();
    stream.append("[1,2]");
    let mut events = stream
        .connect()
        .follow(&stream.reading("-1", "&live=sse&view=records"));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = events.next_event().expect("an event");
        if event.kind == "data" {
            let record: Value = serde_json::from_str(&event.data).expect("a record");
            assert_eq!(record["offset"], json!(event.id.expect("an id")));
            seen.push(record["data"].clone());
        }
    }
    assert_eq!(seen, [1, 2]);
}

#[test]
fn a_listing_gives_pages_in_the_order_of_names() {
    let server = Server::start();
    for name in ["runs/2", "jobs/a", "runs/10", "runs/1"] {
        server.stream(name).create().append("[1,2]");
    }
    server.stream("runs/1").close();
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let query = format!("streams?prefix=runs/&limit=2{after}");
        let page = server.get(&control(&server, &query)).expect(200).json();
        names.extend(
            page["streams"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|stream| stream["name"].clone()),
        );
        let Some(last) = page["after"].as_str() else { break };
        after = format!("&after={last}");
    }
    assert_eq!(names, ["runs/1", "runs/10", "runs/2"]);
    let page = server
        .get(&control(&server, "streams?prefix=runs/1&limit=1"))
        .expect(200)
        .json();
    let listed = &page["streams"][0];
    assert_eq!(
        (&listed["closed"], &listed["messages"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(listed["next_offset"], json!(server.stream("runs/1").tail()));
    let refused = server.get(&control(&server, "streams?limit=0")).expect(400);
    assert_eq!(refused.problem(), "invalid_query");
}

#[test]
fn a_listing_and_the_changes_after_it_miss_nothing() {
    let server = Server::start();
    server.stream("a").create().append("1");
    let listing = server.get(&control(&server, "streams")).expect(200).json();
    let token = listing["changes"].as_str().expect("a token");
    let stream = server.stream("a");
    stream.append("2");
    stream.append("3");
    server.stream("b").create();
    stream.close();
    server.stream("b").delete();
    let page = changes(&server, &format!("after={token}"));
    let expected = [
        ("appended", "a"),
        ("created", "b"),
        ("closed", "a"),
        ("deleted", "b"),
    ];
    assert_eq!(told(&page), pairs(&expected));
    assert_eq!(page["changes"][0]["next_offset"], json!(stream.tail()));
    assert_eq!(page["up_to_date"], true);
    // From its end on there is nothing, and the same token gives the same again.
    let end = page["after"].as_str().expect("a token");
    assert_eq!(told(&changes(&server, &format!("after={end}"))), []);
    assert_eq!(
        told(&changes(&server, &format!("after={token}"))),
        pairs(&expected)
    );
    assert_eq!(
        told(&changes(&server, &format!("prefix=b&after={token}"))),
        pairs(&expected[1..2])
            .into_iter()
            .chain(pairs(&expected[3..]))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_live_reader_of_the_changes_resumes_where_it_was() {
    let server = Server::start();
    let path = control(&server, "changes?live=sse");
    let mut events = server.connect().follow(&Request::new("GET", &path));
    let first = events.next_event().expect("where the feed is");
    assert_eq!(told(&serde_json::from_str(&first.data).expect("JSON")), []);
    server.stream("a").create();
    let event = events.next_event().expect("a change");
    assert_eq!(
        told(&serde_json::from_str(&event.data).expect("JSON")),
        pairs(&[("created", "a")])
    );
    drop(events);
    server.stream("b").create();
    let again = Request::new("GET", &path).header("Last-Event-ID", &event.id.expect("an id"));
    let event = server
        .connect()
        .follow(&again)
        .next_event()
        .expect("what was missed");
    assert_eq!(
        told(&serde_json::from_str(&event.data).expect("JSON")),
        pairs(&[("created", "b")])
    );
}

/// Follows the changes of streams whose names begin with `quiet/`, from now on.
#[track_caller]
fn follow_quiet(server: &Server) -> Events {
    let path = control(server, "changes?live=sse&prefix=quiet/");
    let mut events = server.connect().follow(&Request::new("GET", &path));
    events.next_event().expect("where the feed is");
    events
}

/// Makes so many changes of other streams, and returns the token behind them.
fn change_others(server: &Server, count: usize) -> String {
    for _ in 0..count {
        let name = format!("busy/{}", fastrand::u64(..));
        server.stream(&name).create();
    }
    let now = changes(server, "");
    now["after"].as_str().expect("a token").to_owned()
}

/// Waits for the id of what comes next, which tells of no change.
#[track_caller]
fn id_without_changes(events: &mut Events) -> String {
    let event = events.next_event().expect("an event");
    assert_eq!(event.kind, "changes");
    assert_eq!(told(&serde_json::from_str(&event.data).expect("JSON")), []);
    event.id.expect("an id")
}

/// An `EventSource` of a quiet prefix was told of no place but that of its last change. Others changed so much that the
/// feed did not reach back to it any more when the server ended the connection, and the reconnect was refused for good.
#[test]
fn whoever_follows_a_quiet_prefix_can_resume_when_the_server_ends_the_connection() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CHANGES", "10"), ("DS_HTTP__SSE_MAX_SECS", "2")]);
    // On a slow machine the server may end the connection before the others have changed anything.
    let id = eventually("an id of what happened shortly before the end", || {
        let mut events = follow_quiet(&server);
        let newest = change_others(&server, 2);
        let mut last_id = None;
        while let Some(event) = events.next_event() {
            assert_eq!(told(&serde_json::from_str(&event.data).expect("JSON")), []);
            last_id = event.id;
        }
        assert!(events.ended_cleanly());
        last_id.filter(|id| *id == newest)
    });
    let others = change_others(&server, 9);
    let path = control(&server, "changes?live=sse&prefix=quiet/");
    let again = Request::new("GET", &path).header("Last-Event-ID", &id);
    let mut events = server.connect().follow(&again);
    assert_eq!(id_without_changes(&mut events), others);
    server.stop();
}

/// A connection may also break before the server ends it.
#[test]
fn whoever_follows_a_quiet_prefix_is_told_how_far_the_feed_came_instead_of_a_comment() {
    let server = Server::start_with(&[("DS_HTTP__SSE_KEEP_ALIVE_SECS", "1")]);
    let mut events = follow_quiet(&server);
    let newest = change_others(&server, 2);
    while id_without_changes(&mut events) != newest {}
    // With nothing new to tell there is a comment.
    events.await_comment();
    server.stop();
}

/// ... and others may change more than the feed keeps before it is time for a comment.
#[test]
fn whoever_follows_a_quiet_prefix_is_told_how_far_the_feed_came_before_it_is_too_far() {
    let day = "86400";
    let server = Server::start_with(&[
        ("DS_LIMITS__MAX_CHANGES", "10"),
        ("DS_HTTP__SSE_KEEP_ALIVE_SECS", day),
        ("DS_HTTP__SSE_MAX_SECS", day),
    ]);
    let mut events = follow_quiet(&server);
    for _ in 0..10 {
        change_others(&server, 5);
        let path = control(
            &server,
            &format!("changes?after={}", id_without_changes(&mut events)),
        );
        server.get(&path).expect(200);
    }
    server.stop();
}

#[test]
fn a_long_poll_of_the_changes_ends_with_the_first_change_of_its_prefix() {
    let server = Server::start();
    let token = changes(&server, "")["after"]
        .as_str()
        .expect("a token")
        .to_owned();
    let mut waiting = server.connect();
    let path = control(&server, &format!("changes?live=long-poll&prefix=b&after={token}"));
    waiting.write(&Request::new("GET", &path).encode()).expect("sent");
    server.stream("a").create();
    server.stream("b").create();
    let answer = waiting
        .read_response("GET")
        .expect("an answer")
        .expect("an answer")
        .expect(200);
    assert_eq!(told(&answer.json()), pairs(&[("created", "b")]));
}

#[test]
fn who_falls_behind_the_changes_or_comes_from_another_run_is_told_to_list_again() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CHANGES", "4")]);
    let token = changes(&server, "")["after"]
        .as_str()
        .expect("a token")
        .to_owned();
    for number in 0..5 {
        server.stream(&format!("s/{number}")).create();
    }
    let path = control(&server, &format!("changes?after={token}"));
    assert_eq!(server.get(&path).expect(410).problem(), "changes_gone");
    let other = Server::start();
    let path = control(&other, &format!("changes?after={token}"));
    assert_eq!(other.get(&path).expect(410).problem(), "changes_gone");
    let path = control(&server, "changes?after=yesterday");
    assert_eq!(server.get(&path).expect(400).problem(), "invalid_query");
}

/// A cache that keeps for ever what can still change serves old data for ever.
#[test]
fn only_what_cannot_change_may_be_kept_for_ever() {
    let server = Server::start_with(&[("DS_LIMITS__READ_CHUNK_BYTES", "8"), ("DS_HTTP__CACHE", "public")]);
    let stream = server.stream("cached").of_type(TEXT).create();
    let first = stream.append("12345678");
    let second = stream.append("abcdefgh");
    let third = stream.append("last");
    let kept = |offset: &str| {
        stream
            .read(offset)
            .expect(200)
            .expect_header("cache-control")
            .to_owned()
    };
    // The beginning is the same text in every stream of that name.
    assert!(!kept("-1").contains("immutable"));
    assert!(!kept("0000000000000000_0000000000000000").contains("immutable"));
    assert!(kept(&first).contains("immutable"), "closed off by later data");
    assert!(!kept(&second).contains("immutable"), "the open tail");
    assert!(!kept(&third).contains("immutable"), "nothing, which is no data");
    stream.close();
    assert!(kept(&second).contains("immutable"), "closed off by the close");
    let fork = server.stream("cached/fork");
    server.send(&fork.fork_of(&stream)).expect(201);
    let inherited = fork.read(&first).expect(200);
    assert!(
        !inherited.expect_header("cache-control").contains("immutable"),
        "inherited"
    );
}
