//! Every stream that is meant is found, and nothing that becomes of it stays unknown.

use std::collections::BTreeSet;
use std::sync::Arc;

use tailwater_e2e::{PATIENCE, Server};
use tailwater_sync::event::Offset;
use tailwater_sync::source::{Change, Discovery, Settings, Source, Stream};

use super::{discovery, is, next, payloads, read_on, settings, source, stream, told, trim, until};

/// News until all streams are listed.
async fn listed(discovery: &mut Discovery) -> Vec<Change> {
    let mut news = Vec::new();
    while !discovery.is_complete() {
        news.extend(discovery.step().await.expect("the server answers"));
    }
    news
}

fn names(news: &[Change], word: &str) -> Vec<Arc<str>> {
    let of_word = news.iter().map(told).filter(|(said, _)| *said == word);
    of_word.map(|(_, name)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_listed_over_many_pages_and_only_those_that_are_meant() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_LIST_ENTRIES", "7")]);
    let mut connection = server.connect();
    let mut expected = BTreeSet::new();
    for number in 0..60 {
        for name in [
            format!("jobs/{number:02}"),
            format!("jobs/{number:02}/log"),
            format!("runs/{number:02}/a/b"),
        ] {
            connection.send(&server.stream(&name).creation()).expect(201);
            if !name.ends_with("log") {
                expected.insert(name);
            }
        }
    }
    for name in ["alone", "aloneness", "other"] {
        connection.send(&server.stream(name).creation()).expect(201);
    }
    expected.insert("alone".to_owned());
    let source = source(&server);
    let mut discovery = discovery(&source, &["jobs/*", "runs/**", "alone", "not-there", "jobs/07"]);
    let news = listed(&mut discovery).await;
    let appeared: Vec<_> = names(&news, "appeared").iter().map(ToString::to_string).collect();
    assert_eq!(appeared.len(), expected.len(), "each once");
    assert_eq!(appeared.into_iter().collect::<BTreeSet<_>>(), expected);
    let known: BTreeSet<_> = discovery
        .streams()
        .map(|stream| stream.name.to_string())
        .collect();
    assert_eq!((known, discovery.count()), (expected.clone(), expected.len()));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_stream_is_told_by_the_feed() {
    let server = Server::start();
    let source = source(&server);
    let mut discovery = discovery(&source, &["jobs/*", "alone"]);
    assert_eq!(listed(&mut discovery).await, []);

    server.stream("other").create();
    let alone = server.stream("alone").create();
    let news = next(&mut discovery).await;
    assert_eq!(
        news.iter().map(told).collect::<Vec<_>>(),
        [("appeared", "alone".into())]
    );
    let tail = alone.append("[1]");
    let news = until(&mut discovery, is("moved", "alone")).await;
    assert!(matches!(&news[..], [Change::Moved(stream)] if stream.next.to_string() == tail));
    alone.append("[2]");
    alone.close();
    until(&mut discovery, is("closed", "alone")).await;
    // A look at one stream does not tell how many events it has had; the feed does.
    let looked = Stream {
        events: 2,
        ..stream(&source, "alone").await
    };
    assert_eq!(discovery.stream("alone"), Some(&looked));
    trim(&server, "alone", &tail);
    let news = until(&mut discovery, is("moved", "alone")).await;
    assert!(matches!(news.last(), Some(Change::Moved(stream)) if stream.oldest.to_string() == tail));
    let old = stream(&source, "alone").await;
    alone.delete();
    server.stream("alone").create();
    let news = until(&mut discovery, is("appeared", "alone")).await;
    let new = stream(&source, "alone").await;
    let deleted = Change::Deleted {
        name: "alone".into(),
        incarnation: old.incarnation,
    };
    assert_eq!(news, [deleted, Change::Appeared(new)]);
    server.stream("alone").delete();
    until(&mut discovery, is("deleted", "alone")).await;
    assert_eq!((discovery.count(), discovery.listings()), (0, 1));
    server.stop();
}

/// The feed keeps few changes, and more than those happen while nobody looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_was_lost_is_made_up_for_by_listing_anew() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_CHANGES", "10")]);
    let source = source(&server);
    let [kept, moved, closed, deleted, replaced] = ["kept", "moved", "closed", "deleted", "replaced"]
        .map(|name| server.stream(&format!("jobs/{name}")).create());
    server.stream("alone").create();
    let mut discovery = discovery(&source, &["jobs/*", "alone"]);
    assert_eq!(names(&listed(&mut discovery).await, "appeared").len(), 6);
    let old = stream(&source, "jobs/replaced").await;

    moved.append("[1]");
    closed.close();
    deleted.delete();
    replaced.delete();
    server.stream("jobs/replaced").create();
    server.stream("jobs/new").create();
    server.stream("alone").delete();
    for number in 0..20 {
        server.stream(&format!("noise/{number}")).create();
    }
    let news = until(&mut discovery, is("deleted", "alone")).await;
    assert_eq!(discovery.listings(), 2);
    assert_eq!(names(&news, "moved"), ["jobs/moved".into()]);
    assert_eq!(names(&news, "closed"), ["jobs/closed".into()]);
    assert_eq!(
        names(&news, "appeared"),
        ["jobs/new".into(), "jobs/replaced".into()]
    );
    let gone: BTreeSet<_> = names(&news, "deleted").into_iter().collect();
    let expected = ["alone", "jobs/deleted", "jobs/replaced"].map(Arc::from);
    assert_eq!(gone, expected.into_iter().collect());
    assert!(news.contains(&Change::Deleted {
        name: "jobs/replaced".into(),
        incarnation: old.incarnation
    }));
    kept.append("[1]");
    let news = next(&mut discovery).await;
    assert_eq!(
        names(&news, "moved"),
        ["jobs/kept".into()],
        "the feed is followed again"
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_loses_nothing() {
    let server = Server::start_with(&[("DS_LIMITS__MAX_LIST_ENTRIES", "3")]);
    for number in 0..20 {
        server.stream(&format!("jobs/{number}")).create();
    }
    let mut discovery = discovery(&source(&server), &["jobs/*"]);
    let mut appeared = Vec::new();
    let mut created = 20;
    let deadline = std::time::Instant::now() + PATIENCE;
    while appeared.len() < 60 {
        assert!(std::time::Instant::now() < deadline, "{} of 60", appeared.len());
        if created < 60 {
            server.stream(&format!("jobs/{created}")).create();
            created += 1;
        }
        // Given up after anything from nothing to a few answers.
        let pause = std::time::Duration::from_micros(fastrand::u64(0..40_000));
        if let Ok(changes) = tokio::time::timeout(pause, discovery.next()).await {
            appeared.extend(names(&changes.expect("the server answers"), "appeared"));
        }
    }
    let distinct: BTreeSet<_> = appeared.iter().collect();
    assert_eq!(distinct.len(), 60, "each once");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_neither_streams_nor_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().display().to_string();
    let mut at = "127.0.0.1:0".to_owned();
    let start = |at: &str| {
        Server::start_with(&[
            ("DS_STORAGE__MODE", "file-durable"),
            ("DS_STORAGE__DATA_DIR", &data),
            ("DS_SERVER__BIND_ADDRESS", at),
        ])
    };
    let server = start(&at);
    at = server.address().to_string();
    let source = source(&server);
    let first = server.stream("jobs/1").create();
    first.append("[1,2]");
    server.stream("jobs/2").create();
    let mut discovery = discovery(&source, &["jobs/*"]);
    listed(&mut discovery).await;
    let before = stream(&source, "jobs/1").await;
    first.append("[3]");
    server.kill();

    let server = start(&at);
    server.stream("jobs/1").append("[4]");
    server.stream("jobs/2").delete();
    server.stream("jobs/3").create();
    let news = until(&mut discovery, is("deleted", "jobs/2")).await;
    assert_eq!(discovery.listings(), 2, "the feed is a new one");
    assert_eq!(names(&news, "appeared"), ["jobs/3".into()]);
    let moved = discovery.stream("jobs/1").expect("it is known").clone();
    assert_eq!(moved.incarnation, before.incarnation);
    let rest = read_on(&source, &moved, before.next).await;
    assert_eq!(
        payloads(&rest),
        [b"3", b"4"],
        "what was acknowledged is there, and from where we were"
    );
    server.stop();
}

/// In memory mode a restart takes all streams with it, and new ones of the same names are others.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_went_with_a_restart_are_told_to_be_gone() {
    let memory =
        |at: &str| Server::start_with(&[("DS_STORAGE__MODE", "memory"), ("DS_SERVER__BIND_ADDRESS", at)]);
    let server = memory("127.0.0.1:0");
    let at = server.address().to_string();
    let source = source(&server);
    for name in ["jobs/1", "jobs/2"] {
        server.stream(name).create().append("[1]");
    }
    let mut discovery = discovery(&source, &["jobs/*"]);
    listed(&mut discovery).await;
    let old = stream(&source, "jobs/1").await;
    server.kill();
    let server = memory(&at);
    server.stream("jobs/1").create().append("[1]");
    let news = until(&mut discovery, is("deleted", "jobs/2")).await;
    assert_eq!(names(&news, "appeared"), ["jobs/1".into()]);
    let gone = Change::Deleted {
        name: "jobs/1".into(),
        incarnation: old.incarnation,
    };
    assert!(news.contains(&gone), "{news:?}");
    let new = discovery.stream("jobs/1").expect("it is known");
    assert_eq!(payloads(&read_on(&source, new, Offset::BEGINNING).await), [b"1"]);
    server.stop();
}

/// One permit for all requests, and the feed waits all the while: reads go on beside it.
#[tokio::test(flavor = "multi_thread")]
async fn the_feed_takes_no_connection_from_the_reads() {
    // The server answers a feed without news only when this test is long over.
    let server = Server::start_with(&[("DS_LIMITS__LONG_POLL_TIMEOUT_SECS", "3600")]);
    server.stream("jobs/1").create().append("[1]");
    let one = Settings {
        connections_max: 1,
        ..settings(&server)
    };
    let source = Source::new(one).expect("settings");
    let mut discovery = discovery(&source, &["jobs/*"]);
    listed(&mut discovery).await;
    let seen = stream(&source, "jobs/1").await;
    let reading = async {
        for _ in 0..20 {
            let chunks = read_on(&source, &seen, Offset::BEGINNING).await;
            assert_eq!(payloads(&chunks), [b"1"]);
        }
    };
    tokio::select! {
        news = discovery.next() => panic!("nothing is new: {news:?}"),
        read = tokio::time::timeout(PATIENCE, reading) => read.expect("the reads are not held up"),
    }
    server.stop();
}
