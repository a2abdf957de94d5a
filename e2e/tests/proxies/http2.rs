//! HTTP/2: many requests of a proxy go over one connection, and each has its own client and its own end.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tailwater_e2e::{PATIENCE, Server};
use tokio::net::TcpSocket;

use super::{DEADLINE, PROXY, STRANGER, SUBJECT, now, serve};

type Sender = SendRequest<Full<Bytes>>;

async fn connect(server: &Server, source: IpAddr) -> Sender {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::new(source, 0))
        .expect("an address of this machine");
    let stream = socket.connect(server.address()).await.expect("a connection");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// Begins a request; what answers it goes on by itself.
async fn ask(
    sender: &Sender,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> http::Response<Incoming> {
    let mut request = http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a request");
    let answer = tokio::time::timeout(PATIENCE, sender.clone().send_request(request)).await;
    answer.expect("an answer").expect("the connection holds")
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn live_reads_end_at_the_deadline_and_the_connection_goes_on() {
    let server = serve(&[
        ("DS_HTTP__SSE_MAX_SECS", "86400"),
        ("DS_HTTP__SSE_KEEP_ALIVE_SECS", "86400"),
        ("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "86400"),
    ]);
    run(async {
        let proxy = connect(&server, PROXY).await;
        let stranger = connect(&server, STRANGER).await;
        let url = format!("{}{}", server.origin(), server.path("h2"));
        assert_eq!(ask(&proxy, "PUT", &url, &[], "").await.status(), 201);
        let sse = format!("{url}?offset=-1&live=sse");
        let long_poll = format!("{url}?offset=now&live=long-poll");

        // On a slow machine a request may come too late, and is tried again with more time.
        let mut secs = 2;
        let (deadline, events, polled) = loop {
            let deadline = now().as_secs() + secs;
            let text = deadline.to_string();
            let headers = [(DEADLINE, text.as_str()), (SUBJECT, "ada")];
            let events = ask(&proxy, "GET", &sse, &headers, "").await;
            let polled = ask(&proxy, "GET", &long_poll, &headers, "").await;
            if events.status() == 200 && polled.status() != 401 {
                break (deadline, events, polled);
            }
            secs *= 2;
            assert!(secs < PATIENCE.as_secs(), "never came before its deadline");
        };
        assert_eq!(polled.status(), 204);
        assert!(now().as_secs() >= deadline, "it was answered before its time");
        let text = deadline.to_string();
        let mut claims = ask(&stranger, "GET", &sse, &[(DEADLINE, &text)], "")
            .await
            .into_body();

        let events = tokio::time::timeout(PATIENCE, events.into_body().collect()).await;
        let events = events
            .expect("it ends")
            .expect("it ends in good order")
            .to_bytes();
        assert!(events.starts_with(b"retry: "), "{events:?}");
        assert!(now().as_secs() >= deadline, "it ended before its time");

        // The same connection carries others on, and only their own deadlines count.
        assert_eq!(
            ask(&proxy, "GET", &url, &[(DEADLINE, &text)], "").await.status(),
            401
        );
        assert_eq!(
            ask(&proxy, "POST", &url, &[(SUBJECT, "bob")], "1").await.status(),
            204
        );
        let mut seen = Vec::new();
        while !seen.windows(3).any(|bytes| bytes == b"[1]") {
            let frame = tokio::time::timeout(PATIENCE, claims.frame())
                .await
                .expect("an event");
            let frame = frame.expect("it goes on").expect("it goes on");
            seen.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    });
    server.stop();
}

#[test]
fn location_follows_the_proxy_of_each_request() {
    let server = serve(&[]);
    run(async {
        let (proxy, stranger) = (connect(&server, PROXY).await, connect(&server, STRANGER).await);
        let edge = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "edge.example"),
        ];
        for (name, sender, headers, expected) in [
            ("a", &proxy, &edge[..], "https://edge.example".to_owned()),
            (
                "b",
                &proxy,
                &edge[..1],
                server.origin().replace("http:", "https:"),
            ),
            ("c", &proxy, &[], server.origin()),
            ("d", &stranger, &edge[..], server.origin()),
        ] {
            let path = server.path(name);
            let created = ask(sender, "PUT", &format!("{}{path}", server.origin()), headers, "").await;
            assert_eq!(created.status(), 201);
            let location = created.headers()["location"].to_str().expect("a URL");
            assert_eq!(location, format!("{expected}{path}"));
        }
    });
    server.stop();
}
