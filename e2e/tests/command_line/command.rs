//! How commands are run, and what they print.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use tailwater_e2e::{Server, eventually, server};

/// A command that knows no server and no settings but those that the test gives.
pub(crate) fn tailwater(arguments: &[&str]) -> Command {
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

pub(crate) fn run(mut command: Command) -> Output {
    command.output().expect("the binary starts")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a client's command on `server`.
pub(crate) fn client(server: &Server, arguments: &[&str]) -> Output {
    let mut command = tailwater(arguments);
    command.env(
        "TAILWATER_URL",
        format!("{}{}", server.origin(), server.base_path()),
    );
    run(command)
}

/// Runs a client's command that must succeed, and returns its stdout.
#[track_caller]
pub(crate) fn succeed(server: &Server, arguments: &[&str]) -> String {
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
pub(crate) fn fail(server: &Server, code: i32, arguments: &[&str]) -> String {
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
pub(crate) struct Running {
    pub(crate) child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(url: &str, arguments: &[&str], stdin: Stdio) -> Self {
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

    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    pub(crate) fn wait_for(&self, text: &str) {
        eventually(&format!("{text:?} is printed"), || {
            self.printed().contains(text).then_some(())
        });
    }

    pub(crate) fn write_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        // In one piece: the command may end behind a line that it does not like.
        let line = format!("{line}\n");
        stdin
            .write_all(line.as_bytes())
            .expect("the command reads its stdin");
    }

    /// Waits for the command's own end: exit code, stdout, stderr.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
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
pub(crate) fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, Signal::INT).expect("the command can be signalled");
}

pub(crate) fn base_url(server: &Server) -> String {
    format!("{}{}", server.origin(), server.base_path())
}
