//! Routes of tests, and a store that follows them.

use std::sync::Arc;

use tailwater_process::File;
use tailwater_sync::event::Payload;
use tailwater_sync::postgres::{RouteFault, Store};
use tailwater_sync::route::{Routes, file};

use crate::scene::Scene;

/// Reads routes, as they are in a configuration file.
#[track_caller]
pub(crate) fn routes(text: &str) -> Arc<Routes> {
    let file = File {
        path: "test".to_owned(),
        text: text.to_owned(),
    };
    Arc::new(file::read(&file, false).expect("right routes"))
}

/// A store that follows routes, with its tables made where routes ask for it.
pub(crate) async fn store_of(scene: &Scene, text: &str) -> Store {
    let mut settings = scene.settings();
    settings.routes = routes(text);
    let mut store = Store::connect(&settings).await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.route_faults().await.unwrap(), []);
    store
}

/// What is wrong with the tables of these routes, for that user.
pub(crate) async fn faults_of(scene: &Scene, user: &str, text: &str) -> Vec<RouteFault> {
    let url = scene.postgres.url_of(user, crate::scene::DATABASE);
    let mut settings = tailwater_sync::postgres::Settings::from_url(&url).unwrap();
    settings.routes = routes(text);
    let mut store = Store::connect(&settings).await.unwrap();
    store.route_faults().await.unwrap()
}

/// Payloads of a stream of JSON.
pub(crate) fn json<const N: usize>(texts: [&str; N]) -> Vec<Payload> {
    let payload = |text: &&str| Payload::Json((*text).to_owned().into());
    texts.iter().map(payload).collect()
}
