//! What takes several changes to remove: a crash between them leaves something that can be removed again.

use tailwater_storage::Backend;
use tailwater_storage::backend::Outcome;

use super::history::Crash;
use super::run::{Repair, Run};
use crate::author::Body;

/// More blocks than are removed in one change.
const BLOCKS: u64 = 4_200;
/// Just too many to stand in the stream's own row.
const BLOCK_BYTES: u64 = 1_025;

/// A shard with a stream of very many blocks, each of one append.
fn with_blocks() -> Run {
    let mut run = Run::new(0, Repair::Quick);
    run.options.shard_count = 1;
    run.known.author.part_by(0);
    run.options.cache_bytes = 8 << 20;
    run.open();
    let (id, create) = run.known.author.clone().create("a");
    run.commit(&[create]);
    for number in 0..BLOCKS {
        let append = run
            .known
            .author
            .clone()
            .append(id, Body::one(vec![number as u8; BLOCK_BYTES as usize]));
        let taken = run
            .store()
            .commit(0, std::slice::from_ref(&append))
            .expect("committed");
        assert_eq!(taken[..], [Outcome::Durable]);
        run.known.apply(&append);
    }
    run
}

/// What was trimmed shortly before a crash came back only with the next trim of its stream, or never.
#[test]
fn what_was_trimmed_before_a_crash_is_told_of_until_it_is_given_back() {
    let mut run = with_blocks();
    let id = run.known.alive()[0].id;
    let (fork, create) = run.known.author.clone().fork(id, "b", 2 * BLOCK_BYTES);
    assert!(run.commit(&[create]).is_some());
    let trim = run.known.author.clone().trim(id, 3 * BLOCK_BYTES);
    assert!(run.commit(&[trim]).is_some());
    run.crash(Crash::Machine);
    run.open();
    let told_of = |run: &Run| run.store().reclaimable().expect("the store can be read");
    assert_eq!(told_of(&run), [id]);
    run.check_given_back();
    assert_eq!(told_of(&run), [id], "a fork holds it still");
    let delete = run.known.author.clone().delete(fork);
    assert!(run.commit(&[delete]).is_some());
    run.crash(Crash::Process);
    run.open();
    run.check_given_back();
    assert_eq!(run.store().usage().bytes, (BLOCKS - 3) * BLOCK_BYTES);
    assert_eq!(told_of(&run), []);
    // Nor is it once all that it had is gone.
    let trim = run.known.author.clone().trim(id, 4 * BLOCK_BYTES);
    assert!(run.commit(&[trim]).is_some());
    run.delete_all();
    assert_eq!(told_of(&run), []);
}

#[test]
fn what_takes_several_changes_to_remove_may_be_cut_anywhere() {
    let mut run = with_blocks();
    run.check();
    let id = run.known.alive()[0].id;
    let trim = run.known.author.clone().trim(id, (BLOCKS - 50) * BLOCK_BYTES);
    assert!(run.commit(&[trim]).is_some());
    let trimmed = run.branch();
    let delete = run.known.author.clone().delete(id);
    assert!(run.commit(&[delete]).is_some());
    let deleted = run.branch();
    for (begun, is_trim) in [(trimmed, true), (deleted, false)] {
        let mut intermediate = 0;
        for cut in 1.. {
            let mut run = begun.branch();
            run.open();
            let operation = run.disk.operations() + cut;
            run.disk.cut_at(operation);
            let goes_on = if is_trim {
                run.reclaim_all()
            } else {
                run.release_all()
            };
            run.crash(if cut % 2 == 0 {
                Crash::Process
            } else {
                Crash::Machine
            });
            run.open();
            let bytes = run.store().usage().bytes;
            intermediate += u32::from(bytes != BLOCKS * BLOCK_BYTES && bytes > 50 * BLOCK_BYTES);
            run.check_reclaimed();
            let left = if is_trim { 50 * BLOCK_BYTES } else { 0 };
            assert_eq!(run.store().usage().bytes, left);
            if goes_on {
                break;
            }
        }
        assert!(intermediate > 0, "it was one change");
    }
}
