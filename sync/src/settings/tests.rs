use tailwater_process::{ConfigError, Flag, Sources};

use super::*;

const URL: (&str, &str) = ("DS_SYNC__POSTGRES_URL", "postgres://me:hush@db.example/logs");

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs.iter();
    Sources {
        environment: environment
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    }
}

fn refusal(pairs: &[(&str, &str)]) -> ConfigErrors {
    match Effective::load(&variables(pairs)) {
        Ok(effective) => panic!("these have a mistake:\n{}", effective.to_toml()),
        Err(errors) => errors,
    }
}

#[test]
fn the_database_alone_has_to_be_named() {
    let sync = Effective::load(&variables(&[URL]))
        .expect("all else has a default")
        .config
        .sync;
    assert_eq!(sync.source_url, "http://127.0.0.1:4437/v1/stream");
    assert!(sync.streams.matches("any/stream/at/all"));
    assert!(!sync.delete_after_sync && !sync.trim_after_sync);
    assert!(matches!(
        &refusal(&[]).0[..],
        [ConfigError::Missing {
            key: POSTGRES_URL,
            ..
        }]
    ));
}

#[test]
fn the_url_and_a_file_with_it_are_not_given_both() {
    let said = refusal(&[URL, ("DS_SYNC__POSTGRES_URL_FILE", "/run/secrets/url")]).to_string();
    assert!(
        said.contains(
            "`sync.postgres_url` (from DS_SYNC__POSTGRES_URL) and `sync.postgres_url_file` (from \
             DS_SYNC__POSTGRES_URL_FILE) are both set"
        ),
        "{said}"
    );
}

#[test]
fn a_file_with_the_url_may_end_its_line_and_what_else_is_in_it_is_not_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("url");
    let text = path.to_str().expect("a plain path");
    let sync = Effective::load(&variables(&[("DS_SYNC__POSTGRES_URL_FILE", text)])).expect("a file is named");
    let sync = sync.config.sync;
    assert!(matches!(sync.postgres(), Err(SecretError::Unreadable { .. })));
    std::fs::write(&path, "postgres://me:hush@db.example/logs\n").expect("the directory is ours");
    assert_eq!(
        sync.postgres().expect("a URL").address().to_string(),
        "db.example:5432/logs"
    );
    std::fs::write(&path, " \n").expect("the directory is ours");
    assert!(matches!(sync.postgres(), Err(SecretError::Empty { .. })));
    std::fs::write(&path, "mysql://me:hush@db.example/logs").expect("the directory is ours");
    let said = sync.postgres().expect_err("another database's").to_string();
    assert!(
        said.contains("sync.postgres_url_file") && !said.contains("hush"),
        "{said}"
    );
}

#[test]
fn no_secret_is_shown_whether_it_is_right_or_wrong_or_under_another_name() {
    let shown = Effective::load(&variables(&[URL])).expect("a URL").to_toml();
    assert!(
        shown.contains("postgres_url = \"postgres://(hidden)@db.example/logs\" # DS_SYNC__POSTGRES_URL\n"),
        "{shown}"
    );
    let mut sources = variables(&[
        ("DS_SYNC__POSTGRES_URL", "mysql://me:hush@h/db"),
        ("DS_SYNC__POSTGRES", "postgres://me:hush@h/db"),
        ("DS_SYNC__SOURCE_URL", "http://me:hush@h/db"),
    ]);
    sources.flags.push(Flag {
        flag: "--set password".to_owned(),
        key: "password".to_owned(),
        value: "hush".to_owned(),
    });
    let Err(errors) = Effective::load(&sources) else {
        panic!("all four are wrong")
    };
    assert_eq!(errors.0.len(), 4, "{errors}");
    assert!(!errors.to_string().contains("hush"), "{errors}");
    assert!(!format!("{errors:?}").contains("hush"), "{errors:?}");
}

#[test]
fn variables_of_the_server_are_left_alone_and_wrong_ones_of_the_mirror_are_not() {
    let others = [
        URL,
        ("DS_STORAGE__MODE", "memory"),
        ("DS_NONSENSE__X", "1"),
        ("DS_SYNCS", "1"),
    ];
    assert!(Effective::load(&variables(&others)).is_ok());
    let said = refusal(&[URL, ("DS_SYNC__READER", "3")]).to_string();
    assert!(said.contains("did you mean `DS_SYNC__READERS`?"), "{said}");
    let said = refusal(&[("DS_SYNC_POSTGRES_URL", "postgres://me:hush@h/db")]).to_string();
    assert!(said.contains("did you mean `DS_SYNC__POSTGRES_URL`?"), "{said}");
    assert!(!said.contains("hush"), "{said}");
    let said = refusal(&[URL, ("DS_SYNC__SOURCE_TOKEN", "hush")]).to_string();
    assert!(
        said.contains("sync.source_token_file") || said.contains("DS_SYNC__SOURCE_TOKEN_FILE"),
        "{said}"
    );
}

#[test]
fn a_batch_fits_into_the_buffer() {
    let errors = refusal(&[URL, ("DS_SYNC__BATCH_BYTES", "33MiB")]);
    let [ConfigError::Conflict { key, other_key, .. }] = &errors.0[..] else {
        panic!("{errors}")
    };
    assert_eq!((*key, *other_key), ("sync.batch_bytes", "sync.buffer_bytes"));
}

#[test]
fn every_default_is_allowed_and_every_meaning_is_a_sentence() {
    for setting in table::SETTINGS {
        assert_eq!(setting.kind.check(setting.default), Ok(()), "{}", setting.key);
        assert!(setting.meaning().ends_with('.'), "{}", setting.key);
    }
}

#[test]
fn the_documentation_has_the_table_of_settings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mirror.md");
    let text = std::fs::read_to_string(path).expect("docs/mirror.md is there");
    let table = markdown_table();
    assert!(
        text.contains(&table),
        "docs/mirror.md must have what `tailwater-sync check --markdown` prints:\n{table}"
    );
}
