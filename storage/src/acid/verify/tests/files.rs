//! The files of a store: which are there, and what they say.

use std::fs;

use super::store::Store;
use crate::directory::OpenError;

#[test]
fn shards_that_are_missing_or_of_another_store() {
    let store = Store::new();
    let (path, other) = (store.shard_file(1), store.shard_file(0));
    fs::remove_file(&path).expect("it was there");
    store.expect(&[format!("{} is missing", path.display())]);
    let notes = store.check().notes;
    assert!(
        notes.iter().any(|note| note.contains("the rows of shard 001")),
        "{notes:?}"
    );
    fs::copy(&other, &path).expect("a copy");
    store.expect(&["it is number 0 of 2 of the store".to_owned()]);
    fs::write(&path, b"").expect("written");
    store.expect(&["none is 0 bytes long".to_owned()]);
    assert_eq!(store.check().streams, 4, "the other shard is checked");
}

#[test]
fn the_file_that_counts_the_shards() {
    let store = Store::new();
    let path = store.dir.join("acid/SHARDS");
    let said = fs::read(&path).expect("readable");
    let noted = |words: &str| {
        let report = store.check();
        assert!(
            report.notes.iter().any(|note| note.contains(words)),
            "{:?}",
            report.notes
        );
        assert_eq!(report.streams, 6, "the shards are checked nevertheless");
    };
    for at in 0..said.len() {
        let mut damaged = said.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).expect("written");
        store.expect(&["its file SHARDS does not say how many".to_owned()]);
    }
    noted("the shards were checked as 2");
    fs::remove_file(&path).expect("it was there");
    store.expect(&["SHARDS is missing though there are shards".to_owned()]);
    noted("the shards were checked as 2");
    let other = store.dir.join("acid/shards-004");
    fs::create_dir(&other).expect("made");
    assert!(store.check().notes.contains(&"no shard was checked".to_owned()));
    fs::write(&path, said).expect("written");
    let report = store.check();
    assert_eq!(report.damage, [""; 0]);
    assert_eq!(
        report.notes,
        [format!("{} is no part of the store", other.display())]
    );
}

#[test]
fn a_store_that_was_not_made_to_its_end_is_no_damage() {
    let store = Store::new();
    let dir = store.dir.join("acid");
    fs::rename(dir.join("SHARDS"), dir.join("SHARDS.tmp")).expect("renamed");
    let report = store.check();
    assert!(report.is_clean(), "{:?}", report.damage);
    assert!(
        report.notes[0].contains("not made to its end"),
        "{:?}",
        report.notes
    );
    fs::remove_dir_all(&dir).expect("removed");
    store.expect(&[format!("{} is missing", dir.display())]);
    fs::create_dir(&dir).expect("made");
    let report = store.check();
    assert!(report.is_clean(), "{:?}", report.damage);
    assert!(report.notes[0].contains("is new"), "{:?}", report.notes);
}

#[test]
fn files_that_are_no_part_of_it_are_noted() {
    let store = Store::new();
    let paths = ["acid/shards-002/002.redb", "acid/shards-002/1.redb", "acid/x"];
    let paths = paths.map(|path| store.dir.join(path));
    for path in &paths {
        fs::write(path, b"x").expect("written");
    }
    let report = store.check();
    assert!(report.is_clean(), "{:?}", report.damage);
    for path in &paths {
        let note = format!("{} is no part of the store", path.display());
        assert!(report.notes.contains(&note), "{:?}", report.notes);
    }
}

#[test]
fn the_identity_of_the_store() {
    let store = Store::new();
    let path = store.dir.join("STORE");
    let mut said = fs::read(&path).expect("readable");
    said[20] ^= 1;
    fs::write(&path, said).expect("written");
    store.expect(&["its file STORE cannot be used".to_owned()]);
    fs::remove_file(&path).expect("it was there");
    let error = crate::acid::verify_directory(&store.dir).expect_err("there is no store");
    assert!(matches!(error, OpenError::NoStore { .. }));
}
