//! `tailwater-sync verify` with tables of routes: what is wrong there is found, and what cannot be compared is named.

use crate::rig::Rig;

/// One route of each extent to which rows can be compared.
const ROUTES: &str = r#"
[sync]
create_tables = true

[[route]]
name = "runs"
streams = "runs/{run}"
table = "app.runs"
mode = "upsert"
key = ["run"]
[route.columns]
run = { part = "run" }
state = { pointer = "/state", type = "text", required = true }
tags = { pointer = "/tags", type = "jsonb" }

[[route]]
name = "steps"
streams = "steps/*"
table = "app.steps"
events = false
[route.columns]
stream = { field = "stream" }
incarnation = { field = "incarnation" }
index = { field = "index" }
ms = { pointer = "/ms", type = "integer" }

[[route]]
name = "sums"
streams = "sums/*"
table = "app.sums"
[route.columns]
sum = { pointer = "/sum", type = "numeric", required = true }
note = { pointer = "/note", type = "text" }
raw = { field = "payload" }

[[route]]
name = "kinds"
streams = "kinds/*"
table = "app.kinds"
mode = "upsert"
key = ["kind"]
events = false
[route.columns]
kind = { pointer = "/kind", type = "integer", required = true }
n = { pointer = "/n", type = "bigint", required = true }
"#;

/// Made beforehand, with types that keep less than what they are given, or no way to compare them.
const SUMS: &str = "CREATE SCHEMA app; CREATE TYPE note AS ENUM ('a', 'b'); \
                    CREATE TABLE app.sums (sum numeric(10, 2), note note, raw json)";

/// A rig whose tables are filled, and the mirror has ended.
fn filled() -> Rig {
    // Streams are compared piece by piece.
    let rig = Rig::with("file-durable", &[("DS_LIMITS__READ_CHUNK_BYTES", "4KiB")], &[]).configured(ROUTES);
    rig.ask(SUMS);
    let pad = "x".repeat(200);
    let append = |stream: &str, event: &dyn Fn(u32) -> String| {
        let stream = rig.server.stream(stream).create();
        for from in (0..60).step_by(20) {
            let events: Vec<_> = (from..from + 20).map(event).collect();
            stream.append(format!("[{}]", events.join(",")));
        }
    };
    for run in 0..3 {
        append(&format!("runs/{run}"), &|n| match n {
            7 => format!(r#"{{"pad":"{pad}"}}"#),
            n => format!(r#"{{"state":"s{n}","tags":[{n},1.50],"pad":"{pad}"}}"#),
        });
        append(&format!("steps/{run}"), &|n| match n {
            8 => r#"{"ms":"x"}"#.to_owned(),
            n if n % 2 == 0 => format!(r#"{{"pad":"{pad}"}}"#),
            n => format!(r#"{{"ms":{n},"pad":"{pad}"}}"#),
        });
        append(&format!("sums/{run}"), &|n| match n {
            9 => r#"{"sum":1,"note":"c"}"#.to_owned(),
            n if n % 2 == 0 => format!(r#"{{"sum":{n}.125,"note":"a","pad":"{pad}"}}"#),
            11 => r#"{"note":"b"}"#.to_owned(),
            n => format!(r#"{{"sum":{n}}}"#),
        });
        append(&format!("kinds/{run}"), &|n| {
            format!(r#"{{"kind":{},"n":{n},"pad":"{pad}"}}"#, n % 7)
        });
    }
    let mirror = rig.mirror();
    for kind in ["runs", "steps", "sums", "kinds"] {
        for run in 0..3 {
            rig.expect_mirrored(&format!("{kind}/{run}"));
        }
    }
    mirror.stop();
    rig
}

#[test]
fn rows_of_routes_are_compared_as_far_as_their_columns_tell() {
    let rig = filled();
    assert_eq!(
        rig.ask("SELECT route, count(*) FROM tailwater.dead_letters GROUP BY 1 ORDER BY 1"),
        "runs|3\nsteps|3\nsums|6"
    );
    let (code, printed, said) = rig.command(&["verify"], &[]);
    assert_eq!(code, Some(0), "{printed}{said}");
    let well = "they are as they are in the streams";
    for line in [
        format!("360 events of 6 streams compared: {well}"),
        format!("route `runs`: 180 events of 3 streams compared with app.runs key by key: {well}"),
        format!("route `steps`: 180 events of 3 streams compared with app.steps row by row: {well}"),
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
    }
    for part in [
        "with app.sums row by row, but for rows without an event",
        "with app.kinds key by key, but for the values",
    ] {
        assert!(printed.contains(part), "{part}\n{printed}");
    }
}

#[test]
fn every_row_of_a_route_that_is_missing_changed_or_there_twice_is_found() {
    let rig = filled();
    for (change, told) in [
        (
            "UPDATE app.runs SET state = 's58' WHERE run = '0'",
            "runs/0: route `runs`: 0 missing, 0 without an event, 1 different",
        ),
        (
            "UPDATE app.runs SET tags = NULL WHERE run = '1'",
            "runs/1: route `runs`: 0 missing, 0 without an event, 1 different",
        ),
        (
            "DELETE FROM app.runs WHERE run = '2'",
            "runs/2: route `runs`: 1 missing, 0 without an event, 0 different",
        ),
        (
            "DELETE FROM app.steps WHERE stream = 'steps/0' AND index = 30",
            "steps/0: route `steps`: 1 missing, 0 without an event, 0 different",
        ),
        (
            "INSERT INTO app.steps SELECT * FROM app.steps WHERE stream = 'steps/1' AND index IN (3, 4)",
            "steps/1: route `steps`: 0 missing, 2 without an event, 0 different",
        ),
        (
            "UPDATE app.steps SET ms = 0 WHERE stream = 'steps/2' AND index = 59",
            "steps/2: route `steps`: 1 missing, 1 without an event, 0 different",
        ),
        (
            // The event has its row in `tailwater.events`, and none for the route.
            "DELETE FROM tailwater.dead_letters WHERE stream = 'sums/0' AND index = 11",
            "sums/0: route `sums`: 1 missing, 0 without an event, 0 different",
        ),
        (
            "UPDATE app.sums SET sum = 0 WHERE sum = 58.13",
            "sums/2: route `sums`: 1 missing, 0 without an event, 0 different",
        ),
        (
            "DELETE FROM app.kinds WHERE kind = 3",
            "kinds/1: route `kinds`: 1 missing, 0 without an event, 0 different",
        ),
    ] {
        rig.ask(change);
        let (code, printed, said) = rig.command(&["verify"], &[]);
        assert_eq!(code, Some(1), "{change}\n{printed}{said}");
        assert!(
            printed.lines().any(|line| line == told),
            "{change}: {told}\n{printed}"
        );
    }
}

#[test]
fn a_table_that_cannot_be_compared_is_named_and_the_others_are_compared() {
    let rig = filled();
    rig.ask("ALTER TABLE app.steps RENAME COLUMN ms TO took");
    let (code, printed, said) = rig.command(&["verify"], &[]);
    assert_eq!(code, Some(3), "{printed}{said}");
    let named = "route `steps`: app.steps is NOT compared: ";
    let line = printed.lines().find(|line| line.starts_with(named));
    assert!(
        line.is_some_and(|line| line.contains("no column \"ms\"")),
        "{printed}"
    );
    assert!(
        printed.contains("route `runs`: 180 events of 3 streams compared"),
        "{printed}"
    );
    // What is wrong elsewhere counts for more.
    rig.ask("DELETE FROM app.runs WHERE run = '2'");
    let (code, printed, _) = rig.command(&["verify"], &[]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains(named), "{printed}");

    // An event that its row could not even be made of has no letter any more.
    rig.ask("DELETE FROM tailwater.dead_letters WHERE stream = 'sums/1'");
    let (_, printed, _) = rig.command(&["verify"], &[]);
    assert!(
        printed.contains("route `sums`: app.sums is NOT compared: ") && printed.contains("enum note: \"c\""),
        "{printed}"
    );
}
