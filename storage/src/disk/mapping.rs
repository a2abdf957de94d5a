//! Read-only maps of files. The one place where memory is touched behind the compiler's back.
//!
//! # Why this is sound
//!
//! *Validity.* A [`Mapping`] owns its map, which is neither moved, shrunk nor unmapped before it is dropped, and
//! every slice is either lent for a call ([`Map::look`]) or owned together with an `Arc` of the mapping
//! ([`Map::bytes`]). Each range is checked against the length of the map, in release builds too. An unlinked file
//! lives until it is unmapped.
//!
//! *Aliasing.* Bytes behind a `&[u8]` must not change. The map is shared, so whatever is written to the file shows
//! in it; but writes reach the page cache by system calls, never by a Rust reference, and no slice is ever made of
//! anything but the range asked for, so the bytes around it may change at any time, also within its pages. That
//! the range itself stays as it is, is what [`Map`] demands of its callers, and what the store is built on: a
//! journal is written forwards and shown only up to what is durable, a segment is shown once it is sealed, and a
//! file is written anew only when no map of it is left. No other process writes the files of a store: it is
//! locked, and its files are of mode 0600.
//!
//! *Coherence.* Writes show in maps at once because both are the page cache. This is so on local file systems of
//! Linux, not on every network file system.
//!
//! # What SIGBUS can still do
//!
//! A page that is not in memory when it is touched is read then, and if that fails, or the file has become too
//! short to have that page, the process gets SIGBUS and ends. This is no unsoundness, but an end without an answer.
//! Hence a map is not made longer than its file, the store touches nothing that it has cut off a file, and
//! [`Map::populate`] fetches pages by calls that answer with an error. What remains: a page that was resident or
//! populated and is evicted again before it is touched, on a disk that cannot read it any more; and somebody else
//! who shortens the file.
#![expect(
    unsafe_code,
    reason = "slices of a map, and asking the kernel for its pages; the argument stands above"
)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
use memmap2::Advice;
use memmap2::{MmapOptions, MmapRaw};

use super::Map;
use super::sealed_maps::Told;

/// Pages that the kernel is asked about at once: 4 MiB of them, mostly.
const PAGES_ASKED: usize = 1024;

/// Bytes read at once where the kernel cannot populate a map.
const READ_BYTES: usize = 128 << 10;

/// A shared, read-only map of a file's beginning.
pub(super) struct Mapping {
    /// Before the map, for it must be dropped before that is undone.
    told: Option<Told>,
    /// Raw, for no slice of the whole map may ever be made.
    map: MmapRaw,
    file: Arc<File>,
}

impl Mapping {
    pub(super) fn new(file: &Arc<File>, len: u64) -> io::Result<Self> {
        if file.metadata()?.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(len).map_raw_read_only(&**file)?;
        Ok(Self {
            told: None,
            map,
            file: Arc::clone(file),
        })
    }

    /// A map of a file that nobody will write again: its bytes may be sent from the file.
    pub(super) fn sealed(file: &Arc<File>, len: u64) -> io::Result<Self> {
        let mut mapping = Self::new(file, len)?;
        mapping.told = Told::of(mapping.map.as_ptr(), mapping.map.len(), file);
        Ok(mapping)
    }

    /// The same range, which is certainly within the map.
    fn checked(&self, range: &Range<u64>) -> Range<usize> {
        let len = self.map.len();
        assert!(
            range.start <= range.end && range.end <= len as u64,
            "{range:?} reaches beyond a map of {len} bytes"
        );
        range.start as usize..range.end as usize
    }

    /// The bytes of a checked range, which nobody may write any more.
    fn slice(&self, range: &Range<usize>) -> &[u8] {
        debug_assert!(range.start <= range.end && range.end <= self.map.len());
        // SAFETY: the range was checked to be within the map, which lives as long as `self`; the callers of `Map`
        // ask only for what nobody writes. See the module's argument.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(range.start), range.len()) }
    }

    /// Whether the kernel has these whole pages of the map in memory.
    fn has_pages(&self, pages: Range<usize>, page_size: usize) -> bool {
        let mut answers = [0_u8; PAGES_ASKED];
        pages.clone().step_by(PAGES_ASKED).all(|first| {
            let count = (pages.end - first).min(PAGES_ASKED);
            // The last page may be cut off by the end of the map, which is mapped as a whole page nevertheless.
            let start = first * page_size;
            let len = (count * page_size).min(self.map.len() - start);
            // SAFETY: the range is within the map, its start is page-aligned as the map is, and there is room for
            // one byte per page. Nothing of the map is read or changed.
            let asked = unsafe {
                libc::mincore(
                    self.map.as_mut_ptr().add(start).cast(),
                    len,
                    answers.as_mut_ptr().cast(),
                )
            };
            // The kernel sets other bits than the lowest as it likes. To those who may not write a file it says
            // that all of it is there, but a store owns its files.
            asked == 0 && answers[..count].iter().all(|page| page & 1 == 1)
        })
    }

    /// Has the kernel fetch a range into memory, if it can. Those of Linux before 5.14 know no such advice.
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    fn fetch(&self, range: &Range<usize>) -> bool {
        self.map
            .advise_range(Advice::PopulateRead, range.start, range.len())
            .is_ok()
    }

    /// Kernels other than Linux have no advice that tells whether it was followed.
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    fn fetch(&self, _: &Range<usize>) -> bool {
        false
    }

    /// Reads through the file what the map is to show, so that it is in the page cache, or the disk's error known.
    fn read_through(&self, range: &Range<u64>) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES.min((range.end - range.start) as usize)];
        let mut at = range.start;
        while at < range.end {
            let count = buffer.len().min((range.end - at) as usize);
            self.file.read_exact_at(&mut buffer[..count], at)?;
            at += count as u64;
        }
        Ok(())
    }
}

impl Map for Mapping {
    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn look(&self, range: Range<u64>, look: &mut dyn FnMut(&[u8])) {
        look(self.slice(&self.checked(&range)));
    }

    fn bytes(self: Arc<Self>, range: Range<u64>) -> Bytes {
        let range = self.checked(&range);
        if range.is_empty() {
            return Bytes::new(); // Nothing needs no map to live.
        }
        Bytes::from_owner(Shown { mapping: self, range })
    }

    fn is_resident(&self, range: Range<u64>) -> bool {
        let range = self.checked(&range);
        if range.is_empty() {
            return true;
        }
        let page_size = page_size();
        self.has_pages(range.start / page_size..range.end.div_ceil(page_size), page_size)
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let checked = self.checked(&range);
        if checked.is_empty() {
            return Ok(());
        }
        if self.fetch(&checked) {
            return Ok(());
        }
        // Of a disk's error the kernel says no more than that there is a bad address. Reading through the file works
        // everywhere, and its error is the disk's.
        self.read_through(&range)
    }
}

/// Owns what some [`Bytes`] show.
struct Shown {
    mapping: Arc<Mapping>,
    /// Checked to be within the mapping.
    range: Range<usize>,
}

impl AsRef<[u8]> for Shown {
    fn as_ref(&self) -> &[u8] {
        self.mapping.slice(&self.range)
    }
}

fn page_size() -> usize {
    // SAFETY: asks for a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("every system has pages")
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn file_of(bytes: &[u8]) -> Arc<File> {
        let file = tempfile::tempfile().expect("a file can be made");
        file.write_all_at(bytes, 0).expect("written");
        Arc::new(file)
    }

    fn map_of(bytes: &[u8]) -> Arc<Mapping> {
        Arc::new(Mapping::new(&file_of(bytes), bytes.len() as u64).expect("mapped"))
    }

    fn looked(map: &Mapping, range: Range<u64>) -> Vec<u8> {
        let mut seen = Vec::new();
        map.look(range, &mut |bytes| seen.extend_from_slice(bytes));
        seen
    }

    #[test]
    fn shows_what_is_written_later() {
        let file = file_of(&[0; 10_000]);
        let map = Arc::new(Mapping::new(&file, 10_000).expect("mapped"));
        file.write_all_at(b"later", 5000).expect("written");
        assert_eq!(looked(&map, 4999..5006), b"\0later\0");
        assert_eq!(map.bytes(5000..5005), &b"later"[..]);
    }

    #[test]
    fn outlives_the_file_its_name_and_its_handle() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let path = dir.path().join("file");
        std::fs::write(&path, b"0123456789").expect("written");
        let file = Arc::new(File::open(&path).expect("opened"));
        let map = Arc::new(Mapping::new(&file, 10).expect("mapped"));
        let bytes = Arc::clone(&map).bytes(3..6);
        drop((file, map));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(bytes, &b"345"[..]);
    }

    #[test]
    fn bytes_keep_the_map_and_copy_nothing() {
        let map = map_of(b"0123456789");
        let bytes = Arc::clone(&map).bytes(2..8);
        looked(&map, 2..8);
        map.look(2..8, &mut |seen| assert_eq!(seen.as_ptr(), bytes.as_ptr()));
        assert_eq!(Arc::strong_count(&map), 2);
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!(Arc::strong_count(&map), 2);
        drop(part);
        assert_eq!(Arc::strong_count(&map), 1);
    }

    #[test]
    fn nothing_keeps_no_map() {
        let map = map_of(b"0123456789");
        let nothing = Arc::clone(&map).bytes(10..10);
        assert!(nothing.is_empty());
        assert_eq!(Arc::strong_count(&map), 1);
    }

    #[test]
    fn what_was_populated_is_resident() {
        // More pages than are asked about at once, with ends within pages.
        let len = (2 * PAGES_ASKED * page_size() + 100) as u64;
        let file = file_of(&[]);
        file.set_len(len).expect("extended");
        let map = Mapping::new(&file, len).expect("mapped");
        assert!(!map.is_resident(0..len), "a hole that nobody has read yet");
        assert!(!map.is_resident(len - 1..len));
        let before_last = len - page_size() as u64;
        map.populate(3..before_last).expect("populated");
        assert!(map.is_resident(3..before_last));
        map.populate(len - 1..len).expect("populated");
        assert!(map.is_resident(0..len));
    }

    #[test]
    fn one_missing_page_far_behind_is_noticed() {
        let pages = PAGES_ASKED + 3;
        let len = (pages * page_size()) as u64;
        let file = file_of(&[]);
        file.set_len(len).expect("extended");
        let map = Mapping::new(&file, len).expect("mapped");
        // Written rather than populated, for the kernel reads ahead.
        for page in 0..pages - 2 {
            file.write_all_at(b"1", (page * page_size()) as u64)
                .expect("written");
        }
        let written = ((pages - 2) * page_size()) as u64;
        assert!(map.is_resident(0..written));
        assert!(!map.is_resident(0..written + 1));
    }

    #[test]
    fn reading_through_the_file_reads_all_of_it() {
        let len = (READ_BYTES * 2 + 10) as u64;
        let file = file_of(&vec![7; len as usize]);
        file.sync_data().expect("synced");
        // Whether the system forgets its pages is up to it: on tmpfs it cannot, and others than Linux are not asked.
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advised");
        let map = Mapping::new(&file, len).expect("mapped");
        map.read_through(&(5..len)).expect("read");
        assert!(map.is_resident(5..len));
        file.set_len(len - 1).expect("cut off");
        let error = map.read_through(&(5..len)).expect_err("the last byte is gone");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn populating_what_the_file_lost_is_an_error() {
        let len = (4 * page_size()) as u64;
        let file = file_of(&[]);
        file.set_len(len).expect("extended");
        let map = Mapping::new(&file, len).expect("mapped");
        file.set_len(0).expect("cut off");
        let error = map.populate(0..len).expect_err("there is nothing to read");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(!map.is_resident(0..len));
    }

    #[test]
    fn an_empty_map_shows_nothing() {
        let map = map_of(b"");
        assert!(map.is_empty());
        assert_eq!(looked(&map, 0..0), b"");
        assert!(map.is_resident(0..0));
        map.populate(0..0).expect("nothing to fetch");
        assert!(map.bytes(0..0).is_empty());
    }

    #[test]
    fn a_map_longer_than_its_file_is_refused() {
        let file = file_of(b"0123456789");
        let refused = |len| Mapping::new(&file, len).err().map(|error| error.kind());
        assert_eq!(refused(11), Some(io::ErrorKind::UnexpectedEof));
        assert_eq!(refused(u64::MAX), Some(io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn ranges_beyond_the_map_panic() {
        let map = map_of(b"0123456789");
        #[expect(clippy::reversed_empty_ranges, reason = "that is the bug to be caught")]
        let bugs = [0..11, 10..11, 11..11, 7..3, u64::MAX - 1..u64::MAX, 5..u64::MAX];
        let panics = |call: &dyn Fn()| catch_unwind(AssertUnwindSafe(call)).is_err();
        for range in bugs {
            assert!(panics(&|| map.look(range.clone(), &mut |_| ())), "{range:?}");
            assert!(
                panics(&|| drop(Arc::clone(&map).bytes(range.clone()))),
                "{range:?}"
            );
            assert!(
                panics(&|| {
                    let _ = map.is_resident(range.clone());
                }),
                "{range:?}"
            );
            assert!(panics(&|| drop(map.populate(range.clone()))), "{range:?}");
        }
    }
}
