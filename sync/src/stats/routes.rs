//! What is counted of the streams of each route, and how it shows. The label is the route's name.

use tailwater_process::page::Page;

use super::Count;
use crate::mirror::Lag;

/// The end of a metric's name, its meaning, and where its value is.
type RouteCounter = (&'static str, &'static str, fn(&RouteStats) -> &Count);
type RouteGauge = (&'static str, &'static str, fn(&Lag) -> f64);

/// What is counted of the streams of one route.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// Its label.
    pub name: String,
    /// Events that are rows in all tables that they go to.
    pub rows: Count,
    /// Events that a table could not take.
    pub dead_letters: Count,
    /// Chunks that could not be written.
    pub write_failures: Count,
}

/// Metrics with the names of routes as labels: as many as there are routes.
pub(super) fn render(routes: &[RouteStats], page: &mut Page, lags: &[Lag]) {
    if routes.is_empty() {
        return;
    }
    let names = || routes.iter().map(|route| route.name.as_str());
    let counters: [RouteCounter; 3] = [
        (
            "rows_total",
            "Events that are rows in all tables that they go to.",
            |route| &route.rows,
        ),
        (
            "dead_letters_total",
            "Events that a table could not take.",
            |route| &route.dead_letters,
        ),
        (
            "write_failures_total",
            "Chunks of a stream that PostgreSQL does not take.",
            |route| &route.write_failures,
        ),
    ];
    for (name, meaning, count) in counters {
        let counts = routes.iter().map(|route| count(route).get());
        let name = format!("tailwater_sync_route_{name}");
        page.labelled(&name, "counter", meaning, "route", names().zip(counts));
    }
    let gauges: [RouteGauge; 4] = [
        ("streams", "Streams of which something is not committed.", |lag| {
            lag.streams as f64
        }),
        ("bytes", "What is not committed, as streams count bytes.", |lag| {
            lag.bytes as f64
        }),
        (
            "events",
            "Events of that, as far as the source has told.",
            |lag| lag.events as f64,
        ),
        (
            "seconds",
            "How long the oldest of that has been known of.",
            |lag| lag.oldest.as_secs_f64(),
        ),
    ];
    for (name, meaning, value) in gauges {
        let name = format!("tailwater_sync_route_lag_{name}");
        page.labelled(
            &name,
            "gauge",
            meaning,
            "route",
            names().zip(lags.iter().map(value)),
        );
    }
}
