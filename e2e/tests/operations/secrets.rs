//! No secret is shown: neither in logs, at their most talkative, nor in errors, by `check`, in metrics, in tables, or among
//! the arguments of any process.

use std::fs;
use std::path::Path;

use tailwater_e2e::authority::{self, Authority};
use tailwater_e2e::mirror::Mirror;
use tailwater_e2e::postgres::Postgres;
use tailwater_e2e::{Server, eventually};

use crate::commands::{outcome, tailwater, tailwater_sync};

/// What each secret has in it.
const PASSWORD: &str = "marker-of-the-password";
const SOURCE_TOKEN: &str = "marker-of-the-source-token";
const CLIENT_TOKEN: &str = "marker-of-the-client-token";
const DAMAGED: &str = "bWFya2VyLW9mLWEtZGFtYWdlZC1rZXk";

/// What must be shown nowhere, and what was looked through.
struct Hunt {
    secrets: Vec<String>,
}

impl Hunt {
    #[track_caller]
    fn look(&self, place: &str, text: &str) {
        assert!(!text.is_empty(), "there is nothing to look at in {place}");
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is in {place}:\n{text}");
        }
    }

    /// The arguments of every process on the machine.
    #[track_caller]
    fn look_at_processes(&self) {
        let mut looked_at = 0;
        for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
            // A process may end meanwhile.
            if let Ok(arguments) = fs::read(entry.path().join("cmdline")) {
                let arguments = String::from_utf8_lossy(&arguments).into_owned();
                if !arguments.is_empty() {
                    self.look(&entry.path().display().to_string(), &arguments);
                    looked_at += 1;
                }
            }
        }
        assert!(
            looked_at >= 3,
            "this test, the server and the mirror are processes"
        );
    }
}

/// The long words of a file: keys are such.
fn words_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("it is there, and a text");
    let is_key = |character: char| character.is_ascii_alphanumeric() || "+/=_-".contains(character);
    let words = text.split(|character| !is_key(character));
    words
        .filter(|word| word.len() >= 20 && !word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn secrets_are_shown_nowhere_while_all_of_it_works() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    let file = |name: &str, text: &str| {
        fs::write(path(name), text).expect("it can be written");
        path(name).display().to_string()
    };
    let own = Authority::new("ours");
    let issued = own.issue();
    let (cert, key) = (file("cert.pem", &issued.pem), file("key.pem", &issued.key_pem));
    let keys = path("webhook-keys").display().to_string();
    let server = Server::start_with(&[
        ("DS_TLS__CERT_PATH", &cert),
        ("DS_TLS__KEY_PATH", &key),
        ("DS_SUBSCRIPTIONS__SIGNING_KEYS_PATH", &keys),
        ("RUST_LOG", "trace"),
    ])
    .by_tls(&authority::trusting(&own.pem(), &[]));
    let mut hunt = Hunt {
        secrets: vec![
            PASSWORD.to_owned(),
            SOURCE_TOKEN.to_owned(),
            CLIENT_TOKEN.to_owned(),
        ],
    };
    hunt.secrets.extend(words_of(&path("key.pem")));
    let keys_of_webhooks = words_of(&path("webhook-keys"));
    assert!(!keys_of_webhooks.is_empty());
    hunt.secrets.extend(keys_of_webhooks);

    let postgres = Postgres::start();
    postgres.sql(
        "postgres",
        &format!("CREATE ROLE mirror LOGIN SUPERUSER PASSWORD '{PASSWORD}'"),
    );
    let rules = postgres.data().join("pg_hba.conf");
    fs::write(
        rules,
        "local all all trust\nhost all mirror all scram-sha-256\nhost all all all trust\n",
    )
    .expect("it can be written");
    postgres.sql("postgres", "SELECT pg_reload_conf()");
    let url = postgres.url_of(&format!("mirror:{PASSWORD}"), "postgres");
    let root = format!("https://localhost:{}/v1/stream", server.address().port());
    let (url, token) = (file("url", &url), file("token", SOURCE_TOKEN));
    let authority = file("ca.pem", &own.pem());
    let settings = [
        ("DS_SYNC__SOURCE_URL", root.as_str()),
        ("DS_SYNC__SOURCE_TOKEN_FILE", &token),
        ("DS_SYNC__SOURCE_CA_PATH", &authority),
        ("DS_SYNC__POSTGRES_URL_FILE", &url),
        ("RUST_LOG", "trace"),
    ];
    server.stream("x").create().append("[1]");
    let mirror = Mirror::start(&settings);
    eventually("a row is written", || {
        (mirror.metric("tailwater_sync_rows_total")? >= 1.0).then_some(())
    });
    let client = |arguments: &[&str]| {
        let mut command = tailwater(arguments);
        command
            .env("TAILWATER_URL", &root)
            .env("TAILWATER_TOKEN", CLIENT_TOKEN)
            .env("TAILWATER_CA_FILE", &authority)
            .env("RUST_LOG", "trace");
        let (code, said) = outcome(command);
        hunt.look(&format!("what {arguments:?} says"), &said);
        code
    };
    assert_eq!(client(&["ls"]), Some(0));
    assert_eq!(client(&["head", "nobody"]), Some(1));
    assert_eq!(client(&["help"]), Some(0));
    assert_eq!(client(&["read", "--help"]), Some(0));
    hunt.look_at_processes();

    let checked = Mirror::run(&["check"], &settings);
    assert!(checked.status.success());
    hunt.look(
        "what check of the mirror says",
        &tailwater_e2e::node::written(&checked),
    );
    let status = Mirror::run(&["status"], &settings);
    hunt.look("what status says", &tailwater_e2e::node::written(&status));
    let mut check = tailwater(&["check"]);
    check
        .env("DS_TLS__CERT_PATH", &cert)
        .env("DS_TLS__KEY_PATH", &key);
    hunt.look("what check of the server says", &outcome(check).1);
    for table in ["streams", "events", "instances", "leases"] {
        let rows = postgres.sql("postgres", &format!("SELECT t::text FROM tailwater.{table} t"));
        hunt.look(table, &rows);
    }
    hunt.look("the metrics of the mirror", mirror.get("/metrics").text());
    hunt.look("the metrics of the server", server.get("/metrics").text());
    for (whose, log) in [("mirror", mirror.stop()), ("server", server.stop())] {
        assert!(
            log.contains("TRACE") || log.contains("DEBUG"),
            "the {whose} tells all it can:\n{log}"
        );
        hunt.look(&format!("the log of the {whose}"), &log);
    }
}

#[test]
fn secrets_are_shown_in_no_error() {
    let hunt = Hunt {
        secrets: [PASSWORD, SOURCE_TOKEN, DAMAGED].map(str::to_owned).to_vec(),
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let own = Authority::new("ours");
    let cert = file("cert.pem", &own.issue().pem);
    let key = format!("-----BEGIN PRIVATE KEY-----\n{DAMAGED}\n-----END PRIVATE KEY-----\n");
    let key = file("key.pem", &key);
    let keys = file("webhook-keys", &format!("{DAMAGED}\n"));
    for settings in [
        &[("DS_TLS__CERT_PATH", cert.as_str()), ("DS_TLS__KEY_PATH", &key)][..],
        &[("DS_SUBSCRIPTIONS__SIGNING_KEYS_PATH", &keys)],
    ] {
        let (_, said) = Server::refusal(&[settings, &[("RUST_LOG", "trace")]].concat());
        hunt.look("what the server says", &said);
    }

    let postgres = Postgres::start();
    let rules = postgres.data().join("pg_hba.conf");
    fs::write(
        rules,
        "local all all trust\nhost all mirror all scram-sha-256\nhost all all all trust\n",
    )
    .expect("it can be written");
    postgres.sql(
        "postgres",
        "CREATE ROLE mirror LOGIN PASSWORD 'another'; SELECT pg_reload_conf()",
    );
    let wrong = postgres.url_of(&format!("mirror:{PASSWORD}"), "postgres");
    let server = Server::start();
    let root = format!("{}{}", server.origin(), server.base_path());
    let two_words = file("token", &format!("{SOURCE_TOKEN} {SOURCE_TOKEN}"));
    let no_url = file("url", &format!("mysql://mirror:{PASSWORD}@h/db"));
    let nobody = format!("postgres://mirror:{PASSWORD}@127.0.0.1:1/db?sslmode=disable");
    let with_user = format!("http://me:{PASSWORD}@h/v1/stream");
    for (settings, words) in [
        (&[("DS_SYNC__POSTGRES_URL", wrong.as_str())][..], "password"),
        (&[("DS_SYNC__POSTGRES_URL", &nobody)], "127.0.0.1:1"),
        (
            &[("DS_SYNC__POSTGRES_URL_FILE", &no_url)],
            "sync.postgres_url_file",
        ),
        (
            &[
                ("DS_SYNC__POSTGRES_URL", &nobody),
                ("DS_SYNC__SOURCE_TOKEN_FILE", &two_words),
            ],
            "characters that no token has",
        ),
        (
            &[
                ("DS_SYNC__POSTGRES_URL", &nobody),
                ("DS_SYNC__SOURCE_URL", &with_user),
            ],
            "sync.source_url",
        ),
    ] {
        let mut command = tailwater_sync(&["check"]);
        command.env("DS_SYNC__SOURCE_URL", &root).env("RUST_LOG", "trace");
        command.envs(settings.iter().copied());
        let (code, said) = outcome(command);
        assert!(code == Some(1) || code == Some(2), "{said}");
        assert!(said.contains(words), "{words} is not in {said}");
        hunt.look("what check of the mirror says", &said);
    }
}
