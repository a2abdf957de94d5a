//! What is asked of a queue over HTTP: jobs that are sent again, claims that are cut off, runs that are followed.

use serde_json::{Value, json};
use tailwater_e2e::{Request, Response, Server, eventually};

use super::scene::{QUEUE, enqueue, events, make_queue, send, stats};

/// Longer than any test takes: what is leased to nobody is not given out again by itself.
const LONG_LEASE: u64 = 3_600_000;

fn make_queue_of_long_leases(server: &Server) {
    let config = json!({ "lease_ms": LONG_LEASE });
    send(server, "PUT", &format!("queues/{QUEUE}"), &config).expect(201);
}

fn enqueue_under(server: &Server, key: &str, body: &Value) -> Response {
    let path = server.path(&format!("__ds/queues/{QUEUE}/enqueue"));
    let request = Request::new("POST", &path)
        .header("Idempotency-Key", key)
        .body(body.to_string());
    server.send(&request)
}

#[test]
fn a_job_that_is_sent_again_under_its_idempotency_key_is_the_same_job() {
    let server = Server::start();
    make_queue(&server);
    let key = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    let first = enqueue_under(&server, key, &json!({ "payload": 1 })).expect(201);
    let again = enqueue_under(&server, key, &json!({ "payload": 1 })).expect(200);
    assert_eq!(first.json(), again.json());
    assert_eq!(first.json()["run"], format!("runs/{QUEUE}/{key}"));
    assert_eq!(again.expect_header("location"), first.json()["url"]);
    let other = enqueue_under(&server, key, &json!({ "payload": 2 })).expect(409);
    assert_eq!(other.problem(), "job_conflict");
    // An id of the job's own is the one that counts.
    let named = enqueue_under(&server, key, &json!({ "payload": 2, "id": "own" })).expect(201);
    assert_eq!(named.json()["run"], format!("runs/{QUEUE}/own"));
    for key in ["", "a//b"] {
        enqueue_under(&server, key, &json!({ "payload": 1 })).expect(400);
    }
    let path = server.path(&format!("__ds/queues/{QUEUE}/enqueue"));
    let twice = Request::new("POST", &path)
        .header("Idempotency-Key", key)
        .header("Idempotency-Key", "other")
        .body(json!({ "payload": 1 }).to_string());
    let refused = server.send(&twice).expect(400);
    assert!(refused.text().contains("more than once"), "{}", refused.text());
    assert_eq!(stats(&server)["totals"]["enqueued"], 2);
}

#[test]
fn a_claim_that_is_cut_off_leaves_its_job_to_others() {
    let server = Server::start();
    make_queue_of_long_leases(&server);
    let path = server.path(&format!("__ds/queues/{QUEUE}/claim"));
    let claim = Request::new("POST", &path).body(json!({ "worker": "gone", "wait_ms": 60_000 }).to_string());
    let waiting = |count: u64| {
        eventually(&format!("{count} workers wait"), || {
            (stats(&server)["waiting_workers"] == count).then_some(())
        });
    };
    let mut gone = server.connect();
    gone.write(&claim.encode()).expect("the server reads");
    waiting(1);
    drop(gone);
    waiting(0);
    let run = enqueue(&server, "a", &json!(1));
    let claim = json!({ "worker": "here", "wait_ms": 1_000 });
    let claimed = eventually("another one is given the job", || {
        let answer = send(&server, "POST", &format!("queues/{QUEUE}/claim"), &claim).expect(200);
        answer.json()["jobs"].as_array()?.first().cloned()
    });
    assert_eq!((&claimed["run"], &claimed["attempt"]), (&json!(run), &json!(1)));
}

#[test]
fn a_run_is_followed_before_while_and_after_it_is_done_and_everybody_gets_the_end() {
    let server = Server::start();
    make_queue_of_long_leases(&server);
    let run = enqueue(&server, "followed", &json!(1));
    let stream = server.stream(&run);
    let mut before = stream.follow("-1");
    let claim = send(
        &server,
        "POST",
        &format!("queues/{QUEUE}/claim"),
        &json!({ "worker": "w" }),
    );
    assert_eq!(claim.expect(200).json()["jobs"][0]["epoch"], 1);
    let log = |seq: u64| {
        let request = Request::new("POST", stream.path())
            .header("Content-Type", "application/json")
            .header("Producer-Id", "lease")
            .header("Producer-Epoch", "1")
            .header("Producer-Seq", &seq.to_string())
            .body(json!({ "type": "log", "line": seq }).to_string());
        server.send(&request).expect(200);
    };
    let ends_itself = Request::new("POST", stream.path())
        .header("Content-Type", "application/json")
        .header("Producer-Id", "lease")
        .header("Producer-Epoch", "1")
        .header("Producer-Seq", "1")
        .body(json!([{ "type": "log" }, { "type": "run.succeeded" }]).to_string());
    let refused = server.send(&ends_itself).expect(400);
    assert_eq!(refused.problem(), "reserved_event_type");
    assert_eq!(refused.json()["event_type"], "run.succeeded");
    log(1);
    let middle = stream.tail();
    let (mut in_the_midst, mut resumed) = (stream.follow("-1"), stream.follow(&middle));
    let long_poll = stream.reading(&middle, "&live=long-poll");
    let mut polling = server.connect();
    polling.write(&long_poll.encode()).expect("the server reads");
    log(2);
    let polled = polling
        .read_response("GET")
        .expect("an answer")
        .expect("an answer");
    assert_eq!(polled.json()[0]["line"], 2);
    let done = json!({ "epoch": 1, "seq": 3, "result": "well" });
    send(&server, "POST", &format!("runs/{run}/complete"), &done).expect(200);
    let stored = events(&server, &run);
    assert_eq!(stored.last().expect("an end")["type"], "run.succeeded");
    assert_eq!(before.messages_to_close(), stored);
    assert_eq!(in_the_midst.messages_to_close(), stored);
    assert_eq!(resumed.messages_to_close(), stored[stored.len() - 2..]);
    assert_eq!(stream.follow("-1").messages_to_close(), stored, "after its end");
    let tail = stream.tail();
    let end = server.send(&stream.reading(&tail, "&live=long-poll"));
    assert_eq!(
        end.expect_header("stream-closed"),
        "true",
        "at once, with nothing more"
    );
}
