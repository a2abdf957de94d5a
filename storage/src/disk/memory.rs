//! A disk in memory that runs full, fails, and loses what was not synced when the machine crashes. What a sync that failed
//! was to make durable is shown, and no later sync makes it so, as with a kernel.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::hash_map::{self, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, Map};

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// What fails from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    Nothing,
    Reads,
    /// Also the changes of files' lengths.
    Writes,
    Syncs,
    /// The next sync only.
    OneSync,
    /// All writes and syncs but the next ones, so many, in the way that a number says.
    After(u64, i32),
    /// The write or sync behind the next ones, so many, in the way that a number says.
    Once(u64, i32),
}

#[derive(Default)]
struct State {
    pages_max: AtomicU64,
    pages: AtomicU64,
    reads: AtomicU64,
    fault: Mutex<Fault>,
}

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
    state: Arc<State>,
    files: Arc<Mutex<HashMap<PathBuf, Arc<MemoryFile>>>>,
}

impl MemoryDisk {
    /// A disk that never runs full.
    pub(crate) fn new() -> Self {
        let disk = Self::default();
        disk.set_space(u64::MAX);
        disk
    }

    /// How many pages can be written beside those that are.
    pub(crate) fn set_space(&self, pages: u64) {
        let pages_max = self.state.pages.load(Ordering::SeqCst).saturating_add(pages);
        self.state.pages_max.store(pages_max, Ordering::SeqCst);
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        *self.state.fault.lock() = fault;
    }

    /// How many more writes and syncs there are before all fail.
    pub(crate) fn left(&self) -> u64 {
        match *self.state.fault.lock() {
            Fault::After(left, _) => left,
            fault => panic!("{fault:?} does not count"),
        }
    }

    /// How many reads there were.
    pub(crate) fn reads(&self) -> u64 {
        self.state.reads.load(Ordering::SeqCst)
    }

    /// What a crash leaves: what was synced, and of what was written since, the newest first, what `survives` picks of each page
    /// by its number; of files that were cut off, the greatest number asks whether that survives.
    pub(crate) fn after_crash(&self, mut survives: impl FnMut(u64) -> bool) -> Self {
        let crashed = Self::new();
        for (path, file) in self.files.lock().iter() {
            let content = file.content.lock();
            let mut left = content.synced.clone();
            for (number, versions) in &content.unsynced {
                let survivor = versions.iter().rev().find(|_| survives(*number));
                if let Some(page) = survivor {
                    left.pages.insert(*number, *page);
                }
            }
            // A file system that writes a page has made the file long enough for it before.
            left.len = content.written.len.max(left.len);
            if content.written.len < left.len && survives(u64::MAX) {
                left.cut(content.written.len);
            }
            let taken = left.pages.len() as u64;
            crashed.state.pages.fetch_add(taken, Ordering::SeqCst);
            let file = crashed.file(Content {
                written: left.clone(),
                synced: left,
                ..Content::default()
            });
            crashed.files.lock().insert(path.clone(), file);
        }
        crashed
    }

    /// The file's bytes, to be changed as no program would.
    pub(crate) fn tamper(&self, path: &Path, tamper: impl FnOnce(&mut Vec<u8>)) {
        let file = Arc::clone(&self.files.lock()[path]);
        let mut content = file.content.lock();
        let mut bytes = content.written.bytes();
        tamper(&mut bytes);
        let tampered = Pages::from(bytes);
        let Content {
            written, unsynced, ..
        } = &mut *content;
        for (number, page) in &tampered.pages {
            if written.pages.get(number).unwrap_or(&[0; PAGE_BYTES]) != page {
                unsynced.entry(*number).or_default().push(*page);
            }
        }
        *written = tampered;
    }

    fn file(&self, content: Content) -> Arc<MemoryFile> {
        Arc::new(MemoryFile {
            state: Arc::clone(&self.state),
            content: Mutex::new(content),
        })
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.files.lock().entry(path.to_owned()) {
            hash_map::Entry::Occupied(_) => Err(io::ErrorKind::AlreadyExists.into()),
            hash_map::Entry::Vacant(entry) => {
                let file = entry.insert(self.file(Content::default()));
                Ok(Arc::clone(file) as Arc<dyn DiskFile>)
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files.lock().get(path).map(Arc::clone);
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        unsupported()
    }

    fn make_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        unsupported()
    }

    fn boot_id(&self) -> Option<String> {
        None
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Pages that were never written are zeros and take no space.
#[derive(Clone, Default)]
struct Pages {
    len: u64,
    pages: BTreeMap<u64, Page>,
}

impl Pages {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        for (number, page) in &self.pages {
            let at = *number as usize * PAGE_BYTES;
            let count = PAGE_BYTES.min(bytes.len() - at);
            bytes[at..at + count].copy_from_slice(&page[..count]);
        }
        bytes
    }
}

impl Pages {
    /// Cuts it off, and answers how many pages that were.
    fn cut(&mut self, len: u64) -> u64 {
        self.len = len;
        self.pages.split_off(&(len / PAGE_BYTES as u64)).len() as u64
    }
}

impl From<Vec<u8>> for Pages {
    fn from(bytes: Vec<u8>) -> Self {
        let pages = bytes.chunks(PAGE_BYTES).enumerate().map(|(number, chunk)| {
            let mut page = [0; PAGE_BYTES];
            page[..chunk.len()].copy_from_slice(chunk);
            (number as u64, page)
        });
        Self {
            len: bytes.len() as u64,
            pages: pages.collect(),
        }
    }
}

/// The pages that a range of a file touches: their numbers, which bytes of each, and which bytes of the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = at as usize % PAGE_BYTES;
        let count = (PAGE_BYTES - within).min(len - done);
        let part = done..done + count;
        done += count;
        (count > 0).then_some((at / PAGE_BYTES as u64, within..within + count, part))
    })
}

#[derive(Default)]
struct Content {
    written: Pages,
    synced: Pages,
    /// What was written of each page since it was synced.
    unsynced: BTreeMap<u64, Vec<Page>>,
    /// Which of them the next sync makes durable.
    dirty: BTreeSet<u64>,
    /// The file was cut off since it was synced, and what was there may have become holes.
    is_cut: bool,
}

struct MemoryFile {
    state: Arc<State>,
    content: Mutex<Content>,
}

impl MemoryFile {
    fn check(&self, operation: Fault) -> io::Result<()> {
        let mut fault = self.state.fault.lock();
        let fails = match &mut *fault {
            Fault::After(..) if operation == Fault::Reads => None,
            Fault::After(0, why) => Some(*why),
            Fault::After(left, _) => {
                *left -= 1;
                None
            }
            Fault::Once(..) if operation == Fault::Reads => None,
            Fault::Once(0, why) => {
                let why = *why;
                *fault = Fault::Nothing;
                Some(why)
            }
            Fault::Once(left, _) => {
                *left -= 1;
                None
            }
            Fault::OneSync if operation == Fault::Syncs => {
                *fault = Fault::Nothing;
                Some(libc::EIO)
            }
            fault => (*fault == operation).then_some(libc::EIO),
        };
        fails.map_or(Ok(()), |why| Err(io::Error::from_raw_os_error(why)))
    }

    fn take_page(&self) -> io::Result<()> {
        let taken = self.state.pages.fetch_add(1, Ordering::SeqCst);
        if taken >= self.state.pages_max.load(Ordering::SeqCst) {
            self.state.pages.fetch_sub(1, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().written.len)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.check(Fault::Reads)?;
        self.state.reads.fetch_add(1, Ordering::SeqCst);
        let content = self.content.lock();
        if offset + buffer.len() as u64 > content.written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in parts(offset, buffer.len()) {
            match content.written.pages.get(&number) {
                Some(page) => buffer[part].copy_from_slice(&page[within]),
                None => buffer[part].fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(Fault::Writes)?;
        let mut content = self.content.lock();
        let Content {
            written,
            unsynced,
            dirty,
            ..
        } = &mut *content;
        for (number, within, part) in parts(offset, bytes.len()) {
            let page = match written.pages.entry(number) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(hole) => {
                    self.take_page()?;
                    hole.insert([0; PAGE_BYTES])
                }
            };
            page[within].copy_from_slice(&bytes[part]);
            unsynced.entry(number).or_default().push(*page);
            dirty.insert(number);
        }
        written.len = written.len.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn written(&self, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        let page_bytes = PAGE_BYTES as u64;
        let pages = range.start / page_bytes..range.end.div_ceil(page_bytes);
        let content = self.content.lock();
        let written = content.written.pages.range(pages).map(|(number, _)| {
            let at = number * page_bytes;
            at.max(range.start)..(at + page_bytes).min(range.end)
        });
        Ok(written.collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let taken = self.state.pages.load(Ordering::SeqCst);
        let free = self.state.pages_max.load(Ordering::SeqCst).saturating_sub(taken);
        Ok(free.saturating_mul(PAGE_BYTES as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(Fault::Writes)?;
        let mut content = self.content.lock();
        assert_eq!(len % PAGE_BYTES as u64, 0, "redb's files are whole pages");
        content.is_cut |= len < content.written.len;
        let cut = content.written.cut(len);
        self.state.pages.fetch_sub(cut, Ordering::SeqCst);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let failed = self.check(Fault::Syncs);
        let Content {
            written,
            synced,
            unsynced,
            dirty,
            is_cut,
        } = &mut *self.content.lock();
        let dirty = std::mem::take(dirty);
        failed?;
        for number in dirty {
            unsynced.remove(&number);
            if let Some(page) = written.pages.get(&number) {
                synced.pages.insert(number, *page);
            }
        }
        synced.len = written.len;
        if std::mem::take(is_cut) {
            synced
                .pages
                .retain(|number, _| written.pages.contains_key(number));
            unsynced.retain(|number, _| written.pages.contains_key(number));
        }
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        unsupported()
    }

    fn map(&self, _: u64) -> io::Result<Arc<dyn Map>> {
        unsupported()
    }
}
