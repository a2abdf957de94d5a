//! Connections, requests, reads and refusals.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tailwater_process::page::Page;

use super::Metrics;
use crate::http::{App, Problem};

impl Metrics {
    pub(super) fn requests(&self, page: &mut Page, app: &App) {
        self.traffic(page);
        self.held(page, app);
        page.labelled(
            "tailwater_refusals_total",
            "counter",
            "Requests refused, by code: docs/troubleshooting.md says of each what to do.",
            "code",
            self.all_refusals(),
        );
        read_share(page, app);
    }

    /// Refusals by code. Those that a limit or the storage is behind are told of before there are any: Prometheus would not
    /// see the first ones grow.
    fn all_refusals(&self) -> BTreeMap<&'static str, u64> {
        let mut all: BTreeMap<_, _> = Problem::CODES_OF_LIMITS.iter().map(|code| (*code, 0)).collect();
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(refusals.iter().map(|(code, count)| (*code, *count)));
        all
    }

    fn traffic(&self, page: &mut Page) {
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
    }

    fn held(&self, page: &mut Page, app: &App) {
        page.gauge(
            "tailwater_connections",
            "Open connections.",
            self.connections.load(Ordering::Relaxed),
        );
        page.counter(
            "tailwater_connection_timeouts_total",
            "Connections ended because the client was idle, or sent or took nothing, for longer than server.*_timeout_secs.",
            self.timed_out.get(),
        );
        page.counter(
            "tailwater_accept_failures_total",
            "Connections that the system could not hand out: most often for want of files, see process_open_fds.",
            self.failed_accepts.get(),
        );
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
            "Times that a client came for whom there was no place among them: raise limits.max_clients.",
            app.clients.strangers(),
        );
        page.gauge(
            "tailwater_writes_waiting",
            "Writes whose request is there and that are not answered yet.",
            app.writes.waiting(),
        );
    }
}

fn read_share(page: &mut Page, app: &App) {
    page.gauge(
        "tailwater_reads_waiting",
        "Reads that wait until appends leave them time.",
        app.read_share.waiting(),
    );
    page.counter(
        "tailwater_reads_delayed_total",
        "Reads that had to wait for that; those that waited for too long are refusals with the code too_many_reads.",
        app.read_share.delayed(),
    );
    page.counter(
        "tailwater_reads_busy_seconds_total",
        "Time that reads took of the server's, if they are limited to a share of it.",
        Duration::from_nanos(app.read_share.taken_ns()).as_secs_f64(),
    );
}
