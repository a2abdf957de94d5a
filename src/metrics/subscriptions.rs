//! Subscriptions and webhooks.

use tailwater_process::page::Page;
use tailwater_storage::Subscriptions;
use tailwater_storage::subscriptions::SubscriptionStats;

use crate::webhooks::DeliveryCounts;

pub(super) fn render(page: &mut Page, all: &Subscriptions) {
    let SubscriptionStats {
        wakes,
        send_failures,
        acks,
        fenced,
        expired_leases,
    } = all.stats();
    page.gauge("tailwater_subscriptions", "Subscriptions.", all.count());
    page.gauge(
        "tailwater_subscription_moves_waiting",
        "Streams that have moved and that no subscription has been told of yet.",
        all.moves_waiting(),
    );
    page.gauge(
        "tailwater_subscription_turns",
        "Subscriptions whose turn is being taken; at the limit of it others wait.",
        all.turns().0,
    );
    let counters = [
        ("wakes", "Wakes that were made.", wakes),
        (
            "send_failures",
            "Attempts to send a wake that failed: last_error of the subscription says why.",
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
            "Leases that ended because their holder was silent: workers die, or lease_ttl_ms is too short for them.",
            expired_leases,
        ),
    ];
    for (name, meaning, counter) in counters {
        let name = format!("tailwater_subscription_{name}_total");
        page.counter(&name, meaning, counter.get());
    }
}

pub(super) fn webhooks(page: &mut Page, counts: &DeliveryCounts) {
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
        "Webhooks that wait for their turn: subscriptions.max_deliveries, or max_deliveries_per_host, are being sent.",
        waiting,
    );
}
