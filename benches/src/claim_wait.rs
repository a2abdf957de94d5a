//! How long a job that is enqueued into an idle queue takes to reach a worker who waits for it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::channels::{Channels, Handler};
use crate::client::Client;
use crate::connection::{Connection, Fault};
use crate::job_cycles::{claim, complete, enqueue, make_queue};
use crate::process::Process;
use crate::response::{Head, Piece};
use crate::scenario::{Outcome, Reading};
use crate::statistics::{nanos, new_latencies, percentile_ms};
use crate::usage::Meter;

/// The worker has asked before this long after the last job.
const PAUSE: Duration = Duration::from_millis(2);
/// A job that takes longer is lost.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(20);

/// One worker waits; one job at a time is enqueued, claimed and completed.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClaimWait {
    #[arg(long, default_value_t = 2_000)]
    pub(crate) jobs: u64,
    #[arg(long, default_value_t = 200)]
    pub(crate) payload_bytes: usize,
}

impl ClaimWait {
    pub(crate) fn run(&self, process: &Process) -> Result<Outcome> {
        let target = process.target();
        make_queue(target)?;
        let (claim, enqueue) = (claim(target), enqueue(target, self.payload_bytes));
        let mut channels = Channels::new()?;
        let waiting = channels.open(target.address)?;
        let mut producer = Client::connect(target.address)?;
        let mut latencies = new_latencies();
        let meter = Meter::start(target.pid, target.disk)?;
        for _ in 0..self.jobs {
            let mut answer = Answer::default();
            channels.send(waiting, &claim);
            std::thread::sleep(PAUSE);
            let began_at = Instant::now();
            let appended = producer.send(&enqueue)?;
            ensure!(
                (200..300).contains(&appended.status),
                "status {}",
                appended.status
            );
            while answer.ended_at.is_none() {
                channels.poll(CLAIM_TIMEOUT, &mut answer)?;
                channels.check()?;
                ensure!(
                    began_at.elapsed() < CLAIM_TIMEOUT,
                    "a job does not reach its worker"
                );
            }
            let ended_at = answer.ended_at.unwrap_or(began_at);
            latencies.saturating_record(nanos(ended_at.saturating_duration_since(began_at)));
            let completion = complete(target, &answer.body);
            let completed = producer.send(&completion.unwrap_or_default())?;
            ensure!(completed.status == 200, "status {}", completed.status);
        }
        let spent = meter.stop()?;
        Ok(Outcome {
            readings: vec![
                Reading::lower_is_better("p50 ms from enqueue to claim", percentile_ms(&latencies, 50.0)),
                Reading::lower_is_better("p99 ms from enqueue to claim", percentile_ms(&latencies, 99.0)),
            ],
            spent,
        })
    }
}

#[derive(Default)]
struct Answer {
    body: Vec<u8>,
    ended_at: Option<Instant>,
}

impl Handler for Answer {
    fn take(
        &mut self,
        _index: usize,
        piece: &Piece<'_>,
        _head: &Head,
        _connection: &mut Connection,
    ) -> Result<(), Fault> {
        match piece {
            Piece::Head => {}
            Piece::Body(bytes) => self.body.extend_from_slice(bytes),
            Piece::End => self.ended_at = Some(Instant::now()),
        }
        Ok(())
    }
}
