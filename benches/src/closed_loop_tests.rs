//! Tests of the closed loop, against a server that gives every request the same answer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

use super::{Window, Workload, run};
use crate::request::Target;
use crate::response::Head;
use crate::scenario::Pace;

const CONNECTIONS: usize = 3;

/// A window that no test waits for: the loop gives up once every connection has failed.
const LONG: Pace = Pace {
    warm_up_ms: 60_000,
    window_ms: 60_000,
};

/// Asks for anything, and wants bodies of two bytes.
struct TwoBytes {
    request: Vec<u8>,
}

impl Workload for TwoBytes {
    fn request(&mut self, _connection: usize) -> &[u8] {
        &self.request
    }

    fn answered(&mut self, _connection: usize, _head: &Head, body_bytes: u64) -> Result<(), String> {
        if body_bytes == 2 {
            Ok(())
        } else {
            Err(format!("{body_bytes} bytes"))
        }
    }
}

/// Answers each request with `answer`, or closes the connection if that is empty.
fn serve(mut stream: TcpStream, answer: &[u8]) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|received| received > 0) {
        if answer.is_empty() {
            // What becomes of the connection is the test's to see.
            let _ = stream.shutdown(Shutdown::Both);
        }
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

fn run_against(answer: &'static [u8], pace: &Pace) -> anyhow::Result<Window> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let server = std::thread::spawn(move || {
        let streams: Vec<TcpStream> = listener
            .incoming()
            .take(CONNECTIONS)
            .map_while(Result::ok)
            .collect();
        let threads = streams
            .into_iter()
            .map(|stream| std::thread::spawn(move || serve(stream, answer)));
        for thread in threads.collect::<Vec<_>>() {
            thread.join().expect("a serving thread");
        }
    });
    let target = Target {
        address,
        prefix: "/".to_owned(),
        pid: std::process::id(),
        disk: None,
    };
    let mut workload = TwoBytes {
        request: target.read("a", "-1"),
    };
    let window = run(&target, CONNECTIONS, &mut workload, pace);
    server.join().expect("the server");
    window
}

fn failure(answer: &'static [u8]) -> String {
    run_against(answer, &LONG)
        .expect_err("every answer is a failure")
        .to_string()
}

/// A machine that is busy elsewhere may let a short window pass without an answer, so longer ones follow.
#[test]
fn good_answers_are_counted_with_their_bytes_and_latencies() {
    let tally = [50, 1_000, 30_000]
        .map(|window_ms| Pace {
            warm_up_ms: 1,
            window_ms,
        })
        .iter()
        .map(|pace| {
            run_against(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", pace)
                .expect("no failures")
                .tally
        })
        .find(|tally| tally.operations > 0)
        .expect("at least one answer in the longest window");
    assert_eq!(tally.latencies.len(), tally.operations);
    assert_eq!(tally.body_bytes, tally.operations * 2);
}

#[test]
fn refusals_fail_the_run_with_their_status_and_body() {
    let failure = failure(b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\ntoo much!");
    assert_eq!(failure, "3 failures: 3 × status 503: too much!");
}

#[test]
fn closed_connections_fail_the_run() {
    assert_eq!(failure(b""), "3 failures: 3 × connection closed by the server");
}

#[test]
fn answers_that_the_workload_finds_wrong_fail_the_run() {
    assert_eq!(
        failure(b"HTTP/1.1 204 No Content\r\n\r\n"),
        "3 failures: 3 × 0 bytes"
    );
}
