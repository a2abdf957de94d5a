//! Whom the mirror connects to, and what it says if it cannot.

use tailwater_e2e::Postgres;
use tailwater_sync::postgres::{Error, Settings, Store};

use crate::scene::{DATABASE, Scene, Source, written};

async fn refused(url: &str) -> Error {
    Store::connect(&Settings::from_url(url).unwrap())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_wrong_password_user_or_database_is_named() {
    let postgres = Postgres::start();
    postgres.sql(DATABASE, "CREATE USER ada PASSWORD 'correct'");
    let rules = "host all ada all scram-sha-256\nhost all nobody all reject\nhost all all all trust\n";
    std::fs::write(postgres.data().join("pg_hba.conf"), rules).unwrap();
    postgres.sql(DATABASE, "SELECT pg_reload_conf()");
    tailwater_e2e::eventually("the rules are read", || {
        let read = postgres.sql(
            DATABASE,
            "SELECT string_agg(array_to_string(user_name, ''), ' ') FROM pg_hba_file_rules",
        );
        (read == "ada nobody all").then_some(())
    });
    // The new rules hold for connections from the next one on that the first process accepts after it was told.
    tailwater_e2e::eventually("the rules hold", || {
        let without = postgres.url_of("nobody", DATABASE);
        let output = postgres
            .psql(DATABASE)
            .args(["-d", &without, "-c", "SELECT 1"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr)
            .contains("pg_hba.conf rejects")
            .then_some(())
    });

    Store::connect(&Settings::from_url(&postgres.url_of("ada:correct", DATABASE)).unwrap())
        .await
        .unwrap();
    for (user, said) in [
        ("ada:wrong", "password authentication failed for user \"ada\""),
        ("nobody", "pg_hba.conf rejects connection"),
        ("grace", "role \"grace\" does not exist"),
    ] {
        let error = refused(&postgres.url_of(user, DATABASE)).await;
        assert!(
            matches!(error, Error::NotLetIn { .. }) && !error.heals(),
            "{error:?}"
        );
        assert!(
            error.to_string().contains(said) && error.to_string().contains("pg_hba.conf"),
            "{error}"
        );
        assert!(!format!("{error:?} {error}").contains("wrong"), "{error:?}");
    }
    let error = refused(&postgres.url("elsewhere")).await;
    assert!(
        matches!(error, Error::NoDatabase { .. }) && !error.heals(),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("database \"elsewhere\" does not exist; create it"),
        "{error}"
    );
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_character_is_refused() {
    let postgres = Postgres::start_encoded("LATIN1");
    let error = refused(&postgres.url(DATABASE)).await;
    assert!(
        matches!(&error, Error::Encoding { found } if found == "LATIN1") && !error.heals(),
        "{error:?}"
    );
}

#[tokio::test]
#[ignore = "needs a PostgreSQL 13; `make test-mirror` brings it"]
async fn a_server_that_is_too_old_is_refused_and_told_which_would_do() {
    let postgres = Postgres::start_old();
    let error = refused(&postgres.url(DATABASE)).await;
    assert!(
        matches!(&error, Error::TooOld { found } if found.starts_with("13.")) && !error.heals(),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(
        message.contains("PostgreSQL 13.") && message.contains("14"),
        "{message}"
    );
}

#[tokio::test]
async fn too_many_connections_heal() {
    let options = [
        "max_connections=3",
        "superuser_reserved_connections=0",
        "max_wal_senders=0",
    ];
    let scene = Scene::with(Postgres::start_with(&options)).await;
    let mut stores = Vec::new();
    let error = loop {
        match Store::connect(&scene.settings()).await {
            Ok(store) => stores.push(store),
            Err(error) => break error,
        }
        assert!(stores.len() <= 3, "the limit holds");
    };
    assert!(
        matches!(&error, Error::Busy { code, .. } if code == "53300") && error.heals(),
        "{error:?}"
    );
    drop(stores);
    let deadline = std::time::Instant::now() + tailwater_e2e::PATIENCE;
    while Store::connect(&scene.settings()).await.is_err() {
        assert!(
            std::time::Instant::now() < deadline,
            "connections that are dropped are ended"
        );
    }
}

#[tokio::test]
async fn a_server_that_only_reads_heals() {
    let scene = Scene::new().await;
    let source = Source::new("runs/7", 1, 4);
    scene.sql("ALTER DATABASE postgres SET default_transaction_read_only = on");
    let mut store = scene.store().await;
    let error = store.commit(&[source.chunk(0..2)]).await.unwrap_err();
    assert!(matches!(error, Error::ReadOnly) && error.heals(), "{error:?}");
    scene.postgres.sql(
        "template1",
        "ALTER DATABASE postgres SET default_transaction_read_only = off",
    );
    assert_eq!(
        scene.store().await.commit(&[source.chunk(0..2)]).await.unwrap(),
        [written(2)]
    );
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_by_the_server_and_heals() {
    let scene = Scene::new().await;
    scene.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END'; \
         CREATE TRIGGER slow BEFORE INSERT ON tailwater.events FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let mut settings = scene.settings();
    settings.statement_timeout_ms = 100;
    let mut store = Store::connect(&settings).await.unwrap();
    let source = Source::new("runs/7", 1, 4);
    let error = store.commit(&[source.chunk(0..2)]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Busy { code, .. } if code == "57014") && error.heals(),
        "{error:?}"
    );
    scene.sql("DROP TRIGGER slow ON tailwater.events");
    assert_eq!(
        scene.store().await.commit(&[source.chunk(0..2)]).await.unwrap(),
        [written(2)]
    );
}

/// What the mirror has may be deleted at the source, so that a commit must be on the disk when it is told.
#[tokio::test]
async fn a_commit_is_on_the_disk_though_the_database_would_not_wait_for_that() {
    let scene = Scene::new().await;
    scene.sql("ALTER DATABASE postgres SET synchronous_commit = off");
    scene.sql(
        "CREATE TABLE seen (setting text); \
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN INSERT INTO seen SELECT current_setting('synchronous_commit'); RETURN NEW; END$$; \
         CREATE TRIGGER see BEFORE INSERT ON tailwater.events FOR EACH ROW EXECUTE FUNCTION see()",
    );
    let mut store = scene.store().await;
    store
        .commit(&[Source::new("runs/7", 1, 1).chunk(0..1)])
        .await
        .unwrap();
    scene.sql("ALTER DATABASE postgres SET synchronous_commit = remote_apply");
    let mut store = scene.store().await;
    store
        .commit(&[Source::new("runs/8", 1, 1).chunk(0..1)])
        .await
        .unwrap();
    assert_eq!(scene.sql("SELECT setting FROM seen"), "on\nremote_apply");
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let scene = Scene::new().await;
    let socket = scene.sql("SHOW unix_socket_directories").replace('/', "%2F");
    let url = format!(
        "postgres://postgres@{socket}:{}/{DATABASE}",
        scene.postgres.address().port()
    );
    let mut store = Store::connect(&Settings::from_url(&url).unwrap()).await.unwrap();
    store
        .commit(&[Source::new("runs/7", 1, 1).chunk(0..1)])
        .await
        .unwrap();
}
