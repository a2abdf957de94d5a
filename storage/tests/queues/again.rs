//! A queue that is made anew: of a stream that has been one before, or of another stream of the same name.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::queues::{Claimed, Enqueued, PurgeWhat, QueueError, RetryFrom};
use tailwater_storage::stream::Transition;
use tailwater_storage::stream::queue::DeadReason;
use tailwater_storage::{Backend, Memory};

use super::scene::{Scene, over_each, payloads, queue, run_names, until};
use crate::support::ask::{name, run};
use crate::support::gated::{Gated, appends, transitions};

/// Has the one job there is done, and tries its run anew.
async fn do_and_retry(scene: &Scene) -> Enqueued {
    let claimed = scene.claim_one("w").await;
    scene.complete(&claimed).await;
    let retried = scene.queues.retry(&claimed.run, RetryFrom::Start).await;
    retried.expect("the run has ended")
}

/// Has a job without an id done, and deletes the queue and its stream. Its run stays.
async fn leave_a_run(scene: &Scene) -> Claimed {
    scene.make(json!({})).await;
    scene.rig.append_json("q", "1").await;
    scene.admitted(1).await;
    let claimed = scene.claim_one("w").await;
    scene.complete(&claimed).await;
    scene.queues.delete(&queue()).await.expect("deleted");
    scene.rig.delete("q").await;
    claimed
}

/// The messages of runs that are tried anew were numbered from 0 again, so that the stream took them for repetitions.
#[test]
fn runs_are_tried_anew_by_a_queue_whose_stream_has_been_one_before() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        let retried = do_and_retry(&scene).await;
        assert_eq!(retried.run, name("r/a.2"));
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.queues.delete(&queue()).await.expect("deleted");
        scene.make(json!({})).await;
        scene.enqueue_as("b").await;
        let retried = do_and_retry(&scene).await;
        assert!(retried.job.is_some(), "its message is there");
        let claimed = scene.claim_one("w").await;
        assert_eq!(claimed.run, name("r/b.2"));
    });
}

/// Jobs without ids are named by their places, which come again in another stream: each was taken for the one that an
/// earlier stream had there, and swallowed.
#[test]
fn numbers_of_an_earlier_stream_are_not_given_to_other_jobs() {
    over_each(|scene| async move {
        let claimed = leave_a_run(&scene).await;
        let same = scene.put(json!({ "run_prefix": "r/" })).await;
        assert!(
            matches!(&same, Err(QueueError::NumberTaken { run }) if *run == claimed.run),
            "{same:?}"
        );
        assert!(!scene.queues.is_queue(&queue()).await.expect("readable"));
        scene
            .put(json!({ "run_prefix": "other/" }))
            .await
            .expect("other names");
        scene.rig.append_json("q", "1").await;
        scene.admitted(1).await;
        let claimed = scene.claim("w", 2).await;
        assert_eq!(run_names(&claimed), ["other/0000000000000000"]);
    });
}

/// It waited for messages to be looked at, which nobody does once the queue is being deleted.
#[test]
fn a_purge_of_a_queue_whose_deletion_was_refused_ends() {
    run(async {
        let (gated, scene) = Scene::behind_a_gate().await;
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        // That it is being deleted is stored, and the end of its job is not.
        gated.refuse(|record| transitions(record).any(|one| matches!(one, Transition::Append(_))));
        assert!(scene.queues.delete(&queue()).await.is_err());
        gated.refuse_none();
        scene.rig.append_json("q", "2").await;
        for what in [PurgeWhat::Ready, PurgeWhat::All] {
            let purged = scene.queues.purge(&queue(), what).await;
            assert!(matches!(purged, Err(QueueError::Deleting)), "{purged:?}");
        }
        scene.queues.delete(&queue()).await.expect("deleted");
        assert!(!scene.queues.is_queue(&queue()).await.expect("readable"));
    });
}

#[test]
fn a_stream_that_was_a_queue_is_made_one_again_with_the_runs_that_it_had() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.rig.append_json("q", "[1,2]").await;
        scene.admitted(2).await;
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.queues.delete(&queue()).await.expect("deleted");
        scene.make(json!({})).await;
        scene.rig.append_json("q", "3").await;
        until(|| async { scene.get().await.gauges.ready == 1 }).await;
        assert_eq!(payloads(&scene.claim("w", 5).await), ["3"]);
    });
}

/// There are more names before it than are looked at when the queue is made.
#[test]
fn a_job_without_an_id_whose_number_an_earlier_stream_has_given_is_a_dead_letter() {
    run(async {
        let scene = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        leave_a_run(&scene).await;
        for number in 0..1_000 {
            let before = format!("r/000000000000000!{number}");
            scene.rig.create(&before).await.expect("created");
        }
        scene.put(json!({ "run_prefix": "r/" })).await.expect("made");
        scene.rig.append_json("q", "1").await;
        until(|| async { scene.get().await.gauges.dead == 1 }).await;
        let (dead, _) = scene.queues.dead(&queue(), None, 10).await.expect("there");
        assert_eq!(dead[0].reason, DeadReason::NameTaken);
        let redriven = scene
            .queues
            .redrive(&queue(), dead[0].job)
            .await
            .expect("redriven");
        assert!(redriven.new);
        assert_eq!(payloads(&scene.claim("w", 5).await), ["1"]);
    });
}

/// It began, and its message had no id: that became a dead letter, and the run was open for ever.
#[test]
fn a_run_of_an_earlier_queue_that_named_its_runs_otherwise_is_not_tried_anew() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.queues.delete(&queue()).await.expect("deleted");
        scene.put(json!({ "run_prefix": "other/" })).await.expect("made");
        let refused = scene.queues.retry(&claimed.run, RetryFrom::Start).await;
        assert!(matches!(refused, Err(QueueError::RunNotFound)), "{refused:?}");
        assert_eq!(scene.state("r/a.2").await, None);
        assert_eq!(scene.get().await.gauges.dead, 0);
    });
}

/// It was not found among those that had been put away, and made anew over what was stored of it: all that was done was done
/// again.
#[test]
fn a_queue_is_not_made_anew_while_the_server_stops() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.enqueue_as("b").await;
        let before = scene.get().await.gauges;
        scene.queues.stop();
        let refused = scene.put(json!({ "run_prefix": "r/" })).await;
        assert!(matches!(refused, Err(QueueError::Stopping)), "{refused:?}");
        let refused = scene.enqueue("1").await;
        assert!(matches!(refused, Err(QueueError::Stopping)), "{refused:?}");
        let scene = scene.again_over(Arc::clone(&scene.backend)).await;
        assert_eq!(scene.get().await.gauges, before);
    });
}

/// Its message was no job that the queue could have any more: that became a dead letter, and the run was open for ever.
#[test]
fn a_run_is_tried_anew_though_its_value_at_the_concurrency_key_is_too_long_by_now() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let long = "x".repeat(300);
        let job = format!("{{\"payload\":{{\"to\":\"{long}\"}},\"id\":\"a\"}}");
        scene.enqueue(&job).await.expect("enqueued");
        let changed = json!({ "run_prefix": "r/", "concurrency_key": "/to" });
        scene.put(changed).await.expect("changed");
        let retried = do_and_retry(&scene).await;
        scene.admitted(2).await;
        let claimed = scene.claim_one("w").await;
        assert_eq!(claimed.run, retried.run);
        scene.complete(&claimed).await;
        assert_eq!(scene.get().await.gauges.dead, 0);
    });
}

/// Until its message was sent, no other message was looked at.
#[test]
fn a_run_whose_message_cannot_be_sent_keeps_no_other_job_from_coming() {
    run(async {
        let gated = Gated::new(1 << 20);
        let backend: Arc<dyn Backend> = Arc::<Gated>::clone(&gated);
        let scene = Scene::over(Arc::clone(&backend)).await;
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        // The run begins, and its message finds no space.
        gated.refuse(|record| appends(record, "{\"payload\":1,\"id\":\"a.2\"},"));
        let retried = scene.queues.retry(&claimed.run, RetryFrom::Start).await;
        assert_eq!(retried.expect("it has begun").job, None);
        // Whoever tries again has done so, and does not before the clock goes on.
        scene.get().await;
        scene.queues.stop();
        gated.refuse_none();
        gated.damage_name(&name("r/a.2"));
        let scene = scene.again_over(backend).await;
        scene.rig.append_json("q", "2").await;
        let is_admitted = async || {
            scene.pass_ms(1_000);
            scene.get().await.gauges.counters.enqueued == 2
        };
        until(is_admitted).await;
        assert_eq!(payloads(&scene.claim("w", 5).await), ["2"]);
    });
}
