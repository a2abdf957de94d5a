//! Wake events, claims, acks and ends of leases.

use std::sync::Arc;

use tailwater_storage::panics::Task;
use tailwater_storage::stream::subscription::LeaseRefusal;
use tailwater_storage::subscriptions::SubscriptionError;

use super::scene::{LEASE_MS, Scene, ack_of, id, over_each, pull, until};
use crate::support::ask::run;
use crate::support::gated::{Gated, Question};

#[test]
fn an_append_wakes_a_worker_that_claims_and_acks_it() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        scene.woken("s", 1).await;
        let events = scene.events().await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["type"], "wake");
        assert_eq!(events[0]["subscription_id"], "s");
        assert_eq!(events[0]["stream"], "jobs/a");
        assert_eq!(events[0]["generation"], 1);
        let claim = scene.claim("s", "worker-1").await;
        assert_eq!(claim.claimed.generation, 1);
        assert_eq!(claim.work.len(), 1);
        assert_eq!(claim.work[0].tail.token(), scene.tail("jobs/a").await);
        let other = scene.subscriptions.claim(&id("s"), "worker-2").await;
        assert!(matches!(
            other,
            Err(SubscriptionError::Lease(LeaseRefusal::AlreadyClaimed { holder, generation: 1 })) if &*holder == "worker-1"
        ));
        assert!(!scene.ack_all("s", &claim).await);
        assert_eq!(scene.acked("s", "jobs/a").await, Some(scene.tail("jobs/a").await));
        let again = scene.subscriptions.claim(&id("s"), "worker-2").await;
        assert!(matches!(
            again,
            Err(SubscriptionError::Lease(LeaseRefusal::NoPendingWork))
        ));
        let late = scene.subscriptions.ack(&id("s"), ack_of(&claim, true)).await;
        assert!(matches!(
            late,
            Err(SubscriptionError::Lease(LeaseRefusal::Fenced { generation: 1 }))
        ));
    });
}

/// A claim that comes right behind the answer to an append sees it, whatever has been done by itself until then.
#[test]
fn what_was_appended_can_be_claimed_at_once() {
    over_each(|scene| async move {
        scene.subscriptions.stop();
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        scene.rig.create("jobs/a").await.expect("made");
        for generation in 1..20 {
            scene.rig.append("jobs/a", "x").await.expect("appended");
            let claim = scene.claim("s", "w").await;
            assert_eq!(claim.claimed.generation, generation);
            assert_eq!(claim.work[0].tail.token(), scene.tail("jobs/a").await);
            scene.ack_all("s", &claim).await;
        }
    });
}

#[test]
fn what_comes_while_a_worker_is_at_work_wakes_the_next_one() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        let claim = scene.claim("s", "w").await;
        scene.rig.append("jobs/a", "two").await.expect("appended");
        assert!(scene.ack_all("s", &claim).await, "there is more");
        scene.woken("s", 2).await;
        assert_eq!(scene.events().await.last().expect("an event")["generation"], 2);
    });
}

#[test]
fn a_worker_that_falls_silent_loses_its_lease_and_the_work_is_given_to_another() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        let claim = scene.claim("s", "w").await;
        scene.pass_ms(LEASE_MS - 1);
        let beat = scene.subscriptions.ack(&id("s"), ack_of(&claim, false)).await;
        assert!(!beat.expect("in time").next_wake);
        scene.rig.append("jobs/a", "two").await.expect("appended");
        scene.pass_ms(LEASE_MS - 1);
        let second = scene.subscriptions.claim(&id("s"), "other").await;
        assert!(matches!(
            second,
            Err(SubscriptionError::Lease(LeaseRefusal::AlreadyClaimed { .. }))
        ));
        scene.pass_ms(1);
        scene.woken("s", 2).await;
        let late = scene.subscriptions.ack(&id("s"), ack_of(&claim, true)).await;
        assert!(matches!(
            late,
            Err(SubscriptionError::Lease(LeaseRefusal::Fenced { generation: 2 }))
        ));
        assert_eq!(scene.claim("s", "other").await.claimed.generation, 2);
    });
}

#[test]
fn work_that_is_given_back_wakes_another_worker() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        let claim = scene.claim("s", "w").await;
        let released = scene.subscriptions.release(&id("s"), ack_of(&claim, false)).await;
        assert!(released.expect("held").next_wake);
        assert_eq!(
            scene.acked("s", "jobs/a").await.expect("linked").position().get(),
            0
        );
        scene.woken("s", 2).await;
    });
}

#[test]
fn a_wake_stream_that_is_missing_is_told_of_and_the_event_is_written_once_it_is_there() {
    over_each(|scene| async move {
        scene.rig.delete("wakes").await;
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        until(|| async { scene.state("s").await.trouble.is_some() }).await;
        let trouble = scene.state("s").await.trouble.expect("trouble");
        assert_eq!(trouble.failures, 1);
        assert_eq!(
            &*trouble.error,
            "the wake stream `wakes`: there is no such stream"
        );
        scene.rig.create_json("wakes").await;
        scene.pass_ms(1_200);
        scene.woken("s", 1).await;
        assert_eq!(scene.events().await.len(), 1);
        assert_eq!(scene.state("s").await.trouble, None);
    });
}

#[test]
fn of_very_many_streams_each_gets_its_turn() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        for stream in 0..8 {
            let stream = format!("jobs/{stream}");
            scene.begin(&stream, "x").await;
        }
        let mut rounds = 0;
        loop {
            let claim = scene.claim("s", "w").await;
            assert!(claim.work.len() <= 3);
            rounds += 1;
            if !scene.ack_all("s", &claim).await {
                break;
            }
        }
        assert_eq!(rounds, 3);
    });
}

/// Wake streams know repeated events by the subscription and the generation, and both come again.
#[test]
fn a_subscription_that_is_made_anew_has_its_own_events() {
    over_each(|scene| async move {
        scene.rig.create("jobs/a").await.expect("made");
        for round in 1..=3 {
            scene.made("s", pull(Some("jobs/*"), &[])).await;
            scene.rig.append("jobs/a", "one").await.expect("appended");
            scene.woken("s", 1).await;
            assert_eq!(scene.events().await.len(), round);
            scene.subscriptions.delete(&id("s")).await.expect("deleted");
        }
    });
}

/// What a turn that panicked had taken to look at was forgotten, and nobody was woken for it before it moved again.
#[test]
fn a_worker_is_woken_although_a_turn_panics() {
    run(async {
        let backend = Gated::inline(1 << 20);
        let scene = Scene::over(Arc::<Gated>::clone(&backend)).await;
        scene.rig.create_json("wakes").await;
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        backend.panic_at(Question::Control);
        scene.begin("jobs/a", "one").await;
        let panics = &scene.rig.engine.stats().panics;
        until(|| async { panics.of(Task::Subscription) == 1 }).await;
        assert!(backend.has_panicked());
        until(|| async {
            scene.pass_ms(100);
            !scene.events().await.is_empty()
        })
        .await;
        assert_eq!(scene.events().await[0]["stream"], "jobs/a");
    });
}
