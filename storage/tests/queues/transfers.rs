//! Queues go along with the streams of an export, and go on elsewhere where they were.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::engine::Existing;
use tailwater_storage::queues::{PurgeWhat, QueueError, RetryFrom, UnfitStream};
use tailwater_storage::stream::queue::{RunState, Word};
use tailwater_storage::{Backend, Memory};

use super::scene::{Scene, acid_store, over_each, payloads, queue, run_names, until};
use crate::support::ask::{name, run};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::transfer::{transfer, transfer_below};

#[test]
fn an_imported_queue_goes_on_where_the_exported_one_was() {
    over_each(|scene| async move {
        scene
            .make(json!({ "max_attempts": 1, "run_retention_ms": 60_000 }))
            .await;
        let later = scene.rig.engine.now().as_millis() + 10_000;
        let messages = format!(
            r#"[{{"payload":1,"id":"dies"}},{{"payload":2,"id":"leased"}},{{"payload":3,"id":"done"}},
                {{"payload":4,"id":"dies"}},{{"payload":5,"id":"late","run_at":{later}}},{{"payload":6,"id":"ready"}}]"#
        );
        scene.rig.append_json("q", &messages).await;
        scene.admitted(5).await;
        let claimed = scene.claim("w", 3).await;
        assert_eq!(run_names(&claimed), ["r/dies", "r/leased", "r/done"]);
        scene.fail(&claimed[0]).await;
        assert!(scene.log(&claimed[1], 1, "{\"type\":\"log\"}").await);
        scene.complete(&claimed[2]).await;
        let retried = scene.queues.retry(&claimed[2].run, RetryFrom::Start).await;
        assert_eq!(retried.expect("tried anew").run, name("r/done.2"));
        scene.admitted(6).await;
        let before = scene.get().await;
        let (letters, _) = scene.queues.dead(&queue(), None, 5).await.expect("there");

        let stores: [Arc<dyn Backend>; 2] = [Arc::new(Memory::new(1 << 30)), acid_store(&FaultyDisk::new(0))];
        for store in stores {
            let other = Scene::over(store).await;
            transfer(&scene.rig.engine, &other.rig.engine, Existing::Refuse).await;
            // The first call for it opens it.
            let after = other.get().await;
            assert_eq!(after.gauges, before.gauges);
            assert_eq!(
                (after.config, after.admitted),
                (before.config.clone(), before.admitted)
            );
            assert_eq!(
                other.queues.dead(&queue(), None, 5).await.expect("there").0,
                letters
            );
            let again = other.enqueue("{\"payload\":2,\"id\":\"leased\"}").await;
            assert!(!again.expect("there").new, "it is known by its id");
            let beat = other.queues.heartbeat(&claimed[1].run, claimed[1].epoch).await;
            beat.expect("the worker still has it");
            let done = other
                .settle(&claimed[1], 2, Word::Complete { result: None })
                .await;
            assert_eq!(done.expect("held").state, RunState::Succeeded);
            let rest = other.claim("w", 5).await;
            assert_eq!(run_names(&rest), ["r/ready", "r/done.2"]);
            assert_eq!(payloads(&rest), ["6", "3"]);
            let redriven = other
                .queues
                .redrive_all(&queue())
                .await
                .expect("redriven")
                .redriven;
            assert_eq!(redriven.len(), 2, "one has a run, and one only its letter");
            other.admitted(8).await;
            assert_eq!(payloads(&other.claim("w", 5).await), ["1", "4"]);
            other.pass_ms(62_000);
            until(|| async { other.state("r/leased").await.is_none() }).await;
            assert_eq!(other.state("r/done").await, None, "it ended before the export");
            assert_eq!(other.state("r/late").await, Some(RunState::Queued));
        }
    });
}

/// Each run had to be led to its queue by itself, with a commit of its own and a row that stays.
#[test]
fn runs_of_an_imported_queue_need_not_be_led_one_by_one() {
    run(async {
        let disks = [1, 2].map(FaultyDisk::new);
        let [made, imported] = [
            Scene::over(acid_store(&disks[0])).await,
            Scene::over(acid_store(&disks[1])).await,
        ];
        made.make(json!({})).await;
        transfer(&made.rig.engine, &imported.rig.engine, Existing::Refuse).await;
        // The first call for it opens it.
        imported.get().await;
        let id = imported.rig.look("q").await.incarnation().id;
        let runs: Vec<_> = (0..64).map(|number| name(&format!("r/{number}"))).collect();
        let before = disks[1].operations();
        let held = imported.rig.engine.hold_beside(&runs, &queue(), id).await;
        held.expect("they lead there");
        assert_eq!(disks[1].operations(), before, "nothing is written for that");
    });
}

/// Its stream could be deleted and trimmed by anybody until somebody asked for it, and the next start did not know of it.
#[test]
fn a_queue_that_came_alone_is_one_at_once_and_after_the_next_start() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        let store: Arc<dyn Backend> = Arc::new(Memory::new(1 << 30));
        let other = Scene::over(Arc::clone(&store)).await;
        transfer_below(&scene.rig.engine, &other.rig.engine, Existing::Refuse, "q").await;
        assert!(other.queues.is_queue(&queue()).await.expect("readable"));
        assert!(!other.queues.is_queue(&name("none")).await.expect("readable"));
        assert_eq!(other.queues.count(), 0);
        other.get().await;
        other.queues.stop();
        let other = other.again_over(store).await;
        assert_eq!(other.queues.count(), 1);
    });
}

/// A purge forgot the letters of a queue that an import had brought, because nobody had asked for that one yet, and a queue
/// could be made of them.
#[test]
fn dead_letters_of_an_imported_queue_stay_before_somebody_asks_for_it() {
    over_each(|scene| async move {
        scene.make(json!({ "dead_letter": "dead" })).await;
        let document = json!({ "dead_letter": "dead" });
        let document = document.as_object().expect("an object");
        scene.queues.put(&name("p"), document).await.expect("made");
        for stream in ["q", "p"] {
            let messages = r#"[{"payload":0,"id":"x"},{"payload":1,"id":"x"}]"#;
            scene.rig.append_json(stream, messages).await;
            let of = name(stream);
            until(|| async { scene.queues.get(&of).await.expect("there").gauges.dead == 1 }).await;
        }
        let stores: [Arc<dyn Backend>; 2] = [Arc::new(Memory::new(1 << 30)), acid_store(&FaultyDisk::new(0))];
        for store in stores {
            let other = Scene::over(store).await;
            transfer(&scene.rig.engine, &other.rig.engine, Existing::Refuse).await;
            let refused = other.queues.put(&name("dead"), &serde_json::Map::new()).await;
            assert!(
                matches!(refused, Err(QueueError::Unfit(UnfitStream::DeadLetters { .. }))),
                "{refused:?}"
            );
            let purged = other.queues.purge(&queue(), PurgeWhat::Dead).await;
            assert_eq!(purged.expect("there"), 1);
            assert_eq!(other.queues.count(), 1, "the other one was not opened");
            let redriven = other.queues.redrive_all(&name("p")).await.expect("there");
            assert_eq!(
                (redriven.redriven.len(), redriven.left.len()),
                (1, 0),
                "{redriven:?}"
            );
        }
    });
}

/// What a queue knows of its jobs changes without a message in its stream: it was taken for the one that was exported, and
/// stayed, while the runs that it had given away were replaced.
#[test]
fn a_queue_that_went_on_is_replaced_by_what_was_exported() {
    over_each(|other| async move {
        let scene = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        scene.enqueue_as("b").await;
        transfer(&scene.rig.engine, &other.rig.engine, Existing::Replace).await;
        let before = other.get().await;
        let claimed = other.claim("w", 1).await;
        assert_eq!(run_names(&claimed), ["r/a"]);
        other.complete(&claimed[0]).await;
        transfer(&scene.rig.engine, &other.rig.engine, Existing::Replace).await;
        // The one that was open has to see first that its stream is gone.
        until(|| async {
            let now = other.queues.get(&queue()).await;
            now.is_ok_and(|now| now.gauges == before.gauges)
        })
        .await;
        assert_eq!(run_names(&other.claim("w", 2).await), ["r/a", "r/b"]);
    });
}

/// Both were served, and where they had runs of one name, the jobs of one were ended by the other.
#[test]
fn of_two_queues_that_name_their_runs_alike_the_one_that_was_there_first_is_served() {
    over_each(|scene| async move {
        let document = json!({ "run_prefix": "r/" });
        let document = document.as_object().expect("an object");
        scene.queues.put(&name("p"), document).await.expect("made");
        scene.rig.append_json("p", r#"{"payload":1,"id":"a"}"#).await;
        until(|| async { scene.queues.get(&name("p")).await.expect("there").gauges.ready == 1 }).await;
        let acid = acid_store(&FaultyDisk::new(0));
        let stores: [Arc<dyn Backend>; 2] = [Arc::new(Memory::new(1 << 30)), acid];
        for store in stores {
            let other = Scene::over(Arc::clone(&store)).await;
            other.make(json!({})).await;
            other.enqueue_as("a").await;
            for prefix in ["p", "__ds/queues/p"] {
                transfer_below(&scene.rig.engine, &other.rig.engine, Existing::Refuse, prefix).await;
            }
            let refused = other.queues.get(&name("p")).await;
            assert!(
                matches!(&refused, Err(QueueError::PrefixTaken { queue: taken }) if *taken == queue()),
                "{refused:?}"
            );
            other.queues.stop();
            let other = other.again_over(store).await;
            assert_eq!(other.queues.count(), 1);
            assert!(other.queues.is_queue(&name("p")).await.expect("readable"));
            assert_eq!(other.get().await.gauges.ready, 1);
            other.queues.delete(&name("p")).await.expect("deleted");
            assert!(!other.queues.is_queue(&name("p")).await.expect("readable"));
            let claimed = other.claim_one("w").await;
            assert_eq!(claimed.run, name("r/a"));
            other.complete(&claimed).await;
        }
    });
}
