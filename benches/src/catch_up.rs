//! Catch-up reads: each connection reads a large stream from its start to its tail, then again.

use anyhow::{Result, ensure};
use clap::Args;

use crate::closed_loop::{self, Window, Workload};
use crate::contender::Setting;
use crate::errands;
use crate::process::{End, Process};
use crate::request::{BINARY, Target};
use crate::response::Head;
use crate::scenario::{Outcome, Pace, Reading};
use crate::statistics::to_f64;

/// Streams are filled by so many connections.
const WRITERS: usize = 64;

/// What Tailwater remembers of an append that is not compacted, at most about.
const MEMORY_BYTES_PER_APPEND: u64 = 128;

/// Connections are spread evenly over the streams.
#[derive(Debug, Clone, Args)]
pub(crate) struct CatchUp {
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 4)]
    pub(crate) streams: usize,
    /// Size of each stream.
    #[arg(long, default_value_t = 64)]
    pub(crate) stream_mib: u64,
    /// Size of the appends that fill the streams; a divisor of 1 MiB.
    #[arg(long, default_value_t = 256 * 1024, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) append_bytes: u64,
    /// Reads again after a restart, before which Tailwater compacts; until then it does not.
    #[arg(long)]
    pub(crate) restart: bool,
}

impl CatchUp {
    pub(crate) fn run(&self, process: &mut Process, pace: &Pace) -> Result<Outcome> {
        let names = self.fill_streams(process.target())?;
        let window = self.read(process.target(), &names, pace)?;
        let mut outcome = Outcome {
            readings: readings(&window, "MB/s", "CPU s per GB"),
            spent: window.spent,
        };
        if self.restart {
            process.restart(End::Clean)?;
            let window = self.read(process.target(), &names, pace)?;
            let after = readings(&window, "MB/s after a restart", "CPU s per GB after a restart");
            outcome.readings.extend(after);
        }
        Ok(outcome)
    }

    /// Also in a report.
    pub(crate) fn title(&self) -> String {
        let mut title = format!("catch-up, {} connections", self.connections);
        if self.restart {
            let (mib, bytes) = (self.stream_mib, self.append_bytes);
            title.push_str(&format!(", {mib} MiB in appends of {bytes} bytes"));
        }
        title
    }

    /// To read before compaction, it must not begin.
    pub(crate) fn needs(&self) -> Vec<Setting> {
        if !self.restart {
            return Vec::new();
        }
        let appends = self.streams as u64 * self.appends_per_stream();
        // A quarter of the memory is for what is not compacted.
        let memory_bytes = (4 * appends * MEMORY_BYTES_PER_APPEND).max(100 << 20);
        vec![
            ("DS_STORAGE__FOLD_BYTES".to_owned(), "1TiB".to_owned()),
            ("DS_LIMITS__MAX_MEMORY_BYTES".to_owned(), memory_bytes.to_string()),
        ]
    }

    fn appends_per_stream(&self) -> u64 {
        self.stream_mib * (1 << 20) / self.append_bytes
    }

    fn read(&self, target: &Target, names: &[String], pace: &Pace) -> Result<Window> {
        let readers = (0..self.connections)
            .map(|index| Reader::new(target, &names[index % names.len()]))
            .collect();
        let mut workload = CatchingUp {
            target,
            readers,
            stream_bytes: self.stream_mib * 1024 * 1024,
        };
        closed_loop::run(target, self.connections, &mut workload, pace)
    }

    fn fill_streams(&self, target: &Target) -> Result<Vec<String>> {
        ensure!(
            (1 << 20) % self.append_bytes == 0,
            "--append-bytes must be a divisor of 1 MiB"
        );
        let record = vec![b'c'; usize::try_from(self.append_bytes)?];
        let names: Vec<String> = (0..self.streams.max(1))
            .map(|index| format!("catch-up-{index}"))
            .collect();
        for name in &names {
            errands::run(target, 1, 1, |_| target.create(name, BINARY))?;
            let append = target.append(name, BINARY, &record);
            errands::run(target, WRITERS, self.appends_per_stream(), |_| append.clone())?;
        }
        Ok(names)
    }
}

fn readings(window: &Window, rate: &'static str, cost: &'static str) -> Vec<Reading> {
    let Window { tally, spent } = window;
    let megabytes = to_f64(tally.body_bytes) / 1e6;
    vec![
        Reading::higher_is_better(rate, megabytes / spent.elapsed.as_secs_f64()),
        Reading::lower_is_better(cost, spent.server_cpu.as_secs_f64() * 1e3 / megabytes),
    ]
}

/// Where a connection stands in its stream.
struct Reader {
    stream: String,
    /// The request for what comes next.
    request: Vec<u8>,
    /// Bytes read since the start of the stream.
    read_bytes: u64,
}

impl Reader {
    fn new(target: &Target, stream: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            request: target.read(stream, "-1"),
            read_bytes: 0,
        }
    }
}

struct CatchingUp<'a> {
    target: &'a Target,
    readers: Vec<Reader>,
    stream_bytes: u64,
}

impl Workload for CatchingUp<'_> {
    fn request(&mut self, connection: usize) -> &[u8] {
        &self.readers[connection].request
    }

    fn answered(&mut self, connection: usize, head: &Head, body_bytes: u64) -> Result<(), String> {
        let reader = &mut self.readers[connection];
        reader.read_bytes += body_bytes;
        if !head.up_to_date {
            reader.request = self.target.read(&reader.stream, &head.next_offset);
            return Ok(());
        }
        let read_bytes = reader.read_bytes;
        *reader = Reader::new(self.target, &reader.stream);
        if read_bytes == self.stream_bytes {
            return Ok(());
        }
        Err(format!(
            "up to date after {read_bytes} bytes of {}",
            self.stream_bytes
        ))
    }
}
