//! Very many small streams: what a server holds of them follows its files and its caches, not their number.
//!
//! `TAILWATER_E2E_STREAMS` says how many; `make soak` takes a million. Durations are printed and decide nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;
use tailwater_e2e::{Request, Server};

const STREAMS: usize = 2000;
/// Connections that are kept alive, each with one request at a time.
const CLIENTS: usize = 64;
/// Streams that are read after each restart.
const SAMPLES: usize = 500;
/// For journals, segments, the catalog, connections, and what a process has anyway.
const DESCRIPTORS_MAX: usize = 500;
/// For journals and segments.
const MAPS_MAX: usize = 200;
/// Of a process that has just started on a store that was left in good order.
const ANONYMOUS_BYTES_MAX: u64 = 150 << 20;

#[test]
fn very_many_small_streams_survive_restarts_and_take_neither_memory_nor_descriptors() {
    for mode in ["file-durable", "file-fast"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data_dir = dir.path().join("streams");
        let data_dir = data_dir.to_str().expect("a plain path");
        let start = || {
            let began = Instant::now();
            let server =
                Server::start_with(&[("DS_STORAGE__MODE", mode), ("DS_STORAGE__DATA_DIR", data_dir)]);
            println!("{mode}: listens {:?} after its start", began.elapsed());
            server
        };
        let streams = streams();
        let server = start();
        let began = Instant::now();
        fill(&server, streams);
        println!(
            "{mode}: {streams} streams of three records in {:?}",
            began.elapsed()
        );
        assert_modest(&server, mode, data_dir, "having written it all");
        server.kill();

        let server = start();
        check(&server, streams);
        assert_modest(&server, mode, data_dir, "a recovery");
        server.stop();

        let server = start();
        let anonymous = server.process().status_bytes("RssAnon");
        println!("{mode}: {} MiB of memory after a clean restart", anonymous >> 20);
        assert!(
            anonymous < ANONYMOUS_BYTES_MAX,
            "{mode}: {anonymous} bytes for {streams} streams that nobody uses"
        );
        check(&server, streams);
        assert_modest(&server, mode, data_dir, "a clean restart");
        // A stream that was put away goes on where it was.
        let last = server.stream(&name(streams - 1));
        last.append(record(3));
        assert_eq!(last.messages(), [0, 1, 2, 3].map(message));
        server.stop();
    }
}

fn streams() -> usize {
    let variable = std::env::var("TAILWATER_E2E_STREAMS");
    variable.map_or(STREAMS, |text| {
        text.parse().expect("TAILWATER_E2E_STREAMS is a number")
    })
}

/// Spread, so that streams that are made one after the other are not neighbours in the catalog.
fn name(number: usize) -> String {
    format!("many/{:03}/{number:07}", number * 7919 % 1000)
}

fn message(number: usize) -> serde_json::Value {
    json!({ "record": number })
}

fn record(number: usize) -> String {
    message(number).to_string()
}

/// Creates each stream with one record in it, and appends two more.
fn fill(server: &Server, streams: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS.min(streams) {
            scope.spawn(|| {
                let mut connection = server.connect();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= streams {
                        return;
                    }
                    let path = server.path(&name(number));
                    for (method, record_number) in [("PUT", 0), ("POST", 1), ("POST", 2)] {
                        let request = Request::new(method, &path).header("Content-Type", "application/json");
                        let answer = connection.send(&request.body(record(record_number)));
                        answer.expect(if method == "PUT" { 201 } else { 204 });
                    }
                }
            });
        }
    });
}

/// All of them are listed, in order and once, and some of them are read.
#[track_caller]
fn check(server: &Server, streams: usize) {
    let mut connection = server.connect();
    let (mut count, mut after) = (0, String::new());
    loop {
        let path = server.path(&format!("__ds/streams?prefix=many/&after={after}"));
        let page = connection.send(&Request::new("GET", &path)).expect(200).json();
        for stream in page["streams"].as_array().expect("an array") {
            let name = stream["name"].as_str().expect("a name");
            assert!(name > after.as_str(), "{name} is listed behind {after}");
            assert_eq!(stream["messages"], 3, "{stream}");
            name.clone_into(&mut after);
            count += 1;
        }
        if page["after"].is_null() {
            break;
        }
    }
    assert_eq!(count, streams, "streams that are listed");
    for number in (0..streams).step_by((streams / SAMPLES).max(1)) {
        let answer = connection.send(&Request::new("GET", &server.path(&name(number))));
        assert_eq!(
            answer.expect(200).json(),
            json!([0, 1, 2].map(message)),
            "{}",
            name(number)
        );
    }
}

#[track_caller]
fn assert_modest(server: &Server, mode: &str, data_dir: &str, after: &str) {
    let process = server.process();
    let (descriptors, maps) = (process.descriptors(), process.maps_of(data_dir));
    println!("{mode}: {descriptors} descriptors and {maps} maps of files after {after}");
    assert!(
        descriptors < DESCRIPTORS_MAX,
        "{mode}: {descriptors} descriptors after {after}"
    );
    assert!(maps < MAPS_MAX, "{mode}: {maps} maps after {after}");
    server.assert_well(after);
}
