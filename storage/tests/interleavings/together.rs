//! Records over several streams that meet: each other, those of one stream, a refusal.

use std::sync::Arc;

use bytes::Bytes;
use shuttle::future::block_on;
use tailwater_storage::engine::{AppendError, Draft, EngineError, Held, Settled};
use tailwater_storage::stream::{ContentKind, EncodedBody};

use crate::support::ask::{Rig, name};
use crate::support::gated::appends;
use crate::{check_each, check_gated, join, spawn};

async fn hold(rig: &Rig, streams: &[&str]) -> Vec<Held> {
    let names: Vec<_> = streams.iter().map(|stream| name(stream)).collect();
    rig.engine.hold(&names).await.expect("readable")
}

fn append(draft: &mut Draft<'_>, nth: usize, body: &'static str) {
    let body = EncodedBody::new(ContentKind::Binary, &Bytes::from_static(body.as_bytes()));
    draft.append(nth, body, None, false).expect("accepted");
}

/// Appends to all of them at once.
async fn append_to_all(rig: &Rig, held: &[Held], body: &'static str) -> Settled {
    let drafted = rig.engine.together(held, |draft| {
        for nth in 0..held.len() {
            append(draft, nth, body);
        }
        Ok::<_, EngineError>(())
    });
    drafted.expect("the storage works").1.settled().await
}

/// Likewise, decided again until it is told what became of it.
async fn append_to_all_at_last(rig: &Rig, held: &[Held], body: &'static str) -> Settled {
    loop {
        match append_to_all(rig, held, body).await {
            Settled::DecideAgain => {}
            settled => return settled,
        }
    }
}

async fn create(rig: &Rig, streams: &[&str]) {
    for stream in streams {
        rig.create(stream).await.expect("created");
    }
}

/// What both texts have of some letters, each on its own, must be in the same order.
fn only(text: &str, letters: &str) -> String {
    text.chars().filter(|letter| letters.contains(*letter)).collect()
}

#[test]
fn records_over_streams_in_any_order_never_lock_each_other_out_and_are_in_one_order() {
    check_each(400, |rig| {
        block_on(create(&rig, &["a1", "a2", "a3"]));
        let writers = [
            (["a1", "a2", "a3"], "x"),
            (["a3", "a2", "a1"], "y"),
            (["a2", "a3", "a1"], "z"),
        ]
        .map(|(streams, body)| {
            spawn(&rig, async move |rig| {
                let held = hold(rig, &streams).await;
                append_to_all(rig, &held, body).await
            })
        });
        let single = spawn(&rig, async |rig| rig.append("a2", "-").await);
        let sweeper = spawn(&rig, async |rig| rig.sweep().await);
        for writer in writers {
            assert_eq!(join(writer), Settled::Durable);
        }
        join(single).expect("appended");
        join(sweeper);
        block_on(async {
            let first = rig.text("a1").await;
            assert_eq!(first.len(), 3);
            for stream in ["a2", "a3"] {
                assert_eq!(only(&rig.text(stream).await, "xyz"), first);
            }
            assert_eq!(rig.text("a2").await.len(), 4);
        });
    });
}

#[test]
fn what_rests_on_a_refused_record_is_void_in_each_stream_and_whole_once_it_is_decided_again() {
    check_gated(600, |rig, gate| {
        block_on(create(&rig, &["a1", "a2", "a3"]));
        gate.refuse(|record| appends(record, "big"));
        let big = spawn(&rig, async |rig| {
            let held = hold(rig, &["a1", "a2"]).await;
            append_to_all_at_last(rig, &held, "big").await
        });
        let over_two = spawn(&rig, async |rig| {
            let held = hold(rig, &["a2", "a3"]).await;
            append_to_all_at_last(rig, &held, "x").await
        });
        let over_others = spawn(&rig, async |rig| {
            let held = hold(rig, &["a3", "a1"]).await;
            append_to_all_at_last(rig, &held, "y").await
        });
        let single = spawn(&rig, async |rig| rig.append("a3", "z").await);
        assert_eq!(join(big), Settled::Full);
        assert_eq!(join(over_two), Settled::Durable);
        assert_eq!(join(over_others), Settled::Durable);
        join(single).expect("appended");
        block_on(async {
            assert_eq!(rig.text("a1").await, "y");
            assert_eq!(rig.text("a2").await, "x");
            let mut third: Vec<_> = rig.text("a3").await.chars().collect();
            third.sort_unstable();
            assert_eq!(third, ['x', 'y', 'z']);
        });
    });
}

/// The refused one is of one stream alone, and what rests on it lies in a later batch.
#[test]
fn a_refusal_of_one_stream_reaches_those_that_it_has_nothing_to_do_with() {
    check_gated(600, |rig, gate| {
        block_on(create(&rig, &["a1", "a2"]));
        gate.refuse(|record| appends(record, "big"));
        let big = spawn(&rig, async |rig| rig.append("a1", "big").await);
        let both = spawn(&rig, async |rig| {
            let held = hold(rig, &["a1", "a2"]).await;
            let before: Vec<_> = held.iter().map(Held::footing).collect();
            let settled = append_to_all(rig, &held, "x").await;
            let after: Vec<_> = held.iter().map(Held::footing).collect();
            // Whoever was told to decide again finds that it stands on other ground.
            if settled == Settled::DecideAgain {
                assert!(after.iter().zip(&before).all(|(after, before)| after > before));
            }
            settled
        });
        let single = spawn(&rig, async |rig| rig.append("a2", "z").await);
        let refused = join(big);
        assert!(
            matches!(refused, Err(AppendError::Engine(EngineError::Full))),
            "{refused:?}"
        );
        let expected = match join(both) {
            Settled::Durable => ("x", 2),
            Settled::DecideAgain => ("", 1),
            other => panic!("{other:?}"),
        };
        join(single).expect("appended");
        block_on(async {
            assert_eq!((&*rig.text("a1").await, rig.text("a2").await.len()), expected);
        });
        drop(Arc::clone(&rig));
    });
}

#[test]
fn a_failed_commit_leaves_nobody_waiting_for_a_record_over_several_streams() {
    check_gated(400, |rig, gate| {
        block_on(create(&rig, &["a1", "a2"]));
        gate.fail();
        let writers = [["a1", "a2"], ["a2", "a1"]].map(|streams| {
            spawn(&rig, async move |rig| {
                let held = hold(rig, &streams).await;
                let drafted = rig.engine.together(&held, |draft| {
                    append(draft, 0, "x");
                    append(draft, 1, "x");
                    Ok::<_, EngineError>(())
                });
                match drafted {
                    Ok(((), settling)) => settling.settled().await,
                    Err(EngineError::Backend(_)) => Settled::Failed,
                    Err(EngineError::Full) => Settled::Full,
                }
            })
        });
        let single = spawn(&rig, async |rig| rig.append("a2", "z").await.is_err());
        for writer in writers {
            assert_eq!(join(writer), Settled::Failed);
        }
        assert!(join(single));
        block_on(async {
            for stream in ["a1", "a2"] {
                assert_eq!(rig.text(stream).await, "");
            }
        });
    });
}
