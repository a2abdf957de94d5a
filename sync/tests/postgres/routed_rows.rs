//! Events as rows of tables that people have made, each exactly once, or as dead letters.

use tailwater_sync::event::Payload;
use tailwater_sync::postgres::{Error, Outcome, Store};

use crate::routing::{json, routes, store_of};
use crate::scene::{FIRST_AT_MS, Scene, Source, written};

/// A new row for each event.
const STEPS: &str = r#"
[[route]]
name = "steps"
streams = "runs/{run}"
table = "public.steps"
create_tables = true
[route.columns]
run = { part = "run" }
step = { pointer = "/step", type = "text", required = true }
ms = { pointer = "/ms", type = "integer" }
index = { field = "index" }
"#;

/// One row for each run.
const RUNS: &str = r#"
[[route]]
name = "runs"
streams = "runs/{run}"
table = "public.runs"
mode = "upsert"
key = ["id"]
create_tables = true
[route.columns]
id = { pointer = "/id", type = "bigint", required = true }
state = { pointer = "/state", type = "text", default = "unknown" }
run = { part = "run" }
"#;

fn letters(rows: u64, dead_letters: u64) -> Outcome {
    Outcome::Written { rows, dead_letters }
}

#[tokio::test]
async fn every_type_arrives_as_it_is_in_the_event() {
    let scene = Scene::new().await;
    let text = r#"
[[route]]
streams = "all/{part}"
table = "other.All of them"
name = "all"
create_tables = true
[route.columns]
text = { pointer = "/text", type = "text" }
bigint = { pointer = "/bigint", type = "bigint" }
integer = { pointer = "/integer", type = "integer" }
double = { pointer = "/double", type = "double precision" }
numeric = { pointer = "/numeric", type = "numeric" }
boolean = { pointer = "/boolean", type = "boolean" }
moment = { pointer = "/moment", type = "timestamptz" }
ms = { pointer = "/ms", type = "timestamptz", format = "epoch_ms" }
date = { pointer = "/date", type = "date" }
uuid = { pointer = "/uuid", type = "uuid" }
json = { pointer = "/json", type = "jsonb" }
bytes = { pointer = "/bytes", type = "bytea" }
"a ""quoted"" name" = { part = "part" }
stream = { field = "stream" }
incarnation = { field = "incarnation" }
position = { field = "position" }
index = { field = "index" }
appended_at = { field = "appended_at" }
content_type = { field = "content_type" }
payload = { field = "payload" }
"#
    .replace("\"a \"\"quoted\"\" name\"", r#"'a "quoted" name'"#);
    let mut store = store_of(&scene, &text).await;
    let full = r#"{"text":"hé \"x\"","bigint":-9223372036854775808,"integer":2147483647,"double":0.1,"numeric":
        "12345678901234567890.10","boolean":true,"moment":"2026-11-29T09:30:00.123456+01:00","ms":1795213232175,"date":
        "2026-02-28","uuid":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6","json":{"b":[1.0]},"bytes":"AAH/"}"#;
    let source = Source::of("all/x y", 7, json([full, "{}"]));
    assert_eq!(store.commit(&[source.chunk(0..2)]).await.unwrap(), [written(2)]);
    let asked = r#"SELECT text, bigint, integer, double, numeric, boolean, moment AT TIME ZONE 'UTC',
        ms AT TIME ZONE 'UTC', date,
        uuid, json, encode(bytes, 'hex'), "a ""quoted"" name", stream, incarnation, position, index,
        extract(epoch FROM appended_at) * 1000 = {AT}, content_type, payload ->> 'integer'
        FROM other."All of them" ORDER BY index LIMIT 1"#;
    let expected = "hé \"x\"|-9223372036854775808|2147483647|0.1|12345678901234567890.10|t|2026-11-29 08:30:00.123456|\
        2026-11-20 22:20:32.175|2026-02-28|f81d4fae-7dec-11d0-a765-00a0c91e6bf6|{\"b\": [1.0]}|0001ff|x y|all/x \
        y|7|10|0|t|\
        application/json|2147483647";
    assert_eq!(
        scene.sql(&asked.replace("{AT}", &FIRST_AT_MS.to_string())),
        expected
    );
    let nulls = "SELECT num_nulls(text, bigint, integer, double, numeric, boolean, moment, ms, date, uuid, json, \
    bytes) \
                 FROM other.\"All of them\" WHERE index = 1";
    assert_eq!(scene.sql(nulls), "12");
}

#[tokio::test]
async fn rows_are_written_with_the_places_each_once() {
    let scene = Scene::new().await;
    let mut store = store_of(&scene, STEPS).await;
    let source = Source::of(
        "runs/7",
        1,
        json([r#"{"step":"a"}"#, r#"{"step":"b","ms":5}"#, r#"{"step":"c"}"#]),
    );
    let other = Source::new("jobs/7", 1, 2);
    let chunks = [source.chunk(0..2), other.chunk(0..2)];
    assert_eq!(store.commit(&chunks).await.unwrap(), [written(2), written(2)]);
    // The answer was lost: the same comes again, and more of it.
    let again = store.commit(&chunks).await.unwrap();
    assert!(
        again
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Moved { .. })),
        "{again:?}"
    );
    assert_eq!(store.commit(&[source.chunk(2..3)]).await.unwrap(), [written(1)]);
    let rows = "SELECT run, step, ms, index FROM steps ORDER BY index";
    assert_eq!(scene.sql(rows), "7|a||0\n7|b|5|1\n7|c||2");
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.events"), "5");
}

/// A failure behind the routed rows takes them with it, and so does one before them.
#[tokio::test]
async fn a_transaction_that_fails_leaves_neither_a_row_nor_a_place() {
    let scene = Scene::new().await;
    let mut store = store_of(&scene, STEPS).await;
    let source = Source::of("runs/7", 1, json([r#"{"step":"a"}"#, r#"{"ms":1}"#]));
    scene.sql("ALTER TABLE tailwater.dead_letters ADD COLUMN more text NOT NULL");
    let error = store.commit(&[source.chunk(0..2)]).await.unwrap_err();
    assert!(error.to_string().contains("more"), "{error}");
    assert_eq!(
        scene.sql("SELECT (SELECT count(*) FROM steps), (SELECT count(*) FROM tailwater.streams)"),
        "0|0"
    );
    scene.sql("ALTER TABLE tailwater.dead_letters DROP COLUMN more");
    let mut store = store_of(&scene, STEPS).await;
    assert_eq!(
        store.commit(&[source.chunk(0..2)]).await.unwrap(),
        [letters(1, 1)]
    );
    assert_eq!(scene.sql("SELECT count(*) FROM steps"), "1");
}

#[tokio::test]
async fn the_last_event_of_a_key_wins_in_a_batch_and_between_batches() {
    let scene = Scene::new().await;
    let mut store = store_of(&scene, RUNS).await;
    let texts = [
        r#"{"id":1,"state":"begun"}"#,
        r#"{"id":2,"state":"begun"}"#,
        r#"{"id":1,"state":"done"}"#,
        r#"{"id":2}"#,
        r#"{"id":1,"state":"archived"}"#,
    ];
    let source = Source::of("runs/7", 1, json(texts));
    assert_eq!(store.commit(&[source.chunk(0..4)]).await.unwrap(), [written(4)]);
    let rows = "SELECT id, state, run FROM runs ORDER BY id";
    assert_eq!(scene.sql(rows), "1|done|7\n2|unknown|7");
    // Of several streams, whoever comes last.
    let other = Source::of("runs/8", 1, json([r#"{"id":2,"state":"taken over"}"#]));
    let early = Source::of("runs/a", 1, json([r#"{"id":2,"state":"too early"}"#]));
    let chunks = [early.chunk(0..1), source.chunk(4..5), other.chunk(0..1)];
    assert_eq!(store.commit(&chunks).await.unwrap(), [written(1); 3]);
    assert_eq!(scene.sql(rows), "1|archived|7\n2|taken over|8");
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.events"), "7");
}

/// Keys that are alike for the table though their texts are not: one statement must not meet a row twice.
#[tokio::test]
async fn which_keys_are_alike_is_for_the_table_to_say() {
    let scene = Scene::new().await;
    scene.sql(
        "CREATE TABLE names (name varchar(10), padded char(4), n numeric, v text, UNIQUE (name, padded, n))",
    );
    let text = r#"
[[route]]
streams = "names"
table = "public.names"
mode = "upsert"
key = ["name", "padded", "n"]
[route.columns]
name = { pointer = "/0", type = "text", required = true }
padded = { pointer = "/1", type = "text", required = true }
n = { pointer = "/2", type = "numeric", required = true }
v = { pointer = "/3", type = "text" }
"#;
    let mut store = store_of(&scene, text).await;
    let texts = [
        r#"["Ada","a ",1.0,"first"]"#,
        r#"["Bob","a",1,"other"]"#,
        r#"["Ada","a",1.00,"last"]"#,
    ];
    let source = Source::of("names", 1, json(texts));
    assert_eq!(store.commit(&[source.chunk(0..3)]).await.unwrap(), [written(3)]);
    assert_eq!(
        scene.sql("SELECT name, v FROM names ORDER BY v"),
        "Ada|last\nBob|other"
    );
    // A text that does not fit is refused, and not cut.
    let source = Source::of("names", 2, json([r#"["a name that is too long","a",1,"x"]"#]));
    assert_eq!(
        store.commit(&[source.chunk(0..1)]).await.unwrap(),
        [letters(0, 1)]
    );
    let reason = "SELECT reason FROM tailwater.dead_letters";
    assert_eq!(
        scene.sql(reason),
        "value too long for type character varying(10) (22001)"
    );
}

#[tokio::test]
async fn an_event_that_does_not_fit_is_a_dead_letter_beside_rows_that_do() {
    let scene = Scene::new().await;
    let mut store = store_of(&scene, STEPS).await;
    scene.sql("ALTER TABLE steps ADD CONSTRAINT short CHECK (ms < 1000)");
    let texts = [
        r#"{"step":"a","ms":1}"#,
        r#"{"ms":2}"#,
        r#"{"step":"c","ms":"soon"}"#,
        r#"{"step":"d","ms":1000}"#,
        r#"{"step":"e","ms":5000000000}"#,
        r#"{"step":"\u0000"}"#,
        r#"{"step":"g","other":"\u0000"}"#,
        r#"{"step":"h","ms":8}"#,
    ];
    let source = Source::of("runs/7", 1, json(texts));
    let good = Source::of("runs/8", 1, json([r#"{"step":"x"}"#, r#"{"step":"y"}"#]));
    let outcomes = store
        .commit(&[source.chunk(0..8), good.chunk(0..2)])
        .await
        .unwrap();
    assert_eq!(outcomes, [letters(2, 6), written(2)]);
    // What has no NUL in it is a row, though the whole event is none.
    let rows = "SELECT step FROM steps ORDER BY run, index";
    assert_eq!(scene.sql(rows), "a\ng\nh\nx\ny");
    let events = "SELECT index FROM tailwater.events WHERE stream = 'runs/7' ORDER BY index";
    assert_eq!(scene.sql(events), "0\n1\n2\n3\n4\n7");
    let reasons = "SELECT index, route, reason FROM tailwater.dead_letters ORDER BY index";
    let expected = [
        r#"1|steps|column `step` (pointer "/step") is missing or null, and required"#,
        r#"2|steps|column `ms` (pointer "/ms") is "soon", which is no integer; it takes digits only"#,
        r#"3|steps|new row for relation "steps" violates check constraint "short": Failing row contains (7, d, 1000, 3). (23514)"#,
        r#"4|steps|column `ms` (pointer "/ms") is "5000000000", which is out of the range of integer"#,
        r#"5|steps|it has the character \u0000, which PostgreSQL cannot hold in a jsonb; column `step` (pointer "/step") has the character \u0000, which PostgreSQL cannot hold in a text"#,
        r"6||it has the character \u0000, which PostgreSQL cannot hold in a jsonb",
    ];
    assert_eq!(scene.sql(reasons), expected.join("\n"));
    // The tables are as the streams are, also to those who compare.
    let differences = store.differences(&source.chunk(0..8)).await.unwrap();
    assert!(differences.is_none(), "{differences:?}");
}

#[tokio::test]
async fn what_triggers_and_all_kinds_of_constraints_refuse_is_a_dead_letter() {
    let scene = Scene::new().await;
    scene.sql(
        "CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds VALUES ('good'), ('twice'), ('raised'); \
         CREATE TYPE mood AS ENUM ('calm', 'wild'); \
         CREATE TABLE steps (run text, step text NOT NULL REFERENCES kinds DEFERRABLE INITIALLY DEFERRED, ms integer, \
            index bigint, mood mood, UNIQUE (step, ms)); \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
            $$BEGIN IF NEW.step = 'raised' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END$$; \
         CREATE TRIGGER refuse BEFORE INSERT ON steps FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let text = STEPS.replace(
        "index =",
        "mood = { pointer = \"/mood\", type = \"text\" }\nindex =",
    );
    let mut store = store_of(&scene, &text).await;
    let texts = [
        r#"{"step":"good","mood":"calm"}"#,
        r#"{"step":"twice","ms":1}"#,
        r#"{"step":"raised"}"#,
        r#"{"step":"twice","ms":1}"#,
        r#"{"step":"unknown"}"#,
        r#"{"step":"good","mood":"odd"}"#,
        r#"{"step":"good","mood":"wild"}"#,
    ];
    let source = Source::of("runs/7", 1, json(texts));
    assert_eq!(
        store.commit(&[source.chunk(0..7)]).await.unwrap(),
        [letters(3, 4)]
    );
    assert_eq!(scene.sql("SELECT index FROM steps ORDER BY index"), "0\n1\n6");
    let codes = "SELECT index, right(reason, 7) FROM tailwater.dead_letters ORDER BY index";
    assert_eq!(scene.sql(codes), "2|(P0001)\n3|(23505)\n4|(23503)\n5|(22P02)");
    assert_eq!(scene.sql("SELECT count(*) FROM tailwater.events"), "7");
}

/// The last event of a key is refused: the one before it is what is left.
#[tokio::test]
async fn a_refused_event_does_not_take_the_one_before_it_with_it() {
    let scene = Scene::new().await;
    let mut store = store_of(&scene, RUNS).await;
    scene.sql("ALTER TABLE runs ADD CONSTRAINT known CHECK (state <> 'bad')");
    let texts = [
        r#"{"id":1,"state":"begun"}"#,
        r#"{"id":1,"state":"done"}"#,
        r#"{"id":1,"state":"bad"}"#,
        r#"{"id":2,"state":"begun"}"#,
    ];
    let source = Source::of("runs/7", 1, json(texts));
    assert_eq!(
        store.commit(&[source.chunk(0..4)]).await.unwrap(),
        [letters(3, 1)]
    );
    assert_eq!(
        scene.sql("SELECT id, state FROM runs ORDER BY id"),
        "1|done\n2|begun"
    );
}

#[tokio::test]
async fn a_route_may_keep_its_events_out_of_the_table_of_all() {
    let scene = Scene::new().await;
    let mut store = store_of(
        &scene,
        &STEPS.replace("create_tables", "events = false\ncreate_tables"),
    )
    .await;
    let source = Source::of("runs/7", 1, json([r#"{"step":"a"}"#, "{}"]));
    let other = Source::new("jobs/7", 1, 2);
    let outcomes = store
        .commit(&[source.chunk(0..2), other.chunk(0..2)])
        .await
        .unwrap();
    assert_eq!(outcomes, [letters(1, 1), written(2)]);
    assert_eq!(
        scene.sql("SELECT DISTINCT stream FROM tailwater.events"),
        "jobs/7"
    );
    assert_eq!(scene.sql("SELECT step FROM steps"), "a");
    assert_eq!(
        scene.sql("SELECT index, route FROM tailwater.dead_letters"),
        "1|steps"
    );
    let place = store.places(&["runs/7"]).await.unwrap()["runs/7"];
    assert_eq!((place.next, place.events), (source.offset(2), 2));
}

#[tokio::test]
async fn without_dead_letters_nothing_of_the_batch_is_written() {
    let scene = Scene::new().await;
    drop(store_of(&scene, STEPS).await);
    let mut settings = scene.settings();
    settings.routes = routes(STEPS);
    settings.takes_dead_letters = false;
    let mut store = Store::connect(&settings).await.unwrap();
    let source = Source::of("runs/7", 1, json([r#"{"step":"a"}"#, r#"{"ms":1}"#]));
    let error = store.commit(&[source.chunk(0..2)]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unmappable {
                index: 1,
                position: 20,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        scene.sql("SELECT (SELECT count(*) FROM steps), (SELECT count(*) FROM tailwater.streams)"),
        "0|0"
    );
    // Also if it is PostgreSQL that refuses the event. Nothing is wrong with the connection.
    let other = Source::of("others/7", 1, json(["1", "1e200000"]));
    let error = store.commit(&[other.chunk(0..2)]).await.unwrap_err();
    assert!(matches!(error, Error::Unmappable { index: 1, .. }), "{error}");
    assert!(!store.is_closed());
    let before = [source.chunk(0..1), other.chunk(0..1)];
    assert_eq!(store.commit(&before).await.unwrap(), [written(1), written(1)]);
    assert_eq!(
        scene.sql("SELECT (SELECT count(*) FROM steps), (SELECT count(*) FROM tailwater.events)"),
        "1|2"
    );
}

/// More rows than one statement takes, and events that are longer than all of them together should be.
#[tokio::test]
async fn many_rows_and_long_ones_are_written_in_parts_in_their_order() {
    let scene = Scene::new().await;
    let mut store = store_of(&scene, RUNS).await;
    let payload = |n: usize| Payload::Json(format!(r#"{{"id":{},"state":"{n}"}}"#, n % 7_000).into());
    let source = Source::of("runs/7", 1, (0..25_000).map(payload));
    assert_eq!(
        store.commit(&[source.chunk(0..25_000)]).await.unwrap(),
        [written(25_000)]
    );
    let wrong =
        "SELECT count(*), count(*) FILTER (WHERE state::int % 7000 <> id OR state::int < 18000) FROM runs";
    assert_eq!(scene.sql(wrong), "7000|0");
    let long = |n: usize| Payload::Json(format!(r#"{{"id":{n},"state":"{}"}}"#, "x".repeat(10 << 20)).into());
    let source = Source::of("runs/8", 1, (0..4).map(long));
    assert_eq!(store.commit(&[source.chunk(0..4)]).await.unwrap(), [written(4)]);
    assert_eq!(
        scene.sql("SELECT count(*) FROM runs WHERE length(state) = 10 << 20"),
        "4"
    );
}

#[tokio::test]
async fn a_table_may_have_hundreds_of_columns() {
    let scene = Scene::new().await;
    let columns: String = (0..600)
        .map(|n| format!("c{n} = {{ pointer = \"/{n}\", type = \"bigint\" }}\n"))
        .collect();
    let text = format!(
        "[[route]]\nstreams = \"wide\"\ntable = \"public.wide\"\ncreate_tables = true\n[route.columns]\n{columns}"
    );
    let mut store = store_of(&scene, &text).await;
    let numbers: Vec<_> = (0..600).map(|n| n.to_string()).collect();
    let event = format!("[{}]", numbers.join(","));
    let source = Source::of("wide", 1, json([&event]));
    assert_eq!(store.commit(&[source.chunk(0..1)]).await.unwrap(), [written(1)]);
    assert_eq!(scene.sql("SELECT c0, c299, c599 FROM wide"), "0|299|599");
}
