//! Subscriptions go along with the streams of an export.

use std::sync::Arc;

use tailwater_storage::Memory;
use tailwater_storage::engine::Existing;
use tailwater_storage::panics::Task;

use crate::support::ask::run;
use crate::support::gated::{Gated, Question};
use crate::support::transfer::{transfer, transfer_below};

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

/// It woke nobody before the next start; or not for what was there before it, if it had come so far.
#[test]
fn an_imported_subscription_is_taken_over_though_that_panics_at_first() {
    run(async {
        let exported = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        exported.rig.create_json("wakes").await;
        exported.made("s", pull(Some("jobs/*"), &[])).await;
        exported.begin("jobs/a", "one").await;
        for question in [Question::Control, Question::List("jobs".into())] {
            let backend = Gated::inline(1 << 20);
            let scene = Scene::over(Arc::<Gated>::clone(&backend)).await;
            // What is subscribed to is there already, so that it does not move any more.
            transfer_below(&exported.rig.engine, &scene.rig.engine, Existing::Refuse, "jobs/").await;
            backend.panic_at(question);
            transfer(&exported.rig.engine, &scene.rig.engine, Existing::Refuse).await;
            until(|| async {
                let there = scene.described("s").await;
                there.is_ok_and(|there| there.summary.pending_streams == 1)
            })
            .await;
            assert!(backend.has_panicked());
            assert_eq!(scene.rig.engine.stats().panics.of(Task::SubscriptionRecovery), 1);
            assert_eq!(scene.claim("s", "w").await.work[0].stream.as_str(), "jobs/a");
        }
    });
}
