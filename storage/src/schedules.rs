//! The runtime of schedules: appends a message at each fire time, once. When that is, and what is left to do after a pause of
//! the process or a step of the clock, is decided by the rules in `tailwater-stream`; what is decided is stored through the
//! engine, in a hidden stream for each schedule. Knows nothing of HTTP, and of queues no more than that they are streams.
//!
//! | file | what stands there |
//! |---|---|
//! | `opened.rs` | a schedule, and whose turn it is |
//! | `turns.rs` | what is done in a turn: decide, store, append |
//! | `put.rs` | schedules are made and changed |
//! | `operations.rs` | what else clients ask for |
//! | `recovery.rs` | what a start and an import find |
//! | `zones.rs` | where the rules of time zones come from |
//! | `codec.rs` | what is stored |

mod codec;
mod error;
mod opened;
mod operations;
mod put;
mod recovery;
mod turns;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;

use tailwater_stream::schedule::ScheduleLimits;
use tailwater_stream::{ScheduleId, Timestamp};
use tokio::sync::{Semaphore, watch};

use crate::engine::Engine;
use crate::stats::Counter;
use crate::sync::Mutex;
use crate::timers::Timers;
use opened::Opened;

pub(crate) use codec::check_stored;
pub use error::{PutError, ScheduleError};
pub use operations::Described;
pub use put::Put;

/// Turns that are taken at once by themselves; more wait.
const TURNS_MAX: usize = 64;
/// Timers are looked at this often at the least: the clock may have been set.
const TICK_MS: u64 = 1_000;

/// The limits on schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulesLimits {
    /// Schedules.
    pub schedules_max: usize,
    /// Those on each one.
    pub of_each: ScheduleLimits,
}

/// All schedules of an engine. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Schedules {
    shared: Arc<Shared>,
}

/// What the runtime has done so far.
#[derive(Debug, Default)]
pub struct ScheduleStats {
    /// Messages that were enqueued.
    pub fires: Counter,
    /// Attempts to enqueue one that failed.
    pub failures: Counter,
    /// Times that a schedule was found to have fire times that had passed.
    pub misfires: Counter,
}

struct Shared {
    engine: Engine,
    limits: SchedulesLimits,
    stats: ScheduleStats,
    all: Mutex<BTreeMap<ScheduleId, Arc<Opened>>>,
    timers: Timers<Opened>,
    turns: Semaphore,
    is_stopping: watch::Sender<bool>,
}

impl Schedules {
    /// Does nothing more by itself. What clients ask for goes on until the engine stops.
    pub fn stop(&self) {
        self.shared.is_stopping.send_replace(true);
    }

    /// What has been done so far.
    pub fn stats(&self) -> &ScheduleStats {
        &self.shared.stats
    }

    /// How many schedules there are.
    pub fn count(&self) -> usize {
        self.shared.all.lock().len()
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

    fn find(&self, id: &ScheduleId) -> Result<Arc<Opened>, ScheduleError> {
        let found = self.shared.all.lock().get(id).cloned();
        found.ok_or(ScheduleError::NotFound)
    }

    /// Looks at timers, for ever.
    async fn keep_time(&self) {
        let mut stopping = self.shared.is_stopping.subscribe();
        loop {
            self.tick();
            tokio::select! {
                () = self.shared.timers.wait(self.now(), TICK_MS) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    /// Has a schedule take a turn soon.
    fn schedule(&self, opened: &Arc<Opened>) {
        if !opened.schedule() {
            return;
        }
        let (all, opened) = (self.clone(), Arc::clone(opened));
        tokio::spawn(async move {
            let Ok(_permit) = all.shared.turns.acquire().await else {
                return;
            };
            // A stop leaves what is due to the next start.
            if !*all.shared.is_stopping.borrow() {
                all.take_turn(&opened).await;
            }
        });
    }
}
