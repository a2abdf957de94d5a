//! The three processes, killed at random moments while events are appended, and the connections between them, cut. The
//! oracle is simple: event `n` of a stream says `n`, and a producer repeats what was not acknowledged, so in the end
//! each stream has each number once, and so has its table.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::proxy::CuttingProxy;
use tailwater_e2e::{Connection, PATIENCE, Request, eventually};

use crate::rig::{DATABASE, Rig, root};

const ROUNDS: usize = 8;
const STREAMS: usize = 12;
/// How long the three live together until one dies, at most.
const LIFE_MS: u64 = 400;
/// A table is locked until so many transactions have given up waiting for it, each after ten seconds.
const LOCK_TIMEOUTS: f64 = 3.0;
/// Says for how many seconds it is locked at least.
const LOCK_VARIABLE: &str = "TAILWATER_LOCK_SECS";
/// So many answers are dropped, at least, on each side.
const CUTS: usize = 20;

#[test]
fn every_event_becomes_one_row_whoever_of_the_three_is_killed() {
    let (rig, mirror, appended) = live_through_kills(rig());
    check(&rig, &mirror, &appended);
}

/// The first of these has a row for each event, and nothing but the places of streams keeps it from having two. The
/// other one has a row for each stream.
#[test]
fn every_event_is_in_the_table_of_its_route_whoever_of_the_three_is_killed() {
    let routes = r#"
[sync]
create_tables = true
[[route]]
streams = "runs/1*"
table = "app.newest"
mode = "upsert"
key = ["stream"]
columns = { stream = { field = "stream" }, n = { pointer = "/n", type = "bigint", required = true } }
[[route]]
streams = "runs/{run}"
table = "app.numbers"
columns = { stream = { field = "stream" }, n = { pointer = "/n", type = "bigint", required = true } }
"#;
    let (rig, mirror, appended) = live_through_kills(rig().configured(routes));
    check(&rig, &mirror, &appended);
    for (stream, count) in appended.iter().enumerate() {
        let name = name(stream);
        let numbers = format!(
            "SELECT count(*), count(DISTINCT n), max(n) + 1 FROM app.numbers WHERE stream = '{name}'"
        );
        let newest = format!("SELECT n + 1 FROM app.newest WHERE stream = '{name}'");
        let (asked, expected) = if name.starts_with("runs/1") {
            (newest, count.to_string())
        } else {
            (numbers, format!("{count}|{count}|{count}"))
        };
        assert_eq!(rig.ask(&asked), expected, "stream {stream}");
    }
}

/// Between the mirror and each of the others stands somebody who drops answers, with the connection that they came by.
/// The answer to a commit is one like any other.
#[test]
fn every_event_becomes_one_row_over_connections_that_are_cut_again_and_again_on_both_sides() {
    let rig = Rig::new("file-durable");
    let source = CuttingProxy::before(rig.server.address(), 7);
    let postgres = CuttingProxy::before(rig.postgres.address(), 41);
    let mirror = rig.mirror_with(&[
        ("DS_SYNC__SOURCE_URL", &root(source.address())),
        (
            "DS_SYNC__POSTGRES_URL",
            &format!("postgres://postgres@{}/{DATABASE}", postgres.address()),
        ),
    ]);
    let streams: Vec<_> = (0..STREAMS)
        .map(|stream| rig.server.stream(&name(stream)).create())
        .collect();
    let mut appended = 0;
    eventually("many connections of both sides are cut", || {
        for stream in &streams {
            stream.append(format!(r#"{{"n":{appended}}}"#));
        }
        appended += 1;
        (source.cuts() >= CUTS && postgres.cuts() >= CUTS).then_some(())
    });
    check(&rig, &mirror, &[appended; STREAMS]);
    for side in ["source", "postgres"] {
        let reconnections = mirror.metric(&format!("tailwater_sync_reconnections_total{{side=\"{side}\"}}"));
        assert!(reconnections >= Some(1.0), "{side}: {reconnections:?}");
    }
}

/// The next mirror waits until the lease of a killed one has ended.
fn rig() -> Rig {
    Rig::with("file-durable", &[], &[("DS_SYNC__LEASE_MS", "500")])
}

/// Appends to all streams while one of the three is killed again and again. Tells how many events each stream has got.
fn live_through_kills(rig: Rig) -> (Rig, Mirror, [u64; STREAMS]) {
    let seed = seed();
    println!("TAILWATER_CRASH_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    for stream in 0..STREAMS {
        rig.server.stream(&name(stream)).create();
    }
    let mirror = rig.mirror();
    let (stop, appended) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; STREAMS]);
    let address = rig.server.address();
    let (rig, mirror) = std::thread::scope(|scope| {
        let (mut rig, mut mirror) = (rig, mirror);
        // Also when something is found wrong, or those who append would go on for ever.
        let stopping = Stopping(&stop);
        for (stream, appended) in appended.iter().enumerate() {
            let (stop, mut rng) = (&stop, rng.fork());
            scope.spawn(move || append(address, stream, stop, appended, &mut rng));
        }
        for _ in 0..rounds_asked_for().unwrap_or(ROUNDS) {
            std::thread::sleep(Duration::from_millis(rng.u64(..LIFE_MS)));
            (rig, mirror) = kill_one(rig, mirror, &mut rng);
        }
        drop(stopping);
        (rig, mirror)
    });
    (rig, mirror, appended.map(AtomicU64::into_inner))
}

/// Waits until all is mirrored, and looks whether it is as it was appended.
pub(crate) fn check(rig: &Rig, mirror: &Mirror, appended: &[u64]) {
    for (stream, count) in appended.iter().enumerate() {
        rig.expect_mirrored(&name(stream));
        let count = *count;
        assert!(count > 0, "stream {stream} got nothing");
        assert_eq!(
            rig.ask(&format!(
                "SELECT count(*), count(DISTINCT (payload ->> 'n')), bool_and((payload ->> 'n')::bigint = index) \
                 FROM tailwater.events WHERE stream = '{}'",
                name(stream)
            )),
            format!("{count}|{count}|t"),
            "stream {stream}"
        );
    }
    assert_eq!(rig.ask("SELECT count(*) FROM tailwater.dead_letters"), "0");
    assert_eq!(rig.ask("SELECT sum(skipped_bytes) FROM tailwater.streams"), "0");
    mirror.expect_ready();
    let (code, said, complaints) = rig.command(&["verify"], &[]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    let total: u64 = appended.iter().sum();
    assert!(
        said.contains(&format!("{total} events of {} streams compared", appended.len())),
        "{said}"
    );
}

#[test]
fn a_stream_that_cannot_be_written_is_told_and_stops_nobody_else() {
    let rig = Rig::new("file-durable");
    let bad = rig.server.stream("bad").create();
    bad.append("[1]");
    let mirror = rig.mirror();
    rig.expect_mirrored("bad");
    // Somebody has put a row where the mirror is about to write its own.
    rig.ask(
        "INSERT INTO tailwater.events (stream, incarnation, position, index, appended_at, content_type) \
         SELECT stream, incarnation, position + 2, 1, now(), 'x' FROM tailwater.events WHERE stream = 'bad'",
    );
    bad.append("[2]");
    rig.expect(
        "SELECT last_error IS NOT NULL OR events = 2 FROM tailwater.streams WHERE name = 'bad'",
        "t",
    );
    for number in 0..20 {
        let stream = rig.server.stream(&format!("good/{number}")).create();
        stream.append("[1]");
        rig.expect_mirrored(&format!("good/{number}"));
    }
    drop(mirror);
}

#[test]
fn an_event_that_cannot_be_a_row_is_a_dead_letter_or_halts_its_stream_alone() {
    let rig = Rig::with("file-durable", &[], &[("DS_SYNC__ON_UNMAPPABLE", "halt")]);
    let stream = rig.server.stream("odd").create();
    stream.append(r#"[0,1,"\u0000",3]"#);
    let mirror = rig.mirror();
    let halted = "SELECT next_index, last_error LIKE '%number 2%' FROM tailwater.streams WHERE name = 'odd'";
    rig.expect(halted, "2|t");
    rig.server.stream("other").create().append("1");
    rig.expect_mirrored("other");
    mirror.stop();
    let mirror = rig.mirror_with(&[("DS_SYNC__ON_UNMAPPABLE", "dead_letter")]);
    rig.expect_mirrored("odd");
    assert_eq!(
        rig.ask(
            "SELECT string_agg(index::text, ' ' ORDER BY index) FROM tailwater.events WHERE stream = 'odd'"
        ),
        "0 1 3"
    );
    assert_eq!(
        rig.ask("SELECT index, convert_from(payload, 'UTF8') FROM tailwater.dead_letters"),
        "2|\"\\u0000\""
    );
    eventually("it is counted", || {
        (mirror.metric("tailwater_sync_dead_letters_total") == Some(1.0)).then_some(())
    });
}

#[test]
fn a_table_that_somebody_has_locked_is_tried_again_while_appends_go_on_and_each_event_becomes_one_row() {
    let rig = Rig::new("file-durable");
    let mirror = rig.mirror();
    let streams: Vec<_> = (0..5)
        .map(|number| rig.server.stream(&name(number)).create())
        .collect();
    let mut appended = 0;
    let mut append = || {
        for stream in &streams {
            stream.append(format!(r#"{{"n":{appended}}}"#));
        }
        appended += 1;
    };
    append();
    rig.expect("SELECT count(*) FROM tailwater.events", "5");

    let lock = rig.lock_events();
    let locked = Instant::now();
    let retries = "tailwater_sync_retries_total{what=\"postgres\"}";
    let held_at_least = Duration::from_secs(number(LOCK_VARIABLE).unwrap_or_default());
    while mirror.metric(retries) < Some(LOCK_TIMEOUTS) || locked.elapsed() < held_at_least {
        append();
        // A lock that is never given up shows in the retries that do not come.
        assert!(
            locked.elapsed() < PATIENCE + held_at_least,
            "it is tried again and again"
        );
    }
    assert_eq!(mirror.get("/readyz").status(), 503);
    assert!(mirror.metric("tailwater_sync_lag_events") > Some(5.0));
    let tried = mirror.metric(retries).expect("it is counted");
    drop(lock);
    append();

    check(&rig, &mirror, &[appended; 5]);
    eventually("it goes on as before", || {
        (mirror.metric("tailwater_sync_lag_events") == Some(0.0)).then_some(())
    });
    let said = mirror.stop();
    let told = said.lines().filter(|line| line.contains("lock timeout"));
    let told = told.filter(|line| line.contains("side=\"postgres\"") && line.contains("wait_ms="));
    assert!(told.count() as f64 >= tried, "each of {tried} is told:\n{said}");
}

#[test]
fn no_more_is_read_than_fits_the_buffer_while_nothing_can_be_written() {
    const EVENTS: u64 = 1_000;
    const BUFFER: f64 = 1_048_576.0;
    let server = [("DS_LIMITS__READ_CHUNK_BYTES", "256KiB")];
    let mirror = [
        ("DS_SYNC__BUFFER_BYTES", "1MiB"),
        ("DS_SYNC__BATCH_BYTES", "256KiB"),
        ("DS_SYNC__READERS", "3"),
    ];
    let rig = Rig::with("file-durable", &server, &mirror);
    rig.mirror().expect_ready();
    let lock = rig.lock_events();
    for stream in 0..4 {
        let stream = rig.server.stream(&format!("s/{stream}")).create();
        for _ in 0..EVENTS / 4 / 10 {
            let events = vec![format!("\"{}\"", "x".repeat(8_000)); 10];
            stream.append(format!("[{}]", events.join(",")));
        }
    }
    let mirror = rig.mirror();
    eventually("the buffer is nearly full", || {
        (mirror.metric("tailwater_sync_buffered_bytes") > Some(BUFFER / 2.0)).then_some(())
    });
    // PostgreSQL gives a transaction that waits for a lock up after ten seconds, in which all could be read many times
    // over.
    eventually("the transaction was given up", || {
        let read = mirror.metric("tailwater_sync_read_bytes_total");
        assert!(read < Some(2.0 * BUFFER), "{read:?}");
        (mirror.metric("tailwater_sync_retries_total{what=\"postgres\"}") >= Some(1.0)).then_some(())
    });
    assert_eq!(mirror.metric("tailwater_sync_lag_events"), Some(EVENTS as f64));
    assert_eq!(mirror.metric("tailwater_sync_lag_streams"), Some(4.0));
    drop(lock);
    rig.expect("SELECT count(*) FROM tailwater.events", &EVENTS.to_string());
    eventually("nothing is behind", || {
        (mirror.metric("tailwater_sync_lag_events") == Some(0.0)).then_some(())
    });
}

/// Tells those who append to stop, when it is dropped.
pub(crate) struct Stopping<'s>(pub(crate) &'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills one of the three and starts it again, maybe only after a while in which the others go on without it.
fn kill_one(mut rig: Rig, mirror: Mirror, rng: &mut Rng) -> (Rig, Mirror) {
    let pause = Duration::from_millis(rng.u64(..LIFE_MS / 2));
    match rng.u32(..3) {
        0 => {
            mirror.kill();
            std::thread::sleep(pause);
            let mirror = rig.mirror();
            (rig, mirror)
        }
        1 => {
            rig.postgres.kill();
            std::thread::sleep(pause);
            rig.postgres.restart();
            (rig, mirror)
        }
        _ => (rig.restart_server(), mirror),
    }
}

/// Appends the numbers from 0 on, a few at a time, and repeats what was not acknowledged.
pub(crate) fn append(
    address: SocketAddr,
    stream: usize,
    stop: &AtomicBool,
    appended: &AtomicU64,
    rng: &mut Rng,
) {
    let path = format!("/v1/stream/{}", name(stream));
    let mut sequence = 0;
    while !stop.load(Ordering::Relaxed) {
        let first = appended.load(Ordering::Relaxed);
        let count = rng.u64(1..6);
        let events: Vec<_> = (first..first + count)
            .map(|number| format!(r#"{{"n":{number},"pad":"{}"}}"#, "y".repeat(rng.usize(..200))))
            .collect();
        let request = Request::new("POST", &path)
            .header("Content-Type", "application/json")
            .header("Producer-Id", "p")
            .header("Producer-Epoch", "0")
            .header("Producer-Seq", &sequence.to_string())
            .body(format!("[{}]", events.join(",")));
        // Until it is acknowledged nobody knows whether it is there.
        while !is_acknowledged(address, &request) {
            if stop.load(Ordering::Relaxed) && !is_listening(address) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        appended.store(first + count, Ordering::Relaxed);
        sequence += 1;
    }
}

/// Whether there is a server. There is one at the end, unless a test has failed without it.
fn is_listening(address: SocketAddr) -> bool {
    Connection::try_open(address).is_ok()
}

fn is_acknowledged(address: SocketAddr, request: &Request) -> bool {
    let answer = Connection::try_open(address).and_then(|mut connection| {
        connection.write(&request.encode())?;
        connection.read_response("POST")
    });
    matches!(answer, Ok(Some(response)) if matches!(response.status(), 200 | 204))
}

pub(crate) fn name(stream: usize) -> String {
    format!("runs/{stream}")
}

/// None, if that is left to each test.
pub(crate) fn rounds_asked_for() -> Option<usize> {
    number("TAILWATER_CRASH_ROUNDS").and_then(|rounds| rounds.try_into().ok())
}

pub(crate) fn seed() -> u64 {
    number("TAILWATER_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
