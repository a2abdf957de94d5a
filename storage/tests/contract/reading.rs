//! Reads begin anywhere and end at the end of a message; the index of appends knows where those are.

use tailwater_storage::Backend;
use tailwater_storage::backend::ReadError;
use tailwater_storage::stream::{AppendExtent, MessageEnds, StreamId};

use super::author::{Author, Body, at, commit, read, release_all, request, text};
use crate::every_backend;

/// Messages `aa|bbb` in one append, `cccc` in the next, `d|e|f` in the last: ends 2, 5, 9, 10, 11, 12.
fn three_appends(author: &mut Author, backend: &dyn Backend) -> StreamId {
    let id = author.stream_of(backend, "a", &[]);
    let batch = [
        author.append(id, Body::many(&["aa", "bbb"])),
        author.append(id, Body::many(&["cccc"])),
        author.append(id, Body::many(&["d", "e", "f"])),
    ];
    commit(backend, &batch);
    id
}

const ALL: &str = "aabbbccccdef";
const ENDS: [u64; 6] = [2, 5, 9, 10, 11, 12];

#[test]
fn a_read_ends_at_the_last_message_that_fits() {
    every_backend(|backend| {
        let id = three_appends(&mut Author::default(), backend);
        for from in 0..12 {
            for bytes_max in 1..14 {
                let fitting = ENDS
                    .iter()
                    .copied()
                    .filter(|end| (from + 1..=from + bytes_max).contains(end));
                let first = ENDS
                    .iter()
                    .copied()
                    .find(|end| *end > from)
                    .expect("a message follows");
                let end = fitting.max().unwrap_or(first);
                let expected = &ALL[from as usize..end as usize];
                assert_eq!(
                    text(backend, id, from, 12, bytes_max),
                    expected,
                    "{bytes_max} from {from}"
                );
            }
        }
    });
}

#[test]
fn one_message_longer_than_the_limit_is_given_whole_and_alone() {
    every_backend(|backend| {
        let id = three_appends(&mut Author::default(), backend);
        assert_eq!(text(backend, id, 5, 12, 1), "cccc");
        assert_eq!(text(backend, id, 6, 12, 1), "ccc");
        assert_eq!(text(backend, id, 5, 12, 4), "cccc");
        assert_eq!(text(backend, id, 0, 12, 0), "aa");
    });
}

#[test]
fn until_cuts_a_read_even_within_a_message() {
    every_backend(|backend| {
        let id = three_appends(&mut Author::default(), backend);
        for until in 0..=12 {
            for from in 0..=until {
                let expected = &ALL[from as usize..until as usize];
                assert_eq!(text(backend, id, from, until, u64::MAX), expected);
            }
        }
        assert_eq!(text(backend, id, 5, 7, 1), "cc");
        assert_eq!(text(backend, id, 3, 4, 1), "b");
    });
}

#[test]
fn nothing_is_read_at_the_tail_and_behind_until() {
    every_backend(|backend| {
        let id = three_appends(&mut Author::default(), backend);
        for (from, until) in [(12, 12), (7, 7), (9, 4)] {
            let slices = read(backend, request(id, from, until, 100)).expect("nothing to read");
            assert!(slices.is_empty());
            assert_eq!(slices.end, at(from));
            assert_eq!(
                backend
                    .extents(request(id, from, until, 100))
                    .expect("no extents"),
                []
            );
        }
    });
}

#[test]
fn large_appends_read_back_in_pieces_that_fit_together() {
    every_backend(|backend| {
        let mut author = Author::default();
        let id = author.stream_of(backend, "a", &[]);
        let mut all = Vec::new();
        for number in 0..12_u8 {
            let payload: Vec<u8> = (0..100_000 * u32::from(number % 4 + 1))
                .map(|i| i as u8 ^ number)
                .collect();
            all.extend_from_slice(&payload);
            commit(backend, &[author.append(id, Body::one(payload))]);
        }
        let tail = all.len() as u64;
        for from in [0, 1, 99_999, 100_000, 1_234_567, tail - 1] {
            let slices = read(backend, request(id, from, tail, u64::MAX)).expect("stored bytes");
            assert!(slices.into_contiguous() == all[from as usize..], "from {from}");
        }
    });
}

#[test]
fn bytes_that_were_read_stay_when_the_stream_is_released() {
    every_backend(|backend| {
        let mut author = Author::default();
        let id = author.stream_of(backend, "a", &["held by a slow reader"]);
        let slices = read(backend, request(id, 0, 21, 100)).expect("stored bytes");
        commit(backend, &[author.delete(id)]);
        release_all(backend);
        assert_eq!(slices.into_contiguous(), "held by a slow reader");
        assert!(matches!(
            backend.read(request(id, 0, 21, 100)),
            Err(ReadError::Gone)
        ));
        assert!(matches!(
            backend.extents(request(id, 0, 21, 100)),
            Err(ReadError::Gone)
        ));
    });
}

#[test]
fn an_unknown_stream_has_no_bytes() {
    every_backend(|backend| {
        let nobody = StreamId::new(404).expect("an id");
        assert!(matches!(
            backend.read(request(nobody, 0, 1, 1)),
            Err(ReadError::Gone)
        ));
        assert!(matches!(
            backend.extents(request(nobody, 0, 1, 1)),
            Err(ReadError::Gone)
        ));
    });
}

#[test]
fn extents_say_where_appends_stand_and_where_their_messages_end() {
    every_backend(|backend| {
        let mut author = Author::default();
        let id = three_appends(&mut author, backend);
        let extents = backend.extents(request(id, 0, 12, u64::MAX)).expect("extents");
        let summary: Vec<_> = extents
            .iter()
            .map(|extent| {
                (
                    extent.start.get(),
                    extent.end.get(),
                    extent.first_message,
                    extent.at.as_millis(),
                )
            })
            .collect();
        assert_eq!(summary, [(0, 5, 0, 2), (5, 9, 2, 3), (9, 12, 3, 4)]);
        assert_eq!(extents[0].ends, MessageEnds::from_ends(vec![2, 5]));
        assert_eq!(extents[1].ends, MessageEnds::One);
        let ends: Vec<_> = extents.iter().flat_map(AppendExtent::message_ends).collect();
        assert_eq!(ends, ENDS.map(at));
    });
}

#[test]
fn extents_begin_with_the_append_that_holds_from_and_are_cut_off_at_until() {
    every_backend(|backend| {
        let id = three_appends(&mut Author::default(), backend);
        let places = |from, until, bytes_max| -> Vec<(u64, u64)> {
            let extents = backend
                .extents(request(id, from, until, bytes_max))
                .expect("extents");
            extents
                .iter()
                .map(|extent| (extent.start.get(), extent.end.get()))
                .collect()
        };
        assert_eq!(places(4, 12, u64::MAX), [(0, 5), (5, 9), (9, 12)]);
        assert_eq!(places(5, 12, u64::MAX), [(5, 9), (9, 12)]);
        assert_eq!(places(0, 7, u64::MAX), [(0, 5), (5, 7)]);
        assert_eq!(places(0, 5, u64::MAX), [(0, 5)]);
        // As many as begin before `from + bytes_max`, and at least one.
        assert_eq!(places(4, 12, 0), [(0, 5)]);
        assert_eq!(places(4, 12, 1), [(0, 5)]);
        assert_eq!(places(4, 12, 2), [(0, 5), (5, 9)]);
        assert_eq!(places(5, 12, 4), [(5, 9)]);
        assert_eq!(places(5, 12, 5), [(5, 9), (9, 12)]);
    });
}

#[test]
fn a_close_without_bytes_has_no_extent() {
    every_backend(|backend| {
        let mut author = Author::default();
        let id = author.stream_of(backend, "a", &["x"]);
        commit(backend, &[author.close(id)]);
        assert_eq!(backend.extents(request(id, 0, 1, 100)).expect("extents").len(), 1);
    });
}
