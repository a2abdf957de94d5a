//! What happens when there is no space: nothing that was refused is half there, and everything goes on once there is.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::engine::{AppendError, AppendRequest, EngineError};
use tailwater_storage::queues::{QueueError, RetryFrom};
use tailwater_storage::stream::Position;
use tailwater_storage::stream::queue::{RunState, Word};
use tailwater_storage::{Backend, Memory};

use super::scene::{LEASE_MS, Scene, acid_store, file_store, payloads, queue, run_names, until};
use crate::support::ask::{json as content_type, name, run};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::gated::appends;

fn is_full(error: &QueueError) -> bool {
    matches!(error, QueueError::Engine(EngineError::Full))
}

#[test]
fn without_space_nothing_moves_and_with_it_everything_goes_on() {
    type Open = fn(&Arc<FaultyDisk>) -> Arc<dyn Backend>;
    let stores: [(&str, Open); 2] = [("file", file_store), ("acid", acid_store)];
    for (kind, open) in stores {
        println!("over {kind}");
        run(async {
            let disk = FaultyDisk::new(0);
            let scene = Scene::over(open(&disk)).await;
            scene.make(json!({})).await;
            for id in ["a", "b", "c"] {
                scene
                    .enqueue(&format!("{{\"payload\":\"{id}\",\"id\":\"{id}\"}}"))
                    .await
                    .expect("enqueued");
            }
            let claimed = scene.claim_one("w").await;
            disk.set_free_bytes(Some(0));
            // Space that is there already is used up first.
            let mut number = 0;
            let refused = loop {
                number += 1;
                match scene.enqueue(&format!("{{\"payload\":\"x{number}\"}}")).await {
                    Ok(_) => assert!(number < 100_000, "the disk is never full"),
                    Err(error) => break error,
                }
            };
            assert!(is_full(&refused), "{refused}");
            let enqueued = scene.get().await.gauges.counters.enqueued;
            assert_eq!(enqueued, 3 + number - 1);
            scene.pass_ms(LEASE_MS);
            disk.set_free_bytes(None);
            scene.pass_ms(LEASE_MS);
            scene.stands("r/a", RunState::Retrying).await;
            assert!(!scene.log(&claimed, 1, "{\"type\":\"log\"}").await);
            let claimed = scene.claim("w", 2).await;
            assert!(payloads(&claimed).contains(&"\"b\""), "{claimed:?}");
            scene.complete(&claimed[0]).await;
        });
    }
}

/// The memory backend refuses what is too long and takes what is shorter: what was decided on something that was
/// refused must not be taken.
#[test]
fn what_was_decided_on_something_refused_is_refused_too() {
    run(async {
        let scene = Scene::over(Arc::new(Memory::new(48 << 10))).await;
        scene.make(json!({ "max_attempts": 1000 })).await;
        scene.rig.create("filler").await.expect("created");
        scene
            .rig
            .append("filler", &"x".repeat(10_000))
            .await
            .expect("appended");
        let mut known = 0;
        let long = "x".repeat(3_000);
        while scene.enqueue(&format!("\"{known}{long}\"")).await.is_ok() {
            known += 1;
        }
        assert!(known > 2);
        while scene.enqueue(&known.to_string()).await.is_ok() {
            known += 1;
        }
        // Some of what a claim changes may still fit, and some may not.
        for _ in 0..5 {
            if let Err(error) = scene.queues.claim(&queue(), "w", 1, 0).await {
                assert!(is_full(&error), "{error}");
            }
            scene.pass_ms(LEASE_MS);
        }
        scene.rig.delete("filler").await;
        // Whatever can still be stored, no job is lost and none is given out twice.
        let mut done = std::collections::BTreeSet::new();
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while done.len() < known {
            assert!(
                std::time::Instant::now() < give_up,
                "{} of {known} are done",
                done.len()
            );
            for claimed in scene.queues.claim(&queue(), "w", 1, 0).await.unwrap_or_default() {
                assert!(!done.contains(&claimed.run), "{} is done twice", claimed.run);
                match scene.settle(&claimed, 1, Word::Complete { result: None }).await {
                    Ok(_) => drop(done.insert(claimed.run)),
                    Err(error) => assert!(is_full(&error), "{error}"),
                }
            }
            scene.pass_ms(LEASE_MS);
            tokio::task::yield_now().await;
        }
    });
}

/// Whoever came next was told that there is no space, though there was for what it asked.
#[test]
fn an_append_that_finds_no_space_is_nobody_elses() {
    run(async {
        let (gated, scene) = Scene::behind_a_gate().await;
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        let claimed = scene.claim_one("w").await;
        gated.refuse(|record| appends(record, "\"long\","));
        let request = AppendRequest {
            body: "\"long\"".into(),
            content_type: Some(content_type()),
            ..AppendRequest::default()
        };
        let refused = scene.rig.engine.append(&queue(), request.clone()).await;
        assert!(
            matches!(refused, Err(AppendError::Engine(EngineError::Full))),
            "{refused:?}"
        );
        scene.complete(&claimed).await;
        let refused = scene.rig.engine.append(&queue(), request).await;
        assert!(refused.is_err());
        scene.enqueue_as("b").await;
    });
}

/// Whoever asked was told that there is no space, though the new run had begun and was done later: asked for again, there
/// were two.
#[test]
fn a_run_that_is_tried_anew_is_there_though_its_message_finds_no_space() {
    run(async {
        let (gated, scene) = Scene::behind_a_gate().await;
        scene.make(json!({})).await;
        scene.enqueue_as("a").await;
        scene.complete(&scene.claim_one("w").await).await;
        gated.refuse(|record| appends(record, r#"{"payload":1,"id":"a.2"},"#));
        let retried = scene.queues.retry(&name("r/a"), RetryFrom::Start).await;
        let retried = retried.expect("it has begun");
        assert_eq!((retried.job, retried.run), (None, name("r/a.2")));
        gated.refuse_none();
        let is_there = || async {
            scene.pass_ms(LEASE_MS);
            scene.get().await.gauges.ready == 1
        };
        until(is_there).await;
        assert_eq!(run_names(&scene.claim("w", 5).await), ["r/a.2"]);
    });
}

/// Messages were looked at by the hundred, and their runs had no space together: so nothing was ever done that would have
/// made some.
#[test]
fn where_there_is_no_space_for_many_jobs_they_come_by_and_by() {
    run(async {
        let scene = Scene::over(Arc::new(Memory::new(300 << 10))).await;
        scene.make(json!({ "run_retention_ms": 1 })).await;
        let job = format!("\"{}\"", "x".repeat(1_000));
        let many = format!("[{}]", vec![job.as_str(); 180].join(","));
        scene.rig.append_json("q", &many).await;
        let mut done = 0;
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while done < 180 {
            assert!(std::time::Instant::now() < give_up, "{done} are done");
            for claimed in scene.queues.claim(&queue(), "w", 1, 0).await.unwrap_or_default() {
                let settled = scene.settle(&claimed, 1, Word::Complete { result: None }).await;
                done += usize::from(settled.is_ok());
            }
            scene.pass_ms(LEASE_MS);
            scene.rig.sweep().await;
            tokio::task::yield_now().await;
        }
    });
}

/// A lease whose end found no space began once more, and what was overdue came first: while there was no space for it nothing
/// else was done.
#[test]
fn jobs_come_though_there_is_no_space_to_give_another_one_up() {
    const LONG_LEASE_MS: u64 = 60_000;
    run(async {
        let scene = Scene::over(Arc::new(Memory::new(120 << 10))).await;
        scene
            .make(json!({ "max_attempts": 1, "lease_ms": LONG_LEASE_MS }))
            .await;
        let long = format!("\"{}\"", "x".repeat(30_000));
        scene.enqueue(&long).await.expect("enqueued");
        let given = scene.claim_one("w").await;
        let is_trimmed = || async {
            scene.pass_ms(1);
            scene.rig.look("q").await.incarnation().view().oldest > Position::ZERO
        };
        until(is_trimmed).await;
        scene.rig.sweep().await;
        for stream in ["filler", "spare"] {
            scene.rig.create(stream).await.expect("created");
        }
        let spare = scene.rig.append("spare", &"x".repeat(6_000)).await;
        spare.expect("there is space");
        while scene.rig.append("filler", &"x".repeat(10_000)).await.is_ok() {}
        // What is left is enough for a job, and not for the letter.
        scene.rig.delete("spare").await;
        scene.rig.sweep().await;
        scene.pass_ms(LONG_LEASE_MS);
        scene.rig.append_json("q", "1").await;
        let is_admitted = || async {
            scene.pass_ms(500);
            scene.get().await.gauges.counters.enqueued == 2
        };
        until(is_admitted).await;
        assert_eq!(scene.get().await.gauges.dead, 0);
        scene.rig.delete("filler").await;
        scene.rig.sweep().await;
        let freed_at = scene.rig.engine.now();
        let is_given_up = || async {
            scene.pass_ms(500);
            scene.get().await.gauges.dead == 1
        };
        until(is_given_up).await;
        let waited_ms = scene.rig.engine.now().millis_since(freed_at);
        assert!(waited_ms < LONG_LEASE_MS / 2, "{waited_ms}");
        scene.stands(given.run.as_str(), RunState::Dead).await;
    });
}
