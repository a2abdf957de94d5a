//! Journals made ahead, beside batches that do not fit them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tailwater_stream::{ControlChange, Part, Record, StreamId};
use tempfile::TempDir;

use crate::backend::{Backend, Outcome};
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::file::{Durability, FileOptions, FileStore};

const JOURNAL_BYTES: u64 = 16 << 10;

/// The real disk, on which so many bytes are said to be free.
struct Scanty(AtomicU64);

impl Disk for Scanty {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_sealed(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }

    fn boot_id(&self) -> Option<String> {
        RealDisk.boot_id()
    }
}

/// A store that makes journals ahead only when it is told to.
fn store() -> (TempDir, Arc<Scanty>, FileStore) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let mut options = FileOptions::new(dir.path().to_owned(), Durability::Durable, 1 << 20);
    options.compacts_by_itself = false;
    options.journal_bytes = JOURNAL_BYTES;
    options.fold_bytes = 2 * JOURNAL_BYTES;
    let disk = Arc::new(Scanty(AtomicU64::new(1 << 30)));
    let store = FileStore::open_unlocked(Arc::clone(&disk) as _, options).expect("a new store");
    (dir, disk, store)
}

/// Commits something that takes about so many bytes.
fn commit(store: &FileStore, bytes: u64) -> Outcome {
    let change = ControlChange {
        stream: StreamId::new(1).expect("an id"),
        key: Bytes::from_static(b"key"),
        value: Some(vec![7; bytes as usize].into()),
    };
    let record = Record {
        parts: [Part::Control(change)].into_iter().collect(),
    };
    store.commit(0, &[record]).expect("no failure")[0]
}

/// A journal that had been made ahead was forgotten when a batch did not fit it, and its file stayed.
#[test]
fn a_journal_that_a_batch_does_not_fit_is_given_back_by_the_next_fold() {
    let (dir, _, store) = store();
    for _ in 0..12 {
        store.store.spares.prepare(&store.store).expect("made");
        assert_eq!(commit(&store, 2 * JOURNAL_BYTES), Outcome::Durable);
        store.compact().expect("folded");
    }
    let journals = std::fs::read_dir(dir.path().join("journal"))
        .expect("listed")
        .count();
    // Four to be used again, one that is kept back, and the one in use.
    assert!(journals <= 6, "{journals} journals");
}

#[test]
fn a_journal_that_a_batch_does_not_fit_is_used_for_others_if_there_is_no_space() {
    let (_dir, disk, store) = store();
    store.store.spares.prepare(&store.store).expect("made");
    disk.0.store(0, Ordering::Relaxed);
    assert_eq!(commit(&store, 2 * JOURNAL_BYTES), Outcome::Full);
    let taken = (0..100).filter(|_| commit(&store, 1 << 10) == Outcome::Durable);
    assert!(
        taken.count() as u64 > JOURNAL_BYTES >> 10,
        "there were two journals"
    );
}
