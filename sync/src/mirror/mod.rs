//! The mirror at work: streams are found, read in turns, gathered and written. Knows the source and PostgreSQL by what
//! their modules offer, and no HTTP and no SQL.
//!
//! - [`backlog`]: which streams have more than is read, and whose turn it is.
//! - [`balance`]: how instances share the partitions.
//! - [`batch`]: what is read and not written, and when that is enough for a transaction.
//! - [`upkeep`]: what is deleted and trimmed at the source.
//! - `coordinator`: the loop that brings these together.
//! - `discovery`: what the source tells of its streams.
//! - [`keeper`]: the instance's leases, taken, renewed and given up.
//! - `ledger`: the one who talks to PostgreSQL.
//! - `notes`: what is noted there beside places and rows, and how much of it may wait.
//! - `removal`: deletions and trims themselves.
//! - `territory`: which streams are this instance's.

pub mod backlog;
pub mod balance;
pub mod batch;
mod coordinator;
mod discovery;
pub mod keeper;
mod ledger;
mod notes;
mod removal;
mod territory;
pub mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::event::Chunk;
use crate::postgres::Membership;
use crate::settings::SyncConfig;
use crate::source::{Patterns, Source};
use crate::stats::Stats;
use crate::{postgres, source};

use backlog::Reach;
use batch::Enough;
use coordinator::Coordinator;
use keeper::Keeper;
use ledger::Ledger;
use territory::Territory;

pub use backlog::Lag;

/// Deletions and trims that are made at once.
pub const UPKEEP_MAX: usize = 4;
/// Connections to PostgreSQL: one that writes, and one that keeps the leases.
pub const CONNECTIONS: usize = 2;
/// Pages of news that wait for the loop.
const NEWS_MAX: usize = 16;

/// How much the mirror takes on at once, and what it may do at the source.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// When a transaction has enough to do.
    pub enough: Enough,
    /// What is read and not written.
    pub buffer_bytes: usize,
    /// Streams that are read at once.
    pub readers: usize,
    /// Whether closed streams are deleted once they are mirrored.
    pub delete_after_sync: bool,
    /// Whether open streams are trimmed to what is mirrored.
    pub trim_after_sync: bool,
    /// How long the last transaction may take.
    pub shutdown_timeout: Duration,
}

/// Why the mirror could not begin. Once it has begun, it waits out whatever happens.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The source will not do.
    #[error("{0}")]
    Source(#[from] source::Error),
    /// The database will not do.
    #[error("{0}")]
    Postgres(#[from] postgres::Error),
}

impl Limits {
    /// As they are configured.
    #[must_use]
    pub fn of(sync: &SyncConfig) -> Self {
        Self {
            enough: Enough {
                bytes: sync.batch_bytes,
                rows: sync.batch_rows,
                age: Duration::from_millis(sync.batch_ms),
            },
            buffer_bytes: sync.buffer_bytes,
            readers: sync.readers,
            delete_after_sync: sync.delete_after_sync,
            trim_after_sync: sync.trim_after_sync,
            shutdown_timeout: sync.shutdown_timeout,
        }
    }
}

/// Mirrors until it is told to stop.
///
/// # Errors
/// What keeps it from beginning and does not pass by itself.
pub async fn run(
    source: Source,
    patterns: Patterns,
    postgres: postgres::Settings,
    membership: Membership,
    limits: Limits,
    stats: Arc<Stats>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), MirrorError> {
    let routes = Arc::clone(&postgres.routes);
    let Some(ledger) = Ledger::open(postgres.clone(), Arc::clone(&stats), stop.clone()).await? else {
        return Ok(());
    };
    let keeper = tokio::select! {
        keeper = Keeper::join(postgres, membership, Arc::clone(&stats)) => keeper?,
        _ = stop.wait_for(|stops| *stops) => return Ok(()),
    };
    let territory = Territory::new(keeper.holdings());
    let (leave, leaves) = watch::channel(false);
    // Whatever else this process is busy with, its leases are renewed in time.
    let mut keeping = tokio::spawn(keeper.keep(territory.finished(), leaves));
    let (news, heard) = mpsc::channel(NEWS_MAX);
    let wanted = territory.wanted();
    let discovery = discovery::discover(source.clone(), patterns.clone(), news, wanted, Arc::clone(&stats));
    let coordinator = Coordinator::new(source, patterns, ledger, territory, routes, limits, stats);
    let ended = tokio::select! {
        () = coordinator.run(heard, stop) => Ok(()),
        ended = discovery => match ended {
            Err(error) => Err(error.into()),
        },
        ended = &mut keeping => unreachable!("it keeps the leases until it is told to leave: {ended:?}"),
    };
    // Nothing is on its way any more, so others may go on where this instance stands.
    leave.send_replace(true);
    keeping.await.expect("whoever gives the leases up does not panic");
    ended
}

/// How far a chunk goes.
fn reach(chunk: &Chunk) -> Reach {
    Reach {
        next: chunk.next,
        events: chunk.events.last().map_or(0, |event| event.index + 1),
        closed: chunk.closed,
    }
}
