//! Clients of HTTP/2 that do not take their answers. Each answer has a window of its own, which a client may leave shut
//! while it reads the socket and sends whatever it likes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tailwater_e2e::frames::HEADERS;
use tailwater_e2e::{FrameClient, PATIENCE, Server, Stream, eventually};

use crate::support::{assert_refused, connect_from, metric, refusals};

const TEXT: &str = "text/plain";
const BODY_BYTES: usize = 60_000;
/// Between two signs of life of a client.
const PAUSE: Duration = Duration::from_millis(20);

/// A server on which nothing but an answer that is not taken ends a connection within a day.
fn start(write_timeout_secs: u64, more: &[(&str, &str)]) -> Server {
    let write_timeout_secs = write_timeout_secs.to_string();
    let mut settings = vec![
        ("DS_SERVER__WRITE_TIMEOUT_SECS", write_timeout_secs.as_str()),
        ("DS_SERVER__HEADER_TIMEOUT_SECS", "86400"),
        ("DS_SERVER__IDLE_TIMEOUT_SECS", "86400"),
        ("DS_HTTP__SSE_KEEP_ALIVE_SECS", "86400"),
        ("DS_HTTP__SSE_MAX_SECS", "86400"),
    ];
    settings.extend(more);
    Server::start_with(&settings)
}

fn filled<'s>(server: &'s Server, name: &'s str) -> Stream<'s> {
    let stream = server.stream(name).of_type(TEXT).create();
    stream.append(vec![b'x'; BODY_BYTES]);
    stream
}

/// Asks for as many answers, and sees all their heads.
fn ask(client: &mut FrameClient, target: &str, count: usize) -> std::io::Result<Vec<u32>> {
    let streams: Vec<u32> = (0..count)
        .map(|_| client.request("GET", target))
        .collect::<Result<_, _>>()?;
    let mut heads = 0;
    while heads < count {
        heads += usize::from(client.next_frame()?.kind == HEADERS);
    }
    Ok(streams)
}

/// Pings, asks for what has no body, and takes one answer byte by byte if it has one to take, until the server ends the
/// connection.
#[track_caller]
fn stay_until_cut_off(client: &mut FrameClient, taken: Option<u32>, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    let mut stay = || {
        client.ping()?;
        client.request("HEAD", "/healthz")?;
        taken.map_or(Ok(()), |number| client.widen(number, 1))
    };
    while stay().is_ok() {
        assert!(Instant::now() < deadline, "never cut off: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Every write to the socket, if only the answer to a ping, began the time anew in which some of any answer had to be
/// taken. And a body that had been given whole was not timed at all. One connection could hold 256 answers for ever.
#[test]
fn a_client_that_leaves_answers_where_they_are_is_cut_off_whatever_else_it_does() {
    let server = start(1, &[]);
    let stream = filled(&server, "untaken");
    let catch_up = format!("{}?offset=-1", stream.path());
    let events = format!("{catch_up}&live=sse");
    let changes = server.path("__ds/changes?live=sse");
    std::thread::scope(|scope| {
        for target in [&catch_up, &events, &changes] {
            // With a window of one byte the connection is given all of a body, and keeps it.
            for window_bytes in [0, 1] {
                let server = &server;
                scope.spawn(move || {
                    let what = format!("{target} with a window of {window_bytes}");
                    let mut client = FrameClient::open(server.address(), window_bytes);
                    // On a slow machine it may be cut off before it has seen all heads.
                    let answers = ask(&mut client, target, 20).unwrap_or_default();
                    stay_until_cut_off(&mut client, answers.first().copied(), &what);
                });
            }
        }
    });
    for gauge in ["tailwater_requests", "tailwater_live_readers"] {
        eventually(gauge, || (metric(&server, gauge) == 0).then_some(()));
    }
    server.stop();
}

/// Whether the client still takes an answer, byte by byte, when another one that began after it and takes nothing has
/// been cut off. None if it was cut off itself, but had paused for about as long as it may: on a slow machine.
fn outlasts(write_timeout_secs: u64) -> Option<bool> {
    let server = start(write_timeout_secs, &[]);
    let stream = filled(&server, "slow");
    let target = format!("{}?offset=-1", stream.path());
    let mut client = FrameClient::open(server.address(), 0);
    let mut taken_at = Instant::now();
    let number = ask(&mut client, &target, 1).expect("a head")[0];
    let is_cut_off = AtomicBool::new(false);
    let mut pause = Duration::ZERO;
    let mut taken = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = FrameClient::open(server.address(), 0);
            let _ = ask(&mut other, &target, 1);
            stay_until_cut_off(&mut other, None, "who takes nothing");
            is_cut_off.store(true, Ordering::Release);
        });
        let mut take = |bytes| {
            client.widen(number, bytes)?;
            let data = client.next_data(number);
            pause = pause.max(taken_at.elapsed());
            taken_at = Instant::now();
            data
        };
        while !is_cut_off.load(Ordering::Acquire) {
            match take(1) {
                Ok(data) => taken += data.len(),
                Err(_) => break,
            }
            std::thread::sleep(PAUSE);
        }
        let rest = u32::try_from(BODY_BYTES - taken).expect("a short body");
        if let Ok(data) = take(rest) {
            taken += data.len();
            while taken < BODY_BYTES {
                match client.next_data(number) {
                    Ok(data) => taken += data.len(),
                    Err(_) => break,
                }
            }
        }
    });
    let was_slow = pause >= Duration::from_secs(write_timeout_secs) / 2;
    (taken == BODY_BYTES || !was_slow).then_some(taken == BODY_BYTES)
}

#[test]
fn a_client_that_takes_its_answer_byte_by_byte_is_not_cut_off() {
    let outlasts = [1, 4, 16].into_iter().find_map(outlasts);
    assert_eq!(outlasts, Some(true));
}

/// Nothing waits for the reader of an event stream that is at its tail.
#[test]
fn an_event_stream_at_its_tail_may_be_silent_for_longer_than_an_answer_may_wait() {
    let server = start(1, &[]);
    let stream = filled(&server, "silent");
    let events = format!("{}?offset=now&live=sse", stream.path());
    let mut reader = FrameClient::open(server.address(), 65_535);
    let number = ask(&mut reader, &events, 1).expect("a head")[0];
    let mut seen = String::new();
    let mut read_to = |what: &str| {
        while !seen.contains(what) {
            let data = reader.next_data(number).expect("it goes on");
            seen.push_str(&String::from_utf8(data).expect("events are text"));
        }
    };
    read_to("upToDate");
    let mut other = FrameClient::open(server.address(), 0);
    let _ = ask(&mut other, &format!("{}?offset=-1", stream.path()), 1);
    stay_until_cut_off(&mut other, None, "who takes nothing");
    stream.append("later");
    read_to("data:later");
    drop(reader);
    server.stop();
}

/// A request was answered once its head was sent, so that nothing bounded the answers that were kept for their clients.
#[test]
fn a_request_counts_until_its_answer_is_taken_and_an_event_stream_as_a_live_read_alone() {
    let server = start(86_400, &[("DS_LIMITS__MAX_REQUESTS", "3")]);
    let stream = filled(&server, "counted");
    let target = format!("{}?offset=-1", stream.path());
    let events = format!("{target}&live=sse");
    let changes = server.path("__ds/changes?live=sse");
    let mut shut = FrameClient::open(server.address(), 0);
    for target in [&events, &changes] {
        ask(&mut shut, target, 1).expect("a head");
    }
    let first = ask(&mut shut, &target, 1).expect("a head")[0];
    let mut ajar = FrameClient::open(server.address(), 1);
    for _ in 0..2 {
        let number = ask(&mut ajar, &target, 1).expect("a head")[0];
        assert_eq!(ajar.next_data(number).expect("a byte").len(), 1);
    }
    let count = || metric(&server, "tailwater_requests");
    assert_eq!((count(), metric(&server, "tailwater_live_readers")), (3, 2));
    for request in [stream.reading("-1", ""), stream.appending("x")] {
        assert_refused(connect_from(&server, 4).send(&request), 503, "too_many_requests");
    }
    assert_eq!(refusals(&server, "too_many_requests"), 2);

    shut.widen(first, 65_535).expect("the server reads");
    let mut taken = 0;
    while taken < BODY_BYTES {
        taken += shut.next_data(first).expect("the rest").len();
    }
    eventually("what is taken counts no more", || (count() == 2).then_some(()));
    drop(ajar);
    eventually("whoever has gone counts no more", || (count() == 0).then_some(()));
    assert_eq!(metric(&server, "tailwater_live_readers"), 2);
    drop(shut);
    server.stop();
}
