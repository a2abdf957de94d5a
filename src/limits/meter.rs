//! Measures what reads take on one connection, or of one request, and has it paid for. Knows nothing of HTTP.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::read_share::{Entered, ReadShare};

/// Looks at the clock when work goes on and when it pauses, and in between when it turns from reads to other things or
/// back: each stretch is booked to what was done in it.
///
/// What is read of a request before it is known what it is, which is its head, is booked with the request before it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When the stretch that is being measured began.
    since_ns: AtomicU64,
    /// Whether reads take it.
    reads: AtomicBool,
    /// What reads have paid since that was last settled, in nanoseconds.
    paid_ns: AtomicU64,
}

impl Meter {
    /// The work goes on.
    pub(crate) fn goes_on(&self, share: &ReadShare) {
        if share.is_limited() {
            self.goes_on_at(share.now_ns());
        }
    }

    fn goes_on_at(&self, now_ns: u64) {
        self.since_ns.store(now_ns, Ordering::Relaxed);
    }

    /// From now on the work is that of a read, or it is not.
    pub(crate) fn turns_to(&self, reads: bool, share: &ReadShare) {
        // Appends behind appends need not look at the clock.
        if share.is_limited() && reads != self.reads.load(Ordering::Relaxed) {
            self.turns_to_at(reads, share, share.now_ns());
        }
    }

    fn turns_to_at(&self, reads: bool, share: &ReadShare, now_ns: u64) {
        self.settle_at(share, now_ns);
        self.since_ns.store(now_ns, Ordering::Relaxed);
        self.reads.store(reads, Ordering::Relaxed);
    }

    /// A read has been admitted.
    pub(crate) fn has_paid(&self, entered: Entered) {
        if entered.paid_ns > 0 {
            self.paid_ns.fetch_add(entered.paid_ns, Ordering::Relaxed);
        }
    }

    /// All is done that could be done for now.
    pub(crate) fn pauses(&self, share: &ReadShare) {
        if share.is_limited() && self.reads.load(Ordering::Relaxed) {
            self.settle_at(share, share.now_ns());
        }
    }

    fn settle_at(&self, share: &ReadShare, now_ns: u64) {
        if self.reads.load(Ordering::Relaxed) {
            let paid_ns = self.paid_ns.swap(0, Ordering::Relaxed);
            let took_ns = now_ns.saturating_sub(self.since_ns.load(Ordering::Relaxed));
            share.settle_at(Entered { paid_ns }, took_ns, now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Meter;
    use crate::limits::{ReadShare, ReadShareConfig};

    const US: u64 = 1_000;

    /// A share without credit, while an append is made.
    fn share() -> ReadShare {
        let share = ReadShare::new(ReadShareConfig {
            percent: 50,
            threads: 1,
            wait_max: Duration::ZERO,
        });
        assert_eq!(share.try_enter_at(true, 0), None);
        share
    }

    /// One read on each connection, or one behind each preflight, cost nothing while the clock was looked at only if
    /// the request before was a read.
    #[test]
    fn the_first_read_of_a_connection_is_paid_for() {
        let (share, meter) = (share(), Meter::default());
        meter.goes_on_at(10 * US);
        meter.turns_to_at(true, &share, 11 * US);
        meter.settle_at(&share, 211 * US);
        assert_eq!(share.credit_ns(), -200_000);
    }

    #[test]
    fn what_an_append_takes_behind_a_read_is_not_booked_to_reads() {
        let (share, meter) = (share(), Meter::default());
        meter.turns_to_at(true, &share, 0);
        meter.settle_at(&share, 10 * US);
        meter.goes_on_at(100 * US);
        // The head of the append is read, then the append is made.
        meter.turns_to_at(false, &share, 101 * US);
        meter.settle_at(&share, 500 * US);
        assert_eq!(share.credit_ns(), -11_000);
    }

    #[test]
    fn of_what_is_done_in_one_go_each_part_is_booked_to_what_it_was() {
        let (share, meter) = (share(), Meter::default());
        meter.goes_on_at(0);
        for begins_at in [0, 30 * US, 60 * US] {
            meter.turns_to_at(true, &share, begins_at + 10 * US);
            meter.turns_to_at(false, &share, begins_at + 30 * US);
        }
        meter.settle_at(&share, 100 * US);
        assert_eq!(share.credit_ns(), -60_000);
    }

    #[test]
    fn the_clock_itself_is_looked_at_when_a_read_comes_first() {
        let (share, meter) = (share(), Meter::default());
        meter.goes_on(&share);
        meter.turns_to(true, &share);
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_micros(100) {
            std::hint::spin_loop();
        }
        meter.pauses(&share);
        assert!(share.taken_ns() >= 100_000, "{} ns", share.taken_ns());
    }
}
