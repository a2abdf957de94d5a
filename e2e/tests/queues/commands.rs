//! What the commands on queues and runs do.

use serde_json::{Value, json};
use tailwater_e2e::Server;

use super::scene::{QUEUE, run, send, state, succeed};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn a_queue_is_made_used_looked_at_and_deleted() {
    let server = Server::start();
    let made = succeed(
        &server,
        &[
            "queue",
            "create",
            QUEUE,
            "--lease-ms",
            "5000",
            "--max-attempts",
            "1",
            "--backoff-jitter",
            "0",
            "--json",
        ],
    );
    assert_eq!(parsed(&made)["config"]["lease_ms"], 5_000);
    assert_eq!(parsed(&made)["config"]["backoff"]["jitter"].as_f64(), Some(0.0));
    let first = succeed(
        &server,
        &[
            "queue",
            "enqueue",
            QUEUE,
            "{\"n\": 12345678901234567890123}",
            "--id",
            "a",
        ],
    );
    assert_eq!(first, "runs/jobs/a\n");
    assert_eq!(
        succeed(
            &server,
            &[
                "queue",
                "enqueue",
                QUEUE,
                "{\"n\": 12345678901234567890123}",
                "--id",
                "a"
            ]
        ),
        first
    );
    assert_eq!(
        run(&server, &["queue", "enqueue", QUEUE, "2", "--id", "a"])
            .status
            .code(),
        Some(1)
    );
    assert_eq!(
        run(&server, &["queue", "enqueue", QUEUE, "no json"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        succeed(&server, &["queue", "list", "--long"]),
        "jobs\trunning\t1\t0\t0\t0\n"
    );
    let worked = succeed(
        &server,
        &[
            "queue",
            "work",
            QUEUE,
            "--exec",
            "cat; echo problem >&2",
            "--result",
            "last-line",
            "--until-empty",
        ],
    );
    assert_eq!(worked, "runs/jobs/a\tsucceeded\n");
    let events = succeed(&server, &["run", "tail", "runs/jobs/a"]);
    let events: Vec<_> = events.lines().map(parsed).collect();
    let log = |stream: &str, line: &str| json!({ "type": "log", "stream": stream, "line": line });
    assert!(
        events.contains(&log("stdout", "{\"n\": 12345678901234567890123}")),
        "{events:?}"
    );
    assert!(events.contains(&log("stderr", "problem")), "{events:?}");
    assert_eq!(
        parsed(&succeed(&server, &["run", "show", "runs/jobs/a"]))["state"],
        "succeeded"
    );

    succeed(&server, &["queue", "pause", QUEUE]);
    assert_eq!(
        parsed(&succeed(&server, &["queue", "stats", QUEUE]))["paused"],
        true
    );
    succeed(&server, &["queue", "enqueue", QUEUE, "3", "--id", "c"]);
    succeed(&server, &["queue", "resume", QUEUE]);
    succeed(&server, &["run", "cancel", "runs/jobs/c", "--reason", "no more"]);
    assert_eq!(state(&server, "runs/jobs/c"), "cancelled");
    let retried = succeed(&server, &["run", "retry", "runs/jobs/c"]);
    assert_eq!(retried, "runs/jobs/c.2\n");
    let worked = succeed(
        &server,
        &["queue", "work", QUEUE, "--exec", "exit 1", "--until-empty"],
    );
    assert_eq!(worked, "runs/jobs/c.2\tdead\n");
    let dead = parsed(&succeed(&server, &["queue", "dead", QUEUE]));
    assert_eq!(dead["run"], "runs/jobs/c.2");
    let redriven = parsed(&succeed(&server, &["queue", "redrive", QUEUE, "--all"]));
    assert_eq!(
        redriven["redriven"].as_array().map(Vec::len),
        Some(1),
        "{redriven}"
    );
    succeed(
        &server,
        &["append", QUEUE, "--json", "{\"payload\": 4, \"id\": \"a\"}"],
    );
    let dead = tailwater_e2e::eventually("what conflicts is a dead letter", || {
        let dead = succeed(&server, &["queue", "dead", QUEUE]);
        (!dead.is_empty()).then(|| parsed(&dead))
    });
    assert_eq!(
        (&dead["run"], &dead["reason"]),
        (&Value::Null, &json!("conflict"))
    );
    let job = dead["job"].as_str().expect("a job");
    let redriven = parsed(&succeed(&server, &["queue", "redrive", QUEUE, "--job", job]));
    let job = redriven["redriven"][0]["job"].as_str().expect("a job");
    assert_eq!(redriven["redriven"][0]["run"], format!("runs/jobs/{job}"));
    succeed(&server, &["queue", "purge", QUEUE, "--what", "all"]);
    succeed(&server, &["queue", "delete", QUEUE]);
    send(&server, "GET", &format!("queues/{QUEUE}"), &Value::Null).expect(404);
    assert_eq!(
        run(&server, &["queue", "work", QUEUE, "--exec", "true"])
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn a_schedule_is_made_listed_shown_and_deleted() {
    let server = Server::start();
    succeed(&server, &["queue", "create", QUEUE]);
    let put = [
        "schedule",
        "put",
        "nightly",
        "--stream",
        QUEUE,
        "--cron",
        "30 2 * * *",
        "--start-at",
        "2030-01-01T00:00:00Z",
    ];
    let made = succeed(
        &server,
        &[&put[..], &["--misfire", "skip", "--json", "[1]"]].concat(),
    );
    assert_eq!(
        (&parsed(&made)["payload"], &parsed(&made)["misfire"]),
        (&json!([1]), &json!("skip"))
    );
    assert_eq!(
        succeed(&server, &["schedule", "list", "--long"]),
        "nightly\tjobs\t30 2 * * *\tUTC\t2030-01-01T02:30:00.000Z\t\t\n"
    );
    assert_eq!(
        parsed(&succeed(&server, &["schedule", "show", "nightly"]))["id"],
        "nightly"
    );
    succeed(&server, &["schedule", "delete", "nightly"]);
    assert_eq!(succeed(&server, &["schedule", "list"]), "");
    let refused = run(&server, &[&put[..5], &["--cron", "never", "1"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`cron` is \"never\""));
}

/// What was shown was read as numbers and texts of Rust first: one schedule with another payload hid all of them, and long
/// numbers were shown as others.
#[test]
fn a_schedule_is_shown_whatever_its_payload_and_with_that_as_it_was_sent() {
    let server = Server::start();
    succeed(&server, &["queue", "create", QUEUE]);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let payloads = [
        "{\"z\":1e400,\"a\":12345678901234567890123}",
        "\"\\ud800\"",
        deep.as_str(),
    ];
    for (payload, id) in payloads.into_iter().zip(["a", "b", "c"]) {
        let put = ["schedule", "put", id, "--stream", QUEUE, "--cron", "30 2 * * *"];
        let made = succeed(&server, &[&put[..], &["--json", payload]].concat());
        assert!(made.contains(&format!("\"payload\":{payload},")), "{made}");
        assert_eq!(succeed(&server, &["schedule", "show", id]), made);
    }
    assert_eq!(succeed(&server, &["schedule", "list"]), "a\nb\nc\n");
    let listed = succeed(&server, &["schedule", "list", "--json"]);
    for (payload, line) in payloads.into_iter().zip(listed.lines()) {
        assert!(line.contains(&format!("\"payload\":{payload},")), "{line}");
    }
}
