//! No space, and a storage that fails: what was accepted goes back, and nobody is left waiting.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tailwater_storage::disk::Disk;
use tailwater_storage::engine::{AppendError, AppendRequest, CreateError, DeleteError, EngineError};
use tailwater_storage::file::Durability;
use tailwater_storage::stream::{CreateCommand, Lifetime, Transition};
use tailwater_storage::{BackendError, FileOptions, FileStore};

use crate::support::ask::{Rig, at, bytes, name, producer, text_of, waits};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::gated::{Gated, appends, transitions};
use crate::{behind_a_gate, run};

fn is_full<T: std::fmt::Debug>(answer: &Result<T, AppendError>) -> bool {
    matches!(answer, Err(AppendError::Engine(EngineError::Full)))
}

fn has_failed<T: std::fmt::Debug>(answer: &Result<T, AppendError>) -> bool {
    matches!(answer, Err(AppendError::Engine(EngineError::Backend(_))))
}

#[test]
fn what_was_decided_on_a_refused_append_is_decided_again_in_the_next_batch() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        gate.refuse(|record| appends(record, "big"));
        gate.hold();
        let mut big = pin!(rig.append("a", "big"));
        assert!(waits(big.as_mut()).await);
        gate.wait_at_gate(0);
        // Queued behind the batch that the refused one is in.
        let mut small = pin!(rig.append("a", "small"));
        assert!(waits(small.as_mut()).await);
        gate.open();
        assert!(is_full(&big.await));
        assert_eq!(small.await.expect("decided again").tail.position(), at(5));
        assert_eq!(rig.text("a").await, "small");
    });
}

#[test]
fn what_was_decided_on_a_refused_append_of_the_same_batch_is_decided_again() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a", "a/other"] {
            rig.create(stream).await.expect("created");
        }
        gate.refuse(|record| appends(record, "big"));
        gate.hold();
        let mut filler = pin!(rig.append("a", "filler"));
        assert!(waits(filler.as_mut()).await);
        gate.wait_at_gate(0);
        let mut big = pin!(rig.append("a", "big"));
        let mut small = pin!(rig.append("a", "small"));
        let mut smaller = pin!(rig.append("a", "er"));
        let mut other = pin!(rig.append("a/other", "not concerned"));
        for waiting in [big.as_mut(), small.as_mut(), smaller.as_mut()] {
            assert!(waits(waiting).await);
        }
        assert!(waits(other.as_mut()).await);
        gate.open();
        filler.await.expect("appended");
        assert!(is_full(&big.await), "the one that found no space is told so");
        // The client of the first is asked first, so it is decided again first.
        assert_eq!(small.await.expect("decided again").tail.position(), at(11));
        assert_eq!(smaller.await.expect("decided again").tail.position(), at(13));
        other.await.expect("appended");
        assert_eq!(rig.text("a").await, "fillersmaller");
        assert_eq!(rig.text("a/other").await, "not concerned");
    });
}

/// Each refused append is the first of its batch once, and the others are decided again; the committed state was once
/// read for every one of them in every batch.
#[test]
fn refused_appends_of_one_stream_read_its_committed_state_once_a_batch() {
    const APPENDS: usize = 50;
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        gate.refuse(|record| appends(record, "x"));
        gate.hold();
        let mut waiting: Vec<_> = (0..APPENDS).map(|_| Box::pin(rig.append("a", "x"))).collect();
        for append in &mut waiting {
            assert!(waits(append.as_mut()).await);
        }
        let (loads, batches) = (gate.loads(&name("a")), gate.batches().len());
        gate.open();
        for append in waiting {
            assert!(is_full(&append.await));
        }
        let (loads, batches) = (gate.loads(&name("a")) - loads, gate.batches().len() - batches);
        assert!(loads <= batches, "{loads} loads in {batches} batches");
    });
}

/// The committer ended without a word: whoever appended from then on waited for ever, and the server said that it was ready.
#[test]
fn a_committer_that_panics_is_a_failure_of_the_storage() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        gate.leave_one_out();
        assert!(has_failed(&rig.append("a", "in its batch").await));
        assert!(has_failed(&rig.append("a", "behind it").await));
        let failure = rig.engine.failure().borrow().clone();
        assert!(matches!(failure, Some(BackendError::Panicked)), "{failure:?}");
        // It ends although a committer has ended before.
        rig.engine.stop();
    });
}

#[test]
fn a_refusal_that_was_decided_on_a_refused_close_is_decided_again() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        gate.refuse(|record| appends(record, "big"));
        gate.hold();
        let stream = name("a");
        let closing = AppendRequest {
            closes: true,
            ..bytes("big")
        };
        let mut close = pin!(rig.engine.append(&stream, closing));
        let mut after = pin!(rig.append("a", "after"));
        assert!(waits(close.as_mut()).await && waits(after.as_mut()).await);
        gate.open();
        assert!(is_full(&close.await));
        after.await.expect("the stream is not closed after all");
        assert_eq!(rig.text("a").await, "after");
        assert!(!rig.look("a").await.incarnation().view().closed);
    });
}

#[test]
fn a_duplicate_of_a_refused_append_is_decided_again_and_appended() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        let refused_once = AtomicBool::new(false);
        gate.refuse(move |record| appends(record, "big") && !refused_once.swap(true, Ordering::SeqCst));
        gate.hold();
        let stream = name("a");
        let request = || AppendRequest {
            producer: Some(producer("p", 0, 0)),
            ..bytes("big")
        };
        let mut original = pin!(rig.engine.append(&stream, request()));
        let mut retry = pin!(rig.engine.append(&stream, request()));
        assert!(waits(original.as_mut()).await && waits(retry.as_mut()).await);
        gate.open();
        assert!(is_full(&original.await));
        let retry = retry.await.expect("appended");
        assert!(!retry.duplicate, "nothing was there to be a duplicate of");
        assert_eq!(rig.text("a").await, "big");
    });
}

#[test]
fn a_stream_whose_creation_found_no_space_is_not_there() {
    behind_a_gate(async |rig: Rig, gate| {
        gate.refuse(|_| true);
        let refused = rig.create("a").await;
        assert!(
            matches!(refused, Err(CreateError::Engine(EngineError::Full))),
            "{refused:?}"
        );
        assert!(matches!(rig.append("a", "x").await, Err(AppendError::NotFound)));
        assert_eq!(rig.engine.open_streams(), 0);
        gate.refuse_none();
        assert!(rig.create("a").await.expect("created").new);
    });
}

/// A name was taken again in the batch in which the deletion of its last stream was refused, because an append
/// before it was: the old stream lost its name and stayed for ever.
#[test]
fn a_name_is_taken_again_only_once_its_last_stream_is_durably_deleted() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        rig.create("a/other").await.expect("created");
        gate.refuse(|record| appends(record, "big"));
        gate.hold();
        let stream = name("a");
        let mut filler = pin!(rig.append("a/other", "x"));
        assert!(waits(filler.as_mut()).await);
        gate.wait_at_gate(0);
        let mut big = pin!(rig.append("a", "big"));
        let mut delete = pin!(rig.engine.delete(&stream));
        let mut create = pin!(rig.create("a"));
        assert!(waits(big.as_mut()).await && waits(delete.as_mut()).await && waits(create.as_mut()).await);
        gate.open();
        assert!(is_full(&big.await));
        delete.await.expect("deleted");
        assert!(create.await.expect("created").new);
        assert_eq!(rig.usage().0, 2, "the old stream is released");
        assert_eq!(
            rig.append("a", "new").await.expect("appended").tail.position(),
            at(3)
        );
        assert_eq!(rig.text("a").await, "new");
    });
}

/// The use of the new stream was taken for one of the old.
#[test]
fn an_expired_stream_stays_expired_when_there_is_no_space_for_its_successor() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create_living("a", 10).await;
        rig.append("a", "old").await.expect("appended");
        rig.clock.advance_millis(11_000);
        gate.refuse(|record| transitions(record).any(|part| matches!(part, Transition::Create(_))));
        let living = || CreateCommand {
            lifetime: Lifetime::Ttl { seconds: 10 },
            ..CreateCommand::default()
        };
        let refused = rig.create_with("a", living()).await;
        assert!(
            matches!(refused, Err(CreateError::Engine(EngineError::Full))),
            "{refused:?}"
        );
        assert!(rig.engine.look(&name("a")).await.is_err(), "it has expired");
        assert!(matches!(rig.append("a", "x").await, Err(AppendError::NotFound)));
        gate.refuse_none();
        assert!(rig.create_with("a", living()).await.expect("created").new);
        assert_eq!(rig.text("a").await, "");
    });
}

#[test]
fn a_use_that_finds_no_space_to_be_recorded_does_not_hurt() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create_living("a", 16).await;
        gate.refuse(|record| transitions(record).any(|part| matches!(part, Transition::Touch { .. })));
        rig.clock.advance_millis(5_000);
        rig.engine.reader(&name("a")).await.expect("there");
        rig.append("a", "x").await.expect("appended");
        assert_eq!(rig.text("a").await, "x");
    });
}

#[test]
fn a_failed_commit_gives_errors_to_all_who_wait() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        rig.append("a", "kept").await.expect("appended");
        gate.hold();
        let stream = name("a");
        let request = || AppendRequest {
            producer: Some(producer("p", 0, 0)),
            ..bytes("lost")
        };
        let mut in_commit = pin!(rig.engine.append(&stream, request()));
        assert!(waits(in_commit.as_mut()).await);
        gate.wait_at_gate(0);
        let mut queued = pin!(rig.append("a", "queued"));
        let mut duplicate = pin!(rig.engine.append(&stream, request()));
        let mut gap = pin!(rig.engine.append(
            &stream,
            AppendRequest {
                producer: Some(producer("p", 0, 7)),
                ..bytes("gap")
            }
        ));
        assert!(waits(queued.as_mut()).await);
        assert!(waits(duplicate.as_mut()).await && waits(gap.as_mut()).await);
        let mut failure = rig.engine.failure();
        assert!(failure.borrow_and_update().is_none());
        gate.fail();
        gate.open();
        assert!(has_failed(&in_commit.await));
        assert!(has_failed(&queued.await));
        assert!(
            has_failed(&duplicate.await),
            "nobody knows whether the original is there"
        );
        assert!(has_failed(&gap.await));
        failure.changed().await.expect("the engine is there");
        assert!(failure.borrow().is_some());
        assert_eq!(rig.text("a").await, "kept");
    });
}

/// After a failure the accepted state was still decided on: a retry of the lost append was answered as a
/// duplicate, and a refusal waited for ever.
#[test]
fn after_a_failure_every_write_is_refused_and_reads_go_on() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        rig.append("a", "kept").await.expect("appended");
        let reader = rig.look("a").await;
        gate.fail();
        let stream = name("a");
        let request = || AppendRequest {
            producer: Some(producer("p", 0, 0)),
            ..bytes("lost")
        };
        assert!(has_failed(&rig.engine.append(&stream, request()).await));
        for round in 0..3 {
            assert!(
                has_failed(&rig.engine.append(&stream, request()).await),
                "round {round}"
            );
            assert!(has_failed(&rig.append("a", "more").await), "round {round}");
            let refused = AppendRequest {
                producer: Some(producer("p", 0, 9)),
                ..bytes("gap")
            };
            assert!(
                has_failed(&rig.engine.append(&stream, refused).await),
                "round {round}"
            );
        }
        assert!(matches!(
            rig.engine.delete(&stream).await,
            Err(DeleteError::Engine(_))
        ));
        let created = rig.create("a/new").await;
        assert!(
            matches!(created, Err(CreateError::Engine(EngineError::Backend(_)))),
            "{created:?}"
        );
        assert_eq!(text_of(&reader).await, "kept");
        assert_eq!(rig.text("a").await, "kept");
        assert!(rig.engine.failure().borrow().is_some());
        rig.engine.stop();
    });
}

/// A partition whose commit had failed was written to again.
#[test]
fn no_commit_is_tried_after_one_has_failed() {
    run(async {
        for gate in [Gated::new(1 << 20), Gated::inline(1 << 20)] {
            let rig = Rig::over(Arc::<Gated>::clone(&gate));
            rig.create("a").await.expect("created");
            gate.fail();
            assert!(has_failed(&rig.append("a", "x").await));
            let tried = gate.batches().len();
            gate.recover();
            assert!(has_failed(&rig.append("a", "y").await));
            assert_eq!(gate.batches().len(), tried);
            assert!(rig.engine.failure().borrow().is_some());
            assert_eq!(rig.text("a").await, "");
        }
    });
}

/// What `file-fast` has acknowledged last is synced by the end of its process. That had failed, and the process had exited
/// as if all was well.
#[test]
fn an_end_that_could_not_be_synced_is_a_failure_and_one_without_space_is_none() {
    run(async {
        for is_full in [false, true] {
            let disk = FaultyDisk::new(1);
            let options = FileOptions {
                journal_bytes: 64 << 10,
                compacts_by_itself: false,
                ..FileOptions::new(
                    "/data".into(),
                    Durability::Fast {
                        sync_interval_ms: 100,
                    },
                    1 << 20,
                )
            };
            let shared: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(&disk);
            let store = FileStore::open_unlocked(shared, options).expect("a new store");
            let rig = Rig::over(Arc::new(store));
            rig.create("a").await.expect("created");
            rig.append("a", "x").await.expect("appended");
            if is_full {
                disk.set_free_bytes(Some(0));
            } else {
                disk.fail_sync(1);
            }
            rig.engine.stop();
            assert_eq!(rig.engine.failure().borrow().is_none(), is_full);
        }
    });
}

/// Whoever created, deleted, trimmed or forked any stream after it was told that the storage had failed, though it was done;
/// and nothing that was deleted gave its space back any more.
#[test]
fn a_deleted_stream_that_cannot_be_released_is_nobody_elses_trouble() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a", "other", "third"] {
            rig.create(stream).await.expect("created");
            rig.append(stream, "xy").await.expect("appended");
        }
        gate.damage(rig.look("a").await.incarnation().id);
        rig.delete("a").await;
        rig.create("new").await.expect("created");
        rig.trim("third", 1).await;
        rig.fork("fork", "third").await.expect("forked");
        rig.delete("other").await;
        rig.sweep().await;
        assert_eq!(rig.usage().0, 4, "the damaged one, and three that are there");
        assert!(rig.create("a").await.expect("created").new, "its name is free");
    });
}

/// No lifetime ended any more.
#[test]
fn a_stream_that_cannot_be_loaded_does_not_keep_others_from_ending() {
    behind_a_gate(async |rig: Rig, gate| {
        for stream in ["a", "other"] {
            rig.create_living(stream, 16).await;
            rig.clock.advance_millis(1);
        }
        for _ in 0..62 {
            rig.engine.evict_idle();
        }
        gate.damage_name(&name("a"));
        rig.clock.advance_millis(60_000);
        rig.sweep().await;
        assert_eq!(rig.usage().0, 1);
        assert_eq!(rig.engine.stats().expirations.get(), 1);
    });
}

/// A panic on the committer's thread would be silent: its waiters would wait for ever, and the server say ready.
#[test]
fn a_backend_that_panics_counts_as_failed_and_leaves_nobody_waiting() {
    behind_a_gate(async |rig: Rig, gate| {
        rig.create("a").await.expect("created");
        gate.refuse(|_| panic!("a bug in a backend, planted by a test"));
        assert!(has_failed(&rig.append("a", "x").await));
        assert!(rig.engine.failure().borrow().is_some());
        assert!(has_failed(&rig.append("a", "y").await));
        assert_eq!(rig.text("a").await, "");
    });
}
