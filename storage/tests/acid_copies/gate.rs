//! A disk of which one file cannot be read for a while, or only later.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tailwater_storage::disk::{Disk, DiskFile, Map};

use crate::support::faulty_disk::FaultyDisk;

/// What becomes of those who read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    Succeed,
    Fail,
    /// They wait until this changes.
    Wait,
}

/// Decides over reads of one file.
pub(super) struct Gate {
    reads: Mutex<(Reads, u64)>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn set(&self, reads: Reads) {
        self.reads.lock().0 = reads;
        self.changed.notify_all();
    }

    /// Waits until somebody waits here.
    pub(super) fn reached(&self) {
        let mut reads = self.reads.lock();
        self.changed.wait_while(&mut reads, |(_, waiting)| *waiting == 0);
    }

    fn pass(&self) -> io::Result<()> {
        let mut reads = self.reads.lock();
        reads.1 += 1;
        self.changed.notify_all();
        self.changed
            .wait_while(&mut reads, |(reads, _)| *reads == Reads::Wait);
        reads.1 -= 1;
        match reads.0 {
            Reads::Fail => Err(io::Error::other("the file cannot be read")),
            _ => Ok(()),
        }
    }
}

pub(super) struct GatedDisk {
    disk: Arc<FaultyDisk>,
    path: PathBuf,
    gate: Arc<Gate>,
}

impl GatedDisk {
    /// A disk of which the file at `path` is read as the gate says.
    pub(super) fn new(disk: Arc<FaultyDisk>, path: &str) -> (Arc<Self>, Arc<Gate>) {
        let gate = Arc::new(Gate {
            reads: Mutex::new((Reads::Succeed, 0)),
            changed: Condvar::new(),
        });
        let gated = Self {
            disk,
            path: path.into(),
            gate: Arc::clone(&gate),
        };
        (Arc::new(gated), gate)
    }

    fn gated(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if path != self.path {
            return file;
        }
        let gate = Arc::clone(&self.gate);
        Arc::new(GatedFile { file, gate })
    }
}

impl Disk for GatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(path, self.disk.open(path)?))
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(path, self.disk.open_sealed(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }

    fn boot_id(&self) -> Option<String> {
        self.disk.boot_id()
    }
}

struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.gate.pass()?;
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.gate.pass()?;
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        self.file.map(len)
    }
}
