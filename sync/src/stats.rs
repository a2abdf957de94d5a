//! What the mirror counts. `page.rs` shows it, and `routes.rs` what belongs to single routes.

mod page;
mod routes;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tailwater_process::Usage;

use crate::mirror::Lag;
use crate::route::{Route, Routes};

pub use routes::RouteStats;

/// Upper bounds of the time from an event's append to its commit, in milliseconds.
const DELAYS_MS: [u64; 13] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 600_000,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// What it is from now on.
    pub fn show(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What goes on with one of the two servers that the mirror talks to.
#[derive(Debug, Default)]
pub struct Side {
    /// Requests or transactions that are made again because they failed.
    pub retries: Count,
    /// Times that it was well again after it had not been.
    pub reconnections: Count,
    is_failing: AtomicBool,
    has_answered: AtomicBool,
}

impl Side {
    /// It has done what it was asked.
    pub fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        if self.is_failing.swap(false, Ordering::Relaxed) {
            self.reconnections.add(1);
        }
    }

    /// It has not, and will be asked again.
    pub fn failed(&self) {
        self.retries.add(1);
        self.is_failing.store(true, Ordering::Relaxed);
    }

    /// Whether it did what it was asked last.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed) && !self.is_failing.load(Ordering::Relaxed)
    }
}

/// What the mirror looked like a moment ago.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Streams that are mirrored.
    pub streams: usize,
    /// How far they are behind the source.
    pub lag: Lag,
    /// How far the streams of each route are.
    pub lag_of_routes: Vec<Lag>,
    /// What is read and not written.
    pub buffered_bytes: usize,
    /// How much that may be.
    pub buffered_bytes_max: usize,
    /// Reads under way.
    pub reads: usize,
    /// How many there may be.
    pub reads_max: usize,
    /// Streams that could be read and wait for a read to end.
    pub ready_streams: usize,
    /// Streams that wait until they are tried again.
    pub waiting_streams: usize,
    /// Deletions and trims at the source that are not done.
    pub chores: usize,
    /// Notes about streams that are not written to PostgreSQL.
    pub notes: usize,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Stats {
    /// Of the feed and the listing of the source. What goes wrong with one stream is none of it.
    pub source: Side,
    /// Of PostgreSQL.
    pub postgres: Side,
    /// Whether all streams of the source are known.
    pub is_listed: AtomicBool,
    /// Instances that share the streams.
    pub instances: Level,
    /// Partitions that this one holds.
    pub partitions: Level,
    /// Whether it holds none, and should hold some.
    pub is_idle: AtomicBool,
    /// Leases taken.
    pub leases_taken: Count,
    /// Leases that were lost because they had not been renewed in time.
    pub leases_lost: Count,
    /// Tries to renew, take or give up leases that failed.
    pub lease_retries: Count,
    /// Chunks that were not written because their lease was lost.
    pub fenced: Count,
    /// Reads of single streams that failed.
    pub read_retries: Count,
    /// Deletions and trims at the source that failed.
    pub upkeep_retries: Count,
    /// Chunks that could not be written.
    pub write_failures: Count,
    /// Panics of what answers on the port of metrics.
    pub metrics_port_panics: Count,
    /// Rows committed.
    pub rows: Count,
    /// Bytes of payloads that were read.
    pub read_bytes: Count,
    /// Events that were read.
    pub read_events: Count,
    /// Events that could not be rows.
    pub dead_letters: Count,
    /// Transactions with rows.
    pub commits: Count,
    /// Time that these took, in microseconds.
    pub commit_us: Count,
    /// Chunks that were not written because the mirror stood elsewhere in their streams.
    pub moved: Count,
    /// Times that a stream had been trimmed before it was read.
    pub gaps: Count,
    /// Streams deleted at the source once they were mirrored.
    pub deletions: Count,
    /// Trims at the source.
    pub trims: Count,
    /// In the order of the routes.
    pub routes: Vec<RouteStats>,
    delays: [Count; DELAYS_MS.len()],
    delays_above: Count,
    delays_sum_ms: Count,
    snapshot: Mutex<Snapshot>,
    process: Usage,
}

impl Stats {
    /// Nothing is counted yet.
    #[must_use]
    pub fn of(routes: &Routes) -> Self {
        let of_route = |route: &Route| RouteStats {
            name: route.name.clone(),
            ..RouteStats::default()
        };
        Self {
            routes: routes.iter().map(of_route).collect(),
            ..Self::default()
        }
    }

    /// Whether both servers do what they are asked, it is known which streams there are, and some of them are this
    /// instance's, unless there are more instances than partitions.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
            && self.source.is_well()
            && self.postgres.is_well()
            && !self.is_idle.load(Ordering::Relaxed)
    }

    /// So many events were committed this long after their append, by the clocks of both machines.
    pub fn delayed(&self, delay_ms: u64, events: u64) {
        let at = DELAYS_MS.iter().position(|bound| delay_ms <= *bound);
        at.map_or(&self.delays_above, |at| &self.delays[at]).add(events);
        self.delays_sum_ms.add(delay_ms.saturating_mul(events));
    }

    /// Shows what the mirror looks like now.
    pub fn show(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    /// What it looked like a moment ago.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_well_once_it_has_answered_and_until_it_fails() {
        let side = Side::default();
        assert!(!side.is_well(), "nothing is known of it");
        side.answered();
        assert!(side.is_well());
        side.failed();
        side.failed();
        assert!(!side.is_well());
        side.answered();
        assert!(side.is_well());
        assert_eq!((side.retries.get(), side.reconnections.get()), (2, 1));
    }

    #[test]
    fn delays_are_counted_where_they_belong() {
        let stats = Stats::default();
        stats.delayed(10, 2);
        stats.delayed(11, 1);
        stats.delayed(700_000, 1);
        let text = stats.render();
        for line in [
            "tailwater_sync_delay_seconds_bucket{le=\"0.01\"} 2",
            "tailwater_sync_delay_seconds_bucket{le=\"0.02\"} 3",
            "tailwater_sync_delay_seconds_bucket{le=\"600\"} 3",
            "tailwater_sync_delay_seconds_bucket{le=\"+Inf\"} 4",
            "tailwater_sync_delay_seconds_sum 700.031",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
