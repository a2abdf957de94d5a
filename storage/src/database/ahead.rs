//! Space for pages that are to be written for the first time, taken before them by writing zeros.
//!
//! redb's file grows by holes, so that a disk is not called full for want of what no commit needs yet. But a sync after the
//! first write into a hole has to write down where the page stands too, once more and after the page itself. Zeros that are
//! written a good deal at a time have that done once for all of them, as in a journal.
//!
//! Zeros are written only where no byte ever was: whatever becomes of them, also in a crash, the file says the same.
//!
//! Which pages have space is known page by page. What a log keeps must find room in its place on a disk that is full by then.

use std::io;
use std::ops::Range;

use fixedbitset::FixedBitSet;
use parking_lot::Mutex;

use super::pages::{GROUP_PAGES, PAGE_BYTES, group_at};
use super::space::{finds_no_space, has_plenty};
use crate::disk::DiskFile;

/// As much is taken as a group has, within these bounds, so that shards with little in them stay small.
const AHEAD_PAGES_MIN: usize = 16;
const AHEAD_PAGES_MAX: usize = 256;
/// Pages that are left out between two that are written, so that more are not worth to be taken.
const GAP_PAGES_MAX: usize = 64;

const GROUP: usize = GROUP_PAGES as usize;
const PAGE: usize = PAGE_BYTES as usize;

/// What is written at once.
static ZEROS: [u8; AHEAD_PAGES_MAX * PAGE] = [0; AHEAD_PAGES_MAX * PAGE];

/// What is taken of a file.
pub(super) struct Ahead(Mutex<Taken>);

struct Taken {
    /// redb's pages in the file.
    pages: u64,
    /// Which pages of each group have space; none if that is not known.
    groups: Vec<Option<FixedBitSet>>,
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
        let none_taken = || Some(FixedBitSet::with_capacity(GROUP));
        taken.pages = pages;
        taken
            .groups
            .resize_with(pages.div_ceil(GROUP_PAGES) as usize, none_taken);
        let in_last = taken.of_group(taken.groups.len().saturating_sub(1));
        if let Some(Some(last)) = taken.groups.last_mut() {
            last.remove_range(in_last..);
        }
    }

    /// Takes space for pages of one group, and for those behind them, unless it is taken already. Answers whether they have
    /// it, and their checksums too. Otherwise they count as taken, for they are to be written at once; if that fails,
    /// nothing more may be built upon what is said here.
    ///
    /// # Errors
    /// If the disk fails. That it is full is none: the pages themselves may still find room.
    pub(super) fn take(&self, file: &dyn DiskFile, first: u64, count: u64) -> io::Result<bool> {
        let mut taken = self.0.lock();
        let number = (first / GROUP_PAGES) as usize;
        let in_group = taken.of_group(number);
        let start = (first % GROUP_PAGES) as usize;
        let wanted = start..start + count as usize;
        let Some(group) = taken.groups.get_mut(number) else {
            return Ok(false);
        };
        let group = match group {
            Some(group) => group,
            None if has_checksums(file, number)? => group.insert(found(file, number, in_group)?),
            None => return Ok(false),
        };
        if group.contains_all_in_range(wanted.clone()) {
            return Ok(true);
        }
        let has_space = has_plenty(file) && {
            let more = group.count_ones(..).clamp(AHEAD_PAGES_MIN, AHEAD_PAGES_MAX);
            let until = (wanted.end + more).min(in_group).max(wanted.end);
            let behind = (0..wanted.start).rev().find(|page| group[*page]);
            let behind = behind.map_or(0, |last| last + 1);
            let is_near = wanted.start <= behind + GAP_PAGES_MAX;
            write(
                file,
                number,
                group,
                if is_near { behind } else { wanted.start }..until,
            )?
        };
        group.insert_range(wanted);
        Ok(has_space)
    }
}

impl Taken {
    /// Pages of a group.
    fn of_group(&self, group: usize) -> usize {
        let before = group as u64 * GROUP_PAGES;
        self.pages.saturating_sub(before).min(GROUP_PAGES) as usize
    }
}

/// Where the first page of a group stands.
fn pages_at(group: usize) -> u64 {
    group_at(group as u64 * GROUP_PAGES) + PAGE_BYTES
}

/// Whether the page of a group's checksums has space, once it was tried to take it. A crash may have kept the length of a file
/// and not that.
fn has_checksums(file: &dyn DiskFile, group: usize) -> io::Result<bool> {
    let at = group_at(group as u64 * GROUP_PAGES);
    if !file.written(at..at + PAGE_BYTES)?.is_empty() {
        return Ok(true);
    }
    match file.write_at(at, &ZEROS[..PAGE]) {
        Err(error) if finds_no_space(&error) => Ok(false),
        written => written.map(|()| true),
    }
}

/// Which pages of a group have space, of which nothing is known yet.
fn found(file: &dyn DiskFile, group: usize, pages: usize) -> io::Result<FixedBitSet> {
    let at = pages_at(group);
    let mut found = FixedBitSet::with_capacity(GROUP);
    for written in file.written(at..at + (pages * PAGE) as u64)? {
        let (start, end) = (written.start - at, written.end - at);
        let whole = start.div_ceil(PAGE_BYTES) as usize..(end / PAGE_BYTES) as usize;
        if whole.start < whole.end {
            found.insert_range(whole);
        }
    }
    Ok(found)
}

/// Writes zeros to all pages of a range that have no space. Answers whether they have it now.
fn write(
    file: &dyn DiskFile,
    number: usize,
    group: &mut FixedBitSet,
    pages: Range<usize>,
) -> io::Result<bool> {
    let mut page = pages.start;
    while page < pages.end {
        if group[page] {
            page += 1;
            continue;
        }
        let room = page..pages.end.min(page + AHEAD_PAGES_MAX);
        let end = room.clone().find(|page| group[*page]).unwrap_or(room.end);
        let at = pages_at(number) + (page * PAGE) as u64;
        match file.write_at(at, &ZEROS[..(end - page) * PAGE]) {
            Err(error) if finds_no_space(&error) => return Ok(false),
            written => written?,
        }
        group.insert_range(page..end);
        page = end;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::database::pages::outer_len;
    use crate::database::space::PLENTY_BYTES;
    use crate::disk::memory::{Fault, MemoryDisk};
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
        let found = found(file, group as usize, pages as usize).expect("known");
        found.maximum().map_or(0, |last| last as u64 + 1)
    }

    #[test]
    fn as_much_is_taken_as_there_is_and_no_more_than_the_file_has() {
        let file = made(&MemoryDisk::new(), Path::new("file"), 1200);
        let ahead = Ahead::of(0);
        ahead.set_pages(1200);
        let take = |page, taken| {
            ahead.take(file.as_ref(), page, 1).expect("taken");
            assert_eq!(written(file.as_ref(), 0, GROUP_PAGES), taken, "page {page}");
        };
        take(1, 2 + 16);
        take(17, 18);
        take(18, 19 + 18);
        take(37, 38 + 37);
        take(1000, GROUP_PAGES);
        ahead.take(file.as_ref(), 1190, 4).expect("taken");
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
                        ahead.take(file.as_ref(), first, count).expect("taken");
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

    /// Whatever was written and grew, and however often the disk was full, what is said to have space has it.
    #[test]
    fn pages_that_have_space_can_be_written_when_the_disk_is_full() {
        let mut refused = 0;
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut pages = rng.u64(1..3000);
            let disk = MemoryDisk::new();
            let file = made(&disk, Path::new("file"), pages);
            let mut ahead = Ahead::of(0);
            ahead.set_pages(pages);
            for _ in 0..60 {
                match rng.u8(..10) {
                    0 => {
                        pages = rng.u64(1..3000);
                        file.set_len(outer_len(pages * PAGE_BYTES)).expect("done");
                        ahead.set_pages(pages);
                        continue;
                    }
                    1 => {
                        ahead = Ahead::of(pages);
                        continue;
                    }
                    _ => {}
                }
                let first = rng.u64(..pages);
                let count = rng
                    .u64(1..=8)
                    .min(pages - first)
                    .min(GROUP_PAGES - first % GROUP_PAGES);
                // As by a quota, of which nothing is known before.
                if rng.bool() {
                    disk.set_fault(Fault::After(rng.u64(..3), libc::ENOSPC));
                }
                let has_space = ahead.take(file.as_ref(), first, count).expect("taken");
                disk.set_fault(Fault::Nothing);
                if has_space {
                    disk.set_space(0);
                } else {
                    refused += 1;
                }
                for page in first..first + count {
                    let bytes = [rng.u8(1..); PAGE];
                    file.write_at(place(page), &bytes)
                        .unwrap_or_else(|error| panic!("seed {seed}, page {page}: {error}"));
                }
                disk.set_space(u64::MAX);
            }
        }
        assert!(refused > 100, "{refused}");
    }

    /// A crash of the machine may have kept the length that a file had, and nothing of it.
    #[test]
    fn checksums_of_pages_that_have_space_have_it_too() {
        let disk = MemoryDisk::new();
        let file = made(&disk, Path::new("file"), 2000);
        let ahead = Ahead::of(2000);
        disk.set_fault(Fault::After(0, libc::ENOSPC));
        assert!(!ahead.take(file.as_ref(), 1500, 1).expect("nothing is wrong"));
        disk.set_fault(Fault::Nothing);
        assert!(ahead.take(file.as_ref(), 1500, 1).expect("taken"));
        let at = group_at(1500);
        let taken = file.written(at..at + PAGE_BYTES).expect("known");
        assert_eq!(taken.first(), Some(&(at..at + PAGE_BYTES)));
    }

    #[test]
    fn a_disk_with_little_space_keeps_it() {
        let disk = MemoryDisk::new();
        disk.set_space(PLENTY_BYTES / PAGE_BYTES - 1);
        let file = made(&disk, Path::new("file"), 500);
        let ahead = Ahead::of(0);
        ahead.set_pages(500);
        ahead.take(file.as_ref(), 3, 1).expect("nothing is wrong");
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
        file.write_at(place(100), &[1; PAGE]).expect("written");
        let before_sync = found(file.as_ref(), 0, 300).expect("known");
        assert!(
            before_sync[40] && before_sync[100] && !before_sync[70],
            "{before_sync}"
        );
        file.sync().expect("synced");
        assert_eq!(
            found(file.as_ref(), 0, 300).expect("known"),
            before_sync,
            "after it"
        );
    }
}
