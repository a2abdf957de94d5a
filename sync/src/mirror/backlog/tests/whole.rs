use std::collections::{BTreeMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

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
