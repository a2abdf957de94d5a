//! Starts a real Envoy, keeps what it says, stops it. Knows nothing of what it is configured to do.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::connection::Connection;
use crate::message::{Request, Response};
use crate::patience::eventually;

/// Names an Envoy other than the one that `make test` installs.
const ENVOY_VARIABLE: &str = "ENVOY";
/// Where `make test` installs it, from the top of the repository.
const INSTALLED: &str = "target/tools/envoy/envoy/_bin/envoy";

/// A running Envoy. It is killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    admin: SocketAddr,
    output: Arc<Mutex<String>>,
}

impl Envoy {
    /// Starts an Envoy with the configuration in that file, whose ports may be 0, and waits until it takes connections.
    /// What it says of itself goes into `directory`.
    #[track_caller]
    pub fn start(configuration: &Path, directory: &Path) -> Self {
        let admin_file = directory.join("admin-address");
        let mut child = Command::new(binary())
            .args(["--concurrency", "2", "--disable-hot-restart", "-l", "warning"])
            // The access log is written at once, and not every ten seconds.
            .args(["--file-flush-interval-msec", "10"])
            .arg("--admin-address-path")
            .arg(&admin_file)
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()));
        let output = Arc::new(Mutex::new(String::new()));
        keep(child.stdout.take().expect("stdout was asked for"), &output);
        keep(child.stderr.take().expect("stderr was asked for"), &output);
        let admin = eventually("Envoy is ready", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("Envoy ended with {status}:\n{}", said(&output));
            }
            let admin = std::fs::read_to_string(&admin_file).ok()?.trim().parse().ok()?;
            (ask(admin, "GET", "/ready")?.status() == 200).then_some(admin)
        });
        Self { child, admin, output }
    }

    /// Whether an Envoy would start with that configuration: nothing, or what it says against it.
    ///
    /// # Errors
    /// What Envoy has written about the configuration.
    pub fn validate(configuration: &Path) -> Result<(), String> {
        let output = Command::new(binary())
            .args(["--mode", "validate", "-l", "warning", "-c"])
            .arg(configuration)
            .output()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()));
        let said = crate::node::written(&output);
        // A warning tells of a setting that is about to go away, or does not do what it seems to.
        if output.status.success() && !said.contains("[warning]") {
            Ok(())
        } else {
            Err(said)
        }
    }

    /// Where its listener of that name takes connections.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        let listeners = self.admin("GET", "/listeners?format=json").expect(200).json();
        let statuses = listeners["listener_statuses"].as_array();
        let found = statuses.and_then(|all| all.iter().find(|status| status["name"] == name));
        let socket = found.map(|status| &status["local_address"]["socket_address"]);
        let address = socket.and_then(|socket| {
            let (address, port) = (socket["address"].as_str()?, socket["port_value"].as_u64()?);
            format!("{address}:{port}").parse().ok()
        });
        address.unwrap_or_else(|| panic!("no listener {name} in {listeners}"))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its admin page is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin page.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str) -> Response {
        ask(self.admin, method, path).unwrap_or_else(|| panic!("no answer of the admin page to {path}"))
    }

    /// One of its counters or gauges, such as `cluster.server.upstream_rq_retry`; 0 if it does not know it yet.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let page = self.admin("GET", &format!("/stats?filter=^{name}$")).expect(200);
        let value = page.text().lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            (found == name).then(|| value.parse().ok()).flatten()
        });
        value.unwrap_or(0)
    }

    /// All that it has written so far, the access log among it.
    pub fn output(&self) -> String {
        said(&self.output)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of Envoy\n{}---", self.output());
        }
    }
}

/// The Envoy of the tests: the one that `ENVOY` names, or the one that `make test` has installed.
#[track_caller]
pub fn binary() -> PathBuf {
    let path = std::env::var_os(ENVOY_VARIABLE).map_or_else(|| repository().join(INSTALLED), PathBuf::from);
    assert!(
        path.exists(),
        "{} does not exist: run `make test-needs`, or name an Envoy 1.40 in {ENVOY_VARIABLE}",
        path.display()
    );
    path
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    let package = crate::node::package_directory();
    package
        .parent()
        .expect("the package is in the repository")
        .to_owned()
}

fn ask(admin: SocketAddr, method: &str, path: &str) -> Option<Response> {
    let mut connection = Connection::try_open(admin).ok()?;
    connection.write(&Request::new(method, path).encode()).ok()?;
    connection.read_response(method).ok().flatten()
}

fn keep(pipe: impl Read + Send + 'static, kept: &Arc<Mutex<String>>) {
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_str(&String::from_utf8_lossy(&line));
            kept.push('\n');
        }
    });
}

fn said(output: &Mutex<String>) -> String {
    output.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
