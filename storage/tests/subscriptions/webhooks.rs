//! Deliveries, retries and callbacks.

use tailwater_storage::stream::subscription::{LeaseRefusal, Phase};
use tailwater_storage::subscriptions::deliver::{WebhookAnswer, WebhookDelivery};
use tailwater_storage::subscriptions::{AckRequest, StreamAck, SubscriptionError};

use super::scene::{LEASE_MS, id, over_each, until, webhook};

fn callback(letter: &WebhookDelivery, done: bool) -> AckRequest {
    let acks = letter.streams.iter().map(|told| StreamAck {
        stream: told.stream.clone(),
        offset: told.tail.token(),
    });
    AckRequest {
        token_generation: letter.generation,
        generation: letter.generation,
        wake: Some(letter.wake),
        acks: acks.collect(),
        done,
    }
}

#[test]
fn a_receiver_that_is_done_has_acknowledged_what_it_was_told_of_and_no_more() {
    over_each(|scene| async move {
        scene.made("s", webhook(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        let first = scene.letters(1).await.remove(0);
        assert_eq!(&*first.url, "https://worker.example/");
        assert_eq!((first.generation, first.failures), (1, 0));
        let told = first.streams[0].tail.token();
        scene.rig.append("jobs/a", "two").await.expect("appended");
        scene.receiver.answer(WebhookAnswer::Done);
        let second = scene.letters(2).await.remove(1);
        assert_eq!(second.generation, 2);
        assert_ne!(second.wake, first.wake);
        assert_eq!(second.streams[0].link.acked, told);
        assert_eq!(scene.acked("s", "jobs/a").await, Some(told));
        scene.receiver.answer(WebhookAnswer::Done);
        until(|| async { scene.state("s").await.phase == Phase::Idle }).await;
        assert_eq!(scene.acked("s", "jobs/a").await, Some(scene.tail("jobs/a").await));
    });
}

#[test]
fn a_receiver_that_calls_back_keeps_its_lease_for_as_long_as_it_does() {
    over_each(|scene| async move {
        scene.made("s", webhook(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        let letter = scene.letters(1).await.remove(0);
        scene.receiver.answer(WebhookAnswer::Taken);
        until(|| async { scene.state("s").await.sent }).await;
        let beat = AckRequest {
            acks: Vec::new(),
            ..callback(&letter, false)
        };
        for _ in 0..3 {
            scene.pass_ms(LEASE_MS - 1);
            scene
                .subscriptions
                .callback(&id("s"), beat.clone())
                .await
                .expect("in time");
        }
        let answer = scene
            .subscriptions
            .callback(&id("s"), callback(&letter, true))
            .await;
        assert!(!answer.expect("in time").next_wake);
        let again = scene
            .subscriptions
            .callback(&id("s"), callback(&letter, true))
            .await;
        assert!(matches!(
            again,
            Err(SubscriptionError::Lease(LeaseRefusal::Fenced { .. }))
        ));
        assert_eq!(scene.receiver.letters().len(), 1);
    });
}

#[test]
fn a_failed_delivery_is_tried_again_with_the_same_wake_and_ever_later() {
    over_each(|scene| async move {
        scene.made("s", webhook(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        let first = scene.letters(1).await.remove(0);
        for failures in 1..=4_u32 {
            scene.receiver.fail();
            until(|| async {
                scene
                    .state("s")
                    .await
                    .trouble
                    .is_some_and(|trouble| trouble.failures == failures)
            })
            .await;
            let trouble = scene.state("s").await.trouble.expect("trouble");
            let pause_ms = trouble.next_attempt_at.millis_since(trouble.failed_at);
            let middle_ms = 1_000 << (failures - 1);
            assert!(
                pause_ms * 10 >= middle_ms * 8 && pause_ms * 10 <= middle_ms * 12,
                "{pause_ms} ms"
            );
            scene.pass_ms(pause_ms - 1);
            assert_eq!(scene.receiver.letters().len(), failures as usize, "too early");
            scene.pass_ms(1);
            let letter = scene
                .letters(failures as usize + 1)
                .await
                .pop()
                .expect("a letter");
            assert_eq!((letter.wake, letter.generation), (first.wake, 1));
            assert_eq!(letter.failures, failures);
        }
        scene.receiver.answer(WebhookAnswer::Done);
        until(|| async { scene.state("s").await.phase == Phase::Idle }).await;
        assert_eq!(scene.state("s").await.trouble, None);
    });
}

/// The wake counted as on its way for ever, so that nothing was sent for the subscription before a restart.
#[test]
fn a_delivery_that_panics_has_failed_and_is_tried_again() {
    over_each(|scene| async move {
        scene.made("s", webhook(Some("jobs/*"), &[])).await;
        scene.receiver.panic_once("s");
        scene.begin("jobs/a", "one").await;
        let first = scene.letters(1).await.remove(0);
        until(|| async { scene.state("s").await.trouble.is_some() }).await;
        let trouble = scene.state("s").await.trouble.expect("trouble");
        assert!(trouble.error.contains("panicked"), "{}", trouble.error);
        scene.pass_ms(trouble.next_attempt_at.millis_since(trouble.failed_at));
        let again = scene.letters(2).await.remove(1);
        assert_eq!((again.wake, again.failures), (first.wake, 1));
        scene.receiver.answer(WebhookAnswer::Done);
        until(|| async { scene.state("s").await.phase == Phase::Idle }).await;
    });
}

#[test]
fn a_receiver_that_never_calls_back_is_woken_anew_once_its_lease_is_over() {
    over_each(|scene| async move {
        scene.made("s", webhook(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        let first = scene.letters(1).await.remove(0);
        scene.receiver.answer(WebhookAnswer::Taken);
        until(|| async { scene.state("s").await.sent }).await;
        scene.pass_ms(LEASE_MS);
        let second = scene.letters(2).await.remove(1);
        assert_eq!(second.generation, 2);
        let late = scene
            .subscriptions
            .callback(&id("s"), callback(&first, true))
            .await;
        assert!(matches!(
            late,
            Err(SubscriptionError::Lease(LeaseRefusal::Fenced { generation: 2 }))
        ));
    });
}

#[test]
fn a_deleted_subscription_is_neither_woken_nor_answered() {
    over_each(|scene| async move {
        scene.made("s", webhook(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        let letter = scene.letters(1).await.remove(0);
        scene.subscriptions.delete(&id("s")).await.expect("deleted");
        scene.subscriptions.delete(&id("s")).await.expect("nothing to do");
        let late = scene
            .subscriptions
            .callback(&id("s"), callback(&letter, true))
            .await;
        assert!(matches!(late, Err(SubscriptionError::NotFound)));
        scene.receiver.answer(WebhookAnswer::Done);
        // The same id again is another subscription: nothing of before is known.
        scene.made("s", webhook(None, &["jobs/a"])).await;
        assert_eq!(scene.acked("s", "jobs/a").await, Some(scene.tail("jobs/a").await));
        scene.rig.append("jobs/a", "two").await.expect("appended");
        let second = scene.letters(2).await.remove(1);
        assert_eq!(second.generation, 1);
        let late = scene
            .subscriptions
            .callback(&id("s"), callback(&letter, true))
            .await;
        assert!(matches!(
            late,
            Err(SubscriptionError::Lease(LeaseRefusal::Fenced { .. }))
        ));
    });
}

/// One receiver never answers, and another subscription has very many streams that move: a third one is woken and done as if
/// it were alone.
#[test]
fn neither_a_receiver_that_hangs_nor_very_many_moves_hold_others_back() {
    over_each(|scene| async move {
        for (text, pattern) in [("hangs", "jobs/*"), ("busy", "many/*"), ("works", "orders/*")] {
            scene.made(text, webhook(Some(pattern), &[])).await;
        }
        scene.receiver.hang("hangs");
        scene.receiver.be_done_always();
        for stream in ["jobs/a", "orders/a"] {
            scene.rig.create(stream).await.expect("made");
        }
        scene.rig.append("jobs/a", "one").await.expect("appended");
        for stream in 0..300 {
            let stream = format!("many/{stream}");
            scene.begin(&stream, "x").await;
            if stream.ends_with("00") {
                scene.rig.append("orders/a", "one").await.expect("appended");
                let tail = scene.tail("orders/a").await;
                until(|| async { scene.acked("works", "orders/a").await == Some(tail) }).await;
            }
        }
        let letters = scene.receiver.letters();
        let to_hanging = letters.iter().filter(|letter| letter.subscription == id("hangs"));
        assert_eq!(to_hanging.count(), 1, "it has one delivery at a time");
        assert!(!scene.state("hangs").await.sent);
    });
}
