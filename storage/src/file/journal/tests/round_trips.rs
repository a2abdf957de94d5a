use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use tailwater_stream::{MessageEnds, Part, Record, Transition};

use super::records::{append, append_with_control, arbitrary, id};
use super::{Image, SEALED, UNPROVEN, parts, place, replay_all, replay_from};
use crate::file::journal::entry::Entry;
use crate::file::journal::header::BATCH_HEADER_BYTES;
use crate::file::journal::{
    AppendMeta, BATCH_OVERHEAD_BYTES, BatchEncoder, End, FIRST_BATCH_AT, PartPlace, append_meta, check_entry,
};

fn entry_of(image: &[u8], place: PartPlace) -> &[u8] {
    &image[place.meta_at as usize..][..place.meta_len as usize]
}

/// What the bytes at a part's place must be for readers and for compaction.
fn assert_place_fits(image: &[u8], part: &Part, place: PartPlace) {
    let entry = entry_of(image, place);
    let Part::Stream {
        transition: Transition::Append(append),
        ..
    } = part
    else {
        assert_eq!(place.payload_at, 0);
        assert_eq!(check_entry(entry, &[]), Ok(()));
        assert!(append_meta(entry).is_err(), "it is no append");
        return;
    };
    assert_eq!(place.payload_at == 0, append.payload.is_empty());
    let payload = if append.payload.is_empty() {
        &[]
    } else {
        &image[place.payload_at as usize..][..append.payload.len()]
    };
    assert_eq!(payload, append.payload);
    assert_eq!(check_entry(entry, payload), Ok(()));
    let meta = AppendMeta {
        start: append.start,
        at: append.at,
        first_message: append.first_message,
        ends: append.ends.clone(),
        payload_len: append.payload.len() as u32,
    };
    assert_eq!(append_meta(entry), Ok(meta));
}

proptest! {
    #[test]
    fn what_is_written_is_replayed(batches in vec(arbitrary(6), 1..5), room in 0..200_usize) {
        let mut image = Image::new(FIRST_BATCH_AT as usize);
        for records in &batches {
            image.write(records, image.end());
        }
        let end = image.end();
        image.bytes.resize(end + room, 0);
        let replayed = replay_all(&image.bytes, UNPROVEN);
        let outcome = replayed.outcome.as_ref().expect("a whole journal");
        prop_assert_eq!(&outcome.end, &End::Clean { end: place(end as u64) });
        prop_assert_eq!(outcome.next_batch, batches.len() as u64 + 1);
        let last = image.batches.last().expect("there are batches");
        prop_assert_eq!(outcome.synced, last.synced);
        let written: Vec<_> = image.batches.iter().flat_map(|batch| batch.parts.clone()).collect();
        let places: Vec<_> = image.batches.iter().flat_map(|batch| batch.places.clone()).collect();
        prop_assert_eq!(&replayed.parts, &written);
        prop_assert_eq!(&replayed.places, &places);
        for (part, place) in written.iter().zip(places) {
            assert_place_fits(&image.bytes, part, place);
        }
    }

    #[test]
    fn a_batch_takes_no_more_than_its_records_say(records in arbitrary(6)) {
        let mut image = Image::new(FIRST_BATCH_AT as usize);
        image.write(&records, 0);
        let range = &image.batches[0].range;
        let said: usize = records.iter().map(BatchEncoder::bytes_of).sum();
        prop_assert_eq!(range.len(), (BATCH_HEADER_BYTES + said).next_multiple_of(8));
        prop_assert!(range.len() <= BATCH_OVERHEAD_BYTES + said);
    }

    #[test]
    fn records_end_where_they_were_made_to_end(records in arbitrary(6)) {
        let mut image = Image::new(FIRST_BATCH_AT as usize);
        image.write(&records, 0);
        let goes_on = image.batches[0].places.iter().map(|place| {
            let mut from = crate::codec::Decoder::new(entry_of(&image.bytes, *place));
            Entry::take(&mut from).expect("an entry").goes_on()
        });
        let expected = records.iter().flat_map(|record| {
            let count = record.parts.len();
            (1..=count).map(move |nth| nth < count)
        });
        prop_assert_eq!(goes_on.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    /// Whatever bytes bear a right checksum, reading them gives an error or a part, never a panic.
    #[test]
    fn any_bytes_are_refused_or_read(
        kind in 0..8_u8, flags in 0..16_u16, body in vec(any::<u8>(), 0..120), payload in vec(any::<u8>(), 0..40)
    ) {
        let mut bytes = vec![0; 8];
        bytes.extend([1, kind]);
        bytes.extend(flags.to_le_bytes());
        bytes.extend(5_u64.to_le_bytes());
        bytes.extend(body);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let _ = append_meta(&bytes);
        if let Ok(entry) = Entry::take(&mut crate::codec::Decoder::new(&bytes)) {
            let _ = entry.payload();
            let _ = entry.part(Bytes::from(payload));
        }
    }
}

#[test]
fn a_replay_begins_where_it_is_told() {
    let mut image = Image::new(8192);
    for start in [0, 3, 6] {
        image.write(&[append(1, start, b"abc")], 0);
    }
    let second = image.batches[1].range.start as u64;
    let replayed = replay_from(&image.bytes, second, 2, place(second));
    assert_eq!(
        replayed.parts,
        [image.batches[1].parts.clone(), image.batches[2].parts.clone()].concat()
    );
    let outcome = replayed.outcome.expect("a whole journal");
    assert_eq!((outcome.next_batch, outcome.synced), (4, place(second)));

    let end = image.end() as u64;
    let nothing = replay_from(&image.bytes, end, 4, place(end));
    assert_eq!(
        (nothing.end(), nothing.parts.len()),
        (&End::Clean { end: place(end) }, 0)
    );
    let whole = replay_from(&image.bytes[..end as usize], end, 4, SEALED);
    assert_eq!(whole.outcome.expect("a whole journal").synced, place(end));
}

#[test]
fn a_replay_cannot_begin_where_no_batch_can() {
    let mut image = Image::new(8192);
    image.write(&[append(1, 0, b"abc")], 0);
    for from in [
        0,
        FIRST_BATCH_AT - 8,
        FIRST_BATCH_AT + 4,
        8200,
        u64::MAX,
        u64::MAX - 7,
    ] {
        replay_from(&image.bytes, from, 1, UNPROVEN).damage();
    }
}

#[test]
fn an_empty_batch_is_a_batch() {
    let mut image = Image::new(8192);
    image.write(&[], 0);
    image.write(&[append(1, 0, b"abc")], 0);
    let replayed = replay_all(&image.bytes, UNPROVEN);
    assert_eq!(replayed.parts, image.batches[1].parts);
    assert_eq!(replayed.outcome.expect("a whole journal").next_batch, 3);
}

#[test]
fn payloads_of_one_stream_stand_together_in_the_order_of_their_appends() {
    let records = [
        append(9, 0, b"nine"),
        append_with_control(2, 0, b"two,"),
        append(9, 4, b"-more"),
        append(5, 0, b"five"),
        append(2, 4, b"again"),
        append(9, 9, b"!"),
    ];
    let mut image = Image::new(8192);
    image.write(&records, 0);
    let Part::Stream { id: first, .. } = image.batches[0].parts[0] else {
        panic!("an append")
    };
    assert_eq!(first, id(9));
    let payloads = b"two,againfivenine-more!";
    let range = image.batches[0].range.clone();
    let all = payloads.len() + (range.len() - BATCH_HEADER_BYTES - payloads.len()) % 8;
    let found = image.bytes[range.clone()]
        .windows(payloads.len())
        .position(|window| window == payloads);
    assert!(range.len() - found.expect("they stand together") <= all + 7);
    assert_eq!(replay_all(&image.bytes, UNPROVEN).parts, parts(&records));
}

#[test]
fn a_reused_buffer_shows_nothing_of_the_batch_before() {
    let mut encoder = BatchEncoder::new(super::STORE);
    let (long, short) = (append_with_control(1, 0, &[7; 5000]), append(2, 0, b"abc"));
    let fresh = BatchEncoder::new(super::STORE)
        .encode(&[&short], 2, place(FIRST_BATCH_AT), place(0))
        .bytes
        .to_vec();
    encoder.encode(&[&long, &long], 1, place(FIRST_BATCH_AT), place(0));
    let again = encoder.encode(&[&short], 2, place(FIRST_BATCH_AT), place(0));
    assert_eq!(again.bytes, fresh);
    assert_eq!(again.places.len(), 1);
}

#[test]
fn many_messages_and_their_ends_come_back() {
    let ends: Vec<u32> = (1..=5000).map(|nth| nth * 3).collect();
    let mut record = append(1, 0, &[b'x'; 15_000]);
    if let Part::Stream {
        transition: Transition::Append(append),
        ..
    } = &mut record.parts[0]
    {
        append.ends = MessageEnds::from_ends(ends);
    }
    let records: [Record; 1] = [record];
    let mut image = Image::new(FIRST_BATCH_AT as usize);
    image.write(&records, 0);
    assert_eq!(replay_all(&image.bytes, UNPROVEN).parts, parts(&records));
}

#[test]
#[should_panic(expected = "what is not written yet is not durable")]
fn a_batch_cannot_say_that_it_is_durable_itself() {
    let record = append(1, 0, b"abc");
    let behind = place(FIRST_BATCH_AT + 8);
    BatchEncoder::new(super::STORE).encode(&[&record], 1, place(FIRST_BATCH_AT), behind);
}
