//! Sockets that do not take all at once, keep what they have taken, or take their time to end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tailwater_storage::stream::StreamName;
use tokio::io::{AsyncRead, AsyncWrite, BufStream, ReadBuf};

use super::{Client, Socket, append, append_to, sockets};
use crate::config::Config;
use crate::http::Peer;

/// The socket takes a few bytes at a time.
#[tokio::test]
async fn an_answer_comes_whole_through_a_socket_that_takes_little() {
    let mut client = Client::connect_by(sockets(1 << 16, 7)).await;
    let length = append("a").len();
    for first in [length, 20, length, 21] {
        client.send_in_two(&append("a"), first).await;
        client.expect(204).await;
    }
    assert_eq!(client.read().await, "aaaa");
    let missing = append_to("/v1/stream/none", "a");
    let (_head, body) = {
        client.send(&missing).await;
        client.expect(404).await
    };
    assert!(body.ends_with('}'), "{body}");
}

/// What an append brought counts for nobody any more once it is done, so it is not kept for whoever takes long to take the
/// answer. It was.
#[tokio::test]
async fn nothing_of_an_append_is_kept_for_a_client_that_does_not_take_its_answer() {
    let config = Config::with("proxy.trusted", "127.0.0.1");
    let mut client = Client::connect_to(config, sockets(1 << 16, 7)).await;
    let forwarded = "x-forwarded-for: 192.0.2.1\r\nhost:";
    client.send(&append("a").replace("host:", forwarded)).await;
    assert_eq!(client.next().await, Some(b'H'), "the answer has begun");
    let somebody = Peer::new([192, 0, 2, 1].into(), false, &client.app.config.proxy.trusted).client();
    let counted = client.app.clients.find(&somebody).expect("clients have limits");
    // The table has it, and this test.
    assert_eq!(Arc::strong_count(&counted), 2);
}

/// TLS takes an answer and keeps it until it is flushed.
#[tokio::test]
async fn an_answer_comes_whole_through_a_socket_that_keeps_it() {
    let (theirs, ours) = sockets(1 << 16, 7);
    let mut client = Client::connect_by((BufStream::new(theirs), ours)).await;
    let length = append("a").len();
    for first in [20, length, 21] {
        client.send_in_two(&append("a"), first).await;
        client.expect(204).await;
    }
    assert_eq!(client.read().await, "aaa");
}

/// What stands behind a head that hyper refuses is no request. It was one if the refusal found no room in the socket, and
/// the refusal was lost.
#[tokio::test]
async fn nothing_behind_a_request_that_is_refused_for_its_framing_is_read() {
    let (theirs, ours) = sockets(1 << 16, 256);
    // hyper writes pieces to one, and one piece to the other, as to TLS.
    let clients = [
        Client::connect_by(sockets(1 << 16, 256)).await,
        Client::connect_by((Reluctant(theirs, true), ours)).await,
    ];
    let two_lengths = append("").replace("content-length: 0", "content-length: 1\r\ncontent-length: 2");
    let all = append("a") + &two_lengths + &append("hidden");
    for mut client in clients {
        client.send_in_two(&all, 20).await;
        client.expect(204).await;
        client.expect(400).await;
        assert_eq!(client.next().await, None, "nothing but the end");
        let name = StreamName::parse("s", client.app.name_limits).expect("a name");
        let stream = client.app.engine.reader(&name).await.expect("it is there");
        assert_eq!(stream.incarnation().view().tail.get(), 1);
    }
}

/// A socket that takes its time to shut down.
struct Reluctant(Socket, bool);

impl AsyncRead for Reluctant {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Reluctant {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.1, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test]
async fn a_connection_that_hyper_ends_is_not_taken_back() {
    let (theirs, ours) = sockets(1 << 16, 1 << 16);
    let mut client = Client::connect_by((Reluctant(theirs, false), ours)).await;
    client
        .send(&append("a").replace("host:", "connection: close\r\nhost:"))
        .await;
    client.expect(204).await;
    assert_eq!(client.next().await, None, "nothing but the end");
}
