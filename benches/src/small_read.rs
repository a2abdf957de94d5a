//! Small reads: each connection reads a stream of one record from its start.

use anyhow::Result;
use clap::Args;

use crate::client::Client;
use crate::closed_loop::{self, Window, Workload};
use crate::request::{BINARY, Target};
use crate::response::Head;
use crate::scenario::{Outcome, Pace, Reading};
use crate::statistics::{percentile_ms, to_f64};

/// Every connection has its own stream.
#[derive(Debug, Clone, Args)]
pub(crate) struct SmallRead {
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 256)]
    pub(crate) record_bytes: usize,
}

impl SmallRead {
    pub(crate) fn run(&self, target: &Target, pace: &Pace) -> Result<Outcome> {
        let mut client = Client::connect(target.address)?;
        let record = vec![b'r'; self.record_bytes];
        let mut requests = Vec::with_capacity(self.connections);
        for index in 0..self.connections {
            let name = format!("read-{index}");
            client.create(target, &name, BINARY)?;
            client.append(target, &name, BINARY, &record)?;
            requests.push(target.read(&name, "-1"));
        }
        let mut reading = Reads {
            requests,
            record_bytes: self.record_bytes as u64,
        };
        let window = closed_loop::run(target, self.connections, &mut reading, pace)?;
        Ok(report(&window))
    }
}

fn report(window: &Window) -> Outcome {
    let Window { tally, spent } = window;
    let operations = to_f64(tally.operations);
    Outcome {
        readings: vec![
            Reading::higher_is_better("read/s", operations / spent.elapsed.as_secs_f64()),
            Reading::lower_is_better(
                "CPU µs per read",
                spent.server_cpu.as_secs_f64() * 1e6 / operations,
            ),
            Reading::lower_is_better("p99 ms", percentile_ms(&tally.latencies, 99.0)),
        ],
        spent: *spent,
    }
}

/// Every connection's read, the same each time.
struct Reads {
    requests: Vec<Vec<u8>>,
    record_bytes: u64,
}

impl Workload for Reads {
    fn request(&mut self, connection: usize) -> &[u8] {
        &self.requests[connection]
    }

    fn answered(&mut self, _connection: usize, _head: &Head, body_bytes: u64) -> Result<(), String> {
        if body_bytes == self.record_bytes {
            return Ok(());
        }
        Err(format!(
            "a read of {body_bytes} bytes instead of {}",
            self.record_bytes
        ))
    }
}
