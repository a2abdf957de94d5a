//! In which order a file is written and synced.

use std::path::Path;

use redb::StorageBackend as _;

use super::*;
use crate::database::LOG_BYTES_MAX;
use crate::database::pages::{PAGE_BYTES, outer_len};
use crate::disk::memory::MemoryDisk;
use crate::disk::{Disk as _, Map};

/// What was done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Header,
    /// Pages or checksums.
    Pages,
    Length(u64),
    Sync,
}
use Done::{Header as HeaderDone, Length, Pages, Sync};

/// A file that notes what is done to it.
struct Noted {
    file: Arc<dyn DiskFile>,
    done: Mutex<Vec<Done>>,
    /// Whether the next sync fails.
    fails: AtomicBool,
    /// Whether it takes nothing.
    is_full: AtomicBool,
    /// Whether it gives nothing.
    is_mute: AtomicBool,
    /// Without free space nothing is written ahead of pages.
    free_bytes: u64,
}

impl DiskFile for Noted {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.is_mute.load(Ordering::Relaxed) {
            return Err(io::Error::other("it cannot be read"));
        }
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let is_header = offset < 2 * PAGE_BYTES;
        self.done.lock().push(if is_header { HeaderDone } else { Pages });
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.done.lock().push(Length(len));
        self.file.set_len(len)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.done.lock().push(Sync);
        if self.fails.swap(false, Ordering::Relaxed) {
            return Err(io::Error::other("the disk is broken"));
        }
        self.file.sync()
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        self.file.map(len)
    }
}

/// A medium over such a file, of so many pages, whose header was written and synced.
fn noted(pages: u64) -> (Backend, Arc<Noted>) {
    let file = MemoryDisk::new().create(Path::new("file")).expect("made");
    let noted = Arc::new(Noted {
        file,
        done: Mutex::default(),
        fails: AtomicBool::new(false),
        is_full: AtomicBool::new(false),
        is_mute: AtomicBool::new(false),
        free_bytes: 0,
    });
    let medium = Medium::create(Arc::<Noted>::clone(&noted), &LogFile::None, &Lost::default());
    let backend = Backend(Arc::new(medium.expect("made")));
    backend.set_len(pages * PAGE_BYTES).expect("done");
    backend.write(0, &[1; 512]).expect("done");
    backend.sync_data().expect("done");
    noted.done.lock().clear();
    (backend, noted)
}

impl Noted {
    fn take(&self) -> Vec<Done> {
        std::mem::take(&mut self.done.lock())
    }
}

#[test]
fn a_longer_file_is_synced_before_the_header_says_so_and_not_earlier() {
    let (backend, noted) = noted(4);
    backend.set_len(8 * PAGE_BYTES).expect("done");
    backend.sync_data().expect("done");
    assert_eq!(noted.take(), [Length(outer_len(8 * PAGE_BYTES))]);
    backend.write(0, &[2; 512]).expect("done");
    assert_eq!(noted.take(), [Sync, HeaderDone]);
    backend.sync_data().expect("done");
    assert_eq!(noted.take(), [Sync]);
}

/// Pages of checksums that have no place on a full disk would keep the database from being opened anew.
#[test]
fn checksums_have_their_place_as_soon_as_the_file_is_long_enough() {
    let (backend, noted) = noted(4);
    backend.set_len(1024 * PAGE_BYTES).expect("done");
    assert_eq!(noted.take(), [Length(outer_len(1024 * PAGE_BYTES))]);
    backend.set_len(3000 * PAGE_BYTES).expect("done");
    let length = Length(outer_len(3000 * PAGE_BYTES));
    assert_eq!(noted.take(), [length, Pages, Pages]);
}

/// The kernel tells of a failed write-back once.
#[test]
fn a_sync_that_was_put_off_and_failed_is_not_tried_again() {
    let (backend, noted) = noted(4);
    backend.set_len(8 * PAGE_BYTES).expect("done");
    backend.sync_data().expect("done");
    noted.fails.store(true, Ordering::Relaxed);
    noted.take();
    backend.write(0, &[2; 512]).expect_err("the sync has failed");
    assert_eq!(noted.take(), [Sync]);
    backend.write(0, &[2; 512]).expect_err("it stays so");
    backend
        .write(3 * PAGE_BYTES, &[3; 4096])
        .expect_err("it stays so");
    backend.sync_data().expect_err("it stays so");
    backend.set_len(16 * PAGE_BYTES).expect_err("it stays so");
    backend.close().expect("nothing is done");
    assert_eq!(noted.take(), []);
}

#[test]
fn pages_that_are_to_be_durable_first_are_so_with_their_checksums() {
    let (backend, noted) = noted(8);
    backend.write(3 * PAGE_BYTES, &[3; 4096]).expect("done");
    backend.write(5 * PAGE_BYTES, &[5; 4096]).expect("done");
    backend.sync_data().expect("done");
    assert_eq!(noted.take(), [Pages, Pages]);
    backend.write(0, &[2; 512]).expect("done");
    // Both checksums are written at once.
    assert_eq!(noted.take(), [Pages, Sync, HeaderDone]);
}

#[test]
fn one_sync_is_enough_for_pages_and_header() {
    let (backend, noted) = noted(8);
    backend.write(0, &[2; 512]).expect("done");
    backend.write(3 * PAGE_BYTES, &[3; 4096]).expect("done");
    backend.sync_data().expect("done");
    assert_eq!(noted.take(), [HeaderDone, Pages, Pages, Sync]);
    backend.close().expect("done");
    assert_eq!(noted.take(), []);
}

/// A database that gets shorter is closed then.
#[test]
fn what_was_put_off_is_synced_at_the_end() {
    let (backend, noted) = noted(8);
    backend.write(7 * PAGE_BYTES, &[7; 4096]).expect("done");
    backend.set_len(4 * PAGE_BYTES).expect("done");
    backend.sync_data().expect("done");
    noted.take();
    backend.close().expect("done");
    // The checksum of a page that is not there any more is not written.
    assert_eq!(noted.take(), [Sync]);
}

/// Two files that note what is done to them, and a medium of so many pages over them that has begun its log.
fn logged(pages: u64) -> (Backend, Arc<Noted>, Arc<Noted>) {
    logged_beside(pages, u64::MAX)
}

/// Likewise on a disk that has so many bytes left.
fn logged_beside(pages: u64, free_bytes: u64) -> (Backend, Arc<Noted>, Arc<Noted>) {
    let disk = MemoryDisk::new();
    let [file, log] = ["file", "log"].map(|name| {
        let file = disk.create(Path::new(name)).expect("made");
        Arc::new(Noted {
            file,
            done: Mutex::default(),
            fails: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            is_mute: AtomicBool::new(false),
            free_bytes,
        })
    });
    let written = LogFile::Written(Arc::<Noted>::clone(&log), LOG_BYTES_MAX);
    let medium = Medium::create(Arc::<Noted>::clone(&file), &written, &Lost::default());
    let backend = Backend(Arc::new(medium.expect("made")));
    backend.set_len(pages * PAGE_BYTES).expect("done");
    backend.write(0, &[1; 512]).expect("done");
    backend.sync_data().expect("done");
    backend.0.be_strict();
    file.take();
    log.take();
    (backend, file, log)
}

/// Commits a page that says this byte.
fn commit(backend: &Backend, page: u64, byte: u8) {
    backend.write(page * PAGE_BYTES, &[byte; 4096]).expect("done");
    backend.write(0, &[byte; 512]).expect("done");
    backend.sync_data().expect("done");
}

/// What a page says, read anew after a crash that has kept all that was written.
fn reopened(file: &Arc<Noted>, log: &Arc<Noted>, page: u64) -> u8 {
    let written = LogFile::Written(Arc::<Noted>::clone(log), LOG_BYTES_MAX);
    let medium = Medium::open(Arc::<Noted>::clone(file), &written, &Lost::default());
    let mut bytes = [0; 4096];
    let backend = Backend(Arc::new(medium.expect("it opens")));
    backend.read(page * PAGE_BYTES, &mut bytes).expect("readable");
    bytes[0]
}

#[test]
fn a_commit_is_one_sync_of_the_log_and_leaves_the_file_alone() {
    let (backend, file, log) = logged(64);
    for byte in 2..5 {
        commit(&backend, 3, byte);
        assert!(log.take().ends_with(&[Sync]));
        let mut page = [0; 4096];
        backend.read(3 * PAGE_BYTES, &mut page).expect("readable");
        assert_eq!(page[0], byte);
        assert_eq!(reopened_copy(&file, &log, 3), byte);
    }
    assert!(!file.take().contains(&Sync));
}

/// As [`reopened`], of copies of both files.
fn reopened_copy(file: &Arc<Noted>, log: &Arc<Noted>, page: u64) -> u8 {
    let [file, log] = copies(file, log);
    reopened(&file, &log, page)
}

fn copies(file: &Noted, log: &Noted) -> [Arc<Noted>; 2] {
    let disk = MemoryDisk::new();
    [("file", file), ("log", log)].map(|(name, from)| {
        let file = disk.create(Path::new(name)).expect("made");
        file.write_at(0, &bytes_of(from)).expect("written");
        Arc::new(Noted {
            file,
            done: Mutex::default(),
            fails: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            is_mute: AtomicBool::new(false),
            free_bytes: u64::MAX,
        })
    })
}

#[test]
fn what_the_log_has_is_durable_in_its_place_before_the_header_there_tells_of_it() {
    let (backend, file, log) = logged(1024);
    commit(&backend, 3, 3);
    file.take();
    // It is too long for the log.
    backend.write(5 * PAGE_BYTES, &vec![5; 3 << 20]).expect("done");
    assert!(!file.take().contains(&HeaderDone));
    backend.write(0, &[3; 512]).expect("done");
    log.take();
    backend.sync_data().expect("done");
    assert_eq!(log.take(), [], "nothing of it is there");
    let done = file.take();
    let syncs = done.iter().position(|done| *done == Sync).expect("it is synced");
    assert!(
        done[..syncs].iter().all(|done| *done == Pages) && syncs > 0,
        "{done:?}"
    );
    assert_eq!(done[syncs..], [Sync, HeaderDone, Sync, HeaderDone]);
    assert_eq!([3, 5].map(|page| reopened_copy(&file, &log, page)), [3, 5]);
}

#[test]
fn a_closed_database_has_an_empty_log() {
    let (backend, file, log) = logged(64);
    commit(&backend, 3, 3);
    backend.close().expect("done");
    assert_eq!(log.len().expect("a length"), 0);
    assert_eq!(reopened(&file, &log, 3), 3);
}

/// Others may take what is left before it is needed.
#[test]
fn on_a_disk_that_is_nearly_full_all_is_in_its_place_before_it_is_acknowledged() {
    let (backend, file, log) = logged_beside(64, 1 << 20);
    for byte in 2..5 {
        commit(&backend, 3, byte);
        assert_eq!(log.take(), []);
        assert_eq!(file.take(), [Pages, Pages, Sync, HeaderDone, Sync, HeaderDone]);
        assert_eq!(reopened_copy(&file, &log, 3), byte);
    }
}

/// A file that is shortened has nothing behind its end, also nothing that the log has of it.
#[test]
fn what_is_cut_off_is_not_placed() {
    let (backend, file, log) = logged(64);
    backend.write(3 * PAGE_BYTES, &[3; 4096]).expect("done");
    commit(&backend, 60, 6);
    backend.set_len(32 * PAGE_BYTES).expect("done");
    backend.write(0, &[3; 512]).expect("done");
    backend.sync_data().expect("done");
    let [crashed, its_log] = copies(&file, &log);
    assert_eq!(reopened(&crashed, &its_log, 3), 3);
    backend.close().expect("done");
    for file in [file, crashed] {
        assert_eq!(file.len().expect("a length"), outer_len(32 * PAGE_BYTES));
    }
}

/// Whoever was told that there is no space must not find it there later.
#[test]
fn a_commit_that_has_failed_is_not_made_when_the_database_is_closed() {
    let (backend, file, log) = logged(1024);
    commit(&backend, 3, 3);
    backend.write(3 * PAGE_BYTES, &[4; 4096]).expect("done");
    backend.write(5 * PAGE_BYTES, &vec![5; 3 << 20]).expect("done");
    backend.write(0, &[3; 512]).expect("done");
    file.is_full.store(true, Ordering::Relaxed);
    let error = backend.sync_data().expect_err("there is no space");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    file.is_full.store(false, Ordering::Relaxed);
    backend.close().expect("nothing is done");
    assert_eq!(reopened(&file, &log, 3), 3);
}

/// redb writes some pages for the sake of memory alone, and does not tell whoever commits that this has failed.
#[test]
fn no_record_is_put_once_something_could_not_be_written() {
    let (backend, file, log) = logged(1024);
    commit(&backend, 3, 3);
    backend.write(3 * PAGE_BYTES, &[4; 4096]).expect("done");
    file.is_full.store(true, Ordering::Relaxed);
    backend
        .write(5 * PAGE_BYTES, &vec![5; 3 << 20])
        .expect_err("there is no space");
    file.is_full.store(false, Ordering::Relaxed);
    backend.write(0, &[3; 512]).expect("done");
    let error = backend.sync_data().expect_err("a page is missing");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    backend.close().expect("nothing is done");
    assert_eq!(reopened(&file, &log, 3), 3);
}

#[test]
fn a_log_that_cannot_be_read_for_a_moment_ends_nothing() {
    let (backend, file, log) = logged(1024);
    commit(&backend, 3, 3);
    // It is too long for the log.
    backend.write(5 * PAGE_BYTES, &vec![5; 3 << 20]).expect("done");
    backend.write(0, &[3; 512]).expect("done");
    log.is_mute.store(true, Ordering::Relaxed);
    backend
        .sync_data()
        .expect_err("page 3 cannot be put into its place");
    let trouble = backend.0.trouble().expect("it has failed");
    assert!(!trouble.for_good, "it may be opened anew");
    log.is_mute.store(false, Ordering::Relaxed);
    assert_eq!(reopened(&file, &log, 3), 3);
}

/// The bytes of a file.
fn bytes_of(file: &Noted) -> Vec<u8> {
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_at(0, &mut bytes).expect("readable");
    bytes
}

/// A crash may come between the header in place and the end of the log that leads to it, and another one while the database
/// is opened, which tears what is written then.
#[test]
fn the_header_in_place_stays_if_the_log_leads_no_further() {
    let (backend, file, log) = logged(64);
    for byte in 2..5 {
        commit(&backend, 3, byte);
    }
    let records = bytes_of(&log);
    backend.close().expect("done");
    log.write_at(0, &records).expect("written");
    let before = bytes_of(&file);
    assert_eq!(reopened(&file, &log, 3), 4);
    assert_eq!(bytes_of(&file), before);
}

/// redb may find that it cannot open the database after all.
#[test]
fn a_log_whose_records_are_in_their_places_is_emptied_though_it_was_not_gone_on_with() {
    let (backend, file, log) = logged(64);
    commit(&backend, 3, 3);
    let written = LogFile::Written(Arc::<Noted>::clone(&log), LOG_BYTES_MAX);
    let medium = Medium::open(Arc::<Noted>::clone(&file), &written, &Lost::default());
    Backend(Arc::new(medium.expect("it opens")))
        .close()
        .expect("done");
    assert_eq!(log.len().expect("a length"), 0);
    assert_eq!(reopened(&file, &log, 3), 3);
}
