//! An engine with queues over each kind of backend, and how to wait for what must come.

use std::future::Future;
use std::sync::Arc;

use serde_json::{Value, json};
use tailwater_storage::acid::{AcidOptions, AcidStore};
use tailwater_storage::clock::ManualClock;
use tailwater_storage::disk::Disk;
use tailwater_storage::file::Durability;
use tailwater_storage::queues::{Claimed, Described, Enqueued, QueueError, QueueLimits};
use tailwater_storage::stream::queue::{Envelope, JsonText, RunState, Settled, Word};
use tailwater_storage::stream::{NameLimits, StreamName};
use tailwater_storage::{Backend, Engine, EngineLimits, FileOptions, FileStore, Memory, Queues};

pub(crate) use crate::support::ask::until;
use crate::support::ask::{Rig, name};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::gated::Gated;

pub(crate) const LIMITS: QueueLimits = QueueLimits {
    queues_max: 4,
    held_jobs_max: 100,
    lease_ms_max: 60_000,
    names: NameLimits {
        bytes_max: 1024,
        segments_max: 16,
    },
};
pub(crate) const LEASE_MS: u64 = 1_000;

/// An engine and its queues.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) queues: Queues,
    pub(crate) backend: Arc<dyn Backend>,
}

impl Scene {
    pub(crate) async fn over(backend: Arc<dyn Backend>) -> Self {
        let rig = Rig::over(Arc::<dyn Backend>::clone(&backend));
        Self::with(rig, backend).await
    }

    /// Over a backend whose commits a test may hold back, or refuse.
    pub(crate) async fn behind_a_gate() -> (Arc<Gated>, Self) {
        let gated = Gated::new(1 << 30);
        let backend: Arc<dyn Backend> = Arc::<Gated>::clone(&gated);
        (gated, Self::over(backend).await)
    }

    async fn with(rig: Rig, backend: Arc<dyn Backend>) -> Self {
        let queues = Queues::start(rig.engine.clone(), LIMITS)
            .await
            .expect("queues can be read");
        Self { rig, queues, backend }
    }

    /// The same over another backend, as if the process had ended: its clock goes on.
    pub(crate) async fn again_over(&self, backend: Arc<dyn Backend>) -> Self {
        let clock = Arc::clone(&self.rig.clock);
        let time = Arc::<ManualClock>::clone(&clock);
        let engine = Engine::start(Arc::<dyn Backend>::clone(&backend), time, EngineLimits::default());
        let engine = engine.expect("the backend works");
        Self::with(Rig { engine, clock }, backend).await
    }

    /// Makes the queue `q`, or changes it.
    pub(crate) async fn put(&self, document: Value) -> Result<bool, QueueError> {
        let Value::Object(document) = document else {
            panic!("an object")
        };
        self.queues.put(&name("q"), &document).await.map(|made| made.new)
    }

    /// Makes the queue `q` with short leases and no chance in it.
    pub(crate) async fn make(&self, more: Value) {
        let mut document = json!({
            "lease_ms": LEASE_MS, "max_attempts": 2, "run_prefix": "r/",
            "backoff": { "base_ms": 100, "cap_ms": 1000, "jitter": 0 },
        });
        let Value::Object(more) = more else {
            panic!("an object")
        };
        document.as_object_mut().expect("an object").extend(more);
        assert!(self.put(document).await.expect("made"));
    }

    pub(crate) async fn get(&self) -> Described {
        self.queues.get(&name("q")).await.expect("there")
    }

    pub(crate) async fn enqueue(&self, message: &str) -> Result<Enqueued, QueueError> {
        let envelope = Envelope::parse(&JsonText::parse(message).expect("JSON")).expect("an envelope");
        self.queues.enqueue(&name("q"), envelope).await
    }

    /// Enqueues a job whose payload is 1, under this id.
    pub(crate) async fn enqueue_as(&self, id: &str) -> Enqueued {
        let enqueued = self.enqueue(&format!("{{\"payload\":1,\"id\":\"{id}\"}}")).await;
        enqueued.expect("enqueued")
    }

    /// At most so many jobs, without waiting.
    pub(crate) async fn claim(&self, worker: &str, count_max: usize) -> Vec<Claimed> {
        let claimed = self.queues.claim(&name("q"), worker, count_max, 0).await;
        claimed.expect("there is the queue")
    }

    /// The one job that there is.
    pub(crate) async fn claim_one(&self, worker: &str) -> Claimed {
        let mut claimed = self.claim(worker, 1).await;
        claimed.pop().expect("a job")
    }

    pub(crate) async fn settle(
        &self,
        claimed: &Claimed,
        seq: u64,
        word: Word,
    ) -> Result<Settled, QueueError> {
        self.queues
            .settle_lease(&claimed.run, (claimed.epoch, seq), word)
            .await
    }

    pub(crate) async fn complete(&self, claimed: &Claimed) {
        let settled = self.settle(claimed, 1, Word::Complete { result: None }).await;
        assert_eq!(settled.expect("the lease is held").state, RunState::Succeeded);
    }

    pub(crate) async fn fail(&self, claimed: &Claimed) -> Settled {
        let word = Word::Fail {
            error: JsonText::string("no"),
            retry: true,
            retry_after_ms: None,
        };
        self.settle(claimed, 1, word).await.expect("the lease is held")
    }

    /// Moves the clocks, and has all queues look at them.
    pub(crate) fn pass_ms(&self, ms: u64) {
        self.rig.clock.advance_millis(ms);
        self.queues.tick();
    }

    pub(crate) async fn state(&self, run: &str) -> Option<RunState> {
        match self.queues.run(&name(run)).await {
            Ok(shown) => Some(shown.status.state),
            Err(QueueError::RunNotFound) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until a run stands there. A key is seen as soon as it is durable, and events once that was told: so if the
    /// run has ended, also until its readers see the end.
    pub(crate) async fn stands(&self, run: &str, state: RunState) {
        until(|| async { self.state(run).await == Some(state) }).await;
        if state.has_ended() {
            until(|| async { self.rig.look(run).await.incarnation().view().closed }).await;
        }
    }

    /// The events of a stream.
    pub(crate) async fn events(&self, stream: &str) -> Vec<Value> {
        let text = self.rig.text(stream).await;
        serde_json::from_str(&format!("[{}]", text.trim_end_matches(','))).expect("JSON")
    }

    /// The types of the events of a stream.
    pub(crate) async fn types(&self, stream: &str) -> Vec<String> {
        let events = self.events(stream).await;
        events
            .iter()
            .map(|event| event["type"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// What a worker adds to its run.
    pub(crate) async fn log(&self, claimed: &Claimed, seq: u64, event: &str) -> bool {
        let request = tailwater_storage::engine::AppendRequest {
            body: bytes::Bytes::copy_from_slice(event.as_bytes()),
            content_type: Some(crate::support::ask::json()),
            producer: Some(crate::support::ask::producer("lease", claimed.epoch, seq)),
            ..tailwater_storage::engine::AppendRequest::default()
        };
        self.rig.engine.append(&claimed.run, request).await.is_ok()
    }

    /// Waits until so many workers wait for jobs.
    pub(crate) async fn waiting(&self, workers: u64) {
        until(|| async { self.get().await.gauges.waiting_workers == workers }).await;
    }

    /// Waits until so many messages were looked at.
    pub(crate) async fn admitted(&self, enqueued: u64) {
        until(|| async { self.get().await.gauges.counters.enqueued >= enqueued }).await;
    }
}

pub(crate) fn payloads(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.payload.as_str()).collect()
}

pub(crate) fn run_names(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.run.as_str()).collect()
}

pub(crate) fn queue() -> StreamName {
    name("q")
}

pub(crate) fn file_store(disk: &Arc<FaultyDisk>) -> Arc<dyn Backend> {
    let options = FileOptions {
        journal_bytes: 64 << 10,
        fold_bytes: 128 << 10,
        segment_bytes_max: 64 << 10,
        compacts_by_itself: false,
        ..FileOptions::new("/data".into(), Durability::Durable, 1 << 20)
    };
    let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
    Arc::new(FileStore::open_unlocked(disk, options).expect("the store opens"))
}

pub(crate) fn acid_store(disk: &Arc<FaultyDisk>) -> Arc<dyn Backend> {
    let options = AcidOptions {
        shard_count: 2,
        cache_bytes: 1 << 20,
        ..AcidOptions::new("/data".into())
    };
    let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
    Arc::new(AcidStore::open_unlocked(&disk, &options).expect("the store opens"))
}

/// Makes an empty backend.
type NewBackend = fn() -> Arc<dyn Backend>;

/// Runs a test over each kind of backend.
pub(crate) fn over_each<F: Future<Output = ()>>(test: impl Fn(Scene) -> F) {
    let backends: [(&str, NewBackend); 3] = [
        ("memory", || Arc::new(Memory::new(1 << 30))),
        ("file", || file_store(&FaultyDisk::new(0))),
        ("acid", || acid_store(&FaultyDisk::new(0))),
    ];
    for (kind, backend) in backends {
        println!("over {kind}");
        crate::support::ask::run(async { test(Scene::over(backend()).await).await });
    }
}
