//! That nothing is taken for a whole request which hyper would read otherwise: hyper itself is asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::{WholePost, room};
use crate::http::RequestHead as _;

const HEAD_BYTES_MAX: usize = 512;
const PLAIN: &str = "POST /v1/stream/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nhi";

/// A request, as somebody has read it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    method: Method,
    path: String,
    fields: HeaderMap,
    body: Bytes,
}

fn decoded(bytes: &[u8]) -> Option<Read> {
    let mut room = room();
    let post = WholePost::decode(bytes, &mut room, HEAD_BYTES_MAX)?;
    Some(Read {
        method: post.method().clone(),
        path: post.path().to_owned(),
        fields: post.map().into_owned(),
        body: Bytes::copy_from_slice(post.body),
    })
}

/// All requests that hyper reads from these bytes and no more.
async fn read_by_hyper(bytes: &[u8]) -> Vec<Read> {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    client.write_all(bytes).await.expect("there is room");
    client.shutdown().await.expect("a pipe");
    let read = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let read = Arc::clone(&read);
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                read.lock().expect("nobody panics").push(Read {
                    method: head.method,
                    path: head.uri.path().to_owned(),
                    fields: head.headers,
                    body: body.to_bytes(),
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .header_read_timeout(None)
        .max_header_size(8 << 10);
    let drained = async {
        let mut sink = tokio::io::sink();
        tokio::io::copy(&mut client, &mut sink).await
    };
    let served = builder.serve_connection(TokioIo::new(server), service);
    let (_refused, _gone) = tokio::join!(served, drained);
    let mut read = read.lock().expect("nobody panics");
    std::mem::take(&mut *read)
}

/// Fails if these bytes are taken for a request that hyper reads otherwise, or that something of is left for the next one.
async fn compare(bytes: &[u8]) -> bool {
    let Some(own) = decoded(bytes) else {
        return false;
    };
    let next = "GET /next HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let read = read_by_hyper(&[bytes, next.as_bytes()].concat()).await;
    let shown = bytes.escape_ascii();
    assert_eq!(read.first(), Some(&own), "{shown}");
    let next: Vec<_> = read[1..].iter().map(|read| read.path.as_str()).collect();
    assert_eq!(next, ["/next"], "{shown}");
    true
}

#[tokio::test]
async fn a_plain_append_is_read_as_hyper_reads_it() {
    let producer = "Producer-Id: p\r\nPRODUCER-EPOCH: 0\r\nproducer-seq:  7 \r\n";
    for plain in [
        PLAIN.to_owned(),
        PLAIN
            .replace("host", producer.trim_end())
            .replace("7: localhost", "7\r\nhost: localhost"),
        PLAIN.replace("\r\n\r\nhi", "\r\nconnection: Keep-Alive\r\n\r\nhi"),
        PLAIN.replace("2\r\n\r\nhi", "0\r\nstream-closed: true\r\n\r\n"),
        PLAIN.replace("/a", "/a%20b/c~(1),@:;"),
        PLAIN.replace("localhost", "\u{e9}"),
        PLAIN.replace("2", "0002"),
        format!("\r\n{PLAIN}"),
        PLAIN.replace("\r\n", "\n"),
    ] {
        assert!(compare(plain.as_bytes()).await, "{plain}");
    }
}

#[test]
fn whatever_leaves_a_question_is_left_to_hyper() {
    assert!(decoded(PLAIN.as_bytes()).is_some());
    for (from, to) in [
        ("POST", "PUT"),
        ("POST", "post"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("/v1", "http://localhost/v1"),
        ("/v1", "*"),
        ("/a", "/a?b"),
        ("/a", "/a#b"),
        ("/a", "/a\"b"),
        ("/a", "/\u{e9}"),
        ("content-length: 2", "content-length: 1"),
        ("content-length: 2", "content-length: 3"),
        ("content-length: 2", "content-length: +2"),
        ("content-length: 2", "content-length: 2, 2"),
        ("content-length: 2", "content-length: 2\r\nContent-Length: 2"),
        ("content-length: 2", "content-length: 18446744073709551618"),
        ("content-length: 2", "content-length:"),
        ("content-length: 2", "content-type: text/plain"),
        (
            "content-length: 2",
            "content-length: 2\r\ntransfer-encoding: chunked",
        ),
        (
            "content-length: 2",
            "content-length: 2\r\nTransfer-Encoding: identity",
        ),
        ("content-length: 2", "content-length: 2\r\nexpect: 100-continue"),
        ("content-length: 2", "content-length: 2\r\nupgrade: h2c"),
        ("content-length: 2", "content-length: 2\r\nconnection: close"),
        (
            "content-length: 2",
            "content-length: 2\r\nconnection: keep-alive, upgrade",
        ),
        ("content-length: 2", "content-length: 2\r\n folded: 1"),
        ("content-length: 2", "content-length : 2"),
        ("hi", "hi\r\n"),
        ("hi", "h"),
    ] {
        let changed = PLAIN.replacen(from, to, 1);
        assert!(decoded(changed.as_bytes()).is_none(), "{changed}");
    }
    for end in 0..PLAIN.len() {
        assert!(decoded(&PLAIN.as_bytes()[..end]).is_none(), "{end}");
    }
    let twice = PLAIN.repeat(2);
    assert!(decoded(twice.as_bytes()).is_none(), "two requests");
    let long = PLAIN.replace("localhost", &"l".repeat(HEAD_BYTES_MAX));
    assert!(decoded(long.as_bytes()).is_none(), "a head that is too long");
    let many = PLAIN.replace("host", &format!("{}host", "a: 1\r\n".repeat(31)));
    assert!(decoded(many.as_bytes()).is_none(), "too many fields");
}

/// Pieces that matter to where a request ends, and some that do not.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "content-length: 2",
            "Content-Length:2 ",
            "content-length: 02",
            "content-length: 0",
            "content-length: 2,2",
            "content-length: -2",
            "content-length:\t2\t",
            "content-length : 2",
            "content-length\u{b}: 2",
            "transfer-encoding: chunked",
            "transfer-encoding: identity",
            "Transfer-Encoding:\u{b}chunked",
            "connection: keep-alive",
            "connection: close",
            "expect: 100-continue",
            "upgrade: x",
            "te: trailers",
            "host: localhost",
            ": empty",
            "no colon",
            " folded",
            "",
            "x:\u{0}",
            "x: \u{7f}",
            "x: \u{80}",
        ])
        .prop_map(str::to_owned),
        "[a-z-]{1,8}: ?[ -~]{0,8}",
    ]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "POST /a HTTP/1.1",
        "POST /a HTTP/1.1 ",
        "POST  /a HTTP/1.1",
        "POST /%zz HTTP/1.1",
        "POST //a HTTP/1.1",
        "POST /a HTTP/1.0",
        "POST a HTTP/1.1",
        "GET /a HTTP/1.1",
    ]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n"]);
    let body = prop::sample::select(vec!["hi", "", "h", "0\r\n\r\n", "hi\r\n", "2\r\nhi\r\n0\r\n\r\n"]);
    let fields = prop::collection::vec((piece(), end.clone()), 0..5);
    (line, end, fields, body).prop_map(|(line, end, fields, body)| {
        let mut request = format!("{line}{end}");
        for (field, end) in fields {
            request += &field;
            request += end;
        }
        request += end;
        request += body;
        request.into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn no_bytes_are_read_otherwise_than_by_hyper(request in request()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(compare(&request));
    }
}
