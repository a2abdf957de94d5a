//! What a catalog keeps, through its own eyes. `trouble.rs` and `damage.rs` say what it survives.

mod damage;
mod trouble;

use std::path::Path;

use bytes::Bytes;
use tailwater_stream::{
    ContentType, CreateRequest, Created, Epoch, ForkRequest, ForkSource, Lifetime, Lineage, NameLimits,
    OffsetToken, Position, ProducerId, ProducerMark, Seq, StreamId, StreamKind, StreamName, StreamState,
    Timestamp,
};

use super::{Catalog, CatalogChange, CatalogTables, CatalogView, Meta, SegmentRow, StreamRow};
use crate::backend::ControlsRequest;
use crate::disk::RealDisk;
use crate::disk::memory::MemoryDisk;
use crate::file::place::LogPlace;
use crate::file::segment::Run;

const CACHE_BYTES: u64 = 1 << 20;

fn path() -> &'static Path {
    Path::new("catalog.redb")
}

fn id(number: u64) -> StreamId {
    StreamId::new(number).expect("an id")
}

fn at(number: u64) -> Position {
    Position::new(number).expect("a position")
}

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn name(text: &str) -> StreamName {
    let limits = NameLimits {
        bytes_max: 1000,
        segments_max: 10,
    };
    StreamName::parse(text, limits).expect("a name")
}

fn meta() -> Meta {
    Meta {
        folded: LogPlace {
            journal: 3,
            offset: 4096,
        },
        next_batch: 17,
        last_id: 1 << 50,
        era: 4,
        boot_id: "a boot".to_owned(),
        clean: true,
        next_segment: 9,
        streams: 12,
        payload_bytes: 1 << 40,
    }
}

/// A stream that is no fork and has had no appends.
fn plain(number: u64, text: &str) -> StreamRow {
    let created = Created {
        id: id(number),
        name: name(text),
        kind: StreamKind::Plain,
        beside: None,
        content_type: ContentType::default(),
        lifetime: Lifetime::Forever,
        requested: CreateRequest::default(),
        lineage: Lineage::root(id(number)),
        source: None,
        oldest: at(0),
        messages: 0,
        at: ms(1000),
    };
    StreamRow {
        staged: false,
        state: StreamState::created(&created),
        era: 0,
        stored_from: at(0),
        last_block: Vec::new(),
    }
}

/// A stream of which everything that can be said is said.
fn rich(number: u64, source: u64) -> StreamRow {
    let mut row = plain(number, "a/fork");
    let point = at(500);
    row.era = 1 << 50;
    row.stored_from = at(600);
    let state = &mut row.state;
    state.content_type = ContentType::parse("application/json; charset=utf-8").expect("a type");
    state.lifetime = Lifetime::Ttl { seconds: 77 };
    state.requested = CreateRequest {
        content_type: ContentType::parse("text/plain"),
        lifetime: Lifetime::Until { at: ms(u64::MAX) },
        fork: Some(ForkRequest {
            source: name("a/source"),
            offset: Some(OffsetToken::new(id(source), point)),
            sub_offset: 3,
        }),
    };
    state.lineage = Lineage::root(id(source))
        .fork(id(number), point)
        .renewed(at(700), id(1 << 50));
    state.source = Some(ForkSource {
        id: id(source),
        name: name("a/source"),
        point,
    });
    state.oldest = at(600);
    state.tail = at(1234);
    state.messages = 99;
    state.closed = true;
    state.deleted = true;
    state.stream_seq = Some("00017".into());
    state.last_append_at = Some(ms(2000));
    state.touched_at = ms(3000);
    for producer in ["p", "q/with some \u{e9} in it"] {
        let mark = ProducerMark {
            id: ProducerId::parse(producer).expect("an id"),
            epoch: Epoch::new(7).expect("an epoch"),
            seq: Seq::new(1 << 52).expect("a number"),
        };
        state.producers.record(&mark, at(1200), ms(1900));
    }
    row
}

fn without_producers(mut row: StreamRow) -> StreamRow {
    row.state.producers = tailwater_stream::Producers::default();
    row
}

fn run(stream: u64, from: u64, until: u64) -> Run {
    Run {
        stream: id(stream),
        from: at(from),
        until: at(until),
        payload_at: 64 + from,
        table_at: 1 << 33,
        blocks: 5,
        table_crc: 0xfeed,
    }
}

fn put_stream(tables: &mut CatalogTables<'_>, row: &StreamRow, deadline: Option<Timestamp>) {
    let state = &row.state;
    tables.streams.put_row(row, deadline).expect("put");
    tables
        .streams
        .put_producers(state.id, state.producers.iter())
        .expect("put");
    tables.streams.put_name(&state.name, state.id).expect("put");
    if let Some(source) = &state.source {
        tables.streams.put_fork(source.id, state.id).expect("put");
    }
    if state.deleted {
        tables.streams.mark_deleted(state.id).expect("put");
    }
}

fn new_catalog() -> Catalog {
    Catalog::create(&MemoryDisk::new(), path(), CACHE_BYTES, &meta()).expect("a new catalog")
}

fn write(change: &mut CatalogChange, make: impl FnOnce(&mut CatalogTables<'_>)) {
    let written = change.write(|tables| {
        make(tables);
        Ok(())
    });
    written.expect("written");
}

fn changed(catalog: &Catalog, make: impl FnOnce(&mut CatalogTables<'_>)) -> CatalogView {
    let mut change = catalog.change().expect("a change begins");
    write(&mut change, make);
    change.commit().expect("committed");
    catalog.view().expect("a view")
}

#[test]
fn what_was_said_of_a_stream_is_read_back_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("catalog.redb");
    let row = rich(20, 8);
    let catalog = Catalog::create(&RealDisk, &path, CACHE_BYTES, &meta()).expect("a new catalog");
    changed(&catalog, |tables| put_stream(tables, &row, Some(ms(5))));
    drop(catalog);
    let catalog = Catalog::open(&RealDisk, &path, CACHE_BYTES).expect("it opens");
    let view = catalog.view().expect("a view");
    assert_eq!(view.row(id(20)).expect("read"), Some(row.clone()));
    assert_eq!(view.head(id(20)).expect("read"), Some(without_producers(row)));
    assert_eq!(view.id_of(&name("a/fork")).expect("read"), Some(id(20)));
    assert_eq!(view.forks_of(id(8)).expect("read"), [id(20)]);
    assert_eq!(view.deleted().expect("read"), [id(20)]);
    assert_eq!(view.meta().expect("read"), meta());
    assert_eq!(view.row(id(21)).expect("read"), None);
}

#[test]
fn a_catalog_is_made_once() {
    let disk = MemoryDisk::new();
    drop(Catalog::create(&disk, path(), CACHE_BYTES, &meta()).expect("a new catalog"));
    assert!(Catalog::create(&disk, path(), CACHE_BYTES, &meta()).is_err());
    assert!(Catalog::open(&disk, Path::new("elsewhere"), CACHE_BYTES).is_err());
}

#[test]
fn a_view_does_not_see_what_is_changed_later() {
    let catalog = new_catalog();
    let before = changed(&catalog, |tables| put_stream(tables, &plain(1, "a"), None));
    let mut later = plain(1, "a");
    later.state.tail = at(9);
    let after = changed(&catalog, |tables| {
        tables.streams.put_row(&later, None).expect("put");
        assert_eq!(tables.streams.head(id(1)).expect("read"), Some(later.clone()));
    });
    assert_eq!(before.row(id(1)).expect("read"), Some(plain(1, "a")));
    assert_eq!(after.row(id(1)).expect("read"), Some(later));
}

#[test]
fn a_change_that_is_dropped_changes_nothing() {
    let catalog = new_catalog();
    let mut change = catalog.change().expect("a change begins");
    write(&mut change, |tables| put_stream(tables, &rich(2, 1), Some(ms(1))));
    drop(change);
    let view = catalog.view().expect("a view");
    assert_eq!(view.row(id(2)).expect("read"), None);
}

#[test]
fn a_name_belongs_to_the_highest_id_that_was_given_it() {
    let catalog = new_catalog();
    let view = changed(&catalog, |tables| {
        put_stream(tables, &plain(5, "a"), None);
        put_stream(tables, &plain(3, "a"), None);
    });
    assert_eq!(view.id_of(&name("a")).expect("read"), Some(id(5)));
    let view = changed(&catalog, |tables| {
        tables.streams.remove_stream(id(3)).expect("removed");
    });
    assert_eq!(view.id_of(&name("a")).expect("read"), Some(id(5)));
    let view = changed(&catalog, |tables| {
        tables.streams.remove_stream(id(5)).expect("removed");
    });
    assert_eq!(view.id_of(&name("a")).expect("read"), None);
}

#[test]
fn a_removed_name_leads_nowhere_unless_a_newer_stream_has_it() {
    let catalog = new_catalog();
    let view = changed(&catalog, |tables| {
        put_stream(tables, &plain(5, "a"), None);
        put_stream(tables, &plain(5, "b"), None);
        tables
            .streams
            .remove_name(&name("a"), id(4))
            .expect("nothing to remove");
        tables.streams.remove_name(&name("b"), id(6)).expect("removed");
    });
    assert_eq!(view.id_of(&name("a")).expect("read"), Some(id(5)));
    assert_eq!(view.id_of(&name("b")).expect("read"), None);
}

#[test]
fn names_come_in_byte_order_within_their_prefix() {
    let catalog = new_catalog();
    let texts = ["b", "a/c", "a", "a/b", "a-b", "aa", "a/\u{e9}"];
    let view = changed(&catalog, |tables| {
        for (number, text) in (1..).zip(texts) {
            put_stream(tables, &plain(number, text), None);
        }
    });
    let names = |prefix, after, count_max| -> Vec<_> {
        let names = view.names(prefix, after, count_max).expect("read");
        names
            .into_iter()
            .map(|(name, id)| (name.as_str().to_owned(), id.get()))
            .collect()
    };
    let all: Vec<_> = names("", None, 100).into_iter().map(|(name, _)| name).collect();
    assert_eq!(all, ["a", "a-b", "a/b", "a/c", "a/\u{e9}", "aa", "b"]);
    assert_eq!(
        names("a/", None, 2),
        [("a/b".to_owned(), 4), ("a/c".to_owned(), 2)]
    );
    assert_eq!(names("a/", Some("a/b"), 1), [("a/c".to_owned(), 2)]);
    // What lies before the prefix does not widen it.
    assert_eq!(names("a/", Some("Z"), 1), [("a/b".to_owned(), 4)]);
    assert_eq!(names("a/", Some("a0"), 9), []);
}

#[test]
fn deadlines_follow_their_rows() {
    let catalog = new_catalog();
    let view = changed(&catalog, |tables| {
        for (number, deadline) in [(1, 30), (2, 10), (3, 20), (4, 20)] {
            put_stream(tables, &plain(number, "x"), Some(ms(deadline)));
        }
        put_stream(tables, &plain(5, "y"), None);
    });
    let due = |view: &CatalogView, now, after, count_max| view.due(ms(now), after, count_max).expect("read");
    let all = [(ms(10), id(2)), (ms(20), id(3)), (ms(20), id(4)), (ms(30), id(1))];
    assert_eq!(due(&view, 30, None, 9), all);
    assert_eq!(due(&view, 29, None, 9), all[..3]);
    assert_eq!(due(&view, 9, None, 9), []);
    assert_eq!(due(&view, 30, Some(all[1]), 1), all[2..3]);
    assert_eq!(due(&view, 10, Some(all[3]), 9), []);
    let view = changed(&catalog, |tables| {
        put_stream(tables, &plain(1, "x"), Some(ms(5)));
        put_stream(tables, &plain(2, "x"), None);
        tables.streams.remove_stream(id(3)).expect("removed");
    });
    assert_eq!(due(&view, u64::MAX, None, 9), [(ms(5), id(1)), (ms(20), id(4))]);
}

#[test]
fn control_keys_are_ordered_and_belong_to_one_stream() {
    let catalog = new_catalog();
    let view = changed(&catalog, |tables| {
        for (stream, key) in [
            (1, "sub/b"),
            (1, "sub/a"),
            (1, "suc"),
            (1, ""),
            (2, "sub/a"),
            (256, "sub/a"),
        ] {
            let value = format!("{key} of {stream}");
            tables
                .streams
                .put_control(id(stream), key.as_bytes(), Some(value.as_bytes()))
                .expect("put");
        }
        tables
            .streams
            .put_control(id(1), b"sub/b", None)
            .expect("removed");
        tables
            .streams
            .put_control(id(1), b"sub/c", Some(b""))
            .expect("put");
    });
    let expected = [("sub/a", "sub/a of 1"), ("sub/c", "")];
    let expected = expected.map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
    assert_eq!(
        view.controls(id(1), &ControlsRequest::all(b"sub/"))
            .expect("read"),
        expected
    );
    assert_eq!(
        view.controls(id(1), &ControlsRequest::all(b""))
            .expect("read")
            .len(),
        4
    );
    assert_eq!(
        view.control(id(2), b"sub/a").expect("read"),
        Some("sub/a of 2".into())
    );
    assert_eq!(view.control(id(2), b"sub/").expect("read"), None);
}

#[test]
fn runs_stand_in_order_of_position() {
    let catalog = new_catalog();
    let (first, second, third) = (run(7, 0, 100), run(7, 100, 150), run(7, 150, 4000));
    let view = changed(&catalog, |tables| {
        for (segment, run) in [
            (9, &second),
            (1, &third),
            (4, &first),
            (4, &run(6, 0, 9)),
            (4, &run(8, 0, 9)),
        ] {
            tables.put_run(segment, run).expect("put");
        }
    });
    let all = [(4, first), (9, second), (1, third)];
    assert_eq!(view.runs(id(7)).expect("read"), all);
    let view = changed(&catalog, |tables| {
        let lost = tables.lose_runs(id(7), at(30), at(149));
        assert_eq!(lost.expect("removed"), [(4, 70), (9, 49)]);
        tables.remove_run(9, &second).expect("removed");
        // It is not in this segment.
        tables.remove_run(2, &third).expect("nothing to remove");
    });
    assert_eq!(view.runs(id(7)).expect("read"), all[2..]);
    let view = changed(&catalog, |tables| {
        assert_eq!(
            tables.lose_runs(id(7), at(149), Position::LAST).expect("removed"),
            [(1, 3850)]
        );
    });
    assert_eq!(view.runs(id(7)).expect("read"), []);
    assert_eq!(
        view.runs(id(6)).expect("read").len() + view.runs(id(8)).expect("read").len(),
        2
    );
}

#[test]
fn a_removed_stream_leaves_nothing_of_its_own_and_all_of_its_neighbours() {
    let catalog = new_catalog();
    let put = |tables: &mut CatalogTables<'_>, row: &StreamRow| {
        put_stream(tables, row, Some(ms(50)));
        tables
            .streams
            .put_control(row.state.id, b"key", Some(b"value"))
            .expect("put");
    };
    let mut neighbours = [rich(1, 100), rich(3, 100)];
    neighbours[0].state.name = name("before");
    neighbours[1].state.name = name("behind");
    changed(&catalog, |tables| {
        neighbours.iter().for_each(|row| put(tables, row));
        put(tables, &rich(2, 100));
    });
    let view = changed(&catalog, |tables| {
        let removed = tables.streams.remove_stream(id(2)).expect("removed");
        assert_eq!(removed, Some(without_producers(rich(2, 100))));
        assert_eq!(
            tables.streams.remove_stream(id(2)).expect("nothing to remove"),
            None
        );
    });
    assert_eq!(view.row(id(2)).expect("read"), None);
    assert_eq!(
        view.controls(id(2), &ControlsRequest::all(b"")).expect("read"),
        []
    );
    assert_eq!(view.id_of(&name("a/fork")).expect("read"), None);
    assert_eq!(view.forks_of(id(100)).expect("read"), [id(1), id(3)]);
    assert_eq!(view.deleted().expect("read"), [id(1), id(3)]);
    assert_eq!(
        view.due(ms(50), None, 9).expect("read"),
        [(ms(50), id(1)), (ms(50), id(3))]
    );
    for neighbour in neighbours {
        assert_eq!(
            view.controls(neighbour.state.id, &ControlsRequest::all(b""))
                .expect("read")
                .len(),
            1
        );
        assert_eq!(view.row(neighbour.state.id).expect("read"), Some(neighbour));
    }
    // Producers that a removed stream had would be another stream's if they were left behind.
    let view = changed(&catalog, |tables| put_stream(tables, &plain(2, "new"), None));
    assert_eq!(view.row(id(2)).expect("read"), Some(plain(2, "new")));
}

#[test]
fn producers_are_added_to_those_that_are_known() {
    let catalog = new_catalog();
    let row = rich(4, 2);
    changed(&catalog, |tables| put_stream(tables, &row, None));
    let mut expected = row.clone();
    let mark = ProducerMark {
        id: ProducerId::parse("p").expect("an id"),
        epoch: Epoch::new(8).expect("an epoch"),
        seq: Seq::ZERO,
    };
    expected.state.producers.record(&mark, at(1234), ms(9999));
    let view = changed(&catalog, |tables| {
        let state = *expected.state.producers.get(&mark.id).expect("recorded");
        tables
            .streams
            .put_producers(id(4), [(&mark.id, &state)])
            .expect("put");
        tables
            .streams
            .put_row(&without_producers(row), None)
            .expect("put");
    });
    assert_eq!(view.row(id(4)).expect("read"), Some(expected));
}

#[test]
fn segments_and_what_is_known_of_the_store_are_replaced() {
    let catalog = new_catalog();
    let row = |number, live_bytes| SegmentRow {
        number,
        bytes: 1 << 30,
        payload_bytes: 1 << 29,
        live_bytes,
    };
    let new_meta = Meta {
        clean: false,
        boot_id: String::new(),
        ..meta()
    };
    let view = changed(&catalog, |tables| {
        for number in [300, 2, 1] {
            tables.put_segment(&row(number, 7)).expect("put");
        }
        tables.put_segment(&row(2, 6)).expect("put");
        tables.remove_segment(1).expect("removed");
        assert_eq!(tables.all_segments().expect("read").len(), 2);
        tables.put_meta(&new_meta).expect("put");
    });
    assert_eq!(view.segments().expect("read"), [row(2, 6), row(300, 7)]);
    assert_eq!(view.meta().expect("read"), new_meta);
}
