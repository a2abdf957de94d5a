//! Claims, callbacks, acks and releases (PROTOCOL.md §7): at most one worker at a time, and none that was fenced off moves
//! a cursor.

use std::collections::BTreeSet;

use super::Subscription;
use super::id::WakeId;
use super::link::{Link, Tail};
use super::state::{Change, Phase, SubscriptionState};
use crate::expiry::Timestamp;
use crate::name::StreamName;
use crate::offset::OffsetToken;

/// What a command changes, and what its answer says once that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided<T> {
    /// What changes.
    pub changes: Vec<Change>,
    /// What to say.
    pub answer: T,
}

/// A worker has a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Of which wake.
    pub wake: WakeId,
    /// Its number.
    pub generation: u64,
}

/// A place up to which a stream has been processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Which stream.
    pub stream: StreamName,
    /// The place.
    pub offset: OffsetToken,
    /// The stream's link as it is stored. Looked at only if the stream has nothing new.
    pub link: Option<Link>,
    /// How far the stream reaches; none if there is no such stream. Likewise.
    pub tail: Option<Tail>,
}

/// What a worker says of its wake: with acks, that it is still there, or that it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckCommand {
    /// The number of the wake that its token is for.
    pub token_generation: u64,
    /// The number of the wake that it speaks of.
    pub generation: u64,
    /// That wake. None if what was sent is no wake's id.
    pub wake: Option<WakeId>,
    /// What was processed.
    pub acks: Vec<Ack>,
    /// Whether it gives the lease back.
    pub done: bool,
}

/// An accepted ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// Whether another wake was made, because there is more.
    pub next_wake: bool,
}

/// Why a worker's command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// The subscription wakes its workers in the other way.
    #[error("the subscription is not of type {expected}")]
    WrongType {
        /// The type that the command is for.
        expected: &'static str,
    },
    /// Somebody else has it.
    #[error("{holder:?} holds the subscription")]
    AlreadyClaimed {
        /// Who.
        holder: Box<str>,
        /// The number of its wake.
        generation: u64,
    },
    /// There is nothing to do.
    #[error("no stream of the subscription has anything new")]
    NoPendingWork,
    /// The wake is not the current one, or its lease is over.
    #[error("the wake is no longer current; the subscription is at generation {generation}")]
    Fenced {
        /// The current number.
        generation: u64,
    },
    /// An ack is for a stream that is not the subscription's.
    #[error("{stream:?} is no stream of the subscription")]
    NotLinked {
        /// The stream.
        stream: StreamName,
    },
    /// An ack is for a place that the stream has never given out.
    #[error("{stream:?} has never given out the offset {offset}")]
    UnknownOffset {
        /// The stream.
        stream: StreamName,
        /// The place.
        offset: OffsetToken,
    },
    /// An ack goes back.
    #[error("{stream:?} is acknowledged up to {acked} already, which is behind {offset}")]
    Regress {
        /// The stream.
        stream: StreamName,
        /// The place.
        offset: OffsetToken,
        /// Where the stream stands.
        acked: OffsetToken,
    },
}

impl Subscription {
    /// Gives the subscription to a worker (PROTOCOL.md §7.2).
    ///
    /// # Errors
    /// [`LeaseRefusal`].
    pub fn claim(
        &self,
        worker: &str,
        now: Timestamp,
        fresh: WakeId,
    ) -> Result<Decided<Claimed>, LeaseRefusal> {
        if !self.is_pull() {
            return Err(LeaseRefusal::WrongType {
                expected: "pull-wake",
            });
        }
        let current = match &self.state.phase {
            Phase::Held { holder, ends_at, .. } if now < *ends_at => {
                return Err(LeaseRefusal::AlreadyClaimed {
                    holder: holder.clone().unwrap_or_default(),
                    generation: self.state.generation,
                });
            }
            Phase::Woken { wake } => Some(*wake),
            Phase::Held { .. } | Phase::Idle => None,
        };
        if self.pending.is_empty() {
            return Err(LeaseRefusal::NoPendingWork);
        }
        // A lease that is over was of another wake.
        let base = match current {
            Some(_) => self.state.clone(),
            None => self.next_wake(self.state.clone(), now, fresh),
        };
        let wake = current.unwrap_or(fresh);
        let state = SubscriptionState {
            phase: Phase::Held {
                wake,
                holder: Some(worker.into()),
                ends_at: now.plus_millis(self.config.lease_ttl_ms),
            },
            ..base
        };
        let answer = Claimed {
            wake,
            generation: state.generation,
        };
        Ok(Decided {
            changes: vec![Change::State(state)],
            answer,
        })
    }

    /// Accepts what a webhook's receiver says (PROTOCOL.md §7.1).
    ///
    /// # Errors
    /// [`LeaseRefusal`]; nothing is changed then.
    pub fn callback(
        &self,
        command: &AckCommand,
        now: Timestamp,
        fresh: WakeId,
    ) -> Result<Decided<Acked>, LeaseRefusal> {
        if self.is_pull() {
            return Err(LeaseRefusal::WrongType { expected: "webhook" });
        }
        self.accept(command, now, fresh)
    }

    /// Accepts what a worker that has claimed the subscription says (PROTOCOL.md §7.2).
    ///
    /// # Errors
    /// [`LeaseRefusal`]; nothing is changed then.
    pub fn ack(
        &self,
        command: &AckCommand,
        now: Timestamp,
        fresh: WakeId,
    ) -> Result<Decided<Acked>, LeaseRefusal> {
        if !self.is_pull() {
            return Err(LeaseRefusal::WrongType {
                expected: "pull-wake",
            });
        }
        self.accept(command, now, fresh)
    }

    /// Takes the subscription back from a worker that gives it up without an ack (PROTOCOL.md §7.2).
    ///
    /// # Errors
    /// [`LeaseRefusal`]; nothing is changed then.
    pub fn release(
        &self,
        command: &AckCommand,
        now: Timestamp,
        fresh: WakeId,
    ) -> Result<Decided<Acked>, LeaseRefusal> {
        let without_acks = AckCommand {
            acks: Vec::new(),
            done: true,
            ..command.clone()
        };
        self.ack(&without_acks, now, fresh)
    }

    fn accept(
        &self,
        command: &AckCommand,
        now: Timestamp,
        fresh: WakeId,
    ) -> Result<Decided<Acked>, LeaseRefusal> {
        let Phase::Held {
            wake,
            holder,
            ends_at,
        } = &self.state.phase
        else {
            return Err(self.fenced());
        };
        let generation = self.state.generation;
        let is_current = command.wake == Some(*wake)
            && command.generation == generation
            && command.token_generation == generation
            && now < *ends_at;
        if !is_current {
            return Err(self.fenced());
        }
        let mut changes = Vec::new();
        let mut settled = 0;
        for ack in &command.acks {
            self.check_ack(ack)?;
        }
        // The last word on a stream counts.
        let mut seen = BTreeSet::new();
        for ack in command.acks.iter().rev().filter(|ack| seen.insert(&ack.stream)) {
            let (link, tail) = self.check_ack(ack)?;
            if self.pending.contains_key(&ack.stream) && !tail.is_behind(ack.offset) {
                settled += 1;
            }
            if ack.offset != link.acked {
                changes.push(Change::Link {
                    stream: ack.stream.clone(),
                    link: Some(link.at(ack.offset)),
                });
            }
        }
        let more = self.pending.len() > settled;
        // A receiver that answers has been reached. A worker need not have seen its wake's event.
        let reached = if self.is_pull() {
            self.state.clone()
        } else {
            self.reached()
        };
        let state = if command.done {
            self.after_wake(reached, now, fresh, more)
        } else {
            SubscriptionState {
                phase: Phase::Held {
                    wake: *wake,
                    holder: holder.clone(),
                    ends_at: now.plus_millis(self.config.lease_ttl_ms),
                },
                ..reached
            }
        };
        changes.push(Change::State(state));
        Ok(Decided {
            changes,
            answer: Acked {
                next_wake: command.done && more,
            },
        })
    }

    fn check_ack<'a>(&'a self, ack: &'a Ack) -> Result<(Link, &'a Tail), LeaseRefusal> {
        let pending = self.pending.get(&ack.stream);
        let known = match pending {
            Some(pending) => Some((pending.link, &pending.tail)),
            None => ack.link.zip(ack.tail.as_ref()),
        };
        let Some((link, tail)) = known else {
            return Err(LeaseRefusal::NotLinked {
                stream: ack.stream.clone(),
            });
        };
        if !tail.knows(ack.offset) {
            return Err(LeaseRefusal::UnknownOffset {
                stream: ack.stream.clone(),
                offset: ack.offset,
            });
        }
        if ack.offset.position() < link.acked.position() {
            return Err(LeaseRefusal::Regress {
                stream: ack.stream.clone(),
                offset: ack.offset,
                acked: link.acked,
            });
        }
        Ok((link, tail))
    }

    fn fenced(&self) -> LeaseRefusal {
        LeaseRefusal::Fenced {
            generation: self.state.generation,
        }
    }
}
