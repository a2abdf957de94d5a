//! What redb asks of a medium.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Medium, may_be_lost};
use crate::database::header::Header;
use crate::database::pages;

/// A medium in redb's hands.
#[derive(Debug)]
pub(in crate::database) struct Backend(pub(in crate::database) Arc<Medium>);

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
                let (log, waiting) = (self.0.logging(), &self.0.waiting);
                if self.0.is_strict.load(Ordering::Acquire) {
                    pages::read(file, log, waiting, offset, out)
                } else {
                    let wrong = pages::read_unchecked(file, log, waiting, offset, out)?;
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
        self.0.use_file(may_be_lost, |file| self.0.put_len(file, len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.check()?;
        if self.0.header.is_synced() {
            // What is noted for the log gets there with the header that tells of it.
            self.0
                .owes_sync
                .store(self.0.logging().is_none(), Ordering::Relaxed);
            return Ok(());
        }
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.check()?;
        if !Header::has(offset, data.len()) {
            let log = self.0.logging();
            return self.0.use_file(may_be_lost, |file| {
                pages::write(file, log, &self.0.ahead, &self.0.waiting, offset, data)
            });
        }
        if self.0.logging().is_none() {
            self.0.use_file(may_be_lost, |file| self.0.mend(file))?;
            if self.0.owes_sync.load(Ordering::Relaxed) {
                self.0.sync()?;
            }
        }
        if self.0.logging().is_some() {
            self.0.header.change(offset, data);
            return Ok(());
        }
        self.0
            .use_file(may_be_lost, |file| self.0.header.write(file, offset, data))
    }

    fn close(&self) -> io::Result<()> {
        if self.0.lost.get().is_some() {
            return Ok(());
        }
        if let Some(log) = self.0.logging() {
            if self.0.trouble().is_some() || !self.0.header.is_synced() {
                // What has failed, or was cut short, must not be made after all; the log leads to the commit before.
                return Ok(());
            }
            if log.is_used() {
                self.0.settle(log)?;
            }
            // What it has is of no use any more.
            return self.0.use_file(may_be_lost, |_| log.empty());
        }
        if self.0.owes_sync.load(Ordering::Relaxed) {
            self.0.sync()?;
        }
        match &self.0.log {
            // What it had was put into its place when the database was opened.
            Some(log) if self.0.header.is_synced() => self.0.use_file(may_be_lost, |_| log.empty()),
            _ => Ok(()),
        }
    }
}
