//! Receivers that may be hostile, and URLs that no webhook goes to.

use std::time::Duration;

use serde_json::Value;
use tailwater_e2e::{Server, eventually};

use crate::receiver::Receiver;
use crate::{DEVELOPMENT, subscribe, subscription, wake};

/// Waits until a webhook has failed, and answers what is told of it.
pub(crate) fn last_error(server: &Server, id: &str) -> String {
    eventually("the webhook fails", || {
        let found = subscription(server, id);
        let message = found["last_error"]["message"].as_str()?.to_owned();
        assert_eq!(found["status"], "failed");
        Some(message)
    })
}

#[test]
fn no_receiver_gets_anything_but_a_failure_by_being_strange() {
    let server = Server::start_with(&[
        DEVELOPMENT,
        ("DS_SUBSCRIPTIONS__CONNECT_TIMEOUT_MS", "1000"),
        ("DS_SUBSCRIPTIONS__DELIVERY_TIMEOUT_MS", "1000"),
    ]);
    let inner = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"done\":true}");
    let redirect = |to: &str| {
        Receiver::answering(format!(
            "HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
        ))
    };
    let drip = Receiver::new(|stream| {
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let megabytes = Receiver::new(|stream| {
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
    });
    let hangs = Receiver::new(|_stream| {
        loop {
            std::thread::park();
        }
    });
    let half = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nd\r\n{\"done\"";
    let half_and_waits = Receiver::new(move |stream| {
        let _gone = stream.write_all(half.as_bytes());
        loop {
            std::thread::park();
        }
    });
    let cases = [
        (
            "redirects",
            redirect(&inner.url()),
            "the answer is a redirect (307), which is not followed",
        ),
        (
            "metadata",
            redirect("http://169.254.169.254/latest"),
            "the answer is a redirect (307), which is not followed",
        ),
        (
            "garbage",
            Receiver::answering("SSH-2.0-OpenSSH_9.2\r\n"),
            "the answer cannot be read: ",
        ),
        ("leaves", Receiver::answering(""), "the answer cannot be read: "),
        ("half", Receiver::answering(half), "the answer cannot be read: "),
        ("half-and-waits", half_and_waits, "no whole answer within 1000 ms"),
        ("hangs", hangs, "no whole answer within 1000 ms"),
        ("drips", drip, "no whole answer within 1000 ms"),
        ("megabytes", megabytes, "the answer has more than 65536 bytes"),
        (
            "error",
            Receiver::answering("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"),
            "the answer is 500",
        ),
    ];
    for (id, receiver, _) in &cases {
        subscribe(&server, id, &receiver.url()).expect(201);
        wake(&server, id);
    }
    let works = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"done\":true}");
    subscribe(&server, "works", &works.url()).expect(201);
    wake(&server, "works");
    works.request();
    eventually("the one that works is done", || {
        (subscription(&server, "works")["state"] == "idle").then_some(())
    });
    for (id, _, said) in &cases {
        let error = last_error(&server, id);
        assert!(error.starts_with(said), "{id}: {error}");
    }
    assert!(!inner.has_been_asked(), "a redirect was followed");
    let metrics = server.get("/metrics").expect(200);
    assert!(
        metrics
            .text()
            .contains("\ntailwater_webhook_deliveries_total{result=\"done\"} 1\n")
    );
    server.stop();
}

/// It was called failed for as long as nothing else came, though there was nothing to send any more.
#[test]
fn a_subscription_is_called_failed_only_while_a_wake_is_to_be_sent_again() {
    let server = Server::start_with(&[DEVELOPMENT]);
    let receiver = Receiver::answering("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n");
    subscribe(&server, "s", &receiver.url()).expect(201);
    wake(&server, "s");
    assert_eq!(last_error(&server, "s"), "the answer is 500");
    assert!(subscription(&server, "s")["next_attempt_at"].is_string());
    server.send(&server.stream("s/x").request("DELETE")).expect(204);
    let found = eventually("the wake is called off", || {
        let found = subscription(&server, "s");
        (found["state"] == "idle").then_some(found)
    });
    assert_eq!(found["status"], "active", "{found}");
    assert_eq!(found["next_attempt_at"], Value::Null, "{found}");
    assert_eq!(
        found["last_error"]["message"], "the answer is 500",
        "it is what went wrong last"
    );
    server.stop();
}

#[test]
fn urls_of_inner_networks_are_refused_when_they_are_given() {
    let server = Server::start();
    let developing = Server::start_with(&[DEVELOPMENT]);
    for url in [
        "http://10.0.0.1/hook",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:192.168.0.1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://user@hooks.example.com/",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
    ] {
        for server in [&server, &developing] {
            let refused: Value = subscribe(server, "s", url).expect(400).json();
            assert_eq!(
                refused["error"]["code"], "WEBHOOK_URL_REJECTED",
                "{url}: {refused}"
            );
        }
    }
    let refused = subscribe(&server, "s", "http://localhost:1/").expect(400).json();
    let message = refused["error"]["message"].as_str().expect("a text");
    assert!(
        message.contains("DS_SUBSCRIPTIONS__ALLOW_HTTP_LOCALHOST=true"),
        "{message}"
    );
    subscribe(&developing, "s", "http://localhost:1/").expect(201);
    subscribe(&server, "s", "https://hooks.example.com/").expect(201);
}

/// A subscription may be older than the settings.
#[test]
fn a_subscription_of_a_server_that_was_laxer_is_not_sent_any_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = [
        ("DS_STORAGE__MODE", "file-durable"),
        ("DS_STORAGE__DATA_DIR", dir.path().to_str().expect("a plain path")),
    ];
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let lax = Server::start_with(&[&settings[..], &[DEVELOPMENT]].concat());
    subscribe(&lax, "s", &receiver.url()).expect(201);
    lax.stop();
    let strict = Server::start_with(&settings);
    wake(&strict, "s");
    let error = last_error(&strict, "s");
    assert!(
        error.starts_with("webhook.url is refused: `127.0.0.1` is this machine"),
        "{error}"
    );
    assert!(!receiver.has_been_asked());
    strict.stop();
}
