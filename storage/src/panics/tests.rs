//! What is begun again, and what is not.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tailwater_stream::schedule::{EnqueueAs, Misfire, ScheduleLimits};
use tailwater_stream::{ContentType, CreateCommand, NameLimits, ScheduleConfig, ScheduleId, StreamName};

use super::{Panicked, Task, TaskPanics};
use crate::backend::BackendError;
use crate::clock::SystemClock;
use crate::engine::{AppendError, AppendRequest, EngineError};
use crate::file::{self, Durability, FileOptions};
use crate::schedules::SchedulesLimits;
use crate::{Backend, Engine, EngineLimits, Memory, Schedules};

fn engine(backend: Arc<dyn Backend>) -> Engine {
    Engine::start(backend, Arc::new(SystemClock), EngineLimits::default()).expect("it can be read")
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text, NameLimits::default()).expect("a name")
}

#[test]
fn tasks_stand_in_their_order_and_have_names_of_their_own() {
    for (number, task) in Task::ALL.into_iter().enumerate() {
        assert_eq!(task as usize, number, "{task:?}");
    }
    let names: std::collections::BTreeSet<_> = Task::ALL.into_iter().map(Task::name).collect();
    assert_eq!(names.len(), Task::ALL.len());
}

#[tokio::test(start_paused = true)]
async fn a_task_is_begun_again_until_it_ends_by_itself() {
    let (panics, begun) = (TaskPanics::default(), Cell::new(0));
    let work = || async {
        begun.set(begun.get() + 1);
        tokio::task::yield_now().await;
        assert!(begun.get() > 2, "a planted panic");
    };
    panics.keep(Task::Sweep, work).await;
    assert_eq!((begun.get(), panics.of(Task::Sweep)), (3, 2));
    assert_eq!(panics.of(Task::ReadTurns), 0);
}

#[tokio::test]
async fn what_panicked_work_held_is_dropped() {
    let (panics, held) = (TaskPanics::default(), Arc::new(()));
    panics.plant(Task::Queue);
    let holding = Arc::clone(&held);
    let work = async move { drop(holding) };
    assert_eq!(panics.watch(Task::Queue, work).await, Err(Panicked));
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(
        panics.watch(Task::Queue, async { 7 }).await,
        Ok(7),
        "it panics once"
    );
}

/// Nobody looked at the fire times any more, of all schedules.
#[tokio::test]
async fn schedules_fire_after_a_panic_of_who_looks_at_their_times() {
    let engine = engine(Arc::new(Memory::new(1 << 20)));
    engine.stats().panics.plant(Task::ScheduleClock);
    let limits = SchedulesLimits {
        schedules_max: 1,
        of_each: ScheduleLimits {
            misfire_after_ms: 60_000,
            make_up_max: 1,
        },
    };
    let schedules = Schedules::start(engine.clone(), limits).await;
    let schedules = schedules.expect("they can be read");
    let json = CreateCommand {
        content_type: ContentType::parse("application/json"),
        ..CreateCommand::default()
    };
    engine.create(&name("jobs"), json).await.expect("created");
    let each_second = ScheduleConfig {
        stream: name("jobs"),
        cron: "* * * * * *".into(),
        time_zone: "UTC".into(),
        payload: "1".into(),
        enqueue_as: EnqueueAs::Job,
        misfire: Misfire::All,
        paused: false,
        start_at: None,
        end_at: None,
    };
    let id = ScheduleId::parse("s").expect("an id");
    schedules.put(id, each_second).await.expect("made");
    let fired = async {
        while schedules.stats().fires.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), fired)
        .await
        .expect("it fires");
    assert_eq!(engine.stats().panics.of(Task::ScheduleClock), 1);
}

/// What was committed was not shown, and whoever appended behind it was told that all is well.
#[tokio::test]
async fn a_panic_while_commits_are_shown_is_a_failure_of_the_storage() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = FileOptions::new(directory.path().join("store"), Durability::Durable, 1 << 30);
    let engine = engine(Arc::new(file::open(options).expect("it opens")));
    engine
        .create(&name("a"), CreateCommand::default())
        .await
        .expect("created");
    engine.stats().panics.plant(Task::Publisher);
    for _ in 0..2 {
        let request = AppendRequest {
            body: Bytes::from_static(b"x"),
            content_type: Some(ContentType::default()),
            ..AppendRequest::default()
        };
        let appended = engine.append(&name("a"), request).await;
        assert!(
            matches!(appended, Err(AppendError::Engine(EngineError::Backend(_)))),
            "{appended:?}"
        );
    }
    let failure = engine.failure().borrow().clone();
    assert!(matches!(failure, Some(BackendError::Panicked)), "{failure:?}");
    tokio::task::spawn_blocking(move || engine.stop())
        .await
        .expect("no panic");
}
