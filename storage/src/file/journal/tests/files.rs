use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::records::append;
use super::{Image, JOURNAL, SEALED, STORE, UNPROVEN, map, place, replay_all};
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::{Disk, DiskFile, Map};
use crate::file::journal::{End, FIRST_BATCH_AT, create, has_batches, renew, replay};

/// What was done with a file.
#[derive(Default)]
struct Done {
    bytes: Vec<u8>,
    /// Of each byte, how often it was written.
    writes: Vec<u8>,
    longest_write: usize,
    unsynced: bool,
    is_full: bool,
}

#[derive(Default, Clone)]
struct HeapFile(Arc<Mutex<Done>>);

impl DiskFile for HeapFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(&self.0.lock().bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = self.0.lock();
        if done.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let range = offset as usize..offset as usize + bytes.len();
        let len = done.bytes.len().max(range.end);
        done.bytes.resize(len, 0xee);
        done.writes.resize(len, 0);
        done.bytes[range.clone()].copy_from_slice(bytes);
        done.writes[range].iter_mut().for_each(|count| *count += 1);
        done.longest_write = done.longest_write.max(bytes.len());
        done.unsynced = true;
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.lock().unsynced = false;
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        Ok(1)
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        Ok(map(&self.0.lock().bytes[..len as usize]))
    }
}

/// A disk on which the only thing that can be done is to make one file.
struct OneFile(PathBuf, HeapFile);

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Disk for OneFile {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        assert_eq!(path, self.0);
        Ok(Arc::new(self.1.clone()))
    }

    fn open(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        unsupported()
    }

    fn open_sealed(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        unsupported()
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

fn disk() -> OneFile {
    OneFile(PathBuf::from("a.tmp"), HeapFile::default())
}

#[test]
fn a_new_journal_is_written_through_and_synced() {
    for bytes in [FIRST_BATCH_AT, FIRST_BATCH_AT + 1, 1 << 20, (5 << 19) + 13] {
        let disk = disk();
        create(&disk, &disk.0, JOURNAL, STORE, bytes).expect("there is room");
        let done = disk.1.0.lock();
        assert_eq!(done.bytes.len() as u64, bytes);
        assert!(
            done.writes.iter().all(|count| *count > 0),
            "no byte is left for a later sync to allocate"
        );
        assert!(done.longest_write <= 1 << 20);
        assert!(!done.unsynced);
        let replayed = replay_all(&done.bytes, UNPROVEN);
        assert_eq!(
            replayed.end(),
            &End::Clean {
                end: place(FIRST_BATCH_AT)
            }
        );
    }
}

#[test]
fn a_journal_that_cannot_be_written_is_not_made() {
    let disk = disk();
    disk.1.0.lock().is_full = true;
    let refused = create(&disk, &disk.0, JOURNAL, STORE, 1 << 20);
    assert_eq!(
        refused.err().map(|error| error.kind()),
        Some(io::ErrorKind::StorageFull)
    );
}

#[test]
fn batches_of_an_earlier_use_are_not_replayed() {
    let mut used = Image::new(8192);
    for start in [0, 4, 8, 12] {
        used.write(&[append(1, start, b"old,")], used.end());
    }
    let file = HeapFile::default();
    file.write_at(0, &used.bytes).expect("a file");
    renew(&file, JOURNAL + 1, STORE).expect("a file");
    assert!(!file.0.lock().unsynced);
    let renewed = file.map(8192).expect("a map");
    assert!(!has_batches(&renewed, JOURNAL + 1, STORE));
    // Even if the next batch has the number of the one that stands there.
    for next_batch in [1, 5] {
        let sealed = crate::file::place::LogPlace {
            journal: JOURNAL + 1,
            offset: u64::MAX,
        };
        for proven in [UNPROVEN, sealed] {
            let outcome = replay(
                &renewed,
                JOURNAL + 1,
                STORE,
                FIRST_BATCH_AT,
                next_batch,
                proven,
                &mut |part, _| panic!("{part:?} belongs to the earlier use"),
            );
            let outcome = outcome.expect("an empty journal");
            assert!(matches!(outcome.end, End::Clean { end } if end.offset == FIRST_BATCH_AT));
            assert_eq!(outcome.next_batch, next_batch);
        }
    }
}

#[test]
fn batches_of_an_earlier_use_end_where_the_new_ones_end() {
    let mut used = Image::new(8192);
    for start in [0, 4, 8, 12] {
        used.write(&[append(1, start, b"old,")], 0);
    }
    // A use before, under a lower number: here it is this one that is younger.
    let mut bytes = used.bytes.clone();
    for batch in &used.batches {
        bytes[batch.range.start + 16] = JOURNAL as u8 - 1;
        super::strangeness::mend(&mut bytes, batch);
    }
    let mut young = Image::new(0);
    young.bytes = bytes;
    young.bytes[..FIRST_BATCH_AT as usize].copy_from_slice(&used.bytes[..FIRST_BATCH_AT as usize]);
    young.write(&[append(1, 0, b"new,")], 0);
    assert_eq!(
        young.end(),
        used.batches[1].range.start,
        "the next place is an old batch's"
    );
    for proven in [UNPROVEN, SEALED] {
        let replayed = replay_all(&young.bytes, proven);
        assert_eq!(replayed.parts, young.batches[0].parts);
        let end = place(young.end() as u64);
        assert_eq!(replayed.end(), &End::Clean { end });
    }
}

#[test]
fn a_journal_under_anothers_name_or_of_another_store_is_refused() {
    let image = Image::new(8192);
    let refused = |number, store| {
        let outcome = replay(
            &map(&image.bytes),
            number,
            store,
            FIRST_BATCH_AT,
            1,
            UNPROVEN,
            &mut |_, _| Ok(()),
        );
        match outcome {
            Err(BackendError::Damaged { what }) => what,
            other => panic!("damage, not {other:?}"),
        }
    };
    assert!(refused(JOURNAL + 1, STORE).contains("it says that it is journal 7"));
    assert!(refused(JOURNAL, StoreId([1; 16])).contains("belongs to the store"));
}

#[test]
fn a_journal_has_batches_from_its_first_header_on() {
    let mut image = Image::new(8192);
    assert!(!has_batches(&map(&image.bytes), JOURNAL, STORE));
    image.write(&[append(1, 0, b"abc")], 0);
    image.write(&[append(1, 3, b"def")], 0);
    assert!(has_batches(&map(&image.bytes), JOURNAL, STORE));
    // Torn ones were written as well, and so was what stood before one that stands there now.
    image.bytes[image.batches[0].range.clone()].fill(0);
    let last = image.batches[1].range.end - 1;
    image.bytes[last - 8] ^= 1;
    assert!(has_batches(&map(&image.bytes), JOURNAL, STORE));
    assert!(
        has_batches(&map(&image.bytes[..100]), JOURNAL, STORE),
        "nobody knows"
    );
}
