//! Streams that go to tables of people's own, by the routes of a configuration file.

use tailwater_e2e::eventually;

use crate::rig::Rig;

/// Each run has one row with its last state, and each step one of its own.
const ROUTES: &str = r#"
[sync]
batch_ms = 5

[[route]]
name = "runs"
streams = "runs/{run}"
table = "app.runs"
mode = "upsert"
key = ["run"]
[route.columns]
run = { part = "run" }
state = { pointer = "/state", type = "text", required = true }
at = { field = "appended_at" }

[[route]]
name = "steps"
streams = "runs/{run}/steps"
table = "app.steps"
events = false
[route.columns]
run = { part = "run" }
index = { field = "index" }
ms = { pointer = "/ms", type = "integer" }
"#;

#[test]
fn what_tables_of_routes_lack_is_told_made_by_hand_and_filled() {
    let rig = Rig::new("memory").configured(ROUTES);
    let (code, _, said) = rig.command(&["run"], &[]);
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "route `runs`: there is no table app.runs, and the mirror makes it only with create_tables = true; run:",
        "route `steps`: there is no table app.steps",
        "CREATE TABLE \"app\".\"steps\" (",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let (code, _, checked) = rig.command(&["check"], &[]);
    assert_eq!(code, Some(1), "{checked}");
    assert!(checked.contains("there is no table app.steps"), "{checked}");
    let (code, sql, said) = rig.command(&["check", "--sql"], &[]);
    assert_eq!(code, Some(0), "{said}");
    rig.ask("CREATE SCHEMA app");
    rig.ask(&sql);
    let (code, shown, said) = rig.command(&["check"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        shown.contains("# route runs: runs/{run} -> app.runs (upsert)\n"),
        "{shown}"
    );

    let run = rig.server.stream("runs/7").create();
    run.append(r#"[{"state":"begun"},{"state":"done"},{"other":1}]"#);
    let steps = rig.server.stream("runs/7/steps").create();
    steps.append(r#"[{"ms":1},{"ms":2}]"#);
    rig.server.stream("jobs/1").create().append("1");
    let mirror = rig.mirror();
    for stream in ["runs/7", "runs/7/steps", "jobs/1"] {
        rig.expect_mirrored(stream);
    }
    assert_eq!(rig.ask("SELECT run, state FROM app.runs"), "7|done");
    assert_eq!(
        rig.ask("SELECT run, index, ms FROM app.steps ORDER BY index"),
        "7|0|1\n7|1|2"
    );
    let events = "SELECT stream, count(*) FROM tailwater.events GROUP BY 1 ORDER BY 1";
    assert_eq!(rig.ask(events), "jobs/1|1\nruns/7|3");
    assert_eq!(
        rig.ask("SELECT stream, index, route FROM tailwater.dead_letters"),
        "runs/7|2|runs"
    );
    for (metric, value) in [
        ("tailwater_sync_route_rows_total{route=\"runs\"}", 2.0),
        ("tailwater_sync_route_rows_total{route=\"steps\"}", 2.0),
        ("tailwater_sync_route_dead_letters_total{route=\"runs\"}", 1.0),
        ("tailwater_sync_route_dead_letters_total{route=\"steps\"}", 0.0),
        ("tailwater_sync_route_lag_events{route=\"runs\"}", 0.0),
        ("tailwater_sync_route_lag_seconds{route=\"steps\"}", 0.0),
    ] {
        eventually(metric, || (mirror.metric(metric) == Some(value)).then_some(()));
    }
    mirror.stop();
    let (code, said, complaints) = rig.command(&["verify"], &[]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    assert!(
        said.contains("route `steps`: 2 events of 1 streams compared with app.steps row by row, but for"),
        "{said}"
    );
    assert!(said.contains("4 events of 2 streams compared"), "{said}");
}

#[test]
fn a_wrong_route_is_named_with_its_line_beside_wrong_settings() {
    let rig =
        Rig::new("memory").configured("[sync]\nreader = 3\n[[route]]\nstreams = \"a\"\ntable = \"b\"\n");
    let (code, _, said) = rig.command(&["check"], &[]);
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "sync.toml:2: unknown setting `sync.reader`",
        "sync.toml:3: route 1: `columns` is missing",
        "sync.toml:5: route 1: `table` cannot be \"b\"; write schema.table",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

#[test]
fn a_table_that_is_dropped_holds_up_its_route_alone_and_nothing_is_lost() {
    let rig = Rig::with("memory", &[], &[("DS_SYNC__CREATE_TABLES", "true")]).configured(ROUTES);
    let steps = rig.server.stream("runs/7/steps").create();
    steps.append(r#"[{"ms":1}]"#);
    let mirror = rig.mirror();
    rig.expect_mirrored("runs/7/steps");
    rig.ask("ALTER TABLE app.steps RENAME TO aside");
    steps.append(r#"[{"ms":2}]"#);
    let told = "SELECT last_error LIKE '%route `steps`%app.steps%' FROM tailwater.streams WHERE name = 'runs/7/steps'";
    rig.expect(told, "t");
    for number in 0..5 {
        let stream = rig.server.stream(&format!("runs/{number}")).create();
        stream.append(r#"{"state":"begun"}"#);
        rig.expect_mirrored(&format!("runs/{number}"));
    }
    let failures = "tailwater_sync_route_write_failures_total{route=\"steps\"}";
    assert!(mirror.metric(failures).is_some_and(|failures| failures >= 1.0));
    eventually("the lag of the route is shown", || {
        let lag = "tailwater_sync_route_lag_events{route=\"steps\"}";
        (mirror.metric(lag) == Some(1.0)).then_some(())
    });
    rig.ask("ALTER TABLE app.aside RENAME TO steps");
    rig.expect_mirrored("runs/7/steps");
    assert_eq!(
        rig.ask("SELECT index, ms FROM app.steps ORDER BY index"),
        "0|1\n1|2"
    );
    drop(mirror);
}

#[test]
fn an_event_that_its_route_cannot_take_halts_its_stream_if_that_is_asked_for() {
    let settings = [
        ("DS_SYNC__CREATE_TABLES", "true"),
        ("DS_SYNC__ON_UNMAPPABLE", "halt"),
    ];
    let rig = Rig::with("file-durable", &[], &settings).configured(ROUTES);
    rig.server
        .stream("runs/7/steps")
        .create()
        .append(r#"[{"ms":1},{"ms":2},{"ms":"x"},{"ms":4}]"#);
    let mirror = rig.mirror();
    let halted = "SELECT next_index, last_error LIKE '%number 2%column `ms`%' FROM tailwater.streams \
                  WHERE name = 'runs/7/steps'";
    rig.expect(halted, "2|t");
    assert_eq!(
        rig.ask("SELECT index, ms FROM app.steps ORDER BY index"),
        "0|1\n1|2"
    );
    mirror.stop();
    let mirror = rig.mirror_with(&[("DS_SYNC__ON_UNMAPPABLE", "dead_letter")]);
    rig.expect_mirrored("runs/7/steps");
    assert_eq!(
        rig.ask("SELECT index, ms FROM app.steps ORDER BY index"),
        "0|1\n1|2\n3|4"
    );
    mirror.stop();
}
