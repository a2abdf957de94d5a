//! Writers of one stream that meet: each other, a refusal, a retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::future::block_on;
use tailwater_storage::engine::{AppendError, AppendRequest, EngineError};

use crate::support::ask::{bytes, name, producer};
use crate::support::gated::appends;
use crate::{check_each, check_gated, join, spawn};

#[test]
fn appends_that_meet_are_dense_and_each_is_there() {
    check_each(400, |rig| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        let writers: Vec<_> = ["1", "22", "333"]
            .into_iter()
            .map(|body| {
                spawn(&rig, async move |rig| {
                    (rig.append("a", body).await.expect("appended").tail, body)
                })
            })
            .collect();
        let mut ends: Vec<_> = writers.into_iter().map(join).collect();
        ends.sort();
        let text = block_on(rig.text("a"));
        let mut start = 0;
        for (tail, body) in ends {
            let end = tail.position().get() as usize;
            assert_eq!(&text[start..end], body);
            start = end;
        }
        assert_eq!(start, 6);
    });
}

#[test]
fn a_retry_that_meets_its_original_is_answered_with_it_and_appends_nothing() {
    check_each(400, |rig| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        let send = async |rig: &crate::support::ask::Rig| {
            let request = AppendRequest {
                producer: Some(producer("p", 0, 0)),
                ..bytes("once")
            };
            let appended = rig.engine.append(&name("a"), request).await.expect("answered");
            // What is answered can be read at once.
            assert_eq!(rig.text("a").await, "once");
            appended
        };
        let answers = [spawn(&rig, send), spawn(&rig, send)].map(join);
        assert_eq!(answers[0].tail, answers[1].tail);
        assert!(answers[0].duplicate != answers[1].duplicate);
    });
}

#[test]
fn what_follows_a_refused_append_is_decided_again() {
    check_gated(600, |rig, gate| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        gate.refuse(|record| appends(record, "big"));
        let big = spawn(&rig, async |rig| rig.append("a", "big").await);
        let small: Vec<_> = ["x", "yy"]
            .into_iter()
            .map(|body| {
                spawn(&rig, async move |rig| {
                    rig.append("a", body).await.expect("appended").tail
                })
            })
            .collect();
        let refused = join(big);
        assert!(
            matches!(refused, Err(AppendError::Engine(EngineError::Full))),
            "{refused:?}"
        );
        let mut tails: Vec<_> = small
            .into_iter()
            .map(|tail| join(tail).position().get())
            .collect();
        tails.sort_unstable();
        let text = block_on(rig.text("a"));
        assert!(
            text == "xyy" && tails == [1, 3] || text == "yyx" && tails == [2, 3],
            "{text} {tails:?}"
        );
    });
}

#[test]
fn a_retry_of_a_refused_append_is_no_duplicate() {
    check_gated(600, |rig, gate| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        let refused_once = AtomicBool::new(false);
        gate.refuse(move |record| appends(record, "x") && !refused_once.swap(true, Ordering::SeqCst));
        let send = async |rig: &crate::support::ask::Rig| {
            let request = AppendRequest {
                producer: Some(producer("p", 0, 0)),
                ..bytes("x")
            };
            rig.engine.append(&name("a"), request).await
        };
        let answers = [spawn(&rig, send), spawn(&rig, send)].map(join);
        let accepted: Vec<_> = answers.iter().flatten().collect();
        assert_eq!(accepted.len(), 1, "the first was refused: {answers:?}");
        assert!(!accepted[0].duplicate);
        assert_eq!(block_on(rig.text("a")), "x");
    });
}

#[test]
fn a_failed_commit_leaves_nobody_waiting() {
    check_gated(600, |rig, gate| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        gate.fail();
        let writers = [0, 0, 3].map(|seq| {
            spawn(&rig, async move |rig| {
                let request = AppendRequest {
                    producer: Some(producer("p", 0, seq)),
                    ..bytes("x")
                };
                rig.engine.append(&name("a"), request).await
            })
        });
        // A gap that is seen before anything was accepted is told as one: nothing about it can be lost.
        let [first, second, gap] = writers.map(join);
        for answer in [first, second] {
            assert!(
                matches!(answer, Err(AppendError::Engine(EngineError::Backend(_)))),
                "{answer:?}"
            );
        }
        assert!(gap.is_err());
        assert_eq!(block_on(rig.text("a")), "");
    });
}

#[test]
fn an_append_that_meets_a_deletion_is_before_it_or_refused() {
    check_each(400, |rig| {
        block_on(async { drop(rig.create("a").await.expect("created")) });
        let append = spawn(&rig, async |rig| rig.append("a", "x").await);
        let delete = spawn(&rig, async |rig| rig.engine.delete(&name("a")).await);
        let create = spawn(&rig, async |rig| rig.create("a").await);
        let appended = join(append);
        join(delete).expect("deleted");
        let recreated = join(create).expect("created or there").new;
        block_on(async {
            // Whatever it met, it is in the stream that took it, or refused.
            if recreated {
                let text = rig.text("a").await;
                assert!(text.is_empty() || appended.is_ok());
            }
            let _ = rig.engine.delete(&name("a")).await;
            rig.sweep().await;
            assert_eq!(rig.usage(), (0, 0));
        });
        drop(Arc::clone(&rig));
    });
}
