//! The examples of docs/jobs.md do what they say: workers in JavaScript and in Rust, a follower by the official client, a page that follows
//! a run, and a worker in shell.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tailwater_e2e::proxy::CuttingProxy;
use tailwater_e2e::{PATIENCE, Request, Response, Server, node, server};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/examples")
        .join(name)
}

fn send(server: &Server, method: &str, below: &str, body: &Value) -> Response {
    let request = Request::new(method, &server.path(&format!("__ds/{below}")));
    server.send(&match body {
        Value::Null => request,
        body => request
            .header("Content-Type", "application/json")
            .body(body.to_string()),
    })
}

fn url(server: &Server) -> String {
    format!("{}{}", server.origin(), server.base_path())
}

fn queue_with(server: &Server, id: &str, payload: &Value) -> String {
    send(server, "PUT", "queues/jobs/mail", &json!({ "lease_ms": 1000 })).expect(201);
    let job = json!({ "payload": payload, "id": id });
    let enqueued = send(server, "POST", "queues/jobs/mail/enqueue", &job)
        .expect(201)
        .json();
    enqueued["run"].as_str().expect("a run").to_owned()
}

/// A script in this package's directory, where the official client is.
fn script(name: &str) -> Command {
    let path = example(name);
    let text = std::fs::read_to_string(&path).expect("the example is there");
    let mut command = node::node("--input-type=module");
    command.arg("--eval").arg(text);
    command
}

#[test]
fn a_worker_in_javascript_does_a_job_and_the_official_client_follows_it() {
    let server = Server::start();
    let run = queue_with(&server, "js", &json!({ "to": "ada" }));
    // Not the first one: a job whose claim got no answer is given out again once its lease is over.
    let proxy = CuttingProxy::within(server.address(), 3, 3);
    let worker_url = format!("http://{}{}", proxy.address(), server.base_path());
    let follower = script("follow.mjs")
        .env("RUN_URL", format!("{}/{run}", url(&server)))
        .stdout(Stdio::piped())
        .spawn()
        .expect("node starts");
    node::run(
        script("worker.mjs")
            .env("STREAMS_URL", worker_url)
            .env("QUEUE", "jobs/mail")
            .env("UNTIL_EMPTY", "1"),
    );
    assert!(proxy.cuts() > 0, "nothing broke off");
    let followed = follower.wait_with_output().expect("it ends with the run");
    let text = String::from_utf8(followed.stdout).expect("text");
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(
        events,
        server.stream(&run).messages(),
        "the follower sees each event once"
    );
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(types, ["run.queued", "run.leased", "progress", "run.succeeded"]);
    assert_eq!(events[3]["result"], json!({ "done": { "to": "ada" } }));
    server.stop();
}

/// The Rust example, built beside this test.
#[track_caller]
fn rust_example() -> PathBuf {
    let path = server::binary().with_file_name("examples").join("worker");
    assert!(
        path.exists(),
        "{} does not exist: build it with `cargo build -p tailwater --example worker`",
        path.display()
    );
    path
}

#[test]
fn a_worker_in_rust_does_a_job() {
    let server = Server::start();
    let run = queue_with(&server, "rust", &json!({ "to": "ada" }));
    let worked = Command::new(rust_example())
        .args([&url(&server), "jobs/mail", "--until-empty"])
        .output()
        .expect("the example starts");
    assert!(
        worked.status.success(),
        "{}",
        String::from_utf8_lossy(&worked.stderr)
    );
    let events = server.stream(&run).messages();
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(types, ["run.queued", "run.leased", "progress", "run.succeeded"]);
    assert_eq!(events[3]["result"], json!({ "done": { "to": "ada" } }));
    server.stop();
}

/// Ends a worker with its test.
struct EndsWithTest(Child);

impl Drop for EndsWithTest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_page_follows_what_a_worker_in_shell_says() {
    let server = Server::start();
    let run = queue_with(&server, "page", &json!("ada"));
    let page = format!(
        "file://{}?run={}/{run}",
        example("run.html").canonicalize().expect("there").display(),
        url(&server)
    );
    let worker = Command::new(server::binary())
        .args(["queue", "work", "jobs/mail", "--exec"])
        .arg("read -r to; echo \"sending to $to\"; sleep 0.2; echo sent")
        .env("TAILWATER_URL", url(&server))
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let _worker = EndsWithTest(worker);
    let output = node::run(
        node::node("tests/job_examples.mjs")
            .env("PAGE_URL", page)
            .env("CHROMIUM", node::chromium())
            .env("PATIENCE_MS", PATIENCE.as_millis().to_string()),
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("the script prints one JSON line");
    assert_eq!(report["shown"], "sending to \"ada\"\nsent\n");
    server.stop();
}
