//! Lifetimes: sliding (`Stream-TTL`) and absolute (`Stream-Expires-At`) (PROTOCOL.md §5.1).

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time `millis` later; the last one there is, if that is beyond it.
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`; 0 if it is not earlier.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How long a stream lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// Until it is deleted.
    #[default]
    Forever,
    /// Until nobody has read or written it for so many seconds.
    Ttl {
        /// The length of the window.
        seconds: u64,
    },
    /// Until a fixed time.
    Until {
        /// The time at which it is gone.
        at: Timestamp,
    },
}

impl Lifetime {
    /// When a stream that was last used at `touched` expires; none if it does not.
    pub fn deadline(self, touched: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Forever => None,
            Self::Ttl { .. } => Some(touched.plus_millis(self.window_ms())),
            Self::Until { at } => Some(at),
        }
    }

    /// Whether a stream that was last used at `touched` has expired by `now`.
    pub fn is_over(self, touched: Timestamp, now: Timestamp) -> bool {
        self.deadline(touched).is_some_and(|deadline| now >= deadline)
    }

    /// Whether a use at `now` is so much later than the last recorded one that it must be recorded: a 16th of
    /// the window. Uses in between are known only until the stream leaves memory.
    pub fn wants_touch(self, recorded: Timestamp, now: Timestamp) -> bool {
        matches!(self, Self::Ttl { .. }) && now.millis_since(recorded) > self.window_ms() / 16
    }

    /// The last use to assume of a stream that was just loaded: an 8th of the window after the recorded one,
    /// so that uses which were not recorded end it late and never early.
    pub fn touched_at_load(self, recorded: Timestamp) -> Timestamp {
        recorded.plus_millis(self.window_ms() / 8)
    }

    fn window_ms(self) -> u64 {
        match self {
            Self::Ttl { seconds } => seconds.saturating_mul(1000),
            Self::Forever | Self::Until { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_ttl_slides_and_a_fixed_time_does_not() {
        let ttl = Lifetime::Ttl { seconds: 10 };
        assert!(!ttl.is_over(ms(1_000), ms(10_999)) && ttl.is_over(ms(1_000), ms(11_000)));
        assert!(!ttl.is_over(ms(5_000), ms(11_000)));
        let fixed = Lifetime::Until { at: ms(500) };
        assert!(!fixed.is_over(ms(499), ms(499)) && fixed.is_over(ms(499), ms(500)));
        assert!(!Lifetime::Forever.is_over(ms(0), ms(u64::MAX)));
        assert!(Lifetime::Ttl { seconds: 0 }.is_over(ms(7), ms(7)));
    }

    /// A TTL near the greatest number made a peer's clock arithmetic panic.
    #[test]
    fn a_huge_ttl_never_ends_and_never_overflows() {
        let ttl = Lifetime::Ttl { seconds: u64::MAX };
        assert!(!ttl.is_over(ms(u64::MAX - 1), ms(u64::MAX - 1)));
        assert!(!ttl.wants_touch(ms(0), ms(1_000_000)));
        assert_eq!(ttl.touched_at_load(ms(9)), ms(9 + u64::MAX / 8));
    }

    #[test]
    fn unrecorded_uses_end_a_stream_late_and_never_early() {
        let ttl = Lifetime::Ttl { seconds: 16 };
        assert!(!ttl.wants_touch(ms(0), ms(1_000)) && ttl.wants_touch(ms(0), ms(1_001)));
        // The last use that may have gone unrecorded is at 1,000; after a load the assumed one is not before it.
        assert!(ttl.touched_at_load(ms(0)) >= ms(1_000));
    }
}
