//! The server is a good citizen of HTTP, beyond what the protocol says.

use std::collections::HashSet;
use std::io::Read;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tailwater_e2e::numbering::{assert_in_order, number_of, numbered};
use tailwater_e2e::{Request, Response, Server};

const TEXT: &str = "text/plain";

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    const REQUESTS: usize = 100;
    let server = Server::start();
    let stream = server.stream("pipelined").create();
    let mut connection = server.connect();
    let appends: Vec<u8> = (0..REQUESTS)
        .flat_map(|number| stream.appending(numbered(number).to_string()).encode())
        .collect();
    connection.write(&appends).expect("the server reads on");
    let mut tails = Vec::new();
    for _ in 0..REQUESTS {
        let answer = connection
            .read_response("POST")
            .expect("an answer")
            .expect("an answer")
            .expect(204);
        tails.push(answer.expect_header("stream-next-offset").to_owned());
    }
    assert!(tails.is_sorted(), "answers out of order: {tails:?}");
    assert_eq!(tails.iter().collect::<HashSet<_>>().len(), REQUESTS);

    // The connection is still good, and different requests are answered in order too.
    let mixed = [
        stream.request("HEAD"),
        stream.reading("-1", ""),
        Request::new("GET", "/healthz"),
        stream.request("HEAD"),
    ];
    connection
        .write(&mixed.iter().flat_map(Request::encode).collect::<Vec<u8>>())
        .expect("the server reads on");
    let mut answers = mixed.iter().map(|request| {
        connection
            .read_response(request.method())
            .expect("an answer")
            .expect("an answer")
    });
    answers.next().expect("HEAD").expect(200);
    let messages = answers.next().expect("GET").expect(200).json();
    assert_in_order(
        messages.as_array().expect("an array").iter().map(number_of),
        REQUESTS,
        "the reader",
    );
    answers.next().expect("health").expect(200);
    assert_eq!(
        answers
            .next()
            .expect("HEAD")
            .expect(200)
            .header("stream-next-offset"),
        tails.last().map(String::as_str)
    );
    server.stop();
}

#[test]
fn a_body_in_chunks_is_one_append() {
    let server = Server::start();
    let stream = server.stream("chunked").of_type(TEXT).create();
    let mut connection = server.connect();
    let append = stream
        .request("POST")
        .header("Content-Type", TEXT)
        .header("Transfer-Encoding", "chunked");
    connection
        .write(&append.encode())
        .expect("the server reads the head");
    for piece in ["6\r\nhello ", "\r\n5;note=x\r\nworld\r", "\n0\r\n\r\n"] {
        connection
            .write(piece.as_bytes())
            .expect("the server reads the body");
    }
    connection
        .read_response("POST")
        .expect("an answer")
        .expect("an answer")
        .expect(204);
    assert_eq!(stream.read("-1").expect(200).text(), "hello world");
    assert_eq!(
        connection.send(&stream.request("HEAD")).status(),
        200,
        "the connection goes on"
    );
    server.stop();
}

#[test]
fn a_client_that_expects_100_continue_is_told_to_continue_or_refused_before_it_sends() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_BODY_BYTES", "65536")]);
    let stream = server.stream("expect").of_type(TEXT).create();
    let announce = |bytes: &str| {
        stream
            .request("POST")
            .header("Content-Type", TEXT)
            .header("Expect", "100-continue")
            .header("Content-Length", bytes)
    };
    let mut connection = server.connect();
    connection
        .write(&announce("5").encode())
        .expect("the server reads the head");
    connection
        .read_response("POST")
        .expect("an answer")
        .expect("an answer")
        .expect(100);
    connection.write(b"hello").expect("the server reads the body");
    connection
        .read_response("POST")
        .expect("an answer")
        .expect("an answer")
        .expect(204);
    assert_eq!(stream.read("-1").text(), "hello");

    let refusal = server.send(&announce("65537")).expect(413);
    assert_eq!(refusal.problem(), "body_too_large");
    server.stop();
}

#[test]
fn head_answers_like_get_without_a_body() {
    let server = Server::start();
    let stream = server.stream("head").of_type(TEXT).create();
    let tail = stream.append("hello");
    let mut connection = server.connect();
    let head = connection.send(&stream.request("HEAD")).expect(200);
    assert_eq!(head.expect_header("content-type"), TEXT);
    assert_eq!(head.expect_header("stream-next-offset"), tail);
    assert_eq!(
        connection
            .send(&Request::new("HEAD", &server.path("absent")))
            .status(),
        404
    );
    // A body after a HEAD would be read as the start of this answer.
    connection.send(&stream.request("HEAD")).expect(200);
    server.stop();
}

#[test]
fn a_method_that_a_stream_does_not_know_is_refused_with_those_it_knows() {
    let server = Server::start();
    let stream = server.stream("methods").create();
    let refusal = stream.send(&stream.request("PATCH")).expect(405);
    assert_eq!(refusal.problem(), "method_not_allowed");
    let allowed = refusal.listed("allow");
    for method in ["get", "head", "put", "post", "delete"] {
        assert!(allowed.contains(method), "{method} is missing in {allowed:?}");
    }
    server.stop();
}

#[test]
fn a_browser_may_use_every_part_of_the_protocol_from_another_origin() {
    let server = Server::start();
    let stream = server.stream("cors").create();
    let sent = [
        "content-type",
        "stream-ttl",
        "stream-expires-at",
        "stream-closed",
        "stream-seq",
        "stream-forked-from",
        "stream-fork-offset",
        "stream-fork-sub-offset",
        "producer-id",
        "producer-epoch",
        "producer-seq",
        "if-none-match",
        "if-match",
        "last-event-id",
        "idempotency-key",
    ];
    for method in ["PUT", "POST", "GET", "HEAD", "DELETE"] {
        let preflight = stream
            .request("OPTIONS")
            .header("Origin", "https://app.example")
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", &sent.join(", "));
        let answer = stream.send(&preflight);
        assert!(matches!(answer.status(), 200 | 204), "{answer:?}");
        assert_eq!(answer.expect_header("access-control-allow-origin"), "*");
        assert_lists(
            &answer,
            "access-control-allow-methods",
            &[&method.to_ascii_lowercase()],
        );
        assert_lists(&answer, "access-control-allow-headers", &sent);
    }
    let answer = stream
        .send(&stream.reading("-1", "").header("Origin", "https://app.example"))
        .expect(200);
    assert_eq!(answer.expect_header("access-control-allow-origin"), "*");
    let read = [
        "etag",
        "location",
        "stream-next-offset",
        "stream-cursor",
        "stream-up-to-date",
        "stream-closed",
        "stream-ttl",
        "stream-expires-at",
        "stream-sse-data-encoding",
        "producer-epoch",
        "producer-seq",
        "producer-expected-seq",
        "producer-received-seq",
        "stream-oldest-offset",
    ];
    assert_lists(&answer, "access-control-expose-headers", &read);
    let refusal =
        server.send(&Request::new("GET", &server.path("absent")).header("Origin", "https://app.example"));
    assert_eq!(
        refusal.expect(404).expect_header("access-control-allow-origin"),
        "*"
    );
    server.stop();
}

#[test]
fn only_a_listed_origin_is_allowed_when_origins_are_listed() {
    let server = Server::start_with(&[("DS_HTTP__CORS_ORIGINS", "https://a.example,https://b.example")]);
    let stream = server.stream("cors").create();
    for (origin, allowed) in [
        ("https://a.example", Some("https://a.example")),
        ("https://b.example", Some("https://b.example")),
        ("https://evil.example", None),
        ("https://a.example.evil.example", None),
    ] {
        let answer = stream
            .send(&stream.reading("-1", "").header("Origin", origin))
            .expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{origin}");
        assert!(
            answer.listed("vary").contains("origin"),
            "a cache must not mix origins"
        );
    }
    server.stop();
}

#[test]
fn every_content_coding_has_an_etag_of_its_own_and_revalidates() {
    let server = Server::start();
    let stream = server.stream("coded").of_type(TEXT).create();
    let text = "all work and no play makes jack a dull boy\n".repeat(2_000);
    stream.append(text.as_str());
    stream.append("a last line, so that the read before it is of history");

    let mut etags = HashSet::new();
    for coding in ["identity", "gzip", "zstd"] {
        let read = stream.reading("-1", "").header("Accept-Encoding", coding);
        let answer = stream.send(&read).expect(200);
        let encoding = answer.header("content-encoding");
        let body = match coding {
            "gzip" => {
                let mut body = Vec::new();
                flate2::read::GzDecoder::new(&*answer.body)
                    .read_to_end(&mut body)
                    .expect("valid gzip");
                body
            }
            "zstd" => zstd::decode_all(&*answer.body).expect("valid zstd"),
            _ => answer.body.clone(),
        };
        assert_eq!(encoding, (coding != "identity").then_some(coding));
        assert!(
            String::from_utf8_lossy(&body).starts_with(&text),
            "{coding} carries the same bytes"
        );
        if coding != "identity" {
            assert!(
                answer.body.len() < text.len() / 4,
                "{coding} made {} bytes",
                answer.body.len()
            );
        }
        assert!(answer.listed("vary").contains("accept-encoding"), "{answer:?}");
        let etag = answer.expect_header("etag");
        let again = stream
            .send(&read.clone().header("If-None-Match", etag))
            .expect(304);
        assert!(again.body.is_empty());
        assert_eq!(again.expect_header("etag"), etag);
        assert!(etags.insert(etag.to_owned()), "{coding} shares its ETag {etag}");
        stream
            .send(&read.header("If-None-Match", "\"another\""))
            .expect(200);
    }
    server.stop();
}

#[test]
fn a_client_that_knows_http_2_can_use_it_at_once() {
    const APPENDS: usize = 200;
    let mut server = Server::start();
    let uri = format!("{}{}", server.origin(), server.path("h2"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let messages = runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(server.address())
            .await
            .expect("a connection");
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let request = |method: &str, uri: &str, body: String| {
            http::Request::builder()
                .method(method)
                .uri(uri)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body)))
                .expect("a valid request")
        };
        let mut to = sender.clone();
        let created = to
            .send_request(request("PUT", &uri, String::new()))
            .await
            .expect("an answer");
        assert_eq!(created.status(), 201);
        let start = created.headers()["stream-next-offset"]
            .to_str()
            .expect("a token")
            .to_owned();

        // All at once on one connection, with a long-poll that waits for the first of them.
        let mut tasks = tokio::task::JoinSet::new();
        let poll = sender.clone().send_request(request(
            "GET",
            &format!("{uri}?offset={start}&live=long-poll"),
            String::new(),
        ));
        for number in 0..APPENDS {
            let answer = sender
                .clone()
                .send_request(request("POST", &uri, numbered(number).to_string()));
            tasks.spawn(async move { answer.await.expect("an answer").status() });
        }
        for status in tasks.join_all().await {
            assert_eq!(status, 204);
        }
        assert_eq!(poll.await.expect("an answer").status(), 200);
        let read = to
            .send_request(request("GET", &uri, String::new()))
            .await
            .expect("an answer");
        assert_eq!(read.status(), 200);
        let body = read
            .into_body()
            .collect()
            .await
            .expect("the whole body")
            .to_bytes();
        // A stop sends an idle connection away, which this client learns only while it is running.
        server.terminate();
        connection
            .await
            .expect("the connection is not broken")
            .expect("it ends in good order");
        body
    });
    let messages: Vec<Value> = serde_json::from_slice(&messages).expect("a JSON array");
    let mut numbers: Vec<usize> = messages.iter().map(number_of).collect();
    numbers.sort_unstable();
    assert_in_order(numbers, APPENDS, "the stream");
    assert!(server.wait().success(), "{}", server.stderr());
}

#[track_caller]
fn assert_lists(answer: &Response, header: &str, names: &[&str]) {
    let listed = answer.listed(header);
    if !listed.contains("*") {
        let missing: Vec<_> = names.iter().filter(|name| !listed.contains(**name)).collect();
        assert!(missing.is_empty(), "{header} lacks {missing:?}: {listed:?}");
    }
}
