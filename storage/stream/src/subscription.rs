//! The rules of one subscription (PROTOCOL.md §6, §7): durable cursors over streams that wake a worker, one at a time.
//!
//! As with a stream, a command meets a state and becomes a refusal with facts or changes, and [`Subscription::apply`] is
//! the only thing that changes a state. Time, randomness, and what is known of streams come in with the command. Nothing
//! here knows HTTP, storage or how a wake reaches a worker.
//!
//! Streams that have nothing new are not in the state: their links are looked up where they are stored when they move.
//!
//! | module | what stands there |
//! |---|---|
//! | [`id`] | [`SubscriptionId`], [`WakeId`] |
//! | [`pattern`] | which names a pattern means |
//! | [`config`] | what a client asked for |
//! | [`link`] | a stream of a subscription, and how far it has been processed |
//! | [`state`] | who was woken, who holds the lease, what went wrong; [`Change`] |
//! | [`observe`] | what a stream's move means |
//! | [`wake`] | when a wake is made, what becomes of sending it, when it ends |
//! | [`lease`] | claims, callbacks, acks and releases |
//! | [`retry`] | when to try again |

pub mod config;
pub mod id;
pub mod lease;
pub mod link;
pub mod observe;
pub mod pattern;
pub mod retry;
pub mod state;
pub mod wake;

use std::collections::BTreeMap;

use crate::expiry::Timestamp;
use crate::name::StreamName;

pub use config::{Delivery, SubscriptionConfig};
pub use id::{IdRefusal, SubscriptionId, WakeId};
pub use lease::{Ack, AckCommand, Acked, Claimed, Decided, LeaseRefusal};
pub use link::{Link, Tail};
pub use observe::{Observed, StreamsRefusal};
pub use pattern::{Pattern, PatternRefusal, PatternSegment};
pub use state::{Change, Phase, SubscriptionState, Trouble};
pub use wake::SendOutcome;

/// A stream that has something new for its subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// How far it has been processed.
    pub link: Link,
    /// Its tail. Always behind `link.acked`.
    pub tail: Tail,
}

impl Pending {
    /// The same stream with another link; none if it has nothing new behind that.
    fn at(&self, link: Link) -> Option<Self> {
        let tail = self.tail.clone();
        tail.is_behind(link.acked).then_some(Self { link, tail })
    }

    fn bytes(&self) -> u64 {
        self.tail.position.since(self.link.acked.position())
    }
}

/// A stream of a wake, as the worker is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WokenStream {
    /// Its name.
    pub stream: StreamName,
    /// How far it has been processed.
    pub link: Link,
    /// Its tail when the worker was told.
    pub tail: Tail,
}

/// One subscription: what was asked for, how far it has come, and which of its streams have something new.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// What was asked for. Never changes.
    pub config: SubscriptionConfig,
    /// When.
    pub created_at: Timestamp,
    /// How far it has come.
    pub state: SubscriptionState,
    pending: BTreeMap<StreamName, Pending>,
    /// The sum over `pending`.
    pending_bytes: u64,
}

impl Subscription {
    /// A subscription that is as `state` says and of whose streams nothing is known yet.
    pub fn new(config: SubscriptionConfig, created_at: Timestamp, state: SubscriptionState) -> Self {
        Self {
            config,
            created_at,
            state,
            pending: BTreeMap::new(),
            pending_bytes: 0,
        }
    }

    /// The streams that have something new, in the order of their names.
    pub fn pending(&self) -> &BTreeMap<StreamName, Pending> {
        &self.pending
    }

    /// How many bytes there are in those that are not processed.
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// At most `count_max` streams that have something new. If there are more, another wake begins with others, so that
    /// none is left out for ever.
    pub fn snapshot(&self, count_max: usize) -> Vec<WokenStream> {
        let count = self.pending.len();
        let skipped = if count > count_max {
            let wakes = usize::try_from(self.state.generation % count as u64).unwrap_or(0);
            wakes * count_max % count
        } else {
            0
        };
        let round = self.pending.iter().chain(&self.pending);
        let streams = round.skip(skipped).take(count_max.min(count));
        streams
            .map(|(stream, pending)| WokenStream {
                stream: stream.clone(),
                link: pending.link,
                tail: pending.tail.clone(),
            })
            .collect()
    }

    /// Applies what was decided on this state.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::State(state) => self.state.clone_from(state),
            Change::Link { stream, link } => {
                let pending = link.and_then(|link| self.pending.get(stream)?.at(link));
                self.set_pending(stream, pending);
            }
            Change::Pending { stream, pending } => {
                self.set_pending(stream, Some(Pending::clone(pending)));
            }
            Change::Settled { stream } => self.set_pending(stream, None),
        }
    }

    fn set_pending(&mut self, stream: &StreamName, pending: Option<Pending>) {
        let bytes = pending.as_ref().map_or(0, Pending::bytes);
        let before = match pending {
            Some(pending) => self.pending.insert(stream.clone(), pending),
            None => self.pending.remove(stream),
        };
        self.pending_bytes += bytes;
        self.pending_bytes -= before.as_ref().map_or(0, Pending::bytes);
    }

    /// Applies several changes, in order.
    pub fn apply_all(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply(change);
        }
    }
}
