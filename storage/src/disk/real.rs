//! The disk of the machine, through the standard library.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::mapping::Mapping;
use super::{Disk, DiskFile, Map};

/// Streams may be anybody's secrets, so nobody but their keeper looks into them.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The disk of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        Ok(RealFile::shared(options.open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(RealFile::shared(file))
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(RealFile::shared(File::open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours, and does not become one by being shown with replacements.
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        Ok(free(&rustix::fs::statvfs(dir)?))
    }

    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    fn boot_id(&self) -> Option<String> {
        let id = fs::read_to_string(BOOT_ID).ok()?;
        let id = id.trim();
        (!id.is_empty()).then(|| id.to_owned())
    }

    /// Not known: every run of the process counts as one of another run of the machine.
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    fn boot_id(&self) -> Option<String> {
        None
    }
}

struct RealFile {
    /// Shared with the file's maps, which read through it what the machine cannot fetch for them.
    file: Arc<File>,
}

impl RealFile {
    fn shared(file: File) -> Arc<dyn DiskFile> {
        Arc::new(Self { file: Arc::new(file) })
    }
}

/// What is kept back for the superuser does not count: the store is not the one to eat it up.
fn free(space: &rustix::fs::StatVfs) -> u64 {
    space.f_bavail.saturating_mul(space.f_frsize)
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Where a file system keeps no record of holes, all of it counts as written.
    fn written(&self, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        use rustix::fs::{SeekFrom, seek};
        let mut written = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let data = match seek(&*self.file, SeekFrom::Data(at)) {
                Ok(data) if data < range.end => data,
                Ok(_) | Err(rustix::io::Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            at = seek(&*self.file, SeekFrom::Hole(data))?;
            written.push(data..at.min(range.end));
        }
        Ok(written)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(free(&rustix::fs::fstatvfs(&*self.file)?))
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync makes the length durable too; what it leaves out are times, which nobody reads. On macOS the standard
        // library has the drive empty its cache (F_FULLFSYNC), here and for directories, which fsync does not do there.
        self.file.sync_data()
    }

    fn links(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.nlink())
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        Ok(Arc::new(Mapping::new(&self.file, len)?))
    }

    fn map_sealed(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        Ok(Arc::new(Mapping::sealed(&self.file, len)?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn nobody_else_may_look_at_what_is_made() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let deep = dir.path().join("a/b");
        RealDisk.make_dir(&deep).expect("made");
        RealDisk.make_dir(&deep).expect("an existing one is fine");
        RealDisk.create(&deep.join("file")).expect("made");
        assert_eq!(mode(&dir.path().join("a")), 0o700);
        assert_eq!(mode(&deep), 0o700);
        assert_eq!(mode(&deep.join("file")), 0o600);
    }

    #[test]
    fn a_sealed_file_is_not_written() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let path = dir.path().join("file");
        RealDisk
            .create(&path)
            .and_then(|file| file.write_at(0, b"kept"))
            .expect("written");
        let sealed = RealDisk.open_sealed(&path).expect("opened");
        sealed.write_at(0, b"lost").expect_err("it is sealed");
        sealed.set_len(0).expect_err("it is sealed");
        assert_eq!(fs::read(&path).expect("read"), b"kept");
    }

    #[test]
    fn space_is_told_only_of_what_exists() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let free = RealDisk.free_bytes(dir.path()).expect("it exists");
        assert!(free > 0, "the tests themselves need some");
        let error = RealDisk.free_bytes(&dir.path().join("absent"));
        assert_eq!(error.expect_err("it is absent").kind(), ErrorKind::NotFound);
    }

    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    #[test]
    fn the_run_of_the_machine_has_one_name() {
        let id = RealDisk.boot_id().expect("this system names its runs");
        assert_eq!(id.len(), 36, "a UUID and nothing around it: {id:?}");
        assert_eq!(RealDisk.boot_id(), Some(id));
    }

    #[test]
    fn a_foreign_name_does_not_hide_the_others() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().expect("a directory can be made");
        RealDisk.create(&dir.path().join("ours")).expect("made");
        let foreign = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
        if RealDisk.create(&foreign).is_err() {
            return; // Some file systems know no such names.
        }
        let mut names = RealDisk.list(dir.path()).expect("listed");
        names.sort();
        assert_eq!(names, ["ours", "\u{fffd}"]);
    }
}
