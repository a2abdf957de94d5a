//! Reads the rows of a shard, and knows nothing but FORMAT.md: how a redb database stands in a file with a checksum for
//! every page.

use std::io;
use std::path::Path;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableHandle as _};

const PAGE_BYTES: u64 = 4096;
const HEADER_BYTES: usize = 512;
/// Pages whose checksums stand in one page before them.
const GROUP_PAGES: u64 = 1024;

/// A row of a table, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) table: String,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// redb's own file, put together from ours.
fn inner(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("a shard");
    let pages: Vec<_> = bytes.chunks(PAGE_BYTES as usize).collect();
    let headers = pages[..2].iter().filter_map(|page| {
        let (said, crc) = page[..12 + HEADER_BYTES + 4].split_last_chunk::<4>()?;
        let count = u64::from_le_bytes(said[4..12].try_into().ok()?);
        let is_right = (said.starts_with(b"TWC\x01") || said.starts_with(b"TWC\x02"))
            && crc32fast::hash(said) == u32::from_le_bytes(*crc);
        is_right.then(|| (count, said[12..].to_vec()))
    });
    let (count, mut header) = headers.max().expect("a header");
    let mut inner = Vec::new();
    for group in pages[2..].chunks(1 + GROUP_PAGES as usize) {
        let (crcs, pages) = group.split_first().expect("checksums stand before pages");
        for (index, page) in pages.iter().enumerate() {
            let number = inner.len() as u64 / PAGE_BYTES;
            let written = &crcs[index * 4..index * 4 + 4];
            let is_written = number > 0 && written != [0; 4];
            let found = crc32fast::hash(&[&number.to_le_bytes()[..], page].concat());
            assert!(!is_written || written == found.to_le_bytes(), "page {number}");
            inner.extend_from_slice(page);
        }
    }
    for record in records(&path.with_extension("log"), count) {
        inner.resize(record.len, 0);
        for (number, page) in record.pages {
            let at = number * PAGE_BYTES as usize;
            inner[at..at + PAGE_BYTES as usize].copy_from_slice(&page);
        }
        header = record.header;
    }
    inner[..HEADER_BYTES].copy_from_slice(&header);
    inner
}

/// A record of a log.
struct Record {
    len: usize,
    header: Vec<u8>,
    pages: Vec<(usize, Vec<u8>)>,
}

/// The records of a log, if they lead to a header later than the one in place.
fn records(path: &Path, placed: u64) -> Vec<Record> {
    let log = std::fs::read(path).unwrap_or_default();
    if log.is_empty() {
        return Vec::new();
    }
    assert!(log.starts_with(b"TWL\x01"), "{}", path.display());
    assert_eq!(log[12..16], crc32fast::hash(&log[..12]).to_le_bytes());
    let number = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().expect("eight bytes"));
    let mut records = Vec::new();
    let (mut at, mut last) = (PAGE_BYTES as usize, None);
    while at + HEADER_BYTES + 40 < log.len() && last.is_none_or(|last| number(at + 8) == last) {
        let count = u32::from_le_bytes(log[at + 32..at + 36].try_into().expect("four bytes")) as usize;
        let crc_at = at + 36 + HEADER_BYTES + 8 * count;
        let pages_at = at + (crc_at + 4 - at).next_multiple_of(PAGE_BYTES as usize);
        let end = pages_at + count * PAGE_BYTES as usize;
        if end > log.len() {
            break;
        }
        let said = [&log[at..crc_at], &log[pages_at..end]].concat();
        let is_of_log = log[at..at + 8] == log[4..12];
        if !is_of_log || log[crc_at..crc_at + 4] != crc32fast::hash(&said).to_le_bytes() {
            break;
        }
        let pages = log[pages_at..end].chunks(PAGE_BYTES as usize).map(<[u8]>::to_vec);
        let numbers = (0..count).map(|index| number(at + 36 + HEADER_BYTES + 8 * index) as usize);
        records.push(Record {
            len: number(at + 24) as usize,
            header: log[at + 36..at + 36 + HEADER_BYTES].to_vec(),
            pages: numbers.zip(pages).collect(),
        });
        last = Some(number(at + 16));
        at = end;
    }
    if last.is_some_and(|last| last > placed) {
        records
    } else {
        Vec::new()
    }
}

/// All rows of a shard, in the order of tables and keys.
pub(crate) fn rows(path: &Path) -> Vec<Row> {
    let backend = redb::backends::InMemoryBackend::new();
    let inner = inner(path);
    fill(&backend, &inner).expect("memory");
    let database = Database::builder()
        .create_with_backend(backend)
        .expect("a database");
    let read = database.begin_read().expect("readable");
    let mut tables: Vec<_> = read.list_tables().expect("readable").collect();
    tables.sort_by_key(|table| table.name().to_owned());
    let mut rows = Vec::new();
    for table in &tables {
        let name = table.name();
        match name {
            "streams" => with_value::<&[u8; 8]>(&read, name, |key| key.to_vec(), &mut rows),
            "blocks" | "pieces" => with_value::<&[u8; 16]>(&read, name, |key| key.to_vec(), &mut rows),
            "deleted" => without_value::<&[u8; 8]>(&read, name, |key| key.to_vec(), &mut rows),
            "forks" | "deadlines" => without_value::<&[u8; 16]>(&read, name, |key| key.to_vec(), &mut rows),
            _ => with_value::<&[u8]>(&read, name, <[u8]>::to_vec, &mut rows),
        }
    }
    rows
}

fn fill(backend: &impl redb::StorageBackend, bytes: &[u8]) -> io::Result<()> {
    backend.set_len(bytes.len() as u64)?;
    backend.write(0, bytes)
}

fn with_value<K: redb::Key + 'static>(
    read: &redb::ReadTransaction,
    name: &str,
    bytes: impl Fn(K::SelfType<'_>) -> Vec<u8>,
    rows: &mut Vec<Row>,
) {
    let table = read.open_table(TableDefinition::<K, &[u8]>::new(name));
    for entry in table.expect("a table").iter().expect("readable") {
        let (key, value) = entry.expect("readable");
        rows.push(Row {
            table: name.to_owned(),
            key: bytes(key.value()),
            value: value.value().to_vec(),
        });
    }
}

fn without_value<K: redb::Key + 'static>(
    read: &redb::ReadTransaction,
    name: &str,
    bytes: impl Fn(K::SelfType<'_>) -> Vec<u8>,
    rows: &mut Vec<Row>,
) {
    let table = read.open_table(TableDefinition::<K, ()>::new(name));
    for entry in table.expect("a table").iter().expect("readable") {
        let (key, ()) = entry.map(|(key, _)| (key, ())).expect("readable");
        rows.push(Row {
            table: name.to_owned(),
            key: bytes(key.value()),
            value: Vec::new(),
        });
    }
}
