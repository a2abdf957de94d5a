//! The runtime of subscriptions: holds all of them, looks at streams when they move, and sends wakes. What may happen is
//! decided by the rules in `tailwater-stream`; what is decided is stored through the engine, in a hidden stream for each
//! subscription. Knows neither HTTP nor how a webhook is reached.
//!
//! Only what is pending, leased or scheduled is in memory; links of streams that have nothing new are looked up where
//! they are stored.
//!
//! | file | what stands there |
//! |---|---|
//! | `opened.rs` | a subscription, and whose turn it is |
//! | `moves.rs`, `index.rs` | which streams have moved, and who wants them |
//! | `turns.rs` | what is done in a turn: look at what has moved, decide, store, send |
//! | `create.rs operations.rs` | what clients ask for |
//! | `links.rs` | which streams it has, a page at a time |
//! | `send.rs`, `deliver.rs` | wakes go out, to wake streams and to webhooks |
//! | `recovery.rs` | what a start finds |
//! | `codec.rs` | what is stored |

mod codec;
mod create;
pub mod deliver;
mod error;
mod index;
mod links;
mod moves;
mod opened;
mod operations;
mod recovery;
mod send;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;

use tailwater_stream::{SubscriptionId, Timestamp};
use tokio::sync::{Semaphore, watch};

use crate::backend::BackendError;
use crate::engine::{Engine, EngineError};
use crate::stats::Counter;
use crate::sync::Mutex;
use crate::timers::Timers;
use deliver::Deliver;
use opened::Opened;

pub(crate) use codec::check_stored;
pub use create::{NewSubscription, Subscribed};
pub use error::{SubscribeError, SubscriptionError};
pub use links::LinksPage;
pub(crate) use moves::{Interest, Moves};
pub use operations::{AckRequest, Claim, ClaimedStreams, Described, StreamAck, Summary};

/// Turns that are taken at once by themselves; more wait. Those that clients ask for do not count.
const TURNS_MAX: usize = 64;
/// Timers are looked at this often at the least: the clock may have been set.
const TICK_MS: u64 = 1_000;

/// The limits on subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionLimits {
    /// Subscriptions.
    pub subscriptions_max: usize,
    /// Streams that one subscription names.
    pub named_streams_max: u64,
    /// Streams that a worker is told of in one wake; the others come with the next.
    pub wake_streams_max: usize,
}

/// All subscriptions of an engine. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Subscriptions {
    shared: Arc<Shared>,
}

/// What the runtime has done so far.
#[derive(Debug, Default)]
pub struct SubscriptionStats {
    /// Wakes that were made.
    pub wakes: Counter,
    /// Wakes that could not be sent, each attempt.
    pub send_failures: Counter,
    /// Callbacks and acks that were accepted.
    pub acks: Counter,
    /// Callbacks, acks and releases of workers that were fenced off.
    pub fenced: Counter,
    /// Leases that ended because their holder was silent.
    pub expired_leases: Counter,
}

struct Shared {
    engine: Engine,
    deliver: Arc<dyn Deliver>,
    limits: SubscriptionLimits,
    stats: SubscriptionStats,
    all: Mutex<BTreeMap<SubscriptionId, Arc<Opened>>>,
    timers: Timers<Opened>,
    turns: Arc<Semaphore>,
    /// Held while noted streams are handed out, so that whoever had it knows that all are.
    handing_out: Mutex<()>,
    /// Whether all that an earlier run has left was found.
    is_recovered: watch::Sender<bool>,
    is_stopping: watch::Sender<bool>,
}

impl Subscriptions {
    /// Waits until all that an earlier run has left is found. Until then a stream may have something new that its
    /// subscription does not know of.
    ///
    /// # Errors
    /// If the storage fails before that.
    pub async fn recovered(&self) -> Result<(), EngineError> {
        let mut recovered = self.shared.is_recovered.subscribe();
        let mut failure = self.shared.engine.failure();
        // The senders live as long as this.
        tokio::select! {
            biased;
            _ = recovered.wait_for(|recovered| *recovered) => Ok(()),
            _ = failure.wait_for(Option::is_some) => Err(BackendError::Poisoned.into()),
        }
    }

    /// Sends nothing more and does nothing more by itself. What clients ask for goes on until the engine stops.
    pub fn stop(&self) {
        self.shared.is_stopping.send_replace(true);
    }

    /// What has been done so far.
    pub fn stats(&self) -> &SubscriptionStats {
        &self.shared.stats
    }

    /// How many subscriptions there are.
    pub fn count(&self) -> usize {
        self.shared.all.lock().len()
    }

    /// Streams that have moved and that no subscription has been told of yet.
    pub fn moves_waiting(&self) -> usize {
        self.shared.engine.moves().waiting()
    }

    /// Turns that are being taken now, and how many may be at once; further ones wait.
    pub fn turns(&self) -> (usize, usize) {
        (TURNS_MAX - self.shared.turns.available_permits(), TURNS_MAX)
    }

    /// Does what has become due by the engine's clock. Happens by itself with a clock that runs.
    pub fn tick(&self) {
        for opened in self.shared.timers.due(self.now()) {
            self.schedule(&opened);
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.engine.now()
    }

    fn find(&self, id: &SubscriptionId) -> Result<Arc<Opened>, SubscriptionError> {
        self.shared
            .all
            .lock()
            .get(id)
            .cloned()
            .ok_or(SubscriptionError::NotFound)
    }

    /// Hands streams out as they are noted, for ever.
    async fn follow(&self) {
        let mut stopping = self.shared.is_stopping.subscribe();
        while !*stopping.borrow_and_update() {
            tokio::select! {
                () = self.shared.engine.moves().news() => self.hand_out(),
                _ = stopping.changed() => {}
            }
        }
    }

    /// Looks at timers, for ever.
    async fn keep_time(&self) {
        let mut stopping = self.shared.is_stopping.subscribe();
        while !*stopping.borrow_and_update() {
            self.tick();
            tokio::select! {
                () = self.shared.timers.wait(self.now(), TICK_MS) => {}
                _ = stopping.changed() => {}
            }
        }
    }

    /// Hands every stream that is noted to the subscriptions that want it. Once this returns, all that was noted before
    /// it was called is handed out.
    fn hand_out(&self) {
        let _handing_out = self.shared.handing_out.lock();
        let moves = self.shared.engine.moves();
        for name in moves.take() {
            if let Some(id) = name.subscription() {
                self.look_for(id);
                continue;
            }
            let mut wanting = Vec::new();
            moves
                .index
                .visit(&name, |opened| wanting.push(Arc::clone(opened)));
            for opened in wanting {
                opened.note(name.clone());
                self.schedule(&opened);
            }
        }
    }

    /// Has a subscription take a turn soon. Whoever is making it looks at what is noted by then.
    fn schedule(&self, opened: &Arc<Opened>) {
        if !opened.is_made() || !opened.schedule() {
            return;
        }
        let (all, opened) = (self.clone(), Arc::clone(opened));
        tokio::spawn(async move {
            let Ok(_permit) = all.shared.turns.acquire().await else {
                return;
            };
            all.take_turn(&opened).await;
        });
    }
}
