//! Blocks and pieces that are not all of a stream's bytes.

use redb::{ReadableTable as _, WriteTransaction};

use super::store::{LONG_BYTES, ROW_BYTES, Store, Who, expect};
use crate::acid::block::PIECE_BYTES;
use crate::acid::tables::{BLOCKS, PIECES};
use crate::stream_tables::StreamTables;
use crate::stream_tables::keys::pair_key;

/// Where the second append of [`Who::Source`] begins.
const SECOND_AT: u64 = ROW_BYTES as u64;

fn key(store: &Store, who: Who, from: u64) -> [u8; 16] {
    pair_key(store.id(who).get(), from)
}

/// Changes what a block's row says.
fn change_block(
    t: &WriteTransaction,
    store: &Store,
    (who, from): (Who, u64),
    change: impl FnOnce(&mut Vec<u8>),
) {
    let mut blocks = t.open_table(BLOCKS).expect("there is one");
    let key = key(store, who, from);
    let mut value = {
        let value = blocks.get(&key).expect("read");
        value.expect("there is such a block").value().to_vec()
    };
    change(&mut value);
    blocks.insert(&key, value.as_slice()).expect("put");
}

fn remove_block(t: &WriteTransaction, store: &Store, who: Who, from: u64) {
    let mut blocks = t.open_table(BLOCKS).expect("there is one");
    assert!(blocks.remove(&key(store, who, from)).expect("removed").is_some());
}

#[test]
fn blocks_that_are_missing() {
    expect(0, &["no block has the positions 0 to 2000"], |store, t| {
        remove_block(t, store, Who::Source, 0);
    });
    expect(
        0,
        &[
            "its blocks end at 2000, and its tail is 4000",
            "end with message 1, and it has 2",
        ],
        |store, t| remove_block(t, store, Who::Source, SECOND_AT),
    );
    expect(1, &["no block has the positions 0 to 2000"], |store, t| {
        remove_block(t, store, Who::Gone, 0);
    });
}

#[test]
fn blocks_that_overlap_or_leave_a_gap() {
    // Behind the version stand the number of appends, that of the first message, and the index with its length, which
    // begins with how many appends are alike and how long each is. Behind it stands the length of the bytes. The first
    // byte of a long varint has the lower seven bits.
    let change_length = |value: &mut Vec<u8>, by: i8| {
        let length_at = 4 + usize::from(value[3]);
        for at in [5, length_at] {
            assert_eq!(value[at], 0x80 | (ROW_BYTES & 0x7f) as u8, "{value:?}");
            value[at] = value[at].wrapping_add_signed(by);
        }
        let bytes = value.len().wrapping_add_signed(by.into());
        value.resize(bytes, b'!');
    };
    expect(
        0,
        &["a block ends at 1999, and the next one begins at 2000"],
        |store, t| change_block(t, store, (Who::Source, 0), |value| change_length(value, -1)),
    );
    expect(
        0,
        &["a block ends at 2001, and the next one begins at 2000"],
        |store, t| change_block(t, store, (Who::Source, 0), |value| change_length(value, 1)),
    );
    expect(
        0,
        &["its blocks end at 4001, and its tail is 4000"],
        |store, t| {
            change_block(t, store, (Who::Source, SECOND_AT), |value| {
                change_length(value, 1);
            });
        },
    );
}

#[test]
fn a_block_that_nobody_wants_any_more() {
    expect(
        0,
        &[
            "the block from 0 to 2000 is not wanted any more",
            "bytes are counted",
        ],
        |store, t| {
            let mut streams = StreamTables::new(t);
            let mut row = streams
                .head(store.id(Who::Source))
                .expect("readable")
                .expect("it is there");
            row.stored_from = tailwater_stream::Position::new(SECOND_AT).expect("a position");
            streams.put_row(&row, None).expect("put");
        },
    );
}

#[test]
fn blocks_that_cannot_be_read() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 6] = [
        ("of a later version", |value| value[0] = 2),
        ("without its last byte", |value| value.truncate(value.len() - 1)),
        ("with a byte too many", |value| value.push(0)),
        ("with another number of appends", |value| value[1] = 2),
        ("with an index that is cut off", |value| value[3] -= 1),
        ("with an append of another length in its index", |value| {
            value[5] += 1;
        }),
    ];
    for (what, change) in cases {
        println!("a block {what}");
        expect(0, &["table blocks: the row"], |store, t| {
            change_block(t, store, (Who::Source, 0), change);
        });
    }
}

/// The fork has three bytes of its own in its row, behind those of its source.
fn change_last_block(store: &Store, t: &WriteTransaction, change: impl FnOnce(&mut Vec<u8>)) {
    let mut streams = StreamTables::new(t);
    let mut row = streams
        .head(store.id(Who::Fork))
        .expect("readable")
        .expect("it is there");
    assert!(row.last_block.ends_with(b"own"));
    change(&mut row.last_block);
    streams.put_row(&row, None).expect("put");
}

#[test]
fn blocks_in_the_rows_of_their_streams() {
    expect(0, &["no block has the positions 4000 to 4003"], |store, t| {
        change_last_block(store, t, Vec::clear);
    });
    expect(0, &["end with message 4, and it has 3"], |store, t| {
        change_last_block(store, t, |last| last[1] = 3);
    });
    expect(0, &["no block has the positions 4000 to 4001"], |store, t| {
        change_last_block(store, t, |last| {
            let length_at = 3 + usize::from(last[2]);
            for at in [4, length_at] {
                assert_eq!(last[at], 3, "{last:?}");
                last[at] = 2;
            }
            last.pop();
        });
    });
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 4] = [
        ("without its last byte", |last| last.truncate(last.len() - 1)),
        ("with a byte too many", |last| last.push(0)),
        ("with another number of appends", |last| last[0] = 2),
        ("with an index that is cut off", |last| last[2] -= 1),
    ];
    for (what, change) in cases {
        println!("a block {what}");
        expect(0, &["table streams: the row"], |store, t| {
            change_last_block(store, t, change);
        });
    }
}

#[test]
fn messages_that_do_not_follow_each_other() {
    expect(
        0,
        &["the block at 2000 begins with message 1, and the one before ends with 2"],
        |store, t| change_block(t, store, (Who::Source, 0), |value| value[2] = 1),
    );
    expect(0, &["end with message 3, and it has 2"], |store, t| {
        change_block(t, store, (Who::Source, 0), |value| value[2] = 1);
        change_block(t, store, (Who::Source, SECOND_AT), |value| value[2] = 2);
    });
}

#[test]
fn pieces_that_are_missing_too_short_or_of_nobody() {
    let piece = PIECE_BYTES as u64;
    for number in 0..3 {
        let words = format!("the piece at {} is missing", number * piece);
        expect(0, &[&words], |store, t| {
            let mut pieces = t.open_table(PIECES).expect("there is one");
            let removed = pieces.remove(&key(store, Who::Long, number * piece));
            assert!(removed.expect("removed").is_some());
        });
        let words = format!("the piece at {} has 7 bytes", number * piece);
        expect(0, &[&words], |store, t| {
            let mut pieces = t.open_table(PIECES).expect("there is one");
            let key = key(store, Who::Long, number * piece);
            pieces.insert(&key, b"another".as_slice()).expect("put");
        });
    }
    for (who, at) in [
        (Who::Long, 5),
        (Who::Long, LONG_BYTES as u64),
        (Who::Long, u64::MAX),
        (Who::Source, 0),
        (Who::Living, 0),
    ] {
        let words = format!("no block has the piece at {at}");
        expect(0, &[&words], |store, t| {
            let mut pieces = t.open_table(PIECES).expect("there is one");
            pieces
                .insert(&key(store, who, at), b"stray".as_slice())
                .expect("put");
        });
    }
    // Of two that belong to a stream of the other shard only the first is told of.
    expect(0, &["table pieces: the row"], |store, t| {
        let mut pieces = t.open_table(PIECES).expect("there is one");
        for at in [0, 1] {
            let key = key(store, Who::Heir, at);
            pieces.insert(&key, b"stray".as_slice()).expect("put");
        }
    });
}

#[test]
fn a_long_block_that_is_missing_leaves_its_pieces() {
    let last = LONG_BYTES as u64;
    let words = format!("no block has the positions 0 to {last}");
    let stray = "no block has the piece at";
    expect(0, &[words.as_str(), stray, stray, stray], |store, t| {
        remove_block(t, store, Who::Long, 0);
    });
}
