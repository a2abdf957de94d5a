//! Batches that were written otherwise than this version writes them, all under right checksums.

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, proptest};

use super::records::{append, append_with_control, arbitrary, create};
use super::{Image, Replayed, UNPROVEN, Written, replay_all};
use crate::file::journal::header::BATCH_HEADER_BYTES;
use crate::file::journal::{BatchEncoder, End, FIRST_BATCH_AT};

const FIRST: usize = FIRST_BATCH_AT as usize;

/// Makes all checksums of a batch right again, as far as its lengths can be believed.
pub(super) fn mend(bytes: &mut [u8], batch: &Written) {
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(*bytes[at..].first_chunk().expect("in the batch")) as usize
    };
    let header = batch.range.start;
    for place in &batch.places {
        let (at, len) = (place.meta_at as usize, place.meta_len as usize);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[at + 8..at + len]);
        if place.payload_at > 0 {
            let payload = header + number(bytes, at + 28);
            crc.update(
                bytes
                    .get(payload..payload + number(bytes, at + 32))
                    .unwrap_or_default(),
            );
        }
        bytes[at + 4..at + 8].copy_from_slice(&crc.finalize().to_le_bytes());
    }
    let meta = header + BATCH_HEADER_BYTES;
    let meta_end = meta + number(bytes, header + 32);
    let crc = bytes.get(meta..meta_end).map_or(0, crc32fast::hash);
    bytes[header + 64..header + 68].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&bytes[header..header + 76]);
    bytes[header + 76..header + 80].copy_from_slice(&crc.to_le_bytes());
}

/// A journal whose second batch has other bytes at a place, under right checksums.
fn changed(at: usize, bytes: &[u8]) -> Replayed {
    let mut image = Image::new(8192);
    image.write(&[append(1, 0, b"abc")], FIRST);
    image.write(&[append_with_control(1, 3, b"def")], FIRST);
    image.write(&[append(1, 6, b"ghi")], FIRST);
    let at = image.batches[1].range.start + at;
    image.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    mend(&mut image.bytes, &image.batches[1]);
    let replayed = replay_all(&image.bytes, UNPROVEN);
    assert_eq!(replayed.parts, image.batches[0].parts);
    replayed
}

const ENTRY: usize = BATCH_HEADER_BYTES;

#[test]
fn what_a_later_version_has_written_is_refused_and_not_called_damage() {
    for (at, found, says) in [
        (
            4,
            2,
            "the format version of a batch's header is 2, and this Tailwater knows none later than 1",
        ),
        (
            6,
            4,
            "a batch's header has the flags 0b100, and this Tailwater knows only 0b0",
        ),
        (
            ENTRY + 8,
            3,
            "the format version of an entry is 3, and this Tailwater knows none later than 1",
        ),
        (
            ENTRY + 9,
            9,
            "an entry is of the kind 9, and this Tailwater knows none above 8",
        ),
        (
            ENTRY + 10,
            17,
            "an entry has the flags 0b10001, and this Tailwater knows only 0b1111",
        ),
    ] {
        let replayed = changed(at, &[found]);
        let newer = replayed.newer();
        assert!(
            newer.starts_with("journal 0000000000000007 at byte 42"),
            "{newer}"
        );
        assert!(newer.contains(says), "{newer}");
    }
    let control = ENTRY + BatchEncoder::bytes_of(&append(1, 3, b"def")) - 3;
    for flag in [2, 4, 8, 16] {
        assert!(changed(control + 10, &[flag]).newer().ends_with("knows only 0b1"));
    }
}

#[test]
fn a_journal_of_a_later_version_is_refused_and_not_called_damage() {
    for (at, says) in [
        (
            8,
            "the format version of the journal's header is 2, and this Tailwater knows none later than 1",
        ),
        (
            12,
            "the journal's header has the flags 0b10, and this Tailwater knows only 0b0",
        ),
    ] {
        let mut image = Image::new(8192);
        image.bytes[at] = 2;
        let crc = crc32fast::hash(&image.bytes[..60]);
        image.bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        let replayed = replay_all(&image.bytes, UNPROVEN);
        assert!(replayed.newer().contains(says));
    }
}

#[test]
fn nonsense_under_right_checksums_is_damage_and_not_cut_off() {
    let absurd = [0xff; 8];
    let control = ENTRY + BatchEncoder::bytes_of(&append(1, 3, b"def")) - 3;
    for (at, bytes) in [
        (4, &[0, 0][..]),
        (24, &[81]),
        (32, &absurd[..4]),
        (32, &[0]),
        (36, &absurd[..4]),
        (36, &[1]),
        // Durable up to a place behind itself, and in a later journal.
        (48, &absurd),
        (40, &[8]),
        (ENTRY, &absurd[..4]),
        (ENTRY, &[19]),
        (ENTRY, &[0]),
        (ENTRY + 8, &[0]),
        (ENTRY + 9, &[0]),
        // The last part of a record that goes on, a kind with another's content, no stream.
        (control + 10, &[1]),
        (control + 9, &[1]),
        (ENTRY + 12, &absurd),
        (ENTRY + 12, &[0]),
        // The payload: before the payloads, behind them, longer or shorter than it can be.
        (ENTRY + 28, &[0]),
        (ENTRY + 28, &absurd[..4]),
        (ENTRY + 32, &absurd[..4]),
        (ENTRY + 32, &[12]),
        // Positions and messages that cannot be counted on.
        (ENTRY + 20, &9_999_999_999_999_999_u64.to_le_bytes()),
        (ENTRY + 36, &absurd),
    ] {
        let replayed = changed(at, bytes);
        let damage = replayed.damage();
        assert!(
            damage.contains("cannot be read; run `tailwater verify`"),
            "{at} {bytes:?}: {damage}"
        );
    }
}

#[test]
fn a_batch_longer_than_its_payloads_is_damage() {
    let mut image = Image::new(8192);
    image.write(&[append(1, 0, b"abc")], FIRST);
    let total = image.batches[0].range.len() as u64 + 8;
    image.bytes[FIRST + 24..FIRST + 32].copy_from_slice(&total.to_le_bytes());
    mend(&mut image.bytes, &image.batches[0]);
    let replayed = replay_all(&image.bytes, UNPROVEN);
    assert!(
        replayed
            .damage()
            .contains("the entries of a batch cannot be read")
    );
}

#[test]
fn a_stream_that_begins_with_anothers_id_is_damage() {
    let mut image = Image::new(8192);
    image.write(&[create(5)], FIRST);
    assert_eq!(replay_all(&image.bytes, UNPROVEN).parts, image.batches[0].parts);
    image.bytes[FIRST + ENTRY + 12] = 6;
    mend(&mut image.bytes, &image.batches[0]);
    let replayed = replay_all(&image.bytes, UNPROVEN);
    assert!(replayed.damage().contains("a stream's beginning cannot be read"));
}

#[test]
fn an_absurd_length_of_a_batch_is_not_believed() {
    let replayed = changed(24, &(u64::MAX - 7).to_le_bytes());
    assert!(
        matches!(replayed.end(), End::Torn { reason, .. } if reason.contains("the file ends before it does"))
    );
}

proptest! {
    /// Right checksums over anything: an error or parts, never a panic, and no batch of which only a part is applied.
    #[test]
    fn changed_batches_under_right_checksums_do_no_harm(
        records in arbitrary(4), changes in vec((any::<u16>(), any::<u8>()), 1..4)
    ) {
        let mut image = Image::new(FIRST);
        image.write(&[append(1, 0, b"abc")], FIRST);
        image.write(&records, FIRST);
        let batch = image.batches[1].clone();
        for (at, value) in changes {
            image.bytes[batch.range.start + usize::from(at) % batch.range.len()] = value;
        }
        mend(&mut image.bytes, &batch);
        let replayed = replay_all(&image.bytes, UNPROVEN);
        let known = image.batches[0].parts.len();
        let count = replayed.parts.len();
        prop_assert!(count == known || count == known + batch.parts.len());
    }
}
