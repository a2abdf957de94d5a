//! `tailwater sub` against the real server.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tailwater_e2e::{Server, eventually, server};

use crate::send_json;

fn sub(server: &Server, arguments: &[&str]) -> Output {
    Command::new(server::binary())
        .arg("sub")
        .args(arguments)
        .env(
            "TAILWATER_URL",
            format!("{}{}", server.origin(), server.base_path()),
        )
        .output()
        .expect("the binary starts")
}

#[track_caller]
fn succeed(server: &Server, arguments: &[&str]) -> String {
    let output = sub(server, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = sub(server, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn all_streams_of_a_subscription_are_shown_though_they_come_in_pages() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_LIST_ENTRIES", "2")]);
    let streams = ["a", "b", "c", "d", "e"];
    let named = streams.iter().flat_map(|name| ["--stream", *name]);
    let create: Vec<_> = ["create", "s", "--wake-stream", "wakes"]
        .into_iter()
        .chain(named)
        .collect();
    succeed(&server, &create);
    let shown: Value = serde_json::from_str(&succeed(&server, &["show", "s"])).expect("JSON");
    let paths: Vec<_> = shown["streams"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["path"])
        .collect();
    assert_eq!(paths, streams);
    assert_eq!(shown["streams_after"], Value::Null);
    server.stop();
}

#[test]
fn a_worker_can_be_a_shell_script() {
    let server = Server::start();
    send_json(&server, "PUT", "wake/mails", &json!([])).expect(201);
    let create = [
        "create",
        "mails",
        "--pattern",
        "jobs/*",
        "--wake-stream",
        "wake/mails",
    ];
    assert_eq!(succeed(&server, &create), "");
    succeed(&server, &create);
    let other = refused(&server, &[&create[..], &["--lease-ttl-ms", "5000"]].concat());
    assert!(other.contains("(SUBSCRIPTION_ALREADY_EXISTS, 409)"), "{other}");
    assert!(refused(&server, &["claim", "mails", "--worker", "w1"]).contains("(NO_PENDING_WORK, 409)"));

    send_json(&server, "PUT", "jobs/a", &json!({ "n": 1 })).expect(201);
    send_json(&server, "PUT", "other/ü b", &json!({ "n": 1 }));
    let claim = eventually("there is work", || {
        let output = sub(&server, &["claim", "mails", "--worker", "w1"]);
        output.status.success().then_some(output.stdout)
    });
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("claim.json");
    std::fs::write(&file, claim).expect("written");
    let file = file.to_str().expect("a plain path");
    let busy = refused(&server, &["claim", "mails", "--worker", "w2"]);
    assert!(busy.contains("(ALREADY_CLAIMED, 409)"), "{busy}");
    let held = succeed(&server, &["ack", "mails", "--claim", file]);
    assert_eq!(held, "the claim goes on\n", "not that there is nothing to do");
    let long = succeed(&server, &["list", "--long"]);
    assert!(long.starts_with("mails\tpull-wake\tactive\theld\t1\t"), "{long}");
    let done = succeed(&server, &["ack", "mails", "--claim", file, "--all", "--done"]);
    assert_eq!(done, "there is nothing more to do\n");
    let fenced = refused(&server, &["release", "mails", "--claim", file]);
    assert!(fenced.contains("(FENCED, 409)"), "{fenced}");

    succeed(&server, &["add", "mails", "jobs/a", "other/x"]);
    let shown: Value = serde_json::from_str(&succeed(&server, &["show", "mails"])).expect("JSON");
    let links: Vec<_> = shown["streams"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|link| &link["link_type"])
        .collect();
    assert_eq!(links, ["explicit", "explicit"], "{shown}");
    succeed(&server, &["remove", "mails", "jobs/a", "other/x"]);
    let shown: Value = serde_json::from_str(&succeed(&server, &["show", "mails"])).expect("JSON");
    assert_eq!(shown["streams"][0]["link_type"], "glob", "{shown}");
    assert_eq!(shown["streams"].as_array().map(Vec::len), Some(1), "{shown}");

    assert_eq!(succeed(&server, &["ls"]), "mails\n");
    succeed(&server, &["delete", "mails"]);
    assert_eq!(succeed(&server, &["list"]), "");
    assert!(refused(&server, &["show", "mails"]).contains("(SUBSCRIPTION_NOT_FOUND, 404)"));
    server.stop();
}
