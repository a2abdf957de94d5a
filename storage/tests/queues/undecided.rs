//! Jobs that are in the queue's stream, while whether their runs may begin cannot be found out: whoever enqueued them is told
//! so, and what is refused is not there.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::Backend;
use tailwater_storage::engine::EngineError;
use tailwater_storage::queues::{Enqueued, PurgeWhat, QueueError};
use tailwater_storage::stream::{Record, Transition};
use tokio::task::JoinHandle;

use super::scene::{Scene, payloads, queue, until};
use crate::support::ask::{name, run};
use crate::support::gated::{Gated, appends, transitions};

const SECOND_MS: u64 = 1_000;

/// A queue whose first message stands in its stream, and whose run finds no space.
async fn with_a_message_that_finds_no_space(gated: &Arc<Gated>) -> Scene {
    let backend: Arc<dyn Backend> = Arc::<Gated>::clone(gated);
    let scene = Scene::over(backend).await;
    scene.make(json!({})).await;
    gated.refuse(begins_a_run);
    scene.rig.append_json("q", "1").await;
    until(|| async { gated.batches().iter().flatten().any(begins_a_run) }).await;
    // Once that turn is over, nothing is tried again before the clock goes on.
    scene.get().await;
    scene
}

fn begins_a_run(record: &Record) -> bool {
    transitions(record).any(|one| matches!(one, Transition::Create(_)))
}

fn enqueue(scene: &Scene, message: &str) -> JoinHandle<Result<Enqueued, QueueError>> {
    use tailwater_storage::stream::queue::{Envelope, JsonText};
    let envelope = Envelope::parse(&JsonText::parse(message).expect("JSON")).expect("an envelope");
    let queues = scene.queues.clone();
    tokio::spawn(async move { queues.enqueue(&queue(), envelope).await })
}

async fn messages(scene: &Scene) -> u64 {
    scene.rig.look("q").await.incarnation().view().messages
}

/// Its job was refused for want of space and done all the same, and a second time if it was sent again.
#[test]
fn whoever_enqueues_a_job_that_has_no_run_yet_is_told_where_it_is() {
    run(async {
        let gated = Gated::new(1 << 20);
        let scene = with_a_message_that_finds_no_space(&gated).await;
        let asked = enqueue(&scene, "{\"payload\":2,\"id\":\"x\"}");
        until(|| async { messages(&scene).await == 2 }).await;
        let is_answered = || async {
            scene.pass_ms(SECOND_MS);
            asked.is_finished()
        };
        until(is_answered).await;
        let error = asked.await.expect("no panic").expect_err("it has no run yet");
        let QueueError::Undecided { job, run } = error else {
            panic!("{error}")
        };
        assert_eq!(run, name("r/x"));
        assert_eq!(scene.state("r/x").await, None);
        gated.refuse_none();
        scene.pass_ms(SECOND_MS);
        scene.admitted(2).await;
        let again = scene
            .enqueue("{\"payload\":2,\"id\":\"x\"}")
            .await
            .expect("there");
        assert_eq!((again.new, again.job, again.run), (false, Some(job), run));
        assert_eq!(payloads(&scene.claim("w", 5).await), ["1", "2"]);
    });
}

/// It was appended once more each time that it was sent, until there was space.
#[test]
fn a_job_that_is_sent_again_while_it_has_no_run_is_not_appended_again() {
    run(async {
        let gated = Gated::new(1 << 20);
        let mut scene = with_a_message_that_finds_no_space(&gated).await;
        let job = "{\"payload\":2,\"id\":\"x\"}";
        let mut told = Vec::new();
        for again in 0..4 {
            let asked = enqueue(&scene, job);
            let is_answered = || async {
                scene.pass_ms(SECOND_MS);
                asked.is_finished()
            };
            until(is_answered).await;
            match asked.await.expect("no panic") {
                Err(QueueError::Undecided { job, .. }) => told.push(job),
                other => panic!("{other:?}"),
            }
            if again == 1 {
                scene.queues.stop();
                scene = scene.again_over(Arc::clone(&scene.backend)).await;
            }
        }
        assert!(told.iter().all(|job| *job == told[0]), "{told:?}");
        assert_eq!(messages(&scene).await, 2);
        let other = scene.enqueue("{\"payload\":3,\"id\":\"x\"}").await;
        assert!(matches!(other, Err(QueueError::Conflict { .. })), "{other:?}");
        // Two who send it at once are told, too.
        let both = [enqueue(&scene, job), enqueue(&scene, job)];
        until(|| async { both.iter().any(JoinHandle::is_finished) }).await;
        gated.refuse_none();
        scene.pass_ms(SECOND_MS);
        scene.admitted(2).await;
        let [one, other] = both;
        let answers = [one.await.expect("no panic"), other.await.expect("no panic")];
        let is_new =
            |answer: &&Result<Enqueued, QueueError>| answer.as_ref().is_ok_and(|enqueued| enqueued.new);
        assert_eq!(answers.iter().filter(is_new).count(), 1, "{answers:?}");
        assert_eq!(messages(&scene).await, 2);
        assert_eq!(scene.get().await.gauges.counters.duplicates, 0);
        assert_eq!(payloads(&scene.claim("w", 5).await), ["1", "2"]);
    });
}

#[test]
fn whoever_enqueues_a_job_whose_message_finds_no_space_has_none() {
    run(async {
        let gated = Gated::new(1 << 20);
        let scene = with_a_message_that_finds_no_space(&gated).await;
        gated.refuse(|record| begins_a_run(record) || appends(record, "{\"payload\":2},"));
        let refused = scene.enqueue("{\"payload\":2}").await;
        assert!(
            matches!(refused, Err(QueueError::Engine(EngineError::Full))),
            "{refused:?}"
        );
        gated.refuse_none();
        scene.pass_ms(SECOND_MS);
        scene.admitted(1).await;
        assert_eq!(messages(&scene).await, 1);
        assert_eq!(payloads(&scene.claim("w", 5).await), ["1"]);
    });
}

/// It was told of its run as soon as that was decided, and nobody else could find it.
#[test]
fn a_job_behind_messages_that_nobody_has_looked_at_is_answered_once_its_run_is_there() {
    run(async {
        let gated = Gated::new(1 << 20);
        let scene = with_a_message_that_finds_no_space(&gated).await;
        let asked = enqueue(&scene, "{\"payload\":2,\"id\":\"x\"}");
        until(|| async { messages(&scene).await == 2 }).await;
        gated.refuse_none();
        gated.hold();
        let is_at_gate = || async {
            scene.pass_ms(SECOND_MS);
            gated.is_at_gate(0)
        };
        until(is_at_gate).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!asked.is_finished(), "its run is not there");
        gated.open();
        let enqueued = asked.await.expect("no panic").expect("enqueued");
        assert_eq!((enqueued.new, enqueued.run), (true, name("r/x")));
        assert!(scene.state("r/x").await.is_some());
    });
}

/// They waited until the server gave them up.
#[test]
fn whoever_waits_for_a_run_is_told_when_the_server_stops_or_the_queue_is_deleted() {
    for stops in [true, false] {
        run(async {
            let gated = Gated::new(1 << 20);
            let scene = with_a_message_that_finds_no_space(&gated).await;
            // Its clock stands still, so that nobody tries again meanwhile.
            let asked = enqueue(&scene, "{\"payload\":2,\"id\":\"x\"}");
            until(|| async { messages(&scene).await == 2 }).await;
            if stops {
                scene.queues.stop();
            } else {
                scene.queues.delete(&queue()).await.expect("deleted");
            }
            let told = asked.await.expect("no panic");
            assert!(matches!(told, Err(QueueError::Undecided { .. })), "{told:?}");
        });
    }
}

/// It tried again and again, and let nobody else have the storage.
#[test]
fn a_purge_ends_though_messages_find_no_space() {
    run(async {
        let gated = Gated::new(1 << 20);
        let scene = with_a_message_that_finds_no_space(&gated).await;
        let purged = scene.queues.purge(&queue(), PurgeWhat::Ready).await;
        assert!(
            matches!(purged, Err(QueueError::Engine(EngineError::Full))),
            "{purged:?}"
        );
    });
}
