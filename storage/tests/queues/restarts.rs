//! What an orderly end and crashes leave: no job is lost, none is done twice behind its worker's back, and each run has one
//! end.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tailwater_storage::engine::{AppendRequest, EngineError};
use tailwater_storage::queues::RetryFrom;
use tailwater_storage::stream::queue::{RunState, Word};
use tailwater_storage::stream::{ContentKind, EncodedBody, ForkRequest, Position, StreamKind};
use tailwater_storage::{Backend, Memory};

use super::scene::{LEASE_MS, Scene, acid_store, file_store, payloads, queue, run_names, until};
use crate::support::ask::{json as json_type, name, producer, run};
use crate::support::faulty_disk::FaultyDisk;

/// A kind of store, by its name in failures.
type Store = (&'static str, fn(&Arc<FaultyDisk>) -> Arc<dyn Backend>);

const STORES: [Store; 2] = [("file", file_store), ("acid", acid_store)];

#[test]
fn everything_goes_on_where_it_was() {
    for (kind, open) in STORES {
        println!("over {kind}");
        run(async {
            let disk = FaultyDisk::new(0);
            let scene = Scene::over(open(&disk)).await;
            scene
                .make(json!({ "max_attempts": 1, "concurrency_key": "/to" }))
                .await;
            let later = scene.rig.engine.now().as_millis() + 10_000;
            scene
                .rig
                .append_json(
                    "q",
                    &format!(
                        r#"[{{"payload":{{"to":"a"}},"id":"dies"}},{{"payload":1,"id":"leased"}},
                            {{"payload":2,"id":"late","run_at":{later}}},{{"payload":{{"to":"a"}},"id":"held"}},3,4]"#
                    ),
                )
                .await;
            scene.admitted(6).await;
            let claimed = scene.claim("w", 3).await;
            assert_eq!(run_names(&claimed)[..2], ["r/dies", "r/leased"]);
            let held = scene.get().await.gauges;
            assert_eq!((held.held, held.scheduled, held.leased, held.ready), (1, 1, 3, 1));
            scene.fail(&claimed[0]).await;
            scene.complete(&claimed[2]).await;
            scene.pass_ms(LEASE_MS - 1);
            let before = scene.get().await.gauges;
            scene.queues.stop();

            let scene = scene.again_over(open(&disk.crash_machine())).await;
            let after = scene.get().await.gauges;
            assert_eq!(after.counters, before.counters);
            assert_eq!(
                (after.ready, after.leased, after.scheduled, after.dead),
                (2, 1, 1, 1)
            );
            // Its lease has its full time again.
            scene.pass_ms(LEASE_MS - 1);
            scene
                .queues
                .heartbeat(&claimed[1].run, claimed[1].epoch)
                .await
                .expect("held");
            assert!(scene.log(&claimed[1], 1, "{\"type\":\"log\"}").await);
            let done = scene
                .settle(&claimed[1], 2, Word::Complete { result: None })
                .await;
            assert_eq!(done.expect("held").state, RunState::Succeeded);
            assert_eq!(payloads(&scene.claim("w", 5).await), ["{\"to\":\"a\"}", "4"]);
            scene.pass_ms(10_000);
            until(|| async { scene.get().await.gauges.ready == 1 }).await;
            assert_eq!(payloads(&scene.claim("w", 5).await), ["2"]);
            let (dead, _) = scene.queues.dead(&queue(), None, 5).await.expect("there");
            assert_eq!(dead[0].run, Some(name("r/dies")));
            let redriven = scene.queues.redrive(&queue(), dead[0].job).await;
            assert_eq!(redriven.expect("redriven").run, name("r/dies.2"));
        });
    }
}

/// The first of the two records by which a run is tried anew, as the format has it: the second one was lost in a crash.
async fn begin_retry(scene: &Scene, number: u8) {
    let engine = &scene.rig.engine;
    let source = scene.rig.look("r/x").await;
    let records = source
        .records(Position::ZERO, &source.incarnation().view(), 1)
        .await
        .expect("readable");
    let request = ForkRequest {
        source: name("r/x"),
        offset: Some(source.incarnation().token(records[0].end)),
        sub_offset: 0,
    };
    let origin = engine.origin_of_fork(request).await.expect("a fork");
    let mut held = engine.hold(&[queue()]).await.expect("there");
    let id = scene.rig.look("q").await.incarnation().id;
    held.extend(
        engine
            .hold_beside(&[name("r/x.2")], &queue(), id)
            .await
            .expect("free"),
    );
    let ((), settling) = engine
        .together(&held, |draft| {
            draft.create(1, StreamKind::Run, &origin).expect("free");
            let event = "{\"type\":\"run.queued\",\"payload\":7}";
            let body = EncodedBody::new(ContentKind::Json, &event.into());
            let queued = producer("lease", 0, 0);
            draft.append(1, body, Some(queued), false).expect("open");
            draft.control(1, "run".into(), Some(b"\x01\x00\x00\x01q\x00".as_slice().into()));
            let awaited = Some(vec![1, number].into());
            draft.control(0, "queue/retry/r/x.2".into(), awaited);
            Ok::<_, EngineError>(())
        })
        .expect("drafted");
    assert_eq!(
        settling.settled().await,
        tailwater_storage::engine::Settled::Durable
    );
}

#[test]
fn the_message_of_a_run_that_is_tried_anew_comes_once_though_a_crash_was_in_between() {
    for was_sent in [false, true] {
        run(async {
            let backend: Arc<dyn Backend> = Arc::new(Memory::new(1 << 30));
            let scene = Scene::over(Arc::clone(&backend)).await;
            scene.make(json!({})).await;
            scene
                .enqueue("{\"payload\":7,\"id\":\"x\"}")
                .await
                .expect("enqueued");
            let claimed = scene.claim_one("w").await;
            scene.complete(&claimed).await;
            scene.queues.stop();
            begin_retry(&scene, 0).await;
            if was_sent {
                let request = AppendRequest {
                    producer: Some(producer("__ds/queues/retry", 0, 0)),
                    body: "{\"payload\":7,\"id\":\"x.2\"}".into(),
                    content_type: Some(json_type()),
                    ..AppendRequest::default()
                };
                scene
                    .rig
                    .engine
                    .append(&queue(), request)
                    .await
                    .expect("appended");
            }
            for _ in 0..2 {
                let scene = scene.again_over(Arc::clone(&backend)).await;
                scene.admitted(2).await;
                let messages = scene.rig.look("q").await.incarnation().view().messages;
                assert_eq!(messages, 2, "it came twice");
                scene.queues.stop();
            }
            let scene = scene.again_over(Arc::clone(&backend)).await;
            let again = scene.claim_one("w").await;
            assert_eq!((again.run.as_str(), again.payload.as_str()), ("r/x.2", "7"));
            scene.complete(&again).await;
        });
    }
}

/// Messages were numbered without gaps: once a run was called off before its message was sent, for want of space, no later one
/// was taken in, and the queue stood still.
#[test]
fn a_message_that_was_never_sent_keeps_no_later_one_from_coming() {
    run(async {
        let backend: Arc<dyn Backend> = Arc::new(Memory::new(1 << 30));
        let scene = Scene::over(Arc::clone(&backend)).await;
        scene.make(json!({})).await;
        scene
            .enqueue("{\"payload\":7,\"id\":\"x\"}")
            .await
            .expect("enqueued");
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.queues.stop();
        begin_retry(&scene, 3).await;
        let scene = scene.again_over(backend).await;
        scene.admitted(2).await;
        let again = scene.claim_one("w").await;
        assert_eq!(again.run.as_str(), "r/x.2");
        scene.complete(&again).await;
        let retried = scene.queues.retry(&again.run, RetryFrom::Start).await;
        assert_eq!(retried.expect("tried anew").run, name("r/x.2.2"));
    });
}

/// What a worker was told before the disk failed.
#[derive(Default)]
struct Told {
    enqueued: usize,
    /// By run, the states that it was told of.
    ended: BTreeMap<String, RunState>,
}

/// Enqueues, claims, fails, completes, tries anew and trims, until the disk fails or all is done.
async fn work(scene: &Scene, told: &mut Told) -> Option<()> {
    let made = scene.put(json!({
        "lease_ms": LEASE_MS, "max_attempts": 1, "run_prefix": "r/", "run_retention_ms": 100_000_000,
        "backoff": { "base_ms": 100, "cap_ms": 1000, "jitter": 0 },
    }));
    made.await.ok()?;
    for number in 0..6 {
        scene
            .enqueue(&format!("{{\"payload\":{number},\"id\":\"n{number}\"}}"))
            .await
            .ok()?;
        told.enqueued += 1;
    }
    for _ in 0..3 {
        let claimed = scene.queues.claim(&queue(), "w", 2, 0).await.ok()?;
        for (nth, claimed) in claimed.iter().enumerate() {
            let word = if nth == 0 {
                Word::Complete { result: None }
            } else {
                Word::Fail {
                    error: tailwater_storage::stream::queue::JsonText::null(),
                    retry: true,
                    retry_after_ms: None,
                }
            };
            let settled = scene.settle(claimed, 1, word).await.ok()?;
            told.ended.insert(claimed.run.to_string(), settled.state);
        }
        scene.pass_ms(1_000);
    }
    scene.queues.redrive_all(&queue()).await.ok()?;
    Some(())
}

/// After a crash at any operation of the disk: what was told holds, and all that is open can be done.
async fn judge(scene: &Scene, told: &Told) {
    let Ok(described) = scene.queues.get(&queue()).await else {
        assert_eq!(told.enqueued, 0, "the queue is lost");
        return;
    };
    assert!(
        described.gauges.counters.enqueued >= told.enqueued as u64,
        "a job is lost"
    );
    for (run, state) in &told.ended {
        assert_eq!(scene.state(run).await, Some(*state), "{run}");
    }
    // Leases of before end, and everything that is open ends.
    until(|| async {
        scene.pass_ms(LEASE_MS);
        for claimed in scene.claim("after", 10).await {
            let _ = scene.settle(&claimed, 1, Word::Complete { result: None }).await;
        }
        let gauges = scene.get().await.gauges;
        gauges.ready + gauges.leased + gauges.retrying + gauges.scheduled == 0
    })
    .await;
    for number in 0..6 {
        for run in [format!("r/n{number}"), format!("r/n{number}.2")] {
            let Some(state) = scene.state(&run).await else {
                assert!(run.ends_with(".2") || number >= told.enqueued, "{run} is lost");
                continue;
            };
            assert!(state.has_ended(), "{run} is open for ever");
            let types = scene.types(&run).await;
            let ends = ["run.succeeded", "run.dead", "run.cancelled"];
            let count = types.iter().filter(|kind| ends.contains(&kind.as_str())).count();
            assert_eq!(count, 1, "{run} has {types:?}");
        }
    }
}

#[test]
fn whatever_a_crash_leaves_nothing_that_was_told_is_taken_back_and_everything_ends_once() {
    for (kind, open) in STORES {
        // How many operations a whole life has depends on how commits fall together, so a few more are tried.
        let whole = FaultyDisk::new(0);
        let store = open(&whole);
        let before = whole.operations();
        run(async {
            let scene = Scene::over(store).await;
            work(&scene, &mut Told::default()).await.expect("nothing fails");
            scene.queues.stop();
        });
        let operations = whole.operations();
        let step = ((operations - before) / 60).max(1) as usize;
        for operation in (before..operations + 4).step_by(step) {
            println!("over {kind}, cut at operation {operation} of {operations}");
            run(async {
                let disk = FaultyDisk::new(0);
                let mut told = Told::default();
                let scene = Scene::over(open(&disk)).await;
                // From there on nothing reaches the disk.
                disk.cut_at(operation);
                let _ = work(&scene, &mut told).await;
                scene.queues.stop();
                let scene = scene.again_over(open(&disk.crash_machine())).await;
                judge(&scene, &told).await;
            });
        }
    }
}
