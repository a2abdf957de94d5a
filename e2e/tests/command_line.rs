//! The command line does what its help says, against the real server: data to stdout, notes to stderr,
//! exit codes that scripts can rely on.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tailwater_e2e::proxy::CuttingProxy;
use tailwater_e2e::{Server, eventually, server};

/// A command that knows no server and no settings but those that the test gives.
fn tailwater(arguments: &[&str]) -> Command {
    let mut command = Command::new(server::binary());
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("DS_") || name.starts_with("TAILWATER_") || name == "RUST_LOG" {
            command.env_remove(&key);
        }
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("the binary starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a client's command on `server`.
fn client(server: &Server, arguments: &[&str]) -> Output {
    let mut command = tailwater(arguments);
    command.env(
        "TAILWATER_URL",
        format!("{}{}", server.origin(), server.base_path()),
    );
    run(command)
}

/// Runs a client's command that must succeed, and returns its stdout.
#[track_caller]
fn succeed(server: &Server, arguments: &[&str]) -> String {
    let output = client(server, arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}\n{}",
        output.status,
        stderr(&output)
    );
    stdout(&output)
}

/// Runs a client's command that must fail with `code`, and returns its stderr.
#[track_caller]
fn fail(server: &Server, code: i32, arguments: &[&str]) -> String {
    let output = client(server, arguments);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {}",
        stderr(&output)
    );
    assert_eq!(stdout(&output), "", "{arguments:?} must not mix errors into data");
    stderr(&output)
}

/// A command under way. What it prints is kept as it comes.
struct Running {
    child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Running {
    fn start(url: &str, arguments: &[&str], stdin: Stdio) -> Self {
        let mut child = tailwater(arguments)
            .env("TAILWATER_URL", url)
            .stdin(stdin)
            .spawn()
            .expect("the binary starts");
        let (mut pipe, printed) = (
            child.stdout.take().expect("it is piped"),
            Arc::new(Mutex::new(Vec::new())),
        );
        let kept = Arc::clone(&printed);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut piece) {
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&piece[..length]);
            }
        });
        Self {
            child,
            printed,
            reader,
        }
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn wait_for(&self, text: &str) {
        eventually(&format!("{text:?} is printed"), || {
            self.printed().contains(text).then_some(())
        });
    }

    fn write_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        // In one piece: the command may end behind a line that it does not like.
        let line = format!("{line}\n");
        stdin
            .write_all(line.as_bytes())
            .expect("the command reads its stdin");
    }

    /// Waits for the command's own end: exit code, stdout, stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        drop(self.child.stdin.take());
        let status = eventually("the command ends", || self.child.try_wait().ok().flatten());
        let mut notes = String::new();
        let mut pipe = self.child.stderr.take().expect("it is piped");
        pipe.read_to_string(&mut notes).expect("notes are text");
        self.reader.join().expect("the reader does not panic");
        let printed = self
            .printed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        (
            status.code(),
            String::from_utf8_lossy(&printed).into_owned(),
            notes,
        )
    }
}

/// Does what Ctrl-C does.
fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, Signal::INT).expect("the command can be signalled");
}

fn base_url(server: &Server) -> String {
    format!("{}{}", server.origin(), server.base_path())
}

#[test]
fn a_stream_lives_from_create_to_rm() {
    let server = Server::start();
    let start = succeed(
        &server,
        &[
            "create",
            "a/orders",
            "--content-type",
            "application/json",
            "--ttl",
            "3600",
        ],
    );
    assert_eq!(start.trim(), "0000000000000000_0000000000000000");
    let again = [
        "create",
        "a/orders",
        "--content-type",
        "application/json",
        "--ttl",
        "3600",
    ];
    assert!(stderr(&client(&server, &again)).contains("exists already"));
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
fn tail_prints_what_comes_and_ends_when_the_stream_is_closed() {
    let server = Server::start();
    let stream = server.stream("live").create();
    stream.append("[1]");
    let tail = Running::start(
        &base_url(&server),
        &["tail", "live", "--offset", "-1"],
        Stdio::null(),
    );
    tail.wait_for("1\n");
    stream.append(r#"[{"a":"x\ny"},2]"#);
    tail.wait_for("2\n");
    stream.close();
    let (code, printed, notes) = tail.end();
    assert_eq!(
        (code, printed.as_str()),
        (Some(0), "1\n{\"a\":\"x\\ny\"}\n2\n"),
        "{notes}"
    );
    assert!(notes.contains("`live` is closed"), "{notes}");
    assert_eq!(
        succeed(&server, &["tail", "live"]),
        "",
        "from now on there is nothing"
    );
}

#[test]
fn tail_loses_and_repeats_nothing_over_cut_connections() {
    const MESSAGES: usize = 30;
    let server = Server::start();
    let stream = server.stream("live").create();
    let proxy = CuttingProxy::before(server.address(), 4);
    let url = format!("http://{}{}", proxy.address(), server.base_path());
    let tail = Running::start(&url, &["tail", "live", "--offset", "-1"], Stdio::null());
    for message in 0..MESSAGES {
        stream.append(format!("[{message}]"));
        tail.wait_for(&format!("{message}\n"));
    }
    stream.close();
    let (code, printed, notes) = tail.end();
    let expected: String = (0..MESSAGES).map(|message| format!("{message}\n")).collect();
    assert_eq!((code, printed), (Some(0), expected), "{notes}");
    assert!(proxy.cuts() > 3, "the proxy cut only {} answers", proxy.cuts());
    assert!(notes.contains("trying again in"), "{notes}");
}

#[test]
fn an_interrupted_tail_says_where_to_go_on() {
    let server = Server::start();
    let stream = server.stream("live").create();
    let tail = Running::start(
        &base_url(&server),
        &["tail", "live", "--offset", "-1", "--records"],
        Stdio::null(),
    );
    let offset = stream.append("[1]");
    tail.wait_for("\n");
    let record: Value = serde_json::from_str(&tail.printed()).expect("one record");
    assert_eq!(
        (&record["data"], record["offset"].as_str()),
        (&1.into(), Some(offset.as_str()))
    );
    interrupt(&tail.child);
    let (code, _, notes) = tail.end();
    assert_eq!(code, Some(130));
    assert!(
        notes.contains(&format!("tailwater tail live --offset {offset}")),
        "{notes}"
    );
}

/// Each event had a listener of its own for the signal, and some were dropped with the news of it.
#[test]
fn a_tail_that_is_interrupted_while_it_is_busy_ends_at_once_and_goes_on_behind_what_it_has_printed() {
    const TIMES: usize = 8;
    /// The writer ends with the test, also if that fails.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let server = Server::start_with(&[("DS_LIMITS__MAX_STREAM_BYTES", "90MiB")]);
    let messages = format!("[{}]", vec!["1"; 500].join(","));
    for _ in 0..TIMES {
        let stream = server.stream("busy").create();
        let is_over = AtomicBool::new(false);
        let tail = ["tail", "busy", "--offset", "-1", "--records"];
        let (code, printed, notes) = std::thread::scope(|scope| {
            let _ends = Ends(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    stream.append(messages.as_str());
                }
            });
            let tail = Running::start(&base_url(&server), &tail, Stdio::null());
            tail.wait_for("\n");
            interrupt(&tail.child);
            tail.end()
        });
        stream.delete();
        assert_eq!(code, Some(130), "{notes}");
        let last: Value = serde_json::from_str(printed.lines().last().expect("a record")).expect("JSON");
        let offset = last["offset"].as_str().expect("an offset");
        assert!(
            notes.contains(&format!("tailwater tail busy --offset {offset}\n")),
            "{notes} behind {last}"
        );
    }
}

#[test]
fn follow_appends_each_line_as_it_comes_and_names_a_bad_one() {
    let server = Server::start();
    let stream = server.stream("lines").create();
    let mut append = Running::start(
        &base_url(&server),
        &["append", "lines", "--follow"],
        Stdio::piped(),
    );
    for (line, so_far) in [("{\"a\":1}", 1), ("[1,2]", 2), ("", 2), ("\"x\"", 3)] {
        append.write_line(line);
        eventually("the line is appended", || {
            (stream.messages().len() == so_far).then_some(())
        });
    }
    append.write_line("4\n{\n5");
    let (code, _, notes) = append.end();
    assert_eq!(code, Some(1));
    assert!(notes.contains("line 6 of stdin is not JSON"), "{notes}");
    assert_eq!(
        succeed(&server, &["read", "lines"]),
        "{\"a\":1}\n[1,2]\n\"x\"\n4\n"
    );
}

#[test]
fn a_producer_that_follows_loses_and_repeats_nothing_over_cut_connections() {
    /// So many that the answer to the close is cut as well, which was not asked again.
    const LINES: usize = 29;
    let server = Server::start();
    let stream = server.stream("lines").create();
    let proxy = CuttingProxy::before(server.address(), 3);
    let url = format!("http://{}{}", proxy.address(), server.base_path());
    let arguments = ["append", "lines", "--follow", "--producer", "p", "--close"];
    let mut append = Running::start(&url, &arguments, Stdio::piped());
    for line in 0..LINES {
        append.write_line(&line.to_string());
        eventually("the line is appended", || {
            (stream.messages().len() > line).then_some(())
        });
    }
    let cuts = proxy.cuts();
    let (code, _, notes) = append.end();
    assert_eq!(code, Some(0), "{notes}");
    let expected: String = (0..LINES).map(|line| format!("{line}\n")).collect();
    assert_eq!(succeed(&server, &["read", "lines"]), expected, "{notes}");
    assert!(
        succeed(&server, &["head", "lines"]).contains("closed: true"),
        "{notes}"
    );
    assert!(cuts > 3, "the proxy cut only {cuts} answers");
    assert!(notes.contains("trying again in"), "{notes}");
}

#[test]
fn an_append_whose_answer_is_lost_is_told_to_be_in_doubt() {
    let server = Server::start();
    server.stream("one").create();
    // The answer to the question what the stream's type is comes through, the next one does not.
    let proxy = CuttingProxy::before(server.address(), 2);
    let url = format!("http://{}{}", proxy.address(), server.base_path());
    let append = Running::start(&url, &["append", "one", "1"], Stdio::null());
    let (code, printed, notes) = append.end();
    assert_eq!((code, printed.as_str()), (Some(1), ""));
    assert!(notes.contains("may or may not have been appended"), "{notes}");
    assert_eq!(succeed(&server, &["read", "one"]), "1\n", "this time it was");
}

/// A long line went along with those before it, and the body of all was over the limit though each line was not.
#[test]
fn a_line_may_be_as_long_as_the_server_allows_whatever_comes_before_it() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_BODY_BYTES", "300KiB")]);
    server.stream("lines").of_type("text/plain").create();
    let text = format!("{}\n", "x".repeat(999)).repeat(200) + &"y".repeat(290 << 10) + "\nlast\n";
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &text).expect("it is written");
    let stdin = Stdio::from(file.reopen().expect("it is there"));
    let append = Running::start(&base_url(&server), &["append", "lines", "--follow"], stdin);
    let (code, _, notes) = append.end();
    assert_eq!(code, Some(0), "{notes}");
    assert!(
        succeed(&server, &["read", "lines"]) == text,
        "all lines are there, in order"
    );
}

/// Each run has an epoch of the clock, and was refused as long as that was behind the one of the run before.
#[test]
fn a_producer_goes_on_though_the_clock_was_set_back_and_is_told_of_one_that_takes_over() {
    const DAY_MS: u128 = 24 * 3_600_000;
    let server = Server::start();
    let stream = server.stream("lines").create();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later")
        .as_millis();
    let append_as = |epoch: u128, message: &str| {
        let append = stream.appending(message).header("Producer-Id", "p");
        let append = append
            .header("Producer-Epoch", &epoch.to_string())
            .header("Producer-Seq", "0");
        server.send(&append).expect(200);
    };
    append_as(now + DAY_MS, "[0]");
    let mut append = Running::start(
        &base_url(&server),
        &["append", "lines", "--follow", "--producer", "p"],
        Stdio::piped(),
    );
    for line in 1..3 {
        append.write_line(&line.to_string());
        eventually("the line is appended", || {
            (stream.messages().len() > line).then_some(())
        });
    }
    append_as(now + 2 * DAY_MS, "[3]");
    append.write_line("4");
    let (code, _, notes) = append.end();
    assert_eq!(code, Some(1));
    assert!(notes.contains("taken over by a later process"), "{notes}");
    assert_eq!(succeed(&server, &["read", "lines"]), "0\n1\n2\n3\n");
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

#[test]
fn without_a_server_a_command_says_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/v1/stream", free.local_addr().expect("it is bound"));
    drop(free);
    for command in [
        vec!["read", "x"],
        vec!["tail", "x"],
        vec!["ls"],
        vec!["append", "x", "y"],
        vec!["rm", "x"],
    ] {
        let output = run(tailwater(&[command, vec!["--url", &url]].concat()));
        assert_eq!(output.status.code(), Some(1));
        let advice = format!("no server answered at {url}: is it running? start it with `tailwater serve`");
        assert!(stderr(&output).contains(&advice), "{}", stderr(&output));
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["read"][..],
        &["nonsense"],
        &["append", "x", "y", "--follow"],
        &["ls", "--url", "ftp://x"],
    ] {
        let output = run(tailwater(arguments));
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn check_prints_a_configuration_that_it_accepts_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tailwater.toml");
    let file = path.to_str().expect("a plain path");
    std::fs::write(&path, "[limits]\nmax_stream_bytes = \"20MiB\"\n").expect("writable");
    let mut command = tailwater(&[
        "check",
        "--config",
        file,
        "--bind",
        "127.0.0.1:9",
        "--data-dir",
        "/srv/streams",
    ]);
    command.env("DS_LOG__FORMAT", "json");
    let first = stdout(&run(command));
    assert!(
        first.contains("bind_address = \"127.0.0.1:9\" # --bind\n"),
        "{first}"
    );
    assert!(
        first.contains(&format!("max_stream_bytes = \"20MiB\" # {file}:2\n")),
        "{first}"
    );
    assert!(
        first.contains("data_dir = \"/srv/streams\" # --data-dir\n"),
        "{first}"
    );
    assert!(first.contains("format = \"json\" # DS_LOG__FORMAT\n"), "{first}");
    assert!(
        first.contains("max_memory_bytes = \"100MiB\" # default\n"),
        "{first}"
    );
    std::fs::write(&path, &first).expect("writable");
    let second = run(tailwater(&["check", "--config", file]));
    assert!(second.status.success());
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split(" # ").next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(values(&stdout(&second)), values(&first));
}

#[test]
fn check_and_serve_refuse_every_mistake_at_once() {
    for arguments in [
        &["check", "--set", "limits.max_conections=5"][..],
        &["--set", "limits.max_conections=5"],
    ] {
        let mut command = tailwater(arguments);
        command
            .env("DS_STORAGE__ACID_SHARD_COUNT", "3")
            .env("DS_AUTH__TOKEN_PATH", "/x");
        let output = run(command);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()));
        let said = stderr(&output);
        assert!(said.contains("3 mistakes"), "{said}");
        assert!(said.contains("did you mean `limits.max_connections`?"), "{said}");
        assert!(
            said.contains("DS_STORAGE__ACID_SHARD_COUNT: `storage.acid_shard_count` cannot be `3`; allowed: one of 1, 2,"),
            "{said}"
        );
        assert!(said.contains("DS_AUTH__TOKEN_PATH: unknown setting"), "{said}");
    }
}

#[test]
fn a_file_that_is_not_there_and_a_bad_filter_are_named() {
    let output = run(tailwater(&["serve", "--config", "/nowhere/tailwater.toml"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("/nowhere/tailwater.toml"),
        "{}",
        stderr(&output)
    );
    let mut command = tailwater(&["serve", "--bind", "127.0.0.1:0"]);
    command.env("RUST_LOG", "tailwater=loud");
    let output = run(command);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("RUST_LOG cannot be `tailwater=loud`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn completions_and_the_version_come_from_stdout() {
    let script = run(tailwater(&["completions", "bash"]));
    assert!(script.status.success() && stdout(&script).contains("tailwater"));
    let version = run(tailwater(&["--version"]));
    assert!(
        stdout(&version).starts_with("tailwater 0."),
        "{}",
        stdout(&version)
    );
}

#[test]
fn both_programs_write_their_manual_and_complete_their_commands() {
    let synced = |arguments: &[&str]| {
        let mut command = Command::new(server::binary().with_file_name("tailwater-sync"));
        command.args(arguments);
        command
    };
    let script = run(synced(&["completions", "fish"]));
    assert!(script.status.success() && stdout(&script).contains("tailwater-sync"));
    let directory = tempfile::tempdir().expect("a directory");
    let pages = directory.path().join("man1");
    let to = pages.to_str().expect("UTF-8");
    for written in [run(tailwater(&["man", to])), run(synced(&["man", to]))] {
        assert!(written.status.success(), "{}", stderr(&written));
    }
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).expect("the page is there");
    assert!(
        page("tailwater.1").contains("durable\\-stream server"),
        "{}",
        page("tailwater.1")
    );
    assert!(page("tailwater-append.1").contains("\\-\\-producer"));
    assert!(page("tailwater-sync-verify.1").contains("compare each event with its row"));
    let refused = run(tailwater(&["man", "/dev/null/man1"]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("cannot write the manual to /dev/null/man1"),
        "{}",
        stderr(&refused)
    );
}

/// A server with too much load says when to come again, and scripts had to read that for themselves.
#[test]
fn a_command_that_is_refused_for_load_comes_again_when_the_server_says_so() {
    let server = Server::start_with(&[
        ("DS_LIMITS__MAX_CLIENT_READS_PER_SEC", "1"),
        ("DS_LIMITS__CLIENT_BURST_SECS", "1"),
    ]);
    succeed(&server, &["create", "asked", "--content-type", "text/plain"]);
    // Whether a command is refused depends on how fast they follow each other; that it succeeds does not.
    let note = eventually("a command is refused at first", || {
        let output = client(&server, &["head", "asked"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).contains("name: asked"), "{}", stdout(&output));
        Some(stderr(&output)).filter(|note| !note.is_empty())
    });
    assert!(
        note.contains("(429)") && note.contains("trying again in"),
        "{note}"
    );
    // One that is refused for another reason is told at once.
    fail(&server, 1, &["head", "missing"]);
    // Whoever follows a stream waits as well, also before anything has come.
    server.stream("asked").of_type("text/plain").append("seen");
    server.stream("asked").close();
    assert_eq!(succeed(&server, &["tail", "asked", "--offset", "-1"]), "seen");
    server.stop();
}
