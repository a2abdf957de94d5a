//! Nothing is told that a crash could take back: not to readers, not in answers, not in the feed.

use std::pin::pin;

use tailwater_storage::engine::{
    AppendError, AppendRequest, ChangeKind, CreateError, DeleteError, OpenError,
};
use tailwater_storage::stream::{AppendRefusal, Transition};

use crate::support::ask::{Rig, at, bytes, name, producer, text_of, waits};
use crate::support::gated::transitions;
use crate::{behind_a_gate, over_all, run};

#[test]
fn a_reader_sees_no_append_before_it_is_durable() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        rig.append("a", "x").await.expect("appended");
        let reader = rig.look("a").await;
        let mut news = reader.incarnation().subscribe();
        gate.hold();
        let mut append = pin!(rig.append("a", "yy"));
        assert!(waits(append.as_mut()).await);
        gate.wait_at_gate(0);
        assert_eq!(text_of(&reader).await, "x");
        assert_eq!(rig.text("a").await, "x");
        assert!(!news.has_changed().expect("it is there"));
        let listed = rig.engine.list("", None, 10).await.expect("a listing");
        assert_eq!(listed.streams[0].bytes, 1);
        gate.open();
        let appended = append.await.expect("appended");
        assert_eq!(appended.tail.position(), at(3));
        assert_eq!(text_of(&reader).await, "xyy");
        assert_eq!(news.borrow_and_update().tail, at(3));
    });
}

/// Nobody is told of an append while nobody listens, so whoever comes next has to be shown it.
#[test]
fn who_begins_to_listen_sees_what_has_come_since_another_has_stopped() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        let reader = rig.look("a").await;
        let first = reader.incarnation().subscribe();
        rig.append("a", "x").await.expect("appended");
        assert_eq!(first.borrow().tail, at(1));
        drop(first);
        rig.append("a", "yy").await.expect("appended");
        let mut next = reader.incarnation().subscribe();
        assert!(!next.has_changed().expect("it is there"));
        assert_eq!(next.borrow_and_update().tail, at(3));
        rig.append("a", "z").await.expect("appended");
        assert!(next.has_changed().expect("it is there"));
        assert_eq!(next.borrow_and_update().tail, at(4));
    });
}

#[test]
fn nobody_sees_a_stream_before_its_creation_is_durable() {
    behind_a_gate(async |rig: Rig, gate| {
        let start = rig.engine.changes().now();
        gate.hold();
        let mut create = pin!(rig.create("a"));
        assert!(waits(create.as_mut()).await);
        gate.wait_at_gate(0);
        let look = rig.engine.look(&name("a")).await;
        assert!(matches!(look, Err(OpenError::NotFound)));
        assert!(
            rig.engine
                .list("", None, 10)
                .await
                .expect("a listing")
                .streams
                .is_empty()
        );
        assert!(
            rig.engine
                .changes()
                .after(start, "", 10)
                .expect("kept")
                .changes
                .is_empty()
        );
        gate.open();
        assert!(create.await.expect("created").new);
        assert_eq!(rig.text("a").await, "");
        let page = rig.engine.changes().after(start, "", 10).expect("kept");
        assert_eq!(page.changes[0].kind, ChangeKind::Created);
    });
}

#[test]
fn a_reader_sees_no_close_and_no_deletion_before_they_are_durable() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        let reader = rig.look("a").await;
        let view = || reader.incarnation().view();
        gate.hold();
        let mut close = pin!(rig.close("a"));
        assert!(waits(close.as_mut()).await);
        gate.wait_at_gate(0);
        let stream = name("a");
        let mut delete = pin!(rig.engine.delete(&stream));
        assert!(waits(delete.as_mut()).await);
        assert!(!view().closed && !view().deleted);
        gate.let_one_pass(0);
        assert!(close.await.expect("closed").closed);
        assert!(view().closed && !view().deleted);
        rig.look("a").await;
        gate.open();
        delete.await.expect("deleted");
        assert!(view().deleted);
        let look = rig.engine.look(&name("a")).await;
        assert!(matches!(look, Err(OpenError::NotFound)));
    });
}

#[test]
fn a_refusal_waits_until_what_it_was_decided_on_is_durable() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["closing", "growing", "going"] {
            rig.create(stream).await.expect("created");
        }
        let tail = rig.append("growing", "x").await.expect("appended").tail;
        let going = name("going");
        let growing = name("growing");
        gate.hold();
        let mut close = pin!(rig.close("closing"));
        let mut grow = pin!(rig.append("growing", "y"));
        let mut delete = pin!(rig.engine.delete(&going));
        assert!(waits(close.as_mut()).await && waits(grow.as_mut()).await && waits(delete.as_mut()).await);
        let mut after_close = pin!(rig.append("closing", "late"));
        let expecting = AppendRequest {
            if_match: Some(tail),
            ..bytes("z")
        };
        let mut after_growth = pin!(rig.engine.append(&growing, expecting));
        let mut after_delete = pin!(rig.append("going", "late"));
        let mut deleted_twice = pin!(rig.engine.delete(&going));
        assert!(waits(after_close.as_mut()).await, "the close may be lost yet");
        assert!(
            waits(after_growth.as_mut()).await,
            "the tail may be the expected one yet"
        );
        assert!(waits(after_delete.as_mut()).await, "the deletion may be lost yet");
        assert!(
            waits(deleted_twice.as_mut()).await,
            "the deletion may be lost yet"
        );
        gate.open();
        let closed = after_close.await;
        assert!(
            matches!(closed, Err(AppendError::Refused(AppendRefusal::Closed { .. }))),
            "{closed:?}"
        );
        let grown = after_growth.await;
        let Err(AppendError::Refused(AppendRefusal::TailMismatch { tail })) = grown else {
            panic!("{grown:?}")
        };
        assert_eq!(tail.position(), at(2));
        assert!(matches!(after_delete.await, Err(AppendError::NotFound)));
        assert!(matches!(deleted_twice.await, Err(DeleteError::NotFound)));
        close.await.expect("closed");
        grow.await.expect("appended");
        delete.await.expect("deleted");
    });
}

#[test]
fn a_repeated_creation_waits_for_the_first_one() {
    behind_a_gate(async |rig: Rig, gate| {
        gate.hold();
        let mut first = pin!(rig.create("a"));
        assert!(waits(first.as_mut()).await);
        let mut again = pin!(rig.create("a"));
        let mut conflicting = pin!(rig.create_with(
            "a",
            tailwater_storage::stream::CreateCommand {
                closed: true,
                ..Default::default()
            }
        ));
        assert!(waits(again.as_mut()).await && waits(conflicting.as_mut()).await);
        gate.open();
        assert!(first.await.expect("created").new);
        assert!(!again.await.expect("exists").new);
        assert!(matches!(conflicting.await, Err(CreateError::Refused(_))));
    });
}

#[test]
fn a_duplicate_is_answered_only_once_the_original_is_durable() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        let stream = name("a");
        let request = || AppendRequest {
            producer: Some(producer("p", 0, 0)),
            ..bytes("once")
        };
        gate.hold();
        let mut original = pin!(rig.engine.append(&stream, request()));
        assert!(waits(original.as_mut()).await);
        gate.wait_at_gate(0);
        let mut retry = pin!(rig.engine.append(&stream, request()));
        assert!(waits(retry.as_mut()).await, "a crash could lose the original yet");
        gate.open();
        let retry = retry.await.expect("a duplicate");
        let original = original.await.expect("appended");
        assert!(retry.duplicate && !original.duplicate);
        assert_eq!(retry.tail, original.tail);
        assert_eq!(rig.text("a").await, "once");
    });
}

/// The answer that a name is held was given while the deletion that it speaks of could still be lost.
#[test]
fn a_name_is_said_to_be_held_by_forks_only_once_its_deletion_is_durable() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        rig.fork("b/fork", "a").await.expect("forked");
        let stream = name("a");
        gate.hold();
        let mut delete = pin!(rig.engine.delete(&stream));
        assert!(waits(delete.as_mut()).await);
        let mut create = pin!(rig.create("a"));
        assert!(waits(create.as_mut()).await, "the deletion may be lost yet");
        gate.open();
        delete.await.expect("deleted");
        assert!(matches!(create.await, Err(CreateError::HeldByForks)));
    });
}

#[test]
fn an_append_whose_client_went_away_is_committed_and_shown() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        let reader = rig.look("a").await;
        let mut news = reader.incarnation().subscribe();
        gate.hold();
        {
            let mut append = Box::pin(rig.append("a", "orphan"));
            assert!(waits(append.as_mut()).await);
        }
        gate.wait_at_gate(0);
        gate.open();
        news.changed().await.expect("it is there");
        assert_eq!(text_of(&reader).await, "orphan");
        assert_eq!(
            rig.append("a", "!").await.expect("appended").tail.position(),
            at(7)
        );
    });
}

#[test]
fn what_gathers_during_a_commit_is_one_batch_in_the_order_of_acceptance() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a1", "a2"] {
            rig.create(stream).await.expect("created");
        }
        gate.hold();
        let mut first = pin!(rig.append("a1", "first"));
        assert!(waits(first.as_mut()).await);
        assert_eq!(gate.wait_at_gate(0), 1);
        let mut appends = Vec::new();
        for number in 0..60 {
            let stream = if number % 3 == 0 { "a2" } else { "a1" };
            let rig = &rig;
            let mut append = Box::pin(async move { rig.append(stream, &format!("{number};")).await });
            assert!(waits(append.as_mut()).await);
            appends.push(append);
        }
        gate.open();
        first.await.expect("appended");
        for append in appends {
            append.await.expect("appended");
        }
        let batches = gate.batches();
        let batch = batches.last().expect("a batch");
        assert_eq!(batch.len(), 60, "one commit for all that gathered");
        let mut tails = std::collections::HashMap::new();
        for record in batch {
            let id = record.streams().next().expect("a stream");
            let Some(Transition::Append(append)) = transitions(record).next() else {
                panic!("an append")
            };
            let tail = tails.entry(id).or_insert(append.start);
            assert_eq!(*tail, append.start, "in the order of acceptance, without gaps");
            *tail = append.end();
        }
        let numbers = |from: u32| (0..60).filter(move |number| (number % 3 == 0) == (from == 0));
        let expected = |from| {
            numbers(from)
                .map(|number| format!("{number};"))
                .collect::<String>()
        };
        assert_eq!(rig.text("a2").await, expected(0));
        assert_eq!(rig.text("a1").await, format!("first{}", expected(1)));
    });
}

#[test]
fn a_partition_does_not_wait_for_another_ones_commit() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        rig.create("b").await.expect("created");
        gate.hold();
        let mut slow = pin!(rig.append("a", "x"));
        assert!(waits(slow.as_mut()).await);
        gate.wait_at_gate(0);
        gate.let_one_pass(1);
        rig.append("b", "y").await.expect("appended");
        assert!(waits(slow.as_mut()).await);
        gate.open();
        slow.await.expect("appended");
    });
}

#[test]
fn stopping_commits_all_that_is_queued() {
    run(async {
        let gated = crate::support::gated::Gated::new(1 << 20);
        let rig = Rig::over(std::sync::Arc::<crate::support::gated::Gated>::clone(&gated));
        rig.create("a").await.expect("created");
        gated.hold();
        let mut appends: Vec<_> = (0..10).map(|_| Box::pin(rig.append("a", "x"))).collect();
        for append in &mut appends {
            assert!(waits(append.as_mut()).await);
        }
        gated.open();
        rig.engine.stop();
        for append in appends {
            append.await.expect("appended");
        }
        assert_eq!(rig.text("a").await, "xxxxxxxxxx");
    });
}
