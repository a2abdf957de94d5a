//! Servers and networks that behave badly: each is told by an error of its own, in bounded time and memory.

use std::io::Write;
use std::time::Duration;

use tailwater_e2e::PATIENCE;
use tailwater_sync::event::Offset;
use tailwater_sync::source::{Error, Settings, Source, Stream};

use super::read;
use super::scripted::{answer, serve, serve_text};

const ID: &str = "0000000000000001";
const ETAG: &str =
    "ETag: \"0000000000000001:0000000000000000_0000000000000000:0000000000000001_0000000000000004:r\"";
const RECORDS: &str = "Content-Type: application/x-ndjson";
const NEXT: &str = "Stream-Next-Offset: 0000000000000001_0000000000000004";
const BODY: &str = "{\"offset\":\"0000000000000001_0000000000000002\",\"at\":\"2026-11-20T22:20:12Z\",\"index\":0,\"data\":7}\n\
                    {\"offset\":\"0000000000000001_0000000000000004\",\"at\":\"2026-11-20T22:20:12Z\",\"index\":1,\"data\":8}\n";

fn source_at(url: &str) -> Source {
    Source::new(Settings::new(url)).expect("settings")
}

async fn read_from(source: &Source) -> Result<usize, Error> {
    let stream = Stream {
        name: "runs/7".into(),
        incarnation: ID.parse().expect("an id"),
        content_type: "application/json".into(),
        oldest: Offset::BEGINNING,
        next: Offset::BEGINNING,
        events: 0,
        closed: false,
    };
    let chunk = read(source, &stream, Offset::BEGINNING).await?;
    Ok(chunk.events.len())
}

/// What a read says of a server that always answers this.
async fn said_of(text: String) -> Error {
    let url = serve_text(move |_| text.clone());
    read_from(&source_at(&url)).await.expect_err("a bad answer")
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let whole = answer("200 OK", &[RECORDS, ETAG, NEXT], BODY);
    let url = serve_text({
        let whole = whole.clone();
        move |_| whole.clone()
    });
    assert_eq!(
        read_from(&source_at(&url)).await.expect("it is whole"),
        2,
        "else this test says nothing"
    );
    let head = whole.len() - BODY.len();
    // Within a line, between two lines, before the first one, within the headers.
    for cut in [whole.len() - 10, head + BODY.len() / 2, head, 30] {
        let error = said_of(whole[..cut].to_owned()).await;
        assert!(
            matches!(error, Error::Broken { .. }) && error.heals(),
            "cut at {cut}: {error}"
        );
    }
    let headers = format!("{RECORDS}\r\n{ETAG}\r\n{NEXT}\r\nTransfer-Encoding: chunked");
    let size = BODY.len();
    let unended = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{size:x}\r\n{BODY}\r\n");
    let error = said_of(unended).await;
    assert!(
        matches!(error, Error::Broken { .. }),
        "without the last chunk: {error}"
    );
}

#[tokio::test]
async fn an_answer_at_odds_with_itself_is_refused_whole() {
    let lines: Vec<_> = BODY.split_inclusive('\n').collect();
    let flags = "Stream-Closed: true";
    for (headers, body) in [
        (vec![RECORDS, ETAG, NEXT], lines[1].to_owned()),
        (vec![RECORDS, ETAG, NEXT], lines[0].to_owned()),
        (vec![RECORDS, ETAG, NEXT], lines[0].repeat(2)),
        (vec![RECORDS, ETAG, NEXT], BODY.trim_end().to_owned()),
        (vec![RECORDS, ETAG, NEXT], String::new()),
        (vec![RECORDS, ETAG, NEXT, flags], BODY.to_owned()),
    ] {
        let error = said_of(answer("200 OK", &headers, &body)).await;
        assert!(
            matches!(error, Error::Inconsistent { .. }) && !error.heals(),
            "{body}: {error}"
        );
        assert!(error.to_string().contains("`runs/7`"), "{error}");
    }
}

#[tokio::test]
async fn a_server_of_another_kind_is_told_by_what_its_answer_lacks() {
    for (headers, lacks) in [
        (vec!["Content-Type: application/json", ETAG, NEXT], "view=records"),
        (vec![RECORDS, NEXT], "ETag"),
        (vec![RECORDS, "ETag: \"abc\"", NEXT], "ETag"),
        (vec![RECORDS, ETAG], "stream-next-offset"),
        (
            vec![RECORDS, ETAG, "Stream-Next-Offset: 17"],
            "stream-next-offset",
        ),
    ] {
        let error = said_of(answer("200 OK", &headers, BODY)).await;
        assert!(matches!(error, Error::Unexpected { .. }), "{error}");
        assert!(error.to_string().contains(lacks), "{error}");
    }
    let weak = ETAG.replace("ETag: ", "ETag: W/");
    let url = serve_text(move |_| answer("200 OK", &[RECORDS, &weak, NEXT], BODY));
    assert_eq!(
        read_from(&source_at(&url)).await.expect("a proxy weakens tags"),
        2
    );
}

#[tokio::test]
async fn a_server_that_is_silent_or_too_slow_is_given_up() {
    let silent = serve(|_, _| std::thread::park());
    let dripping = serve(|_, socket| {
        let whole = answer("200 OK", &[RECORDS, ETAG, NEXT], &BODY.repeat(10_000));
        let (head, body) = whole.split_at(whole.find("\r\n\r\n").expect("a head ends") + 4);
        // Each byte of the body comes in time, and all of them would take hours.
        let mut sent = socket.write_all(head.as_bytes());
        for byte in body.as_bytes() {
            if sent.is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            sent = socket.write_all(&[*byte]);
        }
    });
    for url in [silent, dripping] {
        let impatient = Settings {
            request_timeout: Duration::from_millis(300),
            ..Settings::new(&url)
        };
        let source = Source::new(impatient).expect("settings");
        let read = tokio::time::timeout(PATIENCE, read_from(&source)).await;
        let error = read.expect("it is given up").expect_err("too slow");
        let is_passing = matches!(error, Error::TimedOut { .. }) && error.heals();
        assert!(is_passing, "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_at_the_bound() {
    let endless = serve(|_, socket| {
        let head = format!("HTTP/1.1 200 OK\r\n{RECORDS}\r\n{ETAG}\r\n{NEXT}\r\n\r\n");
        let mut sent = socket.write_all(head.as_bytes());
        while sent.is_ok() {
            sent = socket.write_all(&[b'x'; 4096]);
        }
    });
    let narrow = Settings {
        read_bytes_max: 1 << 20,
        ..Settings::new(&endless)
    };
    let error = read_from(&Source::new(narrow).expect("settings"))
        .await
        .expect_err("too large");
    assert!(
        matches!(
            error,
            Error::TooLarge {
                bytes_max: 1_048_576,
                ..
            }
        ),
        "{error}"
    );
}

/// A proxy that does not find its server says 404 as well. The mirror must not take the stream for deleted.
#[tokio::test]
async fn only_the_server_itself_says_that_a_stream_is_gone() {
    let html = answer(
        "404 Not Found",
        &["Content-Type: text/html"],
        "<html>default backend</html>",
    );
    let url = serve_text(move |_| html.clone());
    let source = source_at(&url);
    let error = read_from(&source).await.expect_err("a refusal");
    assert!(matches!(error, Error::Refused(_)), "{error}");
    let error = source.look(&"runs/7".into()).await.expect_err("a refusal");
    assert_eq!(error.to_string(), "cannot look at `runs/7`: Not Found (404)");
    let error = source
        .delete(&"runs/7".into(), ID.parse().expect("an id"))
        .await
        .expect_err("a refusal");
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let problem = "{\"code\":\"too_many_reads\",\"detail\":\"Try again.\"}";
    let error = said_of(answer("503 Service Unavailable", &["Retry-After: 7"], problem)).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.heals());
    assert_eq!(
        error.to_string(),
        "cannot read `runs/7`: Try again. (too_many_reads, 503)"
    );
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again_from_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    std::fs::write(&path, "first-token\n").expect("it can be written");
    let url = serve_text(|head| {
        if head.contains("authorization: Bearer second-token\r\n") {
            answer("200 OK", &[RECORDS, ETAG, NEXT], BODY)
        } else {
            answer(
                "401 Unauthorized",
                &[],
                "{\"code\":\"unauthenticated\",\"detail\":\"No valid token.\"}",
            )
        }
    });
    let with_token = Settings {
        token_path: Some(path.clone()),
        ..Settings::new(&url)
    };
    let source = Source::new(with_token).expect("settings");
    let error = read_from(&source).await.expect_err("the token is the wrong one");
    let said = format!("{error} {error:?} {source:?}");
    assert!(
        matches!(error, Error::Unauthorized { .. }) && error.heals(),
        "{said}"
    );
    assert!(
        said.contains(&path.display().to_string()) && !said.contains("first-token"),
        "{said}"
    );
    std::fs::write(&path, "second-token\n").expect("it can be written");
    assert_eq!(
        read_from(&source)
            .await
            .expect("it is renewed within the request"),
        2
    );

    let error = read_from(&source_at(&url)).await.expect_err("there is no token");
    assert!(
        error
            .to_string()
            .ends_with("name a file with a token for the source"),
        "{error}"
    );
    assert!(!error.heals());
}

#[tokio::test]
async fn what_cannot_work_is_told_at_the_start() {
    let bad = |settings| Source::new(settings).expect_err("bad settings").to_string();
    let url = "https://localhost:1/v1/stream";
    let no_file = |name| Some(std::path::PathBuf::from(name));
    assert!(bad(Settings::new("localhost:4437")).contains("cannot be the source's URL"));
    let token = Settings {
        token_path: no_file("/no/such/token"),
        ..Settings::new(url)
    };
    assert!(bad(token).starts_with("no token for the source in /no/such/token: "));
    let authority = Settings {
        ca_path: no_file("/no/such/ca.pem"),
        ..Settings::new(url)
    };
    assert!(bad(authority).starts_with("no certificates of authorities in /no/such/ca.pem: "));
    let empty = tempfile::NamedTempFile::new().expect("a file");
    let authority = Settings {
        ca_path: Some(empty.path().to_owned()),
        ..Settings::new(url)
    };
    assert!(bad(authority).ends_with("it has no certificate in PEM"));

    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = closed.local_addr().expect("a bound socket has an address");
    drop(closed);
    let error = read_from(&source_at(&format!("http://{address}/v1/stream")))
        .await
        .expect_err("nobody listens");
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.heals(),
        "{error}"
    );
}
