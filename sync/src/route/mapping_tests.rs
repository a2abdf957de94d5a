use tailwater_process::File;

use super::*;
use crate::route::{Routes, file};

fn routes(columns: &str) -> Routes {
    let text = format!(
        "[[route]]\nstreams = \"runs/{{run_id}}/**\"\ntable = \"public.runs\"\n[route.columns]\n{columns}"
    );
    let path = String::new();
    file::read(&File { path, text }, false).expect("a right route")
}

fn chunk(payload: Payload) -> Chunk {
    let content_type = match payload {
        Payload::Json(_) => "application/json",
        Payload::Bytes(_) => "text/plain",
    };
    let offset = "0000000000000007_0000000000000052".parse().unwrap();
    Chunk {
        stream: "runs/42/log".into(),
        incarnation: "0000000000000007".parse().unwrap(),
        content_type: content_type.into(),
        after: crate::event::Offset::BEGINNING,
        events: vec![Event {
            offset,
            index: 3,
            at_ms: 1_500,
            payload,
        }],
        next: offset,
        closed: false,
    }
}

fn json(text: &str) -> Payload {
    Payload::Json(text.to_owned().into())
}

/// What becomes of an event, each value as it is shown for debugging.
fn mapped(columns: &str, payload: Payload) -> Result<Vec<String>, String> {
    let (routes, chunk) = (routes(columns), chunk(payload));
    let values = routes[0].mapper(&chunk).map(&chunk.events[0]);
    let shown = |value: Option<Value<'_>>| value.map_or("null".to_owned(), |value| format!("{value:?}"));
    values
        .map(|values| values.into_iter().map(shown).collect())
        .map_err(|unmappable| unmappable.to_string())
}

#[test]
fn columns_are_filled_from_the_event_its_stream_and_its_content() {
    let columns = r#"
        status = { pointer = "/run/status", type = "text" }
        run = { part = "run_id", type = "integer" }
        at = { field = "appended_at" }
        steps = { pointer = "/steps", type = "bigint", default = 7 }
        told = { pointer = "/run/status", type = "text", default = "unknown" }
        stream = { field = "stream" }
        incarnation = { field = "incarnation" }
        position = { field = "position" }
        index = { field = "index" }
        of = { field = "content_type" }
        last = { pointer = "/steps", type = "bigint" }
        all = { field = "payload" }
    "#;
    let expected = [
        r#"Text("done")"#,
        "Integer(42)",
        "Timestamp(1500000)",
        "BigInt(7)",
        r#"Text("done")"#,
        r#"Text("runs/42/log")"#,
        "BigInt(7)",
        "BigInt(52)",
        "BigInt(3)",
        r#"Text("application/json")"#,
        "null",
    ];
    let mut values = mapped(columns, json(r#"{"run":{"status":"done"},"steps":null}"#)).unwrap();
    let all = values.pop().unwrap();
    assert_eq!(values, expected);
    assert!(all.starts_with("Json("), "{all}");
}

#[test]
fn what_cannot_be_filled_is_told_with_its_column() {
    let required = r#"n = { pointer = "/n", type = "bigint", required = true }"#;
    for (payload, reason) in [
        (
            json(r#"{"n":"x"}"#),
            r#"column `n` (pointer "/n") is "x", which is no bigint; it takes digits only"#,
        ),
        (
            json("{}"),
            r#"column `n` (pointer "/n") is missing or null, and required"#,
        ),
        (
            json(r#"{"n":null}"#),
            r#"column `n` (pointer "/n") is missing or null, and required"#,
        ),
        (
            Payload::Bytes("{\"n\":1}".into()),
            r#"column `n` (pointer "/n") is looked for in an event of "text/plain", which is no JSON"#,
        ),
        (
            Payload::Json(b"\"\xff\""[..].into()),
            r#"column `n` (pointer "/n") is no UTF-8"#,
        ),
    ] {
        assert_eq!(mapped(required, payload), Err(reason.to_owned()));
    }
    let reason = r#"column `r` (part "run_id") is "42", which is no uuid"#;
    assert_eq!(
        mapped(r#"r = { part = "run_id", type = "uuid" }"#, json("1")),
        Err(reason.to_owned())
    );
}

#[test]
fn an_event_that_is_no_json_has_its_fields() {
    let columns =
        "raw = { field = \"payload\", type = \"bytea\" }\ntext = { field = \"payload\", type = \"text\" }";
    let values = mapped(columns, Payload::Bytes("hé".into())).unwrap();
    assert_eq!(values[1], r#"Text("hé")"#);
    let reason = "column `text` (field \"payload\") is no UTF-8";
    assert_eq!(
        mapped(columns, Payload::Bytes(b"\xff"[..].into())),
        Err(reason.to_owned())
    );
    let reason =
        r#"column `all` (field "payload") is looked for in an event of "text/plain", which is no JSON"#;
    assert_eq!(
        mapped(r#"all = { field = "payload" }"#, Payload::Bytes("1".into())),
        Err(reason.to_owned())
    );
}
