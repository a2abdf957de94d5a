//! Journals in waiting: made ahead of their use, and made again from those that are folded.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, DiskFile, Map};
use super::journal::{self, FIRST_BATCH_AT};
use super::log::Journal;
use super::place::{Layout, StoreId};
use super::store::{Store, io_error, is_full};
use crate::backend::BackendError;

/// The next journal, and files to make the ones behind it from.
pub(super) struct Spares {
    state: Mutex<State>,
}

struct State {
    /// The greatest number that a journal was made with.
    newest: u64,
    /// The newest journal, if it is not in use yet.
    ready: Option<Journal>,
    /// Numbers of folded journals whose files can be overwritten.
    used: Vec<u64>,
}

/// Makes an empty journal durable under its name: from a folded one, or anew.
pub(super) fn make(
    disk: &dyn Disk,
    layout: &Layout,
    store: StoreId,
    number: u64,
    capacity: u64,
    used: Option<u64>,
) -> Result<Journal, BackendError> {
    let path = layout.journal(number);
    let (file, from) = if let Some(used) = used {
        let from = layout.journal(used);
        let file = disk.open(&from).map_err(io_error("opening", &from))?;
        journal::renew(file.as_ref(), number, store).map_err(io_error("renewing", &from))?;
        (file, from)
    } else {
        // What a crash leaves of it bears another name, and is removed at the next start.
        let from = path.with_extension("tmp");
        let file = journal::create(disk, &from, number, store, capacity).map_err(|source| {
            let _ = disk.remove(&from);
            io_error("making", &from)(source)
        })?;
        (file, from)
    };
    disk.rename(&from, &path).map_err(io_error("renaming", &from))?;
    let dir = layout.journals_dir();
    disk.sync_dir(&dir).map_err(io_error("syncing", &dir))?;
    open_journal(file, number, capacity, &path)
}

fn open_journal(
    file: Arc<dyn DiskFile>,
    number: u64,
    capacity: u64,
    path: &Path,
) -> Result<Journal, BackendError> {
    let map = file.map(capacity).map_err(io_error("mapping", path))?;
    Ok(Journal {
        number,
        file,
        map,
        capacity,
    })
}

impl Spares {
    /// None ready, journal `newest` in use, and the files of `used` to be used again.
    pub(super) fn new(newest: u64, used: Vec<u64>) -> Self {
        let ready = None;
        Self {
            state: Mutex::new(State { newest, ready, used }),
        }
    }

    /// The journal that follows the one in use, with room for a batch of `bytes`. None if there is no space.
    pub(super) fn take(&self, store: &Store, bytes: u64) -> Result<Option<Journal>, BackendError> {
        let mut state = self.state.lock();
        // One that is too small stays behind empty, which recovery passes over.
        let ready = state.ready.take();
        if let Some(ready) = ready.filter(|ready| bytes + FIRST_BATCH_AT <= ready.capacity) {
            return Ok(Some(ready));
        }
        state.make(store, store.options.journal_bytes.max(bytes + FIRST_BATCH_AT))
    }

    /// Makes the next journal, if none is ready and there is space for it.
    pub(super) fn prepare(&self, store: &Store) -> Result<(), BackendError> {
        let mut state = self.state.lock();
        if state.ready.is_none() {
            state.ready = state.make(store, store.options.journal_bytes)?;
        }
        Ok(())
    }

    /// Takes over the file of a folded journal, or removes it. No map of it may be held but this one.
    pub(super) fn give_back(
        &self,
        store: &Store,
        number: u64,
        map: Arc<dyn Map>,
    ) -> Result<(), BackendError> {
        let path = store.layout.journal(number);
        let mut state = self.state.lock();
        let used_max = (store.options.fold_bytes / store.options.journal_bytes) as usize + 2;
        let reusable = map.len() == store.options.journal_bytes
            && state.used.len() < used_max
            // Whoever reads from it still would see it overwritten.
            && Arc::strong_count(&map) == 1
            && store.disk.open_sealed(&path).and_then(|file| file.links()).is_ok_and(|links| links == 1);
        drop(map);
        if reusable {
            state.used.push(number);
            return Ok(());
        }
        drop(state);
        store.disk.remove(&path).map_err(io_error("removing", &path))
    }
}

impl State {
    fn make(&mut self, store: &Store, capacity: u64) -> Result<Option<Journal>, BackendError> {
        if !self.has_space(store, capacity)? {
            return Ok(None);
        }
        let used = (capacity == store.options.journal_bytes)
            .then(|| self.used.pop())
            .flatten();
        let disk = store.disk.as_ref();
        match make(disk, &store.layout, store.id, self.newest + 1, capacity, used) {
            Ok(journal) => {
                self.newest = journal.number;
                Ok(Some(journal))
            }
            Err(error) if is_full(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether all that the journals hold can be copied to segments with this one there as well, and segments be
    /// rewritten after that. Otherwise the disk would be full for good.
    fn has_space(&mut self, store: &Store, capacity: u64) -> Result<bool, BackendError> {
        let dir = store.layout.journals_dir();
        let free = || {
            store
                .disk
                .free_bytes(&dir)
                .map_err(io_error("asking for the free space of", &dir))
        };
        let kept = store.journal_bytes() + store.rewriting_bytes()?;
        // What will be written to it is to be copied as well.
        let wanted = |used: &[u64]| kept + if used.is_empty() { 2 * capacity } else { capacity };
        while free()? < wanted(&self.used) {
            let Some(number) = self.used.pop() else {
                return Ok(false);
            };
            let path = store.layout.journal(number);
            store.disk.remove(&path).map_err(io_error("removing", &path))?;
        }
        Ok(true)
    }
}
