//! In which queue a stream is: how it comes to be tracked, moves on, and is done with.

use std::sync::Arc;

use tailwater_process::Backoff;
use tokio::time::Instant;

use super::lag::Tails;
use super::{Backlog, Followup, Phase, Sighting, Standing, Ticket, Tracked};
use crate::event::{Incarnation, Offset};

impl Backlog {
    pub(super) fn begin(&mut self, sighting: Sighting, now: Instant) {
        let ticket = self.new_ticket(&sighting.stream, sighting.incarnation);
        let turn = self.next_number();
        let tracked = Tracked {
            route: self.routes.of(&sighting.stream),
            ticket,
            content_type: sighting.content_type,
            tails: Tails::new(sighting.tail, sighting.events, now),
            tail_closed: sighting.closed,
            tail_told_in: 0,
            read: Offset::BEGINNING,
            read_closed: false,
            phase: Phase::Unplaced(turn),
            in_flight: 0,
            backoff: Backoff::default(),
            is_deleted: false,
            successor: None,
        };
        self.streams.insert(Arc::clone(&sighting.stream), tracked);
        self.unplaced.insert(turn, sighting.stream);
    }

    /// Nothing more of a stream is to be had, but for a read under way, which may still bring something.
    pub(super) fn end(&mut self, stream: &Arc<str>) {
        let Some(tracked) = self.streams.get_mut(stream) else {
            return;
        };
        tracked.is_deleted = true;
        if tracked.phase != Phase::Reading {
            let phase = std::mem::replace(&mut tracked.phase, Phase::Idle);
            self.leave(stream, phase);
            self.settle(stream);
        }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn new_ticket(&mut self, stream: &Arc<str>, incarnation: Incarnation) -> Ticket {
        Ticket {
            stream: Arc::clone(stream),
            incarnation,
            number: self.next_number(),
        }
    }

    pub(super) fn current(&mut self, ticket: &Ticket) -> Option<&mut Tracked> {
        self.streams
            .get_mut(&ticket.stream)
            .filter(|tracked| tracked.ticket == *ticket)
    }

    /// Makes whatever is on its way out of date.
    pub(super) fn renew(&mut self, stream: &Arc<str>) {
        let Some(incarnation) = self.streams.get(stream).map(|tracked| tracked.ticket.incarnation) else {
            return;
        };
        let ticket = self.new_ticket(stream, incarnation);
        let Some(tracked) = self.streams.get_mut(stream) else {
            return;
        };
        tracked.ticket = ticket;
        tracked.in_flight = 0;
        let phase = std::mem::replace(&mut tracked.phase, Phase::Idle);
        self.leave(stream, phase);
    }

    pub(super) fn stand(&mut self, stream: &Arc<str>, standing: Option<Standing>, now: Instant) {
        let Some(tracked) = self.streams.get_mut(stream) else {
            return;
        };
        let incarnation = tracked.ticket.incarnation;
        // A newer incarnation than is known here is another mirror's doing; the source will tell of it.
        let is_ahead = standing.is_some_and(|standing| standing.of > incarnation);
        if is_ahead {
            tracked.is_deleted = true;
        }
        let here = standing.filter(|standing| standing.of == incarnation);
        tracked.read = here.map_or(Offset::BEGINNING, |standing| standing.next);
        tracked.read_closed = here.is_some_and(|standing| standing.closed);
        tracked
            .tails
            .reached(tracked.read, here.map_or(0, |standing| standing.events), now);
        tracked.phase = Phase::Idle;
        let followup = match here {
            Some(Standing { closed: true, .. }) => Some(Followup::Complete {
                stream: Arc::clone(stream),
                incarnation,
            }),
            // Whoever committed it may not have come to trim it.
            Some(Standing { next, .. }) if next.position() > 0 => Some(Followup::Committed {
                stream: Arc::clone(stream),
                incarnation,
                next,
            }),
            _ => None,
        };
        self.followups.extend(followup);
        self.settle(stream);
    }

    /// Puts a stream that nobody is at where it belongs.
    pub(super) fn settle(&mut self, stream: &Arc<str>) {
        let turn = self.next_number();
        let Some(tracked) = self.streams.get_mut(stream) else {
            return;
        };
        if tracked.phase != Phase::Idle {
            return;
        }
        if tracked.has_more() {
            tracked.phase = Phase::Ready(turn);
            self.ready.insert(turn, Arc::clone(stream));
        } else if tracked.is_deleted && tracked.in_flight == 0 {
            self.followups.push_back(Followup::Deleted {
                stream: Arc::clone(stream),
                incarnation: tracked.ticket.incarnation,
            });
            let ended = self.streams.remove(stream);
            if let Some((successor, since)) = ended.and_then(|tracked| tracked.successor) {
                self.begin(successor, since);
            }
        }
    }

    pub(super) fn wait(&mut self, stream: &Arc<str>, until: Instant, asks: bool) {
        if let Some(tracked) = self.streams.get_mut(stream) {
            tracked.phase = Phase::Waiting { until, asks };
            self.waiting.insert((until, Arc::clone(stream)));
        }
    }

    /// Takes a stream out of the queue that its phase says it is in.
    pub(super) fn leave(&mut self, stream: &Arc<str>, phase: Phase) {
        match phase {
            Phase::Unplaced(turn) => drop(self.unplaced.remove(&turn)),
            Phase::Ready(turn) => drop(self.ready.remove(&turn)),
            Phase::Waiting { until, .. } => {
                self.waiting.remove(&(until, Arc::clone(stream)));
            }
            Phase::Placing | Phase::Idle | Phase::Reading => {}
        }
    }
}
