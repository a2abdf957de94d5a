//! What is stored counts, and counts no more once it is gone: exactly.

use tailwater_storage::Backend;
use tailwater_storage::backend::{Outcome, ReadError, Usage};
use tailwater_storage::stream::{Epoch, Lifetime, ProducerId, ProducerMark, Seq};

use super::author::{
    Author, Body, at, commit, control, millis, outcomes, release_all, request, text, together,
};
use crate::{bounded, every_backend, within};

/// Room for everything that the tests store.
const AMPLE: u64 = 1 << 30;

fn bytes(backend: &dyn Backend) -> u64 {
    backend.usage().bytes
}

fn mark(producer: &str, seq: u64) -> Option<ProducerMark> {
    Some(ProducerMark {
        id: ProducerId::parse(producer).expect("an id"),
        epoch: Epoch::ZERO,
        seq: Seq::new(seq).expect("a number"),
    })
}

#[test]
fn usage_counts_streams_and_at_least_their_bytes() {
    within(1 << 20, |backend| {
        let mut author = Author::default();
        author.stream_of(backend, "a", &["0123456789"]);
        let usage = backend.usage();
        assert_eq!(usage.streams, 1);
        assert!(usage.bytes >= 10, "{usage:?}");
        assert!(usage.bytes_max.is_none_or(|max| max == 1 << 20));
    });
}

#[test]
fn usage_is_zero_again_once_everything_is_deleted_and_released() {
    every_backend(|backend| {
        let mut author = Author::default();
        let a = author.stream_of(backend, "a", &["0123"]);
        let (b, create) = author.create_living("b", Lifetime::Ttl { seconds: 1 });
        let batch = [
            create,
            author.append_as(a, Body::many(&["x", "yy", "zzz"]), mark("p", 0), false),
            author.append_as(a, Body::one("again"), mark("p", 1), false),
            author.append_as(b, Body::one(vec![7; 700_000]), mark("p", 0), true),
            control(a, "key", Some("value")),
            control(a, "key", Some("longer value")),
            author.trim(a, 5),
        ];
        commit(backend, &batch);
        let (fork, create) = author.fork(a, "fork", 7);
        commit(backend, &[create, author.append(fork, Body::one("own"))]);
        backend.reclaim(a).expect("works");
        commit(
            backend,
            &[author.delete(a), author.delete(b), author.delete(fork)],
        );
        release_all(backend);
        let Usage { streams, bytes, .. } = backend.usage();
        assert_eq!((streams, bytes), (0, 0));
    });
}

#[test]
fn a_stream_that_reached_its_end_gives_back_as_much_as_a_deleted_one() {
    every_backend(|backend| {
        let mut author = Author::default();
        author.stream_of(backend, "stays", &["x"]);
        let before = bytes(backend);
        let (id, create) = author.create_living("ends", Lifetime::Until { at: millis(50) });
        commit(backend, &[create, author.append(id, Body::one("y"))]);
        assert_eq!(backend.due(millis(60), 10).expect("works").len(), 1);
        commit(backend, &[author.delete(id)]);
        release_all(backend);
        assert_eq!(bytes(backend), before);
    });
}

#[test]
fn a_refused_record_costs_nothing() {
    bounded(16 * 1024, |backend| {
        let mut author = Author::default();
        let a = author.stream_of(backend, "a", &["x"]);
        let before = backend.usage();
        for round in 0..100 {
            let mut draft = author.clone();
            let (b, create) = draft.create("b");
            let refused = together([
                create,
                control(a, "key", Some("value")),
                draft.append_as(b, Body::one(vec![0; 32 * 1024]), mark("p", 0), false),
            ]);
            assert_eq!(outcomes(backend, &[refused]), [Outcome::Full], "round {round}");
        }
        assert_eq!(backend.usage(), before);
    });
}

#[test]
fn a_full_backend_takes_as_much_again_as_was_given_back() {
    bounded(64 * 1024, |backend| {
        let mut author = Author::default();
        let fill = |author: &mut Author, id| {
            let mut count = 0;
            while outcomes(backend, &[author.clone().append(id, Body::one("0123456789"))])
                == [Outcome::Durable]
            {
                author.append(id, Body::one("0123456789"));
                count += 1;
            }
            count
        };
        let first = author.stream_of(backend, "first", &[]);
        let count = fill(&mut author, first);
        assert!(count > 10);
        for round in 0..5 {
            let full = author.states.keys().next_back().copied().expect("a stream");
            commit(backend, &[author.delete(full)]);
            release_all(backend);
            let next = author.stream_of(backend, "first", &[]);
            assert_eq!(fill(&mut author, next), count, "round {round}");
        }
    });
}

#[test]
fn trimming_gives_back_what_the_trimmed_appends_cost() {
    bounded(AMPLE, |backend| {
        let mut author = Author::default();
        let a = author.stream_of(backend, "a", &[]);
        let empty = bytes(backend);
        commit(backend, &[author.append(a, Body::many(&["ab", "cd", "ef"]))]);
        let with_one = bytes(backend);
        commit(backend, &[author.append(a, Body::one(vec![1; 400_000]))]);
        commit(backend, &[author.append(a, Body::one("tail"))]);
        let with_all = bytes(backend);
        // A cut within an append keeps it whole.
        commit(backend, &[author.trim(a, 3)]);
        backend.reclaim(a).expect("works");
        assert_eq!(bytes(backend), with_all);
        commit(backend, &[author.trim(a, 6)]);
        assert_eq!(bytes(backend), with_all, "nothing goes before it is reclaimed");
        backend.reclaim(a).expect("works");
        assert_eq!(bytes(backend), with_all - (with_one - empty));
        commit(backend, &[author.trim(a, 400_010)]);
        backend.reclaim(a).expect("works");
        assert_eq!(bytes(backend), empty);
        commit(backend, &[author.append(a, Body::one("goes on"))]);
        assert_eq!(text(backend, a, 400_010, 400_017, 100), "goes on");
    });
}

#[test]
fn a_removed_key_gives_back_what_it_cost_and_a_replaced_one_the_difference() {
    bounded(AMPLE, |backend| {
        let a = Author::default().stream_of(backend, "a", &[]);
        let empty = bytes(backend);
        commit(backend, &[control(a, "key", Some("1234"))]);
        let short = bytes(backend);
        commit(backend, &[control(a, "key", Some("12345678"))]);
        assert_eq!(bytes(backend), short + 4);
        commit(backend, &[control(a, "key", Some("1234"))]);
        assert_eq!(bytes(backend), short);
        commit(
            backend,
            &[together(
                [Some("x"), None, Some("y"), None].map(|v| control(a, "key", v)),
            )],
        );
        assert_eq!(bytes(backend), empty);
    });
}

/// The cost of a producer was taken for each append of the record and given back once.
#[test]
fn a_producer_that_appears_twice_in_one_record_is_counted_once() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (a, create) = author.create("a");
        let record = together([
            create,
            author.append_as(a, Body::one("x"), mark("p", 0), false),
            author.append_as(a, Body::one("y"), mark("p", 1), false),
        ]);
        commit(backend, &[record]);
        commit(backend, &[author.delete(a)]);
        release_all(backend);
        assert_eq!(bytes(backend), 0);
    });
}

#[test]
fn what_a_fork_can_read_is_not_reclaimed() {
    every_backend(|backend| {
        let mut author = Author::default();
        let source = author.stream_of(backend, "source", &["0123", "4567", "89ab"]);
        let (fork, create) = author.fork(source, "fork", 8);
        commit(backend, &[create, author.trim(source, 12)]);
        let before = bytes(backend);
        backend.reclaim(source).expect("works");
        assert_eq!(bytes(backend), before);
        assert_eq!(text(backend, source, 0, 8, 100), "01234567");
        commit(backend, &[author.trim(fork, 4)]);
        backend.reclaim(source).expect("works");
        assert!(bytes(backend) < before);
        assert_eq!(text(backend, source, 4, 8, 100), "4567");
        assert!(matches!(
            backend.read(request(source, 0, 8, 100)),
            Err(ReadError::Gone)
        ));
    });
}

#[test]
fn what_a_fork_of_a_fork_can_read_is_not_reclaimed() {
    every_backend(|backend| {
        let mut author = Author::default();
        let source = author.stream_of(backend, "source", &["0123", "4567"]);
        let (middle, create) = author.fork(source, "middle", 8);
        commit(backend, &[create, author.append(middle, Body::one("mid"))]);
        let (leaf, create) = author.fork(middle, "leaf", 11);
        // The leaf reads from the source, though the one between them is gone.
        commit(backend, &[create, author.delete(source), author.delete(middle)]);
        backend.reclaim(source).expect("works");
        backend.reclaim(middle).expect("works");
        assert_eq!(text(backend, source, 0, 8, 100), "01234567");
        assert_eq!(text(backend, middle, 8, 11, 100), "mid");
        commit(backend, &[author.trim(leaf, 8)]);
        backend.reclaim(source).expect("works");
        backend.reclaim(middle).expect("works");
        assert!(matches!(
            backend.read(request(source, 4, 8, 100)),
            Err(ReadError::Gone)
        ));
        assert_eq!(text(backend, middle, 8, 11, 100), "mid");
    });
}

/// The oldest position of a fork held the source's bytes behind the fork point, which it cannot read.
#[test]
fn a_fork_holds_nothing_of_its_source_behind_the_fork_point() {
    every_backend(|backend| {
        let mut author = Author::default();
        let source = author.stream_of(backend, "source", &["0123"]);
        let base = bytes(backend);
        commit(backend, &[author.append(source, Body::one("4567"))]);
        commit(backend, &[author.append(source, Body::one("89ab"))]);
        let with_two = bytes(backend);
        let (fork, create) = author.fork(source, "fork", 4);
        commit(backend, &[create, author.append(fork, Body::one("own"))]);
        commit(backend, &[author.trim(fork, 6), author.trim(source, 12)]);
        let before = bytes(backend);
        backend.reclaim(source).expect("works");
        let first = 4 + (with_two - base) / 2 - 4;
        assert_eq!(before - bytes(backend), (with_two - base) + first);
        assert_eq!(text(backend, source, 12, 12, 100), "");
    });
}

#[test]
fn a_deleted_fork_holds_nothing_though_it_is_not_released() {
    every_backend(|backend| {
        let mut author = Author::default();
        let source = author.stream_of(backend, "source", &["0123", "4567"]);
        let (fork, create) = author.fork(source, "fork", 8);
        commit(backend, &[create, author.trim(source, 8), author.delete(fork)]);
        let before = bytes(backend);
        backend.reclaim(source).expect("works");
        assert!(bytes(backend) < before);
        assert!(matches!(
            backend.read(request(source, 0, 8, 100)),
            Err(ReadError::Gone)
        ));
        assert_eq!(author.state(source).oldest, at(8));
    });
}

#[test]
fn reclaiming_what_is_gone_does_nothing() {
    every_backend(|backend| {
        let mut author = Author::default();
        let a = author.stream_of(backend, "a", &["x"]);
        commit(backend, &[author.delete(a)]);
        release_all(backend);
        backend.reclaim(a).expect("works");
        assert_eq!(bytes(backend), 0);
    });
}
