//! Requests that are sound as HTTP and that the protocol refuses.

use super::{Case, REFUSED, case, check, request, start};

#[test]
fn bad_names_are_refused() {
    let mut names: Vec<String> = [
        "%",
        "%g0",
        "a%2",
        "%ff",
        "%c3%28",
        "%00",
        "a%0ab",
        "a%0d%0aX-Injected:%20b",
        "%7f",
        "%c2%85",
        "a//b",
        "a/",
        "/a",
        "%2fa",
        "a%2f%2fb",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "%2e%2e",
        "a/%2E%2E/b",
        "../../etc/passwd",
        "a/..",
    ]
    .map(String::from)
    .into();
    names.push("a".repeat(1025));
    names.push("%61".repeat(1025));
    names.push(vec!["a"; 17].join("/"));
    let mut cases = Vec::new();
    for name in &names {
        for method in ["PUT", "GET", "DELETE"] {
            let line = format!("{method} /v1/stream/{name}");
            cases.push(request(&line, "Content-Type: text/plain\r\n", b"", REFUSED));
        }
    }
    for name in ["", "__ds", "__ds/streams", "__ds/nonsense"] {
        let line = format!("PUT /v1/stream/{name}");
        cases.push(request(
            &line,
            "Content-Type: text/plain\r\n",
            b"",
            &[400, 404, 405],
        ));
    }
    check(&cases, false);
}

#[test]
fn bad_queries_are_refused() {
    let overlong = format!("offset={}", "9".repeat(20_000));
    let bad = [
        "offset=",
        "offset=abc",
        "offset=-2",
        "offset=--1",
        "offset=1",
        "offset=%00",
        "offset=%zz",
        "offset=NOW",
        "offset=0000000000000001_000000000000001",
        "offset=00000000000000001_0000000000000001",
        "offset=%2B000000000000001_0000000000000001",
        "offset=-000000000000001_0000000000000001",
        "offset=0000000000000001_-000000000000001",
        "offset=0000000000000001-0000000000000001",
        "offset=0000000000000001_0000000000000001_1",
        "offset=99999999999999999999_99999999999999999999",
        "offset=0000000000000001_0000000000000001%0a",
        "offset=-1%20",
        "offset=%EF%BC%91",
        "offset=-1;offset=now",
        "offset=-1&offset=now",
        "live=sse",
        "live=long-poll",
        "offset=-1&live=bogus",
        "offset=-1&live=",
        "offset=-1&live=SSE",
        "offset=-1&view=bogus",
        &overlong,
    ];
    let line = |query: &str| format!("GET /v1/stream/text?{query}");
    let mut cases: Vec<Case> = bad
        .iter()
        .map(|query| request(&line(query), "", b"", REFUSED))
        .collect();
    for unknown in [
        "9999999999999999_9999999999999999",
        "0000000000000000_0000000000000001",
    ] {
        for live in ["", "&live=long-poll", "&live=sse"] {
            cases.push(request(
                &line(&format!("offset={unknown}{live}")),
                "",
                b"",
                &[400, 410],
            ));
        }
    }
    check(&cases, false);
}

#[test]
fn bad_protocol_headers_are_refused() {
    let numbers = [
        "-1",
        "+1",
        "01x",
        "1.0",
        "1e3",
        "",
        "abc",
        "0x1",
        "1 2",
        "99999999999999999999999999",
        "\u{ff11}",
    ];
    let mut cases = Vec::new();
    let put = |headers: &str, expected| {
        request(
            "PUT /v1/stream/new",
            &format!("Content-Type: text/plain\r\n{headers}"),
            b"",
            expected,
        )
    };
    for number in numbers.iter().chain(&["007", "-0", "18446744073709551616"]) {
        cases.push(put(&format!("Stream-TTL: {number}\r\n"), REFUSED));
    }
    for time in [
        "",
        "tomorrow",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2099-01-01",
        "4102444800",
        "2099-01-01T00:00:00",
    ] {
        cases.push(put(&format!("Stream-Expires-At: {time}\r\n"), REFUSED));
    }
    cases.push(put(
        "Stream-TTL: 60\r\nStream-Expires-At: 2099-01-01T00:00:00Z\r\n",
        REFUSED,
    ));
    for kind in ["garbage", "text/", "/plain", ";", "text/pl ain"] {
        cases.push(request(
            "PUT /v1/stream/new",
            &format!("Content-Type: {kind}\r\n"),
            b"x",
            REFUSED,
        ));
    }
    for source in [
        "",
        "nonsense",
        "/elsewhere/text",
        "/v1/stream/",
        "/v1/stream/../text",
        "/v1/stream/%ff",
    ] {
        cases.push(put(&format!("Stream-Forked-From: {source}\r\n"), &[400, 404]));
    }
    let fork = "Stream-Forked-From: /v1/stream/text\r\n";
    for offset in [
        "abc",
        "",
        "-2",
        "0000000000000001_0000000000000001_",
        "9999999999999999_9999999999999999",
    ] {
        cases.push(put(&format!("{fork}Stream-Fork-Offset: {offset}\r\n"), REFUSED));
    }
    for number in numbers
        .iter()
        .chain(&["18446744073709551615", "9007199254740992"])
    {
        cases.push(put(
            &format!("{fork}Stream-Fork-Sub-Offset: {number}\r\n"),
            REFUSED,
        ));
    }
    cases.push(put("Stream-Fork-Offset: -1\r\n", REFUSED));

    let post = |headers: &str| {
        request(
            "POST /v1/stream/text",
            &format!("Content-Type: text/plain\r\n{headers}"),
            b"x",
            REFUSED,
        )
    };
    for number in numbers
        .iter()
        .chain(&["9007199254740992", "18446744073709551615"])
    {
        cases.push(post(&format!(
            "Producer-Id: p\r\nProducer-Epoch: {number}\r\nProducer-Seq: 0\r\n"
        )));
        cases.push(post(&format!(
            "Producer-Id: p\r\nProducer-Epoch: 0\r\nProducer-Seq: {number}\r\n"
        )));
    }
    cases.push(post("Producer-Id: \r\nProducer-Epoch: 0\r\nProducer-Seq: 0\r\n"));
    cases.push(post("Producer-Id: p\r\n"));
    cases.push(post("Producer-Epoch: 0\r\nProducer-Seq: 0\r\n"));
    cases.push(post("Producer-Id: p\r\nProducer-Seq: 0\r\n"));
    // Only the first one counted: who had asked for the close with the second was told that it was done.
    cases.push(post("Stream-Closed: false\r\nStream-Closed: true\r\n"));
    cases.push(put("Stream-Closed: false\r\nStream-Closed: true\r\n", REFUSED));
    cases.push(request("POST /v1/stream/text", "", b"x", REFUSED));
    for token in ["garbage", "", "-1", "W/\"x\""] {
        let headers = format!("Content-Type: text/plain\r\nIf-Match: {token}\r\n");
        cases.push(request("POST /v1/stream/text", &headers, b"x", &[400, 412]));
    }
    // The stream was deleted whatever its tail was.
    for tail in ["\"0000000000000001_0000000000000001\"", "\"text\""] {
        let headers = format!("If-Match: {tail}\r\n");
        cases.push(request("DELETE /v1/stream/text", &headers, b"", &[400, 412]));
    }
    // Readers were given the bytes of a gzip file as a text.
    for line in ["POST /v1/stream/text", "PUT /v1/stream/new"] {
        let headers = "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n";
        cases.push(request(line, headers, b"\x1f\x8b", &[415]));
    }
    for token in [
        "garbage",
        ".eof",
        "-2",
        "0000000000000001",
        "0000000000000001_0000000000000001.eo",
    ] {
        let line = "GET /v1/stream/text?offset=-1&live=sse";
        cases.push(request(
            line,
            &format!("Last-Event-ID: {token}\r\n"),
            b"",
            &[400, 410],
        ));
    }
    for name in [
        "Stream-TTL",
        "Stream-Expires-At",
        "Stream-Forked-From",
        "Content-Type",
    ] {
        let head = format!("PUT /v1/stream/new HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{name}: ");
        let bytes = [head.as_bytes(), b"\xff\xfe\x80", b"\r\n\r\n"].concat();
        cases.push(case(&format!("{name} of high bytes"), bytes, REFUSED));
    }
    check(&cases, false);
}

#[test]
fn bad_bodies_of_json_streams_are_refused() {
    let open_array = "[".repeat(100_000);
    let bodies: &[&[u8]] = &[
        b"",
        b" ",
        b"[]",
        b" [ ] ",
        b"{",
        b"}",
        b"[1,2",
        b"[1,]",
        b"[,1]",
        b"1 2",
        b"[1] [2]",
        br#"{"a":1}}"#,
        br#"{"a" 1}"#,
        br#"{"a":1,}"#,
        br"{a:1}",
        b"{'a':1}",
        b"nul",
        b"NaN",
        b"[Infinity]",
        b"+1",
        b"01",
        b".5",
        b"1.",
        b"0x10",
        br#"["kept", "half"#,
        br#"[1, 2, {"a": }]"#,
        b"\"\xff\xfe\"",
        b"\xef\xbb\xbf1",
        b"\"\x01\"",
        br#""\x41""#,
        b"\0",
        b"[1]\0",
        b"// 1",
        b"1 // one",
        open_array.as_bytes(),
    ];
    let json = "Content-Type: application/json\r\n";
    let mut cases: Vec<Case> = bodies
        .iter()
        .map(|body| request("POST /v1/stream/json", json, body, REFUSED))
        .collect();
    // On creation an empty body and an empty array mean an empty stream, so they are not in this half.
    let wrong = bodies
        .iter()
        .filter(|body| !matches!(**body, b"" | b" " | b"[]" | b" [ ] "));
    cases.extend(wrong.map(|body| request("PUT /v1/stream/new", json, body, REFUSED)));
    check(&cases, false);
}

/// A parser that calls itself for each level runs out of stack. A server may set a limit to the depth; what
/// it takes it must give back.
#[test]
fn json_of_any_depth_is_refused_or_given_back_whole() {
    const DEPTH: usize = 10_000;
    let server = start();
    let bodies = [
        "[".repeat(DEPTH) + &"]".repeat(DEPTH),
        r#"{"a":"#.repeat(DEPTH) + "1" + &"}".repeat(DEPTH),
        r#"[{"a":"#.repeat(DEPTH) + "1" + &"}]".repeat(DEPTH),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let stream = server.stream(&format!("deep/{number}")).create();
        let answer = stream.send(&stream.appending(body.as_str()));
        server.assert_well(&format!("{DEPTH} levels"));
        if answer.status() == 400 {
            assert_eq!(stream.read("-1").text(), "[]");
            continue;
        }
        answer.expect(204);
        // One level of an array is flattened on the way in, and put back on the way out.
        let whole = if body.starts_with('[') {
            body.clone()
        } else {
            format!("[{body}]")
        };
        assert!(
            stream.read("-1").expect(200).text() == whole,
            "body {number} came back changed"
        );
        for more in [
            "&view=records",
            "&live=long-poll&view=records",
            "&live=sse",
            "&live=sse&view=records",
        ] {
            stream.send(&stream.reading("-1", more)).expect(200);
            server.assert_well(&format!("{DEPTH} levels read with {more}"));
        }
    }
    server.stop();
}

/// Numbers that a client is free to send, but that have overflowed a server's arithmetic before.
#[test]
fn extreme_cursors_and_sequences_are_survived() {
    let server = start();
    for cursor in [
        "0",
        "-1",
        "abc",
        "",
        "9223372036854775807",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        let path = format!("{}&cursor={cursor}", "/v1/stream/text?offset=-1&live=long-poll");
        let answer = server.get(&path);
        assert!(
            matches!(answer.status(), 200 | 400),
            "cursor {cursor:?}: {answer:?}"
        );
        server.assert_well(&format!("cursor {cursor:?}"));
    }
    let stream = server.stream("text").of_type("text/plain");
    for (epoch, seq, status) in [
        ("9007199254740991", "0", 200),
        ("9007199254740991", "1", 200),
        ("9007199254740991", "9007199254740991", 409),
        ("0", "0", 403),
    ] {
        let append = stream
            .appending("x")
            .header("Producer-Id", "extreme")
            .header("Producer-Epoch", epoch)
            .header("Producer-Seq", seq);
        server.send(&append).expect(status);
        server.assert_well(&format!("epoch {epoch}, seq {seq}"));
    }
    server.stop();
}
