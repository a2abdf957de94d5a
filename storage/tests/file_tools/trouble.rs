//! Copies that do not come about leave no store, and do the original no harm.

use std::path::Path;

use tailwater_storage::Backend;
use tailwater_storage::OpenError;
use tailwater_storage::disk::Disk;
use tailwater_storage::file::{self, BackupError, Durability, verify};

use super::shop::{Shop, open, options, try_open};
use crate::author::Author;
use crate::sameness::{assert_holds, in_new_era};

fn some_shop(seed: u64) -> Shop {
    let mut shop = Shop::new(seed, Durability::Durable);
    for _ in 0..25 {
        shop.step();
    }
    shop.compact();
    for _ in 0..3 {
        shop.commit();
    }
    shop
}

#[test]
fn a_copy_that_was_interrupted_is_no_store() {
    let copy = Path::new("/copy");
    let (mut refused, mut whole) = (0, 0);
    for operation in 1.. {
        let shop = some_shop(2);
        shop.disk.cut_at(shop.disk.operations() + operation);
        let result = shop.store.backup(copy);
        assert_eq!(result.is_err(), shop.disk.has_stopped());
        for disk in [shop.disk.crash_process(), shop.disk.crash_machine()] {
            let is_begun = disk.files().iter().any(|path| path.starts_with(copy));
            if disk.files().contains(&copy.join("STORE")) {
                whole += 1;
                let report = verify(disk.as_ref(), copy).expect("a store");
                assert_eq!(report.damage, [""; 0]);
                let copy = open(&disk, copy, Durability::Durable);
                assert_holds(&copy, &in_new_era(&shop.model, &copy));
            } else if is_begun {
                refused += 1;
                let opened = try_open(&disk, copy, Durability::Durable);
                assert!(
                    matches!(opened, Err(OpenError::NotAStore { .. })),
                    "interrupted at operation {operation}"
                );
            }
            assert_holds(&open(&disk, Path::new("/data"), Durability::Durable), &shop.model);
        }
        if result.is_ok() {
            // What was reported to be there survives everything.
            assert!(shop.disk.crash_machine().files().contains(&copy.join("STORE")));
            break;
        }
    }
    assert!(refused > 20 && whole > 1, "{refused} {whole}");
}

#[test]
fn a_copy_needs_an_empty_place_outside_of_the_store() {
    let above = tempfile::tempdir().expect("a directory");
    let dir = above.path().join("store");
    let store = file::open(options(&dir, Durability::Durable)).expect("a new store");
    Author::default().stream_of(&store, "a", &["one"]);
    std::os::unix::fs::symlink(&dir, above.path().join("alias")).expect("a link");
    for inside in [
        dir.clone(),
        dir.join("copy"),
        dir.join("deep/copy"),
        above.path().join("alias/copy"),
        above.path().join("other/../store/copy"),
    ] {
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
    let refused = store.backup(&used.join("notes"));
    assert!(matches!(refused, Err(BackupError::Directory(_))), "{refused:?}");

    let [empty, volume] = ["empty", "volume"].map(|name| above.path().join(name));
    std::fs::create_dir(&empty).expect("made");
    store.backup(&empty).expect("an empty directory is fine");
    assert!(matches!(store.backup(&empty), Err(BackupError::NotEmpty { .. })));
    std::fs::create_dir_all(volume.join("lost+found")).expect("made");
    store.backup(&volume).expect("so is the root of a file system");
}

#[test]
fn a_full_disk_ends_a_copy_and_not_the_store() {
    for free in [0, 10_000, 100_000, 300_000] {
        let mut shop = some_shop(3);
        shop.compact();
        shop.disk.set_free_bytes(Some(free));
        let refused = shop.store.backup(Path::new("/copy"));
        assert!(
            matches!(refused, Err(BackupError::Backend(_))),
            "{free}: {refused:?}"
        );
        assert!(!shop.disk.files().contains(&Path::new("/copy/STORE").to_owned()));
        shop.disk.set_free_bytes(None);
        assert!(shop.store.failure().is_none());
        shop.commit();
        shop.store
            .backup(Path::new("/another"))
            .expect("there is space again");
        let copy = open(&shop.disk, Path::new("/another"), Durability::Durable);
        assert_holds(&copy, &in_new_era(&shop.model, &copy));
    }
}

#[test]
fn a_store_that_stops_makes_no_copy() {
    let shop = some_shop(4);
    shop.store.stop().expect("the disk works");
    let refused = shop.store.backup(Path::new("/copy"));
    assert!(matches!(refused, Err(BackupError::Stopping)), "{refused:?}");
    assert!(
        shop.disk
            .list(Path::new("/copy"))
            .is_ok_and(|names| !names.contains(&"STORE".to_owned()))
    );
}
