use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::settings::SETTINGS;
use super::{
    CachePolicy, Config, ConfigError, ConfigErrors, CorsOrigins, Effective, File, Flag, LogFormat, Origin,
    Sources, StorageMode, markdown_table,
};

fn file(text: &str) -> Sources {
    Sources {
        file: Some(File {
            path: "tailwater.toml".to_owned(),
            text: text.to_owned(),
        }),
        ..Sources::default()
    }
}

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Sources {
        environment,
        ..Sources::default()
    }
}

fn set(key: &str, value: &str) -> Flag {
    Flag {
        flag: format!("--set {key}={value}"),
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn flags(pairs: &[(&str, &str)]) -> Sources {
    Sources {
        flags: pairs.iter().map(|(key, value)| set(key, value)).collect(),
        ..Sources::default()
    }
}

fn refusal(sources: &Sources) -> ConfigErrors {
    Config::load(sources).expect_err("these sources have mistakes")
}

#[test]
fn nothing_given_is_the_documented_default() {
    let config = Config::load(&Sources::default()).expect("defaults are valid");
    assert_eq!(config, Config::default());
    assert_eq!(config.server.bind_address.to_string(), "127.0.0.1:4437");
    assert_eq!(config.server.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.server.header_timeout, Duration::from_secs(10));
    assert_eq!(config.server.body_timeout, Duration::from_secs(30));
    assert_eq!(config.server.idle_timeout, Duration::from_secs(75));
    assert!(config.proxy.trusted.is_empty());
    assert_eq!(config.proxy.subject_header, "x-tailwater-subject");
    assert_eq!(config.proxy.deadline_header, "x-tailwater-deadline");
    assert_eq!(config.http.stream_base_path, "/v1/stream");
    assert_eq!(config.http.cors_origins, CorsOrigins::Any);
    assert_eq!(config.http.cache, CachePolicy::Private);
    assert_eq!(config.http.sse_keep_alive, Duration::from_secs(15));
    assert_eq!(config.http.sse_duration_max, Duration::from_secs(60));
    assert_eq!(config.storage.mode, StorageMode::Memory);
    assert_eq!(config.storage.data_dir.to_str(), Some("./data"));
    assert_eq!(config.storage.fast_sync_ms, 100);
    assert_eq!(
        (config.storage.journal_bytes, config.storage.fold_bytes),
        (64 << 20, 256 << 20)
    );
    assert_eq!(config.limits.max_memory_bytes, 100 << 20);
    assert_eq!(config.limits.max_stream_bytes, 10 << 20);
    assert_eq!(config.limits.max_body_bytes, 10 << 20);
    assert_eq!(
        (config.limits.max_name_bytes, config.limits.max_name_segments),
        (1024, 16)
    );
    assert_eq!(config.limits.max_header_bytes, 32 << 10);
    assert_eq!(config.limits.max_connections, 10_000);
    assert_eq!(config.limits.max_in_flight_bytes, 64 << 20);
    assert_eq!(config.limits.max_live_readers, 10_000);
    assert_eq!(config.limits.max_producers_per_stream, 1000);
    assert_eq!(config.limits.max_open_streams, 100_000);
    assert_eq!(config.limits.max_changes, 65_536);
    assert_eq!(config.limits.max_list_entries, 1000);
    assert_eq!(config.limits.read_chunk_bytes, 1 << 20);
    assert_eq!(config.limits.long_poll_timeout, Duration::from_secs(30));
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn the_table_has_no_key_twice_and_every_default_is_allowed() {
    let keys: HashSet<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    assert_eq!(keys.len(), SETTINGS.len());
    for setting in SETTINGS {
        for other_holds in [false, true] {
            let default = setting.default_if(other_holds);
            assert_eq!(setting.kind.check(default), Ok(()), "{}", setting.key);
        }
        assert!(setting.meaning().ends_with('.'), "{}", setting.key);
    }
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let mut sources = file("[limits]\nmax_changes = 1\nmax_connections = 1\nmax_live_readers = 1\n");
    sources.environment = variables(&[
        ("DS_LIMITS__MAX_CHANGES", "2"),
        ("DS_LIMITS__MAX_CONNECTIONS", "2"),
    ])
    .environment;
    sources.flags = vec![set("limits.max_changes", "3"), set("limits.max_changes", "4")];
    let effective = Effective::load(&sources).expect("all are allowed");
    let limits = &effective.config.limits;
    assert_eq!(
        (
            limits.max_changes,
            limits.max_connections,
            limits.max_live_readers
        ),
        (4, 2, 1)
    );
    assert_eq!(
        effective.origin("limits.max_changes"),
        Origin::Flag("--set limits.max_changes=4".to_owned())
    );
    assert_eq!(
        effective.origin("limits.max_connections").to_string(),
        "DS_LIMITS__MAX_CONNECTIONS"
    );
    assert_eq!(
        effective.origin("limits.max_live_readers").to_string(),
        "tailwater.toml:4"
    );
    assert_eq!(effective.origin("http.cache"), Origin::Default);
}

#[test]
fn every_mistake_of_every_source_is_reported_at_once() {
    let mut sources =
        file("port = 1\n\n[http]\ncahce = \"public\"\ncors_origins = [\"https://a.example\", \"b\"]\n");
    sources.environment =
        variables(&[("DS_AUTH__TOKEN", "x"), ("DS_SERVER__BIND_ADDRESS", "localhost")]).environment;
    sources.flags = vec![set("limits.max_stream_bytes", "1GiB"), set("log.format", "xml")];
    let errors = refusal(&sources);
    let lines: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "tailwater.toml:1: unknown setting `port` (value `1`); allowed sections: server, tls, proxy, http, \
             storage, limits, subscriptions, queues, schedules, metrics, traces, log",
            "tailwater.toml:4: unknown setting `http.cahce` (value `public`); did you mean `http.cache`?",
            "tailwater.toml:5: `http.cors_origins` cannot be `https://a.example,b`: `b` is not scheme://host or \
             scheme://host:port; allowed: * or a comma-separated list of origins such as https://app.example.com",
            "DS_AUTH__TOKEN: unknown setting `auth.token` (value `x`); this version checks no credentials: check \
             them in a proxy in front of it",
            "DS_SERVER__BIND_ADDRESS: `server.bind_address` cannot be `localhost`; allowed: an IP address with a \
             port, such as 127.0.0.1:4437 or [::]:4437",
            "--set log.format=xml: `log.format` cannot be `xml`; allowed: one of text, json",
            "`limits.max_stream_bytes` (\"1GiB\", from --set limits.max_stream_bytes=1GiB) must not be more than \
             `limits.max_memory_bytes` (\"100MiB\", from default): a stream could never grow to its limit",
        ]
    );
    assert!(
        errors
            .to_string()
            .starts_with("the configuration has 7 mistakes:\n  tailwater.toml:1: ")
    );
}

#[test]
fn a_certificate_needs_its_key_and_authorities_of_clients_need_a_certificate() {
    let tls = |settings: &[(&str, &str)]| Config::load(&flags(settings));
    let [cert, key, ca] = ["cert_path", "key_path", "client_ca_path"].map(|name| format!("tls.{name}"));
    let said = |settings: &[(&str, &str)]| tls(settings).expect_err("one is missing").to_string();

    let without_key = said(&[(&cert, "c.pem")]);
    assert!(
        without_key.contains(
            "`tls.cert_path` (\"c.pem\", from --set tls.cert_path=c.pem) needs `tls.key_path`, which is not set: a \
             certificate is of no use without its private key"
        ),
        "{without_key}"
    );
    let without_cert = said(&[(&key, "k.pem"), (&ca, "a.pem")]);
    assert!(without_cert.contains("has a mistake"), "{without_cert}");
    assert!(
        without_cert.contains("`tls.key_path` (\"k.pem\""),
        "{without_cert}"
    );
    let alone = said(&[(&ca, "a.pem")]);
    assert!(alone.contains("`tls.client_ca_path` (\"a.pem\""), "{alone}");

    assert_eq!(Config::default().scheme(), "http");
    let both = tls(&[(&cert, "c.pem"), (&key, "k.pem"), (&ca, "")]).expect("a certificate and its key");
    assert_eq!(both.tls.cert_path.as_deref(), Some("c.pem".as_ref()));
    assert_eq!(
        (both.tls.client_ca_path.as_deref(), both.scheme()),
        (None, "https")
    );
}

#[test]
fn one_header_cannot_say_two_things() {
    let same = [
        ("proxy.subject_header", "X-User"),
        ("proxy.deadline_header", "x-user"),
    ];
    assert_eq!(
        refusal(&flags(&same)).0[0].to_string(),
        "`proxy.subject_header` (from --set proxy.subject_header=X-User) and `proxy.deadline_header` (from --set \
         proxy.deadline_header=x-user) must not both be \"x-user\": one header cannot name the client and say how \
         long it may stay"
    );
    assert!(Config::load(&flags(&same[..1])).is_ok());
    for wrong in ["", "x user", "x-user:", "\u{e9}"] {
        assert_eq!(
            refusal(&variables(&[("DS_PROXY__SUBJECT_HEADER", wrong)])).0[0].to_string(),
            format!(
                "DS_PROXY__SUBJECT_HEADER: `proxy.subject_header` cannot be `{wrong}`; allowed: the name of a header, \
                 such as x-user"
            )
        );
    }
}

#[test]
fn a_bad_value_is_refused_even_where_a_stronger_source_overrides_it() {
    let mut sources = file("[limits]\nmax_changes = 0\n");
    sources.flags = vec![set("limits.max_changes", "3")];
    assert!(matches!(
        &refusal(&sources).0[..],
        [ConfigError::BadValue {
            key: "limits.max_changes",
            ..
        }]
    ));
}

#[test]
fn a_rule_over_two_settings_is_silent_when_one_of_them_is_bad_itself() {
    let errors = refusal(&flags(&[
        ("limits.max_memory_bytes", "much"),
        ("limits.max_stream_bytes", "1GiB"),
    ]));
    assert!(matches!(
        &errors.0[..],
        [ConfigError::BadValue {
            key: "limits.max_memory_bytes",
            ..
        }]
    ));
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    for (key, value, other) in [
        ("limits.max_stream_bytes", "101MiB", "limits.max_memory_bytes"),
        ("storage.journal_bytes", "257MiB", "storage.fold_bytes"),
        ("limits.max_body_bytes", "65MiB", "limits.max_in_flight_bytes"),
        ("limits.max_name_bytes", "11KiB", "limits.max_header_bytes"),
        (
            "subscriptions.connect_timeout_ms",
            "10001",
            "subscriptions.delivery_timeout_ms",
        ),
        (
            "subscriptions.max_deliveries_per_host",
            "257",
            "subscriptions.max_deliveries",
        ),
    ] {
        let errors = refusal(&flags(&[(key, value)]));
        let [
            ConfigError::Conflict {
                key: found,
                other_key,
                ..
            },
        ] = &errors.0[..]
        else {
            panic!("{errors}")
        };
        assert_eq!((*found, *other_key), (key, other));
    }
}

#[test]
fn storage_modes_are_known_by_name() {
    for (name, mode) in [
        ("memory", StorageMode::Memory),
        ("file-fast", StorageMode::FileFast),
        ("file-durable", StorageMode::FileDurable),
        ("acid", StorageMode::Acid),
    ] {
        let config = Config::load(&variables(&[("DS_STORAGE__MODE", name)])).expect("a mode");
        assert_eq!((config.storage.mode, mode.name()), (mode, name));
    }
    let effective = Effective::load(&variables(&[("DS_STORAGE__MODE", "redb")])).expect("a mode");
    assert_eq!(effective.config.storage.mode, StorageMode::Acid);
    assert!(effective.to_toml().contains("mode = \"acid\" # DS_STORAGE__MODE"));
    for slip in ["Memory", "file", "file-durable ", "Redb"] {
        assert_eq!(
            refusal(&flags(&[("storage.mode", slip)])).0[0].to_string(),
            format!(
                "--set storage.mode={slip}: `storage.mode` cannot be `{slip}`; allowed: one of memory, file-fast, \
                 file-durable, acid (or redb, which is acid)"
            )
        );
    }
}

#[test]
fn a_number_of_shards_is_a_power_of_two_that_placements_know() {
    let shards = |count: &str| Config::load(&variables(&[("DS_STORAGE__ACID_SHARD_COUNT", count)]));
    for count in [1, 2, 16, 256] {
        let config = shards(&count.to_string()).expect("an allowed number");
        assert_eq!(config.storage.acid_shard_count, count);
    }
    for wrong in ["0", "3", "-1", "512", "many", ""] {
        assert_eq!(
            shards(wrong).expect_err("a refusal").0[0].to_string(),
            format!(
                "DS_STORAGE__ACID_SHARD_COUNT: `storage.acid_shard_count` cannot be `{wrong}`; allowed: one of 1, 2, \
                 4, 8, 16, 32, 64, 128, 256"
            )
        );
    }
}

/// On disk, the limit on memory says nothing about how long a stream may be, and nor does its own limit unless
/// somebody set it.
#[test]
fn on_disk_a_stream_has_the_limit_that_was_set_and_no_other() {
    const UNLIMITED: u64 = 1 << 50;
    let limit = |mode: &str, more: &[(&str, &str)]| {
        let mut sources = flags(&[("storage.mode", mode)]);
        sources.environment = variables(more).environment;
        Effective::load(&sources).map(|effective| {
            let limits = &effective.config.limits;
            (limits.max_stream_bytes, limits.max_memory_bytes)
        })
    };
    let variable = "DS_LIMITS__MAX_STREAM_BYTES";
    assert_eq!(limit("memory", &[]), Ok((10 << 20, 100 << 20)));
    assert!(limit("memory", &[(variable, "1GiB")]).is_err());
    for mode in ["file-fast", "file-durable", "acid"] {
        assert_eq!(limit(mode, &[]), Ok((UNLIMITED, 256 << 20)));
        assert_eq!(limit(mode, &[(variable, "10MiB")]), Ok((10 << 20, 256 << 20)));
        assert_eq!(limit(mode, &[(variable, "1GiB")]), Ok((1 << 30, 256 << 20)));
    }
    for mut sources in [
        file("[limits]\nmax_stream_bytes = \"10MiB\"\n[storage]\nmode = \"file-fast\"\n"),
        flags(&[
            ("limits.max_stream_bytes", "10MiB"),
            ("storage.mode", "file-fast"),
        ]),
    ] {
        let config = Config::load(&sources).expect("no mistake");
        assert_eq!(config.limits.max_stream_bytes, 10 << 20);
        sources.flags.push(set("storage.mode", "memory"));
        let config = Config::load(&sources).expect("no mistake");
        assert_eq!(config.limits.max_stream_bytes, 10 << 20);
    }
}

#[test]
fn a_rule_of_one_storage_mode_is_silent_when_the_mode_is_not_known() {
    let errors = refusal(&flags(&[
        ("storage.mode", "file-durabel"),
        ("limits.max_stream_bytes", "1GiB"),
        ("limits.max_body_bytes", "1GiB"),
    ]));
    assert!(
        matches!(
            &errors.0[..],
            [
                ConfigError::BadValue {
                    key: "storage.mode",
                    ..
                },
                ConfigError::Conflict {
                    key: "limits.max_body_bytes",
                    ..
                }
            ]
        ),
        "{errors}"
    );
}

#[test]
fn what_is_printed_of_a_mode_on_disk_loads_again() {
    let effective = Effective::load(&flags(&[("storage.mode", "file-durable")])).expect("a mode");
    let text = effective.to_toml();
    assert!(
        text.contains("max_stream_bytes = \"1024TiB\" # default\n"),
        "{text}"
    );
    assert_eq!(Config::load(&file(&text)), Ok(effective.config));
}

#[test]
fn a_data_directory_is_any_path_that_can_be_told_in_one_line() {
    let load = |path| Config::load(&flags(&[("storage.data_dir", path)]));
    for path in ["./data", "/var/lib/tailwater", "a b", "ä", "C:\\x", "'\""] {
        let config = load(path).expect("a path");
        assert_eq!(config.storage.data_dir.to_str(), Some(path));
    }
    for path in ["", " ", "/a\nb", "/a\0b", "/a\u{1b}[2J", "/\u{fffd}"] {
        assert!(load(path).is_err(), "{path:?}");
    }
}

#[test]
fn an_unknown_variable_gets_the_name_of_a_variable_as_its_suggestion() {
    for (name, meant) in [
        ("DS_SERVER__BIND_ADRESS", "DS_SERVER__BIND_ADDRESS"),
        ("DS_server__bind_address", "DS_SERVER__BIND_ADDRESS"),
        ("DS_SERVER__STREAM_BASE_PATH", "DS_HTTP__STREAM_BASE_PATH"),
        ("DS_LIMITS__MAX__CHANGES", "DS_LIMITS__MAX_CHANGES"),
    ] {
        let text = refusal(&variables(&[(name, "1")])).to_string();
        assert!(text.contains(&format!("{name}: unknown setting")), "{text}");
        assert!(text.contains(&format!("did you mean `{meant}`?")), "{text}");
    }
}

#[test]
fn variables_that_are_not_settings_are_left_alone() {
    let environment = variables(&[
        ("DS_PORT", "tcp://10.0.0.1:80"),
        ("HOME", "/root"),
        ("ODS_SERVER__X", "1"),
        ("DS_SYNC__SOURCE_URL", "http://127.0.0.1:4437/v1/stream"),
    ]);
    assert_eq!(Config::load(&environment), Ok(Config::default()));
}

#[test]
fn an_empty_value_is_not_the_default_but_where_that_is_none() {
    for setting in SETTINGS {
        if setting.default.is_empty() {
            let config = Config::load(&variables(&[(&setting.variable(), "")]));
            assert_eq!(config, Ok(Config::default()), "{}", setting.key);
            continue;
        }
        let errors = refusal(&variables(&[(&setting.variable(), "")]));
        assert!(
            matches!(&errors.0[..], [ConfigError::BadValue { .. }]),
            "{}",
            setting.key
        );
    }
}

#[test]
fn a_file_that_is_not_toml_names_the_line() {
    let errors = refusal(&file("[server]\nbind_address = \n"));
    let ConfigError::Syntax { origin, .. } = &errors.0[0] else {
        panic!("{errors}")
    };
    assert_eq!(origin.to_string(), "tailwater.toml:2");
    assert!(matches!(
        refusal(&file("[server]\n[server]\n")).0[..],
        [ConfigError::Syntax { .. }]
    ));
}

#[test]
fn tables_in_the_wrong_place_are_unknown_keys() {
    let text = refusal(&file("[server.bind_address]\nhost = \"x\"\n[empty]\n[log]\n")).to_string();
    assert!(
        text.contains("tailwater.toml:2: unknown setting `server.bind_address.host`"),
        "{text}"
    );
    assert!(
        text.contains("tailwater.toml:3: unknown setting `empty`"),
        "{text}"
    );
    assert!(!text.contains("`log`"), "{text}");
}

#[test]
fn a_list_of_origins_may_be_a_toml_array() {
    let sources = file("[http]\ncors_origins = [\"https://a.example\", \"http://localhost:3000\"]\n");
    let config = Config::load(&sources).expect("both are origins");
    let expected = vec!["https://a.example".to_owned(), "http://localhost:3000".to_owned()];
    assert_eq!(config.http.cors_origins, CorsOrigins::List(expected));
    for bad in [
        "https://a.example/",
        "https://A.example",
        "a.example",
        "https://",
        "*,https://a.example",
        "https://a b",
    ] {
        assert_eq!(refusal(&flags(&[("http.cors_origins", bad)])).0.len(), 1, "{bad}");
    }
}

#[test]
fn sizes_take_units_and_refuse_what_is_not_a_size() {
    let stored =
        |text| Config::load(&flags(&[("limits.max_memory_bytes", text)])).map(|c| c.limits.max_memory_bytes);
    for (text, bytes) in [
        ("1073741824", 1 << 30),
        ("1GiB", 1 << 30),
        ("100 MiB", 100 << 20),
        ("100mb", 100_000_000),
        ("20480KiB", 20 << 20),
        ("11000000B", 11_000_000),
        ("1024TiB", 1 << 50),
    ] {
        assert_eq!(stored(text), Ok(bytes), "{text}");
    }
    for text in [
        "-1",
        "+1",
        "1.5GiB",
        "GiB",
        "1 G",
        "1025TiB",
        "0",
        "1e9",
        "99999999999999999999999",
        "18446744073709551615TiB",
    ] {
        assert!(stored(text).is_err(), "{text}");
    }
}

#[test]
fn a_base_path_must_leave_the_servers_own_paths_free() {
    let load = |path| Config::load(&flags(&[("http.stream_base_path", path)]));
    for path in ["/v1/stream", "/streams", "/a.b/c~d/e-f_g", "/healthzz"] {
        assert_eq!(
            load(path).map(|config| config.http.stream_base_path),
            Ok(path.to_owned())
        );
    }
    for path in [
        "", "/", "v1", "/v1/", "//v1", "/a//b", "/a/../b", "/a b", "/{x}", "/a?b", "/a%20b", "/metrics",
        "/ok/x",
    ] {
        assert!(load(path).is_err(), "{path}");
    }
}

#[test]
fn times_that_would_stall_or_spin_are_refused() {
    for setting in SETTINGS.iter().filter(|setting| setting.key.ends_with("_secs")) {
        let at_once_is_fine = setting.key == "server.shutdown_timeout_secs";
        assert_eq!(
            setting.kind.check("0").is_ok(),
            at_once_is_fine,
            "{}",
            setting.key
        );
        for bad in ["-1", "1.5", "30s", "86401", ""] {
            assert!(setting.kind.check(bad).is_err(), "{} {bad}", setting.key);
        }
    }
}

#[test]
fn the_effective_configuration_names_origins_and_loads_again() {
    let mut sources = file("[http]\ncors_origins = \"https://a.example, https://b.example\"\n");
    sources.flags = vec![Flag {
        flag: "--bind\nx".to_owned(),
        key: "server.bind_address".to_owned(),
        value: "[::]:0".to_owned(),
    }];
    let effective = Effective::load(&sources).expect("all are allowed");
    let text = effective.to_toml();
    assert!(
        text.starts_with("[server]\nbind_address = \"[::]:0\" # --bind x\n"),
        "{text}"
    );
    assert!(
        text.contains("cors_origins = [\"https://a.example\", \"https://b.example\"] # tailwater.toml:2\n")
    );
    assert!(text.contains("max_memory_bytes = \"100MiB\" # default\n"));
    assert_eq!(Config::load(&file(&text)), Ok(effective.config));
}

#[test]
fn the_readme_has_the_table_of_settings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("README.md is beside Cargo.toml");
    let table = markdown_table();
    assert!(
        readme.contains(&table),
        "README.md must have what `tailwater check --markdown` prints:\n{table}"
    );
}

/// A value that the setting may or may not take.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,20}",
        "[0-9]{1,6} ?(B|kb|MiB|GiB|TiB)",
        "/[a-z]{1,5}(/[a-z.]{0,3}){0,3}",
        "https?://[a-z]{1,5}(:[0-9]{1,4})?(,https://[a-z]{1,3})?",
        Just("memory".to_owned()),
        Just("file-durable".to_owned()),
        Just("./da ta".to_owned()),
        Just("public".to_owned()),
        Just("json".to_owned()),
        Just("[::1]:80".to_owned()),
        ".{0,12}",
    ]
}

proptest! {
    /// What one source accepts, all accept, and with the same result; what is printed loads again.
    #[test]
    fn a_value_means_the_same_wherever_it_is_given(index in 0..SETTINGS.len(), value in any_value()) {
        let setting = &SETTINGS[index];
        let by_flag = Effective::load(&flags(&[(setting.key, &value)]));
        let by_variable = Config::load(&variables(&[(&setting.variable(), &value)]));
        let quoted = toml::Value::from(value.as_str());
        let by_file = Config::load(&file(&format!("[{}]\n{} = {quoted}\n", setting.section(), setting.name())));
        match by_flag {
            Ok(effective) => {
                prop_assert_eq!(Config::load(&file(&effective.to_toml())), Ok(effective.config.clone()));
                prop_assert_eq!(by_variable, Ok(effective.config.clone()));
                prop_assert_eq!(by_file, Ok(effective.config));
            }
            Err(errors) => {
                prop_assert_eq!(errors.0.len(), 1);
                prop_assert!(by_variable.is_err() && by_file.is_err());
            }
        }
    }

    /// No text, however broken, is more than a refusal.
    #[test]
    fn any_file_is_loaded_or_refused(text in "[\\[\\]a-z_=\"0-9.\n# {},]{0,80}") {
        if let Err(errors) = Config::load(&file(&text)) {
            prop_assert!(!errors.0.is_empty());
            prop_assert!(errors.to_string().contains("tailwater.toml:"));
        }
    }
}
