//! What `file-fast` does not promise, and what it promises nevertheless: a lost position is never taken for another.

use tailwater_storage::Backend;
use tailwater_storage::disk::Disk;
use tailwater_storage::stream::{OffsetRefusal, StreamState};

use super::history::Crash;
use super::run::{FAST, Run};
use crate::author::{Body, load};
use crate::seeds;

fn stream(run: &Run) -> StreamState {
    load(run.store(), "a").expect("it is there")
}

fn append(run: &mut Run, payload: &str) {
    let id = stream(run).id;
    let record = run
        .current()
        .clone()
        .author
        .append(id, Body::one(payload.to_owned()));
    run.commit(&[record]).expect("committed");
}

/// A reader resumed behind what a crash had taken away, was taken for one who had read what was appended there
/// since, and never saw its beginning.
#[test]
fn a_token_of_a_lost_position_is_refused_before_and_after_it_is_written_again() {
    let mut losses = 0;
    for seed in seeds(40) {
        let mut run = Run::new(seed, FAST);
        run.open();
        let (_, create) = run.current().clone().author.create("a");
        run.commit(&[create]).expect("committed");
        append(&mut run, "kept");
        assert!(run.sync());
        append(&mut run, "perhaps lost");
        let before = stream(&run);
        let token = before.tail_token();
        run.crash(Crash::Machine);
        run.open();
        let after = stream(&run);
        if after.tail == before.tail {
            assert_eq!(
                after.lineage.resolve(token, after.oldest, after.tail),
                Ok(before.tail)
            );
            continue;
        }
        losses += 1;
        assert_eq!(after.tail.get(), 4);
        append(&mut run, "written again, and longer");
        for _ in 0..2 {
            let now = stream(&run);
            assert_eq!(
                now.lineage.resolve(token, now.oldest, now.tail),
                Err(OffsetRefusal::Unknown)
            );
            let kept = before.lineage.token(after.tail);
            assert_eq!(now.lineage.resolve(kept, now.oldest, now.tail), Ok(after.tail));
            assert!(run.compact());
            run.crash(Crash::Process);
            run.open();
        }
        run.finish();
    }
    assert!(losses > 0, "nothing was ever lost");
}

/// An id that was given to a lost stream, and then to another one, would mix up their tokens.
#[test]
fn an_id_that_was_lost_is_not_given_again() {
    for seed in seeds(40) {
        let mut run = Run::new(seed, FAST);
        run.open();
        let mut last_id = None;
        for name in ["a", "b", "c"] {
            let (id, create) = run.current().clone().author.create(name);
            run.commit(&[create]).expect("committed");
            assert!(Some(id) > last_id);
            last_id = Some(id);
        }
        run.crash(Crash::Machine);
        run.open();
        assert!(run.store().last_id() > last_id);
    }
}

#[test]
fn file_fast_loses_nothing_with_its_process_nor_behind_a_sync_nor_behind_a_stop() {
    for seed in seeds(40) {
        let mut run = Run::new(seed, FAST);
        run.open();
        for end in 0..3 {
            for _ in 0..10 {
                assert!(run.commit_some());
            }
            let tokens: Vec<_> = run
                .current()
                .alive()
                .iter()
                .map(|state| state.tail_token())
                .collect();
            let crash = match end {
                0 => Crash::Process,
                1 => {
                    assert!(run.sync());
                    Crash::Machine
                }
                _ => {
                    assert!(run.stop());
                    Crash::Machine
                }
            };
            run.crash(crash);
            run.open();
            let now: Vec<_> = run
                .current()
                .alive()
                .iter()
                .map(|state| state.tail_token())
                .collect();
            assert_eq!(now, tokens);
        }
    }
}

/// A disk that had failed and lost what it could not write gave lost positions out again, for the machine had not been
/// started anew since.
#[test]
fn a_token_of_a_position_that_a_failed_disk_has_lost_is_refused_in_the_same_run_of_the_machine() {
    for seed in seeds(20) {
        for fails_in_a_commit in [false, true] {
            let mut run = Run::new(seed, FAST);
            run.open();
            let (_, create) = run.current().clone().author.create("a");
            run.commit(&[create]).expect("committed");
            append(&mut run, "kept");
            assert!(run.sync());
            append(&mut run, "lost");
            let token = stream(&run).tail_token();
            run.disk.fail_sync(1);
            if fails_in_a_commit {
                // It does not fit the journal, which is synced before it is left.
                let id = stream(&run).id;
                let payload = vec![7; 2 * run.options.journal_bytes as usize];
                let append = run.current().clone().author.append(id, Body::one(payload));
                // The first sync is that of the next journal.
                run.disk.fail_sync(2);
                assert_eq!(run.commit(&[append]), None);
            } else {
                assert!(!run.sync());
            }
            let boot_id = run.disk.boot_id();
            run.crash(Crash::Machine);
            run.disk.set_boot_id(boot_id.as_deref());
            run.open();
            assert_eq!(stream(&run).tail.get(), 4);
            append(&mut run, "written again, and longer");
            let now = stream(&run);
            assert_eq!(
                now.lineage.resolve(token, now.oldest, now.tail),
                Err(OffsetRefusal::Unknown)
            );
            run.finish();
        }
    }
}
