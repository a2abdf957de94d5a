//! A catalog whose file was changed by something else, or was written by another program.

use super::{
    CACHE_BYTES, Catalog, MemoryDisk, Position, StreamRow, at, changed, id, meta, ms, new_catalog, path,
    plain, put_stream, rich, run,
};
use crate::backend::BackendError;
use crate::stream_tables::keys;

const PAGE_BYTES: usize = 4096;
const STREAMS: u64 = 120;

fn row(number: u64) -> StreamRow {
    rich(number, 1000)
}

/// A catalog that was changed several times, so that old and unused pages lie about in it, and was closed.
fn closed_catalog() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let catalog = Catalog::create(&disk, path(), CACHE_BYTES, &meta()).expect("a new catalog");
    for tail in [1, 2, 3] {
        changed(&catalog, |tables| {
            for number in 1..=STREAMS {
                let mut row = row(number);
                if tail < 3 {
                    row.state.closed = false;
                }
                put_stream(tables, &row, Some(ms(number)));
                tables.put_run(tail, &run(number, tail, tail + 1)).expect("put");
            }
        });
    }
    drop(catalog);
    disk
}

/// Reads everything, changes everything, and asserts that all that is answered is right.
fn use_all(disk: &MemoryDisk) -> Result<(), BackendError> {
    let catalog = Catalog::open(disk, path(), CACHE_BYTES)?;
    let view = catalog.view()?;
    assert_eq!(view.meta()?, meta());
    for number in 1..=STREAMS {
        assert_eq!(view.row(id(number))?, Some(row(number)));
        let runs = [1, 2, 3].map(|segment| (segment, run(number, segment, segment + 1)));
        assert_eq!(view.runs(id(number))?, runs);
    }
    assert_eq!(view.id_of(&row(1).state.name)?, Some(id(STREAMS)));
    assert_eq!(view.forks_of(id(1000))?.len() as u64, STREAMS);
    assert_eq!(view.due(ms(1000), None, 1000)?.len() as u64, STREAMS);
    assert_eq!(view.segments()?, []);
    let mut change = catalog.change()?;
    for number in 1..=STREAMS {
        change.write(|tables| {
            tables.streams.remove_stream(id(number))?;
            tables.lose_runs(id(number), Position::ZERO, Position::LAST)?;
            tables.streams.put_row(&plain(number, "new"), None)
        })?;
    }
    change.commit()?;
    assert_eq!(catalog.view()?.head(id(7))?, Some(plain(7, "new")));
    Ok(())
}

/// redb trusts the pages that it reads: it panicked over such a bit, ended the process, or found nothing where there
/// was a stream.
#[test]
fn a_flipped_bit_is_found_or_does_no_harm() {
    let random = &mut fastrand::Rng::with_seed(7);
    let disk = closed_catalog();
    let mut used = Vec::new();
    disk.tamper(path(), |bytes| {
        let pages = bytes.chunks(PAGE_BYTES).enumerate();
        used.extend(
            pages
                .filter(|(_, page)| page.iter().any(|byte| *byte != 0))
                .map(|(number, _)| number),
        );
    });
    let mut found = 0;
    for _ in 0..300 {
        let damaged = disk.after_crash(|_| true);
        let page = used[random.usize(..used.len())];
        let byte = page * PAGE_BYTES + random.usize(..PAGE_BYTES);
        let bit = random.u8(..8);
        damaged.tamper(path(), |bytes| bytes[byte] ^= 1 << bit);
        match use_all(&damaged) {
            Ok(()) => {}
            Err(BackendError::Damaged { .. }) => found += 1,
            Err(error) => panic!("bit {bit} of byte {byte}: {error}"),
        }
    }
    assert!(found > 100, "{found} found: what was damaged is not in use");
}

/// redb's header stands in two places, and after it was closed each says all that matters.
#[test]
fn a_flipped_bit_in_a_header_does_no_harm() {
    let random = &mut fastrand::Rng::with_seed(17);
    let disk = closed_catalog();
    for round in 0..60 {
        let damaged = disk.after_crash(|_| true);
        let byte = round % 2 * PAGE_BYTES + random.usize(..528);
        let bit = random.u8(..8);
        damaged.tamper(path(), |bytes| bytes[byte] ^= 1 << bit);
        use_all(&damaged).unwrap_or_else(|error| panic!("bit {bit} of byte {byte}: {error}"));
    }
}

#[test]
fn a_file_that_is_no_catalog_is_refused() {
    type Tamper = fn(&mut Vec<u8>);
    let tampers: [(&str, Tamper); 6] = [
        ("is empty", Vec::clear),
        ("is cut off", |bytes| {
            bytes.truncate(bytes.len() / 2 / PAGE_BYTES * PAGE_BYTES);
        }),
        ("is cut off within a page", |bytes| {
            bytes.pop();
        }),
        ("is of another format", |bytes| {
            (bytes[3], bytes[PAGE_BYTES + 3]) = (2, 2);
        }),
        ("is all zeros", |bytes| bytes.fill(0)),
        ("has no header", |bytes| bytes[..2 * PAGE_BYTES].fill(0)),
    ];
    let disk = closed_catalog();
    use_all(&disk.after_crash(|_| true)).expect("it is whole");
    for (what, tamper) in tampers {
        let damaged = disk.after_crash(|_| true);
        damaged.tamper(path(), tamper);
        match use_all(&damaged) {
            Err(BackendError::Damaged { what: said }) => assert!(said.contains("catalog.redb"), "{said}"),
            other => panic!("a file that {what}: {other:?}"),
        }
    }
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let catalog = new_catalog();
    changed(&catalog, |tables| {
        put_stream(tables, &plain(5, "a"), None);
        put_stream(tables, &plain(6, "b"), None);
    });
    let key = keys::id_key(id(5));
    let whole = {
        let change = catalog.change().expect("begun");
        let table = change.transaction().open_table(keys::STREAMS).expect("opened");
        let value = redb::ReadableTable::get(&table, &key)
            .expect("read")
            .expect("it is there");
        value.value().to_vec()
    };
    let read_as = |value: &[u8]| {
        let change = catalog.change().expect("begun");
        let mut table = change.transaction().open_table(keys::STREAMS).expect("opened");
        table.insert(&key, value).expect("put");
        drop(table);
        change.commit().expect("committed");
        let view = catalog.view().expect("a view");
        assert!(view.head(id(6)).expect("read").is_some());
        view.head(id(5)).map_err(|error| error.to_string())
    };
    for cut in 0..whole.len() {
        let said = read_as(&whole[..cut]).expect_err("something is missing");
        assert!(
            said.contains(r"the row \x00\x00\x00\x00\x00\x00\x00\x05 of table streams"),
            "{said}"
        );
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(
        read_as(&longer)
            .expect_err("something is left over")
            .contains("cannot be read")
    );
    let newer = [&[2], &whole[1..]].concat();
    assert!(
        read_as(&newer)
            .expect_err("it is newer")
            .contains("it has version 2")
    );
    assert_eq!(read_as(&whole), Ok(Some(plain(5, "a"))));
    let random = &mut fastrand::Rng::with_seed(3);
    for _ in 0..200 {
        let mut changed = whole.clone();
        changed[random.usize(1..whole.len())] = random.u8(..);
        // Either is an answer; a panic is none.
        if let Ok(row) = read_as(&changed) {
            assert!(row.is_some_and(|row| row.state.oldest <= row.state.tail && row.stored_from >= at(0)));
        }
    }
}
