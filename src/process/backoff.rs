//! How long to wait before trying again. Sleeps itself never, and gets its randomness as an argument.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// A server that asks for more than this gets another try all the same.
const ASKED_MAX: Duration = Duration::from_secs(300);

/// Doubles from 250 ms to 30 s. Each wait is drawn between half and all of that, so that many clients of one
/// server do not come back in step.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: at least what the server `asked` for, within reason. `random` is in
    /// `0.0..1.0`.
    pub fn next(&mut self, random: f64, asked: Option<Duration>) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole
            .mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
            .max(asked.unwrap_or_default().min(ASKED_MAX))
    }

    /// A success: the next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{ASKED_MAX, Backoff, Duration, LONGEST};

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next(1.0, None)).collect();
        assert_eq!(waits[..3], [250, 500, 1000].map(Duration::from_millis));
        assert_eq!(waits[8], LONGEST);
        backoff.reset();
        assert_eq!(backoff.next(0.0, None), Duration::from_millis(125));
    }

    #[test]
    fn any_number_of_failures_waits_at_most_the_longest() {
        let mut backoff = Backoff {
            failures: u32::MAX - 1,
        };
        assert_eq!(backoff.next(0.0, None), LONGEST / 2);
        assert_eq!(backoff.next(1.0, None), LONGEST);
    }

    #[test]
    fn a_server_may_ask_for_a_longer_wait_but_not_for_any() {
        let mut backoff = Backoff::default();
        let asked = Duration::from_secs(7);
        assert_eq!(backoff.next(0.5, Some(asked)), asked);
        assert_eq!(backoff.next(0.5, Some(Duration::MAX)), ASKED_MAX);
        assert!(backoff.next(0.5, Some(Duration::ZERO)) > Duration::ZERO);
    }
}
