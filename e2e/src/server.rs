//! Starts the real binary, keeps what it says, stops it.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::connection::Connection;
use crate::message::{Request, Response};
use crate::patience::{PATIENCE, eventually};
use crate::process::Process;
use crate::stream::Stream;

/// The storage mode that servers run in unless a test chooses one: all of what clients see holds in every mode.
const MODE_VARIABLE: &str = "TAILWATER_E2E_MODE";
/// Marks the one line of the banner that says where the server listens.
const LISTENING: &str = "listening on http";

/// A running server with a port of its own. It is killed when dropped; [`Server::stop`] asks it to stop.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    base_path: String,
    /// How to talk to it, unless in clear.
    tls: Option<Arc<ClientConfig>>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
    /// Where it keeps its streams unless its settings say otherwise; goes with it.
    _data_dir: TempDir,
}

impl Server {
    /// Starts a server with its defaults.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with these environment variables besides its defaults, and waits until it listens.
    #[track_caller]
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut launch = Launch::new(settings);
        let listening = launch.listening().unwrap_or_else(|reason| {
            let _ = launch.child.kill();
            let why = if reason == RecvTimeoutError::Timeout {
                "said nothing"
            } else {
                "ended"
            };
            panic!("the server {why} before it listened:\n{}", said(&launch.stderr));
        });
        let (address, base_path) = parse_banner(&listening);
        Self {
            child: launch.child,
            address,
            base_path,
            tls: None,
            stderr: launch.stderr,
            stderr_reader: Some(launch.stderr_reader),
            _data_dir: launch.data_dir,
        }
    }

    /// The same server, to which connections are made by TLS from here on.
    #[must_use]
    pub fn by_tls(mut self, tls: &Arc<ClientConfig>) -> Self {
        self.tls = Some(Arc::clone(tls));
        self
    }

    /// Starts a server that must refuse to start with these environment variables, and returns its exit code and
    /// what it said.
    #[track_caller]
    pub fn refusal(settings: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut launch = Launch::new(settings);
        let ended = launch.listening() == Err(RecvTimeoutError::Disconnected);
        if !ended {
            let _ = launch.child.kill();
        }
        let status = launch.child.wait().expect("it is a child of this process");
        let _ = launch.stderr_reader.join();
        let said = said(&launch.stderr);
        assert!(ended, "the server did not refuse to start:\n{said}");
        assert!(!said.contains("panicked"), "the server panicked:\n{said}");
        (status.code(), said)
    }

    /// Starts a server and kills it after that time, however far it has come by then; panics if it ended by itself.
    #[track_caller]
    pub fn cut_short(settings: &[(&str, &str)], after: Duration) {
        let mut launch = Launch::new(settings);
        std::thread::sleep(after);
        launch.child.kill().expect("the server can be killed");
        let status = launch.child.wait().expect("it is a child of this process");
        let _ = launch.stderr_reader.join();
        let said = said(&launch.stderr);
        assert_eq!(
            status.signal(),
            Some(Signal::KILL.as_raw()),
            "the server ended by itself with {status}:\n{said}"
        );
        assert!(!said.contains("panicked"), "the server panicked:\n{said}");
    }

    /// The number of the server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's root, as `http://127.0.0.1:4437`, or `https://…`.
    pub fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The path under which streams live, as `/v1/stream`.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// The path of a stream or of one of the server's own resources below the stream base.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.base_path)
    }

    /// A handle on the stream of that name, whether it exists or not.
    pub fn stream(&self, name: &str) -> Stream<'_> {
        Stream::new(self, name)
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        self.try_connect()
            .unwrap_or_else(|error| panic!("cannot connect to {}: {error}", self.address))
    }

    /// A new connection, or why there is none.
    pub fn try_connect(&self) -> io::Result<Connection> {
        match &self.tls {
            None => Connection::try_open(self.address),
            Some(tls) => Connection::try_open_tls(self.address, tls),
        }
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.connect().send(request)
    }

    /// Sends a GET for a path on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.send(&Request::new("GET", path))
    }

    /// Panics unless the server answers on `/healthz` and has not panicked; `after` names what came before.
    #[track_caller]
    pub fn assert_well(&self, after: &str) {
        let health = self.try_connect().and_then(|mut connection| {
            connection.write(&Request::new("GET", "/healthz").encode())?;
            connection.read_response("GET")
        });
        let well = matches!(&health, Ok(Some(response)) if response.status() == 200);
        assert!(well, "not healthy after {after}: {health:?}\n{}", self.stderr());
        let said = self.stderr();
        assert!(!said.contains("panicked"), "panicked after {after}:\n{said}");
    }

    /// What the server has written to stderr so far.
    pub fn stderr(&self) -> String {
        said(&self.stderr)
    }

    /// The memory that the server's process holds, in bytes.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        self.process().status_bytes("VmRSS")
    }

    /// What the kernel knows of the server's process.
    pub fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Kills the server unless it has ended by itself; panics if it has panicked.
    #[track_caller]
    pub fn end_anyhow(mut self) {
        let _ = self.child.kill();
        self.wait();
        let said = self.stderr();
        assert!(!said.contains("panicked"), "the server panicked:\n{said}");
    }

    /// Asks the server to stop and returns at once.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks the server by SIGHUP to read its files again, and returns at once.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Kills the server as `kill -9` does, and returns at once, while others still talk to it. [`Server::kill`] comes next.
    pub fn cut_off(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("the server can be signalled");
    }

    /// Kills the server as `kill -9` does, and returns what it wrote to stderr; panics if it had ended before.
    #[track_caller]
    pub fn kill(mut self) -> String {
        self.child.kill().expect("the server can be killed");
        let status = self.wait();
        let said = self.stderr();
        assert_eq!(
            status.signal(),
            Some(Signal::KILL.as_raw()),
            "the server had ended by itself with {status}:\n{said}"
        );
        assert!(!said.contains("panicked"), "the server panicked:\n{said}");
        said
    }

    /// Waits until the server has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the server ends", || self.child.try_wait().ok().flatten());
        if let Some(reader) = self.stderr_reader.take() {
            let _ = reader.join();
        }
        status
    }

    /// Stops the server by SIGTERM, panics unless it exits with 0 and never panicked, and returns its stderr.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.terminate();
        let status = self.wait();
        let said = self.stderr();
        assert!(status.success(), "the server exited with {status}:\n{said}");
        assert!(!said.contains("panicked"), "the server panicked:\n{said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of the server under test\n{}---", self.stderr());
        }
    }
}

/// A process of the binary that has been started and has not been heard of.
struct Launch {
    child: Child,
    stderr: Arc<Mutex<String>>,
    stderr_reader: JoinHandle<()>,
    lines: Receiver<String>,
    data_dir: TempDir,
}

impl Launch {
    #[track_caller]
    fn new(settings: &[(&str, &str)]) -> Self {
        raise_open_files_limit();
        let binary = binary();
        let mut command = Command::new(&binary);
        for (key, _) in std::env::vars_os() {
            // A test's server must not depend on the settings of the shell that runs the test.
            if key.to_string_lossy().starts_with("DS_") {
                command.env_remove(key);
            }
        }
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let mode = std::env::var(MODE_VARIABLE).unwrap_or_else(|_| "memory".to_owned());
        let mut child = command
            .env("DS_SERVER__BIND_ADDRESS", "127.0.0.1:0")
            .env("DS_STORAGE__MODE", mode)
            .env("DS_STORAGE__DATA_DIR", data_dir.path())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
        let pipe = child.stderr.take().expect("stderr was asked for");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        let kept = Arc::clone(&stderr);
        let stderr_reader = std::thread::spawn(move || keep(pipe, &kept, &sender));
        Self {
            child,
            stderr,
            stderr_reader,
            lines,
            data_dir,
        }
    }

    /// The line that says where the server listens; disconnected if the process has ended without it.
    fn listening(&self) -> Result<String, RecvTimeoutError> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE)?;
            if line.contains(LISTENING) {
                return Ok(line);
            }
        }
    }
}

fn said(stderr: &Mutex<String>) -> String {
    stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The binary under test: `TAILWATER_BIN`, or the one built beside this test.
#[track_caller]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TAILWATER_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test knows its own path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests live in target/<profile>/deps");
    let path = profile.join("tailwater");
    assert!(
        path.exists(),
        "{} does not exist: build it with `cargo build -p tailwater` (with --release if the tests run so), \
         or name another binary in TAILWATER_BIN",
        path.display()
    );
    path
}

/// Keeps what the server writes, and passes its lines on while anybody waits for the banner.
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

#[track_caller]
fn parse_banner(line: &str) -> (SocketAddr, String) {
    let rest = line.split(LISTENING).nth(1).unwrap_or_default();
    let rest = rest.split_once("://").map_or("", |(_scheme, rest)| rest);
    let rest = rest.split_whitespace().next().unwrap_or_default();
    let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = address
        .parse()
        .unwrap_or_else(|error| panic!("no address in {line:?}: {error}"));
    (address, path.trim_end_matches('/').to_owned())
}

/// A thousand readers need two thousand descriptors here and a thousand in the server, which inherits
/// this limit.
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit can be raised to the hard one");
}
