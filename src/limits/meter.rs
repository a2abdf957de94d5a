//! Measures what is done for one request after the other, as on a connection of HTTP/1.1, or for one request alone, and
//! has it paid for if that is a read. Knows nothing of HTTP.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::read_share::{Entered, ReadShare};

/// What a read takes until it has to wait for its turn counts as a part of its refusal if it is refused, up to this: a
/// head is read, and no more. The rest was done for the read before it.
const ASKING_NS_MAX: u64 = 200_000;

/// What some work is done for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Work {
    /// Anything but a read, or nothing.
    Other,
    /// A read that had nothing to pay when it was admitted.
    FreeRead,
    /// A read that has paid what reads cost on average.
    PaidRead,
    /// A read that waits for its turn.
    Waiting,
    /// A read that is refused.
    Refusal,
}

impl Work {
    pub(super) const ALL: [Self; 5] = [
        Self::Other,
        Self::FreeRead,
        Self::PaidRead,
        Self::Waiting,
        Self::Refusal,
    ];

    fn is_admitted_read(self) -> bool {
        matches!(self, Self::FreeRead | Self::PaidRead)
    }
}

/// Looks at the clock when a read goes on and when it pauses, and in between when work turns from reads to other things or
/// back: each stretch is booked to what was done in it.
///
/// What is read of a request before it is known what it is, which is its head, is booked with the request before it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When the stretch that is being measured began.
    since_ns: AtomicU64,
    /// What it is for: a [`Work`].
    work: AtomicU8,
    /// What reads have paid since that was last settled, in nanoseconds.
    paid_ns: AtomicU64,
    /// What was done for a read that waits, or has waited, and is not booked yet, in nanoseconds.
    asking_ns: AtomicU64,
}

impl Meter {
    /// Does some of the work.
    pub(crate) fn measure<T>(&self, share: &ReadShare, work: impl FnOnce() -> T) -> T {
        self.goes_on(share);
        let done = work();
        self.pauses(share);
        done
    }

    fn goes_on(&self, share: &ReadShare) {
        // Anything else is measured from where it turns to a read, if it does.
        if share.is_limited() && self.work() != Work::Other {
            self.goes_on_at(share.now_ns());
        }
    }

    fn goes_on_at(&self, now_ns: u64) {
        self.since_ns.store(now_ns, Ordering::Relaxed);
    }

    /// From now on the work is that of a read, or it is not.
    pub(crate) fn turns_to(&self, reads: bool, share: &ReadShare) {
        let work = self.work();
        let goes_on = if reads {
            work.is_admitted_read()
        } else {
            work == Work::Other
        };
        // Appends behind appends need not look at the clock.
        if share.is_limited() && !goes_on {
            self.turns_to_at(reads, share, share.now_ns());
        }
    }

    fn turns_to_at(&self, reads: bool, share: &ReadShare, now_ns: u64) {
        self.settle_at(share, now_ns);
        self.goes_on_at(now_ns);
        self.set_work(if reads { Work::FreeRead } else { Work::Other });
    }

    /// The read has to wait for its turn. What it took so far is booked when it is known whether it gets one.
    pub(crate) fn waits(&self, share: &ReadShare) {
        if share.is_limited() {
            self.waits_at(share, share.now_ns());
        }
    }

    fn waits_at(&self, share: &ReadShare, now_ns: u64) {
        let took_ns = self.stretch_ns(now_ns);
        // A payment that is not settled is that of a read before this one, in the same stretch.
        let is_behind_another = self.paid_ns.load(Ordering::Relaxed) > 0;
        let asking_ns = if is_behind_another {
            0
        } else {
            took_ns.min(ASKING_NS_MAX)
        };
        if took_ns > asking_ns {
            self.settle_read(share, took_ns - asking_ns, now_ns);
        }
        self.asking_ns.store(asking_ns, Ordering::Relaxed);
        self.goes_on_at(now_ns);
        self.set_work(Work::Waiting);
    }

    /// The read has been admitted.
    pub(crate) fn is_admitted(&self, entered: Entered) {
        if entered.paid_ns > 0 {
            self.paid_ns.fetch_add(entered.paid_ns, Ordering::Relaxed);
            self.set_work(Work::PaidRead);
        } else if self.work() == Work::Waiting {
            self.set_work(Work::FreeRead);
        }
    }

    /// The read is refused, at once or after it has waited.
    pub(crate) fn is_refused(&self, share: &ReadShare) {
        if self.work().is_admitted_read() {
            self.waits(share);
        }
        if self.work() == Work::Waiting {
            self.set_work(Work::Refusal);
        }
    }

    /// Nobody is there any more whom an answer could be given. A read that was waiting for its turn is no more than a
    /// refusal. May be called only while the work pauses.
    pub(crate) fn is_given_up(&self, share: &ReadShare) {
        if self.work() == Work::Waiting {
            self.set_work(Work::Refusal);
            share.settle_refusal_at(self.with_asking(0), share.now_ns());
        }
    }

    /// What comes from now on is no part of the read. May be called only while the work pauses, when all is settled.
    pub(crate) fn is_over(&self) {
        self.set_work(Work::Other);
    }

    fn pauses(&self, share: &ReadShare) {
        // Appends need not look at the clock.
        if share.is_limited() && self.work() != Work::Other {
            self.settle_at(share, share.now_ns());
        }
    }

    fn settle_at(&self, share: &ReadShare, now_ns: u64) {
        let took_ns = self.stretch_ns(now_ns);
        match self.work() {
            Work::Other => {}
            Work::FreeRead | Work::PaidRead => self.settle_read(share, self.with_asking(took_ns), now_ns),
            Work::Waiting => {
                self.asking_ns.fetch_add(took_ns, Ordering::Relaxed);
            }
            Work::Refusal => share.settle_refusal_at(self.with_asking(took_ns), now_ns),
        }
    }

    fn settle_read(&self, share: &ReadShare, took_ns: u64, now_ns: u64) {
        let paid_ns = self.paid_ns.swap(0, Ordering::Relaxed);
        share.settle_at(Entered { paid_ns }, took_ns, now_ns);
    }

    /// With what was done before the turn came, which is booked with this.
    fn with_asking(&self, took_ns: u64) -> u64 {
        match self.asking_ns.load(Ordering::Relaxed) {
            0 => took_ns,
            asking_ns => {
                self.asking_ns.store(0, Ordering::Relaxed);
                took_ns.saturating_add(asking_ns)
            }
        }
    }

    fn stretch_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.since_ns.load(Ordering::Relaxed))
    }

    /// What the work is for right now.
    pub(crate) fn work(&self) -> Work {
        Work::ALL[usize::from(self.work.load(Ordering::Relaxed))]
    }

    fn set_work(&self, work: Work) {
        self.work.store(work as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
