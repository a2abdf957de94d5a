//! How runs end that no worker ends, how they are tried anew, and how a queue ends.

use serde_json::json;
use tailwater_storage::engine::AppendRequest;
use tailwater_storage::queues::{PurgeWhat, QueueError, RetryFrom};
use tailwater_storage::stream::queue::{RunState, Word, WorkerRefusal};

use super::scene::{LEASE_MS, Scene, over_each, payloads, queue, run_names, until};
use crate::support::ask::{json as json_type, name, run};

#[test]
fn a_waiting_job_is_cancelled_at_once_and_a_leased_one_by_its_worker() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        for id in ["a", "b", "c", "d"] {
            scene.enqueue_as(id).await;
        }
        let queues = scene.queues.clone();
        let cancel = move |run: &'static str| {
            let queues = queues.clone();
            async move { queues.cancel(&name(run), Some("why".into())).await }
        };
        assert_eq!(cancel("r/b").await.expect("there").state, RunState::Cancelled);
        assert_eq!(cancel("r/a").await.expect("there").state, RunState::Cancelled);
        assert_eq!(scene.events("r/b").await[1]["reason"], "why");
        let again = cancel("r/b").await;
        assert!(matches!(
            again,
            Err(QueueError::Worker(WorkerRefusal::Ended {
                state: RunState::Cancelled
            }))
        ));
        let claimed = scene.claim("w", 5).await;
        assert_eq!(run_names(&claimed), ["r/c", "r/d"]);
        for run in ["r/c", "r/d"] {
            assert_eq!(cancel(run).await.expect("there").state, RunState::Leased);
        }
        let beat = scene
            .queues
            .heartbeat(&claimed[0].run, claimed[0].epoch)
            .await
            .expect("held");
        assert!(beat.cancel);
        let released = scene.settle(&claimed[0], 1, Word::Release).await.expect("held");
        assert_eq!(released.state, RunState::Cancelled);
        scene.complete(&claimed[1]).await;
    });
}

#[test]
fn a_worker_that_is_told_to_stop_and_is_silent_ends_its_run() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("x").await;
        let claimed = scene.claim_one("w").await;
        scene.queues.cancel(&claimed.run, None).await.expect("there");
        scene.pass_ms(LEASE_MS);
        scene.stands("r/x", RunState::Cancelled).await;
        assert!(!scene.log(&claimed, 1, "{\"type\":\"log\"}").await);
        assert_eq!(
            scene.types("r/x").await,
            ["run.queued", "run.leased", "run.cancelled"]
        );
    });
}

#[test]
fn jobs_that_nobody_begins_expire_and_runs_that_take_too_long_time_out() {
    over_each(|scene| async move {
        scene
            .make(json!({ "start_ttl_ms": 500, "run_timeout_ms": 1500 }))
            .await;
        scene.enqueue_as("slow").await;
        let claimed = scene.claim_one("w").await;
        for id in ["late", "later"] {
            scene.enqueue_as(id).await;
        }
        scene.pass_ms(500);
        scene.stands("r/late", RunState::Expired).await;
        scene.stands("r/later", RunState::Expired).await;
        scene.queues.heartbeat(&claimed.run, 1).await.expect("held");
        scene.pass_ms(999);
        scene.queues.heartbeat(&claimed.run, 1).await.expect("held");
        scene.pass_ms(1);
        scene.stands("r/slow", RunState::TimedOut).await;
        let beat = scene.queues.heartbeat(&claimed.run, 1).await;
        assert!(matches!(
            beat,
            Err(QueueError::Worker(WorkerRefusal::Ended {
                state: RunState::TimedOut
            }))
        ));
        assert_eq!(scene.claim("w", 5).await, []);
        assert_eq!(scene.get().await.gauges.oldest_age_ms, 0);
    });
}

/// Messages that were there before the queue expired at once, and so did a job whose time came before it was looked at.
#[test]
fn a_job_expires_so_long_after_it_could_have_been_begun() {
    const TTL_MS: u64 = 500;
    over_each(|scene| async move {
        scene.rig.create_json("q").await;
        let at = |after_ms: u64| scene.rig.engine.now().as_millis() + after_ms;
        let (before, later) = (at(5_000), at(11_000));
        let body = format!(
            r#"[{{"payload":1,"id":"old"}},{{"payload":1,"id":"due","run_at":{before}}},{{"payload":1,"id":"late","run_at":{later}}}]"#
        );
        scene.rig.append_json("q", &body).await;
        scene.pass_ms(10_000);
        scene.make(json!({ "start_ttl_ms": TTL_MS })).await;
        scene.admitted(3).await;
        scene.queues.pause(&queue(), true).await.expect("there");
        for (waits_ms, ended) in [(TTL_MS - 1, 0), (1, 2), (1_000 - 1, 2), (1, 3)] {
            scene.pass_ms(waits_ms);
            // It is answered in a turn in which what is overdue has come first.
            assert_eq!(scene.claim("w", 5).await, []);
            let gauges = scene.get().await.gauges;
            assert_eq!(gauges.counters.expired, ended);
            assert_eq!(gauges.ready + gauges.scheduled, 3 - ended);
        }
        scene.stands("r/late", RunState::Expired).await;
    });
}

/// A job that was enqueued a day before its time had waited for a day as soon as that came, and one that was tried again
/// since it was enqueued.
#[test]
fn the_oldest_job_has_waited_since_it_could_be_given_to_a_worker() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let age = async || scene.get().await.gauges.oldest_age_ms;
        let day_ms = 86_400_000;
        let at = scene.rig.engine.now().as_millis() + day_ms;
        let late = format!(r#"{{"payload":1,"run_at":{at}}}"#);
        scene.enqueue(&late).await.expect("enqueued");
        scene.pass_ms(day_ms + 50);
        assert_eq!(age().await, 50);
        let claimed = scene.claim_one("w").await;
        scene.pass_ms(500);
        scene.fail(&claimed).await;
        scene.pass_ms(100 + 7);
        assert_eq!(age().await, 7);
        scene.enqueue("2").await.expect("enqueued");
        scene.pass_ms(3);
        assert_eq!(age().await, 10);
    });
}

#[test]
fn a_job_is_given_up_when_its_workers_are_silent() {
    over_each(|scene| async move {
        scene.make(json!({ "max_attempts": 5 })).await;
        scene
            .enqueue("{\"payload\":1,\"id\":\"x\",\"max_attempts\":1}")
            .await
            .expect("enqueued");
        scene.claim_one("w").await;
        scene.pass_ms(LEASE_MS);
        scene.stands("r/x", RunState::Dead).await;
        until(|| async { !scene.events("dead/q").await.is_empty() }).await;
        let dead = scene.events("dead/q").await;
        assert_eq!(
            (&dead[0]["reason"], &dead[0]["payload"]),
            (&json!("lease_lost"), &json!(1))
        );
    });
}

#[test]
fn a_paused_queue_gives_nothing_out_and_goes_on_when_it_is_resumed() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue("{\"payload\":1}").await.expect("enqueued");
        scene.queues.pause(&queue(), true).await.expect("there");
        assert_eq!(scene.claim("w", 1).await, []);
        let queues = scene.queues.clone();
        let waiting = tokio::spawn(async move { queues.claim(&queue(), "w", 1, 60_000).await });
        scene.waiting(1).await;
        scene.queues.pause(&queue(), false).await.expect("there");
        assert_eq!(payloads(&waiting.await.expect("no panic").expect("a job")), ["1"]);
    });
}

#[test]
fn a_purge_calls_off_what_it_says() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let later = scene.rig.engine.now().as_millis() + 60_000;
        scene.enqueue_as("held").await;
        let claimed = scene.claim_one("w").await;
        scene
            .enqueue(&format!("{{\"payload\":1,\"id\":\"later\",\"run_at\":{later}}}"))
            .await
            .expect("enqueued");
        let messages: Vec<_> = (0..600).map(|number| number.to_string()).collect();
        scene
            .rig
            .append_json("q", &format!("[{}]", messages.join(",")))
            .await;
        let cancelled = scene.queues.purge(&queue(), PurgeWhat::Ready).await;
        assert_eq!(cancelled.expect("there"), 600);
        let gauges = scene.get().await.gauges;
        assert_eq!((gauges.ready, gauges.scheduled, gauges.leased), (0, 1, 1));
        let cancelled = scene.queues.purge(&queue(), PurgeWhat::All).await;
        assert_eq!(cancelled.expect("there"), 2, "one is told to its worker");
        assert_eq!(scene.state("r/later").await, Some(RunState::Cancelled));
        assert!(
            scene
                .queues
                .heartbeat(&claimed.run, 1)
                .await
                .expect("held")
                .cancel
        );
    });
}

/// It read on through those that had come since, for as long as any came, and kept all that it had read.
#[test]
fn a_purge_reads_no_jobs_that_have_come_since() {
    const LONG: usize = 100 << 10;
    const COUNT: usize = 30;
    run(async {
        let (gated, scene) = Scene::behind_a_gate().await;
        scene.make(json!({})).await;
        // More than are called off in one record.
        let messages: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        scene
            .rig
            .append_json("q", &format!("[{}]", messages.join(",")))
            .await;
        scene.admitted(300).await;
        gated.hold();
        let queues = scene.queues.clone();
        let purge = tokio::spawn(async move { queues.purge(&queue(), PurgeWhat::Ready).await });
        until(|| async { gated.is_at_gate(0) }).await;
        // What is meant is settled. These come between its first record and its second.
        let long = format!("\"{}\"", "x".repeat(LONG));
        let appends = (0..COUNT).map(|_| {
            let (engine, body) = (scene.rig.engine.clone(), long.clone());
            tokio::spawn(async move {
                let request = AppendRequest {
                    body: body.into(),
                    content_type: Some(json_type()),
                    ..AppendRequest::default()
                };
                engine.append(&queue(), request).await
            })
        });
        let appends: Vec<_> = appends.collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gated.take_bytes_read();
        gated.open();
        for append in appends {
            append.await.expect("no panic").expect("appended");
        }
        assert_eq!(purge.await.expect("no panic").expect("there"), 300);
        scene.admitted(300 + COUNT as u64).await;
        let read = gated.take_bytes_read();
        assert!(
            read < COUNT * LONG * 4 / 3,
            "{read} bytes, though each is looked at once"
        );
    });
}

#[test]
fn an_ended_run_is_tried_anew_from_where_it_is_asked() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene
            .enqueue("{\"payload\":7,\"id\":\"x\"}")
            .await
            .expect("enqueued");
        let claimed = scene.claim_one("w").await;
        let open = scene.queues.retry(&claimed.run, RetryFrom::Start).await;
        assert!(matches!(
            open,
            Err(QueueError::NotEnded {
                state: RunState::Leased
            })
        ));
        assert!(scene.log(&claimed, 1, "{\"type\":\"checkpoint\",\"at\":1}").await);
        assert!(scene.log(&claimed, 2, "{\"type\":\"log\"}").await);
        let done = scene.settle(&claimed, 3, Word::Complete { result: None }).await;
        done.expect("held");
        let whole = scene
            .queues
            .retry(&claimed.run, RetryFrom::Start)
            .await
            .expect("tried anew");
        let from = scene
            .queues
            .retry(&claimed.run, RetryFrom::Checkpoint)
            .await
            .expect("tried anew");
        assert_eq!((whole.run.as_str(), from.run.as_str()), ("r/x.2", "r/x.3"));
        scene.admitted(3).await;
        let claimed = scene.claim("w", 5).await;
        assert_eq!(payloads(&claimed), ["7", "7"]);
        assert_eq!(claimed[0].resume_from, None);
        assert!(claimed[1].resume_from.is_some());
        assert_eq!(
            scene.types("r/x.3").await,
            [
                "run.queued",
                "run.leased",
                "checkpoint",
                "run.queued",
                "run.leased"
            ]
        );
        scene.complete(&claimed[1]).await;
        assert_eq!(claimed[1].epoch, 1, "the fork has leases of its own");
    });
}

#[test]
fn deleting_a_queue_ends_what_is_open_and_leaves_a_plain_stream() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let later = scene.rig.engine.now().as_millis() + 60_000;
        scene.enqueue_as("leased").await;
        let claimed = scene.claim_one("w").await;
        scene.enqueue_as("ready").await;
        scene
            .enqueue(&format!("{{\"payload\":1,\"id\":\"later\",\"run_at\":{later}}}"))
            .await
            .expect("enqueued");
        let queues = scene.queues.clone();
        scene.queues.pause(&queue(), true).await.expect("there");
        let waiting = tokio::spawn(async move { queues.claim(&queue(), "w", 1, 60_000).await });
        scene.waiting(1).await;
        scene.queues.delete(&queue()).await.expect("deleted");
        assert!(waiting.await.expect("no panic").is_err());
        for run in ["r/leased", "r/ready", "r/later"] {
            assert_eq!(scene.state(run).await, Some(RunState::Cancelled), "{run}");
        }
        assert!(!scene.log(&claimed, 1, "{\"type\":\"log\"}").await);
        assert!(matches!(
            scene.queues.get(&queue()).await,
            Err(QueueError::NotFound)
        ));
        assert!(!scene.queues.is_queue(&queue()).await.expect("readable"));
        scene.rig.append_json("q", "1").await;
        let stream = scene.rig.look("q").await.incarnation().id;
        let keys = scene.backend.controls(stream, b"").expect("readable");
        assert!(keys.is_empty(), "{keys:?}");
        // It may become one again.
        scene.make(json!({})).await;
        scene.admitted(1).await;
    });
}

/// Messages that were not trimmed yet were jobs of the queue that was made next, if that named its runs otherwise.
#[test]
fn what_was_done_is_not_done_again_by_a_queue_that_is_made_anew_under_another_prefix() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.enqueue_as("done").await;
        scene.enqueue_as("had").await;
        scene.enqueue_as("ready").await;
        let claimed = scene.claim("w", 2).await;
        scene.complete(&claimed[0]).await;
        scene.queues.delete(&queue()).await.expect("deleted");
        assert!(scene.put(json!({ "run_prefix": "other/" })).await.expect("made"));
        scene.admitted(1).await;
        let claimed = scene.claim("w", 5).await;
        assert_eq!(run_names(&claimed), ["other/ready"], "nobody was ever given that");
    });
}
