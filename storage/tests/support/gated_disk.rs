//! A disk of which one file, or a shard with its log, cannot be read or synced for a while, or only later.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tailwater_storage::disk::{Disk, DiskFile, Map};

/// What becomes of those who read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    Succeeds,
    Fails,
    /// They wait until this changes.
    Waits,
}

/// Decides over reads and syncs of one file, or of a shard and its log.
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    reads: Passage,
    holds_syncs: bool,
    /// How many wait.
    waiting: u64,
}

impl Gate {
    pub(crate) fn set_reads(&self, reads: Passage) {
        self.state.lock().reads = reads;
        self.changed.notify_all();
    }

    /// Lets syncs wait until the answer is dropped, also by a test that fails.
    pub(crate) fn hold_syncs(&self) -> HeldSyncs<'_> {
        self.state.lock().holds_syncs = true;
        HeldSyncs(self)
    }

    /// Whether somebody waits here.
    pub(crate) fn is_reached(&self) -> bool {
        self.state.lock().waiting > 0
    }

    /// Waits until somebody waits here.
    pub(crate) fn reached(&self) {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.waiting == 0);
    }

    fn pass_to_read(&self) -> io::Result<()> {
        self.wait_while(|state| state.reads == Passage::Waits);
        match self.state.lock().reads {
            Passage::Fails => Err(io::Error::other("the file cannot be read")),
            _ => Ok(()),
        }
    }

    fn wait_while(&self, is_held: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        if is_held(&state) {
            state.waiting += 1;
            self.changed.notify_all();
            self.changed.wait_while(&mut state, |state| is_held(state));
            state.waiting -= 1;
        }
    }
}

/// Syncs wait.
pub(crate) struct HeldSyncs<'a>(&'a Gate);

impl Drop for HeldSyncs<'_> {
    fn drop(&mut self) {
        self.0.state.lock().holds_syncs = false;
        self.0.changed.notify_all();
    }
}

pub(crate) struct GatedDisk {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    gate: Arc<Gate>,
}

impl GatedDisk {
    /// A disk of which the file at `path`, or the shard there and its log, is read and synced as the gate says.
    pub(crate) fn new<D: Disk + 'static>(disk: Arc<D>, path: &str) -> (Arc<Self>, Arc<Gate>) {
        let gate = Arc::new(Gate {
            state: Mutex::new(State {
                reads: Passage::Succeeds,
                holds_syncs: false,
                waiting: 0,
            }),
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
        // A shard's log is read and synced as the shard is.
        if path != self.path && path.with_extension("redb") != self.path {
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
        self.gate.pass_to_read()?;
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.gate.pass_to_read()?;
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.wait_while(|state| state.holds_syncs);
        self.file.sync()
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        self.file.map(len)
    }
}
