//! Streams, appends and commits, as the engine counts them.

use tailwater_process::page::Page;
use tailwater_storage::Engine;
use tailwater_storage::panics::Task;
use tailwater_storage::stats::{EngineStats, Histogram};

pub(super) fn render(page: &mut Page, engine: &Engine) {
    let stats = engine.stats();
    writes(page, stats);
    page.labelled(
        "tailwater_task_panics_total",
        "counter",
        "Panics of tasks in the background, which are begun again, and of what serves one client, which ends: each is a bug, \
         and the log says where.",
        "task",
        Task::ALL.map(|task| (task.name(), stats.panics.of(task))),
    );
    commits(page, engine);
    streams(page, engine);
}

fn writes(page: &mut Page, stats: &EngineStats) {
    page.counter("tailwater_creates_total", "Streams created.", stats.creates.get());
    page.counter(
        "tailwater_appends_total",
        "Appends accepted, closes included.",
        stats.appends.get(),
    );
    page.counter(
        "tailwater_append_bytes_total",
        "Bytes added by appends.",
        stats.append_bytes.get(),
    );
    page.counter(
        "tailwater_append_messages_total",
        "Messages added by appends.",
        stats.append_messages.get(),
    );
    page.counter(
        "tailwater_duplicates_total",
        "Requests answered without an append, because they had been accepted before.",
        stats.duplicates.get(),
    );
    page.counter(
        "tailwater_deletes_total",
        "Streams deleted by clients.",
        stats.deletes.get(),
    );
    page.counter(
        "tailwater_expirations_total",
        "Streams whose lifetime ended.",
        stats.expirations.get(),
    );
}

fn commits(page: &mut Page, engine: &Engine) {
    let stats = engine.stats();
    histogram(
        page,
        "tailwater_commit_batch_records",
        "Records in one commit.",
        &stats.batch_records,
        1.0,
    );
    histogram(
        page,
        "tailwater_commit_seconds",
        "Duration of one commit: appends wait as long. On disk most of it is the disk's, see tailwater_store_sync_seconds_total.",
        &stats.commit_micros,
        1e6,
    );
    let backlog = engine.backlog();
    page.gauge(
        "tailwater_commit_queue_records",
        "Records that no commit has taken yet: one for each request at most.",
        backlog.records,
    );
    page.gauge(
        "tailwater_commit_queue_bytes",
        "Bytes of their payloads.",
        backlog.payload_bytes,
    );
}

fn streams(page: &mut Page, engine: &Engine) {
    let (stats, usage) = (engine.stats(), engine.usage());
    page.gauge("tailwater_streams", "Streams stored.", usage.streams);
    page.gauge(
        "tailwater_streams_open",
        "Streams held ready in memory.",
        engine.open_streams(),
    );
    page.counter(
        "tailwater_stream_loads_total",
        "Streams loaded from the storage: if it grows as fast as tailwater_stream_evictions_total, raise limits.max_open_streams.",
        stats.loads.get(),
    );
    page.counter(
        "tailwater_stream_evictions_total",
        "Idle streams put out of memory.",
        stats.evictions.get(),
    );
    page.gauge(
        "tailwater_change_feed_events",
        "Changes that the feed remembers; readers that are further behind are refused with the code changes_gone.",
        engine.changes().kept(),
    );
    page.gauge(
        "tailwater_stored_bytes",
        "Bytes stored, index included.",
        usage.bytes,
    );
    if let Some(bytes_max) = usage.bytes_max {
        page.gauge(
            "tailwater_stored_bytes_max",
            "Bytes that may be stored, limits.max_memory_bytes: at that, appends are refused with the code storage_full.",
            bytes_max,
        );
    }
    page.gauge(
        "tailwater_storage_failed",
        "1 once the storage has failed: the log says why; restart the server once that is mended.",
        u8::from(engine.failure().borrow().is_some()),
    );
}

/// A histogram of whose observations `per_unit` make one of the metric's unit.
fn histogram<const N: usize>(
    page: &mut Page,
    name: &str,
    meaning: &str,
    histogram: &Histogram<N>,
    per_unit: f64,
) {
    let buckets = histogram
        .buckets()
        .map(|(bound, count)| (bound as f64 / per_unit, count));
    let sum = histogram.sum() as f64 / per_unit;
    page.histogram(name, meaning, buckets, histogram.above(), sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_infinity() {
        let histogram = Histogram::new([1, 10]);
        [1, 5, 50].into_iter().for_each(|value| histogram.observe(value));
        let mut page = Page::default();
        super::histogram(&mut page, "x", "Things.", &histogram, 1e6);
        assert_eq!(
            page.into_text(),
            "# HELP x Things.\n# TYPE x histogram\nx_bucket{le=\"0.000001\"} 1\nx_bucket{le=\"0.00001\"} 2\n\
             x_bucket{le=\"+Inf\"} 3\nx_sum 0.000056\nx_count 3\n"
        );
    }
}
