//! The file store without an engine: batches, folds and reads.

mod records;
mod weightless_disk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use tailwater_storage::backend::ReadRequest;
use tailwater_storage::disk::{Disk, RealDisk};
use tailwater_storage::file::Durability;
use tailwater_storage::{Backend, FileOptions, FileStore};
use tempfile::TempDir;

use records::{Author, at, id};
use weightless_disk::WeightlessDisk;

const RECORD_BYTES: usize = 256;
const MEMORY_BYTES: u64 = 16 << 30;
const MIB: u64 = 1 << 20;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    batches(&mut criterion);
    folds(&mut criterion);
    reads(&mut criterion);
    criterion.final_summary();
}

/// A store in a directory of its own, which folds only when it is told to.
struct Rig {
    store: FileStore,
    author: Author,
    _directory: TempDir,
}

impl Rig {
    fn new(disk: Arc<dyn Disk>, streams: usize, payload_bytes: usize) -> Self {
        let directory = TempDir::new().expect("a directory");
        let durability = Durability::Fast {
            sync_interval_ms: 100,
        };
        let options = FileOptions {
            compacts_by_itself: false,
            ..FileOptions::new(directory.path().join("data"), durability, MEMORY_BYTES)
        };
        let store = FileStore::open_unlocked(disk, options).expect("a store");
        let author = Author::new(streams, payload_bytes);
        store.commit(0, &author.creates()).expect("committed");
        Self {
            store,
            author,
            _directory: directory,
        }
    }

    fn fill(&mut self, appends: usize) {
        for begun in (0..appends).step_by(1024) {
            let batch = self.author.appends(1024.min(appends - begun));
            self.store.commit(0, &batch).expect("committed");
        }
    }
}

/// Encoding batches and remembering where their records are, without the disk's part.
fn batches(criterion: &mut Criterion) {
    const RECORDS: usize = 1 << 17;
    let mut group = criterion.benchmark_group("commit without a disk");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Elements(RECORDS as u64));
    for records in [1, 64, 1024] {
        group.bench_function(BenchmarkId::new("records a batch", records), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| commit(records, RECORDS / records)).sum());
        });
    }
    group.finish();
}

fn commit(records: usize, batches: usize) -> Duration {
    let mut rig = Rig::new(Arc::new(WeightlessDisk), 1000, RECORD_BYTES);
    let mut elapsed = Duration::ZERO;
    for _ in 0..batches {
        let batch = rig.author.appends(records);
        let started = Instant::now();
        rig.store.commit(0, &batch).expect("committed");
        elapsed += started.elapsed();
    }
    elapsed
}

/// Folding 64 MiB of payload into a segment and the catalog, syncs included.
fn folds(criterion: &mut Criterion) {
    const PAYLOAD_BYTES: usize = 64 << 20;
    let mut group = criterion.benchmark_group("fold");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Bytes(PAYLOAD_BYTES as u64));
    for streams in [1, 1_000, 100_000] {
        group.bench_function(BenchmarkId::new("streams", streams), |bencher| {
            bencher.iter_custom(|folds| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..folds {
                    let mut rig = Rig::new(Arc::new(RealDisk), streams, RECORD_BYTES);
                    rig.fill(PAYLOAD_BYTES / RECORD_BYTES);
                    let started = Instant::now();
                    rig.store.compact().expect("folded");
                    elapsed += started.elapsed();
                }
                elapsed
            });
        });
    }
    group.finish();
}

/// Reading 1 MiB of one stream, all of which is in the page cache: where it was written, and where it was folded.
fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read 1 MiB");
    group.throughput(Throughput::Bytes(MIB));
    for append_bytes in [256, 4096, 256 * 1024] {
        let mut rig = Rig::new(Arc::new(RealDisk), 1, append_bytes);
        rig.fill(16 * MIB as usize / append_bytes);
        read(&mut group, "journal", append_bytes, &rig);
        rig.store.compact().expect("folded");
        read(&mut group, "segment", append_bytes, &rig);
    }
    group.finish();
}

fn read(group: &mut BenchmarkGroup<'_, WallTime>, place: &str, append_bytes: usize, rig: &Rig) {
    group.bench_function(BenchmarkId::new(place, append_bytes), |bencher| {
        let mut from = 0;
        bencher.iter(|| {
            let request = ReadRequest {
                stream: id(0),
                from: at(from * MIB),
                until: at(16 * MIB),
                bytes_max: MIB,
                may_wait: true,
            };
            from = (from + 1) % 16;
            let slices = rig.store.read(request).expect("read");
            assert_eq!(slices.len() as u64, MIB, "whole appends make up 1 MiB");
            slices
        });
    });
}
