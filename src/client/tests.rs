//! The client against a scripted server: each connection gets the next answer, byte for byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Ack, Append, Client, ClientError, Create, Fork, Producer, Subscribe, TailEvent, View};

/// A server that gives these answers, closing the connection behind each, and the requests that it got.
async fn serve(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            requests.push(read_request(&mut socket).await);
            socket
                .write_all(answer.as_bytes())
                .await
                .expect("the client reads");
        }
        requests
    });
    (
        Client::new(&format!("http://{address}/v1/stream")).expect("a URL"),
        requests,
    )
}

async fn read_request(socket: &mut tokio::net::TcpStream) -> String {
    let (mut request, mut piece) = (String::new(), [0; 4096]);
    loop {
        let length = socket.read(&mut piece).await.expect("the client writes");
        request.push_str(&String::from_utf8_lossy(&piece[..length]));
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            continue;
        };
        let expected = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a length"));
        if body.len() >= expected {
            return request;
        }
    }
}

/// An answer without a length: its body ends with the connection.
fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}")
}

fn events(body: &str) -> String {
    answer("200 OK", "content-type: text/event-stream\r\n", body)
}

/// Cut off by the transport: the chunk that was announced does not come whole.
fn cut_events(body: &str) -> String {
    let headers = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
    answer("200 OK", headers, &format!("{:x}\r\n{body}", body.len() + 10))
}

fn control(offset: &str, more: &str) -> String {
    format!("event: control\ndata: {{\"streamNextOffset\":\"{offset}\",\"streamCursor\":\"7\"{more}}}\n\n")
}

/// All data up to the end, and how often the connection was lost.
async fn follow(client: &Client, view: View) -> Result<(Vec<String>, usize), ClientError> {
    let (mut data, mut losses) = (Vec::new(), 0);
    let mut tail = client.tail("s", "-1", view);
    while let Some(event) = tail.next().await? {
        match event {
            TailEvent::Data { bytes } => data.push(String::from_utf8_lossy(&bytes).into_owned()),
            TailEvent::Position { .. } => {}
            TailEvent::Reconnecting { .. } => losses += 1,
        }
    }
    Ok((data, losses))
}

fn target(request: &str) -> &str {
    request.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn a_cut_tail_goes_on_behind_the_last_control_event() {
    let (client, requests) = serve(vec![
        cut_events(&format!(
            "event: data\ndata: a\n\n{}event: data\ndata: b\n\n",
            control("1", "")
        )),
        cut_events("event: data\ndata: b\n\n"),
        events(&format!("event: data\ndata: b\n\n{}", control("2", ""))),
        events(&format!(
            "event: data\ndata: c\n\n{}",
            control("3", ",\"streamClosed\":true")
        )),
    ])
    .await;
    let (data, losses) = follow(&client, View::Plain)
        .await
        .expect("the stream is closed in the end");
    assert_eq!(
        data,
        ["a", "b", "c"],
        "data without an id counts only with its control event"
    );
    assert_eq!(losses, 2, "the server's own end is no loss");
    let requests = requests.await.expect("all answers were given");
    let targets: Vec<_> = requests.iter().map(|request| target(request)).collect();
    assert_eq!(
        targets,
        [
            "/v1/stream/s?live=sse&offset=-1",
            "/v1/stream/s?cursor=7&live=sse&offset=1",
            "/v1/stream/s?cursor=7&live=sse&offset=1",
            "/v1/stream/s?cursor=7&live=sse&offset=2",
        ]
    );
}

#[tokio::test]
async fn a_cut_tail_goes_on_behind_the_last_id() {
    let (client, requests) = serve(vec![
        cut_events("id: 1\nevent: data\ndata: a\n\nid: 2\nevent: data\ndata: b\n\nid: 3\nevent: data\nda"),
        cut_events(&format!("id: 3\nevent: data\ndata: c\n\n{}", control("3", ""))),
        events(&format!("id: 3.eof\n{}", control("3", ",\"streamClosed\":true"))),
    ])
    .await;
    let (data, losses) = follow(&client, View::Plain)
        .await
        .expect("the stream is closed in the end");
    assert_eq!((data.join(""), losses), ("abc".to_owned(), 2));
    let requests = requests.await.expect("all answers were given");
    assert!(!requests[0].contains("last-event-id"));
    assert!(requests[1].contains("last-event-id: 2\r\n"), "{}", requests[1]);
    assert!(
        !requests[2].contains("last-event-id"),
        "the control event behind it is newer: {}",
        requests[2]
    );
    assert!(target(&requests[2]).ends_with("offset=3"), "{}", requests[2]);
}

/// The offset was that of the last record that had come, though many of them stood in front of it still.
#[tokio::test]
async fn the_offset_is_behind_what_was_handed_out_and_not_behind_what_has_come() {
    let record = |number: usize| format!("id: {number}\nevent: data\ndata: {number}\n\n");
    let body = [record(1), record(2), control("2", ""), record(3)].concat()
        + "event: data\ndata: 4\n\nevent: data\ndata: 5\n\n"
        + &control("5", ",\"streamClosed\":true");
    let (client, _requests) = serve(vec![events(&body)]).await;
    let mut tail = client.tail("s", "-1", View::Plain);
    assert_eq!(tail.offset(), "-1");
    let mut seen = Vec::new();
    while let Some(event) = tail.next().await.expect("the stream is closed in the end") {
        let what = match event {
            TailEvent::Data { bytes } => String::from_utf8_lossy(&bytes).into_owned(),
            TailEvent::Position { .. } => "position".to_owned(),
            TailEvent::Reconnecting { .. } => unreachable!("there is one connection"),
        };
        seen.push(format!("{what} {}", tail.offset()));
    }
    // Behind 4 nobody can go on, so that it would come again.
    let expected = ["1 1", "2 2", "position 2", "3 3", "4 3", "5 5", "position 5"];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_server_that_is_away_for_a_while_is_waited_for() {
    let (client, _requests) = serve(vec![
        events(&format!("event: data\ndata: a\n\n{}", control("1", ""))),
        answer("503 Service Unavailable", "retry-after: 0\r\n", ""),
        answer("204 No Content", "stream-closed: true\r\n", ""),
    ])
    .await;
    let (data, losses) = follow(&client, View::Plain)
        .await
        .expect("the stream is closed in the end");
    assert_eq!((data.join(""), losses), ("a".to_owned(), 1));
}

#[tokio::test]
async fn a_tail_ends_with_an_error_when_the_stream_has_gone() {
    let (client, _requests) = serve(vec![
        events(&format!("event: data\ndata: a\n\n{}", control("1", ""))),
        answer(
            "404 Not Found",
            "content-type: application/problem+json\r\n",
            "{\"code\":\"stream_not_found\"}",
        ),
    ])
    .await;
    let error = follow(&client, View::Plain)
        .await
        .expect_err("there is nothing to wait for");
    assert_eq!(
        error.to_string(),
        "cannot tail `s`: there is no such stream (stream_not_found, 404)"
    );
}

#[tokio::test]
async fn a_server_that_was_never_there_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/v1/stream", listener.local_addr().expect("it is bound"));
    drop(listener);
    let client = Client::new(&url).expect("a URL");
    let error = follow(&client, View::Plain)
        .await
        .expect_err("nobody listens")
        .to_string();
    let advice = "is it running? start it with `tailwater serve`, or give --url (Connection refused";
    assert!(
        error.starts_with(&format!("no server answered at {url}: {advice}")),
        "{error}"
    );
}

#[tokio::test]
async fn plain_http_behind_an_https_url_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("the client reads");
        let _ = socket.read(&mut [0; 4096]).await;
    });
    let error = Client::new(&url)
        .expect("a URL")
        .head("s")
        .await
        .expect_err("no TLS");
    assert!(matches!(error, ClientError::Tls { .. }), "{error}");
    assert!(
        error.to_string().contains("does the server speak plain http://"),
        "{error}"
    );
    server.await.expect("it answered");
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ca.pem");
    let said = |url: &str| {
        let error = Client::trusting(url, Some(&path)).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    let missing = said("https://localhost/v1/stream");
    assert!(
        missing.starts_with("--ca-file or TAILWATER_CA_FILE names ") && missing.contains("cannot be read"),
        "{missing}"
    );
    assert_eq!(
        said("http://localhost/v1/stream"),
        "",
        "in clear there is nobody to believe"
    );
    std::fs::write(&path, "nothing").expect("written");
    let empty = said("https://localhost/v1/stream");
    assert!(empty.contains("has no certificate in PEM"), "{empty}");
}

#[tokio::test]
async fn binary_data_is_decoded_whatever_lines_it_came_in() {
    let headers = "content-type: text/event-stream\r\nstream-sse-data-encoding: base64\r\n";
    let body = format!(
        "event: data\ndata: aGVs\ndata: bG8=\n\n{}",
        control("1", ",\"streamClosed\":true")
    );
    let (client, _requests) = serve(vec![answer("200 OK", headers, &body)]).await;
    assert_eq!(follow(&client, View::Plain).await.expect("closed").0, ["hello"]);
}

#[tokio::test]
async fn a_server_without_the_record_view_is_found_out() {
    let plain = format!(
        "event: data\ndata: [{{\"a\":1}}]\n\n{}",
        control("1", ",\"streamClosed\":true")
    );
    let page = answer(
        "200 OK",
        "content-type: application/json\r\nstream-next-offset: 1\r\n",
        "[1]",
    );
    let (client, _requests) = serve(vec![events(&plain), page]).await;
    let unsupported = |error| matches!(error, ClientError::Unsupported { .. });
    assert!(unsupported(
        follow(&client, View::Records).await.expect_err("no records")
    ));
    assert!(unsupported(
        client
            .read_page("s", "-1", View::Records)
            .await
            .expect_err("no records")
    ));
}

#[tokio::test]
async fn a_catch_up_follows_the_offsets_to_the_last_page() {
    let page =
        |headers: &str, body: &str| answer("200 OK", &format!("content-type: text/plain\r\n{headers}"), body);
    let (client, requests) = serve(vec![
        page("stream-next-offset: 0_1\r\n", "a"),
        page("stream-next-offset: 0_2\r\nstream-up-to-date: true\r\n", "b"),
    ])
    .await;
    let (mut pages, mut text) = (client.catch_up("a b/c", "-1", View::Plain), Vec::new());
    while let Some(page) = pages.next_page().await.expect("two pages") {
        text.extend_from_slice(&page.body);
    }
    assert_eq!(text, b"ab");
    let requests = requests.await.expect("all answers were given");
    assert_eq!(target(&requests[0]), "/v1/stream/a%20b/c?offset=-1");
    assert_eq!(target(&requests[1]), "/v1/stream/a%20b/c?offset=0_1");
}

#[tokio::test]
async fn a_page_that_leads_nowhere_is_an_error_and_not_a_loop() {
    let headers = "content-type: text/plain\r\nstream-next-offset: 5\r\n";
    let (client, _requests) = serve(vec![answer("200 OK", headers, "")]).await;
    let error = client
        .catch_up("s", "5", View::Plain)
        .next_page()
        .await
        .expect_err("no progress");
    assert!(matches!(error, ClientError::Unexpected { .. }), "{error}");
}

#[tokio::test]
async fn create_and_append_say_everything_that_they_were_given() {
    let (client, requests) = serve(vec![
        answer("201 Created", "stream-next-offset: 4\r\n", ""),
        answer(
            "204 No Content",
            "stream-next-offset: 9\r\nstream-closed: TRUE\r\n",
            "",
        ),
    ])
    .await;
    let client = client.with_token("secret").expect("a header's text");
    let fork = Some(Fork {
        source: "x/y z".to_owned(),
        offset: Some("4".to_owned()),
    });
    let create = Create {
        content_type: Some("text/plain".to_owned()),
        ttl_secs: Some(60),
        closed: true,
        fork,
        ..Create::default()
    };
    let created = client.create("s", &create).await.expect("created");
    assert_eq!((created.is_new, created.next_offset.as_str()), (true, "4"));
    let producer = Some(Producer {
        id: "p".to_owned(),
        epoch: 2,
        seq: 3,
    });
    let append = Append {
        content_type: "text/plain".to_owned(),
        body: "hello".into(),
        close: true,
        producer,
    };
    let appended = client.append("s", &append).await.expect("appended");
    assert!(
        appended.closed && appended.is_duplicate,
        "204 to a producer is a duplicate"
    );
    let requests = requests.await.expect("all answers were given");
    for header in [
        "authorization: Bearer secret",
        "content-type: text/plain",
        "stream-ttl: 60",
        "stream-closed: true",
        "stream-forked-from: /v1/stream/x/y%20z",
        "stream-fork-offset: 4",
    ] {
        assert!(
            requests[0].contains(&format!("\r\n{header}\r\n")),
            "{header} is not in {}",
            requests[0]
        );
    }
    assert!(requests[0].starts_with("PUT /v1/stream/s HTTP/1.1\r\n"));
    for header in [
        "stream-closed: true",
        "producer-id: p",
        "producer-epoch: 2",
        "producer-seq: 3",
    ] {
        assert!(
            requests[1].contains(&format!("\r\n{header}\r\n")),
            "{header} is not in {}",
            requests[1]
        );
    }
    assert!(requests[1].ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn a_refusal_carries_what_its_headers_say() {
    let headers = "content-type: application/problem+json\r\nretry-after: 3\r\nproducer-epoch: 8\r\nstream-closed: true\r\n";
    let (client, _requests) = serve(vec![answer(
        "403 Forbidden",
        headers,
        "{\"code\":\"producer_fenced\"}",
    )])
    .await;
    let error = client.append("s", &Append::default()).await.expect_err("fenced");
    let problem = error.problem().expect("a refusal");
    assert_eq!(problem.code.as_deref(), Some("producer_fenced"));
    assert_eq!(problem.retry_after, Some(Duration::from_secs(3)));
    assert_eq!((problem.producer_epoch, problem.closed), (Some(8), true));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_a_broken_connection() {
    let headers = "content-type: text/plain\r\nstream-next-offset: 5\r\ncontent-length: 10\r\n";
    let (client, _requests) = serve(vec![answer("200 OK", headers, "half")]).await;
    let error = client
        .read_page("s", "-1", View::Plain)
        .await
        .expect_err("half a body");
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn a_listing_keeps_each_entry_as_the_server_sent_it() {
    let entry = "{\"name\":\"a\",\"content_type\":\"text/plain\",\"next_offset\":\"1\",\"bytes\":1,\"messages\":1,\
                 \"closed\":false,\"later\":[1]}";
    let body = format!("{{\"streams\":[{entry}],\"after\":\"a\"}}");
    let (client, requests) = serve(vec![answer(
        "200 OK",
        "content-type: application/json\r\n",
        &body,
    )])
    .await;
    let page = client.list("a/ü", Some("x&y")).await.expect("a page");
    assert_eq!(
        (page.streams[0].json.as_str(), page.after.as_deref()),
        (entry, Some("a"))
    );
    let requests = requests.await.expect("all answers were given");
    assert_eq!(
        target(&requests[0]),
        "/v1/stream/__ds/streams?after=x%26y&prefix=a%2F%C3%BC"
    );
}

#[tokio::test]
async fn a_page_of_another_kind_of_server_is_told_as_such() {
    let (client, _requests) = serve(vec![answer("200 OK", "content-type: text/html\r\n", "<html>")]).await;
    let error = client.head("s").await.expect_err("no offset");
    assert!(
        error
            .to_string()
            .contains("did not answer as a durable-stream server: no Stream-Next-Offset"),
        "{error}"
    );
}

#[tokio::test]
async fn a_worker_shows_the_token_of_its_claim_and_everybody_else_their_own() {
    let claim = r#"{"wake_id":"w_1","generation":7,"token":"t.o.k","streams":[{"path":"a/b","link_type":"glob",
        "acked_offset":"0_0","tail_offset":"0_9","has_pending":true}],"lease_ttl_ms":1000}"#;
    let fenced = r#"{"error":{"code":"FENCED","message":"The wake is over."}}"#;
    let (client, requests) = serve(vec![
        answer("200 OK", "", claim),
        answer("200 OK", "", r#"{"ok":true,"next_wake":true}"#),
        answer("409 Conflict", "content-type: application/json\r\n", fenced),
        answer("204 No Content", "content-length: 0\r\n", ""),
    ])
    .await;
    let client = client.with_token("mine").expect("plain");
    let claim = client.claim("s 1/x", "w1").await.expect("claimed");
    let acks = [Ack {
        stream: "a/b".to_owned(),
        offset: "0_9".to_owned(),
    }];
    assert!(client.ack("s 1/x", &claim, &acks, true).await.expect("acked"));
    let refused = client
        .release("s 1/x", &claim)
        .await
        .expect_err("fenced")
        .to_string();
    assert_eq!(
        refused,
        "cannot release the subscription `s 1/x`: The wake is over. (FENCED, 409)"
    );
    client
        .remove_from_subscription("s", "a/ü")
        .await
        .expect("removed");
    let requests = requests.await.expect("served");
    let has = |at: usize, part: &str| requests[at].contains(part);
    assert_eq!(
        target(&requests[0]),
        "/v1/stream/__ds/subscriptions/s%201%2Fx/claim"
    );
    assert!(has(0, "authorization: Bearer mine\r\n") && has(0, r#"{"worker":"w1"}"#));
    assert!(has(1, "authorization: Bearer t.o.k\r\n") && !has(1, "mine"));
    let body = r#"{"acks":[{"offset":"0_9","stream":"a/b"}],"done":true,"generation":7,"wake_id":"w_1"}"#;
    assert!(has(1, body), "{}", requests[1]);
    assert!(has(2, r#"{"generation":7,"wake_id":"w_1"}"#) && has(2, "Bearer t.o.k"));
    assert!(has(3, "DELETE /v1/stream/__ds/subscriptions/s/streams/a/%C3%BC HTTP") && has(3, "Bearer mine"));
}

#[tokio::test]
async fn a_subscription_is_asked_for_as_the_protocol_has_it() {
    let (client, requests) = serve(vec![answer("201 Created", "", r#"{"id":"s"}"#)]).await;
    let subscribe = Subscribe {
        webhook: Some("https://a.example/".to_owned()),
        pattern: Some("a/*".to_owned()),
        lease_ttl_ms: Some(5000),
        ..Subscribe::default()
    };
    let subscribed = client.subscribe("s", &subscribe).await.expect("made");
    assert!(subscribed.is_new);
    let requests = requests.await.expect("served");
    let body = requests[0].split_once("\r\n\r\n").expect("a body").1;
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let asked = serde_json::json!({
        "type": "webhook",
        "webhook": { "url": "https://a.example/" },
        "pattern": "a/*",
        "streams": [],
        "lease_ttl_ms": 5000,
    });
    assert_eq!(body, asked);
}
