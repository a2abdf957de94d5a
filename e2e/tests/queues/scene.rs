//! Queues, jobs and runs of a server, and workers as processes.

use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tailwater_e2e::{Request, Response, Server, eventually, server};

/// The queue of a test.
pub(crate) const QUEUE: &str = "jobs";
/// The shortest lease there is.
pub(crate) const LEASE_MS: u64 = 1_000;

pub(crate) fn send(server: &Server, method: &str, below: &str, body: &Value) -> Response {
    let request = Request::new(method, &server.path(&format!("__ds/{below}")));
    server.send(&match body {
        Value::Null => request,
        body => request
            .header("Content-Type", "application/json")
            .body(body.to_string()),
    })
}

/// Makes the queue, whose jobs are tried again at once and for ever.
pub(crate) fn make_queue(server: &Server) {
    let settings = json!({
        "lease_ms": LEASE_MS, "max_attempts": 1000, "backoff": { "base_ms": 1, "cap_ms": 1, "jitter": 0.0 },
    });
    send(server, "PUT", &format!("queues/{QUEUE}"), &settings).expect(201);
}

/// Enqueues a job, and answers with its run.
pub(crate) fn enqueue(server: &Server, id: &str, payload: &Value) -> String {
    let body = json!({ "payload": payload, "id": id });
    let answer = send(server, "POST", &format!("queues/{QUEUE}/enqueue"), &body)
        .expect(201)
        .json();
    answer["run"].as_str().expect("a run").to_owned()
}

pub(crate) fn state(server: &Server, run: &str) -> String {
    let shown = send(server, "GET", &format!("runs/{run}"), &Value::Null)
        .expect(200)
        .json();
    shown["state"].as_str().expect("a state").to_owned()
}

pub(crate) fn stats(server: &Server) -> Value {
    send(server, "GET", &format!("queues/{QUEUE}"), &Value::Null)
        .expect(200)
        .json()
}

/// Waits until a run has come to a state.
#[track_caller]
pub(crate) fn comes_to(server: &Server, run: &str, wanted: &str) {
    eventually(&format!("{run} is {wanted}"), || {
        (state(server, run) == wanted).then_some(())
    });
}

/// The events of a run.
pub(crate) fn events(server: &Server, run: &str) -> Vec<Value> {
    server.stream(run).messages()
}

/// The lines that a run's programs wrote to stdout.
pub(crate) fn lines(events: &[Value]) -> Vec<&str> {
    let logs = events
        .iter()
        .filter(|event| event["type"] == "log" && event["stream"] == "stdout");
    logs.map(|event| event["line"].as_str().expect("a line"))
        .collect()
}

fn tailwater(server_url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(server::binary());
    command
        .args(arguments)
        .env("TAILWATER_URL", server_url)
        .env_remove("TAILWATER_TOKEN")
        .stdin(Stdio::null());
    command
}

pub(crate) fn url(server: &Server) -> String {
    format!("{}{}", server.origin(), server.base_path())
}

/// Runs a command to its end.
pub(crate) fn run(server: &Server, arguments: &[&str]) -> Output {
    tailwater(&url(server), arguments)
        .output()
        .expect("the binary starts")
}

/// Runs a command that must succeed, and returns what it prints.
#[track_caller]
pub(crate) fn succeed(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {}\n{said}",
        output.status
    );
    String::from_utf8(output.stdout).expect("text")
}

/// `tailwater queue work` under way. It is killed when this goes, but not what it has started.
pub(crate) struct Worker {
    child: Child,
}

impl Worker {
    pub(crate) fn start(server_url: &str, exec: &str, more: &[&str]) -> Self {
        let mut arguments = vec!["queue", "work", QUEUE, "--exec", exec];
        arguments.extend(more);
        let child = tailwater(server_url, &arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        Self { child }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        eventually("the worker ends", || {
            self.child.try_wait().expect("a child of this process")
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
