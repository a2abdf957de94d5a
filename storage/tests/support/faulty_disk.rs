//! A disk in memory that does to a store what disks do to stores: it stops in the middle of a write, loses what was
//! not synced, fails, is full, is cold, and flips bits. The same seed and the same operations give the same faults.
//!
//! It is stricter than most file systems, so that nothing is taken for granted: a file's sync does not make its
//! name durable, and the name of a directory wants a sync of the directory above it too.
//!
//! | file | what stands there |
//! |---|---|
//! | `content.rs` | a file's bytes, as its process sees them and as the medium has them |
//! | `names.rs` | directories, likewise |
//! | `handles.rs` | open files and their maps |

mod content;
mod handles;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use tailwater_storage::disk::{Disk, DiskFile};

use content::Content;
use handles::OpenFile;
use names::{FileId, Names};

/// The space that is free while nobody has set any.
const FREE_BYTES: u64 = 1 << 40;

/// No file gets longer, so that a bug asks for no absurd amount of memory.
const FILE_BYTES_MAX: u64 = 1 << 32;

/// A disk with faults, in memory.
pub(crate) struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct Inode {
    content: Content,
    /// Handles and maps of it. While there are any, it stays without a name.
    users: usize,
    /// The pages that were populated since the disk is cold.
    populated: BTreeSet<u64>,
}

struct State {
    rng: Rng,
    names: Names,
    files: BTreeMap<FileId, Inode>,
    last_file: FileId,
    operations: u64,
    cut_at: Option<u64>,
    stopped: bool,
    /// Syncs that succeed before the one that fails, if one is to fail.
    syncs_left: Option<u64>,
    /// Writes that succeed before the one that fails, if one is to fail.
    writes_left: Option<u64>,
    /// Reads that succeed before the one that fails, if one is to fail.
    reads_left: Option<u64>,
    /// Writes that succeed before the one that finds no space, if one is to find none.
    refused_writes_left: Option<u64>,
    /// Renames that succeed before the one that finds no space, if one is to find none.
    renames_left: Option<u64>,
    /// What all files may take together.
    bytes_max: Option<u64>,
    boot_id: Option<String>,
    cold: bool,
}

impl FaultyDisk {
    /// An empty disk without faults.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let boot_id = Some(some_boot_id(&mut rng));
        Self::of(State {
            rng,
            names: Names::default(),
            files: BTreeMap::new(),
            last_file: 0,
            operations: 0,
            cut_at: None,
            stopped: false,
            syncs_left: None,
            writes_left: None,
            reads_left: None,
            refused_writes_left: None,
            renames_left: None,
            bytes_max: None,
            boot_id,
            cold: false,
        })
    }

    fn of(state: State) -> Arc<Self> {
        let state = Arc::new(Mutex::new(state));
        Arc::new(Self { state })
    }

    /// Stops the machine at the mutating operation of this number, counted from 1 since the disk was made: neither
    /// it nor anything after it succeeds, but if it is a write, any number of its first sectors is written.
    pub(crate) fn cut_at(&self, operation: u64) {
        self.state.lock().cut_at = Some(operation);
    }

    /// Does something during which the machine does not stop: what would be cut of it is what comes behind it.
    pub(crate) fn without_cut<T>(&self, work: impl FnOnce() -> T) -> T {
        let cut_at = self.state.lock().cut_at.take();
        let done = work();
        self.state.lock().cut_at = cut_at;
        done
    }

    /// How many mutating operations there were: writes, lengths set, syncs, files and directories made, renamed,
    /// removed or linked, and directories synced. Failed ones count; those after the cut do not.
    pub(crate) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Whether the cut was reached.
    pub(crate) fn has_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// The disk as a process finds it that was started again. Nothing is lost, but nothing has become durable
    /// either. No fault is set on it any more; cold and full it stays.
    pub(crate) fn crash_process(&self) -> Arc<Self> {
        Self::of(self.state.lock().restarted())
    }

    /// The disk as it is after the power was gone. What was not synced is there in part, sector by sector and name
    /// by name. Asked again, it gives another outcome.
    pub(crate) fn crash_machine(&self) -> Arc<Self> {
        let mut state = self.state.lock().restarted();
        let rng = &mut state.rng;
        state.names.lose_power(rng);
        for inode in state.files.values_mut() {
            inode.content.lose_power(rng);
            inode.populated.clear();
        }
        state.boot_id = state.boot_id.map(|_| some_boot_id(rng));
        state.drop_unreachable();
        Self::of(state)
    }

    /// Lets a sync of a file fail: 1 is the next one. As on Linux, what it should have made durable then counts as
    /// clean: later syncs succeed without it, while reads still show it.
    pub(crate) fn fail_sync(&self, nth: u64) {
        self.state.lock().syncs_left = Some(nth.checked_sub(1).expect("the next one is 1"));
    }

    /// Lets a write fail: 1 is the next one. Any number of its first sectors is written.
    pub(crate) fn fail_write(&self, nth: u64) {
        self.state.lock().writes_left = Some(nth.checked_sub(1).expect("the next one is 1"));
    }

    /// Lets a read of a file fail once: 1 is the next one.
    pub(crate) fn fail_read(&self, nth: u64) {
        self.state.lock().reads_left = Some(nth.checked_sub(1).expect("the next one is 1"));
    }

    /// Lets a write find no space, as it may on a file system that copies what is written again: 1 is the next one.
    pub(crate) fn refuse_write(&self, nth: u64) {
        self.state.lock().refused_writes_left = Some(nth.checked_sub(1).expect("the next one is 1"));
    }

    /// Lets a rename find no space, as it may that makes a directory longer: 1 is the next one.
    pub(crate) fn refuse_rename(&self, nth: u64) {
        self.state.lock().renames_left = Some(nth.checked_sub(1).expect("the next one is 1"));
    }

    /// Flips some bit of a byte, for the running process and on the medium.
    pub(crate) fn flip_bit(&self, path: &Path, offset: u64) {
        let mut state = self.state.lock();
        let mask = 1 << state.rng.u8(0..8);
        let id = state.names.file(path).expect("there is such a file");
        state.inode_mut(id).content.flip(offset as usize, mask);
    }

    /// How many bytes may be added to all files together from now on; none for as many as you like. Files that are
    /// cut off, or removed and closed, give theirs back.
    pub(crate) fn set_free_bytes(&self, bytes: Option<u64>) {
        let mut state = self.state.lock();
        state.bytes_max = bytes.map(|bytes| bytes + state.used());
    }

    /// Names the run of the machine otherwise, or not at all.
    pub(crate) fn set_boot_id(&self, boot_id: Option<&str>) {
        self.state.lock().boot_id = boot_id.map(str::to_owned);
    }

    /// From now on nothing is resident until it is populated; or else everything is.
    pub(crate) fn set_cold(&self, cold: bool) {
        let mut state = self.state.lock();
        state.cold = cold;
        for inode in state.files.values_mut() {
            inode.populated.clear();
        }
    }

    /// The paths of all files, in order.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        state.names.files().map(|(path, _)| path.clone()).collect()
    }

    /// All that the running process sees in a file.
    pub(crate) fn read_file(&self, path: &Path) -> Vec<u8> {
        let state = self.state.lock();
        let id = state.names.file(path).expect("there is such a file");
        state.inode(id).content.bytes().to_vec()
    }

    fn open_id(&self, state: &mut State, id: FileId, sealed: bool) -> Arc<dyn DiskFile> {
        Arc::new(OpenFile::new(&self.state, state, id, sealed))
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.begin_change()?;
        let id = state.last_file + 1;
        state.names.add(path, id)?;
        state.last_file = id;
        let inode = Inode {
            content: Content::default(),
            users: 0,
            populated: BTreeSet::new(),
        };
        state.files.insert(id, inode);
        Ok(self.open_id(&mut state, id, false))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.check_running()?;
        let id = state.names.file(path)?;
        Ok(self.open_id(&mut state, id, false))
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.check_running()?;
        let id = state.names.file(path)?;
        Ok(self.open_id(&mut state, id, true))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check_running()?;
        state.names.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_change()?;
        state.names.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_change()?;
        if is_due(&mut state.renames_left) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        state.names.rename(from, to)?;
        state.drop_unreachable();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_change()?;
        state.names.remove(path)?;
        state.drop_unreachable();
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_change()?;
        state.names.remove_dir(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_change()?;
        let id = state.names.file(from)?;
        state.names.add(to, id)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_change()?;
        state.names.sync_dir(dir)?;
        state.drop_unreachable();
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        state.check_running()?;
        state.names.existing(dir)?;
        Ok(state.free())
    }

    fn boot_id(&self) -> Option<String> {
        self.state.lock().boot_id.clone()
    }
}

impl State {
    fn check_running(&self) -> io::Result<()> {
        if self.stopped {
            return Err(io::Error::other("the machine has stopped"));
        }
        Ok(())
    }

    /// Counts a mutating operation, or stops the machine.
    fn begin_change(&mut self) -> io::Result<()> {
        self.stopped |= self.cut_at.is_some_and(|cut| self.operations + 1 >= cut);
        self.check_running()?;
        self.operations += 1;
        Ok(())
    }

    fn inode(&self, id: FileId) -> &Inode {
        self.files.get(&id).expect("a file stays while it is used")
    }

    fn inode_mut(&mut self, id: FileId) -> &mut Inode {
        self.files.get_mut(&id).expect("a file stays while it is used")
    }

    /// What the files take that have a name or are open.
    fn used(&self) -> u64 {
        let named: BTreeSet<FileId> = self.names.files().map(|(_, id)| id).collect();
        let files = self.files.iter();
        let taking = files.filter(|(id, inode)| inode.users > 0 || named.contains(id));
        taking.map(|(_, inode)| inode.content.len() as u64).sum()
    }

    fn free(&self) -> u64 {
        match self.bytes_max {
            Some(bytes_max) => bytes_max.saturating_sub(self.used()),
            None => FREE_BYTES,
        }
    }

    /// Lets go of files that can never have a name again and that nobody uses.
    fn drop_unreachable(&mut self) {
        let named = self.names.named_or_not_forgotten();
        self.files
            .retain(|id, inode| inode.users > 0 || named.contains(id));
    }

    /// The same, without those who use it and without faults.
    fn restarted(&mut self) -> Self {
        let mut restarted = Self {
            rng: Rng::with_seed(self.rng.u64(..)),
            names: self.names.clone(),
            files: self.files.clone(),
            last_file: self.last_file,
            operations: 0,
            cut_at: None,
            stopped: false,
            syncs_left: None,
            writes_left: None,
            reads_left: None,
            refused_writes_left: None,
            renames_left: None,
            bytes_max: self.bytes_max,
            boot_id: self.boot_id.clone(),
            cold: self.cold,
        };
        for inode in restarted.files.values_mut() {
            inode.users = 0;
        }
        restarted.drop_unreachable();
        restarted
    }
}

/// Counts down to a fault; whether this is it.
fn is_due(left: &mut Option<u64>) -> bool {
    match *left {
        Some(0) => {
            *left = None;
            true
        }
        Some(more) => {
            *left = Some(more - 1);
            false
        }
        None => false,
    }
}

fn some_boot_id(rng: &mut Rng) -> String {
    format!("boot-{:016x}", rng.u64(..))
}
