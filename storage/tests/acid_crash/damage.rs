//! Flipped bits: whatever is given is what was written, or it is said that something is damaged.

use std::path::{Path, PathBuf};

use tailwater_storage::backend::ReadError;
use tailwater_storage::stream::Record;
use tailwater_storage::{Backend, BackendError};

use super::comparison::difference;
use super::history::Crash;
use super::judge::seen;
use super::run::{Repair, Run, is_damage};
use super::workload::NAMES;
use crate::author::{control, request};
use crate::naive::{Naive, View};
use crate::seeds;

/// Both places of a header stand before this.
const HEADERS_END: u64 = 8192;

/// A shard whose last change was a batch, and what the store held before that.
struct Shard {
    path: PathBuf,
    before: Naive,
}

/// A store with some content, and a shard of it.
fn with_content(seed: u64, repair: Repair) -> (Run, Shard) {
    let mut run = Run::new(seed, repair);
    run.open();
    while run.known.alive().is_empty() || run.rng.u8(..8) > 0 {
        assert!(run.commit_some());
    }
    let alive: Vec<_> = run.known.alive().iter().map(|state| state.id).collect();
    let id = *run.rng.choice(&alive).expect("one");
    let before = run.known.clone();
    let last: Record = control(id, "last", Some("value"));
    assert!(run.commit(&[last]).is_some());
    let number = run.store().partition_of(id);
    let count = run.options.shard_count;
    let path = format!("/data/acid/shards-{count:03}/{number:03}.redb").into();
    (run, Shard { path, before })
}

/// Flips a bit of a shard, nearly always where something stands or has stood, for most of a shard is free.
fn flip(run: &mut Run, path: &Path) -> u64 {
    let content = run.disk.read_file(path);
    let used: Vec<_> = (0..content.len()).filter(|at| content[*at] != 0).collect();
    let offset = if run.rng.u8(..16) == 0 {
        run.rng.usize(..content.len())
    } else {
        *run.rng.choice(&used).expect("not empty")
    } as u64;
    run.note(format!("a bit of {} flips at {offset}", path.display()));
    run.disk.flip_bit(path, offset);
    offset
}

/// Whether damage is reported; otherwise the store holds one of these.
fn is_reported(run: &Run, may_hold: &[&Naive]) -> bool {
    let view = match View::of(run.store(), &NAMES) {
        Err(error) => return is_reported_as(&error),
        Ok(view) => view,
    };
    let holds = |naive: &&&Naive| naive.view(&NAMES) == seen(view.clone(), naive);
    let Some(naive) = may_hold.iter().find(holds) else {
        panic!("{}", difference(&view, &may_hold[0].view(&NAMES)));
    };
    let mut reported = false;
    for state in naive.alive() {
        let mut from = state.oldest;
        while from < state.tail {
            let (span, end) = state.lineage.span_at(from);
            let until = end.unwrap_or(state.tail).min(state.tail);
            let (id, window) = (span.stored_in, from.get()..until.get());
            match run.store().read(request(id, window.start, window.end, u64::MAX)) {
                Ok(slices) => {
                    let expected = naive.read(id, window.start, window.end, u64::MAX);
                    assert!(slices.into_contiguous() == expected, "other bytes of {id}");
                }
                Err(ReadError::Backend(error)) => reported |= is_reported_as(&error),
                Err(error) => panic!("{error}"),
            }
            from = until;
        }
    }
    reported
}

fn is_reported_as(error: &BackendError) -> bool {
    assert!(matches!(error, BackendError::Damaged { .. }), "{error}");
    true
}

/// Opens a store of which a bit has flipped. Whether that is reported.
fn look_at(run: &mut Run, may_hold: &[&Naive]) -> bool {
    match run.try_open_only() {
        Ok(()) => is_reported(run, may_hold),
        Err(error) => {
            assert!(is_damage(&error), "{error}");
            true
        }
    }
}

/// How many flips of a test are reported; the others have changed nothing that is stored.
fn reported(count: u64, test: impl Fn(u64) -> bool) {
    let outcomes: Vec<_> = seeds(count).map(test).collect();
    let reported = outcomes.iter().filter(|reported| **reported).count();
    assert!(4 * reported > outcomes.len(), "{reported} of {}", outcomes.len());
}

#[test]
fn a_flipped_bit_of_a_store_that_was_closed_is_reported_or_changes_nothing() {
    reported(160, |seed| {
        let (mut run, shard) = with_content(seed, Repair::Changing);
        run.close();
        flip(&mut run, &shard.path);
        let known = run.known.clone();
        look_at(&mut run, &[&known])
    });
}

/// The header that counts is passed over for the one before it if it is damaged, as if it were torn: the last change goes
/// with it. So it is with pages of that change if it was committed with one sync.
#[test]
fn a_flipped_bit_of_a_store_that_crashed_takes_no_more_than_the_last_change() {
    reported(160, |seed| {
        let (mut run, shard) = with_content(seed, Repair::Changing);
        let had_one_sync = !run.options.quick_repair;
        let crash = run.some_crash();
        run.crash(crash);
        let offset = flip(&mut run, &shard.path);
        let known = run.known.clone();
        if had_one_sync || offset < HEADERS_END {
            look_at(&mut run, &[&known, &shard.before])
        } else {
            look_at(&mut run, &[&known])
        }
    });
}

#[test]
fn a_flipped_bit_of_a_store_that_is_open_is_reported_or_changes_nothing() {
    reported(160, |seed| {
        let (mut run, shard) = with_content(seed, Repair::Changing);
        run.crash(Crash::Process);
        run.options.cache_bytes = 0;
        run.open();
        flip(&mut run, &shard.path);
        let known = run.known.clone();
        is_reported(&run, &[&known])
    });
}
