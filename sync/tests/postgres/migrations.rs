//! The tables are made once, by whoever comes first, and by nobody who may not.

use tailwater_e2e::Postgres;
use tailwater_sync::postgres::{Error, Settings, Store};

use crate::scene::{DATABASE, Scene, Source, written};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_that_migrate_at_once_make_the_tables_once() {
    let postgres = Postgres::start();
    for round in 0..5 {
        let database = format!("round_{round}");
        postgres.sql(DATABASE, &format!("CREATE DATABASE {database}"));
        let settings = Settings::from_url(&postgres.url(&database)).unwrap();
        let mut stores = Vec::new();
        for _ in 0..8 {
            stores.push(Store::connect(&settings).await.unwrap());
        }
        let migrating = stores
            .into_iter()
            .map(|mut store| tokio::spawn(async move { store.migrate().await }));
        for migrated in migrating.collect::<Vec<_>>() {
            migrated.await.unwrap().unwrap();
        }
        assert_eq!(
            postgres.sql(&database, "SELECT version FROM tailwater.schema_version"),
            "1"
        );
    }
}

#[tokio::test]
async fn tables_that_are_there_are_left_as_they_are() {
    let scene = Scene::new().await;
    let mut store = scene.store().await;
    let source = Source::new("runs/7", 1, 4);
    store.commit(&[source.chunk(0..2)]).await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.commit(&[source.chunk(2..4)]).await.unwrap(), [written(2)]);
    scene.check(&source, 4);
}

#[tokio::test]
async fn tables_of_a_newer_mirror_are_refused() {
    let scene = Scene::new().await;
    scene.sql("INSERT INTO tailwater.schema_version VALUES (7)");
    let error = scene.store().await.migrate().await.unwrap_err();
    assert!(
        matches!(error, Error::SchemaTooNew { found: 7, known: 1 }) && !error.heals(),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("has version 7, and this mirror knows 1 at most"),
        "{error}"
    );
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let postgres = Postgres::start();
    // What stands in the way of the last table.
    postgres.sql(
        DATABASE,
        "CREATE SCHEMA tailwater; CREATE VIEW tailwater.dead_letters AS SELECT 1",
    );
    let settings = Settings::from_url(&postgres.url(DATABASE)).unwrap();
    let mut store = Store::connect(&settings).await.unwrap();
    store.migrate().await.unwrap_err();
    let relations = "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                     WHERE nspname = 'tailwater'";
    assert_eq!(postgres.sql(DATABASE, relations), "dead_letters");
    postgres.sql(DATABASE, "DROP VIEW tailwater.dead_letters");
    store.migrate().await.unwrap();
}

#[tokio::test]
async fn who_may_do_what_is_enough_and_what_is_missing_is_named() {
    let postgres = Postgres::start();
    postgres.sql(DATABASE, "CREATE USER mirror");
    let settings = Settings::from_url(&postgres.url_of("mirror", DATABASE)).unwrap();
    let mut store = Store::connect(&settings).await.unwrap();
    let source = Source::new("runs/7", 1, 4);

    let error = store.commit(&[source.chunk(0..2)]).await.unwrap_err();
    assert!(
        matches!(error, Error::SchemaMissing { .. }) && !error.heals(),
        "{error:?}"
    );
    let mut store = Store::connect(&settings).await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(
        matches!(error, Error::MissingRights { .. }) && !error.heals(),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(
        message.contains("permission denied for database") && message.contains("GRANT CREATE ON DATABASE"),
        "{message}"
    );

    // An owner who lets nobody make schemas makes this one.
    postgres.sql(DATABASE, "CREATE SCHEMA tailwater AUTHORIZATION mirror");
    store.migrate().await.unwrap();
    assert_eq!(store.commit(&[source.chunk(0..2)]).await.unwrap(), [written(2)]);

    // Once the tables are there, the mirror needs no right to change them.
    postgres.sql(
        DATABASE,
        "CREATE USER lesser; GRANT USAGE ON SCHEMA tailwater TO lesser",
    );
    let settings = Settings::from_url(&postgres.url_of("lesser", DATABASE)).unwrap();
    let mut store = Store::connect(&settings).await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, Error::MissingRights { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("permission denied for table schema_version"),
        "{error}"
    );
    postgres.sql(
        DATABASE,
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA tailwater TO lesser",
    );
    store.migrate().await.unwrap();
    assert_eq!(store.commit(&[source.chunk(2..4)]).await.unwrap(), [written(2)]);
}
