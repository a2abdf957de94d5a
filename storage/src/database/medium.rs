//! Lets redb keep its database in a file of the [`Disk`](crate::disk::Disk) seam, and remembers what failed.
//!
//! redb refuses everything after a failure, also reading. What it was that failed decides what comes next: after
//! a lack of space or a failed read the database may be opened anew and goes on, after anything else it may not.
//!
//! redb syncs before it writes its header, so that what that refers to is durable, or the file as long as it says. When
//! its file grows it does so while readers wait for it. Nothing refers to anything before the header is written, so such a
//! sync is put off until then.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::ahead::Ahead;
use super::header::Header;
use super::pages::{self, Waiting};
use crate::disk::DiskFile;

/// What failed first of what makes it unknown what is on the disk. All openings of a file share it.
pub(super) type Lost = Arc<OnceLock<Arc<io::Error>>>;

/// What failed, and whether the file can be used again nevertheless.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) error: Arc<io::Error>,
    pub(super) for_good: bool,
}

#[derive(Default)]
struct Standing {
    /// What failed first.
    failed: Option<Arc<io::Error>>,
    /// The database was opened anew over the same file, and this one must not touch it any more.
    is_retired: bool,
}

/// The file of a database, as one opening of it uses it.
pub(super) struct Medium {
    file: Arc<dyn DiskFile>,
    header: Header,
    lost: Lost,
    /// How long redb's file is in it. Nobody else changes that, and redb asks for it often.
    len: AtomicU64,
    /// Whether pages are taken for damaged if their checksums are wrong. Not while redb finds out by its own ones which
    /// commit is whole.
    is_strict: AtomicBool,
    /// Pages whose checksums were found to be wrong before that. They are torn, and then redb has found another commit; or a
    /// crash has kept only the checksum from being written.
    unchecked: Mutex<BTreeSet<u64>>,
    waiting: Waiting,
    ahead: Ahead,
    /// Whether a sync was put off.
    owes_sync: AtomicBool,
    /// Held for reading during every operation, so that none is under way once the medium is retired.
    standing: RwLock<Standing>,
}

impl Medium {
    /// Over an empty file.
    pub(super) fn create(file: Arc<dyn DiskFile>, lost: &Lost) -> Self {
        Self::new(file, lost, Header::new(), 0)
    }

    /// Over a file that was made through [`Self::create`].
    pub(super) fn open(file: Arc<dyn DiskFile>, lost: &Lost) -> io::Result<Self> {
        let len = file.len()?;
        let inner_len = pages::inner_len(len);
        let inner_len = inner_len.ok_or_else(|| pages::damage(format!("none is {len} bytes long")))?;
        let header = Header::open(file.as_ref())?;
        // One header must be durable when the other one is written, also after the process was killed, and after a
        // sync that failed: what it has not written is shown all the same, and counts as written.
        header.write_again(file.as_ref())?;
        if let Err(error) = sync(file.as_ref()) {
            let error = lost.get_or_init(|| Arc::new(error));
            return Err(io::Error::new(error.kind(), Arc::clone(error)));
        }
        header.synced();
        Ok(Self::new(file, lost, header, inner_len))
    }

    fn new(file: Arc<dyn DiskFile>, lost: &Lost, header: Header, len: u64) -> Self {
        Self {
            is_strict: AtomicBool::new(header.tells_of_synced_pages()),
            file,
            header,
            lost: Arc::clone(lost),
            len: AtomicU64::new(len),
            unchecked: Mutex::default(),
            waiting: Waiting::default(),
            ahead: Ahead::of(len / pages::PAGE_BYTES),
            owes_sync: AtomicBool::new(false),
            standing: RwLock::default(),
        }
    }

    /// Takes every page for damaged from now on whose checksum is wrong: redb has opened the database, and knows which
    /// commit counts.
    pub(super) fn be_strict(&self) {
        self.is_strict.store(true, Ordering::Release);
    }

    /// What has failed, if anything has.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let trouble = |error: &Arc<io::Error>, for_good| Trouble {
            error: Arc::clone(error),
            for_good,
        };
        let lost = self.lost.get().map(|error| trouble(error, true));
        lost.or_else(|| {
            self.standing
                .read()
                .failed
                .as_ref()
                .map(|error| trouble(error, false))
        })
    }

    /// How often redb has written its header, or tried to.
    pub(super) fn header_writes(&self) -> u64 {
        self.header.writes()
    }

    /// Refuses everything from now on. Nothing is under way any more when this returns.
    pub(super) fn retire(&self) {
        self.standing.write().is_retired = true;
    }

    /// Gives pages that were read unchecked their checksums. The header may be about to say of the commit that redb has
    /// settled on that its pages were synced, and those are among them; of what is torn, nobody reads the others.
    fn mend(&self, file: &dyn DiskFile) -> io::Result<()> {
        let pages = std::mem::take(&mut *self.unchecked.lock());
        if pages.is_empty() {
            return Ok(());
        }
        self.owes_sync.store(true, Ordering::Relaxed);
        pages.into_iter().try_for_each(|page| pages::mend(file, page))
    }

    /// # Errors
    /// If it is not known what is on the disk. redb writes some pages to no purpose but that of memory, and passes over
    /// what fails then.
    fn check(&self) -> io::Result<()> {
        self.lost.get().map_or(Ok(()), |error| {
            Err(io::Error::new(error.kind(), Arc::clone(error)))
        })
    }

    /// Makes all durable that is written.
    fn sync(&self) -> io::Result<()> {
        self.check()?;
        self.use_file(may_be_lost, |file| self.waiting.write(file))?;
        self.use_file(
            |_| true,
            |file| {
                sync(file).inspect_err(|_| {
                    // Nothing more can be done if this fails too.
                    let _ = self.header.withdraw(file);
                })
            },
        )?;
        self.owes_sync.store(false, Ordering::Relaxed);
        self.header.synced();
        Ok(())
    }

    fn use_file<T>(
        &self,
        is_for_good: impl FnOnce(&io::Error) -> bool,
        work: impl FnOnce(&dyn DiskFile) -> io::Result<T>,
    ) -> io::Result<T> {
        let done = {
            let standing = self.standing.read();
            if standing.is_retired {
                return Err(io::Error::other("the database was opened anew"));
            }
            work(self.file.as_ref())
        };
        done.map_err(|error| {
            let error = Arc::new(error);
            if is_for_good(&error) {
                self.lost.get_or_init(|| Arc::clone(&error));
            }
            let mut standing = self.standing.write();
            standing.failed.get_or_insert_with(|| Arc::clone(&error));
            io::Error::new(error.kind(), error)
        })
    }
}

/// No page is written in place that the last commit refers to, and the header not where the durable one stands: a write
/// that finds no space, or cannot read what stands beside it, leaves the last commit as it was.
fn may_be_lost(error: &io::Error) -> bool {
    let finds_no_space = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    !finds_no_space && !pages::is_unread(error)
}

/// A sync that failed is not tried again, so that nobody may take its failure for a lack of space.
fn sync(file: &dyn DiskFile) -> io::Result<()> {
    file.sync().map_err(io::Error::other)
}

/// A medium in redb's hands.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<Medium>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.use_file(
            |_| false,
            |file| {
                if Header::has(offset, out.len()) {
                    self.0.header.read(offset, out);
                    return Ok(());
                }
                let waiting = &self.0.waiting;
                if self.0.is_strict.load(Ordering::Acquire) {
                    pages::read(file, waiting, offset, out)
                } else {
                    let wrong = pages::read_unchecked(file, waiting, offset, out)?;
                    self.0.unchecked.lock().extend(wrong);
                    Ok(())
                }
            },
        )
    }

    /// What the file grows by stays a hole until it or a page near it is written, but for checksums: redb doubles its file, or adds 4 GiB
    /// to a large one, of which a commit may need one page, and that is no reason to call a disk full.
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.check()?;
        self.0.waiting.cut(len.div_ceil(pages::PAGE_BYTES));
        let before = self.0.len.load(Ordering::Acquire);
        self.0.use_file(may_be_lost, |file| {
            file.set_len(pages::outer_len(len))?;
            self.0.ahead.set_pages(len / pages::PAGE_BYTES);
            pages::take_groups(file, before, len)
        })?;
        self.0.len.store(len, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.check()?;
        if self.0.header.is_synced() {
            self.0.owes_sync.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.check()?;
        if !Header::has(offset, data.len()) {
            return self.0.use_file(may_be_lost, |file| {
                pages::write(file, &self.0.ahead, &self.0.waiting, offset, data)
            });
        }
        self.0.use_file(may_be_lost, |file| self.0.mend(file))?;
        if self.0.owes_sync.load(Ordering::Relaxed) {
            self.0.sync()?;
        }
        self.0
            .use_file(may_be_lost, |file| self.0.header.write(file, offset, data))
    }

    fn close(&self) -> io::Result<()> {
        if self.0.lost.get().is_none() && self.0.owes_sync.load(Ordering::Relaxed) {
            self.0.sync()?;
        }
        Ok(())
    }
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.len.load(Ordering::Relaxed);
        f.debug_struct("Medium")
            .field("len", &len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
