//! Where the engine's time comes from, so that tests need not wait for it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tailwater_stream::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since the Unix epoch.
    fn now_micros(&self) -> u64;

    /// Milliseconds since some moment before the engine started. Never goes back, and goes on at the same pace when
    /// the other clock is set.
    fn monotonic_ms(&self) -> u64;

    /// Milliseconds since the Unix epoch.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_micros() / 1000)
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_micros(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        static FIRST_ASKED: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(FIRST_ASKED.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    micros: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `millis` since the Unix epoch.
    pub fn at_millis(millis: u64) -> Self {
        Self {
            micros: AtomicU64::new(millis * 1000),
            monotonic_ms: AtomicU64::new(0),
        }
    }

    /// Lets time pass.
    pub fn advance_millis(&self, millis: u64) {
        self.micros.fetch_add(millis * 1000, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the clock to `millis` since the Unix epoch, back or forth, while no time passes.
    pub fn set_millis(&self, millis: u64) {
        self.micros.store(millis * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> u64 {
        self.micros.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_lets_no_time_pass_twice() {
        let clock = ManualClock::at_millis(50_000);
        clock.advance_millis(7);
        clock.set_millis(20_000);
        clock.advance_millis(5);
        assert_eq!((clock.now().as_millis(), clock.monotonic_ms()), (20_005, 12));
    }

    #[test]
    fn the_machine_counts_on_and_not_back() {
        let clock = SystemClock;
        let readings: Vec<_> = (0..1_000).map(|_| clock.monotonic_ms()).collect();
        assert!(readings.is_sorted());
        let started = Instant::now();
        let before = clock.monotonic_ms();
        while clock.monotonic_ms() == before {
            assert!(started.elapsed().as_secs() < 60, "it stands still");
            std::thread::yield_now();
        }
    }
}
