//! What answers say of queues and jobs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tailwater_storage::queues::{Claimed, DeadJob, Described, Enqueued};
use tailwater_storage::stream::queue::event::job_text;
use tailwater_storage::stream::{Position, StreamName};

use crate::http::time;

/// What the path of a stream may hold as it is (RFC 3986 `unreserved`), and the slashes of its name.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

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
    let jobs: Vec<_> = jobs
        .iter()
        .map(|claimed| {
            let facts = json!({
                "job": job_text(claimed.job),
                "run": claimed.run.as_str(),
                "url": url(root, &claimed.run),
                "epoch": claimed.epoch,
                "producer": tailwater_storage::stream::kind::LEASE_PRODUCER,
                "next_seq": 1,
                "attempt": claimed.attempt,
                "lease_ms": claimed.lease_ms,
                "resume_from": claimed.resume_from.map(|offset| offset.to_string()),
            });
            let facts = facts.to_string();
            let open = facts.strip_suffix('}').unwrap_or_default();
            format!("{open},\"payload\":{}}}", claimed.payload)
        })
        .collect();
    format!("{{\"jobs\":[{}]}}", jobs.join(","))
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
