//! Files of stores in real directories.

use std::path::Path;

/// What a store makes anew by itself.
const NEVER_COPIED: [&str; 2] = ["LOCK", "SPARE"];

/// Copies the directory of a store, with those in it.
pub(crate) fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_store(&from, &to);
        } else if NEVER_COPIED.iter().all(|name| entry.file_name() != *name) {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}
