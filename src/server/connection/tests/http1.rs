//! The same for requests of HTTP/1, whose connection does all that they need in one task.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{app_without_turns, append, create, until_so_many_wait};
use crate::config::Config;
use crate::http::{App, Peer, Visitor};
use crate::server::app_for_tests;
use crate::server::connection::timeouts;
use crate::server::http1;

/// The client's end of a connection that is served by itself.
fn connect(app: &Arc<App>) -> DuplexStream {
    let (theirs, ours) = tokio::io::duplex(1 << 20);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let peer = Peer::new([127, 0, 0, 1].into(), false, &app.config.proxy.trusted);
        let visitor = Arc::new(Visitor::admit(&app, peer).expect("the first connection"));
        http1::serve(&app, theirs, &visitor, axum::Router::new(), timeouts(&app)).await
    });
    ours
}

async fn read_to(socket: &mut DuplexStream, end: &str) {
    let mut read = String::new();
    while !read.contains(end) {
        let byte = socket.read_u8().await.expect("there is more");
        read.push(char::from(byte));
    }
}

#[tokio::test]
async fn a_read_whose_client_goes_away_while_it_waits_is_paid_for() {
    let app = app_without_turns().await;
    let mut client = connect(&app);
    let request = b"GET /v1/stream/written HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client.write_all(request).await.expect("the server reads");
    until_so_many_wait(&app, 1).await;
    assert_eq!(app.read_share.taken_ns(), 0, "nobody knows what becomes of it");
    drop(client);
    until_so_many_wait(&app, 0).await;
    assert!(app.read_share.taken_ns() > 0);
}

/// What stands behind a request that waits keeps hyper from looking whether its client is still there: docs/overload.md
/// says how long.
#[tokio::test]
async fn a_long_poll_whose_client_dies_behind_what_it_has_sent_ends_with_its_time() {
    let mut config = Config::default();
    config.limits.long_poll_timeout = Duration::from_secs(1);
    let app = app_for_tests(config);
    create(&app, "quiet").await;
    let mut client = connect(&app);
    let wait = "GET /v1/stream/quiet?offset=now&live=long-poll HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let more = "GET /v1/stream/quiet?offset=now HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client
        .write_all(format!("{wait}{more}").as_bytes())
        .await
        .expect("the server reads");
    until_so_many_live(&app, 1).await;
    drop(client);
    until_so_many_live(&app, 0).await;
}

async fn until_so_many_live(app: &App, count: usize) {
    let waits = async {
        while app.live_readers() != count {
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(60), waits).await;
    came.expect("it comes in time");
}

/// Event streams that are not taken from hyper, as those of HTTP/1.0, paid for each event as for a read.
#[tokio::test]
async fn an_event_stream_that_hyper_serves_pays_for_nothing_at_its_tail() {
    let app = app_for_tests(Config::default());
    let name = create(&app, "live").await;
    let mut client = connect(&app);
    let request = b"GET /v1/stream/live?offset=now&live=sse HTTP/1.0\r\n\r\n";
    client.write_all(request).await.expect("the server reads");
    read_to(&mut client, "event: control").await;
    let before_ns = app.read_share.taken_ns();
    for _ in 0..10 {
        append(&app, &name).await;
        read_to(&mut client, "event: control").await;
        assert_eq!(app.read_share.taken_ns(), before_ns);
    }
}
