//! Records are whole or absent, and what was decided on a refused one is refused.

use tailwater_storage::backend::Outcome::{Durable, Full};
use tailwater_storage::stream::{Epoch, ProducerId, ProducerMark, Seq};

use super::author::{Author, Body, at, commit, control, load, outcomes, read, request, text, together};
use crate::{bounded, every_backend};

/// Room for some small streams, and not for a payload of [`HUGE`].
const ROOM: u64 = 64 * 1024;
const HUGE: usize = 128 * 1024;

fn huge() -> Body {
    Body::one(vec![b'x'; HUGE])
}

#[test]
fn a_committed_record_is_seen_whole() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (id, create) = author.create("a");
        let record = together([
            create,
            author.append(id, Body::one("hello ")),
            author.append_as(id, Body::one("world"), None, true),
            control(id, "cursor", Some("7")),
        ]);
        commit(backend, &[record]);
        assert_eq!(load(backend, "a").as_ref(), Some(author.state(id)));
        assert!(author.state(id).closed);
        assert_eq!(text(backend, id, 0, 11, 100), "hello world");
        assert_eq!(
            backend.control(id, b"cursor").expect("works").as_deref(),
            Some(&b"7"[..])
        );
    });
}

/// As a claim changes a queue's keys and its run, and an end the run and the dead letters.
#[test]
fn a_record_over_several_streams_is_seen_whole_in_each() {
    every_backend(|backend| {
        let mut author = Author::default();
        let queue = author.stream_of(backend, "queue", &["job 1", "job 2"]);
        let dead = author.stream_of(backend, "dead", &[]);
        let (run, create) = author.create_run("runs/1", "queue");
        commit(
            backend,
            &[together([
                control(queue, "queue/job/1", Some("leased")),
                create,
                author.append(run, Body::one("leased")),
                control(run, "run", Some("leased")),
            ])],
        );
        let record = together([
            author.append_as(run, Body::one(" dead"), None, true),
            author.append(dead, Body::one("run 1")),
            control(queue, "queue/job/1", None),
            control(run, "run", Some("dead")),
            author.trim(queue, 5),
        ]);
        commit(backend, &[record]);
        for (stream, id) in [("queue", queue), ("dead", dead), ("runs/1", run)] {
            assert_eq!(load(backend, stream).as_ref(), Some(author.state(id)), "{stream}");
        }
        assert_eq!(text(backend, run, 0, 11, 100), "leased dead");
        assert_eq!(text(backend, dead, 0, 5, 100), "run 1");
        assert_eq!(backend.controls(queue, b"").expect("works"), []);
        assert_eq!(
            backend.controls(run, b"").expect("works"),
            [("run".into(), "dead".into())]
        );
        commit(backend, &[together([author.delete(run), author.delete(dead)])]);
        assert_eq!(load(backend, "queue").as_ref(), Some(author.state(queue)));
        assert_eq!(backend.deleted().expect("works").len(), 2);
    });
}

#[test]
fn a_refused_record_leaves_nothing_of_any_of_its_parts() {
    bounded(ROOM, |backend| {
        let mut author = Author::default();
        let other = author.stream_of(backend, "other", &["kept"]);
        let before = (backend.usage(), load(backend, "other"));
        let (id, create) = author.create("a");
        let refused = together([
            author.append(other, Body::one(" and more")),
            control(other, "key", Some("value")),
            create,
            author.append(id, huge()),
        ]);
        assert_eq!(outcomes(backend, &[refused]), [Full]);
        assert_eq!(load(backend, "a"), None);
        assert_eq!((backend.usage(), load(backend, "other")), before);
        assert_eq!(text(backend, other, 0, 4, 100), "kept");
        assert_eq!(backend.control(other, b"key").expect("works"), None);
    });
}

#[test]
fn after_a_refused_record_those_that_touch_its_streams_are_refused_too_and_no_others() {
    bounded(ROOM, |backend| {
        let mut author = Author::default();
        let (a, b) = (
            author.stream_of(backend, "a", &[]),
            author.stream_of(backend, "b", &[]),
        );
        let (c, d) = (
            author.stream_of(backend, "c", &[]),
            author.stream_of(backend, "d", &[]),
        );
        let batch = [
            author.append(a, Body::one("1")),
            // Refused, and with it whatever follows on a and on b.
            together([author.append(b, Body::one("2")), author.append(a, huge())]),
            author.append(c, Body::one("3")),
            author.append(b, Body::one("4")),
            // c was free until this record, which touches b.
            together([author.append(c, Body::one("5")), author.close(b)]),
            author.append(d, Body::one("6")),
            author.close(c),
            author.delete(a),
        ];
        let expected = [Durable, Full, Durable, Full, Full, Durable, Full, Full];
        assert_eq!(outcomes(backend, &batch), expected);
        let tails = ["a", "b", "c", "d"].map(|name| load(backend, name).expect("exists").tail);
        assert_eq!(tails, [at(1), at(0), at(1), at(1)]);
        assert!(["a", "b", "c"].iter().all(|name| {
            let state = load(backend, name).expect("exists");
            !state.closed && !state.deleted
        }));
    });
}

#[test]
fn a_record_of_a_later_batch_is_not_refused_for_an_earlier_one() {
    bounded(ROOM, |backend| {
        let mut author = Author::default();
        let a = author.stream_of(backend, "a", &[]);
        let refused = author.clone().append(a, huge());
        assert_eq!(outcomes(backend, &[refused]), [Full]);
        assert_eq!(
            outcomes(backend, &[author.append(a, Body::one("fits"))]),
            [Durable]
        );
        assert_eq!(text(backend, a, 0, 4, 100), "fits");
    });
}

#[test]
fn a_full_backend_still_closes_trims_touches_deletes_and_removes_keys() {
    bounded(ROOM, |backend| {
        let mut author = Author::default();
        let a = author.stream_of(backend, "a", &["0123"]);
        commit(backend, &[control(a, "key", Some("value"))]);
        let mut filled = 0;
        while outcomes(backend, &[author.clone().append(a, Body::one("y"))]) == [Durable] {
            author.append(a, Body::one("y"));
            filled += 1;
        }
        assert!(filled > 0, "there was room at first");
        commit(
            backend,
            &[
                control(a, "key", None),
                author.touch(a, super::author::millis(1 << 40)),
                author.trim(a, 4),
                author.close(a),
                author.delete(a),
            ],
        );
        assert_eq!(load(backend, "a").as_ref(), Some(author.state(a)));
    });
}

#[test]
fn an_append_keeps_its_producer_and_stream_seq_with_its_bytes() {
    every_backend(|backend| {
        let mut author = Author::default();
        let a = author.stream_of(backend, "a", &[]);
        let mark = |seq| ProducerMark {
            id: ProducerId::parse("p").expect("an id"),
            epoch: Epoch::new(3).expect("an epoch"),
            seq: Seq::new(seq).expect("a number"),
        };
        commit(
            backend,
            &[author.append_as(a, Body::one("x"), Some(mark(0)), false)],
        );
        commit(
            backend,
            &[author.append_as(a, Body::one("y"), Some(mark(1)), true)],
        );
        let state = load(backend, "a").expect("exists");
        let producer = state.producers.get(&mark(0).id).expect("remembered");
        assert_eq!((producer.seq, producer.end), (mark(1).seq, at(2)));
        assert_eq!(state, *author.state(a));
    });
}

#[test]
fn records_of_one_batch_are_applied_in_order() {
    every_backend(|backend| {
        let mut author = Author::default();
        let (old, create) = author.create("a");
        let mut batch = vec![create, author.append(old, Body::one("old")), author.delete(old)];
        let (new, create) = author.create("a");
        batch.extend([
            create,
            author.append(new, Body::one("n")),
            author.append(new, Body::one("ew")),
        ]);
        commit(backend, &batch);
        assert_eq!(load(backend, "a").as_ref(), Some(author.state(new)));
        assert_eq!(text(backend, new, 0, 3, 100), "new");
        assert_eq!(
            read(backend, request(old, 0, 3, 100))
                .expect("not released")
                .len(),
            3
        );
        assert_eq!(backend.deleted().expect("works"), [old]);
    });
}
