//! Many who follow a run see the same events once and the same end, though the server is killed in the midst.

use std::time::Duration;

use serde_json::{Value, json};
use tailwater_e2e::{Connection, PATIENCE, Request, Server};

use super::scene::{QUEUE, Worker, comes_to, enqueue, events, send, url};

const WATCHERS: usize = 100;
const LINES: usize = 40;

/// Follows a run by long-polls from its beginning to its end, and comes again wherever it was when the server is away.
fn watch(address: std::net::SocketAddr, path: &str) -> Vec<Value> {
    let deadline = std::time::Instant::now() + PATIENCE;
    let (mut seen, mut offset) = (Vec::new(), "-1".to_owned());
    let mut connection: Option<Connection> = None;
    loop {
        assert!(
            std::time::Instant::now() < deadline,
            "no end is seen behind {offset}"
        );
        let request = Request::new("GET", &format!("{path}?offset={offset}&live=long-poll"));
        let answer = match connection
            .take()
            .map_or_else(|| Connection::try_open(address), Ok)
        {
            Ok(mut open) => {
                let answer = open
                    .write(&request.encode())
                    .and_then(|()| open.read_response("GET"));
                connection = Some(open);
                answer.ok().flatten()
            }
            Err(_) => None,
        };
        let Some(answer) = answer.filter(|answer| matches!(answer.status(), 200 | 204)) else {
            connection = None;
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        if answer.status() == 200 {
            match answer.json() {
                Value::Array(events) => seen.extend(events),
                other => panic!("{other}"),
            }
        }
        answer.expect_header("stream-next-offset").clone_into(&mut offset);
        if answer.header("stream-closed") == Some("true") {
            return seen;
        }
    }
}

#[test]
fn a_hundred_watchers_see_the_same_across_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir
        .path()
        .join("streams")
        .to_str()
        .expect("a plain path")
        .to_owned();
    let durable = [
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", &*data),
    ];
    let server = Server::start_with(&durable);
    let address = server.address();
    let text = address.to_string();
    // Longer than any restart takes.
    send(
        &server,
        "PUT",
        &format!("queues/{QUEUE}"),
        &json!({ "lease_ms": 600_000 }),
    )
    .expect(201);
    let run = enqueue(&server, "watched", &json!(1));
    let path = server.path(&run);
    let exec = format!("for i in $(seq {LINES}); do echo line $i; sleep 0.05; done");
    let worker_url = url(&server);
    let seen: Vec<Vec<Value>> = std::thread::scope(|scope| {
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|_| scope.spawn(|| watch(address, &path)))
            .collect();
        let _worker = Worker::start(&worker_url, &exec, &[]);
        tailwater_e2e::eventually("some lines are there", || {
            (events(&server, &run).len() > 5).then_some(())
        });
        server.kill();
        let settings = [durable[0], durable[1], ("DS_SERVER__BIND_ADDRESS", &*text)];
        let server = Server::start_with(&settings);
        comes_to(&server, &run, "succeeded");
        let seen = watchers
            .into_iter()
            .map(|watcher| watcher.join().expect("no panic"))
            .collect();
        let stored = events(&server, &run);
        let seen: Vec<Vec<Value>> = seen;
        for events in &seen {
            assert_eq!(*events, stored, "each event once, in order");
        }
        seen
    });
    let lines: Vec<_> = super::scene::lines(&seen[0])
        .into_iter()
        .map(str::to_owned)
        .collect();
    let expected: Vec<_> = (1..=LINES).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected, "the worker went on where it was");
    assert_eq!(seen[0].last().expect("an end")["type"], "run.succeeded");
}
