//! All dead letters of a queue are tried anew, but for those that cannot be.

use std::sync::Arc;

use serde_json::json;
use tailwater_storage::engine::EngineError;
use tailwater_storage::queues::{QueueError, Redriven};
use tailwater_storage::{Backend, BackendError};

use super::dead::{dead, give_up};
use super::scene::{Scene, over_each, queue};
use crate::support::ask::{name, run};
use crate::support::gated::Gated;

/// One whose run could not be read kept all those behind it from being redriven, whenever that was asked for.
#[test]
fn a_dead_letter_whose_run_cannot_be_read_keeps_no_other_from_being_redriven() {
    run(async {
        let gated = Gated::new(1 << 20);
        let backend: Arc<dyn Backend> = Arc::<Gated>::clone(&gated);
        let scene = Scene::over(Arc::clone(&backend)).await;
        scene.make(json!({})).await;
        for id in ["a", "b"] {
            give_up(&scene, id).await;
        }
        let jobs = dead(&scene, 2).await;
        scene.queues.stop();
        // After a start its run is loaded anew.
        let scene = scene.again_over(backend).await;
        gated.damage_name(&name("r/a"));
        let Redriven {
            redriven,
            left,
            more_left,
        } = scene.queues.redrive_all(&queue()).await.expect("redriven");
        assert_eq!(redriven[0].run, name("r/b.2"));
        let [(job, why)] = &left[..] else {
            panic!("{left:?}")
        };
        assert_eq!((*job, more_left), (jobs[0], 0));
        assert!(
            matches!(
                why,
                QueueError::Engine(EngineError::Backend(BackendError::Damaged { .. }))
            ),
            "{why}"
        );
        assert_eq!(dead(&scene, 1).await, [jobs[0]]);
    });
}

#[test]
fn of_very_many_dead_letters_that_stay_the_first_are_named_and_the_others_counted() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let messages = vec![r#"{"payload":1,"oops":1}"#; 103].join(",");
        scene.rig.append_json("q", &format!("[{messages}]")).await;
        let jobs = dead(&scene, 103).await;
        let Redriven {
            redriven,
            left,
            more_left,
        } = scene.queues.redrive_all(&queue()).await.expect("there");
        assert_eq!((redriven, more_left), (Vec::new(), 3));
        let left: Vec<_> = left.iter().map(|(job, _)| *job).collect();
        assert_eq!(left, jobs[..100]);
    });
}

/// It was appended all the same, though it could be no job any more: its letter went, another one came, and those behind it
/// were not redriven.
#[test]
fn a_dead_letter_whose_value_at_the_concurrency_key_is_too_long_by_now_stays() {
    over_each(|scene| async move {
        scene.make(json!({})).await;
        let long = "x".repeat(300);
        let messages = format!(
            r#"[{{"payload":1,"id":"x"}},{{"payload":{{"to":"{long}"}},"id":"x"}},{{"payload":2,"id":"x"}}]"#
        );
        scene.rig.append_json("q", &messages).await;
        let jobs = dead(&scene, 2).await;
        scene
            .put(json!({ "run_prefix": "r/", "concurrency_key": "/to" }))
            .await
            .expect("changed");
        let Redriven { redriven, left, .. } = scene.queues.redrive_all(&queue()).await.expect("there");
        assert_eq!((redriven.len(), left.len()), (1, 1));
        assert!(
            matches!(left[0], (job, QueueError::DeadInvalid(_)) if job == jobs[0]),
            "{left:?}"
        );
        assert_eq!(dead(&scene, 1).await, [jobs[0]]);
    });
}
