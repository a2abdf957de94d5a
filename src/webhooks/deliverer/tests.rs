//! Wakes over a network that is made up: hostile receivers, names that lead elsewhere, and TLS.

mod names;
mod receivers;
mod tls;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use tailwater_storage::subscriptions::deliver::{Deliver as _, WebhookAnswer};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::{Deliverer, DeliveryCounts};
use crate::webhooks::TokenUse;
use crate::webhooks::scene::{LOCAL_URL, Scene, deliverer, delivery, read_request};

/// What went wrong, or nothing.
fn failure(answer: WebhookAnswer) -> Option<String> {
    match answer {
        WebhookAnswer::Failed { error } => Some(error.into()),
        WebhookAnswer::Done | WebhookAnswer::Taken => None,
    }
}

async fn deliver(deliverer: &Deliverer, url: &str) -> WebhookAnswer {
    deliverer.deliver(delivery("sub-1", url)).await
}

#[tokio::test]
async fn a_wake_arrives_signed_and_with_all_that_its_receiver_needs() {
    let (requests, mut received) = mpsc::unbounded_channel();
    let scene = Scene::receiving(move |mut wire| {
        let requests = requests.clone();
        async move {
            requests
                .send(read_request(&mut wire).await)
                .expect("the test waits");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            wire.write_all(answer).await.expect("the sender reads");
        }
    });
    let deliverer = deliverer(&scene, &[]);
    let answer = deliverer.deliver(delivery("sub 1%ü", LOCAL_URL)).await;
    assert_eq!(answer, WebhookAnswer::Taken);
    let request = received.recv().await.expect("a request");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
    let lines: Vec<_> = head.lines().collect();
    assert_eq!(lines[0], "POST /hooks?a=b HTTP/1.1");
    let header = |name: &str| {
        lines
            .iter()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    assert_eq!(header("host"), Some("127.0.0.1:9"));
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("connection"), Some("close"));

    let signature = header("webhook-signature").expect("a signature");
    let signature = signature
        .strip_prefix("t=1800000000,kid=")
        .expect("the time and a key");
    let (kid, signature) = signature.split_once(",ed25519=").expect("a signature");
    let keys = &deliverer.shared.keys;
    let set = keys.key_set();
    assert_eq!(set["keys"][0]["kid"], kid);
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let public = UnparsedPublicKey::new(&ED25519, decode(set["keys"][0]["x"].as_str().expect("a text")));
    let signed = format!("1800000000.{body}");
    public
        .verify(signed.as_bytes(), &decode(signature))
        .expect("signed by that key");

    let body: Value = serde_json::from_str(body).expect("JSON");
    let token = body["callback_token"].as_str().expect("a token");
    assert_eq!(
        body,
        json!({
            "subscription_id": "sub 1%ü",
            "wake_id": "w_00000000000000000000000000000abc",
            "generation": 7,
            "streams": [{
                "path": "events/abc",
                "link_type": "glob",
                "acked_offset": "0000000000000000_0000000000000000",
                "tail_offset": "1795213228525595_0000000000000036",
                "has_pending": true,
            }],
            "callback_url": "https://server.example/v1/stream/__ds/subscriptions/sub%201%25%C3%BC/callback",
            "callback_token": token,
        })
    );
    let token = keys
        .verify(token, "sub 1%ü", TokenUse::Callback)
        .expect("a token of this server");
    assert_eq!(
        (token.generation, &*token.wake_id),
        (7, "w_00000000000000000000000000000abc")
    );
}

#[tokio::test]
async fn deliveries_wait_for_their_turn_and_one_that_is_dropped_leaves_its_place() {
    let scene = Scene::receiving(|wire| async move {
        std::future::pending::<()>().await;
        drop(wire);
    });
    let deliverer = deliverer(
        &scene,
        &[("max_deliveries", "1"), ("max_deliveries_per_host", "1")],
    );
    let running = tokio::spawn(deliverer.deliver(delivery("sub-1", LOCAL_URL)));
    let mut waiting = deliverer.deliver(delivery("sub-2", LOCAL_URL));
    while deliverer.counts().running == 0 && !running.is_finished() {
        tokio::task::yield_now().await;
    }
    assert!(waiting.as_mut().now_or_never().is_none());
    let counts = DeliveryCounts {
        done: 0,
        taken: 0,
        failed: 0,
        running: 1,
        waiting: 1,
    };
    assert_eq!(deliverer.counts(), counts);
    running.abort();
    assert!(running.await.is_err());
    assert!(waiting.as_mut().now_or_never().is_none(), "it is being sent");
    assert_eq!(deliverer.counts(), DeliveryCounts { waiting: 0, ..counts });
    drop(waiting);
    assert_eq!(
        deliverer.counts(),
        DeliveryCounts {
            running: 0,
            waiting: 0,
            ..counts
        }
    );
}
