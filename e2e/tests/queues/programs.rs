//! What becomes of the programs of a worker, and what their runs say of it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tailwater_e2e::proxy::HoldingProxy;
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

/// What was on its way when a program ended had two seconds to reach the server; the rest was left out without a word, and the
/// run had an earlier line as its result.
#[test]
fn all_that_a_program_has_written_is_in_its_run_however_slow_the_server_is() {
    const LINES: usize = 20_000;
    let server = Server::start();
    send(&server, "PUT", &format!("queues/{QUEUE}"), &json!({})).expect(201);
    let proxy = HoldingProxy::before(server.address());
    proxy.hold_each(Duration::from_millis(100));
    let run = enqueue(&server, "chatty", &json!(1));
    let url_of_proxy = format!("http://{}{}", proxy.address(), server.base_path());
    let exec = format!("echo '{{\"r\":0}}'; seq {LINES}; echo '{{\"r\":1}}'");
    let _worker = Worker::start(&url_of_proxy, &exec, &["--result", "last-line"]);
    comes_to(&server, &run, "succeeded");
    let events = events(&server, &run);
    let mut expected: Vec<_> = (1..=LINES).map(|number| number.to_string()).collect();
    expected.insert(0, "{\"r\":0}".to_owned());
    expected.push("{\"r\":1}".to_owned());
    let lines = lines(&events);
    assert_eq!(lines.len(), expected.len());
    assert!(lines == expected, "lines come in order");
    assert_eq!(events.last().expect("an end")["result"], json!({ "r": 1 }));
}

#[test]
fn a_result_may_be_longer_than_a_line_of_the_log_but_not_of_any_length() {
    let server = Server::start();
    make_queue(&server);
    let long = enqueue(&server, "long", &json!(500_000));
    let too_long = enqueue(&server, "too-long", &json!(600_000));
    let exec = "read count; echo '[0]'; printf '[\"'; head -c $count /dev/zero | tr '\\0' x; printf '\"]'";
    let _worker = Worker::start(&url(&server), exec, &["--result", "last-line"]);
    comes_to(&server, &long, "succeeded");
    comes_to(&server, &too_long, "dead");
    let last = |run: &str| events(&server, run).pop().expect("an event");
    let result = last(&long)["result"][0].as_str().map(str::len);
    assert_eq!(result, Some(500_000));
    let why = last(&too_long)["error"]["message"].to_string();
    assert!(why.contains("has more than 524288 bytes"), "{why}");
}

/// A worker took the refusal of a full run for the loss of its lease: its program was ended at the first line too many, in each
/// attempt.
#[test]
fn a_program_whose_log_is_full_goes_on_to_its_end() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_STREAM_BYTES", "64KiB")]);
    make_queue(&server);
    let run = enqueue(&server, "chatty", &json!(1));
    let exec = "yes line | head -n 40000; echo '{\"r\":1}'";
    let _worker = Worker::start(&url(&server), exec, &["--result", "last-line"]);
    comes_to(&server, &run, "succeeded");
    let events = events(&server, &run);
    let begun = events.iter().filter(|event| event["type"] == "run.leased");
    assert_eq!(begun.count(), 1);
    assert_eq!(events.last().expect("an end")["result"], json!({ "r": 1 }));
    assert!(!lines(&events).is_empty(), "as much as there is room for");
}

#[test]
fn a_result_that_the_server_does_not_take_gives_the_run_up() {
    let server = Server::start_with(&[("DS_QUEUES__MAX_BODY_BYTES", "1KiB")]);
    make_queue(&server);
    let run = enqueue(&server, "long", &json!(1));
    let exec = "printf '[\"'; head -c 2000 /dev/zero | tr '\\0' x; printf '\"]'";
    let _worker = Worker::start(&url(&server), exec, &["--result", "last-line"]);
    comes_to(&server, &run, "dead");
    let events = events(&server, &run);
    let begun = events.iter().filter(|event| event["type"] == "run.leased");
    assert_eq!(begun.count(), 1, "it would only do the same again");
    let why = events.last().expect("an end")["error"]["message"].to_string();
    assert!(why.contains("body_too_large"), "{why}");
}

/// A worker that asked for more than the server gives was refused for good.
#[test]
fn a_worker_asks_for_no_more_than_the_server_gives() {
    let server = Server::start_with(&[
        ("DS_QUEUES__MAX_CLAIM_JOBS", "2"),
        ("DS_QUEUES__MAX_CLAIM_WAIT_MS", "3000"),
    ]);
    make_queue(&server);
    let runs: Vec<_> = (0..5)
        .map(|job| enqueue(&server, &format!("job-{job}"), &json!(job)))
        .collect();
    let _worker = Worker::start(&url(&server), "true", &["--concurrency", "7"]);
    for run in &runs {
        comes_to(&server, run, "succeeded");
    }
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

/// Heartbeats were waited for as long as any other answer, which was longer than leases last: a program went on while another
/// worker's did the same job.
#[test]
fn a_program_is_ended_with_its_lease_though_the_network_falls_silent() {
    let server = Server::start();
    make_queue(&server);
    let proxy = HoldingProxy::before(server.address());
    let dir = tempfile::tempdir().expect("a directory");
    let said = dir.path().join("said");
    let run = enqueue(&server, "silent", &json!(1));
    let exec = format!(
        "trap 'echo ended >> {0}; exit 1' TERM; echo begun >> {0}; for i in $(seq 6000); do sleep 0.1; done",
        said.display()
    );
    let url_of_proxy = format!("http://{}{}", proxy.address(), server.base_path());
    let _worker = Worker::start(&url_of_proxy, &exec, &[]);
    eventually("the program begins", || says(&said, "begun"));
    proxy.fall_silent();
    eventually("the program is ended", || says(&said, "ended"));
    let _other = Worker::start(&url(&server), "echo again", &[]);
    comes_to(&server, &run, "succeeded");
    assert_eq!(lines(&events(&server, &run)), ["again"]);
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

/// The status of a program that was asked to end was not looked at, so that what it had finished was done again.
#[test]
fn a_program_that_finishes_when_it_is_asked_to_end_is_done() {
    let server = Server::start();
    make_queue(&server);
    let run = enqueue(&server, "finishing", &json!(1));
    let exec = "trap 'echo finished; exit 0' TERM; echo begun; for i in $(seq 6000); do sleep 0.1; done";
    let mut worker = Worker::start(&url(&server), exec, &["--grace-ms", "50"]);
    eventually("the program begins", || {
        (!lines(&events(&server, &run)).is_empty()).then_some(())
    });
    worker.signal(Signal::TERM);
    assert!(worker.ends().success());
    assert_eq!(state(&server, &run), "succeeded");
    assert_eq!(lines(&events(&server, &run)), ["begun", "finished"]);
}
