//! That each part of an answer which goes on for long waits for a turn among the reads. No time decides: the reads have no
//! share at all here while an append is made, and whoever needs no turn goes on at once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tailwater_storage::engine::AppendRequest;
use tailwater_storage::stream::{CreateCommand, StreamName, Timestamp};
use tower_service::Service as _;

use super::caller::{Caller, Peer};
use super::query::ReadQuery;
use super::visitor::Limited;
use super::{App, ResponseBody, Subscriber, router, sse};
use crate::config::Config;
use crate::server;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One in which reads have no share of the time while appends are made, and no comment comes between events.
fn app() -> Arc<App> {
    let mut config = Config::default();
    config.limits.max_read_share_percent = 0;
    config.limits.max_list_entries = 1;
    config.http.sse_keep_alive = DAY;
    config.http.sse_duration_max = DAY;
    server::app_for_tests(config)
}

/// A client that nobody speaks for.
pub(super) fn caller(app: &App) -> Caller {
    let peer = Peer::new([127, 0, 0, 1].into(), false, &app.config.proxy.trusted);
    let now = || Timestamp::from_millis(0);
    Caller::of(peer, &http::HeaderMap::new(), &app.config.proxy, now).expect("nobody is trusted")
}

/// Makes a stream that is read in several pieces.
async fn long_stream(app: &App, name: &str) -> StreamName {
    let name = StreamName::parse(name, app.name_limits).expect("a name");
    let command = CreateCommand::default();
    app.engine.create(&name, command).await.expect("created");
    for _ in 0..4 {
        let append = AppendRequest {
            body: vec![b'x'; 300 << 10].into(),
            content_type: Some(tailwater_storage::stream::ContentType::default()),
            ..AppendRequest::default()
        };
        app.engine.append(&name, append).await.expect("appended");
    }
    name
}

/// Who has just subscribed to a stream from its beginning.
pub(super) async fn subscribe(app: &Arc<App>, name: &StreamName) -> Box<Subscriber> {
    let query = ReadQuery::parse(Some("offset=-1&live=sse")).expect("a query");
    let response = sse::subscribe(app, &caller(app), None, name, query, &http::HeaderMap::new()).await;
    match response.expect("it is there").into_body() {
        ResponseBody::Subscribed(subscriber) => subscriber,
        _ => panic!("no subscriber"),
    }
}

async fn is_waiting(mut future: Pin<&mut impl Future>) -> bool {
    for _ in 0..10 {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending()));
        if !polled.await {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

/// Asserts that what comes next waits while an append is made, and comes when none is made any more.
async fn assert_waits_for_a_turn<T>(app: &Arc<App>, next: impl Future<Output = T>) -> T {
    let mut next = pin!(next);
    {
        let _append = app.writes.begin();
        assert!(is_waiting(next.as_mut()).await, "it needs no turn");
    }
    let turns = tokio::spawn({
        let app = Arc::clone(app);
        async move { app.give_turns().await }
    });
    let came = next.await;
    turns.abort();
    came
}

#[tokio::test]
async fn events_of_a_stream_that_was_there_before() {
    let app = app();
    let name = long_stream(&app, "long").await;
    let mut subscriber = subscribe(&app, &name).await;
    assert!(
        subscriber.next_events().await.is_some(),
        "the first turn was the request's"
    );
    let next = assert_waits_for_a_turn(&app, subscriber.next_events()).await;
    assert!(next.is_some());
}

/// The body of an answer of a side path, behind its first piece.
async fn behind_the_first_piece(app: &Arc<App>, path: &str) -> Body {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("{}/__ds/{path}", app.base()).parse().expect("a path");
    request.extensions_mut().insert(caller(app));
    request.extensions_mut().insert(Limited(None));
    let response = router(app)
        .call(request)
        .await
        .unwrap_or_else(|never| match never {});
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert!(
        next_piece(&mut body).await.is_some(),
        "the first turn was the request's"
    );
    body
}

async fn next_piece(body: &mut Body) -> Option<Bytes> {
    let frame = body.frame().await?.expect("a piece");
    Some(frame.into_data().expect("bytes"))
}

#[tokio::test]
async fn pieces_of_an_export() {
    let app = app();
    long_stream(&app, "long").await;
    let mut body = behind_the_first_piece(&app, "export").await;
    assert!(
        assert_waits_for_a_turn(&app, next_piece(&mut body))
            .await
            .is_some()
    );
}

#[tokio::test]
async fn pages_of_the_change_feed() {
    let app = app();
    let begin = app.engine.changes().now();
    for name in ["one", "two", "three"] {
        long_stream(&app, name).await;
    }
    let path = format!("changes?live=sse&after={begin}");
    let mut body = behind_the_first_piece(&app, &path).await;
    assert!(
        assert_waits_for_a_turn(&app, next_piece(&mut body))
            .await
            .is_some()
    );
}

/// Each piece of an export was taken to cost nothing beside what its connection had measured, so that one export made
/// all reads look as cheap as they ever may, and the next ones were let in for less than they took.
#[tokio::test]
async fn a_piece_whose_cost_is_measured_with_its_connection_does_not_make_reads_look_cheap() {
    let app = app();
    let first_ns = app.read_share.cost_ns();
    while app.read_share.cost_ns() < 2 * first_ns {
        // What is taken while nobody appends is not looked at, and on a slow machine that may be so by then.
        let _append = app.writes.begin();
        assert!(app.try_read().is_none());
        app.read_share.settle_beside(Duration::from_millis(1));
    }
    let before_ns = app.read_share.cost_ns();
    assert_waits_for_a_turn(&app, app.take_turn_for_a_piece()).await;
    assert_eq!(app.read_share.cost_ns(), before_ns);
}
