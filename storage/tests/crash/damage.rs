//! Flipped bits: what is copied or replayed is checked first, and what nobody looks at is found by `verify`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tailwater_storage::BackendError;
use tailwater_storage::OpenError;
use tailwater_storage::disk::Disk;
use tailwater_storage::file::{Durability, verify};

use super::history::Crash;
use super::run::{DIR, FAST, Run};
use crate::author::Body;
use crate::seeds;

/// Where the first batch of a journal stands.
const FIRST_BATCH_AT: usize = 4096;
/// What a segment says of itself, at its beginning and at its end.
const SEGMENT_HEAD_BYTES: u64 = 64;

/// Length of a file up to its last byte that is not 0.
fn used_bytes(content: &[u8]) -> usize {
    content
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// A store with some batches in its journals, and a place in them that is known to be durable.
fn with_journals(seed: u64, durability: Durability) -> (Run, PathBuf, u64) {
    let mut run = Run::new(seed, durability);
    run.open();
    for _ in 0..run.rng.u32(3..25) {
        assert!(run.commit_some());
    }
    assert!(run.sync());
    let journals = run.files("journal");
    let path = run.rng.choice(&journals).expect("one").clone();
    let used = used_bytes(&run.disk.read_file(&path));
    // The next batch says up to where the journals are synced. Without it, the last one may be a torn one.
    assert!(run.commit_some());
    let end = used.max(FIRST_BATCH_AT + 1);
    let offset = run.rng.u64(FIRST_BATCH_AT as u64..end as u64);
    (run, path, offset)
}

fn flip(run: &mut Run, path: &Path, offset: u64) {
    run.note(format!("a bit of {} flips at {offset}", path.display()));
    run.disk.flip_bit(path, offset);
}

fn is_damage(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Damaged { .. } | OpenError::Backend(BackendError::Damaged { .. })
    )
}

/// How many of some flips were reported; the others have changed nothing that is stored.
fn reported(count: u64, test: impl Fn(u64, Durability) -> bool) -> (usize, usize) {
    let tests = seeds(count).flat_map(|seed| [(seed, Durability::Durable), (seed, FAST)]);
    let outcomes: Vec<_> = tests.map(|(seed, durability)| test(seed, durability)).collect();
    (
        outcomes.iter().filter(|reported| **reported).count(),
        outcomes.len(),
    )
}

#[test]
fn a_flipped_bit_of_a_journal_is_reported_when_it_is_replayed() {
    let (reported, tried) = reported(60, |seed, durability| {
        let (mut run, path, offset) = with_journals(seed, durability);
        run.crash(Crash::Process);
        flip(&mut run, &path, offset);
        match run.try_open() {
            Ok(()) => false,
            Err(error) => {
                assert!(is_damage(&error), "{error}");
                true
            }
        }
    });
    assert!(2 * reported > tried, "{reported} of {tried}");
}

#[test]
fn a_flipped_bit_of_a_journal_is_reported_when_it_is_folded() {
    let (reported, tried) = reported(60, |seed, durability| {
        let (mut run, path, offset) = with_journals(seed, durability);
        flip(&mut run, &path, offset);
        if run.compact() {
            run.check();
            return false;
        }
        assert_damaged(&run);
        true
    });
    assert!(2 * reported > tried, "{reported} of {tried}");
}

fn assert_damaged(run: &Run) {
    use tailwater_storage::Backend;
    let failure = run.store().failure();
    assert!(
        matches!(failure, Some(BackendError::Damaged { .. })),
        "{failure:?}"
    );
}

/// A store with some segments, and one of them.
fn with_segments(seed: u64, durability: Durability) -> (Run, PathBuf) {
    let mut run = Run::new(seed, durability);
    run.open();
    loop {
        for _ in 0..run.rng.u32(3..12) {
            assert!(run.commit_some());
        }
        assert!(run.compact());
        let segments = run.files("segment");
        if segments.len() >= 2 {
            let path = run.rng.choice(&segments).expect("one").clone();
            return (run, path);
        }
    }
}

#[test]
fn a_flipped_bit_of_a_segment_is_reported_when_it_is_merged_and_stops_nothing() {
    let (reported, tried) = reported(60, |seed, durability| {
        let (mut run, path) = with_segments(seed, durability);
        let len = run.disk.read_file(&path).len() as u64;
        let offset = run.rng.u64(SEGMENT_HEAD_BYTES..len);
        flip(&mut run, &path, offset);
        for _ in 0..20 {
            for _ in 0..5 {
                assert!(run.commit_some());
            }
            assert!(run.compact());
            if run.store().activity().unreadable_segments > 0 {
                run.delete_all();
                assert!(run.compact());
                assert!(run.files("segment").is_empty(), "everything was released");
                assert!(run.stop());
                return true;
            }
            if !run.disk.files().contains(&path) {
                run.check();
                break;
            }
        }
        false
    });
    assert!(4 * reported > tried, "{reported} of {tried}");
}

#[test]
fn a_segment_whose_head_or_end_is_damaged_is_refused_at_the_start() {
    reported(60, |seed, durability| {
        let (mut run, path) = with_segments(seed, durability);
        let len = run.disk.read_file(&path).len() as u64;
        let offset = run.rng.u64(..2 * SEGMENT_HEAD_BYTES);
        let offset = if offset < SEGMENT_HEAD_BYTES {
            offset
        } else {
            len - 2 * SEGMENT_HEAD_BYTES + offset
        };
        let crash = run.some_crash();
        run.crash(crash);
        flip(&mut run, &path, offset);
        let error = run.try_open().expect_err("damaged");
        assert!(is_damage(&error), "{error}");
        true
    });
}

/// Whatever `verify` says nothing of has changed nothing.
#[test]
fn a_flipped_bit_anywhere_is_found_by_verify_or_changes_nothing() {
    let (reported, tried) = reported(150, |seed, durability| {
        let (mut run, _) = with_segments(seed, durability);
        for _ in 0..run.rng.u32(2..12) {
            assert!(run.commit_some());
        }
        assert!(run.sync());
        let (last_path, last_at) = commit_last(&mut run);
        run.crash(Crash::Process);
        let files = run.disk.files();
        let path = run.rng.choice(&files).expect("one").clone();
        let content = run.disk.read_file(&path);
        // Half of them where something certainly stands, for most of a catalog is free.
        let used: Vec<_> = (0..content.len()).filter(|at| content[*at] != 0).collect();
        let somewhere = run.rng.usize(..content.len().max(1));
        let offset = if run.rng.bool() {
            somewhere
        } else {
            *run.rng.choice(&used).expect("not empty")
        };
        flip(&mut run, &path, offset as u64);
        let disk: Arc<dyn Disk> = Arc::clone(&run.disk) as Arc<dyn Disk>;
        let is_clean = match verify(disk.as_ref(), Path::new(DIR)) {
            Ok(report) => report.is_clean(),
            Err(error) => {
                run.note(format!("refused: {error}"));
                false
            }
        };
        // The last batch is not known to be durable: if it is damaged, it is taken for a torn one.
        if is_clean && !(path == last_path && offset >= last_at) {
            run.open();
            run.finish();
        }
        !is_clean
    });
    assert!(4 * reported > tried, "{reported} of {tried}");
}

/// Commits a batch, and says in which journal it stands and from where on.
fn commit_last(run: &mut Run) -> (PathBuf, usize) {
    let journals = run.files("journal").into_iter();
    let before: Vec<_> = journals.map(|path| (run.disk.read_file(&path), path)).collect();
    assert!(run.commit_some());
    for path in run.files("journal") {
        let now = run.disk.read_file(&path);
        let Some((then, _)) = before.iter().find(|(_, known)| *known == path) else {
            return (path, FIRST_BATCH_AT);
        };
        if let Some(at) = now.iter().zip(then).position(|(now, then)| now != then) {
            return (path, at);
        }
    }
    panic!("nothing was written");
}

fn catalog() -> PathBuf {
    Path::new(DIR).join("catalog.redb")
}

/// Puts a catalog in the place of the one that is there; none for none.
fn put_catalog(run: &Run, content: Option<&[u8]>) {
    run.disk.remove(&catalog()).expect("it is there");
    if let Some(content) = content {
        let file = run.disk.create(&catalog()).expect("made");
        file.write_at(0, content).expect("written");
    }
}

/// A store that was stopped, without journals that it does not need, and a catalog of it from before.
fn stopped(seed: u64, durability: Durability) -> (Run, Vec<u8>) {
    let mut run = Run::new(seed, durability);
    run.open();
    let (id, create) = run.current().clone().author.create("a");
    let mut records = vec![create];
    let mut old = run.disk.read_file(&catalog());
    let kept = run.rng.usize(..8);
    let count = run.rng.usize(16..32);
    for number in 0..count {
        let append = |run: &mut Run| run.current().clone().author.append(id, Body::one(vec![7; 9_000]));
        let record = records.pop().unwrap_or_else(|| append(&mut run));
        run.commit(&[record]).expect("committed");
        if number % 4 == 3 {
            assert!(run.compact());
        }
        if number == kept {
            old = run.disk.read_file(&catalog());
        }
    }
    let (gone, create) = run.current().clone().author.create("b");
    run.commit(&[create]).expect("committed");
    let delete = run.current().clone().author.delete(gone);
    run.commit(&[delete]).expect("committed");
    assert!(run.stop());
    run.crash(Crash::Process);
    if run.rng.bool() {
        // A journal without any batch is all that is left then.
        run.open();
        run.release_all();
        assert!(run.compact());
        run.crash(Crash::Process);
    }
    let journals = run.files("journal");
    let (_, folded) = journals.split_last().expect("one");
    for path in folded {
        run.disk.remove(path).expect("it is there");
    }
    assert!(!run.files("segment").is_empty());
    (run, old)
}

/// Everything in segments was removed before it was found out that the catalog is not theirs.
#[test]
fn a_store_with_an_older_catalog_or_none_is_refused_and_loses_no_segment() {
    reported(40, |seed, durability| {
        let (mut run, old) = stopped(seed, durability);
        let newest = run.disk.read_file(&catalog());
        let segments = run.files("segment");
        let journals = run.files("journal");
        put_catalog(&run, Some(&old));
        let error = run.try_open().expect_err("it is an older one");
        // It may name segments that have been merged since.
        assert!(
            is_damage(&error) || error.to_string().contains(".segment"),
            "{error}"
        );
        assert_eq!(run.files("segment"), segments);
        put_catalog(&run, None);
        let contents: Vec<_> = journals.iter().map(|path| run.disk.read_file(path)).collect();
        for path in &journals {
            run.disk.remove(path).expect("it is there");
        }
        let error = run.try_open().expect_err("there is none");
        assert!(is_damage(&error), "{error}");
        assert_eq!(run.files("segment"), segments);
        for (path, content) in journals.iter().zip(contents) {
            let file = run.disk.create(path).expect("made");
            file.write_at(0, &content).expect("written");
        }
        let file = run.disk.create(&catalog()).expect("made");
        file.write_at(0, &newest).expect("written");
        run.open();
        run.finish();
        true
    });
}
