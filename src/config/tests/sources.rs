//! Where values come from, how mistakes are told, and how all of it is printed.

use proptest::prelude::*;

use super::{file, flags, refusal, set, variables};
use crate::config::settings::SETTINGS;
use crate::config::{Config, ConfigError, Effective, Flag, Origin};

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

/// Such a variable was left alone as somebody else's, and the server kept in memory what was to be kept on disk.
#[test]
fn a_variable_with_one_underscore_too_few_is_a_mistake() {
    for setting in SETTINGS {
        let variable = setting.variable();
        let slip = variable.replace("__", "_");
        assert_eq!(
            refusal(&variables(&[(&slip, "1")])).0[0].to_string(),
            format!(
                "{slip}: unknown setting `{}` (value `1`); did you mean `{variable}`?",
                setting.key.replace('.', "_")
            )
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
fn what_is_printed_of_a_mode_on_disk_loads_again() {
    let effective = Effective::load(&flags(&[("storage.mode", "file-durable")])).expect("a mode");
    let text = effective.to_toml();
    assert!(
        text.contains("max_stream_bytes = \"1024TiB\" # default\n"),
        "{text}"
    );
    assert_eq!(Config::load(&file(&text)), Ok(effective.config));
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
