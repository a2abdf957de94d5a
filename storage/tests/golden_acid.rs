//! A store of shards that an earlier build has written stays readable, and what this build writes is what the format says.
//!
//! `golden/acid-v1` was written by the steps in `golden_acid/steps.rs`. If the format has to change, its version changes too, and
//! a new directory is written by `TAILWATER_WRITE_GOLDEN=DIR cargo test -p tailwater-storage --test golden_acid`; the old one
//! stays.
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

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/acid-v1")
}

fn shard_file(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("acid/shards-{SHARDS:03}/{number:03}.redb"))
}

fn open(dir: &Path) -> Arc<AcidStore> {
    let options = AcidOptions {
        shard_count: SHARDS,
        cache_bytes: 1 << 20,
        ..AcidOptions::new(dir.to_owned())
    };
    Arc::new(acid::open(&options).expect("the store opens"))
}

/// A store that bears the golden one's identity, written just now.
fn namesake(dir: &Path) {
    std::fs::create_dir_all(dir.join("acid")).expect("a directory");
    std::fs::write(dir.join("STORE"), STORE).expect("it is written");
    write(&open(dir));
    acid::compact_directory(dir).expect("it gets as small as it can be");
}

#[test]
fn a_store_of_format_1_is_whole_and_read_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    copy_store(&golden(), dir.path());
    let report = acid::verify_directory(dir.path()).expect("it is a store");
    assert_eq!(report.damage, [""; 0]);
    assert_eq!(
        (report.streams, report.deleted_streams, report.shards),
        (11, 1, 2)
    );
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

#[test]
fn what_is_written_today_is_format_1_row_by_row() {
    let dir = tempfile::tempdir().expect("a directory");
    namesake(dir.path());
    if let Some(target) = std::env::var_os("TAILWATER_WRITE_GOLDEN") {
        copy_store(dir.path(), Path::new(&target));
    }
    let mut all = Vec::new();
    for number in 0..SHARDS {
        let [old, new] = [golden().as_path(), dir.path()].map(|dir| rows(&shard_file(dir, number)));
        for (old, new) in old.iter().zip(&new) {
            assert_eq!(old, new, "shard {number}");
        }
        assert_eq!(old.len(), new.len(), "shard {number}");
        assert!(named(&new, "streams") > 0, "shard {number} is empty");
        all.extend(new);
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
    let text = std::fs::read_to_string(golden().join("acid/SHARDS")).expect("it is there");
    assert_eq!(text, "shards: 2\ncrc: f990206f\n");
}
