//! Requests whose end two readers could see in different places. Each hides an append to a stream, its canary, that its
//! sender may not write.

/// Stands for the stream that nobody may write by way of another request: each row has one of its own.
const CANARY: &str = "canary/0000";
const HIDDEN: &str = "POST /v1/stream/canary/0000 HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\
                      Content-Length: 8\r\n\r\nsmuggled";
/// A request to the stream `runs/target`, in parts.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) line: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Row {
    /// The same row, whose hidden request is for the canary of that number.
    pub(crate) fn numbered(&self, number: usize) -> Self {
        let canary = canary(number);
        assert_eq!(canary.len(), CANARY.len(), "lengths stay as they are");
        let body = String::from_utf8(self.body.clone()).expect("bodies are texts");
        Self {
            line: self.line.clone(),
            headers: self.headers.replace(CANARY, &canary),
            body: body.replace(CANARY, &canary).into_bytes(),
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{:?} {:?} {:?}",
            self.line,
            self.headers,
            String::from_utf8_lossy(&self.body)
        )
    }
}

/// The stream that the hidden request of that number is for.
pub(crate) fn canary(number: usize) -> String {
    format!("canary/{number:04}")
}

fn row(line: &str, headers: &str, body: impl Into<Vec<u8>>) -> Row {
    Row {
        line: line.to_owned(),
        headers: headers.to_owned(),
        body: body.into(),
    }
}

const POST: &str = "POST /v1/stream/runs/target HTTP/1.1";

/// Two lengths, of which one ends before what is hidden and one behind it.
fn two_framings() -> Vec<Row> {
    let last_chunk = format!("0\r\n\r\n{HIDDEN}");
    let all = last_chunk.len();
    let one_chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let size_line = format!("{:x}\r\n", HIDDEN.len()).len();
    let mut rows = vec![
        row(
            POST,
            &format!("Content-Length: {all}\r\nTransfer-Encoding: chunked\r\n"),
            last_chunk.as_str(),
        ),
        row(
            POST,
            &format!("Transfer-Encoding: chunked\r\nContent-Length: {all}\r\n"),
            last_chunk.as_str(),
        ),
        row(
            POST,
            &format!("Content-Length: {size_line}\r\nTransfer-Encoding: chunked\r\n"),
            one_chunk.as_str(),
        ),
        row(
            POST,
            &format!("Transfer-Encoding: chunked\r\nContent-Length: {size_line}\r\n"),
            one_chunk.as_str(),
        ),
        row(
            POST,
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            one_chunk.as_str(),
        ),
    ];
    for coding in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked;x=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding: \0chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding\r\n : chunked",
        "Transfer-Encoding\0: chunked",
        "\0Transfer-Encoding: chunked",
        "TRANSFER-ENCODING: CHUNKED",
    ] {
        rows.push(row(
            POST,
            &format!("Content-Length: {all}\r\n{coding}\r\n"),
            last_chunk.as_str(),
        ));
        rows.push(row(
            POST,
            &format!("{coding}\r\nContent-Length: {all}\r\n"),
            last_chunk.as_str(),
        ));
        rows.push(row(
            POST,
            &format!("{coding}\r\nContent-Length: {size_line}\r\n"),
            one_chunk.as_str(),
        ));
    }
    rows
}

/// Lengths that could be read as 0 or as all of the body.
fn two_lengths() -> Vec<Row> {
    let all = HIDDEN.len();
    [
        format!("Content-Length: 0\r\nContent-Length: {all}"),
        format!("Content-Length: {all}\r\nContent-Length: 0"),
        format!("Content-Length: 0, {all}"),
        format!("Content-Length: {all}, 0"),
        format!("Content-Length: 0 {all}"),
        format!("Content-Length: 0\r\n Content-Length: {all}"),
        format!("Content-Length: 0\nContent-Length: {all}"),
        format!("Content-Length: 0\rContent-Length: {all}"),
        format!("Content-Length: {all}\r\nContent_Length: 0"),
        format!("Content-Length : {all}\r\nContent-Length: 0"),
        format!("Content-Length: 0\r\nContent-Length : {all}"),
        "Content-Length: +0".into(),
        "Content-Length: -0".into(),
        "Content-Length: 0x0".into(),
        "Content-Length: 0.0".into(),
        "Content-Length: 0e1".into(),
        "Content-Length: \x0b0".into(),
        "Content-Length: 0\0".into(),
        "Content-Length: \"0\"".into(),
        "Content-Length:".into(),
        "Content-Length: 18446744073709551616".into(),
    ]
    .iter()
    .map(|length| row(POST, &format!("{length}\r\n"), HIDDEN))
    .collect()
}

/// Chunks whose size, extension or end could be read in two ways.
fn two_chunks() -> Vec<Row> {
    let mut rows = Vec::new();
    for zero in [
        "0x0",
        "+0",
        "-0",
        "0_0",
        "\x0b0",
        "0\0",
        "",
        " ",
        "10000000000000000",
        "g",
        "0 0",
    ] {
        rows.push(format!("{zero}\r\n\r\n{HIDDEN}"));
    }
    let size = HIDDEN.len();
    for line in [
        // An extension that ends at a bare line feed or carriage return for some.
        "1;a\nX\r\n0\r\n\r\n",
        "1;\nX\r\n0\r\n\r\n",
        "1;a\rX\r\n0\r\n\r\n",
        // Chunks that are longer or shorter than their size.
        "1\r\nXX\r\n0\r\n\r\n",
        "1\r\nX0\r\n\r\n",
        "2\r\nX\r\n0\r\n\r\n",
        // Lines that end in a bare line feed.
        "1\nX\n0\n\n",
        "1\r\nX\n0\r\n\r\n",
        "0\n\n",
        "0\n\r\n",
        "0\r\r\n",
    ] {
        rows.push(format!("{line}{HIDDEN}"));
    }
    rows.push(format!("{size:x};\n\r\n{HIDDEN}\r\n0\r\n\r\n"));
    let rows = rows.iter().map(String::as_str);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut rows: Vec<_> = rows.map(|body| row(POST, chunked, body)).collect();
    let old = "POST /v1/stream/runs/target HTTP/1.0";
    let keep = format!("{chunked}Connection: keep-alive\r\n");
    rows.push(row(old, &keep, format!("0\r\n\r\n{HIDDEN}")));
    rows.push(row(
        old,
        &format!("{keep}Content-Length: 5\r\n"),
        format!("0\r\n\r\n{HIDDEN}"),
    ));
    rows
}

/// Bodies where none is expected, or that nobody reads because the request is refused before.
fn unread_bodies() -> Vec<Row> {
    let length = format!("Content-Length: {}\r\n", HIDDEN.len());
    let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let mut rows = Vec::new();
    for method in [
        "GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "TRACE", "CONNECT",
    ] {
        for name in [
            "runs/target",
            "runs/unknown",
            "elsewhere",
            "runs/target?offset=now&live=sse",
        ] {
            // That would take away what others append to.
            if method == "DELETE" && name == "runs/target" {
                continue;
            }
            let line = format!("{method} /v1/stream/{name} HTTP/1.1");
            rows.push(row(&line, &length, HIDDEN));
            rows.push(row(&line, "Transfer-Encoding: chunked\r\n", chunk.as_str()));
        }
    }
    for path in [
        "/healthz",
        "/metrics",
        "/v1/stream/__ds/streams",
        "/v1/stream/__ds/nonsense",
        "*",
    ] {
        for method in ["GET", "POST"] {
            rows.push(row(&format!("{method} {path} HTTP/1.1"), &length, HIDDEN));
        }
    }
    for refused in [
        "Expect: 100-continue\r\n",
        "Expect: nonsense\r\n",
        "Producer-Id: p\r\n",
        "Stream-Seq: \x7f\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Connection: content-length\r\n",
        "Connection: transfer-encoding\r\n",
        "Host: y\r\n",
        "X_Y: z\r\n",
    ] {
        rows.push(row(POST, &format!("{refused}{length}"), HIDDEN));
    }
    rows
}

/// Lines that could be two, and hidden requests in them.
fn two_lines() -> Vec<Row> {
    let returns = HIDDEN.replace("\r\n", "\r");
    vec![
        row(POST, &format!("Content-Length: 0\r\nX: y\r\r{returns}\r\n"), ""),
        row(
            POST,
            &format!("Content-Length: 0\r\nX: y\r\n \r\n{HIDDEN}\r\n"),
            "",
        ),
        row(
            "POST /v1/stream/runs/target HTTP/1.1\nX: y",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST  /v1/stream/runs/target HTTP/1.1",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST /v1/stream/runs/target  HTTP/1.1",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST\t/v1/stream/runs/target\tHTTP/1.1",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST /v1/stream/runs/target HTTP/1.1 x",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST /v1/stream/runs/target HTTP/1.2",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST /v1/stream/runs/target HTTP/01.1",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST /v1/stream/runs/a b HTTP/1.1",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST http://x/v1/stream/runs/target HTTP/1.1",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
        row(
            "POST /v1/stream/runs/target",
            &format!("Content-Length: {}\r\n", HIDDEN.len()),
            HIDDEN,
        ),
    ]
}

/// What nobody may read in two ways.
pub(crate) fn corpus() -> Vec<Row> {
    let mut rows = two_framings();
    rows.extend(two_lengths());
    rows.extend(two_chunks());
    rows.extend(unread_bodies());
    rows.extend(two_lines());
    rows
}

/// What has one reading at the server, by which the hidden request is one of its own, and perhaps another one elsewhere.
/// So the edge has to refuse it, or to ask the hidden one for a token of its own.
pub(crate) fn corpus_of_the_edge() -> Vec<Row> {
    let size_line = format!("{:x}\r\n", HIDDEN.len());
    let chunk = format!("{size_line}{HIDDEN}\r\n0\r\n\r\n");
    let fed = HIDDEN.replace("\r\n", "\n");
    let mut rows = corpus();
    rows.push(row(
        POST,
        &format!(
            "Transfer_Encoding: chunked\r\nContent-Length: {}\r\n",
            size_line.len()
        ),
        chunk,
    ));
    rows.push(row(POST, &format!("Content-Length: 0\r\nX: y\n\n{fed}\r\n"), ""));
    rows.push(row(POST, "Content-Length: 0\r\n", HIDDEN));
    rows
}
