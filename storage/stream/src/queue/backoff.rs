//! When a job that failed is tried again.

/// How long to wait between the attempts of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first attempt; twice as long after each further one.
    pub base_ms: u64,
    /// At the most. Never less than `base_ms`.
    pub cap_ms: u64,
    /// How much of the wait is left to chance, in thousandths: 0 is none of it, 1000 all of it.
    pub jitter_permille: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base_ms: 1_000,
            cap_ms: 600_000,
            jitter_permille: 500,
        }
    }
}

impl Backoff {
    /// All of a wait.
    pub const PERMILLE_MAX: u32 = 1_000;

    /// How long to wait after the `attempt`-th attempt, from 1. `random` is any number.
    pub fn wait_ms(&self, attempt: u32, random: u64) -> u64 {
        let doublings = attempt.saturating_sub(1).min(40);
        let whole_ms = self.base_ms.saturating_mul(1 << doublings).min(self.cap_ms);
        let left_to_chance_ms =
            u128::from(whole_ms) * u128::from(self.jitter_permille) / u128::from(Self::PERMILLE_MAX);
        let left_to_chance_ms = u64::try_from(left_to_chance_ms).unwrap_or(whole_ms);
        whole_ms - left_to_chance_ms + random % (left_to_chance_ms + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff {
            base_ms: 100,
            cap_ms: 1_500,
            jitter_permille: 0,
        };
        let waits = [1, 2, 3, 4, 5, 99].map(|attempt| backoff.wait_ms(attempt, 7));
        assert_eq!(waits, [100, 200, 400, 800, 1_500, 1_500]);
    }

    proptest! {
        #[test]
        fn chance_takes_at_most_its_part_of_a_wait(
            base_ms in 0..10_000_u64, more_ms in 0..1_000_000_u64, jitter_permille in 0..=1_000_u32,
            attempt in 1..200_u32, random: u64,
        ) {
            let backoff = Backoff { base_ms, cap_ms: base_ms + more_ms, jitter_permille };
            let whole_ms = Backoff { jitter_permille: 0, ..backoff }.wait_ms(attempt, 0);
            let wait_ms = backoff.wait_ms(attempt, random);
            prop_assert!(wait_ms <= whole_ms);
            prop_assert!(u128::from(whole_ms - wait_ms) * 1_000 <= u128::from(whole_ms) * u128::from(jitter_permille));
        }
    }
}
