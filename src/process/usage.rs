//! What the process takes of the machine, under the names that Prometheus gives it for every program.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::page::Page;

/// Where the kernel lists the files that the process has open. Linux has the latter only as a link to the former, which
/// small containers may lack.
const OPEN_FILES: [&str; 2] = ["/proc/self/fd", "/dev/fd"];
/// Where Linux tells of the process's memory.
const STATUS: &str = "/proc/self/status";

/// When the process began to count, and what it has taken by now.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    began: SystemTime,
}

impl Default for Usage {
    /// The process begins to count now.
    fn default() -> Self {
        Self {
            began: SystemTime::now(),
        }
    }
}

impl Usage {
    /// Adds the metrics. What this system does not tell is left out. Asks the kernel, which takes a millisecond if
    /// thousands of files are open.
    pub fn render(&self, page: &mut Page) {
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            began.as_secs_f64(),
        );
        page.counter(
            "process_cpu_seconds_total",
            "Time of processors that the process took.",
            cpu_time().as_secs_f64(),
        );
        if let Some(bytes) = resident_bytes() {
            page.gauge(
                "process_resident_memory_bytes",
                "Memory that the process holds, files that it has mapped included.",
                bytes,
            );
        }
        if let Some(files) = open_files() {
            page.gauge(
                "process_open_fds",
                "Open files and connections; each connection is one.",
                files,
            );
        }
        if let Some(files_max) = getrlimit(Resource::Nofile).current {
            page.gauge(
                "process_max_fds",
                "How many there may be: raise it by ulimit -n, or LimitNOFILE of systemd.",
                files_max,
            );
        }
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// None where the kernel does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string(STATUS).ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let number = kibibytes.trim().strip_suffix("kB")?.trim_end();
    Some(number.parse::<u64>().ok()? * 1024)
}

/// None where the kernel does not tell.
fn open_files() -> Option<usize> {
    let listing = OPEN_FILES.iter().find_map(|dir| std::fs::read_dir(dir).ok())?;
    // The listing itself is an open file too.
    Some(listing.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::{Page, Usage, cpu_time, open_files};

    #[test]
    fn a_file_counts_while_it_is_open() {
        let before = open_files().expect("the kernel tells");
        let files: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/dev/null").expect("there is one"))
            .collect();
        let meanwhile = open_files().expect("the kernel tells");
        drop(files);
        let after = open_files().expect("the kernel tells");
        // Other tests of this process may open some, but not so many.
        assert!(meanwhile >= before + 40, "{before}, then {meanwhile}");
        assert!(after + 40 <= meanwhile, "{meanwhile}, then {after}");
    }

    #[test]
    fn time_of_processors_grows_with_work_and_memory_is_told() {
        let before = cpu_time();
        while cpu_time() == before {
            std::hint::spin_loop();
        }
        let mut page = Page::default();
        Usage::default().render(&mut page);
        let text = page.into_text();
        for name in [
            "process_start_time_seconds",
            "process_cpu_seconds_total",
            "process_open_fds",
        ] {
            let sample = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name} ")));
            let value: f64 = sample.expect(name).parse().expect("a number");
            assert!(value > 0.0, "{name} is {value}");
        }
    }
}
