//! What verify, exports and listings say of the streams in which schedules are stored.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::backend::ListRequest;
use tailwater_storage::engine::Existing;
use tailwater_storage::panics::Task;
use tailwater_storage::schedules::ScheduleError;
use tailwater_storage::stream::{ControlChange, Part, Record, ScheduleConfig};
use tailwater_storage::{Backend, Memory, acid};

use super::scene::{PERIOD_MS, Scene, acid_store, config, id, job, over_each, until};
use crate::support::ask::{name, run};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::gated::{Gated, Question};
use crate::support::transfer::transfer;

#[test]
fn a_store_is_clean_with_schedules_and_a_value_that_cannot_be_read_is_found() {
    let disk = FaultyDisk::new(0);
    run(async {
        let scene = Scene::over(acid_store(&disk)).await;
        scene.rig.create_json("jobs").await;
        scene.put("s", config()).await.expect("made");
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
        scene.schedules.stop();
        scene.rig.engine.stop();
    });
    let report = acid::verify(disk.as_ref(), Path::new("/data")).expect("a store");
    assert_eq!(report.damage, [""; 0]);
    for (count, key) in ["config", "state", "other"].into_iter().enumerate() {
        let backend = acid_store(&disk);
        let request = ListRequest {
            prefix: "__ds/schedules/",
            after: None,
            count_max: 1,
        };
        let stream = backend.list(&request).expect("listed")[0].id;
        let mut record = Record::default();
        record.parts.push(Part::Control(ControlChange {
            stream,
            key: Bytes::from_static(key.as_bytes()),
            value: Some(Bytes::from_static(b"\x01\xff")),
        }));
        let partition = backend.partition_of(stream);
        backend.commit(partition, &[record]).expect("committed");
        drop(backend);
        let report = acid::verify(disk.as_ref(), Path::new("/data")).expect("a store");
        assert_eq!(report.damage.len(), count + 1, "{:?}", report.damage);
        assert!(
            report.damage.iter().any(|what| what.contains(key)),
            "{:?}",
            report.damage
        );
    }
    // What cannot be read keeps nobody from starting, and can be made anew.
    run(async {
        let scene = Scene::over(acid_store(&disk)).await;
        assert_eq!(scene.schedules.count(), 0);
        assert!(scene.put("s", config()).await.expect("made anew").new);
    });
}

#[test]
fn no_listing_tells_of_it() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        let listing = scene.rig.engine.list("", None, 10).await.expect("listed");
        let names: Vec<_> = listing
            .streams
            .iter()
            .map(|listed| listed.name.as_str())
            .collect();
        assert_eq!(names, ["jobs"]);
    });
}

#[test]
fn an_imported_schedule_goes_on_where_the_exported_one_was() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
        let other = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        transfer(&scene.rig.engine, &other.rig.engine, Existing::Refuse).await;
        until(|| async { other.schedules.count() == 1 }).await;
        assert_eq!(other.get("s").await, scene.get("s").await);
        // The other clock shows the fire time that is done.
        other.pass_ms(PERIOD_MS);
        other.pass_ms(PERIOD_MS);
        other.fired("s", 2).await;
        assert_eq!(other.jobs().await, [job("s", 1), job("s", 2)]);
    });
}

#[test]
fn an_import_that_replaces_a_schedule_replaces_what_it_does() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        let other = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        // Else its streams would have the ids of the imported ones, and be taken for them.
        other.pass_ms(1);
        other.rig.create_json("jobs").await;
        let hourly = ScheduleConfig {
            cron: "0 * * * *".into(),
            ..config()
        };
        other.put("s", hourly).await.expect("made");
        transfer(&scene.rig.engine, &other.rig.engine, Existing::Replace).await;
        until(|| async {
            let there = other.schedules.get(&id("s")).await;
            there.is_ok_and(|described| described.config == config())
        })
        .await;
        other.pass_ms(PERIOD_MS);
        other.fired("s", 1).await;
    });
}

/// What had been looked at before the schedule's turn came was taken over in it: one that a client had deleted meanwhile was
/// shown again until the next start, and could not be changed.
#[test]
fn a_schedule_that_is_deleted_while_an_import_brings_it_is_gone() {
    run(async {
        let exported = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        exported.rig.create_json("jobs").await;
        exported.put("s", config()).await.expect("made");

        let gated = Gated::new(1 << 20);
        let backend: Arc<dyn Backend> = Arc::<Gated>::clone(&gated);
        let scene = Scene::over(Arc::clone(&backend)).await;
        // Else its streams would have the ids of the imported ones, and be taken for them.
        scene.pass_ms(1);
        // The stream that it enqueues to stands in the other partition.
        scene.rig.create_json("bulk").await;
        let enqueues_there = ScheduleConfig {
            stream: name("bulk"),
            ..config()
        };
        scene.put("s", enqueues_there).await.expect("made");
        gated.hold();
        for _ in 0..100 {
            gated.let_one_pass(0);
        }
        scene.pass_ms(PERIOD_MS);
        until(|| async { gated.is_at_gate(1) }).await;
        // In its turn it waits for its message. Whoever deletes it waits for that turn, and so does what takes over the import.
        let schedules = scene.schedules.clone();
        let deleted = tokio::spawn(async move { schedules.delete(&id("s")).await });
        yield_often().await;
        transfer(&exported.rig.engine, &scene.rig.engine, Existing::Replace).await;
        yield_often().await;
        // What cannot be given back stays readable.
        let imported = backend.load(&id("s").stream()).expect("readable").expect("there");
        gated.damage(imported.id);
        gated.open();
        deleted.await.expect("no panic").expect("deleted");
        scene.rig.create_json("later").await;
        let gone = scene.schedules.get(&id("s")).await;
        assert!(matches!(gone, Err(ScheduleError::NotFound)), "{gone:?}");
    });
}

/// It did not fire, and could not be seen, before the next start, which found it.
#[test]
fn an_imported_schedule_is_taken_over_though_that_panics_at_first() {
    run(async {
        let exported = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        exported.rig.create_json("jobs").await;
        exported.put("s", config()).await.expect("made");
        let backend = Gated::inline(1 << 20);
        let scene = Scene::over(Arc::<Gated>::clone(&backend)).await;
        backend.panic_at(Question::Control);
        transfer(&exported.rig.engine, &scene.rig.engine, Existing::Refuse).await;
        until(|| async { scene.schedules.get(&id("s")).await.is_ok() }).await;
        assert!(backend.has_panicked());
        assert_eq!(scene.rig.engine.stats().panics.of(Task::ScheduleImports), 1);
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
        assert_eq!(scene.jobs().await, [job("s", 1)]);
    });
}

/// Lets all others go as far as they can.
async fn yield_often() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
