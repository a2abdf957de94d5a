//! Reads that never pause leave appends their time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tailwater_e2e::{Connection, PATIENCE, Request, Server, Stream, eventually};

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

fn filled<'s>(server: &'s Server, name: &str) -> Stream<'s> {
    let stream = server.stream(name).of_type(TEXT).create();
    stream.append("x".repeat(512 * 1024));
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

/// Begins an append of ten bytes. A body that has begun to come and does not end is one that is being made, for as long as the
/// test wants.
fn begin_append(server: &Server, stream: &Stream<'_>) -> Connection {
    let mut slow = server.connect();
    let head = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Content-Length", "10");
    slow.write(&head.encode()).expect("the server reads");
    slow.write(b"slow").expect("the server reads");
    eventually("it is being made", || {
        (metric(server, "tailwater_in_flight_bytes") == 4).then_some(())
    });
    slow
}

/// An append may be long in coming. Who looks after the server is answered meanwhile, whatever reads have to wait.
#[test]
fn health_is_told_while_reads_are_refused() {
    let server = Server::start_with(&LITTLE);
    let stream = filled(&server, "read");
    let mut slow = begin_append(&server, &stream);
    let mut reader = server.connect();
    eventually("a read is refused", || {
        let answer = reader.send(&stream.reading("-1", ""));
        (answer.status() == 503).then(|| assert_refused(answer, 503, "too_many_reads"))
    });
    for _ in 0..50 {
        for path in ["/healthz", "/health", "/ok", "/readyz", "/metrics"] {
            server.get(path).expect(200);
        }
        // What makes that one read more is refused now and then is not of interest here.
        let _ = reader.send(&stream.reading("-1", ""));
    }
    slow.write(b" body.").expect("the server reads");
    let answer = slow.read_response("POST").expect("an answer").expect("an answer");
    answer.expect(204);
    server.stop();
}

/// Little for reads while appends are made, but not so little that a long answer takes for ever.
const SOME: [(&str, &str); 2] = [
    ("DS_LIMITS__MAX_READ_SHARE_PERCENT", "10"),
    ("DS_LIMITS__MAX_LIST_ENTRIES", "1"),
];

/// Appends all the time while `look` looks until there is what it looks for.
fn while_appends_are_made(server: &Server, what: &str, mut look: impl FnMut() -> Option<()>) {
    let written = server.stream("written").create();
    let is_over = AtomicBool::new(false);
    let deadline = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = server.connect();
            while !is_over.load(Ordering::Relaxed) && Instant::now() < deadline {
                connection.send(&written.appending("1")).expect(204);
            }
        });
        eventually(what, || {
            let seen = look();
            if seen.is_none() {
                // Whoever is refused and comes again at once uses up what the next one would be admitted with.
                std::thread::sleep(Duration::from_millis(200));
            }
            seen
        });
        is_over.store(true, Ordering::Relaxed);
    });
}

/// An export took one turn for any amount, so that one of a fast client left nothing to other reads.
#[test]
fn each_piece_of_an_export_waits_for_its_turn() {
    let server = Server::start_with(&SOME);
    let stream = filled(&server, "exported");
    stream.append("x".repeat(512 * 1024));
    while_appends_are_made(&server, "pieces are held up", || {
        let delayed = metric(&server, "tailwater_reads_delayed_total");
        let answer = server.get("/v1/stream/__ds/export?prefix=exported");
        if answer.status() != 200 {
            assert_refused(answer, 503, "too_many_reads");
            return None;
        }
        assert!(answer.text().len() > 1 << 20, "all of it comes");
        // The request itself waited once at most.
        (metric(&server, "tailwater_reads_delayed_total") > delayed + 1).then_some(())
    });
    server.stop();
}

/// So did the change feed, though it reaches back as far as an export.
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
fn event_streams_that_catch_up_get_everything_while_an_append_is_made() {
    // The append in the making lasts as long as the test.
    let patient = ("DS_SERVER__BODY_TIMEOUT_SECS", "3600");
    let settings: Vec<_> = LITTLE.iter().copied().chain([patient]).collect();
    let server = Server::start_with(&settings);
    let stream = server.stream("events").of_type(TEXT).create();
    let piece = "e".repeat(512 * 1024);
    for _ in 0..6 {
        stream.append(piece.clone());
    }
    let slow = begin_append(&server, &server.stream("other").of_type(TEXT).create());
    let request = stream.reading("-1", "&live=sse");
    // That frames wait for their turns is shown where no time decides, by the tests of `turns.rs`.
    eventually("all of it is read", || {
        let Ok(mut events) = server.connect().try_follow(&request) else {
            // To be refused costs reads a part of their share too: whoever comes again before he was told to may use it up.
            std::thread::sleep(Duration::from_secs(1));
            return None;
        };
        let mut read = 0;
        while read < 6 * piece.len() {
            let event = events.next_event().expect("there is more");
            if event.kind == "data" {
                read += event.data.len();
            }
        }
        assert_eq!(read, 6 * piece.len());
        Some(())
    });
    drop(slow);
    server.stop();
}
