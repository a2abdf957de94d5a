//! How redb's file stands in ours: with a checksum of every page, for redb trusts what it reads and panics over
//! damage.
//!
//! Pages are of 4096 bytes. The first two are `header.rs`'s. Behind them each 1024 of redb's pages stand behind one
//! page of their checksums, four bytes each: the CRC-32 over the page's number (eight bytes, little-endian) and the
//! page. redb's first page is its header, so that its place here, and its checksum's, is left empty.
//!
//! A commit writes a dozen pages here and there. Their checksums are written before the sync, those of a group at once.
//!
//! A crash parts no page from its checksum that a durable commit refers to: redb writes none of those, so that their
//! checksums stay the same, whatever becomes of others beside them. Pages of a commit that a crash has interrupted may be
//! parted from theirs, unless they were synced before the header was written that refers to them. If redb finds by its own
//! checksums that the commit is whole nevertheless, theirs are written anew before the header says that they were synced.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use parking_lot::Mutex;

use smallvec::SmallVec;

use super::ahead::Ahead;
use super::header::HEADER_PAGES;
use super::log::Log;
use crate::disk::DiskFile;

pub(super) const PAGE_BYTES: u64 = 4096;
const CRC_BYTES: u64 = 4;
/// Pages whose checksums stand together.
pub(super) const GROUP_PAGES: u64 = PAGE_BYTES / CRC_BYTES;

/// Checksums that wait at the most, so that a change of very many pages does not keep all of them in memory.
const WAITING_MAX: usize = 16 << 10;

/// What is to be written, or stands beside it, cannot be read. It is not written then.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Unread(io::Error);

/// Says of an error that it is that of a read for the sake of a write.
pub(super) fn unread(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Unread(error))
}

/// Whether what was to be written failed for want of what had to be read for it.
pub(super) fn is_unread(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.downcast_ref::<Unread>().is_some())
}

type Crc = [u8; CRC_BYTES as usize];
type Crcs = SmallVec<[Crc; 16]>;

/// Checksums of pages that are written, which are to be written themselves before the next sync.
#[derive(Default)]
pub(super) struct Waiting {
    crcs: Mutex<BTreeMap<u64, Crc>>,
    /// Held by whoever writes them, for those of a group are read, changed and written.
    writing: Mutex<()>,
}

/// Some of redb's pages that stand together in our file.
struct Piece {
    /// The first one's number.
    first: u64,
    /// Where it stands in our file.
    at: u64,
    /// Where its checksum stands.
    crc_at: u64,
    /// Which part of what redb reads or writes it is.
    part: Range<usize>,
}

/// The length of our file for one of redb's.
pub(super) fn outer_len(len: u64) -> u64 {
    let pages = len.div_ceil(PAGE_BYTES);
    (HEADER_PAGES + pages + pages.div_ceil(GROUP_PAGES)) * PAGE_BYTES
}

/// The length of redb's file in one of ours; none if there is no page of it. A crash may leave a part of a page, or of what
/// the file was to grow by, behind what anything refers to.
pub(super) fn inner_len(len: u64) -> Option<u64> {
    let pages = (len / PAGE_BYTES).checked_sub(HEADER_PAGES)?;
    let inner = pages - pages.div_ceil(GROUP_PAGES + 1);
    (inner > 0).then_some(inner * PAGE_BYTES)
}

/// Reads pages as they are, from the log those that it has. Answers the numbers of those whose checksums are wrong.
pub(super) fn read_unchecked(
    file: &dyn DiskFile,
    log: Option<&Log>,
    waiting: &Waiting,
    offset: u64,
    out: &mut [u8],
) -> io::Result<Vec<u64>> {
    let mut wrong = Vec::new();
    for piece in pieces(offset, out.len())? {
        let pages = &mut out[piece.part.clone()];
        // Looked at first: what does not wait by now is written.
        let newer = waiting.of(piece.first, pages.len() as u64 / PAGE_BYTES);
        let count = pages.len() as u64 / PAGE_BYTES;
        let newer_pages = log.map_or(Ok(Vec::new()), |log| log.newer(piece.first, count))?;
        file.read_at(piece.at, pages)?;
        for (number, page) in &newer_pages {
            let at = ((number - piece.first) * PAGE_BYTES) as usize;
            pages[at..at + page.len()].copy_from_slice(page);
        }
        let found = crcs(piece.first, pages);
        let mut written = Crcs::from_elem(Crc::default(), found.len());
        file.read_at(piece.crc_at, written.as_flattened_mut())?;
        for (page, crc) in newer {
            written[(page - piece.first) as usize] = crc;
        }
        let pairs = found.iter().zip(&written);
        let unlike = (piece.first..)
            .zip(pairs)
            .filter(|(_, (found, written))| found != written);
        wrong.extend(unlike.map(|(page, _)| page));
    }
    Ok(wrong)
}

/// Reads pages and compares their checksums.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if one is wrong.
pub(super) fn read(
    file: &dyn DiskFile,
    log: Option<&Log>,
    waiting: &Waiting,
    offset: u64,
    out: &mut [u8],
) -> io::Result<()> {
    match read_unchecked(file, log, waiting, offset, out)?.first() {
        None => Ok(()),
        Some(page) => Err(damage(format!("the checksum of page {page} is wrong"))),
    }
}

/// Writes the checksum that a page has as it is.
pub(super) fn mend(file: &dyn DiskFile, page: u64) -> io::Result<()> {
    let mut bytes = [0; PAGE_BYTES as usize];
    for piece in pieces(page * PAGE_BYTES, bytes.len())? {
        file.read_at(piece.at, &mut bytes[piece.part.clone()])?;
        file.write_at(piece.crc_at, crcs(piece.first, &bytes[piece.part]).as_flattened())?;
    }
    Ok(())
}

/// Writes pages, once there is space for them and for some behind them: into the next record of the log, or in their places.
/// Their checksums wait.
pub(super) fn write(
    file: &dyn DiskFile,
    log: Option<&Log>,
    ahead: &Ahead,
    waiting: &Waiting,
    offset: u64,
    data: &[u8],
) -> io::Result<()> {
    for piece in pieces(offset, data.len())? {
        let pages = &data[piece.part.clone()];
        let count = pages.len() as u64 / PAGE_BYTES;
        let has_space = ahead.take(file, piece.first, count)?;
        match log {
            // They must find room in their places when they are due there.
            Some(log) if has_space => {
                log.keep(piece.first, pages, &|first, pages| place(file, first, pages))?;
            }
            Some(log) => {
                file.write_at(piece.at, pages)?;
                log.were_placed(piece.first..piece.first + count);
            }
            None => file.write_at(piece.at, pages)?,
        }
        let mut waiting = waiting.crcs.lock();
        waiting.extend((piece.first..).zip(crcs(piece.first, pages)));
    }
    if waiting.crcs.lock().len() > WAITING_MAX {
        return waiting.write(file);
    }
    Ok(())
}

/// Writes pages in their places, and leaves their checksums alone.
pub(super) fn place(file: &dyn DiskFile, first: u64, pages: &[u8]) -> io::Result<()> {
    let mut pieces = pieces(first * PAGE_BYTES, pages.len())?;
    pieces.try_for_each(|piece| file.write_at(piece.at, &pages[piece.part]))
}

impl Waiting {
    /// Those that wait of so many pages, with their pages' numbers.
    fn of(&self, first: u64, pages: u64) -> SmallVec<[(u64, Crc); 16]> {
        let waiting = self.crcs.lock();
        waiting
            .range(first..first + pages)
            .map(|(page, crc)| (*page, *crc))
            .collect()
    }

    /// Forgets those of pages from this one on.
    pub(super) fn cut(&self, first: u64) {
        self.crcs.lock().split_off(&first);
    }

    /// Writes all that wait. Nobody who reads waits for the disk because of that.
    pub(super) fn write(&self, file: &dyn DiskFile) -> io::Result<()> {
        let _writing = self.writing.lock();
        loop {
            let group = {
                let waiting = self.crcs.lock();
                let Some((first, _)) = waiting.first_key_value() else {
                    return Ok(());
                };
                let next_group = (first / GROUP_PAGES + 1) * GROUP_PAGES;
                let group = waiting.range(..next_group).map(|(page, crc)| (*page, *crc));
                group.collect::<Vec<_>>()
            };
            let ((first, _), (last, _)) = (group[0], group[group.len() - 1]);
            let crc_at = crc_at(first);
            let mut crcs = vec![Crc::default(); (last - first + 1) as usize];
            // What stands between them stays.
            if group.len() < crcs.len() {
                file.read_at(crc_at, crcs.as_flattened_mut()).map_err(unread)?;
            }
            for (page, crc) in &group {
                crcs[(page - first) as usize] = *crc;
            }
            file.write_at(crc_at, crcs.as_flattened())?;
            let mut waiting = self.crcs.lock();
            for (page, crc) in &group {
                if waiting.get(page) == Some(crc) {
                    waiting.remove(page);
                }
            }
        }
    }
}

/// Takes the space for the checksums of pages that a longer file has more. There is none to be had once a disk is full,
/// when a database is opened anew because of that, and its pages have to get the right ones.
pub(super) fn take_groups(file: &dyn DiskFile, len: u64, longer: u64) -> io::Result<()> {
    let groups = |len: u64| len.div_ceil(PAGE_BYTES).div_ceil(GROUP_PAGES);
    (groups(len)..groups(longer))
        .try_for_each(|group| file.write_at(group_at(group * GROUP_PAGES), &[0; PAGE_BYTES as usize]))
}

/// Where a group begins, of which this page is one.
pub(super) fn group_at(page: u64) -> u64 {
    (HEADER_PAGES + page / GROUP_PAGES * (GROUP_PAGES + 1)) * PAGE_BYTES
}

/// Where the checksum of a page stands.
fn crc_at(page: u64) -> u64 {
    group_at(page) + page % GROUP_PAGES * CRC_BYTES
}

fn pieces(offset: u64, len: usize) -> io::Result<impl Iterator<Item = Piece>> {
    let is_whole = offset.is_multiple_of(PAGE_BYTES) && (len as u64).is_multiple_of(PAGE_BYTES);
    if !is_whole || offset == 0 {
        // Nothing could be said of the rest of a page.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "whole pages are read and written",
        ));
    }
    let mut done = 0;
    Ok(std::iter::from_fn(move || {
        let first = (offset + done as u64) / PAGE_BYTES;
        let index = first % GROUP_PAGES;
        let fit = (GROUP_PAGES - index) * PAGE_BYTES;
        let count = usize::try_from(fit).map_or(len - done, |fit| fit.min(len - done));
        let part = done..done + count;
        done += count;
        (count > 0).then_some(Piece {
            first,
            at: group_at(first) + (1 + index) * PAGE_BYTES,
            crc_at: crc_at(first),
            part,
        })
    }))
}

fn crcs(first: u64, pages: &[u8]) -> Crcs {
    let mut crcs = Crcs::new();
    for (number, page) in (first..).zip(pages.chunks(PAGE_BYTES as usize)) {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&number.to_le_bytes());
        hasher.update(page);
        crcs.push(hasher.finalize().to_le_bytes());
    }
    crcs
}

pub(super) fn damage(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::Disk;
    use crate::disk::memory::MemoryDisk;

    #[test]
    fn lengths_of_both_files_tell_each_other() {
        for pages in [1, 2, 1023, 1024, 1025, 2048, 2049, 1 << 30] {
            let len = pages * PAGE_BYTES;
            assert_eq!(inner_len(outer_len(len)), Some(len), "{pages} pages");
            let shorter = (len > PAGE_BYTES).then_some(len - PAGE_BYTES);
            assert_eq!(inner_len(outer_len(len) - 1), shorter, "{pages} pages");
        }
        // A page of checksums has pages behind it.
        for pages in [0, 1, 2, 3] {
            assert_eq!(inner_len(pages * PAGE_BYTES), None, "{pages} pages");
        }
        assert_eq!(inner_len(1028 * PAGE_BYTES), Some(1024 * PAGE_BYTES));
    }

    #[test]
    fn no_two_pages_or_checksums_share_a_place() {
        let mut places = std::collections::HashSet::new();
        for page in 1..3 * GROUP_PAGES {
            let pieces: Vec<_> = pieces(page * PAGE_BYTES, 4096).expect("a page").collect();
            let [piece] = &pieces[..] else { panic!("one piece") };
            assert!(piece.at < outer_len((page + 1) * PAGE_BYTES));
            assert!(
                (0..4096).step_by(4).all(|byte| places.insert(piece.at + byte)),
                "page {page}"
            );
            assert!(places.insert(piece.crc_at), "the checksum of page {page}");
        }
        assert!(
            places.iter().all(|at| *at >= HEADER_PAGES * PAGE_BYTES),
            "in the header"
        );
    }

    /// A disk that writes to a wrong place writes page and checksum there.
    #[test]
    fn a_page_in_the_place_of_another_is_found() {
        let disk = MemoryDisk::new();
        let file = disk.create(Path::new("file")).expect("made");
        file.set_len(outer_len(8 * PAGE_BYTES)).expect("long enough");
        let [first, second] = [5, 6].map(|page| page * PAGE_BYTES);
        let waiting = Waiting::default();
        write(file.as_ref(), None, &Ahead::of(0), &waiting, first, &[1; 4096]).expect("written");
        write(file.as_ref(), None, &Ahead::of(0), &waiting, second, &[2; 4096]).expect("written");
        waiting.write(file.as_ref()).expect("written");
        let mut page = [0; 4096];
        read(file.as_ref(), None, &waiting, second, &mut page).expect("it is there");
        assert_eq!(page, [2; 4096]);
        let place = |offset| {
            let mut pieces = pieces(offset, 4096).expect("a page");
            let piece = pieces.next().expect("a page");
            (piece.at as usize, piece.crc_at as usize)
        };
        let ((from, crc_from), (to, crc_to)) = (place(first), place(second));
        disk.tamper(Path::new("file"), |bytes| {
            bytes.copy_within(from..from + 4096, to);
            bytes.copy_within(crc_from..crc_from + 4, crc_to);
        });
        let error = read(file.as_ref(), None, &waiting, second, &mut page).expect_err("it is another page");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        read(file.as_ref(), None, &waiting, first, &mut page).expect("it is there");
    }

    /// A process may be killed between a page and its checksum.
    #[test]
    fn a_page_without_its_checksum_is_whole_once_it_is_mended() {
        let disk = MemoryDisk::new();
        let file = disk.create(Path::new("file")).expect("made");
        file.set_len(outer_len(8 * PAGE_BYTES)).expect("long enough");
        let offset = 5 * PAGE_BYTES;
        let [piece] = &pieces(offset, 4096).expect("a page").collect::<Vec<_>>()[..] else {
            panic!("one piece")
        };
        file.write_at(piece.at, &[1; 4096]).expect("written");
        let waiting = Waiting::default();
        let mut page = [0; 4096];
        read(file.as_ref(), None, &waiting, offset, &mut page).expect_err("its checksum is not there");
        let wrong = read_unchecked(file.as_ref(), None, &waiting, offset, &mut page).expect("readable");
        assert_eq!((wrong, page), (vec![5], [1; 4096]));
        mend(file.as_ref(), 5).expect("written");
        read(file.as_ref(), None, &waiting, offset, &mut page).expect("it is whole");
    }

    #[test]
    fn checksums_that_wait_count_and_leave_those_between_them_alone() {
        let disk = MemoryDisk::new();
        let file = disk.create(Path::new("file")).expect("made");
        file.set_len(outer_len(3000 * PAGE_BYTES)).expect("long enough");
        let none = Waiting::default();
        let mut page = [0; 4096];
        let mut rng = fastrand::Rng::with_seed(1);
        let mut written = BTreeMap::new();
        for _ in 0..100 {
            let waiting = Waiting::default();
            for _ in 0..rng.usize(..8) {
                let (number, byte) = (rng.u64(1..3000), rng.u8(..));
                let offset = number * PAGE_BYTES;
                write(
                    file.as_ref(),
                    None,
                    &Ahead::of(0),
                    &waiting,
                    offset,
                    &[byte; 4096],
                )
                .expect("written");
                written.insert(number, byte);
                read(file.as_ref(), None, &waiting, offset, &mut page).expect("its checksum waits");
                read(file.as_ref(), None, &none, offset, &mut page).expect_err("it is not written");
            }
            waiting.write(file.as_ref()).expect("written");
            for (number, byte) in &written {
                read(file.as_ref(), None, &none, number * PAGE_BYTES, &mut page).expect("it is written");
                assert_eq!(page, [*byte; 4096]);
            }
        }
    }

    #[test]
    fn checksums_of_pages_that_were_cut_off_are_not_written() {
        let disk = MemoryDisk::new();
        let file = disk.create(Path::new("file")).expect("made");
        let len = outer_len(8 * PAGE_BYTES);
        file.set_len(outer_len(2000 * PAGE_BYTES)).expect("long enough");
        let waiting = Waiting::default();
        for page in [7, 8, 1500] {
            write(
                file.as_ref(),
                None,
                &Ahead::of(0),
                &waiting,
                page * PAGE_BYTES,
                &[1; 4096],
            )
            .expect("written");
        }
        file.set_len(len).expect("shorter");
        waiting.cut(8);
        waiting.write(file.as_ref()).expect("written");
        assert_eq!(file.len().expect("a length"), len);
        let mut page = [0; 4096];
        read(
            file.as_ref(),
            None,
            &Waiting::default(),
            7 * PAGE_BYTES,
            &mut page,
        )
        .expect("it stays");
    }

    #[test]
    fn pages_that_cross_groups_are_in_pieces() {
        let pieces: Vec<_> = pieces(1000 * PAGE_BYTES, 1100 << 12).expect("pages").collect();
        let parts: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.first, piece.part.clone()))
            .collect();
        let ends = [24 << 12, 1048 << 12, 1100 << 12];
        assert_eq!(
            parts,
            [
                (1000, 0..ends[0]),
                (1024, ends[0]..ends[1]),
                (2048, ends[1]..ends[2])
            ]
        );
    }
}
