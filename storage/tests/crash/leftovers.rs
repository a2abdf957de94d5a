//! What was given back is not in the journals. After a crash it is found out what may be given back again.

use tailwater_storage::Backend;
use tailwater_storage::backend::Outcome;
use tailwater_storage::stream::{Record, StreamId};

use super::history::Crash;
use super::run::{FAST, Run};
use crate::author::Body;
use tailwater_storage::file::Durability;

fn commit(run: &mut Run, records: impl IntoIterator<Item = Record>) {
    for record in records {
        assert_eq!(run.commit(&[record]), Some(vec![Outcome::Durable]));
    }
}

/// A stream of three appends of 1000 bytes, folded.
fn with_a_stream(durability: Durability) -> (Run, StreamId) {
    let mut run = Run::new(5, durability);
    run.open();
    let (id, create) = run.current().clone().author.create("a");
    commit(&mut run, [create]);
    for _ in 0..3 {
        let append = run
            .current()
            .clone()
            .author
            .append(id, Body::one(vec![b'x'; 1000]));
        commit(&mut run, [append]);
    }
    assert!(run.compact());
    (run, id)
}

/// Kills the process, and gives back what may be, as an engine does that starts.
fn kill_and_give_back(run: &mut Run) {
    run.crash(Crash::Process);
    run.open();
    let reclaimable = run.store().reclaimable().expect("it can be read");
    for id in reclaimable {
        run.store().reclaim(id).expect("works");
    }
    run.release_all();
}

/// What was trimmed shortly before a crash took its space for ever.
#[test]
fn what_was_trimmed_before_a_crash_is_given_back_after_it() {
    for durability in [Durability::Durable, FAST] {
        let (mut run, id) = with_a_stream(durability);
        let trim = run.current().clone().author.trim(id, 2000);
        commit(&mut run, [trim]);
        run.reclaim_all();
        assert_eq!(run.store().usage().bytes, 1000);
        kill_and_give_back(&mut run);
        assert_eq!(run.store().usage().bytes, 1000);
        run.finish();
    }
}

/// The fold had noted the trim, and what it gave back only the next one would have.
#[test]
fn what_was_trimmed_before_a_fold_and_given_back_behind_it_is_given_back_after_a_crash() {
    for durability in [Durability::Durable, FAST] {
        let (mut run, id) = with_a_stream(durability);
        let trim = run.current().clone().author.trim(id, 2000);
        commit(&mut run, [trim]);
        assert!(run.compact());
        assert_eq!(run.store().reclaimable().expect("it can be read"), [id]);
        run.reclaim_all();
        assert_eq!(run.store().usage().bytes, 1000);
        kill_and_give_back(&mut run);
        assert_eq!(run.store().usage().bytes, 1000);
        assert!(run.compact());
        assert_eq!(run.store().reclaimable().expect("it can be read"), []);
        // A stream that is gone is not told of either.
        let trim = run.current().clone().author.trim(id, 2500);
        commit(&mut run, [trim]);
        assert!(run.compact());
        let delete = run.current().clone().author.delete(id);
        commit(&mut run, [delete]);
        run.release_all();
        assert!(run.compact());
        assert_eq!(run.store().reclaimable().expect("it can be read"), []);
        run.finish();
    }
}

#[test]
fn what_a_fork_held_that_was_deleted_before_a_crash_is_given_back_after_it() {
    for durability in [Durability::Durable, FAST] {
        let (mut run, id) = with_a_stream(durability);
        let (fork, create) = run.current().clone().author.fork(id, "b", 3000);
        commit(&mut run, [create]);
        let trim = run.current().clone().author.trim(id, 3000);
        commit(&mut run, [trim]);
        run.reclaim_all();
        assert!(run.compact());
        assert_eq!(run.store().usage().bytes, 3000, "the fork reads it");
        let delete = run.current().clone().author.delete(fork);
        commit(&mut run, [delete]);
        run.reclaim_all();
        run.release_all();
        assert_eq!(run.store().usage().bytes, 0);
        kill_and_give_back(&mut run);
        assert_eq!(run.store().usage().bytes, 0);
        run.finish();
    }
}
