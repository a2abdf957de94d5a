//! Which streams have more at the source than is read, and whose turn it is. Does no IO; time and randomness are
//! arguments.
//!
//! Every stream is read by at most one reader at a time, and those that have more take turns. A stream that cannot be
//! read waits by itself, longer each time, and holds up nobody else.

mod facts;
mod lag;
mod queues;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tailwater_process::Backoff;
use tokio::time::Instant;

use crate::event::{Incarnation, Offset};
use crate::route::Routes;

pub use facts::{Followup, Reach, Read, Sighting, Standing, Ticket};
pub use lag::Lag;
use lag::Tails;

/// All streams that are mirrored.
#[derive(Debug, Default)]
pub struct Backlog {
    streams: HashMap<Arc<str>, Tracked>,
    /// Streams whose standing is to be asked for, by their turns.
    unplaced: BTreeMap<u64, Arc<str>>,
    /// Streams that can be read, by their turns.
    ready: BTreeMap<u64, Arc<str>>,
    /// Streams that wait for a time.
    waiting: BTreeSet<(Instant, Arc<str>)>,
    followups: VecDeque<Followup>,
    routes: Arc<Routes>,
    /// Of tickets and turns, each of which is given once.
    last_number: u64,
    /// How often the tails of all streams that are behind were told.
    tail_rounds: u64,
}

#[derive(Debug)]
struct Tracked {
    ticket: Ticket,
    content_type: Arc<str>,
    /// Where the stream ends, and since when what is not committed is known.
    tails: Tails,
    tail_closed: bool,
    /// The last round in which its tail was told, from 1; 0 before the first.
    tail_told_in: u64,
    /// The number of the route that takes it.
    route: Option<usize>,
    /// Behind what was read.
    read: Offset,
    read_closed: bool,
    phase: Phase,
    /// Chunks of this ticket that were read and are not committed.
    in_flight: usize,
    backoff: Backoff,
    is_deleted: bool,
    /// What has the name by now, and since when, if what was read of this one is not settled.
    successor: Option<(Sighting, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// In `unplaced`, at this turn.
    Unplaced(u64),
    /// Its standing is being asked for.
    Placing,
    /// There is nothing to read.
    Idle,
    /// In `ready`, at this turn.
    Ready(u64),
    /// A reader has it.
    Reading,
    /// In `waiting`, and whether its standing is to be asked for then.
    Waiting { until: Instant, asks: bool },
}

impl Tracked {
    fn has_more(&self) -> bool {
        !self.is_deleted
            && (self.read.position() < self.tails.last().position() || self.tail_closed && !self.read_closed)
    }
}

impl Backlog {
    /// One without streams, which tells apart those of each route.
    #[must_use]
    pub fn new(routes: Arc<Routes>) -> Self {
        Self {
            routes,
            ..Self::default()
        }
    }

    /// How many streams there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// How many wait for a reader.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many wait until they are tried again.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// A stream is there, or there is more of it. An older incarnation than the one that is known is passed over; a
    /// newer one has its turn once what was read of the older one is settled, since that cannot be read again.
    pub fn seen(&mut self, sighting: Sighting, now: Instant) {
        let stream = Arc::clone(&sighting.stream);
        let Some(known) = self.streams.get_mut(&stream) else {
            self.begin(sighting, now);
            return;
        };
        if known.ticket.incarnation < sighting.incarnation {
            let is_news = known
                .successor
                .as_ref()
                .is_none_or(|(successor, _)| successor.incarnation <= sighting.incarnation);
            if is_news {
                known.successor = Some((sighting, now));
            }
            self.end(&stream);
        } else if known.ticket.incarnation == sighting.incarnation && !known.is_deleted {
            known.tails.move_to(sighting.tail, sighting.events, now);
            known.tail_closed |= sighting.closed;
            self.settle(&stream);
        }
    }

    /// A stream was deleted at the source. What was read of it before is still written.
    pub fn gone(&mut self, stream: &Arc<str>, incarnation: Incarnation) {
        let Some(tracked) = self.streams.get_mut(stream) else {
            self.followups.push_back(Followup::Deleted {
                stream: Arc::clone(stream),
                incarnation,
            });
            return;
        };
        if tracked
            .successor
            .as_ref()
            .is_some_and(|(successor, _)| successor.incarnation == incarnation)
        {
            tracked.successor = None;
        } else if tracked.ticket.incarnation <= incarnation {
            self.end(stream);
        }
    }

    /// Forgets streams that are others' to mirror. Whatever is on its way of them is of no use here any more.
    pub fn forget(&mut self, is_others: impl Fn(&str) -> bool) {
        let forgotten: Vec<_> = self
            .streams
            .keys()
            .filter(|stream| is_others(stream))
            .cloned()
            .collect();
        for stream in forgotten {
            if let Some(tracked) = self.streams.remove(&stream) {
                self.leave(&stream, tracked.phase);
            }
        }
        self.followups.retain(|followup| !is_others(followup.stream()));
    }

    /// Streams whose standing in the mirror is to be asked for, at most so many; each is given out once.
    pub fn take_unplaced(&mut self, max: usize, now: Instant) -> Vec<Arc<str>> {
        self.wake(now);
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((_, stream)) = self.unplaced.pop_first()
        {
            if let Some(tracked) = self.streams.get_mut(&stream) {
                tracked.phase = Phase::Placing;
                taken.push(stream);
            }
        }
        taken
    }

    /// Where the mirror stands in a stream that was given out by [`Backlog::take_unplaced`]; none if it has never had
    /// one.
    pub fn placed(&mut self, stream: &Arc<str>, standing: Option<Standing>, now: Instant) {
        let tracked = self.streams.get(stream);
        if tracked.is_some_and(|tracked| tracked.phase == Phase::Placing) {
            self.stand(stream, standing, now);
        }
    }

    /// The next read that is to be made.
    pub fn next_read(&mut self, now: Instant) -> Option<Read> {
        self.wake(now);
        let (_, stream) = self.ready.pop_first()?;
        let tracked = self.streams.get_mut(&stream)?;
        tracked.phase = Phase::Reading;
        Some(Read {
            ticket: tracked.ticket.clone(),
            content_type: Arc::clone(&tracked.content_type),
            after: tracked.read,
        })
    }

    /// Lets those go on who have waited long enough.
    pub fn wake(&mut self, now: Instant) {
        while let Some((until, _)) = self.waiting.first()
            && *until <= now
            && let Some((_, stream)) = self.waiting.pop_first()
        {
            let turn = self.next_number();
            let Some(tracked) = self.streams.get_mut(&stream) else {
                continue;
            };
            match tracked.phase {
                Phase::Waiting { asks: true, .. } => {
                    tracked.phase = Phase::Unplaced(turn);
                    self.unplaced.insert(turn, stream);
                }
                _ => {
                    tracked.phase = Phase::Idle;
                    self.settle(&stream);
                }
            }
        }
    }

    /// When somebody who waits has waited long enough.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Instant> {
        self.waiting.first().map(|(until, _)| *until)
    }

    /// A read brought a chunk that ends at `next`. A stream that can be read, and not written, has no success of that: its
    /// waits grow until something of it is committed. False if it is of no use any more. Otherwise what becomes of it is
    /// to be told by [`Backlog::committed`], [`Backlog::set_back`] or [`Backlog::refused`].
    #[must_use]
    pub fn read(&mut self, ticket: &Ticket, reach: Reach, now: Instant) -> bool {
        let Some(tracked) = self.current(ticket) else {
            return false;
        };
        tracked.read = reach.next;
        tracked.read_closed = reach.closed;
        tracked.tail_closed |= reach.closed;
        tracked.tails.move_to(reach.next, reach.events, now);
        tracked.in_flight += 1;
        tracked.phase = Phase::Idle;
        self.settle(&ticket.stream);
        true
    }

    /// A read failed. The stream is read again after a while, which is told; none if it is of no use any more. `random`
    /// is in `0.0..1.0`, `asked` the least that the source wants to be left alone.
    pub fn read_failed(
        &mut self,
        ticket: &Ticket,
        now: Instant,
        random: f64,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        let tracked = self.current(ticket)?;
        let wait = tracked.backoff.next(random, asked);
        let is_deleted = tracked.is_deleted;
        tracked.phase = Phase::Idle;
        if is_deleted {
            self.settle(&ticket.stream);
            return None;
        }
        self.wait(&ticket.stream, now + wait, false);
        Some(wait)
    }

    /// A read was not made, for a reason that is none of its stream's: it is made again when it is the stream's turn.
    pub fn read_again(&mut self, ticket: &Ticket) {
        if let Some(tracked) = self.current(ticket) {
            tracked.phase = Phase::Idle;
            self.settle(&ticket.stream);
        }
    }

    /// So many chunks that were read are committed, and the last one goes this far.
    pub fn committed(&mut self, ticket: &Ticket, chunks: usize, reach: Reach, now: Instant) {
        let Some(tracked) = self.current(ticket) else {
            return;
        };
        tracked.in_flight = tracked.in_flight.saturating_sub(chunks);
        tracked.backoff.reset();
        tracked.tails.reached(reach.next, reach.events, now);
        let (stream, incarnation) = (Arc::clone(&ticket.stream), ticket.incarnation);
        self.followups.push_back(if reach.closed {
            Followup::Complete { stream, incarnation }
        } else {
            let next = reach.next;
            Followup::Committed {
                stream,
                incarnation,
                next,
            }
        });
        self.settle(&ticket.stream);
    }

    /// A chunk that was read was not written, because the mirror stands elsewhere in its stream. Whatever was read of
    /// it since is of no use.
    pub fn set_back(&mut self, ticket: &Ticket, standing: Option<Standing>, now: Instant) {
        if self.current(ticket).is_some() {
            self.renew(&ticket.stream);
            self.stand(&ticket.stream, standing, now);
        }
    }

    /// A chunk that was read cannot be written. Where the mirror stands in its stream is asked for again after a while,
    /// which is told; none if the chunk is of no use any more.
    pub fn refused(&mut self, ticket: &Ticket, now: Instant, random: f64) -> Option<Duration> {
        let tracked = self.current(ticket)?;
        let wait = tracked.backoff.next(random, None);
        self.renew(&ticket.stream);
        self.wait(&ticket.stream, now + wait, true);
        Some(wait)
    }

    /// Whether what was read with a ticket may still be written.
    #[must_use]
    pub fn is_current(&self, ticket: &Ticket) -> bool {
        self.streams
            .get(&ticket.stream)
            .is_some_and(|tracked| tracked.ticket == *ticket)
    }

    /// What is to be done beside reading and writing, each once.
    pub fn take_followup(&mut self) -> Option<Followup> {
        self.followups.pop_front()
    }

    /// The tails of streams of which something is not committed, at most so many. Those that were left out have their turn
    /// before any is told again.
    pub fn take_tails(&mut self, max: usize) -> Vec<Sighting> {
        let round = self.tail_rounds + 1;
        let mut taken = Vec::new();
        for tracked in self.streams.values_mut() {
            if taken.len() == max {
                return taken;
            }
            if tracked.is_deleted || !tracked.tails.is_behind() || tracked.tail_told_in == round {
                continue;
            }
            tracked.tail_told_in = round;
            taken.push(Sighting {
                stream: Arc::clone(&tracked.ticket.stream),
                incarnation: tracked.ticket.incarnation,
                content_type: Arc::clone(&tracked.content_type),
                tail: tracked.tails.last(),
                events: tracked.tails.events(),
                closed: tracked.tail_closed,
            });
        }
        self.tail_rounds = round;
        taken
    }

    /// Which stream of that name is mirrored.
    #[must_use]
    pub fn incarnation(&self, stream: &str) -> Option<Incarnation> {
        self.streams.get(stream).map(|tracked| tracked.ticket.incarnation)
    }

    /// How far behind the source the mirror is.
    #[must_use]
    pub fn lag(&self, now: Instant) -> Lag {
        let mut lag = Lag::default();
        self.present().for_each(|tracked| lag.add(&tracked.tails, now));
        lag
    }

    /// How far behind the source the streams of each route are.
    #[must_use]
    pub fn lag_of_routes(&self, now: Instant) -> Vec<Lag> {
        let mut lags = vec![Lag::default(); self.routes.len()];
        for tracked in self.present() {
            if let Some(route) = tracked.route {
                lags[route].add(&tracked.tails, now);
            }
        }
        lags
    }

    fn present(&self) -> impl Iterator<Item = &Tracked> {
        self.streams.values().filter(|tracked| !tracked.is_deleted)
    }
}
