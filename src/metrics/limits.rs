//! What gauges are to be held against. A label is the end of the gauge's name.

use tailwater_process::page::Page;

use super::StoreLook;
use crate::http::App;

pub(super) fn render(page: &mut Page, app: &App, look: Option<&StoreLook>) {
    let limits = &app.config.limits;
    let engine = app.engine.limits();
    let mut all = vec![
        ("change_feed_events", engine.changes_max as u64),
        ("clients", limits.max_clients as u64),
        ("connections", limits.max_connections as u64),
        ("in_flight_bytes", limits.max_in_flight_bytes as u64),
        ("live_readers", limits.max_live_readers as u64),
        ("requests", limits.max_requests as u64),
        ("streams_open", engine.open_streams_max),
    ];
    if let Some(served) = &app.subscriptions {
        let subscriptions = &app.config.subscriptions;
        all.push(("subscriptions", subscriptions.max_subscriptions as u64));
        all.push(("subscription_turns", served.all.turns().1 as u64));
        all.push(("webhooks_running", subscriptions.max_deliveries as u64));
    }
    if app.queues.is_some() {
        all.push(("queues", app.config.queues.max_queues as u64));
    }
    if app.schedules.is_some() {
        all.push(("schedules", app.config.schedules.max_schedules as u64));
    }
    if let Some(index_bytes_max) = look.and_then(StoreLook::index_bytes_max) {
        all.push(("store_index_bytes", index_bytes_max));
        all.push(("store_unfolded_bytes", app.config.storage.fold_bytes));
    }
    page.labelled(
        "tailwater_limit",
        "gauge",
        "What the gauge tailwater_<of> may reach; docs/overload.md says what happens then.",
        "of",
        all,
    );
}
