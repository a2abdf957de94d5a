//! Many streams: creates them, appends once to each, and looks at what a server needs to have them.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::errands;
use crate::process::{End, Process};
use crate::request::BINARY;
use crate::scenario::{Outcome, Reading};
use crate::statistics::to_f64;
use crate::usage::{Meter, Spent, anonymous_kib, descriptor_count, disk_bytes, map_count};

const STREAM_PREFIX: &str = "one-of-many-";

/// Every stream gets one append; then the server is killed, started, stopped and started again.
#[derive(Debug, Clone, Args)]
pub(crate) struct Streams {
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) streams: u64,
    #[arg(long, default_value_t = 256)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 256)]
    pub(crate) record_bytes: usize,
}

impl Streams {
    pub(crate) fn run(&self, process: &mut Process) -> Result<Outcome> {
        let target = process.target().clone();
        let meter = Meter::start(target.pid, target.disk)?;
        errands::run(&target, self.connections, self.streams, |index| {
            target.create(&format!("{STREAM_PREFIX}{index}"), BINARY)
        })?;
        let created = meter.stop()?;

        let record = vec![b'r'; self.record_bytes];
        let template = target.append_template(STREAM_PREFIX, BINARY, &record);
        let meter = Meter::start(target.pid, target.disk)?;
        errands::run(&target, self.connections, self.streams, |index| {
            let mut request = Vec::new();
            template.fill(&mut request, index as usize, None);
            request
        })?;
        let appended = meter.stop()?;
        let loaded_kib = anonymous_kib(target.pid)?;

        let killed = process.restart(End::Killed)?;
        let stopped = process.restart(End::Clean)?;
        let pid = process.target().pid;
        Ok(Outcome {
            readings: vec![
                Reading::higher_is_better("create/s", self.rate(&created)),
                Reading::lower_is_better("CPU µs per create", self.cpu_micros(&created)),
                Reading::higher_is_better("first append/s", self.rate(&appended)),
                Reading::lower_is_better("CPU µs per first append", self.cpu_micros(&appended)),
                Reading::lower_is_better("RssAnon MiB under load", mib(loaded_kib)),
                Reading::lower_is_better("s to start after kill -9", seconds(killed.start)),
                Reading::lower_is_better("s to stop", seconds(stopped.stop)),
                Reading::lower_is_better("s to start after that", seconds(stopped.start)),
                Reading::lower_is_better("RssAnon MiB then", mib(anonymous_kib(pid)?)),
                Reading::lower_is_better("maps then", to_f64(map_count(pid)? as u64)),
                Reading::lower_is_better("descriptors then", to_f64(descriptor_count(pid)? as u64)),
                Reading::lower_is_better("MiB on disk then", mib(disk_bytes(&process.data())? / 1024)),
            ],
            spent: created,
        })
    }

    fn rate(&self, spent: &Spent) -> f64 {
        to_f64(self.streams) / seconds(spent.elapsed)
    }

    fn cpu_micros(&self, spent: &Spent) -> f64 {
        seconds(spent.server_cpu) * 1e6 / to_f64(self.streams)
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn mib(kib: u64) -> f64 {
    to_f64(kib) / 1024.0
}
