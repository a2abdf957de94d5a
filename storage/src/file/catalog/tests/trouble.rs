//! A catalog on a disk that runs full or fails, and after crashes.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{CACHE_BYTES, at, id, meta, path, plain, run};
use crate::backend::BackendError;
use crate::disk::memory::{Fault, MemoryDisk};
use crate::file::catalog::{Catalog, CatalogView};

const STREAMS: u64 = 800;

/// Small enough that most pages have to be read from the disk.
const LITTLE_CACHE_BYTES: u64 = 32 << 10;

fn kind(error: &BackendError) -> Option<io::ErrorKind> {
    match error {
        BackendError::Io { source, .. } => Some(source.kind()),
        _ => None,
    }
}

/// Moves the tails of all streams there, and remembers a run of each up to there.
fn try_fold(catalog: &Catalog, tail: u64) -> Result<(), BackendError> {
    let mut change = catalog.change()?;
    for number in 1..=STREAMS {
        let mut row = plain(number, &format!("stream/{number}"));
        row.state.tail = at(tail);
        change.write(|tables| {
            tables.streams.put_row(&row, None)?;
            tables.streams.put_name(&row.state.name, row.state.id)?;
            tables.put_run(tail, &run(number, tail - 1, tail))
        })?;
    }
    change.commit()
}

/// The tail that all streams have in a view, having as many runs.
fn tail(view: &CatalogView) -> u64 {
    let tail_of = |number| {
        let row = view.row(id(number)).expect("read").expect("it is there");
        let runs = view.runs(id(number)).expect("read");
        let tail = row.state.tail.get();
        assert_eq!(runs.len() as u64, tail, "of stream {number}");
        tail
    };
    let tail = tail_of(1);
    assert!(
        (2..=STREAMS).all(|number| tail_of(number) == tail),
        "half a change is seen"
    );
    tail
}

fn folded_once(disk: &MemoryDisk) -> Catalog {
    let catalog = Catalog::create(disk, path(), LITTLE_CACHE_BYTES, &meta()).expect("a new catalog");
    try_fold(&catalog, 1).expect("there is space");
    catalog
}

#[test]
fn a_full_disk_undoes_a_change_and_the_next_one_is_made_once_there_is_space() {
    let disk = MemoryDisk::new();
    let catalog = folded_once(&disk);
    let before = catalog.view().expect("a view");
    let mut refused = 0;
    for pages in (0..).step_by(3) {
        disk.set_space(pages);
        let Err(error) = try_fold(&catalog, 2) else { break };
        assert_eq!(kind(&error), Some(io::ErrorKind::StorageFull), "{error}");
        refused += 1;
        assert_eq!(tail(&catalog.view().expect("a view")), 1);
    }
    assert!(refused > 5, "the disk never was full");
    disk.set_space(u64::MAX);
    assert_eq!(tail(&catalog.view().expect("a view")), 2);
    drop(before);
    try_fold(&catalog, 3).expect("there is space again");
    assert_eq!(tail(&catalog.view().expect("a view")), 3);
    drop(catalog);
    let catalog = Catalog::open(&disk, path(), CACHE_BYTES).expect("it opens");
    assert_eq!(tail(&catalog.view().expect("a view")), 3);
}

/// redb refuses to read after it could not write. Whoever had begun to read saw errors for want of space.
#[test]
fn views_go_on_while_the_disk_is_full() {
    let disk = MemoryDisk::new();
    let catalog = folded_once(&disk);
    let view = catalog.view().expect("a view");
    disk.set_space(4);
    let error = try_fold(&catalog, 2).expect_err("the disk is full");
    assert_eq!(kind(&error), Some(io::ErrorKind::StorageFull));
    assert_eq!(tail(&view), 1);
    assert_eq!(tail(&catalog.view().expect("a view")), 1);
    catalog.reopen().expect("it opens");
    assert_eq!(tail(&view), 1);
    disk.set_space(u64::MAX);
    try_fold(&catalog, 2).expect("there is space again");
    try_fold(&catalog, 3).expect("there is space again");
    // It has gone over to the database that is open now, and is a snapshot of that.
    assert_eq!(tail(&view), 1);
    assert_eq!(tail(&catalog.view().expect("a view")), 3);
}

#[test]
fn a_view_of_a_failed_database_never_shows_what_was_changed_since() {
    let disk = MemoryDisk::new();
    let catalog = folded_once(&disk);
    let view = catalog.view().expect("a view");
    disk.set_space(4);
    try_fold(&catalog, 2).expect_err("the disk is full");
    disk.set_space(u64::MAX);
    catalog.reopen().expect("it opens");
    try_fold(&catalog, 2).expect("there is space again");
    try_fold(&catalog, 3).expect("there is space again");
    // Pages that it refers to may be written anew by now, so it may fail, but not lie.
    let mut failed = 0;
    for number in 1..=STREAMS {
        match view.row(id(number)) {
            Ok(row) => assert_eq!(row.expect("it is there").state.tail, at(1)),
            Err(error) => {
                assert_eq!(kind(&error), Some(io::ErrorKind::StorageFull), "{error}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "all was cached, and nothing was tested");
}

/// A change that has failed is over only when it is dropped: until then redb would begin another one in the database
/// that is open instead.
#[test]
fn one_change_is_made_at_a_time_also_after_the_disk_was_full() {
    let disk = MemoryDisk::new();
    let catalog = folded_once(&disk);
    let mut failed = catalog.change().expect("a change begins");
    disk.set_space(0);
    let put = |number| failed.write(|tables| tables.streams.put_row(&plain(number, "new"), None));
    (1..=100_000).try_for_each(put).expect_err("the disk is full");
    disk.set_space(u64::MAX);
    catalog.reopen().expect("it opens");
    let (sender, began) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let next = catalog.change().expect("a change begins");
            sender.send(()).expect("somebody waits");
            drop(next);
        });
        let early = began.recv_timeout(Duration::from_millis(100));
        assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
        drop(failed);
        began.recv().expect("its turn comes");
    });
}

#[test]
fn a_failed_sync_is_for_good() {
    for fault in [Fault::Syncs, Fault::OneSync] {
        let disk = MemoryDisk::new();
        let catalog = folded_once(&disk);
        disk.set_fault(fault);
        let error = try_fold(&catalog, 2).expect_err("it cannot be synced");
        assert!(matches!(error, BackendError::Io { .. }), "{error}");
        disk.set_fault(Fault::Nothing);
        assert!(catalog.reopen().is_err(), "nobody knows what is on the disk");
        assert!(catalog.change().is_err(), "nobody knows what is on the disk");
        drop(catalog);
        let crashed = disk.after_crash(|_| false);
        let catalog = Catalog::open(&crashed, path(), CACHE_BYTES).expect("it opens");
        assert_eq!(tail(&catalog.view().expect("a view")), 1);
    }
}

#[test]
fn a_failed_write_is_for_good() {
    let disk = MemoryDisk::new();
    let catalog = folded_once(&disk);
    disk.set_fault(Fault::Writes);
    try_fold(&catalog, 2).expect_err("it cannot be written");
    disk.set_fault(Fault::Nothing);
    let error = catalog.reopen().expect_err("it is not known what was written");
    assert_eq!(kind(&error), Some(io::Error::from_raw_os_error(libc::EIO).kind()));
    assert!(catalog.change().is_err());
}

#[test]
fn a_failed_read_fails_once() {
    let disk = MemoryDisk::new();
    let catalog = folded_once(&disk);
    let view = catalog.view().expect("a view");
    disk.set_fault(Fault::Reads);
    let failed = (1..=STREAMS).find_map(|number| view.row(id(number)).err());
    let error = failed.expect("not everything is cached");
    assert_eq!(kind(&error), Some(io::Error::from_raw_os_error(libc::EIO).kind()));
    disk.set_fault(Fault::Nothing);
    assert_eq!(tail(&catalog.view().expect("a view")), 1);
    try_fold(&catalog, 2).expect("it works again");
}

/// How many writes and syncs the second fold takes.
fn operations_of_a_fold(closed: &MemoryDisk) -> u64 {
    const MANY: u64 = 1 << 40;
    let disk = closed.after_crash(|_| true);
    let catalog = Catalog::open(&disk, path(), LITTLE_CACHE_BYTES).expect("it opens");
    disk.set_fault(Fault::After(MANY, libc::EIO));
    try_fold(&catalog, 2).expect("nothing fails");
    MANY - disk.left()
}

#[test]
fn what_lacks_space_at_any_point_is_made_or_not_and_says_so() {
    let closed = MemoryDisk::new();
    drop(folded_once(&closed));
    let operations = operations_of_a_fold(&closed);
    let (mut undone, mut uncertain, mut unknown) = (0, 0, 0);
    for before in (0..operations).step_by(9).chain(operations - 8..operations) {
        let disk = closed.after_crash(|_| true);
        let catalog = Catalog::open(&disk, path(), LITTLE_CACHE_BYTES).expect("it opens");
        let view = catalog.view().expect("a view");
        disk.set_fault(Fault::After(before, libc::ENOSPC));
        let made = try_fold(&catalog, 2);
        disk.set_fault(Fault::Nothing);
        let tail_is = |expected| assert_eq!(tail(&catalog.view().expect("a view")), expected);
        match made {
            Ok(()) => tail_is(2),
            Err(error) if kind(&error) == Some(io::ErrorKind::StorageFull) => {
                tail_is(1);
                assert_eq!(tail(&view), 1);
                try_fold(&catalog, 2).expect("there is space again");
                tail_is(2);
                undone += 1;
            }
            // The header may have been written, and it could not be looked at what shows.
            Err(_) if catalog.reopen().is_ok() => uncertain += 1,
            Err(_) => {
                // It was a sync that failed.
                assert!(catalog.change().is_err());
                unknown += 1;
            }
        }
    }
    // Most of it is done before the header is written, and undone for certain.
    assert!(
        undone > 4 * uncertain && uncertain > 0 && unknown > 0,
        "{undone} undone, {uncertain} uncertain, {unknown} unknown"
    );
}

/// A change is cut off at one of its writes or syncs, and of what was not synced any part is left.
#[test]
fn a_crash_leaves_all_of_a_change_or_nothing() {
    let random = &mut fastrand::Rng::with_seed(71);
    let closed = MemoryDisk::new();
    drop(folded_once(&closed));
    let open = |disk: &MemoryDisk| Catalog::open(disk, path(), LITTLE_CACHE_BYTES).expect("it opens");
    let operations = operations_of_a_fold(&closed);
    assert!(operations > 50, "there is not much to cut off");
    let mut tails = Vec::new();
    let any: Vec<_> = (0..12).map(|_| random.u64(..operations)).collect();
    let last = (operations - 6..=operations).flat_map(|before| [before; 4]);
    for before in any.into_iter().chain(last) {
        let disk = closed.after_crash(|_| true);
        let catalog = open(&disk);
        disk.set_fault(Fault::After(before, libc::EIO));
        // What comes after the last sync need not succeed.
        let acknowledged = try_fold(&catalog, 2).is_ok();
        let share = random.f64();
        let crashed = disk.after_crash(|_| random.f64() < share);
        let catalog = open(&crashed);
        let found = tail(&catalog.view().expect("a view"));
        assert!(
            found == 2 || (found == 1 && !acknowledged),
            "{found} after {before} operations"
        );
        tails.push(found);
        try_fold(&catalog, found + 1).expect("it goes on");
        assert_eq!(tail(&catalog.view().expect("a view")), found + 1);
    }
    assert!(
        tails.contains(&1) && tails.contains(&2),
        "{tails:?} does not show both"
    );
}

#[test]
fn what_was_committed_survives_a_crash() {
    let disk = MemoryDisk::new();
    let catalog = folded_once(&disk);
    for found in [1, 2, 3] {
        let crashed = disk.after_crash(|_| false);
        let crashed = Catalog::open(&crashed, path(), CACHE_BYTES).expect("it opens");
        assert_eq!(tail(&crashed.view().expect("a view")), found);
        try_fold(&catalog, found + 1).expect("there is space");
    }
}

/// It would take a minute for some millions of streams.
#[test]
fn a_catalog_is_not_read_as_a_whole_when_it_is_opened() {
    let disk = MemoryDisk::new();
    let catalog = folded_once(&disk);
    let crashed = disk.after_crash(|_| false);
    drop(catalog);
    for disk in [crashed, disk] {
        let before = disk.reads();
        let catalog = Catalog::open(&disk, path(), CACHE_BYTES).expect("it opens");
        catalog.view().and_then(|view| view.meta()).expect("read");
        if !cfg!(debug_assertions) {
            // With its assertions on, redb goes through all pages.
            assert!(disk.reads() - before < 40, "{} reads", disk.reads() - before);
        }
        drop(catalog);
    }
}
