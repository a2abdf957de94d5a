//! How much of the time reads may take while appends are made, so that reads cannot starve writes.
//!
//! What reads take is measured, and a credit pays for it that grows with time: by so many percent of the time of all
//! threads that serve requests. A read that finds the credit used up waits for its turn, and one that has waited for
//! too long is refused. While nobody appends, reads take what there is and nothing of this holds them up.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tailwater_storage::stats::Counter;
use tokio::sync::{Notify, Semaphore};

/// Appends count as being made for so long after one was seen: between two of a writer there is a moment without any.
const WRITING_FOR: Duration = Duration::from_millis(20);
/// Reads that wait are looked after this often.
const TURN: Duration = Duration::from_millis(1);
/// Credit that quiet readers gather, as time. Reads that come together delay an append by at most about as much.
const CREDIT_MAX: Duration = Duration::from_millis(2);
/// Debt that reads of unlimited times leave to those behind them, as time.
const DEBT_MAX: Duration = Duration::from_millis(20);
/// Of what reads are given, refusals are paid from at most one part in so many. The rest is left to reads that are
/// admitted, however many come again at once when they are refused.
const REFUSALS_PART: u64 = 2;
/// What a read is taken to cost until some have been measured.
const COST_AT_FIRST: Duration = Duration::from_micros(20);
/// A read is never taken to cost less: behind many that cost nothing there may come large ones.
const COST_MIN: Duration = COST_AT_FIRST;
/// Turns that are given at once, for each thread. More large reads would take more than any debt that is remembered.
const TURNS_AT_ONCE: usize = 32;

/// What a [`ReadShare`] is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadShareConfig {
    /// Of the time of all threads, while appends are made. 100 means that nothing is held up.
    pub(crate) percent: u64,
    /// Threads that serve requests.
    pub(crate) threads: usize,
    /// How long a read waits for its turn at most.
    pub(crate) wait_max: Duration,
}

/// The share of reads. All times are from one moment on, in nanoseconds.
#[derive(Debug)]
pub(crate) struct ReadShare {
    config: ReadShareConfig,
    since: Instant,
    /// Time that reads may still take. Below 0 if they took more than they had.
    credit_ns: AtomicI64,
    /// When the credit grew last.
    grown_at_ns: AtomicU64,
    /// Time that refusals took and that is not paid yet. Never more than the debt that reads may leave.
    refusals_ns: AtomicU64,
    /// When an append was last seen, and 1 more than that: 0 means never.
    written_at_ns: AtomicU64,
    /// What a read costs, on average over the last ones.
    cost_ns: AtomicU64,
    waiting: AtomicUsize,
    /// Has a permit for each read whose turn has come.
    turns: Semaphore,
    somebody_waits: Notify,
    delayed: Counter,
    taken_ns: Counter,
}

/// A read was admitted, and paid so much of the credit for what it is going to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entered {
    pub(crate) paid_ns: u64,
}

/// A read has waited for its turn for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoTurn;

impl ReadShare {
    pub(crate) fn new(config: ReadShareConfig) -> Self {
        Self {
            config,
            since: Instant::now(),
            credit_ns: AtomicI64::new(0),
            grown_at_ns: AtomicU64::new(0),
            refusals_ns: AtomicU64::new(0),
            written_at_ns: AtomicU64::new(0),
            cost_ns: AtomicU64::new(nanos(COST_AT_FIRST)),
            waiting: AtomicUsize::new(0),
            turns: Semaphore::new(0),
            somebody_waits: Notify::new(),
            delayed: Counter::default(),
            taken_ns: Counter::default(),
        }
    }

    /// Whether reads are limited at all.
    pub(super) fn is_limited(&self) -> bool {
        self.config.percent < 100
    }

    /// Reads that are waiting for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Reads that had to wait so far.
    pub(crate) fn delayed(&self) -> u64 {
        self.delayed.get()
    }

    /// Time that reads took so far, in nanoseconds. Is 0 if they are not limited: nothing is measured then.
    pub(crate) fn taken_ns(&self) -> u64 {
        self.taken_ns.get()
    }

    /// Admits a read at once if there is nothing to wait for. `is_writing` says whether appends are being made right
    /// now.
    pub(crate) fn try_enter(&self, is_writing: bool) -> Option<Entered> {
        if !self.is_limited() {
            return Some(Entered { paid_ns: 0 });
        }
        self.try_enter_at(is_writing, self.now_ns())
    }

    pub(super) fn try_enter_at(&self, is_writing: bool, now_ns: u64) -> Option<Entered> {
        if !self.is_contended(is_writing, now_ns) {
            return Some(Entered { paid_ns: 0 });
        }
        // Those who wait come first.
        (self.waiting() == 0 && self.has_credit(now_ns)).then(|| self.pay())
    }

    /// Admits a read when its turn has come.
    ///
    /// # Errors
    /// [`NoTurn`] if that has taken too long.
    pub(crate) async fn wait(&self) -> Result<Entered, NoTurn> {
        self.delayed.add(1);
        let _waiting = Waiting::begin(self);
        match tokio::time::timeout(self.config.wait_max, self.turns.acquire()).await {
            Ok(turn) => {
                turn.expect("it is never closed").forget();
                // It was paid for when the turn was given.
                Ok(Entered {
                    paid_ns: self.cost_ns.load(Ordering::Relaxed),
                })
            }
            Err(_elapsed) => Err(NoTurn),
        }
    }

    /// Takes note of what reads took, instead of what they have paid.
    pub(crate) fn settle(&self, entered: Entered, took: Duration) {
        if self.is_limited() {
            self.settle_at(entered, nanos(took), self.now_ns());
        }
    }

    /// Takes back that a read was admitted: it is not made.
    pub(crate) fn give_back(&self, entered: Entered) {
        if entered.paid_ns > 0 {
            self.change_credit(signed(entered.paid_ns));
        }
    }

    /// Takes note of what a read took beside its connection, on another thread.
    pub(crate) fn settle_beside(&self, took: Duration) {
        if self.is_limited() {
            self.settle_beside_at(nanos(took), self.now_ns());
        }
    }

    pub(super) fn settle_beside_at(&self, took_ns: u64, now_ns: u64) {
        self.taken_ns.add(took_ns);
        if self.is_contended(false, now_ns) {
            // It is a part of what a read costs, whose rest is settled by its connection.
            let cost_ns = self.cost_ns.load(Ordering::Relaxed).saturating_add(took_ns / 16);
            self.cost_ns
                .store(cost_ns.min(nanos(DEBT_MAX)), Ordering::Relaxed);
            self.change_credit(-signed(took_ns));
        }
    }

    pub(super) fn settle_at(&self, entered: Entered, took_ns: u64, now_ns: u64) {
        self.taken_ns.add(took_ns);
        if entered.paid_ns > 0 {
            // The next ones are taken to cost what the last ones did: an average that forgets.
            let cost_ns = self.cost_ns.load(Ordering::Relaxed);
            let next_ns = cost_ns - cost_ns / 16 + took_ns / 16;
            self.cost_ns
                .store(next_ns.max(nanos(COST_MIN)), Ordering::Relaxed);
        }
        if self.is_contended(false, now_ns) {
            self.change_credit(signed(entered.paid_ns) - signed(took_ns));
        }
    }

    /// Takes note of what it took to refuse a read. It is paid from a part of what reads are given from now on.
    pub(super) fn settle_refusal_at(&self, took_ns: u64, now_ns: u64) {
        self.taken_ns.add(took_ns);
        if self.is_contended(false, now_ns) {
            let max_ns = self.debt_max_ns();
            let noted = self
                .refusals_ns
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |refusals_ns| {
                    Some(refusals_ns.saturating_add(took_ns).min(max_ns))
                });
            debug_assert!(noted.is_ok(), "there is always a next value");
        }
    }

    /// Gives turns to reads that wait, for ever. `is_writing` says whether appends are being made right now.
    pub(crate) async fn give_turns(&self, is_writing: impl Fn() -> bool) {
        loop {
            self.somebody_waits.notified().await;
            while self.waiting() > 0 {
                self.give_turns_once(is_writing(), self.now_ns());
                tokio::time::sleep(TURN).await;
            }
        }
    }

    fn give_turns_once(&self, is_writing: bool, now_ns: u64) {
        let cost_ns = self.cost_ns.load(Ordering::Relaxed);
        // Turns that were given to reads whose clients have gone away.
        let unused = self.turns.forget_permits(usize::MAX);
        self.change_credit(signed(cost_ns.saturating_mul(unused as u64)));
        let waiting = self.waiting();
        let turns = if !self.is_contended(is_writing, now_ns) {
            waiting
        } else if self.has_credit(now_ns) {
            let credit_ns = u64::try_from(self.credit_ns.load(Ordering::Relaxed)).unwrap_or(0);
            let affordable = usize::try_from(credit_ns.div_ceil(cost_ns)).unwrap_or(usize::MAX);
            affordable.min(waiting).min(TURNS_AT_ONCE * self.config.threads)
        } else {
            0
        };
        self.change_credit(-signed(cost_ns.saturating_mul(turns as u64)));
        self.turns.add_permits(turns);
    }

    /// Whether appends are being made, or were a moment ago.
    fn is_contended(&self, is_writing: bool, now_ns: u64) -> bool {
        if is_writing {
            self.written_at_ns.store(now_ns + 1, Ordering::Relaxed);
            return true;
        }
        let written_at_ns = self.written_at_ns.load(Ordering::Relaxed);
        written_at_ns > 0 && now_ns.saturating_sub(written_at_ns) < nanos(WRITING_FOR)
    }

    /// Whether reads have any time left, with what they were given since this was last asked.
    fn has_credit(&self, now_ns: u64) -> bool {
        let grown_at_ns = self.grown_at_ns.load(Ordering::Relaxed);
        let for_ns = now_ns.saturating_sub(grown_at_ns);
        let grown = self.grown_at_ns.compare_exchange(
            grown_at_ns,
            now_ns.max(grown_at_ns),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if grown.is_ok() {
            let share = self.config.percent * self.config.threads as u64;
            let given_ns = (for_ns / 100).saturating_mul(share);
            let for_refusals_ns = self.pay_refusals(given_ns / REFUSALS_PART);
            self.change_credit(signed(given_ns - for_refusals_ns));
        }
        self.credit_ns.load(Ordering::Relaxed) > 0
    }

    /// Pays for refusals, but no more than `most_ns`, and says how much that was.
    fn pay_refusals(&self, most_ns: u64) -> u64 {
        let unpaid = self
            .refusals_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |unpaid_ns| {
                (unpaid_ns > 0).then(|| unpaid_ns.saturating_sub(most_ns))
            });
        unpaid.map_or(0, |unpaid_ns| unpaid_ns.min(most_ns))
    }

    fn pay(&self) -> Entered {
        let paid_ns = self.cost_ns.load(Ordering::Relaxed);
        self.change_credit(-signed(paid_ns));
        Entered { paid_ns }
    }

    /// Adds to the credit, and keeps it within its bounds.
    fn change_credit(&self, change_ns: i64) {
        let max_ns = signed(nanos(CREDIT_MAX).saturating_mul(self.config.threads as u64));
        let min_ns = -signed(self.debt_max_ns());
        let changed = self
            .credit_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit_ns| {
                Some(credit_ns.saturating_add(change_ns).clamp(min_ns, max_ns))
            });
        debug_assert!(changed.is_ok(), "there is always a next value");
    }

    fn debt_max_ns(&self) -> u64 {
        nanos(DEBT_MAX).saturating_mul(self.config.threads as u64)
    }

    pub(super) fn now_ns(&self) -> u64 {
        nanos(self.since.elapsed())
    }

    /// Time that reads may still take.
    #[cfg(test)]
    pub(super) fn credit_ns(&self) -> i64 {
        self.credit_ns.load(Ordering::Relaxed)
    }

    /// Time that refusals took and that is not paid yet.
    #[cfg(test)]
    pub(super) fn refusals_ns(&self) -> u64 {
        self.refusals_ns.load(Ordering::Relaxed)
    }

    /// What a read is taken to cost by now.
    #[cfg(test)]
    pub(crate) fn cost_ns(&self) -> u64 {
        self.cost_ns.load(Ordering::Relaxed)
    }
}

/// Counts a read that waits, until it is dropped.
struct Waiting<'a>(&'a ReadShare);

impl<'a> Waiting<'a> {
    fn begin(share: &'a ReadShare) -> Self {
        if share.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            share.somebody_waits.notify_one();
        }
        Self(share)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
