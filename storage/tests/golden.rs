//! A store that an earlier build has written stays readable, and what this build writes is what the format says.
//!
//! `golden/v1` was written by the first build of format 1, by the steps below. If the format has to change, its
//! version changes too, and a new directory is written by `TAILWATER_WRITE_GOLDEN=DIR cargo test --test golden`;
//! the old one stays.
#![cfg(not(feature = "shuttle"))]

#[path = "contract/author.rs"]
#[allow(dead_code, reason = "this test uses a part of it")]
mod author;
mod support;

use std::path::{Path, PathBuf};

use author::{Author, Body, Marks, at, commit, control, load, millis, text, together};
use support::files::copy_store;
use tailwater_storage::Backend;
use tailwater_storage::file::{self, Durability, FileOptions, FileStore};
use tailwater_storage::stream::{Epoch, Lifetime, ProducerId, ProducerMark, Seq, StreamId};

/// The identity of the store in `golden/v1`: segments and journals carry it, so that a new one must bear it too.
const STORE: &str = include_str!("golden/v1/STORE");

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn open(dir: &Path) -> FileStore {
    let options = FileOptions {
        journal_bytes: 16 << 10,
        fold_bytes: 16 << 10,
        compacts_by_itself: false,
        ..FileOptions::new(dir.to_owned(), Durability::Durable, 1 << 20)
    };
    file::open(options).expect("the store opens")
}

fn mark(seq: u64) -> Marks {
    Marks {
        producer: Some(ProducerMark {
            id: ProducerId::parse("worker-7").expect("an id"),
            epoch: Epoch::new(3).expect("an epoch"),
            seq: Seq::new(seq).expect("a number"),
        }),
        ..Marks::default()
    }
}

/// The ids of the streams, in the order in which they are made.
struct Streams {
    run: StreamId,
    fork: StreamId,
    notes: StreamId,
    closed: StreamId,
    deleted: StreamId,
    /// Of the queue `notes`.
    first_job: StreamId,
    second_job: StreamId,
}

/// Writes every kind of record there is: first what is folded into a segment, then what stays in a journal.
fn write(store: &FileStore, author: &mut Author) -> Streams {
    let (run, create) = author.create("runs/1");
    let begun = author.append_with(run, Body::many(&["{\"n\":1},", "{\"n\":22},"]), mark(0));
    commit(store, &[together([create, begun])]);
    let (fork, forked) = author.fork(run, "runs/1-again", 8);
    let (notes, created) = author.create_living("notes", Lifetime::Ttl { seconds: 1 << 40 });
    let (closed, last) = author.create("closed");
    let (deleted, doomed) = author.create("deleted");
    let (first_job, first) = author.create_run("runs/notes/1", "notes");
    let batch = [
        forked,
        author.append(fork, Body::one("{\"n\":3},")),
        created,
        author.append(notes, Body::one("first note")),
        author.append(notes, Body::one("second note")),
        last,
        author.append_with(
            closed,
            Body::one("x".repeat(5000)),
            Marks {
                closes: true,
                ..Marks::default()
            },
        ),
        doomed,
        together([first, control(notes, "queue/job/1", Some("leased"))]),
        control(run, "lease", Some("worker-7")),
        control(run, "cursor", Some("12")),
    ];
    commit(store, &batch);
    store.compact().expect("there is space");
    let marks = Marks {
        stream_seq: Some("b-2".into()),
        ..mark(1)
    };
    let (second_job, second) = author.create_run("runs/notes/2", "notes");
    let ends = Marks {
        closes: true,
        ..Marks::default()
    };
    let batch = [
        together([
            second,
            author.append_with(first_job, Body::one("{\"type\":\"run.succeeded\"},"), ends),
            control(notes, "queue/job/1", None),
            control(notes, "queue/job/2", Some("leased")),
        ]),
        author.append_with(run, Body::many(&["{\"n\":4},", "{\"n\":5},"]), marks),
        author.trim(notes, 10),
        author.touch(notes, millis(1 << 30)),
        author.delete(deleted),
        control(run, "cursor", None),
        author.append(run, Body::one("{\"n\":6},")),
    ];
    commit(store, &batch);
    Streams {
        run,
        fork,
        notes,
        closed,
        deleted,
        first_job,
        second_job,
    }
}

fn check(store: &FileStore, author: &Author, streams: &Streams) {
    for (name, id) in [
        ("runs/1", streams.run),
        ("runs/1-again", streams.fork),
        ("notes", streams.notes),
        ("closed", streams.closed),
        ("deleted", streams.deleted),
        ("runs/notes/1", streams.first_job),
        ("runs/notes/2", streams.second_job),
    ] {
        assert_eq!(load(store, name).as_ref(), Some(author.state(id)), "{name}");
    }
    let text = |id, from, until| text(store, id, from, until, 1 << 20);
    assert_eq!(
        text(streams.run, 0, 41),
        "{\"n\":1},{\"n\":22},{\"n\":4},{\"n\":5},{\"n\":6},"
    );
    assert_eq!(text(streams.fork, 8, 16), "{\"n\":3},");
    assert_eq!(text(streams.notes, 10, 21), "second note");
    assert_eq!(text(streams.closed, 0, 5000), "x".repeat(5000));
    let controls = store.controls(streams.run, b"").expect("they can be read");
    assert_eq!(controls, [("lease".into(), "worker-7".into())]);
    assert!(author.state(streams.first_job).closed && author.state(streams.second_job).is_open_run());
    let controls = store.controls(streams.notes, b"").expect("they can be read");
    assert_eq!(controls, [("queue/job/2".into(), "leased".into())]);
    assert_eq!(store.deleted().expect("it can be read"), [streams.deleted]);
    assert!(store.has_forks(streams.run).expect("it can be read"));
    assert_eq!(author.state(streams.notes).oldest, at(10));
    let reclaimable = store.reclaimable().expect("it can be read");
    assert_eq!(reclaimable, [streams.notes, streams.deleted]);
}

/// A store that bears the golden one's identity and holds nothing yet.
fn namesake(dir: &Path) -> FileStore {
    for sub in ["journal", "segments"] {
        std::fs::create_dir_all(dir.join(sub)).expect("a directory");
    }
    std::fs::write(dir.join("STORE"), STORE).expect("it is written");
    open(dir)
}

fn expected() -> (Author, Streams) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut author = Author::default();
    let streams = write(&namesake(dir.path()), &mut author);
    (author, streams)
}

#[test]
fn a_store_of_format_1_is_read_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    copy_store(&golden(), dir.path());
    let (author, streams) = expected();
    let store = open(dir.path());
    check(&store, &author, &streams);
    store.compact().expect("there is space");
    check(&store, &author, &streams);
    drop(store);
    check(&open(dir.path()), &author, &streams);
}

#[test]
fn what_is_written_today_is_format_1_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = namesake(dir.path());
    write(&store, &mut Author::default());
    drop(store);
    let target = std::env::var_os("TAILWATER_WRITE_GOLDEN");
    if let Some(target) = &target {
        copy_store(dir.path(), Path::new(target));
    }
    for file in [
        "journal/0000000000000001.journal",
        "segments/0000000000000001.segment",
    ] {
        let (old, new) = (
            std::fs::read(golden().join(file)),
            std::fs::read(dir.path().join(file)),
        );
        assert!(
            old.expect("it is there") == new.expect("it is there"),
            "{file} has changed"
        );
    }
}
