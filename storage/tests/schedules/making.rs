//! Schedules are made, changed, refused and deleted.

use tailwater_storage::schedules::{PutError, ScheduleError};
use tailwater_storage::stream::schedule::CronRefusal;
use tailwater_storage::stream::{ScheduleConfig, Timestamp};

use super::scene::{JOBS, PERIOD_MS, config, id, job, over_each};
use crate::support::ask::{START_MS, name};

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing() {
    over_each(|scene| async move {
        scene.rig.create("text").await.expect("made");
        let refused = |change: fn(&mut ScheduleConfig)| {
            let mut asked = config();
            change(&mut asked);
            let scene = &scene;
            async move { scene.put("s", asked).await.expect_err("refused") }
        };
        let error = refused(|asked| asked.stream = name("missing")).await;
        assert!(matches!(error, PutError::NoStream { stream } if stream == name("missing")));
        let error = refused(|asked| asked.stream = name("text")).await;
        assert!(
            matches!(error, PutError::NotJson { content_type, .. } if &*content_type == "application/octet-stream")
        );
        let error = refused(|asked| asked.time_zone = "Europe/Atlantis".into()).await;
        assert!(matches!(error, PutError::Zone));
        let error = refused(|asked| asked.cron = "61 * * * *".into()).await;
        assert!(matches!(error, PutError::Cron(CronRefusal::Malformed { .. })));
        let error = refused(|asked| asked.cron = "0 0 31 2 *".into()).await;
        assert!(matches!(error, PutError::NeverFires));
        let error = refused(|asked| asked.end_at = Some(Timestamp::from_millis(START_MS))).await;
        assert!(matches!(error, PutError::NeverFires));
        assert_eq!(scene.schedules.count(), 0);
        for schedule in ["a", "b", "c"] {
            scene.put(schedule, config()).await.expect("made");
        }
        let error = scene.put("d", config()).await.expect_err("refused");
        assert!(matches!(error, PutError::TooMany { schedules_max: 3 }));
    });
}

#[test]
fn the_same_again_changes_nothing_and_another_one_goes_on_from_now() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
        let before = scene.get("s").await;
        let again = scene.put("s", config()).await.expect("there");
        assert!(!again.new);
        assert_eq!(again.described, before);

        let hourly = ScheduleConfig {
            cron: "0 * * * *".into(),
            ..config()
        };
        let changed = scene.put("s", hourly).await.expect("changed");
        assert!(!changed.new);
        assert_eq!(changed.described.created_at, before.created_at);
        scene.pass_ms(5 * PERIOD_MS);
        let back = scene.put("s", config()).await.expect("changed");
        assert_eq!(back.described.state.fires, 1);
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 2).await;
        assert_eq!(scene.jobs().await, [job("s", 1), job("s", 7)]);
    });
}

#[test]
fn a_refused_change_leaves_the_schedule_as_it_was() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        let missing = ScheduleConfig {
            stream: name("missing"),
            ..config()
        };
        scene.put("s", missing).await.expect_err("refused");
        assert_eq!(scene.get("s").await.config, config());
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
    });
}

#[test]
fn a_pause_lasts_until_it_is_taken_back() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        let paused = ScheduleConfig {
            paused: true,
            ..config()
        };
        let put = scene.put("s", paused).await.expect("changed");
        assert_eq!(put.described.next, None);
        scene.pass_ms(3 * PERIOD_MS);
        scene.put("s", config()).await.expect("changed");
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
        assert_eq!(scene.jobs().await, [job("s", 4)]);
    });
}

#[test]
fn a_deleted_schedule_is_gone_and_one_that_is_made_anew_begins_anew() {
    over_each(|scene| async move {
        scene.put("s", config()).await.expect("made");
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
        scene.schedules.delete(&id("s")).await.expect("deleted");
        scene
            .schedules
            .delete(&id("s"))
            .await
            .expect("that there is none is no error");
        let gone = scene.schedules.get(&id("s")).await;
        assert!(matches!(gone, Err(ScheduleError::NotFound)));
        scene.pass_ms(2 * PERIOD_MS);
        // Its first fire has the number that the other one's had in the same stream.
        let put = scene.put("s", config()).await.expect("made");
        assert!(put.new);
        scene.pass_ms(PERIOD_MS);
        scene.fired("s", 1).await;
        assert_eq!(scene.jobs().await, [job("s", 1), job("s", 4)]);
        assert_eq!(scene.messages(JOBS).await.len(), 2);
    });
}

#[test]
fn they_are_listed_in_pages() {
    over_each(|scene| async move {
        for schedule in ["b", "a", "c"] {
            scene.put(schedule, config()).await.expect("made");
        }
        let (listed, more) = scene.schedules.list(None, 2).await;
        let ids: Vec<_> = listed.iter().map(|described| described.id.as_str()).collect();
        assert_eq!((ids, more), (vec!["a", "b"], true));
        let (listed, more) = scene.schedules.list(Some(&id("b")), 2).await;
        let ids: Vec<_> = listed.iter().map(|described| described.id.as_str()).collect();
        assert_eq!((ids, more), (vec!["c"], false));
    });
}
