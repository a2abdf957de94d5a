use bytes::Bytes;

use super::super::backlog::{Backlog, Sighting};
use super::*;
use crate::event::{Event, Offset, Payload};

const AGE: Duration = Duration::from_millis(20);

fn offset(position: u64) -> Offset {
    format!("{:016}_{position:016}", u64::from(position > 0))
        .parse()
        .expect("an offset")
}

/// A ticket of that stream.
fn ticket(stream: &str) -> Ticket {
    let now = Instant::now();
    let mut backlog = Backlog::default();
    let sighting = Sighting {
        stream: stream.into(),
        incarnation: "0000000000000001".parse().expect("an id"),
        content_type: "text/plain".into(),
        tail: offset(1),
        events: 1,
        closed: false,
    };
    backlog.seen(sighting, now);
    for stream in backlog.take_unplaced(1, now) {
        backlog.placed(&stream, None, now);
    }
    backlog.next_read(now).expect("there is something to read").ticket
}

/// Events of one byte each.
fn chunk(stream: &str, after: u64, next: u64) -> Chunk {
    let event = |position| Event {
        offset: offset(position),
        index: position - 1,
        at_ms: 0,
        payload: Payload::Bytes(Bytes::from_static(b"x")),
    };
    Chunk {
        stream: stream.into(),
        incarnation: "0000000000000001".parse().expect("an id"),
        content_type: "text/plain".into(),
        after: offset(after),
        events: (after + 1..=next).map(event).collect(),
        next: offset(next),
        closed: false,
    }
}

fn buffer(rows: usize) -> Buffer {
    Buffer::new(Enough {
        bytes: 1 << 20,
        rows,
        age: AGE,
    })
}

/// The streams of the next batch, each with where it begins and ends.
fn taken(buffer: &mut Buffer) -> Vec<(String, u64, u64)> {
    let batch = buffer.take(|_| true);
    let chunks = batch.chunks.iter();
    chunks
        .map(|chunk| {
            (
                chunk.stream.to_string(),
                chunk.after.position(),
                chunk.next.position(),
            )
        })
        .collect()
}

#[test]
fn a_batch_is_due_when_it_is_large_or_old() {
    let now = Instant::now();
    let mut buffer = buffer(5);
    assert_eq!(buffer.due_at(), None);
    buffer.push(chunk("a", 0, 3), ticket("a"), now);
    assert_eq!(buffer.due_at(), Some(now + AGE));
    buffer.push(chunk("b", 0, 2), ticket("b"), now + AGE / 2);
    assert_eq!(buffer.due_at(), Some(now), "five rows are enough");
    assert_eq!(taken(&mut buffer).len(), 2);
    assert_eq!((buffer.due_at(), buffer.bytes()), (None, 0));
}

#[test]
fn chunks_that_follow_one_another_are_one_and_know_of_how_many_reads() {
    let now = Instant::now();
    let mut buffer = buffer(100);
    let of_a = ticket("a");
    buffer.push(chunk("a", 0, 3), of_a.clone(), now);
    buffer.push(chunk("b", 0, 2), ticket("b"), now);
    buffer.push(chunk("a", 3, 4), of_a.clone(), now);
    let batch = buffer.take(|_| true);
    assert_eq!(batch.rows, 6);
    assert_eq!(batch.reads[0], (of_a, 2));
    let [a, b] = &batch.chunks[..] else {
        panic!("two streams")
    };
    assert_eq!((a.events.len(), a.next), (4, offset(4)));
    assert_eq!(b.events.len(), 2);
}

#[test]
fn more_than_enough_is_left_for_the_next_transaction_but_one_chunk_is_always_taken() {
    let now = Instant::now();
    let mut buffer = buffer(5);
    for (stream, rows) in [("a", 9), ("b", 3), ("c", 2), ("d", 1)] {
        buffer.push(chunk(stream, 0, rows), ticket(stream), now);
    }
    assert_eq!(taken(&mut buffer), [("a".to_owned(), 0, 9)]);
    assert_eq!(
        taken(&mut buffer),
        [("b".to_owned(), 0, 3), ("c".to_owned(), 0, 2)]
    );
    assert_eq!(taken(&mut buffer), [("d".to_owned(), 0, 1)]);
}

#[test]
fn a_gap_is_a_transaction_of_its_own_in_its_place() {
    let now = Instant::now();
    let mut buffer = buffer(100);
    let gap = Chunk {
        events: Vec::new(),
        ..chunk("a", 3, 7)
    };
    for chunk in [chunk("a", 0, 3), gap, chunk("a", 7, 9), chunk("b", 0, 1)] {
        let ticket = ticket(&chunk.stream);
        buffer.push(chunk, ticket, now);
    }
    assert_eq!(taken(&mut buffer), [("a".to_owned(), 0, 3)]);
    assert_eq!(taken(&mut buffer), [("a".to_owned(), 3, 7)]);
    assert_eq!(
        taken(&mut buffer),
        [("a".to_owned(), 7, 9), ("b".to_owned(), 0, 1)]
    );
}

#[test]
fn a_chunk_that_does_not_follow_the_one_before_is_not_made_one_with_it() {
    let now = Instant::now();
    let mut buffer = buffer(100);
    for chunk in [
        chunk("a", 0, 3),
        chunk("b", 0, 1),
        chunk("a", 5, 7),
        chunk("b", 1, 2),
    ] {
        let ticket = ticket(&chunk.stream);
        buffer.push(chunk, ticket, now);
    }
    assert_eq!(
        taken(&mut buffer),
        [("a".to_owned(), 0, 3), ("b".to_owned(), 0, 1)]
    );
    assert_eq!(
        taken(&mut buffer),
        [("a".to_owned(), 5, 7), ("b".to_owned(), 1, 2)]
    );
}

#[test]
fn what_is_out_of_date_is_dropped_and_frees_its_bytes() {
    let now = Instant::now();
    let mut buffer = buffer(100);
    let old = ticket("a");
    buffer.push(chunk("a", 0, 3), old.clone(), now);
    buffer.push(chunk("b", 0, 2), ticket("b"), now);
    let batch = buffer.take(|ticket| *ticket != old);
    assert_eq!(batch.chunks.len(), 1);
    assert_eq!(&*batch.chunks[0].stream, "b");
    assert_eq!(buffer.bytes(), 0);
}
