//! PostgreSQL ends amid commits, connections break, answers get lost. What was written is there once, whatever the
//! mirror was told.

use tailwater_e2e::proxy::CuttingProxy;
use tailwater_e2e::{PATIENCE, eventually};
use tailwater_sync::event::Offset;
use tailwater_sync::postgres::{Error, Outcome, Settings, Store};
use tokio::sync::watch;

use crate::scene::{DATABASE, Scene, Source, go_on, written};

const STREAMS: usize = 6;

/// Writes all of the sources to the end, whatever happens to PostgreSQL, and counts errors and outcomes.
struct Mirror {
    settings: Settings,
    store: Option<Store>,
    sources: Vec<Source>,
    ends: Vec<usize>,
    step: usize,
    errors: usize,
    /// Commits whose answer was an error, and which the next one found done.
    lost_answers: usize,
}

impl Mirror {
    fn new(settings: Settings, sources: Vec<Source>, step: usize) -> Self {
        Self {
            settings,
            store: None,
            ends: vec![0; sources.len()],
            sources,
            step,
            errors: 0,
            lost_answers: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.sources
            .iter()
            .zip(&self.ends)
            .all(|(source, end)| *end == source.payloads.len())
    }

    async fn connected(&mut self) -> Result<&mut Store, Error> {
        if self.store.as_ref().is_none_or(Store::is_closed) {
            self.store = Some(Store::connect(&self.settings).await?);
        }
        Ok(self.store.as_mut().expect("it was made"))
    }

    /// One transaction with a chunk of every stream.
    async fn step(&mut self) -> Result<(), Error> {
        let ranges = self.sources.iter().zip(&self.ends).map(|(source, end)| {
            let range = *end..(*end + self.step).min(source.payloads.len());
            source.chunk(range)
        });
        let chunks: Vec<_> = ranges.collect();
        let outcomes = self.connected().await?.commit(&chunks).await?;
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let end = self.sources[at].events_before(chunks[at].next);
            let next = go_on(&self.sources[at], outcome, end);
            if matches!(outcome, Outcome::Moved { .. }) && next > self.ends[at] {
                assert_eq!(next, end, "nobody else writes");
                self.lost_answers += 1;
            }
            self.ends[at] = next;
        }
        Ok(())
    }

    /// Steps, however often they fail.
    async fn insist(&mut self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Err(error) = self.step().await {
            assert!(error.heals(), "{error}");
            assert!(std::time::Instant::now() < deadline, "never heals: {error}");
            self.errors += 1;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

fn sources(events: usize) -> Vec<Source> {
    (0..STREAMS)
        .map(|number| Source::new(&format!("runs/{number}"), 1, events))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_postgresql_is_killed_no_row_is_missing_and_none_is_twice() {
    const ROUNDS: usize = 8;
    let mut scene = Scene::new().await;
    let mut mirror = Mirror::new(scene.settings(), sources(40_000), 7);
    let (steps, mut seen) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(async move {
        while !*stopped.borrow() {
            mirror.insist().await;
            steps.send_modify(|steps| *steps += 1);
        }
        mirror
    });
    let mut random = fastrand::Rng::with_seed(17);
    for _ in 0..ROUNDS {
        let more = *seen.borrow() + random.usize(3..40);
        seen.wait_for(|steps| *steps >= more).await.unwrap();
        scene.postgres.kill();
        scene.postgres.restart();
    }
    stop.send(true).unwrap();
    let mirror = writing.await.unwrap();
    assert!(mirror.errors > 0, "the kills were noticed");
    for (source, end) in mirror.sources.iter().zip(&mirror.ends) {
        scene.check(source, *end);
    }
}

/// A proxy that cuts every so many answers, from its first on, meets commits at the same moments again and again;
/// several of them meet all moments, also that at which PostgreSQL has committed and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_answer_is_lost_the_next_commit_tells_what_was_written() {
    let scene = Scene::new().await;
    let (mut cuts, mut lost_answers) = (0, 0);
    // Never so few that a connection and a commit do not get through.
    for nth in 20..32 {
        let proxy = CuttingProxy::before(scene.postgres.address(), nth);
        let port = proxy.address().port();
        let settings = Settings::from_url(&format!(
            "postgres://postgres@localhost:{port}/{DATABASE}?sslmode=disable"
        ));
        let named = |number| Source::new(&format!("by/{nth}/{number}"), 1, 45);
        let mut mirror = Mirror::new(settings.unwrap(), (0..2).map(named).collect(), 3);
        while !mirror.is_done() {
            mirror.insist().await;
        }
        for source in &mirror.sources {
            scene.check(source, 45);
        }
        cuts += proxy.cuts();
        lost_answers += mirror.lost_answers;
    }
    assert!(cuts > 12, "{cuts} cuts");
    assert!(lost_answers > 0, "some commit was done and its answer lost");
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_closed_and_heals() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 5);
    store.commit(&[source.chunk(0..2)]).await.unwrap();
    scene.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tailwater-sync'",
    );
    let error = store.commit(&[source.chunk(2..4)]).await.unwrap_err();
    assert!(error.heals(), "{error:?}");
    assert!(store.is_closed());
    assert_eq!(
        scene.store().await.commit(&[source.chunk(2..4)]).await.unwrap(),
        [written(2)]
    );
}

#[tokio::test]
async fn a_server_that_shuts_down_heals() {
    let mut scene = Scene::new().await;
    let source = Source::new("runs/7", 1, 5);
    let mut store = scene.store().await;
    scene.postgres.stop();
    let error = store.commit(&[source.chunk(0..2)]).await.unwrap_err();
    assert!(error.heals(), "{error:?}");
    let error = Store::connect(&scene.settings()).await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.heals(),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("localhost:") && error.to_string().contains("refused"),
        "{error}"
    );
    scene.postgres.restart();
    assert_eq!(
        scene.store().await.commit(&[source.chunk(0..2)]).await.unwrap(),
        [written(2)]
    );
}

/// A machine that hangs acknowledges what it is sent and answers nothing, so that no limit of its own helps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_given_up_in_time() {
    let scene = Scene::new().await;
    let mut settings = scene.settings();
    settings.answer_timeout_ms = 300;
    let source = Source::new("runs/7", 1, 5);
    let asked = "SELECT max(pid) FROM pg_stat_activity WHERE application_name = 'tailwater-sync'";
    for is_commit in [false, true] {
        let mut store = Store::connect(&settings).await.unwrap();
        let backend = scene.sql(asked).parse().unwrap();
        let frozen = scene.postgres.freeze(backend);
        let outcome = match is_commit {
            true => store.commit(&[source.chunk(0..2)]).await.map(drop),
            false => store.places(&["runs/7"]).await.map(drop),
        };
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, Error::TimedOut { timeout_ms: 300, .. }) && error.heals(),
            "{error:?}"
        );
        assert!(store.is_closed(), "an answer may still come");
        drop((frozen, store));
        eventually("the connection has ended", || {
            scene.sql(asked).is_empty().then_some(())
        });
    }
    // Whatever it does with what it was sent, nothing is there twice.
    let mut mirror = Mirror::new(scene.settings(), vec![source], 5);
    mirror.insist().await;
    while !mirror.is_done() {
        mirror.insist().await;
    }
    scene.check(&mirror.sources[0], 5);
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_leaves_no_transaction_open() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 500);
    let (mut at, mut drops) = (0, 0);
    for polls in 1..60 {
        let chunks = [source.chunk(at..at + 5)];
        {
            let mut call = std::pin::pin!(store.commit(&chunks));
            for _ in 0..polls {
                let once = futures_util::future::poll_fn(|context| {
                    std::task::Poll::Ready(call.as_mut().poll(context))
                });
                if once.await.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        if store.is_closed() {
            drops += 1;
            store = scene.store().await;
        }
        at = source.events_before(place_of(&mut store).await);
    }
    assert!(drops > 10, "{drops} calls were dropped half-way");
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tailwater-sync' AND state <> 'idle'";
    eventually("the connections are idle", || {
        (scene.sql(open) == "0").then_some(())
    });
    // Of a commit that was dropped one may hear late.
    at = source.events_before(place_of(&mut store).await);
    if at > 0 {
        scene.check(&source, at);
    }
    assert_eq!(
        store.commit(&[source.chunk(at..at + 1)]).await.unwrap(),
        [written(1)]
    );
}

async fn place_of(store: &mut Store) -> Offset {
    let places = store.places(&["runs/7"]).await.unwrap();
    places.get("runs/7").map_or(Offset::BEGINNING, |place| place.next)
}
