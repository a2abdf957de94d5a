//! Records over several streams: whole in all of them or absent, in the order in which they were drafted.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::engine::{
    AppendError, CreateError, Draft, EngineError, Held, NameTaken, Origin, Settled, Settling,
};
use tailwater_storage::stream::{
    AppendDecision, AppendRefusal, ContentKind, EncodedBody, Record, StreamId, StreamKind, Transition,
};
use tailwater_storage::{Backend, EngineLimits, Memory};

use crate::support::ask::{Rig, at, json, name, producer, run};
use crate::support::gated::{Gated, appends, transitions};
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

async fn control(rig: &Rig, backend: &dyn Backend, stream: &str, key: &str) -> Option<Bytes> {
    let id = id_of(rig, stream).await;
    backend.control(id, key.as_bytes()).expect("readable")
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
        assert!(crate::support::ask::waits(again.as_mut()).await);
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
        assert_eq!(control(&rig, backend.as_ref(), "a1", "key").await, None);
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
        let over_one_and_two = draft(&rig, &held[..2], |draft| {
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
        assert!(crate::support::ask::waits(by_a_client.as_mut()).await);
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
fn the_name_of_a_deleted_stream_is_free_once_no_fork_holds_it() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &["a run"]).await;
        let begin = |held: &[Held]| {
            let drafted = rig.engine.together(held, |draft| {
                let begun = draft.create(1, StreamKind::Run, &Origin::new(json()));
                Ok::<_, EngineError>(begun)
            });
            drafted.expect("the storage works")
        };
        let (begun, settling) = begin(&held);
        begun.expect("free");
        assert_eq!(settling.settled().await, Settled::Durable);
        rig.fork("a fork", "a run").await.expect("forked");
        let settling = draft(&rig, &held, |draft| draft.delete(1));
        assert_eq!(settling.settled().await, Settled::Durable);
        let held = queue_again(&rig, "a run").await;
        assert_eq!(begin(&held).0, Err(NameTaken::Deleted));
        rig.delete("a fork").await;
        let held = queue_again(&rig, "a run").await;
        let (begun, settling) = begin(&held);
        begun.expect("free");
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(rig.text("a run").await, "");
    });
}

async fn queue_again(rig: &Rig, stream: &str) -> Vec<Held> {
    let mut held = hold(rig, &["a queue"]).await;
    let id = id_of(rig, "a queue").await;
    let more = rig
        .engine
        .hold_beside(&[name(stream)], &name("a queue"), id)
        .await;
    held.extend(more.expect("led"));
    held
}

#[test]
fn a_run_is_forked_as_another_run_in_one_record() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &["a run", "a run.2"]).await;
        let settling = draft(&rig, &held[..2], |draft| {
            draft
                .create(1, StreamKind::Run, &Origin::new(json()))
                .expect("free");
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"[1,2]"));
            draft
                .append(1, event, Some(producer("lease", 0, 0)), true)
                .expect("accepted");
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        let point = rig.look("a run").await.incarnation().token(at(2));
        let request = tailwater_storage::stream::ForkRequest {
            source: name("a run"),
            offset: Some(point),
            sub_offset: 0,
        };
        let origin = rig.engine.origin_of_fork(request).await.expect("it is there");
        // It is held by the origin alone until the record is queued.
        rig.delete("a run").await;
        let settling = draft(&rig, &held, |draft| {
            draft.create(2, StreamKind::Run, &origin).expect("free");
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"3"));
            draft
                .append(2, event, Some(producer("lease", 0, 0)), false)
                .expect("accepted");
            set(draft, 0, "retry", Some("a run.2"));
        });
        drop(origin);
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(rig.text("a run.2").await, "1,3,");
        let again = rig.look("a run.2").await;
        assert_eq!(again.incarnation().kind, StreamKind::Run);
        assert_eq!(
            again
                .incarnation()
                .source
                .as_ref()
                .map(|source| source.name.clone()),
            Some(name("a run"))
        );
    });
}

#[test]
fn clients_may_do_to_a_run_what_its_lease_allows() {
    over_all(async |rig: Rig| {
        let held = queue_and(&rig, &["a run"]).await;
        let event =
            |body: &str| EncodedBody::new(ContentKind::Json, &Bytes::copy_from_slice(body.as_bytes()));
        let by_server = |epoch, seq, body: &str, ends| {
            draft(&rig, &held, |draft| {
                if draft.state(1).is_none() {
                    draft
                        .create(1, StreamKind::Run, &Origin::new(json()))
                        .expect("free");
                }
                draft
                    .append(1, event(body), Some(producer("lease", epoch, seq)), ends)
                    .expect("the server may");
            })
        };
        assert_eq!(by_server(0, 0, "0", false).settled().await, Settled::Durable);
        let by_worker = async |epoch, seq| {
            let request = tailwater_storage::engine::AppendRequest {
                content_type: Some(json()),
                producer: Some(producer("lease", epoch, seq)),
                ..crate::support::ask::bytes("\"work\"")
            };
            rig.engine.append(&name("a run"), request).await
        };
        let is_lease = |answer: &Result<_, AppendError>| {
            matches!(answer, Err(AppendError::Refused(AppendRefusal::Lease(_))))
        };
        assert!(is_lease(&by_worker(0, 1).await), "nobody holds it");
        assert!(is_lease(&by_worker(1, 0).await), "nobody gave it");
        assert_eq!(by_server(1, 0, "1", false).settled().await, Settled::Durable);
        by_worker(1, 1).await.expect("it is the holder's");
        assert!(by_worker(1, 1).await.expect("a retry").duplicate);
        let token = rig.look("a run").await.incarnation().token(at(2));
        let trimmed = rig.engine.trim(&name("a run"), token).await;
        assert!(trimmed.is_err(), "it is open");
        assert!(rig.engine.delete(&name("a run")).await.is_err(), "it is open");
        assert_eq!(by_server(2, 0, "2", false).settled().await, Settled::Durable);
        let zombie = by_worker(1, 2).await;
        assert!(
            matches!(zombie, Err(AppendError::Refused(AppendRefusal::Producer(_)))),
            "{zombie:?}"
        );
        assert_eq!(by_server(2, 1, "3", true).settled().await, Settled::Durable);
        assert_eq!(rig.text("a run").await, "0,1,\"work\",2,3,");
        let created = rig.create("a run").await;
        assert!(matches!(created, Err(CreateError::Refused(_))), "{created:?}");
        rig.engine
            .trim(&name("a run"), token)
            .await
            .expect("it has ended");
        rig.delete("a run").await;
    });
}

fn is_end(record: &Record) -> bool {
    transitions(record).any(|transition| matches!(transition, Transition::Append(append) if append.closes))
}

/// A run whose worker has filled it must come to its end all the same.
#[test]
fn a_full_run_still_takes_what_the_server_says() {
    let limits = EngineLimits {
        stream_bytes_max: 10,
        producers_max: 1,
        ..EngineLimits::default()
    };
    crate::over_each(1 << 30, limits, async |rig: Rig| {
        let held = queue_and(&rig, &["a run"]).await;
        let settling = draft(&rig, &held, |draft| {
            draft
                .create(1, StreamKind::Run, &Origin::new(json()))
                .expect("free");
            let event = EncodedBody::new(ContentKind::Json, &Bytes::from_static(b"\"more than ten bytes\""));
            draft
                .append(1, event.clone(), Some(producer("lease", 0, 0)), false)
                .expect("accepted");
            draft
                .append(1, event, Some(producer("lease", 2, 0)), true)
                .expect("accepted");
        });
        assert_eq!(settling.settled().await, Settled::Durable);
        // A queue is as full for the server as for anybody.
        let refused = rig.engine.together(&held, |draft| {
            append(draft, 0, "ten bytes.");
            let one = draft.append(0, text("x"), Some(producer("retry", 0, 0)), false);
            assert!(matches!(one, Err(AppendRefusal::StreamFull { .. })), "{one:?}");
            Err::<(), _>(EngineError::Full)
        });
        assert!(refused.is_err());
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
        assert!(!gate.batches().iter().flatten().any(is_end));
    });
}
