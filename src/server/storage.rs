//! Opens the storage that the configuration asks for. Knows nothing of connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tailwater_storage::acid::AcidOptions;
use tailwater_storage::clock::SystemClock;
use tailwater_storage::file::{Durability, FileOptions};
use tailwater_storage::{Backend, Engine, EngineLimits, Memory, Store, StoreOptions};

use super::ServeError;
use crate::config::{Config, StorageMode};

/// What a stream that is held ready takes of memory, about.
const OPEN_STREAM_BYTES: u64 = 2048;
/// So many streams are held ready however small `limits.max_memory_bytes` is.
const OPEN_STREAMS_MIN: u64 = 1000;

/// The engine, and the store beneath it for what concerns all of it and no stream.
pub(super) struct Storage {
    pub(super) engine: Engine,
    /// None in memory mode.
    pub(super) store: Option<Store>,
}

/// Opens the storage and starts an engine over it. Blocks for as long as a store takes to recover. Must be called
/// within the runtime, for the engine's own tasks.
pub(super) fn start(config: &Config) -> Result<Storage, ServeError> {
    let store = store_options(config).map(Store::open).transpose()?;
    let backend: Arc<dyn Backend> = match &store {
        None => Arc::new(Memory::new(config.limits.max_memory_bytes)),
        Some(store) => store.backend(),
    };
    let engine = Engine::start(backend, Arc::new(SystemClock), engine_limits(config))?;
    Ok(Storage { engine, store })
}

/// None in memory mode.
fn store_options(config: &Config) -> Option<StoreOptions> {
    let storage = &config.storage;
    let fast = Durability::Fast {
        sync_interval_ms: storage.fast_sync_ms,
    };
    match storage.mode {
        StorageMode::Memory => None,
        StorageMode::FileFast => Some(StoreOptions::File(file_options(config, fast))),
        StorageMode::FileDurable => Some(StoreOptions::File(file_options(config, Durability::Durable))),
        StorageMode::Acid => Some(StoreOptions::Acid(AcidOptions {
            shard_count: storage.acid_shard_count,
            cache_bytes: storage.acid_cache_bytes.min(config.limits.max_memory_bytes / 2),
            quick_repair: storage.acid_quick_repair,
            ..AcidOptions::new(absolute(&storage.data_dir))
        })),
    }
}

fn file_options(config: &Config, durability: Durability) -> FileOptions {
    let storage = &config.storage;
    let options = FileOptions::new(
        absolute(&storage.data_dir),
        durability,
        config.limits.max_memory_bytes,
    );
    FileOptions {
        journal_bytes: storage.journal_bytes,
        fold_bytes: storage.fold_bytes,
        ..options
    }
}

/// Messages name the directory so that it can be found from anywhere. One that cannot be made absolute stays as it
/// is: opening it will tell what is wrong.
pub(super) fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_unknown_working_directory| dir.to_owned())
}

fn engine_limits(config: &Config) -> EngineLimits {
    let limits = &config.limits;
    let configured = limits.max_open_streams as u64;
    EngineLimits {
        stream_bytes_max: limits.max_stream_bytes,
        producers_max: limits.max_producers_per_stream,
        open_streams_max: if config.storage.mode.is_on_disk() {
            let fitting = limits.max_memory_bytes / 4 / OPEN_STREAM_BYTES;
            configured.min(fitting.max(OPEN_STREAMS_MIN))
        } else {
            configured
        },
        changes_max: limits.max_changes,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tailwater_storage::StoreOptions;
    use tailwater_storage::file::Durability;

    use super::{engine_limits, store_options};
    use crate::config::{Config, Flag, Sources};

    fn config(settings: &[(&str, &str)]) -> Config {
        let flags = settings.iter().map(|(key, value)| Flag {
            flag: format!("--set {key}={value}"),
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        });
        let sources = Sources {
            flags: flags.collect(),
            ..Sources::default()
        };
        Config::load(&sources).expect("a configuration")
    }

    #[test]
    fn the_settings_of_the_store_reach_it() {
        assert_eq!(store_options(&config(&[])), None, "memory is the default");
        let options = store_options(&config(&[
            ("storage.mode", "file-fast"),
            ("storage.data_dir", "some/where"),
            ("storage.fast_sync_ms", "7"),
            ("storage.journal_bytes", "2MiB"),
            ("storage.fold_bytes", "3MiB"),
            ("limits.max_memory_bytes", "64MiB"),
        ]));
        let Some(StoreOptions::File(options)) = options else {
            panic!("a store of files: {options:?}");
        };
        assert_eq!(options.durability, Durability::Fast { sync_interval_ms: 7 });
        assert!(options.data_dir.is_absolute(), "{}", options.data_dir.display());
        assert!(options.data_dir.ends_with(Path::new("some/where")));
        assert_eq!((options.journal_bytes, options.fold_bytes), (2 << 20, 3 << 20));
        assert_eq!(options.index_bytes_max, 16 << 20);
        let durable = store_options(&config(&[("storage.mode", "file-durable")]));
        let Some(StoreOptions::File(durable)) = durable else {
            panic!("a store of files: {durable:?}");
        };
        assert_eq!(durable.durability, Durability::Durable);
    }

    #[test]
    fn the_shards_of_a_store_and_their_caches_are_as_configured() {
        let options = |settings: &[(&str, &str)]| {
            let all = [&[("storage.mode", "acid")][..], settings].concat();
            match store_options(&config(&all)) {
                Some(StoreOptions::Acid(options)) => (options.shard_count, options.cache_bytes),
                other => panic!("a store of shards: {other:?}"),
            }
        };
        assert_eq!(options(&[]), (16, 64 << 20));
        let chosen = [
            ("storage.acid_shard_count", "64"),
            ("storage.acid_cache_bytes", "100MiB"),
        ];
        assert_eq!(options(&chosen), (64, 100 << 20));
        let little = [("limits.max_memory_bytes", "64MiB")];
        assert_eq!(options(&little), (16, 32 << 20), "half of the memory at most");
    }

    #[test]
    fn on_disk_memory_bounds_the_streams_held_ready_and_only_the_disk_the_stored_ones() {
        let limits = |mode: &str, memory: &str, open: &str| {
            let config = config(&[
                ("storage.mode", mode),
                ("limits.max_memory_bytes", memory),
                ("limits.max_open_streams", open),
            ]);
            let limits = engine_limits(&config);
            (limits.open_streams_max, limits.stream_bytes_max)
        };
        assert_eq!(limits("memory", "10MiB", "50000"), (50_000, 10 << 20));
        assert_eq!(limits("file-durable", "100MiB", "50000"), (12_800, 1 << 50));
        assert_eq!(limits("file-durable", "100MiB", "5000"), (5000, 1 << 50));
        assert_eq!(limits("file-fast", "1MiB", "50000"), (1000, 1 << 50));
        assert_eq!(limits("file-fast", "1MiB", "500"), (500, 1 << 50));
    }
}
