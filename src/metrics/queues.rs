//! Metrics of job queues: one sample for each of a bounded number of queues.

use tailwater_process::page::Page;
use tailwater_storage::Queues;
use tailwater_storage::queues::{Gauges, QueueStats};

type Read = fn(&Gauges) -> u64;

const GAUGES: [(&str, &str, Read); 8] = [
    ("ready", "Jobs that may be given to workers.", |gauges| {
        gauges.ready
    }),
    ("leased", "Jobs that workers have.", |gauges| gauges.leased),
    ("scheduled", "Jobs whose time has not come.", |gauges| {
        gauges.scheduled
    }),
    ("retrying", "Jobs that wait for another attempt.", |gauges| {
        gauges.retrying
    }),
    (
        "held",
        "Jobs that only their concurrency key holds back.",
        |gauges| gauges.held,
    ),
    (
        "dead",
        "Dead letters that were neither redriven nor purged.",
        |gauges| gauges.dead,
    ),
    ("waiting_workers", "Workers that wait for a job.", |gauges| {
        gauges.waiting_workers
    }),
    ("paused", "1 while nothing is given to workers.", |gauges| {
        u64::from(gauges.paused)
    }),
];

const COUNTERS: [(&str, &str, Read); 11] = [
    ("enqueued", "Jobs that were admitted with a run.", |gauges| {
        gauges.counters.enqueued
    }),
    (
        "duplicates",
        "Messages that were the same job as an earlier one.",
        |gauges| gauges.counters.duplicates,
    ),
    ("claimed", "Leases that were given.", |gauges| {
        gauges.counters.claimed
    }),
    ("failed", "Attempts that failed and are repeated.", |gauges| {
        gauges.counters.failed
    }),
    (
        "leases_lost",
        "Leases that ended because their workers were silent.",
        |gauges| gauges.counters.leases_lost,
    ),
    ("released", "Leases that were given back.", |gauges| {
        gauges.counters.released
    }),
    ("succeeded", "Runs that succeeded.", |gauges| {
        gauges.counters.succeeded
    }),
    ("given_up", "Jobs that were given up.", |gauges| {
        gauges.counters.dead
    }),
    ("cancelled", "Runs that were called off.", |gauges| {
        gauges.counters.cancelled
    }),
    ("expired", "Runs that nobody began in time.", |gauges| {
        gauges.counters.expired
    }),
    ("timed_out", "Runs that were not done in time.", |gauges| {
        gauges.counters.timed_out
    }),
];

/// Adds the samples of the first `queues_max` queues, and those of all together.
pub(super) fn samples(page: &mut Page, queues: &Queues, queues_max: usize) {
    let QueueStats { fenced, deleted_runs } = queues.stats();
    page.gauge("tailwater_queues", "Job queues.", queues.count());
    page.counter(
        "tailwater_queue_fenced_total",
        "Calls of workers whose leases were over.",
        fenced.get(),
    );
    page.counter(
        "tailwater_queue_deleted_runs_total",
        "Ended runs that were deleted because their time was over.",
        deleted_runs.get(),
    );
    let of_each: Vec<(String, Gauges)> = queues
        .gauges(queues_max)
        .into_iter()
        .map(|(name, gauges)| (escaped(name.as_str()), gauges))
        .collect();
    if of_each.is_empty() {
        return;
    }
    for (name, meaning, read) in GAUGES {
        let name = format!("tailwater_queue_{name}");
        let samples = of_each
            .iter()
            .map(|(queue, gauges)| (queue.as_str(), read(gauges)));
        page.labelled(&name, "gauge", meaning, "queue", samples);
    }
    for (name, meaning, read) in COUNTERS {
        let name = format!("tailwater_queue_{name}_total");
        let samples = of_each
            .iter()
            .map(|(queue, gauges)| (queue.as_str(), read(gauges)));
        page.labelled(&name, "counter", meaning, "queue", samples);
    }
    let ages = of_each.iter().map(|(queue, gauges)| {
        let age = std::time::Duration::from_millis(gauges.oldest_age_ms);
        (queue.as_str(), age.as_secs_f64())
    });
    page.labelled(
        "tailwater_queue_oldest_age_seconds",
        "gauge",
        "How long some job has waited that could be given to a worker, since it could be: the longest time.",
        "queue",
        ages,
    );
}

/// The value of a label. Names of streams have no line breaks.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_name_cannot_end_its_label() {
        assert_eq!(escaped("a\"} 1\\"), "a\\\"} 1\\\\");
    }
}
