//! Appends: N connections over M streams.

use anyhow::Result;
use clap::Args;

use crate::client::Client;
use crate::closed_loop::{self, Window, Workload};
use crate::request::{BINARY, Target};
use crate::response::Head;
use crate::scenario::{Outcome, Pace, Reading};
use crate::statistics::{percentile_ms, to_f64};

/// Connections are spread evenly over the streams.
#[derive(Debug, Clone, Args)]
pub(crate) struct Append {
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Streams to append to; as many as connections unless given.
    #[arg(long)]
    pub(crate) streams: Option<usize>,
    #[arg(long, default_value_t = 256)]
    pub(crate) record_bytes: usize,
}

impl Append {
    pub(crate) fn run(&self, target: &Target, pace: &Pace) -> Result<Outcome> {
        let names = self.create_streams(target)?;
        let record = vec![b'r'; self.record_bytes];
        let requests = names
            .iter()
            .map(|name| target.append(name, BINARY, &record))
            .collect();
        let window = closed_loop::run(target, self.connections, &mut Appending { requests }, pace)?;
        Ok(report(&window))
    }

    fn create_streams(&self, target: &Target) -> Result<Vec<String>> {
        let mut client = Client::connect(target.address)?;
        let names: Vec<String> = (0..self.streams.unwrap_or(self.connections).max(1))
            .map(|index| format!("append-{index}"))
            .collect();
        for name in &names {
            client.create(target, name, BINARY)?;
        }
        Ok(names)
    }
}

fn report(window: &Window) -> Outcome {
    let Window { tally, spent } = window;
    let operations = to_f64(tally.operations);
    Outcome {
        readings: vec![
            Reading::higher_is_better("append/s", operations / spent.elapsed.as_secs_f64()),
            Reading::lower_is_better(
                "CPU µs per append",
                spent.server_cpu.as_secs_f64() * 1e6 / operations,
            ),
            Reading::lower_is_better("p50 ms", percentile_ms(&tally.latencies, 50.0)),
            Reading::lower_is_better("p99 ms", percentile_ms(&tally.latencies, 99.0)),
        ],
        spent: *spent,
    }
}

/// Every stream's append, the same bytes each time.
struct Appending {
    requests: Vec<Vec<u8>>,
}

impl Workload for Appending {
    fn request(&mut self, connection: usize) -> &[u8] {
        &self.requests[connection % self.requests.len()]
    }

    fn answered(&mut self, _connection: usize, _head: &Head, _body_bytes: u64) -> Result<(), String> {
        Ok(())
    }
}
