//! Queues, runs and schedules through the edge: who may do what by the names in the paths.

use serde_json::json;
use tailwater_e2e::edge::Caller;
use tailwater_e2e::{Edge, Request, Response, Server, edge};

const QUEUE: &str = "__ds/queues/jobs/mail";
const RUN: &str = "__ds/runs/runs/jobs/mail/a";

fn caller<'e>(edge: &'e Edge, options: &[&str]) -> Caller<'e> {
    edge.caller(&edge.token(options))
}

fn ask(edge: &Edge, who: &Caller<'_>, method: &str, path: &str, body: &serde_json::Value) -> Response {
    let request = who.request(method, path);
    let is_bodiless = matches!(method, "GET" | "HEAD" | "DELETE");
    edge.send(&if is_bodiless {
        request
    } else {
        request.body(body.to_string())
    })
}

#[track_caller]
fn assert_answer(edge: &Edge, who: &Caller<'_>, (method, path): (&str, &str), expected: u16) -> Response {
    let body = match path.rsplit('/').next() {
        Some("enqueue") => json!({ "payload": 1, "id": "a" }),
        Some("claim") => json!({ "worker": "w" }),
        Some("heartbeat") => json!({ "epoch": 1 }),
        Some("complete" | "fail" | "release") => json!({ "epoch": 1, "seq": 1 }),
        _ => json!({}),
    };
    let answer = ask(edge, who, method, path, &body);
    assert_eq!(answer.status(), expected, "{method} {path}: {answer:?}");
    answer
}

fn make(server: &Server, queue: &str) {
    let path = server.path(&format!("__ds/queues/{queue}"));
    server.send(&Request::new("PUT", &path).body("{}")).expect(201);
}

#[test]
fn a_queue_and_its_runs_are_used_by_those_whose_tokens_are_for_their_names() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    make(&server, "jobs/mail");
    make(&server, "secret");
    let worker = caller(
        &edge,
        &[
            "--read",
            "jobs/mail",
            "--write",
            "jobs/mail",
            "--write",
            "runs/jobs/mail/",
        ],
    );
    let sender = caller(&edge, &["--write", "jobs/mail"]);
    let follower = caller(&edge, &["--read", "runs/jobs/mail/"]);

    let post = |operation: &str| format!("{QUEUE}/{operation}");
    let run = |operation: &str| format!("{RUN}/{operation}");
    assert_answer(&edge, &sender, ("POST", &post("enqueue")), 201);
    // A claim shows what is to be done.
    assert_answer(&edge, &sender, ("POST", &post("claim")), 403);
    let claimed = assert_answer(&edge, &worker, ("POST", &post("claim")), 200).json();
    assert_eq!(claimed["jobs"][0]["run"], "runs/jobs/mail/a");
    for operation in ["heartbeat", "complete", "fail", "release", "cancel", "retry"] {
        assert_answer(&edge, &sender, ("POST", &run(operation)), 403);
        assert_answer(&edge, &follower, ("POST", &run(operation)), 403);
    }
    let event = worker
        .request("POST", "runs/jobs/mail/a")
        .header("Producer-Id", "lease")
        .header("Producer-Epoch", "1")
        .header("Producer-Seq", "1")
        .body("{\"type\":\"log\"}");
    assert!(matches!(edge.send(&event).status(), 200 | 204));
    assert_answer(&edge, &worker, ("POST", &run("heartbeat")), 200);
    let end = ask(
        &edge,
        &worker,
        "POST",
        &run("complete"),
        &json!({ "epoch": 1, "seq": 2 }),
    );
    assert_eq!(end.status(), 200, "{end:?}");
    assert_answer(&edge, &follower, ("GET", RUN), 200);
    assert_answer(&edge, &follower, ("HEAD", "runs/jobs/mail/a"), 200);
    assert_answer(&edge, &sender, ("GET", RUN), 403);
    assert_answer(&edge, &worker, ("GET", QUEUE), 200);
    assert_answer(&edge, &worker, ("GET", &post("dead")), 200);
    for path in [QUEUE, &post("dead")] {
        assert_answer(&edge, &sender, ("GET", path), 403);
        assert_answer(&edge, &follower, ("GET", path), 403);
    }
    for operation in ["enqueue", "pause", "resume", "purge", "dead/redrive"] {
        assert_answer(&edge, &follower, ("POST", &post(operation)), 403);
    }
    for operation in ["pause", "resume", "purge"] {
        assert_answer(&edge, &sender, ("POST", &post(operation)), 200);
    }
    assert_answer(&edge, &follower, ("DELETE", QUEUE), 403);
    assert_answer(&edge, &sender, ("DELETE", QUEUE), 204);
    server.stop();
}

#[test]
fn no_path_of_a_queue_or_a_run_leads_out_of_what_a_token_is_for() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    make(&server, "jobs/mail");
    make(&server, "secret");
    let path = server.path("__ds/queues/secret/claim");
    server
        .send(&Request::new("PUT", &path).body("{\"run_prefix\":\"elsewhere/\"}"))
        .expect(201);
    let worker = caller(
        &edge,
        &[
            "--read",
            "jobs/mail",
            "--write",
            "jobs/mail",
            "--write",
            "runs/jobs/mail/",
        ],
    );
    for (method, path) in [
        ("POST", "__ds/queues/secret/claim"),
        ("POST", "__ds/queues/secret/claim/claim"),
        ("POST", "__ds/queues/secret/enqueue"),
        ("POST", "__ds/queues/jobs/mail/../../secret/claim"),
        ("POST", "__ds/queues/jobs/mail%2F..%2F..%2Fsecret/claim"),
        ("POST", "__ds/queues/jobs%2Fmail/claim"),
        ("POST", "__ds/queues/jobs//mail/claim"),
        ("POST", "__ds/queues//claim"),
        ("POST", "__ds/queues/__ds/queues/secret/claim"),
        ("POST", "__ds/queues/claim"),
        ("POST", "__ds/queues/jobs/mail"),
        ("POST", "__ds/queues/jobs/mail/%63laim"),
        ("POST", "__ds/queues/jobs/mail/claim/"),
        ("POST", "__ds/queues/jobs/mail/nonsense"),
        ("POST", "__ds/queues/jobs/mail;/secret/claim"),
        ("GET", "__ds/queues/secret"),
        ("GET", "__ds/queues/secret/dead"),
        ("GET", "__ds/queues/jobs/mail/dead/dead"),
        ("GET", "__ds/queues"),
        ("GET", "__ds/queues/"),
        ("GET", "__ds/queues?prefix=jobs/mail"),
        ("DELETE", "__ds/queues/secret"),
        // The body of a PUT names other streams.
        ("PUT", "__ds/queues/jobs/mail"),
        ("PUT", "__ds/queues/secret"),
        ("POST", "__ds/runs/runs/secret/a/cancel"),
        ("POST", "__ds/runs/secret/cancel"),
        ("POST", "__ds/runs/runs/jobs/mail/../secret/a/cancel"),
        ("POST", "__ds/runs/runs/jobs/mail/a"),
        ("PUT", "__ds/runs/runs/jobs/mail/a"),
        ("DELETE", "__ds/runs/runs/jobs/mail/a"),
        ("GET", "__ds/runs/runs/jobs/mail/a"),
        ("GET", "__ds/runs"),
        // A schedule names its stream in its body.
        ("GET", "__ds/schedules"),
        ("GET", "__ds/schedules/s"),
        ("PUT", "__ds/schedules/s"),
        ("POST", "__ds/schedules/s"),
        ("DELETE", "__ds/schedules/s"),
    ] {
        let answer = ask(&edge, &worker, method, path, &json!({ "worker": "w" }));
        assert!(
            matches!(answer.status(), 400 | 403 | 405),
            "{method} {path}: {answer:?}"
        );
        let refusal = answer.json();
        assert!(
            matches!(refusal["code"].as_str(), Some("forbidden" | "refused_by_edge")),
            "{method} {path} was not refused by the edge: {refusal}"
        );
    }
    server.stop();
}

#[test]
fn who_may_do_all_makes_queues_and_schedules() {
    let server = edge::server(&[]);
    let edge = Edge::before(server.address());
    let writer = caller(&edge, &["--write", "*"]);
    let reader = caller(&edge, &["--read", "*"]);
    assert_answer(&edge, &writer, ("PUT", QUEUE), 201);
    assert_answer(&edge, &reader, ("GET", QUEUE), 200);
    assert_answer(&edge, &reader, ("GET", "__ds/queues"), 200);
    assert_answer(&edge, &reader, ("PUT", QUEUE), 403);
    let schedule = json!({ "stream": "jobs/mail", "cron": "* * * * *", "payload": 1 });
    let made = ask(&edge, &writer, "PUT", "__ds/schedules/s", &schedule);
    assert_eq!(made.status(), 201, "{made:?}");
    assert_answer(&edge, &writer, ("GET", "__ds/schedules/s"), 403);
    assert_answer(&edge, &reader, ("GET", "__ds/schedules/s"), 200);
    assert_answer(&edge, &reader, ("GET", "__ds/schedules"), 200);
    assert_answer(&edge, &reader, ("DELETE", "__ds/schedules/s"), 403);
    assert_answer(&edge, &writer, ("DELETE", "__ds/schedules/s"), 204);
    let anybody = caller(&edge, &["--read", "elsewhere"]);
    assert_answer(&edge, &anybody, ("GET", "__ds/openapi.json"), 200);
    server.stop();
}
