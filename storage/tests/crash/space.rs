//! Full disks: what needs space is refused, nothing else is, nothing is lost, and it goes on by itself once there
//! is space.

use tailwater_storage::Backend;
use tailwater_storage::backend::Outcome;
use tailwater_storage::file::Durability;

use super::history::Crash;
use super::run::{FAST, Run};
use crate::author::Body;
use crate::seeds;

/// About what a store keeps free to rewrite segments in.
const KEPT_FREE_BYTES: u64 = 512 << 10;

/// Commits until the first record is refused.
fn fill(run: &mut Run) {
    for _ in 0..10_000 {
        let batch = run.next_batch();
        let outcomes = run.commit(&batch).expect("a full disk is no failure");
        if outcomes.contains(&Outcome::Full) {
            return;
        }
    }
    panic!("the disk is never full");
}

/// Whether a short append finds space.
fn has_space(run: &mut Run) -> bool {
    let author = &run.current().author;
    let open = run.current().alive().into_iter().find(|state| !state.closed);
    let record = match open.map(|state| state.id) {
        Some(id) => author.clone().append(id, Body::one("x")),
        None => author.clone().create("d").1,
    };
    run.commit(&[record]).expect("a full disk is no failure") == [Outcome::Durable]
}

fn filled(seed: u64, durability: Durability) -> Run {
    let mut run = Run::new(seed, durability);
    run.open();
    for _ in 0..run.rng.u32(0..10) {
        assert!(run.commit_some());
    }
    let free = KEPT_FREE_BYTES + run.rng.u64(6..16) * run.options.journal_bytes;
    run.disk.set_free_bytes(Some(free));
    run.note(format!("{free} bytes are free"));
    fill(&mut run);
    run.check();
    assert!(run.store().failure().is_none());
    run
}

fn each(count: u64, test: impl Fn(u64, Durability)) {
    for seed in seeds(count) {
        test(seed, Durability::Durable);
        test(seed, FAST);
    }
}

#[test]
fn a_full_disk_loses_nothing_whatever_crashes() {
    each(20, |seed, durability| {
        let mut run = filled(seed, durability);
        let crash = run.some_crash();
        run.crash(crash);
        run.disk.set_free_bytes(None);
        run.open();
        run.finish();
    });
}

#[test]
fn it_goes_on_once_there_is_space_again() {
    each(20, |seed, durability| {
        let mut run = filled(seed, durability);
        // It may find none, and changes nothing then.
        run.compact();
        run.check();
        run.disk.set_free_bytes(None);
        assert!(run.compact());
        run.finish();
    });
}

/// A store that could be emptied only with space that it did not have was full for good.
#[test]
fn what_is_deleted_makes_room_on_a_full_disk() {
    each(20, |seed, durability| {
        let mut run = filled(seed, durability);
        run.compact();
        fill(&mut run);
        run.delete_all();
        assert!(run.compact());
        run.check();
        assert!(has_space(&mut run), "all of it is free again");
        run.check();
    });
}

/// A journal was made while the one before it could be copied to a segment, and no space was kept to copy its own
/// content: nothing could be compacted any more, and so nothing that was deleted made room.
#[test]
fn what_the_journals_of_a_full_disk_hold_can_be_compacted() {
    each(8, |seed, durability| {
        let mut run = Run::new(seed, durability);
        run.options.journal_bytes = run.rng.u64(1..5) * (256 << 10);
        run.open();
        let (id, create) = run.current().clone().author.create("a");
        assert_eq!(run.commit(&[create]), Some(vec![Outcome::Durable]));
        let free = KEPT_FREE_BYTES + run.rng.u64(3..9) * run.options.journal_bytes;
        run.disk.set_free_bytes(Some(free));
        run.note(format!("{free} bytes are free"));
        loop {
            let mut payload = vec![0; run.rng.usize(1..run.options.journal_bytes as usize)];
            run.rng.fill(&mut payload);
            let append = run.current().clone().author.append(id, Body::one(payload));
            let outcomes = run.commit(&[append]).expect("a full disk is no failure");
            if outcomes == [Outcome::Full] {
                break;
            }
        }
        assert!(run.compact(), "there is no space to compact");
        run.check();
        run.delete_all();
        assert!(run.compact());
        assert!(has_space(&mut run), "all of it is free again");
    });
}

/// The disk gets a little fuller, and then there is a little more space, over and over.
#[test]
fn a_disk_that_is_full_again_and_again_loses_nothing() {
    each(10, |seed, durability| {
        let mut run = filled(seed, durability);
        for _ in 0..6 {
            let free = run.rng.u64(..KEPT_FREE_BYTES + 4 * run.options.journal_bytes);
            run.disk.set_free_bytes(Some(free));
            run.note(format!("{free} bytes are free"));
            for _ in 0..run.rng.u32(1..10) {
                assert!(run.commit_some());
                if run.rng.u8(..4) == 0 {
                    run.compact();
                    assert!(run.store().failure().is_none());
                }
            }
            run.release_all();
            run.reclaim_all();
            run.check();
            if run.rng.u8(..3) == 0 {
                run.disk.set_free_bytes(Some(64 * run.options.journal_bytes));
                let crash: Crash = run.some_crash();
                run.crash(crash);
                run.open();
            }
        }
        run.disk.set_free_bytes(None);
        run.finish();
    });
}
