//! The process or the machine ends at each single operation of a short run.

use super::history::Crash;
use super::run::{Repair, Run};
use crate::author::Body;
use crate::seeds;

/// A short run in which everything happens once. Ends early if the disk stops.
fn live_shortly(run: &mut Run) {
    if run.try_open().is_err() || !run.commit_some() || !run.commit_some() {
        return;
    }
    if !run.delete_one() || !run.release_all() || !run.reclaim_all() {
        return;
    }
    run.close();
    if run.try_open().is_ok() {
        run.commit_some();
    }
}

/// A store with a few streams, whose process has ended.
fn begun(seed: u64, repair: Repair) -> Run {
    let mut run = Run::new(seed, repair);
    // What is not cached is written at once, by very many operations: that is left to the lives.
    run.options.cache_bytes = 8 << 20;
    run.open();
    for _ in 0..3 {
        assert!(run.commit_some());
    }
    run.crash(Crash::Process);
    run
}

fn cut_everywhere(crash: Crash, repair: Repair, seed_count: u64) {
    for seed in seeds(seed_count) {
        let begun = begun(seed, repair);
        let mut whole = begun.branch();
        live_shortly(&mut whole);
        for operation in 1..=whole.disk.operations() {
            let mut run = begun.branch();
            run.disk.cut_at(operation);
            live_shortly(&mut run);
            run.crash(crash);
            run.open();
            assert!(run.commit_some());
            // What a store goes on to do is the same wherever it was cut, nearly.
            if operation.is_multiple_of(8) {
                run.finish();
            }
        }
    }
}

/// A store that is made is there as a whole or is made again.
#[test]
fn wherever_the_making_of_a_store_is_cut_it_is_made_in_the_end() {
    for seed in seeds(8) {
        for crash in [Crash::Process, Crash::Machine] {
            for cut in 1.. {
                let mut run = Run::new(seed, Repair::Slow);
                run.disk.cut_at(cut);
                let was_cut = run.try_open().is_err();
                run.crash(crash);
                run.open();
                assert!(run.commit_some());
                if !was_cut {
                    break;
                }
            }
        }
    }
}

/// What noted that shards were being made was removed before it was written anew. A crash between the two left shards that
/// nothing told of, and what had never been a store was refused as a damaged one.
#[test]
fn wherever_the_making_of_a_store_is_cut_twice_it_is_made_in_the_end() {
    for seed in seeds(16) {
        for second in 1..6 {
            for cut in 1.. {
                let mut run = Run::new(seed, Repair::Slow);
                run.disk.cut_at(cut);
                let was_cut = run.try_open().is_err();
                run.crash(Crash::Machine);
                run.disk.cut_at(second);
                let _ = run.try_open();
                run.crash(Crash::Machine);
                run.open();
                if !was_cut {
                    break;
                }
            }
        }
    }
}

/// The process ended between giving `SHARDS` its name and making that durable. The next start took the store for made and kept
/// what came; then the power took the name, and an empty store was made in the place of all that.
#[test]
fn what_comes_behind_a_making_that_was_cut_stays_though_the_machine_stops_later() {
    for seed in seeds(24) {
        for cut in 1.. {
            let mut run = Run::new(seed, Repair::Slow);
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
fn wherever_the_process_ends_what_was_acknowledged_is_there() {
    cut_everywhere(Crash::Process, Repair::Changing, 4);
}

#[test]
fn wherever_the_machine_stops_what_was_acknowledged_is_there() {
    cut_everywhere(Crash::Machine, Repair::Changing, 4);
}

#[test]
fn wherever_the_machine_stops_what_was_acknowledged_with_one_sync_is_there() {
    cut_everywhere(Crash::Machine, Repair::Slow, 4);
}

#[test]
fn wherever_the_machine_stops_what_was_acknowledged_with_two_syncs_is_there() {
    cut_everywhere(Crash::Machine, Repair::Quick, 4);
}

/// Recovery is cut wherever it changes anything, in each of the lives that follow each other.
#[test]
fn recovery_may_be_cut_wherever_it_changes_anything() {
    for seed in seeds(4) {
        for repair in [Repair::Slow, Repair::Changing] {
            for crash in [Crash::Process, Crash::Machine] {
                recover_at_last(seed, repair, crash);
            }
        }
    }
}

fn recover_at_last(seed: u64, repair: Repair, crash: Crash) {
    for cut in 1.. {
        let mut run = Run::new(seed, repair);
        run.open();
        for _ in 0..2 {
            assert!(run.commit_some());
        }
        let operation = run.disk.operations() + run.rng.u64(1..8);
        run.disk.cut_at(operation);
        while run.commit_some() {}
        run.crash(crash);
        run.disk.cut_at(cut);
        let was_cut = run.try_open().is_err();
        run.crash(crash);
        run.disk.cut_at(cut + 1);
        let was_cut_again = run.try_open().is_err();
        run.crash(crash);
        run.open();
        assert!(run.commit_some());
        if !was_cut && !was_cut_again {
            return;
        }
    }
}

/// A sync fails, once in each place. The kernel shows what it should have made durable until the machine stops, and
/// never writes it: what a recovered process has built upon it fell with it.
#[test]
fn wherever_a_sync_fails_nothing_is_lost_though_the_cache_shows_what_the_disk_never_got() {
    for seed in seeds(4) {
        for repair in [Repair::Quick, Repair::Slow] {
            for nth in 1.. {
                let (mut run, has_failed) = failed_sync(seed, repair, nth);
                run.crash(Crash::Process);
                run.open();
                for _ in 0..3 {
                    assert!(run.commit_some());
                }
                run.crash(Crash::Machine);
                run.open();
                if !has_failed {
                    break;
                }
            }
        }
    }
}

/// The start behind a failed sync is cut too: which header is durable and which is only shown must not be mixed up.
#[test]
fn wherever_a_sync_fails_the_start_behind_it_may_be_cut_and_nothing_is_lost() {
    for seed in seeds(4) {
        for repair in [Repair::Quick, Repair::Slow] {
            for nth in 1.. {
                let mut has_failed = false;
                for cut in [1, 2, 4, 6] {
                    let (mut run, failed) = failed_sync(seed, repair, nth);
                    has_failed = failed;
                    run.crash(Crash::Process);
                    run.disk.cut_at(cut);
                    let _ = run.try_open();
                    run.crash(Crash::Machine);
                    run.open();
                }
                if !has_failed {
                    break;
                }
            }
        }
    }
}

/// A store whose disk has failed at a sync, and whether there were so many.
fn failed_sync(seed: u64, repair: Repair, nth: u64) -> (Run, bool) {
    let mut run = Run::new(seed, repair);
    run.open();
    run.disk.fail_sync(nth);
    let goes_on =
        (0..3).all(|_| run.commit_some()) && run.delete_one() && run.release_all() && run.reclaim_all();
    (run, !goes_on)
}

/// A commit that could not read the checksums beside those of its pages, to write them again, was taken for one that had lost
/// something: its shard took no more.
#[test]
fn wherever_a_read_fails_once_a_removal_can_be_asked_again() {
    for seed in seeds(8) {
        for repair in [Repair::Quick, Repair::Slow] {
            for nth in 1..40 {
                let mut run = begun(seed, repair);
                run.open();
                assert!(run.delete_one());
                run.reads_fail = true;
                run.disk.fail_read(nth);
                assert!(run.release_all() && run.reclaim_all());
                run.check();
                run.crash(Crash::Process);
                run.open();
            }
        }
    }
}

/// What one commit brings is more than the shard keeps in memory, so that pages are written behind the end of the file that was
/// durable, before anything says how long it is.
#[test]
fn wherever_the_machine_stops_while_a_shard_grows_by_much_it_opens_again() {
    for repair in [Repair::Slow, Repair::Quick] {
        let mut begun = Run::new(0, repair);
        begun.options.shard_count = 1;
        begun.known.author.part_by(0);
        begun.options.cache_bytes = 0;
        begun.open();
        let (id, create) = begun.known.author.clone().create("a");
        assert!(begun.commit(&[create]).is_some());
        let append = |run: &Run| {
            let body = Body::one(vec![b'x'; 6 << 20]);
            run.known.author.clone().append(id, body)
        };
        let mut whole = begun.branch();
        whole.open();
        let first = whole.disk.operations();
        let record = append(&whole);
        assert!(whole.commit(&[record]).is_some());
        let last = whole.disk.operations();
        // Each is cut where others are not, and all of it is too much.
        for operation in (first..=last).step_by(23) {
            let mut run = begun.branch();
            run.open();
            run.disk.cut_at(operation.max(run.disk.operations() + 1));
            let record = append(&run);
            assert!(run.commit(&[record]).is_none() || operation + 23 > last);
            run.crash(Crash::Machine);
            run.open();
            assert!(run.commit_some());
        }
    }
}
