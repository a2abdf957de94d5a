//! How much a segment takes, how it is written, and what is refused to be written.

use std::io;

use super::*;
use crate::file::segment::writer::{BLOCK_APPENDS, BLOCK_PAYLOAD_BYTES};

fn append(
    writer: &mut SegmentWriter,
    first_message: u64,
    ends: &MessageEnds,
    payload: &[u8],
) -> io::Result<()> {
    let head = AppendHead {
        at: Timestamp::from_millis(1),
        first_message,
        ends,
    };
    writer.append(head, payload)
}

#[test]
fn a_run_of_one_append_takes_little() {
    let bytes_of = |streams: u64| {
        let models: Vec<_> = (1..=streams)
            .map(|stream| {
                let mut model = Model::new(stream, 0);
                model.push(1_700_000_000_000, &[100]);
                model
            })
            .collect();
        write(&models).0.bytes().len() as u64
    };
    assert_eq!(bytes_of(1000) - bytes_of(999), 100 + 48 + 48 + 8);
}

#[test]
fn alike_appends_take_nothing_more_within_a_block() {
    let bytes_of = |appends, later_ms: u64| {
        let mut model = Model::new(1, 0);
        (0..appends).for_each(|number| model.push(number * later_ms, &[10, 10]));
        let bytes = write(std::slice::from_ref(&model)).0.bytes().len() as u64;
        bytes - 20 * appends
    };
    for later_ms in [0, 1, 250] {
        // More are counted in more bytes.
        assert!(bytes_of(4000, later_ms) - bytes_of(4, later_ms) <= 2);
    }
}

#[test]
fn a_block_ends_with_its_bytes_or_its_appends() {
    let blocks_of = |appends: u64, bytes: u64| {
        let mut model = Model::new(1, 0);
        (0..appends).for_each(|number| model.push(number, &[bytes as u32]));
        write(std::slice::from_ref(&model)).1[0].blocks
    };
    let appends = u64::from(BLOCK_APPENDS);
    assert_eq!(blocks_of(appends, 1), 1);
    assert_eq!(blocks_of(appends + 1, 1), 2);
    assert_eq!(blocks_of(1, BLOCK_PAYLOAD_BYTES * 3), 1);
    assert_eq!(blocks_of(2, BLOCK_PAYLOAD_BYTES), 2);
    assert_eq!(blocks_of(2, BLOCK_PAYLOAD_BYTES - 1), 1);
    assert_eq!(blocks_of(3, BLOCK_PAYLOAD_BYTES - 1), 2);
}

#[test]
fn payloads_longer_than_the_buffer_are_written_in_their_place() {
    let mut models = small();
    let mut long = Model::new(901, 5);
    for bytes in [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20, 7] {
        long.push(3, &[1, bytes, 1]);
    }
    models.push(long);
    let (kept, runs) = write(&models);
    let segment = kept.open().expect("opened");
    for (run, model) in runs.iter().zip(&models) {
        assert!(copied(&segment, run, 0).expect("sound") == model.appends);
    }
    segment.verify().expect("sound");
}

#[test]
fn what_is_synced_in_between_stays() {
    let kept = Kept::new();
    let mut writer = kept.writer();
    let mut model = Model::new(1, 0);
    (0..5).for_each(|_| model.push(1, &[700_000]));
    writer.begin_run(model.stream, at(0));
    for (number, append) in model.appends.iter().enumerate() {
        writer.append(append.head(), &append.payload).expect("written");
        writer.sync_written().expect("synced");
        assert_eq!(
            writer.index_bytes() as usize / 40,
            number + 1,
            "each is a block of its own"
        );
        assert!(writer.len() > append.end());
    }
    let run = writer.end_run().expect("written").expect("there is one");
    assert_eq!(writer.index_bytes(), 0);
    writer.finish().expect("finished");
    let segment = kept.open().expect("opened");
    assert!(copied(&segment, &run, 0).expect("sound") == model.appends);
}

#[test]
fn runs_are_listed_in_order_however_they_were_written() {
    let mut models = small();
    let mut later = Model::new(1, models[0].until());
    later.push(1, &[5]);
    let mut behind_a_gap = Model::new(1, 10_000);
    behind_a_gap.push(1, &[5]);
    models.extend([behind_a_gap, later]);
    let (kept, runs) = write(&models);
    let segment = kept.open().expect("opened");
    let listed = segment.runs().expect("sound");
    assert_eq!(listed, [runs[0], runs[4], runs[3], runs[1], runs[2]]);
    segment.verify().expect("sound");
}

#[test]
fn a_segment_without_runs_is_one() {
    let (kept, _) = write(&[]);
    let segment = kept.open().expect("opened");
    assert_eq!(segment.runs().expect("sound"), []);
    assert_eq!(segment.number(), NUMBER);
    assert_eq!(segment.verify().expect("sound").bytes, 128);
}

#[test]
fn bytes_of_a_stream_that_are_there_already_are_refused() {
    let kept = Kept::new();
    let mut writer = kept.writer();
    let models = small();
    write_run(&mut writer, &models[0]);
    let mut again = Model::new(models[0].stream.get(), models[0].until() - 1);
    again.push(1, &[5]);
    write_run(&mut writer, &again);
    let error = writer.finish().expect_err("two runs hold one byte");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    damage(kept.open());
}

#[test]
fn what_no_stream_has_is_refused() {
    let refused = |writer: &mut SegmentWriter, first_message, ends: &MessageEnds, payload: &[u8]| {
        let error = append(writer, first_message, ends, payload).expect_err("no stream has this");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    };
    let two = MessageEnds::from_ends(vec![2, 4]);
    let kept = Kept::new();
    let mut writer = kept.writer();
    writer.begin_run(id(1), Position::LAST);
    refused(&mut writer, 0, &MessageEnds::One, b"1");
    drop(writer);
    let kept = Kept::new();
    let mut writer = kept.writer();
    writer.begin_run(id(1), at(0));
    refused(&mut writer, 0, &two, b"12345");
    refused(&mut writer, 0, &two, b"123");
    refused(&mut writer, u64::MAX, &two, b"1234");
    append(&mut writer, 5, &two, b"1234").expect("written");
    refused(&mut writer, 6, &MessageEnds::One, b"1");
    refused(&mut writer, 8, &MessageEnds::One, b"1");
    append(&mut writer, 7, &MessageEnds::One, b"1").expect("written");
}

#[test]
fn a_segment_is_never_written_over() {
    let (kept, _) = write(&small());
    let before = kept.bytes();
    let again = SegmentWriter::create(&RealDisk, &kept.path, NUMBER, STORE);
    assert_eq!(
        again.err().map(|error| error.kind()),
        Some(io::ErrorKind::AlreadyExists)
    );
    assert_eq!(kept.bytes(), before);
}
