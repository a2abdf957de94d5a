//! Claims, heartbeats, and the ends of leases.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::Memory;
use tailwater_storage::panics::Task;
use tailwater_storage::queues::QueueError;
use tailwater_storage::stream::queue::{Envelope, JsonText, RunState, Word, WorkerRefusal};

use super::scene::{LEASE_MS, Scene, over_each, payloads, queue, run_names, until};
use crate::support::ask::{name, run, waits};
use crate::support::gated::{Gated, Question};

#[test]
fn jobs_are_given_out_in_order_each_once_and_their_runs_tell_of_it() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene
            .rig
            .append_json("q", "[1,{\"payload\":2,\"id\":\"two\"},3]")
            .await;
        scene.admitted(3).await;
        let first = scene.claim("a", 2).await;
        assert_eq!(payloads(&first), ["1", "2"]);
        assert_eq!(run_names(&first), ["r/0000000000000000", "r/two"]);
        let second = scene.claim("b", 2).await;
        assert_eq!(payloads(&second), ["3"]);
        assert_eq!(scene.claim("c", 1).await, []);
        assert!(scene.log(&first[1], 1, "{\"type\":\"log\",\"line\":\"x\"}").await);
        let result = Some(JsonText::parse("{\"n\": 2}").expect("JSON"));
        let done = scene.settle(&first[1], 2, Word::Complete { result }).await;
        assert_eq!(done.expect("held").state, RunState::Succeeded);
        let events = scene.events("r/two").await;
        assert_eq!(
            scene.types("r/two").await,
            ["run.queued", "run.leased", "log", "run.succeeded"]
        );
        assert_eq!(events[0]["payload"], 2);
        assert_eq!(events[1]["worker"], "a");
        assert_eq!(
            (&events[1]["attempt"], &events[1]["epoch"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(events[3]["result"], json!({ "n": 2 }));
        assert!(scene.rig.look("r/two").await.incarnation().view().closed);
        let gauges = scene.get().await.gauges;
        assert_eq!(
            (gauges.ready, gauges.leased, gauges.counters.succeeded),
            (0, 2, 1)
        );
    });
}

#[test]
fn a_claim_waits_for_a_job_and_those_who_wait_get_them_in_their_order() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let queues = scene.queues.clone();
        let first = tokio::spawn(async move { queues.claim(&queue(), "first", 1, 60_000).await });
        scene.waiting(1).await;
        let queues = scene.queues.clone();
        let second = tokio::spawn(async move { queues.claim(&queue(), "second", 1, 60_000).await });
        scene.waiting(2).await;
        scene.enqueue("{\"payload\":1}").await.expect("enqueued");
        let first = first.await.expect("no panic").expect("a job");
        assert_eq!(payloads(&first), ["1"]);
        scene.rig.append_json("q", "2").await;
        assert_eq!(payloads(&second.await.expect("no panic").expect("a job")), ["2"]);
        let queues = scene.queues.clone();
        let nothing = tokio::spawn(async move { queues.claim(&queue(), "third", 1, 5_000).await });
        scene.waiting(1).await;
        scene.pass_ms(5_000);
        assert_eq!(nothing.await.expect("no panic").expect("an answer"), []);
    });
}

#[test]
fn a_job_for_somebody_who_has_gone_away_is_given_to_the_next_one() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let queues = scene.queues.clone();
        let gone = tokio::spawn(async move { queues.claim(&queue(), "gone", 1, 60_000).await });
        scene.waiting(1).await;
        gone.abort();
        let _ = gone.await;
        scene.enqueue("{\"payload\":1}").await.expect("enqueued");
        let claimed = scene.claim_one("here").await;
        assert_eq!(claimed.payload.as_str(), "1");
    });
}

/// Its answer had been sent and never taken, so that the job had a lease of nobody's.
#[test]
fn a_job_goes_back_if_its_worker_goes_away_when_it_is_leased_already() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let queues = scene.queues.clone();
        let mut gone = Box::pin(async move { queues.claim(&queue(), "gone", 1, 60_000).await });
        assert!(waits(gone.as_mut()).await);
        scene.enqueue("{\"payload\":1}").await.expect("enqueued");
        // Its turn is over, and whoever asked does not look.
        until(|| async { scene.get().await.gauges.leased == 1 }).await;
        drop(gone);
        until(|| async { scene.get().await.gauges.ready == 1 }).await;
        let claimed = scene.claim_one("here").await;
        assert_eq!((claimed.payload.as_str(), claimed.attempt), ("1", 1));
    });
}

/// Every lease that was over by the clock was taken away before anybody looked at who had spoken meanwhile.
#[test]
fn a_worker_that_has_spoken_in_time_keeps_its_job_however_long_a_commit_takes() {
    run(async {
        let (gated, scene) = Scene::behind_a_gate().await;
        scene.make(json!({})).await;
        for id in ["a", "done", "silent"] {
            scene.enqueue_as(id).await;
        }
        assert_eq!(scene.claim("w", 3).await.len(), 3);
        gated.hold();
        let queues = scene.queues.clone();
        let job = Envelope::of_payload(JsonText::null());
        let long = tokio::spawn(async move { queues.enqueue(&queue(), job).await });
        until(|| async { gated.is_at_gate(0) }).await;
        scene.rig.clock.advance_millis(LEASE_MS - 1);
        let (run_a, run_done) = (name("r/a"), name("r/done"));
        let mut beat = Box::pin(scene.queues.heartbeat(&run_a, 1));
        let word = Word::Complete { result: None };
        let mut done = Box::pin(scene.queues.settle_lease(&run_done, (1, 1), word));
        assert!(waits(beat.as_mut()).await && waits(done.as_mut()).await);
        scene.rig.clock.advance_millis(2);
        gated.open();
        beat.await.expect("it has spoken in time");
        assert_eq!(done.await.expect("so has this one").state, RunState::Succeeded);
        long.await.expect("no panic").expect("enqueued");
        scene.stands("r/silent", RunState::Retrying).await;
        assert_eq!(scene.types("r/a").await, ["run.queued", "run.leased"]);
    });
}

#[test]
fn ten_thousand_workers_wait_and_each_is_given_a_job() {
    run(async {
        let scene = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        scene.make(json!({})).await;
        let mut claims = tokio::task::JoinSet::new();
        for _ in 0..10_000 {
            let queues = scene.queues.clone();
            claims.spawn(async move { queues.claim(&queue(), "w", 1, 60_000).await });
        }
        scene.waiting(10_000).await;
        let jobs: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
        scene.rig.append_json("q", &format!("[{}]", jobs.join(","))).await;
        let mut given = std::collections::BTreeSet::new();
        while let Some(claimed) = claims.join_next().await {
            let claimed = claimed.expect("no panic").expect("a job");
            assert_eq!(claimed.len(), 1);
            assert!(given.insert(claimed[0].job), "it was given out twice");
        }
        assert_eq!(given.len(), 10_000);
        assert_eq!(scene.get().await.gauges.leased, 10_000);
    });
}

#[test]
fn a_claim_is_given_no_more_bytes_than_fit_and_one_job_at_the_least() {
    over_each(|scene| async move {
        scene.make(json!({ "max_attempts": 1_000 })).await;
        let long = "x".repeat(2 << 20);
        for number in 0..4 {
            scene.rig.append_json("q", &format!("\"{number}{long}\"")).await;
        }
        scene.admitted(4).await;
        let claimed = scene.claim("w", 50).await;
        assert_eq!(claimed.len(), 2, "4 MiB are reached with the second one");
        let rest = scene.claim("w", 50).await;
        assert_eq!(rest.len(), 2);
        // Jobs that have keys count the same.
        for claimed in claimed.iter().chain(&rest) {
            scene.settle(claimed, 1, Word::Release).await.expect("held");
        }
        let again = scene.claim("w", 50).await;
        assert!(
            again
                .iter()
                .all(|claimed| claimed.payload.as_str().len() > 2 << 20)
        );
        assert_eq!(again.len(), 4, "so many are leased between two looks");
        scene.enqueue("{\"payload\":1}").await.expect("enqueued");
        assert_eq!(payloads(&scene.claim("w", 50).await), ["1"]);
    });
}

#[test]
fn heartbeats_keep_a_lease_and_a_silent_worker_is_fenced_off() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("x").await;
        let claimed = scene.claim_one("slow").await;
        for _ in 0..3 {
            scene.pass_ms(LEASE_MS - 1);
            let beat = scene
                .queues
                .heartbeat(&claimed.run, claimed.epoch)
                .await
                .expect("held");
            assert_eq!((beat.lease_ms, beat.cancel), (LEASE_MS, false));
        }
        scene.pass_ms(LEASE_MS);
        scene.stands("r/x", RunState::Retrying).await;
        let fenced = scene.queues.heartbeat(&claimed.run, claimed.epoch).await;
        assert!(matches!(
            fenced,
            Err(QueueError::Worker(WorkerRefusal::Fenced { epoch: 1, current: 2 }))
        ));
        assert!(!scene.log(&claimed, 1, "{\"type\":\"log\"}").await, "a zombie");
        let late = scene.settle(&claimed, 1, Word::Complete { result: None }).await;
        assert!(matches!(
            late,
            Err(QueueError::Worker(WorkerRefusal::Fenced { .. }))
        ));
        assert_eq!(scene.claim("other", 1).await, [], "its time has not come");
        scene.pass_ms(100);
        until(|| async { scene.get().await.gauges.ready == 1 }).await;
        let again = scene.claim_one("other").await;
        assert_eq!((again.attempt, again.epoch), (2, 3));
        assert_eq!(again.payload.as_str(), "1");
        scene.complete(&again).await;
        assert_eq!(
            scene.types("r/x").await,
            [
                "run.queued",
                "run.leased",
                "run.lease_lost",
                "run.leased",
                "run.succeeded"
            ]
        );
    });
}

#[test]
fn the_end_counts_only_with_all_events_before_it() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("x").await;
        let claimed = scene.claim_one("w").await;
        assert!(scene.log(&claimed, 1, "{\"type\":\"log\"}").await);
        for received in [1, 3] {
            let refused = scene
                .settle(&claimed, received, Word::Complete { result: None })
                .await;
            let Err(QueueError::Seq { expected, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(expected, 2);
        }
        let done = || scene.settle(&claimed, 2, Word::Complete { result: None });
        assert_eq!(done().await.expect("held").state, RunState::Succeeded);
        assert_eq!(done().await.expect("as before").state, RunState::Succeeded);
        let other = scene.settle(&claimed, 3, Word::Complete { result: None }).await;
        assert!(matches!(
            other,
            Err(QueueError::Worker(WorkerRefusal::Ended {
                state: RunState::Succeeded
            }))
        ));
        assert_eq!(scene.get().await.gauges.counters.succeeded, 1);
    });
}

#[test]
fn a_failed_job_is_tried_again_and_given_up_when_its_attempts_are_used_up() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene
            .enqueue("{\"payload\":{\"n\":1},\"id\":\"x\"}")
            .await
            .expect("enqueued");
        let claimed = scene.claim_one("w").await;
        let failed = scene.fail(&claimed).await;
        assert_eq!(failed.state, RunState::Retrying);
        assert_eq!(scene.fail(&claimed).await, failed, "the same call once more");
        scene.pass_ms(100);
        until(|| async { scene.get().await.gauges.ready == 1 }).await;
        let claimed = scene.claim_one("w").await;
        assert_eq!(claimed.attempt, 2);
        assert_eq!(scene.fail(&claimed).await.state, RunState::Dead);
        assert_eq!(
            scene.fail(&claimed).await.state,
            RunState::Dead,
            "the same call once more"
        );
        let dead = scene.events("dead/q").await;
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0]["payload"], json!({ "n": 1 }));
        assert_eq!(
            (&dead[0]["run"], &dead[0]["reason"]),
            (&json!("r/x"), &json!("attempts_used_up"))
        );
        assert_eq!(
            (&dead[0]["error"], &dead[0]["attempt"]),
            (&json!("no"), &json!(2))
        );
        let (listed, more) = scene.queues.dead(&queue(), None, 10).await.expect("there");
        assert!(!more);
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].run, Some(name("r/x")));
        assert_eq!(scene.get().await.gauges.dead, 1);
    });
}

#[test]
fn a_released_job_is_ready_at_once_and_the_attempt_does_not_count() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("x").await;
        for epoch in [1, 3, 5] {
            let claimed = scene.claim_one("w").await;
            assert_eq!((claimed.attempt, claimed.epoch), (1, epoch));
            let released = scene.settle(&claimed, 1, Word::Release).await.expect("held");
            assert_eq!(released.state, RunState::Queued);
        }
    });
}

#[test]
fn concurrency_is_kept_for_all_jobs_and_for_each_value() {
    over_each(|scene| async move {
        scene
            .make(json!({ "concurrency": 3, "concurrency_key": "/to" }))
            .await;
        scene
            .rig
            .append_json(
                "q",
                r#"[{"to":"a","n":1},{"to":"a","n":2},{"to":"b","n":3},{"n":4},{"n":5}]"#,
            )
            .await;
        scene.admitted(5).await;
        let first = scene.claim("w", 10).await;
        assert_eq!(
            payloads(&first),
            [r#"{"to":"a","n":1}"#, r#"{"to":"b","n":3}"#, r#"{"n":4}"#]
        );
        let gauges = scene.get().await.gauges;
        assert_eq!((gauges.leased, gauges.held, gauges.ready), (3, 1, 1));
        scene.complete(&first[1]).await;
        assert_eq!(payloads(&scene.claim("w", 10).await), [r#"{"n":5}"#]);
        scene.complete(&first[0]).await;
        assert_eq!(payloads(&scene.claim("w", 10).await), [r#"{"to":"a","n":2}"#]);
    });
}

#[test]
fn a_scheduled_job_waits_without_blocking_those_behind_it() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let run_at = scene.rig.engine.now().as_millis() + 10_000;
        let late = format!("[{{\"payload\":\"late\",\"run_at\":{run_at}}},\"soon\"]");
        scene.rig.append_json("q", &late).await;
        scene.admitted(2).await;
        assert_eq!(payloads(&scene.claim("w", 5).await), ["\"soon\""]);
        let gauges = scene.get().await.gauges;
        assert_eq!((gauges.scheduled, gauges.ready), (1, 0));
        scene.pass_ms(10_000);
        until(|| async { scene.get().await.gauges.ready == 1 }).await;
        assert_eq!(payloads(&scene.claim("w", 5).await), ["\"late\""]);
    });
}

#[test]
fn a_worker_that_goes_on_is_told_of_its_last_checkpoint() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("x").await;
        let claimed = scene.claim_one("w").await;
        assert_eq!(claimed.resume_from, None);
        for (seq, event) in [(1, "checkpoint"), (2, "log"), (3, "checkpoint"), (4, "log")] {
            let event = format!("{{\"type\":\"{event}\",\"seq\":{seq}}}");
            assert!(scene.log(&claimed, seq, &event).await);
        }
        scene.settle(&claimed, 5, Word::Release).await.expect("held");
        let again = scene.claim_one("w").await;
        let from = again.resume_from.expect("a checkpoint");
        let text = scene.rig.text("r/x").await;
        let rest = &text[usize::try_from(from.position().get()).expect("short")..];
        assert!(rest.starts_with("{\"type\":\"checkpoint\",\"seq\":3}"), "{rest}");
    });
}

/// All of them were ended in one turn, and nobody was answered before that was over.
#[test]
fn a_worker_is_heard_while_very_many_leases_end() {
    run(async {
        let scene = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        scene.make(json!({})).await;
        let many = format!("[{}]", vec!["1"; 1_100].join(","));
        scene.rig.append_json("q", &many).await;
        scene.admitted(1_100).await;
        let claimed = scene.claim("w", 1_100).await;
        let last = claimed.last().expect("all of them");
        scene.pass_ms(LEASE_MS);
        // It comes late, and is heard before it is its turn to be ended.
        let beat = scene.queues.heartbeat(&last.run, last.epoch).await;
        beat.expect("nobody has taken it away yet");
        until(|| async { scene.get().await.gauges.counters.leases_lost == 1_099 }).await;
    });
}

/// The queue stood still until the next start, and whoever claimed waited for an answer that nobody gave.
#[test]
fn a_queue_whose_turn_panics_goes_on_with_what_is_stored() {
    run(async {
        let backend = Gated::inline(1 << 20);
        let scene = Scene::over(Arc::<Gated>::clone(&backend)).await;
        scene.make(json!({})).await;
        backend.panic_at(Question::Read);
        scene.rig.append_json("q", "[{\"payload\":1}]").await;
        let panics = &scene.rig.engine.stats().panics;
        until(|| async { panics.of(Task::Queue) == 1 }).await;
        assert!(backend.has_panicked());
        until(|| async {
            scene.rig.clock.advance_millis(100);
            scene.queues.tick();
            payloads(&scene.claim("w", 1).await) == ["1"]
        })
        .await;
    });
}
