//! A server started for one measurement: alone on its core, with a directory and a port of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::arguments::Setup;
use crate::client::Client;
use crate::cores;
use crate::request::Target;
use crate::servers::Server;

/// A server that is not up after this long will not come up.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
const READY_INTERVAL: Duration = Duration::from_millis(10);

/// So much of a server's log is shown when something has failed.
const LOG_BYTES_MAX: usize = 2_000;

/// Ends with its value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    target: Target,
    /// Holds the server's data and its log, and is removed after it has ended.
    directory: TempDir,
}

impl Process {
    /// Starts a server and waits until it answers. Afterwards this thread is on the client's core.
    pub(crate) fn start(server: &Server, setup: &Setup) -> Result<Self> {
        let binary = setup.binary(server);
        let directory = tempfile::tempdir().context("cannot make a directory for the server")?;
        let port = free_port()?;
        // A child inherits our core before its first thread starts, so it cannot run elsewhere.
        cores::pin_to(setup.server_core)?;
        let child = spawn(server, &binary, port, directory.path());
        cores::pin_to(setup.client_core)?;
        let child = child.with_context(|| format!("cannot start {}", binary.display()))?;
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let target = Target {
            address,
            prefix: server.prefix.to_owned(),
            pid: child.id(),
        };
        let mut process = Self {
            child,
            target,
            directory,
        };
        process
            .wait_until_ready()
            .with_context(|| format!("{} does not come up", server.name))?;
        Ok(process)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The last that the server has written to its standard output and error, for reports of failures.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(log_path(self.directory.path())).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_BYTES_MAX)..]).into_owned()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}; {}", self.log());
            }
            if Instant::now() > deadline {
                bail!("no answer; {}", self.log());
            }
            std::thread::sleep(READY_INTERVAL);
        }
        Ok(())
    }

    /// Any answer will do; that there is no such stream is one.
    fn is_ready(&self) -> bool {
        Client::connect(self.target.address)
            .and_then(|mut client| client.send(&self.target.read("is-it-up", "-1")))
            .is_ok_and(|answer| answer.status < 500)
    }
}

impl Drop for Process {
    /// Kills: nothing is kept, and a graceful end would wait for thousands of subscribers.
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("loadgen: cannot end process {}: {error}", self.child.id());
        }
    }
}

fn spawn(server: &Server, binary: &Path, port: u16, directory: &Path) -> Result<Child> {
    let log = File::create(log_path(directory))?;
    let child = Command::new(binary)
        .args(server.arguments(port, directory))
        .envs(server.environment(port, directory))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("server.log")
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
