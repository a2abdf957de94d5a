//! Chunks become rows, from exactly where the mirror stands.

use bytes::Bytes;
use tailwater_sync::event::{Chunk, Offset, Payload};
use tailwater_sync::postgres::{Fault, NAME_BYTES_MAX, Outcome, Place};

use crate::scene::{Scene, Source, written};

#[tokio::test]
async fn chunks_of_several_streams_become_rows_and_places() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let sources = [
        Source::new("runs/7", 1, 5),
        Source::new("runs/42", 2, 3),
        Source::new("jobs/a", 3, 4),
    ];
    let [first, second, third] = &sources;
    let outcomes = store
        .commit(&[first.chunk(0..3), second.chunk(0..3), third.chunk(0..1)])
        .await
        .unwrap();
    assert_eq!(outcomes, [written(3), written(3), written(1)]);
    // Chunks that follow one another may come together, with others between them.
    let outcomes = store
        .commit(&[third.chunk(1..2), first.chunk(3..5), third.chunk(2..4)])
        .await
        .unwrap();
    assert_eq!(outcomes, [written(1), written(2), written(2)]);
    scene.check(first, 5);
    scene.check(second, 3);
    scene.check(third, 4);
    let times = "SELECT appended_at AT TIME ZONE 'UTC' FROM tailwater.events WHERE stream = 'jobs/a' \
                 ORDER BY index LIMIT 2";
    assert_eq!(
        scene.sql(times),
        "2026-11-20 22:20:32.175\n2026-11-20 22:20:33.175"
    );
}

#[tokio::test]
async fn a_chunk_that_does_not_begin_at_the_place_is_not_written_and_the_place_is_told() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let (source, other) = (Source::new("runs/7", 1, 9), Source::new("runs/8", 1, 9));
    let unknown = store.commit(&[source.chunk(2..4)]).await.unwrap();
    assert_eq!(unknown, [Outcome::Moved { place: None }]);
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.streams"), "0");

    store.commit(&[source.chunk(0..4)]).await.unwrap();
    let place = Place {
        of: source.incarnation,
        next: source.offset(4),
        closed: false,
        deleted: false,
        events: 4,
    };
    let moved = Outcome::Moved { place: Some(place) };
    // Again, with a gap, from within, from the beginning: the others of the transaction go on.
    for wrong in [0..4, 5..6, 2..6, 0..9] {
        let at = usize::try_from(
            scene
                .sql("SELECT count(*) FROM tailwater.events WHERE stream = 'runs/8'")
                .parse::<u64>()
                .unwrap(),
        );
        let at = at.unwrap();
        let outcomes = store
            .commit(&[source.chunk(wrong), other.chunk(at..at + 1)])
            .await
            .unwrap();
        assert_eq!(outcomes, [moved, written(1)]);
    }
    scene.check(&source, 4);
    scene.check(&other, 4);
    assert_eq!(
        store
            .places(&["runs/7", "nobody"])
            .await
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        [("runs/7".to_owned(), place)]
    );
}

#[tokio::test]
async fn of_chunks_of_one_stream_with_a_gap_between_them_the_first_is_written() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 9);
    let outcomes = store
        .commit(&[source.chunk(0..2), source.chunk(3..5)])
        .await
        .unwrap();
    assert_eq!(outcomes[0], written(2));
    let Outcome::Moved { place: Some(place) } = outcomes[1] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(place.next, source.offset(2));
    scene.check(&source, 2);
}

#[tokio::test]
async fn the_end_of_a_stream_is_written_with_or_without_events() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 3);
    store.commit(&[source.chunk(0..3)]).await.unwrap();
    let end = Chunk {
        closed: true,
        ..source.chunk(3..3)
    };
    for _ in 0..2 {
        assert_eq!(
            store.commit(std::slice::from_ref(&end)).await.unwrap(),
            [written(0)]
        );
    }
    // What was read before the stream was closed does not open it.
    assert_eq!(store.commit(&[source.chunk(3..3)]).await.unwrap(), [written(0)]);
    assert!(store.places(&["runs/7"]).await.unwrap()["runs/7"].closed);
    scene.check(&source, 3);
}

#[tokio::test]
async fn a_stream_that_was_created_anew_begins_another_incarnation_and_the_older_one_stays() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let (older, newer) = (Source::new("runs/7", 1, 5), Source::new("runs/7", 2, 2));
    store.commit(&[older.chunk(0..3)]).await.unwrap();
    let marked = store.mark_deleted(&[("runs/7", older.incarnation)]).await;
    assert_eq!(marked.unwrap(), ["runs/7"]);
    // It begins at its beginning or not at all.
    let [Outcome::Moved { place: Some(place) }] = store.commit(&[newer.chunk(1..2)]).await.unwrap()[..]
    else {
        panic!("moved");
    };
    assert_eq!((place.of, place.deleted), (older.incarnation, true));
    assert_eq!(store.commit(&[newer.chunk(0..2)]).await.unwrap(), [written(2)]);
    scene.check(&newer, 2);
    // Whoever is late with the older one is told.
    let [Outcome::Moved { place: Some(place) }] = store.commit(&[older.chunk(3..5)]).await.unwrap()[..]
    else {
        panic!("moved");
    };
    assert_eq!(
        (place.of, place.deleted, place.events),
        (newer.incarnation, false, 2)
    );
    assert_eq!(
        scene.sql("SELECT incarnation, count(*) FROM tailwater.events GROUP BY 1 ORDER BY 1"),
        "1|3\n2|2"
    );
}

#[tokio::test]
async fn text_numbers_and_bytes_are_in_the_rows_as_they_are_in_the_stream() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let texts = [
        r#""\"quoted\" \\ back\\slash \n \t \u00e9 \ud83d\ude00""#,
        "\"naïve 日本語 \u{1F600} \u{7f}\"",
        "123456789012345678901234567890.123456789012345678901234567890",
        "1e400",
        "-0.0",
        "null",
        "[]",
        r#"{"a":[1,{"b":"\\u0000"}],"ключ":true}"#,
    ];
    let source = Source::of("ключ/'quoted'", 1, texts.map(|text| Payload::Json(text.into())));
    assert_eq!(
        store.commit(&[source.chunk(0..texts.len())]).await.unwrap(),
        [written(8)]
    );
    for (at, text) in texts.iter().enumerate() {
        let same =
            format!("SELECT payload = $json${text}$json$::jsonb FROM tailwater.events WHERE index = {at}");
        assert_eq!(scene.sql(&same), "t", "{text}");
    }
    assert_eq!(
        scene.sql("SELECT DISTINCT stream FROM tailwater.events"),
        "ключ/'quoted'"
    );

    let bytes = [&b"\x00\xff\\'"[..], b"", b"plain"].map(|bytes| Payload::Bytes(Bytes::from_static(bytes)));
    let source = Source::of("blobs", 1, bytes);
    assert_eq!(store.commit(&[source.chunk(0..3)]).await.unwrap(), [written(3)]);
    let hex = "SELECT encode(payload_bytes, 'hex'), payload IS NULL, content_type FROM tailwater.events \
               WHERE stream = 'blobs' \
               ORDER BY position";
    let rest = "|t|application/octet-stream";
    assert_eq!(
        scene.sql(hex),
        format!("00ff5c27{rest}\n{rest}\n706c61696e{rest}")
    );
}

#[tokio::test]
async fn an_event_of_10_mib_is_written() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let large = format!("[\"{}\"]", "x".repeat(10 << 20));
    let source = Source::of(
        "large",
        1,
        [Payload::Json(large.into()), Payload::Json("1".into())],
    );
    assert_eq!(store.commit(&[source.chunk(0..2)]).await.unwrap(), [written(2)]);
    assert_eq!(
        scene.sql("SELECT length(payload->>0) FROM tailwater.events WHERE index = 0"),
        "10485760"
    );
}

#[tokio::test]
async fn a_name_is_as_long_as_an_index_allows_and_a_longer_one_stops_nothing() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    // Of bytes that do not compress, since an index row may be compressed.
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(NAME_BYTES_MAX + 1)
        .collect();
    let (longest, longer) = (Source::new(&noise[1..], 1, 2), Source::new(&noise, 1, 2));
    let other = Source::new("runs/7", 1, 2);
    let outcomes = store
        .commit(&[longer.chunk(0..2), longest.chunk(0..2), other.chunk(0..2)])
        .await
        .unwrap();
    assert_eq!(outcomes, [Outcome::NameTooLong, written(2), written(2)]);
    scene.check(&longest, 2);
    scene.check(&other, 2);
    let skipped = store
        .skip(&noise, longer.incarnation, Offset::BEGINNING, longer.offset(1))
        .await
        .unwrap();
    assert_eq!(skipped, Outcome::NameTooLong);
    let fault = Fault {
        stream: &noise,
        incarnation: longer.incarnation,
        message: "cannot be",
    };
    store.note_errors(&[fault]).await.unwrap();
}

#[tokio::test]
async fn no_chunks_are_no_transaction_that_fails() {
    let scene = Scene::new().await;
    assert_eq!(scene.store().await.commit(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn the_events_of_a_stream_are_found_by_the_index() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    for number in 0..50 {
        let source = Source::new(&format!("runs/{number}"), 1, 100);
        store.commit(&[source.chunk(0..100)]).await.unwrap();
    }
    scene.sql("ANALYZE tailwater.events");
    for condition in ["stream = 'runs/7'", "stream LIKE 'runs/42%'"] {
        let plan = scene.sql(&format!(
            "EXPLAIN SELECT * FROM tailwater.events WHERE {condition} ORDER BY stream, incarnation, position"
        ));
        assert!(plan.contains("events_default_pkey"), "{condition}: {plan}");
    }
}

#[tokio::test]
async fn partitions_are_ranges_of_incarnations() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let from_to = "FROM (0) TO (extract(epoch FROM timestamptz '2027-01-01Z') * 1e6)";
    scene.sql(&format!(
        "CREATE TABLE tailwater.events_old PARTITION OF tailwater.events FOR VALUES {from_to}"
    ));
    let new_year = 1_798_761_600_000_000;
    let (older, newer) = (
        Source::new("runs/7", new_year - 1, 3),
        Source::new("runs/7", new_year, 2),
    );
    store.commit(&[older.chunk(0..3)]).await.unwrap();
    store.commit(&[newer.chunk(0..2)]).await.unwrap();
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.events_old"), "3");
    scene.sql("DROP TABLE tailwater.events_old");
    scene.check(&newer, 2);
}
