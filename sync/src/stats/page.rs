//! Every metric's name and meaning. Labels are few and bounded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tailwater_process::page::Page;

use super::{Count, DELAYS_MS, Snapshot, Stats, routes};

impl Stats {
    /// All metrics as text. Asks the kernel what the process takes, which is done in a millisecond.
    #[must_use]
    pub fn render(&self) -> String {
        let now = self.snapshot();
        let mut page = Page::default();
        page.labelled(
            "tailwater_sync_build_info",
            "gauge",
            "The version that runs.",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1)],
        );
        self.process.render(&mut page);
        page.labelled(
            "tailwater_sync_task_panics_total",
            "counter",
            "Panics of tasks in the background, which are begun again: each is a bug, and the log says where.",
            "task",
            [("metrics_port", self.metrics_port_panics.get())],
        );
        self.counters(&mut page);
        self.commits(&mut page);
        self.sides(&mut page);
        self.leases(&mut page);
        queues(&mut page, &now);
        lag(&mut page, &now);
        routes::render(&self.routes, &mut page, &now.lag_of_routes);
        page.into_text()
    }

    fn counters(&self, page: &mut Page) {
        let counters: [(&str, &str, &Count); 10] = [
            ("rows", "Rows committed.", &self.rows),
            ("read_events", "Events read.", &self.read_events),
            ("read_bytes", "Bytes of their payloads.", &self.read_bytes),
            (
                "dead_letters",
                "Events that cannot be rows: tailwater.dead_letters has them and says why.",
                &self.dead_letters,
            ),
            (
                "moved",
                "Chunks that were read again because the mirror stood elsewhere in their streams.",
                &self.moved,
            ),
            (
                "fenced",
                "Chunks that were not written because the lease on their streams was lost.",
                &self.fenced,
            ),
            (
                "gaps",
                "Times that a stream had been trimmed before it was read: those events are lost to the mirror.",
                &self.gaps,
            ),
            (
                "write_failures",
                "Chunks of a stream that PostgreSQL does not take: tailwater-sync status says which and why.",
                &self.write_failures,
            ),
            ("deletions", "Streams deleted at the source.", &self.deletions),
            ("trims", "Trims at the source.", &self.trims),
        ];
        for (name, meaning, count) in counters {
            page.counter(&format!("tailwater_sync_{name}_total"), meaning, count.get());
        }
    }

    fn commits(&self, page: &mut Page) {
        page.counter(
            "tailwater_sync_commits_total",
            "Transactions with rows.",
            self.commits.get(),
        );
        page.counter(
            "tailwater_sync_commit_seconds_total",
            "Time that transactions with rows took.",
            Duration::from_micros(self.commit_us.get()).as_secs_f64(),
        );
        page.histogram(
            "tailwater_sync_delay_seconds",
            "Time from an event's append to its commit, by the clocks of both machines.",
            DELAYS_MS
                .iter()
                .zip(&self.delays)
                .map(|(bound, count)| (*bound as f64 / 1e3, count.get())),
            self.delays_above.get(),
            self.delays_sum_ms.get() as f64 / 1e3,
        );
    }

    /// Of the servers that it talks to.
    fn sides(&self, page: &mut Page) {
        page.labelled(
            "tailwater_sync_retries_total",
            "counter",
            "Tries after a failure, by what failed: the log says why.",
            "what",
            [
                ("feed", self.source.retries.get()),
                ("read", self.read_retries.get()),
                ("upkeep", self.upkeep_retries.get()),
                ("postgres", self.postgres.retries.get()),
                ("leases", self.lease_retries.get()),
            ],
        );
        page.labelled(
            "tailwater_sync_reconnections_total",
            "counter",
            "Times that a server was well again.",
            "side",
            [
                ("source", self.source.reconnections.get()),
                ("postgres", self.postgres.reconnections.get()),
            ],
        );
        page.labelled(
            "tailwater_sync_up",
            "gauge",
            "1 while a server does what it is asked: the log says why one does not.",
            "side",
            [
                ("source", u8::from(self.source.is_well())),
                ("postgres", u8::from(self.postgres.is_well())),
            ],
        );
        page.gauge(
            "tailwater_sync_listed",
            "1 once all streams of the source are known.",
            u8::from(self.is_listed.load(Ordering::Relaxed)),
        );
    }

    fn leases(&self, page: &mut Page) {
        page.counter(
            "tailwater_sync_leases_taken_total",
            "Partitions taken.",
            self.leases_taken.get(),
        );
        page.counter(
            "tailwater_sync_leases_lost_total",
            "Partitions lost because their leases were not renewed in time: PostgreSQL is slow, or sync.lease_ms too short.",
            self.leases_lost.get(),
        );
        page.gauge(
            "tailwater_sync_partitions",
            "Parts of all streams that this instance mirrors.",
            self.partitions.get(),
        );
        page.gauge(
            "tailwater_sync_instances",
            "Instances that share the streams.",
            self.instances.get(),
        );
    }
}

/// What waits within the mirror, and how much there may be of it.
fn queues(page: &mut Page, now: &Snapshot) {
    for (name, meaning, value) in [
        ("streams", "Streams that are mirrored.", now.streams),
        (
            "streams_ready",
            "Streams that could be read and wait for others to be: raise sync.readers if they keep waiting.",
            now.ready_streams,
        ),
        (
            "streams_waiting",
            "Streams that failed and wait to be tried again: tailwater-sync status says why.",
            now.waiting_streams,
        ),
        (
            "buffered_bytes",
            "What is read and not written; at its limit nothing is read.",
            now.buffered_bytes,
        ),
        ("reads", "Reads under way.", now.reads),
        (
            "upkeep_waiting",
            "Deletions and trims at the source that are not done.",
            now.chores,
        ),
        (
            "notes_waiting",
            "Notes about streams, as that they are deleted, that are not written to PostgreSQL.",
            now.notes,
        ),
    ] {
        page.gauge(&format!("tailwater_sync_{name}"), meaning, value);
    }
    page.labelled(
        "tailwater_sync_limit",
        "gauge",
        "What the gauge tailwater_sync_<of> may reach: sync.buffer_bytes and sync.readers.",
        "of",
        [
            ("buffered_bytes", now.buffered_bytes_max),
            ("reads", now.reads_max),
        ],
    );
}

fn lag(page: &mut Page, now: &Snapshot) {
    page.gauge(
        "tailwater_sync_lag_streams",
        "Streams of which something is not committed.",
        now.lag.streams,
    );
    page.gauge(
        "tailwater_sync_lag_bytes",
        "What is not committed, as streams count bytes.",
        now.lag.bytes,
    );
    page.gauge(
        "tailwater_sync_lag_events",
        "Events of that, as far as the source has told.",
        now.lag.events,
    );
    page.gauge(
        "tailwater_sync_lag_seconds",
        "How long the oldest of that has been known of.",
        now.lag.oldest.as_secs_f64(),
    );
}
