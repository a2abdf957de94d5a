//! Subscriptions go along with the streams of an export.

use std::sync::Arc;

use tailwater_storage::Memory;
use tailwater_storage::engine::Existing;

use crate::support::transfer::transfer;

use super::scene::{Scene, over_each, pull, until};

#[test]
fn an_imported_subscription_goes_on_where_the_exported_one_was() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("jobs/*"), &["orders"])).await;
        for stream in ["jobs/a", "jobs/b", "orders"] {
            scene.begin(stream, "one").await;
        }
        let claim = scene.claim("s", "w").await;
        scene.ack_all("s", &claim).await;
        scene.rig.append("orders", "two").await.expect("appended");
        let links = scene.links("s").await;

        let other = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        transfer(&scene.rig.engine, &other.rig.engine, Existing::Refuse).await;
        until(|| async { other.described("s").await.is_ok() }).await;
        assert_eq!(other.links("s").await, links);
        until(|| async { other.described("s").await.expect("there").summary.pending_streams == 1 }).await;
        let claim = other.claim("s", "w").await;
        assert_eq!(claim.work.len(), 1);
        assert_eq!(claim.work[0].stream.as_str(), "orders");
        assert!(claim.claimed.generation >= 2, "no generation comes again");
    });
}

/// Cursors move without a message in the subscription's own stream: it was taken for the one that was exported.
#[test]
fn a_subscription_that_went_on_is_replaced_by_what_was_exported() {
    over_each(|other| async move {
        let scene = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        scene.made("s", pull(None, &["orders"])).await;
        scene.begin("orders", "one").await;
        let links = scene.links("s").await;
        transfer(&scene.rig.engine, &other.rig.engine, Existing::Replace).await;
        let pends = || async {
            let there = other.described("s").await;
            there.is_ok_and(|there| there.summary.pending_streams == 1)
        };
        until(pends).await;
        let claim = other.claim("s", "w").await;
        other.ack_all("s", &claim).await;
        assert_ne!(other.links("s").await, links);
        assert!(!pends().await);
        transfer(&scene.rig.engine, &other.rig.engine, Existing::Replace).await;
        // What was acknowledged here was not there.
        until(pends).await;
        assert_eq!(other.links("s").await, links);
        assert_eq!(other.claim("s", "w").await.work.len(), 1);
    });
}
