//! What becomes of streams: they appear, grow, are closed, trimmed, deleted and made anew, and the tables follow.

use tailwater_e2e::{Request, eventually};

use crate::rig::Rig;

#[test]
fn what_is_there_and_what_comes_later_becomes_rows_with_offset_time_and_index() {
    let rig = Rig::new("file-durable");
    let orders = rig.server.stream("shop/orders").create();
    orders.append(r#"[{"id":1,"sum":12345678901234567890.5},{"id":2,"note":"ä\u0041"}]"#);
    let mirror = rig.mirror();
    rig.expect_mirrored("shop/orders");
    mirror.expect_ready();
    orders.append(r#"{"id":3}"#);
    let logs = rig.server.stream("logs/1").of_type("text/plain").create();
    logs.append("one\0two");
    rig.expect_mirrored("shop/orders");
    rig.expect_mirrored("logs/1");
    assert_eq!(
        rig.ask("SELECT index, payload FROM tailwater.events WHERE stream = 'shop/orders' ORDER BY index"),
        "0|{\"id\": 1, \"sum\": 12345678901234567890.5}\n1|{\"id\": 2, \"note\": \"äA\"}\n2|{\"id\": 3}"
    );
    assert_eq!(
        rig.ask(
            "SELECT index, content_type, payload, payload_bytes FROM tailwater.events WHERE stream = 'logs/1'"
        ),
        "0|text/plain||\\x6f6e650074776f"
    );
    let recent =
        "SELECT count(*) FROM tailwater.events WHERE abs(extract(epoch FROM now() - appended_at)) < 3600";
    assert_eq!(rig.ask(recent), "4");
    assert_eq!(mirror.metric("tailwater_sync_rows_total"), Some(4.0));
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.dead_letters"), "0");
}

#[test]
fn only_streams_that_are_meant_are_mirrored() {
    let rig = Rig::with("memory", &[], &[("DS_SYNC__STREAMS", "jobs/*, runs/**,notes")]);
    let names = [
        "jobs/a",
        "jobs/a/b",
        "runs/1",
        "runs/1/log",
        "notes",
        "notes/x",
        "other",
    ];
    for name in names {
        rig.server.stream(name).create().append("1");
    }
    let _mirror = rig.mirror();
    for name in ["jobs/a", "runs/1", "runs/1/log", "notes"] {
        rig.expect_mirrored(name);
    }
    // One that comes later and is meant shows that the others were passed over, and not only not reached.
    rig.server.stream("runs/2").create().append("1");
    rig.expect_mirrored("runs/2");
    assert_eq!(
        rig.ask("SELECT string_agg(name, ' ' ORDER BY name) FROM tailwater.streams"),
        "jobs/a notes runs/1 runs/1/log runs/2"
    );
}

#[test]
fn a_closed_stream_is_told_to_be_closed_also_if_nothing_came_with_the_close() {
    let rig = Rig::new("memory");
    let _mirror = rig.mirror();
    rig.server.stream("empty").create().close();
    let full = rig.server.stream("full").create();
    full.append("[1,2]");
    rig.expect_mirrored("full");
    full.close();
    let closed =
        "SELECT string_agg(name || ' ' || events, ',' ORDER BY name) FROM tailwater.streams WHERE closed";
    rig.expect(closed, "empty 0,full 2");
}

#[test]
fn a_stream_that_is_made_anew_is_another_incarnation_and_the_old_rows_stay() {
    let rig = Rig::new("file-durable");
    let mirror = rig.mirror();
    let stream = rig.server.stream("runs/1").create();
    stream.append(r#"["a","b"]"#);
    rig.expect_mirrored("runs/1");
    stream.delete();
    let stream = stream.create();
    stream.append(r#"["c"]"#);
    rig.expect_mirrored("runs/1");
    // Also while nobody looks.
    mirror.stop();
    stream.delete();
    let stream = stream.create();
    stream.append(r#"["d","e","f"]"#);
    let _mirror = rig.mirror();
    rig.expect_mirrored("runs/1");
    assert_eq!(
        rig.ask(
            "SELECT string_agg(payload #>> '{}', '' ORDER BY position) FROM tailwater.events WHERE stream = 'runs/1' \
             GROUP BY incarnation ORDER BY incarnation"
        ),
        "ab\nc\ndef"
    );
    assert_eq!(
        rig.ask("SELECT events, deleted_at IS NULL FROM tailwater.streams"),
        "3|t"
    );
}

#[test]
fn a_deleted_stream_is_marked_and_its_rows_stay() {
    let rig = Rig::with("file-durable", &[], &[("DS_SYNC__LEASE_MS", "500")]);
    let mirror = rig.mirror();
    for name in ["seen", "unseen", "kept"] {
        rig.server.stream(name).create().append("1");
        rig.expect_mirrored(name);
    }
    let deleted =
        "SELECT string_agg(name, ' ' ORDER BY name) FROM tailwater.streams WHERE deleted_at IS NOT NULL";
    rig.server.stream("seen").delete();
    rig.expect(deleted, "seen");
    mirror.kill();
    rig.server.stream("unseen").delete();
    let mirror = rig.mirror();
    rig.expect(deleted, "seen unseen");
    mirror.expect_ready();
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.events"), "3");
}

#[test]
fn what_was_trimmed_before_it_was_read_is_told_and_the_rest_is_mirrored() {
    let rig = Rig::new("file-durable");
    let mirror = rig.mirror();
    let stream = rig.server.stream("s").create();
    stream.append("[0,1]");
    rig.expect_mirrored("s");
    mirror.stop();
    let lost = stream.append("[2,3]");
    stream.append("[4]");
    let trim = Request::new("POST", &rig.server.path("__ds/trim"))
        .body(format!(r#"{{"stream":"s","before":"{lost}"}}"#));
    rig.server.send(&trim).expect(204);
    let mirror = rig.mirror();
    rig.expect_mirrored("s");
    assert_eq!(
        rig.ask("SELECT string_agg(payload::text || '@' || index, ' ' ORDER BY index) FROM tailwater.events"),
        "0@0 1@1 4@4"
    );
    let told = rig.ask("SELECT skipped_bytes > 0, last_error LIKE '%trimmed before%' FROM tailwater.streams");
    assert_eq!(told, "t|t");
    assert_eq!(mirror.metric("tailwater_sync_gaps_total"), Some(1.0));
    // All of a stream may be gone, and more come later.
    let stream = rig.server.stream("all").create();
    mirror.stop();
    let end = stream.append("[0,1]");
    let trim = Request::new("POST", &rig.server.path("__ds/trim"))
        .body(format!(r#"{{"stream":"all","before":"{end}"}}"#));
    rig.server.send(&trim).expect(204);
    let _mirror = rig.mirror();
    rig.expect_mirrored("all");
    stream.append("[2]");
    rig.expect_mirrored("all");
    assert_eq!(
        rig.ask("SELECT payload, index FROM tailwater.events WHERE stream = 'all'"),
        "2|2"
    );
}

/// The mirror's question to the feed waits for an hour, and for two minutes at the mirror itself, which is longer than
/// a test waits. So nobody looks but who is told.
#[test]
fn a_new_stream_is_told_of_by_the_feed_and_found_by_nobody_who_looks_now_and_then() {
    let rig = Rig::with("memory", &[("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "3600")], &[]);
    let mirror = rig.mirror();
    mirror.expect_ready();
    for number in 0..5 {
        eventually("the mirror waits for news", || {
            let page = rig.server.send(&Request::new("GET", "/metrics")).expect(200);
            let waits = page.text().lines().any(|line| line == "tailwater_live_readers 1");
            waits.then_some(())
        });
        let name = format!("runs/{number}");
        rig.server.stream(&name).create().append("1");
        rig.expect_mirrored(&name);
    }
    assert_eq!(
        mirror.metric("tailwater_sync_retries_total{what=\"feed\"}"),
        Some(0.0)
    );
}

#[test]
fn a_fork_has_what_it_inherits_too() {
    let rig = Rig::new("file-durable");
    let _mirror = rig.mirror();
    let source = rig.server.stream("source").create();
    source.append("[0,1]");
    let fork = rig.server.stream("fork");
    rig.server.send(&fork.fork_of(&source)).expect(201);
    fork.append("[2]");
    rig.expect_mirrored("source");
    rig.expect_mirrored("fork");
    assert_eq!(
        rig.ask(
            "SELECT stream, string_agg(payload #>> '{}', '' ORDER BY index) FROM tailwater.events \
             GROUP BY stream ORDER BY stream"
        ),
        "fork|012\nsource|01"
    );
}
