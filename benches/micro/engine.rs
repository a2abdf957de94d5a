//! Appends through the engine, without HTTP: what many writers get together out of each backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tailwater_storage::clock::SystemClock;
use tailwater_storage::engine::AppendRequest;
use tailwater_storage::file::{self, Durability};
use tailwater_storage::stream::{ContentType, CreateCommand, NameLimits, StreamName};
use tailwater_storage::{Backend, Engine, EngineLimits, FileOptions, Memory};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const RECORD: &[u8] = &[b'r'; 256];
const WRITERS: [u64; 3] = [1, 64, 256];

/// Enough that memory holds what a benchmark appends, and that no store folds because of it.
const MEMORY_BYTES: u64 = 16 << 30;

const FAST: Durability = Durability::Fast {
    sync_interval_ms: 100,
};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("append");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for writers in WRITERS {
        for (mode, durability, appends) in [
            ("memory", None, 100_000),
            ("file-fast", Some(FAST), 100_000),
            ("file-durable", Some(Durability::Durable), 500 * writers),
        ] {
            group.throughput(Throughput::Elements(appends));
            group.bench_function(BenchmarkId::new(mode, writers), |bencher| {
                bencher.iter_custom(|runs| (0..runs).map(|_| measure(durability, writers, appends)).sum());
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

/// How long `writers` take for `appends` in all, each to a stream of its own, with a new store. One thread serves
/// them, as one core of a server would, beside those of the engine and the store.
fn measure(durability: Option<Durability>, writers: u64, appends: u64) -> Duration {
    let directory = TempDir::new().expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    let engine = runtime.block_on(async { start(durability, &directory) });
    let names: Vec<StreamName> = (0..writers)
        .map(|number| name(&format!("writer-{number}")))
        .collect();
    runtime.block_on(async {
        for name in &names {
            engine
                .create(name, CreateCommand::default())
                .await
                .expect("created");
        }
    });
    let elapsed = run(&runtime, &engine, &names, appends);
    engine.stop();
    elapsed
}

fn start(durability: Option<Durability>, directory: &TempDir) -> Engine {
    let backend: Arc<dyn Backend> = match durability {
        None => Arc::new(Memory::new(MEMORY_BYTES)),
        Some(durability) => {
            let options = FileOptions::new(directory.path().join("data"), durability, MEMORY_BYTES);
            Arc::new(file::open(options).expect("a store"))
        }
    };
    let limits = EngineLimits {
        stream_bytes_max: MEMORY_BYTES,
        ..EngineLimits::default()
    };
    Engine::start(backend, Arc::new(SystemClock), limits).expect("an engine")
}

fn run(runtime: &Runtime, engine: &Engine, names: &[StreamName], appends: u64) -> Duration {
    let writers = names.len() as u64;
    let shares = (0..writers).map(|writer| appends / writers + u64::from(writer < appends % writers));
    let started = Instant::now();
    let tasks: Vec<_> = names
        .iter()
        .zip(shares)
        .map(|(name, share)| runtime.spawn(write(engine.clone(), name.clone(), share)))
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("a writer");
        }
    });
    started.elapsed()
}

async fn write(engine: Engine, name: StreamName, appends: u64) {
    for _ in 0..appends {
        let request = AppendRequest {
            body: Bytes::from_static(RECORD),
            content_type: Some(ContentType::default()),
            ..AppendRequest::default()
        };
        engine.append(&name, request).await.expect("appended");
    }
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}
