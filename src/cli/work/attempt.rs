//! One job, from its claim to what the worker says last of it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::journal::{self, LastJson};
use super::lease::{Lease, Standing};
use super::program::Program;
use super::{AbortOnDrop, Stop};
use crate::cli::arguments::queues::ResultChoice;
use crate::client::{ClaimedJob, Client, Verdict};

/// Try again later (`EX_TEMPFAIL` of sysexits).
const TEMPORARY: i32 = 75;
/// It will never work (`EX_DATAERR` of sysexits).
const HOPELESS: i32 = 65;
/// What a program has started may hold its pipes; it is waited for so long once the program has ended.
const PIPES_PATIENCE: Duration = Duration::from_secs(2);
/// What the worker says last when it is to stop is tried for so long; then its lease ends by itself.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(5);

/// What is to be done, and how.
pub(super) struct Attempt {
    pub(super) client: Client,
    pub(super) queue: String,
    pub(super) job: ClaimedJob,
    pub(super) command: String,
    pub(super) result: ResultChoice,
    pub(super) retry_after_ms: u64,
    pub(super) kill_after: Duration,
    pub(super) stop: watch::Receiver<Stop>,
}

/// What became of it.
pub(super) struct Outcome {
    pub(super) run: String,
    /// For people.
    pub(super) what: String,
}

/// How the program ended.
enum End {
    /// By itself.
    Exited(ExitStatus),
    /// Nobody knows.
    Unknown(std::io::Error),
    /// It was made to, because the lease has ended.
    LeaseEnded,
    /// It was made to, because the worker stops.
    WorkerStops,
}

impl Attempt {
    pub(super) async fn run(mut self) -> Outcome {
        let lease = Lease::new(self.client.clone(), self.job.run.clone(), self.job.epoch);
        let _keeper = AbortOnDrop(tokio::spawn(lease.clone().keep(self.job.lease_ms)));
        let what = self.work(&lease).await;
        let what = match lease.standing() {
            Standing::Lost(why) => format!("lost: {why}"),
            Standing::Held | Standing::Cancelled => what,
        };
        Outcome {
            run: self.job.run,
            what,
        }
    }

    async fn work(&mut self, lease: &Lease) -> String {
        let started = Program::start(
            &self.command,
            &self.variables(),
            self.job.payload.get().to_owned(),
        );
        let (mut program, stdout, stderr) = match started {
            Ok(started) => started,
            Err(error) => {
                let error = json!({ "message": format!("the program cannot be run: {error}") });
                return self
                    .say(lease, self.job.next_seq, &failed(error, true, None))
                    .await;
            }
        };
        let last = (self.result == ResultChoice::LastLine).then(LastJson::default);
        let (lines, receiver) = journal::channel();
        let readers = [
            tokio::spawn(journal::read_lines(stdout, "stdout", lines.clone(), last.clone())),
            tokio::spawn(journal::read_lines(stderr, "stderr", lines, None)),
        ];
        let writer = tokio::spawn(journal::write(lease.clone(), receiver, self.job.next_seq));
        let end = tokio::select! {
            exited = program.wait() => exited.map_or_else(End::Unknown, End::Exited),
            () = lease.ends() => End::LeaseEnded,
            _ = self.stop.wait_for(|stop| *stop == Stop::Programs) => End::WorkerStops,
        };
        if !matches!(end, End::Exited(_)) {
            program.end(self.kill_after).await;
        }
        end_of(readers).await;
        drop(program);
        let Some(seq) = writer.await.expect("the journal does not panic") else {
            return String::new();
        };
        let result = match last {
            Some(last) => last.lock().await.take(),
            None => None,
        };
        self.say(lease, seq, &self.verdict(lease, &end, result)).await
    }

    fn variables(&self) -> [(&'static str, String); 5] {
        let ClaimedJob {
            job,
            run,
            epoch,
            attempt,
            ..
        } = &self.job;
        [
            ("TAILWATER_QUEUE", self.queue.clone()),
            ("TAILWATER_RUN", run.clone()),
            (
                "TAILWATER_JOB",
                job.as_str().map_or_else(|| job.to_string(), str::to_owned),
            ),
            ("TAILWATER_ATTEMPT", attempt.to_string()),
            ("TAILWATER_EPOCH", epoch.to_string()),
        ]
    }

    fn verdict(&self, lease: &Lease, end: &End, result: Option<Box<RawValue>>) -> Verdict {
        if lease.standing() == Standing::Cancelled && !matches!(end, End::Exited(status) if status.success())
        {
            return failed(json!({ "message": "the run was called off" }), false, None);
        }
        match end {
            End::Exited(status) => match status.code() {
                Some(0) => Verdict::Complete { result },
                Some(TEMPORARY) => failed(told(*status), true, Some(self.retry_after_ms)),
                Some(HOPELESS) => failed(told(*status), false, None),
                _ => failed(told(*status), true, None),
            },
            End::Unknown(error) => {
                let error = json!({ "message": format!("the program cannot be waited for: {error}") });
                failed(error, true, None)
            }
            End::LeaseEnded | End::WorkerStops => Verdict::Release,
        }
    }

    /// Says it, and answers with the state that the run is in then.
    async fn say(&self, lease: &Lease, seq: u64, verdict: &Verdict) -> String {
        let (client, run, epoch) = (lease.client(), lease.run(), lease.epoch());
        let said = lease.insist(|| client.end_attempt(run, epoch, seq, verdict));
        let is_stopping = *self.stop.borrow() == Stop::Programs;
        let patience = if is_stopping {
            LAST_WORDS_PATIENCE
        } else {
            Duration::MAX
        };
        match tokio::time::timeout(patience, said).await {
            Ok(state) => state.unwrap_or_default(),
            Err(_elapsed) => "unknown: the server is away".to_owned(),
        }
    }
}

fn failed(error: Value, retry: bool, retry_after_ms: Option<u64>) -> Verdict {
    Verdict::Fail {
        error,
        retry,
        retry_after_ms,
    }
}

/// How a program ended, for whoever reads the run.
fn told(status: ExitStatus) -> Value {
    match (status.code(), status.signal()) {
        (Some(code), _) => json!({ "message": format!("the program exited with {code}"), "exit_code": code }),
        (None, signal) => json!({ "message": format!("the program was ended: {status}"), "signal": signal }),
    }
}

/// Waits until all is read that was written, but not for ever on what the program has left behind.
async fn end_of(readers: [JoinHandle<()>; 2]) {
    let readers = readers.map(AbortOnDrop);
    let all = async {
        for mut reader in readers {
            let _ = (&mut reader.0).await;
        }
    };
    let _ = tokio::time::timeout(PIPES_PATIENCE, all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_program_is_told_by_its_code_or_its_signal() {
        let exited = told(ExitStatus::from_raw(3 << 8));
        assert_eq!(
            exited,
            json!({ "message": "the program exited with 3", "exit_code": 3 })
        );
        assert_eq!(told(ExitStatus::from_raw(9))["signal"], 9);
    }
}
