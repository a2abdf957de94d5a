//! What becomes of the programs of a worker, and what their runs say of it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tailwater_e2e::{Request, Server, eventually};

use super::scene::{LEASE_MS, QUEUE, Worker, comes_to, enqueue, events, lines, make_queue, send, state, url};

/// The file of a path says so.
fn says(path: &std::path::Path, text: &str) -> Option<()> {
    std::fs::read_to_string(path)
        .is_ok_and(|content| content.contains(text))
        .then_some(())
}

#[test]
fn a_program_keeps_its_lease_for_longer_than_it_lasts() {
    let server = Server::start();
    make_queue(&server);
    let run = enqueue(&server, "long", &json!(1));
    let seconds = 3 * LEASE_MS / 1_000;
    let _worker = Worker::start(
        &url(&server),
        &format!("echo begun; sleep {seconds}; echo ended"),
        &[],
    );
    comes_to(&server, &run, "succeeded");
    let events = events(&server, &run);
    assert_eq!(lines(&events), ["begun", "ended"]);
    assert!(
        events.iter().all(|event| event["type"] != "run.lease_lost"),
        "{events:?}"
    );
}

#[test]
fn a_run_that_is_called_off_ends_its_program_and_all_that_it_has_started() {
    let server = Server::start();
    make_queue(&server);
    let dir = tempfile::tempdir().expect("a directory");
    let said = dir.path().join("said");
    let run = enqueue(&server, "called-off", &json!(1));
    // A child of the program's, in its group.
    let child = format!(
        "sh -c 'trap \"echo child ended >> {0}; exit\" TERM; echo begun >> {0}; sleep 60 & wait'",
        said.display()
    );
    let _worker = Worker::start(&url(&server), &format!("{child}; sleep 60"), &[]);
    eventually("the program begins", || says(&said, "begun"));
    send(
        &server,
        "POST",
        &format!("runs/{run}/cancel"),
        &json!({ "reason": "no more" }),
    )
    .expect(200);
    comes_to(&server, &run, "cancelled");
    eventually("the program's child is ended", || says(&said, "child ended"));
    let events = events(&server, &run);
    assert_eq!(events.last().expect("an end")["type"], "run.cancelled");
}

#[test]
fn exit_codes_say_what_is_to_become_of_the_job() {
    let server = Server::start();
    let settings = json!({ "lease_ms": LEASE_MS, "max_attempts": 2, "backoff": { "base_ms": 1, "cap_ms": 1, "jitter": 0.0 } });
    send(&server, "PUT", &format!("queues/{QUEUE}"), &settings).expect(201);
    let done = enqueue(&server, "done", &json!(0));
    let failed = enqueue(&server, "failed", &json!(3));
    let hopeless = enqueue(&server, "hopeless", &json!(65));
    let later = enqueue(&server, "later", &json!(75));
    let exec = "read code; echo \"{\\\"code\\\": $code}\"; exit $code";
    let _worker = Worker::start(
        &url(&server),
        exec,
        &["--result", "last-line", "--retry-after-ms", "3600000"],
    );
    comes_to(&server, &done, "succeeded");
    comes_to(&server, &failed, "dead");
    comes_to(&server, &hopeless, "dead");
    comes_to(&server, &later, "retrying");
    let last = |run: &str| events(&server, run).pop().expect("an event");
    assert_eq!(last(&done)["result"], json!({ "code": 0 }));
    let count = |run: &str| {
        events(&server, run)
            .iter()
            .filter(|event| event["type"] == "run.leased")
            .count()
    };
    assert_eq!(
        (count(&failed), count(&hopeless)),
        (2, 1),
        "what is hopeless is not tried again"
    );
    assert_eq!(last(&failed)["error"]["exit_code"], 3);
    assert_eq!(last(&later)["type"], "run.failed");
}

/// A worker stands still past its lease, as a machine does that sleeps, and another one takes over.
#[test]
fn a_worker_that_stands_still_past_its_lease_is_fenced_when_it_wakes_up() {
    let server = Server::start();
    make_queue(&server);
    let dir = tempfile::tempdir().expect("a directory");
    let (asleep, ended) = (dir.path().join("asleep"), dir.path().join("ended"));
    let run = enqueue(&server, "zombie", &json!(1));
    let exec = format!(
        "trap 'echo ended >> {1}; exit 1' TERM; echo \"$TAILWATER_EPOCH 0\"; echo begun >> {0}; \
         for i in $(seq 600); do echo \"$TAILWATER_EPOCH $i\"; sleep 0.1; done",
        asleep.display(),
        ended.display()
    );
    let sleeper = Worker::start(&url(&server), &exec, &["--worker", "sleeper"]);
    eventually("the program begins", || says(&asleep, "begun"));
    // The program goes on to write; what it writes stays in the pipe of a worker that does not read.
    sleeper.signal(Signal::STOP);
    eventually("the lease is lost", || {
        (state(&server, &run) != "leased").then_some(())
    });
    let _other = Worker::start(
        &url(&server),
        "echo \"$TAILWATER_EPOCH 0\"; sleep 2",
        &["--worker", "other"],
    );
    eventually("another one has it", || {
        let shown = send(&server, "GET", &format!("runs/{run}"), &Value::Null)
            .expect(200)
            .json();
        (shown["worker"] == "other").then_some(())
    });
    sleeper.signal(Signal::CONT);
    eventually("the sleeper's program is ended", || says(&ended, "ended"));
    comes_to(&server, &run, "succeeded");
    let events = events(&server, &run);
    let fenced = events
        .iter()
        .position(|event| event["type"] == "run.lease_lost")
        .expect("it was lost");
    let later: Vec<_> = lines(&events[fenced..]);
    assert_eq!(later, ["3 0"], "nothing of the sleeper's stands behind its lease");
    // Whoever writes with its epoch is refused by the server itself.
    let zombie = Request::new("POST", &server.path(&run))
        .header("Content-Type", "application/json")
        .header("Producer-Id", "lease")
        .header("Producer-Epoch", "1")
        .header("Producer-Seq", "500")
        .body(json!({ "type": "log" }).to_string());
    let status = server.send(&zombie).status();
    assert!(matches!(status, 403 | 409), "{status}");
}

#[test]
fn a_worker_that_is_asked_to_stop_lets_its_program_end() {
    let server = Server::start();
    make_queue(&server);
    let run = enqueue(&server, "graceful", &json!(1));
    let next = enqueue(&server, "next", &json!(1));
    let mut worker = Worker::start(&url(&server), "echo begun; sleep 1; echo ended", &[]);
    eventually("the program begins", || {
        (!lines(&events(&server, &run)).is_empty()).then_some(())
    });
    worker.signal(Signal::TERM);
    assert!(worker.ends().success());
    assert_eq!(state(&server, &run), "succeeded");
    assert_eq!(lines(&events(&server, &run)), ["begun", "ended"]);
    assert_eq!(state(&server, &next), "queued", "nothing more is claimed");
}

#[test]
fn a_program_that_outlasts_the_grace_is_ended_and_its_job_given_back_at_once() {
    let server = Server::start();
    let settings = json!({ "lease_ms": 3_600_000 });
    send(&server, "PUT", &format!("queues/{QUEUE}"), &settings).expect(201);
    let run = enqueue(&server, "endless", &json!(1));
    let mut worker = Worker::start(&url(&server), "echo begun; sleep 600", &["--grace-ms", "50"]);
    eventually("the program begins", || {
        (!lines(&events(&server, &run)).is_empty()).then_some(())
    });
    let began = Instant::now();
    worker.signal(Signal::TERM);
    assert!(worker.ends().success());
    assert!(
        began.elapsed() < Duration::from_secs(300),
        "it does not wait for the program"
    );
    assert_eq!(
        events(&server, &run).pop().expect("an event")["type"],
        "run.released"
    );
    let _other = Worker::start(&url(&server), "true", &[]);
    comes_to(&server, &run, "succeeded");
}
