//! What is there after the process or the machine has crashed.

use std::collections::BTreeSet;
use std::path::Path;

use tailwater_storage::disk::Disk;

use crate::{DIR, SEEDS, assert_outcomes, content, disk, durable_file, path};

const SECTOR: usize = 512;

/// The first byte of each sector; each is checked to be of one kind.
fn sectors(bytes: &[u8]) -> Vec<u8> {
    let whole = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
        sector[0]
    };
    bytes.chunks(SECTOR).map(whole).collect()
}

#[test]
fn what_was_synced_survives_power_loss() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", &[1; 2000]);
        file.write_at(1000, &[2; 3000]).expect("written");
        file.set_len(3500).expect("cut off");
        file.sync().expect("synced");
        let expected = content(&disk, "file");
        assert_eq!(content(&disk.crash_machine(), "file"), expected);
    }
}

#[test]
fn each_unsynced_sector_is_lost_or_kept_on_its_own() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", &[1; 3 * SECTOR]);
        file.write_at(0, &[2; 3 * SECTOR]).expect("written");
        sectors(&content(&disk.crash_machine(), "file").expect("it is durable"))
    };
    let all = (0..8_u8).map(|kept| (0..3).map(|sector| 1 + (kept >> sector & 1)).collect());
    assert_outcomes(outcome, all);
}

#[test]
fn a_sector_is_in_one_of_the_states_that_it_went_through() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", b"....");
        file.write_at(0, b"a").expect("written");
        file.write_at(1, b"bb").expect("written");
        file.write_at(2, b"cc").expect("written");
        content(&disk.crash_machine(), "file").expect("it is durable")
    };
    assert_outcomes(outcome, ["....", "a...", "abb.", "abcc"].map(Vec::from));
}

#[test]
fn an_unsynced_end_may_be_there_with_a_hole_before_it() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", &[1; SECTOR]);
        file.write_at(SECTOR as u64, &[2; 2 * SECTOR]).expect("written");
        sectors(&content(&disk.crash_machine(), "file").expect("it is durable"))
    };
    assert_outcomes(outcome, [vec![1], vec![1, 2], vec![1, 0, 2], vec![1, 2, 2]]);
}

#[test]
fn an_unsynced_length_is_kept_or_lost() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", b"long");
        file.set_len(2).expect("cut off");
        content(&disk.crash_machine(), "file").expect("it is durable")
    };
    assert_outcomes(outcome, ["long", "lo"].map(Vec::from));
}

#[test]
fn sync_of_a_file_does_not_make_its_name_durable() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = disk.create(&path("file")).expect("made");
        file.write_at(0, b"content").expect("written");
        file.sync().expect("synced");
        content(&disk.crash_machine(), "file")
    };
    assert_outcomes(outcome, [None, Some(b"content".to_vec())]);
}

#[test]
fn sync_of_a_directory_does_not_make_content_durable() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = disk.create(&path("file")).expect("made");
        file.write_at(0, b"content").expect("written");
        disk.sync_dir(Path::new(DIR)).expect("synced");
        content(&disk.crash_machine(), "file")
    };
    assert_outcomes(outcome, [Some(Vec::new()), Some(b"content".to_vec())]);
}

#[test]
fn an_unsynced_removal_may_be_undone() {
    let outcome = |seed| {
        let disk = disk(seed);
        durable_file(&disk, "file", b"content");
        disk.remove(&path("file")).expect("removed");
        content(&disk.crash_machine(), "file")
    };
    assert_outcomes(outcome, [None, Some(b"content".to_vec())]);
}

#[test]
fn a_synced_removal_is_final() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        durable_file(&disk, "file", b"content");
        disk.remove(&path("file")).expect("removed");
        disk.sync_dir(Path::new(DIR)).expect("synced");
        assert_eq!(content(&disk.crash_machine(), "file"), None);
    }
}

#[test]
fn a_renamed_file_has_its_old_name_or_its_new_one_or_both() {
    let outcome = |seed| {
        let disk = disk(seed);
        durable_file(&disk, "old", b"new content");
        durable_file(&disk, "name", b"old content");
        disk.rename(&path("old"), &path("name")).expect("renamed");
        let crashed = disk.crash_machine();
        let name = content(&crashed, "name").expect("one of the two has it");
        let both = content(&crashed, "old").is_some();
        if both && name == b"new content" {
            let file = crashed.open(&path("name")).expect("opened");
            assert_eq!(file.links().expect("told"), 2);
        }
        (both, String::from_utf8(name).expect("text"))
    };
    let expected = [
        (true, "old content"),
        (true, "new content"),
        (false, "new content"),
    ];
    assert_outcomes(outcome, expected.map(|(both, name)| (both, name.to_owned())));
}

#[test]
fn a_file_renamed_again_and_again_is_never_lost() {
    let names = ["a", "b", "c", "a", "d"];
    for seed in 0..SEEDS {
        let disk = disk(seed);
        durable_file(&disk, names[0], b"content");
        for pair in names.windows(2) {
            disk.rename(&path(pair[0]), &path(pair[1])).expect("renamed");
        }
        let crashed = disk.crash_machine();
        assert!(!crashed.files().is_empty(), "seed {seed}");
        for file in crashed.files() {
            assert_eq!(crashed.read_file(&file), b"content");
        }
    }
}

#[test]
fn a_file_that_takes_over_the_name_of_a_renamed_one_does_not_make_it_lost() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        durable_file(&disk, "a", b"first");
        durable_file(&disk, "c", b"second");
        disk.rename(&path("a"), &path("b")).expect("renamed");
        disk.rename(&path("c"), &path("a")).expect("renamed");
        let crashed = disk.crash_machine();
        let contents: BTreeSet<_> = crashed
            .files()
            .iter()
            .map(|file| crashed.read_file(file))
            .collect();
        assert_eq!(
            contents,
            BTreeSet::from([b"first".to_vec(), b"second".to_vec()]),
            "seed {seed}"
        );
    }
}

#[test]
fn a_synced_rename_is_final() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        durable_file(&disk, "old", b"content");
        disk.rename(&path("old"), &path("new")).expect("renamed");
        disk.sync_dir(Path::new(DIR)).expect("synced");
        assert_eq!(disk.crash_machine().files(), [path("new")]);
    }
}

#[test]
fn a_second_name_is_kept_or_lost() {
    let outcome = |seed| {
        let disk = disk(seed);
        durable_file(&disk, "one", b"content");
        disk.link(&path("one"), &path("two")).expect("linked");
        disk.crash_machine().files()
    };
    assert_outcomes(outcome, [vec![path("one")], vec![path("one"), path("two")]]);
}

#[test]
fn a_lost_directory_takes_along_what_is_in_it() {
    let dir = path("sub");
    let outcome = |seed| {
        let disk = disk(seed);
        disk.make_dir(&dir).expect("made");
        durable_file(&disk, "beside", b"");
        disk.create(&dir.join("file"))
            .and_then(|file| file.sync())
            .expect("synced");
        disk.sync_dir(&dir).expect("synced");
        disk.crash_machine().files()
    };
    // The directory's own name became durable with the file beside it.
    assert_outcomes(outcome, [vec![path("beside"), dir.join("file")]]);
    let unsynced = |seed| {
        let disk = disk(seed);
        disk.make_dir(&dir).expect("made");
        disk.create(&dir.join("file")).expect("made");
        disk.sync_dir(&dir).expect("synced");
        let crashed = disk.crash_machine();
        (crashed.list(&dir).is_ok(), crashed.files())
    };
    assert_outcomes(unsynced, [(false, vec![]), (true, vec![dir.join("file")])]);
}

#[test]
fn a_crash_of_the_process_loses_nothing_and_makes_nothing_durable() {
    let outcome = |seed| {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", b"old");
        file.write_at(0, b"new").expect("written");
        let restarted = disk.crash_process();
        assert_eq!(content(&restarted, "file").expect("it is there"), b"new");
        assert_eq!(restarted.boot_id(), disk.boot_id());
        // The process that crashed writes no more to where the new one reads.
        file.write_at(0, b"xxx").expect("written");
        assert_eq!(content(&restarted, "file").expect("it is there"), b"new");
        content(&restarted.crash_machine(), "file").expect("it is durable")
    };
    assert_outcomes(outcome, [b"old".to_vec(), b"new".to_vec()]);
}

#[test]
fn what_survived_power_loss_once_stays() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = disk.create(&path("file")).expect("made");
        file.write_at(0, &[1; 10 * SECTOR]).expect("written");
        let crashed = disk.crash_machine();
        let again = crashed.crash_machine();
        assert_eq!(content(&again, "file"), content(&crashed, "file"));
    }
}

#[test]
fn another_run_of_the_machine_has_another_name() {
    let disk = disk(1);
    let first = disk.boot_id().expect("it has a name");
    let second = disk.crash_machine().boot_id().expect("it has a name");
    assert_ne!(first, second);
    disk.set_boot_id(Some("some"));
    assert_eq!(disk.crash_process().boot_id().as_deref(), Some("some"));
    assert_ne!(disk.crash_machine().boot_id().as_deref(), Some("some"));
    disk.set_boot_id(None);
    assert_eq!(disk.crash_machine().boot_id(), None);
}

#[test]
fn a_seed_says_all_and_asking_again_gives_another_outcome() {
    let outcomes = |seed| -> Vec<_> {
        let disk = disk(seed);
        let file = durable_file(&disk, "file", &[1; 20 * SECTOR]);
        file.write_at(0, &[2; 20 * SECTOR]).expect("written");
        (0..10).map(|_| content(&disk.crash_machine(), "file")).collect()
    };
    assert_eq!(outcomes(7), outcomes(7));
    assert_ne!(outcomes(7), outcomes(8));
    assert!(outcomes(7).into_iter().collect::<BTreeSet<_>>().len() > 5);
}
