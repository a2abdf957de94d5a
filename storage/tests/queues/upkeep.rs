//! What is no longer needed goes, and what may be changed is changed.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::queues::{QueueError, QueueLimits};
use tailwater_storage::stream::NameLimits;
use tailwater_storage::stream::queue::RunState;
use tailwater_storage::{Backend, Memory, Queues};

use super::scene::{LIMITS, Scene, over_each, payloads, queue, until};
use crate::support::ask::{START_MS, name, run};

#[test]
fn the_stream_is_trimmed_as_jobs_are_taken_and_runs_still_say_what_they_were_given() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let later = scene.rig.engine.now().as_millis() + 10_000;
        scene
            .rig
            .append_json("q", &format!("[{{\"payload\":\"late\",\"run_at\":{later}}},2,3]"))
            .await;
        scene.admitted(3).await;
        for claimed in scene.claim("w", 2).await {
            scene.complete(&claimed).await;
        }
        scene.pass_ms(1_000);
        until(|| async {
            let reader = scene.rig.look("q").await;
            let view = reader.incarnation().view();
            view.oldest == view.tail
        })
        .await;
        scene.pass_ms(10_000);
        until(|| async { scene.get().await.gauges.ready == 1 }).await;
        assert_eq!(payloads(&scene.claim("w", 2).await), ["\"late\""]);
    });
}

/// A job whose run's name was allowed once was passed over, and its message trimmed.
#[test]
fn jobs_are_given_out_whose_names_are_longer_than_the_limit_is_now() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.rig.append_json("q", "[1,2]").await;
        scene.admitted(2).await;
        scene.queues.stop();
        let limits = QueueLimits {
            names: NameLimits {
                bytes_max: 4,
                segments_max: 1,
            },
            ..LIMITS
        };
        let again = Queues::start(scene.rig.engine.clone(), limits)
            .await
            .expect("started");
        let claimed = again.claim(&queue(), "w", 5, 0).await.expect("there");
        assert_eq!(payloads(&claimed), ["1", "2"]);
    });
}

#[test]
fn ended_runs_are_deleted_when_their_time_is_over_and_open_ones_are_not() {
    over_each(|scene| async move {
        scene.make(json!({ "run_retention_ms": 60_000 })).await;
        for id in ["a", "b"] {
            scene.enqueue_as(id).await;
        }
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.pass_ms(59_999);
        scene.enqueue_as("c").await;
        assert_eq!(scene.state("r/a").await, Some(RunState::Succeeded));
        scene.pass_ms(2_000);
        until(|| async { scene.state("r/a").await.is_none() }).await;
        assert_eq!(scene.state("r/b").await, Some(RunState::Queued));
        // The id may be used anew.
        let again = scene
            .enqueue("{\"payload\":2,\"id\":\"a\"}")
            .await
            .expect("enqueued");
        assert!(again.new);
    });
}

/// Groups of ended runs were looked at in the order of the clock, and those before the last one never again.
#[test]
fn runs_that_end_after_the_clock_was_set_back_are_deleted_too() {
    const HOUR_MS: u64 = 3_600_000;
    for restarts in [false, true] {
        let backend: Arc<dyn Backend> = Arc::new(Memory::new(1 << 30));
        run(async {
            let mut scene = Scene::over(Arc::clone(&backend)).await;
            scene.make(json!({ "run_retention_ms": 60_000 })).await;
            let end = async |scene: &Scene, id: &str| {
                scene.enqueue_as(id).await;
                let claimed = scene.claim_one("w").await;
                scene.complete(&claimed).await;
            };
            scene.pass_ms(10 * HOUR_MS);
            end(&scene, "ahead").await;
            let is_deleted = async || {
                scene.pass_ms(10_000);
                scene.state("r/ahead").await.is_none()
            };
            until(is_deleted).await;
            scene.rig.clock.set_millis(START_MS);
            end(&scene, "behind").await;
            if restarts {
                scene.queues.stop();
                scene = scene.again_over(Arc::clone(&backend)).await;
            }
            scene.pass_ms(62_000);
            until(|| async { scene.state("r/behind").await.is_none() }).await;
        });
    }
}

/// After a start, groups of ended runs were looked at one by one from the last one on in which a run had been deleted: some
/// hours' worth in a second, so that a queue that had rested for long deleted nothing for as long.
#[test]
fn ended_runs_are_deleted_in_time_though_none_ended_for_very_long() {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    over_each(|scene| async move {
        scene.make(json!({ "run_retention_ms": 60_000 })).await;
        scene.pass_ms(YEAR_MS);
        scene.enqueue_as("a").await;
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.pass_ms(62_000);
        // Each of them is enqueued in a turn of its own.
        for turn in 0..10 {
            scene.pass_ms(1_000);
            scene.enqueue_as(&format!("turn-{turn}")).await;
        }
        assert_eq!(scene.state("r/a").await, None);
    });
}

/// It was deleted when the time of the one before was over.
#[test]
fn a_run_that_has_the_name_of_a_deleted_one_is_kept_for_its_own_time() {
    over_each(|scene| async move {
        scene.make(json!({ "run_retention_ms": 60_000 })).await;
        let end = async |id: &str| {
            scene.enqueue_as(id).await;
            let claimed = scene.claim_one("w").await;
            scene.complete(&claimed).await;
        };
        end("a").await;
        end("b").await;
        scene.pass_ms(40_000);
        scene.rig.delete("r/a").await;
        end("a").await;
        scene.pass_ms(22_000);
        until(|| async { scene.state("r/b").await.is_none() }).await;
        assert_eq!(scene.state("r/a").await, Some(RunState::Succeeded));
        scene.pass_ms(40_000);
        until(|| async { scene.state("r/a").await.is_none() }).await;
    });
}

#[test]
fn a_queue_is_changed_but_for_where_its_runs_and_dead_letters_are() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene
            .rig
            .append_json("q", r#"[{"to":"a","n":1},{"to":"a","n":2}]"#)
            .await;
        scene.admitted(2).await;
        let document = json!({ "run_prefix": "r/", "concurrency_key": "/to", "lease_ms": 2000 });
        assert!(!scene.put(document.clone()).await.expect("changed"));
        let described = scene.get().await;
        assert_eq!(described.config.lease_ms, 2_000);
        let claimed = scene.claim("w", 2).await;
        assert_eq!((claimed.len(), claimed[0].lease_ms), (1, 2_000));
        assert!(!scene.put(document).await.expect("the same"));
        let refused = scene.put(json!({ "run_prefix": "other/" })).await;
        assert!(matches!(
            refused,
            Err(QueueError::Unchangeable { field: "run_prefix" })
        ));
        let refused = scene
            .put(json!({ "run_prefix": "r/", "dead_letter": "elsewhere" }))
            .await;
        assert!(matches!(
            refused,
            Err(QueueError::Unchangeable { field: "dead_letter" })
        ));
    });
}

/// Nobody can delete the stream of a queue over HTTP; but an import may put another one in its place.
#[test]
fn a_queue_whose_stream_is_gone_is_none_any_more_and_may_be_made_anew() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("old").await;
        let claimed = scene.claim_one("w").await;
        scene.rig.delete("q").await;
        scene.rig.create_json("q").await;
        let late = scene.queues.heartbeat(&claimed.run, claimed.epoch).await;
        assert!(
            matches!(late, Err(QueueError::NotFound | QueueError::RunNotFound)),
            "{late:?}"
        );
        until(|| async { !scene.queues.is_queue(&queue()).await.expect("readable") }).await;
        assert!(matches!(
            scene.queues.get(&queue()).await,
            Err(QueueError::NotFound)
        ));
        scene.make(json!({})).await;
        scene.enqueue("{\"payload\":2}").await.expect("enqueued");
        assert_eq!(payloads(&scene.claim("w", 5).await), ["2"]);
    });
}

#[test]
fn two_queues_do_not_name_their_runs_alike_and_there_are_only_so_many() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let put = |stream: String, document: serde_json::Value| {
            let queues = scene.queues.clone();
            async move {
                queues
                    .put(&name(&stream), document.as_object().expect("an object"))
                    .await
            }
        };
        for prefix in ["r/", "r/x/"] {
            let refused = put("p".into(), json!({ "run_prefix": prefix })).await;
            assert!(matches!(refused, Err(QueueError::PrefixTaken { .. })), "{prefix}");
        }
        for number in 1..4 {
            put(format!("q{number}"), json!({})).await.expect("made");
        }
        let refused = put("q4".into(), json!({})).await;
        assert!(matches!(refused, Err(QueueError::TooMany { queues_max: 4 })));
        let (listed, more) = scene.queues.list(Some(&queue()), 2).await;
        let names: Vec<_> = listed.iter().map(|listed| listed.stream.as_str()).collect();
        assert_eq!((names, more), (vec!["q1", "q2"], true));
    });
}
