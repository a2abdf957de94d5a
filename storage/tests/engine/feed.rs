//! The change feed and listings: what happened, in order, and what is there.

use tailwater_storage::engine::{ChangeKind, ChangePage, ChangeToken, ChangesGone};
use tailwater_storage::{EngineLimits, Memory};

use crate::support::ask::{Rig, at, name};
use crate::{over_all, over_each, run};

fn after(rig: &Rig, token: ChangeToken) -> ChangePage {
    rig.engine.changes().after(token, "", 100).expect("kept")
}

fn told(page: &ChangePage) -> Vec<(String, ChangeKind)> {
    let told = page
        .changes
        .iter()
        .map(|change| (change.name.to_string(), change.kind));
    told.collect()
}

#[test]
fn the_feed_tells_what_happened_in_order() {
    over_all(async |rig: Rig| {
        let start = rig.engine.changes().now();
        rig.create("a").await.expect("created");
        rig.append("a", "xy").await.expect("appended");
        rig.fork("b", "a").await.expect("forked");
        rig.trim("a", 1).await;
        rig.close("a").await.expect("closed");
        rig.delete("b").await;
        let page = after(&rig, start);
        assert!(page.up_to_date);
        let expected = [
            ("a", ChangeKind::Created),
            ("a", ChangeKind::Appended),
            ("b", ChangeKind::Created),
            ("a", ChangeKind::Trimmed),
            ("a", ChangeKind::Closed),
            ("b", ChangeKind::Deleted),
        ];
        assert_eq!(told(&page), expected.map(|(name, kind)| (name.to_owned(), kind)));
    });
}

#[test]
fn refusals_and_duplicates_are_not_told() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        rig.close("a").await.expect("closed");
        let start = rig.engine.changes().now();
        assert!(rig.append("a", "x").await.is_err());
        assert!(rig.close("a").await.expect("closed").duplicate);
        assert!(
            !rig.create_with(
                "a",
                tailwater_storage::stream::CreateCommand {
                    closed: true,
                    ..Default::default()
                }
            )
            .await
            .expect("exists")
            .new
        );
        assert!(rig.fork("b", "nobody").await.is_err());
        assert!(after(&rig, start).changes.is_empty());
    });
}

#[test]
fn appends_are_told_once_until_somebody_looked() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        let mut token = rig.engine.changes().now();
        for round in 1..4 {
            for _ in 0..10 {
                rig.append("a", "x").await.expect("appended");
            }
            let page = after(&rig, token);
            assert_eq!(told(&page), [("a".to_owned(), ChangeKind::Appended)]);
            let id = page.changes[0].id;
            let described = rig
                .engine
                .describe(&name("a"), id)
                .await
                .expect("works")
                .expect("there");
            assert_eq!(
                described.tail.position(),
                at(round * 10),
                "the tail at the time of looking"
            );
            token = page.after;
        }
        assert!(after(&rig, token).changes.is_empty());
    });
}

#[test]
fn a_feed_is_resumed_page_by_page_from_its_token() {
    over_all(async |rig: Rig| {
        let mut token = rig.engine.changes().now();
        for number in 0..10 {
            rig.create(&format!("s{number}")).await.expect("created");
        }
        let mut seen = Vec::new();
        loop {
            let page = rig.engine.changes().after(token, "", 3).expect("kept");
            seen.extend(page.changes.iter().map(|change| change.name.to_string()));
            token = ChangeToken::parse(&page.after.to_string()).expect("a token survives its text");
            if page.up_to_date {
                break;
            }
        }
        assert_eq!(
            seen,
            (0..10).map(|number| format!("s{number}")).collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_subscriber_of_the_feed_is_woken() {
    over_all(async |rig: Rig| {
        let mut news = rig.engine.changes().subscribe();
        let start = rig.engine.changes().now();
        assert!(!news.has_changed().expect("it is there"));
        rig.create("a").await.expect("created");
        news.changed().await.expect("it is there");
        assert_eq!(after(&rig, start).changes.len(), 1);
    });
}

#[test]
fn who_falls_behind_or_comes_from_another_engine_lists_again() {
    let limits = EngineLimits {
        changes_max: 5,
        ..EngineLimits::default()
    };
    over_each(1 << 30, limits, async |rig: Rig| {
        let start = rig.engine.changes().now();
        for number in 0..6 {
            rig.create(&format!("s{number}")).await.expect("created");
        }
        assert_eq!(rig.engine.changes().after(start, "", 100), Err(ChangesGone));
        let listing = rig.engine.list("", None, 100).await.expect("a listing");
        assert_eq!(listing.streams.len(), 6);
        assert!(after(&rig, listing.changes).changes.is_empty());
    });
    run(async {
        let first = Rig::over(std::sync::Arc::new(Memory::new(1 << 20)));
        let token = first.engine.changes().now();
        first.clock.advance_millis(1);
        let backend = std::sync::Arc::new(Memory::new(1 << 20));
        let clock: std::sync::Arc<dyn tailwater_storage::clock::Clock> = first.clock;
        let second =
            tailwater_storage::Engine::start(backend, clock, EngineLimits::default()).expect("starts");
        assert_eq!(second.changes().after(token, "", 100), Err(ChangesGone));
    });
}

#[test]
fn a_listing_and_the_feed_behind_it_miss_nothing() {
    over_all(async |rig: Rig| {
        for stream in ["a/1", "a/2", "b"] {
            rig.create(stream).await.expect("created");
        }
        rig.append("a/1", "seen").await.expect("appended");
        let listing = rig.engine.list("a/", None, 100).await.expect("a listing");
        assert_eq!(listing.streams[0].bytes, 4);
        rig.append("a/1", "later").await.expect("appended");
        let told = told(
            &rig.engine
                .changes()
                .after(listing.changes, "a/", 100)
                .expect("kept"),
        );
        assert_eq!(told, [("a/1".to_owned(), ChangeKind::Appended)]);
    });
}

#[test]
fn a_listing_is_paged_by_name() {
    over_all(async |rig: Rig| {
        for number in 0..10 {
            rig.create(&format!("s{number}")).await.expect("created");
        }
        rig.delete("s4").await;
        let mut names = Vec::new();
        let mut place: Option<String> = None;
        loop {
            let page = rig
                .engine
                .list("s", place.as_deref(), 3)
                .await
                .expect("a listing");
            assert!(page.streams.len() <= 3);
            names.extend(page.streams.iter().map(|listed| listed.name.to_string()));
            match page.after {
                Some(name) => place = Some(name.to_string()),
                None => break,
            }
        }
        let expected = (0..10)
            .filter(|number| *number != 4)
            .map(|number| format!("s{number}"));
        assert_eq!(names, expected.collect::<Vec<_>>());
    });
}

#[test]
fn a_listing_says_what_a_stream_is() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 60).await;
        for body in ["one", "two", "three"] {
            rig.clock.advance_millis(10);
            rig.append("a", body).await.expect("appended");
        }
        rig.trim("a", 3).await;
        rig.fork("b", "a").await.expect("forked");
        rig.close("a").await.expect("closed");
        let listed = rig.engine.list("", None, 10).await.expect("a listing").streams;
        let (a, b) = (&listed[0], &listed[1]);
        assert_eq!((a.bytes, a.messages, a.closed), (8, 3, true));
        assert_eq!((a.oldest.position(), a.tail.position()), (at(3), at(11)));
        assert_eq!(a.last_append_at.map(|at| at.millis_since(a.created_at)), Some(30));
        assert_eq!(b.forked_from, Some(name("a")));
        assert_eq!((b.tail, b.messages, b.closed), (a.tail, 3, false));
        for listed in &listed {
            let described = rig.engine.describe(&listed.name, listed.id).await.expect("works");
            assert_eq!(described.as_ref(), Some(listed));
        }
    });
}
