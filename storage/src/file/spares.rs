//! Journals in waiting: made ahead of their use, and made again from those that are folded.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::journal::{self, FIRST_BATCH_AT};
use super::log::Journal;
use super::place::Layout;
use super::store::{Store, io_error};
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::{Disk, DiskFile, Map};

/// Room for what frees space when there is none for another journal: at most so many bytes, kept back in a file of its own.
const KEPT_BACK_BYTES_MAX: u64 = 1 << 20;
/// A journal that has less is of no use.
const KEPT_BACK_BYTES_MIN: u64 = 2 * FIRST_BATCH_AT;

/// About what the catalog has for a stream, in bytes.
const CATALOG_BYTES_PER_STREAM: u64 = 512;

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
    /// A file for the journal that takes what frees space when there is none. Bears the name of a folded journal, or
    /// one that the next start removes.
    kept_back: Option<PathBuf>,
}

/// What an empty journal is made from.
enum MadeFrom {
    /// Nothing: a file of so many bytes is written.
    Nothing(u64),
    /// A file that no journal needs any more.
    File(PathBuf),
}

/// Makes an empty journal durable under its name. If that fails, nothing of it is left, nor of what it was made from.
fn make(
    disk: &dyn Disk,
    layout: &Layout,
    store: StoreId,
    number: u64,
    from: MadeFrom,
) -> Result<Journal, BackendError> {
    let path = layout.journal(number);
    let (made_as, made) = match from {
        // What a crash leaves of it bears another name, and is removed at the next start.
        MadeFrom::Nothing(capacity) => {
            let draft = path.with_extension("tmp");
            let made = journal::create(disk, &draft, number, store, capacity);
            let made = made.map_err(io_error("making", &draft));
            (draft, made)
        }
        MadeFrom::File(used) => {
            let made = disk.open(&used).map_err(io_error("opening", &used));
            let made = made.and_then(|file| {
                journal::renew(file.as_ref(), number, store).map_err(io_error("renewing", &used))?;
                Ok(file)
            });
            (used, made)
        }
    };
    let mut name = &made_as;
    let opened = made.and_then(|file| {
        disk.rename(&made_as, &path)
            .map_err(io_error("renaming", &made_as))?;
        name = &path;
        let dir = layout.journals_dir();
        disk.sync_dir(&dir).map_err(io_error("syncing", &dir))?;
        open_journal(file, number, &path)
    });
    opened.inspect_err(|_| {
        let _ = disk.remove(name);
    })
}

/// The first journal of a store, or of a copy. If there is no space for one that takes everything, it is one that
/// takes only what frees space.
pub(super) fn make_first(
    disk: &dyn Disk,
    layout: &Layout,
    store: StoreId,
    number: u64,
    journal_bytes: u64,
    used: Option<u64>,
) -> Result<Journal, BackendError> {
    let from = used.map_or(MadeFrom::Nothing(journal_bytes), |used| {
        MadeFrom::File(layout.journal(used))
    });
    match make(disk, layout, store, number, from) {
        Err(error) if error.is_full() => {
            let small = MadeFrom::Nothing(KEPT_BACK_BYTES_MIN);
            let journal = make(disk, layout, store, number, small)?;
            Ok(Journal {
                frees_only: true,
                ..journal
            })
        }
        made => made,
    }
}

fn open_journal(file: Arc<dyn DiskFile>, number: u64, path: &Path) -> Result<Journal, BackendError> {
    let capacity = file.len().map_err(io_error("asking for the length of", path))?;
    let map = file.map(capacity).map_err(io_error("mapping", path))?;
    Ok(Journal {
        number,
        file,
        map,
        capacity,
        frees_only: false,
    })
}

/// What has not come about for want of space is none.
fn none_if_full<T>(made: Result<Option<T>, BackendError>) -> Result<Option<T>, BackendError> {
    match made {
        Err(error) if error.is_full() => Ok(None),
        made => made,
    }
}

impl Spares {
    /// None ready, `newest` the greatest number of a journal, and the files of `used` to be used again.
    pub(super) fn new(newest: u64, used: Vec<u64>) -> Self {
        Self {
            state: Mutex::new(State {
                newest,
                ready: None,
                used,
                kept_back: None,
            }),
        }
    }

    /// The journal that follows the one in use, with room for a batch of `bytes`. None if there is no space.
    pub(super) fn take(&self, store: &Store, bytes: u64) -> Result<Option<Journal>, BackendError> {
        let mut state = self.state.lock();
        let wanted = bytes + FIRST_BATCH_AT;
        if let Some(ready) = state.ready.take_if(|ready| wanted <= ready.capacity) {
            return Ok(Some(ready));
        }
        let Some(journal) = state.make(store, store.options.journal_bytes.max(wanted))? else {
            return Ok(None);
        };
        // One that is too small stays behind empty, which recovery passes over, until the next fold gives it back.
        if let Some(small) = state.ready.take() {
            let mut files = store.files.write();
            files.journals.insert(small.number, small.map);
        }
        Ok(Some(journal))
    }

    /// A journal for what frees space, while there is none for another one that takes everything.
    pub(super) fn take_kept_back(&self, store: &Store) -> Result<Option<Journal>, BackendError> {
        let mut state = self.state.lock();
        if let Some(ready) = state.ready.take() {
            return Ok(Some(ready));
        }
        let Some(kept_back) = state.kept_back.take() else {
            return Ok(None);
        };
        let made = state.make_from(store, MadeFrom::File(kept_back));
        Ok(none_if_full(made.map(Some))?.map(|journal| Journal {
            frees_only: true,
            ..journal
        }))
    }

    /// Makes the next journal, if none is ready and there is space for it.
    pub(super) fn prepare(&self, store: &Store) -> Result<(), BackendError> {
        let mut state = self.state.lock();
        if state.ready.is_none() {
            state.ready = state.make(store, store.options.journal_bytes)?;
        }
        Ok(())
    }

    /// Keeps back a file for what frees space, if none is kept and there is any space for it.
    pub(super) fn keep_back(&self, store: &Store) -> Result<(), BackendError> {
        self.state.lock().keep_back(store)
    }

    /// Takes over the file of a folded journal, or removes it. No map of it may be held but this one.
    pub(super) fn give_back(
        &self,
        store: &Store,
        number: u64,
        map: Arc<dyn Map>,
    ) -> Result<(), BackendError> {
        let path = store.layout.journal(number);
        let len = map.len();
        let mut state = self.state.lock();
        // Whoever reads from it still would see it overwritten.
        let is_alone = Arc::strong_count(&map) == 1
            && store
                .disk
                .open_sealed(&path)
                .and_then(|file| file.links())
                .is_ok_and(|links| links == 1);
        drop(map);
        let used_max = (store.options.fold_bytes / store.options.journal_bytes) as usize + 2;
        if is_alone && state.kept_back.is_none() && len == kept_back_bytes(store) {
            state.kept_back = Some(path);
        } else if is_alone && len == store.options.journal_bytes && state.used.len() < used_max {
            state.used.push(number);
        } else {
            store.disk.remove(&path).map_err(io_error("removing", &path))?;
        }
        state.keep_back(store)
    }
}

/// How long the file is that is kept back, if there is space enough.
fn kept_back_bytes(store: &Store) -> u64 {
    store.options.journal_bytes.min(KEPT_BACK_BYTES_MAX)
}

impl State {
    fn make(&mut self, store: &Store, capacity: u64) -> Result<Option<Journal>, BackendError> {
        if none_if_full(self.has_space(store, capacity).map(|has| has.then_some(())))?.is_none() {
            return Ok(None);
        }
        let used = (capacity == store.options.journal_bytes)
            .then(|| self.used.pop())
            .flatten();
        let from = used.map_or(MadeFrom::Nothing(capacity), |used| {
            MadeFrom::File(store.layout.journal(used))
        });
        none_if_full(self.make_from(store, from).map(Some))
    }

    fn make_from(&mut self, store: &Store, from: MadeFrom) -> Result<Journal, BackendError> {
        let journal = make(
            store.disk.as_ref(),
            &store.layout,
            store.id,
            self.newest + 1,
            from,
        )?;
        self.newest = journal.number;
        Ok(journal)
    }

    /// At most half of what is free is taken for it: what is folded from it needs space in the catalog.
    fn keep_back(&mut self, store: &Store) -> Result<(), BackendError> {
        let path = store.layout.kept_back_file();
        while self.kept_back.is_none() {
            let free = store.free_bytes()?;
            let bytes = kept_back_bytes(store).min(free / 2 / FIRST_BATCH_AT * FIRST_BATCH_AT);
            if bytes >= KEPT_BACK_BYTES_MIN.min(kept_back_bytes(store)) {
                match journal::create(store.disk.as_ref(), &path, 0, store.id, bytes) {
                    Ok(_) => self.kept_back = Some(path.clone()),
                    Err(error) => {
                        let _ = store.disk.remove(&path);
                        let error = io_error("making", &path)(error);
                        return if error.is_full() { Ok(()) } else { Err(error) };
                    }
                }
            } else if let Some(number) = self.used.pop() {
                let path = store.layout.journal(number);
                store.disk.remove(&path).map_err(io_error("removing", &path))?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether all that the journals hold can be copied to segments with this one there as well, and segments be
    /// rewritten after that. Otherwise the disk would be full for good.
    fn has_space(&mut self, store: &Store, capacity: u64) -> Result<bool, BackendError> {
        // The catalog writes no page in place: what changes streams all over it may take as much as it has.
        let catalog_bytes = store.usage().streams * CATALOG_BYTES_PER_STREAM;
        let kept = store.journal_bytes() + store.rewriting_bytes()? + catalog_bytes;
        // What will be written to it is to be copied as well.
        let wanted = |used: &[u64]| kept + if used.is_empty() { 2 * capacity } else { capacity };
        while store.free_bytes()? < wanted(&self.used) {
            let Some(number) = self.used.pop() else {
                return Ok(false);
            };
            let path = store.layout.journal(number);
            store.disk.remove(&path).map_err(io_error("removing", &path))?;
        }
        Ok(true)
    }
}
