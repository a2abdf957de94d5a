//! Space for pages that are to be written for the first time, taken before them by writing zeros.
//!
//! redb's file grows by holes, so that a disk is not called full for want of what no commit needs yet. But a sync after the
//! first write into a hole has to write down where the page stands too, once more and after the page itself. Zeros that are
//! written a good deal at a time have that done once for all of them, as in a journal.
//!
//! Zeros are written only where no byte ever was, behind the last page of a group that has been written: whatever becomes of
//! them, also in a crash, the file says the same.

use std::io;
use std::ops::Range;

use parking_lot::Mutex;

use super::pages::{GROUP_PAGES, PAGE_BYTES, group_at};
use crate::disk::DiskFile;

/// As much is taken as a group has, within these bounds, so that shards with little in them stay small.
const AHEAD_PAGES_MIN: u64 = 16;
const AHEAD_PAGES_MAX: u64 = 256;
/// Pages that are left out between two that are written, so that more are not worth to be taken.
const GAP_PAGES_MAX: u64 = 64;
/// Nothing is taken from a disk that has less than so many bytes.
const PLENTY_BYTES: u64 = 64 << 20;

/// What is written at once.
static ZEROS: [u8; (AHEAD_PAGES_MAX * PAGE_BYTES) as usize] = [0; (AHEAD_PAGES_MAX * PAGE_BYTES) as usize];

/// What is taken of a file.
pub(super) struct Ahead(Mutex<Taken>);

struct Taken {
    /// redb's pages in the file.
    pages: u64,
    /// How many pages of each group are taken from its beginning on; none if that is not known.
    groups: Vec<Option<u64>>,
}

impl Ahead {
    /// Of a file that is there, of so many of redb's pages.
    pub(super) fn of(pages: u64) -> Self {
        let groups = pages.div_ceil(GROUP_PAGES) as usize;
        Self(Mutex::new(Taken {
            pages,
            groups: vec![None; groups],
        }))
    }

    /// The file has so many pages from now on.
    pub(super) fn set_pages(&self, pages: u64) {
        let mut taken = self.0.lock();
        taken.pages = pages;
        taken.groups.resize(pages.div_ceil(GROUP_PAGES) as usize, Some(0));
        let in_last = taken.of_group(taken.groups.len().saturating_sub(1));
        if let Some(last) = taken.groups.last_mut() {
            *last = last.map(|last| last.min(in_last));
        }
    }

    /// Takes space for pages of one group, and for those behind them, unless it is taken already; if `fills_gaps`, for all
    /// before them too. Answers whether they have it.
    ///
    /// # Errors
    /// If the disk fails. That it is full is none: the pages themselves may still find room.
    pub(super) fn take(
        &self,
        file: &dyn DiskFile,
        first: u64,
        count: u64,
        fills_gaps: bool,
    ) -> io::Result<bool> {
        let mut taken = self.0.lock();
        let group = (first / GROUP_PAGES) as usize;
        let wanted = first % GROUP_PAGES..first % GROUP_PAGES + count;
        let Some(known) = taken.groups.get(group) else {
            return Ok(false);
        };
        let until = match known {
            Some(until) => *until,
            None => found(file, group, taken.of_group(group))?,
        };
        let mut now = until.max(wanted.end);
        let mut is_taken = wanted.end <= until;
        if !is_taken && file.free_bytes()? >= PLENTY_BYTES {
            let more = until.clamp(AHEAD_PAGES_MIN, AHEAD_PAGES_MAX);
            now = (wanted.end + more).min(taken.of_group(group)).max(wanted.end);
            let is_near = fills_gaps || wanted.start <= until + GAP_PAGES_MAX;
            write(file, group, if is_near { until } else { wanted.start }..now)?;
            is_taken = true;
        }
        taken.groups[group] = Some(now);
        Ok(is_taken)
    }
}

impl Taken {
    /// Pages of a group.
    fn of_group(&self, group: usize) -> u64 {
        (self.pages - group as u64 * GROUP_PAGES).min(GROUP_PAGES)
    }
}

/// Where the first page of a group stands.
fn pages_at(group: usize) -> u64 {
    group_at(group as u64 * GROUP_PAGES) + PAGE_BYTES
}

/// How many pages of a group are taken, of which nothing is known yet.
fn found(file: &dyn DiskFile, group: usize, pages: u64) -> io::Result<u64> {
    let at = pages_at(group);
    let end = file.unwritten_from(at..at + pages * PAGE_BYTES)?;
    Ok((end - at).div_ceil(PAGE_BYTES))
}

fn write(file: &dyn DiskFile, group: usize, pages: Range<u64>) -> io::Result<()> {
    let (mut at, end) = (
        pages_at(group) + pages.start * PAGE_BYTES,
        pages_at(group) + pages.end * PAGE_BYTES,
    );
    while at < end {
        let zeros = &ZEROS[..ZEROS.len().min((end - at) as usize)];
        match file.write_at(at, zeros) {
            Err(error) if is_full(&error) => return Ok(()),
            written => written?,
        }
        at += zeros.len() as u64;
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::database::pages::outer_len;
    use crate::disk::memory::MemoryDisk;
    use crate::disk::{Disk, RealDisk};

    fn made(disk: &dyn Disk, path: &Path, pages: u64) -> Arc<dyn DiskFile> {
        let file = disk.create(path).expect("made");
        file.set_len(outer_len(pages * PAGE_BYTES)).expect("long enough");
        file
    }

    fn place(page: u64) -> u64 {
        group_at(page) + (1 + page % GROUP_PAGES) * PAGE_BYTES
    }

    /// Up to which page a group is written.
    fn written(file: &dyn DiskFile, group: u64, pages: u64) -> u64 {
        found(file, group as usize, pages).expect("known")
    }

    #[test]
    fn as_much_is_taken_as_there_is_and_no_more_than_the_file_has() {
        let file = made(&MemoryDisk::new(), Path::new("file"), 1200);
        let ahead = Ahead::of(0);
        ahead.set_pages(1200);
        let take = |page, taken| {
            ahead.take(file.as_ref(), page, 1, false).expect("taken");
            assert_eq!(written(file.as_ref(), 0, GROUP_PAGES), taken, "page {page}");
        };
        take(1, 2 + 16);
        take(17, 18);
        take(18, 19 + 18);
        take(37, 38 + 37);
        take(1000, GROUP_PAGES);
        ahead.take(file.as_ref(), 1190, 4, false).expect("taken");
        assert_eq!(written(file.as_ref(), 1, 1200 - GROUP_PAGES), 1200 - GROUP_PAGES);
        assert_eq!(file.len().expect("a length"), outer_len(1200 * PAGE_BYTES));
    }

    /// Pages of any number are written in any order, the file grows and shrinks, and is opened again in between.
    #[test]
    fn what_was_written_stays_as_it_is() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut pages = rng.u64(1..3000);
            let file = made(&MemoryDisk::new(), Path::new("file"), pages);
            let mut ahead = Ahead::of(0);
            ahead.set_pages(pages);
            let mut expected = std::collections::BTreeMap::new();
            for step in 0..60 {
                match rng.u8(..10) {
                    0 => {
                        pages = rng.u64(1..3000);
                        file.set_len(outer_len(pages * PAGE_BYTES)).expect("done");
                        ahead.set_pages(pages);
                        expected.split_off(&pages);
                    }
                    1 => ahead = Ahead::of(pages),
                    _ => {
                        let first = rng.u64(..pages);
                        let count = rng
                            .u64(1..=8)
                            .min(pages - first)
                            .min(GROUP_PAGES - first % GROUP_PAGES);
                        ahead.take(file.as_ref(), first, count, false).expect("taken");
                        for page in first..first + count {
                            let bytes = [rng.u8(1..); PAGE_BYTES as usize];
                            file.write_at(place(page), &bytes).expect("written");
                            expected.insert(page, bytes[0]);
                        }
                    }
                }
                for (page, byte) in &expected {
                    let mut bytes = [0; PAGE_BYTES as usize];
                    file.read_at(place(*page), &mut bytes).expect("read");
                    let is_kept = bytes.iter().all(|read| read == byte);
                    assert!(is_kept, "seed {seed}, step {step}, page {page}");
                }
            }
        }
    }

    #[test]
    fn a_disk_with_little_space_keeps_it() {
        let disk = MemoryDisk::new();
        disk.set_space(PLENTY_BYTES / PAGE_BYTES - 1);
        let file = made(&disk, Path::new("file"), 500);
        let ahead = Ahead::of(0);
        ahead.set_pages(500);
        ahead.take(file.as_ref(), 3, 1, false).expect("nothing is wrong");
        assert_eq!(written(file.as_ref(), 0, 500), 0);
    }

    /// What the operating system says of holes is believed, so it has to be right on the disk of the tests.
    #[test]
    fn the_real_disk_knows_what_was_never_written() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let file = made(&RealDisk, &dir.path().join("file"), 300);
        let all = written(file.as_ref(), 0, 300);
        if all == 300 {
            return; // This file system keeps no record of holes.
        }
        assert_eq!(all, 0);
        file.write_at(place(40), &[1; PAGE_BYTES as usize])
            .expect("written");
        let after = written(file.as_ref(), 0, 300);
        assert!((41..300).contains(&after), "{after}, before a sync");
        file.sync().expect("synced");
        assert_eq!(written(file.as_ref(), 0, 300), after, "after it");
    }
}
