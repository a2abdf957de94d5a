//! Reads that never pause leave appends their time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tailwater_e2e::{PATIENCE, Request, Server, Stream, eventually};

use crate::support::{assert_refused, metric, reads_busy, refusals};

/// Next to nothing for reads while appends are made, and hardly a wait.
const LITTLE: [(&str, &str); 2] = [
    ("DS_LIMITS__MAX_READ_SHARE_PERCENT", "1"),
    ("DS_LIMITS__MAX_READ_WAIT_MS", "1"),
];
const TEXT: &str = "text/plain";
const READERS: usize = 8;
const WRITERS: usize = 4;
/// So much is to be seen of what must happen.
const ENOUGH: u64 = 50;

const PIECE_BYTES: usize = 512 * 1024;
/// Pieces of what is more than reads may send in one go.
const PIECES: usize = 16;

fn filled<'s>(server: &'s Server, name: &str) -> Stream<'s> {
    filled_with(server, name, 1)
}

fn filled_with<'s>(server: &'s Server, name: &str, pieces: usize) -> Stream<'s> {
    let stream = server.stream(name).of_type(TEXT).create();
    for _ in 0..pieces {
        stream.append("x".repeat(PIECE_BYTES));
    }
    stream
}

/// In a peer readers that never paused left writers a fiftieth of their rate, and nobody was told.
#[test]
fn appends_go_on_beside_reads_that_never_pause_and_these_are_told_so() {
    let server = Server::start_with(&LITTLE);
    let (read, written) = (filled(&server, "read"), server.stream("written").create());
    let (refused, appended_meanwhile) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let deadline = Instant::now() + PATIENCE;
    let acknowledged = std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut connection = server.connect();
                while !is_over.load(Ordering::Relaxed) {
                    let answer = connection.send(&read.reading("-1", ""));
                    if answer.status() != 200 {
                        assert_refused(answer, 503, "too_many_reads");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = server.connect();
                    let mut acknowledged = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        connection.send(&written.appending("1")).expect(204);
                        acknowledged += 1;
                        if refused.load(Ordering::Relaxed) > 0 {
                            appended_meanwhile.fetch_add(1, Ordering::Relaxed);
                        }
                        let is_enough = |count: &AtomicU64| count.load(Ordering::Relaxed) >= ENOUGH;
                        if (is_enough(&refused) && is_enough(&appended_meanwhile))
                            || Instant::now() > deadline
                        {
                            is_over.store(true, Ordering::Relaxed);
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        let acknowledged = writers
            .into_iter()
            .map(|writer| writer.join().expect("it appends"));
        acknowledged.sum::<usize>()
    });
    let (refused, meanwhile) = (refused.into_inner(), appended_meanwhile.into_inner());
    assert!(
        refused >= ENOUGH && meanwhile >= ENOUGH,
        "{refused} reads refused, {meanwhile} appends meanwhile"
    );
    // Once nobody appends, reads are not held up any more; what was acknowledged is there.
    let all = eventually("a read is let in", || {
        let answer = written.read("-1");
        (answer.status() == 200).then(|| answer.json())
    });
    assert_eq!(all.as_array().map(Vec::len), Some(acknowledged));
    assert!(refusals(&server, "too_many_reads") >= refused);
    assert!(metric(&server, "tailwater_reads_delayed_total") >= refused);
    assert_eq!(metric(&server, "tailwater_reads_waiting"), 0);
    server.stop();
}

/// In memory an append is made in the moment in which it is read, so that no read ever sees one that waits.
#[test]
fn appends_that_are_made_at_once_count_too() {
    let server = Server::start_with(&[&LITTLE[..], &[("DS_STORAGE__MODE", "memory")]].concat());
    let stream = filled(&server, "both");
    let mut connection = server.connect();
    eventually("a read is held up", || {
        // One after the other: the append is over when the read begins.
        connection.send(&stream.appending("x")).expect(204);
        let answer = connection.send(&stream.reading("-1", ""));
        assert!(matches!(answer.status(), 200 | 503), "{answer:?}");
        (metric(&server, "tailwater_reads_delayed_total") > 0).then_some(())
    });
    server.stop();
}

/// What a connection took was once measured only if the request before was a read too. So a client paid nothing that
/// made one read on each connection, or a preflight before each.
#[test]
fn what_reads_take_is_measured_from_the_first_on() {
    let server = Server::start();
    let stream = server.stream("read").create();
    let read = stream.reading("-1", "");
    let before = reads_busy(&server);
    // It stays open: its end would be booked to the read too.
    let mut connection = server.connect();
    connection.send(&read).expect(200);
    let first = eventually("it is paid for", || {
        Some(reads_busy(&server)).filter(|busy| *busy > before)
    });
    let mut connection = server.connect();
    connection.send(&stream.request("OPTIONS")).expect(204);
    connection.send(&read).expect(200);
    eventually("so is one behind a preflight", || {
        (reads_busy(&server) > first).then_some(())
    });
    server.stop();
}

/// Reads that are merely many are no overload.
#[test]
fn while_nobody_appends_no_read_is_held_up() {
    let server = Server::start_with(&LITTLE);
    let stream = server.stream("read").create();
    // The creation counts for a moment still; from then on no read is held up however many there are.
    eventually("a round of reads goes through", || {
        let delayed = metric(&server, "tailwater_reads_delayed_total");
        let refused = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    let mut connection = server.connect();
                    for _ in 0..100 {
                        let is_refused = connection.send(&stream.reading("-1", "")).status() != 200;
                        refused.fetch_add(u64::from(is_refused), Ordering::Relaxed);
                    }
                });
            }
        });
        let delayed = metric(&server, "tailwater_reads_delayed_total") - delayed;
        (delayed == 0 && refused.into_inner() == 0).then_some(())
    });
    server.stop();
}

/// A body may be long in coming. It needs no time until it is there, so that one client with a body that never ends held
/// all reads to their share for nothing.
#[test]
fn a_body_that_is_slow_to_come_holds_no_read_up() {
    let server = Server::start_with(&LITTLE);
    let stream = filled(&server, "read");
    let mut slow = server.connect();
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Content-Length", "10");
    slow.write(&head.encode()).expect("the server reads");
    slow.write(b"slow").expect("the server reads");
    eventually("the body has begun", || {
        (metric(&server, "tailwater_in_flight_bytes") == 4).then_some(())
    });
    assert_eq!(metric(&server, "tailwater_writes_waiting"), 0);
    let mut reader = server.connect();
    // What was appended before counts for a moment still; from then on no read is held up.
    eventually("a round of reads goes through", || {
        let delayed = metric(&server, "tailwater_reads_delayed_total");
        let all_read = (0..100).all(|_| reader.send(&stream.reading("-1", "")).status() == 200);
        (all_read && metric(&server, "tailwater_reads_delayed_total") == delayed).then_some(())
    });
    slow.write(b" body.").expect("the server reads");
    let answer = slow.read_response("POST").expect("an answer").expect("an answer");
    answer.expect(204);
    server.stop();
}

/// Makes appends all the time while `look` looks until there is what it looks for.
fn while_appends_are_made(server: &Server, what: &str, look: impl FnMut() -> Option<()>) {
    let written = server.stream("written").create();
    let is_over = AtomicBool::new(false);
    let deadline = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut connection = server.connect();
                while !is_over.load(Ordering::Relaxed) && Instant::now() < deadline {
                    connection.send(&written.appending("1")).expect(204);
                }
            });
        }
        eventually(what, look);
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Whoever looks after the server sees for which writes the reads are held up.
#[test]
fn writes_that_wait_for_the_disk_are_told() {
    let server = Server::start_with(&[("DS_STORAGE__MODE", "file-durable")]);
    while_appends_are_made(&server, "a write waits", || {
        (metric(&server, "tailwater_writes_waiting") > 0).then_some(())
    });
    assert_eq!(metric(&server, "tailwater_writes_waiting"), 0);
    server.stop();
}

/// Who looks after the server is answered, whatever reads have to wait.
#[test]
fn health_is_told_while_reads_are_refused() {
    let server = Server::start_with(&LITTLE);
    let stream = filled(&server, "read");
    let mut reader = server.connect();
    while_appends_are_made(&server, "a read is refused", || {
        let answer = reader.send(&stream.reading("-1", ""));
        if answer.status() != 503 {
            return None;
        }
        assert_refused(answer, 503, "too_many_reads");
        for _ in 0..50 {
            for path in ["/healthz", "/health", "/ok", "/readyz", "/metrics"] {
                server.get(path).expect(200);
            }
            // What makes that one read more is refused now and then is not of interest here.
            let _ = reader.send(&stream.reading("-1", ""));
        }
        Some(())
    });
    server.stop();
}

/// Little for reads while appends are made, but not so little that a long answer takes for ever.
const SOME: [(&str, &str); 2] = [
    ("DS_LIMITS__MAX_READ_SHARE_PERCENT", "10"),
    ("DS_LIMITS__MAX_LIST_ENTRIES", "1"),
];

/// The change feed takes a turn for each page. That each waits, as each piece of an export does, is shown where no time
/// decides, by the tests of `turns.rs`.
#[test]
fn the_change_feed_goes_on_page_by_page_while_appends_are_made() {
    const PAGES: usize = 100;
    let server = Server::start_with(&SOME);
    let listing = server.get("/v1/stream/__ds/streams").expect(200).json();
    let token = listing["changes"].as_str().expect("a token");
    for number in 0..PAGES {
        server.stream(&format!("changed-{number}")).create();
    }
    let path = format!("/v1/stream/__ds/changes?live=sse&prefix=changed-&after={token}");
    while_appends_are_made(&server, "all pages come", || {
        let mut events = server.connect().try_follow(&Request::new("GET", &path)).ok()?;
        for _ in 0..PAGES {
            let event = events.next_event().expect("there is more");
            assert_eq!(event.kind, "changes");
        }
        Some(())
    });
    server.stop();
}

/// Events of a stream that was there before are reads like others. A reader who has begun gets all of it, in his turn.
#[test]
fn event_streams_that_catch_up_get_everything_while_appends_are_made() {
    let server = Server::start_with(&LITTLE);
    let stream = filled_with(&server, "events", PIECES);
    let request = stream.reading("-1", "&live=sse");
    // That frames wait for their turns is shown where no time decides, by the tests of `turns.rs`.
    while_appends_are_made(&server, "all of it is read", || {
        let mut events = server.connect().try_follow(&request).ok()?;
        let mut read = 0;
        while read < PIECES * PIECE_BYTES {
            let event = events.next_event().expect("there is more");
            if event.kind == "data" {
                read += event.data.len();
            }
        }
        assert_eq!(read, PIECES * PIECE_BYTES);
        Some(())
    });
    server.stop();
}
