//! Receivers that answer this or that, or nothing at all. Time stands still but for what is waited for.

use std::sync::Arc;
use std::time::Duration;

use tailwater_storage::stream::Timestamp;
use tailwater_storage::subscriptions::deliver::{Deliver as _, WebhookAnswer};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::{deliver, failure};
use crate::webhooks::scene::{LOCAL_URL, Line, NOW_MS, Scene, deliverer, delivery, read_request};

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn chunked(chunks: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
}

#[tokio::test(start_paused = true)]
async fn a_success_is_done_if_it_says_so_and_taken_otherwise() {
    use WebhookAnswer::{Done, Taken};
    let done = ok(r#"{"done":true}"#);
    for (answer, meant) in [
        (done.clone(), Done),
        (ok("\n{ \"x\": [1], \"done\" : true }\n"), Done),
        (done.replace("200 OK", "202 Accepted"), Done),
        (chunked("7\r\n{\"done\"\r\n6\r\n:true}\r\n0\r\n\r\n"), Done),
        ("HTTP/1.1 200 OK\r\n\r\n{\"done\":true}".to_owned(), Done),
        ("HTTP/1.1 103 Early Hints\r\n\r\n".to_owned() + &done, Done),
        (ok(r#"{"done":false}"#), Taken),
        (ok(r#"{"done":"true"}"#), Taken),
        (ok(r#"{"done":1}"#), Taken),
        (ok(r#"["done",true]"#), Taken),
        (ok("{}"), Taken),
        (ok(""), Taken),
        (ok("<html>OK</html>"), Taken),
        (ok("\u{0}\u{1}"), Taken),
        (ok(&"[".repeat(60_000)), Taken),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), Taken),
    ] {
        let scene = Scene::answering(answer.as_bytes(), false);
        assert_eq!(
            deliver(&deliverer(&scene, &[]), LOCAL_URL).await,
            meant,
            "{answer:.100}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_other_answer_is_a_failure_that_says_why() {
    const UNREADABLE: &str = "the answer cannot be read: ";
    let redirect = |status: u16| {
        format!("HTTP/1.1 {status} X\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n")
    };
    let done = ok(r#"{"done":true}"#);
    for (answer, said) in [
        (
            redirect(301),
            "the answer is a redirect (301), which is not followed",
        ),
        (
            redirect(302),
            "the answer is a redirect (302), which is not followed",
        ),
        (
            redirect(307),
            "the answer is a redirect (307), which is not followed",
        ),
        (
            redirect(308),
            "the answer is a redirect (308), which is not followed",
        ),
        (done.replace("200 OK", "404 Not Found"), "the answer is 404"),
        (done.replace("200 OK", "503 Busy"), "the answer is 503"),
        (String::new(), UNREADABLE),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), UNREADABLE),
        ("\u{16}\u{3}\u{1}".to_owned(), UNREADABLE),
        ("HTTP/1.1 200 OK\r\ncontent-le".to_owned(), UNREADABLE),
        (done.replace(": 13", ": 20"), UNREADABLE),
        (chunked("d\r\n{\"done\":true}\r\n5\r\nab"), UNREADABLE),
        (chunked("zz\r\n"), UNREADABLE),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(),
            UNREADABLE,
        ),
        (
            format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000)),
            UNREADABLE,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(65)),
            UNREADABLE,
        ),
        (ok(&" ".repeat(65_537)), "the answer has more than 65536 bytes"),
        (
            ok(&"x".repeat(70_000)).replace("70000", "9999999999"),
            "the answer has more than 65536 bytes",
        ),
    ] {
        let scene = Scene::answering(answer.as_bytes(), false);
        let error = failure(deliver(&deliverer(&scene, &[]), LOCAL_URL).await);
        let error = error.unwrap_or_else(|| panic!("{answer:.100} is a success"));
        assert!(error.starts_with(said), "{answer:.100}: {error}");
        assert_eq!(scene.dialled(), ["127.0.0.1:9"], "{answer:.100}");
    }
}

/// Waits for the failure of one delivery, and tells how long that took.
async fn waited(scene: &Arc<Scene>) -> (String, Duration) {
    let begun = Instant::now();
    let error = failure(deliver(&deliverer(scene, &[]), LOCAL_URL).await);
    (error.expect("a failure"), begun.elapsed())
}

/// A receiver that sends one thing, and then a little more each second.
fn dripping(head: &'static str, drop: &'static str) -> Arc<Scene> {
    Scene::receiving(move |mut wire| async move {
        let _request = read_request(&mut wire).await;
        wire.write_all(head.as_bytes()).await.expect("the sender reads");
        while wire.write_all(drop.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_waited_for_without_end() {
    let half_a_chunk = chunked("d\r\n{\"done\"");
    for (which, scene) in [
        ("hangs", Scene::answering("", true)),
        (
            "reads nothing",
            Scene::receiving(|wire| async move {
                std::future::pending::<()>().await;
                drop(wire);
            }),
        ),
        ("half a chunk", Scene::answering(half_a_chunk, true)),
        (
            "drips a body",
            dripping("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", " "),
        ),
        ("drips a head", dripping("HTTP/1.1 200 OK\r\n", "x: y\r\n")),
        (
            "drips answers before the answer",
            dripping("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ),
    ] {
        let no_answer = (
            "no whole answer within 10000 ms".to_owned(),
            Duration::from_secs(10),
        );
        assert_eq!(waited(&scene).await, no_answer, "{which}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_is_waited_for_without_end() {
    let (error, took) = waited(&Scene::with(Line::Dead, &[])).await;
    assert!(error.starts_with("no connection to `127.0.0.1`"), "{error}");
    assert_eq!(took, Duration::from_secs(5));
    let (error, took) = waited(&Scene::with(Line::Refused, &[])).await;
    assert!(error.starts_with("no connection to `127.0.0.1`: "), "{error}");
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn megabytes_without_end_are_not_read() {
    let scene = Scene::receiving(|mut wire| async move {
        let _request = read_request(&mut wire).await;
        wire.write_all(chunked("").as_bytes())
            .await
            .expect("the sender reads");
        let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
        while wire.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let deliverer = deliverer(&scene, &[("max_answer_bytes", "1MiB")]);
    let error = failure(deliver(&deliverer, LOCAL_URL).await);
    assert_eq!(error.as_deref(), Some("the answer has more than 1048576 bytes"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_waited_for_no_longer_than_the_lease_lasts() {
    let scene = Scene::answering("", true);
    let deliverer = deliverer(&scene, &[]);
    let mut delivery = delivery("sub-1", LOCAL_URL);
    delivery.lease_ends_at = Timestamp::from_millis(NOW_MS + 2_000);
    let begun = Instant::now();
    let error = failure(deliverer.deliver(delivery.clone()).await);
    assert_eq!(error.as_deref(), Some("no whole answer within 2000 ms"));
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    delivery.lease_ends_at = Timestamp::from_millis(NOW_MS);
    let error = failure(deliverer.deliver(delivery).await);
    assert_eq!(
        error.as_deref(),
        Some("the lease of the wake ended before its turn came")
    );
    assert_eq!(scene.dialled().len(), 1, "the second one was not sent");
}
