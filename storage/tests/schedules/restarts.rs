//! What crashes at each operation of the disk leave: no fire time is enqueued for twice, and none is forgotten.

use std::sync::Arc;

use tailwater_storage::Backend;
use tailwater_storage::clock::ManualClock;
use tailwater_storage::stream::CreateCommand;

use super::scene::{JOBS, PERIOD_MS, Scene, acid_store, config, file_store, id, job, until};
use crate::support::ask::{START_MS, json, run};
use crate::support::faulty_disk::FaultyDisk;

/// A kind of store, by its name in failures.
type Store = (&'static str, fn(&Arc<FaultyDisk>) -> Arc<dyn Backend>);

const STORES: [Store; 2] = [("file", file_store), ("acid", acid_store)];
const PERIODS: u64 = 4;

/// Lives as long as its disk does. Whether the schedule is known to have been made.
async fn live(scene: &Scene) -> bool {
    let command = CreateCommand {
        content_type: Some(json()),
        ..CreateCommand::default()
    };
    if scene.rig.create_with(JOBS, command).await.is_err() || scene.put("s", config()).await.is_err() {
        return false;
    }
    let failure = scene.rig.engine.failure();
    for periods in 1..=PERIODS {
        scene.pass_ms(PERIOD_MS);
        until(|| async {
            let fires = scene.get("s").await.state.fires;
            fires == periods || failure.borrow().is_some()
        })
        .await;
    }
    true
}

#[test]
fn a_crash_at_each_operation_of_the_disk_enqueues_nothing_twice_and_forgets_nothing() {
    for (kind, open) in STORES {
        let whole = FaultyDisk::new(0);
        let store = open(&whole);
        let before = whole.operations();
        run(async {
            let scene = Scene::over(store).await;
            assert!(live(&scene).await, "nothing fails");
            scene.schedules.stop();
        });
        let operations = whole.operations();
        let step = ((operations - before) / 60).max(1) as usize;
        for cut in (before..operations).step_by(step) {
            let disk = FaultyDisk::new(cut);
            run(async {
                let scene = Scene::over(open(&disk)).await;
                disk.cut_at(cut);
                let is_made = live(&scene).await;
                let clock = Arc::clone(&scene.rig.clock);
                let scene = scene.again_over(open(&disk.crash_machine()), clock).await;
                judge(&scene, is_made, &format!("{kind}, cut at operation {cut}")).await;
                scene.schedules.stop();
            });
        }
    }
}

async fn judge(scene: &Scene, is_made: bool, at: &str) {
    if scene.schedules.get(&id("s")).await.is_err() {
        assert!(!is_made, "{at}: the schedule is gone");
        return;
    }
    scene.pass_ms(PERIOD_MS);
    let now = scene.rig.engine.now().as_millis();
    let due = (now - START_MS) / PERIOD_MS;
    // One that was made and whose client did not hear of it may have fired for nothing yet.
    until(|| async {
        scene
            .get("s")
            .await
            .next
            .is_some_and(|next| next.as_millis() > now)
    })
    .await;
    let jobs = scene.jobs().await;
    let expected: Vec<_> = (1..=due).map(|periods| job("s", periods)).collect();
    assert_eq!(jobs, expected, "{at}");
}

#[test]
fn a_process_whose_clock_is_behind_runs_nothing_again() {
    for (kind, open) in STORES {
        run(async {
            let disk = FaultyDisk::new(0);
            let scene = Scene::over(open(&disk)).await;
            assert!(live(&scene).await);
            let clock = Arc::new(ManualClock::at_millis(START_MS));
            let scene = scene.again_over(open(&disk.crash_machine()), clock).await;
            for _ in 0..=PERIODS {
                scene.pass_ms(PERIOD_MS);
            }
            scene.fired("s", PERIODS + 1).await;
            let expected: Vec<_> = (1..=PERIODS + 1).map(|periods| job("s", periods)).collect();
            assert_eq!(scene.jobs().await, expected, "{kind}");
        });
    }
}
