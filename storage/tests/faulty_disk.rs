//! The faulty disk of the crash tests: without faults it does what a real disk does, and each of its faults happens.
#![cfg(not(feature = "shuttle"))]

mod support;

mod faulty_disk {
    mod crashes;
    mod faults;
    mod likeness;
}

use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::faulty_disk::FaultyDisk;
use tailwater_storage::disk::{Disk, DiskFile};

/// The directory that the tests use.
const DIR: &str = "/data";

/// Enough for each of a few outcomes to be among them.
const SEEDS: u64 = 200;

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// A disk whose directory is durable.
fn disk(seed: u64) -> Arc<FaultyDisk> {
    let disk = FaultyDisk::new(seed);
    disk.make_dir(Path::new(DIR)).expect("made");
    disk.sync_dir(Path::new("/")).expect("synced");
    disk
}

/// Makes a file whose name and content are durable.
fn durable_file(disk: &FaultyDisk, name: &str, content: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(&path(name)).expect("made");
    file.write_at(0, content).expect("written");
    file.sync().expect("synced");
    disk.sync_dir(Path::new(DIR)).expect("synced");
    file
}

/// The content of a file, if it is there.
fn content(disk: &FaultyDisk, name: &str) -> Option<Vec<u8>> {
    let path = path(name);
    disk.files().contains(&path).then(|| disk.read_file(&path))
}

/// Whether each outcome is among those of some seeds, and no other one is.
#[track_caller]
fn assert_outcomes<T: Ord + std::fmt::Debug>(
    of_seed: impl Fn(u64) -> T,
    expected: impl IntoIterator<Item = T>,
) {
    let outcomes: std::collections::BTreeSet<T> = (0..SEEDS).map(of_seed).collect();
    assert_eq!(outcomes, expected.into_iter().collect());
}
