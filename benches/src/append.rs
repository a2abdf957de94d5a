//! Appends: N connections over M streams.

use anyhow::Result;
use clap::Args;

use crate::closed_loop::{self, Window, Workload};
use crate::contender::Setting;
use crate::errands;
use crate::process::Process;
use crate::request::{AppendTemplate, BINARY, ProducerMark, Target};
use crate::response::Head;
use crate::scenario::{Outcome, Pace, Reading};
use crate::servers::Durability;
use crate::statistics::{percentile_ms, to_f64};

/// Streams are created by so many connections.
const CREATORS: usize = 64;

/// Tailwater holds as many streams ready as fit into a quarter of its memory, at 2 KiB each.
const MEMORY_BYTES_PER_STREAM: usize = 8 << 10;
/// What Tailwater's memory is unless it is told.
const MEMORY_BYTES_DEFAULT: usize = 100 << 20;

/// Connections are spread evenly over the streams, or go round equal shares of them if there are more streams.
#[derive(Debug, Clone, Args)]
pub(crate) struct Append {
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Streams to append to; as many as connections unless given.
    #[arg(long)]
    pub(crate) streams: Option<usize>,
    #[arg(long, default_value_t = 256)]
    pub(crate) record_bytes: usize,
    /// Append as idempotent producers, one for each connection.
    #[arg(long)]
    pub(crate) producers: bool,
}

impl Append {
    pub(crate) fn run(&self, process: &Process, pace: &Pace) -> Result<Outcome> {
        self.create_streams(process.target())?;
        self.measure_round(process, pace, 0)
    }

    /// Appends to streams that were created before, and to which earlier rounds may have appended.
    pub(crate) fn measure_round(&self, process: &Process, pace: &Pace, round: u32) -> Result<Outcome> {
        let target = process.target();
        let window = self.append(target, pace, round)?;
        let mut outcome = report(&window);
        if process.durability() != Durability::Memory {
            outcome.readings.extend(self.on_disk(&window, target));
        }
        Ok(outcome)
    }

    /// Appends to streams that were created before.
    pub(crate) fn measure(&self, target: &Target, pace: &Pace) -> Result<Window> {
        self.append(target, pace, 0)
    }

    /// A producer begins anew in each round: an epoch tells the server so.
    fn append(&self, target: &Target, pace: &Pace, epoch: u32) -> Result<Window> {
        let record = vec![b'r'; self.record_bytes];
        let mut appending = Appending {
            template: target.append_template(STREAM_PREFIX, BINARY, &record),
            lanes: (0..self.connections)
                .map(|connection| Lane::new(connection, self.connections, self.stream_count()))
                .collect(),
            epoch: self.producers.then_some(epoch),
            buffer: Vec::new(),
        };
        closed_loop::run(target, self.connections, &mut appending, pace)
    }

    /// What tells of work in the background: a closed loop sends nothing while it is held up, so percentiles
    /// hardly show it. Without a known disk, what was written to it is left out.
    fn on_disk(&self, window: &Window, target: &Target) -> Vec<Reading> {
        let longest_ms = percentile_ms(&window.tally.latencies, 100.0);
        let mut readings = vec![Reading::lower_is_better("longest ms", longest_ms)];
        if target.disk.is_some() {
            let appended = to_f64(window.tally.operations) * to_f64(self.record_bytes as u64);
            let written = to_f64(window.spent.disk_written_bytes) / appended;
            readings.push(Reading::lower_is_better(
                "bytes to disk per byte appended",
                written,
            ));
        }
        readings
    }

    /// Also in a report.
    pub(crate) fn title(&self) -> String {
        let mut title = format!("append, {} connections", self.connections);
        match self.streams {
            Some(1) => title.push_str(", 1 stream"),
            Some(streams) => title.push_str(&format!(", {streams} streams")),
            None => {}
        }
        if self.producers {
            title.push_str(", producers");
        }
        title
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.streams.unwrap_or(self.connections).max(1)
    }

    /// Memory to hold all streams ready, if that is more than what there is by default.
    pub(crate) fn needs(&self) -> Vec<Setting> {
        let memory_bytes = self.stream_count() * MEMORY_BYTES_PER_STREAM;
        if memory_bytes <= MEMORY_BYTES_DEFAULT {
            return Vec::new();
        }
        vec![("DS_LIMITS__MAX_MEMORY_BYTES".to_owned(), memory_bytes.to_string())]
    }

    pub(crate) fn create_streams(&self, target: &Target) -> Result<()> {
        errands::run(target, CREATORS, self.stream_count() as u64, |index| {
            target.create(&format!("{STREAM_PREFIX}{index}"), BINARY)
        })?;
        Ok(())
    }
}

const STREAM_PREFIX: &str = "append-";

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

/// The streams that a connection goes round.
#[derive(Debug)]
struct Lane {
    first: usize,
    /// From one stream to the next.
    step: usize,
    /// How many there are. Always >= 1.
    count: usize,
    /// How many of this round are done. Always < `count`.
    done: usize,
    /// Rounds that are done, so appends to each stream: the producer's sequence number.
    round: u64,
}

impl Lane {
    fn new(connection: usize, connections: usize, streams: usize) -> Self {
        Self {
            first: connection % streams,
            step: connections,
            count: (streams.saturating_sub(connection)).div_ceil(connections).max(1),
            done: 0,
            round: 0,
        }
    }

    /// The next stream, and the number of this append to it.
    fn next(&mut self) -> (usize, u64) {
        let next = (self.first + self.done * self.step, self.round);
        self.done += 1;
        if self.done == self.count {
            self.done = 0;
            self.round += 1;
        }
        next
    }
}

/// The same record again and again.
struct Appending {
    template: AppendTemplate,
    /// By connection.
    lanes: Vec<Lane>,
    /// That of the producers; none if there are no producers.
    epoch: Option<u32>,
    buffer: Vec<u8>,
}

impl Workload for Appending {
    fn request(&mut self, connection: usize) -> &[u8] {
        let (stream, seq) = self.lanes[connection].next();
        let mark = self.epoch.map(|epoch| ProducerMark {
            producer: connection,
            epoch,
            seq,
        });
        self.template.fill(&mut self.buffer, stream, mark);
        &self.buffer
    }

    fn answered(&mut self, _connection: usize, head: &Head, _body_bytes: u64) -> Result<(), String> {
        if self.epoch.is_some() && head.status != 200 {
            return Err(format!("status {}: an append taken for a duplicate", head.status));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Lane;

    /// How many appends each stream gets in `turns` of each connection.
    fn appends(connections: usize, streams: usize, turns: usize) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for connection in 0..connections {
            let mut lane = Lane::new(connection, connections, streams);
            for _ in 0..turns {
                *counts.entry(lane.next().0).or_insert(0) += 1;
            }
        }
        counts
    }

    #[test]
    fn connections_share_few_streams_and_go_round_many() {
        assert_eq!(appends(4, 2, 3), BTreeMap::from([(0, 6), (1, 6)]));
        let many = appends(3, 9, 6);
        assert_eq!(many.len(), 9);
        assert!(many.values().all(|count| *count == 2), "{many:?}");
        assert_eq!(appends(3, 10, 4).len(), 10, "shares may differ by one");
    }

    #[test]
    fn the_number_of_an_append_counts_those_to_the_same_stream() {
        let mut lane = Lane::new(1, 3, 7);
        let turns: Vec<_> = (0..5).map(|_| lane.next()).collect();
        assert_eq!(turns, [(1, 0), (4, 0), (1, 1), (4, 1), (1, 2)]);
    }
}
