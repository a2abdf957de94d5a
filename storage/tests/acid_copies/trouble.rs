//! Copies that do not come about leave no store, and do the original no harm.

use std::path::Path;

use tailwater_storage::Backend as _;
use tailwater_storage::OpenError;
use tailwater_storage::acid::{self, BackupError};
use tailwater_storage::disk::Disk as _;

use super::shop::{DIR, Shop, open, options, try_open};
use crate::sameness::{assert_holds, in_new_era};

fn some_shop(seed: u64) -> Shop {
    Shop::aged(seed, 30).reshard(2).0
}

#[test]
fn a_copy_that_was_interrupted_is_no_store() {
    let Shop {
        disk, store, model, ..
    } = some_shop(2);
    drop(store);
    let (mut refused, mut whole) = (0, 0);
    for operation in 1.. {
        let disk = disk.crash_process();
        let store = open(&disk, DIR, 2);
        disk.cut_at(disk.operations() + operation);
        let result = store.backup(Path::new("/copy"));
        assert_eq!(result.is_err(), disk.has_stopped());
        for disk in [disk.crash_process(), disk.crash_machine()] {
            let is_begun = disk.files().iter().any(|path| path.starts_with("/copy"));
            if disk.files().contains(&"/copy/STORE".into()) {
                whole += 1;
                let copy = open(&disk, "/copy", 2);
                assert_holds(&copy, &in_new_era(&model, &copy));
            } else if is_begun {
                refused += 1;
                let opened = try_open(&disk, "/copy", 2).err();
                assert!(
                    matches!(opened, Some(OpenError::NotAStore { .. })),
                    "interrupted at operation {operation}: {opened:?}"
                );
            }
            assert_holds(&open(&disk, DIR, 2), &model);
        }
        if result.is_ok() {
            // What was reported to be there survives everything.
            assert!(disk.crash_machine().files().contains(&"/copy/STORE".into()));
            break;
        }
    }
    assert!(refused > 20 && whole > 1, "{refused} {whole}");
}

#[test]
fn a_copy_needs_an_empty_place_outside_of_the_store() {
    let above = tempfile::tempdir().expect("a directory");
    let dir = above.path().join("store");
    let store = acid::open(&options(&dir, 2)).expect("a new store");
    for inside in [dir.clone(), dir.join("copy"), dir.join("acid/copy")] {
        let refused = store.backup(&inside);
        assert!(
            matches!(refused, Err(BackupError::Inside { .. })),
            "{inside:?}: {refused:?}"
        );
    }
    let used = above.path().join("used");
    std::fs::create_dir(&used).expect("made");
    std::fs::write(used.join("notes"), "mine").expect("written");
    let refused = store.backup(&used);
    assert!(matches!(refused, Err(BackupError::NotEmpty { found, .. }) if found == "notes"));
    assert_eq!(std::fs::read_dir(&used).expect("it is there").count(), 1);
    let volume = above.path().join("volume");
    std::fs::create_dir_all(volume.join("lost+found")).expect("made");
    store.backup(&volume).expect("the root of a file system is empty");
    assert!(matches!(store.backup(&volume), Err(BackupError::NotEmpty { .. })));
    drop(acid::open(&options(&volume, 2)).expect("a store"));
}

#[test]
fn a_full_disk_ends_a_copy_and_not_the_store() {
    for free in [0, 10_000, 1_000_000] {
        let mut shop = Shop::aged(3, 60);
        shop.disk.set_free_bytes(Some(free));
        let refused = shop.store.backup(Path::new("/copy"));
        assert!(refused.is_err(), "{free}: {refused:?}");
        assert!(!shop.disk.files().contains(&"/copy/STORE".into()));
        shop.disk.set_free_bytes(None);
        shop.commit();
        let again = shop.store.backup(Path::new("/another"));
        again.expect("there is space again");
        let copy = open(&shop.disk, "/another", 1);
        assert_holds(&copy, &in_new_era(&shop.model, &copy));
    }
}

#[test]
fn a_store_that_stops_makes_no_copy() {
    let shop = some_shop(4);
    shop.store.stop().expect("there is nothing to do");
    let refused = shop.store.backup(Path::new("/copy"));
    assert!(matches!(refused, Err(BackupError::Stopping)), "{refused:?}");
    let names = shop.disk.list(Path::new("/copy")).expect("a directory");
    assert!(!names.contains(&"STORE".to_owned()));
}
