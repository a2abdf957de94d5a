//! An engine with schedules over each kind of backend, and what stands in the stream that they enqueue to.

use std::future::Future;
use std::sync::Arc;

use tailwater_storage::clock::ManualClock;
use tailwater_storage::schedules::{Described, Put, PutError, SchedulesLimits};
use tailwater_storage::stream::schedule::{EnqueueAs, Misfire, ScheduleLimits};
use tailwater_storage::stream::{ScheduleConfig, ScheduleId};
use tailwater_storage::{Backend, Engine, EngineLimits, Memory, Schedules};

pub(crate) use crate::support::ask::until;
use crate::support::ask::{Rig, name};
use crate::support::faulty_disk::FaultyDisk;
pub(crate) use crate::support::stores::{acid_store, file_store};

pub(crate) const LIMITS: SchedulesLimits = SchedulesLimits {
    schedules_max: 3,
    of_each: ScheduleLimits {
        misfire_after_ms: 5_000,
        make_up_max: 200,
    },
};
/// How often [`config`] fires.
pub(crate) const PERIOD_MS: u64 = 10_000;
/// The stream that it enqueues to.
pub(crate) const JOBS: &str = "jobs";

/// An engine and its schedules.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) schedules: Schedules,
}

pub(crate) fn id(text: &str) -> ScheduleId {
    ScheduleId::parse(text).expect("an id")
}

/// Every ten seconds. Tests' clocks start on such a time.
pub(crate) fn config() -> ScheduleConfig {
    ScheduleConfig {
        stream: name(JOBS),
        cron: "*/10 * * * * *".into(),
        time_zone: "UTC".into(),
        payload: "{\"to\":\"all\"}".into(),
        enqueue_as: EnqueueAs::Job,
        misfire: Misfire::All,
        paused: false,
        start_at: None,
        end_at: None,
    }
}

impl Scene {
    pub(crate) async fn over(backend: Arc<dyn Backend>) -> Self {
        Self::with(Rig::over(backend)).await
    }

    async fn with(rig: Rig) -> Self {
        let schedules = Schedules::start(rig.engine.clone(), LIMITS)
            .await
            .expect("schedules can be read");
        Self { rig, schedules }
    }

    /// Another process over a backend that keeps what this one stored, whose clock shows another time.
    pub(crate) async fn again_over(&self, backend: Arc<dyn Backend>, clock: Arc<ManualClock>) -> Self {
        self.schedules.stop();
        let time = Arc::<ManualClock>::clone(&clock);
        let engine = Engine::start(backend, time, EngineLimits::default()).expect("the backend works");
        Self::with(Rig { engine, clock }).await
    }

    pub(crate) async fn put(&self, text: &str, config: ScheduleConfig) -> Result<Put, PutError> {
        self.schedules.put(id(text), config).await
    }

    pub(crate) async fn get(&self, text: &str) -> Described {
        self.schedules.get(&id(text)).await.expect("there")
    }

    /// Moves the clock, and does what has become due.
    pub(crate) fn pass_ms(&self, ms: u64) {
        self.rig.clock.advance_millis(ms);
        self.schedules.tick();
    }

    /// Waits until so many messages were enqueued in all.
    pub(crate) async fn fired(&self, text: &str, count: u64) {
        until(|| async { self.get(text).await.state.fires == count }).await;
    }

    /// What stands in a stream.
    pub(crate) async fn messages(&self, stream: &str) -> Vec<serde_json::Value> {
        let text = self.rig.text(stream).await;
        serde_json::from_str(&format!("[{}]", text.trim_end_matches(','))).expect("JSON")
    }

    /// The ids of the jobs in [`JOBS`].
    pub(crate) async fn jobs(&self) -> Vec<String> {
        let messages = self.messages(JOBS).await;
        let ids = messages
            .iter()
            .map(|message| message["id"].as_str().expect("an id").to_owned());
        ids.collect()
    }
}

/// The id of the job of a fire time, so many periods after tests' clocks start.
pub(crate) fn job(schedule: &str, periods: u64) -> String {
    // That is 1970-01-12T13:46:40Z.
    let seconds = 40 + periods * (PERIOD_MS / 1_000);
    format!(
        "{schedule}-1970-01-12T13:{:02}:{:02}Z",
        46 + seconds / 60,
        seconds % 60
    )
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
        crate::support::ask::run(async {
            let scene = Scene::over(backend()).await;
            scene.rig.create_json(JOBS).await;
            test(scene).await;
        });
    }
}
