//! The drill of docs/production.md, with the very commands that stand there: a backup is made, fetched, checked, started and read.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};

use tailwater_e2e::envoy::repository;
use tailwater_e2e::{Server, eventually};

use crate::commands::{outcome, tailwater};

/// Ports that are tried.
const PORTS_MAX: usize = 20;

/// The commands of a part of the document: those behind `$ ` in its blocks, and those in its lines.
fn commands(document: &str, from: &str, to: &str) -> Vec<String> {
    let (_, rest) = document.split_once(from).expect("the document has this part");
    let (part, _) = rest.split_once(to).expect("another part follows");
    let blocks = part.lines().filter_map(|line| line.strip_prefix("$ "));
    let inline = part.split('`').skip(1).step_by(2);
    let all = blocks.chain(inline).filter(|text| text.starts_with("tailwater "));
    all.map(str::to_owned).collect()
}

/// Runs a command of the document where its paths and its port are those of the test.
fn here(command: &str, dir: &Path, port: u16) -> Command {
    let dir = dir.display();
    let text = command
        .replace(" /data/", &format!(" {dir}/data/"))
        .replace(" /restore/", &format!(" {dir}/restore/"))
        .replace("127.0.0.1:4999", &format!("127.0.0.1:{port}"));
    // What stands behind a pipe is for people to look at.
    let typed = text.split(" | ").next().unwrap_or_default();
    let words: Vec<_> = typed.split_whitespace().skip(1).collect();
    tailwater(&words)
}

/// A process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server on a port that was free a moment ago, and on another one if somebody has taken it since; with the port.
#[track_caller]
fn started(start: impl Fn(u16) -> Command, health: impl Fn(u16) -> Command) -> (Running, u16) {
    for _ in 0..PORTS_MAX {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let mut running = Running(start(port).spawn().expect("the binary starts"));
        let is_well = eventually("the restored server is well, or has ended", || {
            let has_ended = running.0.try_wait().expect("it is a child").is_some();
            let is_well = !has_ended && outcome(health(port)).0 == Some(0);
            (has_ended || is_well).then_some(is_well)
        });
        if is_well {
            return (running, port);
        }
    }
    panic!("no server starts");
}

#[test]
fn the_drill_of_the_document_brings_everything_back_that_the_backup_had() {
    let document = fs::read_to_string(repository().join("docs/production.md")).expect("it is there");
    let backup = commands(&document, "## Backup and restore", "**The drill.**");
    let drill = commands(
        &document,
        "**The drill.**",
        "**What a restored server does not have**",
    );
    let find = |list: &[String], part: &str| {
        let found = list.iter().find(|command| command.contains(part));
        found
            .unwrap_or_else(|| panic!("{part} is not in {list:?}"))
            .clone()
    };

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path();
    for name in ["data", "restore"] {
        fs::create_dir(path.join(name)).expect("it can be made");
    }
    let store = path.join("data/store");
    let original = Server::start_with(&[
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", store.to_str().expect("a plain path")),
    ]);
    let stream = original.stream("NAME").create();
    stream.append("[1]");
    for part in ["tailwater backup", "tailwater verify"] {
        let (code, said) = outcome(here(&find(&backup, part), path, 0));
        assert_eq!(code, Some(0), "{said}");
    }
    let later = stream.append("[2]");
    original.stop();

    // Carried away, and fetched again.
    let mut carry = Command::new("cp");
    carry
        .arg("-a")
        .arg(path.join("data/backup/monday"))
        .arg(path.join("restore"));
    assert!(carry.status().expect("cp runs").success());
    let (code, said) = outcome(here(&find(&drill, "verify"), path, 0));
    assert!(code == Some(0) && said.contains("is clean"), "{said}");

    let start = find(&drill, "--bind");
    let health = find(&drill, "tailwater health");
    let (restored, port) = started(|port| here(&start, path, port), |port| here(&health, path, port));
    let (code, listed) = outcome(here(&find(&drill, "tailwater ls"), path, port));
    assert!(code == Some(0) && listed.starts_with("NAME\t"), "{listed}");
    let (code, read) = outcome(here(&find(&drill, "tailwater read"), path, port));
    assert_eq!(
        (code, read.as_str()),
        (Some(0), "1\n"),
        "what the backup had, and no more"
    );
    let url = format!("http://127.0.0.1:{port}/v1/stream");
    let (code, said) = outcome(tailwater(&["read", "NAME", "--offset", &later, "--url", &url]));
    assert!(
        code == Some(1) && said.contains("offset_unknown"),
        "as the document says: {said}"
    );
    drop(restored);
}

#[test]
fn a_variable_that_names_a_server_does_not_keep_a_command_from_a_directory() {
    // `TAILWATER_URL` in the environment was taken for `--url`, and `--data-dir` refused beside it.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("store").display().to_string();
    let file = dir.path().join("empty.ndjson").display().to_string();
    let with_variables = |arguments: &[&str]| {
        let mut command = tailwater(arguments);
        command
            .env("TAILWATER_URL", "http://127.0.0.1:1/v1/stream")
            .env("TAILWATER_TOKEN", "token");
        outcome(command)
    };
    let server = Server::start();
    let url = format!("{}{}", server.origin(), server.base_path());
    assert_eq!(
        outcome(tailwater(&["export", "--output", &file, "--url", &url])).0,
        Some(0)
    );
    let import = [
        "import",
        &file,
        "--data-dir",
        &store,
        "--storage-mode",
        "file-durable",
    ];
    let (code, said) = with_variables(&import);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = with_variables(&["export", "--data-dir", &store]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = with_variables(&["export", "--data-dir", &store, "--url", &url]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--data-dir cannot be used with --url"), "{said}");
}
