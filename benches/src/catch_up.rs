//! Catch-up reads: each connection reads a large stream from its start to its tail, then again.

use anyhow::Result;
use clap::Args;

use crate::client::Client;
use crate::closed_loop::{self, Window, Workload};
use crate::request::{BINARY, Target};
use crate::response::Head;
use crate::scenario::{Outcome, Pace, Reading};
use crate::statistics::to_f64;

const APPEND_BYTES: usize = 256 * 1024;
const APPENDS_PER_MIB: u64 = 4;

/// Connections are spread evenly over the streams.
#[derive(Debug, Clone, Args)]
pub(crate) struct CatchUp {
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 4)]
    pub(crate) streams: usize,
    /// Size of each stream; it is filled with appends of 256 KiB.
    #[arg(long, default_value_t = 64)]
    pub(crate) stream_mib: u64,
}

impl CatchUp {
    pub(crate) fn run(&self, target: &Target, pace: &Pace) -> Result<Outcome> {
        let names = self.fill_streams(target)?;
        let readers = (0..self.connections)
            .map(|index| Reader::new(target, &names[index % names.len()]))
            .collect();
        let mut workload = CatchingUp {
            target,
            readers,
            stream_bytes: self.stream_mib * 1024 * 1024,
        };
        let window = closed_loop::run(target, self.connections, &mut workload, pace)?;
        Ok(report(&window))
    }

    fn fill_streams(&self, target: &Target) -> Result<Vec<String>> {
        let mut client = Client::connect(target.address)?;
        let record = vec![b'c'; APPEND_BYTES];
        let names: Vec<String> = (0..self.streams.max(1))
            .map(|index| format!("catch-up-{index}"))
            .collect();
        for name in &names {
            client.create(target, name, BINARY)?;
            for _ in 0..self.stream_mib * APPENDS_PER_MIB {
                client.append(target, name, BINARY, &record)?;
            }
        }
        Ok(names)
    }
}

fn report(window: &Window) -> Outcome {
    let Window { tally, spent } = window;
    let megabytes = to_f64(tally.body_bytes) / 1e6;
    Outcome {
        readings: vec![
            Reading::higher_is_better("MB/s", megabytes / spent.elapsed.as_secs_f64()),
            Reading::lower_is_better("CPU s per GB", spent.server_cpu.as_secs_f64() * 1e3 / megabytes),
        ],
        spent: *spent,
    }
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
