//! What an orderly end and crashes leave: no cursor goes back past an ack that was answered, and nothing that is pending
//! is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use tailwater_storage::Backend;
use tailwater_storage::stream::subscription::{LeaseRefusal, Phase};
use tailwater_storage::stream::{CreateCommand, OffsetToken};
use tailwater_storage::subscriptions::SubscriptionError;
use tailwater_storage::subscriptions::deliver::WebhookAnswer;

use super::scene::{LEASE_MS, Scene, acid_store, ack_of, file_store, id, pull, until, webhook};
use crate::support::ask::{json, run};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::gated::Gated;

/// A kind of store, by its name in failures.
type Store = (&'static str, fn(&Arc<FaultyDisk>) -> Arc<dyn Backend>);

const STORES: [Store; 2] = [("file", file_store), ("acid", acid_store)];

/// Runs a test over a store that it may open again after a crash of the machine.
fn over_stores<F: Future<Output = ()>>(
    test: impl Fn(Arc<FaultyDisk>, fn(&Arc<FaultyDisk>) -> Arc<dyn Backend>) -> F,
) {
    for (kind, open) in STORES {
        println!("over {kind}");
        run(test(FaultyDisk::new(0), open));
    }
}

#[test]
fn a_lease_and_a_schedule_go_on_where_they_were() {
    over_stores(|disk, open| async move {
        let scene = Scene::over(open(&disk)).await;
        scene.rig.create_json("wakes").await;
        scene.made("pull", pull(Some("jobs/*"), &[])).await;
        scene.made("hook", webhook(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "one").await;
        scene.letters(1).await;
        scene.receiver.fail();
        until(|| async { scene.state("hook").await.trouble.is_some() }).await;
        let claim = scene.claim("pull", "w").await;
        let (pull_state, hook_state) = (scene.state("pull").await, scene.state("hook").await);
        scene.subscriptions.stop();

        let scene = scene.again_over(open(&disk.crash_machine())).await;
        scene.subscriptions.recovered().await.expect("readable");
        assert_eq!(scene.state("pull").await, pull_state);
        assert_eq!(scene.state("hook").await, hook_state);
        let other = scene.subscriptions.claim(&id("pull"), "other").await;
        assert!(matches!(
            other,
            Err(SubscriptionError::Lease(LeaseRefusal::AlreadyClaimed { .. }))
        ));
        assert_eq!(scene.receiver.letters().len(), 1, "its time has not come");
        assert!(!scene.ack_all("pull", &claim).await);
        scene.receiver.answer(WebhookAnswer::Done);
        scene.pass_ms(1_200);
        until(|| async { scene.state("hook").await.phase == Phase::Idle }).await;
        assert_eq!(scene.receiver.letters()[1].wake, scene.receiver.letters()[0].wake);
    });
}

#[test]
fn what_moved_behind_the_last_look_is_found_again() {
    over_stores(|disk, open| async move {
        let scene = Scene::over(open(&disk)).await;
        scene.rig.create_json("wakes").await;
        for stream in ["jobs/old", "jobs/gone", "orders"] {
            scene.begin(stream, "before").await;
        }
        scene.made("s", pull(Some("jobs/*"), &["orders"])).await;
        // From here on the runtime does nothing by itself, as if it had not come to it before the crash.
        scene.subscriptions.stop();
        scene.rig.append("jobs/old", "x").await.expect("appended");
        scene.rig.delete("jobs/gone").await;
        scene.begin("jobs/new", "x").await;
        let scene = scene.again_over(open(&disk.crash_machine())).await;
        scene.woken("s", 1).await;
        let claim = scene.claim("s", "w").await;
        let work: Vec<_> = claim.work.iter().map(|told| told.stream.as_str()).collect();
        assert_eq!(work, ["jobs/new", "jobs/old"]);
        let links: Vec<_> = scene.links("s").await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(links, ["jobs/new", "jobs/old", "orders"]);
    });
}

/// A read failed while a start looked for what had moved. What it had not come to was taken for settled, and nobody was
/// woken for it until the next start.
#[test]
fn a_start_that_cannot_read_looks_again_until_it_can() {
    run(async {
        let backend = Gated::inline(1 << 20);
        let scene = Scene::over(Arc::<Gated>::clone(&backend)).await;
        scene.rig.create_json("wakes").await;
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        scene.subscriptions.stop();
        scene.begin("jobs/a", "x").await;
        backend.fail_lists(2);
        let scene = scene.again_over(Arc::<Gated>::clone(&backend)).await;
        assert_eq!(scene.claim("s", "w").await.work.len(), 1);
        assert_eq!(backend.failing_lists(), 0, "it was looked for again");
    });
}

/// The event of a wake is written once, though nobody knows after a crash whether it was.
#[test]
fn a_wake_that_was_sent_before_a_crash_is_not_written_twice() {
    over_stores(|disk, open| async move {
        let scene = Scene::over(open(&disk)).await;
        scene.rig.create_json("wakes").await;
        scene.made("s", pull(Some("jobs/*"), &[])).await;
        scene.begin("jobs/a", "x").await;
        until(|| async { !scene.events().await.is_empty() }).await;
        scene.subscriptions.stop();
        for _ in 0..2 {
            let scene = scene.again_over(open(&disk.crash_machine())).await;
            scene.woken("s", 1).await;
            assert_eq!(scene.events().await.len(), 1);
        }
    });
}

/// What was answered before a crash.
#[derive(Default, Clone)]
struct Promised {
    appended: BTreeMap<&'static str, OffsetToken>,
    acked: BTreeMap<&'static str, OffsetToken>,
    is_made: bool,
    generation: u64,
}

const JOBS: [&str; 3] = ["jobs/a", "jobs/b", "jobs/c"];

/// Lives as long as its disk does: appends, claims and acks in turn. Ends at the first thing that fails.
async fn live(scene: &Scene, promised: &mut Promised) -> Option<()> {
    if scene.subscribe("s", pull(Some("jobs/*"), &[])).await.ok()?.new {
        promised.is_made = true;
    }
    for round in 0..6 {
        let stream = JOBS[round % JOBS.len()];
        let _ = scene.rig.create(stream).await.ok()?;
        let appended = scene.rig.append(stream, "some work").await.ok()?;
        promised.appended.insert(stream, appended.tail);
        let claim = scene.subscriptions.claim(&id("s"), "w").await.ok()?;
        promised.generation = promised.generation.max(claim.claimed.generation);
        // Every other time the work is left lying.
        if round % 2 == 0 {
            let request = ack_of(&claim, true);
            let acks = request.acks.clone();
            scene.subscriptions.ack(&id("s"), request).await.ok()?;
            for ack in acks {
                let stream = JOBS
                    .into_iter()
                    .find(|job| *job == ack.stream.as_str())
                    .expect("a job");
                promised.acked.insert(stream, ack.offset);
            }
        } else {
            scene.pass_ms(LEASE_MS);
        }
    }
    Some(())
}

async fn judge(scene: &Scene, promised: &Promised, at: &str) {
    scene.subscriptions.recovered().await.expect("readable");
    let Ok(described) = scene.described("s").await else {
        assert!(!promised.is_made, "{at}: the subscription is gone");
        return;
    };
    assert!(
        described.summary.state.generation >= promised.generation,
        "{at}: a generation comes again"
    );
    for (stream, acked) in &promised.acked {
        let link = described.links.iter().find(|(name, _)| name.as_str() == *stream);
        let kept = link.map_or(OffsetToken::START, |(_, link)| link.acked);
        assert!(
            kept.position() >= acked.position(),
            "{at}: the cursor of {stream} goes back from {acked} to {kept}"
        );
    }
    until(|| async {
        let state = scene.state("s").await;
        state.sent || !matches!(state.phase, Phase::Woken { .. })
    })
    .await;
    let events = scene.events().await;
    let generations: BTreeSet<_> = events.iter().map(|event| event["generation"].as_u64()).collect();
    assert_eq!(generations.len(), events.len(), "{at}: an event is written twice");
    let mut is_pending = false;
    for (stream, tail) in &promised.appended {
        let link = described.links.iter().find(|(name, _)| name.as_str() == *stream);
        is_pending |= link.is_none_or(|(_, link)| link.acked.position() < tail.position());
    }
    if !is_pending {
        return;
    }
    until(|| async {
        let state = scene.state("s").await;
        state.phase != Phase::Idle
    })
    .await;
    scene.pass_ms(LEASE_MS + 1);
    let claim = scene.subscriptions.claim(&id("s"), "after").await;
    let claim = claim.unwrap_or_else(|error| panic!("{at}: what is pending cannot be claimed: {error}"));
    for (stream, tail) in &promised.appended {
        let link = described.links.iter().find(|(name, _)| name.as_str() == *stream);
        if link.is_none_or(|(_, link)| link.acked.position() < tail.position()) {
            let told = claim.work.iter().find(|told| told.stream.as_str() == *stream);
            let told = told.unwrap_or_else(|| panic!("{at}: {stream} is forgotten"));
            assert!(
                told.tail.position >= tail.position(),
                "{at}: {stream} is not told of as far as it reaches"
            );
        }
    }
}

#[test]
fn a_crash_at_each_operation_of_the_disk_takes_no_ack_back_and_forgets_nothing() {
    for (kind, open) in STORES {
        // How many operations a whole life has depends on how commits fall together, so a few more are tried.
        let whole = FaultyDisk::new(0);
        let before = {
            let store = open(&whole);
            let before = whole.operations();
            run(async {
                let scene = Scene::over(store).await;
                scene.rig.create_json("wakes").await;
                live(&scene, &mut Promised::default())
                    .await
                    .expect("nothing fails");
                scene.subscriptions.stop();
            });
            before
        };
        let operations = whole.operations();
        let step = ((operations - before) / 60).max(1) as usize;
        for cut in (before..operations).step_by(step) {
            let disk = FaultyDisk::new(cut);
            let mut promised = Promised::default();
            run(async {
                let scene = Scene::over(open(&disk)).await;
                disk.cut_at(cut);
                let wakes = CreateCommand {
                    content_type: Some(json()),
                    ..CreateCommand::default()
                };
                if scene.rig.create_with("wakes", wakes).await.is_ok() {
                    live(&scene, &mut promised).await;
                }
                scene.subscriptions.stop();
                let scene = scene.again_over(open(&disk.crash_machine())).await;
                judge(&scene, &promised, &format!("{kind}, cut at operation {cut}")).await;
                scene.subscriptions.stop();
            });
        }
    }
}
