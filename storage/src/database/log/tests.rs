//! What is read of a log, whatever a crash has left of it, and what its readers see.

use std::path::Path;

use super::*;
use crate::disk::Disk as _;
use crate::disk::memory::MemoryDisk;

/// redb's file is longer than any log of these tests.
const LEN: u64 = BYTES_MAX;

fn image(count: u64) -> Image {
    Image {
        count,
        bytes: [count as u8; HEADER_BYTES],
    }
}

fn page(byte: u8) -> [u8; PAGE] {
    [byte; PAGE]
}

/// Nothing is to be placed.
fn stays(_: u64, _: &[u8]) -> io::Result<()> {
    panic!("it fits in");
}

/// A log behind a header with this count, and its file.
fn log_behind(count: u64) -> (Log, Arc<dyn DiskFile>, MemoryDisk) {
    let disk = MemoryDisk::new();
    let file = disk.create(Path::new("log")).expect("made");
    let log = Log::over(Arc::clone(&file), BYTES_MAX).expect("it has a length");
    log.begin(count);
    (log, file, disk)
}

/// Puts a record of a few pages, all of which say its count.
fn put(log: &Log, count: u64, pages: Range<u64>) {
    for number in pages {
        log.keep(number, &page(count as u8), &stays).expect("kept");
    }
    let is_put = log.put(&image(count), LEN, |_| Ok(())).expect("written");
    assert!(is_put, "record {count}");
}

/// The counts of the records that a log has, and the last that is said of each page.
fn said(file: &dyn DiskFile) -> (Vec<u64>, std::collections::BTreeMap<u64, u8>) {
    let Some(said) = read(file).expect("readable") else {
        return Default::default();
    };
    let counts = said.records().map(|record| record.image.count).collect();
    let pages = said.records().flat_map(|record| {
        let pages: Vec<_> = record.pages().map(|(number, page)| (number, page[0])).collect();
        pages
    });
    (counts, pages.collect())
}

#[test]
fn records_are_read_as_they_were_put() {
    let (log, file, _) = log_behind(7);
    assert_eq!(said(file.as_ref()), Default::default());
    put(&log, 9, 3..6);
    put(&log, 10, 0..0);
    put(&log, 12, 5..7);
    let pages = [(3, 9), (4, 9), (5, 12), (6, 12)];
    assert_eq!(said(file.as_ref()), (vec![9, 10, 12], pages.into()));
}

#[test]
fn what_an_older_lap_has_left_behind_the_newest_record_counts_for_nothing() {
    for cut in 1..4 {
        let (log, file, _) = log_behind(1);
        (2..8).for_each(|count| put(&log, count, 0..3));
        log.begin(7);
        // As long as an old record, or as one and a half.
        put(&log, 8, 0..3 * cut);
        let read = read(file.as_ref()).expect("readable").expect("there is one");
        let counts: Vec<_> = read.records().map(|record| record.image.count).collect();
        assert_eq!(counts, [8]);
        assert!(!read.has_record_behind(8));
    }
}

/// A new first record may be torn so that only its end is there, over old ones that are whole.
#[test]
fn a_torn_first_record_leaves_older_ones_that_lead_nowhere() {
    let (log, file, disk) = log_behind(1);
    put(&log, 2, 0..1);
    (3..8).for_each(|count| put(&log, count, 0..3));
    let before = file.len().expect("a length");
    let mut old = vec![0; before as usize];
    file.read_at(0, &mut old).expect("read");
    log.begin(7);
    put(&log, 8, 0..6);
    disk.tamper(Path::new("log"), |bytes| {
        let torn = 4 * PAGE;
        bytes[..torn].copy_from_slice(&old[..torn]);
    });
    let (counts, _) = said(file.as_ref());
    assert!(counts.iter().all(|count| *count < 7), "{counts:?}");
    let read = read(file.as_ref()).expect("readable").expect("there is one");
    assert!(!read.has_record_behind(7));
}

#[test]
fn a_record_that_is_missing_before_a_later_one_is_noticed() {
    let (log, file, disk) = log_behind(1);
    (2..8).for_each(|count| put(&log, count, 0..3));
    disk.tamper(Path::new("log"), |bytes| bytes[9 * PAGE] ^= 1);
    let read = read(file.as_ref()).expect("readable").expect("there is one");
    let counts: Vec<_> = read.records().map(|record| record.image.count).collect();
    assert_eq!(counts, [2, 3]);
    assert!(read.has_record_behind(3));
}

/// Users choose what stands in pages, and may have seen a log.
#[test]
fn a_page_that_looks_like_a_record_is_none() {
    let (log, file, _) = log_behind(100);
    put(&log, 101, 0..1);
    let mut forged = vec![0; 2 * PAGE];
    file.read_at(RECORDS_AT, &mut forged).expect("read");

    let (log, file, _) = log_behind(1);
    for (number, page) in (0..).zip(forged.chunks_exact(PAGE)) {
        log.keep(number, page, &stays).expect("kept");
    }
    assert!(log.put(&image(2), LEN, |_| Ok(())).expect("written"));
    let read = read(file.as_ref()).expect("readable").expect("there is one");
    assert!(!read.has_record_behind(2), "it is told another salt");
}

#[test]
fn readers_see_what_was_kept_put_and_placed() {
    let (log, _, _) = log_behind(1);
    let show = |number: u64| {
        let newer = log.newer(number, 1).expect("readable");
        newer.first().map_or(0, |(_, page)| page[0])
    };
    log.keep(5, &page(50), &stays).expect("kept");
    assert_eq!((show(4), show(5)), (0, 50));
    assert!(
        log.put(&image(2), LEN, |_| {
            assert_eq!(show(5), 50, "while it is synced");
            Ok(())
        })
        .expect("written")
    );
    assert_eq!(show(5), 50);
    log.keep(5, &page(51), &stays).expect("kept");
    assert_eq!(show(5), 51);
    let placed = Mutex::new(Vec::new());
    log.keep(6, &page(60), &stays).expect("kept");
    log.place_all(&|first, pages| {
        placed.lock().push((first, pages.len() / PAGE, pages[0]));
        Ok(())
    })
    .expect("placed");
    assert_eq!(placed.into_inner(), [(5, 2, 51)]);
    log.begin(3);
    assert_eq!((show(5), show(6)), (0, 0), "they are in their places");
}

#[test]
fn what_is_too_long_for_a_record_is_placed_and_what_was_kept_for_it_later() {
    let (log, file, _) = log_behind(1);
    put(&log, 2, 0..2);
    let placed = Mutex::new(Vec::new());
    let place = |first: u64, pages: &[u8]| {
        placed.lock().push((first, pages.len() / PAGE));
        Ok(())
    };
    log.keep(1, &page(7), &place).expect("kept");
    let long = vec![8; RECORD_BYTES_MAX];
    log.keep(10, &long, &place).expect("placed");
    log.keep(3, &page(9), &place).expect("placed");
    assert_eq!(*placed.lock(), [(10, RECORD_BYTES_MAX / PAGE), (3, 1)]);
    assert!(!log.put(&image(3), LEN, |_| Ok(())).expect("nothing is written"));
    placed.lock().clear();
    log.place_all(&place).expect("placed");
    assert_eq!(
        *placed.lock(),
        [(0, 2)],
        "what was kept before stays in memory until then"
    );
    assert_eq!(said(file.as_ref()).0, [2]);
}

#[test]
fn a_log_that_is_full_takes_nothing_until_it_is_begun_again() {
    let (log, _, _) = log_behind(1);
    let mut count = 1;
    loop {
        log.keep(0, &page(1), &stays).expect("kept");
        count += 1;
        if !log.put(&image(count), 1, |_| Ok(())).expect("written") {
            break;
        }
    }
    assert_eq!(count, 1 + BYTES_MIN / PAGE as u64 / 2);
    log.begin(count);
    put(&log, count + 1, 0..1);
}

/// redb has let go of what it has handed over, and passes over errors at times.
#[test]
fn what_was_kept_outlives_a_write_that_fails() {
    let (log, _, _) = log_behind(1);
    log.keep(1, &page(7), &stays).expect("kept");
    let long = vec![8; RECORD_BYTES_MAX];
    log.keep(10, &long, &|_, _| Err(io::ErrorKind::StorageFull.into()))
        .expect_err("there is no space");
    let newer = log.newer(1, 1).expect("readable");
    assert_eq!(newer, [(1, page(7).to_vec())]);
    assert!(!log.put(&image(2), LEN, |_| Ok(())).expect("nothing is written"));
}

#[test]
fn pages_that_were_cut_off_are_not_placed() {
    let (log, _, _) = log_behind(1);
    put(&log, 2, 30..34);
    log.keep(31, &page(7), &stays).expect("kept");
    log.keep(60, &page(7), &stays).expect("kept");
    log.cut(32);
    let placed = Mutex::new(Vec::new());
    let place = |first: u64, pages: &[u8]| {
        placed.lock().push((first, pages.len() / PAGE));
        Ok(())
    };
    log.keep(100, &vec![8; RECORD_BYTES_MAX], &place).expect("placed");
    log.place_all(&place).expect("placed");
    assert_eq!(*placed.lock(), [(100, RECORD_BYTES_MAX / PAGE), (30, 2)]);
}
