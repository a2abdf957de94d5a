use super::*;
use crate::route::{Absent, ColumnType, Field, TimeFormat, Value};

fn file(text: &str) -> File {
    File {
        path: "sync.toml".to_owned(),
        text: text.to_owned(),
    }
}

/// What is said of a file, line by line.
fn said(text: &str) -> Vec<String> {
    let errors = read(&file(text), false).expect_err("these have mistakes");
    errors.iter().map(ToString::to_string).collect()
}

/// A right route, with one line more, or another in place of one of the same key.
fn changed(line: &str) -> String {
    let key = line.split('=').next().unwrap_or_default().trim();
    let lines = [
        "streams = \"runs/{run_id}\"",
        "table = \"public.runs\"",
        "mode = \"upsert\"",
        "key = [\"run_id\"]",
        "columns.run_id = { part = \"run_id\" }",
    ];
    let others = lines.iter().filter(|other| !other.starts_with(key));
    let lines: Vec<_> = ["[[route]]"]
        .iter()
        .chain(others)
        .chain([&line])
        .copied()
        .collect();
    lines.join("\n")
}

#[test]
fn a_route_is_read_with_all_that_it_has() {
    let text = r#"
[sync]
readers = 3

[[route]]
name = "runs"
streams = "runs/{run_id}"
table = "public.runs"
mode = "upsert"
key = ["run_id"]
events = false
create_tables = true

[route.columns]
run_id = { part = "run_id", type = "uuid" }
status = { pointer = "/status", type = "text", required = true }
tries = { pointer = "/a~1b/0", type = "bigint", default = 1 }
tags = { pointer = "/tags", type = "jsonb", default = ["new", 1.50, { x = true }] }
begun = { pointer = "/begun", type = "timestamptz", format = "epoch_ms" }
at = { field = "appended_at" }
raw = { field = "payload", type = "bytea" }

[[route]]
streams = "runs/**"
table = "logs.lines"
columns = { line = { field = "payload" } }
"#;
    let routes = read(&file(text), false).unwrap();
    let [runs, lines] = &routes[..] else {
        panic!("{routes:?}")
    };
    assert_eq!(runs.name, "runs");
    assert_eq!(runs.mode, Mode::Upsert { key: vec![0] });
    assert!(!runs.keeps_events && runs.creates_table);
    let columns: Vec<_> = runs
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.of))
        .collect();
    let expected = [
        ("run_id", ColumnType::Uuid),
        ("status", ColumnType::Text),
        ("tries", ColumnType::BigInt),
        ("tags", ColumnType::Json),
        ("begun", ColumnType::Timestamp(TimeFormat::EpochMs)),
        ("at", ColumnType::Timestamp(TimeFormat::Rfc3339)),
        ("raw", ColumnType::Bytes),
    ];
    assert_eq!(columns, expected);
    let absent = |at: usize| match &runs.columns[at].filling {
        Filling::Pointer { absent, .. } => absent,
        other => panic!("{other}"),
    };
    assert!(matches!(absent(1), Absent::Refused));
    assert!(matches!(absent(2), Absent::Default(Value::BigInt(1))));
    let Absent::Default(Value::Json(tags)) = absent(3) else {
        panic!("{:?}", absent(3))
    };
    assert_eq!(String::from_utf8_lossy(tags), r#"["new",1.50,{"x":true}]"#);
    assert!(matches!(absent(4), Absent::Null));
    assert_eq!((lines.name.as_str(), &lines.mode), ("logs.lines", &Mode::Insert));
    assert!(lines.keeps_events && !lines.creates_table);
    assert!(matches!(lines.columns[0].filling, Filling::Field(Field::Payload)));
    assert!(read(&file(text), true).unwrap()[1].creates_table);
    // The first that matches takes a stream.
    assert_eq!(
        [routes.of("runs/7"), routes.of("runs/7/x"), routes.of("jobs/7")],
        [Some(0), Some(1), None]
    );
    assert!(
        !routes.keep_events_of("runs/7")
            && routes.keep_events_of("runs/7/x")
            && routes.keep_events_of("jobs/7")
    );
}

#[test]
fn a_file_without_routes_has_none() {
    for text in ["", "[sync]\nreaders = 1", "route = []", "no toml at all ["] {
        assert!(read(&file(text), false).unwrap().is_empty(), "{text}");
    }
}

#[test]
fn every_mistake_is_told_with_its_line_its_value_and_what_would_be_right() {
    let text = "[[route]]\nstreams = \"runs//x\"\ntable = \"runs\"\nmod = \"insert\"\nevents = 1\n\n\
                [[route]]\ntable = \"public.a\"\n[route.columns]\na = 3\nb = { pointer = \"/b\", type = \"varchar\" \
                }\n";
    assert_eq!(
        said(text),
        [
            "sync.toml:1: route 1: `columns` is missing; write a table [route.columns] with lines such as status = { \
             pointer = \"/status\", type = \"text\" }",
            "sync.toml:2: route 1: `streams`: \"runs//x\" selects no streams: names have no empty segments; leave out \
             the \
             slash that is first, last or doubled",
            "sync.toml:3: route 1: `table` cannot be \"runs\"; write schema.table, such as public.runs, as it is in \
             PostgreSQL, without quotes, each part of 63 bytes at most",
            "sync.toml:4: route 1: unknown key `mod`; did you mean `mode`?",
            "sync.toml:5: route 1: `events` is a number; write events = false",
            "sync.toml:7: route 2: `streams` is missing; write streams = \"runs/{run_id}\"",
            "sync.toml:10: route 2: `columns.a` is a number; write a table such as { pointer = \"/status\", type = \
             \"text\" }",
            "sync.toml:11: route 2: column \"b\" cannot have the type \"varchar\"; there are text, bigint, integer, \
             double \
             precision, numeric, boolean, timestamptz, date, uuid, jsonb, bytea",
        ]
    );
}

#[test]
fn what_does_not_go_together_is_told() {
    assert!(read(&file(&changed("events = true")), false).is_ok());
    for (line, part) in [
        ("key = []", "write key = [\"run_id\"]"),
        ("key = \"run_id\"", "`key` is a text"),
        ("key = [\"x\"]", "names \"x\", which is none of `columns`"),
        ("key = [\"run_id\", \"run_id\"]", "names \"run_id\" twice"),
        ("mode = \"insert\"", "`key` is of no use to `mode` \"insert\""),
        ("mode = \"merge\"", "`mode` cannot be \"merge\""),
        ("name = \"a b\"", "`name` cannot be \"a b\""),
        ("table = \"public.ä\"", "`name` cannot be \"public.ä\""),
        ("table = \"tailwater.x\"", "is the mirror's own"),
        ("columns = {}", "`columns` has 0 columns"),
        (
            "columns.run_id = { part = \"id\" }",
            "names the part \"id\", and `streams` has run_id",
        ),
        (
            "columns.run_id = { part = \"run_id\", type = \"jsonb\" }",
            "cannot have the type jsonb",
        ),
        (
            "columns.run_id = { part = \"run_id\", required = true }",
            "has `required`, which is of use only with a pointer",
        ),
        (
            "columns.run_id = { part = \"run_id\", field = \"index\" }",
            "has 2 of `pointer`, `part` and `field`",
        ),
        (
            "columns.run_id = { type = \"text\" }",
            "has 0 of `pointer`, `part` and `field`",
        ),
        (
            "columns.run_id = { pointer = \"/a\", type = \"text\" }",
            "names \"run_id\", which may be null",
        ),
        ("columns.x = { pointer = \"/a\" }", "has no `type`"),
        (
            "columns.x = { pointer = \"a\", type = \"text\" }",
            "cannot have the pointer \"a\"",
        ),
        ("columns.x = { field = \"offset\" }", "names the field \"offset\""),
        (
            "columns.x = { field = \"index\", type = \"text\" }",
            "field \"index\" has bigint",
        ),
        (
            "columns.x = { pointer = \"/a\", type = \"text\", format = \"epoch_ms\" }",
            "only with the type timestamptz",
        ),
        (
            "columns.x = { pointer = \"/a\", type = \"timestamptz\", format = \"ms\" }",
            "cannot have the format \"ms\"",
        ),
        (
            "columns.x = { pointer = \"/a\", type = \"bigint\", default = \"a\" }",
            "the default of column \"x\" is \"a\"",
        ),
        (
            "columns.x = { pointer = \"/a\", type = \"text\", required = true, default = \"a\" }",
            "leave one out",
        ),
        (
            "columns.x = { pointer = \"/a\", typ = \"text\" }",
            "did you mean `type`?",
        ),
        (
            "columns.\"\" = { field = \"index\" }",
            "no column of PostgreSQL is called \"\"",
        ),
    ] {
        let said = said(&changed(line));
        assert!(said.iter().any(|said| said.contains(part)), "{line}: {said:#?}");
    }
    let twice = format!("{0}\n{0}", changed("events = true"));
    assert_eq!(
        said(&twice),
        ["sync.toml:8: route 2: another route has the name `public.runs`; give this one a `name` of its own"]
    );
    assert!(said("route = 3")[0].contains("begin each with a line [[route]]"));
    assert!(said("[route]\nstreams = \"a\"")[0].contains("begin each with a line [[route]]"));
}
