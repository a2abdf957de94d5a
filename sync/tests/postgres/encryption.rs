//! TLS to PostgreSQL: what is trusted, and that passwords are bound to it.

use tailwater_e2e::Postgres;
use tailwater_e2e::authority::Authority;
use tailwater_sync::postgres::{Error, Settings, Store};

use crate::scene::DATABASE;

struct Encrypted {
    postgres: Postgres,
    _files: tempfile::TempDir,
    ca: String,
}

impl Encrypted {
    /// One that lets `ada` in by TLS alone, and by a password that is bound to it.
    fn start() -> Self {
        let authority = Authority::new("of the tests");
        let issued = authority.issue();
        let mut postgres = Postgres::start();
        postgres.sql(DATABASE, "CREATE USER ada PASSWORD 'correct'");
        let certificate = postgres.file("server.pem", &issued.pem);
        let key = postgres.file("server.key", &issued.key_pem);
        postgres.sql(
            DATABASE,
            &format!("ALTER SYSTEM SET ssl_cert_file = '{}'", certificate.display()),
        );
        postgres.sql(
            DATABASE,
            &format!("ALTER SYSTEM SET ssl_key_file = '{}'", key.display()),
        );
        postgres.sql(DATABASE, "ALTER SYSTEM SET ssl = on");
        let rules =
            "hostssl all ada all scram-sha-256\nhostnossl all ada all reject\nhost all all all trust\n";
        std::fs::write(postgres.data().join("pg_hba.conf"), rules).unwrap();
        postgres.stop();
        postgres.restart();
        let files = tempfile::tempdir().unwrap();
        let ca = files.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        Self {
            postgres,
            ca: ca.display().to_string(),
            _files: files,
        }
    }

    fn url(&self, parameters: &str) -> String {
        format!("{}?{parameters}", self.postgres.url_of("ada:correct", DATABASE))
    }
}

async fn connect(url: &str) -> Result<Store, Error> {
    Store::connect(&Settings::from_url(url).unwrap()).await
}

#[tokio::test]
#[ignore = "needs a PostgreSQL with TLS; `make test-mirror` brings it"]
async fn tls_is_spoken_with_a_server_whose_authority_is_named_and_passwords_are_bound_to_it() {
    let encrypted = Encrypted::start();
    for mode in [
        "",
        "&sslmode=require",
        "&sslmode=verify-full",
        "&channel_binding=require",
    ] {
        let mut store = connect(&encrypted.url(&format!("sslrootcert={}{mode}", encrypted.ca)))
            .await
            .unwrap();
        assert!(
            store.places(&[]).await.is_err(),
            "there are no tables, but there is a connection"
        );
        let ssl = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                   WHERE application_name = 'tailwater-sync'";
        assert!(encrypted.postgres.sql(DATABASE, ssl).starts_with('t'), "{mode}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL with TLS; `make test-mirror` brings it"]
async fn a_server_that_nobody_vouches_for_is_refused_whatever_is_said_of_tls() {
    let encrypted = Encrypted::start();
    let other = Authority::new("unknown");
    let files = tempfile::tempdir().unwrap();
    let other_ca = files.path().join("other.pem");
    std::fs::write(&other_ca, other.pem()).unwrap();
    for parameters in [
        format!("sslrootcert={}", other_ca.display()),
        "sslmode=require".to_owned(),
        String::new(),
    ] {
        let error = connect(&encrypted.url(&parameters)).await.unwrap_err();
        assert!(
            matches!(error, Error::Untrusted { .. }) && !error.heals(),
            "{parameters}: {error:?}"
        );
        assert!(error.to_string().contains("sslrootcert"), "{error}");
    }
    // Another name than that of the certificate.
    let url = encrypted
        .url(&format!("sslrootcert={}", encrypted.ca))
        .replace("localhost", "127.0.0.1");
    let error = connect(&url).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_if_tls_is_asked_for() {
    let postgres = Postgres::start();
    let error = connect(&format!("{}?sslmode=verify-full", postgres.url(DATABASE)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::NoTls { .. }) && !error.heals(),
        "{error:?}"
    );
    assert!(error.to_string().contains("sslmode=disable"), "{error}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL with TLS; `make test-mirror` brings it"]
async fn a_server_that_wants_tls_is_not_spoken_to_in_clear() {
    let encrypted = Encrypted::start();
    let error = connect(&encrypted.url("sslmode=disable")).await.unwrap_err();
    assert!(matches!(error, Error::NotLetIn { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_used_is_named() {
    let files = tempfile::tempdir().unwrap();
    let empty = files.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for (path, said) in [
        (&empty, "has no certificate"),
        (&files.path().join("missing.pem"), "cannot be used"),
    ] {
        let error = connect(&format!(
            "postgres://ada@localhost/logs?sslrootcert={}",
            path.display()
        ))
        .await
        .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(said) && message.contains(&path.display().to_string()),
            "{message}"
        );
        assert!(!error.heals());
    }
}
