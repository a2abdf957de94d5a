//! Overload: appends alone, then beside readers that ask again the moment they are answered or refused. How much of
//! the appends' rate is left says whether reads can starve writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::append::Append;
use crate::channels::{Channels, Handler};
use crate::client::Client;
use crate::closed_loop::Window;
use crate::connection::{Connection, Fault};
use crate::errands;
use crate::process::Process;
use crate::request::{BINARY, Target};
use crate::response::{Head, Piece};
use crate::scenario::{Outcome, Pace, Reading};
use crate::statistics::{percentile_ms, to_f64};

/// The appends that fill the streams that are read, but for shorter streams.
const FILLING_BYTES: u64 = 256 * 1024;
/// Connections that fill them.
const FILLERS: usize = 16;
/// The readers' thread looks this often whether it is to end.
const GLANCE: Duration = Duration::from_millis(20);

/// Every writer has a stream of its own; readers are spread evenly over theirs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Overload {
    #[arg(long, default_value_t = 64)]
    pub(crate) writers: usize,
    #[arg(long, default_value_t = 200)]
    pub(crate) readers: usize,
    #[arg(long, default_value_t = 256)]
    pub(crate) record_bytes: usize,
    /// Streams that are read.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) streams: u64,
    /// Size of each of them: at most 256 KiB, or a multiple of that.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) stream_bytes: u64,
}

impl Overload {
    pub(crate) fn run(&self, process: &Process, pace: &Pace) -> Result<Outcome> {
        let target = process.target();
        let streams = self.fill_streams(target)?;
        let append = Append {
            connections: self.writers,
            streams: None,
            record_bytes: self.record_bytes,
            producers: false,
        };
        append.create_streams(target)?;
        let alone = append.measure(target, pace)?;
        let counted_before = counted_refusals(target)?;
        let (beside, readers) = self.beside_readers(target, &streams, || append.measure(target, pace))?;
        if let (Some(before), Some(after)) = (counted_before, counted_refusals(target)?) {
            let counted = after - before;
            ensure!(
                counted >= readers.refused,
                "{} refusals were seen, and the server has counted {counted}",
                readers.refused
            );
        }
        Ok(report(&alone, &beside, &readers))
    }

    /// Also in a report.
    pub(crate) fn title(&self) -> String {
        format!(
            "overload, {} writers, {} readers of {} bytes",
            self.writers, self.readers, self.stream_bytes
        )
    }

    fn fill_streams(&self, target: &Target) -> Result<Vec<String>> {
        let append_bytes = self.stream_bytes.min(FILLING_BYTES);
        ensure!(
            self.stream_bytes.is_multiple_of(append_bytes),
            "--stream-bytes must be at most {FILLING_BYTES}, or a multiple of that"
        );
        let record = vec![b'o'; usize::try_from(append_bytes)?];
        let names: Vec<String> = (0..self.streams)
            .map(|index| format!("overload-{index}"))
            .collect();
        for name in &names {
            errands::run(target, 1, 1, |_| target.create(name, BINARY))?;
            let append = target.append(name, BINARY, &record);
            errands::run(target, FILLERS, self.stream_bytes / append_bytes, |_| {
                append.clone()
            })?;
        }
        Ok(names)
    }

    /// Runs `load` while the readers read. They have a thread of their own, so that what they are busy with does not
    /// hold the writers up on this side.
    fn beside_readers<T>(
        &self,
        target: &Target,
        streams: &[String],
        load: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Readers)> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| read(target, streams, self.readers, &is_over));
            let loaded = load();
            is_over.store(true, Ordering::Relaxed);
            let readers = reading.join().expect("the readers do not panic")?;
            Ok((loaded?, readers))
        })
    }
}

fn report(alone: &Window, beside: &Window, readers: &Readers) -> Outcome {
    let rate = |window: &Window| to_f64(window.tally.operations) / window.spent.elapsed.as_secs_f64();
    let p99_ms = |window: &Window| percentile_ms(&window.tally.latencies, 99.0);
    let per_second = |count| to_f64(count) / readers.elapsed.as_secs_f64();
    Outcome {
        readings: vec![
            Reading::higher_is_better("append/s alone", rate(alone)),
            Reading::higher_is_better("append/s beside readers", rate(beside)),
            Reading::higher_is_better("share of the rate that is left", rate(beside) / rate(alone)),
            Reading::lower_is_better("p99 ms alone", p99_ms(alone)),
            Reading::lower_is_better("p99 ms beside readers", p99_ms(beside)),
            Reading::higher_is_better("read/s", per_second(readers.answered)),
            Reading::higher_is_better("MB/s read", per_second(readers.body_bytes) / 1e6),
            Reading::lower_is_better("refused reads/s", per_second(readers.refused)),
        ],
        spent: beside.spent,
    }
}

/// What became of the reads.
#[derive(Debug, Default)]
struct Readers {
    answered: u64,
    /// Of them 429 and 503; anything else that is not 2xx is a fault.
    refused: u64,
    body_bytes: u64,
    elapsed: Duration,
}

/// Reads until it is over. Each connection reads its stream from the start to the tail, then again; what is refused is
/// asked for again at once, whatever `Retry-After` says.
fn read(target: &Target, streams: &[String], connections: usize, is_over: &AtomicBool) -> Result<Readers> {
    let mut channels = Channels::new()?;
    let mut reading = HotReading {
        target,
        requests: (0..connections)
            .map(|index| target.read(&streams[index % streams.len()], "-1"))
            .collect(),
        streams,
        readers: Readers::default(),
    };
    let since = Instant::now();
    for index in 0..connections {
        channels.open(target.address)?;
        channels.send(index, &reading.requests[index]);
    }
    while !is_over.load(Ordering::Relaxed) {
        channels.poll(GLANCE, &mut reading)?;
    }
    channels.check().context("readers failed")?;
    Ok(Readers {
        elapsed: since.elapsed(),
        ..reading.readers
    })
}

struct HotReading<'a> {
    target: &'a Target,
    streams: &'a [String],
    /// The next one of each connection.
    requests: Vec<Vec<u8>>,
    readers: Readers,
}

impl Handler for HotReading<'_> {
    fn takes(&self, status: u16) -> bool {
        matches!(status, 429 | 503)
    }

    fn take(
        &mut self,
        index: usize,
        piece: &Piece<'_>,
        head: &Head,
        connection: &mut Connection,
    ) -> Result<(), Fault> {
        match piece {
            Piece::Head => {}
            Piece::Body(_) if !head.is_success() => {}
            Piece::Body(bytes) => self.readers.body_bytes += bytes.len() as u64,
            Piece::End => {
                if head.is_success() {
                    self.readers.answered += 1;
                    let stream = &self.streams[index % self.streams.len()];
                    let offset = if head.up_to_date { "-1" } else { &head.next_offset };
                    self.requests[index] = self.target.read(stream, offset);
                } else {
                    self.readers.refused += 1;
                }
                connection.send(&self.requests[index])?;
            }
        }
        Ok(())
    }
}

/// All refusals that the server has counted; none if it does not count them as Tailwater does.
fn counted_refusals(target: &Target) -> Result<Option<u64>> {
    let answer = Client::connect(target.address)?.send(&target.get("/metrics"))?;
    Ok((answer.status == 200)
        .then(|| refusals_in(&String::from_utf8_lossy(&answer.body)))
        .flatten())
}

fn refusals_in(metrics: &str) -> Option<u64> {
    metrics
        .contains("# TYPE tailwater_refusals_total counter")
        .then(|| {
            metrics
                .lines()
                .filter_map(|line| line.strip_prefix("tailwater_refusals_total{"))
                .filter_map(|sample| sample.rsplit_once(' ')?.1.parse::<u64>().ok())
                .sum()
        })
}

#[cfg(test)]
mod tests {
    use super::refusals_in;

    #[test]
    fn refusals_of_all_codes_are_added_up() {
        let metrics = "# HELP tailwater_refusals_total Requests refused, by code.\n\
                       # TYPE tailwater_refusals_total counter\n\
                       tailwater_refusals_total{code=\"a\"} 3\n\
                       tailwater_refusals_total{code=\"b\"} 4\n\
                       tailwater_reads_total 9\n";
        assert_eq!(refusals_in(metrics), Some(7));
        assert_eq!(refusals_in("# TYPE tailwater_refusals_total counter\n"), Some(0));
        assert_eq!(refusals_in("# TYPE other_refusals_total counter\n"), None);
    }
}
