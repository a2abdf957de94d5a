//! One job, from its claim to what the worker says last of it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::journal::Journal;
use super::lease::{Lease, Standing};
use super::lines::{LastJson, RESULT_BYTES_MAX};
use super::program::Program;
use super::{AbortOnDrop, Stop};
use crate::cli::arguments::queues::ResultChoice;
use crate::client::{ClaimedJob, Client, Verdict};

/// Try again later (`EX_TEMPFAIL` of sysexits).
const TEMPORARY: i32 = 75;
/// It will never work (`EX_DATAERR` of sysexits).
const HOPELESS: i32 = 65;
/// What there is to say of a program that has ended is tried for so long when the worker is to stop; then its lease ends by
/// itself.
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
    /// By itself, or done though it was asked to stop.
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
                let verdict = failed(error, true, None);
                let said = self.say(lease, self.job.next_seq, &verdict);
                return self.while_there_is_time(said).await;
            }
        };
        let wants_result = self.result == ResultChoice::LastLine;
        let journal = Journal::start((stdout, stderr), lease.clone(), self.job.next_seq, wants_result);
        let end = tokio::select! {
            exited = program.wait() => exited.map_or_else(End::Unknown, End::Exited),
            () = lease.ends() => End::LeaseEnded,
            _ = self.stop.wait_for(|stop| *stop == Stop::Programs) => End::WorkerStops,
        };
        let end = match end {
            End::Exited(_) => end,
            forced => match (forced, program.end(self.kill_after).await) {
                // It has finished what it had begun.
                (End::WorkerStops, Ok(status)) if status.success() => End::Exited(status),
                (forced, _) => forced,
            },
        };
        let told = async {
            let Some((seq, last)) = journal.end(program).await else {
                return String::new();
            };
            self.say(lease, seq, &self.verdict(lease, &end, last)).await
        };
        self.while_there_is_time(told).await
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

    fn verdict(&self, lease: &Lease, end: &End, last: LastJson) -> Verdict {
        if lease.standing() == Standing::Cancelled && !matches!(end, End::Exited(status) if status.success())
        {
            return failed(json!({ "message": "the run was called off" }), false, None);
        }
        match end {
            End::Exited(status) => match status.code() {
                Some(0) => match last {
                    LastJson::None => Verdict::Complete { result: None },
                    LastJson::Line(json) => Verdict::Complete { result: Some(json) },
                    LastJson::TooLong => failed(too_long(), false, None),
                },
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

    /// Says it, and answers with the state that the run is in then. A result that the server does not take ends the run: the
    /// program has done its work, and would only do the same again.
    async fn say(&self, lease: &Lease, seq: u64, verdict: &Verdict) -> String {
        let (client, run, epoch) = (lease.client(), lease.run(), lease.epoch());
        let said = lease.insist(|| client.end_attempt(run, epoch, seq, verdict));
        let refusal = match said.await {
            None => return String::new(),
            Some(Ok(state)) => return state,
            Some(Err(refusal)) => refusal,
        };
        if matches!(verdict, Verdict::Complete { result: Some(_) }) {
            let error = json!({ "message": format!("the result was refused: {refusal}") });
            let hopeless = failed(error, false, None);
            let said = lease.insist(|| client.end_attempt(run, epoch, seq, &hopeless));
            if let Some(Ok(state)) = said.await {
                return state;
            }
        }
        lease.lose(refusal.to_string());
        String::new()
    }

    /// Waits for what there is to say last; not for ever on a server that is away once the worker is to stop.
    async fn while_there_is_time(&self, said: impl Future<Output = String>) -> String {
        let mut stop = self.stop.clone();
        let is_over = async {
            // Whoever says it waits for all attempts.
            let _ = stop.wait_for(|stop| *stop == Stop::Programs).await;
            tokio::time::sleep(LAST_WORDS_PATIENCE).await;
        };
        tokio::select! {
            state = said => state,
            () = is_over => "unknown: the server is away".to_owned(),
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

/// The program has done its work, and nobody would get what came of it.
fn too_long() -> Value {
    let message = format!(
        "the last line of stdout that looks like JSON has more than {RESULT_BYTES_MAX} bytes, too many for a result; put it \
         elsewhere, and print where it is"
    );
    json!({ "message": message })
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
