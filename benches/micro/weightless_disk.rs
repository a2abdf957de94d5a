//! A disk on which journals weigh nothing: what is written to them is lost, and nothing waits for a sync.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tailwater_storage::disk::{Disk, DiskFile, Map, RealDisk};

/// The real disk, but for the weight of journals and syncs.
pub(crate) struct WeightlessDisk;

impl Disk for WeightlessDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(wrap(path, RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(wrap(path, RealDisk.open(path)?))
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_sealed(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }

    fn boot_id(&self) -> Option<String> {
        RealDisk.boot_id()
    }
}

struct WeightlessFile {
    file: Arc<dyn DiskFile>,
    is_journal: bool,
}

/// A journal is made under another name than it bears later, in the same directory.
fn wrap(path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
    let is_journal = path.parent().is_some_and(|dir| dir.ends_with("journal"));
    Arc::new(WeightlessFile { file, is_journal })
}

impl DiskFile for WeightlessFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    /// Keeps a journal's length and nothing else of what is written to it.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.is_journal {
            return self.file.write_at(offset, bytes);
        }
        let end = offset + bytes.len() as u64;
        if end > self.file.len()? {
            self.file.set_len(end)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        self.file.map(len)
    }
}
