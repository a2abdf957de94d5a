//! What answers say of queues and jobs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};
use tailwater_storage::queues::{Claimed, DeadJob, Described, Enqueued, Redriven};
use tailwater_storage::stream::queue::event::job_text;
use tailwater_storage::stream::{Position, StreamName};

use crate::http::error::Problem;
use crate::http::time;

/// What the path of a stream may hold as it is (RFC 3986 `unreserved`), and the slashes of its name.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// What is told of a job is mostly no longer, but for its payload.
const CLAIMED_BYTES: usize = 320;

/// The name of a stream as it stands in a URL, or in a header.
pub(in crate::http) fn encoded(stream: &StreamName) -> String {
    utf8_percent_encode(stream.as_str(), PATH).to_string()
}

/// The URL of a stream, below the URL of the root.
pub(in crate::http) fn url(root: &str, stream: &StreamName) -> String {
    format!("{root}/{}", encoded(stream))
}

/// The path of a queue below the URL of the root.
pub(super) fn location(root: &str, stream: &StreamName) -> String {
    format!("{root}/__ds/queues/{}", encoded(stream))
}

pub(in crate::http) fn job(job: Option<Position>) -> Value {
    job.map(job_text).into()
}

/// A queue with its configuration.
pub(super) fn described(described: &Described) -> Value {
    let mut document = summary(described);
    let counters = &described.gauges.counters;
    document["config"] = described.config.document();
    document["created_at"] = time::format(described.created_at).into();
    document["frontiers"] = json!({
        "admitted": described.admitted.to_string(),
        "taken": described.taken.to_string(),
    });
    document["totals"] = json!({
        "enqueued": counters.enqueued,
        "duplicates": counters.duplicates,
        "claimed": counters.claimed,
        "failed": counters.failed,
        "leases_lost": counters.leases_lost,
        "released": counters.released,
        "succeeded": counters.succeeded,
        "dead": counters.dead,
        "cancelled": counters.cancelled,
        "expired": counters.expired,
        "timed_out": counters.timed_out,
    });
    document
}

/// A queue without its configuration.
pub(super) fn summary(described: &Described) -> Value {
    let (gauges, rates) = (&described.gauges, &described.rates);
    json!({
        "stream": described.stream.as_str(),
        "paused": gauges.paused,
        "ready": gauges.ready,
        "leased": gauges.leased,
        "scheduled": gauges.scheduled,
        "retrying": gauges.retrying,
        "held": gauges.held,
        "dead": gauges.dead,
        "waiting_workers": gauges.waiting_workers,
        "oldest_age_ms": gauges.oldest_age_ms,
        "rates": {
            "enqueued": rates.enqueued,
            "claimed": rates.claimed,
            "succeeded": rates.succeeded,
            "failed": rates.failed,
        },
    })
}

/// A job that was enqueued.
pub(in crate::http) fn enqueued(enqueued: &Enqueued, root: &str) -> Value {
    json!({
        "job": job(enqueued.job),
        "run": enqueued.run.as_str(),
        "url": url(root, &enqueued.run),
    })
}

/// Jobs that a worker has, as text: payloads are told as they came.
pub(super) fn claimed(jobs: &[Claimed], root: &str) -> String {
    let mut text = b"{\"jobs\":[".to_vec();
    for (number, claimed) in jobs.iter().enumerate() {
        if number > 0 {
            text.push(b',');
        }
        text.reserve(CLAIMED_BYTES + claimed.payload.as_str().len());
        let facts = ClaimedFacts {
            job: job_text(claimed.job),
            run: claimed.run.as_str(),
            url: url(root, &claimed.run),
            epoch: claimed.epoch,
            producer: tailwater_storage::stream::kind::LEASE_PRODUCER,
            next_seq: 1,
            attempt: claimed.attempt,
            lease_ms: claimed.lease_ms,
            resume_from: claimed.resume_from.map(|offset| offset.to_string()),
        };
        serde_json::to_writer(&mut text, &facts).expect("texts and numbers can be written");
        // The payload comes last, within the same braces.
        text.pop();
        text.extend_from_slice(b",\"payload\":");
        text.extend_from_slice(claimed.payload.as_str().as_bytes());
        text.push(b'}');
    }
    text.extend_from_slice(b"]}");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// What is told of a job that a worker has, beside its payload.
#[derive(Serialize)]
struct ClaimedFacts<'c> {
    job: String,
    run: &'c str,
    url: String,
    epoch: u64,
    producer: &'static str,
    next_seq: u64,
    attempt: u32,
    lease_ms: u64,
    resume_from: Option<String>,
}

/// What became of dead letters that were to be tried anew.
pub(super) fn redriven(redriven: Redriven, root: &str) -> Value {
    let runs = redriven.redriven.iter();
    let runs: Vec<_> = runs.map(|run| enqueued(run, root)).collect();
    let left = redriven.left.into_iter().map(|(job, why)| {
        let why = Problem::from(why);
        json!({ "job": job_text(job), "code": why.code(), "detail": why.detail() })
    });
    json!({ "redriven": runs, "left": left.collect::<Vec<_>>(), "more_left": redriven.more_left })
}

/// A job that was given up.
pub(super) fn dead(dead: &DeadJob, root: &str) -> Value {
    json!({
        "job": job_text(dead.job),
        "run": dead.run.as_ref().map(StreamName::as_str),
        "url": dead.run.as_ref().map(|run| url(root, run)),
        "reason": dead.reason.code(),
        "attempt": dead.attempt,
        "at": time::format(dead.at),
    })
}
