//! A store of shards that an earlier build has written stays readable, and what this build writes is what the format says.
//!
//! `golden/acid-v1` and `golden/acid-v2` were written by the steps in `golden_acid/steps.rs`; the second one is as a crash has left
//! it, with what it was told in its logs. If the format has to change, its version changes too, and
//! a new directory is written by `TAILWATER_WRITE_GOLDEN=DIR cargo test -p tailwater-storage --test golden_acid`; the old ones
//! stay.
//!
//! | file | what stands there |
//! |---|---|
//! | `steps.rs` | what is written, and what must be read |
//! | `reader.rs` | reads the rows of a shard, and knows nothing but FORMAT.md |
#![cfg(not(feature = "shuttle"))]

mod support;

mod golden_acid {
    pub(crate) mod reader;
    pub(crate) mod steps;
}

use std::path::{Path, PathBuf};
use std::sync::Arc;

use golden_acid::reader::{Row, rows};
use golden_acid::steps::{check, write};
use support::files::copy_store;
use tailwater_storage::acid::{self, AcidOptions, AcidStore};

/// The identity of the store: every shard carries it, so that a new one must bear it too.
const STORE: &str = include_str!("golden/acid-v1/STORE");
const SHARDS: u32 = 2;

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/acid-v{format}"))
}

fn shard_file(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("acid/shards-{SHARDS:03}/{number:03}.redb"))
}

fn options(dir: &Path) -> AcidOptions {
    AcidOptions {
        shard_count: SHARDS,
        cache_bytes: 1 << 20,
        ..AcidOptions::new(dir.to_owned())
    }
}

fn open(dir: &Path) -> Arc<AcidStore> {
    Arc::new(acid::open(&options(dir)).expect("the store opens"))
}

fn assert_is_whole(dir: &Path) {
    let report = acid::verify_directory(dir).expect("it is a store");
    assert_eq!(report.damage, [""; 0]);
    assert_eq!(
        (report.streams, report.deleted_streams, report.shards),
        (11, 1, 2)
    );
}

#[test]
fn a_store_of_format_1_is_whole_and_read_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    copy_store(&golden(1), dir.path());
    assert_is_whole(dir.path());
    check(&open(dir.path()));
    // Whoever has used it leaves it whole too.
    let report = acid::verify_directory(dir.path()).expect("it is a store");
    assert_eq!(report.damage, [""; 0]);
    acid::compact_directory(dir.path()).expect("the disk works");
    check(&open(dir.path()));
}

fn named(rows: &[Row], table: &str) -> usize {
    rows.iter().filter(|row| row.table == table).count()
}

/// A crash leaves it so, and its logs have more than their shards.
#[test]
fn a_store_of_format_2_that_was_not_closed_is_whole_and_read_whole() {
    for number in 0..SHARDS {
        let log = std::fs::read(shard_file(&golden(2), number).with_extension("log"));
        assert!(log.expect("it is there").starts_with(b"TWL\x01"), "log {number}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    copy_store(&golden(2), dir.path());
    for _ in 0..2 {
        assert_is_whole(dir.path());
        check(&open(dir.path()));
    }
}

#[test]
fn a_store_of_format_1_becomes_one_of_format_2_when_it_is_opened() {
    let format_of = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join("STORE")).expect("it is there");
        text.lines().nth(1).expect("a format").to_owned()
    };
    type Use = fn(&Path);
    let uses: [Use; 2] = [
        |dir| drop(open(dir)),
        |dir| {
            acid::compact_directory(dir).expect("the disk works");
        },
    ];
    for used in uses {
        let dir = tempfile::tempdir().expect("a directory");
        copy_store(&golden(1), dir.path());
        // An earlier run was interrupted at it.
        std::fs::write(shard_file(dir.path(), 1).with_extension("log"), "").expect("written");
        acid::verify_directory(dir.path()).expect("it is a store");
        acid::stats_of_directory(dir.path()).expect("it is a store");
        let other = AcidOptions {
            shard_count: 2 * SHARDS,
            ..options(dir.path())
        };
        assert!(acid::open(&other).is_err(), "it has {SHARDS} shards");
        assert_eq!(format_of(dir.path()), "format: 1", "nothing is changed by that");
        used(dir.path());
        assert_eq!(format_of(dir.path()), "format: 2");
        let report = acid::verify_directory(dir.path()).expect("it is a store");
        assert_eq!((report.damage, report.notes), (Vec::new(), Vec::new()));
        check(&open(dir.path()));
        std::fs::remove_file(shard_file(dir.path(), 0).with_extension("log")).expect("it is there");
        let report = acid::verify_directory(dir.path()).expect("it is a store");
        assert!(report.damage[0].contains("000.log"), "{:?}", report.damage);
    }
}

#[test]
fn what_is_written_today_is_format_2_row_by_row() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(dir.path().join("acid")).expect("a directory");
    std::fs::write(dir.path().join("STORE"), STORE).expect("it is written");
    let crashed = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    write(&store);
    copy_store(dir.path(), crashed.path());
    if let Some(target) = std::env::var_os("TAILWATER_WRITE_GOLDEN") {
        copy_store(dir.path(), Path::new(&target));
    }
    drop(store);
    acid::compact_directory(dir.path()).expect("it gets as small as it can be");
    let mut all = Vec::new();
    for number in 0..SHARDS {
        let dirs = [&golden(1), &golden(2), crashed.path(), dir.path()];
        let [first, others @ ..] = dirs.map(|dir| rows(&shard_file(dir, number)));
        for (which, other) in others.iter().enumerate() {
            for (first, other) in first.iter().zip(other) {
                assert_eq!(first, other, "shard {number}, {which}");
            }
            assert_eq!(first.len(), other.len(), "shard {number}, {which}");
        }
        assert!(named(&first, "streams") > 0, "shard {number} is empty");
        all.extend(first);
    }
    // A table without a row would not be compared.
    for table in [
        "meta",
        "streams",
        "names",
        "producers",
        "controls",
        "forks",
        "deleted",
        "deadlines",
        "blocks",
        "pieces",
        "redirects",
    ] {
        assert!(named(&all, table) > 0, "{table}");
    }
}

#[test]
fn the_file_that_counts_the_shards_is_as_it_was() {
    let text = std::fs::read_to_string(golden(1).join("acid/SHARDS")).expect("it is there");
    assert_eq!(text, "shards: 2\ncrc: f990206f\n");
}
