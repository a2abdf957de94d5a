//! Requests in requests, straight at the server and through the edge. However the bytes are read, the stream that a
//! hidden request is for stays as it was, and the next ones, on other connections, get their own answers.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tailwater_e2e::{Connection, Edge, Request, Server, edge};

use super::corpus::{Row, canary, corpus, corpus_of_the_edge};

/// How long an answer is waited for that need not come: the verdict is what the streams hold in the end.
const LOOK: Duration = Duration::from_millis(500);
/// Rows that are tried at once.
const AT_ONCE: usize = 16;

/// A server with a canary for each row, a target, and witnesses that each say who they are.
fn start(canaries: usize) -> Server {
    let server = edge::server(&[
        ("DS_SERVER__BODY_TIMEOUT_SECS", "1"),
        ("DS_SERVER__HEADER_TIMEOUT_SECS", "2"),
        ("DS_HTTP__SSE_MAX_SECS", "1"),
    ]);
    let mut connection = server.connect();
    let mut create = |name: &str| {
        let path = server.path(name);
        let request = Request::new("PUT", &path).header("Content-Type", "text/plain");
        connection.send(&request.body(name)).expect(201);
    };
    (0..canaries).for_each(|number| create(&canary(number)));
    for name in ["runs/target", "runs/witness-0", "runs/witness-1"] {
        create(name);
    }
    server
}

/// Sends the row, and behind it a request for a witness, and returns the statuses of all answers up to the witness's.
fn exchange(mut connection: Connection, row: &Row, authorization: &str) -> Vec<u16> {
    let Row { line, headers, body } = row;
    let head =
        format!("{line}\r\nHost: localhost\r\nContent-Type: text/plain\r\n{authorization}{headers}\r\n");
    let witness = format!("GET /v1/stream/runs/witness-0 HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
    let _ = connection.set_patience(LOOK);
    let method = line.split([' ', '\t']).next().unwrap_or_default();
    let mut statuses = Vec::new();
    let mut asked = false;
    // A peer that hangs up may do so while bytes are sent.
    let _ = connection.write(&[head.as_bytes(), body].concat());
    loop {
        match connection.read_response(if statuses.is_empty() { method } else { "GET" }) {
            Ok(Some(answer)) if (100..200).contains(&answer.status()) => {}
            Ok(Some(answer)) => {
                statuses.push(answer.status());
                if answer.body == b"runs/witness-0" {
                    return statuses;
                }
            }
            Ok(None) => return statuses,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if asked {
                    return statuses;
                }
            }
            Err(_) => return statuses,
        }
        if !std::mem::replace(&mut asked, true) && connection.write(witness.as_bytes()).is_err() {
            return statuses;
        }
    }
}

/// Tries all rows, some at once, and says what was wrong with which; `after` looks around after each.
fn try_all(
    rows: &[Row],
    attempt: impl Fn(&Row) -> Vec<u16> + Sync,
    after: impl Fn(usize) -> Option<String> + Sync,
) -> String {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(String::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((number, row)) = take(rows, &next) {
                    let statuses = attempt(row);
                    println!("{:?} {:?}: {statuses:?}", row.line, row.headers);
                    // Two requests were sent. What is answered as a third is the hidden one, refused at best.
                    let done = statuses
                        .iter()
                        .filter(|status| (200..300).contains(*status))
                        .count();
                    let why = (done > 2).then(|| format!("more answers than requests: {statuses:?}"));
                    if let Some(why) = why.or_else(|| after(number)) {
                        let mut wrong = wrong.lock().expect("no other thread has panicked");
                        wrong.push_str(&format!("{}: {why}\n", row.describe()));
                    }
                }
            });
        }
    });
    wrong.into_inner().expect("no thread has panicked")
}

fn take<'a>(rows: &'a [Row], next: &AtomicUsize) -> Option<(usize, &'a Row)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    Some((number, rows.get(number)?))
}

/// The rows whose hidden request was executed.
fn executed(server: &Server, rows: &[Row]) -> String {
    let mut connection = server.connect();
    let mut executed = String::new();
    for (number, row) in rows.iter().enumerate() {
        let name = canary(number);
        let held = connection
            .send(&Request::new("GET", &server.path(&name)))
            .expect(200);
        if held.text() != name {
            executed.push_str(&format!("{}: executed\n", row.describe()));
        }
    }
    executed
}

#[test]
fn no_hidden_request_is_executed_by_the_server_itself() {
    let rows: Vec<_> = corpus()
        .iter()
        .enumerate()
        .map(|(number, row)| row.numbered(number))
        .collect();
    let server = start(rows.len());
    let attempt = |row: &Row| exchange(server.connect(), row, "");
    let after = |_| {
        let health = server.get("/healthz").status();
        (health != 200).then(|| format!("the server is not well: {health}"))
    };
    let wrong = try_all(&rows, attempt, after) + &executed(&server, &rows);
    assert!(wrong.is_empty(), "{wrong}");
    server.assert_well("all rows");
    server.stop();
}

#[test]
fn no_hidden_request_gets_through_the_edge() {
    let corpus = corpus_of_the_edge();
    // With a token, and without one: then the edge refuses before it has read the body.
    let twice = corpus.iter().chain(&corpus).enumerate();
    let rows: Vec<_> = twice.map(|(number, row)| row.numbered(number)).collect();
    let (with_token, without) = rows.split_at(corpus.len());
    let server = start(rows.len());
    let edge = Edge::before(server.address());
    let token = edge.token(&["--read", "runs/", "--write", "runs/"]);
    let caller = edge.caller(&token);
    let authorization = format!("Authorization: Bearer {token}\r\n");
    // Others that use the same connections to the server get what they asked for.
    let after = |number: usize| {
        let name = format!("runs/witness-{}", number % 2);
        let answer = caller.send("GET", &name);
        (answer.status() != 200 || answer.body != name.as_bytes())
            .then(|| format!("another's answer is {answer:?}"))
    };
    let mut wrong = try_all(
        with_token,
        |row| exchange(edge.connect(), row, &authorization),
        after,
    );
    wrong += &try_all(without, |row| exchange(edge.connect(), row, ""), after);
    wrong += &executed(&server, &rows);
    assert!(wrong.is_empty(), "{wrong}");
    let target = server.stream("runs/target").of_type("text/plain").read("-1");
    assert!(
        !target.text().contains("witness"),
        "a request was taken for a body: {:?}",
        target.text()
    );
    edge.send(&Request::new("GET", "/healthz")).expect(200);
    server.stop();
}
