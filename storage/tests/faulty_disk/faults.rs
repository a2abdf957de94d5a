//! What fails while the process runs.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tailwater_storage::disk::Disk;

use crate::support::faulty_disk::FaultyDisk;
use crate::{DIR, SEEDS, assert_outcomes, content, disk, durable_file, path};

const SECTOR: usize = 512;

fn is_stop<T>(result: io::Result<T>) -> bool {
    let error = result.err().expect("the machine has stopped");
    error.kind() == ErrorKind::Other && error.to_string() == "the machine has stopped"
}

fn is_io_error(result: io::Result<()>) -> bool {
    result.expect_err("it fails").raw_os_error() == Some(libc::EIO)
}

/// One of each mutating operation. Answers how many succeeded.
fn workload(disk: &FaultyDisk) -> usize {
    let dir = Path::new(DIR);
    let Ok(file) = disk.create(&path("a")) else {
        return 0;
    };
    let steps: [&dyn Fn() -> io::Result<()>; 9] = [
        &|| file.write_at(0, b"content"),
        &|| file.set_len(3),
        &|| file.sync(),
        &|| disk.rename(&path("a"), &path("b")),
        &|| disk.link(&path("b"), &path("c")),
        &|| disk.remove(&path("b")),
        &|| disk.make_dir(&path("sub")),
        &|| disk.sync_dir(dir),
        &|| file.write_at(3, b"more"),
    ];
    let results = steps.map(|step| step());
    let done = results.iter().take_while(|result| result.is_ok()).count();
    assert!(
        results.into_iter().skip(done).all(is_stop),
        "after a stop all fails"
    );
    done + 1
}

#[test]
fn the_machine_stops_at_every_operation() {
    let all = disk(1);
    let before = all.operations();
    assert_eq!(workload(&all), 10);
    assert_eq!(all.operations(), before + 10, "each counts as one");
    for operation in before + 1..=before + 10 {
        let disk = disk(1);
        disk.cut_at(operation);
        assert_eq!(workload(&disk) as u64, operation - before - 1);
        assert_eq!(disk.operations(), operation - 1);
    }
}

#[test]
fn nothing_is_done_after_the_machine_has_stopped() {
    let disk = disk(1);
    let file = durable_file(&disk, "file", b"content");
    let map = file.map(7).expect("mapped");
    disk.cut_at(disk.operations() + 1);
    assert_eq!(file.len().expect("it still runs"), 7);
    assert!(is_stop(file.sync()));
    assert!(is_stop(file.len()));
    assert!(is_stop(file.links()));
    assert!(is_stop(file.read_at(0, &mut [0])));
    assert!(is_stop(file.write_at(0, b"x")));
    assert!(is_stop(file.map(7)));
    assert!(is_stop(map.populate(0..7)));
    assert!(is_stop(disk.open(&path("file"))));
    assert!(is_stop(disk.open_sealed(&path("file"))));
    assert!(is_stop(disk.create(&path("other"))));
    assert!(is_stop(disk.list(Path::new(DIR))));
    assert!(is_stop(disk.free_bytes(Path::new(DIR))));
    assert_eq!(content(&disk, "file").expect("it is there"), b"content");
    let restarted = disk.crash_process();
    restarted
        .open(&path("file"))
        .and_then(|file| file.sync())
        .expect("the new process is not stopped");
}

#[test]
fn the_write_at_the_stop_is_torn_between_sectors() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", &[1; 3 * SECTOR]);
        disk.cut_at(disk.operations() + 1);
        assert!(is_stop(file.write_at(100, &[2; 2 * SECTOR])));
        let content = content(&disk.crash_process(), "file").expect("it is durable");
        let written = content.iter().filter(|byte| **byte == 2).count();
        assert!(
            content[100..100 + written].iter().all(|byte| *byte == 2),
            "a prefix"
        );
        written
    };
    assert_outcomes(outcome, [0, SECTOR - 100, 2 * SECTOR - 100, 2 * SECTOR]);
}

#[test]
fn a_failed_sync_loses_what_it_should_have_made_durable_although_reads_show_it() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", b"old...");
        disk.fail_sync(2);
        file.sync().expect("the second one fails");
        file.write_at(0, b"new").expect("written");
        assert!(is_io_error(file.sync()));
        file.sync().expect("as if nothing had been");
        file.write_at(3, b"+++").expect("written");
        file.sync().expect("this is not the data that was lost");
        assert_eq!(content(&disk, "file").expect("it is there"), b"new+++");
        let restarted = disk.crash_process();
        assert_eq!(content(&restarted, "file").expect("it is there"), b"new+++");
        let crashed = restarted.crash_machine();
        assert_eq!(content(&crashed, "file").expect("it is durable"), b"old+++");
    }
}

#[test]
fn a_failed_write_leaves_any_number_of_sectors() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", b"");
        disk.fail_write(2);
        file.write_at(0, &[1; SECTOR]).expect("the second one fails");
        assert!(is_io_error(file.write_at(SECTOR as u64, &[2; 2 * SECTOR])));
        let len = file.len().expect("told") as usize;
        file.write_at(0, &[3; SECTOR]).expect("only one fails");
        len / SECTOR
    };
    assert_outcomes(outcome, [1, 2, 3]);
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let disk = disk(1);
    let dir = Path::new(DIR);
    let file = durable_file(&disk, "file", &[1; 1000]);
    assert!(disk.free_bytes(dir).expect("told") > 1 << 30);
    disk.set_free_bytes(Some(600));
    let full = file.write_at(900, &[2; 1000]).expect_err("it is full");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    // Of the write, the sectors are there that had room.
    assert_eq!(file.len().expect("told"), 1536);
    assert_eq!(disk.free_bytes(dir).expect("told"), 64);
    file.write_at(0, &[3; 1536]).expect("it does not grow");
    file.write_at(1536, &[3; 64]).expect("there is just so much room");
    let full = file.set_len(1601).expect_err("it is full");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    file.sync().expect("it takes no more room");
    let crashed = disk.crash_machine();
    assert_eq!(crashed.free_bytes(dir).expect("told"), 0, "it stays full");
}

#[test]
fn space_comes_back_when_nobody_uses_it() {
    let disk = disk(1);
    let dir = Path::new(DIR);
    let file = durable_file(&disk, "file", &[1; 1000]);
    disk.set_free_bytes(Some(0));
    file.set_len(900).expect("it shrinks");
    assert_eq!(disk.free_bytes(dir).expect("told"), 100);
    let map = file.map(900).expect("mapped");
    disk.remove(&path("file")).expect("removed");
    drop(file);
    assert_eq!(disk.free_bytes(dir).expect("told"), 100, "the map keeps it");
    drop(map);
    assert_eq!(disk.free_bytes(dir).expect("told"), 1000);
    disk.set_free_bytes(None);
    durable_file(&disk, "other", &[1; 5000]);
}

#[test]
fn a_flipped_bit_is_seen_now_and_after_every_crash() {
    let disk = disk(1);
    let file = durable_file(&disk, "file", &[0; 10]);
    disk.flip_bit(&path("file"), 3);
    let flipped = content(&disk, "file").expect("it is there");
    let bits = flipped.iter().map(|byte| byte.count_ones());
    assert_eq!(bits.collect::<Vec<_>>(), [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(content(&disk.crash_machine(), "file"), Some(flipped));
    file.write_at(10, &[0; 10]).expect("written");
    disk.flip_bit(&path("file"), 15);
    let seen = content(&disk, "file");
    file.sync().expect("synced");
    assert_eq!(content(&disk.crash_machine(), "file"), seen);
}

#[test]
fn a_cold_disk_has_nothing_resident_until_it_is_populated() {
    let disk = disk(1);
    let file = durable_file(&disk, "file", &[1; 20_000]);
    let map = file.map(20_000).expect("mapped");
    assert!(map.is_resident(0..20_000));
    disk.set_cold(true);
    assert!(!map.is_resident(100..101));
    assert!(map.is_resident(100..100));
    map.populate(4095..8193).expect("populated");
    assert!(map.is_resident(0..3 * 4096));
    assert!(!map.is_resident(0..3 * 4096 + 1));
    let other = file.map(8192).expect("mapped");
    assert!(other.is_resident(0..8192), "pages are the file's, not the map's");
    let crashed = disk.crash_machine();
    let file = crashed.open(&path("file")).expect("opened");
    assert!(!file.map(100).expect("mapped").is_resident(0..100));
    crashed.set_cold(false);
    assert!(file.map(100).expect("mapped").is_resident(0..100));
}

#[test]
fn handles_and_maps_keep_a_file_that_lost_its_name() {
    let disk = disk(1);
    let file = durable_file(&disk, "file", b"content");
    let map = file.map(7).expect("mapped");
    durable_file(&disk, "other", b"other");
    disk.rename(&path("other"), &path("file")).expect("renamed");
    disk.sync_dir(Path::new(DIR)).expect("synced");
    assert_eq!(file.links().expect("told"), 0);
    file.write_at(0, b"CON").expect("written");
    assert_eq!(Arc::clone(&map).bytes(0..7), &b"CONtent"[..]);
    assert_eq!(content(&disk, "file").expect("it is there"), b"other");
    assert_eq!(disk.files(), [path("file")]);
}

#[test]
fn links_counts_names() {
    let disk = disk(1);
    let file = durable_file(&disk, "one", b"");
    disk.link(&path("one"), &path("two")).expect("linked");
    assert_eq!(file.links().expect("told"), 2);
    disk.remove(&path("one")).expect("removed");
    assert_eq!(file.links().expect("told"), 1);
}

#[test]
fn a_map_whose_file_was_cut_off_ends_as_by_sigbus() {
    let disk = disk(1);
    let file = durable_file(&disk, "file", &[1; 100]);
    let map = file.map(100).expect("mapped");
    file.set_len(50).expect("cut off");
    map.look(0..50, &mut |bytes| assert_eq!(bytes, [1; 50]));
    map.populate(0..51).expect_err("there is nothing to read");
    assert!(catch_unwind(AssertUnwindSafe(|| map.look(0..51, &mut |_| ()))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| map.look(100..101, &mut |_| ()))).is_err());
}

#[test]
fn a_read_fails_once_and_changes_nothing() {
    let disk = disk(1);
    let file = durable_file(&disk, "file", b"content");
    disk.fail_read(2);
    let mut read = [0; 7];
    file.read_at(0, &mut read).expect("the first one succeeds");
    let error = file.read_at(0, &mut read).expect_err("the second one fails");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    file.read_at(0, &mut read).expect("the third one succeeds");
    assert_eq!(&read, b"content");
}
