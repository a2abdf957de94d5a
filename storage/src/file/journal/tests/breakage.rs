use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_stream::Part;

use super::records::{append, append_with_control};
use super::{
    Image, JOURNAL, Replayed, SEALED, STORE, UNPROVEN, Written, map, place, replay_all, replay_from,
};
use crate::backend::BackendError;
use crate::directory::StoreId;
use crate::disk::Map;
use crate::file::journal::header::{BATCH_HEADER_BYTES, JOURNAL_HEADER_BYTES};
use crate::file::journal::{BatchEncoder, End, FIRST_BATCH_AT, replay};
use crate::file::place::LogPlace;

const FIRST: usize = FIRST_BATCH_AT as usize;

/// Six batches, some of which say that earlier ones are durable: all up to the third, and later all up to the fifth.
fn sample() -> Image {
    let mut image = Image::new(FIRST);
    image.write(&[append(1, 0, b"one"), append(2, 0, b"two")], FIRST);
    image.write(&[append_with_control(1, 3, b"a longer payload")], FIRST);
    image.write(&[append(3, 0, b"x")], image.batches[1].range.start);
    image.write(&[append(1, 19, b"12345678"), append(1, 27, b"9")], image.end());
    image.write(&[append(2, 3, b"three")], image.batches[3].range.start);
    image.write(
        &[append_with_control(3, 1, b"yz"), append(1, 28, b"end")],
        image.end(),
    );
    image.bytes.resize(image.end() + 200, 0);
    image
}

/// What a replay must say when batch `broken` (counted from 0) is the first that is not whole.
fn assert_ends_before(image: &Image, broken: usize, proven: LogPlace, replayed: &Replayed, why: &str) {
    let at = place(image.batches[broken].range.start as u64);
    let later = image.batches[broken + 1..].iter().map(|batch| batch.synced);
    let was_durable = later.chain([proven]).any(|synced| synced > at);
    let before: Vec<Part> = image.batches[..broken]
        .iter()
        .flat_map(|batch| batch.parts.clone())
        .collect();
    assert_eq!(replayed.parts, before, "{why}");
    if was_durable {
        let damage = replayed.damage();
        assert!(
            damage.contains(&format!("at byte {}:", at.offset)),
            "{why}: {damage}"
        );
        assert!(
            damage.contains("though it was durable; run `tailwater verify`"),
            "{why}: {damage}"
        );
    } else {
        let End::Torn { cut, .. } = replayed.end() else {
            panic!("{why}: it is torn")
        };
        assert_eq!(*cut, at, "{why}");
        let outcome = replayed.outcome.as_ref().expect("torn");
        assert_eq!(outcome.next_batch, image.batches[broken].number, "{why}");
        assert!(outcome.synced <= at, "{why}");
    }
}

fn assert_whole(image: &Image, replayed: &Replayed, why: &str) {
    let end = place(image.end() as u64);
    assert_eq!(replayed.end(), &End::Clean { end }, "{why}");
    let all: Vec<Part> = image
        .batches
        .iter()
        .flat_map(|batch| batch.parts.clone())
        .collect();
    assert_eq!(replayed.parts, all, "{why}");
}

/// Behind the bytes of a batch that a checksum covers.
fn checked_end(batch: &Written) -> usize {
    let records: Vec<_> = batch
        .parts
        .iter()
        .map(|part| tailwater_stream::Record {
            parts: [part.clone()].into_iter().collect(),
        })
        .collect();
    batch.range.start + BATCH_HEADER_BYTES + records.iter().map(BatchEncoder::bytes_of).sum::<usize>()
}

#[test]
fn a_flipped_byte_ends_the_journal_before_its_batch_or_is_damage() {
    let image = sample();
    let checked: Vec<Range<usize>> = image
        .batches
        .iter()
        .map(|batch| batch.range.start..checked_end(batch))
        .collect();
    for proven in [UNPROVEN, SEALED] {
        for at in 0..image.bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = image.bytes.clone();
                bytes[at] ^= flip;
                let replayed = replay_all(&bytes, proven);
                let why = format!("byte {at} ^ {flip:#x}, proven {proven:?}");
                if at < JOURNAL_HEADER_BYTES {
                    assert!(
                        replayed.damage().contains("the journal's header cannot be read"),
                        "{why}"
                    );
                } else if let Some(broken) = checked.iter().position(|range| range.contains(&at)) {
                    assert_ends_before(&image, broken, proven, &replayed, &why);
                } else {
                    assert_whole(&image, &replayed, &why);
                }
            }
        }
    }
}

#[test]
fn a_truncated_journal_ends_before_the_batch_that_was_cut() {
    let image = sample();
    for proven in [UNPROVEN, SEALED] {
        for len in 0..image.bytes.len() {
            let replayed = replay_all(&image.bytes[..len], proven);
            let why = format!("{len} bytes, proven {proven:?}");
            let Some(cut) = image.batches.iter().position(|batch| len < batch.range.end) else {
                assert_whole(&image, &replayed, &why);
                continue;
            };
            // The batches behind are gone, and cannot say anything any more.
            let left = Image {
                bytes: image.bytes[..len].to_vec(),
                batches: image.batches[..=cut].to_vec(),
            };
            let begun = len.saturating_sub(image.batches[cut].range.start);
            match len {
                0..FIRST => assert!(replayed.damage().contains("bytes, which no journal has"), "{why}"),
                _ if begun < 4 => {
                    let whole = Image {
                        batches: image.batches[..cut].to_vec(),
                        ..left
                    };
                    assert_whole(&whole, &replayed, &why);
                }
                _ => assert_ends_before(&left, cut, proven, &replayed, &why),
            }
        }
    }
}

#[test]
fn a_batch_of_which_some_pages_were_not_written_is_cut_off() {
    let mut image = Image::new(FIRST);
    image.write(&[append(1, 0, b"one")], FIRST);
    image.write(&[append(1, 3, &[b'x'; 1000]), append(2, 0, &[b'y'; 1000])], FIRST);
    let range = image.batches[1].range.clone();
    for page in range.clone().step_by(64).skip(1) {
        for filler in [0, 0xaa] {
            let mut bytes = image.bytes.clone();
            bytes[page..(page + 64).min(range.end)].fill(filler);
            if bytes != image.bytes {
                assert_ends_before(
                    &image,
                    1,
                    UNPROVEN,
                    &replay_all(&bytes, UNPROVEN),
                    "a page is missing",
                );
            }
        }
    }
    // Its first page as well, though the rest is there: nothing says that there was a batch.
    let mut bytes = image.bytes.clone();
    bytes[range.start..range.start + 256].fill(0);
    let replayed = replay_all(&bytes, UNPROVEN);
    let end = place(range.start as u64);
    assert_eq!(replayed.end(), &End::Clean { end });
}

#[test]
fn a_whole_batch_behind_a_torn_one_is_cut_off_with_it() {
    let mut image = Image::new(FIRST);
    for start in [0, 3, 6] {
        image.write(&[append(1, start, b"abc")], FIRST);
    }
    let torn = image.batches[1].range.clone();
    for (range, reason) in [
        (
            torn.end - 8..torn.end,
            "batch 2 is not whole: the checksum of a payload is wrong",
        ),
        (
            torn.start + 88..torn.start + 89,
            "batch 2 is not whole: the checksum of its entries is wrong",
        ),
        (
            torn.start + 30..torn.start + 80,
            "batch 2 is not whole: its header is broken",
        ),
        (torn.clone(), "batch 2 is missing, and batch 3 stands behind it"),
    ] {
        let mut bytes = image.bytes.clone();
        bytes[range].fill(0);
        let replayed = replay_all(&bytes, UNPROVEN);
        assert_eq!(replayed.parts, image.batches[0].parts);
        let cut = place(torn.start as u64);
        let reason = reason.to_owned();
        assert_eq!(replayed.end(), &End::Torn { cut, reason });
    }
}

#[test]
fn what_was_durable_up_to_a_torn_batch_does_not_make_it_damage() {
    let mut image = Image::new(FIRST);
    image.write(&[append(1, 0, b"abc")], FIRST);
    image.write(&[append(1, 3, b"def")], image.end());
    let torn = image.batches[1].range.start;
    image.write(&[append(1, 6, b"ghi")], torn);
    image.bytes[torn + 100] ^= 1;
    for proven in [UNPROVEN, place(torn as u64)] {
        let replayed = replay_all(&image.bytes, proven);
        assert_ends_before(&image, 1, proven, &replayed, "torn");
        assert_eq!(
            replayed.outcome.expect("torn").synced.offset,
            if proven == UNPROVEN {
                FIRST_BATCH_AT
            } else {
                torn as u64
            }
        );
    }
    let proven = place(torn as u64 + 8);
    assert_ends_before(&image, 1, proven, &replay_all(&image.bytes, proven), "durable");
}

#[test]
fn what_is_missing_below_a_place_that_was_durable_is_damage() {
    let mut image = Image::new(8192);
    image.write(&[append(1, 0, b"abc")], FIRST);
    image.write(&[append(1, 3, b"def")], FIRST);
    let lost = image.batches[1].range.clone();
    image.bytes[lost.clone()].fill(0);
    let at = lost.start as u64;
    // The caller knows of something in this file that was durable.
    assert!(
        replay_all(&image.bytes, place(at + 8))
            .damage()
            .contains("batch 2 is missing")
    );
    assert!(
        replay_all(&image.bytes, place(8192))
            .damage()
            .contains("batch 2 is missing")
    );
    // It knows of nothing behind.
    let end = place(at);
    assert_eq!(replay_all(&image.bytes, place(at)).end(), &End::Clean { end });
    // All that there is in the file was durable; the next journal says whether that was all.
    assert_eq!(replay_all(&image.bytes, SEALED).end(), &End::Clean { end });
    let next_journal = LogPlace {
        journal: JOURNAL + 1,
        offset: FIRST_BATCH_AT,
    };
    let replayed = replay_all(&image.bytes, next_journal);
    assert_eq!(replayed.end(), &End::Clean { end });
    assert_eq!(replayed.outcome.expect("clean").synced, end);
}

#[test]
fn a_batch_out_of_its_turn_is_damage() {
    let image = sample();
    for next_batch in [0, 2, 1000, u64::MAX] {
        let replayed = replay_from(&image.bytes, FIRST_BATCH_AT, next_batch, UNPROVEN);
        assert_eq!(replayed.parts, []);
        let says = format!("batch 1 stands where batch {next_batch} should");
        assert!(replayed.damage().contains(&says));
    }
}

#[test]
fn a_payload_that_looks_like_batches_is_none() {
    let foreign = StoreId([9; 16]);
    let mut encoder = BatchEncoder::new(foreign);
    let behind = place(1 << 30);
    let claim = encoder.encode(&[], 1000, behind, behind).bytes.to_vec();
    let claims: &'static [u8] = Bytes::from(claim.repeat(20)).to_vec().leak();
    let mut image = Image::new(1 << 14);
    image.write(&[append(1, 0, b"abc")], FIRST);
    // Of its eight shifts, one puts the payload's claims where batches may begin.
    for shift in 0..8 {
        let mut image = image.clone();
        image.write(&[append(2, 0, &claims[shift..])], FIRST);
        let header = image.batches[1].range.start;
        image.bytes[header..header + BATCH_HEADER_BYTES].fill(0);
        let replayed = replay_all(&image.bytes, UNPROVEN);
        let end = place(header as u64);
        assert_eq!(replayed.end(), &End::Clean { end });
    }
}

#[test]
fn an_error_of_whoever_applies_ends_the_replay() {
    let image = sample();
    let mut applied = 0;
    let outcome = replay(
        &map(&image.bytes),
        JOURNAL,
        STORE,
        FIRST_BATCH_AT,
        1,
        UNPROVEN,
        &mut |_, _| {
            applied += 1;
            if applied == 3 {
                Err(BackendError::Poisoned)
            } else {
                Ok(())
            }
        },
    );
    assert!(matches!(outcome, Err(BackendError::Poisoned)));
    assert_eq!(applied, 3);
}

/// A disk that cannot read what is behind a place.
struct Unreadable(Arc<dyn Map>, u64);

impl Map for Unreadable {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn look(&self, range: Range<u64>, look: &mut dyn FnMut(&[u8])) {
        self.0.look(range, look);
    }

    fn bytes(self: Arc<Self>, range: Range<u64>) -> Bytes {
        Arc::clone(&self.0).bytes(range)
    }

    fn is_resident(&self, _: Range<u64>) -> bool {
        false
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        if range.end > self.1 {
            Err(io::ErrorKind::Other.into())
        } else {
            Ok(())
        }
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_neither_damage_nor_an_end() {
    let image = sample();
    for readable in [0, FIRST_BATCH_AT] {
        let failing: Arc<dyn Map> = Arc::new(Unreadable(map(&image.bytes), readable));
        let outcome = replay(
            &failing,
            JOURNAL,
            STORE,
            FIRST_BATCH_AT,
            1,
            UNPROVEN,
            &mut |part, _| panic!("{part:?} was not read"),
        );
        assert!(
            matches!(outcome, Err(BackendError::Io { source, .. }) if source.kind() == io::ErrorKind::Other)
        );
        assert!(
            crate::file::journal::has_batches(&failing, JOURNAL, STORE),
            "nobody knows"
        );
    }
}
