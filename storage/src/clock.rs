//! Where the engine's time comes from, so that tests need not wait for it.

use std::time::{SystemTime, UNIX_EPOCH};

use tailwater_stream::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since the Unix epoch.
    fn now_micros(&self) -> u64;

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
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicU64);

impl ManualClock {
    /// A clock that shows `millis` since the Unix epoch.
    pub fn at_millis(millis: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(millis * 1000))
    }

    /// Moves the clock on.
    pub fn advance_millis(&self, millis: u64) {
        self.0
            .fetch_add(millis * 1000, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}
