//! The OpenAPI document that the server serves says what the server does: each of its operations is asked for, what is sent
//! and what comes back is compared with it, and nothing that it names is left out.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};
use tailwater_e2e::{Request, Response, Server, eventually};

/// A document, and which of its answers have been seen.
struct Contract<'a> {
    server: &'a Server,
    document: Value,
    seen: RefCell<BTreeSet<String>>,
}

impl<'a> Contract<'a> {
    fn of(server: &'a Server) -> Self {
        let path = server.path("__ds/openapi.json");
        Self {
            server,
            document: server.get(&path).expect(200).json(),
            seen: RefCell::default(),
        }
    }

    /// A schema of the document, within which its references lead somewhere.
    fn check(&self, schema: &Value, value: &Value, what: &str) {
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        let validator = jsonschema::draft202012::new(&whole).expect("a schema");
        let mistakes: Vec<_> = validator
            .iter_errors(value)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(
            mistakes.is_empty(),
            "{what}: {value} is not as documented: {mistakes:?}"
        );
    }

    /// Asks for an operation. `names` stand in place of the parameters of its path.
    fn ask(&self, method: &str, path: &str, name: &str, query: &str, body: &Value) -> Response {
        let operation = &self.document["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not in the document");
        let target = ["{stream}", "{run}", "{id}"]
            .iter()
            .fold(path.to_owned(), |target, parameter| {
                target.replace(parameter, name)
            });
        let mut request = Request::new(
            method,
            &format!("{}{query}", self.server.path(target.trim_start_matches('/'))),
        );
        if !body.is_null() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            assert!(schema.is_object(), "{method} {path} has no body in the document");
            request = request.body(body.to_string());
        }
        let response = self.server.send(&request);
        let status = response.status().to_string();
        let documented = &operation["responses"][&status];
        let what = format!("{method} {path}: {status}");
        if documented.is_object() {
            if !body.is_null() {
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                self.check(schema, body, &format!("the body of {method} {path}"));
            }
            self.seen.borrow_mut().insert(what.clone());
            match &documented["content"]["application/json"]["schema"] {
                Value::Null => assert!(response.body.is_empty(), "{what} has a body"),
                schema => self.check(schema, &response.json(), &what),
            }
        } else {
            assert!(response.status() >= 400, "{what} is not documented");
            let schema = json!({ "$ref": "#/components/schemas/Problem" });
            self.check(&schema, &response.json(), &what);
        }
        response
    }

    fn post(&self, path: &str, name: &str, body: &Value) -> Response {
        self.ask("POST", path, name, "", body)
    }

    /// What is documented and was not seen.
    fn unseen(&self) -> Vec<String> {
        let mut unseen = Vec::new();
        for (path, operations) in self.document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                for status in operation["responses"].as_object().expect("responses").keys() {
                    let what = format!("{} {path}: {status}", method.to_uppercase());
                    if status != "default" && !self.seen.borrow().contains(&what) {
                        unseen.push(what);
                    }
                }
            }
        }
        unseen
    }
}

const QUEUE: &str = "/__ds/queues/{stream}";
const ENQUEUE: &str = "/__ds/queues/{stream}/enqueue";
const CLAIM: &str = "/__ds/queues/{stream}/claim";

#[test]
fn every_operation_answers_as_the_document_says() {
    let server = Server::start();
    let contract = Contract::of(&server);
    let name = "jobs/mail";
    let config = json!({
        "lease_ms": 600_000, "max_attempts": 1, "backoff": { "base_ms": 0, "cap_ms": 0, "jitter": 0 },
        "concurrency": 10, "concurrency_key": "/to", "concurrency_per_key": 5, "run_prefix": "r/",
        "run_timeout_ms": 60_000_000, "start_ttl_ms": 60_000_000, "run_retention_ms": 60_000_000,
    });
    contract.ask("PUT", QUEUE, name, "", &config).expect(201);
    contract.ask("PUT", QUEUE, name, "", &config).expect(200);
    contract
        .ask("PUT", QUEUE, name, "", &json!({ "lease": 1 }))
        .expect(400);
    contract.ask("GET", QUEUE, "nobody", "", &Value::Null).expect(404);
    // Whatever a job is, and whoever has it.
    for (id, status) in [("a", 201), ("a", 200), ("b", 201), ("c", 201), ("d", 201)] {
        let job =
            json!({ "payload": { "to": id }, "id": id, "run_at": "2020-01-01T00:00:00Z", "max_attempts": 1 });
        contract.post(ENQUEUE, name, &job).expect(status);
    }
    contract
        .post(ENQUEUE, name, &json!({ "payload": 1, "id": "a" }))
        .expect(409);
    contract
        .post(ENQUEUE, name, &json!({ "payload": 1, "oops": 1 }))
        .expect(400);
    let later = json!({ "payload": null, "id": "later", "run_at": 99_999_999_999_999_u64 });
    contract.post(ENQUEUE, name, &later).expect(201);
    let claim = json!({ "worker": "w", "max": 4, "wait_ms": 1000 });
    let claimed = contract.post(CLAIM, name, &claim).expect(200).json();
    assert_eq!(claimed["jobs"].as_array().map(Vec::len), Some(4));
    contract
        .post(CLAIM, name, &json!({ "worker": "w", "max": 0 }))
        .expect(400);
    let heartbeat = "/__ds/runs/{run}/heartbeat";
    contract
        .post(heartbeat, "r/a", &json!({ "epoch": 1 }))
        .expect(200);
    contract
        .post(heartbeat, "r/a", &json!({ "epoch": 3 }))
        .expect(403);
    contract
        .post(
            "/__ds/runs/{run}/release",
            "r/d",
            &json!({ "epoch": 1, "seq": 1 }),
        )
        .expect(200);
    let complete = "/__ds/runs/{run}/complete";
    contract
        .post(complete, "r/a", &json!({ "epoch": 1, "seq": 2 }))
        .expect(409);
    contract
        .post(complete, "r/a", &json!({ "epoch": 1, "seq": 1, "result": [1] }))
        .expect(200);
    for run in ["r/b", "r/c"] {
        let failed = json!({ "epoch": 1, "seq": 1, "error": "no", "retry": true, "retry_after_ms": 5 });
        let settled = contract
            .post("/__ds/runs/{run}/fail", run, &failed)
            .expect(200)
            .json();
        assert_eq!(settled["state"], "dead");
    }
    let cancel = "/__ds/runs/{run}/cancel";
    contract
        .post(cancel, "r/d", &json!({ "reason": "why" }))
        .expect(200);
    contract.post(cancel, "r/d", &Value::Null).expect(409);
    let show = "/__ds/runs/{run}";
    for run in ["r/a", "r/b", "r/d", "r/later"] {
        contract.ask("GET", show, run, "", &Value::Null).expect(200);
    }
    contract.ask("GET", show, "nobody", "", &Value::Null).expect(404);
    contract
        .post("/__ds/runs/{run}/retry", "r/a", &json!({ "from": "start" }))
        .expect(201);
    contract
        .post("/__ds/runs/{run}/retry", "r/a", &json!({ "from": "checkpoint" }))
        .expect(409);
    let dead = "/__ds/queues/{stream}/dead";
    let page = contract
        .ask("GET", dead, name, "?limit=1", &Value::Null)
        .expect(200)
        .json();
    assert_eq!(page["next"], page["dead"][0]["job"]);
    let redrive = "/__ds/queues/{stream}/dead/redrive";
    contract
        .post(redrive, name, &json!({ "job": page["next"] }))
        .expect(200);
    contract
        .post(redrive, name, &json!({ "job": page["next"] }))
        .expect(404);
    redrive_what_never_had_a_run(&contract, name);
    let redriven = contract
        .post(redrive, name, &json!({ "all": true }))
        .expect(200)
        .json();
    assert_eq!(redriven["left"][0]["code"], "dead_letter_invalid");
    contract
        .post("/__ds/queues/{stream}/pause", name, &Value::Null)
        .expect(200);
    contract.ask("GET", QUEUE, name, "", &Value::Null).expect(200);
    contract
        .post("/__ds/queues/{stream}/resume", name, &json!({}))
        .expect(200);
    eventually("all that are tried anew are ready", || {
        let ready = contract.ask("GET", QUEUE, name, "", &Value::Null).json()["ready"] == 4;
        ready.then_some(())
    });
    let purged = contract
        .post("/__ds/queues/{stream}/purge", name, &json!({ "what": "all" }))
        .expect(200)
        .json();
    assert_eq!(purged["cancelled"], 6, "five jobs and a dead letter");
    contract.ask("PUT", QUEUE, "other", "", &Value::Null).expect(201);
    let page = contract
        .ask("GET", "/__ds/queues", "", "?limit=1", &Value::Null)
        .expect(200)
        .json();
    assert_eq!(page["next"], name);
    contract.ask("DELETE", QUEUE, name, "", &Value::Null).expect(204);
    contract.ask("DELETE", QUEUE, name, "", &Value::Null).expect(404);
    ask_for_schedules(&contract);
    assert_eq!(contract.unseen(), Vec::<String>::new());
}

/// What was appended and could not be refused: one job that conflicts with another one, and a message that is no job.
fn redrive_what_never_had_a_run(contract: &Contract<'_>, name: &str) {
    let server = contract.server;
    let append = server
        .stream(name)
        .request("POST")
        .header("Content-Type", "application/json")
        .body(r#"[{"payload":{"to":"else"},"id":"a"},{"payload":1,"oops":1}]"#);
    server.send(&append).expect(204);
    let letters = || {
        let page = contract.ask("GET", "/__ds/queues/{stream}/dead", name, "", &Value::Null);
        page.expect(200).json()["dead"].clone()
    };
    let letter_of = |reason: &str| {
        eventually(&format!("there is a dead letter: {reason}"), || {
            let letters = letters();
            let letter = letters
                .as_array()?
                .iter()
                .find(|letter| letter["reason"] == reason)?;
            Some(letter["job"].clone())
        })
    };
    let redrive =
        |job: &Value| contract.post("/__ds/queues/{stream}/dead/redrive", name, &json!({ "job": job }));
    let redriven = redrive(&letter_of("conflict")).expect(200).json();
    let job = redriven["redriven"][0]["job"].as_str().expect("a job").to_owned();
    assert_eq!(redriven["redriven"][0]["run"], format!("r/{job}"));
    let refused = redrive(&letter_of("invalid_envelope")).expect(409);
    assert_eq!(refused.problem(), "dead_letter_invalid");
    assert!(refused.text().contains("oops"), "{}", refused.text());
}

fn ask_for_schedules(contract: &Contract<'_>) {
    const SCHEDULE: &str = "/__ds/schedules/{id}";
    let config = json!({
        "stream": "other", "cron": "30 2 * * MON-FRI", "time_zone": "Europe/Berlin", "payload": { "report": "sales" },
        "enqueue_as": "job", "misfire": "all", "paused": true, "start_at": "2030-01-01T00:00:00Z",
        "end_at": "2031-01-01T00:00:00Z",
    });
    contract.ask("PUT", SCHEDULE, "nightly", "", &config).expect(201);
    contract.ask("PUT", SCHEDULE, "nightly", "", &config).expect(200);
    contract
        .ask(
            "PUT",
            SCHEDULE,
            "nightly",
            "",
            &json!({ "stream": "other", "cron": "never", "payload": 1 }),
        )
        .expect(400);
    // It fires each second, and so shows what it shows then.
    let eager = json!({ "stream": "other", "cron": "* * * * * *", "payload": 1, "enqueue_as": "message" });
    contract.ask("PUT", SCHEDULE, "eager", "", &eager).expect(201);
    eventually("the schedule has fired", || {
        let shown = contract
            .ask("GET", SCHEDULE, "eager", "", &Value::Null)
            .expect(200)
            .json();
        shown["last_fire"].is_object().then_some(())
    });
    contract
        .ask("GET", SCHEDULE, "nobody", "", &Value::Null)
        .expect(404);
    let page = contract.ask("GET", "/__ds/schedules", "", "?limit=1", &Value::Null);
    assert_eq!(page.expect(200).json()["after"], "eager");
    for id in ["eager", "nightly"] {
        contract.ask("DELETE", SCHEDULE, id, "", &Value::Null).expect(204);
    }
}

#[test]
fn runs_are_seen_in_heads_and_listings_and_their_queue_is_not_deleted_as_a_stream() {
    let server = Server::start();
    let contract = Contract::of(&server);
    contract.ask("PUT", QUEUE, "jobs", "", &Value::Null).expect(201);
    contract
        .post(ENQUEUE, "jobs", &json!({ "payload": 1, "id": "x" }))
        .expect(201);
    contract
        .post(CLAIM, "jobs", &json!({ "worker": "w" }))
        .expect(200);
    let head = server
        .send(&server.stream("runs/jobs/x").request("HEAD"))
        .expect(200);
    assert_eq!(head.expect_header("run-state"), "leased");
    assert_eq!(head.expect_header("run-attempt"), "1");
    assert_eq!(head.expect_header("run-queue"), "jobs");
    let listed = server
        .get(&server.path("__ds/streams?prefix=runs/"))
        .expect(200)
        .json();
    let run = json!({ "state": "leased", "attempt": 1, "queue": "jobs" });
    assert_eq!(listed["streams"][0]["run"], run);
    let plain = server.send(&server.stream("jobs").request("HEAD")).expect(200);
    assert_eq!(plain.header("run-state"), None);
    let deletion = server.stream("jobs").request("DELETE");
    assert_eq!(server.send(&deletion).expect(409).problem(), "stream_is_queue");
    // Jobs that are not admitted yet may stand before that offset.
    let tail = server.stream("jobs").tail();
    let trim = Request::new("POST", &server.path("__ds/trim"))
        .body(json!({ "stream": "jobs", "before": tail }).to_string());
    assert_eq!(server.send(&trim).expect(409).problem(), "stream_is_queue");
    let deletion = server.stream("runs/jobs/x").request("DELETE");
    assert_eq!(server.send(&deletion).expect(409).problem(), "run_open");
    let metrics = server.get("/metrics").expect(200);
    assert!(
        metrics
            .text()
            .contains("tailwater_queue_leased{queue=\"jobs\"} 1"),
        "{}",
        metrics.text()
    );
    contract
        .ask("DELETE", QUEUE, "jobs", "", &Value::Null)
        .expect(204);
    server.send(&server.stream("jobs").request("DELETE")).expect(204);
}
