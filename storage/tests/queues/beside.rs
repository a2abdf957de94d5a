//! What is decided while records are on their way.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::queues::{Claimed, QueueError};
use tailwater_storage::stream::{Record, Transition};
use tokio::task::JoinHandle;

use super::scene::{LEASE_MS, Scene, payloads, queue, run_names, until};
use crate::support::ask::{run, waits};
use crate::support::gated::{Gated, transitions};

/// A queue with so many jobs, whose commits a gate holds.
async fn held(jobs: usize) -> (Arc<Gated>, Scene) {
    let (gated, scene) = Scene::behind_a_gate().await;
    scene.make(json!({})).await;
    for number in 0..jobs {
        scene.enqueue_as(&number.to_string()).await;
    }
    gated.hold();
    (gated, scene)
}

fn claim(scene: &Scene, worker: &'static str) -> JoinHandle<Result<Vec<Claimed>, QueueError>> {
    let queues = scene.queues.clone();
    tokio::spawn(async move { queues.claim(&queue(), worker, 1, 60_000).await })
}

/// A claim whose record stands at the gate.
async fn claim_at_gate(gated: &Gated, scene: &Scene) -> JoinHandle<Result<Vec<Claimed>, QueueError>> {
    let claimed = claim(scene, "first");
    until(|| async { gated.is_at_gate(0) }).await;
    claimed
}

async fn claimed(claim: JoinHandle<Result<Vec<Claimed>, QueueError>>) -> Vec<Claimed> {
    claim.await.expect("no panic").expect("the queue is there")
}

async fn queued(scene: &Scene, records: usize) {
    until(|| async { scene.rig.engine.backlog().records == records }).await;
}

/// Whether a record appends an event of this type.
fn tells_of(record: &Record, event: &str) -> bool {
    let kind = format!("\"type\":\"{event}\"");
    transitions(record).any(|transition| match transition {
        Transition::Append(append) => String::from_utf8_lossy(&append.payload).contains(&kind),
        _ => false,
    })
}

#[test]
fn whoever_comes_while_a_record_is_on_its_way_has_one_on_its_way_too() {
    run(async {
        let (gated, scene) = held(2).await;
        let first = claim_at_gate(&gated, &scene).await;
        let second = claim(&scene, "second");
        queued(&scene, 1).await;
        assert!(
            !first.is_finished() && !second.is_finished(),
            "nothing is durable"
        );
        gated.let_one_pass(0);
        assert_eq!(run_names(&claimed(first).await), ["r/0"]);
        until(|| async { gated.is_at_gate(0) }).await;
        assert!(!second.is_finished(), "it is not durable");
        gated.open();
        assert_eq!(run_names(&claimed(second).await), ["r/1"]);
    });
}

/// They waited until nothing was on its way.
#[test]
fn messages_are_looked_at_while_records_are_on_their_way() {
    run(async {
        let (gated, scene) = held(2).await;
        let first = claim_at_gate(&gated, &scene).await;
        let mut appended = Box::pin(scene.rig.append_json("q", "\"appended\""));
        assert!(waits(appended.as_mut()).await);
        gated.let_one_pass(0);
        assert_eq!(run_names(&claimed(first).await), ["r/0"]);
        until(|| async { gated.is_at_gate(0) }).await;
        let second = claim(&scene, "second");
        queued(&scene, 1).await;
        gated.let_one_pass(0);
        appended.await;
        // The record that leases a job, and the one of the message.
        until(|| async { gated.is_at_gate(0) }).await;
        until(|| async { gated.wait_at_gate(0) + scene.rig.engine.backlog().records == 2 }).await;
        assert!(!second.is_finished(), "it is not durable");
        gated.open();
        assert_eq!(run_names(&claimed(second).await), ["r/1"]);
        assert_eq!(payloads(&scene.claim("third", 5).await), ["\"appended\""]);
    });
}

#[test]
fn what_was_decided_beside_a_record_that_finds_no_space_is_not_there_either() {
    run(async {
        let (gated, scene) = held(2).await;
        gated.refuse(|record| tells_of(record, "run.leased"));
        let first = claim_at_gate(&gated, &scene).await;
        let second = claim(&scene, "second");
        queued(&scene, 1).await;
        gated.open();
        for refused in [first, second] {
            let refused = refused.await.expect("no panic");
            assert!(matches!(refused, Err(QueueError::Engine(_))), "{refused:?}");
        }
        gated.refuse_none();
        scene.pass_ms(LEASE_MS);
        assert_eq!(run_names(&scene.claim("third", 5).await), ["r/0", "r/1"]);
    });
}

/// As long as commands came, nobody else would have had a turn.
#[test]
fn whoever_wants_a_turn_has_the_next_one_however_many_commands_come() {
    run(async {
        let (gated, scene) = held(2).await;
        let first = claim_at_gate(&gated, &scene).await;
        let name = queue();
        let mut paused = Box::pin(scene.queues.pause(&name, true));
        assert!(waits(paused.as_mut()).await);
        let second = claim(&scene, "second");
        gated.let_one_pass(0);
        assert_eq!(claimed(first).await.len(), 1);
        until(|| async { gated.is_at_gate(0) }).await;
        gated.open();
        paused.await.expect("paused");
        // It was not given a job before.
        scene.waiting(1).await;
        assert!(!second.is_finished());
        scene.queues.pause(&queue(), false).await.expect("resumed");
        assert_eq!(run_names(&claimed(second).await), ["r/1"]);
    });
}

#[test]
fn what_comes_while_somebody_wants_a_turn_is_decided_behind_it() {
    run(async {
        let (gated, scene) = held(2).await;
        let first = claim_at_gate(&gated, &scene).await;
        let mut looks = Box::pin(scene.get());
        assert!(waits(looks.as_mut()).await);
        let second = claim(&scene, "second");
        gated.let_one_pass(0);
        assert_eq!(claimed(first).await.len(), 1);
        assert_eq!(looks.await.gauges.leased, 1);
        gated.open();
        assert_eq!(run_names(&claimed(second).await), ["r/1"]);
    });
}

/// As long as commands came, no lease would have ended.
#[test]
fn what_is_due_by_itself_is_done_before_what_comes_later() {
    run(async {
        let (gated, scene) = held(3).await;
        gated.open();
        let silent = scene.claim("silent", 1).await;
        assert_eq!(run_names(&silent), ["r/0"]);
        gated.hold();
        let first = claim_at_gate(&gated, &scene).await;
        scene.pass_ms(LEASE_MS);
        let second = claim(&scene, "second");
        gated.let_one_pass(0);
        assert_eq!(claimed(first).await.len(), 1);
        gated.open();
        assert_eq!(run_names(&claimed(second).await), ["r/2"]);
        let told = |event: &str| {
            let batches = gated.batches();
            let records: Vec<_> = batches.iter().flatten().collect();
            records.iter().rposition(|record| tells_of(record, event))
        };
        assert!(told("run.lease_lost") < told("run.leased"));
        assert_eq!(scene.types("r/0").await[2], "run.lease_lost");
    });
}

/// They told what there had been before the queue had something to do.
#[test]
fn gauges_follow_a_queue_that_is_never_idle() {
    run(async {
        let (gated, scene) = held(3).await;
        let _first = claim_at_gate(&gated, &scene).await;
        let leased = || scene.queues.gauges(1)[0].1.leased;
        let _before = leased();
        let _second = claim(&scene, "second");
        until(|| async { leased() == 2 }).await;
        let _third = claim(&scene, "third");
        until(|| async { leased() == 3 }).await;
        assert!(gated.is_at_gate(0), "the turn has not ended");
        gated.open();
    });
}
