//! Which streams are held in memory: those in use. What leaves comes back as it was.

use std::pin::pin;
use std::sync::{Arc, Barrier};

use tailwater_storage::engine::{AppendError, AppendRequest};
use tailwater_storage::stream::{AppendRefusal, Offset};
use tailwater_storage::{EngineLimits, Memory};

use crate::support::ask::{Rig, at, bytes, fork_of, name, producer, text_of, waits};
use crate::support::gated::Gated;
use crate::{over_all, over_each, run};

const NONE_HELD: EngineLimits = EngineLimits {
    stream_bytes_max: 1 << 20,
    producers_max: 100,
    open_streams_max: 0,
    changes_max: 100,
};

/// Sweeps until what nobody uses is out of memory.
async fn evict(rig: &Rig) {
    for _ in 0..3 {
        rig.sweep().await;
    }
}

#[test]
fn streams_beyond_the_limit_leave_memory_when_they_are_idle() {
    let limits = EngineLimits {
        open_streams_max: 10,
        ..EngineLimits::default()
    };
    over_each(1 << 30, limits, async |rig: Rig| {
        for number in 0..200 {
            rig.create(&format!("s{number}")).await.expect("created");
        }
        assert_eq!(rig.engine.open_streams(), 200);
        evict(&rig).await;
        assert!(rig.engine.open_streams() <= 10, "{}", rig.engine.open_streams());
        assert!(rig.engine.stats().evictions.get() >= 190);
        for number in 0..200 {
            assert_eq!(rig.text(&format!("s{number}")).await, "");
        }
    });
}

/// One stream more than there was room for once let all go that were not used since the sweep before, which took as many loads
/// a second as there were appends.
#[test]
fn only_as_many_streams_leave_as_there_are_too_many() {
    let limits = EngineLimits {
        open_streams_max: 100,
        ..EngineLimits::default()
    };
    over_each(1 << 30, limits, async |rig: Rig| {
        for number in 0..103 {
            rig.create(&format!("s{number}")).await.expect("created");
        }
        rig.sweep().await;
        for number in 3..103 {
            rig.look(&format!("s{number}")).await;
        }
        rig.sweep().await;
        rig.sweep().await;
        assert_eq!(rig.engine.open_streams(), 100);
        let loads = rig.engine.stats().loads.get();
        for number in 3..103 {
            rig.look(&format!("s{number}")).await;
        }
        assert_eq!(
            rig.engine.stats().loads.get(),
            loads,
            "those idle for longest went"
        );
        for number in 0..5 {
            rig.create(&format!("t{number}")).await.expect("created");
        }
        evict(&rig).await;
        assert_eq!(rig.engine.open_streams(), 100, "all were idle, and five too many");
    });
}

#[test]
fn a_stream_in_use_stays_and_an_idle_one_goes_after_a_while() {
    over_all(async |rig: Rig| {
        rig.create("used").await.expect("created");
        rig.create("idle").await.expect("created");
        for _ in 0..30 {
            rig.sweep().await;
            rig.look("used").await;
        }
        assert_eq!(rig.engine.open_streams(), 2, "idle for too short a while");
        for _ in 0..40 {
            rig.sweep().await;
            rig.look("used").await;
        }
        assert_eq!(rig.engine.open_streams(), 1);
        let loads = rig.engine.stats().loads.get();
        rig.look("used").await;
        assert_eq!(rig.engine.stats().loads.get(), loads);
        rig.look("idle").await;
        assert_eq!(rig.engine.stats().loads.get(), loads + 1);
    });
}

#[test]
fn a_stream_that_is_read_is_not_evicted() {
    over_each(1 << 30, NONE_HELD, async |rig: Rig| {
        rig.create("a").await.expect("created");
        let reader = rig.look("a").await;
        let mut news = reader.incarnation().subscribe();
        evict(&rig).await;
        assert_eq!(rig.engine.open_streams(), 1);
        rig.append("a", "x").await.expect("appended");
        assert!(
            news.has_changed().expect("it is there"),
            "the reader watches the one that is written"
        );
        assert_eq!(news.borrow_and_update().tail, at(1));
        drop(reader);
        evict(&rig).await;
        assert_eq!(rig.engine.open_streams(), 0);
    });
}

#[test]
fn a_stream_with_a_queued_record_is_not_evicted() {
    run(async {
        let gate = Gated::new(1 << 20);
        let rig = Rig::limited(Arc::<Gated>::clone(&gate), NONE_HELD);
        rig.create("a").await.expect("created");
        evict(&rig).await;
        gate.hold();
        {
            let mut abandoned = Box::pin(rig.append("a", "x"));
            assert!(waits(abandoned.as_mut()).await);
        }
        gate.wait_at_gate(0);
        let loads = gate.loads(&name("a"));
        evict(&rig).await;
        let mut append = pin!(rig.append("a", "y"));
        assert!(waits(append.as_mut()).await);
        assert_eq!(gate.loads(&name("a")), loads, "it was in memory all the time");
        gate.open();
        assert_eq!(append.await.expect("appended").tail.position(), at(2));
        assert_eq!(rig.text("a").await, "xy");
    });
}

#[test]
fn a_stream_comes_back_as_it_left() {
    over_each(1 << 30, NONE_HELD, async |rig: Rig| {
        let created = rig.create_json("a").await;
        let stream = name("a");
        let request = |seq, body: &str| AppendRequest {
            content_type: Some(created.content_type.clone()),
            producer: Some(producer("p", 2, seq)),
            stream_seq: Some(format!("s{seq}").into()),
            ..bytes(body)
        };
        rig.engine
            .append(&stream, request(0, "[1,2,3]"))
            .await
            .expect("appended");
        rig.clock.advance_millis(5);
        let last = rig
            .engine
            .append(&stream, request(1, "{}"))
            .await
            .expect("appended");
        rig.trim("a", 2).await;
        let before = rig.look("a").await;
        let (view, id) = (before.incarnation().view(), before.incarnation().id);
        let listed = rig.engine.list("", None, 1).await.expect("a listing").streams;
        drop(before);
        evict(&rig).await;
        assert_eq!(rig.engine.open_streams(), 0);
        let after = rig.look("a").await;
        assert_eq!((after.incarnation().view(), after.incarnation().id), (view, id));
        assert_eq!(text_of(&after).await, "2,3,{},");
        assert_eq!(after.incarnation().content_type, created.content_type);
        assert_eq!(
            rig.engine.list("", None, 1).await.expect("a listing").streams,
            listed
        );
        drop(after);
        evict(&rig).await;
        let again = rig
            .engine
            .append(&stream, request(1, "{}"))
            .await
            .expect("a duplicate");
        assert!(again.duplicate && again.tail == last.tail);
        evict(&rig).await;
        let regressed = AppendRequest {
            producer: None,
            ..request(1, "4")
        };
        let refused = rig.engine.append(&stream, regressed).await;
        assert!(matches!(
            refused,
            Err(AppendError::Refused(AppendRefusal::StreamSeq { .. }))
        ));
        rig.close("a").await.expect("closed");
        evict(&rig).await;
        let refused = rig.append("a", "late").await;
        assert!(matches!(
            refused,
            Err(AppendError::Refused(AppendRefusal::Closed { .. }))
        ));
    });
}

#[test]
fn a_fork_reads_its_source_though_both_were_evicted() {
    over_each(1 << 30, NONE_HELD, async |rig: Rig| {
        rig.create("a").await.expect("created");
        rig.append("a", "inherited").await.expect("appended");
        rig.fork("b", "a").await.expect("forked");
        rig.append("b", " own").await.expect("appended");
        rig.delete("a").await;
        evict(&rig).await;
        assert_eq!(rig.text("b").await, "inherited own");
        assert!(matches!(rig.append("a", "x").await, Err(AppendError::Gone)));
    });
}

#[test]
fn a_stream_that_many_ask_for_at_once_is_loaded_once() {
    for _ in 0..20 {
        let gate = Gated::new(1 << 20);
        let rig = Rig::limited(Arc::<Gated>::clone(&gate), NONE_HELD);
        run(async {
            rig.create("a").await.expect("created");
            // The committer may still be letting go of it.
            while rig.engine.open_streams() > 0 {
                rig.sweep().await;
            }
        });
        let loads = gate.loads(&name("a"));
        let start = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    run(async {
                        let reader = rig.look("a").await;
                        start.wait();
                        assert_eq!(text_of(&reader).await, "");
                    });
                });
            }
        });
        assert_eq!(gate.loads(&name("a")), loads + 1);
    }
}

#[test]
fn asking_for_what_is_not_there_leaves_nothing_in_memory() {
    over_all(async |rig: Rig| {
        rig.create("there").await.expect("created");
        let token = rig.append("there", "x").await.expect("appended").tail;
        for number in 0..50 {
            let nobody = format!("nobody{number}");
            let stream = name(&nobody);
            assert!(rig.engine.look(&stream).await.is_err());
            assert!(rig.engine.reader(&stream).await.is_err());
            assert!(rig.append(&nobody, "x").await.is_err());
            assert!(rig.engine.delete(&stream).await.is_err());
            assert!(rig.engine.trim(&stream, token).await.is_err());
            assert!(rig.fork(&nobody, "nobody else").await.is_err());
            let beyond = fork_of("there", Some(token), 5);
            assert!(rig.create_with(&nobody, beyond).await.is_err());
            assert!(
                rig.engine
                    .describe(&stream, rig.look("there").await.incarnation().id)
                    .await
                    .expect("works")
                    .is_none()
            );
        }
        assert_eq!(rig.engine.open_streams(), 1);
    });
}

#[test]
fn a_deleted_stream_leaves_nothing_in_memory() {
    over_all(async |rig: Rig| {
        for number in 0..20 {
            let stream = format!("s{number}");
            rig.create(&stream).await.expect("created");
            rig.append(&stream, "x").await.expect("appended");
            rig.delete(&stream).await;
        }
        assert_eq!(rig.engine.open_streams(), 0);
        assert_eq!(rig.usage(), (0, 0));
    });
}

#[test]
fn what_a_process_left_deleted_is_released_by_the_next_one() {
    run(async {
        let backend = Arc::new(Memory::new(1 << 20));
        let first = Rig::over(Arc::<Memory>::clone(&backend));
        first.create("a").await.expect("created");
        let id = first.look("a").await.incarnation().id;
        let delete = tailwater_storage::stream::Transition::Delete {
            at: first.engine.now(),
        };
        let record = tailwater_storage::stream::Record::of(id, delete);
        tailwater_storage::Backend::commit(backend.as_ref(), 0, &[record]).expect("works");
        drop(first);
        let second = Rig::over(backend);
        second.sweep().await;
        assert_eq!(second.usage(), (0, 0));
        assert!(second.create("a").await.expect("created").new);
        let reader = second.look("a").await;
        assert!(reader.incarnation().id > id);
        let view = reader.incarnation().view();
        assert_eq!(
            reader.resolve(Offset::Start, &view).await.expect("works"),
            Ok(at(0))
        );
    });
}

#[test]
fn what_reads_take_off_the_runtime_is_counted_and_nothing_else_is() {
    run(async {
        for (gate, is_slow) in [(Gated::slow(1 << 20), true), (Gated::new(1 << 20), false)] {
            let rig = Rig::limited(gate, NONE_HELD);
            rig.create("a").await.expect("created");
            rig.append("a", "x").await.expect("appended");
            let slow_read_nanos = || rig.engine.stats().slow_read_nanos.get();
            assert_eq!(slow_read_nanos(), 0);
            assert_eq!(rig.text("a").await, "x");
            assert_eq!(slow_read_nanos() > 0, is_slow);
        }
    });
}
