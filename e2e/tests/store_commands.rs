//! Commands on a data directory: a check, numbers and copies, beside a server and without one.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use tailwater_e2e::{Request, Server, eventually, server};
use tempfile::TempDir;

const MODES: [&str; 3] = ["file-fast", "file-durable", "acid"];

struct Place {
    above: TempDir,
    dir: PathBuf,
}

impl Place {
    fn new() -> Self {
        let above = tempfile::tempdir().expect("a directory");
        let dir = above.path().join("streams");
        Self { above, dir }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.above.path().join(name)
    }
}

fn start(mode: &str, dir: &Path) -> Server {
    Server::start_with(&[
        ("DS_STORAGE__MODE", mode),
        ("DS_STORAGE__DATA_DIR", dir.to_str().expect("a plain path")),
        ("DS_STORAGE__JOURNAL_BYTES", "1MiB"),
        ("DS_STORAGE__FOLD_BYTES", "1MiB"),
    ])
}

fn tailwater(command: &str, dir: &Path, more: &[&str]) -> Output {
    Command::new(server::binary())
        .arg(command)
        .arg("--data-dir")
        .arg(dir)
        .args(more)
        .env_remove("DS_STORAGE__DATA_DIR")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn succeed(command: &str, dir: &Path, more: &[&str]) -> String {
    let output = tailwater(command, dir, more);
    let said = stderr(&output);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command}: {}\n{said}{printed}",
        output.status
    );
    assert_eq!(said, "", "{command}");
    printed
}

#[track_caller]
fn fail(code: i32, command: &str, dir: &Path, more: &[&str]) -> String {
    let output = tailwater(command, dir, more);
    assert_eq!(output.status.code(), Some(code), "{command}: {}", stderr(&output));
    stderr(&output)
}

#[track_caller]
fn json(command: &str, dir: &Path, more: &[&str]) -> Value {
    let printed = succeed(command, dir, &[&["--json"], more].concat());
    serde_json::from_str(&printed).expect("one JSON object")
}

fn put(server: &Server, name: &str) {
    let request = Request::new("PUT", &server.path(name)).header("Content-Type", "text/plain");
    assert_eq!(server.send(&request).status(), 201);
}

fn append(server: &Server, name: &str, text: &str) -> String {
    let request = Request::new("POST", &server.path(name)).header("Content-Type", "text/plain");
    let response = server.send(&request.body(text));
    assert_eq!(response.status(), 204);
    response
        .header("stream-next-offset")
        .expect("an offset")
        .to_owned()
}

/// The position in an offset of the form `owner_position`.
fn position(offset: &str) -> u64 {
    let (_, position) = offset.split_once('_').expect("two numbers");
    position.parse().expect("a number")
}

fn read(server: &Server, name: &str) -> String {
    let response = server.get(&server.path(name));
    assert_eq!(response.status(), 200);
    String::from_utf8_lossy(&response.body).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn copies_made_under_load_have_all_that_was_acknowledged_before_and_start() {
    for mode in MODES {
        let place = Place::new();
        let server = start(mode, &place.dir);
        put(&server, "log");
        let (acknowledged, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut copies = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let number = acknowledged.load(Ordering::Relaxed);
                    append(&server, "log", &format!("{number:07}\n"));
                    acknowledged.store(number + 1, Ordering::Release);
                }
            });
            for number in 0..3 {
                eventually("something is appended", || {
                    (acknowledged.load(Ordering::Acquire) > 20 * number).then_some(())
                });
                let to = place.beside(&format!("copy{number}"));
                let before = acknowledged.load(Ordering::Acquire);
                let copied = json("backup", &place.dir, &["--to", text(&to)]);
                assert_eq!(copied["streams"], 1, "{copied}");
                copies.push((to, before, acknowledged.load(Ordering::Acquire)));
            }
            done.store(true, Ordering::Release);
        });
        let lost = append(&server, "log", "behind\n");
        for (to, before, after) in copies {
            assert!(succeed("verify", &to, &[]).ends_with("is clean\n"));
            let copy = start(mode, &to);
            let found = read(&copy, "log");
            let count = found.lines().count();
            assert!(
                (before..=after + 1).contains(&count),
                "{count}, not {before} to {after}"
            );
            let expected: String = (0..count).map(|number| format!("{number:07}\n")).collect();
            assert_eq!(found, expected);
            // What the original gave out behind the copy is none of its, also once it has grown.
            while position(&append(&copy, "log", &"x".repeat(10_000))) <= position(&lost) {}
            let asked = copy.get(&format!("{}?offset={lost}", copy.path("log")));
            assert_eq!(asked.status(), 410, "{asked:?}");
            copy.stop();
        }
        assert!(read(&server, "log").ends_with("behind\n"));
        server.stop();
        assert!(succeed("verify", &place.dir, &[]).ends_with("is clean\n"));
    }
}

#[test]
fn a_directory_that_nobody_uses_is_copied_and_counted_too() {
    for mode in MODES {
        let place = Place::new();
        let server = start(mode, &place.dir);
        put(&server, "a");
        append(&server, "a", "one");
        // Killed: all of it is in a journal.
        drop(server);
        let stats = json("stats", &place.dir, &[]);
        assert_eq!(
            (&stats["streams"], &stats["stored_bytes"]),
            (&1.into(), &3.into())
        );
        if mode == "acid" {
            assert_eq!(stats["shards"], 16);
        } else {
            assert_eq!(stats["segments"], 0, "stats have changed the directory");
        }
        let to = place.beside("copy");
        assert!(
            succeed("backup", &place.dir, &["--to", text(&to)]).starts_with("copied 1 streams with 3 bytes")
        );
        let copy = start(mode, &to);
        assert_eq!(read(&copy, "a"), "one");
        let server = start(mode, &place.dir);
        assert_eq!(read(&server, "a"), "one");
    }
}

#[test]
fn shards_are_given_another_number_and_made_shorter_while_no_server_uses_them() {
    let place = Place::new();
    let server = start("acid", &place.dir);
    for number in 0..20 {
        put(&server, &format!("s/{number}"));
        append(&server, &format!("s/{number}"), &"x".repeat(100_000));
    }
    let offset = append(&server, "s/0", "the last");
    for command in [&["reshard", "--to", "4"][..], &["compact"]] {
        let said = fail(2, command[0], &place.dir, &command[1..]);
        assert!(
            said.contains(&format!("in use by the process {}", server.pid())),
            "{said}"
        );
    }
    let metrics = server.get("/metrics").text().to_owned();
    assert!(metrics.contains("tailwater_store_shards 16\n"), "{metrics}");
    server.stop();

    let moved = json("reshard", &place.dir, &["--to", "4"]);
    assert_eq!(
        (&moved["from"], &moved["to"], &moved["streams"]),
        (&16.into(), &4.into(), &20.into())
    );
    let again = succeed("reshard", &place.dir, &["--to", "4"]);
    assert_eq!(again, "there are 4 shards already; nothing was done\n");
    let said = fail(2, "reshard", &place.dir, &["--to", "3"]);
    assert!(said.contains("128, 256"), "the numbers that are allowed: {said}");
    assert!(succeed("verify", &place.dir, &[]).ends_with("is clean\n"));

    let server = Server::start_with(&[
        ("DS_STORAGE__MODE", "acid"),
        ("DS_STORAGE__ACID_SHARD_COUNT", "4"),
        ("DS_STORAGE__DATA_DIR", text(&place.dir)),
    ]);
    let read_on = server.get(&format!("{}?offset={offset}", server.path("s/0")));
    assert_eq!((read_on.status(), read_on.text()), (200, ""));
    assert!(read(&server, "s/0").ends_with("xthe last"));
    for number in 1..20 {
        server.stream(&format!("s/{number}")).delete();
    }
    server.stop();
    let compacted = json("compact", &place.dir, &[]);
    let bytes = |key: &str| compacted[key].as_u64().expect("a number");
    assert!(bytes("bytes_after") * 2 < bytes("bytes_before"), "{compacted}");
    assert_eq!(json("verify", &place.dir, &[])["streams"], 1);

    let files = Place::new();
    start("file-durable", &files.dir).stop();
    let said = fail(2, "compact", &files.dir, &[]);
    assert!(said.contains("which its server compacts by itself"), "{said}");
    let said = fail(2, "reshard", &files.dir, &["--to", "4"]);
    assert!(
        said.contains("only those of the mode `acid` have shards"),
        "{said}"
    );
}

#[test]
fn a_damaged_shard_is_told_of() {
    let place = Place::new();
    let server = start("acid", &place.dir);
    put(&server, "a");
    append(&server, "a", "some bytes to be found again");
    server.stop();
    let shards = place.dir.join("acid/shards-016");
    let entries = std::fs::read_dir(&shards).expect("a directory");
    let mut damaged = None;
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let mut bytes = std::fs::read(&path).expect("a file");
        let found: Vec<_> = (0..bytes.len())
            .filter(|at| bytes[*at..].starts_with(b"some bytes"))
            .collect();
        if found.is_empty() {
            continue;
        }
        found.into_iter().for_each(|at| bytes[at] ^= 1);
        std::fs::write(&path, bytes).expect("writable");
        damaged = Some(path);
    }
    let damaged = damaged.expect("the payload stands somewhere");
    let output = tailwater("verify", &place.dir, &[]);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        printed.contains("damage: ") && printed.contains(text(&damaged)),
        "{printed}"
    );
    assert!(printed.ends_with("restore it from a backup\n"), "{printed}");
}

#[test]
fn numbers_are_those_of_the_running_server() {
    let place = Place::new();
    let server = start("file-durable", &place.dir);
    for name in ["a", "b"] {
        put(&server, name);
        append(&server, name, "12345");
    }
    let stats = json("stats", &place.dir, &[]);
    assert_eq!(
        (&stats["streams"], &stats["stored_bytes"]),
        (&2.into(), &10.into())
    );
    assert!(stats["unfolded_bytes"].as_u64() > Some(0), "{stats}");
    let printed = succeed("stats", &place.dir, &[]);
    assert!(
        printed.starts_with("streams   2 with 10 bytes, 0 of them deleted\n"),
        "{printed}"
    );
    let metrics = server.get("/metrics");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "tailwater_store_full 0\n",
        "tailwater_store_segments 0\n",
        "tailwater_store_live_bytes 0\n",
        "tailwater_store_folds_total 0\n",
    ] {
        assert!(metrics.contains(line), "{line:?} is not in\n{metrics}");
    }
    assert!(
        !metrics.contains("tailwater_store_unfolded_bytes 0\n"),
        "{metrics}"
    );
}

#[test]
fn memory_mode_has_no_metrics_of_a_store() {
    let server = Server::start_with(&[("DS_STORAGE__MODE", "memory")]);
    let page = server.get("/metrics").expect(200);
    assert!(
        !page
            .text()
            .lines()
            .any(|line| line.starts_with("tailwater_store_"))
    );
}

#[test]
fn a_directory_in_use_is_not_checked_and_a_damaged_one_is_told_of() {
    let place = Place::new();
    let server = start("file-durable", &place.dir);
    put(&server, "a");
    append(&server, "a", "some bytes to be found again");
    let said = fail(2, "verify", &place.dir, &[]);
    assert!(
        said.contains(&format!("in use by the process {}", server.pid())),
        "{said}"
    );
    assert!(
        said.contains("stop that one") && said.contains("or verify a backup"),
        "{said}"
    );
    server.stop();
    let clean = json("verify", &place.dir, &[]);
    assert_eq!(
        (&clean["clean"], &clean["appends"]),
        (&true.into(), &1.into()),
        "{clean}"
    );

    let entries = std::fs::read_dir(place.dir.join("segments")).expect("a directory");
    let segment = entries
        .map(|entry| entry.expect("an entry").path())
        .next()
        .expect("one");
    let mut bytes = std::fs::read(&segment).expect("a file");
    let at = bytes
        .windows(4)
        .position(|found| found == b"some")
        .expect("the payload");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).expect("writable");
    let output = tailwater("verify", &place.dir, &[]);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        printed.contains("damage: ") && printed.contains(text(&segment)),
        "{printed}"
    );
    assert!(printed.ends_with("restore it from a backup\n"), "{printed}");
}

#[test]
fn what_cannot_be_done_is_refused_with_a_code_for_scripts() {
    let place = Place::new();
    for command in ["verify", "stats"] {
        let said = fail(2, command, &place.dir, &[]);
        assert!(said.contains("holds no store"), "{said}");
    }
    fail(2, "backup", &place.dir, &["--to", text(&place.beside("copy"))]);
    assert!(!place.dir.exists() && !place.beside("copy").exists());
    let server = start("file-fast", &place.dir);
    let inside = place.dir.join("copy");
    for _online_and_offline in 0..2 {
        let said = fail(2, "backup", &place.dir, &["--to", text(&inside)]);
        assert!(said.contains("lies within"), "{said}");
        let said = fail(2, "backup", &place.dir, &["--to", text(place.above.path())]);
        assert!(said.contains("is not empty"), "{said}");
        server.terminate();
        eventually("the server ends", || {
            (!place.dir.join("control.sock").exists()).then_some(())
        });
        eventually("its lock goes", || {
            tailwater("stats", &place.dir, &[]).status.success().then_some(())
        });
    }
    assert!(!inside.exists());
}

/// Sends bytes and returns all that is answered.
fn converse(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("the server listens");
    stream.write_all(request).expect("it takes it");
    let mut answer = String::new();
    // A peer that is cut off may see that as an error.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn the_control_socket_is_the_owners_and_goes_with_the_server() {
    let place = Place::new();
    let socket = place.dir.join("control.sock");
    let server = start("file-durable", &place.dir);
    let mode = socket.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(converse(&socket, b"{\"command\":\"stats\"}\n").starts_with("{\"stats\":{\"streams\":0,"));
    for strange in [
        &b"\n"[..],
        b"{}\n",
        b"\xff\n",
        b"{\"command\":\"backup\",\"to\":\"relative\"}\n",
    ] {
        let answer = converse(&socket, strange);
        assert!(
            answer.starts_with("{\"refused\":{\"reason\":"),
            "{strange:?}: {answer}"
        );
    }
    assert_eq!(converse(&socket, &vec![b' '; 100_000]), "");
    server.assert_well("strange requests");
    // Killed: the socket stays, and the next server takes its place.
    drop(server);
    assert!(socket.exists());
    assert_eq!(json("stats", &place.dir, &[])["streams"], 0);
    let server = start("file-durable", &place.dir);
    assert_eq!(json("stats", &place.dir, &[])["streams"], 0);
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_warned_of_and_served() {
    let place = Place::new();
    let dir = place.beside(&"long".repeat(40));
    let server = start("file-durable", &dir);
    put(&server, "a");
    let said = fail(2, "stats", &dir, &[]);
    assert!(said.contains("is in use by the process"), "{said}");
    let said = server.stop();
    assert!(
        said.contains("the control socket cannot be listened on"),
        "{said}"
    );
    assert_eq!(json("stats", &dir, &[])["streams"], 1);
}
