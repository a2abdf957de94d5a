//! redb's header, which it writes in place: here in two places, each with a count and a checksum.
//!
//! What was torn or damaged is passed over for the other one, as if it had not been written. One is durable at any
//! time, and redb may write its header more than once before it syncs: so all that is written goes to the place where the
//! durable one is not, and only a sync lets the places change their parts. Each is: the format's name (four bytes), how
//! many times the header was written (eight bytes), the first 512 bytes of redb's file, and the CRC-32 over all that.
//! Numbers are little-endian.
//!
//! redb notes in its header whether the pages of its commit were synced first. Where there is a log, that is noted of each
//! header of which it is true, and such a one is copied to the other place, so that damage of either takes nothing.

use std::io;

use parking_lot::Mutex;

use super::pages::{PAGE_BYTES, damage};
use crate::codec::{Decoder, Encode};
use crate::disk::DiskFile;

/// Pages of our file before all others.
pub(super) const HEADER_PAGES: u64 = 2;
pub(super) const HEADER_BYTES: usize = 512;
const FORMAT: &[u8; 4] = b"TWC\x01";
/// The byte of redb's header that says which of its two commits counts, and how it was made.
const COMMIT_AT: usize = 9;
/// The bit of it that is set once the pages of that commit were synced before the header was written.
const IS_SYNCED_FIRST: u8 = 4;
const ENTRY_BYTES: usize = 4 + 8 + HEADER_BYTES + 4;

/// What redb has written last.
pub(super) struct Header(Mutex<Written>);

/// A header as it was at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Image {
    /// How often it had been written.
    pub(super) count: u64,
    pub(super) bytes: [u8; HEADER_BYTES],
}

struct Written {
    count: u64,
    bytes: [u8; HEADER_BYTES],
    /// Where it stands.
    place: u64,
    /// Whether that is known to be durable.
    is_synced: bool,
}

impl Header {
    /// Nothing is written yet.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Written {
            count: 0,
            bytes: [0; HEADER_BYTES],
            place: 0,
            is_synced: true,
        }))
    }

    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it stands in neither place.
    pub(super) fn open(file: &dyn DiskFile) -> io::Result<Self> {
        let mut newest: Option<Written> = None;
        let mut entry = [0; ENTRY_BYTES];
        for place in 0..HEADER_PAGES {
            file.read_at(place * PAGE_BYTES, &mut entry)?;
            let found = Written::read(&entry, place);
            let rank = |written: &Written| (written.count, written.tells_of_synced_pages());
            if found.as_ref().map(rank) > newest.as_ref().map(rank) {
                newest = found;
            }
        }
        let newest = newest.ok_or_else(|| damage("it has no header".to_owned()))?;
        Ok(Self(Mutex::new(newest)))
    }

    /// Whether a part of redb's file is within its header.
    pub(super) fn has(offset: u64, len: usize) -> bool {
        offset
            .checked_add(len as u64)
            .is_some_and(|end| end <= HEADER_BYTES as u64)
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        let offset = usize::try_from(offset).expect("within the header");
        out.copy_from_slice(&self.0.lock().bytes[offset..offset + out.len()]);
    }

    /// Writes a part of it in place.
    pub(super) fn write(&self, file: &dyn DiskFile, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.0.lock();
        if written.is_synced {
            written.place = written.other_place();
        }
        written.change(offset, data);
        written.put(file, written.place)
    }

    /// Changes a part of it, and leaves what stands in place as it is.
    pub(super) fn change(&self, offset: u64, data: &[u8]) {
        self.0.lock().change(offset, data);
    }

    /// Writes it to the place where the durable one is not, behind changes that were left out there. All that it tells of is
    /// durable in its place.
    pub(super) fn write_changed(&self, file: &dyn DiskFile) -> io::Result<()> {
        let mut written = self.0.lock();
        written.place = written.other_place();
        written.note_synced_pages();
        written.put(file, written.place)
    }

    /// Copies the durable one, all of which is durable in its place, to the other place. A sync comes before anything else is
    /// written there.
    pub(super) fn copy(&self, file: &dyn DiskFile) -> io::Result<()> {
        let mut written = self.0.lock();
        written.note_synced_pages();
        written.put(file, written.other_place())
    }

    /// As it is now.
    pub(super) fn image(&self) -> Image {
        let written = self.0.lock();
        Image {
            count: written.count,
            bytes: written.bytes,
        }
    }

    /// Makes it what it was at some time, but for what stands in place.
    pub(super) fn restore(&self, image: &Image) {
        let mut written = self.0.lock();
        written.count = image.count;
        written.bytes = image.bytes;
        written.is_synced = false;
    }

    /// How often it was written.
    pub(super) fn writes(&self) -> u64 {
        self.0.lock().count
    }

    /// Writes it to the place where it stands.
    pub(super) fn write_again(&self, file: &dyn DiskFile) -> io::Result<()> {
        let written = self.0.lock();
        written.put(file, written.place)
    }

    /// Whether the file was synced after all that was written of it.
    pub(super) fn is_synced(&self) -> bool {
        self.0.lock().is_synced
    }

    /// Notes that the file was synced after all that was written of it.
    pub(super) fn synced(&self) {
        self.0.lock().is_synced = true;
    }

    /// Takes back what was written since the last sync, for the next one has failed: the kernel may show for as long as
    /// the machine runs what the disk never gets, and whoever opened the file then would build upon a commit that falls
    /// with the power. What was synced before stands in the other place.
    pub(super) fn withdraw(&self, file: &dyn DiskFile) -> io::Result<()> {
        let written = self.0.lock();
        if written.is_synced {
            return Ok(());
        }
        file.write_at(written.place * PAGE_BYTES, &[0; ENTRY_BYTES])
    }

    /// Whether the pages of the commit that it tells of were durable before it was. Otherwise they need not be whole,
    /// and redb compares its own checksums to find out.
    pub(super) fn tells_of_synced_pages(&self) -> bool {
        self.0.lock().tells_of_synced_pages()
    }
}

impl Written {
    fn tells_of_synced_pages(&self) -> bool {
        self.bytes[COMMIT_AT] & IS_SYNCED_FIRST != 0
    }

    /// redb takes it for that of a commit with two syncs, which it would be.
    fn note_synced_pages(&mut self) {
        self.bytes[COMMIT_AT] |= IS_SYNCED_FIRST;
    }

    fn other_place(&self) -> u64 {
        (self.place + 1) % HEADER_PAGES
    }

    fn change(&mut self, offset: u64, data: &[u8]) {
        let offset = usize::try_from(offset).expect("within the header");
        self.count += 1;
        self.is_synced = false;
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
    }

    fn put(&self, file: &dyn DiskFile, place: u64) -> io::Result<()> {
        file.write_at(place * PAGE_BYTES, &self.entry())
    }

    fn entry(&self) -> Vec<u8> {
        let mut entry = Vec::with_capacity(ENTRY_BYTES);
        entry.put_slice(FORMAT);
        entry.put_u64(self.count);
        entry.put_slice(&self.bytes);
        let crc = crc32fast::hash(&entry);
        entry.put_u32(crc);
        entry
    }

    fn read(entry: &[u8; ENTRY_BYTES], place: u64) -> Option<Self> {
        let (said, crc) = entry.split_last_chunk::<4>()?;
        let mut from = Decoder::new(said.strip_prefix(FORMAT)?);
        let written = Self {
            count: from.u64("a count").ok()?,
            bytes: from.rest().try_into().ok()?,
            place,
            is_synced: false,
        };
        (crc32fast::hash(said) == u32::from_le_bytes(*crc)).then_some(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::memory::MemoryDisk;
    use std::path::Path;

    fn first_byte(disk: &MemoryDisk) -> Option<u8> {
        let file = disk.open(Path::new("file")).expect("it is there");
        let mut byte = [0];
        Header::open(file.as_ref()).ok()?.read(0, &mut byte);
        Some(byte[0])
    }

    #[test]
    fn the_newest_whole_header_counts() {
        let disk = MemoryDisk::new();
        let file = disk.create(Path::new("file")).expect("made");
        let header = Header::new();
        file.set_len(HEADER_PAGES * PAGE_BYTES).expect("long enough");
        assert_eq!(first_byte(&disk), None);
        for byte in 1..=5 {
            header.write(file.as_ref(), 0, &[byte]).expect("written");
            header.synced();
            assert_eq!(first_byte(&disk), Some(byte));
        }
        let places = [PAGE_BYTES, 0].map(|at| at as usize);
        for (place, left) in places.into_iter().zip([Some(4), None]) {
            disk.tamper(Path::new("file"), |bytes| bytes[place + ENTRY_BYTES - 5] ^= 1);
            assert_eq!(first_byte(&disk), left);
        }
    }
    #[test]
    fn what_is_written_before_a_sync_leaves_the_durable_one_alone() {
        let disk = MemoryDisk::new();
        let file = disk.create(Path::new("file")).expect("made");
        let header = Header::new();
        file.set_len(HEADER_PAGES * PAGE_BYTES).expect("long enough");
        for byte in 1..=3 {
            header.write(file.as_ref(), 0, &[byte]).expect("written");
            header.synced();
        }
        // Commits that were not synced are lost together, and the one before stays.
        header.write(file.as_ref(), 0, &[4]).expect("written");
        header.write(file.as_ref(), 0, &[5]).expect("written");
        assert_eq!(first_byte(&disk), Some(5));
        let at = usize::try_from(header.0.lock().place * PAGE_BYTES).expect("a place");
        disk.tamper(Path::new("file"), |bytes| bytes[at + 20] ^= 1);
        assert_eq!(first_byte(&disk), Some(3));
    }

    /// The kernel shows what it could not write until the machine stops.
    #[test]
    fn what_a_failed_sync_has_left_in_doubt_is_withdrawn_for_the_durable_one() {
        let disk = MemoryDisk::new();
        let file = disk.create(Path::new("file")).expect("made");
        let header = Header::new();
        file.set_len(HEADER_PAGES * PAGE_BYTES).expect("long enough");
        header.write(file.as_ref(), 0, &[1]).expect("written");
        header.synced();
        header.withdraw(file.as_ref()).expect("written");
        assert_eq!(first_byte(&disk), Some(1), "nothing was in doubt");
        header.write(file.as_ref(), 0, &[2]).expect("written");
        header.withdraw(file.as_ref()).expect("written");
        assert_eq!(first_byte(&disk), Some(1));
    }

    /// The bit is redb's own, and another version might have it elsewhere.
    #[test]
    fn a_header_says_whether_its_commit_was_synced_first() {
        for first in [false, true] {
            let file = tempfile::NamedTempFile::new().expect("a file");
            let database = redb::Database::create(file.path()).expect("made");
            let mut transaction = database.begin_write().expect("begun");
            transaction.set_two_phase_commit(first);
            transaction.commit().expect("committed");
            let bytes = std::fs::read(file.path()).expect("readable");
            let header = Header::new();
            header.0.lock().bytes.copy_from_slice(&bytes[..HEADER_BYTES]);
            assert_eq!(header.tells_of_synced_pages(), first);
        }
    }
}
