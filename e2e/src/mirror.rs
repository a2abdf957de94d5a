//! Starts the real `tailwater-sync`, keeps what it says, stops and kills it. Knows nothing of streams and tables.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::connection::Connection;
use crate::message::{Request, Response};
use crate::patience::{PATIENCE, eventually};
use crate::server;

/// Marks the one line of the banner that says where it answers.
const METRICS: &str = "metrics on http://";

/// A running mirror, which answers on a port of its own. It is killed when dropped.
#[derive(Debug)]
pub struct Mirror {
    child: Child,
    address: SocketAddr,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Starts one with these environment variables besides its defaults, and waits until it says that it runs.
    #[track_caller]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with(&[], settings)
    }

    /// The same with these arguments.
    #[track_caller]
    pub fn start_with(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut child = command(settings)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()));
        let pipe = child.stderr.take().expect("stderr was asked for");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        let kept = Arc::clone(&stderr);
        let reader = std::thread::spawn(move || keep(pipe, &kept, &sender));
        let address = loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some((_, rest)) = line.split_once(METRICS) {
                        let address = rest.split('/').next().unwrap_or_default();
                        break address
                            .parse()
                            .unwrap_or_else(|error| panic!("{line:?}: {error}"));
                    }
                }
                Err(reason) => {
                    let _ = child.kill();
                    let why = if reason == RecvTimeoutError::Timeout {
                        "said nothing"
                    } else {
                        "ended"
                    };
                    panic!("the mirror {why} before it ran:\n{}", said(&stderr));
                }
            }
        };
        Self {
            child,
            address,
            stderr,
            reader: Some(reader),
        }
    }

    /// Runs `tailwater-sync` with these arguments and environment variables until it ends by itself.
    #[track_caller]
    pub fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        let output = command(settings).args(arguments).stdin(Stdio::null()).output();
        output.unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()))
    }

    /// The answer to a GET for a path, as `/readyz`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        let connection = Connection::try_open(self.address);
        let mut connection =
            connection.unwrap_or_else(|error| panic!("no mirror at {}: {error}", self.address));
        connection.send(&Request::new("GET", path))
    }

    /// The value of a metric, labels included in its name; none if there is no such.
    #[track_caller]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = self.get("/metrics").expect(200);
        let line = page
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    /// Waits until it is ready.
    #[track_caller]
    pub fn expect_ready(&self) {
        eventually("the mirror is ready", || {
            (self.get("/readyz").status() == 200).then_some(())
        });
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        said(&self.stderr)
    }

    /// Kills it as `kill -9` does; panics if it had ended before.
    #[track_caller]
    pub fn kill(mut self) {
        self.child.kill().expect("the mirror can be killed");
        let status = self.wait();
        let said = self.stderr();
        assert_eq!(
            status.signal(),
            Some(Signal::KILL.as_raw()),
            "it had ended by itself with {status}:\n{said}"
        );
        assert!(!said.contains("panicked"), "the mirror panicked:\n{said}");
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("the mirror can be signalled");
    }

    /// Stops it by SIGTERM, panics unless it exits with 0, and returns what it wrote to stderr.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.wait();
        let said = self.stderr();
        assert!(status.success(), "the mirror exited with {status}:\n{said}");
        assert!(!said.contains("panicked"), "the mirror panicked:\n{said}");
        said
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the mirror ends", || self.child.try_wait().ok().flatten());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of the mirror\n{}---", self.stderr());
        }
    }
}

fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    for (key, _) in std::env::vars_os() {
        // A test's mirror must not depend on the settings of the shell that runs the test.
        if key.to_string_lossy().starts_with("DS_") {
            command.env_remove(key);
        }
    }
    command
        .env("DS_SYNC__BIND_ADDRESS", "127.0.0.1:0")
        .envs(settings.iter().copied());
    command
}

/// The mirror's binary, built beside the server's.
#[track_caller]
pub fn binary() -> PathBuf {
    let path = server::binary().with_file_name("tailwater-sync");
    assert!(
        path.exists(),
        "{} does not exist: build it with `cargo build -p tailwater-sync` (with --release if the tests run so)",
        path.display()
    );
    path
}

fn said(stderr: &Mutex<String>) -> String {
    stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keeps what the mirror writes, and passes its lines on while anybody waits for the banner.
fn keep(pipe: impl Read, kept: &Mutex<String>, lines: &Sender<String>) {
    for line in BufReader::new(pipe).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_str(&line);
        kept.push('\n');
        let _ = lines.send(line);
    }
}
