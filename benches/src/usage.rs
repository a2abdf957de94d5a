//! What the kernel says a process has used. Knows `/proc`, and nothing of who the process is.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Measures a span of time, and what the server and this process used in it.
#[derive(Debug)]
pub(crate) struct Meter {
    server: u32,
    server_cpu: Duration,
    client_cpu: Duration,
    started: Instant,
}

/// What a [`Meter`] measured. CPU times are user and system time together, of all threads, in steps
/// of the kernel's clock tick (10 ms).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
}

impl Meter {
    /// Starts to measure; `server` is a process id.
    pub(crate) fn start(server: u32) -> Result<Self> {
        Ok(Self {
            server,
            server_cpu: cpu_time(server)?,
            client_cpu: cpu_time(std::process::id())?,
            started: Instant::now(),
        })
    }

    pub(crate) fn stop(&self) -> Result<Spent> {
        Ok(Spent {
            elapsed: self.started.elapsed(),
            server_cpu: cpu_time(self.server)?.saturating_sub(self.server_cpu),
            client_cpu: cpu_time(std::process::id())?.saturating_sub(self.client_cpu),
        })
    }
}

impl Spent {
    /// The share of its core that the server used, from 0 to 1. If this is far below 1 in a closed loop,
    /// and [`client_busy`](Self::client_busy) too, other processes were in the way.
    pub(crate) fn server_busy(&self) -> f64 {
        self.server_cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// The share of its core that the generator itself used, from 0 to 1. Near 1 it was the generator
    /// that set the pace: rates are then too low, CPU per operation still holds.
    pub(crate) fn client_busy(&self) -> f64 {
        self.client_cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// User and system time of all threads of a process.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the measured process is gone")?;
    let ticks = parse_cpu_ticks(&stat).context("/proc/<pid>/stat has an unknown form")?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the measured process is gone")?;
    parse_resident_kib(&status).context("/proc/<pid>/status has an unknown form")
}

/// `utime + stime` of `/proc/<pid>/stat` (proc_pid_stat(5), fields 14 and 15). The second field is the
/// program's name in parentheses and may hold anything, so counting starts behind the last parenthesis.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{parse_cpu_ticks, parse_resident_kib, resident_kib};

    #[test]
    fn cpu_ticks_are_found_behind_a_hostile_program_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 300 55 0 0 20 0 1 0 100 0 0";
        assert_eq!(parse_cpu_ticks(stat), Some(355));
        assert_eq!(parse_cpu_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(
            parse_resident_kib("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\n"),
            Some(1234)
        );
        assert_eq!(parse_resident_kib("Name:\tx\n"), None);
    }

    #[test]
    fn a_live_process_has_resident_memory() {
        assert!(resident_kib(std::process::id()).expect("our own status") > 0);
    }
}
