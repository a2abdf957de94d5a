//! What verify, exports and listings say of the streams in which schedules are stored.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::backend::ListRequest;
use tailwater_storage::engine::Existing;
use tailwater_storage::stream::{ControlChange, Part, Record, ScheduleConfig};
use tailwater_storage::{Memory, acid};

use super::scene::{PERIOD_MS, Scene, acid_store, config, id, job, over_each, until};
use crate::support::ask::run;
use crate::support::faulty_disk::FaultyDisk;
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
