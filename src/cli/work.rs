//! `tailwater queue work`: claims jobs, runs a program for each, and tells the runs of it.
//!
//! - `attempt`: one job, from its claim to what the worker says last of it.
//! - `lease`: keeps a lease, and knows when it is lost.
//! - `lines`: what the program writes, cut into lines, and the one that is the result.
//! - `journal`: lines of the program become events of the run.
//! - `program`: the program and all that it has started.

mod attempt;
mod journal;
mod lease;
mod lines;
mod program;

use std::time::Duration;

use tailwater_process::Backoff;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::arguments::queues::QueueWorkOptions;
use super::error::CommandError;
use super::output::Output;
use crate::client::{ClaimedJob, Client, ClientError};
use attempt::{Attempt, Outcome};

/// How long the server keeps a claim that finds nothing, if it takes so long a claim. Shorter than what proxies bear.
const WAIT_MS: u64 = 20_000;
/// Between two claims that find nothing, however soon the server answers.
const CLAIMS_MIN: Duration = Duration::from_secs(1);
/// A worker that is out of luck asks this often at the least: jobs wait for it.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How much of a worker is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// All of it.
    No,
    /// What it has; it claims nothing more.
    Claiming,
    /// Nothing.
    Programs,
}

pub(super) async fn work(options: &QueueWorkOptions, output: &mut Output) -> Result<(), CommandError> {
    let client = options.queue.connection.client()?;
    let worker = options.worker.clone().unwrap_or_else(name_of_this_process);
    let stop = watch::Sender::new(Stop::No);
    let _signals = AbortOnDrop(tokio::spawn(listen(
        receive(SignalKind::terminate())?,
        receive(SignalKind::interrupt())?,
        stop.clone(),
        Duration::from_millis(options.grace_ms),
    )));
    let mut attempts = JoinSet::new();
    let claimed = claim_all(&client, options, &worker, &stop, &mut attempts, output).await;
    while let Some(ended) = attempts.join_next().await {
        tell(output, &ended.expect("an attempt does not panic"))?;
    }
    claimed
}

/// Claims and works until that is to stop. What is under way then is in `attempts`.
async fn claim_all(
    client: &Client,
    options: &QueueWorkOptions,
    worker: &str,
    stop: &watch::Sender<Stop>,
    attempts: &mut JoinSet<Outcome>,
    output: &mut Output,
) -> Result<(), CommandError> {
    let mut stopping = stop.subscribe();
    let mut backoff = Backoff::default();
    let mut wish = Wish {
        jobs_max: usize::from(options.concurrency),
        wait_ms: if options.until_empty { 0 } else { WAIT_MS },
    };
    loop {
        let free = usize::from(options.concurrency) - attempts.len();
        let claim = async {
            if free == 0 {
                return std::future::pending().await;
            }
            let jobs_max = free.min(wish.jobs_max);
            client
                .claim_jobs(&options.queue.stream, worker, jobs_max, wish.wait_ms)
                .await
        };
        let asked_at = Instant::now();
        let claimed = tokio::select! {
            claimed = claim => claimed,
            // Nobody has told the server that this claim is given up but the end of its connection: so that none is given
            // up for an attempt that has ended, one is begun only if no other is under way.
            ended = attempts.join_next(), if free == 0 => {
                tell(output, &ended.expect("all places are taken").expect("an attempt does not panic"))?;
                continue;
            }
            _ = stopping.wait_for(|stop| *stop > Stop::No) => return Ok(()),
        };
        while let Some(ended) = attempts.try_join_next() {
            tell(output, &ended.expect("an attempt does not panic"))?;
        }
        match claimed {
            Ok(jobs) => {
                backoff.reset();
                if jobs.is_empty() && options.until_empty && attempts.is_empty() {
                    return Ok(());
                }
                if jobs.is_empty() && options.until_empty {
                    // What is under way may have to be tried again.
                    if let Some(ended) = attempts.join_next().await {
                        tell(output, &ended.expect("an attempt does not panic"))?;
                    }
                } else if jobs.is_empty() {
                    // A server that is about to stop, for example, answers at once.
                    tokio::select! {
                        () = tokio::time::sleep_until(asked_at + CLAIMS_MIN) => {}
                        _ = stopping.wait_for(|stop| *stop > Stop::No) => {}
                    }
                }
                for job in jobs {
                    attempts.spawn(begin(client, options, job, stop).run());
                }
            }
            Err(error) if wish.is_lowered_for(&error) => {}
            Err(error) => pause(&mut backoff, error, &mut stopping).await?,
        }
    }
}

/// What a claim asks for at the most.
struct Wish {
    jobs_max: usize,
    wait_ms: u64,
}

impl Wish {
    /// Halves what is more than the server gives (`queues.max_claim_jobs`, `queues.max_claim_wait_ms`), if it is that.
    fn is_lowered_for(&mut self, error: &ClientError) -> bool {
        let field = error.problem().and_then(|problem| problem.field.as_deref());
        match field {
            Some("max") if self.jobs_max > 1 => self.jobs_max /= 2,
            Some("wait_ms") if self.wait_ms > 0 => self.wait_ms /= 2,
            _ => return false,
        }
        true
    }
}

fn begin(
    client: &Client,
    options: &QueueWorkOptions,
    job: ClaimedJob,
    stop: &watch::Sender<Stop>,
) -> Attempt {
    Attempt {
        client: client.clone(),
        queue: options.queue.stream.clone(),
        job,
        command: options.exec.clone(),
        result: options.result,
        retry_after_ms: options.retry_after_ms,
        kill_after: Duration::from_millis(options.kill_after_ms),
        stop: stop.subscribe(),
    }
}

/// Waits for a server that is away or has too much to do; any other refusal is for whoever has typed this.
async fn pause(
    backoff: &mut Backoff,
    error: ClientError,
    stopping: &mut watch::Receiver<Stop>,
) -> Result<(), CommandError> {
    if !error.is_passing() && !error.is_overload() {
        return Err(error.into());
    }
    let asked = error.problem().and_then(|problem| problem.retry_after);
    let delay = backoff.next(fastrand::f64(), asked).min(PAUSE_MAX);
    eprintln!("{error}; trying again in {:.1} s", delay.as_secs_f64());
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        _ = stopping.wait_for(|stop| *stop > Stop::No) => {}
    }
    Ok(())
}

/// One line for each run.
fn tell(output: &mut Output, outcome: &Outcome) -> Result<(), CommandError> {
    output.line(&format!("{}\t{}", outcome.run, outcome.what))?;
    output.flush()
}

/// The first signal ends claiming, and programs after the grace; the second ends programs.
async fn listen(mut terminate: Signal, mut interrupt: Signal, stop: watch::Sender<Stop>, grace: Duration) {
    let next = async |terminate: &mut Signal, interrupt: &mut Signal| {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next(&mut terminate, &mut interrupt).await;
    stop.send_replace(Stop::Claiming);
    tokio::select! {
        () = next(&mut terminate, &mut interrupt) => {}
        () = tokio::time::sleep(grace) => {}
    }
    stop.send_replace(Stop::Programs);
}

fn receive(kind: SignalKind) -> Result<Signal, CommandError> {
    signal(kind).map_err(|source| CommandError::Runtime { source })
}

fn name_of_this_process() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    format!("{host}:{}", std::process::id())
}

/// A task that ends with whoever has begun it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
