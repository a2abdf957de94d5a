//! The body of a webhook (PROTOCOL.md §7.1). Knows nothing of how it is sent.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tailwater_storage::stream::subscription::WokenStream;
use tailwater_storage::subscriptions::deliver::WebhookDelivery;

/// What a segment of a path may have as it is (RFC 3986, "unreserved").
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[derive(Serialize)]
struct Notification<'d> {
    subscription_id: &'d str,
    wake_id: String,
    generation: u64,
    streams: Vec<Stream<'d>>,
    callback_url: String,
    callback_token: &'d str,
}

#[derive(Serialize)]
struct Stream<'d> {
    path: &'d str,
    link_type: &'static str,
    acked_offset: String,
    tail_offset: String,
    has_pending: bool,
}

/// What is sent for a wake. `token` lets the receiver call back.
pub(super) fn body(delivery: &WebhookDelivery, token: &str) -> Bytes {
    let notification = Notification {
        subscription_id: delivery.subscription.as_str(),
        wake_id: delivery.wake.to_string(),
        generation: delivery.generation,
        streams: delivery.streams.iter().map(stream).collect(),
        callback_url: callback_url(delivery),
        callback_token: token,
    };
    let body = serde_json::to_vec(&notification).expect("texts, numbers and lists of them can be written");
    body.into()
}

fn stream(woken: &WokenStream) -> Stream<'_> {
    Stream {
        path: woken.stream.as_str(),
        link_type: woken.link.link_type(),
        acked_offset: woken.link.acked.to_string(),
        tail_offset: woken.tail.token().to_string(),
        has_pending: woken.tail.is_behind(woken.link.acked),
    }
}

fn callback_url(delivery: &WebhookDelivery) -> String {
    let id = utf8_percent_encode(delivery.subscription.as_str(), ESCAPED);
    format!("{}/__ds/subscriptions/{id}/callback", delivery.root)
}
