//! What is enqueued and when, and what is told of it.

use std::sync::Arc;

use tailwater_storage::panics::Task;
use tailwater_storage::stream::schedule::{EnqueueAs, Fired, Misfire};
use tailwater_storage::stream::{ScheduleConfig, Timestamp};

use super::scene::{JOBS, PERIOD_MS, Scene, config, job, over_each, until};
use crate::support::ask::{START_MS, name, run};
use crate::support::gated::{Gated, Question};

#[test]
fn each_fire_time_enqueues_a_job_and_the_next_and_the_last_are_told() {
    over_each(|scene| async move {
        let put = scene.put("s", config()).await.expect("made");
        assert!(put.new);
        let time = |periods| Timestamp::from_millis(START_MS + periods * PERIOD_MS);
        assert_eq!(
            (put.described.next, put.described.state.last),
            (Some(time(1)), None)
        );
        scene.pass_ms(PERIOD_MS - 1);
        assert_eq!(scene.jobs().await, [""; 0]);
        for periods in 1..=3 {
            scene.pass_ms(if periods == 1 { 1 } else { PERIOD_MS });
            scene.fired("s", periods).await;
        }
        let messages = scene.messages(JOBS).await;
        assert_eq!(
            messages[0],
            serde_json::json!({"payload": {"to": "all"}, "id": job("s", 1)})
        );
        assert_eq!(scene.jobs().await, [1, 2, 3].map(|periods| job("s", periods)));
        let described = scene.get("s").await;
        let last = Fired {
            at: time(3),
            enqueued_at: time(3),
        };
        assert_eq!(
            (described.next, described.state.last),
            (Some(time(4)), Some(last))
        );
        assert_eq!(scene.schedules.stats().fires.get(), 3);
    });
}

#[test]
fn a_payload_that_is_an_array_is_one_message() {
    over_each(|scene| async move {
        let bare = ScheduleConfig {
            enqueue_as: EnqueueAs::Message,
            payload: "[1,2]".into(),
            ..config()
        };
        scene.put("s", bare).await.expect("made");
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
        assert_eq!(scene.messages(JOBS).await, [serde_json::json!([1, 2])]);
    });
}

#[test]
fn what_passed_while_the_clock_jumped_is_made_up_for_as_it_was_asked() {
    over_each(|scene| async move {
        for (schedule, misfire) in [
            ("skip", Misfire::Skip),
            ("once", Misfire::Once),
            ("all", Misfire::All),
        ] {
            let config = ScheduleConfig { misfire, ..config() };
            scene.put(schedule, config).await.expect("made");
        }
        // The last of four is not long ago.
        scene.pass_ms(4 * PERIOD_MS + 1_000);
        for (schedule, fires) in [("skip", 1), ("once", 2), ("all", 4)] {
            scene.fired(schedule, fires).await;
        }
        let mut jobs = scene.jobs().await;
        jobs.sort();
        let expected = [
            job("all", 1),
            job("all", 2),
            job("all", 3),
            job("all", 4),
            job("once", 3),
            job("once", 4),
            job("skip", 4),
        ];
        assert_eq!(jobs, expected);
        assert_eq!(scene.schedules.stats().misfires.get(), 3);
    });
}

#[test]
fn many_that_are_made_up_for_are_enqueued_in_order() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        scene.pass_ms(500 * PERIOD_MS);
        // Those are as many as may be made up for, and the last one is not long ago.
        scene.fired("s", 201).await;
        let jobs = scene.jobs().await;
        assert!(jobs.is_sorted_by(|a, b| a < b));
        assert_eq!(jobs.len(), 201);
    });
}

#[test]
fn a_stream_that_takes_nothing_is_told_of_and_tried_again() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        scene.rig.delete(JOBS).await;
        scene.pass_ms(PERIOD_MS);
        until(|| async { scene.get("s").await.state.trouble.is_some() }).await;
        let trouble = scene.get("s").await.state.trouble.expect("it failed");
        assert_eq!(&*trouble.error, "the stream `jobs`: there is no such stream");
        scene.rig.create(JOBS).await.expect("made, but not of JSON");
        scene.pass_ms(2_000);
        until(|| async {
            let trouble = scene.get("s").await.state.trouble;
            trouble.is_some_and(|trouble| trouble.failures == 2)
        })
        .await;
        scene.rig.delete(JOBS).await;
        scene.rig.create_json(JOBS).await;
        scene.pass_ms(4_000);
        scene.fired("s", 1).await;
        assert_eq!(scene.jobs().await, [job("s", 1)]);
        assert_eq!(scene.get("s").await.state.trouble, None);
        assert_eq!(scene.schedules.stats().failures.get(), 2);
    });
}

/// Nothing set the timer of a schedule whose turn had panicked, so that it never fired again before a restart.
#[test]
fn a_schedule_whose_turn_panics_fires_later() {
    run(async {
        let backend = Gated::inline(1 << 20);
        let scene = Scene::over(Arc::<Gated>::clone(&backend)).await;
        scene.rig.create_json(JOBS).await;
        scene.put("s", config()).await.expect("made");
        // After a start nobody has opened the stream, so it is loaded in the turn.
        let clock = Arc::clone(&scene.rig.clock);
        let scene = scene.again_over(Arc::<Gated>::clone(&backend), clock).await;
        backend.panic_at(Question::Load(name(JOBS)));
        scene.pass_ms(PERIOD_MS);
        let panics = &scene.rig.engine.stats().panics;
        until(|| async { panics.of(Task::Schedule) == 1 }).await;
        assert!(backend.has_panicked());
        until(|| async {
            scene.pass_ms(100);
            scene.schedules.stats().fires.get() > 0
        })
        .await;
        assert_eq!(scene.jobs().await[0], job("s", 1));
    });
}
