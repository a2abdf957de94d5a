//! Very many streams with a few events each, mirrored over few connections.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use tailwater_e2e::{Request, Stream, eventually};

use crate::rig::Rig;

const STREAMS: usize = 10_000;
/// Those who append, each over one connection.
const CLIENTS: usize = 8;
/// Of the clients and the mirror together. A connection for each stream would be refused.
const CONNECTIONS_MAX: &str = "60";

#[test]
fn very_many_streams_are_mirrored_over_few_connections_whether_they_were_there_before_it_or_not() {
    let limits = [("DS_LIMITS__MAX_CONNECTIONS", CONNECTIONS_MAX)];
    let rig = Rig::with("memory", &limits, &[]);
    let create = |stream: &Stream<'_>, number| stream.creation().body(format!("[{number},{number}]"));
    // Half of them are found by the listing, the others by the feed.
    send_to_each(&rig, 0..STREAMS / 2, create);
    let mirror = rig.mirror();
    send_to_each(&rig, STREAMS / 2..STREAMS, create);
    rig.expect(
        "SELECT count(*) FROM tailwater.events",
        &(2 * STREAMS).to_string(),
    );
    // All of them have been idle, and hear of one more event each.
    send_to_each(&rig, 0..STREAMS, |stream, number| {
        stream.appending(number.to_string())
    });
    rig.expect(
        "SELECT count(*), count(DISTINCT stream), bool_and(payload::text = split_part(stream, '/', 2)) \
         FROM tailwater.events",
        &format!("{}|{STREAMS}|t", 3 * STREAMS),
    );
    assert_eq!(
        rig.ask(
            "SELECT count(*), min(events), max(events), sum(skipped_bytes), count(last_error) FROM tailwater.streams"
        ),
        format!("{STREAMS}|3|3|0|0")
    );
    let page = rig.server.get("/metrics").expect(200);
    let none_refused = "tailwater_refusals_total{code=\"too_many_connections\"} 0\n";
    assert!(page.text().contains(none_refused), "{}", page.text());
    drop(mirror);
}

/// More than are noted in the tables at once.
#[test]
fn the_tables_tell_the_lag_of_each_of_many_streams_that_stand_still() {
    const HALTED: usize = 260;
    let rig = Rig::with("memory", &[], &[("DS_SYNC__ON_UNMAPPABLE", "halt")]);
    send_to_each(&rig, 0..HALTED, |stream, _| {
        stream.creation().body(r#"["\u0000",1]"#)
    });
    let mirror = rig.mirror();
    rig.expect(
        "SELECT count(last_error), min(lag_events), max(lag_events) FROM tailwater.streams",
        &format!("{HALTED}|2|2"),
    );
    assert_eq!(
        mirror.metric("tailwater_sync_lag_events"),
        Some(2.0 * HALTED as f64)
    );
    mirror.stop();
}

/// More deletions than the mirror keeps in mind.
#[test]
fn all_streams_that_were_deleted_while_postgresql_was_away_are_marked_when_it_is_back() {
    const DELETED: usize = 12_000;
    const NOTES_MAX: f64 = 10_000.0;
    let mut rig = Rig::with("memory", &[], &[("DS_SYNC__LEASE_MS", "600000")]);
    let mirror = rig.mirror();
    send_to_each(&rig, 0..DELETED, |stream, _| stream.creation().body("[1]"));
    rig.expect(
        "SELECT count(*), count(deleted_at) FROM tailwater.streams WHERE events = 1",
        &format!("{DELETED}|0"),
    );
    rig.postgres.kill();
    send_to_each(&rig, 0..DELETED, |stream, _| stream.request("DELETE"));
    eventually("the mirror knows of all deletions", || {
        (mirror.metric("tailwater_sync_streams") == Some(0.0)).then_some(())
    });
    let notes = mirror.metric("tailwater_sync_notes_waiting");
    // One asks for all streams, and a thousand more may be on their way.
    assert!(notes <= Some(NOTES_MAX + 1.0), "{notes:?} are kept");
    rig.postgres.restart();
    rig.expect(
        "SELECT count(deleted_at) FROM tailwater.streams",
        &DELETED.to_string(),
    );
    assert_eq!(
        rig.ask("SELECT count(*) FROM tailwater.events"),
        DELETED.to_string()
    );
    mirror.stop();
}

/// Sends a request to each of the streams, which must be done.
fn send_to_each(rig: &Rig, numbers: Range<usize>, request: impl Fn(&Stream<'_>, usize) -> Request + Sync) {
    let next = AtomicUsize::new(numbers.start);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = rig.server.connect();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    let stream = rig.server.stream(&format!("many/{number}"));
                    let answer = connection.send(&request(&stream, number));
                    assert!(matches!(answer.status(), 201 | 204), "{number}: {answer:?}");
                }
            });
        }
    });
}
