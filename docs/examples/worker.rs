//! A worker in Rust, by this project's own client: claims jobs, does each one, and tells its run.
//!
//! `cargo run --example worker -- http://127.0.0.1:4437/v1/stream jobs/mail`

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tailwater::client::{ClaimedJob, Client, ClientError, Verdict};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("which streams? give their URL")?;
    let queue = arguments
        .next()
        .ok_or("which queue? give the name of its stream")?;
    let wait_ms = if arguments.next().as_deref() == Some("--until-empty") {
        0
    } else {
        20_000
    };
    let client = Client::new(&url)?;
    let worker = format!("rust:{}", std::process::id());
    loop {
        let jobs = match client.claim_jobs(&queue, &worker, 1, wait_ms).await {
            Ok(jobs) => jobs,
            // The server is away, or has too much to do.
            Err(error) if error.is_passing() => {
                eprintln!("{error}; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if jobs.is_empty() && wait_ms == 0 {
            return Ok(());
        }
        for job in jobs {
            // Whoever has lost a lease has nothing more to say; the job is somebody else's.
            if let Err(lost) = attempt(&client, &job).await {
                eprintln!("{}: {lost}", job.run);
            }
        }
    }
}

/// Does a job while heartbeats keep its lease, and says what came of it.
async fn attempt(client: &Client, job: &ClaimedJob) -> Result<(), ClientError> {
    let mut seq = job.next_seq;
    let verdict = tokio::select! {
        ended = work(client, job, &mut seq) => match ended? {
            Ok(result) => Verdict::Complete { result: Some(result) },
            Err(error) => Verdict::Fail { error: json!(error), retry: true, retry_after_ms: None },
        },
        kept = keep(client, job) => {
            kept?;
            Verdict::Fail { error: json!("called off"), retry: false, retry_after_ms: None }
        }
    };
    client.end_attempt(&job.run, job.epoch, seq, &verdict).await?;
    Ok(())
}

/// Sends heartbeats until the run is called off.
async fn keep(client: &Client, job: &ClaimedJob) -> Result<(), ClientError> {
    loop {
        tokio::time::sleep(Duration::from_millis(job.lease_ms / 3)).await;
        if client.heartbeat(&job.run, job.epoch).await?.cancel {
            return Ok(());
        }
    }
}

/// What the job is: put yours here.
async fn work(
    client: &Client,
    job: &ClaimedJob,
    seq: &mut u64,
) -> Result<Result<Box<RawValue>, String>, ClientError> {
    let payload: Value = match serde_json::from_str(job.payload.get()) {
        Ok(payload) => payload,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let events = json!([{ "type": "progress", "of": payload, "percent": 50 }]);
    client
        .append_events(&job.run, job.epoch, *seq, events.to_string().into())
        .await?;
    *seq += 1;
    let result = json!({ "done": payload });
    Ok(serde_json::value::to_raw_value(&result).map_err(|error| error.to_string()))
}
