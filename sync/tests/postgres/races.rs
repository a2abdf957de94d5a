//! Several mirrors write the same streams at once, knowing nothing of each other.

use std::sync::Arc;

use tailwater_sync::postgres::{Error, Outcome, Settings, Store};

use crate::scene::{Scene, Source, go_on, written};

pub(crate) const STREAMS: usize = 12;
pub(crate) const EVENTS: usize = 150;
const MIRRORS: u64 = 4;

/// Writes all of the sources, several in each transaction and in an order of its own, as if it were alone.
pub(crate) async fn mirror(settings: Settings, sources: Arc<Vec<Source>>, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut store = Store::connect(&settings).await.unwrap();
    let mut ends = vec![0; sources.len()];
    let mut rows = 0;
    while ends.iter().any(|end| *end < EVENTS) {
        let mut chosen: Vec<_> = (0..sources.len()).filter(|at| ends[*at] < EVENTS).collect();
        random.shuffle(&mut chosen);
        chosen.truncate(random.usize(1..=4));
        let chunks: Vec<_> = chosen
            .iter()
            .map(|at| sources[*at].chunk(ends[*at]..(ends[*at] + random.usize(1..9)).min(EVENTS)))
            .collect();
        let outcomes = store.commit(&chunks).await.unwrap();
        for ((at, chunk), outcome) in chosen.iter().zip(&chunks).zip(outcomes) {
            if let Outcome::Written { rows: more, .. } = outcome {
                rows += more;
            }
            let end = sources[*at].events_before(chunk.next);
            ends[*at] = go_on(&sources[*at], outcome, end);
        }
    }
    rows
}

/// No error is taken: were places locked in the order in which chunks come, some of these transactions would meet a
/// deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_that_race_over_the_same_streams_write_each_event_once_and_never_wait_for_each_other_in_a_ring()
 {
    let scene = Scene::new().await;
    let sources: Vec<_> = (0..STREAMS)
        .map(|number| Source::new(&format!("runs/{number}"), 1, EVENTS))
        .collect();
    let sources = Arc::new(sources);
    let mirrors: Vec<_> = (0..MIRRORS)
        .map(|seed| tokio::spawn(mirror(scene.settings(), Arc::clone(&sources), seed)))
        .collect();
    let mut rows = 0;
    for mirror in mirrors {
        rows += mirror.await.unwrap();
    }
    assert_eq!(rows, (STREAMS * EVENTS) as u64, "each row was told to one mirror");
    for source in sources.iter() {
        scene.check(source, EVENTS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_write_the_same_chunk_at_the_same_time_one_is_told_where_the_other_came_to() {
    let scene = Scene::new().await;
    let (mut one, mut other) = (scene.store().await, scene.store().await);
    for number in 0..20 {
        let source = Source::new(&format!("runs/{number}"), 1, 5);
        let chunks = [source.chunk(0..5)];
        let (first, second) = tokio::join!(one.commit(&chunks), other.commit(&chunks));
        let outcomes = [first.unwrap()[0], second.unwrap()[0]];
        assert!(outcomes.contains(&written(5)), "{outcomes:?}");
        let moved = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Moved { place: Some(place) } => Some(place.next),
            _ => None,
        });
        assert_eq!(moved, Some(source.offset(5)), "{outcomes:?}");
        scene.check(&source, 5);
    }
}

/// Somebody's own transaction holds a place, for longer than a lock is waited for.
#[tokio::test]
async fn a_locked_place_or_table_heals() {
    let scene = Scene::new().await;
    let source = Source::new("runs/7", 1, 5);
    scene.store().await.commit(&[source.chunk(0..2)]).await.unwrap();
    let mut settings = scene.settings();
    settings.lock_timeout_ms = 50;
    for lock in [
        "SELECT FROM tailwater.streams FOR UPDATE",
        "LOCK tailwater.events",
    ] {
        let holder = Holder::begin(&scene, lock);
        let mut store = Store::connect(&settings).await.unwrap();
        let error = store.commit(&[source.chunk(2..4)]).await.unwrap_err();
        assert!(
            matches!(&error, Error::Busy { code, .. } if code == "55P03"),
            "{error:?}"
        );
        assert!(error.heals());
        // The library is out of step with the server after a copy that did not begin.
        assert!(store.is_closed());
        drop(holder);
        scene.check(&source, 2);
    }
    assert_eq!(
        scene.store().await.commit(&[source.chunk(2..4)]).await.unwrap(),
        [written(2)]
    );
    scene.check(&source, 4);
}

/// A `psql` that keeps a transaction open until it is dropped.
struct Holder(std::process::Child);

impl Holder {
    fn begin(scene: &Scene, statement: &str) -> Self {
        use std::io::{BufRead as _, BufReader, Write as _};
        use std::process::Stdio;
        let mut child = scene
            .postgres
            .psql(crate::scene::DATABASE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let script = format!("BEGIN; {statement};\n\\echo held\n");
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.map_while(Result::ok).any(|line| line == "held"),
            "psql has the lock"
        );
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
