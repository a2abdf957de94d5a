//! Lifetimes: uses move their end, recorded now and then, and the end wakes who reads.

use std::pin::pin;
use std::sync::Arc;

use tailwater_storage::engine::{
    AppendError, AppendRequest, ChangeKind, DeleteError, EngineError, OpenError, Reader,
};
use tailwater_storage::stream::{CreateCommand, Lifetime, Timestamp, Transition};
use tailwater_storage::{EngineLimits, Memory};

use crate::support::ask::{Rig, START_MS, bytes, name, producer, text_of, waits};
use crate::support::gated::{Gated, transitions};
use crate::{behind_a_gate, over_all, over_each, run};

const NONE_HELD: EngineLimits = EngineLimits {
    stream_bytes_max: 1 << 20,
    producers_max: 100,
    open_streams_max: 0,
    changes_max: 100,
};

async fn use_it(rig: &Rig) -> Result<Reader, OpenError> {
    rig.engine.reader(&name("a")).await
}

async fn is_there(rig: &Rig) -> bool {
    rig.engine.look(&name("a")).await.is_ok()
}

#[test]
fn every_use_starts_a_sliding_lifetime_anew_and_a_look_does_not() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        for _ in 0..3 {
            rig.clock.advance_millis(15_999);
            use_it(&rig).await.expect("there");
            rig.clock.advance_millis(15_999);
            rig.append("a", "x").await.expect("there");
        }
        rig.clock.advance_millis(8_000);
        assert!(is_there(&rig).await);
        rig.clock.advance_millis(7_999);
        assert!(is_there(&rig).await);
        rig.clock.advance_millis(1);
        assert!(!is_there(&rig).await);
        assert!(matches!(rig.append("a", "x").await, Err(AppendError::NotFound)));
        assert_eq!(rig.usage(), (0, 0));
    });
}

#[test]
fn a_refused_append_is_no_use() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        rig.close("a").await.expect("closed");
        rig.clock.advance_millis(10_000);
        assert!(rig.append("a", "x").await.is_err());
        rig.clock.advance_millis(6_000);
        assert!(!is_there(&rig).await);
    });
}

#[test]
fn an_absolute_end_is_not_moved_by_uses() {
    over_all(async |rig: Rig| {
        let until = CreateCommand {
            lifetime: Lifetime::Until {
                at: Timestamp::from_millis(START_MS + 5_000),
            },
            ..CreateCommand::default()
        };
        rig.create_with("a", until).await.expect("created");
        rig.clock.advance_millis(4_999);
        use_it(&rig).await.expect("there");
        rig.append("a", "x").await.expect("there");
        rig.clock.advance_millis(1);
        assert!(use_it(&rig).await.is_err());
    });
}

#[test]
fn a_use_is_recorded_only_when_a_16th_of_the_window_has_passed() {
    behind_a_gate(async |rig: Rig, gate| {
        let touches = || {
            let batches = gate.batches();
            let touches = batches.iter().flatten().flat_map(transitions);
            touches
                .filter(|part| matches!(part, Transition::Touch { .. }))
                .count()
        };
        rig.create_living("a", 16).await;
        rig.clock.advance_millis(1_000);
        use_it(&rig).await.expect("there");
        // An append to another stream is durable only after what was queued before it.
        rig.create("another").await.expect("created");
        assert_eq!(touches(), 0);
        rig.clock.advance_millis(1);
        use_it(&rig).await.expect("there");
        use_it(&rig).await.expect("there");
        rig.create("yet another").await.expect("created");
        assert_eq!(touches(), 1);
    });
}

#[test]
fn a_stream_that_left_memory_ends_late_and_never_early() {
    over_each(1 << 30, NONE_HELD, async |rig: Rig| {
        rig.create_living("a", 16).await;
        rig.clock.advance_millis(1_000);
        use_it(&rig).await.expect("there");
        for _ in 0..3 {
            rig.sweep().await;
        }
        assert_eq!(rig.engine.open_streams(), 0);
        rig.clock.advance_millis(15_999);
        assert!(is_there(&rig).await, "the use that was not recorded counts");
        rig.clock.advance_millis(1_001);
        assert!(!is_there(&rig).await, "an eighth of the window after the end");
    });
}

/// Each time it was due, the sweep loaded the stream, assumed an unrecorded use and recorded that as one. A
/// stream that left memory in between never ended.
#[test]
fn a_stream_that_nobody_uses_ends_though_it_leaves_memory_again_and_again() {
    over_each(1 << 30, NONE_HELD, async |rig: Rig| {
        rig.create_living("a", 16_000).await;
        rig.append("a", "x").await.expect("appended");
        for _ in 0..19 {
            rig.clock.advance_millis(1_000_000);
            for _ in 0..3 {
                rig.sweep().await;
            }
        }
        assert_eq!(rig.usage(), (0, 0), "an eighth of the window late at the most");
        assert_eq!(rig.engine.stats().expirations.get(), 1);
    });
}

#[test]
fn the_end_of_a_lifetime_wakes_who_reads() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        let start = rig.engine.changes().now();
        let reader = use_it(&rig).await.expect("there");
        let news = reader.incarnation().subscribe();
        rig.clock.advance_millis(15_999);
        rig.sweep().await;
        assert!(!news.has_changed().expect("it is there"));
        rig.clock.advance_millis(2_001);
        rig.sweep().await;
        assert!(news.has_changed().expect("it is there"));
        assert!(reader.incarnation().view().deleted);
        assert_eq!(rig.usage(), (0, 0));
        let page = rig.engine.changes().after(start, "", 10).expect("kept");
        assert_eq!(page.changes.last().expect("an event").kind, ChangeKind::Deleted);
    });
}

#[test]
fn whoever_meets_an_expired_stream_ends_it_at_once() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        let reader = use_it(&rig).await.expect("there");
        let news = reader.incarnation().subscribe();
        rig.clock.advance_millis(16_000);
        assert!(!is_there(&rig).await);
        assert!(news.has_changed().expect("it is there") && reader.incarnation().view().deleted);
    });
}

#[test]
fn an_expired_stream_makes_room_for_its_successor() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        rig.append("a", "old").await.expect("appended");
        let old = rig.look("a").await;
        rig.clock.advance_millis(16_000);
        assert!(rig.create("a").await.expect("created").new);
        assert!(old.incarnation().view().deleted);
        let new = rig.look("a").await;
        assert!(new.incarnation().id > old.incarnation().id);
        assert_eq!(text_of(&new).await, "");
        rig.sweep().await;
        assert_eq!(rig.usage().0, 1);
    });
}

#[test]
fn an_expired_stream_is_no_source_and_is_not_listed() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        rig.create("other").await.expect("created");
        rig.clock.advance_millis(16_000);
        let listed = rig.engine.list("", None, 10).await.expect("a listing").streams;
        assert_eq!(listed.len(), 1);
        assert!(rig.fork("b", "a").await.is_err());
        assert!(!is_there(&rig).await);
    });
}

#[test]
fn an_expired_source_keeps_its_bytes_for_its_forks() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        rig.append("a", "inherited").await.expect("appended");
        rig.fork("b", "a").await.expect("forked");
        for _ in 0..4 {
            rig.clock.advance_millis(10_000);
            rig.engine
                .reader(&name("b"))
                .await
                .expect("it inherits the lifetime, and is used");
            rig.sweep().await;
        }
        assert!(matches!(rig.append("a", "x").await, Err(AppendError::Gone)));
        assert_eq!(rig.text("b").await, "inherited");
        rig.clock.advance_millis(20_000);
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0));
    });
}

#[test]
fn a_stream_that_is_due_and_used_meanwhile_stays() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create_living("a", 16).await;
        rig.clock.advance_millis(10_000);
        gate.hold();
        // The record of this use is not committed yet, so the backend says that the stream is due.
        use_it(&rig).await.expect("there");
        gate.wait_at_gate(0);
        rig.clock.advance_millis(8_000);
        rig.sweep().await;
        gate.open();
        assert!(is_there(&rig).await);
        rig.clock.advance_millis(7_999);
        assert!(is_there(&rig).await);
        rig.clock.advance_millis(1);
        assert!(!is_there(&rig).await);
    });
}

#[test]
fn many_streams_end_in_one_sweep() {
    run(async {
        for backend in [
            Arc::new(Memory::new(1 << 30)) as Arc<dyn tailwater_storage::Backend>,
            Gated::new(1 << 30),
        ] {
            let rig = Rig::over(backend);
            for number in 0..2_500 {
                rig.create_living(&format!("s{number}"), 16).await;
            }
            rig.clock.advance_millis(18_000);
            rig.sweep().await;
            assert_eq!(rig.usage(), (0, 0));
            assert_eq!(rig.engine.open_streams(), 0);
            assert_eq!(rig.engine.stats().expirations.get(), 2_500);
        }
    });
}

/// Each end once waited for a commit of its own before the next began, and all else that a sweep does for all of them.
#[test]
fn lifetimes_end_together_and_keep_no_idle_stream_in_memory() {
    behind_a_gate(async |rig: Rig, gate| {
        for number in 0..300 {
            rig.create_living(&format!("s{number}"), 16).await;
        }
        rig.create("idle").await.expect("created");
        rig.clock.advance_millis(18_000);
        for _ in 0..60 {
            rig.engine.evict_idle();
        }
        assert_eq!(rig.engine.open_streams(), 301);
        let batches = gate.batches().len();
        gate.hold();
        {
            let mut sweep = pin!(rig.engine.sweep());
            while !gate.is_at_gate(0) {
                assert!(waits(sweep.as_mut()).await);
                tokio::task::yield_now().await;
            }
            let loads = gate.loads(&name("idle"));
            rig.look("idle").await;
            assert_eq!(gate.loads(&name("idle")), loads + 1, "it was evicted");
            gate.open();
            sweep.await.expect("swept");
        }
        assert_eq!(rig.usage().0, 1);
        assert_eq!(rig.engine.stats().expirations.get(), 300);
        let batches = gate.batches().len() - batches;
        // Those that come while the committer runs freely may each be a batch of its own.
        assert!(batches < 100, "{batches} batches for 300 ends");
    });
}

/// A sweep once went on as long as it found enough to end, and so without end if ends came fast enough.
#[test]
fn a_sweep_ends_so_many_streams_and_leaves_the_others_to_the_next() {
    run(async {
        let rig = Rig::over(Arc::new(Memory::new(1 << 30)));
        for number in 0..18_000 {
            rig.create_living(&format!("s{number}"), 16).await;
            if number % 1_000 == 0 {
                (0..61).for_each(|_| rig.engine.evict_idle());
            }
        }
        (0..61).for_each(|_| rig.engine.evict_idle());
        rig.clock.advance_millis(18_000);
        rig.sweep().await;
        let left = rig.usage().0;
        assert!((1..2_000).contains(&left), "{left} are left");
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0));
    });
}

/// A producer whose answers were lost retried for longer than the stream lived, and found it gone.
#[test]
fn a_retry_that_is_a_duplicate_and_a_repeated_create_are_uses() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        let first = AppendRequest {
            producer: Some(producer("p", 0, 0)),
            ..bytes("x")
        };
        rig.engine
            .append(&name("a"), first.clone())
            .await
            .expect("appended");
        rig.clock.advance_millis(10_000);
        assert!(
            rig.engine
                .append(&name("a"), first)
                .await
                .expect("a duplicate")
                .duplicate
        );
        rig.clock.advance_millis(10_000);
        let again = CreateCommand {
            lifetime: Lifetime::Ttl { seconds: 16 },
            ..CreateCommand::default()
        };
        assert!(
            !rig.engine
                .create(&name("a"), again)
                .await
                .expect("the very same")
                .new
        );
        rig.clock.advance_millis(10_000);
        assert!(is_there(&rig).await);
    });
}

#[test]
fn a_sweep_ends_an_open_stream_at_its_very_end_and_not_an_eighth_later() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        let reader = use_it(&rig).await.expect("there");
        rig.clock.advance_millis(16_000);
        rig.engine.sweep().await.expect("swept");
        assert!(reader.incarnation().view().deleted);
        assert_eq!(rig.usage(), (0, 0));
    });
}

#[test]
fn a_sweep_ends_an_open_stream_when_its_last_use_is_so_long_ago() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        rig.clock.advance_millis(10_000);
        let reader = use_it(&rig).await.expect("there");
        for millis in [6_000, 9_999] {
            rig.clock.advance_millis(millis);
            rig.sweep().await;
            assert!(!reader.incarnation().view().deleted);
        }
        rig.clock.advance_millis(1);
        rig.sweep().await;
        assert!(reader.incarnation().view().deleted);
    });
}

#[test]
fn a_sweep_ends_a_stream_that_was_loaded_at_its_very_end() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 16).await;
        (0..62).for_each(|_| rig.engine.evict_idle());
        assert_eq!(rig.engine.open_streams(), 0);
        rig.clock.advance_millis(10_000);
        let reader = use_it(&rig).await.expect("there");
        rig.clock.advance_millis(16_000);
        rig.sweep().await;
        assert!(reader.incarnation().view().deleted);
    });
}

#[test]
fn a_sweep_ends_a_stream_at_its_own_end_and_not_at_that_of_one_that_had_its_name_before() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 1_000).await;
        rig.delete("a").await;
        rig.create_living("a", 16).await;
        let reader = use_it(&rig).await.expect("there");
        rig.clock.advance_millis(16_000);
        rig.sweep().await;
        assert!(reader.incarnation().view().deleted);
    });
}

#[test]
fn a_stream_that_there_was_no_space_to_delete_ends_with_its_lifetime() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create_living("a", 16).await;
        let reader = use_it(&rig).await.expect("there");
        gate.refuse(|record| {
            transitions(record).any(|transition| matches!(transition, Transition::Delete { .. }))
        });
        gate.hold();
        let name = name("a");
        let mut deletion = pin!(rig.engine.delete(&name));
        while !gate.is_at_gate(0) {
            assert!(waits(deletion.as_mut()).await);
            tokio::task::yield_now().await;
        }
        rig.clock.advance_millis(16_000);
        rig.sweep().await;
        gate.open();
        let deleted = deletion.await;
        assert!(
            matches!(deleted, Err(DeleteError::Engine(EngineError::Full))),
            "{deleted:?}"
        );
        gate.refuse_none();
        assert!(!reader.incarnation().view().deleted);
        rig.sweep().await;
        assert!(reader.incarnation().view().deleted);
    });
}
