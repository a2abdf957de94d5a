//! One opening of a database, and what to do when it failed for want of space: another one.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};
use redb::{CompactionError, Database, ReadTransaction, ReadableDatabase, StorageError};

use super::DatabaseOptions;
use super::change;
use super::medium::{Backend, LogFile, Lost, Medium, Trouble};
use super::row::Failure;
use crate::backend::BackendError;
use crate::disk::DiskFile;

/// A file of this length is read within a moment.
const LONG_REPAIR_BYTES: u64 = 64 << 20;

/// A database's file, and how it is to be used.
pub(super) struct Place {
    pub(super) path: Box<Path>,
    pub(super) file: Arc<dyn DiskFile>,
    log: LogFile,
    pub(super) options: DatabaseOptions,
    lost: Lost,
}

/// A database that is open over a file.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) medium: Arc<Medium>,
    /// How many changes are known to be committed in it.
    pub(super) changes: AtomicU64,
    place: Arc<Place>,
}

/// A file, with the database that is open over it at the moment.
pub(super) struct Shared {
    place: Arc<Place>,
    current: RwLock<Arc<Opened>>,
    /// Whether a change is being made. redb knows only of those in the same opening.
    is_changing: Mutex<bool>,
    change_ended: Condvar,
}

/// The right to make a change.
pub(crate) struct Turn(Arc<Shared>);

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.is_changing.lock() = false;
        self.0.change_ended.notify_one();
    }
}

/// A read transaction, and what it reads from.
pub(super) struct Snapshot {
    pub(super) transaction: ReadTransaction,
    pub(super) opened: Arc<Opened>,
    /// At least so many changes are in it.
    changes: u64,
}

impl Place {
    pub(super) fn new(
        path: &Path,
        file: Arc<dyn DiskFile>,
        log: LogFile,
        options: DatabaseOptions,
    ) -> Arc<Self> {
        Arc::new(Self {
            path: path.into(),
            file,
            log,
            options,
            lost: Lost::default(),
        })
    }

    fn damaged(&self, what: &dyn std::fmt::Display) -> BackendError {
        damaged(self.options.called, &self.path, what)
    }

    /// Does what reads the database before its pages were compared with what redb knows of them. A page that is an older one
    /// of the same place, as after a write that a disk has lost, has a right checksum, and redb panics over it.
    fn survive<T>(&self, work: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
        panic::catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_panic| Err(self.damaged(&"a page is not the one that was written last")))
    }

    fn of_trouble(&self, trouble: Trouble) -> BackendError {
        of_shared("using", self.options.called, &self.path, trouble.error)
    }
}

impl Opened {
    /// A database without tables in a file that is empty.
    pub(super) fn create(place: &Arc<Place>) -> Result<Self, BackendError> {
        let medium = Medium::create(Arc::clone(&place.file), &place.log, &place.lost);
        Self::new(
            place,
            medium.map_err(of_io("making", place.options.called, &place.path))?,
        )
    }

    /// The database in a file.
    pub(super) fn open(place: &Arc<Place>) -> Result<Self, BackendError> {
        let medium = Medium::open(Arc::clone(&place.file), &place.log, &place.lost);
        let medium = medium.map_err(of_io("opening", place.options.called, &place.path))?;
        let opened = Self::new(place, medium)?;
        let changes = opened.ask(|| change::changes(&opened.database.begin_read()?))?;
        opened.changes.store(changes, Ordering::Release);
        Ok(opened)
    }

    fn new(place: &Arc<Place>, medium: Medium) -> Result<Self, BackendError> {
        let medium = Arc::new(medium);
        let database = place.survive(|| {
            redb::Builder::new()
                .set_cache_size(usize::try_from(place.options.cache_bytes).unwrap_or(usize::MAX))
                .set_repair_callback(tell_of_repair(place))
                .create_with_backend(Backend(Arc::clone(&medium)))
                .map_err(|error| explain(place, &medium, error.into()))
        })?;
        medium.be_strict();
        Ok(Self {
            database,
            medium,
            changes: AtomicU64::new(0),
            place: Arc::clone(place),
        })
    }

    pub(super) fn options(&self) -> &DatabaseOptions {
        &self.place.options
    }

    /// Whether all pages are as redb knows them by their checksums, in a file that may be written.
    pub(super) fn check_pages(self) -> Result<(), BackendError> {
        let place = Arc::clone(&self.place);
        place.survive(|| {
            // It is closed in here too, where redb knows of a panic.
            let mut opened = self;
            match opened.database.check_integrity() {
                Ok(true) => Ok(()),
                Ok(false) => Err(place.damaged(&"its pages do not agree with each other")),
                Err(error) => Err(explain(&place, &opened.medium, error.into())),
            }
        })
    }

    /// Makes the file as short as it can be, and closes it.
    pub(super) fn compact(self) -> Result<(), BackendError> {
        let Self {
            mut database,
            medium,
            place,
            ..
        } = self;
        match database.compact() {
            Ok(_has_moved) => {}
            Err(CompactionError::Storage(error)) => return Err(explain(&place, &medium, error.into())),
            Err(error) => unreachable!("nobody else uses the database: {error}"),
        }
        // redb notes which pages are free, cuts the file off for the last time, and syncs it. It does not tell what fails.
        drop(database);
        medium
            .trouble()
            .map_or(Ok(()), |trouble| Err(place.of_trouble(trouble)))
    }

    /// What `question` answers, which asks this database.
    pub(super) fn ask<T>(&self, question: impl FnOnce() -> Result<T, Failure>) -> Result<T, BackendError> {
        question().map_err(|failure| explain(&self.place, &self.medium, failure))
    }

    /// # Errors
    /// If something has failed.
    pub(super) fn check(&self) -> Result<(), BackendError> {
        let trouble = self.medium.trouble();
        trouble.map_or(Ok(()), |trouble| Err(self.place.of_trouble(trouble)))
    }

    /// Says of a change that failed that it may have been made nevertheless.
    pub(super) fn unknown(&self, error: &BackendError) -> BackendError {
        BackendError::Io {
            what: format!(
                "changing the {} {}, of which it is not known whether it was done",
                self.place.options.called,
                self.place.path.display()
            ),
            source: Arc::new(io::Error::other(error.clone())),
        }
    }

    fn snapshot(self: &Arc<Self>) -> Result<Snapshot, BackendError> {
        let changes = self.changes.load(Ordering::Acquire);
        let transaction = self.ask(|| Ok(self.database.begin_read()?))?;
        Ok(Snapshot {
            transaction,
            opened: Arc::clone(self),
            changes,
        })
    }
}

impl Shared {
    pub(super) fn new(opened: Opened) -> Arc<Self> {
        Arc::new(Self {
            place: Arc::clone(&opened.place),
            current: RwLock::new(Arc::new(opened)),
            is_changing: Mutex::new(false),
            change_ended: Condvar::new(),
        })
    }

    /// The database, for whoever is the only one to have it.
    pub(super) fn into_opened(shared: Arc<Self>) -> Opened {
        let shared = Arc::into_inner(shared).expect("nobody else has the database");
        Arc::into_inner(shared.current.into_inner()).expect("nobody reads or changes the database")
    }

    /// Waits until nobody else makes a change.
    pub(super) fn turn(self: &Arc<Self>) -> Turn {
        let mut is_changing = self.is_changing.lock();
        self.change_ended
            .wait_while(&mut is_changing, |is_changing| *is_changing);
        *is_changing = true;
        Turn(Arc::clone(self))
    }

    pub(super) fn file_bytes(&self) -> Result<u64, BackendError> {
        let Place {
            path, file, options, ..
        } = &*self.place;
        file.len()
            .map_err(of_io("asking for the length of", options.called, path))
    }

    fn current(&self) -> Arc<Opened> {
        Arc::clone(&self.current.read())
    }

    /// The database to use, opened anew if it has failed.
    ///
    /// # Errors
    /// If it has failed for good, or still fails.
    pub(super) fn usable(&self) -> Result<Arc<Opened>, BackendError> {
        let current = self.current();
        match current.medium.trouble() {
            None => Ok(current),
            Some(_) => self.instead_of(&current),
        }
    }

    /// The database that is open instead of one that has failed.
    ///
    /// # Errors
    /// If that failed for good, or no other can be opened at the moment.
    pub(super) fn instead_of(&self, failed: &Arc<Opened>) -> Result<Arc<Opened>, BackendError> {
        let mut current = self.current.write();
        if !Arc::ptr_eq(&current, failed) {
            return Ok(Arc::clone(&current));
        }
        match failed.medium.trouble() {
            None => return Ok(Arc::clone(&current)),
            Some(trouble) if trouble.for_good => return Err(self.place.of_trouble(trouble)),
            Some(_) => {}
        }
        // Those who still read from it get errors from now on, and never pages that are written anew.
        failed.medium.retire();
        let opened = Opened::open(&self.place)?;
        let [acknowledged, found] = [failed, &opened].map(|it| it.changes.load(Ordering::Acquire));
        if found < acknowledged {
            let what = format!("{acknowledged} changes were durable, and {found} are there");
            let lost = Arc::new(io::Error::new(io::ErrorKind::InvalidData, what));
            self.place.lost.get_or_init(|| Arc::clone(&lost));
            return Err(self.place.damaged(&lost));
        }
        *current = Arc::new(opened);
        Ok(Arc::clone(&current))
    }

    /// What the database shows now. One that has failed may still have in memory what is asked for.
    pub(super) fn snapshot(&self) -> Result<Snapshot, BackendError> {
        let opened = self.usable().unwrap_or_else(|_| self.current());
        opened.snapshot()
    }

    /// What `old` shows, from the database that is open instead of the one that `old` reads from, if that has
    /// failed and both hold the same.
    pub(super) fn same_snapshot(&self, old: &Snapshot) -> Option<Snapshot> {
        old.opened.medium.trouble()?;
        let opened = self.instead_of(&old.opened).ok()?;
        let snapshot = opened.snapshot().ok()?;
        let changes = opened.ask(|| change::changes(&snapshot.transaction)).ok()?;
        (changes == old.changes).then_some(snapshot)
    }
}

fn explain(place: &Place, medium: &Medium, failure: Failure) -> BackendError {
    let error = match failure {
        Failure::Damaged(what) => return place.damaged(&what),
        Failure::Storage(error) => error,
    };
    match (error, medium.trouble()) {
        // What redb says after the first failure is only that there was one.
        (StorageError::Io(_) | StorageError::PreviousIo | StorageError::DatabaseClosed, Some(trouble)) => {
            place.of_trouble(trouble)
        }
        (StorageError::Io(error), None) => of_io("using", place.options.called, &place.path)(error),
        (StorageError::LockPoisoned(_), _) => BackendError::Panicked,
        (error, _) => place.damaged(&error),
    }
}

/// Reports that the whole file is read, and how far that is, if it is so long that somebody may wait for it.
fn tell_of_repair(place: &Place) -> impl Fn(&mut redb::RepairSession) + 'static {
    let (called, path) = (place.options.called, place.path.clone());
    let is_long = place.file.len().is_ok_and(|len| len >= LONG_REPAIR_BYTES);
    let told = AtomicU64::new(0);
    move |session| {
        let tenths = (session.progress() * 10.0) as u64;
        if told.fetch_max(tenths + 1, Ordering::Relaxed) > tenths {
            return;
        }
        let (path, percent) = (path.display(), tenths * 10);
        if is_long {
            tracing::warn!(%path, percent, "the whole {called} is read to repair it");
        } else {
            tracing::debug!(%path, percent, "the whole {called} is read to repair it");
        }
    }
}

pub(super) fn of_io<'a>(
    doing: &'a str,
    called: &'a str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> BackendError + 'a {
    move |error| of_shared(doing, called, path, Arc::new(error))
}

fn of_shared(doing: &str, called: &str, path: &Path, error: Arc<io::Error>) -> BackendError {
    if error.kind() == io::ErrorKind::InvalidData {
        return damaged(called, path, &error);
    }
    BackendError::Io {
        what: format!("{doing} the {called} {}", path.display()),
        source: error,
    }
}

fn damaged(called: &str, path: &Path, what: &dyn std::fmt::Display) -> BackendError {
    BackendError::Damaged {
        what: format!("the {called} {}: {what}", path.display()),
    }
}
