//! Requests that no server should accept: each gets an answer of its client's own making (4xx) or a closed
//! connection, never a hang, never a 5xx, never a panic, and never a trace in a stream.

mod stream_requests;
mod syntax;

use std::io::{ErrorKind, Read};

use serde_json::Value;
use tailwater_e2e::{Connection, Response, Server};

/// Stands for a connection that was closed without an answer.
const CLOSED: u16 = 0;
const REFUSED: &[u16] = &[400];
const GARBAGE: &[u16] = &[400, CLOSED];
const TOO_BIG: &[u16] = &[400, 413, 414, 431, CLOSED];
const BROKEN_BODY: &[u16] = &[400, 408, 413, CLOSED];

/// What a row is called, the bytes that are sent, and the statuses that are right.
struct Case {
    name: String,
    bytes: Vec<u8>,
    expected: &'static [u16],
}

fn case(name: &str, bytes: impl Into<Vec<u8>>, expected: &'static [u16]) -> Case {
    Case {
        name: name.into(),
        bytes: bytes.into(),
        expected,
    }
}

/// A whole request with a body, named after the line that makes it bad.
fn request(line: &str, headers: &str, body: &[u8], expected: &'static [u16]) -> Case {
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
    let name = format!(
        "{line:.80} with {headers:?} and {:?}",
        String::from_utf8_lossy(&body[..length.min(40)])
    );
    case(&name, [head.as_bytes(), body].concat(), expected)
}

/// A POST of bytes with its own framing headers and nothing else that is wrong.
fn framed(headers: &str, body: &str, expected: &'static [u16]) -> Case {
    let head =
        format!("POST /v1/stream/text HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n{headers}\r\n");
    case(&format!("framing {headers:?} {body:.40?}"), head + body, expected)
}

/// A server with a text stream and a JSON stream, whose timeouts end what never ends by itself.
fn start() -> Server {
    let server = Server::start_with(&[
        ("DS_SERVER__HEADER_TIMEOUT_SECS", "1"),
        ("DS_SERVER__BODY_TIMEOUT_SECS", "1"),
        ("DS_SERVER__IDLE_TIMEOUT_SECS", "1"),
        ("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "1"),
        ("DS_HTTP__SSE_MAX_SECS", "1"),
    ]);
    server
        .stream("text")
        .of_type("text/plain")
        .create()
        .append("kept");
    server.stream("json").create().append(r#"["kept"]"#);
    server
}

/// Sends each row on a connection of its own; the server must stay well and its streams untouched.
#[track_caller]
fn check(cases: &[Case], hang_up: bool) {
    let server = start();
    let mut wrong = String::new();
    for case in cases {
        match exchange(&server, case, hang_up) {
            Ok(status) if case.expected.contains(&status) => {}
            Ok(status) => {
                wrong.push_str(&format!(
                    "{}: got {status}, expected one of {:?}\n",
                    case.name, case.expected
                ));
            }
            Err(why) => wrong.push_str(&format!("{}: {why}\n", case.name)),
        }
        server.assert_well(&case.name);
    }
    assert!(
        wrong.is_empty(),
        "answers that are wrong (0 is a closed connection):\n{wrong}"
    );
    assert_eq!(
        server.stream("text").read("-1").text(),
        "kept",
        "nothing refused was stored"
    );
    assert_eq!(
        server.stream("json").messages(),
        ["kept"],
        "nothing refused was stored"
    );
    server.stop();
}

/// The status of the answer, or what is wrong with it whatever its status.
fn exchange(server: &Server, case: &Case, hang_up: bool) -> Result<u16, String> {
    let mut connection = server.connect();
    // The server may hang up before it has read everything; what it answered still counts.
    let _ = connection.write(&case.bytes);
    if hang_up {
        let _ = connection.finish_writing();
    }
    match connection.read_response("GET") {
        Ok(None) => Ok(CLOSED),
        Ok(Some(response)) if explained(&response) => Ok(response.status()),
        Ok(Some(response)) => Err(format!("not a problem body: {response:?}")),
        Err(error) if error.kind() == ErrorKind::InvalidData => closed_after(connection),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err("the server hangs".into())
        }
        Err(_) => Ok(CLOSED),
    }
}

/// Whatever the server said that is not HTTP/1.1, it must have hung up then.
fn closed_after(mut connection: Connection) -> Result<u16, String> {
    match connection.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(format!("the server hangs: {error}")),
        _ => Ok(CLOSED),
    }
}

/// A refusal with a body explains itself in one form only.
fn explained(response: &Response) -> bool {
    if response.status() < 400 || response.body.is_empty() {
        return true;
    }
    response.header("content-type") == Some("application/problem+json")
        && serde_json::from_slice(&response.body)
            .is_ok_and(|body: Value| body["status"] == response.status() && body["code"].is_string())
}
