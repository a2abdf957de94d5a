//! Exit codes are those that docs/production.md tells of, with the words that it tells them by.

use std::net::TcpListener;

use tailwater_e2e::Server;
use tailwater_e2e::envoy::repository;

use crate::commands::{outcome, tailwater, tailwater_sync};

/// A row of the table for that program, with that code, one of whose quotations is in what the program said.
#[track_caller]
fn assert_told(document: &str, program: &str, code: Option<i32>, said: &str) {
    let head = format!("| Code of `{program}` |");
    let (_, table) = document
        .split_once(&head)
        .expect("the document has a table for the program");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let code = code.expect("it ended by itself").to_string();
    let is_told = rows
        .filter(|row| row.split('|').nth(1).is_some_and(|cell| cell.trim() == code))
        .filter_map(|row| row.split('|').nth(2))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .any(|quoted| quoted.split('…').all(|part| said.contains(part.trim())));
    assert!(
        is_told,
        "docs/production.md has no row of `{program}` with {code} for:\n{said}"
    );
}

#[test]
fn each_failure_of_the_server_is_told_of_in_the_document() {
    let document = std::fs::read_to_string(repository().join("docs/production.md")).expect("it is there");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let server = Server::start_with(&[
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", &path("used")),
    ]);
    std::fs::create_dir(path("other")).expect("it can be made");
    std::fs::write(dir.path().join("other/file"), "x").expect("it can be written");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let (used, other, new) = (path("used"), path("other"), path("new"));
    let on_disk = [
        "--bind",
        "127.0.0.1:0",
        "--storage-mode",
        "file-durable",
        "--data-dir",
    ];
    let serve = |dir: &str| tailwater(&[&on_disk[..], &[dir]].concat());
    let mut no_log = serve(&new);
    no_log.env("RUST_LOG", "a=b=c");
    let failures = [
        (2, tailwater(&["--set", "storage.mode=disk"])),
        (2, tailwater(&["--config", "/no/such/file"])),
        (2, no_log),
        (2, tailwater(&["ls", "--url", "ftp://h"])),
        (2, tailwater(&["verify", "--data-dir", &used])),
        (2, tailwater(&["verify", "--data-dir", &new])),
        (2, tailwater(&["export", "--data-dir", &used])),
        (2, tailwater(&["sub", "rotate-key", "--data-dir", &new])),
        (
            2,
            tailwater(&["import", "/dev/null", "--data-dir", &path("no-mode")]),
        ),
        (2, tailwater(&["queue", "enqueue", "jobs", "no JSON"])),
        (1, tailwater(&["--bind", &taken])),
        (1, serve(&used)),
        (1, serve(&other)),
        (
            1,
            tailwater(&[
                "--set",
                "tls.cert_path=/no/such",
                "--set",
                "tls.key_path=/no/such",
            ]),
        ),
        (
            1,
            tailwater(&["--set", "subscriptions.ca_path=/no/such", "--bind", "127.0.0.1:0"]),
        ),
    ];
    for (code, command) in failures {
        let typed = format!("{command:?}");
        let (ended, said) = outcome(command);
        assert_eq!(ended, Some(code), "{typed}: {said}");
        assert_told(&document, "tailwater", ended, &said);
    }
    server.stop();
    let acid = [
        "--bind",
        "127.0.0.1:0",
        "--storage-mode",
        "acid",
        "--data-dir",
        &used,
    ];
    let (ended, said) = outcome(tailwater(&acid));
    assert_told(&document, "tailwater", ended, &said);
    let store = dir.path().join("used/STORE");
    // Its checksum does not fit then.
    let text = std::fs::read_to_string(&store).expect("the store has one");
    std::fs::write(&store, text.replace("file", "filf")).expect("it can be written");
    let (ended, said) = outcome(serve(&used));
    assert_told(&document, "tailwater", ended, &said);
}

#[test]
fn each_failure_of_the_mirror_is_told_of_in_the_document() {
    let document = std::fs::read_to_string(repository().join("docs/production.md")).expect("it is there");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let bind = format!("sync.bind_address={}", taken.local_addr().expect("it is bound"));
    for (code, arguments) in [
        (2, &[][..]),
        (2, &["--config", "/no/such/file"]),
        (2, &["--postgres-url-file", "/no/such/file"]),
        (
            2,
            &[
                "--set",
                "sync.postgres_url=postgres://me:marker-of-an-argument@h/db",
            ],
        ),
        (1, &["--set", &bind]),
    ] {
        let mut command = tailwater_sync(arguments);
        if code == 1 {
            command.env(
                "DS_SYNC__POSTGRES_URL",
                "postgres://me@127.0.0.1:1/db?sslmode=disable",
            );
        }
        let (ended, said) = outcome(command);
        assert!(!said.contains("marker"), "{said}");
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert_told(&document, "tailwater-sync", ended, &said);
    }
}
