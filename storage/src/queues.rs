//! The runtime of job queues: holds all of them, looks at the messages of their streams, gives jobs to workers, and ends
//! what is overdue. What may happen is decided by the rules in `tailwater-stream`; what is decided becomes one record over
//! the queue's stream, its runs and its dead letters. Knows nothing of HTTP.
//!
//! Only jobs that have left the order of the stream are in memory, and a bounded number of those that are next.
//!
//! | file | what stands there |
//! |---|---|
//! | `opened.rs` | a queue, and whose turn it is |
//! | `turns.rs` | what is done in a turn: decide, record, wait, answer |
//! | `beside.rs` | what is decided while records are on their way |
//! | `pending.rs` | what is said once records are durable |
//! | `record.rs`, `drafting.rs` | changes become a record over several streams |
//! | `admit.rs`, `enqueue.rs`, `backlog.rs` | messages become jobs |
//! | `workers.rs` | claims, heartbeats, and the ends of leases |
//! | `manage.rs` | queues are made, changed and paused |
//! | `purge.rs` | jobs are called off, and queues deleted |
//! | `dead.rs`, `letters.rs`, `retry.rs` | dead letters, and runs that are tried anew |
//! | `agreement.rs` | jobs follow runs that an import has parted from them |
//! | `runs.rs`, `show.rs`, `rates.rs` | what is told of runs and queues |
//! | `upkeep.rs` | what is no longer needed goes |
//! | `recovery.rs` | what a start finds |
//! | `codec.rs` | what is stored |

mod admit;
mod agreement;
mod backlog;
mod beside;
mod codec;
mod dead;
mod drafting;
mod enqueue;
mod error;
mod letters;
mod manage;
mod opened;
mod pending;
mod purge;
mod rates;
mod record;
mod recovery;
mod retry;
mod runs;
mod show;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;
mod turns;
mod upkeep;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use tailwater_stream::{NameLimits, QueueConfig, StreamName};
use tokio::sync::{oneshot, watch};

use crate::engine::Engine;
use crate::stats::Counter;
use crate::sync::Mutex;
use opened::{Answer, Command, Opened};

pub(crate) use codec::{check_stored, is_of_queue};
pub use dead::{DeadJob, Redriven};
pub use error::{QueueError, UnfitStream};
pub use manage::Made;
pub use opened::Enqueued;
pub use purge::PurgeWhat;
pub use rates::RatesNow;
pub use retry::RetryFrom;
pub use runs::ShownRun;
pub use show::{Described, Gauges};
pub use workers::Claimed;

/// Clocks are looked at this often at the least, if anything may become due by them.
const TICK_MS: u64 = 1_000;

/// The limits on queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Queues.
    pub queues_max: usize,
    /// Jobs of one queue that are passed over because their concurrency key holds them back.
    pub held_jobs_max: usize,
    /// The longest lease that a queue may give.
    pub lease_ms_max: u64,
    /// How long names may be.
    pub names: NameLimits,
}

/// All queues of an engine. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Queues {
    shared: Arc<Shared>,
}

/// What the runtime has done so far.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Heartbeats and ends of leases of workers that were fenced off.
    pub fenced: Counter,
    /// Ended runs that were deleted because their time was over.
    pub deleted_runs: Counter,
}

/// Names that belong to a queue.
struct TakenNames {
    /// What those of its runs begin with.
    run_prefix: Box<str>,
    /// That of its dead letters, which other queues may have, too.
    dead_letter: StreamName,
}

impl TakenNames {
    fn of(config: &QueueConfig) -> Self {
        Self {
            run_prefix: config.run_prefix.clone(),
            dead_letter: config.dead_letter.clone(),
        }
    }
}

struct Shared {
    engine: Engine,
    limits: QueueLimits,
    stats: QueueStats,
    all: Mutex<BTreeMap<StreamName, Arc<Opened>>>,
    /// Which names each queue has taken.
    names: Mutex<BTreeMap<StreamName, TakenNames>>,
    is_stopping: watch::Sender<bool>,
}

impl Queues {
    /// Loads all queues. Call it within the runtime.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn start(engine: Engine, limits: QueueLimits) -> Result<Self, QueueError> {
        let all = Self {
            shared: Arc::new(Shared {
                engine,
                limits,
                stats: QueueStats::default(),
                all: Mutex::default(),
                names: Mutex::default(),
                is_stopping: watch::Sender::new(false),
            }),
        };
        all.load_all().await?;
        Ok(all)
    }

    /// Does nothing more by itself. Whoever waits for jobs is told that there are none.
    pub fn stop(&self) {
        self.shared.is_stopping.send_replace(true);
        for opened in std::mem::take(&mut *self.shared.all.lock()).into_values() {
            opened.set_gone();
        }
    }

    /// What has been done so far.
    pub fn stats(&self) -> &QueueStats {
        &self.shared.stats
    }

    /// How many queues there are.
    pub fn count(&self) -> usize {
        self.shared.all.lock().len()
    }

    /// Whether a stream is a queue, also one that an import has brought and that nobody has asked for yet.
    ///
    /// # Errors
    /// If the storage cannot be read.
    pub async fn is_queue(&self, stream: &StreamName) -> Result<bool, QueueError> {
        if self.shared.all.lock().contains_key(stream) {
            return Ok(true);
        }
        let engine = &self.shared.engine;
        match engine.look(stream).await.map_err(QueueError::from) {
            Ok(reader) => {
                let config = engine.control(reader.incarnation().id, codec::CONFIG_KEY).await?;
                Ok(config.is_some())
            }
            Err(QueueError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has every queue look at the engine's clocks. Happens by itself with clocks that run.
    pub fn tick(&self) {
        for opened in self.shared.all.lock().values() {
            opened.bell.notify_one();
        }
    }

    fn names(&self) -> NameLimits {
        self.shared.limits.names
    }

    async fn find(&self, queue: &StreamName) -> Result<Arc<Opened>, QueueError> {
        let known = self.shared.all.lock().get(queue).cloned();
        match known {
            Some(opened) => Ok(opened),
            None if self.is_stopping() => Err(QueueError::Stopping),
            None => self.open_imported(queue).await,
        }
    }

    /// Asks a queue something in its next turn.
    async fn ask<T>(
        &self,
        opened: &Opened,
        command: impl FnOnce(Answer<T>) -> Command,
    ) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        opened.send(command(answer));
        // A queue that is gone drops what it was asked, and so does a turn that panics.
        answered.await.unwrap_or_else(|_dropped| {
            Err(if self.is_stopping() {
                QueueError::Stopping
            } else if opened.is_gone() {
                QueueError::NotFound
            } else {
                QueueError::Interrupted
            })
        })
    }

    fn is_stopping(&self) -> bool {
        *self.shared.is_stopping.borrow()
    }
}
