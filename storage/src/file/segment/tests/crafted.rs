//! Files whose checksums are all right, and that no writer writes.

use super::*;
use crate::block_index::IndexWriter;
use crate::file::segment::format::{self, BlockRow, Trailer};

/// A block as it is to stand in the file.
struct Crafted {
    payload: &'static [u8],
    index: Vec<u8>,
    /// Bytes behind the index that belong to nobody.
    gap: usize,
    appends: u32,
    first_message: u64,
}

/// A block of one append of one message.
fn one(payload: &'static [u8], first_message: u64) -> Crafted {
    let mut index = IndexWriter::default();
    index.push(payload.len() as u32, Timestamp::from_millis(9), &MessageEnds::One);
    index.end_block();
    Crafted {
        payload,
        index: index.bytes().to_vec(),
        gap: 0,
        appends: 1,
        first_message,
    }
}

/// A segment of one run of these blocks, which begins at position 5.
fn file_of(blocks: &[Crafted]) -> (Kept, Run) {
    let mut bytes = Vec::new();
    format::put_header(&mut bytes, NUMBER, STORE);
    let payload_at = bytes.len() as u64;
    blocks.iter().for_each(|block| bytes.extend(block.payload));
    let (mut table, mut from) = (Vec::new(), 5);
    for block in blocks {
        let row = BlockRow {
            until: from + block.payload.len() as u64,
            index_at: bytes.len() as u64,
            index_len: block.index.len() as u32,
            appends: block.appends,
            first_message: block.first_message,
            payload_crc: crc32fast::hash(block.payload),
        };
        row.put(&mut table, id(1), from, &block.index);
        from = row.until;
        bytes.extend(&block.index);
        bytes.resize(bytes.len() + block.gap, 0);
    }
    let run = Run {
        stream: id(1),
        from: at(5),
        until: at(from),
        payload_at,
        table_at: bytes.len() as u64,
        blocks: blocks.len() as u32,
        table_crc: crc32fast::hash(&table),
    };
    bytes.extend(table);
    let mut footer = Vec::new();
    run.put(&mut footer);
    let trailer = Trailer {
        footer_at: bytes.len() as u64,
        runs: 1,
        payload_bytes: from - 5,
        footer_crc: crc32fast::hash(&footer),
    };
    trailer.put(&mut footer, NUMBER);
    bytes.extend(footer);
    (Kept::of(&bytes), run)
}

fn found(blocks: &[Crafted]) -> String {
    let (kept, _) = file_of(blocks);
    damage(kept.open().expect("header and trailer are sound").verify())
}

#[test]
fn what_is_crafted_like_a_writer_does_is_sound() {
    let (kept, run) = file_of(&[one(b"some", 0), one(b"more", 1)]);
    let segment = kept.open().expect("opened");
    assert_eq!(segment.verify().expect("sound").messages, 2);
    assert_eq!(segment.runs().expect("sound"), [run]);
}

#[test]
fn bytes_between_or_behind_blocks_are_found() {
    let mut between = [one(b"some", 0), one(b"more", 1)];
    between[0].gap = 1;
    assert!(found(&between).contains("does not follow the last one"));
    let mut behind = [one(b"some", 0), one(b"more", 1)];
    behind[1].gap = 1;
    assert!(found(&behind).contains("belong to no block"));
}

#[test]
fn messages_that_are_not_counted_on_are_found() {
    for first_message in [0, 2] {
        let what = found(&[one(b"some", 0), one(b"more", first_message)]);
        assert!(
            what.contains("the append at position 9 does not follow"),
            "{what}"
        );
    }
}

#[test]
fn an_index_must_be_that_of_its_block() {
    let changes: [&dyn Fn(&mut Crafted); 6] = [
        &|block| block.appends = 2,
        &|block| block.appends = 0,
        &|block| block.payload = b"longer",
        &|block| block.payload = b"1",
        &|block| block.index.push(0),
        &|block| block.index.clear(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut block = one(b"some", 0);
        change(&mut block);
        let what = found(&[block]);
        assert!(
            what.contains("the index of a block cannot be read"),
            "change {number}: {what}"
        );
    }
}

#[test]
fn messages_must_end_with_their_append() {
    // Flags: ends follow; so many bytes; the ends: how many, and how long each is.
    for ends in [
        &[2, 3, 2][..],
        &[2, 3, 0],
        &[2, 4, 0],
        &[2, 2, 2, 0],
        &[3, 2, 2],
        &[0],
        &[],
    ] {
        let mut block = one(b"some", 0);
        block.index = [&[1, 4, ends.len() as u8], ends].concat();
        let (kept, run) = file_of(&[block]);
        let segment = kept.open().expect("opened");
        damage(segment.verify());
        damage(segment.first_message_end(&run, at(6)));
        damage(segment.last_message_end(&run, at(5), at(8)));
        damage(segment.extents(&run, at(5), at(9), at(9)));
    }
    let mut block = one(b"some", 0);
    block.index = vec![1, 4, 3, 2, 3, 1];
    let (kept, run) = file_of(&[block]);
    let segment = kept.open().expect("opened");
    assert_eq!(segment.verify().expect("sound").messages, 2);
    assert_eq!(segment.first_message_end(&run, at(6)).expect("sound"), at(8));
}
