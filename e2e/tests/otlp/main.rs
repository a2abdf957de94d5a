//! Spans as a collector gets them, from builds with the feature `otlp` (`make test-otlp`).

mod collector;
mod mirror;
mod server;

/// Names a collector for a program, and has it send soon.
fn variables(endpoint: &str) -> [(&'static str, &str); 2] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ]
}
