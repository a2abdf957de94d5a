//! Runs commands of `tailwater` without the settings of the shell that runs the tests.

use std::process::{Command, Output, Stdio};

use tailwater_e2e::{Server, mirror, server};

/// The URL of the streams of a server.
pub(crate) fn url(server: &Server) -> String {
    format!("{}{}", server.origin(), server.base_path())
}

/// A command that knows no server and no settings but those that the test gives.
pub(crate) fn tailwater(arguments: &[&str]) -> Command {
    bare(Command::new(server::binary()), arguments)
}

/// The same of the mirror.
pub(crate) fn tailwater_sync(arguments: &[&str]) -> Command {
    bare(Command::new(mirror::binary()), arguments)
}

fn bare(mut command: Command, arguments: &[&str]) -> Command {
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("DS_") || name.starts_with("TAILWATER_") || name == "RUST_LOG" {
            command.env_remove(&key);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Its exit code, and what it printed on both outputs.
#[track_caller]
pub(crate) fn outcome(mut command: Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the binary starts");
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (status.code(), said)
}
