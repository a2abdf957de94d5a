//! How many jobs a queue has dealt with of late: counters, as they were at some moments of the last minute.

use std::collections::VecDeque;

use tailwater_stream::queue::Counters;

/// How far back rates look.
const WINDOW_MS: u64 = 60_000;
/// Moments are at least so far apart.
const STEP_MS: u64 = 1_000;

/// Jobs for each second, over the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RatesNow {
    /// Jobs that were admitted.
    pub enqueued: f64,
    /// Leases that were given.
    pub claimed: f64,
    /// Runs that succeeded.
    pub succeeded: f64,
    /// Attempts that came to nothing: failed, lost or given up.
    pub failed: f64,
}

/// Counters, as they were at some moments.
#[derive(Debug, Default)]
pub(super) struct Rates {
    moments: VecDeque<(u64, Counters)>,
}

impl Rates {
    /// Notes counters before they change.
    pub(super) fn note(&mut self, now_ms: u64, counters: Counters) {
        if let Some((at_ms, known)) = self.moments.back().copied() {
            if now_ms < at_ms + STEP_MS {
                return;
            }
            // A later change would have been noted.
            if known != counters && now_ms > at_ms + STEP_MS {
                self.moments.push_back((at_ms + STEP_MS, counters));
            }
        }
        self.moments.push_back((now_ms, counters));
        // One that is older tells how they were when the window began.
        while self
            .moments
            .get(1)
            .is_some_and(|(at_ms, _)| at_ms + WINDOW_MS <= now_ms)
        {
            self.moments.pop_front();
        }
    }

    pub(super) fn now(&mut self, now_ms: u64, counters: Counters) -> RatesNow {
        self.note(now_ms, counters);
        let before = self
            .moments
            .iter()
            .rev()
            .find(|(at_ms, _)| at_ms + WINDOW_MS <= now_ms);
        let Some((at_ms, before)) = before.or(self.moments.front()) else {
            return RatesNow::default();
        };
        let elapsed_ms = (now_ms - at_ms).clamp(STEP_MS, WINDOW_MS);
        let seconds = std::time::Duration::from_millis(elapsed_ms).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "rates are rounded")]
        let rate = |now: u64, before: u64| {
            // What was counted and not stored is taken back.
            (now.saturating_sub(before) as f64 / seconds * 1_000.0).round() / 1_000.0
        };
        let failed = |counters: &Counters| counters.failed + counters.leases_lost + counters.dead;
        RatesNow {
            enqueued: rate(counters.enqueued, before.enqueued),
            claimed: rate(counters.claimed, before.claimed),
            succeeded: rate(counters.succeeded, before.succeeded),
            failed: rate(failed(&counters), failed(before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(enqueued: u64) -> Counters {
        Counters {
            enqueued,
            ..Counters::default()
        }
    }

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let mut rates = Rates::default();
        rates.note(0, counted(0));
        assert!((rates.now(10_000, counted(20)).enqueued - 2.0).abs() < 1e-9);
        rates.note(10_000, counted(20));
        rates.note(10_500, counted(30));
        assert!(
            (rates.now(70_000, counted(80)).enqueued - 1.0).abs() < 1e-9,
            "20 were before"
        );
        rates.note(200_000, counted(80));
        assert!(rates.now(200_000, counted(80)).enqueued.abs() < 1e-9);
        assert!(rates.moments.len() <= 3);
    }

    /// A queue that was loaded anew without space had counted more before.
    #[test]
    fn counters_that_go_back_are_no_rate() {
        let mut rates = Rates::default();
        rates.note(0, counted(5));
        assert!(rates.now(10_000, counted(3)).enqueued.abs() < 1e-9);
    }
}
