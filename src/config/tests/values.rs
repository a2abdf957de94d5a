//! What settings take, and what they are if nobody says.

use std::collections::HashSet;
use std::time::Duration;

use super::{file, flags, refusal, variables};
use crate::config::settings::SETTINGS;
use crate::config::{
    CachePolicy, Config, ConfigError, CorsOrigins, Effective, LogFormat, Sources, StorageMode, markdown_table,
};

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
fn the_readme_has_the_table_of_settings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("README.md is beside Cargo.toml");
    let table = markdown_table();
    assert!(
        readme.contains(&table),
        "README.md must have what `tailwater check --markdown` prints:\n{table}"
    );
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
