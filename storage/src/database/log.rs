//! The log of a database: what its commits have changed, page by page, in a file beside it. A commit changes thirty pages here
//! and there; one after the other in a log they are written and synced in a third of the time.
//!
//! Pages that the log has are read from there, and are written in their places when it is full: each once, however often it was
//! changed. They are synced, then the header is written in place and synced, and the log is begun again from its front. So the
//! header in place is always one of whose commit all is durable in its place, and the log leads from there, or from an older
//! one, to the last commit. What is longer than a log is written in place right away.
//!
//! The first page says, in this order: the format's name (four bytes), a salt (eight), and the CRC-32 over both. A record is a
//! head of whole pages and the pages. The head says: the salt, the count of the header in the record before or, in the first
//! one, in place (eight bytes), its own (eight), the length of redb's file (eight), how many pages there are (four), the first
//! 512 bytes of redb's file, the pages' numbers (eight bytes each), and the CRC-32 over all that and the pages. Numbers are
//! little-endian.
//!
//! Behind the newest record may stand older ones, which lead to lower counts: what does not follow the count before it is no
//! record of the log. One that leads to a higher count behind what is none shows that a record was damaged, for each was
//! durable before the next one. The salt is another one whenever a database is opened, and nobody is told it: so what is kept
//! in a database can never be taken for a record.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::header::{HEADER_BYTES, Image};
use super::pages::{PAGE_BYTES, damage, unread};
use super::space::{finds_no_space, has_plenty};
use crate::codec::{Decoder, Encode as _};
use crate::disk::DiskFile;

const FORMAT: &[u8; 4] = b"TWL\x01";
const PAGE: usize = PAGE_BYTES as usize;
const SALT_BYTES: usize = 8;
/// What a head says beside the pages' numbers.
const HEAD_BYTES_MIN: usize = SALT_BYTES + 8 + 8 + 8 + 4 + HEADER_BYTES + 4;
/// Where the first record stands.
const RECORDS_AT: u64 = PAGE_BYTES;
/// A log is as long as redb's file at the most, within these bounds.
const BYTES_MIN: u64 = 1 << 20;
pub(crate) const BYTES_MAX: u64 = 16 << 20;
/// A record has no more than so many bytes of pages: they are in memory until it is written.
const RECORD_BYTES_MAX: usize = 2 << 20;
/// Memory for so much is kept from record to record.
const RECORD_BYTES_USUAL: usize = 256 << 10;
/// Pages that stand together are written in place together, up to so many bytes.
const PLACED_BYTES_MAX: usize = 256 << 10;
/// Zeros are written ahead of records in steps of this length, so that a sync need not note where each record stands.
const AHEAD_BYTES: u64 = 256 << 10;

static ZEROS: [u8; AHEAD_BYTES as usize] = [0; AHEAD_BYTES as usize];

/// The log of a database that is being written.
pub(super) struct Log {
    file: Arc<dyn DiskFile>,
    /// As long as it may get.
    bytes_max: u64,
    /// Held by whoever changes what is in it.
    writing: Mutex<Written>,
    kept: RwLock<Kept>,
}

/// How far the log is written.
struct Written {
    /// Where the next record will stand.
    at: u64,
    /// The count that it follows.
    follows: u64,
    /// Up to here the file has space.
    taken: u64,
    salt: [u8; SALT_BYTES],
    /// Whether the first page says the salt.
    is_salted: bool,
}

/// Pages that are not in their places.
#[derive(Default)]
struct Kept {
    pages: HashMap<u64, Place, RandomState>,
    /// Those of the next record, as they were written: their numbers, and they themselves.
    numbers: Vec<u64>,
    next: Vec<u8>,
    /// Pages of the next record are in their places, so that it would not be whole.
    is_placed: bool,
}

/// Where the last of what was written of a page is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// This page of the next record.
    Next(usize),
    /// At this byte of the log.
    Log(u64),
}

/// A record that was read.
pub(super) struct Record<'l> {
    /// The count of the header before it.
    pub(super) follows: u64,
    /// The header that tells of it.
    pub(super) image: Image,
    /// The length of redb's file after it.
    pub(super) len: u64,
    numbers: Vec<u64>,
    pages: &'l [u8],
}

impl Log {
    /// Goes on with a log whose records are of no use any more. It gets at most so long, and no longer than any.
    pub(super) fn over(file: Arc<dyn DiskFile>, bytes_max: u64) -> io::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        fastrand::fill(&mut salt);
        let written = Written {
            at: RECORDS_AT,
            follows: 0,
            taken: file.len()?,
            salt,
            is_salted: false,
        };
        Ok(Self {
            file,
            bytes_max: bytes_max.min(BYTES_MAX),
            writing: Mutex::new(written),
            kept: RwLock::default(),
        })
    }

    /// Begins again from the front, behind a header in place with this count. All pages are in their places.
    pub(super) fn begin(&self, follows: u64) {
        let mut written = self.writing.lock();
        let mut kept = self.kept.write();
        written.at = RECORDS_AT;
        written.follows = follows;
        *kept = Kept::default();
    }

    /// Keeps pages for the next record. If that gets too long, or the disk is nearly full, they are handed to `place`, which
    /// writes them in their places, the first one's number before them; what was kept before stays until all is placed.
    pub(super) fn keep(
        &self,
        first: u64,
        pages: &[u8],
        place: &dyn Fn(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let _writing = self.writing.lock();
        let mut kept = self.kept.write();
        if !kept.is_placed {
            // On a disk that is nearly full, all must find its place before it is acknowledged.
            let is_scarce = kept.numbers.is_empty() && !has_plenty(self.file.as_ref());
            kept.is_placed = is_scarce || kept.next.len() + pages.len() > RECORD_BYTES_MAX;
        }
        let numbers = first..first + (pages.len() / PAGE) as u64;
        if kept.is_placed {
            place(first, pages)?;
            for number in numbers {
                kept.pages.remove(&number);
            }
            return Ok(());
        }
        kept.next.extend_from_slice(pages);
        for number in numbers {
            let place = Place::Next(kept.numbers.len());
            kept.numbers.push(number);
            kept.pages.insert(number, place);
        }
        Ok(())
    }

    /// Notes that pages of the next record were written in their places.
    pub(super) fn were_placed(&self, pages: Range<u64>) {
        let _writing = self.writing.lock();
        let mut kept = self.kept.write();
        kept.is_placed = true;
        for number in pages {
            kept.pages.remove(&number);
        }
    }

    /// Forgets pages from this one on, which redb's file does not have any more.
    pub(super) fn cut(&self, from: u64) {
        self.kept.write().pages.retain(|number, _| *number < from);
    }

    /// Writes and syncs a record of all pages that are kept for it and the header that tells of them. Answers whether there
    /// was room for it.
    ///
    /// # Errors
    /// If the disk fails. It is not known then whether the record will be there.
    pub(super) fn put(
        &self,
        image: &Image,
        len: u64,
        sync: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut written = self.writing.lock();
        let (pages_at, end) = {
            let kept = self.kept.read();
            let head = kept.head(&written, image, len);
            let pages_at = written.at + head.len() as u64;
            let end = pages_at + kept.next.len() as u64;
            if kept.is_placed || end > len.max(BYTES_MIN).min(self.bytes_max) {
                return Ok(false);
            }
            let put = self.take(&mut written, end).and_then(|()| {
                if !written.is_salted {
                    self.file.write_at(0, &front(&written.salt))?;
                }
                self.file.write_at(written.at, &head)?;
                self.file.write_at(pages_at, &kept.next)
            });
            match put {
                Err(error) if finds_no_space(&error) => return Ok(false),
                put => put?,
            }
            (pages_at, end)
        };
        // Nobody who reads waits for this.
        sync(self.file.as_ref())?;
        written.is_salted = true;
        written.at = end;
        written.follows = image.count;
        let kept = &mut *self.kept.write();
        for (index, number) in kept.numbers.drain(..).enumerate() {
            if let Some(place) = kept.pages.get_mut(&number) {
                *place = Place::Log(pages_at + (index * PAGE) as u64);
            }
        }
        kept.next.clear();
        kept.next.shrink_to(RECORD_BYTES_USUAL);
        Ok(true)
    }

    /// Takes space up to an end, and for what comes behind it.
    fn take(&self, written: &mut Written, end: u64) -> io::Result<()> {
        if end > written.taken && has_plenty(self.file.as_ref()) {
            let until = end.next_multiple_of(AHEAD_BYTES);
            self.file.write_at(end, &ZEROS[..(until - end) as usize])?;
            written.taken = until;
        }
        Ok(())
    }

    /// Hands all pages that are not in their places to `place`, in order, each with those that stand behind it.
    pub(super) fn place_all(&self, place: &dyn Fn(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let kept = self.kept.read();
        let mut places: Vec<_> = kept
            .pages
            .iter()
            .map(|(number, place)| (*number, *place))
            .collect();
        places.sort_unstable_by_key(|(number, _)| *number);
        let mut pages = Vec::with_capacity(PLACED_BYTES_MAX.min(places.len() * PAGE));
        for together in places.chunk_by(|(number, _), (next, _)| number + 1 == *next) {
            for few in together.chunks(PLACED_BYTES_MAX / PAGE) {
                pages.resize(few.len() * PAGE, 0);
                for ((_, place), page) in few.iter().zip(pages.chunks_exact_mut(PAGE)) {
                    kept.read(*place, self.file.as_ref(), page).map_err(unread)?;
                }
                place(few[0].0, &pages)?;
            }
        }
        Ok(())
    }

    /// What the log has of a few pages instead of what stands in their places. What it does not have is there, and stays there
    /// as long as anybody may read it: nobody waits for the disk while the log is looked at.
    pub(super) fn newer(&self, first: u64, count: u64) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let kept = self.kept.read();
        if kept.pages.is_empty() {
            return Ok(Vec::new());
        }
        let mut newer = Vec::new();
        for number in first..first + count {
            if let Some(place) = kept.pages.get(&number) {
                let mut page = vec![0; PAGE];
                kept.read(*place, self.file.as_ref(), &mut page)?;
                newer.push((number, page));
            }
        }
        Ok(newer)
    }

    /// Whether there is a record, or pages for one.
    pub(super) fn is_used(&self) -> bool {
        let written = self.writing.lock();
        let kept = self.kept.read();
        written.at > RECORDS_AT || kept.is_placed || !kept.pages.is_empty()
    }

    /// Gives the space back. No record may be of use any more.
    pub(super) fn empty(&self) -> io::Result<()> {
        let mut written = self.writing.lock();
        written.taken = 0;
        written.is_salted = false;
        self.file.set_len(0)
    }
}

impl Kept {
    fn read(&self, place: Place, log: &dyn DiskFile, page: &mut [u8]) -> io::Result<()> {
        match place {
            Place::Next(index) => page.copy_from_slice(&self.next[index * PAGE..][..PAGE]),
            Place::Log(at) => log.read_at(at, page)?,
        }
        Ok(())
    }

    fn head(&self, written: &Written, image: &Image, len: u64) -> Vec<u8> {
        let count = u32::try_from(self.numbers.len()).expect("as many as fit in a record");
        let mut head = Vec::with_capacity(head_bytes(self.numbers.len()));
        head.put_slice(&written.salt);
        head.put_u64(written.follows);
        head.put_u64(image.count);
        head.put_u64(len);
        head.put_u32(count);
        head.put_slice(&image.bytes);
        for number in &self.numbers {
            head.put_u64(*number);
        }
        let crc = crc_of(&head, &self.next);
        head.put_u32(crc);
        head.resize(head_bytes(self.numbers.len()), 0);
        head
    }
}

impl<'l> Record<'l> {
    /// Its pages, in the order in which they were written, with their numbers.
    pub(super) fn pages(&self) -> impl Iterator<Item = (u64, &'l [u8])> {
        let numbers = self.numbers.iter().copied();
        numbers.zip(self.pages.chunks_exact(PAGE))
    }
}

/// What a log says.
pub(super) struct Said {
    bytes: Vec<u8>,
    salt: [u8; SALT_BYTES],
}

/// Reads a log. None if nothing was ever written to it.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if its first page is damaged: no crash tears that.
pub(super) fn read(file: &dyn DiskFile) -> io::Result<Option<Said>> {
    let len = usize::try_from(file.len()?.min(BYTES_MAX)).expect("a few million bytes");
    let mut bytes = vec![0; len];
    file.read_at(0, &mut bytes)?;
    let first = &bytes[..len.min(PAGE)];
    if first.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let salt = first
        .get(FORMAT.len()..)
        .and_then(|rest| rest.first_chunk::<SALT_BYTES>());
    match salt.copied() {
        Some(salt) if first.starts_with(&front(&salt)) => Ok(Some(Said { bytes, salt })),
        _ => Err(damage("the first page of its log is damaged".to_owned())),
    }
}

impl Said {
    /// The records, the oldest first.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut at = PAGE;
        let mut follows = None;
        std::iter::from_fn(move || {
            let (record, end) = self.record(at)?;
            let is_next = follows.is_none_or(|follows| follows == record.follows);
            follows = Some(record.image.count);
            at = end;
            is_next.then_some(record)
        })
        .fuse()
    }

    /// Whether any record leads to a higher count than this one.
    pub(super) fn has_record_behind(&self, count: u64) -> bool {
        let places = (PAGE..self.bytes.len()).step_by(PAGE);
        places
            .filter_map(|at| self.record(at))
            .any(|(record, _)| record.image.count > count)
    }

    /// The record at a place, and where it ends. None if there is no whole one.
    fn record(&self, at: usize) -> Option<(Record<'_>, usize)> {
        let rest = self.bytes.get(at..)?;
        let mut head = Decoder::new(rest.strip_prefix(&self.salt)?);
        let follows = head.u64("a count").ok()?;
        let count = head.u64("a count").ok()?;
        let len = head.u64("a length").ok()?;
        let pages = head.u32("a number of pages").ok()? as usize;
        let bytes = head.rest().first_chunk::<HEADER_BYTES>()?;
        if follows >= count || pages > RECORD_BYTES_MAX / PAGE {
            return None;
        }
        let head_bytes = head_bytes(pages);
        let (head, rest) = rest.split_at_checked(head_bytes)?;
        let pages_bytes = rest.get(..pages * PAGE)?;
        let (said, crc) = head.split_at(HEAD_BYTES_MIN - 4 + 8 * pages);
        if !crc.starts_with(&crc_of(said, pages_bytes).to_le_bytes()) {
            return None;
        }
        let numbers = said[HEAD_BYTES_MIN - 4..].chunks_exact(8);
        let numbers = numbers.map(|number| u64::from_le_bytes(number.try_into().expect("eight bytes")));
        let record = Record {
            follows,
            image: Image { count, bytes: *bytes },
            len,
            numbers: numbers.collect(),
            pages: pages_bytes,
        };
        Some((record, at + head_bytes + pages_bytes.len()))
    }
}

/// The first page of a log, as far as it says something: within a sector, which no crash tears.
fn front(salt: &[u8; SALT_BYTES]) -> Vec<u8> {
    let mut front = [&FORMAT[..], &salt[..]].concat();
    let crc = crc32fast::hash(&front);
    front.put_u32(crc);
    front
}

/// How long a head is with so many pages' numbers: whole pages.
fn head_bytes(pages: usize) -> usize {
    (HEAD_BYTES_MIN + 8 * pages).next_multiple_of(PAGE)
}

fn crc_of(head: &[u8], pages: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(pages);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
