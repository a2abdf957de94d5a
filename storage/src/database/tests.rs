//! Databases with logs against a model, on a disk that runs full, fails and crashes.

use std::collections::BTreeMap;
use std::path::Path;

use fastrand::Rng;
use redb::{ReadableTable as _, TableDefinition};

use super::*;
use crate::disk::memory::{Fault, MemoryDisk};

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
/// From none, so that pages are written while a change is being made, to one that holds all of it.
const CACHE_BYTES: [u64; 3] = [0, 256 << 10, 64 << 20];
/// From those that hold hardly a record to those that are never full.
const LOG_BYTES: [u64; 4] = [16 << 10, 128 << 10, 2 << 20, LOG_BYTES_MAX];
/// Some changes are longer than a record may be.
const ROW_BYTES_MAX: usize = 1 << 20;

/// Each row's length, and the byte that it is filled with.
type Model = BTreeMap<u64, (usize, u8)>;

fn path() -> &'static Path {
    Path::new("rows.redb")
}

fn options(rng: &mut Rng) -> DatabaseOptions {
    DatabaseOptions {
        called: "test",
        cache_bytes: *rng.choice(&CACHE_BYTES).expect("some"),
        opens_quickly: rng.bool(),
        log_bytes_max: rng.choice(&LOG_BYTES).copied(),
    }
}

fn create(disk: &MemoryDisk, options: DatabaseOptions) -> Database {
    let make = |transaction: &WriteTransaction| {
        transaction.open_table(ROWS)?;
        Ok(())
    };
    Database::create(disk, path(), options, make).expect("made")
}

fn shown(view: &View) -> Result<Model, BackendError> {
    view.ask(|tables| {
        let mut shown = Model::new();
        for row in tables.table(ROWS)?.iter()? {
            let (key, value) = row?;
            let value = value.value();
            let byte = value.first().copied().unwrap_or_default();
            assert!(value.iter().all(|other| *other == byte), "row {}", key.value());
            shown.insert(key.value(), (value.len(), byte));
        }
        Ok(shown)
    })
}

/// Some rows put and removed: seldom so many that they are longer than a record.
fn next(model: &Model, rng: &mut Rng) -> Model {
    let mut next = model.clone();
    let len_max = *rng.choice(&[200, 200, 20_000, ROW_BYTES_MAX]).expect("some");
    for _ in 0..rng.usize(1..8) {
        let key = rng.u64(..40);
        if rng.u8(..4) == 0 {
            next.remove(&key);
        } else {
            next.insert(key, (rng.usize(1..len_max), rng.u8(..)));
        }
    }
    next
}

fn make(database: &Database, before: &Model, after: &Model) -> Result<(), BackendError> {
    let change = database.change()?;
    change.ask(|transaction| {
        let mut table = transaction.open_table(ROWS)?;
        for key in before.keys().filter(|key| !after.contains_key(key)) {
            table.remove(key)?;
        }
        for (key, (len, byte)) in after {
            if before.get(key) != Some(&(*len, *byte)) {
                table.insert(key, vec![*byte; *len].as_slice())?;
            }
        }
        Ok(())
    })?;
    change.commit().map(drop)
}

fn some_fault(disk: &MemoryDisk, rng: &mut Rng) {
    match rng.u8(..8) {
        0 => disk.set_space(rng.u64(..600)),
        1 => disk.set_fault(Fault::After(rng.u64(..60), libc::ENOSPC)),
        2 => disk.set_fault(Fault::After(rng.u64(..60), libc::EIO)),
        3 => disk.set_fault(Fault::OneSync),
        4 => disk.set_fault(Fault::Once(rng.u64(..60), libc::ENOSPC)),
        5 => disk.set_fault(Fault::Once(rng.u64(..60), libc::EIO)),
        _ => {}
    }
}

/// What is there after a crash: of the machine, or of the process alone.
fn some_crash(disk: &MemoryDisk, rng: &mut Rng) -> MemoryDisk {
    match rng.u8(..4) {
        0 => disk.after_crash(|_| false),
        1 => disk.after_crash(|_| rng.bool()),
        2 => disk.after_crash(|_| rng.u8(..8) > 0),
        _ => disk.clone(),
    }
}

/// What is there after a start that ends somewhere in it.
fn cut_start(disk: &MemoryDisk, rng: &mut Rng) -> MemoryDisk {
    let why = if rng.bool() { libc::EIO } else { libc::ENOSPC };
    disk.set_fault(Fault::After(rng.u64(..60), why));
    std::mem::forget(Database::open(disk, path(), options(rng)));
    disk.set_fault(Fault::Nothing);
    some_crash(disk, rng)
}

/// Whatever fails, what was acknowledged stays, what was refused for want of space was not done, and what is not known was
/// done whole or not at all, through any crashes.
#[test]
fn any_faults_and_crashes_leave_what_a_model_says() {
    let mut refused = 0;
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let mut disk = MemoryDisk::new();
        let mut database = create(&disk, options(&mut rng));
        let mut model = Model::new();
        // What was created is not durable by itself.
        let mut disk_is_synced = false;
        for step in 0..30 {
            let told = format!("seed {seed}, step {step}");
            let view = database.view().ok();
            let after = next(&model, &mut rng);
            if disk_is_synced {
                some_fault(&disk, &mut rng);
            }
            let made = make(&database, &model, &after);
            if std::env::var("SEED").is_ok() {
                eprintln!("{told}: {made:?}");
            }
            disk.set_fault(Fault::Nothing);
            if rng.bool() {
                disk.set_space(u64::MAX);
            }
            // Whoever had begun to read may fail, but not see anything else.
            if let Some(shown) = view.and_then(|view| shown(&view).ok()) {
                assert_eq!(shown, model, "{told}");
            }
            let is_full = |error: &BackendError| matches!(error, BackendError::Io { source, .. } if space::finds_no_space(source));
            let mut may_be = vec![model.clone()];
            match made {
                Ok(()) => may_be = vec![after],
                Err(error) if is_full(&error) => refused += 1,
                Err(_) => may_be.push(after),
            }
            disk_is_synced = true;
            // A sync may have failed while it was opened anew.
            let is_lost = database.reopen().is_err();
            if may_be.len() > 1 || is_lost || rng.u8(..5) == 0 {
                if rng.bool() {
                    drop(database);
                } else {
                    // The process is killed, and closes nothing.
                    std::mem::forget(database);
                }
                disk.set_space(u64::MAX);
                disk = some_crash(&disk, &mut rng);
                for _ in 0..rng.u8(..3) {
                    disk = cut_start(&disk, &mut rng);
                }
                let options = options(&mut rng);
                let looked_at = Database::look_at(&disk, path(), options);
                let looked_at = looked_at.unwrap_or_else(|error| panic!("{told}: {error}"));
                let shown = shown(&looked_at.view().expect("a view")).expect("readable");
                assert!(may_be.contains(&shown), "{told}");
                may_be = vec![shown];
                database =
                    Database::open(&disk, path(), options).unwrap_or_else(|error| panic!("{told}: {error}"));
            }
            let now = database.view().and_then(|view| shown(&view));
            model = now.unwrap_or_else(|error| panic!("{told}: {error}"));
            assert!(may_be.contains(&model), "{told}");
        }
        let is_closed_well = rng.bool();
        drop(database);
        if is_closed_well {
            let log = disk.open(&log_path(path())).expect("it is there");
            assert_eq!(log.len().expect("a length"), 0, "seed {seed}");
        }
        let database = Database::open(&disk, path(), options(&mut rng)).expect("it opens");
        let now = database.view().and_then(|view| shown(&view));
        assert_eq!(now.expect("readable"), model, "seed {seed}");
    }
    assert!(refused > 20, "{refused} changes were refused");
}

/// Either of its places may be damaged, after an orderly end and after a kill, whether it was opened just now or its log was
/// full many times.
#[test]
fn a_damaged_header_takes_nothing() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let disk = MemoryDisk::new();
        let mut database = create(&disk, options(&mut rng));
        let mut model = Model::new();
        for _ in 0..rng.u8(..3) {
            for _ in 0..rng.u8(..6) {
                let after = next(&model, &mut rng);
                make(&database, &model, &after).expect("made");
                model = after;
            }
            drop(database);
            database = Database::open(&disk, path(), options(&mut rng)).expect("it opens");
        }
        for _ in 0..rng.u8(..12) {
            let after = next(&model, &mut rng);
            make(&database, &model, &after).expect("made");
            model = after;
        }
        if rng.bool() {
            drop(database);
        } else {
            std::mem::forget(database);
        }
        for place in 0..2 {
            let disk = disk.after_crash(|_| true);
            disk.tamper(path(), |bytes| bytes[place * 4096 + 6] ^= 1);
            let opened = Database::open(&disk, path(), options(&mut rng));
            let now = opened.and_then(|database| shown(&database.view()?));
            let now = now.unwrap_or_else(|error| panic!("seed {seed}, place {place}: {error}"));
            assert!(now == model, "seed {seed}, place {place}");
        }
    }
}

/// Without a log one commit cannot be told from a torn one; what a log has put into its place can.
#[test]
fn damage_of_the_last_commit_is_found_once_that_is_in_its_place() {
    let mut rng = Rng::with_seed(1);
    let disk = MemoryDisk::new();
    let options = DatabaseOptions {
        called: "test",
        cache_bytes: 1 << 20,
        opens_quickly: false,
        // Every commit is too long for it.
        log_bytes_max: Some(4 << 10),
    };
    let database = create(&disk, options);
    let mut model = Model::new();
    let mut bytes = Vec::new();
    for _ in 0..8 {
        let after = next(&model, &mut rng);
        disk.tamper(path(), |now| bytes.clone_from(now));
        make(&database, &model, &after).expect("made");
        model = after;
    }
    std::mem::forget(database);
    let mut changed = Vec::new();
    disk.tamper(path(), |now| {
        let is_other = |at: &usize| bytes.get(*at) != Some(&now[*at]) && now[*at] != 0;
        changed = (2 * 4096..now.len()).filter(is_other).collect();
    });
    let mut found = 0;
    for _ in 0..200 {
        let disk = disk.after_crash(|_| true);
        let at = *rng.choice(&changed).expect("some");
        disk.tamper(path(), |bytes| bytes[at] ^= 1);
        let opened = Database::open(&disk, path(), options);
        match opened.and_then(|database| shown(&database.view()?)) {
            Ok(now) => assert!(now == model, "byte {at}"),
            Err(error) => {
                assert!(
                    matches!(error, BackendError::Damaged { .. }),
                    "byte {at}: {error}"
                );
                found += 1;
            }
        }
    }
    assert!(found > 100, "{found}");
}

/// A log that is damaged while the database is open must not make it go back without a word.
#[test]
fn a_database_that_is_opened_anew_and_has_lost_a_change_is_damaged() {
    let disk = MemoryDisk::new();
    let database = create(
        &disk,
        DatabaseOptions {
            called: "test",
            cache_bytes: 0,
            opens_quickly: false,
            log_bytes_max: Some(LOG_BYTES_MAX),
        },
    );
    let mut model = Model::new();
    for key in 0..3 {
        let before = model.clone();
        model.insert(key, (100, key as u8));
        make(&database, &before, &model).expect("made");
    }
    disk.tamper(&log_path(path()), |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0).expect("a record");
        bytes[last] ^= 1;
    });
    disk.set_space(0);
    let mut longer = model.clone();
    longer.insert(9, (5 << 20, 9));
    make(&database, &model, &longer).expect_err("there is no space");
    disk.set_space(u64::MAX);
    let error = database
        .view()
        .and_then(|view| shown(&view))
        .expect_err("one is missing");
    assert!(matches!(&error, BackendError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("changes were durable"), "{error}");
}
