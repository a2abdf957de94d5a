//! What the mirror has can be taken away at the source, and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tailwater_e2e::Server;
use tailwater_sync::event::Offset;
use tailwater_sync::source::{Error, Settings, Source};

use super::{payloads, read, read_on, scripted, source, stream};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_deleted_if_it_is_the_one_that_was_meant() {
    let server = Server::start();
    let source = source(&server);
    let first = server.stream("done").create();
    first.close();
    let old = stream(&source, "done").await;
    source
        .delete(&old.name, old.incarnation)
        .await
        .expect("it is deleted");
    source
        .delete(&old.name, old.incarnation)
        .await
        .expect("it is gone already");
    assert_eq!(source.look(&old.name).await.expect("an answer"), None);

    server.stream("done").create().append("7");
    let new = stream(&source, "done").await;
    let refused = source.delete(&old.name, old.incarnation).await;
    assert!(matches!(&refused, Err(Error::Replaced { incarnation, .. }) if *incarnation == new.incarnation));
    assert_eq!(stream(&source, "done").await, new, "it is untouched");
    server.stop();
}

/// What the server answers to a request, which ends the connection.
fn asked(server: SocketAddr, head: &str, body: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(server).expect("the server listens");
    let head = head.trim_end();
    let length = body.len();
    let request = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("the server answers");
    answer
}

/// The look and the deletion are two requests. Whatever somebody had made under the name in between was deleted unseen.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_anew_behind_the_look_at_it_is_not_deleted_in_its_place() {
    let server = Server::start();
    let first = server.stream("done").create();
    first.append("1");
    first.close();
    let direct = source(&server);
    let old = stream(&direct, "done").await;
    let (address, was_replaced) = (server.address(), Arc::new(AtomicBool::new(false)));
    let between = scripted::serve(move |head, socket| {
        let answer = asked(address, head, "");
        if head.starts_with("HEAD ") && !was_replaced.swap(true, Ordering::SeqCst) {
            let line = "/v1/stream/done HTTP/1.1\r\nHost: x\r\nContent-Type: application/json";
            asked(address, &format!("DELETE {line}"), "");
            asked(address, &format!("PUT {line}"), "[7]");
        }
        // A test that has seen enough is gone.
        let _gone = socket.write_all(&answer);
    });
    let between = Source::new(Settings::new(&between)).expect("it is a URL");
    let refused = between.delete(&old.name, old.incarnation).await;
    let new = stream(&direct, "done").await;
    assert_ne!(new.incarnation, old.incarnation);
    assert!(
        matches!(&refused, Err(Error::Replaced { incarnation, .. }) if *incarnation == new.incarnation),
        "{refused:?}"
    );
    assert_eq!(payloads(&read_on(&direct, &new, Offset::BEGINNING).await), [b"7"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_trimmed_up_to_what_was_read() {
    let server = Server::start();
    let source = source(&server);
    let open = server.stream("open").create();
    let first: Offset = open.append("[1]").parse().expect("an offset");
    open.append("[2]");
    let seen = stream(&source, "open").await;
    for _ in 0..2 {
        let oldest = source
            .trim(&seen.name, seen.incarnation, first)
            .await
            .expect("it is trimmed");
        assert_eq!(oldest, first, "once more changes nothing");
    }
    let read_of_all = read(&source, &seen, Offset::BEGINNING).await;
    assert!(matches!(read_of_all, Err(Error::OffsetGone { oldest, .. }) if oldest == first));
    assert_eq!(payloads(&read_on(&source, &seen, first).await), [b"2"]);

    let beyond = seen
        .next
        .to_string()
        .replace("_0000000000000004", "_0000000000000099");
    let beyond = beyond.parse().expect("an offset");
    let refused = source.trim(&seen.name, seen.incarnation, beyond).await;
    assert!(matches!(refused, Err(Error::OffsetUnknown { offset, .. }) if offset == beyond));
    open.delete();
    let refused = source.trim(&seen.name, seen.incarnation, first).await;
    assert!(matches!(refused, Err(Error::StreamGone { .. })), "{refused:?}");
    server.stream("open").create();
    let refused = source.trim(&seen.name, seen.incarnation, Offset::BEGINNING).await;
    assert!(matches!(refused, Err(Error::Replaced { .. })), "{refused:?}");
    server.stop();
}
