//! Full disks: what needs space is refused, nothing is lost, and it goes on by itself once there is space.

use std::path::Path;

use tailwater_storage::backend::Outcome;
use tailwater_storage::stream::StreamState;

use super::run::{Repair, Run};
use crate::author::Body;
use crate::seeds;

/// As much as a file may grow by at once in these tests.
const LITTLE_BYTES: u64 = 8 << 20;
/// What is kept back on the disk for each shard.
const KEPT_BACK_BYTES: usize = 256 << 10;

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

fn filled(seed: u64) -> Run {
    let mut run = Run::new(seed, Repair::Changing);
    run.open();
    for _ in 0..run.rng.u32(0..10) {
        assert!(run.commit_some());
    }
    let free = run.rng.u64(..2 << 20);
    run.disk.set_free_bytes(Some(free));
    run.note(format!("{free} bytes are free"));
    fill(&mut run);
    run.check();
    run
}

/// The place whose streams hold the most bytes.
fn fullest_place(run: &Run) -> u64 {
    let author = &run.known.author;
    let bytes_in = |place: &u64| {
        let here = run
            .known
            .stored()
            .filter(|state| author.place_of(state.id) == *place);
        here.map(StreamState::own_bytes).sum::<u64>()
    };
    (0..author.places()).max_by_key(bytes_in).expect("there is one")
}

#[test]
fn a_full_disk_loses_nothing_whatever_crashes() {
    for seed in seeds(24) {
        let mut run = filled(seed);
        let crash = run.some_crash();
        run.crash(crash);
        run.open();
        run.disk.set_free_bytes(None);
        run.finish();
    }
}

/// What is freed of a shard is used again, though its file grows no more. To free it may take a little space first: redb
/// writes anew what it removes something from, and that may be long. What was given away for that is kept back again before
/// anything else takes it: it once was only with the next append, and until then a shard of little length had no room.
#[test]
fn what_is_deleted_makes_room_once_there_is_a_little_space() {
    for seed in seeds(24) {
        let mut run = filled(seed);
        let fullest = fullest_place(&run);
        assert!(run.delete_one() && run.release_all());
        run.check();
        run.disk.set_free_bytes(Some(LITTLE_BYTES));
        run.delete_all();
        assert_eq!(run.known.stored().count(), 0, "all of it is released");
        run.check();
        let kept_back = run.disk.read_file(Path::new("/data/acid/SPARE")).len();
        assert_eq!(kept_back, KEPT_BACK_BYTES * run.options.shard_count as usize);
        run.disk.set_free_bytes(Some(0));
        let mut author = run.known.author.clone();
        author.go_to(fullest);
        let (id, create) = author.create("a");
        let append = author.append(id, Body::one(vec![7; 3_000]));
        for record in [create, append] {
            assert_eq!(run.commit(&[record]), Some(vec![Outcome::Durable]));
        }
        run.check();
    }
}

/// The disk gets a little fuller, and then there is a little more space, over and over.
#[test]
fn a_disk_that_is_full_again_and_again_loses_nothing() {
    for seed in seeds(24) {
        let mut run = filled(seed);
        for _ in 0..4 {
            let free = run.rng.u64(..1 << 20);
            run.disk.set_free_bytes(Some(free));
            run.note(format!("{free} bytes are free"));
            for _ in 0..run.rng.u32(1..10) {
                assert!(run.step());
            }
            run.check();
            if run.rng.u8(..3) == 0 {
                let crash = run.some_crash();
                run.crash(crash);
                run.open();
            }
        }
        run.disk.set_free_bytes(None);
        run.finish();
    }
}
