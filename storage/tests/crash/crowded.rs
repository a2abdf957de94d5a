//! Full disks with very many small streams, and restarts on full disks: what frees space is taken until nothing is left.

use std::sync::Arc;

use tailwater_storage::backend::Outcome;
use tailwater_storage::file::Durability;
use tailwater_storage::stream::{Record, StreamId};
use tailwater_storage::{Backend, FileOptions, FileStore};

use super::run::{DIR, FAST};
use crate::author::{Author, Body, Marks, control, millis, release_all, text};
use crate::support::faulty_disk::FaultyDisk;

const JOURNAL_BYTES: u64 = 16 << 10;
/// What is free at first: what the store keeps to rewrite segments in, and some journals.
const FREE_BYTES: u64 = (512 << 10) + 80 * JOURNAL_BYTES;
/// Records in a batch.
const BATCH_RECORDS: usize = 20;

/// A store with as many small streams as there is space for.
struct Crowd {
    disk: Arc<FaultyDisk>,
    options: FileOptions,
    store: Option<FileStore>,
    author: Author,
    alive: Vec<StreamId>,
    /// Deleted and not released.
    deleted: Vec<StreamId>,
}

impl Crowd {
    fn new(durability: Durability) -> Self {
        let mut options = FileOptions::new(DIR.into(), durability, 1 << 20);
        options.compacts_by_itself = false;
        options.journal_bytes = JOURNAL_BYTES;
        options.fold_bytes = 4 * JOURNAL_BYTES;
        options.segment_bytes_max = 1 << 20;
        let disk = FaultyDisk::new(7);
        let mut crowd = Self {
            disk,
            options,
            store: None,
            author: Author::default(),
            alive: Vec::new(),
            deleted: Vec::new(),
        };
        crowd.open();
        crowd
    }

    /// Opens the store on the disk as it is, with the options as they are. One that is open ends before.
    fn open(&mut self) {
        self.store = None;
        let opened = FileStore::open_unlocked(Arc::clone(&self.disk) as _, self.options.clone());
        self.store = Some(opened.unwrap_or_else(|error| panic!("the store cannot be opened: {error}")));
    }

    fn store(&self) -> &FileStore {
        self.store.as_ref().expect("it is open")
    }

    fn commit(&self, batch: &[Record]) -> Vec<Outcome> {
        let outcomes = self.store().commit(0, batch);
        outcomes.expect("a full disk is no failure").to_vec()
    }

    /// Creates streams until there is no space, compacting as often as a store does that goes by itself.
    fn fill(&mut self) {
        self.disk.set_free_bytes(Some(FREE_BYTES));
        for round in 0.. {
            let mut draft = self.author.clone();
            let mut ids = Vec::new();
            let mut batch = Vec::new();
            for number in 0..BATCH_RECORDS {
                let (id, create) = draft.create(&format!("s{round}/{number}"));
                ids.push(id);
                batch.extend([create, draft.append(id, Body::one("0123456789"))]);
            }
            if round % 20 == 19 {
                self.compact();
            }
            let mut outcomes = self.commit(&batch);
            if outcomes.contains(&Outcome::Full) {
                self.compact();
                outcomes = self.commit(&batch);
            }
            if outcomes.contains(&Outcome::Full) {
                assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Full));
                return;
            }
            self.author = draft;
            self.alive.append(&mut ids);
        }
    }

    fn compact(&self) {
        // Without space it changes nothing.
        let _ = self.store().compact();
        assert!(self.store().failure().is_none(), "{:?}", self.store().failure());
    }

    /// Deletes the streams, scattered, so that no segment is dead as a whole before nearly all are gone. What is refused
    /// is asked for again once the store has compacted. Answers how often that was so.
    fn delete_all(&mut self) -> usize {
        let step = 7919;
        let count = self.alive.len();
        assert!(count > 500 && !count.is_multiple_of(step), "{count} streams");
        let scattered: Vec<_> = (0..count)
            .map(|number| self.alive[number * step % count])
            .collect();
        let mut refused = 0;
        for (number, ids) in scattered.chunks(BATCH_RECORDS).enumerate() {
            self.deleted.extend(ids);
            let mut batch: Vec<_> = ids.iter().map(|id| self.author.delete(*id)).collect();
            let mut outcomes = self.commit(&batch).into_iter();
            batch.retain(|_| outcomes.next() == Some(Outcome::Full));
            self.deleted.truncate(self.deleted.len() - batch.len());
            if !batch.is_empty() {
                refused += 1;
                self.release_deleted();
                self.compact();
                let outcomes = self.commit(&batch);
                let taken = outcomes.iter().all(|outcome| *outcome == Outcome::Durable);
                assert!(taken, "deletions of batch {number} are refused");
                self.deleted.extend(&ids[ids.len() - batch.len()..]);
            }
        }
        self.release_deleted();
        self.alive.clear();
        refused
    }

    fn release_deleted(&mut self) {
        for id in std::mem::take(&mut self.deleted) {
            self.store().release(id).expect("the disk works");
        }
    }

    /// How many journals there are.
    fn journals(&self) -> usize {
        let files = self.disk.files().into_iter();
        let journals = files.filter(|path| path.extension().is_some_and(|found| found == "journal"));
        journals.count()
    }

    fn kill(&mut self) {
        let disk = self.disk.crash_process();
        self.store = None;
        self.disk = disk;
    }

    fn check_that_appends_are_taken(&mut self) {
        self.compact();
        let (id, create) = self.author.create("goes on");
        let append = self.author.append(id, Body::one("goes on"));
        assert_eq!(
            self.commit(&[create, append]),
            [Outcome::Durable, Outcome::Durable]
        );
        assert_eq!(text(self.store(), id, 0, 7, 100), "goes on");
    }
}

/// Every deletion was refused once those before it had used up the end of the last journal, and nothing but a restart
/// helped.
#[test]
fn a_full_store_of_small_streams_can_be_emptied() {
    for durability in [Durability::Durable, FAST] {
        let mut crowd = Crowd::new(durability);
        crowd.fill();
        let refused = crowd.delete_all();
        assert!(refused > 0, "the reserve was never used up");
        crowd.compact();
        assert_eq!(crowd.store().usage().streams, 0);
        crowd.check_that_appends_are_taken();
    }
}

/// Readers of streams whose lifetime slides used up the room that is kept for deletions.
#[test]
fn what_makes_no_room_is_refused_by_a_full_store() {
    let mut crowd = Crowd::new(Durability::Durable);
    crowd.fill();
    let id = crowd.alive[0];
    // None of them takes less than this.
    let touches = (0..JOURNAL_BYTES / 28).map(|_| crowd.author.touch(id, millis(1)));
    let touches: Vec<_> = touches.collect();
    assert!(
        touches
            .iter()
            .any(|touch| crowd.commit(std::slice::from_ref(touch)) == [Outcome::Full])
    );
    for id in crowd.alive.clone() {
        let marks = Marks {
            closes: true,
            ..Marks::default()
        };
        let close = crowd.author.clone().append_with(id, Body::one(""), marks);
        assert_eq!(crowd.commit(&[close]), [Outcome::Full]);
    }
    let trim = crowd.author.trim(id, 10);
    assert_eq!(crowd.commit(&[trim]), [Outcome::Durable]);
    let delete = crowd.author.delete(id);
    assert_eq!(crowd.commit(&[delete]), [Outcome::Durable]);
}

/// What is kept back for deletions is not for appends, however short.
#[test]
fn a_full_store_takes_no_append_where_it_keeps_room_for_deletions() {
    let mut crowd = Crowd::new(Durability::Durable);
    crowd.fill();
    let id = crowd.alive[0];
    let is_taken = |crowd: &Crowd| {
        let append = crowd.author.clone().append(id, Body::one("x"));
        crowd.commit(&[append]) == [Outcome::Durable]
    };
    while is_taken(&crowd) {
        crowd.author.append(id, Body::one("x"));
    }
    let before = crowd.journals();
    let removal = control(id, "key", None);
    while crowd.journals() == before {
        assert_eq!(crowd.commit(std::slice::from_ref(&removal)), [Outcome::Durable]);
    }
    assert!(!is_taken(&crowd));
    assert_eq!(crowd.commit(&[removal]), [Outcome::Durable]);
}

#[test]
fn a_full_store_that_was_killed_can_be_emptied() {
    for durability in [Durability::Durable, FAST] {
        let mut crowd = Crowd::new(durability);
        crowd.fill();
        for _ in 0..3 {
            crowd.kill();
            crowd.open();
            let first = crowd.alive[0];
            assert_eq!(text(crowd.store(), first, 0, 10, 100), "0123456789");
            let deleted = crowd.alive.pop().expect("some are left");
            let delete = crowd.author.delete(deleted);
            assert_eq!(crowd.commit(&[delete]), [Outcome::Durable]);
        }
        crowd.delete_all();
        crowd.check_that_appends_are_taken();
    }
}

/// The next start wanted a whole new journal, and there was no space for one.
#[test]
fn a_store_that_was_killed_starts_though_no_byte_is_free() {
    for durability in [Durability::Durable, FAST] {
        let mut crowd = Crowd::new(durability);
        crowd.options.journal_bytes = 1 << 20;
        crowd.open();
        crowd.disk.set_free_bytes(Some(8 << 20));
        let body = || Body::one(vec![b'x'; 100 << 10]);
        loop {
            let mut draft = crowd.author.clone();
            let (id, create) = draft.create(&format!("s{}", crowd.alive.len()));
            let append = draft.append(id, body());
            if crowd.commit(&[create, append]).contains(&Outcome::Full) {
                break;
            }
            crowd.author = draft;
            crowd.alive.push(id);
        }
        let first = crowd.alive[0];
        for _ in 0..3 {
            crowd.kill();
            crowd.disk.set_free_bytes(Some(0));
            crowd.open();
            assert_eq!(text(crowd.store(), first, 0, 10, 10), "xxxxxxxxxx");
            let append = crowd.author.clone().append(first, body());
            assert_eq!(crowd.commit(&[append]), [Outcome::Full]);
            let deleted = crowd.alive.pop().expect("some are left");
            let delete = crowd.author.delete(deleted);
            assert_eq!(crowd.commit(&[delete]), [Outcome::Durable]);
        }
        for id in std::mem::take(&mut crowd.alive) {
            let delete = crowd.author.delete(id);
            assert_eq!(crowd.commit(&[delete]), [Outcome::Durable]);
        }
        release_all(crowd.store());
        crowd.store().compact().expect("nothing is left to be copied");
        crowd.check_that_appends_are_taken();
    }
}

/// Each start made a journal without asking whether what the journals hold could be compacted beside it.
#[test]
fn restarts_do_not_use_up_the_space_that_is_kept_for_compaction() {
    let mut crowd = Crowd::new(Durability::Durable);
    crowd.fill();
    let id = crowd.alive[0];
    let append = |author: &mut Author| author.append(id, Body::one(vec![b'x'; 1 << 10]));
    for _ in 0..60 {
        crowd.kill();
        crowd.open();
        while crowd.commit(&[append(&mut crowd.author.clone())]) == [Outcome::Durable] {
            append(&mut crowd.author);
        }
    }
    crowd.store().compact().expect("space is kept for it");
    crowd.delete_all();
    crowd.check_that_appends_are_taken();
}

/// `file-fast` has to fold what it has replayed before positions may be given out again. If there is no space for
/// that, it does not start, and says what to do; nothing is lost.
#[test]
fn a_new_era_waits_until_there_is_space() {
    let mut crowd = Crowd::new(FAST);
    let (id, create) = crowd.author.create("a");
    assert_eq!(crowd.commit(&[create]), [Outcome::Durable]);
    for _ in 0..20 {
        let append = crowd.author.append(id, Body::one(vec![b'x'; 12 << 10]));
        assert_eq!(crowd.commit(&[append]), [Outcome::Durable]);
    }
    crowd.store().sync().expect("the disk works");
    let disk = crowd.disk.crash_machine();
    crowd.store = None;
    crowd.disk = disk;
    crowd.disk.set_free_bytes(Some(0));
    let opened = FileStore::open_unlocked(Arc::clone(&crowd.disk) as _, crowd.options.clone());
    let error = opened.err().expect("there is no space to fold").to_string();
    assert!(error.contains("make room on the disk"), "{error}");
    crowd.disk = crowd.disk.crash_process();
    crowd.disk.set_free_bytes(Some(FREE_BYTES));
    crowd.open();
    assert_eq!(crowd.store().usage().bytes, 20 * (12 << 10));
    crowd.check_that_appends_are_taken();
}

/// The file of a journal that could not be renamed stood in the way of the next one, and the store failed for good.
#[test]
fn a_journal_that_gets_no_name_for_want_of_space_is_made_later() {
    let mut crowd = Crowd::new(Durability::Durable);
    let (id, create) = crowd.author.create("a");
    assert_eq!(crowd.commit(&[create]), [Outcome::Durable]);
    let append = crowd.author.append(id, Body::one(vec![7; 12 << 10]));
    assert_eq!(crowd.commit(&[append]), [Outcome::Durable]);
    for again in [false, true] {
        let append = crowd.author.clone().append(id, Body::one(vec![8; 12 << 10]));
        crowd.disk.refuse_rename(1);
        assert_eq!(crowd.commit(&[append]), [Outcome::Full], "again: {again}");
    }
    let append = crowd.author.append(id, Body::one(vec![8; 12 << 10]));
    assert_eq!(crowd.commit(&[append]), [Outcome::Durable]);
}

/// The file of a folded journal that could not be written again was forgotten, and took its space for good.
#[test]
fn a_used_journal_that_cannot_be_made_anew_for_want_of_space_is_removed() {
    let mut crowd = Crowd::new(Durability::Durable);
    let (id, create) = crowd.author.create("a");
    assert_eq!(crowd.commit(&[create]), [Outcome::Durable]);
    for _ in 0..4 {
        let append = crowd.author.append(id, Body::one(vec![7; 8 << 10]));
        assert_eq!(crowd.commit(&[append]), [Outcome::Durable]);
    }
    crowd.compact();
    let before = crowd.journals();
    assert!(before > 1, "some are to be used again");
    let append = crowd.author.clone().append(id, Body::one(vec![7; 8 << 10]));
    crowd.disk.refuse_write(1);
    assert_eq!(crowd.commit(std::slice::from_ref(&append)), [Outcome::Full]);
    assert_eq!(crowd.journals(), before - 1);
    assert_eq!(crowd.commit(&[append]), [Outcome::Durable]);
}
