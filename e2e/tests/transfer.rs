//! Exports and imports with the real binary: between modes and servers, offline, interrupted, and malformed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tailwater_e2e::{Request, Server, eventually, server};
use tempfile::TempDir;

const MODES: [&str; 4] = ["memory", "file-fast", "file-durable", "acid"];

/// A directory for files and stores.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a plain path").to_owned()
    }

    fn start(&self, mode: &str, dir: &str) -> Server {
        Server::start_with(&[
            ("DS_STORAGE__MODE", mode),
            ("DS_STORAGE__DATA_DIR", &self.text(dir)),
            ("DS_LIMITS__MAX_MEMORY_BYTES", "256MiB"),
            ("DS_LIMITS__MAX_STREAM_BYTES", "128MiB"),
        ])
    }
}

fn url(server: &Server) -> String {
    format!("{}{}", server.origin(), server.base_path())
}

fn tailwater(arguments: &[&str]) -> Output {
    Command::new(server::binary())
        .args(arguments)
        .env_remove("DS_STORAGE__DATA_DIR")
        .env_remove("TAILWATER_URL")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stderr) + &text(&output.stdout)
}

#[track_caller]
fn succeed(arguments: &[&str]) -> String {
    let output = tailwater(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn fail(code: i32, arguments: &[&str]) -> String {
    let output = tailwater(arguments);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {}",
        said(&output)
    );
    said(&output)
}

#[track_caller]
fn report(arguments: &[&str]) -> Value {
    let printed = succeed(&[arguments, &["--json"]].concat());
    serde_json::from_str(&printed).expect("one JSON object")
}

/// Appends as a producer; answers the status and the tail.
fn produce(server: &Server, name: &str, epoch: u64, seq: u64, text: &str) -> (u16, String) {
    let request = Request::new("POST", &server.path(name))
        .header("Content-Type", "text/plain")
        .header("Producer-Id", "worker")
        .header("Producer-Epoch", &epoch.to_string())
        .header("Producer-Seq", &seq.to_string());
    let response = server.send(&request.body(text));
    let tail = response.header("stream-next-offset").unwrap_or_default();
    (response.status(), tail.to_owned())
}

/// Streams with all that a stream can have; answers offsets that clients hold of them.
fn fill(server: &Server) -> Vec<(&'static str, String)> {
    let jobs = server.stream("jobs/1").of_type("application/json").create();
    let trimmed = jobs.append("[1,2]");
    let kept = jobs.append("[{\"a\":\"ü\"},4]");
    let trim = Request::new("POST", &server.path("__ds/trim"));
    let body = format!("{{\"stream\":\"jobs/1\",\"before\":\"{trimmed}\"}}");
    server.send(&trim.body(body)).expect(204);
    jobs.append("5");
    let living = Request::new("PUT", &server.path("runs/1"))
        .header("Content-Type", "text/plain")
        .header("Stream-TTL", "86400");
    server.send(&living).expect(201);
    let (_, step) = produce(server, "runs/1", 2, 0, "step 1\n");
    produce(server, "runs/1", 2, 1, "step 2\n");
    let source = server.stream("runs/1").of_type("text/plain");
    let fork = server.stream("runs/2").of_type("text/plain");
    server.send(&fork.fork_of(&source)).expect(201);
    let own = fork.append("of its own\n");
    fork.close();
    let binary = server
        .stream("binary")
        .of_type("application/octet-stream")
        .create();
    let raw = binary.append((0..=255_u8).cycle().take(3_000_000).collect::<Vec<_>>());
    let gone = server.stream("gone").of_type("text/plain").create();
    gone.append("inherited\n");
    let heir = server.stream("heir").of_type("text/plain");
    server.send(&heir.fork_of(&gone)).expect(201);
    gone.delete();
    vec![
        ("jobs/1", trimmed),
        ("jobs/1", kept),
        ("runs/1", step),
        ("runs/2", own),
        ("binary", raw),
    ]
}

/// What a server says of every stream and shows of it, but for ids.
fn everything(server: &Server) -> Vec<(Value, Vec<u8>)> {
    let listing = server.get(&server.path("__ds/streams")).json();
    let streams = listing["streams"].as_array().expect("a list").clone();
    let shown = streams.into_iter().map(|mut stream| {
        let name = stream["name"].as_str().expect("a name").to_owned();
        stream["id"] = Value::Null;
        let mut records = Vec::new();
        let mut offset = "-1".to_owned();
        loop {
            let path = format!("{}?offset={offset}&view=records", server.path(&name));
            let page = server.get(&path);
            if page.status() == 410 {
                // Trimmed: the answer says where it begins now.
                offset = page.expect_header("stream-oldest-offset").to_owned();
                continue;
            }
            records.extend_from_slice(&page.body);
            offset = page.expect_header("stream-next-offset").to_owned();
            if page.header("stream-up-to-date").is_some() {
                break;
            }
        }
        (stream, records)
    });
    shown.collect()
}

#[test]
fn streams_move_from_any_mode_to_any_other_with_all_that_is_known_of_them() {
    for (from, to) in MODES.iter().flat_map(|from| MODES.map(|to| (*from, to))) {
        println!("{from} to {to}");
        let place = Place::new();
        let (old, new) = (place.start(from, "old"), place.start(to, "new"));
        let offsets = fill(&old);
        let file = place.text("all.ndjson");
        succeed(&["export", "--url", &url(&old), "--output", &file]);
        let told = report(&["import", "--url", &url(&new), &file]);
        assert_eq!(
            (&told["imported"], &told["refused"]),
            (&6.into(), &Value::Array(Vec::new()))
        );
        assert_eq!(everything(&new), everything(&old));
        for (name, offset) in &offsets {
            let path = |server: &Server| format!("{}?offset={offset}", server.path(name));
            let (here, there) = (old.get(&path(&old)), new.get(&path(&new)));
            assert_eq!(here.status(), 200, "{name}");
            assert_eq!(
                (there.status(), &there.body),
                (200, &here.body),
                "{name} from {offset}"
            );
        }
        // A retry of what the old server acknowledged, a zombie, and the next request.
        let (status, tail) = produce(&new, "runs/1", 2, 1, "step 2\n");
        assert_eq!((status, tail), (204, old.stream("runs/1").tail()));
        assert_eq!(produce(&new, "runs/1", 1, 0, "zombie").0, 403);
        assert_eq!(produce(&new, "runs/1", 2, 2, "step 3\n").0, 200);
        assert_eq!(new.get(&new.path("gone")).status(), 410);
        // What was imported is as durable as what was written.
        if to != "memory" {
            let before = everything(&new);
            new.kill();
            assert!(succeed(&["verify", "--data-dir", &place.text("new")]).ends_with("is clean\n"));
            assert_eq!(everything(&place.start(to, "new")), before);
        }
    }
}

#[test]
fn streams_move_between_directories_that_no_server_uses() {
    let place = Place::new();
    let (old, new, file) = (place.text("old"), place.text("new"), place.text("all.ndjson"));
    let server = place.start("file-durable", "old");
    fill(&server);
    let refused = fail(2, &["export", "--data-dir", &old]);
    assert!(refused.contains("give --url instead of --data-dir"), "{refused}");
    let before = everything(&server);
    server.stop();
    succeed(&["export", "--data-dir", &old, "--output", &file]);
    let refused = fail(2, &["import", "--data-dir", &new, &file]);
    assert!(refused.contains("--storage-mode is missing"), "{refused}");
    let refused = fail(
        2,
        &["import", "--data-dir", &new, "--storage-mode", "memory", &file],
    );
    assert!(refused.contains("--storage-mode is `memory`"), "{refused}");
    let told = report(&["import", "--data-dir", &new, "--storage-mode", "file-fast", &file]);
    assert_eq!(told["imported"], 6);
    assert_eq!(report(&["import", "--data-dir", &new, &file])["present"], 6);
    assert!(succeed(&["verify", "--data-dir", &new]).ends_with("is clean\n"));
    assert_eq!(everything(&place.start("file-fast", "new")), before);
}

#[test]
fn a_prefix_selects_streams_and_a_pipe_carries_them() {
    let place = Place::new();
    let (old, new) = (place.start("memory", "old"), place.start("memory", "new"));
    fill(&old);
    let mut export = Command::new(server::binary())
        .args(["export", "runs/2", "--url", &url(&old)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let import = Command::new(server::binary())
        .args(["import", "--url", &url(&new)])
        .stdin(export.stdout.take().expect("a pipe"))
        .output()
        .expect("the binary starts");
    assert!(export.wait().expect("a child").success());
    assert!(import.status.success(), "{}", said(&import));
    let (old_fork, new_fork) = (old.get(&old.path("runs/2")), new.get(&new.path("runs/2")));
    assert_eq!(new_fork.text(), "step 1\nstep 2\nof its own\n");
    assert_eq!(
        new_fork.expect_header("stream-next-offset"),
        old_fork.expect_header("stream-next-offset")
    );
    assert_eq!(everything(&new).len(), 1, "its source is not among them");
}

#[test]
fn another_stream_of_the_name_stays_unless_it_is_to_be_replaced() {
    let place = Place::new();
    let (old, new) = (place.start("memory", "old"), place.start("file-durable", "new"));
    old.stream("a").of_type("text/plain").create().append("imported");
    old.stream("b").of_type("text/plain").create();
    new.stream("a").of_type("text/plain").create().append("kept");
    let file = place.text("all.ndjson");
    succeed(&["export", "--url", &url(&old), "--output", &file]);
    let refused = fail(1, &["import", "--url", &url(&new), &file]);
    assert!(
        refused.contains("`a` was not imported: another stream has this name"),
        "{refused}"
    );
    assert_eq!(new.get(&new.path("a")).text(), "kept");
    assert_eq!(new.get(&new.path("b")).status(), 200, "the others are imported");
    let told = report(&["import", "--url", &url(&new), "--replace", &file]);
    assert_eq!((&told["imported"], &told["present"]), (&1.into(), &1.into()));
    assert_eq!(new.get(&new.path("a")).text(), "imported");
}

/// A file with streams `0` to `count - 1`, each of which says its number `lines` times, in several appends.
fn large_export(place: &Place, count: usize, lines: usize) -> String {
    let source = place.start("memory", "source");
    for number in 0..count {
        let name = number.to_string();
        let stream = source.stream(&name).of_type("text/plain").create();
        for _ in 0..4 {
            stream.append(content(number, lines / 4));
        }
    }
    let file = place.text("large.ndjson");
    succeed(&["export", "--url", &url(&source), "--output", &file]);
    file
}

fn content(number: usize, lines: usize) -> String {
    format!("{number:09}\n").repeat(lines)
}

fn whole(server: &Server, name: &str) -> Option<String> {
    let mut text = String::new();
    let mut offset = "-1".to_owned();
    loop {
        let page = server.get(&format!("{}?offset={offset}", server.path(name)));
        if page.status() == 404 {
            return None;
        }
        text.push_str(page.text());
        offset = page.expect_header("stream-next-offset").to_owned();
        if page.header("stream-up-to-date").is_some() {
            return Some(text);
        }
    }
}

/// Kills the server at several moments of an import: every stream is the old one or the whole new one.
#[test]
fn an_import_that_is_killed_leaves_each_stream_as_it_was_or_as_a_whole_and_can_be_repeated() {
    const STREAMS: usize = 40;
    const LINES: usize = 60_000;
    let place = Place::new();
    let file = large_export(&place, STREAMS, LINES);
    let mut server = place.start("file-durable", "new");
    for number in (0..STREAMS).step_by(2) {
        server
            .stream(&number.to_string())
            .of_type("text/plain")
            .create()
            .append("old");
    }
    let mut imported = 0;
    for killed_after in [1, 7, 15] {
        let mut import = Command::new(server::binary())
            .args(["import", "--replace", "--url", &url(&server), &file])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        // So many streams have been imported by then, and another one mostly is in the midst of it.
        eventually("streams are imported", || {
            let listed = server.get(&server.path("__ds/streams?limit=1000")).json();
            let bytes = |stream: &Value| stream["bytes"].as_u64().unwrap_or_default();
            let streams = listed["streams"].as_array().expect("a list");
            let count = streams.iter().filter(|stream| bytes(stream) > 3).count();
            (count >= imported + killed_after).then_some(())
        });
        server.kill();
        import.wait().expect("a child");
        server = place.start("file-durable", "new");
        imported = 0;
        for number in 0..STREAMS {
            match whole(&server, &number.to_string()).as_deref() {
                None => assert_eq!(number % 2, 1, "stream {number} is gone"),
                Some("old") => assert_eq!(number % 2, 0, "stream {number} was never there"),
                Some(text) => {
                    assert!(text == content(number, LINES), "stream {number} is not whole");
                    imported += 1;
                }
            }
        }
        println!("{imported} are imported");
    }
    let told = report(&["import", "--replace", "--url", &url(&server), &file]);
    assert_eq!(told["present"], imported, "what is there is not imported again");
    assert_eq!(told["imported"], STREAMS - imported);
    for number in 0..STREAMS {
        assert!(
            whole(&server, &number.to_string()) == Some(content(number, LINES)),
            "{number}"
        );
    }
    // What was staged, and what was replaced, is gone.
    server.stop();
    let stats: Value = serde_json::from_str(&succeed(&["stats", "--json", "--data-dir", &place.text("new")]))
        .expect("one JSON object");
    assert_eq!(
        (&stats["streams"], &stats["deleted_streams"]),
        (&STREAMS.into(), &0.into())
    );
    assert_eq!(stats["stored_bytes"], STREAMS * LINES * 10);
}

#[test]
fn a_full_server_refuses_an_import_and_keeps_what_it_has() {
    let place = Place::new();
    let file = large_export(&place, 2, 400_000);
    let server = Server::start_with(&[
        ("DS_STORAGE__MODE", "memory"),
        ("DS_LIMITS__MAX_MEMORY_BYTES", "6MiB"),
        ("DS_LIMITS__MAX_STREAM_BYTES", "6MiB"),
    ]);
    server.stream("1").of_type("text/plain").create().append("kept");
    let refused = fail(1, &["import", "--replace", "--url", &url(&server), &file]);
    assert!(refused.contains("storage_full, 507"), "{refused}");
    assert_eq!(whole(&server, "1").as_deref(), Some("kept"));
    let first = whole(&server, "0").map(|text| text.len());
    assert_eq!(first, Some(4_000_000), "the first one fits");
    // What was staged of the other gives its room back.
    eventually("there is room", || {
        let request = server.stream("2").of_type("text/plain").creation();
        (server.send(&request.body(vec![b'x'; 1 << 20])).status() == 201).then_some(())
    });
}

#[test]
fn a_broken_export_is_refused_with_its_line_and_nothing_of_the_stream_stays() {
    let place = Place::new();
    let file = large_export(&place, 3, 400_000);
    let lines = std::fs::read_to_string(&file).expect("the file");
    let server = place.start("memory", "new");
    let send = |body: &str| {
        let path = server.path("__ds/import");
        server.send(&Request::new("POST", &path).body(body))
    };
    let without_end = lines.rsplit_once("{\"complete").expect("the last line").0;
    let flipped = lines.replacen("000000001\\n", "000000003\\n", 1);
    let reordered: String = lines.split_inclusive('\n').skip(1).collect();
    for (body, words, streams) in [
        ("", "its last line must be `complete`", 0),
        ("hello", "this is no export", 0),
        (reordered.as_str(), "this is no export", 0),
        (flipped.as_str(), "the checksum of stream `1` is wrong", 1),
        (without_end, "its last line must be `complete`", 2),
    ] {
        let response = send(body);
        assert_eq!(
            (response.status(), response.problem().as_str()),
            (400, "invalid_export")
        );
        assert!(response.text().contains(words), "{}", response.text());
        assert_eq!(response.json()["imported"], streams, "{words}");
    }
    let unknown = server.send(&Request::new("POST", &server.path("__ds/import?existing=x")));
    assert_eq!(
        (unknown.status(), unknown.problem().as_str()),
        (400, "invalid_query")
    );
    assert_eq!(server.get(&server.path("__ds/import")).status(), 405);
    server.assert_well("malformed imports");
    let response = send(&lines);
    assert_eq!(response.json()["present"], 3, "{}", response.text());
}

/// The server answers in the midst of a large body; the command shows that, and not a broken connection.
#[test]
fn a_command_shows_why_its_import_was_refused_early() {
    let place = Place::new();
    let file = large_export(&place, 30, 400_000);
    let server = place.start("memory", "new");
    let mut lines = std::fs::read(&file).expect("the file");
    let second = lines.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    lines.splice(second..second, *b"{}\n");
    std::fs::write(&file, lines).expect("the file can be written");
    let refused = fail(1, &["import", "--url", &url(&server), &file]);
    assert!(
        refused.contains("Line 2") && refused.contains("invalid_export, 400"),
        "{refused}"
    );
}

#[test]
fn an_export_that_is_cut_off_is_no_file() {
    let place = Place::new();
    let server = place.start("memory", "old");
    for number in 0..16 {
        let name = number.to_string();
        server
            .stream(&name)
            .of_type("text/plain")
            .create()
            .append(vec![b'x'; 8 << 20]);
    }
    let file = place.text("all.ndjson");
    let proxy = tailwater_e2e::proxy::CuttingProxy::before(server.address(), 1);
    let through = format!("http://{}{}", proxy.address(), server.base_path());
    let failed = fail(1, &["export", "--url", &through, "--output", &file]);
    assert!(failed.starts_with("tailwater: "), "{failed}");
    assert!(!Path::new(&file).exists(), "only a whole export gets the name");
    let left = std::fs::read_dir(place.0.path()).expect("the directory");
    assert_eq!(left.count(), 0, "and of half of one nothing is left");
}

/// A client that goes away in the midst leaves nothing, though it said nothing of it.
#[test]
fn an_import_whose_client_goes_away_gives_its_room_back() {
    let place = Place::new();
    let file = large_export(&place, 1, 2_000_000);
    let lines = std::fs::read(&file).expect("the file");
    let server = Server::start_with(&[
        ("DS_STORAGE__MODE", "memory"),
        ("DS_LIMITS__MAX_MEMORY_BYTES", "24MiB"),
        ("DS_LIMITS__MAX_STREAM_BYTES", "24MiB"),
    ]);
    for _ in 0..3 {
        let mut connection = std::net::TcpStream::connect(server.address()).expect("the server listens");
        connection
            .set_write_timeout(Some(Duration::from_secs(20)))
            .expect("a socket");
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            server.path("__ds/import"),
            lines.len()
        );
        connection.write_all(head.as_bytes()).expect("written");
        connection
            .write_all(&lines[..lines.len() * 9 / 10])
            .expect("written");
    }
    eventually("there is room", || {
        let request = server.stream("2").of_type("text/plain").creation();
        let response = server.send(&request.body(vec![b'x'; 9 << 20]));
        (response.status() == 201).then_some(())
    });
    assert_eq!(server.get(&server.path("0")).status(), 404);
}
