//! The programs of docs/clients.md do what the page says, over a network that cuts connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tailwater_e2e::proxy::CuttingProxy;
use tailwater_e2e::{Server, node};
use tempfile::TempDir;

const PAGE: &str = include_str!("../../docs/clients.md");
const PRINTED: &str = "{\"step\":\"started\"}\n{\"step\":\"rendered\"}\n{\"step\":\"sent\"}\n";
/// Every so many answers are lost on their way to the program. It takes about a dozen.
const CUT_EVERY: usize = 3;
/// Of so many answers with a body the first one breaks off, and that to its repetition comes through.
const BREAK_EVERY: usize = 2;

/// The page's only program in a language, as it is marked there.
fn program(language: &str) -> &'static str {
    let (_, behind) = PAGE
        .split_once(&format!("```{language}\n"))
        .unwrap_or_else(|| panic!("docs/clients.md has a program in {language}"));
    behind.split_once("```").expect("the program ends").0
}

fn written_to(directory: &Path, name: &str, language: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, program(language)).expect("the program can be written");
    path
}

/// Runs a program, which finds its stream in `STREAM_URL`.
#[track_caller]
fn prints_each_event_once(command: &mut Command) {
    // Programs that knew of lost answers ended with an error where one broke off.
    prints_each_event_once_over(command, |server| CuttingProxy::before(server, CUT_EVERY));
    prints_each_event_once_over(command, |server| CuttingProxy::within(server, 1, BREAK_EVERY));
}

#[track_caller]
fn prints_each_event_once_over(command: &mut Command, cutting: fn(SocketAddr) -> CuttingProxy) {
    let server = Server::start();
    let proxy = cutting(server.address());
    let url = format!("http://{}{}", proxy.address(), server.path("clients/page"));
    let output = node::run(command.env("STREAM_URL", url));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        PRINTED,
        "{}",
        node::written(&output)
    );
    assert!(
        proxy.cuts() > 0,
        "without cuts the test would prove less than its name says"
    );
    server.stop();
}

#[test]
fn the_program_in_javascript_writes_and_reads_each_event_once() {
    // Where its module is found.
    let directory = TempDir::new_in(node::package_directory()).expect("a directory");
    let path = written_to(directory.path(), "program.mjs", "javascript");
    prints_each_event_once(&mut node::node(path.to_str().expect("UTF-8")));
}

#[test]
fn the_program_in_python_writes_and_reads_each_event_once() {
    let directory = TempDir::new().expect("a directory");
    let path = written_to(directory.path(), "program.py", "python");
    prints_each_event_once(Command::new("python3").arg(path));
}

#[test]
fn the_program_for_the_shell_writes_and_reads_each_event_once() {
    let directory = TempDir::new().expect("a directory");
    let path = written_to(directory.path(), "program.sh", "sh");
    prints_each_event_once(Command::new("sh").arg(path));
}

#[test]
fn the_program_in_rust_writes_and_reads_each_event_once() {
    let compiled = include_str!("../examples/client.rs");
    let (_, compiled) = compiled
        .split_once("\n\n")
        .expect("a line about itself comes first");
    assert_eq!(
        compiled,
        program("rust"),
        "e2e/examples/client.rs is to be the page's program"
    );
    // Cargo builds examples beside the tests, one directory up.
    let test = std::env::current_exe().expect("our own path");
    let examples = test
        .ancestors()
        .nth(2)
        .expect("a profile's directory")
        .join("examples");
    prints_each_event_once(&mut Command::new(examples.join("client")));
}

/// Go is not among what `make test` asks for.
#[test]
fn the_program_in_go_writes_and_reads_each_event_once() {
    if Command::new("go").arg("version").output().is_err() {
        eprintln!("NOT TESTED: the program in Go, for there is no `go` here");
        return;
    }
    let directory = TempDir::new().expect("a directory");
    let path = written_to(directory.path(), "program.go", "go");
    prints_each_event_once(Command::new("go").arg("run").arg(path));
}
