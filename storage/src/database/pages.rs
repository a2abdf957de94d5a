//! How redb's file stands in ours: with a checksum of every page, for redb trusts what it reads and panics over
//! damage.
//!
//! Pages are of 4096 bytes. The first two are `header.rs`'s. Behind them each 1024 of redb's pages stand behind one
//! page of their checksums, four bytes each: the CRC-32 over the page's number (eight bytes, little-endian) and the
//! page. redb's first page is its header, so that its place here, and its checksum's, is left empty.
//!
//! A crash parts no page from its checksum that a durable commit refers to: redb writes none of those, so that their
//! checksums stay the same, whatever becomes of others beside them. Pages of a commit that a crash has interrupted may be
//! parted from theirs, unless they were synced before the header was written that refers to them. If redb finds by its own
//! checksums that the commit is whole nevertheless, theirs are written anew before the header says that they were synced.

use std::io;
use std::ops::Range;

use smallvec::SmallVec;

use super::header::HEADER_PAGES;
use crate::disk::DiskFile;

pub(super) const PAGE_BYTES: u64 = 4096;
const CRC_BYTES: u64 = 4;
/// Pages whose checksums stand together.
const GROUP_PAGES: u64 = PAGE_BYTES / CRC_BYTES;

type Crcs = SmallVec<[u8; 64]>;

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

/// The length of redb's file in one of ours; none if ours cannot be that long.
pub(super) fn inner_len(len: u64) -> Option<u64> {
    let pages = (len / PAGE_BYTES).checked_sub(HEADER_PAGES)?;
    let inner = (pages - pages.div_ceil(GROUP_PAGES + 1)) * PAGE_BYTES;
    (outer_len(inner) == len).then_some(inner)
}

/// Reads pages as they are. Answers the numbers of those whose checksums are wrong.
pub(super) fn read_unchecked(file: &dyn DiskFile, offset: u64, out: &mut [u8]) -> io::Result<Vec<u64>> {
    let mut wrong = Vec::new();
    for piece in pieces(offset, out.len())? {
        let pages = &mut out[piece.part.clone()];
        file.read_at(piece.at, pages)?;
        let found = crcs(piece.first, pages);
        let mut written = Crcs::from_elem(0, found.len());
        file.read_at(piece.crc_at, &mut written)?;
        let pairs = found
            .chunks(CRC_BYTES as usize)
            .zip(written.chunks(CRC_BYTES as usize));
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
pub(super) fn read(file: &dyn DiskFile, offset: u64, out: &mut [u8]) -> io::Result<()> {
    match read_unchecked(file, offset, out)?.first() {
        None => Ok(()),
        Some(page) => Err(damage(format!("the checksum of page {page} is wrong"))),
    }
}

/// Writes the checksum that a page has as it is.
pub(super) fn mend(file: &dyn DiskFile, page: u64) -> io::Result<()> {
    let mut bytes = [0; PAGE_BYTES as usize];
    for piece in pieces(page * PAGE_BYTES, bytes.len())? {
        file.read_at(piece.at, &mut bytes[piece.part.clone()])?;
        file.write_at(piece.crc_at, &crcs(piece.first, &bytes[piece.part]))?;
    }
    Ok(())
}

/// Writes pages and their checksums.
pub(super) fn write(file: &dyn DiskFile, offset: u64, data: &[u8]) -> io::Result<()> {
    for piece in pieces(offset, data.len())? {
        let pages = &data[piece.part.clone()];
        file.write_at(piece.at, pages)?;
        file.write_at(piece.crc_at, &crcs(piece.first, pages))?;
    }
    Ok(())
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
        let (group, index) = (first / GROUP_PAGES, first % GROUP_PAGES);
        let fit = (GROUP_PAGES - index) * PAGE_BYTES;
        let count = usize::try_from(fit).map_or(len - done, |fit| fit.min(len - done));
        let group_at = (HEADER_PAGES + group * (GROUP_PAGES + 1)) * PAGE_BYTES;
        let part = done..done + count;
        done += count;
        (count > 0).then_some(Piece {
            first,
            at: group_at + (1 + index) * PAGE_BYTES,
            crc_at: group_at + index * CRC_BYTES,
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
        crcs.extend_from_slice(&hasher.finalize().to_le_bytes());
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
        for pages in [0, 1, 2, 1023, 1024, 1025, 2048, 2049, 1 << 30] {
            let len = pages * PAGE_BYTES;
            assert_eq!(inner_len(outer_len(len)), Some(len), "{pages} pages");
        }
        // A page of checksums has pages behind it.
        for pages in [0, 1, 3, 1028] {
            assert_eq!(inner_len(pages * PAGE_BYTES), None, "{pages} pages");
        }
        assert_eq!(inner_len(5 * PAGE_BYTES + 1), None);
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
        write(file.as_ref(), first, &[1; 4096]).expect("written");
        write(file.as_ref(), second, &[2; 4096]).expect("written");
        let mut page = [0; 4096];
        read(file.as_ref(), second, &mut page).expect("it is there");
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
        let error = read(file.as_ref(), second, &mut page).expect_err("it is another page");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        read(file.as_ref(), first, &mut page).expect("it is there");
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
        let mut page = [0; 4096];
        read(file.as_ref(), offset, &mut page).expect_err("its checksum is not there");
        let wrong = read_unchecked(file.as_ref(), offset, &mut page).expect("readable");
        assert_eq!((wrong, page), (vec![5], [1; 4096]));
        mend(file.as_ref(), 5).expect("written");
        read(file.as_ref(), offset, &mut page).expect("it is whole");
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
