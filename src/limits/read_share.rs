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

    fn settle_beside_at(&self, took_ns: u64, now_ns: u64) {
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
            self.change_credit(signed((for_ns / 100).saturating_mul(share)));
        }
        self.credit_ns.load(Ordering::Relaxed) > 0
    }

    fn pay(&self) -> Entered {
        let paid_ns = self.cost_ns.load(Ordering::Relaxed);
        self.change_credit(-signed(paid_ns));
        Entered { paid_ns }
    }

    /// Adds to the credit, and keeps it within its bounds.
    fn change_credit(&self, change_ns: i64) {
        let threads = self.config.threads as u64;
        let max_ns = signed(nanos(CREDIT_MAX).saturating_mul(threads));
        let min_ns = -signed(nanos(DEBT_MAX).saturating_mul(threads));
        let changed = self
            .credit_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit_ns| {
                Some(credit_ns.saturating_add(change_ns).clamp(min_ns, max_ns))
            });
        debug_assert!(changed.is_ok(), "there is always a next value");
    }

    pub(super) fn now_ns(&self) -> u64 {
        nanos(self.since.elapsed())
    }

    /// Time that reads may still take.
    #[cfg(test)]
    pub(super) fn credit_ns(&self) -> i64 {
        self.credit_ns.load(Ordering::Relaxed)
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
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{
        COST_AT_FIRST, CREDIT_MAX, Entered, NoTurn, ReadShare, ReadShareConfig, TURN, TURNS_AT_ONCE, nanos,
    };

    const MS: u64 = 1_000_000;

    fn share(percent: u64, threads: usize) -> ReadShare {
        ReadShare::new(ReadShareConfig {
            percent,
            threads,
            wait_max: Duration::from_secs(60),
        })
    }

    /// What reads get of a thread for which there is always a read that wants to begin, in percent.
    fn percent_taken(share: &ReadShare, is_writing: bool, cost_ns: impl Fn(u64) -> u64) -> u64 {
        let end_ns = 4_000 * MS;
        // Not the first moment, before which no time can have passed.
        let (mut now_ns, mut taken_ns, mut reads) = (MS, 0, 0);
        while now_ns < end_ns {
            match share.try_enter_at(is_writing, now_ns) {
                Some(entered) => {
                    let cost_ns = cost_ns(reads);
                    now_ns += cost_ns;
                    taken_ns += cost_ns;
                    share.settle_at(entered, cost_ns, now_ns);
                    reads += 1;
                }
                None => now_ns += MS / 10,
            }
        }
        taken_ns * 100 / end_ns
    }

    #[test]
    fn while_nobody_appends_reads_take_all_there_is() {
        let share = share(33, 1);
        assert!(percent_taken(&share, false, |_| 200_000) >= 99);
        assert_eq!(share.delayed(), 0);
    }

    #[test]
    fn a_share_of_all_time_is_no_limit() {
        let share = share(100, 1);
        for _ in 0..1_000 {
            let entered = share.try_enter(true).expect("nothing to wait for");
            share.settle(entered, Duration::from_secs(1));
        }
    }

    #[test]
    fn reads_are_held_up_for_a_moment_only_after_the_last_append() {
        let share = share(1, 1);
        let entered = share.try_enter_at(true, MS).expect("the credit of a millisecond");
        share.settle_at(entered, 1_000 * MS, MS);
        assert_eq!(
            share.try_enter_at(false, 15 * MS),
            None,
            "the debt is still there"
        );
        assert!(share.try_enter_at(false, 22 * MS).is_some());
        assert_eq!(share.try_enter_at(false, 22 * MS), Some(Entered { paid_ns: 0 }));
    }

    /// Compressing on other threads took five times the share of reads, as only connections were looked at.
    #[test]
    fn what_a_read_takes_beside_its_connection_is_paid_for() {
        let share = share(50, 1);
        let entered = share.try_enter_at(true, MS).expect("the credit of a millisecond");
        share.settle_at(entered, 10_000, MS);
        let before_ns = (share.credit_ns(), share.taken_ns());
        share.settle_beside_at(4 * MS, MS);
        let now_ns = (share.credit_ns() + 4_000_000, share.taken_ns() - 4 * MS);
        assert_eq!(before_ns, now_ns);
        assert_eq!(share.try_enter_at(true, 7 * MS), None, "there is debt");
        let next = share.try_enter_at(true, 9 * MS).expect("it is paid back");
        assert!(
            next.paid_ns > 200_000,
            "the next ones are taken to cost as much: {next:?}"
        );
    }

    #[test]
    fn those_who_wait_come_before_those_who_come_later() {
        let share = share(50, 1);
        let first = share.wait();
        let mut first = std::pin::pin!(first);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let runtime = runtime();
        let _entered = runtime.enter();
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert_eq!((share.waiting(), share.delayed()), (1, 1));
        assert_eq!(
            share.try_enter_at(true, 10 * MS),
            None,
            "there is credit, but somebody waits"
        );
        share.give_turns_once(true, 10 * MS);
        let paid_ns = nanos(COST_AT_FIRST);
        assert_eq!(
            first.as_mut().poll(&mut context),
            std::task::Poll::Ready(Ok(Entered { paid_ns }))
        );
    }

    #[test]
    fn a_turn_whose_client_has_gone_away_is_not_lost() {
        let share = share(50, 1);
        let runtime = runtime();
        let _entered = runtime.enter();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut waits: Vec<_> = (0..30).map(|_| Box::pin(share.wait())).collect();
        for wait in &mut waits {
            assert!(wait.as_mut().poll(&mut context).is_pending());
        }
        share.give_turns_once(true, 10 * MS);
        drop(waits);
        assert_eq!(share.turns.available_permits(), 30, "nobody took them");
        share.give_turns_once(true, 10 * MS);
        assert_eq!((share.waiting(), share.turns.available_permits()), (0, 0));
        // All that was given at that moment is there still.
        let reads = (0..1_000).take_while(|_| share.try_enter_at(true, 10 * MS).is_some());
        assert_eq!(reads.count() as u64, nanos(CREDIT_MAX) / nanos(COST_AT_FIRST));
    }

    /// Cheap reads once made the next ones look so cheap that thousands of large ones were let in at once, and most of
    /// what these took was more than the debt that is remembered.
    #[test]
    fn cheap_reads_do_not_let_many_large_ones_in_at_once() {
        let after_cheap_ones = || {
            let share = share(50, 1);
            for read in 1..1_000 {
                if let Some(entered) = share.try_enter_at(true, read * MS) {
                    share.settle_at(entered, 100, read * MS);
                }
            }
            share
        };
        let share = after_cheap_ones();
        let at_once = (0..10_000).take_while(|_| share.try_enter_at(true, 1_010 * MS).is_some());
        assert!(at_once.count() <= 100);

        let share = after_cheap_ones();
        let runtime = runtime();
        let _entered = runtime.enter();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut waits: Vec<_> = (0..1_000).map(|_| Box::pin(share.wait())).collect();
        for wait in &mut waits {
            assert!(wait.as_mut().poll(&mut context).is_pending());
        }
        share.give_turns_once(true, 1_010 * MS);
        // Whoever goes away leaves its turn behind.
        drop(waits);
        assert_eq!(share.turns.available_permits(), TURNS_AT_ONCE);
    }

    #[test]
    fn who_waits_for_too_long_is_refused() {
        let share = ReadShare::new(ReadShareConfig {
            percent: 50,
            threads: 1,
            wait_max: Duration::ZERO,
        });
        assert_eq!(runtime().block_on(share.wait()), Err(NoTurn));
        assert_eq!(share.waiting(), 0);
    }

    /// Turns are given by a task of their own, which must not miss anybody who begins to wait.
    #[test]
    fn everybody_who_waits_gets_a_turn() {
        let share = Arc::new(share(1, 1));
        runtime().block_on(async {
            let usher = tokio::spawn({
                let share = Arc::clone(&share);
                async move { share.give_turns(|| true).await }
            });
            for round in 0..5 {
                let waits: Vec<_> = (0..20)
                    .map(|_| {
                        let share = Arc::clone(&share);
                        tokio::spawn(async move { share.wait().await })
                    })
                    .collect();
                for wait in waits {
                    assert!(wait.await.expect("no panic").is_ok());
                }
                tokio::time::sleep(TURN * round).await;
            }
            usher.abort();
        });
        assert_eq!((share.waiting(), share.delayed()), (0, 100));
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
    }

    proptest! {
        /// Whatever reads cost, and however much that changes, they take their share of the time and no more.
        #[test]
        fn reads_take_their_share_while_appends_are_made(
            percent in 5_u64..95,
            costs_us in prop::collection::vec(2_u64..1_500, 1..20),
        ) {
            let share = share(percent, 1);
            let taken = percent_taken(&share, true, |read| {
                costs_us[usize::try_from(read).expect("few") % costs_us.len()] * 1_000
            });
            prop_assert!(taken <= percent + 1, "{taken} % of {percent}");
            prop_assert!(taken + 3 >= percent, "{taken} % of {percent}");
        }
    }
}
