//! Fan-out: one writer appends to one stream at a fixed rate, many SSE subscribers receive it. Every
//! record must reach every subscriber exactly once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::channels::{Channels, Handler};
use crate::client::Client;
use crate::connection::{Connection, Fault};
use crate::request::{TEXT, Target};
use crate::response::{Head, Piece};
use crate::scenario::{Outcome, Reading};
use crate::statistics::{nanos, new_latencies, percentile_ms, to_f64};
use crate::subscribers::{Audience, StampScanner, stamped_record, subscribe};
use crate::usage::{Meter, Spent};

const STREAM: &str = "fan-out";

/// Answers and deliveries may lag this far behind before they are missed.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// The rate leaves a server time to finish a record's deliveries before the next.
#[derive(Debug, Clone, Args)]
pub(crate) struct FanOut {
    #[arg(long, default_value_t = 1_000)]
    pub(crate) subscribers: usize,
    /// Records per second.
    #[arg(long, default_value_t = 20)]
    pub(crate) rate: u32,
    /// Records that are measured; a quarter as many come before them.
    #[arg(long, default_value_t = 100)]
    pub(crate) records: u32,
    #[arg(long, default_value_t = 256)]
    pub(crate) record_bytes: usize,
}

impl FanOut {
    pub(crate) fn run(&self, target: &Target) -> Result<Outcome> {
        Client::connect(target.address)?.create(target, STREAM, TEXT)?;
        let mut channels = Channels::new()?;
        let writer = channels.open(target.address)?;
        let mut hall = Hall::new(writer, self.subscribers);
        subscribe(&mut channels, target, STREAM, self.subscribers, &mut hall)?;

        self.publish(target, &mut channels, &mut hall, self.records / 4 + 1)?;
        hall.latencies = new_latencies();
        let meter = Meter::start(target.pid, None)?;
        self.publish(target, &mut channels, &mut hall, self.records)?;
        Ok(report(&hall, &meter.stop()?))
    }

    /// Appends `count` records at the fixed rate and waits until all are delivered. A record's stamp is
    /// the time at which it was due, so a writer that was held up hides no latency.
    fn publish(&self, target: &Target, channels: &mut Channels, hall: &mut Hall, count: u32) -> Result<()> {
        let interval = Duration::from_secs(1) / self.rate.max(1);
        let start = Instant::now();
        for index in 0..count {
            let due = start + interval * index;
            hall.wait(channels, due, |hall| !hall.is_writing && Instant::now() >= due)?;
            let record = stamped_record(nanos(due - hall.epoch), self.record_bytes);
            hall.is_writing = true;
            hall.records += 1;
            channels.send(hall.writer, &target.append(STREAM, TEXT, &record));
        }
        hall.wait(channels, Instant::now(), |hall| {
            !hall.is_writing && hall.has_all()
        })
    }
}

fn report(hall: &Hall, spent: &Spent) -> Outcome {
    let deliveries = to_f64(hall.latencies.len());
    Outcome {
        readings: vec![
            Reading::lower_is_better("delivery p50 ms", percentile_ms(&hall.latencies, 50.0)),
            Reading::lower_is_better("delivery p99 ms", percentile_ms(&hall.latencies, 99.0)),
            Reading::lower_is_better(
                "CPU µs per delivery",
                spent.server_cpu.as_secs_f64() * 1e6 / deliveries,
            ),
        ],
        spent: *spent,
    }
}

/// The writer and all subscribers.
struct Hall {
    /// The writer's channel; all others are subscribers'.
    writer: usize,
    is_writing: bool,
    /// Stamps count from here.
    epoch: Instant,
    established: usize,
    /// By channel; the writer's is not used.
    scanners: Vec<StampScanner>,
    /// Records received, by channel.
    received: Vec<u64>,
    /// Records sent, since the subscriptions were established.
    records: u64,
    /// Records received by all subscribers together.
    deliveries: u64,
    latencies: Histogram<u64>,
}

impl Hall {
    fn new(writer: usize, subscribers: usize) -> Self {
        let channels = subscribers + 1;
        Self {
            writer,
            is_writing: false,
            epoch: Instant::now(),
            established: 0,
            scanners: vec![StampScanner::default(); channels],
            received: vec![0; channels],
            records: 0,
            deliveries: 0,
            latencies: new_latencies(),
        }
    }

    /// Whether all records have reached all subscribers; none has received more than there are.
    fn has_all(&self) -> bool {
        self.deliveries == self.records * (self.received.len() - 1) as u64
    }

    /// Polls until `done`, which cannot be before `due`. Polling sleeps in whole milliseconds, so the
    /// last two before `due` are spent awake, as is the time after it.
    fn wait(&mut self, channels: &mut Channels, due: Instant, done: impl Fn(&Self) -> bool) -> Result<()> {
        const AWAKE: Duration = Duration::from_millis(2);
        while !done(self) {
            let now = Instant::now();
            ensure!(
                now < due + DELIVERY_TIMEOUT,
                "records were not delivered to all subscribers in time"
            );
            channels.poll(due.saturating_duration_since(now).saturating_sub(AWAKE), self)?;
            channels.check()?;
        }
        Ok(())
    }

    fn deliver(&mut self, index: usize, bytes: &[u8]) -> Result<(), Fault> {
        let now = nanos(self.epoch.elapsed());
        let latencies = &mut self.latencies;
        let mut count = 0;
        self.scanners[index].scan(bytes, |stamp| {
            count += 1;
            latencies.saturating_record(now.saturating_sub(stamp));
        });
        self.deliveries += count;
        self.received[index] += count;
        if self.received[index] > self.records {
            return Err(Fault::WrongAnswer("a record delivered twice".to_owned()));
        }
        Ok(())
    }
}

impl Handler for Hall {
    fn take(
        &mut self,
        index: usize,
        piece: &Piece<'_>,
        _head: &Head,
        _connection: &mut Connection,
    ) -> Result<(), Fault> {
        match piece {
            Piece::End if index == self.writer => self.is_writing = false,
            _ if index == self.writer => {}
            Piece::Head => self.established += 1,
            Piece::Body(bytes) => self.deliver(index, bytes)?,
            Piece::End => return Err(Fault::Closed),
        }
        Ok(())
    }
}

impl Audience for Hall {
    fn established(&self) -> usize {
        self.established
    }
}
