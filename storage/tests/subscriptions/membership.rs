//! Which streams are linked, and where.

use tailwater_storage::stream::OffsetToken;
use tailwater_storage::stream::subscription::StreamsRefusal;
use tailwater_storage::subscriptions::{SubscribeError, SubscriptionError};

use super::scene::{id, over_each, pull, streams, until};
use crate::support::ask::name;

#[test]
fn what_exists_is_linked_at_its_tail_and_what_comes_later_at_its_beginning() {
    over_each(|scene| async move {
        for stream in ["jobs/old", "other/old", "orders"] {
            scene.begin(stream, "before").await;
        }
        let made = scene
            .subscribe("s", pull(Some("jobs/**"), &["orders", "none"]))
            .await
            .expect("made");
        assert!(made.new);
        let links: Vec<_> = scene
            .links("s")
            .await
            .into_iter()
            .map(|(name, link)| (name, link.link_type(), link.acked))
            .collect();
        assert_eq!(
            links,
            [
                ("jobs/old".to_owned(), "glob", scene.tail("jobs/old").await),
                ("none".to_owned(), "explicit", OffsetToken::START),
                ("orders".to_owned(), "explicit", scene.tail("orders").await),
            ]
        );
        for stream in ["jobs/new/deep", "none", "other/new"] {
            scene.begin(stream, "after").await;
        }
        let claim = scene.claim("s", "w").await;
        let work: Vec<_> = claim
            .work
            .iter()
            .map(|told| (told.stream.as_str(), told.link.acked))
            .collect();
        assert_eq!(
            work,
            [
                ("jobs/new/deep", OffsetToken::START),
                ("none", OffsetToken::START)
            ]
        );
    });
}

/// Nobody was woken for what a fork has inherited before something was appended to it, or the server was started anew.
#[test]
fn a_fork_that_comes_later_has_something_new_from_the_beginning_on() {
    over_each(|scene| async move {
        scene.begin("source", "before").await;
        scene.rig.create("empty").await.expect("made");
        scene.made("s", pull(Some("jobs/*"), &["named"])).await;
        for (fork, source) in [
            ("jobs/none", "empty"),
            ("jobs/fork", "source"),
            ("named", "source"),
        ] {
            scene.rig.fork(fork, source).await.expect("made");
        }
        scene.woken("s", 1).await;
        let claim = scene.claim("s", "w").await;
        let tail = scene.tail("source").await;
        let work: Vec<_> = claim
            .work
            .iter()
            .map(|told| (told.stream.as_str(), told.link.acked, told.tail.token()))
            .collect();
        assert_eq!(
            work,
            [
                ("jobs/fork", OffsetToken::START, tail),
                ("named", OffsetToken::START, tail)
            ]
        );
        assert!(!scene.ack_all("s", &claim).await);
    });
}

#[test]
fn the_same_request_finds_it_and_another_one_is_refused() {
    over_each(|scene| async move {
        let config = pull(Some("jobs/*"), &["b", "a"]);
        assert!(scene.subscribe("s", config.clone()).await.expect("made").new);
        assert!(!scene.subscribe("s", config.clone()).await.expect("found").new);
        let other = scene.subscribe("s", pull(Some("jobs/**"), &["b", "a"])).await;
        assert!(matches!(
            other,
            Err(SubscribeError::Exists {
                difference: "pattern"
            })
        ));
        let all = futures_join(&scene, &config).await;
        assert_eq!(
            all.iter().filter(|new| **new).count(),
            1,
            "of many at once one makes it"
        );
    });
}

async fn futures_join(
    scene: &super::scene::Scene,
    config: &tailwater_storage::stream::SubscriptionConfig,
) -> Vec<bool> {
    let (a, b, c) = tokio::join!(
        scene.subscribe("t", config.clone()),
        scene.subscribe("t", config.clone()),
        scene.subscribe("t", config.clone())
    );
    [a, b, c].map(|made| made.expect("there").new).to_vec()
}

#[test]
fn a_stream_is_named_and_no_longer_named() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("jobs/*"), &["orders"])).await;
        for stream in ["jobs/a", "notes"] {
            scene.begin(stream, "before").await;
        }
        let named = streams(&["jobs/a", "notes", "orders"]);
        scene
            .subscriptions
            .add_streams(&id("s"), named.clone())
            .await
            .expect("added");
        scene
            .subscriptions
            .add_streams(&id("s"), named)
            .await
            .expect("once more");
        assert_eq!(scene.state("s").await.explicit_links, 3);
        assert_eq!(scene.acked("s", "notes").await, Some(scene.tail("notes").await));
        assert_eq!(
            scene.acked("s", "jobs/a").await,
            Some(OffsetToken::START),
            "it stays where it was"
        );
        scene.rig.append("notes", "after").await.expect("appended");
        until(|| async { scene.described("s").await.expect("there").summary.pending_streams == 2 }).await;
        for stream in ["jobs/a", "notes", "notes", "nowhere"] {
            scene
                .subscriptions
                .remove_stream(&id("s"), name(stream))
                .await
                .expect("removed");
        }
        let links: Vec<_> = scene
            .links("s")
            .await
            .into_iter()
            .map(|(name, link)| (name, link.link_type()))
            .collect();
        assert_eq!(
            links,
            [("jobs/a".to_owned(), "glob"), ("orders".to_owned(), "explicit")]
        );
        assert_eq!(scene.state("s").await.explicit_links, 1);
        let claim = scene.claim("s", "w").await;
        assert_eq!(claim.work.len(), 1);
        assert!(!scene.ack_all("s", &claim).await);
        scene.rig.append("notes", "nobody hears").await.expect("appended");
        assert!(scene.subscriptions.claim(&id("s"), "w").await.is_err());
    });
}

#[test]
fn a_deleted_stream_takes_its_glob_link_along_and_a_named_one_begins_anew() {
    over_each(|scene| async move {
        for stream in ["jobs/a", "orders"] {
            scene.begin(stream, "before").await;
        }
        scene.made("s", pull(Some("jobs/*"), &["orders"])).await;
        scene.rig.delete("jobs/a").await;
        scene.rig.delete("orders").await;
        until(|| async {
            let links = scene.links("s").await;
            links.len() == 1 && links[0].0 == "orders" && links[0].1.acked == OffsetToken::START
        })
        .await;
        for stream in ["jobs/a", "orders"] {
            scene.begin(stream, "x").await;
        }
        let claim = scene.claim("s", "w").await;
        assert_eq!(claim.work.len(), 2);
        assert!(
            claim
                .work
                .iter()
                .all(|told| told.link.acked == OffsetToken::START)
        );
    });
}

#[test]
fn what_is_too_much_is_refused() {
    over_each(|scene| async move {
        let six = ["1", "2", "3", "4", "5", "6"];
        let many = scene.subscribe("s", pull(None, &six)).await;
        assert!(matches!(
            many,
            Err(SubscribeError::Streams(StreamsRefusal::TooMany {
                links: 6,
                links_max: 5
            }))
        ));
        let own = scene.subscribe("s", pull(None, &["wakes"])).await;
        assert!(matches!(
            own,
            Err(SubscribeError::Streams(StreamsRefusal::WakeStream { .. }))
        ));
        for number in 0..10 {
            scene.made(&format!("s{number}"), pull(None, &six[..5])).await;
        }
        let eleventh = scene.subscribe("s", pull(None, &["1"])).await;
        assert!(matches!(
            eleventh,
            Err(SubscribeError::TooMany {
                subscriptions_max: 10
            })
        ));
        let sixth = scene.subscriptions.add_streams(&id("s0"), streams(&["6"])).await;
        assert!(matches!(
            sixth,
            Err(SubscriptionError::Streams(StreamsRefusal::TooMany {
                links: 6,
                links_max: 5
            }))
        ));
        scene.subscriptions.delete(&id("s0")).await.expect("deleted");
        scene
            .subscribe("s", pull(None, &["1"]))
            .await
            .expect("there is room again");
    });
}
