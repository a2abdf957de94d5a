//! Events that PostgreSQL cannot hold as rows are kept with the reason, and hold up nothing.

use bytes::Bytes;
use tailwater_sync::event::Payload;
use tailwater_sync::postgres::Outcome;

use crate::scene::{FIRST_AT_MS, Scene, Source, written};

fn json(text: impl Into<Bytes>) -> Payload {
    Payload::Json(text.into())
}

#[tokio::test]
async fn what_jsonb_cannot_hold_is_a_dead_letter_with_its_reason_and_the_rest_is_written() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let payloads = [
        json(r#"{"n":0}"#),
        json(r#""a\u0000b""#),
        json(r#""\ud83d""#),
        json(r#"{"n":3}"#),
        json("1e200000"),
        json(deep),
        json(r#"{"n":6}"#),
        json(b"{\"n\":".to_vec()),
        json(b"\"\xff\"".to_vec()),
        json(r#"{"n":9}"#),
    ];
    let source = Source::of("runs/7", 1, payloads.clone());
    let good = Source::new("runs/8", 1, 300);
    let outcomes = store
        .commit(&[source.chunk(0..6), source.chunk(6..10), good.chunk(0..300)])
        .await
        .unwrap();
    let two = |rows, dead_letters| Outcome::Written { rows, dead_letters };
    assert_eq!(outcomes, [two(2, 4), two(2, 2), written(300)]);
    scene.check(&good, 300);
    assert_eq!(
        scene.sql("SELECT index FROM tailwater.events WHERE stream = 'runs/7' ORDER BY 1"),
        "0\n3\n6\n9"
    );
    for (index, reason) in [
        (
            1,
            r"it has the character \u0000, which PostgreSQL cannot hold in a jsonb",
        ),
        (
            2,
            r"it has \ud83d, one half of a surrogate pair, without the other, which PostgreSQL cannot hold in a jsonb",
        ),
        (4, "value overflows numeric format (22003)"),
        (5, "stack depth limit exceeded (54001)"),
        (
            7,
            "invalid input syntax for type json: The input string ended unexpectedly. (22P02)",
        ),
        (8, "it is not UTF-8"),
    ] {
        let asked = format!(
            "SELECT reason, encode(payload, 'escape') = $$x$$ OR length(payload) = {}, position, content_type \
             FROM tailwater.dead_letters WHERE stream = 'runs/7' AND index = {index}",
            payloads[index].as_bytes().len()
        );
        let position = source.offset(index + 1).position();
        assert_eq!(
            scene.sql(&asked),
            format!("{reason}|t|{position}|application/json")
        );
    }
    // The place is behind all of them, and the same again changes nothing.
    let place = store.places(&["runs/7"]).await.unwrap()["runs/7"];
    assert_eq!((place.next, place.events), (source.offset(10), 10));
    let again = store.commit(&[source.chunk(0..6)]).await.unwrap();
    assert!(matches!(again[..], [Outcome::Moved { .. }]), "{again:?}");
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.dead_letters"), "6");
}

#[tokio::test]
async fn however_many_rows_are_refused_the_others_are_written() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    // Refused by PostgreSQL alone, alone, in a row, at both ends, and in every second place.
    let is_bad = |at: usize| {
        at == 0 || at == 999 || (300..340).contains(&at) || (600..700).contains(&at) && at.is_multiple_of(2)
    };
    let payload = |at: usize| {
        if is_bad(at) {
            json("1e200000")
        } else {
            json(format!("{at}"))
        }
    };
    let source = Source::of("runs/7", 1, (0..1000).map(payload));
    let bad = (0..1000).filter(|at| is_bad(*at)).count() as u64;
    let outcomes = store.commit(&[source.chunk(0..1000)]).await.unwrap();
    assert_eq!(
        outcomes,
        [Outcome::Written {
            rows: 1000 - bad,
            dead_letters: bad
        }]
    );
    let rows: Vec<_> = (0..1000)
        .filter(|at| !is_bad(*at))
        .map(|at| format!("{at}|{at}"))
        .collect();
    assert_eq!(
        scene.sql("SELECT index, payload FROM tailwater.events ORDER BY index"),
        rows.join("\n")
    );
    let dead: Vec<_> = (0..1000)
        .filter(|at| is_bad(*at))
        .map(|at| at.to_string())
        .collect();
    assert_eq!(
        scene.sql("SELECT index FROM tailwater.dead_letters ORDER BY index"),
        dead.join("\n")
    );
}

#[tokio::test]
async fn what_a_constraint_of_the_databases_owner_refuses_is_a_dead_letter() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    scene.sql("ALTER TABLE tailwater.events ADD CONSTRAINT small CHECK (payload <> '2')");
    let source = Source::of("runs/7", 1, (0..4).map(|n| json(n.to_string())));
    let outcomes = store.commit(&[source.chunk(0..4)]).await.unwrap();
    assert_eq!(
        outcomes,
        [Outcome::Written {
            rows: 3,
            dead_letters: 1
        }]
    );
    let reason = scene.sql("SELECT reason FROM tailwater.dead_letters");
    assert!(
        reason.contains("violates check constraint \"small\"") && reason.ends_with("(23514)"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_time_or_an_index_that_postgresql_has_none_for_is_left_out_of_the_dead_letter() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 3);
    let mut chunk = source.chunk(0..3);
    chunk.events[0].at_ms = i64::MAX;
    chunk.events[1].index = u64::MAX;
    assert_eq!(
        store.commit(&[chunk]).await.unwrap(),
        [Outcome::Written {
            rows: 1,
            dead_letters: 2
        }]
    );
    let asked = "SELECT position, index, extract(epoch FROM appended_at) * 1000, reason FROM tailwater.dead_letters \
                 ORDER BY position";
    let second = FIRST_AT_MS + 1_000;
    assert_eq!(
        scene.sql(asked),
        format!(
            "10|0||its time is beyond PostgreSQL's calendar\n20||{second}.000000|its index is beyond a bigint"
        )
    );
}

/// A duplicate is no fault of the row: it would mean that the place was wrong, and must not be hidden.
#[tokio::test]
async fn a_row_that_is_there_already_is_an_error_and_nothing_is_written() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 4);
    scene.sql(
        "INSERT INTO tailwater.events \
         VALUES ('runs/7', 1, 20, 1, now(), 'application/json', '\"of somebody else\"')",
    );
    let error = store.commit(&[source.chunk(0..4)]).await.unwrap_err();
    assert!(
        error.to_string().contains("duplicate key") && !error.heals(),
        "{error}"
    );
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.streams"), "0");
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.events"), "1");
}
