//! Messages become jobs with runs, or are the same job once more, or dead letters.

use serde_json::json;
use tailwater_storage::queues::{QueueError, RetryFrom, UnfitStream};
use tailwater_storage::stream::queue::{Envelope, JsonText, RunState};
use tailwater_storage::stream::{CreateCommand, Lifetime, Record, Transition};

use super::scene::{Scene, over_each, payloads, queue, run_names, until};
use crate::support::ask::{json as json_type, name, run};
use crate::support::gated::transitions;

#[test]
fn what_stands_in_the_stream_already_becomes_jobs() {
    over_each(|scene| async move {
        scene.rig.create_json("q").await;
        scene.rig.append_json("q", "[1,2,3]").await;
        scene.make(json!({})).await;
        scene.admitted(3).await;
        assert_eq!(payloads(&scene.claim("w", 5).await), ["1", "2", "3"]);
    });
}

#[test]
fn a_job_of_the_same_id_and_payload_is_the_same_job() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let message = "{\"payload\":{\"a\":1},\"id\":\"x\"}";
        let first = scene.enqueue(message).await.expect("enqueued");
        assert!(first.new);
        let again = scene.enqueue(message).await.expect("there");
        assert_eq!((again.new, again.job, &again.run), (false, first.job, &first.run));
        let other = scene.enqueue("{\"payload\":{\"a\":2},\"id\":\"x\"}").await;
        assert!(matches!(other, Err(QueueError::Conflict { .. })));
        let messages = scene.rig.look("q").await.incarnation().view().messages;
        assert_eq!(messages, 1, "nothing more was appended");
        // The same by plain appends.
        scene
            .rig
            .append_json("q", &format!("[{message},{{\"payload\":2,\"id\":\"x\"}},7]"))
            .await;
        scene.admitted(2).await;
        assert_eq!(scene.types("r/x").await, ["run.queued", "run.duplicate"]);
        let dead = scene.events("dead/q").await;
        assert_eq!(
            (&dead[0]["reason"], &dead[0]["payload"]),
            (&json!("conflict"), &json!(2))
        );
        assert_eq!(run_names(&scene.claim("w", 5).await).len(), 2, "once each");
        let counters = scene.get().await.gauges.counters;
        assert_eq!((counters.enqueued, counters.duplicates, counters.dead), (2, 1, 1));
    });
}

#[test]
fn two_of_one_id_in_one_append_are_one_job() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let message = "{\"payload\":1,\"id\":\"x\"}";
        scene
            .rig
            .append_json("q", &format!("[{message},{message},2]"))
            .await;
        scene.admitted(2).await;
        assert_eq!(payloads(&scene.claim("w", 5).await), ["1", "2"]);
    });
}

#[test]
fn the_same_job_after_its_end_is_only_counted() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let message = "{\"payload\":1,\"id\":\"x\"}";
        scene.enqueue(message).await.expect("enqueued");
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.rig.append_json("q", &format!("[{message},2]")).await;
        scene.admitted(2).await;
        assert_eq!(scene.types("r/x").await.len(), 3);
        assert_eq!(payloads(&scene.claim("w", 5).await), ["2"]);
    });
}

#[test]
fn what_cannot_be_meant_is_a_dead_letter_and_blocks_nobody() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.rig.create("r/taken").await.expect("created");
        let messages =
            r#"[{"payload":1,"priority":2},{"payload":2,"id":"a//b"},{"payload":3,"id":"taken"},4]"#;
        scene.rig.append_json("q", messages).await;
        scene.admitted(1).await;
        let dead = scene.events("dead/q").await;
        let reasons: Vec<_> = dead
            .iter()
            .map(|letter| letter["reason"].as_str().expect("a text"))
            .collect();
        assert_eq!(reasons, ["invalid_envelope", "invalid_envelope", "name_taken"]);
        assert_eq!(dead[0]["payload"], json!({ "payload": 1, "priority": 2 }));
        assert!(dead[0]["error"].as_str().expect("a text").contains("priority"));
        assert_eq!(payloads(&scene.claim("w", 5).await), ["4"]);
        let refused = scene.enqueue("{\"payload\":1,\"id\":\"a//b\"}").await;
        assert!(matches!(refused, Err(QueueError::Envelope(_))));
        let refused = scene.enqueue("{\"payload\":1,\"id\":\"taken\"}").await;
        assert!(matches!(refused, Err(QueueError::NameTaken { .. })));
    });
}

#[test]
fn many_jobs_are_admitted_and_given_out_in_order() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let messages: Vec<_> = (0..700).map(|number| number.to_string()).collect();
        scene
            .rig
            .append_json("q", &format!("[{}]", messages.join(",")))
            .await;
        scene.admitted(700).await;
        assert_eq!(scene.get().await.gauges.ready, 700);
        let mut given = Vec::new();
        loop {
            let claimed = scene.claim("w", 100).await;
            if claimed.is_empty() {
                break;
            }
            given.extend(claimed.into_iter().map(|claimed| claimed.payload.to_string()));
        }
        assert_eq!(given, messages);
    });
}

#[test]
fn calls_and_plain_appends_at_once_lose_nothing() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let mut tasks = Vec::new();
        for number in 0..40 {
            let (queues, engine) = (scene.queues.clone(), scene.rig.engine.clone());
            tasks.push(tokio::spawn(async move {
                if number % 2 == 0 {
                    let text = format!("{{\"payload\":{number},\"id\":\"n{number}\"}}");
                    let text = JsonText::parse(&text).expect("JSON");
                    let envelope = Envelope::parse(&text).expect("an envelope");
                    queues.enqueue(&queue(), envelope).await.expect("enqueued");
                } else {
                    let request = tailwater_storage::engine::AppendRequest {
                        body: number.to_string().into(),
                        content_type: Some(json_type()),
                        ..tailwater_storage::engine::AppendRequest::default()
                    };
                    engine.append(&queue(), request).await.expect("appended");
                }
            }));
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        scene.admitted(40).await;
        let claimed = scene.claim("w", 100).await;
        let mut numbers: Vec<u64> = payloads(&claimed)
            .iter()
            .map(|text| text.parse().expect("a number"))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>());
    });
}

#[test]
fn a_closed_stream_takes_no_more_jobs_and_gives_out_what_it_has() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.rig.append_json("q", "[1]").await;
        scene.rig.close("q").await.expect("closed");
        let refused = scene.enqueue("{\"payload\":2}").await;
        assert!(matches!(refused, Err(QueueError::Closed)), "{refused:?}");
        scene.admitted(1).await;
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        scene.stands("r/0000000000000000", RunState::Succeeded).await;
    });
}

#[test]
fn only_a_stream_of_json_without_a_lifetime_that_is_no_fork_becomes_a_queue() {
    over_each(|scene| async move {
        let put = |stream: &'static str| {
            let queues = scene.queues.clone();
            let document = json!({}).as_object().expect("an object").clone();
            async move { queues.put(&name(stream), &document).await.map(|made| made.new) }
        };
        scene.rig.create("bytes").await.expect("created");
        let refused = put("bytes").await;
        assert!(matches!(
            refused,
            Err(QueueError::Unfit(UnfitStream::NotJson { .. }))
        ));
        let command = CreateCommand {
            content_type: Some(json_type()),
            lifetime: Lifetime::Ttl { seconds: 60 },
            ..CreateCommand::default()
        };
        scene.rig.create_with("living", command).await.expect("created");
        let refused = put("living").await;
        assert!(matches!(
            refused,
            Err(QueueError::Unfit(UnfitStream::HasLifetime { .. }))
        ));
        scene.rig.create_json("source").await;
        scene.rig.fork("fork", "source").await.expect("forked");
        let refused = put("fork").await;
        assert!(matches!(
            refused,
            Err(QueueError::Unfit(UnfitStream::Fork { .. }))
        ));
        scene.rig.create("dead/jobs").await.expect("created");
        let refused = put("jobs").await;
        assert!(matches!(
            refused,
            Err(QueueError::Unfit(UnfitStream::NotJson { .. }))
        ));
        assert!(put("other").await.expect("made"));
        assert_eq!(scene.queues.count(), 1, "what was refused is none");
    });
}

/// The name was found to be free, and no run could begin under it: the same message was looked at for ever, and none behind it.
#[test]
fn a_job_whose_runs_name_is_held_by_forks_of_a_deleted_run_is_a_dead_letter_and_blocks_nobody() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let message = "{\"payload\":1,\"id\":\"x\"}";
        scene.enqueue(message).await.expect("enqueued");
        let claimed = scene.claim_one("w").await;
        scene.complete(&claimed).await;
        let retried = scene.queues.retry(&claimed.run, RetryFrom::Start).await;
        retried.expect("tried anew");
        scene.admitted(2).await;
        scene.rig.delete("r/x").await;
        scene.rig.append_json("q", &format!("[{message},2]")).await;
        scene.admitted(3).await;
        let dead = scene.events("dead/q").await;
        assert_eq!(dead[0]["reason"], "name_taken");
        assert_eq!(
            dead[0]["error"],
            "r/x was deleted, and forks of it are still there"
        );
        let refused = scene.enqueue(message).await;
        assert!(
            matches!(refused, Err(QueueError::NameHeldByForks { .. })),
            "{refused:?}"
        );
        for claimed in scene.claim("w", 5).await {
            scene.complete(&claimed).await;
        }
        // Once they are gone the id is free.
        scene.rig.delete("r/x.2").await;
        assert!(scene.enqueue(message).await.expect("enqueued").new);
    });
}

/// All that were asked for at once went into one record, however long they were together.
#[test]
fn long_jobs_that_are_enqueued_at_once_go_into_several_records() {
    const LONG: usize = 300 << 10;
    const RECORD_BYTES_MAX: usize = (2 << 20) + (64 << 10);
    fn bytes(record: &Record) -> usize {
        let appended = transitions(record).map(|transition| match transition {
            Transition::Append(append) => append.payload.len(),
            _ => 0,
        });
        appended.sum()
    }
    run(async {
        let (gated, scene) = Scene::behind_a_gate().await;
        scene.make(json!({})).await;
        let long = "x".repeat(LONG);
        let mut tasks = Vec::new();
        for number in 0..8 {
            let text = JsonText::parse(&format!("{{\"payload\":\"{number}{long}\"}}")).expect("JSON");
            let envelope = Envelope::parse(&text).expect("an envelope");
            let queues = scene.queues.clone();
            tasks.push(tokio::spawn(
                async move { queues.enqueue(&queue(), envelope).await },
            ));
        }
        for task in tasks {
            assert!(task.await.expect("no panic").expect("enqueued").new);
        }
        let longest = gated
            .batches()
            .iter()
            .flatten()
            .map(bytes)
            .max()
            .expect("records");
        assert!(longest > 4 * LONG, "some are enqueued together");
        assert!(longest <= RECORD_BYTES_MAX, "{longest}");
        assert_eq!(scene.get().await.gauges.ready, 8);
    });
}

/// It was taken for that other job, if their payloads were the same, and swallowed.
#[test]
fn a_job_without_an_id_whose_number_is_the_id_of_another_one_is_a_dead_letter() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let message = |id: usize| format!("{{\"payload\":1,\"id\":\"{id:016}\"}}");
        // With its comma, it is where the next one begins.
        let next = message(0).len() + 1;
        scene.rig.append_json("q", &message(next)).await;
        scene.rig.append_json("q", "1").await;
        until(|| async { scene.get().await.gauges.dead == 1 }).await;
        let counters = scene.get().await.gauges.counters;
        assert_eq!((counters.enqueued, counters.duplicates), (1, 0));
        assert_eq!(scene.events("dead/q").await[0]["reason"], "name_taken");
        let redriven = scene.queues.redrive_all(&queue()).await.expect("there").redriven;
        scene.admitted(2).await;
        let claimed = scene.claim("w", 5).await;
        assert_eq!(claimed[1].run, redriven[0].run);
        assert_eq!(payloads(&claimed), ["1", "1"]);
    });
}
