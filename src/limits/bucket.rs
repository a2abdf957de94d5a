//! A token bucket: so many requests a second, and some at once after a pause. Gets the time as an argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Time in which one token comes. At least 1.
    interval_ns: u64,
    /// Tokens in a full bucket. At least 1.
    pub(crate) burst: u64,
}

impl Rate {
    /// So many tokens a second, and those of `burst_secs` in a full bucket. None for no tokens, which means no limit.
    pub(crate) fn new(per_sec: u64, burst_secs: u64) -> Option<Self> {
        Some(Self {
            interval_ns: 1_000_000_000_u64.checked_div(per_sec)?.max(1),
            burst: per_sec.saturating_mul(burst_secs).max(1),
        })
    }

    fn full_ns(self) -> u64 {
        self.interval_ns.saturating_mul(self.burst)
    }
}

/// Full when it is made. All that is kept is when it would be full again if nothing more were taken.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    full_at_ns: AtomicU64,
}

impl Bucket {
    /// Takes a token, and answers how many whole ones are left.
    ///
    /// # Errors
    /// If there is none: how long it takes until there is one. Nothing is taken then.
    pub(crate) fn take(&self, rate: Rate, now_ns: u64) -> Result<u64, Duration> {
        let mut full_at_ns = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            let missing_ns = full_at_ns.saturating_sub(now_ns).saturating_add(rate.interval_ns);
            let Some(left_ns) = rate.full_ns().checked_sub(missing_ns) else {
                return Err(Duration::from_nanos(missing_ns - rate.full_ns()));
            };
            let taken = self.full_at_ns.compare_exchange_weak(
                full_at_ns,
                now_ns.saturating_add(missing_ns),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Ok(left_ns / rate.interval_ns),
                Err(newer) => full_at_ns = newer,
            }
        }
    }

    /// Whether nothing is missing: a new bucket would be the same.
    pub(crate) fn is_full(&self, now_ns: u64) -> bool {
        self.full_at_ns.load(Ordering::Relaxed) <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Bucket, Rate};

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_full_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let rate = Rate::new(10, 2).expect("a limit");
        let bucket = Bucket::default();
        let lefts: Vec<_> = (0..20)
            .map(|_| bucket.take(rate, SECOND_NS).expect("a token"))
            .collect();
        assert_eq!(lefts, (0..20).rev().collect::<Vec<u64>>());
        assert_eq!(bucket.take(rate, SECOND_NS), Err(Duration::from_millis(100)));
        let later_ns = SECOND_NS + 60_000_000;
        assert_eq!(bucket.take(rate, later_ns), Err(Duration::from_millis(40)));
        assert_eq!(bucket.take(rate, SECOND_NS + 100_000_000), Ok(0));
        assert!(!bucket.is_full(SECOND_NS + 1_900_000_000));
        assert!(bucket.is_full(SECOND_NS + 2_100_000_000));
    }

    #[test]
    fn no_tokens_a_second_are_no_limit() {
        assert_eq!(Rate::new(0, 5), None);
    }

    proptest! {
        /// Whatever comes when, no more is taken than the burst and what has come since; and a refusal tells the very
        /// time at which there is a token.
        #[test]
        fn no_more_is_given_than_rate_and_burst_allow(
            per_sec in 1_u64..5_000,
            burst_secs in 0_u64..4,
            pauses_us in prop::collection::vec(0_u64..20_000, 1..400),
        ) {
            let rate = Rate::new(per_sec, burst_secs).expect("a limit");
            let bucket = Bucket::default();
            let (mut now_ns, mut taken) = (0, 0);
            for pause_us in pauses_us {
                now_ns += pause_us * 1_000;
                match bucket.take(rate, now_ns) {
                    Ok(left) => {
                        taken += 1;
                        prop_assert!(left < rate.burst);
                    }
                    Err(wait) => {
                        let wait_ns = u64::try_from(wait.as_nanos()).expect("short");
                        prop_assert!(wait_ns > 0);
                        prop_assert!(bucket.take(rate, now_ns + wait_ns - 1).is_err());
                        now_ns += wait_ns;
                        prop_assert!(bucket.take(rate, now_ns).is_ok());
                        taken += 1;
                    }
                }
                let come = now_ns / (SECOND_NS / per_sec);
                prop_assert!(taken <= rate.burst + come, "{taken} of {} and {come}", rate.burst);
            }
        }
    }
}
