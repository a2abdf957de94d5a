//! What answers say of subscriptions.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tailwater_storage::stream::StreamName;
use tailwater_storage::stream::subscription::{Delivery, Link, Phase, WokenStream};
use tailwater_storage::subscriptions::{Claim, Described, Summary};

use crate::http::time;
use crate::webhooks::Keys;

/// What a segment of a path may hold as it is (RFC 3986 `unreserved`).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A subscription with a page of its streams, by the URL of the stream root that the client uses.
pub(super) fn described(described: &Described, root: &str, keys: &Keys) -> Value {
    let mut document = summary(&described.summary, root, keys);
    let shown = &described.links;
    let last = shown.last().filter(|_| described.more);
    document["streams"] = shown.iter().map(|(stream, link)| linked(stream, *link)).collect();
    document["streams_after"] = last.map(|(stream, _)| stream.as_str()).into();
    document
}

/// A subscription without its streams.
pub(super) fn summary(summary: &Summary, root: &str, keys: &Keys) -> Value {
    let (config, state) = (&summary.config, &summary.state);
    let (kind, webhook) = match &config.delivery {
        Delivery::Webhook { url } => ("webhook", Some(webhook(url, root, keys))),
        Delivery::PullWake { .. } => ("pull-wake", None),
    };
    let (phase, holder) = match &state.phase {
        Phase::Idle => ("idle", None),
        Phase::Woken { .. } => ("woken", None),
        Phase::Held { holder, .. } => ("held", holder.as_deref()),
    };
    let trouble = state.trouble.as_ref();
    let retry_at = state.retry_at(summary.created_at);
    json!({
        "id": summary.id.as_str(),
        "subscription_id": summary.id.as_str(),
        "type": kind,
        "pattern": config.pattern.as_ref().map(ToString::to_string),
        "webhook": webhook,
        "wake_stream": config.wake_stream().map(ToString::to_string),
        "lease_ttl_ms": config.lease_ttl_ms,
        "created_at": time::format(summary.created_at),
        "status": if retry_at.is_some() { "failed" } else { "active" },
        "description": config.description,
        "state": phase,
        "generation": state.generation,
        "holder": holder,
        "lease_ends_at": state.lease_ends_at().map(time::format),
        "lag": { "streams": summary.pending_streams, "bytes": summary.pending_bytes },
        "next_attempt_at": retry_at.map(time::format),
        "last_error": trouble.map(|trouble| json!({
            "at": time::format(trouble.failed_at),
            "failures": trouble.failures,
            "message": trouble.error,
        })),
    })
}

fn webhook(url: &str, root: &str, keys: &Keys) -> Value {
    json!({
        "url": url,
        "signing": {
            "alg": "ed25519",
            "kid": keys.kid(),
            "jwks_url": format!("{root}/__ds/jwks.json"),
        },
    })
}

fn linked(stream: &StreamName, link: Link) -> Value {
    json!({
        "path": stream.as_str(),
        "link_type": link.link_type(),
        "acked_offset": link.acked.to_string(),
    })
}

/// What a worker is told that has claimed a subscription.
pub(super) fn claimed(claim: &Claim, token: &str) -> Value {
    json!({
        "wake_id": claim.claimed.wake.to_string(),
        "generation": claim.claimed.generation,
        "token": token,
        "streams": claim.work.iter().map(woken).collect::<Vec<_>>(),
        "lease_ttl_ms": claim.lease_ttl_ms,
    })
}

fn woken(told: &WokenStream) -> Value {
    let mut document = linked(&told.stream, told.link);
    document["tail_offset"] = told.tail.token().to_string().into();
    document["has_pending"] = told.tail.is_behind(told.link.acked).into();
    document
}

/// The path of a subscription below the stream root.
pub(super) fn path(id: &str) -> String {
    format!("/__ds/subscriptions/{}", utf8_percent_encode(id, SEGMENT))
}
