//! What nobody sees of the streams in which subscriptions are stored.

use super::scene::{over_each, pull};

/// Of several hidden streams: a page that reached beyond them once told twice of what stands behind.
#[test]
fn no_listing_and_no_change_feed_tells_of_it() {
    over_each(|scene| async move {
        let before = scene.rig.engine.changes().now();
        for subscription in ["r", "s", "t"] {
            scene.made(subscription, pull(Some("jobs/*"), &[])).await;
        }
        for stream in ["A", "Z", "__dt", "a", "jobs/a"] {
            scene.rig.create(stream).await.expect("made");
        }
        for page in 1..8 {
            let mut names = Vec::new();
            let mut after = None;
            loop {
                let listing = scene
                    .rig
                    .engine
                    .list("", after.as_deref(), page)
                    .await
                    .expect("listed");
                names.extend(listing.streams.iter().map(|stream| stream.name.to_string()));
                match listing.after {
                    Some(name) => after = Some(name.to_string()),
                    None => break,
                }
            }
            assert_eq!(
                names,
                ["A", "Z", "__dt", "a", "jobs/a", "wakes"],
                "in pages of {page}"
            );
        }
        let hidden = scene.rig.engine.list("__ds/", None, 10).await.expect("listed");
        assert!(hidden.streams.is_empty() && hidden.after.is_none());
        let changes = scene
            .rig
            .engine
            .changes()
            .after(before, "", 100)
            .expect("kept")
            .changes;
        assert!(changes.iter().all(|change| !change.name.is_reserved()));
        assert_eq!(changes.len(), 5);
    });
}

/// The wake stream is meant by the pattern: each event would be the cause of the next.
#[test]
fn a_subscription_does_not_wake_for_its_own_wakes() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("**"), &[])).await;
        scene.begin("jobs/a", "one").await;
        scene.woken("s", 1).await;
        let claim = scene.claim("s", "w").await;
        assert!(!scene.ack_all("s", &claim).await, "the event itself is no work");
    });
}
