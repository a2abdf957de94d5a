//! Queues and runs that an import has parted: it brings one without the other, or each as of another moment. Jobs follow their
//! runs, and nothing waits for ever.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::clock::{Clock, ManualClock};
use tailwater_storage::engine::{EngineError, Existing, Settled};
use tailwater_storage::queues::{Claimed, PurgeWhat, QueueError};
use tailwater_storage::stream::queue::{DeadReason, RunState, Word, WorkerRefusal};
use tailwater_storage::{Backend, Engine, EngineLimits, Memory, Queues};

use super::scene::{LEASE_MS, LIMITS, Scene, acid_store, over_each, payloads, queue, run_names, until};
use crate::support::ask::{Rig, name, run};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::transfer::transfer_below;

const QUEUE: &str = "q";
const RUNS: &str = "r/";

/// Takes the streams of a prefix along, as they are now.
async fn import(from: &Scene, to: &Scene, prefix: &str) {
    transfer_below(&from.rig.engine, &to.rig.engine, Existing::Refuse, prefix).await;
}

async fn others() -> [Scene; 2] {
    let acid = acid_store(&FaultyDisk::new(0));
    [
        Scene::over(Arc::new(Memory::new(1 << 30))).await,
        Scene::over(acid).await,
    ]
}

/// Stores that have got a queue while it was empty, and later its runs `r/a` and `r/b`, the first of which somebody has.
async fn others_with_runs_of_no_job(scene: &Scene) -> ([Scene; 2], Claimed) {
    scene.make(json!({})).await;
    let others = others().await;
    for other in &others {
        import(scene, other, QUEUE).await;
    }
    for id in ["a", "b"] {
        scene.enqueue_as(id).await;
    }
    let begun = scene.claim_one("elsewhere").await;
    for other in &others {
        import(scene, other, RUNS).await;
    }
    (others, begun)
}

/// Waits until the queue's stream has no message any more that was given to a worker.
async fn trimmed(scene: &Scene) {
    let is_trimmed = async || {
        scene.pass_ms(10);
        let reader = scene.rig.look(QUEUE).await;
        let oldest = reader.incarnation().view().oldest;
        scene.get().await.taken == reader.incarnation().token(oldest)
    };
    until(is_trimmed).await;
}

async fn complete(scene: &Scene, claimed: &Claimed, seq: u64) -> Result<RunState, QueueError> {
    let settled = scene.settle(claimed, seq, Word::Complete { result: None }).await;
    settled.map(|settled| settled.state)
}

async fn is_fenced(scene: &Scene, claimed: &Claimed) -> bool {
    let beat = scene.queues.heartbeat(&claimed.run, claimed.epoch).await;
    matches!(beat, Err(QueueError::Worker(WorkerRefusal::Fenced { .. })))
}

/// Such a queue gave nothing out, took nothing in and could not be deleted: it tried to add to those runs for ever.
#[test]
fn a_queue_that_comes_without_its_runs_has_its_jobs_done_or_gives_them_up() {
    over_each(|scene| async move {
        scene.make(json!({ "lease_ms": 20_000 })).await;
        let at = scene.rig.engine.now().as_millis() + 60_000;
        for job in [
            "{\"payload\":1,\"id\":\"leased\"}",
            "{\"payload\":2,\"id\":\"ready\"}",
            &format!("{{\"payload\":3,\"id\":\"late\",\"run_at\":{at}}}"),
            "4",
        ] {
            scene.enqueue(job).await.expect("enqueued");
        }
        let leased = scene.claim_one("w").await;
        trimmed(&scene).await;
        for other in others().await {
            import(&scene, &other, QUEUE).await;
            let gauges = other.get().await.gauges;
            assert_eq!((gauges.leased, gauges.ready, gauges.scheduled), (1, 2, 1));
            let claimed = other.claim("w", 5).await;
            assert_eq!(payloads(&claimed), ["2", "4"]);
            for claimed in &claimed {
                other.complete(claimed).await;
            }
            assert_eq!(
                other.types("r/ready").await,
                ["run.queued", "run.leased", "run.succeeded"]
            );
            // Nobody knows any more what was to be done.
            until(|| async { other.get().await.gauges.dead == 1 }).await;
            let (dead, _) = other.queues.dead(&queue(), None, 5).await.expect("there");
            assert_eq!(
                (dead[0].job, dead[0].reason),
                (leased.job, DeadReason::RunMissing)
            );
            assert_eq!((&dead[0].run, dead[0].attempt), (&None, 1));
            let letters = other.events("dead/q").await;
            assert_eq!(letters[0]["reason"], "run_missing");
            let redriven = other.queues.redrive(&queue(), leased.job).await;
            assert!(matches!(redriven, Err(QueueError::DeadLost)), "{redriven:?}");
            other.pass_ms(60_000);
            until(|| async { other.get().await.gauges.ready == 1 }).await;
            let late = other.claim_one("w").await;
            assert_eq!((late.run.as_str(), late.payload.as_str()), ("r/late", "3"));
            assert!(other.log(&late, 1, "{\"type\":\"log\"}").await);
            assert_eq!(
                complete(&other, &late, 2).await.expect("held"),
                RunState::Succeeded
            );
            let gauges = other.get().await.gauges;
            assert_eq!((gauges.leased, gauges.ready, gauges.scheduled), (0, 0, 0));
        }
    });
}

#[test]
fn a_run_that_begins_anew_is_fenced_off_from_whoever_had_the_one_before() {
    over_each(|scene| async move {
        scene.make(json!({ "max_attempts": 9 })).await;
        for id in ["a", "b"] {
            scene.enqueue_as(id).await;
        }
        let before = scene.claim_one("before").await;
        assert_eq!(before.run, name("r/a"));
        for other in others().await {
            import(&scene, &other, QUEUE).await;
            // That the run of b is not there tells of that of a, whose message was not trimmed yet.
            let claimed = other.claim("w", 5).await;
            assert_eq!(run_names(&claimed), ["r/a", "r/b"]);
            assert_eq!((claimed[0].epoch, claimed[0].attempt), (3, 2));
            assert!(is_fenced(&other, &before).await);
            assert!(!other.log(&before, 1, "{\"type\":\"log\"}").await);
            for claimed in &claimed {
                other.complete(claimed).await;
            }
        }
    });
}

#[test]
fn a_queue_that_comes_without_its_runs_is_purged_and_deleted() {
    over_each(|scene| async move {
        scene.make(json!({ "lease_ms": 20_000 })).await;
        for id in ["a", "b", "c"] {
            scene.enqueue_as(id).await;
        }
        scene.claim_one("w").await;
        let [purged, deleted] = others().await;
        import(&scene, &purged, QUEUE).await;
        let count = purged.queues.purge(&queue(), PurgeWhat::Ready).await;
        assert_eq!(count.expect("there"), 2);
        assert_eq!(purged.state("r/c").await, Some(RunState::Cancelled));
        import(&scene, &deleted, QUEUE).await;
        deleted.queues.delete(&queue()).await.expect("deleted");
        assert!(!deleted.queues.is_queue(&queue()).await.expect("readable"));
    });
}

/// A run that was exported after its end was taken for one that a worker had, and each look at its lease was refused.
#[test]
fn a_job_whose_run_has_ended_elsewhere_is_done() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        for id in ["a", "b", "c"] {
            scene.enqueue_as(id).await;
        }
        let a = scene.claim_one("w").await;
        let others = others().await;
        for other in &others {
            import(&scene, other, QUEUE).await;
        }
        scene.complete(&a).await;
        let b = scene.claim_one("w").await;
        scene.complete(&b).await;
        for other in &others {
            import(&scene, other, RUNS).await;
            assert_eq!(run_names(&other.claim("w", 5).await), ["r/c"]);
            until(|| async { other.get().await.gauges.leased == 1 }).await;
            for run in ["r/a", "r/b"] {
                let types = other.types(run).await;
                assert_eq!(types, ["run.queued", "run.leased", "run.succeeded"], "{run}");
            }
            assert_eq!(other.get().await.gauges.dead, 0);
        }
    });
}

#[test]
fn a_run_that_has_gone_on_elsewhere_is_followed() {
    over_each(|scene| async move {
        scene.make(json!({ "max_attempts": 9 })).await;
        scene.enqueue_as("a").await;
        let first = scene.claim_one("first").await;
        let others = others().await;
        for other in &others {
            import(&scene, other, QUEUE).await;
        }
        scene.pass_ms(LEASE_MS);
        scene.stands("r/a", RunState::Retrying).await;
        scene.pass_ms(100);
        let second = scene.claim_one("second").await;
        assert_eq!(second.epoch, 3);
        for other in &others {
            import(&scene, other, RUNS).await;
            other.get().await;
            other.pass_ms(LEASE_MS);
            // Whoever has it by what stands in the run has its full time.
            until(|| async { other.queues.heartbeat(&second.run, 3).await.is_ok() }).await;
            assert!(is_fenced(other, &first).await);
            assert!(other.log(&second, 1, "{\"type\":\"log\"}").await);
            other.pass_ms(LEASE_MS);
            other.stands("r/a", RunState::Retrying).await;
            assert!(is_fenced(other, &second).await);
            other.pass_ms(200);
            until(|| async { other.get().await.gauges.ready == 1 }).await;
            let third = other.claim_one("third").await;
            assert_eq!((third.epoch, third.attempt), (5, 3));
            other.complete(&third).await;
        }
    });
}

#[test]
fn a_run_that_lacks_what_its_queue_has_seen_is_taken_from_its_worker() {
    over_each(|scene| async move {
        scene.make(json!({ "max_attempts": 9 })).await;
        scene.enqueue_as("a").await;
        let first = scene.claim_one("first").await;
        let others = others().await;
        for other in &others {
            import(&scene, other, RUNS).await;
        }
        scene.fail(&first).await;
        scene.pass_ms(100);
        let second = scene.claim_one("second").await;
        assert!(scene.log(&second, 1, "{\"type\":\"log\"}").await);
        for other in &others {
            import(&scene, other, QUEUE).await;
            other.get().await;
            let refused = complete(other, &second, 2).await;
            assert!(matches!(refused, Err(QueueError::Adrift { .. })), "{refused:?}");
            until(|| async { is_fenced(other, &second).await }).await;
            assert!(is_fenced(other, &first).await);
            let third = other.claim_one("third").await;
            assert_eq!((third.epoch, third.attempt), (5, 3));
            other.complete(&third).await;
        }
    });
}

/// It was taken for a job that somebody does, and the message for its duplicate: nobody ever did it.
#[test]
fn an_open_run_without_a_job_is_that_of_the_next_message_of_its_id() {
    over_each(|scene| async move {
        let (others, begun) = others_with_runs_of_no_job(&scene).await;
        for other in &others {
            assert!(other.enqueue_as("b").await.new);
            let appended = r#"{"payload":1,"id":"a"}"#;
            other.rig.append_json(QUEUE, appended).await;
            other.admitted(2).await;
            assert!(!other.enqueue_as("a").await.new, "it is a job by now");
            let claimed = other.claim("w", 5).await;
            assert_eq!(run_names(&claimed), ["r/b"]);
            // By what stands in the run somebody has it.
            other.pass_ms(LEASE_MS);
            until(|| async { is_fenced(other, &begun).await }).await;
            other.pass_ms(1_000);
            until(|| async { other.get().await.gauges.ready == 2 }).await;
            for claimed in other.claim("w", 5).await {
                other.complete(&claimed).await;
            }
            other.stands("r/a", RunState::Succeeded).await;
            other.stands("r/b", RunState::Succeeded).await;
        }
    });
}

#[test]
fn an_open_run_without_a_job_is_called_off() {
    over_each(|scene| async move {
        let (others, begun) = others_with_runs_of_no_job(&scene).await;
        for other in &others {
            for run in ["r/a", "r/b"] {
                let settled = other.queues.cancel(&name(run), Some("unwanted".into())).await;
                assert_eq!(settled.expect("open").state, RunState::Cancelled);
                other.stands(run, RunState::Cancelled).await;
            }
            assert!(!other.log(&begun, 1, "{\"type\":\"log\"}").await);
        }
    });
}

#[test]
fn nothing_is_given_up_while_an_import_is_under_way() {
    over_each(|scene| async move {
        scene.make(json!({ "lease_ms": 20_000 })).await;
        scene.enqueue_as("a").await;
        for other in others().await {
            import(&scene, &other, QUEUE).await;
            let under_way = other.rig.engine.import(Existing::Refuse);
            let refused = other.queues.claim(&queue(), "w", 1, 0).await;
            assert!(matches!(refused, Err(QueueError::Adrift { .. })), "{refused:?}");
            import(&scene, &other, RUNS).await;
            drop(under_way);
            other.pass_ms(1_000);
            let claimed = other.claim_one("w").await;
            let events = other.events("r/a").await;
            assert_eq!(
                events[0],
                scene.events("r/a").await[0],
                "it is the run that was imported"
            );
            other.complete(&claimed).await;
        }
    });
}

/// A deletion that a start had found, and could not finish, left a queue that answered nobody.
#[test]
fn a_queue_whose_deletion_could_not_go_on_with_the_start_answers() {
    run(async {
        let scene = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        let backend: Arc<dyn Backend> = Arc::new(Memory::new(1 << 30));
        let other = Scene::over(Arc::clone(&backend)).await;
        import(&scene, &other, QUEUE).await;
        let under_way = other.rig.engine.import(Existing::Refuse);
        let refused = other.queues.delete(&queue()).await;
        assert!(matches!(refused, Err(QueueError::Adrift { .. })), "{refused:?}");
        drop(under_way);
        other.queues.stop();

        let clock = Arc::clone(&other.rig.clock);
        let time: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let engine =
            Engine::start(Arc::clone(&backend), time, EngineLimits::default()).expect("memory works");
        let under_way = engine.import(Existing::Refuse);
        let queues = Queues::start(engine.clone(), LIMITS).await.expect("readable");
        let again = Scene {
            rig: Rig { engine, clock },
            queues,
            backend,
        };
        // Whatever that is.
        let _answer = again.queues.claim(&queue(), "w", 1, 0).await;
        let enqueued = again.enqueue("1").await;
        assert!(matches!(enqueued, Err(QueueError::Deleting)), "{enqueued:?}");
        drop(under_way);
        again.queues.delete(&queue()).await.expect("deleted");
    });
}

/// The start could not send its message, and looked at no other one.
#[test]
fn a_run_that_was_to_be_tried_anew_and_is_not_there_keeps_no_job_from_coming() {
    run(async {
        let scene = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        scene.make(json!({})).await;
        let held = scene.rig.engine.hold(&[queue()]).await.expect("there");
        let drafted = scene.rig.engine.together(&held, |draft| {
            draft.control(0, "queue/retry/r/x.2".into(), Some(vec![1, 0].into()));
            Ok::<_, EngineError>(())
        });
        let ((), settling) = drafted.expect("drafted");
        assert_eq!(settling.settled().await, Settled::Durable);
        scene.queues.stop();
        let scene = scene.again_over(Arc::clone(&scene.backend)).await;
        scene.rig.append_json(QUEUE, "1").await;
        scene.admitted(1).await;
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
    });
}
