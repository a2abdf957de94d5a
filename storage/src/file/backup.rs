//! Copies a store that is open, as it was at one moment.
//!
//! Everything is folded first, so that the catalog and segments say all of it. Segments never change and are linked;
//! the catalog is copied while nobody changes it. A copy does not know what the original hands out afterwards, so it
//! begins a new era when it is opened.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::FileStore;
use super::catalog::{Catalog, Meta};
use super::journal::FIRST_BATCH_AT;
use super::place::{Layout, LogPlace};
use super::recovery::COPY_BOOT_ID;
use super::store::{Store, io_error};
use crate::backup::{self, BackupError};
use crate::directory;
use crate::disk::{Disk, DiskFile};

/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;
/// Zeros of the catalog are not written, in pieces of this length: much of its file may be holes.
const HOLE_BYTES: usize = 64 << 10;

/// What a copy consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupReport {
    /// Streams in it.
    pub streams: u64,
    /// Bytes of their payloads.
    pub stored_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Their length.
    pub segment_bytes: u64,
    /// Those of them that could not be linked and were copied.
    pub copied_segments: u64,
    /// Length of the catalog.
    pub catalog_bytes: u64,
}

/// A segment that cannot be linked. Open, for compaction may remove its name.
struct Unlinked {
    number: u64,
    file: Arc<dyn DiskFile>,
}

impl FileStore {
    /// Copies the store as it is now into a directory that is new or empty. Commits go on meanwhile.
    ///
    /// # Errors
    /// [`BackupError`]. What is there then is no store.
    pub fn backup(&self, to: &Path) -> Result<BackupReport, BackupError> {
        self.store.backup(to)
    }
}

impl Store {
    fn backup(&self, to: &Path) -> Result<BackupReport, BackupError> {
        let disk = self.disk.as_ref();
        let to = backup::place_for(disk, to, &self.layout.root)?;
        let copy = Layout::new(&to);
        let catalog = copy.catalog_file();
        backup::make_dir(disk, &to)?;
        // From its first file on the copy is neither empty nor a store.
        drop(disk.create(&catalog).map_err(io_error("making", &catalog))?);
        backup::make_dir(disk, &copy.journals_dir())?;
        backup::make_dir(disk, &copy.segments_dir())?;

        let (mut report, unlinked) = {
            let _compacting = self.compaction.lock();
            self.fold()?;
            let linked = self.link_segments(&copy)?;
            self.copy_catalog(&catalog)?;
            linked
        };
        for segment in &unlinked {
            let path = copy.segment(segment.number);
            let file = disk.create(&path).map_err(io_error("making", &path))?;
            self.copy_file(segment.file.as_ref(), file.as_ref(), &path, COPY_BYTES)?;
        }
        report.copied_segments = unlinked.len() as u64;
        let meta = begin_anew(disk, &catalog)?;
        (report.streams, report.stored_bytes) = (meta.streams, meta.payload_bytes);
        let file = disk.open(&catalog).map_err(io_error("opening", &catalog))?;
        file.sync().map_err(io_error("syncing", &catalog))?;
        report.catalog_bytes = file
            .len()
            .map_err(io_error("asking for the length of", &catalog))?;
        for dir in [&copy.segments_dir(), &copy.journals_dir(), &copy.root] {
            disk.sync_dir(dir).map_err(io_error("syncing", dir))?;
        }
        directory::sync_above(disk, &copy.root)?;
        let mode = self.options.durability.mode();
        directory::put_identity(disk, &copy.root, mode, self.id)?;
        Ok(report)
    }

    /// Links the segments that the catalog knows. Whoever calls it holds the lock of compaction.
    fn link_segments(&self, copy: &Layout) -> Result<(BackupReport, Vec<Unlinked>), BackupError> {
        let mut report = BackupReport::default();
        let mut unlinked = Vec::new();
        for row in self.catalog.view()?.segments()? {
            self.check_going_on()?;
            report.segments += 1;
            report.segment_bytes += row.bytes;
            let from = self.layout.segment(row.number);
            match self.disk.link(&from, &copy.segment(row.number)) {
                Ok(()) => {}
                Err(error) if is_impossible(&error) => {
                    let file = self.disk.open_sealed(&from);
                    unlinked.push(Unlinked {
                        number: row.number,
                        file: file.map_err(io_error("opening", &from))?,
                    });
                }
                Err(error) => return Err(io_error("linking", &from)(error).into()),
            }
        }
        Ok((report, unlinked))
    }

    /// Copies the catalog into an empty file. Whoever calls it holds the lock of compaction, without which nobody
    /// changes it.
    fn copy_catalog(&self, to: &Path) -> Result<(), BackupError> {
        // One that has failed would be opened anew by whoever asks it next, and written by that.
        self.catalog.reopen()?;
        let from = self.layout.catalog_file();
        let file = self.disk.open_sealed(&from).map_err(io_error("opening", &from))?;
        let copy = self.disk.open(to).map_err(io_error("opening", to))?;
        let len = file.len().map_err(io_error("asking for the length of", &from))?;
        copy.set_len(len).map_err(io_error("making", to))?;
        self.copy_file(file.as_ref(), copy.as_ref(), to, HOLE_BYTES)
    }

    /// Copies a file that nobody changes, but for zeros, and syncs the copy.
    fn copy_file(
        &self,
        from: &dyn DiskFile,
        to: &dyn DiskFile,
        path: &Path,
        piece_bytes: usize,
    ) -> Result<(), BackupError> {
        let len = from.len().map_err(io_error("reading what becomes", path))?;
        to.set_len(len).map_err(io_error("making", path))?;
        let mut buffer = vec![0; piece_bytes];
        for at in (0..len).step_by(piece_bytes) {
            self.check_going_on()?;
            let piece = &mut buffer[..(len - at).min(piece_bytes as u64) as usize];
            from.read_at(at, piece)
                .map_err(io_error("reading what becomes", path))?;
            if piece.iter().any(|byte| *byte != 0) {
                to.write_at(at, piece).map_err(io_error("writing", path))?;
            }
        }
        to.sync().map_err(io_error("syncing", path))?;
        Ok(())
    }

    fn check_going_on(&self) -> Result<(), BackupError> {
        if self.signals.now().stopping {
            return Err(BackupError::Stopping);
        }
        Ok(())
    }
}

/// Lets the copy begin behind what it has, in an era of its own.
fn begin_anew(disk: &dyn Disk, catalog: &Path) -> Result<Meta, BackupError> {
    let catalog = Catalog::open(disk, catalog, 1 << 20)?;
    let meta = catalog.view()?.meta()?;
    let meta = Meta {
        folded: LogPlace {
            journal: meta.folded.journal + 1,
            offset: FIRST_BATCH_AT,
        },
        boot_id: COPY_BOOT_ID.to_owned(),
        clean: false,
        ..meta
    };
    let mut change = catalog.change()?;
    change.write(|tables| tables.put_meta(&meta))?;
    change.commit()?;
    Ok(meta)
}

/// Whether a link cannot be made between these two places, and a copy can.
fn is_impossible(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(
        error.kind(),
        CrossesDevices | PermissionDenied | TooManyLinks | Unsupported
    )
}
