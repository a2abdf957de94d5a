//! - `reading`: when a stream is read, and when again.
//! - `places`: what becomes of a stream elsewhere: at the source, and in the tables.
//! - `lag`: what is told of what is missing.
//! - `whole`: a source, a mirror and everything that may happen to both.

mod lag;
mod places;
mod reading;
mod whole;

use super::*;

fn incarnation(number: u64) -> Incarnation {
    format!("{number:016}").parse().expect("an id")
}

fn offset(position: u64) -> Offset {
    let owner = u64::from(position > 0);
    format!("{owner:016}_{position:016}").parse().expect("an offset")
}

fn sighting(stream: &str, number: u64, tail: u64, closed: bool) -> Sighting {
    Sighting {
        stream: stream.into(),
        incarnation: incarnation(number),
        content_type: "application/json".into(),
        tail: offset(tail),
        events: tail,
        closed,
    }
}

fn standing(number: u64, next: u64, closed: bool) -> Option<Standing> {
    Some(Standing {
        of: incarnation(number),
        next: offset(next),
        events: next,
        closed,
    })
}

/// Each event of these tests is one byte.
fn reach(next: u64, closed: bool) -> Reach {
    Reach {
        next: offset(next),
        events: next,
        closed,
    }
}

/// A backlog with these streams, of which nothing is mirrored yet.
fn placed(sightings: &[Sighting], now: Instant) -> Backlog {
    let mut backlog = Backlog::default();
    for sighting in sightings {
        backlog.seen(sighting.clone(), now);
    }
    for stream in backlog.take_unplaced(usize::MAX, now) {
        backlog.placed(&stream, None, now);
    }
    backlog
}

fn next_names(backlog: &mut Backlog, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| backlog.next_read(now))
        .map(|read| read.ticket.stream.to_string())
        .collect()
}

fn followups(backlog: &mut Backlog) -> Vec<Followup> {
    std::iter::from_fn(|| backlog.take_followup()).collect()
}
