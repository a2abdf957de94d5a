//! The seam to the operating system: every file operation of the store goes through [`Disk`], so that tests bring
//! a disk that loses un-synced pages, fails or is full. [`RealDisk`] is the real one.

mod mapping;
#[cfg(test)]
pub(crate) mod memory;
mod real;
mod sealed_maps;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use real::RealDisk;
pub use sealed_maps::{SealedPlace, sealed_place_of};

/// Files and directories. Paths are absolute or relative to the process, as everywhere.
pub trait Disk: Send + Sync + 'static {
    /// Makes a new file, readable and writable.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::AlreadyExists`] if there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// As the system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading only: writing to it and setting its length fail.
    ///
    /// # Errors
    /// As the system says.
    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of what is in a directory, in no order. Those that are not UTF-8 are shown with replacements.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a directory (mode 0700) and those above it. An existing one is fine. Each that is made is durable only
    /// once the one above it is synced.
    ///
    /// # Errors
    /// As the system says.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file; one that has the new name is replaced. If both names are of one file, both stay.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Unlinks a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory that has nothing in it.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::DirectoryNotEmpty`] if there is something in it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a second hard link to a file.
    ///
    /// # Errors
    /// As the system says.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable: files made, renamed and removed in it.
    ///
    /// # Errors
    /// As the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that may still be written to the file system of `dir`.
    ///
    /// # Errors
    /// As the system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Names the current run of the machine; none if that is not known.
    fn boot_id(&self) -> Option<String>;
}

/// An open file.
#[expect(
    clippy::len_without_is_empty,
    reason = "whether a file is empty is asked by nobody"
)]
pub trait DiskFile: Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn len(&self) -> io::Result<u64>;

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::UnexpectedEof`] if there are fewer.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all bytes.
    ///
    /// # Errors
    /// As the system says. What was written is unknown then.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file off, or extends it with zeros.
    ///
    /// # Errors
    /// As the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The parts of a range that take space, in order; all of it if that is not known. What is between them are zeros that were
    /// never written.
    ///
    /// # Errors
    /// As the system says.
    fn written(&self, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        Ok(vec![range])
    }

    /// Bytes that may still be written to its file system; none if that is not known.
    ///
    /// # Errors
    /// As the system says.
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }

    /// Makes what was written durable, and the file's length; not its name, which is up to [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As the system says. Never try again: what was written is lost or not, nobody knows.
    fn sync(&self) -> io::Result<()>;

    /// How many names the file has.
    ///
    /// # Errors
    /// As the system says.
    fn links(&self) -> io::Result<u64>;

    /// A read-only map of the first `len` bytes. Shows what is written afterwards. What the file has lost since by
    /// being made shorter must not be touched: that ends the process.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::UnexpectedEof`] if the file has fewer bytes.
    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>>;

    /// Such a map of a file that nobody will ever write again, neither while it is mapped nor afterwards. The bytes of
    /// it may be sent from the file ([`sealed_place_of`]).
    ///
    /// # Errors
    /// Those of [`Self::map`].
    fn map_sealed(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        self.map(len)
    }
}

/// A read-only map of a file's beginning. Ranges that reach beyond it are bugs, and panic.
pub trait Map: Send + Sync + 'static {
    /// How many bytes it shows.
    fn len(&self) -> u64;

    /// Whether it shows nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows some bytes. Only those that nobody will write again.
    fn look(&self, range: Range<u64>, look: &mut dyn FnMut(&[u8]));

    /// Some bytes that keep the map as long as they live. Only those that nobody will write again.
    fn bytes(self: Arc<Self>, range: Range<u64>) -> Bytes;

    /// Whether reading these bytes would wait for no disk, as of now: memory may be reclaimed at any time.
    fn is_resident(&self, range: Range<u64>) -> bool;

    /// Fetches these bytes from the disk.
    ///
    /// # Errors
    /// If the disk cannot read them.
    fn populate(&self, range: Range<u64>) -> io::Result<()>;
}
