//! Settings, usage, help, and what is said when something is wrong.

use std::net::TcpListener;
use std::process::Command;

use tailwater_e2e::{Server, eventually, server};

use super::command::{client, fail, run, stderr, stdout, succeed, tailwater};

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

/// The name under which it looks for them is its own, and it passes over what it does not know.
#[test]
fn the_allocator_takes_its_settings() {
    let mut command = tailwater(&["--version"]);
    command.env("_RJEM_MALLOC_CONF", "confirm_conf:true");
    let said = stderr(&run(command));
    assert!(
        said.contains("Set conf value: tcache_ncached_max:8192-8192:512"),
        "{said}"
    );
    assert!(!said.contains("Invalid"), "{said}");
}
