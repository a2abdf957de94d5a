use std::collections::{BTreeMap, HashSet, VecDeque};

use proptest::prelude::*;

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

#[test]
fn a_stream_is_read_only_once_it_is_known_where_the_mirror_stands() {
    let now = Instant::now();
    let mut backlog = Backlog::default();
    backlog.seen(sighting("a", 1, 50, false), now);
    assert_eq!(backlog.next_read(now), None);
    let [stream] = &backlog.take_unplaced(9, now)[..] else {
        panic!("one stream is new")
    };
    assert!(backlog.take_unplaced(9, now).is_empty(), "it is given out once");
    backlog.placed(stream, standing(1, 20, false), now);
    let read = backlog.next_read(now).expect("there is more");
    assert_eq!(read.after, offset(20));
}

#[test]
fn streams_with_more_take_turns_and_each_is_read_by_one_reader() {
    let now = Instant::now();
    let mut backlog = placed(&["a", "b", "c"].map(|name| sighting(name, 1, 100, false)), now);
    let first = backlog.next_read(now).expect("all have more");
    assert_eq!(next_names(&mut backlog, now), ["b", "c"], "a is being read");
    assert!(backlog.read(&first.ticket, reach(10, false), now));
    assert_eq!(next_names(&mut backlog, now), ["a"]);
}

#[test]
fn a_stream_that_has_been_read_whole_is_idle_until_there_is_more() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 10, false)], now);
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(10, false), now));
    backlog.seen(sighting("a", 1, 10, false), now);
    assert_eq!(backlog.next_read(now), None);
    backlog.seen(sighting("a", 1, 11, false), now);
    assert_eq!(backlog.next_read(now).map(|read| read.after), Some(offset(10)));
}

#[test]
fn a_close_without_data_is_read_too() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 0, false)], now);
    assert_eq!(backlog.next_read(now), None, "an empty stream has nothing");
    backlog.seen(sighting("a", 1, 0, true), now);
    let read = backlog.next_read(now).expect("the end is to be mirrored");
    assert!(backlog.read(&read.ticket, reach(0, true), now));
    assert_eq!(backlog.next_read(now), None);
    backlog.committed(&read.ticket, 1, reach(0, true), now);
    let complete = Followup::Complete {
        stream: "a".into(),
        incarnation: incarnation(1),
    };
    assert_eq!(followups(&mut backlog), [complete]);
}

#[test]
fn a_stream_that_was_mirrored_whole_in_an_earlier_run_is_complete_at_once() {
    let now = Instant::now();
    let mut backlog = Backlog::default();
    backlog.seen(sighting("a", 1, 10, true), now);
    let streams = backlog.take_unplaced(9, now);
    backlog.placed(&streams[0], standing(1, 10, true), now);
    assert_eq!(backlog.next_read(now), None);
    assert!(matches!(
        &followups(&mut backlog)[..],
        [Followup::Complete { .. }]
    ));
}

#[test]
fn what_is_read_and_not_committed_is_nothing_to_be_taken_away_at_the_source() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, true)], now);
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(10, false), now));
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(30, true), now));
    assert!(followups(&mut backlog).is_empty());
    backlog.committed(&read.ticket, 1, reach(10, false), now);
    let told = followups(&mut backlog);
    assert!(
        matches!(&told[..], [Followup::Committed { next, .. }] if *next == offset(10)),
        "{told:?}"
    );
    backlog.committed(&read.ticket, 1, reach(30, true), now);
    assert!(matches!(
        &followups(&mut backlog)[..],
        [Followup::Complete { .. }]
    ));
}

#[test]
fn a_stream_that_fails_waits_longer_each_time_and_holds_up_nobody() {
    let mut now = Instant::now();
    let mut backlog = placed(&["a", "b"].map(|name| sighting(name, 1, 100, false)), now);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let read = backlog.next_read(now).expect("a can be read");
        assert_eq!(&*read.ticket.stream, "a");
        let wait = backlog
            .read_failed(&read.ticket, now, 1.0, None)
            .expect("it is current");
        assert_eq!(
            next_names(&mut backlog, now).len(),
            usize::from(waits.is_empty()),
            "b alone, once"
        );
        assert_eq!(backlog.wakes_at(), Some(now + wait));
        now += wait;
        waits.push(wait);
    }
    assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
    let read = backlog.next_read(now).expect("a can be read");
    assert!(backlog.read(&read.ticket, reach(10, false), now));
    let read = backlog.next_read(now).expect("a can be read");
    assert_eq!(backlog.read_failed(&read.ticket, now, 1.0, None), Some(waits[0]));
}

#[test]
fn a_new_incarnation_begins_anew_once_what_was_read_of_the_old_one_is_written() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 10, false)], now);
    let old = backlog.next_read(now).expect("there is more");
    backlog.seen(sighting("a", 2, 3, false), now);
    assert!(
        backlog.read(&old.ticket, reach(10, false), now),
        "it cannot be read again"
    );
    backlog.seen(sighting("a", 2, 5, false), now);
    assert!(backlog.take_unplaced(9, now).is_empty() && backlog.next_read(now).is_none());
    backlog.committed(&old.ticket, 1, reach(10, false), now);
    let told = followups(&mut backlog);
    assert!(
        matches!(&told[..], [Followup::Committed { .. }, Followup::Deleted { .. }]),
        "{told:?}"
    );
    let streams = backlog.take_unplaced(9, now);
    backlog.placed(&streams[0], standing(1, 10, true), now);
    let read = backlog.next_read(now).expect("there is more");
    assert_eq!(
        (read.after, read.ticket.incarnation),
        (Offset::BEGINNING, incarnation(2))
    );
    backlog.seen(sighting("a", 1, 99, true), now);
    assert!(
        backlog.read(&read.ticket, reach(5, false), now),
        "an old one changes nothing"
    );
    assert_eq!(backlog.next_read(now), None, "the last tail that was told counts");
    assert!(
        followups(&mut backlog).is_empty(),
        "the end of the old one is not the new one's"
    );
}

#[test]
fn a_new_incarnation_of_which_nothing_was_read_takes_the_place_of_the_old_one_at_once() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 10, false)], now);
    backlog.seen(sighting("a", 2, 5, false), now);
    assert_eq!(backlog.incarnation("a"), Some(incarnation(2)));
    backlog.seen(sighting("a", 3, 5, false), now);
    backlog.gone(&"a".into(), incarnation(2));
    assert_eq!(
        backlog.incarnation("a"),
        Some(incarnation(3)),
        "the deletion of an older one is none of it"
    );
}

#[test]
fn a_mirror_that_stands_elsewhere_is_followed_and_later_reads_are_void() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let first = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&first.ticket, reach(10, false), now));
    let second = backlog.next_read(now).expect("there is more");
    backlog.set_back(&first.ticket, standing(1, 20, false), now);
    assert!(!backlog.read(&second.ticket, reach(20, false), now));
    let third = backlog.next_read(now).expect("there is more");
    assert_eq!(third.after, offset(20));
    backlog.set_back(&first.ticket, standing(1, 5, false), now);
    assert!(
        backlog.is_current(&third.ticket),
        "an outcome of a void read says nothing"
    );
}

#[test]
fn a_stream_that_cannot_be_written_is_placed_again_after_a_while() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(30, false), now));
    let wait = backlog.refused(&read.ticket, now, 0.5).expect("it is current");
    assert!(backlog.take_unplaced(9, now).is_empty());
    let later = now + wait;
    let streams = backlog.take_unplaced(9, later);
    backlog.placed(&streams[0], standing(1, 10, false), later);
    assert_eq!(backlog.next_read(later).map(|read| read.after), Some(offset(10)));
}

#[test]
fn a_deleted_stream_is_told_only_once_what_was_read_of_it_is_settled() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let read = backlog.next_read(now).expect("there is more");
    backlog.gone(&"a".into(), incarnation(1));
    assert!(followups(&mut backlog).is_empty(), "it is being read");
    assert!(backlog.read(&read.ticket, reach(30, false), now));
    assert_eq!(backlog.next_read(now), None);
    assert!(followups(&mut backlog).is_empty(), "what was read is not written");
    backlog.committed(&read.ticket, 1, reach(30, false), now);
    let told = followups(&mut backlog);
    assert!(
        matches!(&told[..], [Followup::Committed { .. }, Followup::Deleted { .. }]),
        "{told:?}"
    );
    assert!(backlog.is_empty());

    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let read = backlog.next_read(now).expect("there is more");
    backlog.gone(&"a".into(), incarnation(1));
    assert_eq!(backlog.read_failed(&read.ticket, now, 0.5, None), None);
    assert!(matches!(&followups(&mut backlog)[..], [Followup::Deleted { .. }]));
}

#[test]
fn what_is_on_its_way_of_a_stream_that_is_anothers_now_is_void_and_it_begins_at_its_place_when_it_comes_back()
{
    let now = Instant::now();
    let mut backlog = placed(&["a", "b", "c"].map(|name| sighting(name, 1, 30, false)), now);
    let a = backlog.next_read(now).expect("all have more");
    let b = backlog.next_read(now).expect("all have more");
    assert!(backlog.read(&a.ticket, reach(10, false), now));
    backlog.committed(&a.ticket, 1, reach(10, false), now);
    backlog.forget(|stream| stream != "c");
    assert!(
        followups(&mut backlog).is_empty(),
        "what follows is another's to do"
    );
    assert!(!backlog.is_current(&a.ticket));
    assert!(!backlog.read(&b.ticket, reach(30, false), now));
    assert_eq!(next_names(&mut backlog, now), ["c"]);
    assert_eq!(backlog.lag(now).streams, 1);
    backlog.seen(sighting("a", 1, 30, false), now);
    let streams = backlog.take_unplaced(9, now);
    backlog.placed(&streams[0], standing(1, 20, false), now);
    assert_eq!(backlog.next_read(now).map(|read| read.after), Some(offset(20)));
}

#[test]
fn lag_is_what_is_not_committed_and_how_long_it_has_been_known() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let mut backlog = placed(&[sighting("a", 1, 10, false), sighting("b", 1, 0, false)], start);
    backlog.seen(sighting("a", 1, 30, false), at(2));
    let lag = backlog.lag(at(5));
    assert_eq!((lag.streams, lag.bytes, lag.events), (1, 30, 30));
    assert_eq!(lag.oldest, Duration::from_secs(5));
    let read = backlog.next_read(at(5)).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(20, false), at(5)));
    assert_eq!(backlog.lag(at(5)).bytes, 30, "what is read is not committed");
    backlog.committed(&read.ticket, 1, reach(20, false), at(6));
    let lag = backlog.lag(at(6));
    assert_eq!(
        (lag.streams, lag.bytes, lag.oldest),
        (1, 10, Duration::from_secs(4))
    );
    let read = backlog.next_read(at(6)).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(30, false), at(6)));
    backlog.committed(&read.ticket, 1, reach(30, false), at(7));
    assert_eq!(backlog.lag(at(9)), Lag::default());
}

/// What happens around a backlog.
#[derive(Debug, Clone)]
enum Happening {
    Append {
        stream: usize,
        bytes: u64,
    },
    Close(usize),
    Recreate(usize),
    /// The source tells where a stream ends.
    Tell(usize),
    Place,
    Read {
        bytes: u64,
    },
    ReadFails,
    Commit,
    CommitRefused,
    /// Another mirror has written a stream's next bytes.
    Overtake {
        stream: usize,
        bytes: u64,
    },
    Trim(usize),
    /// The stream is another mirror's from now on.
    Lose(usize),
    Wait,
}

fn happening(streams: usize) -> impl Strategy<Value = Happening> {
    let stream = 0..streams;
    prop_oneof![
        (stream.clone(), 1u64..40).prop_map(|(stream, bytes)| Happening::Append { stream, bytes }),
        stream.clone().prop_map(Happening::Close),
        stream.clone().prop_map(Happening::Recreate),
        stream.clone().prop_map(Happening::Tell),
        Just(Happening::Place),
        (1u64..30).prop_map(|bytes| Happening::Read { bytes }),
        Just(Happening::ReadFails),
        Just(Happening::Commit),
        Just(Happening::CommitRefused),
        (stream.clone(), 1u64..20).prop_map(|(stream, bytes)| Happening::Overtake { stream, bytes }),
        stream.clone().prop_map(Happening::Trim),
        stream.prop_map(Happening::Lose),
        Just(Happening::Wait),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Original {
    number: u64,
    tail: u64,
    oldest: u64,
    closed: bool,
}

/// A source and a mirror, each a few numbers, with a backlog between them.
struct World {
    originals: Vec<Original>,
    /// Where the mirror stands.
    mirrored: BTreeMap<usize, Standing>,
    backlog: Backlog,
    /// What was read and is not committed: the ticket, from where, to where, and whether it is the end.
    read: VecDeque<(Ticket, u64, u64, bool)>,
    now: Instant,
}

fn name(stream: usize) -> Arc<str> {
    format!("s{stream}").into()
}

fn number(stream: &str) -> usize {
    stream[1..].parse().expect("a name of ours")
}

impl World {
    fn new(streams: usize) -> Self {
        let original = Original {
            number: 1,
            tail: 0,
            oldest: 0,
            closed: false,
        };
        Self {
            originals: vec![original; streams],
            mirrored: BTreeMap::new(),
            backlog: Backlog::default(),
            read: VecDeque::new(),
            now: Instant::now(),
        }
    }

    fn tell(&mut self, stream: usize) {
        let Original {
            number, tail, closed, ..
        } = self.originals[stream];
        let told = sighting(&name(stream), number, tail, closed);
        self.backlog.seen(told, self.now);
    }

    fn place(&mut self) {
        for stream in self.backlog.take_unplaced(3, self.now) {
            let standing = self.mirrored.get(&number(&stream)).copied();
            self.backlog.placed(&stream, standing, self.now);
        }
    }

    /// Reads as the source would answer: what is trimmed, or of an older incarnation, is not there.
    fn read(&mut self, bytes: u64) {
        let reads: Vec<_> = std::iter::from_fn(|| self.backlog.next_read(self.now)).collect();
        let names: HashSet<_> = reads.iter().map(|read| Arc::clone(&read.ticket.stream)).collect();
        assert_eq!(names.len(), reads.len(), "one reader for each stream");
        for read in reads {
            let original = self.originals[number(&read.ticket.stream)];
            let after = read.after.position();
            if read.ticket.incarnation != incarnation(original.number) {
                let _ = self.backlog.read_failed(&read.ticket, self.now, 0.5, None);
            } else if after < original.oldest {
                assert!(
                    self.backlog
                        .read(&read.ticket, reach(original.oldest, false), self.now)
                );
                self.read.push_back((read.ticket, after, original.oldest, false));
            } else {
                assert!(after <= original.tail, "nobody reads behind the end");
                let next = (after + bytes).min(original.tail);
                let ends = original.closed && next == original.tail;
                assert!(next > after || ends, "no read for nothing");
                assert!(self.backlog.read(&read.ticket, reach(next, ends), self.now));
                self.read.push_back((read.ticket, after, next, ends));
            }
        }
    }

    /// The next of what was read that is not void.
    fn pending(&mut self) -> Option<(Ticket, u64, u64, bool)> {
        let backlog = &self.backlog;
        while self
            .read
            .front()
            .is_some_and(|(ticket, ..)| !backlog.is_current(ticket))
        {
            self.read.pop_front();
        }
        self.read.pop_front()
    }

    /// Writes as the mirror does: only where it stands.
    fn commit(&mut self) {
        let Some((ticket, after, next, ends)) = self.pending() else {
            return;
        };
        let stream = number(&ticket.stream);
        let held = self.mirrored.get(&stream).copied();
        let is_newer = held.is_none_or(|held| held.of <= ticket.incarnation);
        let stands = held.filter(|held| held.of == ticket.incarnation);
        if is_newer && stands.map_or(0, |held| held.next.position()) == after {
            let standing = Standing {
                of: ticket.incarnation,
                next: offset(next),
                events: next,
                closed: ends,
            };
            self.mirrored.insert(stream, standing);
            self.backlog.committed(&ticket, 1, reach(next, ends), self.now);
        } else {
            self.backlog.set_back(&ticket, held, self.now);
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Append { stream, bytes } => {
                let original = &mut self.originals[stream];
                original.tail += if original.closed { 0 } else { bytes };
            }
            Happening::Close(stream) => self.originals[stream].closed = true,
            Happening::Recreate(stream) => {
                let original = &mut self.originals[stream];
                *original = Original {
                    number: original.number + 1,
                    tail: 0,
                    oldest: 0,
                    closed: false,
                };
            }
            Happening::Tell(stream) => self.tell(stream),
            Happening::Place => self.place(),
            Happening::Read { bytes } => self.read(bytes),
            Happening::ReadFails => {
                if let Some(read) = self.backlog.next_read(self.now) {
                    let _ = self.backlog.read_failed(&read.ticket, self.now, 0.5, None);
                }
            }
            Happening::Commit => self.commit(),
            Happening::CommitRefused => {
                if let Some((ticket, ..)) = self.pending() {
                    let _ = self.backlog.refused(&ticket, self.now, 0.5);
                }
            }
            Happening::Overtake { stream, bytes } => {
                let original = self.originals[stream];
                let of = incarnation(original.number);
                let held = self.mirrored.get(&stream).filter(|held| held.of == of);
                let from = held.map_or(0, |held| held.next.position());
                let next = (from + bytes).min(original.tail);
                let closed = original.closed && next == original.tail;
                let standing = Standing {
                    of,
                    next: offset(next),
                    events: next,
                    closed,
                };
                self.mirrored.insert(stream, standing);
            }
            Happening::Trim(stream) => {
                let original = &mut self.originals[stream];
                original.oldest = original.tail;
            }
            Happening::Lose(stream) => {
                let lost = name(stream);
                self.backlog.forget(|stream| *stream == *lost);
                assert_eq!(self.backlog.incarnation(&lost), None);
            }
            Happening::Wait => self.now += Duration::from_secs(60),
        }
    }
}

proptest! {
    /// Whatever happens, and in whatever order, in the end all that the source has is mirrored, and no stream is left
    /// behind.
    #[test]
    fn all_that_the_source_has_is_mirrored_in_the_end(
        happenings in proptest::collection::vec(happening(3), 0..60),
    ) {
        let mut world = World::new(3);
        for happening in &happenings {
            world.happen(happening);
        }
        for round in 0.. {
            prop_assert!(round < 100, "there is no end");
            (0..3).for_each(|stream| world.tell(stream));
            world.now += Duration::from_secs(60);
            world.place();
            world.read(25);
            (0..9).for_each(|_| world.commit());
            let is_done = world.originals.iter().enumerate().all(|(stream, original)| {
                let held = world.mirrored.get(&stream);
                let whole = original.tail;
                match held {
                    None => whole == 0 && !original.closed,
                    Some(held) if held.of == incarnation(original.number) => {
                        held.next.position() == whole && held.closed == original.closed
                    }
                    Some(_) => whole == 0 && !original.closed,
                }
            });
            if is_done {
                break;
            }
        }
        prop_assert_eq!(world.backlog.lag(world.now).bytes, 0);
        prop_assert!(world.backlog.next_read(world.now).is_none());
    }
}
