//! What the kernel knows of a process: memory, descriptors, maps. All of it is read from `/proc`.

use std::path::PathBuf;

/// A running process.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process of that number.
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// One of the sizes in `/proc/PID/status`, such as `VmRSS` or `RssAnon`, in bytes.
    #[track_caller]
    pub fn status_bytes(self, field: &str) -> u64 {
        let path = self.entry("status");
        let status =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
            .map_or_else(|| panic!("no {field} in {status}"), |kibibytes| kibibytes * 1024)
    }

    /// How many descriptors it has open.
    #[track_caller]
    pub fn descriptors(self) -> usize {
        let path = self.entry("fd");
        let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.count()
    }

    /// How many pieces of its address space are files below that directory.
    #[track_caller]
    pub fn maps_of(self, dir: &str) -> usize {
        let path = self.entry("maps");
        let maps =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        maps.lines().filter(|line| line.contains(dir)).count()
    }

    fn entry(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }
}
