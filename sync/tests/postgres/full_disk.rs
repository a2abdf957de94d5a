//! A full disk of PostgreSQL refuses commits, keeps what there is, and takes more once there is room.

use tailwater_e2e::{PATIENCE, Postgres, Volume};
use tailwater_sync::event::Payload;
use tailwater_sync::postgres::{Error, Outcome, Store};

use crate::scene::{Scene, Source};

const VOLUME_MEBIBYTES: u64 = 256;
const EVENTS: usize = 4_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts a tmpfs, for which one must be root; `make test` runs it"]
async fn a_tmpfs_that_is_full_heals_and_nothing_is_missing_or_twice() {
    let volume = Volume::tmpfs(VOLUME_MEBIBYTES);
    let data = volume.path().join("data");
    let mut scene = Scene::with(Postgres::start_at(&data, &["autovacuum=off"])).await;
    // Incompressible, so that a chunk takes what it says.
    let mut random = fastrand::Rng::with_seed(3);
    let payloads: Vec<_> = (0..EVENTS)
        .map(|_| {
            let noise: String = std::iter::repeat_with(|| random.alphanumeric())
                .take(1_000)
                .collect();
            Payload::Json(format!("\"{noise}\"").into())
        })
        .collect();
    let source = Source::of("runs/7", 1, payloads);
    let mut store = Some(scene.store().await);
    let mut foreign = Some(volume.fill("foreign"));
    let (mut at, mut full) = (0, 0);
    let deadline = std::time::Instant::now() + PATIENCE;
    while at < EVENTS {
        let end = (at + 50).min(EVENTS);
        let result = match &mut store {
            Some(store) => store.commit(&[source.chunk(at..end)]).await,
            None => Store::connect(&scene.settings()).await.map(|made| {
                store = Some(made);
                Vec::new()
            }),
        };
        match result.as_deref() {
            Ok([Outcome::Written { .. }]) => at = end,
            Ok([Outcome::Moved { place }]) => at = place.map_or(0, |place| source.events_before(place.next)),
            Ok(_) => {}
            Err(error) => {
                assert!(error.heals(), "{error:?}");
                assert!(std::time::Instant::now() < deadline, "never heals: {error}");
                full += usize::from(matches!(error, Error::DiskFull { .. }));
                // A server that has no room for its own journal ends, and is started again by whoever looks after it.
                let is_gone = scene.postgres.has_ended();
                if (full >= 3 || is_gone)
                    && let Some(path) = foreign.take()
                {
                    std::fs::remove_file(path).unwrap();
                }
                if is_gone {
                    scene.postgres.kill();
                    scene.postgres.restart();
                }
                if store.as_ref().is_some_and(Store::is_closed) {
                    store = None;
                }
            }
        }
    }
    assert!(foreign.is_none(), "the disk was full");
    assert!(full > 0, "and that was told");
    scene.check(&source, EVENTS);
}
