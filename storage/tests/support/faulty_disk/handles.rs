//! Open files of the faulty disk, and their maps.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tailwater_storage::disk::{DiskFile, Map};

use super::content::{fitting, torn};
use super::names::FileId;
use super::{FILE_BYTES_MAX, State, is_due};

const PAGE_BYTES: u64 = 4096;

/// Keeps a file, also without a name.
struct User {
    disk: Arc<Mutex<State>>,
    id: FileId,
}

impl User {
    fn new(disk: &Arc<Mutex<State>>, state: &mut State, id: FileId) -> Self {
        state.inode_mut(id).users += 1;
        Self {
            disk: Arc::clone(disk),
            id,
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.disk.lock().inode_mut(self.id).users -= 1;
    }
}

pub(super) struct OpenFile {
    user: User,
    sealed: bool,
}

impl OpenFile {
    pub(super) fn new(disk: &Arc<Mutex<State>>, state: &mut State, id: FileId, sealed: bool) -> Self {
        Self {
            user: User::new(disk, state, id),
            sealed,
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.sealed {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(())
    }
}

impl DiskFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.user.disk.lock();
        state.check_running()?;
        Ok(state.inode(self.user.id).content.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.user.disk.lock();
        state.check_running()?;
        if is_due(&mut state.reads_left) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let content = state.inode(self.user.id).content.bytes();
        let read = usize::try_from(offset)
            .ok()
            .and_then(|offset| content.get(offset..)?.get(..buffer.len()));
        match read {
            Some(read) => buffer.copy_from_slice(read),
            None if buffer.is_empty() => {}
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        check_end(offset.checked_add(bytes.len() as u64))?;
        let mut state = self.user.disk.lock();
        let was_running = state.check_running().is_ok();
        let begun = state.begin_change();
        let at = offset as usize;
        let free = usize::try_from(state.free()).unwrap_or(usize::MAX);
        let len = state.inode(self.user.id).content.len();
        let fits = fitting(at, bytes, len.saturating_add(free));
        let (written, result) = match begun {
            Err(stopped) if was_running => (torn(&mut state.rng, at, fits), Err(stopped)),
            Err(stopped) => return Err(stopped),
            Ok(()) if is_due(&mut state.writes_left) => {
                let error = io::Error::from_raw_os_error(libc::EIO);
                (torn(&mut state.rng, at, fits), Err(error))
            }
            Ok(()) if is_due(&mut state.refused_writes_left) => {
                (&bytes[..0], Err(io::Error::from_raw_os_error(libc::ENOSPC)))
            }
            Ok(()) if fits.len() < bytes.len() => (fits, Err(io::Error::from_raw_os_error(libc::ENOSPC))),
            Ok(()) => (bytes, Ok(())),
        };
        state.inode_mut(self.user.id).content.write(at, written);
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        check_end(Some(len))?;
        let mut state = self.user.disk.lock();
        state.begin_change()?;
        let free = state.free();
        let content = &mut state.inode_mut(self.user.id).content;
        if len.saturating_sub(content.len() as u64) > free {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        content.set_len(len as usize);
        Ok(())
    }

    /// Pages of zeros count as never written: nobody can tell them from those that were.
    fn written(&self, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        let state = self.user.disk.lock();
        state.check_running()?;
        let content = state.inode(self.user.id).content.bytes();
        let bytes_of =
            |page: u64| (page * PAGE_BYTES).max(range.start)..((page + 1) * PAGE_BYTES).min(range.end);
        let parts = pages(&range).map(bytes_of);
        let is_written = |part: &Range<u64>| {
            content[part.start as usize..part.end as usize]
                .iter()
                .any(|byte| *byte != 0)
        };
        Ok(parts.filter(is_written).collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.user.disk.lock();
        state.check_running()?;
        Ok(state.free())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.user.disk.lock();
        state.begin_change()?;
        let fails = is_due(&mut state.syncs_left);
        let content = &mut state.inode_mut(self.user.id).content;
        if fails {
            content.forget_changes();
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        content.sync();
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        let state = self.user.disk.lock();
        state.check_running()?;
        Ok(state.names.files().filter(|(_, id)| *id == self.user.id).count() as u64)
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        let mut state = self.user.disk.lock();
        state.check_running()?;
        if state.inode(self.user.id).content.len() < len as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let user = User::new(&self.user.disk, &mut state, self.user.id);
        Ok(Arc::new(FileMap { user, len }))
    }
}

/// A map that copies what it shows. It survives the machine's stop, for touching memory is no operation.
struct FileMap {
    user: User,
    len: u64,
}

impl FileMap {
    fn copy(&self, range: Range<u64>) -> Vec<u8> {
        self.check(&range);
        let state = self.user.disk.lock();
        let content = state.inode(self.user.id).content.bytes();
        content
            .get(range.start as usize..range.end as usize)
            .expect("SIGBUS: the file was cut off under its map")
            .to_vec()
    }

    fn check(&self, range: &Range<u64>) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} reaches beyond a map of {} bytes",
            self.len
        );
    }
}

impl Map for FileMap {
    fn len(&self) -> u64 {
        self.len
    }

    fn look(&self, range: Range<u64>, look: &mut dyn FnMut(&[u8])) {
        look(&self.copy(range));
    }

    fn bytes(self: Arc<Self>, range: Range<u64>) -> Bytes {
        self.copy(range).into()
    }

    fn is_resident(&self, range: Range<u64>) -> bool {
        self.check(&range);
        let state = self.user.disk.lock();
        let populated = &state.inode(self.user.id).populated;
        !state.cold || pages(&range).all(|page| populated.contains(&page))
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.check(&range);
        let mut state = self.user.disk.lock();
        state.check_running()?;
        let inode = state.inode_mut(self.user.id);
        if !range.is_empty() && (inode.content.len() as u64) < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        inode.populated.extend(pages(&range));
        Ok(())
    }
}

/// The numbers of the pages that a range touches.
fn pages(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES)
}

/// Refuses ends that no file may have.
fn check_end(end: Option<u64>) -> io::Result<()> {
    match end {
        Some(end) if end <= FILE_BYTES_MAX => Ok(()),
        Some(_) | None => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
