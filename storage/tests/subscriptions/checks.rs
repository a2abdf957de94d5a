//! What verify says of the streams in which subscriptions are stored.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::backend::{ListRequest, Outcome};
use tailwater_storage::disk::Disk;
use tailwater_storage::file::Durability;
use tailwater_storage::stream::{ControlChange, Part, Record};
use tailwater_storage::{Backend, FileOptions, FileStore, acid, file};

use super::scene::{Scene, acid_store, pull, webhook};
use crate::support::ask::run;
use crate::support::faulty_disk::FaultyDisk;

const DIR: &str = "/data";

async fn subscribe(backend: Arc<dyn Backend>) {
    let scene = Scene::over(backend).await;
    scene.rig.create_json("wakes").await;
    scene.made("pull", pull(Some("jobs/*"), &["orders"])).await;
    scene.made("hook", webhook(Some("**"), &[])).await;
    scene.begin("jobs/a", "one").await;
    let claim = scene.claim("pull", "w").await;
    scene.ack_all("pull", &claim).await;
    scene.letters(1).await;
    scene.receiver.fail();
    super::scene::until(|| async { scene.state("hook").await.trouble.is_some() }).await;
    scene.subscriptions.stop();
    scene.rig.engine.stop();
}

/// A value that is none of a subscription's, under one of its keys.
fn spoil(backend: &dyn Backend, key: &'static str) {
    let request = ListRequest {
        prefix: "__ds/subscriptions/",
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
    let outcomes = backend
        .commit(backend.partition_of(stream), &[record])
        .expect("committed");
    assert_eq!(outcomes[..], [Outcome::Durable]);
}

fn file_store(disk: &Arc<FaultyDisk>) -> FileStore {
    let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
    let options = FileOptions {
        journal_bytes: 64 << 10,
        fold_bytes: 128 << 10,
        compacts_by_itself: false,
        ..FileOptions::new(DIR.into(), Durability::Durable, 1 << 20)
    };
    FileStore::open_unlocked(disk, options).expect("the store opens")
}

const KEYS: [&str; 3] = ["config", "state", "link/jobs/a"];

#[test]
fn a_file_store_is_clean_with_subscriptions_and_a_value_that_cannot_be_read_is_found() {
    let disk = FaultyDisk::new(0);
    run(subscribe(Arc::new(file_store(&disk))));
    file_store(&disk).compact().expect("the disk works");
    let report = file::verify(disk.as_ref(), Path::new(DIR)).expect("a store");
    assert_eq!(report.damage, [""; 0]);
    for (count, key) in KEYS.into_iter().enumerate() {
        let store = file_store(&disk);
        spoil(&store, key);
        store.compact().expect("the disk works");
        drop(store);
        let damage = file::verify(disk.as_ref(), Path::new(DIR))
            .expect("a store")
            .damage;
        assert_eq!(damage.len(), count + 1, "{damage:?}");
        assert!(damage.iter().any(|what| what.contains(key)), "{damage:?}");
    }
}

#[test]
fn shards_are_clean_with_subscriptions_and_a_value_that_cannot_be_read_is_found() {
    let disk = FaultyDisk::new(0);
    run(subscribe(acid_store(&disk)));
    let report = acid::verify(disk.as_ref(), Path::new(DIR)).expect("a store");
    assert_eq!(report.damage, [""; 0]);
    for (count, key) in KEYS.into_iter().enumerate() {
        spoil(acid_store(&disk).as_ref(), key);
        let damage = acid::verify(disk.as_ref(), Path::new(DIR))
            .expect("a store")
            .damage;
        assert_eq!(damage.len(), count + 1, "{damage:?}");
        assert!(damage.iter().any(|what| what.contains(key)), "{damage:?}");
    }
}

/// An import may bring anything in. It must not keep the server from starting, nor the other subscriptions from waking.
#[test]
fn a_subscription_that_cannot_be_read_keeps_no_other_one_from_being_served() {
    let disk = FaultyDisk::new(0);
    run(subscribe(acid_store(&disk)));
    spoil(acid_store(&disk).as_ref(), "config");
    run(async {
        let scene = Scene::over(acid_store(&disk)).await;
        assert_eq!(scene.subscriptions.count(), 1);
        scene
            .subscribe("hook", webhook(None, &["jobs/a"]))
            .await
            .expect("made anew");
        assert_eq!(scene.subscriptions.count(), 2);
    });
}

/// A link that could not be read kept what had moved for other subscriptions from being looked for.
#[test]
fn a_link_that_cannot_be_read_keeps_no_other_subscription_from_waking() {
    let disk = FaultyDisk::new(0);
    run(subscribe(acid_store(&disk)));
    run(async {
        let scene = Scene::over(acid_store(&disk)).await;
        scene.subscriptions.stop();
        scene.rig.append("jobs/a", "two").await.expect("appended");
        scene.rig.engine.stop();
    });
    spoil(acid_store(&disk).as_ref(), "link/jobs/a");
    run(async {
        let scene = Scene::over(acid_store(&disk)).await;
        assert_eq!(scene.claim("pull", "w").await.work.len(), 1);
    });
}
