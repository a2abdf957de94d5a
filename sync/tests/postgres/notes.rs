//! What is noted of streams beside their rows.

use tailwater_sync::event::Offset;
use tailwater_sync::postgres::{Fault, Outcome, Tail};

use crate::scene::{Scene, Source, written};

#[tokio::test]
async fn a_deleted_stream_is_marked_and_keeps_its_rows() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 2, 4);
    let none: [&str; 0] = [];
    let whole = [("runs/7", source.incarnation)];
    assert_eq!(
        store.mark_deleted(&whole).await.unwrap(),
        none,
        "nothing is known of it"
    );
    store.commit(&[source.chunk(0..2)]).await.unwrap();
    let older = [("runs/7", Source::new("runs/7", 1, 0).incarnation)];
    assert_eq!(
        store.mark_deleted(&older).await.unwrap(),
        none,
        "there is a newer one"
    );
    assert_eq!(store.mark_deleted(&whole).await.unwrap(), ["runs/7"]);
    assert_eq!(
        store.mark_deleted(&whole).await.unwrap(),
        none,
        "it is marked already"
    );
    assert!(store.places(&["runs/7"]).await.unwrap()["runs/7"].deleted);
    // What was read before the deletion is still written, and the mark stays.
    assert_eq!(store.commit(&[source.chunk(2..4)]).await.unwrap(), [written(2)]);
    assert_eq!(
        scene.sql("SELECT deleted_at IS NOT NULL FROM tailwater.streams"),
        "t"
    );
    scene.check(&source, 4);
}

#[tokio::test]
async fn of_many_streams_those_that_there_are_to_mark_are_marked_and_told() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let (newer, other, kept) = (
        Source::new("b", 2, 1),
        Source::new("a", 1, 1),
        Source::new("c", 1, 1),
    );
    let chunks = [newer.chunk(0..1), other.chunk(0..1), kept.chunk(0..1)];
    store.commit(&chunks).await.unwrap();
    // One is told of twice, of one also the older stream that had its name, and one is not known.
    let (of_newer, of_other) = (newer.incarnation, other.incarnation);
    let streams = [
        ("b", of_newer),
        ("b", of_other),
        ("unknown", of_other),
        ("a", of_other),
        ("a", of_other),
    ];
    let mut marked = store.mark_deleted(&streams).await.unwrap();
    marked.sort();
    assert_eq!(marked, ["a", "b"]);
    assert_eq!(
        scene.sql("SELECT name, deleted_at IS NOT NULL FROM tailwater.streams ORDER BY name"),
        "a|t\nb|t\nc|f"
    );
    assert!(store.mark_deleted(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn trimmed_events_are_skipped_from_exactly_the_place_and_that_is_noted() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 9);
    store.commit(&[source.chunk(0..2)]).await.unwrap();
    let (from, to) = (source.offset(2), source.offset(5));
    let wrong = store
        .skip("runs/7", source.incarnation, source.offset(3), to)
        .await
        .unwrap();
    let Outcome::Moved { place: Some(place) } = wrong else {
        panic!("{wrong:?}");
    };
    assert_eq!(place.next, from);
    assert_eq!(
        store.skip("runs/7", source.incarnation, from, to).await.unwrap(),
        written(0)
    );
    assert_eq!(store.commit(&[source.chunk(5..9)]).await.unwrap(), [written(4)]);
    assert_eq!(
        scene.sql("SELECT string_agg(index::text, ' ' ORDER BY index) FROM tailwater.events"),
        "0 1 5 6 7 8"
    );
    let noted = "SELECT skipped_bytes, events, next_index, last_error FROM tailwater.streams";
    let expected = "30|6|9|bytes 20 to 50 were trimmed before they were mirrored, and are missing";
    assert_eq!(scene.sql(noted), expected);

    // A stream whose beginning is gone when it is found.
    let late = Source::new("runs/8", 1, 9);
    assert_eq!(
        store
            .skip("runs/8", late.incarnation, Offset::BEGINNING, late.offset(4))
            .await
            .unwrap(),
        written(0)
    );
    assert_eq!(store.commit(&[late.chunk(4..9)]).await.unwrap(), [written(5)]);
}

#[tokio::test]
async fn an_error_is_noted_before_anything_was_written_and_changes_no_place() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 4);
    let fault = |message| Fault {
        stream: "runs/7",
        incarnation: source.incarnation,
        message,
    };
    store.note_errors(&[fault("no \0 NUL")]).await.unwrap();
    assert_eq!(scene.sql("SELECT last_error FROM tailwater.streams"), "no  NUL");
    assert_eq!(store.commit(&[source.chunk(0..4)]).await.unwrap(), [written(4)]);
    let long = "é".repeat(5_000);
    let other = Fault {
        stream: "runs/6",
        ..fault("another stream's")
    };
    // Of two the later one counts.
    let faults = [fault("an older one"), other, fault(&long)];
    store.note_errors(&faults).await.unwrap();
    assert_eq!(
        scene.sql("SELECT last_error FROM tailwater.streams WHERE name = 'runs/6'"),
        "another stream's"
    );
    assert_eq!(
        scene.sql(
            "SELECT length(last_error), last_error_at >= updated_at FROM tailwater.streams WHERE name = 'runs/7'"
        ),
        "2000|t"
    );
    scene.check(&source, 4);
}

#[tokio::test]
async fn what_is_missing_is_told_by_the_tails_of_the_source() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let (source, other) = (Source::new("runs/7", 2, 9), Source::new("runs/8", 2, 3));
    store
        .commit(&[source.chunk(0..2), other.chunk(0..3)])
        .await
        .unwrap();
    let tail = |source: &'static str, incarnation, next, events| Tail {
        stream: source,
        incarnation,
        next,
        events,
    };
    let older = Source::new("runs/8", 1, 99);
    let tails = [
        tail("runs/9", source.incarnation, source.offset(9), 9),
        tail("runs/8", older.incarnation, older.offset(99), 99),
        tail("runs/7", source.incarnation, source.offset(9), 9),
    ];
    store.note_tails(&tails).await.unwrap();
    let lag = "SELECT name, lag_bytes, lag_events FROM tailwater.streams ORDER BY name";
    assert_eq!(scene.sql(lag), "runs/7|70|7\nruns/8|0|0");
    store.commit(&[source.chunk(2..9)]).await.unwrap();
    assert_eq!(scene.sql(lag), "runs/7|0|0\nruns/8|0|0");
}
