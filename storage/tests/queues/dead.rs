//! Dead letters: listed in pages, tried anew whether they had a run or not, and forgotten.

use serde_json::json;
use tailwater_storage::queues::{Enqueued, PurgeWhat, QueueError, Redriven, UnfitStream};
use tailwater_storage::stream::Position;
use tailwater_storage::stream::queue::RunState;

use super::scene::{Scene, over_each, payloads, queue, run_names, until};
use crate::support::ask::name;

pub(super) async fn dead(scene: &Scene, count: u64) -> Vec<Position> {
    until(|| async { scene.get().await.gauges.dead == count }).await;
    let (dead, more) = scene.queues.dead(&queue(), None, 5_000).await.expect("there");
    assert!(!more);
    dead.iter().map(|letter| letter.job).collect()
}

async fn redrive(scene: &Scene, job: Position) -> Result<Enqueued, QueueError> {
    scene.queues.redrive(&queue(), job).await
}

/// Enqueues a job, and has it given up.
pub(super) async fn give_up(scene: &Scene, id: &str) {
    let job = format!("{{\"payload\":\"{id}\",\"id\":\"{id}\",\"max_attempts\":1}}");
    scene.enqueue(&job).await.expect("enqueued");
    let claimed = scene.claim_one("w").await;
    scene.fail(&claimed).await;
}

#[test]
fn a_dead_letter_is_redriven_as_a_fork_of_its_run() {
    over_each(|scene| async move {
        scene.make(json!({ "max_attempts": 1 })).await;
        for id in ["a", "b"] {
            scene
                .enqueue(&format!("{{\"payload\":\"{id}\",\"id\":\"{id}\"}}"))
                .await
                .expect("enqueued");
        }
        for claimed in scene.claim("w", 2).await {
            scene.fail(&claimed).await;
        }
        scene.rig.append_json("q", "{\"payload\":1,\"oops\":1}").await;
        until(|| async { scene.get().await.gauges.dead == 3 }).await;
        let (dead, _) = scene.queues.dead(&queue(), None, 10).await.expect("there");
        let one = scene
            .queues
            .redrive(&queue(), dead[0].job)
            .await
            .expect("redriven");
        assert_eq!(one.run, name("r/a.2"));
        let again = scene.queues.redrive(&queue(), dead[0].job).await;
        assert!(matches!(again, Err(QueueError::DeadNotFound)));
        let rest = scene
            .queues
            .redrive_all(&queue())
            .await
            .expect("redriven")
            .redriven;
        assert_eq!(rest.len(), 1, "what is no job stays");
        scene.admitted(4).await;
        let claimed = scene.claim("w", 5).await;
        assert_eq!(run_names(&claimed), ["r/a.2", "r/b.2"]);
        assert_eq!(payloads(&claimed), ["\"a\"", "\"b\""]);
        assert_eq!(
            scene.types("r/a.2").await,
            ["run.queued", "run.queued", "run.leased"]
        );
        assert_eq!(scene.events("r/a.2").await[1]["retry_of"], "r/a");
        scene.complete(&claimed[0]).await;
        assert_eq!(scene.get().await.gauges.dead, 1);
        assert_eq!(
            scene
                .queues
                .purge(&queue(), PurgeWhat::Dead)
                .await
                .expect("there"),
            1
        );
        assert_eq!(scene.get().await.gauges.dead, 0);
    });
}

/// Such a letter could only be purged, and its job enqueued by hand.
#[test]
fn a_dead_letter_that_never_had_a_run_is_redriven_as_a_job_of_its_own() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.rig.create("r/taken").await.expect("created");
        let messages = r#"[{"payload":{"n":1},"id":"x"},{"payload":{"n": 2},"id":"x"},{"payload":{"n":3},"id":"taken"},
            {"payload":{"n":4},"id":"a//b"},{"payload":{"n":5},"priority":1},{"payload":{"n":6},"max_attempts":0}]"#;
        scene.rig.append_json("q", messages).await;
        let jobs = dead(&scene, 5).await;
        assert_eq!(payloads(&scene.claim("w", 5).await), ["{\"n\":1}"]);
        let conflict = redrive(&scene, jobs[0]).await.expect("redriven");
        assert!(conflict.new);
        let again = redrive(&scene, jobs[0]).await;
        assert!(matches!(again, Err(QueueError::DeadNotFound)));
        for (job, member) in [(jobs[3], "priority"), (jobs[4], "max_attempts")] {
            let refused = redrive(&scene, job).await.expect_err("it is no job");
            assert!(matches!(refused, QueueError::DeadInvalid(_)), "{refused}");
            assert!(refused.to_string().contains(member), "{refused}");
        }
        let Redriven {
            redriven: rest, left, ..
        } = scene.queues.redrive_all(&queue()).await.expect("redriven");
        assert_eq!(rest.len(), 2, "what is no job stays");
        let left: Vec<_> = left.iter().map(|(job, _)| *job).collect();
        assert_eq!(left, jobs[3..]);
        scene.admitted(4).await;
        let claimed = scene.claim("w", 5).await;
        assert_eq!(payloads(&claimed), ["{\"n\": 2}", "{\"n\":3}", "{\"n\":4}"]);
        assert_eq!(claimed[0].run, conflict.run);
        assert_eq!(Some(claimed[0].job), conflict.job);
        let told: Vec<_> = rest.iter().map(|enqueued| enqueued.run.as_str()).collect();
        assert_eq!(run_names(&claimed)[1..], told);
        let gauges = scene.get().await.gauges;
        assert_eq!((gauges.dead, gauges.counters.enqueued), (2, 4));
        scene.complete(&claimed[0]).await;
    });
}

/// The other run was taken for that of the letter: what it had done was done again, and the dead job was forgotten.
#[test]
fn a_dead_letter_whose_run_has_given_its_name_to_another_is_a_job_of_its_own() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        for id in ["open", "done"] {
            give_up(&scene, id).await;
            scene.rig.delete(&format!("r/{id}")).await;
            let job = format!("{{\"payload\":\"another\",\"id\":\"{id}\"}}");
            assert!(scene.enqueue(&job).await.expect("enqueued").new);
            let claimed = scene.claim_one("w").await;
            if id == "done" {
                scene.complete(&claimed).await;
            }
        }
        let redriven = scene
            .queues
            .redrive_all(&queue())
            .await
            .expect("redriven")
            .redriven;
        assert_eq!(redriven.len(), 2);
        assert_eq!(payloads(&scene.claim("w", 5).await), ["\"open\"", "\"done\""]);
        assert_eq!(scene.get().await.gauges.dead, 0);
    });
}

/// Both had looked at the letter before either of them was redriving it, and the job was done twice.
#[test]
fn a_dead_letter_that_two_redrive_at_once_is_redriven_once() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        give_up(&scene, "a").await;
        scene.rig.append_json("q", r#"{"payload":1,"id":"a"}"#).await;
        for job in dead(&scene, 2).await {
            let (one, other) = tokio::join!(redrive(&scene, job), redrive(&scene, job));
            assert!(one.is_ok() != other.is_ok(), "{one:?} and {other:?}");
        }
        scene.admitted(3).await;
        assert_eq!(scene.get().await.gauges.dead, 0);
        assert_eq!(scene.claim("w", 5).await.len(), 2);
    });
}

/// A run that was deleted when its retention was over kept all dead letters behind it from being redriven.
#[test]
fn a_dead_letter_whose_run_is_gone_is_redriven_from_its_letter() {
    over_each(|scene| async move {
        scene.make(json!({ "run_retention_ms": 1_000 })).await;
        give_up(&scene, "a").await;
        scene.pass_ms(20_000);
        until(|| async { scene.state("r/a").await.is_none() }).await;
        give_up(&scene, "b").await;
        let redriven = scene
            .queues
            .redrive_all(&queue())
            .await
            .expect("redriven")
            .redriven;
        assert_eq!(redriven.len(), 2);
        scene.admitted(4).await;
        let claimed = scene.claim("w", 5).await;
        assert_eq!(payloads(&claimed), ["\"a\"", "\"b\""]);
        assert_eq!(claimed[1].run, name("r/b.2"));
        assert_eq!(scene.get().await.gauges.dead, 0);
    });
}

#[test]
fn a_letter_that_is_gone_is_told_of_and_keeps_no_other_from_being_redriven() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let job = r#"{"payload":1,"id":"x"}"#;
        scene.rig.append_json("q", job).await;
        scene.rig.append_json("q", r#"{"payload":2,"id":"x"}"#).await;
        dead(&scene, 1).await;
        let tail = scene.rig.look("dead/q").await.incarnation().view().tail;
        scene.rig.trim("dead/q", tail.get()).await;
        scene.rig.append_json("q", r#"{"payload":3,"id":"x"}"#).await;
        let jobs = dead(&scene, 2).await;
        let lost = redrive(&scene, jobs[0]).await;
        assert!(matches!(lost, Err(QueueError::DeadLost)), "{lost:?}");
        let redriven = scene
            .queues
            .redrive_all(&queue())
            .await
            .expect("redriven")
            .redriven;
        assert_eq!(redriven.len(), 1);
        // Another stream has the name by now, with something else at that place.
        scene.rig.append_json("q", r#"{"payload":4,"id":"x"}"#).await;
        let jobs = dead(&scene, 2).await;
        scene.rig.delete("dead/q").await;
        scene.rig.create_json("dead/q").await;
        let other = format!(
            "{{\"queue\":\"q\",\"job\":\"7\",\"payload\":\"{}\"}}",
            "x".repeat(500)
        );
        scene.rig.append_json("dead/q", &other).await;
        for job in jobs {
            let lost = redrive(&scene, job).await;
            assert!(matches!(lost, Err(QueueError::DeadLost)), "{lost:?}");
        }
        assert_eq!(scene.get().await.gauges.dead, 2);
    });
}

#[test]
fn very_many_dead_letters_are_told_redriven_and_forgotten_in_pages() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let messages: Vec<_> = (0..1_100)
            .map(|number| format!("{{\"payload\":{number},\"id\":\"x\"}}"))
            .collect();
        let append = async |from: usize, until: usize| {
            let body = format!("[{}]", messages[from..until].join(","));
            scene.rig.append_json("q", &body).await;
        };
        append(0, 1_050).await;
        let jobs = dead(&scene, 1_049).await;
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = scene.queues.dead(&queue(), after, 500).await.expect("there");
            listed.extend(page.iter().map(|letter| letter.job));
            after = listed.last().copied();
            if !more {
                break;
            }
        }
        assert_eq!(listed, jobs);
        let redriven = scene
            .queues
            .redrive_all(&queue())
            .await
            .expect("redriven")
            .redriven;
        assert_eq!(redriven.len(), 1_049);
        scene.admitted(1_050).await;
        append(1_050, 1_100).await;
        dead(&scene, 50).await;
        let purged = scene.queues.purge(&queue(), PurgeWhat::Dead).await;
        assert_eq!(purged.expect("there"), 50);
        assert_eq!(dead(&scene, 0).await, []);
        assert_eq!(scene.events("dead/q").await, [json!(null); 0]);
    });
}

#[test]
fn queues_that_have_their_dead_letters_in_one_stream_forget_only_their_own() {
    over_each(|scene| async move {
        scene.make(json!({ "dead_letter": "dead" })).await;
        let document = json!({ "dead_letter": "dead" });
        let document = document.as_object().expect("an object");
        scene.queues.put(&name("p"), document).await.expect("made");
        for (stream, payload) in [("q", 1), ("p", 2)] {
            let messages = format!("[{{\"payload\":0,\"id\":\"x\"}},{{\"payload\":{payload},\"id\":\"x\"}}]");
            scene.rig.append_json(stream, &messages).await;
        }
        dead(&scene, 1).await;
        until(|| async { scene.queues.get(&name("p")).await.expect("there").gauges.dead == 1 }).await;
        let letters = scene.events("dead").await;
        let mut of: Vec<_> = letters.iter().map(|letter| letter["queue"].clone()).collect();
        of.sort_by_key(ToString::to_string);
        assert_eq!(of, ["p", "q"]);
        let purged = scene.queues.purge(&queue(), PurgeWhat::Dead).await;
        assert_eq!(purged.expect("there"), 1);
        let (left, _) = scene.queues.dead(&name("p"), None, 5).await.expect("there");
        let redriven = scene.queues.redrive(&name("p"), left[0].job).await;
        redriven.expect("its letter is there");
        // Once nobody else has letters there, they go with their keys.
        scene.queues.delete(&name("p")).await.expect("deleted");
        scene
            .queues
            .purge(&queue(), PurgeWhat::Dead)
            .await
            .expect("there");
        scene.rig.append_json("q", r#"{"payload":3,"id":"x"}"#).await;
        dead(&scene, 1).await;
        scene
            .queues
            .purge(&queue(), PurgeWhat::Dead)
            .await
            .expect("there");
        assert_eq!(scene.events("dead").await, [json!(null); 0]);
    });
}

#[test]
fn no_queue_has_the_dead_letters_of_another_one() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let put = |stream: &'static str, document: serde_json::Value| {
            let queues = scene.queues.clone();
            async move {
                queues
                    .put(&name(stream), document.as_object().expect("an object"))
                    .await
            }
        };
        let refused = put("dead/q", json!({})).await;
        assert!(
            matches!(refused, Err(QueueError::Unfit(UnfitStream::DeadLetters { .. }))),
            "{refused:?}"
        );
        let refused = put("p", json!({ "dead_letter": "q" })).await;
        assert!(
            matches!(refused, Err(QueueError::Unfit(UnfitStream::Queue { .. }))),
            "{refused:?}"
        );
        assert_eq!(scene.queues.count(), 1);
        scene.queues.delete(&queue()).await.expect("deleted");
        put("dead/q", json!({}))
            .await
            .expect("its letters are nobody's now");
    });
}

/// Such a stream could not be made anew, so that whoever gave up was refused, and messages that were no jobs were looked at
/// for ever.
#[test]
fn jobs_are_given_up_though_the_name_of_the_stream_of_dead_letters_is_held_by_forks() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        scene.rig.fork("copy", "dead/q").await.expect("forked");
        scene.rig.delete("dead/q").await;
        scene.rig.append_json("q", r#"{"payload":1,"oops":1}"#).await;
        dead(&scene, 1).await;
        give_up(&scene, "a").await;
        assert_eq!(scene.state("r/a").await, Some(RunState::Dead));
        let jobs = dead(&scene, 2).await;
        let lost = redrive(&scene, jobs[0]).await;
        assert!(matches!(lost, Err(QueueError::DeadLost)), "{lost:?}");
        assert_eq!(
            redrive(&scene, jobs[1]).await.expect("it has a run").run,
            name("r/a.2")
        );
    });
}

/// It counted as one that has letters there, so that those of the other one were never forgotten.
#[test]
fn a_queue_that_could_not_be_made_shares_no_dead_letters() {
    over_each(|scene| async move {
        scene.make(json!({ "dead_letter": "dead" })).await;
        scene.rig.create("p").await.expect("created");
        let document = json!({ "dead_letter": "dead" });
        let document = document.as_object().expect("an object");
        let refused = scene.queues.put(&name("p"), document).await;
        assert!(
            matches!(refused, Err(QueueError::Unfit(UnfitStream::NotJson { .. }))),
            "{refused:?}"
        );
        give_up(&scene, "a").await;
        dead(&scene, 1).await;
        let purged = scene.queues.purge(&queue(), PurgeWhat::Dead).await;
        assert_eq!(purged.expect("there"), 1);
        assert_eq!(scene.events("dead").await, [json!(null); 0]);
    });
}

/// No number had room behind it, and those behind it in the order of jobs were never redriven.
#[test]
fn a_dead_letter_whose_run_has_the_longest_name_is_redriven_as_a_job_of_its_own() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let longest = "x".repeat(1_022);
        give_up(&scene, &longest).await;
        give_up(&scene, "short").await;
        dead(&scene, 2).await;
        let redriven = scene
            .queues
            .redrive_all(&queue())
            .await
            .expect("redriven")
            .redriven;
        assert_eq!(redriven[1].run, name("r/short.2"));
        scene.admitted(4).await;
        let claimed = scene.claim("w", 5).await;
        assert_eq!(claimed[0].run, redriven[0].run);
        assert_eq!(
            payloads(&claimed),
            [format!("\"{longest}\""), "\"short\"".to_owned()]
        );
    });
}
