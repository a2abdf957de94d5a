//! Requests that are broken as HTTP, whatever they would mean.

use super::{BROKEN_BODY, CLOSED, GARBAGE, TOO_BIG, case, check, exchange, framed, start};

#[test]
fn bad_request_lines_are_refused() {
    let long = "a".repeat(200_000);
    check(
        &[
            case("NUL bytes", [0; 64], GARBAGE),
            case(
                "a TLS greeting",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
                GARBAGE,
            ),
            case(
                "random high bytes",
                (0x80..=0xff).cycle().take(4096).collect::<Vec<u8>>(),
                GARBAGE,
            ),
            case("a method and nothing else", "GET\r\n\r\n", GARBAGE),
            case("HTTP/0.9", "GET /healthz\r\n\r\n", GARBAGE),
            case("HTTP/9.9", "GET /healthz HTTP/9.9\r\n\r\n", GARBAGE),
            case("a version that is none", "GET /healthz JUNK/1.1\r\n\r\n", GARBAGE),
            case(
                "a lower-case method",
                "get /v1/stream/text HTTP/1.1\r\nHost: x\r\n\r\n",
                &[400, 405],
            ),
            case(
                "an unknown method",
                "STEAL /v1/stream/text HTTP/1.1\r\nHost: x\r\n\r\n",
                &[400, 405],
            ),
            case(
                "a method with a control character",
                "G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n",
                GARBAGE,
            ),
            case(
                "PATCH",
                "PATCH /v1/stream/text HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                &[405],
            ),
            case(
                "TRACE",
                "TRACE /v1/stream/text HTTP/1.1\r\nHost: x\r\n\r\n",
                &[405],
            ),
            case(
                "CONNECT",
                "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
                &[400, 404, 405],
            ),
            case(
                "a target without a slash",
                "GET v1/stream/text HTTP/1.1\r\nHost: x\r\n\r\n",
                &[400, 404, CLOSED],
            ),
            case(
                "an asterisk as target",
                "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
                &[400, 404, 405],
            ),
            case("no target", "GET  HTTP/1.1\r\nHost: x\r\n\r\n", GARBAGE),
            case(
                "a space in the target",
                "GET /v1/stream/a b HTTP/1.1\r\nHost: x\r\n\r\n",
                GARBAGE,
            ),
            case(
                "a NUL in the target",
                "GET /v1/stream/a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
                GARBAGE,
            ),
            case(
                "invalid UTF-8 in the target",
                b"GET /v1/stream/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
                GARBAGE,
            ),
            case(
                "an overlong method",
                format!("{long} / HTTP/1.1\r\nHost: x\r\n\r\n"),
                &[400, 404, 405, 414, 431, CLOSED],
            ),
            case(
                "an overlong target",
                format!("GET /v1/stream/{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
                TOO_BIG,
            ),
            case(
                "a garbled HTTP/2 preface",
                "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
                GARBAGE,
            ),
            case(
                "an HTTP/2 preface and then no frames",
                [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 512]].concat(),
                GARBAGE,
            ),
        ],
        false,
    );
}

#[test]
fn bad_header_blocks_are_refused() {
    let get = |headers: &str| format!("GET /v1/stream/text HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let many: String = (0..1000)
        .map(|number| format!("X-Header-{number}: value\r\n"))
        .collect();
    check(
        &[
            case("a NUL in a value", get("X-Bad: a\0b\r\n"), GARBAGE),
            case("a bare carriage return", get("X-Bad: a\rb\r\n"), GARBAGE),
            case("a space in a name", get("X Bad: a\r\n"), GARBAGE),
            case("a space before the colon", get("Content-Length : 0\r\n"), GARBAGE),
            case("no colon", get("nonsense\r\n"), GARBAGE),
            case("no name", get(": nonsense\r\n"), GARBAGE),
            case("a folded line", get("X-Bad: a\r\n b\r\n"), GARBAGE),
            case(
                "a header of 64 KiB",
                get(&format!("X-Big: {}\r\n", "a".repeat(65_536))),
                TOO_BIG,
            ),
            case(
                "a name of 64 KiB",
                get(&format!("{}: a\r\n", "a".repeat(65_536))),
                TOO_BIG,
            ),
            case("a thousand headers", get(&many), TOO_BIG),
        ],
        false,
    );
}

#[test]
fn bad_body_framing_is_refused() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(200_000));
    let mut cases = vec![
        framed("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!", GARBAGE),
        framed("Content-Length: 5, 6\r\n", "hello!", GARBAGE),
        framed("Content-Length: 9223372036854775807\r\n", "hello", BROKEN_BODY),
        framed("Transfer-Encoding: gzip\r\n", "hello", GARBAGE),
        framed(
            "Transfer-Encoding: xchunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            GARBAGE,
        ),
        framed(
            "Transfer-Encoding: chunked, gzip\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            GARBAGE,
        ),
        framed(chunked, "zz\r\nhello\r\n0\r\n\r\n", BROKEN_BODY),
        framed(chunked, "-5\r\nhello\r\n0\r\n\r\n", BROKEN_BODY),
        framed(chunked, "0x5\r\nhello\r\n0\r\n\r\n", BROKEN_BODY),
        framed(chunked, "\r\nhello\r\n0\r\n\r\n", BROKEN_BODY),
        framed(chunked, "5\r\nhello, world\r\n0\r\n\r\n", BROKEN_BODY),
        framed(chunked, "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", BROKEN_BODY),
        framed(chunked, "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", BROKEN_BODY),
        framed(chunked, "5\nhello\n0\n\n", BROKEN_BODY),
        framed(chunked, &long_extension, BROKEN_BODY),
    ];
    for length in [
        "abc",
        "-1",
        "+5",
        "5.0",
        "1e3",
        "0x5",
        "",
        "99999999999999999999999",
    ] {
        cases.push(framed(&format!("Content-Length: {length}\r\n"), "hello", TOO_BIG));
    }
    cases.push(case(
        "chunked in HTTP/1.0",
        "POST /v1/stream/text HTTP/1.0\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
        GARBAGE,
    ));
    check(&cases, false);
}

#[test]
fn requests_that_stop_in_the_middle_leave_nothing_behind() {
    let post = "POST /v1/stream/text HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n";
    let cases = [
        case("nothing", "", GARBAGE),
        case("half a request line", "POST /v1/str", BROKEN_BODY),
        case(
            "half a header",
            "POST /v1/stream/text HTTP/1.1\r\nHost: x\r\nContent-Ty",
            BROKEN_BODY,
        ),
        case(
            "no body",
            format!("{post}Content-Length: 100\r\n\r\n"),
            BROKEN_BODY,
        ),
        case(
            "half a body",
            format!("{post}Content-Length: 100\r\n\r\nhalf"),
            BROKEN_BODY,
        ),
        case(
            "half a chunk size",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n1"),
            BROKEN_BODY,
        ),
        case(
            "half a chunk",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"),
            BROKEN_BODY,
        ),
        case(
            "no last chunk",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            BROKEN_BODY,
        ),
        case(
            "no last line",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n"),
            BROKEN_BODY,
        ),
    ];
    check(&cases, true);
    check(&cases, false);
}

/// Two proxies that disagree on where a request ends let one client speak in another's name. A body with
/// both framings is refused, or it ends where its chunks end: what follows is never taken for its part.
#[test]
fn a_body_framed_in_two_ways_never_hides_a_second_request() {
    let server = start();
    let hidden = "DELETE /v1/stream/json HTTP/1.1\r\nHost: x\r\n\r\n";
    for order in [
        "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: {}\r\n",
    ] {
        // By its chunks this body is the whole hidden request; by its length it ends before it.
        let chunk = format!("{:x}\r\n", hidden.len());
        let headers = order.replace("{}", &chunk.len().to_string());
        let body = format!("{chunk}{hidden}\r\n0\r\n\r\n");
        let status = exchange(&server, &framed(&headers, &body, &[]), true).expect("an answer or an end");
        assert!(matches!(status, 204 | 400 | CLOSED), "got {status}");
        server.assert_well(&headers);
        assert_eq!(
            server.stream("json").messages(),
            ["kept"],
            "the hidden request was executed"
        );
    }
    server.stop();
}
