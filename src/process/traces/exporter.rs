//! Tells once that spans do not arrive, and once that they do again, and not at each try.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as Export};

/// An exporter whose failures are told of.
#[derive(Debug)]
pub(super) struct Watched {
    exporter: SpanExporter,
    /// Spans that were lost since the last ones arrived.
    lost: AtomicU64,
}

impl Watched {
    pub(super) fn new(exporter: SpanExporter) -> Self {
        Self {
            exporter,
            lost: AtomicU64::new(0),
        }
    }

    fn note(&self, spans: u64, exported: &OTelSdkResult) {
        match exported {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::info!(lost, "the collector takes spans again");
                }
            }
            Err(error) => {
                let lost = self.lost.fetch_add(spans, Ordering::Relaxed);
                if lost == 0 {
                    tracing::warn!(%error, "the collector takes no spans: they are lost until it does");
                }
            }
        }
    }
}

impl Export for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exported = self.exporter.export(batch).await;
        self.note(spans, &exported);
        // Told of above. The library would tell of each.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
