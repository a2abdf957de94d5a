//! The server as a buffer in front of PostgreSQL: what is mirrored is taken away there, and nothing else is.

use serde_json::{Value, json};
use tailwater_e2e::{Request, eventually};

use crate::rig::Rig;

/// What the server holds at most in these tests.
const LIMIT: &str = "1MiB";

#[test]
fn a_full_memory_server_takes_appends_again_once_the_mirror_has_caught_up() {
    let limits = [
        ("DS_LIMITS__MAX_MEMORY_BYTES", LIMIT),
        ("DS_LIMITS__MAX_STREAM_BYTES", LIMIT),
    ];
    let rig = Rig::with("memory", &limits, &[("DS_SYNC__TRIM_AFTER_SYNC", "true")]);
    let stream = rig.server.stream("buffer").create();
    let event = |number: u64| format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(4_000));
    let mut appended = 0;
    let refusal = loop {
        let answer = stream.send(&stream.appending(event(appended)));
        if answer.status() != 204 {
            break answer;
        }
        appended += 1;
    };
    assert!(matches!(refusal.status(), 413 | 507), "{refusal:?}");
    assert!(appended > 100, "the server was full after {appended} events");

    let mirror = rig.mirror();
    // Three times what it holds goes through it.
    let all = 4 * appended;
    while appended < all {
        eventually("the server takes appends again", || {
            let answer = stream.send(&stream.appending(event(appended)));
            (answer.status() == 204).then_some(())
        });
        appended += 1;
    }
    rig.expect_mirrored("buffer");
    assert_eq!(
        rig.ask(
            "SELECT count(*), count(DISTINCT payload -> 'n'), bool_and((payload ->> 'n')::int = index) \
             FROM tailwater.events"
        ),
        format!("{all}|{all}|t")
    );
    assert!(mirror.metric("tailwater_sync_trims_total") > Some(2.0));
    assert_eq!(mirror.metric("tailwater_sync_gaps_total"), Some(0.0));
    // The stream is there, open, and empty: all of it was trimmed.
    eventually("the rest is trimmed", || {
        let head = stream.send(&stream.request("HEAD")).expect(200);
        (head.header("stream-oldest-offset") == head.header("stream-next-offset")).then_some(())
    });
}

#[test]
fn a_closed_stream_is_deleted_at_the_source_once_its_last_row_is_there_and_an_open_one_is_not() {
    let rig = Rig::with("file-durable", &[], &[("DS_SYNC__DELETE_AFTER_SYNC", "true")]);
    let mirror = rig.mirror();
    let open = rig.server.stream("open").create();
    open.append("[1]");
    for run in 0..20 {
        let stream = rig.server.stream(&format!("runs/{run}")).create();
        stream.append("[1,2]");
        let last = stream.appending("[3]").header("Stream-Closed", "true");
        rig.server.send(&last).expect(204);
    }
    eventually("closed streams are gone", || {
        names(&rig).eq(&["open"]).then_some(())
    });
    let whole = "SELECT count(DISTINCT stream), count(*) FROM tailwater.events WHERE stream LIKE 'runs/%'";
    assert_eq!(
        rig.ask(whole),
        "20|60",
        "nothing was deleted before it was mirrored"
    );
    rig.expect(
        "SELECT count(*) FROM tailwater.streams WHERE closed AND deleted_at IS NOT NULL",
        "20",
    );
    eventually("it is counted", || {
        (mirror.metric("tailwater_sync_deletions_total") == Some(20.0)).then_some(())
    });
}

#[test]
fn what_an_earlier_run_has_mirrored_and_not_deleted_is_deleted_by_the_next() {
    let rig = Rig::new("file-durable");
    let mirror = rig.mirror();
    let stream = rig.server.stream("done").create();
    stream.append("[1]");
    stream.close();
    rig.expect("SELECT closed FROM tailwater.streams", "t");
    mirror.stop();
    assert_eq!(names(&rig), ["done"]);
    let _mirror = rig.mirror_with(&[("DS_SYNC__DELETE_AFTER_SYNC", "true")]);
    eventually("it is gone", || names(&rig).is_empty().then_some(()));
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.events"), "1");
}

#[test]
fn nothing_is_taken_away_at_the_source_without_being_asked() {
    let rig = Rig::new("file-durable");
    let mirror = rig.mirror();
    let stream = rig.server.stream("done").create();
    stream.append("[1]");
    stream.close();
    rig.expect("SELECT closed FROM tailwater.streams", "t");
    mirror.stop();
    assert_eq!(stream.messages(), [Value::from(1)]);
}

/// A mirror of all streams that trims them took jobs away that had not been admitted yet, since the stream of a queue was trimmed
/// like any other; and the queue stood still from then on.
#[test]
fn job_queues_and_open_runs_are_left_whole_and_runs_that_have_ended_are_deleted() {
    let settings = [
        ("DS_SYNC__TRIM_AFTER_SYNC", "true"),
        ("DS_SYNC__DELETE_AFTER_SYNC", "true"),
    ];
    let rig = Rig::with("file-durable", &[], &settings);
    let call = |rig: &Rig, method: &str, below: &str, body: &Value| {
        let request = Request::new(method, &rig.server.path(&format!("__ds/{below}")));
        rig.server.send(
            &request
                .header("Content-Type", "application/json")
                .body(body.to_string()),
        )
    };
    call(&rig, "PUT", "queues/jobs", &json!({})).expect(201);
    let jobs = rig.server.stream("jobs");
    for id in ["a", "b", "c"] {
        jobs.append(format!(r#"{{"id":"{id}","payload":1}}"#));
    }
    let mirror = rig.mirror();
    rig.expect_mirrored("jobs");
    let is_refused = |code: &str| {
        let page = rig.server.get("/metrics").expect(200);
        let sample = format!("tailwater_refusals_total{{code=\"{code}\"}} ");
        let count = page
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(&sample)?.parse().ok());
        count.is_some_and(|count: u64| count > 0)
    };
    for code in ["stream_is_queue", "run_open"] {
        eventually("the mirror has asked for a trim", || {
            is_refused(code).then_some(())
        });
    }
    let retries = mirror.metric("tailwater_sync_retries_total{what=\"upkeep\"}");
    assert_eq!(retries, Some(0.0), "that is no failure");

    // What is not in memory is read again.
    let rig = rig.restart_server();
    for id in ["a", "b", "c"] {
        let claim = json!({ "worker": "w", "wait_ms": 10_000 });
        let claimed = call(&rig, "POST", "queues/jobs/claim", &claim).expect(200).json();
        let (job, run) = (&claimed["jobs"][0], format!("runs/jobs/{id}"));
        assert_eq!(job["run"], run, "{claimed}");
        let end = json!({ "epoch": job["epoch"], "seq": job["next_seq"] });
        call(&rig, "POST", &format!("runs/{run}/complete"), &end).expect(200);
        eventually("the run is deleted", || {
            let head = rig.server.stream(&run).request("HEAD");
            (rig.server.send(&head).status() == 404).then_some(())
        });
    }
    assert_eq!(
        rig.ask(
            "SELECT string_agg(stream, ' ' ORDER BY stream) FROM tailwater.events WHERE payload ->> 'type' = 'run.succeeded'"
        ),
        "runs/jobs/a runs/jobs/b runs/jobs/c"
    );
    // Its id is free.
    let job = json!({ "id": "a", "payload": 2 });
    call(&rig, "POST", "queues/jobs/enqueue", &job).expect(201);
    rig.expect_mirrored("runs/jobs/a");
    assert_eq!(
        rig.ask("SELECT count(DISTINCT incarnation) FROM tailwater.events WHERE stream = 'runs/jobs/a'"),
        "2"
    );
    mirror.stop();
}

fn names(rig: &Rig) -> Vec<String> {
    let listing = rig
        .server
        .get(&rig.server.path("__ds/streams"))
        .expect(200)
        .json();
    let streams = listing["streams"].as_array().cloned().unwrap_or_default();
    streams
        .iter()
        .map(|stream| stream["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}
