//! A backend that has no space, also not for what is small: readers and the sweep go on. And what an earlier run left.

use std::sync::Arc;

use tailwater_storage::Backend;
use tailwater_storage::engine::{AppendError, CreateError, DeleteError, EngineError, OpenError, TrimError};
use tailwater_storage::stream::{Record, StreamId, Transition};

use crate::support::ask::{Rig, at, name, waits};
use crate::support::gated::{Gated, transitions};
use crate::{behind_a_gate, over_all, run};

fn is_touch(record: &Record) -> bool {
    transitions(record).any(|transition| matches!(transition, Transition::Touch { .. }))
}

fn is_delete(record: &Record) -> bool {
    transitions(record).any(|transition| matches!(transition, Transition::Delete { .. }))
}

fn touches(gate: &Gated) -> usize {
    gate.batches()
        .iter()
        .flatten()
        .filter(|record| is_touch(record))
        .count()
}

async fn id_of(rig: &Rig, stream: &str) -> StreamId {
    rig.look(stream).await.incarnation().id
}

async fn use_it(rig: &Rig, stream: &str) {
    rig.engine.reader(&name(stream)).await.expect("it can be read");
    // By then what was queued before it is settled.
    rig.append("a barrier", "x").await.expect("there is space for it");
}

/// The sweep ended at the first stream for whose end there was no space, and nothing else was swept any more.
#[test]
fn a_sweep_goes_on_behind_a_stream_that_there_is_no_space_to_end() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["one", "other", "third"] {
            rig.create_living(stream, 16).await;
        }
        rig.create("stays").await.expect("created");
        let stuck = id_of(&rig, "other").await;
        gate.refuse(move |record| is_delete(record) && record.streams().any(|id| id == stuck));
        rig.clock.advance_millis(60_000);
        for _ in 0..62 {
            rig.sweep().await;
        }
        assert_eq!(rig.usage().0, 2, "the other two have ended");
        assert_eq!(gate.loads(&name("stays")), 1);
        let _ = rig.look("stays").await;
        assert_eq!(gate.loads(&name("stays")), 2, "idle streams were evicted");
        gate.refuse_none();
        rig.sweep().await;
        assert_eq!(rig.usage().0, 1);
    });
}

/// As many as a sweep asks for at once, and their recorded ends come first: no stream behind them was ended any more.
#[test]
fn a_sweep_goes_on_behind_however_many_streams_whose_use_there_is_no_space_to_record() {
    behind_a_gate(async |rig: Rig, gate| {
        const USED: usize = 1_500;
        let used = |number: usize| format!("used/{number}");
        for number in 0..USED {
            rig.create_living(&used(number), 16).await;
        }
        rig.clock.advance_millis(1_000);
        rig.create_living("idle", 16).await;
        for _ in 0..62 {
            rig.engine.evict_idle();
        }
        assert_eq!(rig.engine.open_streams(), 0);
        gate.refuse(is_touch);
        rig.clock.advance_millis(16_000);
        for number in 0..USED {
            let reader = rig.engine.reader(&name(&used(number))).await;
            reader.expect("it is not over yet, for a use is assumed");
        }
        rig.clock.advance_millis(2_000);
        rig.sweep().await;
        assert_eq!(rig.engine.stats().expirations.get(), 1);
        assert_eq!(rig.usage().0, USED as u64);
        assert!(matches!(
            rig.engine.look(&name("idle")).await,
            Err(OpenError::NotFound)
        ));
    });
}

/// Writers were told of a lack of space, and that they might come again once there is some.
#[test]
fn a_stream_that_there_is_no_space_to_end_is_not_there_for_anybody() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create_living("ends", 16).await;
        let oldest = rig.look("ends").await.incarnation().token(at(0));
        gate.refuse(is_delete);
        rig.clock.advance_millis(60_000);
        let ends = name("ends");
        let found = rig.engine.reader(&ends).await;
        assert!(matches!(found, Err(OpenError::NotFound)), "{:?}", found.err());
        let appended = rig.append("ends", "x").await;
        assert!(matches!(appended, Err(AppendError::NotFound)), "{appended:?}");
        let deleted = rig.engine.delete(&ends).await;
        assert!(matches!(deleted, Err(DeleteError::NotFound)), "{deleted:?}");
        let trimmed = rig.engine.trim(&ends, oldest).await;
        assert!(matches!(trimmed, Err(TrimError::NotFound)), "{trimmed:?}");
        let forked = rig.fork("fork", "ends").await;
        assert!(matches!(forked, Err(CreateError::SourceNotFound)), "{forked:?}");
        // Only who wants its name needs its end to be recorded.
        let created = rig.create("ends").await;
        assert!(
            matches!(created, Err(CreateError::Engine(EngineError::Full))),
            "{created:?}"
        );
        gate.refuse_none();
        assert!(rig.create("ends").await.expect("created").new);
    });
}

/// An export of all streams ended with an error at the first one of these.
#[test]
fn a_stream_that_there_is_no_space_to_end_is_left_out_of_an_export() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a", "z"] {
            rig.create(stream).await.expect("created");
        }
        rig.create_living("ends", 16).await;
        gate.refuse(is_delete);
        rig.clock.advance_millis(60_000);
        let mut exporter = rig.engine.export("");
        let mut names = Vec::new();
        while let Some(export) = exporter.next().await.expect("it goes on") {
            names.push(export.stream().state.name.to_string());
        }
        assert_eq!(names, ["a", "z"]);
    });
}

/// Each read would have been a record that is refused, and with it whatever stood behind it in its batch.
#[test]
fn a_use_that_there_is_no_space_to_record_is_tried_now_and_then_and_fails_nothing() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a barrier").await.expect("created");
        rig.create_living("used", 160).await;
        gate.refuse(is_touch);
        for _ in 0..20 {
            rig.clock.advance_millis(1_000);
            use_it(&rig, "used").await;
        }
        assert_eq!(touches(&gate), 1, "a window has sixteen parts");
        rig.delete("used").await;
    });
}

/// It would have been loaded again as one that nobody had used for long.
#[test]
fn a_stream_whose_use_there_is_no_space_to_record_stays_open() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a barrier").await.expect("created");
        rig.create_living("used", 160).await;
        gate.refuse(is_touch);
        rig.clock.advance_millis(100_000);
        use_it(&rig, "used").await;
        for _ in 0..62 {
            rig.sweep().await;
        }
        rig.clock.advance_millis(100_000);
        use_it(&rig, "used").await;
    });
}

/// Bytes of a deleted stream that none of its forks could read stayed until the last fork was gone.
#[test]
fn what_a_deleted_source_alone_could_read_is_given_back() {
    over_all(async |rig: Rig| {
        rig.create("source").await.expect("created");
        rig.append("source", &"x".repeat(300_000))
            .await
            .expect("appended");
        rig.append("source", &"y".repeat(300_000))
            .await
            .expect("appended");
        rig.fork("fork", "source").await.expect("forked");
        rig.trim("fork", 300_000).await;
        let before = rig.usage().1;
        rig.delete("source").await;
        rig.sweep().await;
        let given_back = before - rig.usage().1;
        assert!(given_back >= 300_000, "{given_back} bytes were given back");
        assert_eq!(rig.text("fork").await, "y".repeat(300_000));
    });
}

#[test]
fn what_an_earlier_run_left_is_given_back() {
    run(async {
        let gate = Gated::slow(1 << 30);
        let first = Rig::over(Arc::<Gated>::clone(&gate));
        first.create("a").await.expect("created");
        first.append("a", &"x".repeat(300_000)).await.expect("appended");
        first.append("a", &"y".repeat(300_000)).await.expect("appended");
        let reader = first.look("a").await;
        let id = reader.incarnation().id;
        let before = reader.incarnation().token(at(300_000));
        drop(reader);
        let trim = Transition::Trim {
            before: before.position(),
            at: first.engine.now(),
        };
        gate.commit(0, &[Record::of(id, trim)]).expect("committed");
        let before = first.usage().1;
        // One that cannot be read kept those that came with it.
        first.create("damaged").await.expect("created");
        let damaged = id_of(&first, "damaged").await;
        gate.damage(damaged);
        gate.set_reclaimable(&[damaged, id]);
        let second = Rig::over(Arc::<Gated>::clone(&gate));
        second.sweep().await;
        assert!(second.usage().1 + 290_000 <= before);
    });
}

#[test]
fn what_was_trimmed_is_given_back_by_a_stop_at_the_latest() {
    run(async {
        let gate = Gated::slow(1 << 30);
        let rig = Rig::over(Arc::<Gated>::clone(&gate));
        rig.create("a").await.expect("created");
        rig.append("a", &"x".repeat(300_000)).await.expect("appended");
        rig.append("a", &"y".repeat(300_000)).await.expect("appended");
        let reader = rig.look("a").await;
        let token = reader.incarnation().token(at(300_000));
        let before = rig.usage().1;
        gate.hold();
        {
            let stream = name("a");
            let mut abandoned = Box::pin(rig.engine.trim(&stream, token));
            while !gate.is_at_gate(0) {
                assert!(waits(abandoned.as_mut()).await);
                tokio::task::yield_now().await;
            }
        }
        gate.open();
        while reader.incarnation().view().oldest != token.position() {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.usage().1, before, "its client has gone away");
        rig.engine.stop();
        assert!(rig.usage().1 + 300_000 <= before);
    });
}
