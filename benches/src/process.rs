//! A server started for one measurement: alone on its core, with a directory and a port of its own.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::arguments::Setup;
use crate::client::Client;
use crate::contender::{Contender, Setting};
use crate::cores;
use crate::request::Target;
use crate::servers::{Durability, Server};
use crate::usage::Disk;

/// The server's data, in its directory.
const DATA: &str = "data";

/// A server that is not up after this long will not come up; one that stops takes no longer either.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const READY_INTERVAL: Duration = Duration::from_millis(2);

/// So much of a server's log is shown when something has failed.
const LOG_BYTES_MAX: usize = 2_000;

/// Ends with its value.
#[derive(Debug)]
pub(crate) struct Process {
    launch: Launch,
    child: Child,
    target: Target,
    /// Holds the server's data and its log, and is removed after it has ended.
    directory: TempDir,
}

/// How the server is started, each time.
#[derive(Debug)]
struct Launch {
    server: &'static Server,
    durability: Durability,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    server_core: usize,
    client_core: usize,
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By SIGTERM, and it is waited for.
    Clean,
    /// By SIGKILL.
    Killed,
}

/// How long a restart took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Restart {
    pub(crate) stop: Duration,
    /// Until the first answer.
    pub(crate) start: Duration,
}

impl Process {
    /// Starts a server and waits until it answers. Afterwards this thread is on the client's core.
    /// `needs` are settings that the scenario needs.
    pub(crate) fn start(contender: &Contender, needs: &[Setting], setup: &Setup) -> Result<Self> {
        let Contender {
            server,
            durability,
            ref settings,
        } = *contender;
        let directory =
            TempDir::new_in(setup.data_root()).context("cannot make a directory for the server")?;
        let port = free_port()?;
        let data = directory.path().join(DATA);
        let environment = server.environment(durability, port, &data).into_iter();
        let launch = Launch {
            server,
            durability,
            binary: setup.binary(server),
            arguments: server.arguments(durability, port, &data),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value))
                .chain(needs.iter().chain(settings).cloned())
                .collect(),
            server_core: setup.server_core,
            client_core: setup.client_core,
        };
        let child = launch.spawn(directory.path())?;
        let target = Target {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            prefix: server.prefix.to_owned(),
            pid: child.id(),
            disk: Disk::of(directory.path())?,
        };
        let mut process = Self {
            launch,
            child,
            target,
            directory,
        };
        process.wait_until_ready()?;
        Ok(process)
    }

    /// Ends the server and starts it again on the same data. Its process id changes.
    pub(crate) fn restart(&mut self, end: End) -> Result<Restart> {
        let stopping = Instant::now();
        match end {
            End::Clean => self.stop()?,
            End::Killed => self.kill()?,
        }
        let stop = stopping.elapsed();
        let starting = Instant::now();
        self.child = self.launch.spawn(self.directory.path())?;
        self.target.pid = self.child.id();
        self.wait_until_ready()?;
        Ok(Restart {
            stop,
            start: starting.elapsed(),
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn durability(&self) -> Durability {
        self.launch.durability
    }

    /// Where the server keeps its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join(DATA)
    }

    /// The last that the server has written to its standard output and error, for reports of failures.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(log_path(self.directory.path())).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_BYTES_MAX)..]).into_owned()
    }

    /// Lets the server do nothing until it goes on.
    pub(crate) fn stand_still(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the server has no process id")?, signal)?;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "it ended with {status}; {}", self.log());
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it does not end; {}", self.log());
            std::thread::sleep(READY_INTERVAL);
        }
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let name = self.launch.server.name;
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ended with {status} at its start; {}", self.log());
            }
            ensure!(
                Instant::now() < deadline,
                "{name} does not come up; {}",
                self.log()
            );
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
        if let Err(error) = self.kill() {
            eprintln!("loadgen: cannot end process {}: {error}", self.child.id());
        }
    }
}

impl Launch {
    /// A child inherits our core before its first thread starts, so it cannot run elsewhere.
    fn spawn(&self, directory: &Path) -> Result<Child> {
        cores::pin_to(self.server_core)?;
        let child = self.spawn_here(directory);
        cores::pin_to(self.client_core)?;
        child.with_context(|| format!("cannot start {}", self.binary.display()))
    }

    fn spawn_here(&self, directory: &Path) -> Result<Child> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log_path(directory))?;
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(child)
    }
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("server.log")
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
