//! Runs and dead letters that cannot be read, because they are damaged: each is told of, and stops nobody else.

use std::sync::Arc;

use serde_json::{Value, json};
use tailwater_storage::engine::EngineError;
use tailwater_storage::queues::{PurgeWhat, QueueError};
use tailwater_storage::stream::queue::{DeadReason, RunState};

use super::dead::dead;
use super::scene::{LEASE_MS, Scene, payloads, queue, run_names, until};
use crate::support::ask::{name, run};
use crate::support::gated::Gated;

/// A queue, and what its streams are stored in.
async fn with_queue(more: Value) -> (Scene, Arc<Gated>) {
    let (gated, scene) = Scene::behind_a_gate().await;
    scene.make(more).await;
    (scene, gated)
}

/// The same after a start, which loads each stream anew, but that this one cannot be read.
async fn without(scene: Scene, gated: &Arc<Gated>, stream: &str) -> Scene {
    scene.queues.stop();
    let scene = scene.again_over(Arc::clone(&scene.backend)).await;
    gated.damage_name(&name(stream));
    scene
}

async fn reasons(scene: &Scene) -> Vec<DeadReason> {
    let (dead, _) = scene.queues.dead(&queue(), None, 5).await.expect("there");
    dead.iter().map(|dead| dead.reason).collect()
}

/// No message behind it was ever looked at, and whoever enqueued something at the same time was refused, too.
#[test]
fn a_job_that_names_a_run_that_cannot_be_read_is_a_dead_letter_and_blocks_nobody() {
    run(async {
        let (scene, gated) = with_queue(json!({})).await;
        scene.enqueue_as("a").await;
        scene.complete(&scene.claim_one("w").await).await;
        let scene = without(scene, &gated, "r/a").await;
        scene
            .rig
            .append_json("q", r#"[{"payload":1,"id":"a"},2,{"payload":3,"id":"a"}]"#)
            .await;
        let jobs = dead(&scene, 2).await;
        assert_eq!(reasons(&scene).await, [DeadReason::RunDamaged; 2]);
        let (refused, other) = tokio::join!(scene.enqueue(r#"{"payload":1,"id":"a"}"#), scene.enqueue("4"));
        assert!(
            matches!(&refused, Err(QueueError::RunDamaged { run }) if *run == name("r/a")),
            "{refused:?}"
        );
        assert!(other.expect("enqueued").new);
        assert_eq!(payloads(&scene.claim("w", 5).await), ["2", "4"]);
        let redriven = scene.queues.redrive(&queue(), jobs[0]).await.expect("redriven");
        assert_ne!(redriven.run, name("r/a"));
        scene.admitted(4).await;
        assert_eq!(payloads(&scene.claim("w", 5).await), ["1"]);
    });
}

/// All claims were refused, for ever: first because it could not be given to a worker, and then because its job did not agree
/// with it.
#[test]
fn a_ready_job_whose_run_cannot_be_read_is_given_up_and_blocks_nobody() {
    run(async {
        let (scene, gated) = with_queue(json!({})).await;
        for id in ["a", "b"] {
            scene.enqueue_as(id).await;
        }
        let scene = without(scene, &gated, "r/a").await;
        assert_eq!(run_names(&scene.claim("w", 5).await), ["r/b"]);
        let jobs = dead(&scene, 1).await;
        assert_eq!(reasons(&scene).await, [DeadReason::RunDamaged]);
        let redriven = scene.queues.redrive(&queue(), jobs[0]).await.expect("redriven");
        scene.admitted(3).await;
        let claimed = scene.claim_one("w").await;
        assert_eq!(
            (&claimed.run, payloads(std::slice::from_ref(&claimed))),
            (&redriven.run, vec!["1"])
        );
    });
}

/// No lease ended any more, so that nothing was tried again.
#[test]
fn a_lease_of_a_run_that_cannot_be_read_ends_and_so_do_others() {
    run(async {
        let (scene, gated) = with_queue(json!({})).await;
        for id in ["a", "b"] {
            scene.enqueue_as(id).await;
        }
        scene.claim("w", 2).await;
        let scene = without(scene, &gated, "r/a").await;
        scene.get().await;
        scene.pass_ms(LEASE_MS);
        scene.stands("r/b", RunState::Retrying).await;
        dead(&scene, 1).await;
        assert_eq!(reasons(&scene).await, [DeadReason::RunDamaged]);
        scene.pass_ms(1_000);
        until(|| async { scene.get().await.gauges.ready == 1 }).await;
        scene.complete(&scene.claim_one("w").await).await;
    });
}

#[test]
fn a_queue_with_a_run_that_cannot_be_read_is_purged_and_deleted() {
    for deletes in [false, true] {
        run(async {
            let (scene, gated) = with_queue(json!({})).await;
            for id in ["a", "b"] {
                scene.enqueue_as(id).await;
            }
            let scene = without(scene, &gated, "r/a").await;
            if deletes {
                scene.queues.delete(&queue()).await.expect("deleted");
            } else {
                let count = scene.queues.purge(&queue(), PurgeWhat::Ready).await;
                assert_eq!(count.expect("purged"), 1);
            }
            scene.stands("r/b", RunState::Cancelled).await;
        });
    }
}

/// What was to stand in its letter could not be read: so it was not given up, and no other lease ended.
#[test]
fn a_job_is_given_up_though_what_its_worker_was_given_cannot_be_read() {
    run(async {
        let (scene, gated) = with_queue(json!({ "max_attempts": 1 })).await;
        for id in ["a", "b"] {
            scene.enqueue_as(id).await;
        }
        scene.claim("w", 2).await;
        gated.damage_bytes(scene.rig.look("r/a").await.incarnation().id);
        scene.pass_ms(LEASE_MS);
        for run in ["r/a", "r/b"] {
            scene.stands(run, RunState::Dead).await;
        }
        let jobs = dead(&scene, 2).await;
        let letters = scene.events("dead/q").await;
        assert_eq!(
            (&letters[0]["payload"], &letters[1]["payload"]),
            (&Value::Null, &json!(1))
        );
        let refused = scene.queues.redrive(&queue(), jobs[0]).await;
        assert!(
            matches!(refused, Err(QueueError::Engine(EngineError::Backend(_)))),
            "{refused:?}"
        );
        // Once its run is gone nobody takes the letter for what was to be done.
        scene.rig.delete("r/a").await;
        let lost = scene.queues.redrive(&queue(), jobs[0]).await;
        assert!(matches!(lost, Err(QueueError::DeadLost)), "{lost:?}");
        // A job of its id is the same one, as if the beginning of the run had been trimmed.
        gated.damage_bytes(scene.rig.look("r/b").await.incarnation().id);
        assert!(!scene.enqueue_as("b").await.new);
    });
}

/// None was deleted any more, and the queue did all that it does by itself once a second.
#[test]
fn ended_runs_are_deleted_though_one_cannot_be_read() {
    const RETENTION_MS: u64 = 5_000;
    run(async {
        let (scene, gated) = with_queue(json!({ "run_retention_ms": RETENTION_MS })).await;
        for id in ["a", "b"] {
            scene.enqueue_as(id).await;
        }
        for claimed in scene.claim("w", 2).await {
            scene.complete(&claimed).await;
        }
        let scene = without(scene, &gated, "r/a").await;
        let is_deleted = || async {
            scene.pass_ms(RETENTION_MS);
            scene.state("r/b").await.is_none()
        };
        until(is_deleted).await;
        assert_eq!(scene.queues.stats().deleted_runs.get(), 1);
        // It is not looked at again and again.
        let loads = gated.loads(&name("r/a"));
        for _ in 0..5 {
            scene.pass_ms(RETENTION_MS);
            scene.get().await;
            tokio::task::yield_now().await;
        }
        assert_eq!(gated.loads(&name("r/a")), loads);
    });
}

/// No message was looked at behind one that was no job.
#[test]
fn jobs_are_given_up_though_the_stream_of_dead_letters_cannot_be_read() {
    run(async {
        let (scene, gated) = with_queue(json!({ "max_attempts": 1 })).await;
        scene.enqueue_as("a").await;
        let scene = without(scene, &gated, "dead/q").await;
        scene.rig.append_json("q", r#"[{"payload":1,"oops":1},2]"#).await;
        let jobs = dead(&scene, 1).await;
        let claimed = scene.claim("w", 2).await;
        assert_eq!(payloads(&claimed), ["1", "2"]);
        scene.fail(&claimed[0]).await;
        dead(&scene, 2).await;
        let lost = scene.queues.redrive(&queue(), jobs[0]).await;
        assert!(lost.is_err(), "{lost:?}");
        let purged = scene.queues.purge(&queue(), PurgeWhat::Dead).await;
        assert_eq!(purged.expect("purged"), 2);
    });
}
