//! Subscriptions go along with the streams of an export.

use std::sync::Arc;

use tailwater_storage::Engine;
use tailwater_storage::Memory;
use tailwater_storage::engine::{Begun, Existing};

use super::scene::{Scene, id, over_each, pull, until};

async fn transfer(from: &Engine, to: &Engine) {
    let mut exporter = from.export("");
    let mut importer = to.import(Existing::Refuse);
    while let Some(mut export) = exporter.next().await.expect("it can be read") {
        if importer.begin(export.stream().clone()).await.expect("room") == Begun::Present {
            continue;
        }
        for (key, value) in export.controls().to_vec() {
            importer.control(key, value).await.expect("room");
        }
        while let Some(append) = export.next().await.expect("it can be read") {
            importer.append(append).await.expect("room");
        }
        importer.finish().await.expect("room");
    }
}

#[test]
fn an_imported_subscription_goes_on_where_the_exported_one_was() {
    over_each(|scene| async move {
        scene.made("s", pull(Some("jobs/*"), &["orders"])).await;
        for stream in ["jobs/a", "jobs/b", "orders"] {
            scene.begin(stream, "one").await;
        }
        let claim = scene.claim("s", "w").await;
        scene.ack_all("s", &claim).await;
        scene.rig.append("orders", "two").await.expect("appended");
        let links = scene.links("s").await;

        let other = Scene::over(Arc::new(Memory::new(1 << 30))).await;
        transfer(&scene.rig.engine, &other.rig.engine).await;
        until(|| async { other.subscriptions.get(&id("s")).await.is_ok() }).await;
        assert_eq!(other.links("s").await, links);
        until(|| async {
            other
                .subscriptions
                .get(&id("s"))
                .await
                .expect("there")
                .summary
                .pending_streams
                == 1
        })
        .await;
        let claim = other.claim("s", "w").await;
        assert_eq!(claim.work.len(), 1);
        assert_eq!(claim.work[0].stream.as_str(), "orders");
        assert!(claim.claimed.generation >= 2, "no generation comes again");
    });
}
