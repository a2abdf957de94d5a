//! How fast rows are written, beside `psql` that copies the same rows: figures, and no verdict.

use std::time::{Duration, Instant};

use tailwater_sync::event::{Chunk, Payload};
use tokio_postgres::types::{ToSql, Type};

use crate::routing::store_of;
use crate::scene::{DATABASE, Scene, Source};

const ROWS: usize = 200_000;
const STREAMS: usize = 20;
const ROUNDS: usize = 5;
/// Of one transaction, over several streams.
const COMMIT_ROWS: usize = 10_000;
const CHUNK_ROWS: usize = 1_000;

const UNNEST: &str = "INSERT INTO tailwater.events \
     SELECT stream, incarnation, position, index, to_timestamp(at_ms / 1000.0), content_type, payload::jsonb, NULL \
     FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[]) \
     AS event (stream, incarnation, position, index, at_ms, content_type, payload)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run it in release mode with --nocapture"]
async fn rows_a_second_beside_psql() {
    let scene = Scene::new().await;
    let commits = commits();
    let file = scene.postgres.file("rows", "");
    let mut spent = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        scene.sql("TRUNCATE tailwater.events, tailwater.streams");
        spent[0].push(mirror(&scene, &commits).await);
        if round == 0 {
            scene.sql(&format!(
                "\\copy (SELECT * FROM tailwater.events) TO '{}'",
                file.display()
            ));
        }
        scene.sql("TRUNCATE tailwater.events, tailwater.streams");
        spent[1].push(unnest(&scene, &commits).await);
        scene.sql("TRUNCATE tailwater.events, tailwater.streams");
        let began = Instant::now();
        scene.sql(&format!("\\copy tailwater.events FROM '{}'", file.display()));
        spent[2].push(began.elapsed());
    }
    println!(
        "{ROWS} rows, {} bytes; median and best of {ROUNDS} rounds, rows a second",
        std::fs::metadata(&file).unwrap().len()
    );
    for (name, mut times) in [
        "commits, by binary COPY",
        "INSERT of unnest, without places",
        "psql COPY",
    ]
    .iter()
    .zip(spent)
    {
        times.sort();
        let rate = |time: Duration| (ROWS as f64 / time.as_secs_f64()).round();
        println!("{name:>34}: {:>9} {:>9}", rate(times[ROUNDS / 2]), rate(times[0]));
    }
}

/// Rounds over all streams, each of which gets a chunk, so many of them in a transaction as fit.
fn commits() -> Vec<Vec<Chunk>> {
    let payload = |n: usize| {
        let text = format!(
            "{{\"step\":\"rendered\",\"n\":{n},\"ok\":true,\"ms\":12.5,\"message\":\"page {n} of the run was rendered\",\
            \"tags\":[\"a\",\"b\"],\"worker\":\"worker-7\"}}"
        );
        Payload::Json(text.into())
    };
    let of_stream = ROWS / STREAMS;
    let sources: Vec<_> = (0..STREAMS)
        .map(|number| {
            Source::of(
                &format!("runs/2026/11/{number:08}"),
                1_795_213_232_175_485,
                (0..of_stream).map(payload),
            )
        })
        .collect();
    let chunks: Vec<_> = (0..of_stream)
        .step_by(CHUNK_ROWS)
        .flat_map(|at| {
            sources
                .iter()
                .map(move |source| source.chunk(at..at + CHUNK_ROWS))
        })
        .collect();
    chunks
        .chunks(COMMIT_ROWS / CHUNK_ROWS)
        .map(<[Chunk]>::to_vec)
        .collect()
}

async fn mirror(scene: &Scene, commits: &[Vec<Chunk>]) -> Duration {
    let mut store = scene.store().await;
    let began = Instant::now();
    for chunks in commits {
        store.commit(chunks).await.unwrap();
    }
    began.elapsed()
}

async fn unnest(scene: &Scene, commits: &[Vec<Chunk>]) -> Duration {
    let url = scene.postgres.url(DATABASE);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let began = Instant::now();
    for chunks in commits {
        let events: Vec<_> = chunks
            .iter()
            .flat_map(|chunk| chunk.events.iter().map(move |event| (chunk, event)))
            .collect();
        let streams: Vec<_> = events.iter().map(|(chunk, _)| chunk.stream.as_ref()).collect();
        let incarnations: Vec<_> = events
            .iter()
            .map(|(chunk, _)| chunk.incarnation.number().cast_signed())
            .collect();
        let positions: Vec<_> = events
            .iter()
            .map(|(_, event)| event.offset.position().cast_signed())
            .collect();
        let indexes: Vec<_> = events
            .iter()
            .map(|(_, event)| event.index.cast_signed())
            .collect();
        let times: Vec<_> = events.iter().map(|(_, event)| event.at_ms).collect();
        let types: Vec<_> = events
            .iter()
            .map(|(chunk, _)| chunk.content_type.as_ref())
            .collect();
        let payloads: Vec<_> = events
            .iter()
            .map(|(_, event)| std::str::from_utf8(event.payload.as_bytes()).unwrap())
            .collect();
        let columns: [(&(dyn ToSql + Sync), Type); 7] = [
            (&streams, Type::TEXT_ARRAY),
            (&incarnations, Type::INT8_ARRAY),
            (&positions, Type::INT8_ARRAY),
            (&indexes, Type::INT8_ARRAY),
            (&times, Type::INT8_ARRAY),
            (&types, Type::TEXT_ARRAY),
            (&payloads, Type::TEXT_ARRAY),
        ];
        client.execute_typed(UNNEST, &columns).await.unwrap();
    }
    began.elapsed()
}

/// Rows of a table of six columns, out of the same events.
const ROUTE: &str = r#"
[[route]]
name = "pages"
streams = "runs/{year}/{month}/{run}"
table = "public.pages"
events = false
create_tables = true
[route.columns]
run = { part = "run" }
n = { pointer = "/n", type = "bigint", required = true }
step = { pointer = "/step", type = "text" }
ok = { pointer = "/ok", type = "boolean" }
ms = { pointer = "/ms", type = "double precision" }
at = { field = "appended_at" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run it in release mode with --nocapture"]
async fn routed_rows_a_second_beside_psql() {
    let scene = Scene::new().await;
    let upsert = ROUTE.replace("events =", "mode = \"upsert\"\nkey = [\"run\", \"n\"]\nevents =");
    let upsert = upsert.replace("public.pages", "public.kept");
    let commits = commits();
    let file = scene.postgres.file("rows", "");
    let mut spent = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for (at, text) in [ROUTE, &upsert].into_iter().enumerate() {
            let mut store = store_of(&scene, text).await;
            scene.sql("TRUNCATE tailwater.streams");
            scene.sql(&format!("TRUNCATE {}", ["pages", "kept"][at]));
            let began = Instant::now();
            for chunks in &commits {
                store.commit(chunks).await.unwrap();
            }
            spent[at].push(began.elapsed());
        }
        if round == 0 {
            scene.sql(&format!("\\copy pages TO '{}'", file.display()));
        }
        scene.sql("TRUNCATE pages");
        let began = Instant::now();
        scene.sql(&format!("\\copy pages FROM '{}'", file.display()));
        spent[2].push(began.elapsed());
    }
    println!("{ROWS} rows; median and best of {ROUNDS} rounds, rows a second");
    for (name, mut times) in ["insert", "upsert of new keys", "psql COPY"].iter().zip(spent) {
        times.sort();
        let rate = |time: Duration| (ROWS as f64 / time.as_secs_f64()).round();
        println!("{name:>34}: {:>9} {:>9}", rate(times[ROUNDS / 2]), rate(times[0]));
    }
}
