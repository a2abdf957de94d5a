//! Lets redb keep its database in a file of the [`Disk`](crate::disk::Disk) seam, and remembers what failed.
//!
//! redb refuses everything after a failure, also reading. What it was that failed decides what comes next: after
//! a lack of space or a failed read the database may be opened anew and goes on, after anything else it may not.
//!
//! redb syncs before it writes its header, so that what that refers to is durable, or the file as long as it says. When
//! its file grows it does so while readers wait for it. Nothing refers to anything before the header is written, so such a
//! sync is put off until then.
//!
//! With a [log] a sync is that of a record with all that was written since the last one, once all that was written
//! before is durable in its place. Without, as while redb opens a database, it is that of the file.

mod backend;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::ahead::Ahead;
use super::header::Header;
use super::log::{self, Log};
use super::pages::{self, Waiting};
use super::space::finds_no_space;
use crate::disk::DiskFile;

pub(super) use backend::Backend;

/// What failed first of what makes it unknown what is on the disk. All openings of a file share it.
pub(super) type Lost = Arc<OnceLock<Arc<io::Error>>>;

/// What failed, and whether the file can be used again nevertheless.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) error: Arc<io::Error>,
    pub(super) for_good: bool,
}

/// Where the log of a database is.
pub(super) enum LogFile {
    /// It has none.
    None,
    /// It gets at most so long, in bytes.
    Written(Arc<dyn DiskFile>, u64),
    /// It is read, and not gone on with.
    LookedAt(Arc<dyn DiskFile>),
}

impl LogFile {
    fn read(&self) -> io::Result<Option<log::Said>> {
        match self {
            Self::None => Ok(None),
            Self::Written(file, _) | Self::LookedAt(file) => log::read(file.as_ref()),
        }
    }

    fn writable(&self) -> io::Result<Option<Log>> {
        match self {
            Self::Written(file, bytes_max) => Log::over(Arc::clone(file), *bytes_max).map(Some),
            Self::None | Self::LookedAt(_) => Ok(None),
        }
    }
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
    log: Option<Log>,
    /// Whether what is written is noted for the log.
    is_logging: AtomicBool,
    /// Whether a sync was put off.
    owes_sync: AtomicBool,
    /// Held for reading during every operation, so that none is under way once the medium is retired.
    standing: RwLock<Standing>,
}

impl Medium {
    /// Over an empty file, with a log in another one.
    pub(super) fn create(file: Arc<dyn DiskFile>, log: &LogFile, lost: &Lost) -> io::Result<Self> {
        Self::new(file, log, lost, Header::new(), 0)
    }

    /// Over a file that was made through [`Self::create`]. All that its log has is in its place afterwards, durably.
    pub(super) fn open(file: Arc<dyn DiskFile>, log: &LogFile, lost: &Lost) -> io::Result<Self> {
        let len = file.len()?;
        let inner_len = pages::inner_len(len);
        let inner_len = inner_len.ok_or_else(|| pages::damage(format!("none is {len} bytes long")))?;
        let header = Header::open(file.as_ref())?;
        let mut medium = Self::new(file, log, lost, header, inner_len)?;
        // One header must be durable when the other one is written, also after the process was killed, and after a
        // sync that failed: what it has not written is shown all the same, and counts as written.
        medium.header.write_again(medium.file.as_ref())?;
        if let Some(log) = log.read()? {
            medium.replay(&log)?;
        }
        medium.sync_opening()?;
        medium.header.synced();
        Ok(medium)
    }

    fn sync_opening(&self) -> io::Result<()> {
        sync(self.file.as_ref()).map_err(|error| {
            let error = self.lost.get_or_init(|| Arc::new(error));
            io::Error::new(error.kind(), Arc::clone(error))
        })
    }

    fn new(
        file: Arc<dyn DiskFile>,
        log: &LogFile,
        lost: &Lost,
        header: Header,
        len: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            is_strict: AtomicBool::new(header.tells_of_synced_pages()),
            file,
            header,
            lost: Arc::clone(lost),
            len: AtomicU64::new(len),
            unchecked: Mutex::default(),
            waiting: Waiting::default(),
            ahead: Ahead::of(len / pages::PAGE_BYTES),
            log: log.writable()?,
            is_logging: AtomicBool::new(false),
            owes_sync: AtomicBool::new(false),
            standing: RwLock::default(),
        })
    }

    /// Puts what a log has into its place, unless all of it was durable there before the header in place was written.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if a record is missing.
    fn replay(&mut self, log: &log::Said) -> io::Result<()> {
        let placed = self.header.image().count;
        let last = log.records().last();
        let count = last.as_ref().map_or(placed, |last| last.image.count.max(placed));
        if log.has_record_behind(count) {
            let what = "a record of its log is damaged, and a later one is not";
            return Err(pages::damage(what.to_owned()));
        }
        let Some((first, last)) = log.records().next().zip(last) else {
            return Ok(());
        };
        // What is durable in place already must stay as it is: another crash may tear what is written now.
        if last.image.count <= placed {
            return Ok(());
        }
        if first.follows > placed {
            let what = format!(
                "its log goes on behind header {}, and it has {placed}",
                first.follows
            );
            return Err(pages::damage(what));
        }
        let mut pages = BTreeMap::new();
        for record in log.records() {
            pages.extend(record.pages());
        }
        pages.split_off(&(last.len / pages::PAGE_BYTES));
        let file = Arc::clone(&self.file);
        self.put_len(file.as_ref(), last.len)?;
        for (page, bytes) in &pages {
            let offset = page * pages::PAGE_BYTES;
            pages::write(file.as_ref(), None, &self.ahead, &self.waiting, offset, bytes)?;
        }
        self.waiting.write(file.as_ref())?;
        // Whoever finds the header that is written next takes the pages for durable, and until then the other one counts.
        self.sync_opening()?;
        self.header.restore(&last.image);
        self.header.write_changed(file.as_ref())?;
        // A record is whole or none.
        *self.is_strict.get_mut() = true;
        Ok(())
    }

    /// Makes the file as long as redb says.
    fn put_len(&self, file: &dyn DiskFile, len: u64) -> io::Result<()> {
        let before = self.len.load(Ordering::Acquire);
        if len == before {
            return Ok(());
        }
        let end = len.div_ceil(pages::PAGE_BYTES);
        self.waiting.cut(end);
        if let Some(log) = self.logging() {
            log.cut(end);
        }
        file.set_len(pages::outer_len(len))?;
        self.ahead.set_pages(len / pages::PAGE_BYTES);
        pages::take_groups(file, before, len)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Takes every page for damaged from now on whose checksum is wrong: redb has opened the database, and knows which
    /// commit counts.
    pub(super) fn be_strict(&self) {
        self.is_strict.store(true, Ordering::Release);
        self.begin_log();
    }

    /// Notes for the log what is written from now on, if all that was written before is durable in its place.
    fn begin_log(&self) {
        let Some(log) = &self.log else { return };
        if self.is_logging.load(Ordering::Acquire) {
            return;
        }
        let is_strict = self.is_strict.load(Ordering::Acquire) && self.unchecked.lock().is_empty();
        if is_strict && self.header.is_synced() && !self.owes_sync.load(Ordering::Relaxed) {
            // If this fails it is noted, and the other one is as durable as before.
            let _ = self.use_file(may_be_lost, |file| self.header.copy(file));
            log.begin(self.header.image().count);
            self.is_logging.store(true, Ordering::Release);
        }
    }

    /// The log, if what is written is noted for it.
    fn logging(&self) -> Option<&Log> {
        let is_logging = self.is_logging.load(Ordering::Acquire);
        self.log.as_ref().filter(|_| is_logging)
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
        if let Some(log) = self.logging() {
            return self.sync_log(log);
        }
        self.use_file(may_be_lost, |file| self.waiting.write(file))?;
        self.sync_header()?;
        self.owes_sync.store(false, Ordering::Relaxed);
        self.begin_log();
        Ok(())
    }

    /// Syncs the file, after the header was written there.
    fn sync_header(&self) -> io::Result<()> {
        self.use_file(
            |_| true,
            |file| {
                sync(file).inspect_err(|_| {
                    // Nothing more can be done if this fails too.
                    let _ = self.header.withdraw(file);
                })
            },
        )?;
        self.header.synced();
        Ok(())
    }

    /// Makes all that is written durable in the log, or in place if the log has no room for it.
    ///
    /// # Errors
    /// If anything has failed before: redb passes over what it writes to no purpose but that of memory, and without that
    /// a commit would not be whole.
    fn sync_log(&self, log: &Log) -> io::Result<()> {
        if let Some(failed) = &self.standing.read().failed {
            return Err(io::Error::new(failed.kind(), Arc::clone(failed)));
        }
        let len = self.len.load(Ordering::Acquire);
        let is_put = self.use_file(|_| true, |_| log.put(&self.header.image(), len, sync))?;
        if is_put {
            self.header.synced();
            return Ok(());
        }
        self.settle(log)
    }

    /// Makes all that is written durable in its place: the pages that the log has or is to have, and then the header. Until
    /// that is there the log leads to the commit before. Nobody writes meanwhile: redb syncs only behind all pages of a commit.
    fn settle(&self, log: &Log) -> io::Result<()> {
        self.use_file(may_be_lost, |file| {
            log.place_all(&|first, pages| pages::place(file, first, pages))?;
            self.waiting.write(file)
        })?;
        self.use_file(|_| true, sync)?;
        self.use_file(may_be_lost, |file| self.header.write_changed(file))?;
        // It is not withdrawn if this fails: all that it tells of is durable, and whoever finds it writes it again.
        self.use_file(|_| true, sync)?;
        self.header.synced();
        self.use_file(may_be_lost, |file| self.header.copy(file))?;
        log.begin(self.header.image().count);
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
    !finds_no_space(error) && !pages::is_unread(error)
}

/// A sync that failed is not tried again, so that nobody may take its failure for a lack of space.
fn sync(file: &dyn DiskFile) -> io::Result<()> {
    file.sync().map_err(io::Error::other)
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
