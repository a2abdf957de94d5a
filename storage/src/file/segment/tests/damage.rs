//! Whatever happens to the bytes of a segment, nothing wrong is answered.

use proptest::prelude::*;

use super::*;
use crate::block_index::{Bounds, Groups};
use crate::codec::Encode;
use crate::file::segment::format::{self, Trailer};

/// The same file with something changed in its header, which is sealed again.
fn with_header(bytes: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes[..60]);
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The same file with something changed in its trailer, which is sealed again.
fn with_trailer(bytes: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let start = bytes.len() - 64;
    change(&mut bytes[start..start + 60]);
    let crc = crc32fast::hash(&bytes[start..start + 60]);
    bytes[start + 60..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Everything that can be asked about some runs, at every position of them.
fn all_answers(segment: &Segment, runs: &[Run]) -> Vec<Option<String>> {
    let mut answers = Vec::new();
    for run in runs {
        for from in run.from.get()..run.until.get() {
            let first = segment.first_message_end(run, at(from));
            answers.push(first.ok().map(|answer| format!("{answer:?}")));
            let last = segment.last_message_end(run, run.from, at(from + 1));
            answers.push(last.ok().map(|answer| format!("{answer:?}")));
            let extents = segment.extents(run, at(from), run.until, at(from + 20));
            answers.push(extents.ok().map(|answer| format!("{answer:?}")));
        }
        let copied = copied(segment, run, 0);
        answers.push(copied.ok().map(|answer| format!("{answer:?}")));
    }
    answers
}

#[test]
fn every_changed_byte_is_found() {
    let (kept, _) = write(&small());
    let sound = kept.bytes();
    kept.open().and_then(|segment| segment.verify()).expect("sound");
    for place in 0..sound.len() {
        for change in [0xff, 1 << (place % 8)] {
            let mut bytes = sound.clone();
            bytes[place] ^= change;
            let kept = Kept::of(&bytes);
            let found = kept.open().and_then(|segment| segment.verify());
            assert!(found.is_err(), "byte {place} ^ {change:#x} was not found");
        }
    }
}

#[test]
fn a_changed_byte_is_found_in_a_file_that_is_open() {
    let (kept, _) = write(&small());
    let sound = kept.bytes();
    let segment = kept.open().expect("opened");
    for place in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        write_over(&kept, &bytes);
        assert!(segment.verify().is_err(), "byte {place} was not found");
    }
    write_over(&kept, &sound);
    segment.verify().expect("sound again");
}

/// Writes into the file instead of replacing it, for a map of it to see.
fn write_over(kept: &Kept, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().write(true).open(&kept.path);
    file.and_then(|file| file.write_all_at(bytes, 0))
        .expect("written");
}

#[test]
fn a_changed_byte_makes_no_wrong_answer() {
    let mut models = small();
    // The second and third blocks are found by what the rows before them say.
    let mut blocks = Model::new(901, 17);
    (0..3).for_each(|now| blocks.push(now, &[300_000, 5]));
    models.push(blocks);
    let (kept, runs) = write(&models[..3]);
    let sound = kept.bytes();
    let expected = all_answers(&kept.open().expect("opened"), &runs);
    assert!(expected.iter().all(Option::is_some));
    let mut refused = 0;
    for place in 64..sound.len() - 64 {
        let mut bytes = sound.clone();
        bytes[place] ^= 1 << (place % 8);
        let kept = Kept::of(&bytes);
        let Ok(segment) = kept.open() else { continue };
        for (answer, expected) in all_answers(&segment, &runs).iter().zip(&expected) {
            assert!(
                answer.is_none() || answer == expected,
                "byte {place}: {answer:?}, not {expected:?}"
            );
            refused += usize::from(answer.is_none());
        }
    }
    assert!(refused > 0);
    let (kept, runs) = write(&models);
    let sound = kept.bytes();
    let run = &runs[3];
    let questions = [17, 18, 300_016, 300_017, 300_022, 600_027, 600_028, 900_031];
    let answers = |segment: &Segment| {
        questions.map(|from| {
            let first = segment.first_message_end(run, at(from)).ok();
            let last = segment.last_message_end(run, run.from, at(from + 1)).ok();
            let extents = segment.extents(run, at(from), run.until, run.until).ok();
            (first, last, extents)
        })
    };
    let expected = answers(&kept.open().expect("opened"));
    for place in run.index().start as usize..run.table().end as usize {
        let mut bytes = sound.clone();
        bytes[place] ^= 1 << (place % 8);
        write_over(&kept, &bytes);
        for (answer, expected) in answers(&kept.open().expect("opened")).iter().zip(&expected) {
            assert!(answer.0.is_none() || answer.0 == expected.0, "byte {place}");
            assert!(answer.1.is_none() || answer.1 == expected.1, "byte {place}");
            assert!(answer.2.is_none() || answer.2 == expected.2, "byte {place}");
        }
    }
}

#[test]
fn a_damage_says_where_it_is() {
    let (kept, runs) = write(&small());
    let sound = kept.bytes();
    let (mixed, alike) = (&runs[0], &runs[1]);
    let found_at = |place: u64| {
        let mut bytes = sound.clone();
        bytes[place as usize] ^= 1;
        let kept = Kept::of(&bytes);
        let segment = kept.open().expect("opened");
        damage(segment.verify())
    };
    let named = |place: u64, at: u64, run: &Run, what: &str| {
        let found = found_at(place);
        let expected = format!(
            "0000000000000007.segment at byte {at}: stream {}, positions {} to {}: {what}",
            run.stream, run.from, run.until
        );
        assert!(found.contains(&expected), "{found}\n{expected}");
        assert!(found.ends_with("; run `tailwater verify`"), "{found}");
    };
    named(mixed.payload_at + 3, mixed.payload_at, mixed, "the payload");
    named(alike.payload_at + 3, alike.payload_at, alike, "the payload");
    named(
        alike.index().start + 1,
        alike.index().start,
        alike,
        "the index of a block",
    );
    named(alike.table_at + 20, alike.table_at, alike, "the table");
    let footer_at = runs[2].table().end;
    assert!(found_at(footer_at + 5).contains(&format!("at byte {footer_at}: the footer")));
}

#[test]
fn a_file_that_is_cut_off_or_goes_on_is_refused() {
    let (kept, _) = write(&small());
    let sound = kept.bytes();
    for len in 0..sound.len() {
        let kept = Kept::of(&sound[..len]);
        let what = damage(kept.open());
        assert!(
            what.contains("it has no trailer") || what.contains("it is no segment"),
            "{what}"
        );
    }
    for more in [&[0][..], &[0; 64], &sound[sound.len() - 64..], &sound] {
        damage(Kept::of(&[&sound, more].concat()).open());
    }
    // Bytes that are missing in the middle leave the trailer whole.
    damage(Kept::of(&[&sound[..100], &sound[101..]].concat()).open());
}

#[test]
fn an_unfinished_file_is_refused() {
    let kept = Kept::new();
    let mut writer = kept.writer();
    damage(kept.open());
    let mut model = Model::new(1, 0);
    model.push(1, &[3 << 20]);
    write_run(&mut writer, &model);
    writer.sync_written().expect("synced");
    drop(writer);
    assert!(kept.bytes().len() > 3 << 20);
    assert!(damage(kept.open()).contains("it was not finished"));
}

#[test]
fn a_later_format_is_told_from_damage() {
    let (kept, _) = write(&small());
    let sound = kept.bytes();
    let newer = |bytes: &[u8]| match Kept::of(bytes).open() {
        Err(BackendError::Newer { what }) => what,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    };
    let later = with_header(&sound, |header| header[8] = 2);
    let what = newer(&later);
    assert!(what.contains("it has format version 2"), "{what}");
    // Flags, codec, key, and what is kept free today.
    for place in (12..16).chain(40..60) {
        let other = with_header(&sound, |header| header[place] ^= 1);
        let what = newer(&other);
        assert!(
            what.contains("that this Tailwater does not know"),
            "byte {place}: {what}"
        );
    }
    // Without its checksum it is damage, whatever it says.
    let mut damaged = sound;
    damaged[8] = 2;
    damage(Kept::of(&damaged).open());
}

#[test]
fn another_file_in_its_place_is_refused() {
    let (kept, _) = write(&small());
    let open = |number, store| Segment::open(&RealDisk, &kept.path, number, store);
    assert!(damage(open(8, STORE)).contains("it is segment 7"));
    let other = StoreId([0xab; 16]);
    assert!(damage(open(7, other)).contains("it belongs to another store"));
    let journal = with_header(&kept.bytes(), |header| {
        header[..8].copy_from_slice(b"TWJRNL\0\x01");
    });
    assert!(damage(Kept::of(&journal).open()).contains("it is no segment"));
    let absent = Kept::new();
    assert!(matches!(absent.open(), Err(BackendError::Io { .. })));
}

#[test]
fn absurd_trailers_are_refused() {
    let (kept, _) = write(&small());
    let sound = kept.bytes();
    let place_of = |field: usize, value: u64| {
        with_trailer(&sound, |trailer| {
            trailer[field..field + 8].copy_from_slice(&value.to_le_bytes());
        })
    };
    for value in [0, 1, 63, 1 << 40, u64::MAX, u64::MAX - 100] {
        damage(Kept::of(&place_of(0, value)).open());
        damage(Kept::of(&place_of(8, value)).open());
        damage(Kept::of(&place_of(24, value)).open());
        let payload_bytes = Kept::of(&place_of(16, value)).open().expect("opened");
        assert!(damage(payload_bytes.verify()).contains("bytes of payload"));
    }
    // A footer that begins within the header, for a file that is as long as that says.
    let mut bytes = sound[..64].to_vec();
    let trailer = Trailer {
        footer_at: 16,
        runs: 1,
        payload_bytes: 0,
        footer_crc: crc32fast::hash(&sound[16..64]),
    };
    trailer.put(&mut bytes, NUMBER);
    damage(Kept::of(&bytes).open());
}

/// A segment whose footer lists these runs, whatever stands before it.
fn with_footer(before: &[u8], runs: &[Run]) -> Kept {
    let mut footer = Vec::new();
    runs.iter().for_each(|run| run.put(&mut footer));
    let trailer = Trailer {
        footer_at: before.len() as u64,
        runs: runs.len() as u64,
        payload_bytes: runs.iter().map(Run::payload_bytes).sum(),
        footer_crc: crc32fast::hash(&footer),
    };
    trailer.put(&mut footer, NUMBER);
    Kept::of(&[before, &footer].concat())
}

#[test]
fn a_footer_must_list_what_is_there() {
    let (kept, runs) = write(&small());
    let sound = kept.bytes();
    let before = &sound[..runs[2].table().end as usize];
    let found = |runs: &[Run]| {
        let kept = with_footer(before, runs);
        kept.open().and_then(|segment| segment.verify())
    };
    found(&runs).expect("sound");
    for missing in [&runs[1..], &runs[..2], &[runs[0], runs[2]], &[]] {
        damage(found(missing));
    }
    damage(found(&[runs[1], runs[0], runs[2]]));
    damage(found(&[runs[0], runs[0], runs[1], runs[2]]));
    let changes: [&dyn Fn(&mut Run); 9] = [
        &|run| run.stream = id(1),
        &|run| run.stream = id(3),
        &|run| run.from = at(1),
        &|run| run.until = at(run.until.get() + 1),
        &|run| run.payload_at += 1,
        &|run| run.table_at -= 1,
        &|run| run.blocks = 0,
        &|run| run.blocks = 2,
        &|run| run.table_crc ^= 1,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut changed = runs.clone();
        change(&mut changed[1]);
        assert!(found(&changed).is_err(), "change {number} was not found");
    }
    // Bytes between the last run and the footer.
    let kept = with_footer(&[before, b"more"].concat(), &runs);
    let segment = kept.open().expect("opened");
    assert!(damage(segment.verify()).contains("belong to no run"));
}

fn any_run(len: u64) -> impl Strategy<Value = Run> {
    let place = move || prop_oneof![0..len + 100, any::<u64>(), u64::MAX - 100..=u64::MAX];
    let position = || prop_oneof![0..500_u64, 0..Position::LAST.get()];
    let blocks = prop_oneof![0..4_u32, any::<u32>()];
    (position(), position(), place(), place(), blocks, any::<u32>()).prop_map(
        |(from, until, payload_at, table_at, blocks, table_crc)| Run {
            stream: id(1),
            from: at(from),
            until: at(until),
            payload_at,
            table_at,
            blocks,
            table_crc,
        },
    )
}

proptest! {
    #[test]
    fn a_run_of_another_segment_is_refused_without_panic(
        run in any_run(1200),
        from in 0..600_u64,
        until in 0..600_u64,
    ) {
        let (kept, runs) = write(&small());
        prop_assume!(!runs.contains(&run));
        let segment = kept.open().expect("opened");
        let (from, until) = (at(from), at(until));
        prop_assert!(segment.first_message_end(&run, from).is_err());
        prop_assert!(segment.copy_run(&run, Position::ZERO, &mut |_, _, _| Ok(())).is_err());
        // These may answer what needs no looking: that there is nothing.
        prop_assert!(!matches!(segment.last_message_end(&run, from, until), Ok(Some(_))));
        prop_assert!(segment.extents(&run, from, until, until).ok().is_none_or(|found| found.is_empty()));
        let within = |range: std::ops::Range<u64>| range.start <= range.end && range.end <= segment.map().len();
        prop_assert!(segment.payload(&run, from, until).ok().is_none_or(within));
        prop_assert!(segment.table_range(&run).ok().flatten().is_none_or(within));
        prop_assert!(segment.index_range(&run, from, until).ok().is_none_or(within));
    }

    /// Sealed by a right checksum, so that nothing but decoding stands in the way.
    #[test]
    fn any_index_is_decoded_or_refused_without_panic(
        index in prop::collection::vec(prop_oneof![0..8_u8, any::<u8>()], 0..60),
        from in prop_oneof![Just(0), any::<u64>()],
        bytes in prop_oneof![0..2000_u64, any::<u64>()],
        appends in prop_oneof![0..2000_u32, any::<u32>()],
        first_message in prop_oneof![Just(0), any::<u64>()],
    ) {
        let bounds = Bounds { from, until: from.saturating_add(bytes), appends, first_message };
        let mut groups = Groups::new(bounds, &index);
        let mut end = from;
        while let Ok(Some(group)) = groups.next() {
            prop_assert_eq!(group.append(0).start, end);
            end = group.end();
            prop_assert!(end <= bounds.until);
            let last = group.append(group.count - 1);
            prop_assert_eq!(last.end, end);
            prop_assert!(last.first_message >= first_message);
            let _ = group.ends();
        }
    }

    #[test]
    fn any_file_is_opened_or_refused_without_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = Vec::new();
        format::put_header(&mut bytes, NUMBER, STORE);
        bytes.put_slice(&body);
        let runs = body.len() as u64 / 48;
        let footer_at = bytes.len() as u64 - runs * 48;
        let footer_crc = crc32fast::hash(&bytes[footer_at as usize..]);
        Trailer { footer_at, runs, payload_bytes: 0, footer_crc }.put(&mut bytes, NUMBER);
        let kept = Kept::of(&bytes);
        let segment = kept.open().expect("header and trailer are sound");
        prop_assert_eq!(segment.verify().is_ok(), body.is_empty());
    }
}
