//! What is asked of the disk, and when: a disk that writes down what it is asked for.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::disk::{Disk, DiskFile, Map};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Write(Range<u64>),
    Sync,
    Populate(Range<u64>),
    Look(Range<u64>),
}

type Record = Arc<Mutex<Vec<Asked>>>;

#[derive(Default)]
struct RecordingDisk {
    record: Record,
}

struct RecordingFile {
    file: Arc<dyn DiskFile>,
    record: Record,
}

struct RecordingMap {
    map: Arc<dyn Map>,
    record: Record,
}

impl RecordingDisk {
    fn taken(&self) -> Vec<Asked> {
        std::mem::take(&mut self.record.lock())
    }

    fn recording(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(RecordingFile {
            file,
            record: Arc::clone(&self.record),
        })
    }
}

impl Disk for RecordingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.create(path).map(|file| self.recording(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path).map(|file| self.recording(file))
    }

    fn open_sealed(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_sealed(path).map(|file| self.recording(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir(dir)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }

    fn boot_id(&self) -> Option<String> {
        RealDisk.boot_id()
    }
}

impl DiskFile for RecordingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let range = offset..offset + bytes.len() as u64;
        self.record.lock().push(Asked::Write(range));
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.record.lock().push(Asked::Sync);
        self.file.sync()
    }

    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        Ok(Arc::new(RecordingMap {
            map: self.file.map(len)?,
            record: Arc::clone(&self.record),
        }))
    }
}

impl Map for RecordingMap {
    fn len(&self) -> u64 {
        self.map.len()
    }

    fn look(&self, range: Range<u64>, look: &mut dyn FnMut(&[u8])) {
        self.record.lock().push(Asked::Look(range.clone()));
        self.map.look(range, look);
    }

    fn bytes(self: Arc<Self>, range: Range<u64>) -> Bytes {
        Arc::clone(&self.map).bytes(range)
    }

    fn is_resident(&self, range: Range<u64>) -> bool {
        self.map.is_resident(range)
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.record.lock().push(Asked::Populate(range.clone()));
        self.map.populate(range)
    }
}

/// Asserts that nothing was looked at before it was fetched.
fn assert_fetched(asked: &[Asked]) {
    let mut fetched = Vec::new();
    let mut looked = 0;
    for asked in asked {
        match asked {
            Asked::Populate(range) => fetched.push(range.clone()),
            Asked::Look(range) => {
                let is_there = |there: &Range<u64>| there.start <= range.start && range.end <= there.end;
                assert!(fetched.iter().any(is_there), "{range:?} of {fetched:?}");
                looked += 1;
            }
            Asked::Write(_) | Asked::Sync => panic!("a sealed file is only read"),
        }
    }
    assert!(looked > 0);
}

fn long() -> Model {
    let mut model = Model::new(5, 123);
    let mut rng = fastrand::Rng::with_seed(2);
    for now in 0..30_000 {
        model.push(now, &[rng.u32(1..60), 2]);
    }
    model
}

#[test]
fn a_finished_segment_is_synced_after_its_last_byte() {
    let disk = RecordingDisk::default();
    let kept = Kept::new();
    let mut writer = SegmentWriter::create(&disk, &kept.path, NUMBER, STORE).expect("made");
    write_run(&mut writer, &small()[0]);
    let summary = writer.finish().expect("finished");
    assert_eq!(disk.taken(), [Asked::Write(0..summary.bytes), Asked::Sync]);
}

#[test]
fn only_what_was_written_is_synced_in_between() {
    let disk = RecordingDisk::default();
    let kept = Kept::new();
    let mut writer = SegmentWriter::create(&disk, &kept.path, NUMBER, STORE).expect("made");
    let mut model = Model::new(1, 0);
    [3, 2 << 20, 4].iter().for_each(|bytes| model.push(1, &[*bytes]));
    writer.sync_written().expect("nothing to sync");
    writer.begin_run(model.stream, at(0));
    let mut asked = Vec::new();
    for append in &model.appends {
        writer.append(append.head(), &append.payload).expect("written");
        writer.sync_written().expect("synced");
        asked.push(disk.taken());
    }
    // The long payload is written as one, and what was gathered before it goes before it.
    let long = 67..67 + (2 << 20);
    assert_eq!(asked[0], []);
    assert_eq!(asked[1], [Asked::Write(0..67), Asked::Write(long), Asked::Sync]);
    assert_eq!(asked[2], []);
}

#[test]
fn copies_and_verification_look_at_nothing_that_was_not_fetched() {
    let (kept, runs) = write(&[long()]);
    let disk = RecordingDisk::default();
    let segment = Segment::open(&disk, &kept.path, NUMBER, STORE).expect("opened");
    assert_eq!(
        disk.taken(),
        [],
        "a map would answer a disk's error with a signal"
    );
    segment.runs().expect("sound");
    assert_fetched(&disk.taken());
    copied(&segment, &runs[0], 400_000).expect("sound");
    assert_fetched(&disk.taken());
    segment.verify().expect("sound");
    assert_fetched(&disk.taken());
}

#[test]
fn answers_come_from_what_was_to_be_fetched_for_them() {
    let mut models = small();
    models.push(long());
    let (kept, runs) = write(&models);
    let disk = RecordingDisk::default();
    let segment = Segment::open(&disk, &kept.path, NUMBER, STORE).expect("opened");
    let mut rng = fastrand::Rng::with_seed(3);
    for run in &runs {
        for _ in 0..100 {
            let from = rng.u64(run.from.get()..run.until.get());
            let until = rng.u64(from + 1..=run.until.get() + 1);
            let (from, until) = (at(from), at(until));
            if let Some(table) = segment.table_range(run).expect("it is one of its runs") {
                segment.fetch(table).expect("fetched");
            }
            let index = segment.index_range(run, from, until).expect("sound");
            segment.fetch(index).expect("fetched");
            segment.last_message_end(run, from, until).expect("sound");
            segment.first_message_end(run, from).expect("sound");
            segment.extents(run, from, Position::LAST, until).expect("sound");
            assert_fetched(&disk.taken());
        }
    }
}
