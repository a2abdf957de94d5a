//! How fast the mirror is, beside `psql` that copies the same rows, and how far it is behind while events come: figures, and
//! no verdict. `make bench-mirror` prints them.
//!
//! `TAILWATER_MIRROR_EVENTS` says how many events are caught up with.

use std::time::{Duration, Instant};

use tailwater_e2e::Server;
use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::postgres::Postgres;
use tailwater_e2e::process::Process;
use tempfile::TempDir;

const EVENTS: usize = 1_000_000;
const ROUNDS: usize = 3;
const STREAMS: usize = 20;
/// Of one append.
const APPEND_EVENTS: usize = 1_000;

/// A thousand events a second, over a hundred streams.
const LIVE_STREAMS: usize = 100;
const LIVE_EVENTS: usize = 20_000;
const LIVE_INTERVAL: Duration = Duration::from_millis(1);

const DATABASE: &str = "postgres";
const EMPTY: &str = "TRUNCATE tailwater.events, tailwater.streams";

#[test]
#[ignore = "measures; make bench-mirror runs it"]
fn events_a_second_from_streams_into_tables_beside_psql() {
    let events =
        std::env::var("TAILWATER_MIRROR_EVENTS").map_or(EVENTS, |text| text.parse().expect("a number"));
    let scene = Scene::new(&["fsync=on"]);
    scene.fill(events);
    let rows = scene.postgres.file("rows", "");
    println!(
        "| round | mirror, events/s | psql COPY, events/s | ratio | memory of the mirror, MiB, at a quarter and at the end |"
    );
    println!("|---|--:|--:|--:|--:|");
    for round in 1..=ROUNDS {
        let began = Instant::now();
        let mirror = scene.mirror();
        let early = scene.wait_for(events / 4, &mirror);
        let late = scene.wait_for(events, &mirror);
        let mirrored = began.elapsed();
        mirror.stop();
        if round == 1 {
            scene.sql(&format!(
                "\\copy (SELECT * FROM tailwater.events) TO '{}'",
                rows.display()
            ));
        }
        scene.sql(EMPTY);
        let began = Instant::now();
        scene.sql(&format!("\\copy tailwater.events FROM '{}'", rows.display()));
        let copied = began.elapsed();
        scene.sql(EMPTY);
        scene.sql("CHECKPOINT");
        let rate = |time: Duration| events as f64 / time.as_secs_f64();
        println!(
            "| {round} | {:.0} | {:.0} | {:.2} | {} {} |",
            rate(mirrored),
            rate(copied),
            rate(mirrored) / rate(copied),
            early >> 20,
            late >> 20,
        );
    }
}

#[test]
#[ignore = "measures; make bench-mirror runs it"]
fn how_far_rows_are_behind_while_events_come() {
    let scene = Scene::new(&["fsync=on", "track_commit_timestamp=on"]);
    let streams: Vec<_> = (0..LIVE_STREAMS)
        .map(|number| scene.server.stream(&format!("live/{number:03}")).create())
        .collect();
    let mirror = scene.mirror();
    mirror.expect_ready();
    let mut connection = scene.server.connect();
    let began = Instant::now();
    for number in 0..LIVE_EVENTS {
        let due = began + LIVE_INTERVAL * u32::try_from(number).expect("few events");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let stream = &streams[number % LIVE_STREAMS];
        connection.send(&stream.appending(event(number))).expect(204);
    }
    let appended = began.elapsed();
    scene.wait_for(LIVE_EVENTS, &mirror);
    let lag = scene.sql(
        "SELECT string_agg(round(ms::numeric, 1)::text, ' | ') FROM (SELECT unnest(percentile_cont(ARRAY[0.5, 0.99, 1]) \
         WITHIN GROUP (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(xmin) - appended_at) * 1000)) AS ms \
         FROM tailwater.events) AS lag",
    );
    println!("| events/s | p50 ms from append to commit | p99 | longest |");
    println!("|--:|--:|--:|--:|");
    println!("| {:.0} | {lag} |", LIVE_EVENTS as f64 / appended.as_secs_f64());
}

/// A server that keeps streams on disk, and a PostgreSQL that syncs what it commits.
struct Scene {
    server: Server,
    postgres: Postgres,
    _data: TempDir,
}

impl Scene {
    fn new(options: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let path = data.path().join("streams").display().to_string();
        let server = Server::start_with(&[
            ("DS_STORAGE__MODE", "file-durable"),
            ("DS_STORAGE__DATA_DIR", &path),
        ]);
        Self {
            server,
            postgres: Postgres::start_with(options),
            _data: data,
        }
    }

    fn fill(&self, events: usize) {
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| self.server.stream(&format!("runs/2026/11/{number:08}")).create())
            .collect();
        let mut connection = self.server.connect();
        for (append, first) in (0..events).step_by(APPEND_EVENTS).enumerate() {
            let of_append: Vec<_> = (first..events.min(first + APPEND_EVENTS)).map(event).collect();
            let body = format!("[{}]", of_append.join(","));
            connection
                .send(&streams[append % STREAMS].appending(body))
                .expect(204);
        }
    }

    fn mirror(&self) -> Mirror {
        Mirror::start(&[
            (
                "DS_SYNC__SOURCE_URL",
                &format!("{}{}", self.server.origin(), self.server.base_path()),
            ),
            ("DS_SYNC__POSTGRES_URL", &self.postgres.url(DATABASE)),
        ])
    }

    /// Waits until that many events are in the tables, and tells what anonymous memory the mirror has then.
    fn wait_for(&self, events: usize, mirror: &Mirror) -> u64 {
        loop {
            // The mirror makes the tables, so at first there are none.
            let mirrored = self
                .postgres
                .try_sql(DATABASE, "SELECT coalesce(sum(events), 0) FROM tailwater.streams");
            if mirrored.is_ok_and(|count| count.parse::<usize>().expect("a number") >= events) {
                return Process::new(mirror.pid()).status_bytes("RssAnon");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn sql(&self, sql: &str) -> String {
        self.postgres.sql(DATABASE, sql)
    }
}

fn event(number: usize) -> String {
    format!(
        "{{\"step\":\"rendered\",\"n\":{number},\"ok\":true,\"ms\":12.5,\"message\":\"page {number} of the run was rendered\",\
         \"tags\":[\"a\",\"b\"],\"worker\":\"worker-7\"}}"
    )
}
