//! Rules over more than one setting.

use super::{file, flags, refusal, set, variables};
use crate::config::{Config, ConfigError, Effective};

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
