//! Job cycles: workers that each enqueue a job, claim one and complete it, over and over.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use memchr::memmem;

use crate::channels::{Channels, Handler};
use crate::client::Client;
use crate::connection::{Connection, Fault};
use crate::errands;
use crate::process::{End, Process};
use crate::request::Target;
use crate::response::{Head, Piece};
use crate::scenario::{Outcome, Pace, Reading};
use crate::statistics::{nanos, new_latencies, percentile_ms, to_f64};
use crate::usage::{Meter, Spent, anonymous_kib};

/// The queue's stream.
const QUEUE: &str = "jobs";
const JSON: &str = "application/json";
/// How long a claim waits for a job. There always is one for each that claims, or will be at once.
const WAIT_MS: u64 = 30_000;
/// Jobs in one append while the backlog is made.
const FILLING_JOBS: u64 = 1_000;
/// What is waited for while the server looks at the backlog.
const LOOK_TIMEOUT: Duration = Duration::from_secs(600);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Each worker is one connection with one request outstanding.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobCycles {
    #[arg(long, default_value_t = 64)]
    pub(crate) workers: usize,
    /// Jobs that are ready before, and stay ahead of those that are enqueued.
    #[arg(long, default_value_t = 0)]
    pub(crate) backlog: u64,
    #[arg(long, default_value_t = 200)]
    pub(crate) payload_bytes: usize,
}

impl JobCycles {
    /// Also in a report.
    pub(crate) fn title(&self) -> String {
        format!("jobs, {} workers, {} ready", self.workers, self.backlog)
    }

    pub(crate) fn run(&self, process: &mut Process, pace: &Pace) -> Result<Outcome> {
        let target = process.target().clone();
        make_queue(&target)?;
        self.fill(&target)?;
        let standing = (self.backlog > 0).then(|| stand(process)).transpose()?;
        let target = process.target().clone();
        let (latencies, spent) = self.measure(&target, pace)?;
        let mut readings = cycle_readings(&latencies, &spent);
        readings.extend(standing.into_iter().flatten());
        Ok(Outcome { readings, spent })
    }

    fn fill(&self, target: &Target) -> Result<()> {
        let payload = payload(self.payload_bytes);
        let append = |number: u64| {
            let left = self.backlog - number * FILLING_JOBS;
            let jobs = usize::try_from(left.min(FILLING_JOBS)).unwrap_or_default();
            let body = format!("[{}]", vec![payload.as_str(); jobs].join(","));
            target.append(QUEUE, JSON, body.as_bytes())
        };
        errands::run(target, 4, self.backlog.div_ceil(FILLING_JOBS), append)?;
        self.wait_until_ready(target)
    }

    /// Until the server has looked at every job of the backlog.
    fn wait_until_ready(&self, target: &Target) -> Result<()> {
        let started = Instant::now();
        let asked = target.control("GET", &format!("queues/{QUEUE}"), b"");
        loop {
            let answer = Client::connect(target.address)?.send(&asked)?;
            if number_of(&answer.body, "ready") == Some(self.backlog) {
                return Ok(());
            }
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(
                started.elapsed() < LOOK_TIMEOUT,
                "{} jobs do not become ready: {body}",
                self.backlog
            );
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn measure(&self, target: &Target, pace: &Pace) -> Result<(Histogram<u64>, Spent)> {
        let mut channels = Channels::new()?;
        let mut workers = Workers::new(target, self.workers, self.payload_bytes);
        for index in 0..self.workers {
            channels.open(target.address)?;
            channels.send(index, &workers.enqueue);
        }
        drive(&mut channels, &mut workers, pace.warm_up())?;
        workers.latencies = new_latencies();
        let meter = Meter::start(target.pid, target.disk)?;
        drive(&mut channels, &mut workers, pace.window())?;
        let spent = meter.stop()?;
        channels.check()?;
        Ok((workers.latencies, spent))
    }
}

/// What every contender reports of its cycles.
pub(crate) fn cycle_readings(latencies: &Histogram<u64>, spent: &Spent) -> Vec<Reading> {
    let cycles = to_f64(latencies.len());
    vec![
        Reading::higher_is_better("cycles/s", cycles / spent.elapsed.as_secs_f64()),
        Reading::lower_is_better("CPU µs per cycle", spent.server_cpu.as_secs_f64() * 1e6 / cycles),
        Reading::lower_is_better("p50 ms", percentile_ms(latencies, 50.0)),
        Reading::lower_is_better("p99 ms", percentile_ms(latencies, 99.0)),
    ]
}

/// A job that carries so many bytes, more or less.
pub(crate) fn payload(bytes: usize) -> String {
    format!("{{\"task\":\"{}\"}}", "j".repeat(bytes.saturating_sub(11)))
}

pub(crate) fn make_queue(target: &Target) -> Result<()> {
    let asked = target.control("PUT", &format!("queues/{QUEUE}"), b"{}");
    let answer = Client::connect(target.address)?.send(&asked)?;
    ensure!(
        answer.status == 201,
        "cannot make a queue: status {}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(())
}

/// What it takes to have the backlog, and to start with it.
fn stand(process: &mut Process) -> Result<Vec<Reading>> {
    let killed = process.restart(End::Killed)?;
    let stopped = process.restart(End::Clean)?;
    let kib = anonymous_kib(process.target().pid)?;
    Ok(vec![
        Reading::lower_is_better("s to start after kill -9", killed.start.as_secs_f64()),
        Reading::lower_is_better("s to start after a stop", stopped.start.as_secs_f64()),
        Reading::lower_is_better("RssAnon MiB then", to_f64(kib) / 1024.0),
    ])
}

fn drive(channels: &mut Channels, handler: &mut impl Handler, span: Duration) -> Result<()> {
    let deadline = Instant::now() + span;
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Ok(());
        }
        channels.poll(remaining, handler)?;
    }
}

/// What a worker has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Enqueue,
    Claim,
    Complete,
}

struct Worker {
    asked: Asked,
    began_at: Instant,
    /// The body of the answer to a claim, as far as it has come.
    body: Vec<u8>,
}

struct Workers {
    workers: Vec<Worker>,
    target: Target,
    enqueue: Vec<u8>,
    claim: Vec<u8>,
    /// Nanoseconds of whole cycles.
    latencies: Histogram<u64>,
}

impl Workers {
    fn new(target: &Target, count: usize, payload_bytes: usize) -> Self {
        let worker = || Worker {
            asked: Asked::Enqueue,
            began_at: Instant::now(),
            body: Vec::new(),
        };
        Self {
            workers: std::iter::repeat_with(worker).take(count).collect(),
            enqueue: target.append(QUEUE, JSON, payload(payload_bytes).as_bytes()),
            claim: claim(target),
            target: target.clone(),
            latencies: new_latencies(),
        }
    }

    fn next(&mut self, index: usize, connection: &mut Connection) -> Result<(), Fault> {
        let worker = &mut self.workers[index];
        worker.asked = match worker.asked {
            Asked::Enqueue => {
                connection.send(&self.claim)?;
                Asked::Claim
            }
            Asked::Claim => {
                let completion = complete(&self.target, &worker.body).ok_or_else(|| {
                    Fault::WrongAnswer(format!(
                        "no job in the answer to a claim: {}",
                        String::from_utf8_lossy(&worker.body)
                    ))
                })?;
                worker.body.clear();
                connection.send(&completion)?;
                Asked::Complete
            }
            Asked::Complete => {
                let now = Instant::now();
                self.latencies.saturating_record(nanos(now - worker.began_at));
                worker.began_at = now;
                connection.send(&self.enqueue)?;
                Asked::Enqueue
            }
        };
        Ok(())
    }
}

impl Handler for Workers {
    fn take(
        &mut self,
        index: usize,
        piece: &Piece<'_>,
        _head: &Head,
        connection: &mut Connection,
    ) -> Result<(), Fault> {
        match piece {
            Piece::Head => Ok(()),
            Piece::Body(bytes) => {
                let worker = &mut self.workers[index];
                if worker.asked == Asked::Claim {
                    worker.body.extend_from_slice(bytes);
                }
                Ok(())
            }
            Piece::End => self.next(index, connection),
        }
    }
}

/// A claim of one job.
pub(crate) fn claim(target: &Target) -> Vec<u8> {
    let body = format!("{{\"worker\":\"loadgen\",\"max\":1,\"wait_ms\":{WAIT_MS}}}");
    target.control("POST", &format!("queues/{QUEUE}/claim"), body.as_bytes())
}

/// An append of one job.
pub(crate) fn enqueue(target: &Target, payload_bytes: usize) -> Vec<u8> {
    target.append(QUEUE, JSON, payload(payload_bytes).as_bytes())
}

/// The completion of the job that a claim was answered with.
pub(crate) fn complete(target: &Target, claimed: &[u8]) -> Option<Vec<u8>> {
    let run = text_of(claimed, "run")?;
    let epoch = number_of(claimed, "epoch")?;
    let body = format!("{{\"epoch\":{epoch},\"seq\":1,\"result\":null}}");
    Some(target.control("POST", &format!("runs/{run}/complete"), body.as_bytes()))
}

/// A member's value, without looking at where it stands: the server's answers have each name once before the payload.
fn value_of<'j>(json: &'j [u8], member: &str) -> Option<&'j [u8]> {
    let name = format!("\"{member}\":");
    let at = memmem::find(json, name.as_bytes())?;
    Some(json[at + name.len()..].trim_ascii_start())
}

fn text_of<'j>(json: &'j [u8], member: &str) -> Option<&'j str> {
    let text = value_of(json, member)?.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text)?;
    std::str::from_utf8(&text[..end]).ok()
}

fn number_of(json: &[u8], member: &str) -> Option<u64> {
    let value = value_of(json, member)?;
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{complete, number_of, payload};
    use crate::request::Target;

    #[test]
    fn a_claimed_job_is_completed_by_its_run_and_epoch() {
        let target = Target {
            address: "127.0.0.1:7000".parse().expect("an address"),
            prefix: "/v1/stream/".to_owned(),
            pid: 1,
            disk: None,
        };
        let claimed = br#"{"jobs":[{"job":"7","run":"runs/jobs/7","epoch": 3,"payload":{}}]}"#;
        let completion = complete(&target, claimed).expect("a job");
        let text = String::from_utf8(completion).expect("text");
        assert!(
            text.starts_with("POST /v1/stream/__ds/runs/runs/jobs/7/complete HTTP/1.1\r\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\r\n\r\n{\"epoch\":3,\"seq\":1,\"result\":null}"),
            "{text}"
        );
        assert_eq!(complete(&target, br#"{"jobs":[]}"#), None);
        assert_eq!(number_of(br#"{"ready":12}"#, "ready"), Some(12));
    }

    #[test]
    fn a_payload_is_as_long_as_it_is_to_be() {
        assert_eq!(payload(200).len(), 200);
    }
}
