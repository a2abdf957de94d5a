//! What the engine counts and measures: plain atomics, read by whoever shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::panics::TaskPanics;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of observations up to each of `N` bounds, and one more for those above.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: [u64; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram with these ascending, inclusive upper bounds.
    pub const fn new(bounds: [u64; N]) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one observation.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        bucket
            .map_or(&self.above, |bucket| &self.counts[bucket])
            .fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Pairs of upper bound and count of observations between it and the bound before.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        self.bounds.iter().copied().zip(counts)
    }

    /// Observations above the last bound.
    pub fn above(&self) -> u64 {
        self.above.load(Ordering::Relaxed)
    }

    /// The sum of all observations.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// What an engine has done since it started.
#[derive(Debug)]
pub struct EngineStats {
    /// Streams created.
    pub creates: Counter,
    /// Appends accepted, closes included.
    pub appends: Counter,
    /// Bytes added by them.
    pub append_bytes: Counter,
    /// Messages added by them.
    pub append_messages: Counter,
    /// Requests of idempotent producers that had been accepted before.
    pub duplicates: Counter,
    /// Streams deleted by clients.
    pub deletes: Counter,
    /// Streams that reached the end of their lifetime.
    pub expirations: Counter,
    /// Streams loaded from the backend.
    pub loads: Counter,
    /// Streams put out of memory because nobody used them.
    pub evictions: Counter,
    /// CPU time of reads off the runtime, in nanoseconds. What they waited for disks is no part of it.
    pub slow_read_nanos: Counter,
    /// Records in one commit.
    pub batch_records: Histogram<10>,
    /// Duration of one commit, in microseconds.
    pub commit_micros: Histogram<14>,
    /// Panics of what is watched: tasks of the engine, and of all that stands on it.
    pub panics: Arc<TaskPanics>,
    #[cfg(feature = "watched-commits")]
    pub(crate) watcher: crate::watched_commits::Watcher,
}

impl Default for EngineStats {
    fn default() -> Self {
        Self {
            creates: Counter::default(),
            appends: Counter::default(),
            append_bytes: Counter::default(),
            append_messages: Counter::default(),
            duplicates: Counter::default(),
            deletes: Counter::default(),
            expirations: Counter::default(),
            loads: Counter::default(),
            evictions: Counter::default(),
            slow_read_nanos: Counter::default(),
            batch_records: Histogram::new([1, 2, 4, 8, 16, 32, 64, 128, 256, 1024]),
            commit_micros: Histogram::new([
                1, 2, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000,
            ]),
            panics: Arc::default(),
            #[cfg(feature = "watched-commits")]
            watcher: crate::watched_commits::Watcher::default(),
        }
    }
}

impl EngineStats {
    pub(crate) fn observe_commit(&self, records: usize, duration: Duration) {
        self.batch_records.observe(records as u64);
        self.commit_micros
            .observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Has each commit told of from now on. The first who asks for it is told.
    #[cfg(feature = "watched-commits")]
    pub fn watch_commits(&self, watcher: impl crate::watched_commits::WatchCommits + 'static) {
        self.watcher.set(watcher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new([1, 10]);
        for value in [0, 1, 2, 10, 11] {
            histogram.observe(value);
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(1, 2), (10, 2)]);
        assert_eq!((histogram.above(), histogram.sum()), (1, 24));
    }
}
