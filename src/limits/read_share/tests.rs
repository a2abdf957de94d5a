use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{
    COST_AT_FIRST, CREDIT_MAX, DEBT_MAX, Entered, NoTurn, ReadShare, ReadShareConfig, TURN, TURNS_AT_ONCE,
    nanos,
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

/// At a share of 1 % a few readers that came again at once kept all reads in debt for ever: to refuse them took more than
/// reads may have, so that none was admitted any more.
#[test]
fn readers_that_are_refused_and_come_again_at_once_leave_half_to_those_who_are_admitted() {
    const SECOND: u64 = 1_000 * MS;
    for percent in [1, 10, 50] {
        let share = share(percent, 1);
        let mut now_ns = MS;
        // What admitted reads get in that time, in thousandths, if whoever is not admitted takes so much to be refused.
        let mut thousandths_taken = |refusal_ns: u64, for_ns: u64| {
            let (begin_ns, mut taken_ns) = (now_ns, 0);
            while now_ns < begin_ns + for_ns {
                if let Some(entered) = share.try_enter_at(true, now_ns) {
                    now_ns += MS / 10;
                    taken_ns += MS / 10;
                    share.settle_at(entered, MS / 10, now_ns);
                } else if refusal_ns > 0 {
                    now_ns += refusal_ns;
                    share.settle_refusal_at(refusal_ns, now_ns);
                } else {
                    now_ns += MS / 20;
                }
            }
            taken_ns * 1_000 / for_ns
        };
        let half = percent * 5;
        let beside_refusals = thousandths_taken(MS / 25, 10 * SECOND);
        assert!(
            (half - 1..=half + 2).contains(&beside_refusals),
            "{beside_refusals} ‰ of {percent} %"
        );
        // What refusals left unpaid is little, and ends.
        thousandths_taken(0, 5 * SECOND);
        let afterwards = thousandths_taken(0, 10 * SECOND);
        assert!(
            (2 * half - 1..=2 * half + 1).contains(&afterwards),
            "{afterwards} ‰ of {percent} %"
        );
    }
}

#[test]
fn refusals_are_paid_from_half_of_what_reads_are_given_and_not_at_all_while_nobody_appends() {
    let share = share(50, 1);
    share.settle_refusal_at(3 * MS, MS);
    assert_eq!(share.refusals_ns(), 0, "nobody appends");
    assert!(share.try_enter_at(true, MS).is_some());
    share.settle_refusal_at(3 * MS, MS);
    assert_eq!(share.refusals_ns(), 3 * MS);
    // Half of the half of 8 ms.
    assert!(share.try_enter_at(true, 9 * MS).is_some());
    assert_eq!(share.refusals_ns(), MS);
    share.settle_refusal_at(1_000 * MS, 9 * MS);
    assert_eq!(share.refusals_ns(), nanos(DEBT_MAX), "the rest is forgiven");
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
