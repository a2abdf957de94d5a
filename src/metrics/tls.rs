//! TLS: handshakes, and the files that are read again.

use std::sync::atomic::{AtomicU64, Ordering};

use tailwater_process::page::Page;
use tailwater_storage::stats::Counter;

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

    /// How often new files were taken into use.
    #[cfg(test)]
    pub(crate) fn reloads(&self) -> u64 {
        self.reloads.get()
    }

    pub(super) fn render(&self, page: &mut Page) {
        page.counter(
            "tailwater_tls_handshake_failures_total",
            "TLS handshakes that failed or took too long.",
            self.handshake_failures.get(),
        );
        page.labelled(
            "tailwater_tls_reloads_total",
            "counter",
            "Times that the TLS files were read again, by whether they could be used: the log says why not.",
            "result",
            [
                ("used", self.reloads.get()),
                ("failed", self.failed_reloads.get()),
            ],
        );
        page.gauge(
            "tailwater_tls_certificate_expires_seconds",
            "The end of the server's certificate, in seconds since 1970: renew tls.cert_path before.",
            self.certificate_expires.load(Ordering::Relaxed),
        );
    }
}
