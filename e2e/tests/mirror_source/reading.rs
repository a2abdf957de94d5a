//! What is in a stream arrives as it is, each event once, whatever the type.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tailwater_e2e::proxy::CuttingProxy;
use tailwater_e2e::{Request, Server};
use tailwater_sync::event::{Offset, Payload};
use tailwater_sync::source::{Error, Settings, Source, Stream};

use super::{events, payloads, read, read_on, settings, source, stream, trim};

const BINARY: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";

#[tokio::test(flavor = "multi_thread")]
async fn json_text_and_bytes_arrive_as_they_were_in_chunks_that_follow_one_another() {
    let server = Server::start_with(&[("DS_LIMITS__READ_CHUNK_BYTES", "600")]);
    let values = [
        r#"{"a":1,"b":[],"a":2}"#,
        "1234567890123456789012345678901234567890.0e-999",
        r#""\u0000 \ud83d\ude00 é 😀 \/""#,
        r#"{ "spaced" :	"out" }"#,
        "null",
    ];
    let json = server.stream("json").create();
    json.append(values[0]);
    json.append(format!("[{}]", values[1..].join(",")));
    json.close();
    let appends: [&[u8]; 4] = [
        "é😀\r\n\"\\".as_bytes(),
        b"half of \xc3",
        b"\xa9 the rest",
        b"\0\x01\x7f",
    ];
    for (name, content_type) in [("text", TEXT), ("bytes", BINARY)] {
        let stream = server.stream(name).of_type(content_type).create();
        appends.iter().for_each(|append| drop(stream.append(*append)));
        stream.close();
    }
    let source = source(&server);
    for (name, expected) in [
        ("json", values.map(str::as_bytes).to_vec()),
        ("text", appends.to_vec()),
        ("bytes", appends.to_vec()),
    ] {
        let chunks = read_on(&source, &stream(&source, name).await, Offset::BEGINNING).await;
        assert!(chunks.len() > 1, "{name} is more than one answer");
        assert_eq!(payloads(&chunks), expected, "{name}");
        let indexes: Vec<_> = events(&chunks).iter().map(|event| event.index).collect();
        assert_eq!(indexes, (0..expected.len() as u64).collect::<Vec<_>>(), "{name}");
        for chunk in &chunks {
            assert_eq!(chunk.next, chunk.events.last().expect("an event").offset);
            assert_eq!(
                chunk.closed,
                chunk.next == chunks[chunks.len() - 1].next,
                "{name}"
            );
        }
        let is_json = events(&chunks)
            .iter()
            .all(|event| matches!(event.payload, Payload::Json(_)));
        assert_eq!(is_json, name == "json");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_tail_there_is_nothing_and_a_close_without_data_is_told() {
    let server = Server::start();
    let empty = server.stream("empty").create();
    let source = source(&server);
    let seen = stream(&source, "empty").await;
    let chunk = read(&source, &seen, Offset::BEGINNING).await.expect("nothing");
    assert_eq!(
        (chunk.events.len(), chunk.next, chunk.closed),
        (0, Offset::BEGINNING, false)
    );
    let tail: Offset = empty.append("7").parse().expect("an offset");
    let chunk = read(&source, &seen, tail).await.expect("nothing");
    assert_eq!((chunk.events.len(), chunk.next, chunk.closed), (0, tail, false));
    empty.close();
    let chunk = read(&source, &seen, tail).await.expect("nothing");
    assert_eq!((chunk.events.len(), chunk.next, chunk.closed), (0, tail, true));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_brings_what_it_has_inherited_and_is_another_stream() {
    let server = Server::start();
    let original = server.stream("text").of_type(TEXT).create();
    original.append("one,");
    let middle = original.append("two,");
    original.append("three,");
    let cut = server.stream("cut").of_type(TEXT);
    let fork = cut
        .fork_of(&original)
        .header("Stream-Fork-Offset", &middle)
        .header("Stream-Fork-Sub-Offset", "2");
    server.send(&fork).expect(201);
    cut.append("four");
    let json = server.stream("json").create();
    json.append("[1,2]");
    let twin = server.stream("twin");
    server.send(&twin.fork_of(&json)).expect(201);
    twin.append("[3]");

    let source = source(&server);
    let seen = stream(&source, "cut").await;
    let chunks = read_on(&source, &seen, Offset::BEGINNING).await;
    assert_eq!(payloads(&chunks), [b"one,".as_slice(), b"two,", b"th", b"four"]);
    let from_within = read_on(&source, &seen, middle.parse().expect("an offset")).await;
    assert_eq!(payloads(&from_within), [b"th".as_slice(), b"four"]);
    let seen = stream(&source, "twin").await;
    assert_ne!(seen.incarnation, stream(&source, "json").await.incarnation);
    let chunks = read_on(&source, &seen, Offset::BEGINNING).await;
    assert_eq!(payloads(&chunks), [b"1".as_slice(), b"2", b"3"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_stream_tells_where_it_begins_and_is_read_from_there() {
    let server = Server::start();
    let trimmed = server.stream("trimmed").create();
    trimmed.append("[1,2]");
    let second = trimmed.append("[3]");
    trimmed.append("[4]");
    let source = source(&server);
    let seen = stream(&source, "trimmed").await;
    trim(&server, "trimmed", &second);
    let Err(Error::OffsetGone { stream: name, oldest }) = read(&source, &seen, Offset::BEGINNING).await
    else {
        panic!("its beginning is gone");
    };
    assert_eq!((name.as_str(), oldest.to_string()), ("trimmed", second));
    let chunks = read_on(&source, &seen, oldest).await;
    assert_eq!(payloads(&chunks), [b"4"]);
    assert_eq!(events(&chunks)[0].index, 3, "trimmed events are counted");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_the_one_that_was_meant_is_never_read() {
    let server = Server::start();
    let source_of_forks = server.stream("source").create();
    source_of_forks.append("[1,2]");
    let fork = server.stream("fork");
    server.send(&fork.fork_of(&source_of_forks)).expect(201);
    let plain = server.stream("plain").create();
    let tail: Offset = plain.append("[1]").parse().expect("an offset");
    let source = source(&server);
    let (old_fork, old_plain) = (stream(&source, "fork").await, stream(&source, "plain").await);
    fork.delete();
    server.send(&fork.fork_of(&source_of_forks)).expect(201);
    plain.delete();
    let plain = server.stream("plain").create();
    plain.append("[1]");
    for (old, after) in [
        (&old_fork, Offset::BEGINNING),
        // The offset of an inherited event is the same text in both forks.
        (&old_fork, old_fork.next),
        (&old_plain, Offset::BEGINNING),
        (&old_plain, tail),
    ] {
        let now = stream(&source, &old.name).await.incarnation;
        match read(&source, old, after).await {
            Err(Error::Replaced { incarnation, .. }) => assert_eq!(incarnation, now),
            other => panic!("{} behind {after}: {other:?}", old.name),
        }
    }
    // A trim of the new one says nothing of the old one.
    let new_tail = plain.append("[2]");
    trim(&server, "plain", &new_tail);
    let read_of_old = read(&source, &old_plain, Offset::BEGINNING).await;
    assert!(
        matches!(read_of_old, Err(Error::Replaced { .. })),
        "{read_of_old:?}"
    );

    plain.delete();
    let read_of_gone = read(&source, &old_plain, tail).await;
    assert!(
        matches!(read_of_gone, Err(Error::StreamGone { .. })),
        "{read_of_gone:?}"
    );
    let held = stream(&source, "source").await;
    source_of_forks.delete();
    let read_of_held = read(&source, &held, Offset::BEGINNING).await;
    assert!(
        matches!(read_of_held, Err(Error::StreamGone { .. })),
        "kept for its fork: {read_of_held:?}"
    );
    assert_eq!(source.look(&"source".into()).await.expect("an answer"), None);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_the_stream_never_gave_is_told_from_a_trimmed_one() {
    let server = Server::start();
    server.stream("short").create().append("[1]");
    let source = source(&server);
    let seen = stream(&source, "short").await;
    let beyond = seen
        .next
        .to_string()
        .replace("_0000000000000002", "_0000000000000099");
    let beyond: Offset = beyond.parse().expect("an offset");
    let Err(Error::OffsetUnknown { offset, next, .. }) = read(&source, &seen, beyond).await else {
        panic!("the stream is shorter");
    };
    assert_eq!((offset, next), (beyond, seen.next));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_event_arrives_whole_or_is_refused_by_the_name_of_its_setting() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_STREAM_BYTES", "32MiB")]);
    let large = format!("\"{}\"", "x".repeat((10 << 20) - 2));
    server.stream("large").create().append(large.as_str());
    let source = source(&server);
    let seen = stream(&source, "large").await;
    let chunks = read_on(&source, &seen, Offset::BEGINNING).await;
    assert!(
        payloads(&chunks) == [large.as_bytes()],
        "all of it, and nothing else"
    );
    let narrow = Settings {
        read_bytes_max: 10 << 20,
        ..settings(&server)
    };
    let narrow = Source::new(narrow).expect("settings");
    let error = read(&narrow, &seen, Offset::BEGINNING)
        .await
        .expect_err("it is too large");
    assert!(
        error.to_string().contains("read_bytes_max") && !error.heals(),
        "{error}"
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_name_that_the_server_takes_can_be_read() {
    let server = Server::start();
    for (name, path) in [
        ("a b/ü/😀", "a%20b/%C3%BC/%F0%9F%98%80"),
        ("100%/?q=1&r#x", "100%25/%3Fq=1&r%23x"),
        ("*/{run}+", "*/%7Brun%7D+"),
    ] {
        let request = Request::new("PUT", &server.path(path)).header("Content-Type", "application/json");
        server.send(&request.body("[7]")).expect(201);
        let source = source(&server);
        let page = source.list(name, None).await.expect("a listing");
        // But for the number of events, which a look does not tell.
        let looked = Stream {
            events: 1,
            ..stream(&source, name).await
        };
        assert_eq!(page.streams, [looked], "the listing and a look say the same");
        let chunks = read_on(&source, &page.streams[0], Offset::BEGINNING).await;
        assert_eq!(payloads(&chunks), [b"7"]);
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_cuts_connections_loses_nothing_and_repeats_nothing() {
    let server = Server::start_with(&[("DS_LIMITS__READ_CHUNK_BYTES", "2KiB")]);
    let numbers: Vec<_> = (0..400)
        .map(|number| format!("{{\"number\":{number}}}"))
        .collect();
    server
        .stream("numbers")
        .create()
        .append(format!("[{}]", numbers.join(",")));
    let seen = stream(&source(&server), "numbers").await;
    let proxy = CuttingProxy::before(server.address(), 3);
    let source = Source::new(Settings::new(&format!(
        "http://{}{}",
        proxy.address(),
        server.base_path()
    )));
    let source = source.expect("settings");
    let (mut after, mut chunks) = (Offset::BEGINNING, Vec::new());
    while after != seen.next {
        match read(&source, &seen, after).await {
            Ok(chunk) => {
                after = chunk.next;
                chunks.push(chunk);
            }
            Err(error) => assert!(error.heals(), "{error}"),
        }
    }
    assert!(proxy.cuts() > 0, "the network was bad");
    assert_eq!(
        payloads(&chunks),
        numbers.iter().map(String::as_bytes).collect::<Vec<_>>()
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_are_read_at_once_over_few_connections() {
    let server = Server::start();
    let names: Vec<_> = (0..300).map(|number| format!("jobs/{number:03}")).collect();
    for name in &names {
        server.stream(name).create().append("[7]");
    }
    let counter = CountingProxy::before(server.address());
    let few = Settings {
        connections_max: 3,
        ..Settings::new(&format!("http://{}{}", counter.address, server.base_path()))
    };
    let source = Source::new(few).expect("settings");
    let page = source.list("jobs/", None).await.expect("a listing");
    assert_eq!(page.streams.len(), names.len());
    let mut reading = tokio::task::JoinSet::new();
    for stream in page.streams.clone() {
        let source = source.clone();
        reading.spawn(async move { read_on(&source, &stream, Offset::BEGINNING).await.len() });
    }
    assert_eq!(reading.join_all().await, vec![1; names.len()]);
    let most = counter.most.load(Ordering::SeqCst);
    // A connection may still be on its way back to the others while the next request begins.
    assert!(most <= 2 * 3, "{most} connections at once");
    server.stop();
}

/// Counts the connections that are open at once on the way to a server.
struct CountingProxy {
    address: std::net::SocketAddr,
    most: Arc<AtomicUsize>,
}

impl CountingProxy {
    fn before(server: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&most);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                counted.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let upstream = TcpStream::connect(server).expect("the server listens");
                let there = (client.try_clone(), upstream.try_clone());
                let (Ok(client_too), Ok(upstream_too)) = there else {
                    panic!("sockets can be cloned");
                };
                let open = Arc::clone(&open);
                std::thread::spawn(move || {
                    pass(client_too, upstream_too);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
                std::thread::spawn(move || pass(upstream, client));
            }
        });
        Self { address, most }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
