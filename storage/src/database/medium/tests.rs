//! In which order a file is written and synced.

use std::path::Path;

use redb::StorageBackend as _;

use super::*;
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
}

impl DiskFile for Noted {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let is_header = offset < 2 * PAGE_BYTES;
        self.done.lock().push(if is_header { HeaderDone } else { Pages });
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.done.lock().push(Length(len));
        self.file.set_len(len)
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
    });
    let medium = Medium::create(Arc::<Noted>::clone(&noted), &Lost::default());
    let backend = Backend(Arc::new(medium));
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
