//! Records that find no space, or a storage that fails: absent in each of their streams, and with them all that rests on
//! them.

use std::sync::Arc;

use tailwater_storage::engine::{Draft, EngineError, Held, Settled};
use tailwater_storage::{Backend as _, Memory};

use super::{append, draft, hold, id_of, set, text};
use crate::behind_a_gate;
use crate::support::ask::{Rig, at, run, waits};
use crate::support::gated::appends;

#[test]
fn a_record_without_space_is_absent_in_each_stream() {
    let backend = Arc::new(Memory::new(20_000));
    run(async {
        let rig = Rig::over(Arc::<Memory>::clone(&backend));
        for stream in ["a1", "a2"] {
            rig.create(stream).await.expect("created");
        }
        let before = rig.usage();
        let held = hold(&rig, &["a1", "a2"]).await;
        let settling = draft(&rig, &held, |draft| {
            append(draft, 0, "small");
            append(draft, 1, &"x".repeat(30_000));
            set(draft, 0, "key", Some("value"));
        });
        assert_eq!(settling.settled().await, Settled::Full);
        assert_eq!(rig.usage(), before);
        assert_eq!(
            backend.controls(id_of(&rig, "a1").await, b"").expect("readable"),
            []
        );
        for stream in ["a1", "a2"] {
            assert_eq!(rig.text(stream).await, "");
            rig.append(stream, "fits").await.expect("appended");
        }
    });
}

/// What is decided after a refused record, on any of its streams, is decided again: also what was decided on another
/// of them, by records that have nothing to do with the stream for which there was no space.
#[test]
fn what_follows_a_refused_record_in_any_of_its_streams_is_void() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a1", "a2", "a3", "a4"] {
            rig.create(stream).await.expect("created");
        }
        let held = hold(&rig, &["a1", "a2", "a3", "a4"]).await;
        gate.refuse(|record| appends(record, "big"));
        let footings: Vec<_> = held.iter().map(Held::footing).collect();
        gate.hold();
        let barrier = draft(&rig, &held[3..], |draft| append(draft, 0, "first"));
        gate.wait_at_gate(0);
        // The refused one has the first batch that is behind the gate, and the others the next.
        let big = draft(&rig, &held[..1], |draft| append(draft, 0, "big"));
        gate.let_one_pass(0);
        assert_eq!(barrier.settled().await, Settled::Durable);
        gate.wait_at_gate(0);
        // Also if the stream that is taken back is not the first one that it was drafted over.
        let two_and_one = [held[1].clone(), held[0].clone()];
        let over_one_and_two = draft(&rig, &two_and_one, |draft| {
            append(draft, 0, "x");
            append(draft, 1, "x");
        });
        let over_two_and_three = draft(&rig, &held[1..3], |draft| {
            append(draft, 0, "y");
            append(draft, 1, "y");
        });
        let three = draft(&rig, &held[2..3], |draft| append(draft, 0, "z"));
        let four = draft(&rig, &held[3..], |draft| append(draft, 0, "second"));
        let mut by_a_client = Box::pin(rig.append("a3", "w"));
        assert!(waits(by_a_client.as_mut()).await);
        gate.open();
        assert_eq!(big.settled().await, Settled::Full);
        for settling in [over_one_and_two, over_two_and_three, three] {
            assert_eq!(settling.settled().await, Settled::DecideAgain);
        }
        assert_eq!(four.settled().await, Settled::Durable);
        by_a_client.await.expect("it is decided again by itself");
        for (stream, expected) in [("a1", ""), ("a2", ""), ("a3", "w"), ("a4", "firstsecond")] {
            assert_eq!(rig.text(stream).await, expected, "{stream}");
        }
        let moved = held
            .iter()
            .zip(&footings)
            .map(|(held, before)| held.footing() > *before);
        assert_eq!(moved.collect::<Vec<_>>(), [true, true, true, false]);
        // What was taken back is what the next decision is made on.
        let settling = draft(&rig, &held, |draft| {
            for nth in 0..3 {
                append(draft, nth, "!");
            }
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(rig.text("a3").await, "w!");
    });
}

/// All of them are in the batch in which the first is refused.
#[test]
fn what_follows_a_refused_record_in_its_own_batch_is_void() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a1", "a2", "a3"] {
            rig.create(stream).await.expect("created");
        }
        let held = hold(&rig, &["a1", "a2", "a3"]).await;
        gate.refuse(|record| appends(record, "big"));
        gate.hold();
        let barrier = draft(&rig, &held[2..], |draft| append(draft, 0, "first"));
        gate.wait_at_gate(0);
        let before = draft(&rig, &held[1..2], |draft| append(draft, 0, "before"));
        let big = draft(&rig, &held[..2], |draft| {
            append(draft, 0, "big");
            append(draft, 1, "big");
        });
        let behind: Vec<_> = (0..2)
            .map(|nth| draft(&rig, &held[nth..=nth], |draft| append(draft, 0, "behind")))
            .collect();
        gate.open();
        assert_eq!(barrier.settled().await, Settled::Durable);
        assert_eq!(before.settled().await, Settled::Durable);
        assert_eq!(big.settled().await, Settled::Full);
        for settling in behind {
            assert_eq!(settling.settled().await, Settled::DecideAgain);
        }
        assert_eq!(rig.text("a1").await, "");
        assert_eq!(rig.text("a2").await, "before");
    });
}

/// A decision rests on a stream that it only looks at, too.
#[test]
fn a_decision_is_void_if_what_it_looked_at_is_taken_back() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a1", "a2", "b1"] {
            rig.create(stream).await.expect("created");
        }
        let held = hold(&rig, &["a1", "a2", "b1"]).await;
        gate.refuse(|record| appends(record, "big"));
        gate.hold();
        let big = draft(&rig, &held[..1], |draft| append(draft, 0, "big"));
        let looked = draft(&rig, &held[..2], |draft| {
            assert_eq!(draft.state(0).expect("there").tail, at(3));
            append(draft, 1, "there were three bytes");
        });
        // It stands in another partition, whose records are settled by themselves.
        let close = |draft: &mut Draft<'_>| {
            draft.append(0, text(""), None, true).expect("accepted");
        };
        let look_elsewhere = |body: &str| {
            draft(&rig, &held[1..], |draft| {
                let _ = draft.state(1).expect("there").closed;
                append(draft, 0, body);
            })
        };
        let appended_elsewhere = draft(&rig, &held[2..], |draft| append(draft, 0, "x"));
        // That it is there and open is as sure as before.
        let sure = look_elsewhere("sure");
        let closed_elsewhere = draft(&rig, &held[2..], close);
        let unsure = look_elsewhere("unsure");
        // Whoever does not look need not wait.
        let unseen = draft(&rig, &held[1..], |draft| append(draft, 0, "unseen"));
        gate.open();
        assert_eq!(big.settled().await, Settled::Full);
        assert_eq!(looked.settled().await, Settled::DecideAgain);
        for settling in [sure, unseen] {
            // They follow the one that looked at the refused record's stream.
            assert_eq!(settling.settled().await, Settled::DecideAgain);
        }
        for settling in [appended_elsewhere, closed_elsewhere] {
            assert_eq!(settling.settled().await, Settled::Durable);
        }
        assert_eq!(unsure.settled().await, Settled::DecideAgain);
        assert_eq!(rig.text("a2").await, "");
        assert_eq!(look_elsewhere("now").settled().await, Settled::Durable);
        assert_eq!(rig.text("a2").await, "now");
    });
}

/// The partitions settle what is theirs one before the other, in whatever order.
#[test]
fn a_decision_waits_for_what_it_saw_in_another_partition_and_is_made_again() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a1", "b1"] {
            rig.create(stream).await.expect("created");
        }
        let held = hold(&rig, &["a1", "b1"]).await;
        gate.hold();
        let closed = draft(&rig, &held[1..], |draft| {
            draft.append(0, text(""), None, true).expect("accepted");
        });
        let because_it_is_closed = || {
            draft(&rig, &held, |draft| {
                assert!(draft.state(1).expect("there").closed);
                append(draft, 0, "x");
            })
        };
        let mut first = Box::pin(because_it_is_closed().settled());
        assert!(waits(first.as_mut()).await);
        gate.open();
        assert_eq!(first.await, Settled::DecideAgain);
        assert_eq!(closed.settled().await, Settled::Durable);
        assert_eq!(rig.text("a1").await, "");
        assert_eq!(because_it_is_closed().settled().await, Settled::Durable);
        assert_eq!(rig.text("a1").await, "x");
    });
}

#[test]
fn a_failed_commit_is_told_to_all_and_takes_no_more() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a1", "a2"] {
            rig.create(stream).await.expect("created");
        }
        let held = hold(&rig, &["a1", "a2"]).await;
        gate.fail();
        let both = |draft: &mut Draft<'_>| {
            append(draft, 0, "x");
            append(draft, 1, "x");
        };
        assert_eq!(draft(&rig, &held, both).settled().await, Settled::Failed);
        let next = rig.engine.together(&held, |draft| {
            both(draft);
            Ok::<_, EngineError>(())
        });
        assert!(matches!(next, Err(EngineError::Backend(_))));
        for stream in ["a1", "a2"] {
            assert_eq!(rig.text(stream).await, "");
        }
    });
}
