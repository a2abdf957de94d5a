//! Behind a pooler that hands out servers transaction by transaction: PgBouncer, with fewer servers than there are
//! mirrors.

use std::sync::Arc;

use tailwater_e2e::{PgBouncer, Postgres};
use tailwater_sync::event::Payload;
use tailwater_sync::postgres::{Outcome, Settings, Store};

use crate::late_answers::LateAnswers;
use crate::leases::Member;
use crate::races::{EVENTS, STREAMS, mirror};
use crate::scene::{DATABASE, Scene, Source, written};

const MIRRORS: u64 = 6;
/// Longer than PostgreSQL takes for anything here on a busy machine.
const ANSWER_TIMEOUT_MS: u64 = 30_000;

/// An answer that is lost is not waited for as long as in production.
fn settings_of(pooler: &PgBouncer) -> Settings {
    let mut settings = Settings::from_url(&pooler.url(DATABASE)).unwrap();
    settings.answer_timeout_ms = ANSWER_TIMEOUT_MS;
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PgBouncer; `make test-mirror` brings it"]
async fn mirrors_behind_a_transaction_pooler_migrate_race_and_bury_dead_letters() {
    let postgres = Postgres::start();
    let pooler = PgBouncer::before(postgres.address());
    let settings = settings_of(&pooler);
    let migrating = (0..MIRRORS).map(|_| {
        let settings = settings.clone();
        tokio::spawn(async move { Store::connect(&settings).await.unwrap().migrate().await })
    });
    for migrated in migrating.collect::<Vec<_>>() {
        migrated.await.unwrap().unwrap();
    }
    let scene = Scene { postgres };
    let sources: Vec<_> = (0..STREAMS)
        .map(|number| Source::new(&format!("runs/{number}"), 1, EVENTS))
        .collect();
    let sources = Arc::new(sources);
    let mirrors: Vec<_> = (0..MIRRORS)
        .map(|seed| tokio::spawn(mirror(settings.clone(), Arc::clone(&sources), seed)))
        .collect();
    let mut rows = 0;
    for mirror in mirrors {
        rows += mirror.await.unwrap();
    }
    assert_eq!(rows, (STREAMS * EVENTS) as u64);
    for source in sources.iter() {
        scene.check(source, EVENTS);
    }

    // A failed copy, savepoints and a second transaction, twenty times, whichever server each of them gets.
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(Store::connect(&settings).await.unwrap());
    }
    for number in 0..20 {
        bury_one(&mut stores[number % 4], number).await;
    }
    check_that_all_are_idle(&scene);
}

/// A commit stood still for as long as answers are waited for, on a busy machine: PgBouncer 1.18 counts the answers
/// that are due, and begins anew when a copy fails. So the end of that copy, if it came late, counted for the answer to
/// `ROLLBACK`, and that for the one to `BEGIN` behind it, with which the server was handed to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PgBouncer; `make test-mirror` brings it"]
async fn an_error_whose_end_comes_late_leaves_a_transaction_pooler_in_step() {
    let postgres = Postgres::start();
    let late = LateAnswers::of(postgres.address());
    let pooler = PgBouncer::before(late.address);
    let mut store = Store::connect(&settings_of(&pooler)).await.unwrap();
    store.migrate().await.unwrap();
    for number in 0..20 {
        bury_one(&mut store, number).await;
    }
    check_that_all_are_idle(&Scene { postgres });
}

/// Commits one event that PostgreSQL refuses among good ones, and others behind it.
async fn bury_one(store: &mut Store, number: usize) {
    let payloads = ["1", "1e200000", "1"].map(|text| Payload::Json(text.into()));
    let source = Source::of(&format!("bad/{number}"), 1, payloads);
    let outcomes = store.commit(&[source.chunk(0..3)]).await.unwrap();
    let buried = Outcome::Written {
        rows: 2,
        dead_letters: 1,
    };
    assert_eq!(outcomes, [buried]);
    assert!(!store.is_closed(), "a refused row costs no connection");
    let other = Source::new(&format!("good/{number}"), 1, 2);
    assert_eq!(store.commit(&[other.chunk(0..2)]).await.unwrap(), [written(2)]);
}

fn check_that_all_are_idle(scene: &Scene) {
    let busy =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tailwater-sync' AND state <> 'idle'";
    assert_eq!(scene.sql(busy), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PgBouncer; `make test-mirror` brings it"]
async fn leases_are_taken_lost_and_checked_behind_a_transaction_pooler() {
    let postgres = Postgres::start();
    let pooler = PgBouncer::before(postgres.address());
    let settings = settings_of(&pooler);
    Store::connect(&settings).await.unwrap().migrate().await.unwrap();
    let scene = Scene { postgres };
    // Each call of either may be on any of the two servers.
    let mut dead = Member::by(Store::connect(&settings).await.unwrap()).await;
    let mut heir = Member::by(Store::connect(&settings).await.unwrap()).await;
    for number in 0..20 {
        let source = Source::new(&format!("runs/{number}"), 1, 4);
        assert_eq!(
            dead.store.commit(&[source.chunk(0..2)]).await.unwrap(),
            [written(2)]
        );
        assert_eq!(
            heir.store.commit(&[source.chunk(2..4)]).await.unwrap(),
            [Outcome::Fenced]
        );
        dead.let_expire(&scene);
        assert_eq!(heir.store.bury().await.unwrap(), 1);
        assert_eq!(heir.take().await, 64);
        assert_eq!(
            dead.store.commit(&[source.chunk(2..4)]).await.unwrap(),
            [Outcome::Fenced]
        );
        assert_eq!(
            heir.store.commit(&[source.chunk(2..4)]).await.unwrap(),
            [written(2)]
        );
        scene.check(&source, 4);
        dead = heir;
        heir = Member::by(Store::connect(&settings).await.unwrap()).await;
    }
    let kept = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(scene.sql(kept), "0");
}
