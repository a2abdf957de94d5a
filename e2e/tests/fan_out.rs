//! Many live readers of one stream.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tailwater_e2e::chunked::ChunkDecoder;
use tailwater_e2e::numbering::{assert_in_order, number_of, numbered};
use tailwater_e2e::{EventParser, PATIENCE, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const SUBSCRIBERS: usize = 1_000;
const EVENTS: usize = 100;

#[test]
fn a_thousand_subscribers_of_one_stream_each_get_every_event_in_order() {
    let server = Server::start();
    let stream = server.stream("fan/out").create();
    let request = stream.reading("-1", "&live=sse").encode();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the subscribers");
    let (address, live) = (server.address(), Arc::new(Semaphore::new(0)));
    let mut subscribers = JoinSet::new();
    for _ in 0..SUBSCRIBERS {
        let (request, live) = (request.clone(), Arc::clone(&live));
        subscribers.spawn_on(subscribe(address, request, live), runtime.handle());
    }
    let all_live = u32::try_from(SUBSCRIBERS).expect("a small number");
    runtime.block_on(async {
        let everyone = tokio::time::timeout(PATIENCE, live.acquire_many(all_live)).await;
        everyone
            .expect("every subscriber gets its first event")
            .expect("the semaphore stays open")
            .forget();
    });

    // The writer is a thread of its own, so that it cannot wait for readers that wait for it.
    let received: Vec<Vec<Value>> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..EVENTS {
                stream.append(numbered(number).to_string());
            }
            stream.close();
        });
        runtime.block_on(async {
            let everything = tokio::time::timeout(PATIENCE * 2, subscribers.join_all()).await;
            everything.expect("every subscriber is told of the close")
        })
    });
    assert_eq!(received.len(), SUBSCRIBERS);
    for (subscriber, messages) in received.iter().enumerate() {
        let numbers = messages.iter().map(number_of);
        assert_in_order(numbers, EVENTS, &format!("subscriber {subscriber}"));
    }
    server.stop();
}

/// Follows the stream to its close and returns its messages; adds a permit to `live` at the first event.
async fn subscribe(address: SocketAddr, request: Vec<u8>, live: Arc<Semaphore>) -> Vec<Value> {
    let mut socket = TcpStream::connect(address)
        .await
        .expect("the server takes another connection");
    socket
        .write_all(&request)
        .await
        .expect("the server reads the request");
    let (mut wire, mut head_end) = (Vec::new(), None);
    while head_end.is_none() {
        assert!(
            socket.read_buf(&mut wire).await.expect("an answer") > 0,
            "closed before an answer"
        );
        head_end = wire
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .map(|at| at + 4);
    }
    let head = String::from_utf8_lossy(&wire[..head_end.unwrap_or_default()]).into_owned();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    wire.drain(..head.len());

    let (mut chunks, mut parser, mut messages) =
        (ChunkDecoder::default(), EventParser::default(), Vec::new());
    let mut greeted = false;
    loop {
        let mut body = Vec::new();
        chunks.push(&wire, &mut body).expect("a valid chunked body");
        parser.push(&body);
        while let Some(event) = parser.next_event() {
            if !std::mem::replace(&mut greeted, true) {
                live.add_permits(1);
            }
            if event.kind == "data" {
                messages.extend(event.messages());
            } else if event.says_closed() {
                return messages;
            }
        }
        wire.clear();
        let count = socket.read_buf(&mut wire).await.expect("more events");
        assert!(count > 0, "the server hung up after {} messages", messages.len());
    }
}
