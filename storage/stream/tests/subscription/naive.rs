//! The model: every link of every stream in one list, and the words of PROTOCOL.md §7 one after the other.

use std::collections::BTreeMap;

use super::event::{Event, LEASE_TTL_MS, NAMED, Outcome, Place, STREAMS};

/// What was said to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Nothing,
    Claimed {
        generation: u64,
    },
    AlreadyClaimed {
        holder: String,
    },
    NoPendingWork,
    Acked {
        next_wake: bool,
    },
    Fenced,
    NotLinked,
    UnknownOffset,
    Regress,
    WrongType,
    /// What a rule must never do.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream {
    incarnation: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    incarnation: u64,
    bytes: u64,
}

impl Cursor {
    /// At the beginning of whatever stream comes.
    const NOWHERE: Self = Self {
        incarnation: 0,
        bytes: 0,
    };
}

/// A wake: its number, and how far each pending stream reached when somebody was told.
#[derive(Debug, Clone)]
struct Wake {
    generation: u64,
    told: BTreeMap<usize, Stream>,
}

#[derive(Debug)]
struct Lease {
    holder: Option<String>,
    ends_ms: u64,
}

pub(crate) struct Naive {
    is_pull: bool,
    now_ms: u64,
    incarnations: u64,
    streams: [Option<Stream>; STREAMS.len()],
    /// A cursor for each stream that is linked.
    cursors: BTreeMap<usize, Cursor>,
    named: [bool; STREAMS.len()],
    generation: u64,
    is_woken: bool,
    lease: Option<Lease>,
    sent: bool,
    failures: u32,
    next_attempt_ms: u64,
    wakes: Vec<Wake>,
}

fn is_meant(stream: usize) -> bool {
    STREAMS[stream].starts_with("jobs/")
}

impl Naive {
    pub(crate) fn new(is_pull: bool) -> Self {
        Self {
            is_pull,
            now_ms: 0,
            incarnations: 0,
            streams: [None; STREAMS.len()],
            cursors: (0..STREAMS.len())
                .filter(|stream| NAMED.contains(&STREAMS[*stream]))
                .map(|stream| (stream, Cursor::NOWHERE))
                .collect(),
            named: STREAMS.map(|name| NAMED.contains(&name)),
            generation: 0,
            is_woken: false,
            lease: None,
            sent: false,
            failures: 0,
            next_attempt_ms: 0,
            wakes: Vec::new(),
        }
    }

    fn is_linked(&self, stream: usize) -> bool {
        self.named[stream] || is_meant(stream)
    }

    fn acked(&self, stream: usize) -> u64 {
        let of_this =
            |cursor: &&Cursor| self.streams[stream].is_some_and(|now| now.incarnation == cursor.incarnation);
        self.cursors
            .get(&stream)
            .filter(of_this)
            .map_or(0, |cursor| cursor.bytes)
    }

    /// Streams with something new: as far as they are processed, and as far as they reach.
    pub(crate) fn pending(&self) -> Vec<(&'static str, u64, u64)> {
        (0..STREAMS.len())
            .filter(|stream| self.is_linked(*stream))
            .filter_map(|stream| {
                let now = self.streams[stream]?;
                let acked = self.acked(stream);
                (now.bytes > acked).then_some((STREAMS[stream], acked, now.bytes))
            })
            .collect()
    }

    /// How far each stream that exists and is linked has been processed.
    pub(crate) fn cursors(&self) -> Vec<(&'static str, u64)> {
        (0..STREAMS.len())
            .filter(|stream| self.is_linked(*stream) && self.streams[*stream].is_some())
            .map(|stream| (STREAMS[stream], self.acked(stream)))
            .collect()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Who has the subscription: nobody, a receiver without a name, or a worker.
    pub(crate) fn holder(&self) -> Option<Option<String>> {
        self.lease.as_ref().map(|lease| lease.holder.clone())
    }

    pub(crate) fn step(&mut self, event: &Event) -> Said {
        let said = self.happen(event);
        if !matches!(event, Event::Nap { .. }) {
            self.settle();
        }
        said
    }

    fn happen(&mut self, event: &Event) -> Said {
        match event {
            Event::Create { stream } => {
                self.incarnations += 1;
                self.streams[*stream].get_or_insert(Stream {
                    incarnation: self.incarnations,
                    bytes: 0,
                });
            }
            Event::Append { stream, bytes } => {
                if let Some(now) = &mut self.streams[*stream] {
                    now.bytes += bytes;
                    if is_meant(*stream) {
                        self.cursors.entry(*stream).or_insert(Cursor::NOWHERE);
                    }
                }
            }
            Event::Delete { stream } => {
                self.streams[*stream] = None;
                if self.named[*stream] {
                    self.cursors.insert(*stream, Cursor::NOWHERE);
                } else {
                    self.cursors.remove(stream);
                }
            }
            Event::Replace { stream, bytes } => {
                self.incarnations += 1;
                if let Some(now) = &mut self.streams[*stream] {
                    *now = Stream {
                        incarnation: self.incarnations,
                        bytes: *bytes,
                    };
                    let has_some = is_meant(*stream) && *bytes > 0;
                    if has_some || self.cursors.contains_key(stream) {
                        self.cursors.insert(*stream, Cursor::NOWHERE);
                    }
                }
            }
            Event::Name { stream } => {
                let now = self.streams[*stream].filter(|_| !is_meant(*stream));
                let at_tail = now.map_or(Cursor::NOWHERE, |now| Cursor {
                    incarnation: now.incarnation,
                    bytes: now.bytes,
                });
                self.cursors.entry(*stream).or_insert(at_tail);
                self.named[*stream] = true;
            }
            Event::Unname { stream } => {
                self.named[*stream] = false;
                if !is_meant(*stream) {
                    self.cursors.remove(stream);
                }
            }
            Event::Claim { worker } => return self.claim(*worker),
            Event::Ack { back, acks, done } => return self.ack(*back, acks, *done),
            Event::Release { back } => {
                if !self.is_pull {
                    return Said::WrongType;
                }
                return match self.ack(*back, &[], true) {
                    Said::Acked { .. } => Said::Nothing,
                    refused => refused,
                };
            }
            Event::Sent { back, outcome } => self.sent(*back, *outcome),
            Event::Wait { ms } | Event::Nap { ms } => self.now_ms += ms,
            Event::Restart => {}
        }
        Said::Nothing
    }

    fn is_lease_over(&self) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| self.now_ms >= lease.ends_ms)
    }

    fn claim(&mut self, worker: u8) -> Said {
        if !self.is_pull {
            return Said::WrongType;
        }
        let is_over = self.is_lease_over();
        if let Some(lease) = self.lease.as_ref().filter(|_| !is_over) {
            return Said::AlreadyClaimed {
                holder: lease.holder.clone().expect("a worker"),
            };
        }
        if self.pending().is_empty() {
            return Said::NoPendingWork;
        }
        if is_over {
            self.end_lease();
            self.begin_wake();
        }
        self.lease = Some(Lease {
            holder: Some(format!("worker-{worker}")),
            ends_ms: self.now_ms + LEASE_TTL_MS,
        });
        self.is_woken = false;
        self.tell();
        Said::Claimed {
            generation: self.generation,
        }
    }

    /// Somebody is told of the newest wake.
    fn tell(&mut self) {
        let pending = self.pending();
        let told =
            (0..STREAMS.len()).filter(|stream| pending.iter().any(|(name, ..)| *name == STREAMS[*stream]));
        let told = told
            .filter_map(|stream| Some((stream, self.streams[stream]?)))
            .collect();
        self.wakes.last_mut().expect("a wake").told = told;
    }

    fn told(&self, back: usize) -> Option<Wake> {
        self.wakes.iter().rev().nth(back).cloned()
    }

    fn ack(&mut self, back: usize, acks: &[(usize, Place)], done: bool) -> Said {
        let Some(wake) = self.told(back) else {
            return Said::Nothing;
        };
        if self.lease.is_none() || self.is_lease_over() || wake.generation != self.generation {
            return Said::Fenced;
        }
        let mut moves = Vec::new();
        for (stream, place) in acks {
            // A stream that the pattern means is linked once it has anything.
            let Some(now) = self.streams[*stream].filter(|_| self.cursors.contains_key(stream)) else {
                return Said::NotLinked;
            };
            let acked = self.acked(*stream);
            let told = wake.told.get(stream).copied().unwrap_or(now);
            let to = match place {
                Place::AsTold => told,
                Place::Start => Stream { bytes: 0, ..now },
                Place::Beyond => Stream {
                    bytes: now.bytes + 1_000,
                    ..now
                },
            };
            if to.bytes > 0 && (to.incarnation != now.incarnation || to.bytes > now.bytes) {
                return Said::UnknownOffset;
            }
            if to.bytes < acked {
                return Said::Regress;
            }
            moves.push((*stream, now.incarnation, to.bytes));
        }
        for (stream, incarnation, bytes) in moves {
            self.cursors.insert(stream, Cursor { incarnation, bytes });
        }
        if !done {
            self.lease.as_mut().expect("held").ends_ms = self.now_ms + LEASE_TTL_MS;
            self.reach();
            return Said::Acked { next_wake: false };
        }
        self.reach();
        self.end_lease();
        Said::Acked {
            next_wake: !self.pending().is_empty(),
        }
    }

    fn sent(&mut self, back: usize, outcome: Outcome) {
        let Some(wake) = self.told(back) else { return };
        let is_out = self.is_woken || (self.lease.is_some() && !self.is_lease_over());
        let is_current = wake.generation == self.generation && is_out;
        match outcome {
            Outcome::Failed => {
                self.failures += 1;
                // Chance always takes a fifth off in these runs.
                let pause_ms = (1_000 << (self.failures - 1).min(6)).min(60_000) * 8 / 10;
                self.next_attempt_ms = self.now_ms + pause_ms;
                if let Some(lease) = self.lease.as_mut().filter(|lease| lease.holder.is_none())
                    && !self.sent
                {
                    lease.ends_ms = self.next_attempt_ms + LEASE_TTL_MS;
                }
            }
            Outcome::Done if is_current && !self.is_pull => {
                for (stream, told) in &wake.told {
                    let is_same =
                        self.streams[*stream].is_some_and(|now| now.incarnation == told.incarnation);
                    if is_same && self.is_linked(*stream) && told.bytes > self.acked(*stream) {
                        self.cursors.insert(
                            *stream,
                            Cursor {
                                incarnation: told.incarnation,
                                bytes: told.bytes,
                            },
                        );
                    }
                }
                self.failures = 0;
                self.end_lease();
            }
            Outcome::Taken | Outcome::Done => {
                self.failures = 0;
                self.sent |= is_current;
            }
        }
    }

    /// A receiver has answered.
    fn reach(&mut self) {
        if !self.is_pull {
            self.sent = true;
            self.failures = 0;
        }
    }

    fn end_lease(&mut self) {
        self.lease = None;
        self.sent = false;
    }

    fn begin_wake(&mut self) {
        self.generation += 1;
        self.sent = false;
        self.wakes.push(Wake {
            generation: self.generation,
            told: BTreeMap::new(),
        });
    }

    /// What happens by itself: leases end, and whatever is pending wakes somebody.
    fn settle(&mut self) {
        let is_kept = |stream: usize| self.named[stream] || self.streams[stream].is_some();
        self.cursors.retain(|stream, _| is_kept(*stream));
        if self.is_lease_over() {
            self.end_lease();
        }
        let is_pending = !self.pending().is_empty();
        let is_called_off =
            !is_pending && !self.sent && self.lease.as_ref().is_none_or(|lease| lease.holder.is_none());
        if is_called_off {
            self.is_woken = false;
            self.lease = None;
        }
        if is_pending && !self.is_woken && self.lease.is_none() {
            self.begin_wake();
            if self.is_pull {
                self.is_woken = true;
            } else {
                let is_well = self.failures == 0;
                let sent_ms = if is_well {
                    self.now_ms
                } else {
                    self.now_ms.max(self.next_attempt_ms)
                };
                self.lease = Some(Lease {
                    holder: None,
                    ends_ms: sent_ms + LEASE_TTL_MS,
                });
                self.tell();
            }
        }
    }
}
