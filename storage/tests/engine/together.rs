//! Records over several streams: whole in all of them or absent, in the order in which they were drafted.

mod refusals;
mod runs;

use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::Backend as _;
use tailwater_storage::engine::{Draft, EngineError, Held, NameTaken, Origin, Settled, Settling};
use tailwater_storage::stream::{AppendDecision, ContentKind, EncodedBody, StreamId, StreamKind};

use crate::support::ask::{Rig, at, json, name, producer, run, waits};
use crate::support::gated::Gated;
use crate::{behind_a_gate, over_all};

fn text(body: &str) -> EncodedBody {
    EncodedBody::new(ContentKind::Binary, &Bytes::copy_from_slice(body.as_bytes()))
}

async fn hold(rig: &Rig, streams: &[&str]) -> Vec<Held> {
    let names: Vec<_> = streams.iter().map(|stream| name(stream)).collect();
    rig.engine.hold(&names).await.expect("readable")
}

async fn id_of(rig: &Rig, stream: &str) -> StreamId {
    rig.look(stream).await.incarnation().id
}

/// A queue, and names for streams beside it. In a store of several partitions the names lead there by then.
async fn queue_and(rig: &Rig, streams: &[&str]) -> Vec<Held> {
    rig.create("a queue").await.expect("created");
    let mut held = hold(rig, &["a queue"]).await;
    let names: Vec<_> = streams.iter().map(|stream| name(stream)).collect();
    let id = id_of(rig, "a queue").await;
    held.extend(
        rig.engine
            .hold_beside(&names, &name("a queue"), id)
            .await
            .expect("led"),
    );
    held
}

fn draft(rig: &Rig, held: &[Held], decide: impl FnOnce(&mut Draft<'_>)) -> Settling {
    let drafted = rig.engine.together(held, |draft| {
        decide(draft);
        Ok::<_, EngineError>(())
    });
    drafted.expect("the storage works").1
}

fn append(draft: &mut Draft<'_>, nth: usize, body: &str) {
    let decision = draft.append(nth, text(body), None, false).expect("accepted");
    assert!(matches!(decision, AppendDecision::Accept(_)), "{decision:?}");
}

fn set(draft: &mut Draft<'_>, nth: usize, key: &'static str, value: Option<&'static str>) {
    let value = value.map(|value| Bytes::from_static(value.as_bytes()));
    draft.control(nth, Bytes::from_static(key.as_bytes()), value);
}

#[test]
fn what_one_record_changes_is_there_in_each_stream() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &["a run", "a letter"]).await;
        let origin = Origin::new(json());
        let settling = draft(&rig, &held, |draft| {
            append(draft, 0, "job");
            append(draft, 0, "other");
            draft.create(1, StreamKind::Run, &origin).expect("free");
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"{\"n\":1}"));
            draft
                .append(1, event, Some(producer("lease", 0, 0)), false)
                .expect("accepted");
            draft
                .create(2, StreamKind::Plain, &Origin::new(json()))
                .expect("free");
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(rig.text("a queue").await, "jobother");
        assert_eq!(rig.text("a run").await, "{\"n\":1},");
        let run = rig.look("a run").await;
        assert_eq!(run.incarnation().kind, StreamKind::Run);
        assert!(
            rig.engine
                .are_together(run.incarnation().id, id_of(&rig, "a queue").await)
        );
        assert_eq!(rig.text("a letter").await, "");
        assert_eq!(rig.engine.stats().creates.get(), 3);
        assert_eq!(rig.engine.stats().appends.get(), 3);
        let settling = draft(&rig, &held, |draft| {
            draft.trim(0, at(3));
            draft.delete(2);
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"{}"));
            draft
                .append(1, event, Some(producer("lease", 0, 1)), true)
                .expect("accepted");
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(rig.text("a queue").await, "other");
        assert!(rig.look("a run").await.incarnation().view().closed);
        let [letter] = &hold(&rig, &["a letter"]).await[..] else {
            panic!("one name")
        };
        assert_eq!(letter.name(), &name("a letter"));
        let settling = draft(&rig, std::slice::from_ref(letter), |draft| {
            assert_eq!(draft.state(0), None);
        });
        assert_eq!(settling.settled().await, Settled::Durable);
    });
}

#[test]
fn a_draft_sees_what_it_has_changed_before() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &["a run"]).await;
        draft(&rig, &held, |draft| {
            append(draft, 0, "one");
            assert_eq!(draft.state(0).expect("there").tail, at(3));
            append(draft, 0, "three");
            draft.trim(0, at(3));
            let state = draft.state(0).expect("there");
            assert_eq!((state.oldest, state.tail, state.messages), (at(3), at(8), 2));
            assert_eq!(draft.state(1), None);
            let id = draft
                .create(1, StreamKind::Run, &Origin::new(json()))
                .expect("free");
            assert_eq!(draft.state(1).expect("there").id, id);
            let again = draft.create(1, StreamKind::Run, &Origin::new(json()));
            assert_eq!(again, Err(NameTaken::Exists));
            draft.delete(1);
            assert_eq!(draft.state(1), None);
            // Whether it is free again shows only once the deletion is durable.
            let again = draft.create(1, StreamKind::Run, &Origin::new(json()));
            assert_eq!(again, Err(NameTaken::Deleted));
        })
        .settled()
        .await;
        assert_eq!(rig.text("a queue").await, "three");
    });
}

#[test]
fn a_duplicate_of_a_producer_changes_nothing_and_waits_for_its_original() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        let held = hold(&rig, &["a"]).await;
        let once = |draft: &mut Draft<'_>| {
            draft
                .append(0, text("x"), Some(producer("p", 0, 0)), false)
                .expect("accepted")
        };
        gate.hold();
        let first = draft(&rig, &held, |draft| {
            assert!(matches!(once(draft), AppendDecision::Accept(_)));
        });
        gate.wait_at_gate(0);
        let again = draft(&rig, &held, |draft| {
            assert!(matches!(once(draft), AppendDecision::Duplicate(_)));
        });
        let mut again = Box::pin(again.settled());
        assert!(waits(again.as_mut()).await);
        gate.open();
        assert_eq!(again.await, Settled::Durable);
        assert_eq!(first.settled().await, Settled::Durable);
        assert_eq!(rig.text("a").await, "x");
    });
}

#[test]
fn records_are_in_the_log_in_the_order_in_which_they_were_drafted() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a1", "a2", "a3"] {
            rig.create(stream).await.expect("created");
        }
        let held = hold(&rig, &["a3", "a1", "a2"]).await;
        gate.hold();
        let settling: Vec<_> = (0..30_usize)
            .map(|nth| {
                draft(&rig, &held, |draft| {
                    append(draft, nth % 3, &format!("{nth},"));
                    append(draft, (nth + 1) % 3, &format!("{nth},"));
                })
            })
            .collect();
        gate.open();
        for settling in settling {
            assert_eq!(settling.settled().await, Settled::Durable);
        }
        for (place, stream) in ["a3", "a1", "a2"].into_iter().enumerate() {
            let expected: String = (0..30)
                .filter(|nth| nth % 3 == place || (nth + 1) % 3 == place)
                .map(|nth| format!("{nth},"))
                .collect();
            assert_eq!(rig.text(stream).await, expected, "{stream}");
        }
    });
}

#[test]
fn a_refusal_changes_and_promises_nothing() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &[]).await;
        let refused = rig.engine.together(&held, |draft| {
            append(draft, 0, "x");
            Err::<(), _>(EngineError::Full)
        });
        assert!(matches!(refused, Err(EngineError::Full)));
        assert_eq!(rig.text("a queue").await, "");
        rig.append("a queue", "y").await.expect("appended");
        assert_eq!(rig.text("a queue").await, "y");
    });
}

#[test]
fn streams_are_held_with_one_question_and_loaded_once() {
    run(async {
        let gate = Gated::slow(1 << 30);
        let first = Rig::over(Arc::<Gated>::clone(&gate));
        for stream in ["a1", "a2"] {
            first.create(stream).await.expect("created");
            first.append(stream, "x").await.expect("appended");
        }
        let rig = Rig::over(Arc::<Gated>::clone(&gate));
        let streams = ["a1", "a2", "none"];
        let before: Vec<_> = streams.iter().map(|stream| gate.loads(&name(stream))).collect();
        let (one, other) = tokio::join!(hold(&rig, &streams), hold(&rig, &["a2", "a1"]));
        let after = streams.iter().map(|stream| gate.loads(&name(stream)));
        let loads: Vec<_> = after.zip(before).map(|(after, before)| after - before).collect();
        assert!(loads.iter().all(|loads| *loads <= 2), "{loads:?}");
        let settling = draft(&rig, &one[..2], |draft| append(draft, 1, "y"));
        assert_eq!(settling.settled().await, Settled::Durable);
        let settling = draft(&rig, &other, |draft| {
            assert_eq!(draft.state(0).expect("there").tail, at(2));
            assert_eq!(draft.state(1).expect("there").tail, at(1));
        });
        assert_eq!(settling.settled().await, Settled::Durable);
    });
}

#[test]
fn control_keys_go_with_their_stream() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        rig.fork("a fork", "a").await.expect("forked");
        let held = hold(&rig, &["a", "a fork"]).await;
        let settling = draft(&rig, &held, |draft| {
            set(draft, 0, "queue/state", Some("1"));
            set(draft, 0, "queue/job/1", Some("2"));
            set(draft, 0, "queue/job/1", None);
            set(draft, 1, "run", Some("3"));
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        let id = id_of(&rig, "a").await;
        let keys = |id| gate.controls(id, b"").expect("readable");
        assert_eq!(keys(id), [("queue/state".into(), "1".into())]);
        assert_eq!(keys(id_of(&rig, "a fork").await), [("run".into(), "3".into())]);
        rig.delete("a fork").await;
        rig.delete("a").await;
        rig.create("a").await.expect("created");
        assert_eq!(keys(id_of(&rig, "a").await), []);
        rig.delete("a").await;
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0));
    });
}
