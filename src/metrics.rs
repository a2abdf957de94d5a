//! Every metric's name and meaning, in the Prometheus text format.
//!
//! What the engine counts is read from the engine; what only HTTP knows is counted here. Labels are few and
//! bounded: a refusal's `code` is one of those in `http/error.rs`.
//!
//! | file | what it tells of |
//! |---|---|
//! | `requests.rs` | connections, requests, reads and refusals |
//! | `limits.rs` | what gauges may reach |
//! | `engine.rs` | streams, appends and commits |
//! | `store.rs` | stores on disk |
//! | `subscriptions.rs` | subscriptions and webhooks |
//! | `schedules.rs` | schedules |
//! | `tls.rs` | TLS |

mod engine;
mod limits;
mod queues;
mod requests;
mod schedules;
mod store;
mod subscriptions;
mod tls;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tailwater_process::Usage;
use tailwater_process::page::Page;
use tailwater_storage::Store;
use tailwater_storage::stats::Counter;

use crate::http::App;
use crate::webhooks::Deliverer;

pub(crate) use store::StoreLook;
pub(crate) use tls::TlsMetrics;

/// What the server counts beside the engine.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Open connections.
    pub(crate) connections: std::sync::atomic::AtomicUsize,
    /// Connections of which more was waited for than there is time.
    timed_out: Counter,
    /// Connections that the system could not hand out.
    failed_accepts: Counter,
    reads: Counter,
    read_bytes: Counter,
    from_file_bytes: Counter,
    deliveries: Counter,
    delivery_bytes: Counter,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    process: Usage,
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

    /// Counts a connection that was ended because its client kept it waiting.
    pub(crate) fn timed_out(&self) {
        self.timed_out.add(1);
    }

    /// Counts a connection that could not be accepted.
    pub(crate) fn accept_failed(&self) {
        self.failed_accepts.add(1);
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
    #[cfg(all(test, target_os = "linux", not(feature = "portable")))]
    pub(crate) fn refusals(&self, code: &str) -> u64 {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.get(code).copied().unwrap_or(0)
    }

    /// All metrics as text. May take as long as the disk.
    pub(crate) async fn page(&self, app: &App) -> String {
        let (process, store) = (self.process, self.store.clone());
        // The kernel lists thousands of files, and the store may have to wait for its disk.
        let asked = tokio::task::spawn_blocking(move || {
            let mut page = Page::default();
            process.render(&mut page);
            (page, store.as_ref().map(StoreLook::at))
        });
        let (page, look) = asked.await.unwrap_or_default();
        self.render(page, app, look.as_ref())
    }

    /// Adds all that waits for nothing.
    fn render(&self, mut page: Page, app: &App, look: Option<&StoreLook>) -> String {
        page.labelled(
            "tailwater_build_info",
            "gauge",
            "The version that runs.",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1)],
        );
        engine::render(&mut page, &app.engine);
        self.requests(&mut page, app);
        limits::render(&mut page, app, look);
        if let Some(tls) = &self.tls {
            tls.render(&mut page);
        }
        if let Some(served) = &app.subscriptions {
            subscriptions::render(&mut page, &served.all);
        }
        if let Some(all) = &app.queues {
            queues::samples(&mut page, all, app.config.queues.max_metric_queues);
        }
        if let Some(all) = &app.schedules {
            schedules::samples(&mut page, all);
        }
        if let Some(deliverer) = &self.deliverer {
            subscriptions::webhooks(&mut page, &deliverer.counts());
        }
        if let Some(look) = look {
            look.render(&mut page);
        }
        page.into_text()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Metrics, Page};
    use crate::config::Config;
    use crate::server;

    /// Rules divide the gauge by the limit of its name.
    #[test]
    fn each_limit_has_the_gauge_that_it_is_named_after() {
        let app = server::app_for_tests(Config::default());
        let text = Metrics::default().render(Page::default(), &app, None);
        let names: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        let limits = text
            .lines()
            .filter_map(|line| line.strip_prefix("tailwater_limit{of=\""));
        let of: Vec<_> = limits.filter_map(|rest| rest.split('"').next()).collect();
        assert!(of.len() > 5, "{of:?}");
        for name in of {
            // Those of parts that this server does not have are told of where they are.
            let elsewhere = ["subscriptions", "subscription_turns", "webhooks_running"];
            let gauge = format!("tailwater_{name}");
            assert!(
                names.contains(gauge.as_str()) || elsewhere.contains(&name),
                "{gauge} is not in\n{text}"
            );
        }
    }
}
