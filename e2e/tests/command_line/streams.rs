//! Streams are made, filled, read, listed and removed.

use std::io::Read as _;

use serde_json::Value;
use tailwater_e2e::Server;

use super::command::{base_url, client, fail, stderr, succeed, tailwater};

#[test]
fn a_stream_lives_from_create_to_rm() {
    let server = Server::start();
    let create = [
        "create",
        "a/orders",
        "--content-type",
        "application/json",
        "--ttl",
        "3600",
    ];
    let start = succeed(&server, &create);
    assert_eq!(start.trim(), "0000000000000000_0000000000000000");
    assert!(stderr(&client(&server, &create)).contains("exists already"));
    let tail = succeed(&server, &["append", "a/orders", r#"{"id":1}"#]);
    succeed(&server, &["append", "a/orders", r#"[{"id":2},[3]]"#, "--close"]);
    assert_eq!(
        succeed(&server, &["read", "a/orders"]),
        "{\"id\":1}\n{\"id\":2}\n[3]\n"
    );
    assert_eq!(
        succeed(&server, &["read", "a/orders", "--offset", tail.trim()]),
        "{\"id\":2}\n[3]\n"
    );
    assert_eq!(succeed(&server, &["read", "a/orders", "--offset", "now"]), "");
    let head: Value = serde_json::from_str(&succeed(&server, &["head", "a/orders", "--json"])).expect("JSON");
    assert_eq!(
        (&head["content_type"], &head["closed"]),
        (&"application/json".into(), &true.into())
    );
    assert_eq!(head["ttl_seconds"], 3600);
    assert!(succeed(&server, &["head", "a/orders"]).contains("content_type: application/json\n"));
    assert!(fail(&server, 1, &["append", "a/orders", "4"]).contains("(stream_closed, 409)"));
    succeed(&server, &["rm", "a/orders"]);
    assert!(fail(&server, 1, &["read", "a/orders"]).contains("(stream_not_found, 404)"));
}

#[test]
fn text_is_printed_raw_and_records_one_a_line() {
    let server = Server::start();
    let note = fail(&server, 1, &["append", "notes", "x"]);
    assert!(
        note.contains("create it with `tailwater create notes`, or give --create"),
        "{note}"
    );
    succeed(
        &server,
        &[
            "append",
            "notes",
            "grüße",
            "--create",
            "--content-type",
            "text/plain",
        ],
    );
    let tail = succeed(&server, &["append", "notes", " an alle", "--newline"]);
    assert_eq!(succeed(&server, &["read", "notes"]), "grüße an alle\n");
    let records: Vec<Value> = succeed(&server, &["read", "notes", "--records"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is a record"))
        .collect();
    let data: Vec<_> = records
        .iter()
        .filter_map(|record| record["data"].as_str())
        .collect();
    assert_eq!(data.concat(), "grüße an alle\n");
    assert_eq!(records.last().expect("records")["offset"], tail.trim());
    let note = fail(&server, 1, &["append", "notes", "{}", "--json"]);
    assert!(note.contains("`notes` is a stream of text/plain"), "{note}");
}

/// `--json` was refused by a stream of `application/json; charset=utf-8`, which the server takes for the same type.
#[test]
fn a_type_is_the_same_whatever_its_parameters() {
    let server = Server::start();
    let parameters = "Application/JSON; charset=utf-8";
    succeed(&server, &["create", "orders", "--content-type", parameters]);
    succeed(&server, &["append", "orders", "[1,2]", "--json"]);
    succeed(
        &server,
        &["append", "orders", "3", "--content-type", "application/json;v=1"],
    );
    assert_eq!(succeed(&server, &["read", "orders"]), "1\n2\n3\n");
}

#[test]
fn a_fork_begins_with_the_data_of_its_source() {
    let server = Server::start();
    succeed(&server, &["create", "source", "--content-type", "text/plain"]);
    let middle = succeed(&server, &["append", "source", "one "]);
    succeed(&server, &["append", "source", "two"]);
    succeed(&server, &["create", "whole", "--from", "source"]);
    succeed(
        &server,
        &["create", "half", "--from", "source", "--at", middle.trim()],
    );
    assert_eq!(succeed(&server, &["read", "whole"]), "one two");
    assert_eq!(succeed(&server, &["read", "half"]), "one ");
}

#[test]
fn ls_lists_all_pages_of_a_prefix() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_LIST_ENTRIES", "2")]);
    for name in ["a/1", "a/2", "a/3", "a/ü x", "b"] {
        server
            .stream(&name.replace(' ', "%20").replace('ü', "%C3%BC"))
            .create();
    }
    assert_eq!(succeed(&server, &["ls", "a/"]), "a/1\na/2\na/3\na/ü x\n");
    assert_eq!(succeed(&server, &["ls"]).lines().count(), 5);
    assert!(succeed(&server, &["ls", "b", "-l"]).starts_with("b\tapplication/json\t0\t0\t"));
    let entry: Value = serde_json::from_str(&succeed(&server, &["ls", "b", "--json"])).expect("one object");
    assert_eq!(entry["name"], "b");
    assert_eq!(succeed(&server, &["ls", "c"]), "");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let server = Server::start();
    let stream = server.stream("long").of_type("text/plain").create();
    stream.append("x".repeat(1 << 20));
    let mut command = tailwater(&["read", "long"]);
    let mut child = command
        .env("TAILWATER_URL", base_url(&server))
        .spawn()
        .expect("the binary starts");
    let mut pipe = child.stdout.take().expect("it is piped");
    pipe.read_exact(&mut [0; 10]).expect("data comes");
    drop(pipe);
    let output = child.wait_with_output().expect("the command ends");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
