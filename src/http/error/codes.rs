//! Every code with which a refusal is made stands in what tells of refusals. The sources are read for them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::http::openapi;
use crate::webhooks::TokenError;

/// How refusals are made.
const MAKERS: [&str; 6] = [
    "new(",
    "bad_request(",
    "conflict(",
    "busy(",
    "excessive(",
    "protocol(",
];
/// Codes that only operations on streams have, and their export and import. Those of subscriptions are in capitals.
const OF_STREAMS: [&str; 26] = [
    "already_exists",
    "changes_gone",
    "content_type_mismatch",
    "empty_body",
    "empty_json_array",
    "encoded_body",
    "invalid_export",
    "invalid_fork",
    "invalid_offset",
    "missing_content_type",
    "name_held_by_forks",
    "offset_trimmed",
    "offset_unknown",
    "producer_epoch_start",
    "producer_fenced",
    "reserved_event_type",
    "run_lease",
    "source_gone",
    "source_not_found",
    "stream_closed",
    "stream_exists",
    "stream_gone",
    "stream_is_queue",
    "stream_not_found",
    "stream_seq_regression",
    "tail_mismatch",
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first text in each call that makes a refusal.
fn made_in(source: &str) -> BTreeSet<String> {
    let calls = MAKERS
        .iter()
        .flat_map(|maker| source.split(maker).skip(1).map(str::trim_start));
    let codes = calls.filter_map(|call| {
        let code = match call.strip_prefix("StatusCode::") {
            Some(status) => status.split_once(',')?.1.trim_start(),
            None => call,
        };
        code.strip_prefix('"')?.split('"').next()
    });
    let is_code = |code: &&str| {
        !code.is_empty()
            && code
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    };
    codes.filter(is_code).map(str::to_owned).collect()
}

fn all() -> BTreeSet<String> {
    let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/error");
    let files = std::fs::read_dir(below).expect("the directory of this file");
    let files = files.map(|file| file.expect("listed").file_name().into_string().expect("text"));
    let mut codes = made_in(&read("src/http/error.rs"));
    for file in files.filter(|file| !["codes.rs", "tests.rs"].contains(&file.as_str())) {
        codes.extend(made_in(&read(&format!("src/http/error/{file}"))));
    }
    // These are made where tokens are.
    let of_tokens = [TokenError::Invalid, TokenError::Expired { ago_secs: 0 }];
    codes.extend(of_tokens.map(|error| error.code().to_owned()));
    codes
}

/// Clients that are made from the document knew of no code by name, and nobody saw which one was missing.
#[test]
fn the_document_of_queues_runs_and_schedules_has_every_code_that_these_have_and_no_other() {
    let document: Value = serde_json::from_str(openapi::DOCUMENT).expect("JSON");
    let told = document["components"]["schemas"]["RefusalCode"]["enum"].as_array();
    let told: Vec<_> = told
        .expect("an array")
        .iter()
        .map(|code| code.as_str().expect("text"))
        .collect();
    let made = all();
    let of_subscriptions = |code: &str| code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let meant: Vec<_> = made
        .iter()
        .map(String::as_str)
        .filter(|code| !OF_STREAMS.contains(code) && !of_subscriptions(code))
        .collect();
    assert!(meant.contains(&"interrupted"), "{meant:?}");
    assert_eq!(told, meant);
    for code in OF_STREAMS {
        assert!(made.contains(code), "there is no {code} any more");
    }
}

#[test]
fn each_code_has_a_row_that_says_what_to_do_and_each_row_is_of_codes_that_there_are() {
    let told = read("docs/troubleshooting.md");
    let of_row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let codes = cells.next()?.replace('`', "");
        let has_status = cells.next()?.parse::<u16>().is_ok();
        has_status.then(|| codes.split(", ").map(str::to_owned).collect::<Vec<_>>())
    };
    let told: Vec<_> = told.lines().filter_map(of_row).flatten().collect();
    assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), all());
    assert_eq!(told.len(), all().len(), "no code has two rows");
}
