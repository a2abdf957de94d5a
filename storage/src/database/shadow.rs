//! A file that looks as if it could be written: what is written to it stays in memory. redb wants to write when it
//! opens a database and when it closes one, and to look at a store must not change it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::disk::{DiskFile, Map};

const PAGE_BYTES: u64 = 4096;

/// What was written is kept in pages.
type Page = Box<[u8; PAGE_BYTES as usize]>;

/// Shows a file, with changes over it that nobody else sees.
pub(super) struct Shadow {
    file: Arc<dyn DiskFile>,
    changes: RwLock<Changes>,
}

struct Changes {
    len: u64,
    /// Up to here the file's own bytes are shown where no page is. Always <= `len`.
    own: u64,
    pages: BTreeMap<u64, Page>,
}

impl Shadow {
    /// # Errors
    /// If the file's length cannot be read.
    pub(super) fn new(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self {
            file,
            changes: RwLock::new(Changes {
                len,
                own: len,
                pages: BTreeMap::new(),
            }),
        })
    }

    /// Reads what is there, and zeros behind it.
    fn read(&self, changes: &Changes, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        let own = changes.own.clamp(offset, end) - offset;
        let (own, behind) = buffer.split_at_mut(own as usize);
        if !own.is_empty() {
            self.file.read_at(offset, own)?;
        }
        behind.fill(0);
        for (number, page) in changes.pages.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let at = number * PAGE_BYTES;
            let (from, until) = (at.max(offset), (at + PAGE_BYTES).min(end));
            let shown = &page[(from - at) as usize..(until - at) as usize];
            buffer[(from - offset) as usize..(until - offset) as usize].copy_from_slice(shown);
        }
        Ok(())
    }
}

impl DiskFile for Shadow {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes.read().len)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let changes = self.changes.read();
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > changes.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read(&changes, offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut changes = self.changes.write();
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(io::ErrorKind::InvalidInput)?;
        changes.len = changes.len.max(end);
        let mut at = offset;
        while at < end {
            let number = at / PAGE_BYTES;
            let start = number * PAGE_BYTES;
            let until = end.min(start + PAGE_BYTES);
            if !changes.pages.contains_key(&number) {
                let mut page = Box::new([0; PAGE_BYTES as usize]);
                self.read(&changes, start, page.as_mut_slice())?;
                changes.pages.insert(number, page);
            }
            let page = changes.pages.get_mut(&number).expect("just made");
            page[(at - start) as usize..(until - start) as usize]
                .copy_from_slice(&bytes[(at - offset) as usize..(until - offset) as usize]);
            at = until;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.changes.write();
        if len < changes.len {
            changes.own = changes.own.min(len);
            // What is cut off is zeros if the file grows again.
            changes.pages.retain(|number, page| {
                let kept = len.saturating_sub(number * PAGE_BYTES).min(PAGE_BYTES);
                page[kept as usize..].fill(0);
                kept > 0
            });
        }
        changes.len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    fn map(&self, _: u64) -> io::Result<Arc<dyn Map>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, RealDisk};

    /// The shadow of a file of `len` random bytes, those bytes, and the file itself.
    fn shadow_of(rng: &mut fastrand::Rng, len: usize) -> (Shadow, Vec<u8>, Arc<dyn DiskFile>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealDisk.create(&dir.path().join("file")).expect("made");
        let mut bytes = vec![0; len];
        rng.fill(&mut bytes);
        file.write_at(0, &bytes).expect("written");
        let shadow = Shadow::new(Arc::clone(&file)).expect("it has a length");
        (shadow, bytes, file)
    }

    #[test]
    fn it_is_like_any_file_and_the_file_beneath_stays() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let len = rng.usize(1..20_000);
            let (shadow, original, file) = shadow_of(&mut rng, len);
            let mut model = original.clone();
            for _ in 0..30 {
                let at = rng.usize(..model.len() + 6_000);
                if rng.u8(..5) == 0 {
                    model.resize(at, 0);
                    shadow.set_len(at as u64).expect("a length");
                } else {
                    let mut bytes = vec![0; rng.usize(1..9_000)];
                    rng.fill(&mut bytes);
                    model.resize(model.len().max(at + bytes.len()), 0);
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                    shadow.write_at(at as u64, &bytes).expect("written");
                }
                assert_eq!(shadow.len().expect("a length"), model.len() as u64);
                let from = rng.usize(..=model.len());
                let until = rng.usize(from..=model.len());
                let mut seen = vec![1; until - from];
                shadow.read_at(from as u64, &mut seen).expect("read");
                assert_eq!(seen, model[from..until], "seed {seed}");
                let error = shadow.read_at(from as u64, &mut vec![0; model.len() - from + 1]);
                assert_eq!(
                    error.expect_err("there is less").kind(),
                    io::ErrorKind::UnexpectedEof
                );
            }
            let mut kept = vec![0; original.len()];
            file.read_at(0, &mut kept).expect("read");
            assert_eq!((kept, file.len().expect("a length")), (original, len as u64));
        }
    }
}
