//! A check finds what was planted in the bytes of the files. What rows may say wrongly is planted beside `verify.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use tailwater_storage::disk::Disk as _;

use super::shop::{Model, Shop, check, checked, shard_files};
use crate::support::ask::run;
use crate::support::faulty_disk::FaultyDisk;

const PAGE_BYTES: usize = 4096;
/// Of so many bytes that stand together one is flipped.
const STRIDE: usize = 151;

/// A store that has lived for a while, so that old pages lie about in it.
fn some_store(seed: u64) -> Shop {
    let mut shop = Shop::new(seed);
    run(async {
        for name in ["a", "b", "c", "d"] {
            assert!(shop.create(name, None).await);
            for number in 0..5 {
                let more = format!("number {number} of {name}; ").repeat(number * 20 + 1);
                assert!(shop.append(name, &more).await);
            }
        }
        assert!(shop.append("a", &"long".repeat(25_000)).await);
        assert!(shop.create("gone", None).await);
        assert!(shop.append("gone", &"dead".repeat(5_000)).await);
        shop.delete("gone").await;
        assert!(shop.create("fork", Some("a")).await);
    });
    shop
}

/// The numbers of those pages of a file that are not all zeros.
fn written_pages(bytes: &[u8]) -> Vec<usize> {
    let pages = bytes.chunks(PAGE_BYTES).enumerate();
    let written = pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    written.map(|(number, _)| number).collect()
}

/// Flips a bit of the byte, and asserts that a check finds it or that it says nothing. Answers whether it was found.
fn flip((disk, model): &(Arc<FaultyDisk>, Model), path: &Path, at: usize) -> bool {
    let disk = disk.crash_process();
    disk.flip_bit(path, at as u64);
    let report = check(&disk);
    if !report.is_clean() {
        let named = |what: &String| what.contains(&path.display().to_string());
        assert!(report.damage.iter().any(named), "byte {at}: {:?}", report.damage);
        return true;
    }
    // Old pages, and the header that does not count.
    model.assert_is_in(&disk);
    false
}

#[test]
fn a_flipped_bit_anywhere_in_a_shard_is_found_or_says_nothing() {
    let whole = some_store(1).stop();
    checked(&whole.0);
    let (mut found, mut harmless) = (0, 0);
    for path in shard_files(&whole.0) {
        let bytes = whole.0.read_file(&path);
        for page in written_pages(&bytes) {
            for at in (page * PAGE_BYTES..(page + 1) * PAGE_BYTES).step_by(STRIDE) {
                match flip(&whole, &path, at) {
                    true => found += 1,
                    false => harmless += 1,
                }
            }
        }
    }
    println!("{found} were found, {harmless} said nothing");
    assert!(found > 1000, "{found} were found, {harmless} said nothing");
}

/// The bytes of an append are in no page that says nothing.
#[test]
fn a_flipped_bit_of_what_was_appended_is_found() {
    let whole = some_store(2).stop();
    let mut rng = Rng::with_seed(2);
    let mut hurt = 0;
    for path in shard_files(&whole.0) {
        let bytes = whole.0.read_file(&path);
        let places: Vec<_> = bytes
            .windows(16)
            .enumerate()
            .filter(|(_, bytes)| *bytes == b"longlonglonglong")
            .map(|(at, _)| at)
            .collect();
        for _ in 0..places.len().min(100) {
            let at = places[rng.usize(..places.len())];
            assert!(flip(&whole, &path, at + 5), "byte {at} of {}", path.display());
            hurt += 1;
        }
    }
    assert!(hurt > 50, "{hurt} bytes");
}

#[test]
fn damage_of_several_shards_is_told_of_at_once() {
    let (disk, _) = some_store(3).stop();
    let mut hurt: Vec<PathBuf> = Vec::new();
    for path in shard_files(&disk) {
        let bytes = disk.read_file(&path);
        let needle = b"number 3 of";
        let Some(at) = bytes.windows(needle.len()).position(|bytes| bytes == needle) else {
            continue;
        };
        // A copy of it may stand in an old page.
        for (at, _) in bytes
            .windows(needle.len())
            .enumerate()
            .skip(at)
            .filter(|(_, bytes)| *bytes == needle)
        {
            disk.flip_bit(&path, at as u64);
        }
        hurt.push(path);
    }
    assert!(hurt.len() > 1, "{hurt:?}");
    let report = check(&disk);
    assert_eq!(report.damage.len(), hurt.len(), "{:?}", report.damage);
    for path in &hurt {
        let named = |what: &String| what.contains(&path.display().to_string());
        assert!(report.damage.iter().any(named), "{:?}", report.damage);
    }
    assert_eq!(report.shards, 4);
}

#[test]
fn a_shard_that_is_missing_or_too_short_is_found() {
    let (whole, _) = some_store(4).stop();
    for path in shard_files(&whole) {
        let len = whole.read_file(&path).len() as u64;
        for kept in [0, 1, 4096, len / 2 / 4096 * 4096, len - 4096, len - 1] {
            let disk = whole.crash_process();
            let file = disk.open(&path).expect("it is there");
            file.set_len(kept).expect("cut off");
            drop(file);
            let report = check(&disk);
            let named = |what: &String| what.contains(&path.display().to_string());
            assert!(
                report.damage.iter().any(named),
                "{kept} bytes: {:?}",
                report.damage
            );
        }
    }
}

/// A disk that says that it has written a page, and has not, leaves the page that was there, with the checksum that it
/// had. What refers to it says another one.
#[test]
fn a_page_that_was_never_written_is_found() {
    let (disk, model) = some_store(6).stop();
    let old = disk.crash_process();
    let mut shop = Shop::on(disk, Rng::with_seed(6), model);
    run(async {
        for name in ["a", "b", "c", "d"] {
            for _ in 0..4 {
                assert!(shop.append(name, &"more ".repeat(500)).await);
            }
        }
    });
    let whole = shop.stop();
    let mut found = 0;
    for path in shard_files(&whole.0) {
        let [before, after] = [&old, &whole.0].map(|disk| disk.read_file(&path));
        // Behind the header and the checksums of all pages that there are, but for redb's own header.
        let pages = 4..(before.len().min(after.len()) / PAGE_BYTES).min(1027);
        for page in pages {
            let at = page * PAGE_BYTES;
            let crc_at = 2 * PAGE_BYTES + (page - 3) * 4;
            let lost = &before[at..at + PAGE_BYTES];
            if lost == &after[at..at + PAGE_BYTES] || lost.iter().all(|byte| *byte == 0) {
                continue;
            }
            let disk = whole.0.crash_process();
            let file = disk.open(&path).expect("it is there");
            file.write_at(at as u64, lost).expect("written");
            file.write_at(crc_at as u64, &before[crc_at..crc_at + 4])
                .expect("written");
            drop(file);
            if check(&disk).is_clean() {
                whole.1.assert_is_in(&disk);
            } else {
                found += 1;
            }
        }
    }
    assert!(found > 10, "{found} pages");
}

/// The logs of shards, as they are beside them.
fn log_files(disk: &FaultyDisk) -> Vec<PathBuf> {
    let files = shard_files(disk).into_iter();
    files.map(|path| path.with_extension("log")).collect()
}

/// A store of which much is in logs, without what its shards have been told before the last append, and with it.
fn logged(seed: u64) -> (Shop, Model, Vec<Vec<u8>>) {
    let mut shop = some_store(seed);
    let before = shop.model.clone();
    let logs = log_files(&shop.disk);
    let logs = logs.iter().map(|path| shop.disk.read_file(path)).collect();
    run(async {
        assert!(shop.append("b", "the very last").await);
    });
    (shop, before, logs)
}

/// A record that is not as it was written, and the last one of its log, looks like a write that a crash has torn: the store
/// goes back by that commit, and by no other.
#[test]
fn what_damage_of_the_last_commit_takes_is_that_commit_alone() {
    let mut rng = Rng::with_seed(5);
    let mut lost = 0;
    for seed in 0..4 {
        let (shop, before, logs) = logged(50 + seed);
        let after = shop.model.clone();
        for (path, before_bytes) in log_files(&shop.disk).iter().zip(&logs) {
            let bytes = shop.disk.read_file(path);
            let changed: Vec<_> = (0..bytes.len())
                .filter(|at| before_bytes.get(*at) != Some(&bytes[*at]))
                .filter(|at| bytes[*at] != 0)
                .collect();
            for _ in 0..changed.len().min(40) {
                let disk = shop.disk.crash_process();
                disk.flip_bit(path, changed[rng.usize(..changed.len())] as u64);
                // A commit with two syncs is two records, and the first one is not torn.
                if !check(&disk).is_clean() {
                    continue;
                }
                if after.difference(&disk.crash_process()).is_some() {
                    before.assert_is_in(&disk);
                    lost += 1;
                }
            }
        }
        shop.stop();
    }
    assert!(lost > 0, "it cannot be told");
}

/// Each record was durable before the next one.
#[test]
fn a_flipped_bit_in_a_log_before_its_last_record_is_found() {
    let mut rng = Rng::with_seed(6);
    let mut found = 0;
    for seed in 0..4 {
        let (shop, _, logs) = logged(60 + seed);
        for (path, before_bytes) in log_files(&shop.disk).iter().zip(&logs) {
            if *before_bytes == shop.disk.read_file(path) {
                // It has no later record.
                continue;
            }
            let said: Vec<_> = (0..before_bytes.len())
                .filter(|at| before_bytes[*at] != 0)
                .collect();
            for _ in 0..40 {
                let disk = shop.disk.crash_process();
                let at = said[rng.usize(..said.len())];
                disk.flip_bit(path, at as u64);
                let report = check(&disk);
                let named = |what: &String| what.contains("its log is damaged");
                assert!(report.damage.iter().any(named), "byte {at}: {:?}", report.damage);
                found += 1;
            }
        }
        shop.stop();
    }
    assert!(found > 100, "{found} bits");
}
