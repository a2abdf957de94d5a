//! What the kernel says a process has used. Knows `/proc`, and nothing of who the process is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Measures a span of time, and what the server and this process used in it.
#[derive(Debug)]
pub(crate) struct Meter {
    server: u32,
    /// Whether processes that the server has started, and that have ended, count as well.
    with_ended_children: bool,
    server_cpu: Duration,
    client_cpu: Duration,
    disk: Option<Disk>,
    disk_written: u64,
    started: Instant,
}

/// What a [`Meter`] measured. CPU times are user and system time together, of all threads, in steps
/// of the kernel's clock tick (10 ms).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    /// Bytes that were written to the server's disk, by whomever; 0 if the disk is not known.
    pub(crate) disk_written_bytes: u64,
}

impl Meter {
    /// Starts to measure; `server` is a process id.
    pub(crate) fn start(server: u32, disk: Option<Disk>) -> Result<Self> {
        Self::of(server, disk, false)
    }

    /// The same of a server that has a process for each connection: those of connections that have ended count.
    pub(crate) fn start_with_ended_children(server: u32, disk: Option<Disk>) -> Result<Self> {
        Self::of(server, disk, true)
    }

    fn of(server: u32, disk: Option<Disk>, with_ended_children: bool) -> Result<Self> {
        Ok(Self {
            server,
            with_ended_children,
            server_cpu: cpu_time(server, with_ended_children)?,
            client_cpu: cpu_time(std::process::id(), false)?,
            disk,
            disk_written: written_bytes(disk)?,
            started: Instant::now(),
        })
    }

    pub(crate) fn stop(&self) -> Result<Spent> {
        Ok(Spent {
            elapsed: self.started.elapsed(),
            server_cpu: cpu_time(self.server, self.with_ended_children)?.saturating_sub(self.server_cpu),
            client_cpu: cpu_time(std::process::id(), false)?.saturating_sub(self.client_cpu),
            disk_written_bytes: written_bytes(self.disk)? - self.disk_written,
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

/// User and system time of all threads of a process, and of those of its children that have ended if they count.
fn cpu_time(pid: u32, with_ended_children: bool) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the measured process is gone")?;
    let ticks =
        parse_cpu_ticks(&stat, with_ended_children).context("/proc/<pid>/stat has an unknown form")?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    memory_kib(pid, "VmRSS:")
}

/// Resident memory of a process that is no file's, in KiB.
pub(crate) fn anonymous_kib(pid: u32) -> Result<u64> {
    memory_kib(pid, "RssAnon:")
}

fn memory_kib(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the measured process is gone")?;
    parse_memory_kib(&status, key).context("/proc/<pid>/status has an unknown form")
}

/// How many maps a process has.
pub(crate) fn map_count(pid: u32) -> Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("the measured process is gone")?;
    Ok(maps.lines().count())
}

/// How many descriptors a process has open.
pub(crate) fn descriptor_count(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))
        .context("the measured process is gone")?
        .count())
}

/// What the files below a directory take of the disk, in bytes.
pub(crate) fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            entry.metadata()?.blocks() * 512
        };
    }
    Ok(bytes)
}

/// A block device by its numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    major: u32,
    minor: u32,
}

impl Disk {
    /// The one that holds this file or directory; none if that is not on a block device.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>> {
        let device = fs::metadata(path)?.dev();
        let disk = Self {
            major: rustix::fs::major(device),
            minor: rustix::fs::minor(device),
        };
        Ok(disk.statistics().exists().then_some(disk))
    }

    fn statistics(self) -> PathBuf {
        format!("/sys/dev/block/{}:{}/stat", self.major, self.minor).into()
    }
}

/// Bytes written to a disk since the machine started. `write_bytes` of `/proc/<pid>/io` would be the server's
/// alone, but counts whole folios, of up to 2 MiB, for each page of them that is written.
fn written_bytes(disk: Option<Disk>) -> Result<u64> {
    let Some(disk) = disk else { return Ok(0) };
    let statistics = fs::read_to_string(disk.statistics()).context("the disk is gone")?;
    parse_written_bytes(&statistics).context("the disk's statistics have an unknown form")
}

/// `utime + stime` of `/proc/<pid>/stat` (proc_pid_stat(5), fields 14 and 15), and `cutime + cstime` behind them. The second field is the
/// program's name in parentheses and may hold anything, so counting starts behind the last parenthesis.
fn parse_cpu_ticks(stat: &str, with_ended_children: bool) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields = fields.split_ascii_whitespace().skip(11);
    let counted = if with_ended_children { 4 } else { 2 };
    let ticks: Vec<u64> = fields
        .take(counted)
        .map_while(|field| field.parse().ok())
        .collect();
    (ticks.len() == counted).then(|| ticks.iter().sum())
}

fn parse_memory_kib(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The seventh field of a block device's statistics, in sectors of 512 bytes.
fn parse_written_bytes(statistics: &str) -> Option<u64> {
    let sectors: u64 = statistics.split_ascii_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * 512)
}

#[cfg(test)]
mod tests {
    use super::{
        descriptor_count, disk_bytes, map_count, parse_cpu_ticks, parse_memory_kib, parse_written_bytes,
        resident_kib,
    };

    #[test]
    fn cpu_ticks_are_found_behind_a_hostile_program_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 300 55 0 0 20 0 1 0 100 0 0";
        assert_eq!(parse_cpu_ticks(stat, false), Some(355));
        assert_eq!(parse_cpu_ticks("42 (a) S 1", false), None);
        let parent = stat.replace("300 55 0 0", "300 55 7 1");
        assert_eq!(parse_cpu_ticks(&parent, true), Some(363));
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(
            parse_memory_kib("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\n", "VmRSS:"),
            Some(1234)
        );
        assert_eq!(parse_memory_kib("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn a_live_process_has_resident_memory() {
        assert!(resident_kib(std::process::id()).expect("our own status") > 0);
    }

    #[test]
    fn a_live_process_has_maps_and_descriptors() {
        assert!(map_count(std::process::id()).expect("our own maps") > 0);
        assert!(descriptor_count(std::process::id()).expect("our own descriptors") > 0);
    }

    #[test]
    fn what_is_written_to_a_disk_is_counted_in_sectors() {
        let statistics = "  100 1 800 30   200 2 24 40   0 50 70 0 0 0 0 9 8\n";
        assert_eq!(parse_written_bytes(statistics), Some(24 * 512));
        assert_eq!(parse_written_bytes("1 2 3"), None);
    }

    #[test]
    fn files_below_a_directory_take_space() {
        let directory = tempfile::tempdir().expect("a directory");
        let below = directory.path().join("below");
        std::fs::create_dir(&below).expect("made");
        std::fs::write(below.join("file"), vec![1; 100_000]).expect("written");
        assert!(disk_bytes(directory.path()).expect("readable") >= 100_000);
    }
}
