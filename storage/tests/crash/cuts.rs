//! The process or the machine ends at each single operation of a short run.

use tailwater_storage::Backend;
use tailwater_storage::file::Durability;

use super::history::Crash;
use super::run::{FAST, Run};
use crate::seeds;

/// A short run in which everything happens once. Ends early if the disk stops.
fn live_shortly(run: &mut Run) {
    if run.try_open().is_err() {
        return;
    }
    for _ in 0..2 {
        for _ in 0..5 {
            if !run.commit_some() {
                return;
            }
        }
        run.release_all();
        run.reclaim_all();
        if run.is_fast() && !run.sync() || !run.compact() || !run.commit_some() {
            return;
        }
    }
    if run.stop() {
        run.store = None;
        run.note("closed");
        if run.try_open().is_ok() {
            run.commit_some();
        }
    }
}

fn operations(seed: u64, durability: Durability) -> u64 {
    let mut run = Run::new(seed, durability);
    live_shortly(&mut run);
    run.disk.operations()
}

fn cut_at(operation: u64, seed: u64, durability: Durability, crashes: &[Crash]) {
    let mut run = Run::new(seed, durability);
    run.disk.cut_at(operation);
    live_shortly(&mut run);
    for crash in crashes {
        run.crash(*crash);
    }
    run.open();
    assert!(run.commit_some());
    // What a store goes on to do is the same wherever it was cut, nearly.
    if operation.is_multiple_of(4) {
        run.finish();
    }
}

fn cut_everywhere(durability: Durability, crashes: &[Crash], seed_count: u64) {
    for seed in seeds(seed_count) {
        for operation in 1..=operations(seed, durability) {
            cut_at(operation, seed, durability, crashes);
        }
    }
}

/// Names that the start before has given are made durable by the next one before anything rests on them.
#[test]
fn what_comes_behind_a_making_that_was_cut_stays_though_the_machine_stops_later() {
    for seed in seeds(8) {
        for cut in 1.. {
            let mut run = Run::new(seed, Durability::Durable);
            run.disk.cut_at(cut);
            let was_cut = run.try_open().is_err();
            run.crash(Crash::Process);
            run.open();
            assert!(run.commit_some());
            run.crash(Crash::Machine);
            run.open();
            if !was_cut {
                break;
            }
        }
    }
}

#[test]
fn wherever_the_process_ends_file_durable_keeps_what_it_acknowledged() {
    cut_everywhere(Durability::Durable, &[Crash::Process], 1);
}

#[test]
fn wherever_the_machine_stops_file_durable_keeps_what_it_acknowledged() {
    cut_everywhere(Durability::Durable, &[Crash::Machine], 2);
}

#[test]
fn wherever_the_process_ends_file_fast_keeps_what_it_acknowledged() {
    cut_everywhere(FAST, &[Crash::Process], 1);
}

#[test]
fn wherever_the_machine_stops_file_fast_keeps_what_was_synced_and_refuses_what_is_lost() {
    cut_everywhere(FAST, &[Crash::Machine], 2);
}

/// Recovery is cut wherever it changes anything, in each of the lives that follow each other.
#[test]
fn recovery_may_be_cut_wherever_it_changes_anything() {
    for seed in seeds(2) {
        for durability in [Durability::Durable, FAST] {
            for crash in [Crash::Process, Crash::Machine] {
                recover_at_last(seed, durability, crash);
            }
        }
    }
}

fn recover_at_last(seed: u64, durability: Durability, crash: Crash) {
    for cut in 1.. {
        let mut run = Run::new(seed, durability);
        run.open();
        for _ in 0..6 {
            assert!(run.commit_some());
        }
        let operation = run.disk.operations() + 1;
        run.disk.cut_at(operation);
        assert!(!run.commit_some());
        run.crash(crash);
        run.disk.cut_at(cut);
        let was_cut = run.try_open().is_err();
        run.crash(crash);
        run.disk.cut_at(cut + 1);
        let was_cut_again = run.try_open().is_err();
        run.crash(crash);
        run.open();
        run.finish();
        if !was_cut && !was_cut_again {
            return;
        }
    }
}

/// The journal that one interrupted start had made was lost, and the one that the next had made was not: the store
/// was taken for damaged.
#[test]
fn starts_that_are_cut_one_after_the_other_leave_no_gap_in_the_journals() {
    for seed in seeds(4) {
        let journals = |cuts: &[u64]| interrupted(seed, cuts).files("journal").len();
        let first = (1..).find(|cut| journals(&[*cut]) > journals(&[]));
        let first = first.expect("a start makes a journal");
        let second = (1..).find(|cut| journals(&[first, *cut]) > journals(&[first]));
        let second = second.expect("a start makes a journal");
        for outcome in 0..16 {
            let mut run = interrupted(seed, &[first, second]);
            for _ in 0..outcome {
                run.disk.crash_machine();
            }
            run.crash(Crash::Machine);
            run.open();
        }
    }
}

/// A store whose process ended, and then ended again in starts that were cut at these operations.
fn interrupted(seed: u64, cuts: &[u64]) -> Run {
    let mut run = Run::new(seed, Durability::Durable);
    run.open();
    assert!(run.commit_some());
    run.crash(Crash::Process);
    for cut in cuts {
        run.disk.cut_at(*cut);
        let _ = run.try_open();
        run.crash(Crash::Process);
    }
    run
}

/// A sync fails, once in each place. The kernel shows what it should have made durable until the machine stops, and
/// never writes it: what a recovered process has built upon it fell with it.
#[test]
fn wherever_a_sync_fails_nothing_is_lost_though_the_cache_shows_what_the_disk_never_got() {
    for seed in seeds(2) {
        for durability in [Durability::Durable, FAST] {
            for nth in 1.. {
                let mut run = failed_sync(seed, durability, nth);
                let has_failed = run.store().failure().is_some();
                run.crash(Crash::Process);
                run.open();
                for _ in 0..3 {
                    assert!(run.commit_some());
                }
                if run.rng.bool() {
                    assert!(run.compact());
                }
                run.crash(Crash::Machine);
                run.open();
                run.finish();
                if !has_failed {
                    break;
                }
            }
        }
    }
}

/// The catalog went back by two changes: the header that counted was in the cache alone, and the one before it was
/// being overwritten.
#[test]
fn wherever_a_sync_fails_the_start_behind_it_may_be_cut_and_nothing_is_lost() {
    for seed in seeds(1) {
        for durability in [Durability::Durable, FAST] {
            for nth in 1.. {
                for cut in 1..=6 {
                    let mut run = failed_sync(seed, durability, nth);
                    run.crash(Crash::Process);
                    run.disk.cut_at(cut);
                    let _ = run.try_open();
                    run.crash(Crash::Machine);
                    run.open();
                }
                if failed_sync(seed, durability, nth).store().failure().is_none() {
                    break;
                }
            }
        }
    }
}

/// A store whose disk has failed at a sync, if there are so many.
fn failed_sync(seed: u64, durability: Durability, nth: u64) -> Run {
    let mut run = Run::new(seed, durability);
    run.open();
    run.disk.fail_sync(nth);
    live_until_failure(&mut run);
    run
}

fn live_until_failure(run: &mut Run) {
    for _ in 0..3 {
        for _ in 0..4 {
            if !run.commit_some() {
                return;
            }
        }
        if run.is_fast() && !run.sync() || !run.compact() {
            return;
        }
    }
    run.stop();
}
