//! A sync that fails while a commit is on its way.

use std::sync::Arc;
use std::thread;

use tailwater_storage::disk::Disk;
use tailwater_storage::{Backend, BackendError, FileOptions, FileStore};

use super::run::{DIR, FAST};
use crate::author::Body;
use crate::naive::Naive;
use crate::support::faulty_disk::FaultyDisk;
use crate::support::gated_disk::GatedDisk;

/// The commit had asked whether the store had failed before it came to the journal's end. It synced that journal once
/// more before it left it, and that succeeded: the system had told of the loss already. So the next journal began
/// as if all before it were durable.
#[test]
fn a_journal_whose_sync_has_failed_is_not_synced_again_by_a_commit_that_leaves_it() {
    let disk = FaultyDisk::new(1);
    // Journals have these names until they are made.
    let (gated, first) = GatedDisk::new(Arc::clone(&disk), &format!("{DIR}/journal/0000000000000001.tmp"));
    let (gated, second) = GatedDisk::new(gated, &format!("{DIR}/journal/0000000000000002.tmp"));
    let options = FileOptions {
        journal_bytes: 64 << 10,
        compacts_by_itself: false,
        ..FileOptions::new(DIR.into(), FAST, 1 << 20)
    };
    let gated: Arc<dyn Disk> = gated;
    let store = FileStore::open_unlocked(gated, options).expect("a new store");
    let mut naive = Naive::default();
    let (id, create) = naive.author.create("a");
    store.commit(0, &[create]).expect("committed");
    let long = naive.author.append(id, Body::one(vec![7; 100 << 10]));
    thread::scope(|threads| {
        let held_sync = first.hold_syncs();
        let held_commit = second.hold_syncs();
        let sync = threads.spawn(|| store.sync());
        first.reached();
        let commit = threads.spawn(|| store.commit(0, &[long]));
        second.reached();
        disk.fail_sync(1);
        drop(held_sync);
        let synced = sync.join().expect("no panic");
        assert!(matches!(synced, Err(BackendError::Io { .. })), "{synced:?}");
        drop(held_commit);
        let committed = commit.join().expect("no panic");
        assert!(matches!(committed, Err(BackendError::Poisoned)), "{committed:?}");
    });
    store.sync().expect_err("nothing makes it durable any more");
}
