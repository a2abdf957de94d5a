//! Tables of routes: what is wrong with them is told before anything is written, and the SQL that is offered mends it.

use tailwater_sync::postgres::{Error, Problem, Settings, Store};

use crate::routing::{faults_of, json, routes, store_of};
use crate::scene::{DATABASE, Scene, Source, written};

const RUNS: &str = r#"
[[route]]
name = "runs"
streams = "runs/{run}"
table = "logs.runs"
mode = "upsert"
key = ["run"]
[route.columns]
run = { part = "run" }
state = { pointer = "/state", type = "text" }
n = { pointer = "/n", type = "bigint" }
at = { field = "appended_at" }
"#;

/// All that is wrong, in one line each.
async fn told(scene: &Scene, text: &str) -> Vec<String> {
    let faults = faults_of(scene, "postgres", text).await;
    faults.iter().map(|fault| fault.problem.to_string()).collect()
}

#[tokio::test]
async fn the_sql_that_is_offered_makes_the_table_that_is_missing() {
    let scene = Scene::new().await;
    scene.sql("CREATE SCHEMA logs");
    let faults = faults_of(&scene, "postgres", RUNS).await;
    let [fault] = &faults[..] else {
        panic!("{faults:?}")
    };
    assert!(matches!(fault.problem, Problem::NoTable { .. }));
    let lines = [
        r#"CREATE TABLE "logs"."runs" ("#,
        r#"    "run" text NOT NULL,"#,
        r#"    "state" text,"#,
        r#"    "n" bigint,"#,
        r#"    "at" timestamptz NOT NULL,"#,
        r#"    PRIMARY KEY ("run")"#,
        ");",
    ];
    let sql = lines.join("\n");
    assert_eq!(fault.sql.as_ref(), Some(&sql));
    assert!(fault.to_string().ends_with(&format!("; run:\n{sql}")), "{fault}");
    scene.sql(&sql);
    let mut store = store_of(&scene, RUNS).await;
    let source = Source::of("runs/7", 1, json([r#"{"state":"done"}"#]));
    assert_eq!(store.commit(&[source.chunk(0..1)]).await.unwrap(), [written(1)]);
}

#[tokio::test]
async fn what_a_table_lacks_is_told_at_once_and_mended_by_what_is_offered() {
    let scene = Scene::new().await;
    scene.sql("CREATE SCHEMA logs; CREATE TABLE logs.runs (run text, at timestamptz); CREATE USER mirror");
    scene.sql("GRANT SELECT ON ALL TABLES IN SCHEMA tailwater TO mirror");
    let faults = faults_of(&scene, "mirror", RUNS).await;
    let told: Vec<_> = faults.iter().map(|fault| fault.problem.to_string()).collect();
    assert_eq!(
        told,
        [
            "the user mirror lacks USAGE on the schema logs",
            "logs.runs has no column \"state\"",
            "logs.runs has no column \"n\"",
            "the user mirror lacks INSERT, SELECT, UPDATE on logs.runs",
            "logs.runs has no unique index on just the columns of the key, run, for all rows and checked at once",
        ]
    );
    for fault in &faults {
        scene.sql(fault.sql.as_deref().unwrap());
    }
    assert_eq!(faults_of(&scene, "mirror", RUNS).await, []);
}

#[tokio::test]
async fn the_rights_that_are_asked_for_are_enough() {
    let scene = Scene::new().await;
    scene.sql(
        "CREATE USER mirror; GRANT USAGE ON SCHEMA tailwater TO mirror; \
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA tailwater TO mirror; CREATE SCHEMA logs; \
         GRANT USAGE ON SCHEMA logs TO mirror; \
         CREATE TABLE logs.runs (run text PRIMARY KEY, state text, n bigint, at timestamptz); \
         CREATE TABLE logs.lines (run text, line jsonb); GRANT INSERT ON logs.lines TO mirror; \
         GRANT INSERT, SELECT ON logs.runs TO mirror; GRANT UPDATE (state, n, at) ON logs.runs TO mirror",
    );
    let text = format!(
        "{}\n[[route]]\nstreams = \"runs/{{run}}/lines\"\ntable = \"logs.lines\"\n[route.columns]\n\
         run = {{ part = \"run\" }}\nline = {{ field = \"payload\" }}\n",
        RUNS
    );
    assert_eq!(faults_of(&scene, "mirror", &text).await, []);
    let url = scene.postgres.url_of("mirror", DATABASE);
    let mut settings = Settings::from_url(&url).unwrap();
    settings.routes = routes(&text);
    let mut store = Store::connect(&settings).await.unwrap();
    let source = Source::of("runs/7", 1, json([r#"{"state":"begun"}"#, r#"{"state":"done"}"#]));
    let lines = Source::new("runs/7/lines", 1, 2);
    for at in 0..2 {
        let outcomes = store
            .commit(&[source.chunk(at..at + 1), lines.chunk(at..at + 1)])
            .await;
        assert_eq!(outcomes.unwrap(), [written(1), written(1)]);
    }
    assert_eq!(scene.sql("SELECT run, state FROM logs.runs"), "7|done");
    assert_eq!(scene.sql("SELECT count(*) FROM logs.lines"), "2");
}

/// What is told before the start is what keeps the mirror from making the table, and its SQL is all that it takes.
#[tokio::test]
async fn the_right_to_make_a_table_is_asked_for_before_the_mirror_is_to_make_it() {
    let scene = Scene::new().await;
    scene.sql("CREATE USER mirror; GRANT USAGE ON SCHEMA tailwater TO mirror");
    scene.sql("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA tailwater TO mirror");
    let made = RUNS.replace("mode =", "create_tables = true\nmode =");
    let make = async || {
        let mut settings = Settings::from_url(&scene.postgres.url_of("mirror", DATABASE)).unwrap();
        settings.routes = routes(&made);
        Store::connect(&settings).await.unwrap().migrate().await
    };
    for (problem, granted, undone) in [
        (
            "the user mirror lacks CREATE on the database postgres, where the schema logs is to be made",
            "GRANT CREATE ON DATABASE \"postgres\" TO \"mirror\";",
            "DROP SCHEMA logs CASCADE; REVOKE CREATE ON DATABASE postgres FROM mirror; CREATE SCHEMA logs",
        ),
        (
            "the user mirror lacks CREATE on the schema logs",
            "GRANT USAGE, CREATE ON SCHEMA \"logs\" TO \"mirror\";",
            "SELECT 1",
        ),
    ] {
        // Who is to make nothing needs no right to.
        assert_eq!(faults_of(&scene, "mirror", RUNS).await.len(), 1);
        let faults = faults_of(&scene, "mirror", &made).await;
        let kept: Vec<_> = faults.iter().filter(|fault| !fault.heals_at_start).collect();
        let [fault] = &kept[..] else { panic!("{faults:?}") };
        assert_eq!(fault.problem.to_string(), problem);
        assert_eq!(fault.sql.as_deref(), Some(granted));
        let refused = make().await.unwrap_err();
        assert!(!refused.heals(), "{refused}");
        scene.sql(granted);
        make().await.unwrap();
        assert_eq!(faults_of(&scene, "mirror", &made).await, []);
        scene.sql(undone);
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_written_as_the_route_says_is_named() {
    let scene = Scene::new().await;
    scene.sql("CREATE SCHEMA logs");
    let columns = "run text PRIMARY KEY, state text, n bigint, at timestamptz";
    let with = |change: &str| format!("CREATE TABLE logs.runs ({columns}{change})");
    let index =
        "logs.runs has no unique index on just the columns of the key, run, for all rows and checked at once";
    let cases: [(&str, &[&str]); 13] = [
        (
            &with("").replace("state text", "state name"),
            &[
                "logs.runs has the column \"state\" of the type name, and the route fills it with text; change one of them",
            ],
        ),
        (&with(""), &[]),
        (
            &with(", more bigint GENERATED ALWAYS AS IDENTITY, made bigint NOT NULL DEFAULT 3"),
            &[],
        ),
        (
            &with(", more bigint NOT NULL"),
            &[
                "logs.runs has the column \"more\" NOT NULL and without a default, and the route does not fill it; \
                 add it to \
               `columns`",
            ],
        ),
        (
            &with("").replace("n bigint", "n bigint NOT NULL"),
            &[
                "logs.runs has the column \"n\" NOT NULL, and the route may leave it null; add required = true or a \
                 default there",
            ],
        ),
        (
            &with("").replace("n bigint", "n integer"),
            &[
                "logs.runs has the column \"n\" of the type integer, and the route fills it with bigint; change one \
                 of them",
            ],
        ),
        (
            &with("")
                .replace("n bigint", "n numeric(5, 2)")
                .replace("state text", "state varchar(3)"),
            &[],
        ),
        (
            &with("").replace("at timestamptz", "at timestamp"),
            &[
                "logs.runs has the column \"at\" of the type timestamp without time zone, and the route fills it with \
                 timestamptz; \
               change one of them",
            ],
        ),
        (
            &with("").replace("n bigint", "n bigint GENERATED ALWAYS AS IDENTITY"),
            &["logs.runs fills the column \"n\" by itself; leave it out of the route"],
        ),
        (
            &with("").replace("text PRIMARY KEY", "text, UNIQUE (run, n)"),
            &[index],
        ),
        (
            &with("").replace("text PRIMARY KEY", "text UNIQUE DEFERRABLE"),
            &[index],
        ),
        (
            &with("").replace("CREATE TABLE", "CREATE UNLOGGED TABLE"),
            &["logs.runs is UNLOGGED: PostgreSQL empties it after a crash, and no row would come back"],
        ),
        (
            "CREATE VIEW logs.runs AS SELECT 1",
            &["logs.runs is a view; name a table that keeps its own rows"],
        ),
    ];
    for (sql, expected) in cases {
        scene.sql(sql);
        assert_eq!(told(&scene, RUNS).await, expected, "{sql}");
        let kind = if sql.contains("VIEW") { "VIEW" } else { "TABLE" };
        scene.sql(&format!("DROP {kind} logs.runs"));
    }
    let domain = "CREATE DOMAIN short AS text CHECK (length(value) < 3); CREATE TABLE logs.runs \
                  (run text, state short, n bigint, at timestamptz) PARTITION BY LIST (run); \
                  CREATE UNIQUE INDEX ON logs.runs (run) INCLUDE (n) ";
    scene.sql(domain);
    assert_eq!(told(&scene, RUNS).await, [""; 0]);
}

#[tokio::test]
async fn many_mirrors_make_the_tables_of_their_routes_at_once() {
    let scene = Scene::new().await;
    let text = RUNS.replace("mode =", "create_tables = true\nmode =");
    let faults = faults_of(&scene, "postgres", &text).await;
    assert!(faults[0].heals_at_start, "{faults:?}");
    let mirrors = (0..8).map(|_| {
        let mut settings = scene.settings();
        settings.routes = routes(&text);
        tokio::spawn(async move {
            let mut store = Store::connect(&settings).await?;
            store.migrate().await?;
            store.route_faults().await
        })
    });
    for mirror in mirrors.collect::<Vec<_>>() {
        assert_eq!(mirror.await.unwrap().unwrap(), []);
    }
}

/// Somebody changes the table while the mirror runs. Nothing is lost, and what is wrong is named.
#[tokio::test]
async fn a_table_or_column_that_is_dropped_is_named_until_it_is_there_again() {
    let scene = Scene::new().await;
    let text = RUNS.replace("mode =", "create_tables = true\nmode =");
    let mut store = store_of(&scene, &text).await;
    let source = Source::of("runs/7", 1, json([r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]));
    assert_eq!(store.commit(&[source.chunk(0..1)]).await.unwrap(), [written(1)]);
    scene.sql("ALTER TABLE logs.runs DROP COLUMN n");
    let error = store.commit(&[source.chunk(1..2)]).await.unwrap_err();
    assert!(
        matches!(&error, Error::RoutedTable { route, code, .. } if route == "runs" && code == "42703"),
        "{error}"
    );
    assert!(store.is_closed());
    // Another connection knows it before it writes, and other streams go on.
    let mut settings = scene.settings();
    settings.routes = routes(&text);
    let mut store = Store::connect(&settings).await.unwrap();
    let error = store.commit(&[source.chunk(1..2)]).await.unwrap_err();
    let Error::Routes { faults } = &error else {
        panic!("{error}")
    };
    assert!(matches!(
        faults[..],
        [tailwater_sync::postgres::RouteFault {
            problem: Problem::NoColumn { .. },
            ..
        }]
    ));
    let other = Source::new("jobs/1", 1, 1);
    assert_eq!(store.commit(&[other.chunk(0..1)]).await.unwrap(), [written(1)]);
    scene.sql(faults[0].sql.as_deref().unwrap());
    assert_eq!(store.commit(&[source.chunk(1..2)]).await.unwrap(), [written(1)]);
    assert_eq!(scene.sql("SELECT n FROM logs.runs"), "2");
    scene.sql("DROP TABLE logs.runs");
    let error = store.commit(&[source.chunk(2..3)]).await.unwrap_err();
    assert!(
        matches!(&error, Error::RoutedTable { code, .. } if code == "42P01"),
        "{error}"
    );
    let mut store = store_of(&scene, &text).await;
    assert_eq!(store.commit(&[source.chunk(2..3)]).await.unwrap(), [written(1)]);
    assert_eq!(scene.sql("SELECT run, n FROM logs.runs"), "7|3");
}
