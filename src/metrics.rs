//! Every metric's name and meaning, in the Prometheus text format.
//!
//! What the engine counts is read from the engine; what only HTTP knows is counted here. Labels are few and
//! bounded: a refusal's `code` is one of those in `http/error.rs`.

mod queues;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tailwater_process::page::Page;
use tailwater_storage::acid::AcidStats;
use tailwater_storage::file::{FileStats, StoreActivity};
use tailwater_storage::stats::{Counter, Histogram};
use tailwater_storage::subscriptions::SubscriptionStats;
use tailwater_storage::{Store, StoreStats, Subscriptions};

use crate::http::App;
use crate::webhooks::{Deliverer, DeliveryCounts};

/// What the server counts beside the engine.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Open connections.
    pub(crate) connections: std::sync::atomic::AtomicUsize,
    reads: Counter,
    read_bytes: Counter,
    from_file_bytes: Counter,
    deliveries: Counter,
    delivery_bytes: Counter,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    /// None in memory mode.
    store: Option<Store>,
    /// None if the port speaks HTTP in clear.
    tls: Option<Arc<TlsMetrics>>,
    /// None only in tests that send no webhooks.
    deliverer: Option<Deliverer>,
}

impl Metrics {
    pub(crate) fn new(store: Option<Store>, tls: Option<Arc<TlsMetrics>>) -> Self {
        Self {
            store,
            tls,
            ..Self::default()
        }
    }

    /// Shows how its deliveries go, too.
    pub(crate) fn with_deliverer(self, deliverer: Deliverer) -> Self {
        Self {
            deliverer: Some(deliverer),
            ..self
        }
    }

    /// What the store on disk holds; none if there is none, or it cannot be asked. May take as long as the disk.
    pub(crate) async fn store_stats(&self) -> Option<StoreStats> {
        let store = self.store.clone()?;
        let stats = tokio::task::spawn_blocking(move || store.stats()).await.ok()?;
        stats
            .inspect_err(|error| tracing::warn!(%error, "the store cannot be asked what it holds"))
            .ok()
    }

    /// Counts an answer with stored data.
    pub(crate) fn read(&self, bytes: usize) {
        self.reads.add(1);
        self.read_bytes.add(bytes as u64);
    }

    /// Counts bytes that the kernel has sent from a file.
    pub(crate) fn sent_from_files(&self, bytes: usize) {
        self.from_file_bytes.add(bytes as u64);
    }

    /// Counts a frame of events handed to a subscriber.
    pub(crate) fn delivered(&self, bytes: usize) {
        self.deliveries.add(1);
        self.delivery_bytes.add(bytes as u64);
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, code: &'static str) {
        *self
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(code)
            .or_insert(0) += 1;
    }

    /// How many bytes the kernel has sent from files.
    #[cfg(test)]
    pub(crate) fn bytes_from_files(&self) -> u64 {
        self.from_file_bytes.get()
    }

    /// How many refusals of that code there were.
    #[cfg(test)]
    pub(crate) fn refusals(&self, code: &str) -> u64 {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.get(code).copied().unwrap_or(0)
    }

    /// All metrics as text.
    pub(crate) fn render(&self, app: &App, store: Option<&StoreStats>) -> String {
        let stats = app.engine.stats();
        let usage = app.engine.usage();
        let connections = self.connections.load(Ordering::Relaxed);
        let failed = u8::from(app.engine.failure().borrow().is_some());
        let mut page = Page::default();
        page.labelled(
            "tailwater_build_info",
            "gauge",
            "The version that runs.",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1)],
        );
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
        histogram(
            &mut page,
            "tailwater_commit_batch_records",
            "Records in one commit.",
            &stats.batch_records,
            1.0,
        );
        histogram(
            &mut page,
            "tailwater_commit_seconds",
            "Duration of one commit.",
            &stats.commit_micros,
            1e6,
        );
        page.counter(
            "tailwater_reads_total",
            "Catch-up and long-poll answers with data.",
            self.reads.get(),
        );
        page.counter(
            "tailwater_read_bytes_total",
            "Bytes in them, before compression.",
            self.read_bytes.get(),
        );
        page.counter(
            "tailwater_read_sendfile_bytes_total",
            "Bytes of answers that the kernel sent from segments by itself, without a copy.",
            self.from_file_bytes.get(),
        );
        page.counter(
            "tailwater_deliveries_total",
            "Frames of events handed to SSE readers.",
            self.deliveries.get(),
        );
        page.counter(
            "tailwater_delivery_bytes_total",
            "Bytes in those frames.",
            self.delivery_bytes.get(),
        );
        let refusals = self
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        page.labelled(
            "tailwater_refusals_total",
            "counter",
            "Requests refused, by code.",
            "code",
            refusals,
        );
        page.gauge("tailwater_connections", "Open connections.", connections);
        page.gauge(
            "tailwater_live_readers",
            "Long-polls and SSE connections.",
            app.live_readers(),
        );
        page.gauge(
            "tailwater_in_flight_bytes",
            "Request bodies that are not answered yet.",
            app.in_flight.bytes(),
        );
        page.gauge(
            "tailwater_requests",
            "Requests whose answers are being made or sent, but for those of health, metrics and event streams.",
            app.requests(),
        );
        page.gauge(
            "tailwater_clients",
            "Clients that are told apart.",
            app.clients.known(),
        );
        page.counter(
            "tailwater_client_overflows_total",
            "Times that a client came for whom there was no place among them.",
            app.clients.strangers(),
        );
        limits(&mut page, app);
        page.gauge(
            "tailwater_writes_waiting",
            "Writes whose request is there and that are not answered yet.",
            app.writes.waiting(),
        );
        page.gauge(
            "tailwater_reads_waiting",
            "Reads that wait until appends leave them time.",
            app.read_share.waiting(),
        );
        page.counter(
            "tailwater_reads_delayed_total",
            "Reads that had to wait for that.",
            app.read_share.delayed(),
        );
        page.counter(
            "tailwater_reads_busy_seconds_total",
            "Time that reads took of the server's, if they are limited to a share of it.",
            Duration::from_nanos(app.read_share.taken_ns()).as_secs_f64(),
        );
        if let Some(tls) = &self.tls {
            tls_samples(&mut page, tls);
        }
        if let Some(served) = &app.subscriptions {
            subscription_samples(&mut page, &served.all);
        }
        if let Some(all) = &app.queues {
            queues::samples(&mut page, all, app.config.queues.max_metric_queues);
        }
        if let Some(deliverer) = &self.deliverer {
            webhook_samples(&mut page, &deliverer.counts());
        }
        page.gauge("tailwater_streams", "Streams stored.", usage.streams);
        page.gauge(
            "tailwater_streams_open",
            "Streams held ready in memory.",
            app.engine.open_streams(),
        );
        page.counter(
            "tailwater_stream_loads_total",
            "Streams loaded from the storage.",
            stats.loads.get(),
        );
        page.counter(
            "tailwater_stream_evictions_total",
            "Idle streams put out of memory.",
            stats.evictions.get(),
        );
        page.gauge(
            "tailwater_stored_bytes",
            "Bytes stored, index included.",
            usage.bytes,
        );
        if let Some(bytes_max) = usage.bytes_max {
            page.gauge(
                "tailwater_stored_bytes_max",
                "Bytes that may be stored.",
                bytes_max,
            );
        }
        page.gauge(
            "tailwater_storage_failed",
            "1 once the storage has failed.",
            failed,
        );
        match &self.store {
            Some(Store::File(store)) => file_activity(&mut page, &store.activity()),
            Some(Store::Acid(store)) => store_full(&mut page, store.refuses_appends()),
            None => {}
        }
        match store {
            Some(StoreStats::File(stats)) => file_stats(&mut page, stats),
            Some(StoreStats::Acid(stats)) => acid_stats(&mut page, stats),
            None => {}
        }
        page.into_text()
    }
}

/// What gauges are to be held against. A label is the end of the gauge's name.
fn limits(page: &mut Page, app: &App) {
    let limits = &app.config.limits;
    page.labelled(
        "tailwater_limit",
        "gauge",
        "What the gauge of that name may reach.",
        "of",
        [
            ("clients", limits.max_clients),
            ("connections", limits.max_connections),
            ("in_flight_bytes", limits.max_in_flight_bytes),
            ("live_readers", limits.max_live_readers),
            ("requests", limits.max_requests),
            ("subscriptions", app.config.subscriptions.max_subscriptions),
        ],
    );
}

/// What TLS counts.
pub(crate) struct TlsMetrics {
    handshake_failures: Counter,
    reloads: Counter,
    failed_reloads: Counter,
    /// In seconds since 1970.
    certificate_expires: AtomicU64,
}

impl TlsMetrics {
    /// The server's certificate ends at that time, in seconds since 1970.
    pub(crate) fn new(expires_secs: u64) -> Self {
        Self {
            handshake_failures: Counter::default(),
            reloads: Counter::default(),
            failed_reloads: Counter::default(),
            certificate_expires: AtomicU64::new(expires_secs),
        }
    }

    /// Counts a connection that did not get as far as HTTP.
    pub(crate) fn handshake_failed(&self) {
        self.handshake_failures.add(1);
    }

    /// Counts new files that are in use now.
    pub(crate) fn reloaded(&self, expires_secs: u64) {
        self.reloads.add(1);
        self.certificate_expires.store(expires_secs, Ordering::Relaxed);
    }

    /// Counts new files that cannot be used.
    pub(crate) fn reload_failed(&self) {
        self.failed_reloads.add(1);
    }
}

fn tls_samples(page: &mut Page, tls: &TlsMetrics) {
    page.counter(
        "tailwater_tls_handshake_failures_total",
        "TLS handshakes that failed or took too long.",
        tls.handshake_failures.get(),
    );
    page.labelled(
        "tailwater_tls_reloads_total",
        "counter",
        "Times that the TLS files were read again, by whether they could be used.",
        "result",
        [("used", tls.reloads.get()), ("failed", tls.failed_reloads.get())],
    );
    page.gauge(
        "tailwater_tls_certificate_expires_seconds",
        "The end of the server's certificate, in seconds since 1970.",
        tls.certificate_expires.load(Ordering::Relaxed),
    );
}

fn file_activity(page: &mut Page, activity: &StoreActivity) {
    page.counter(
        "tailwater_store_journal_bytes_total",
        "Bytes written to journals.",
        activity.journal_bytes_written,
    );
    page.counter(
        "tailwater_store_syncs_total",
        "Syncs of journals.",
        activity.syncs,
    );
    page.counter(
        "tailwater_store_folds_total",
        "Times that journals were folded into segments.",
        activity.folds,
    );
    page.counter(
        "tailwater_store_folded_bytes_total",
        "Bytes of segments made by that.",
        activity.folded_bytes,
    );
    page.counter(
        "tailwater_store_merges_total",
        "Times that segments were merged.",
        activity.merges,
    );
    page.counter(
        "tailwater_store_merged_bytes_total",
        "Bytes of segments made by that.",
        activity.merged_bytes,
    );
    page.counter(
        "tailwater_store_unreadable_segments_total",
        "Times that a segment could not be read when it was to be merged.",
        activity.unreadable_segments,
    );
    page.gauge(
        "tailwater_store_index_bytes",
        "Memory that the index of what is not folded takes.",
        activity.index_bytes,
    );
    store_full(page, activity.refuses_appends);
}

fn store_full(page: &mut Page, refuses_appends: bool) {
    page.gauge(
        "tailwater_store_full",
        "1 while appends are refused because the disk is full.",
        u8::from(refuses_appends),
    );
}

fn subscription_samples(page: &mut Page, all: &Subscriptions) {
    let SubscriptionStats {
        wakes,
        send_failures,
        acks,
        fenced,
        expired_leases,
    } = all.stats();
    page.gauge("tailwater_subscriptions", "Subscriptions.", all.count());
    let counters = [
        ("wakes", "Wakes that were made.", wakes),
        (
            "send_failures",
            "Attempts to send a wake that failed.",
            send_failures,
        ),
        ("acks", "Callbacks and acks that were accepted.", acks),
        (
            "fenced",
            "Callbacks, acks and releases of workers that were fenced off.",
            fenced,
        ),
        (
            "expired_leases",
            "Leases that ended because their holder was silent.",
            expired_leases,
        ),
    ];
    for (name, meaning, counter) in counters {
        let name = format!("tailwater_subscription_{name}_total");
        page.counter(&name, meaning, counter.get());
    }
}

fn webhook_samples(page: &mut Page, counts: &DeliveryCounts) {
    let DeliveryCounts {
        done,
        taken,
        failed,
        running,
        waiting,
    } = *counts;
    page.labelled(
        "tailwater_webhook_deliveries_total",
        "counter",
        "Webhooks that were sent, or could not be, by what came of it.",
        "result",
        [("done", done), ("taken", taken), ("failed", failed)],
    );
    page.gauge(
        "tailwater_webhooks_running",
        "Webhooks that are being sent.",
        running,
    );
    page.gauge(
        "tailwater_webhooks_waiting",
        "Webhooks that wait for their turn.",
        waiting,
    );
}

fn file_stats(page: &mut Page, stats: &FileStats) {
    page.gauge(
        "tailwater_store_unfolded_bytes",
        "Bytes in journals that are not in segments yet.",
        stats.unfolded_bytes,
    );
    page.gauge("tailwater_store_segments", "Segments.", stats.segments);
    page.gauge(
        "tailwater_store_live_bytes",
        "Bytes in segments that streams want.",
        stats.live_bytes,
    );
    page.gauge(
        "tailwater_store_dead_bytes",
        "Bytes in segments that no stream wants any more.",
        stats.dead_bytes,
    );
}

fn acid_stats(page: &mut Page, stats: &AcidStats) {
    page.gauge("tailwater_store_shards", "Shards.", stats.shards);
    page.gauge(
        "tailwater_store_shard_bytes",
        "Length of the files of all shards.",
        stats.shard_bytes,
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
