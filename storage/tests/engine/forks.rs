//! Forks: where they branch off, what they read, and that what they read stays.

use std::pin::pin;
use std::sync::Arc;

use tailwater_storage::engine::{AppendError, CreateError, OpenError, RECORD_BYTES};
use tailwater_storage::stream::{ForkRefusal, Offset, OffsetToken};

use crate::support::ask::{Rig, at, fork_of, name, text_of, waits};
use crate::support::gated::{Gated, appends, transitions};
use crate::{behind_a_gate, over_all, run};

async fn source(rig: &Rig, stream: &str, bodies: &[&str]) {
    rig.create(stream).await.expect("created");
    for body in bodies {
        rig.append(stream, body).await.expect("appended");
    }
}

#[test]
fn a_source_deleted_while_its_fork_is_made_is_readable_through_the_fork() {
    behind_a_gate(async |rig: Rig, gate| {
        source(&rig, "a", &["inherited"]).await;
        gate.hold();
        let mut fork = pin!(rig.fork("b/fork", "a"));
        assert!(waits(fork.as_mut()).await);
        gate.wait_at_gate(1);
        gate.let_one_pass(0);
        rig.delete("a").await;
        rig.sweep().await;
        assert_eq!(rig.usage().0, 1, "the fork in the making holds it");
        gate.open();
        assert!(fork.await.expect("forked").new);
        rig.sweep().await;
        assert_eq!(rig.text("b/fork").await, "inherited");
        assert!(matches!(rig.append("a", "x").await, Err(AppendError::Gone)));
        assert!(matches!(rig.create("a").await, Err(CreateError::HeldByForks)));
        rig.delete("b/fork").await;
        assert_eq!(rig.usage(), (0, 0), "nothing holds it any more");
        assert!(matches!(rig.append("a", "x").await, Err(AppendError::NotFound)));
    });
}

/// The pin went with the request, though its record was still to be committed.
#[test]
fn a_source_is_held_though_the_client_that_forks_it_went_away() {
    behind_a_gate(async |rig: Rig, gate| {
        source(&rig, "a", &["inherited"]).await;
        gate.hold();
        {
            let mut fork = Box::pin(rig.fork("b/fork", "a"));
            assert!(waits(fork.as_mut()).await);
        }
        gate.wait_at_gate(1);
        gate.let_one_pass(0);
        rig.delete("a").await;
        rig.sweep().await;
        gate.open();
        // Answered once the abandoned creation is durable.
        assert!(!rig.fork("b/fork", "a").await.expect("exists").new);
        assert_eq!(rig.text("b/fork").await, "inherited");
        rig.delete("b/fork").await;
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0));
    });
}

#[test]
fn a_fork_that_found_no_space_leaves_no_reference() {
    behind_a_gate(async |rig: Rig, gate| {
        source(&rig, "a", &["inherited"]).await;
        gate.refuse(|record| {
            use tailwater_storage::stream::Transition;
            transitions(record).any(|part| matches!(part, Transition::Create(_)))
        });
        gate.hold();
        let mut fork = pin!(rig.fork("b/fork", "a"));
        assert!(waits(fork.as_mut()).await);
        gate.wait_at_gate(1);
        gate.let_one_pass(0);
        rig.delete("a").await;
        assert_eq!(rig.usage().0, 1, "the fork in the making holds it");
        gate.open();
        assert!(matches!(fork.await, Err(CreateError::Engine(_))));
        assert_eq!(rig.usage(), (0, 0));
        assert!(matches!(rig.append("a", "x").await, Err(AppendError::NotFound)));
    });
}

/// A rejected fork leaked a reference in a peer, and its source could never be deleted.
#[test]
fn a_refused_fork_leaves_no_reference() {
    over_all(async |rig: Rig| {
        source(&rig, "a", &["abc"]).await;
        source(&rig, "taken", &[]).await;
        assert!(rig.create_with("b/1", fork_of("a", None, 1)).await.is_err());
        assert!(rig.fork("taken", "a").await.is_err());
        let mut other_type = fork_of("a", None, 0);
        other_type.content_type = Some(crate::support::ask::json());
        assert!(rig.create_with("b/2", other_type).await.is_err());
        rig.delete("a").await;
        rig.delete("taken").await;
        assert_eq!(rig.usage(), (0, 0));
    });
}

#[test]
fn a_source_trimmed_while_its_fork_is_made_keeps_what_the_fork_inherits() {
    behind_a_gate(async |rig: Rig, gate| {
        source(&rig, "a", &["01", "23", "45", "67"]).await;
        gate.hold();
        let mut fork = pin!(rig.fork("b/fork", "a"));
        assert!(waits(fork.as_mut()).await);
        gate.wait_at_gate(1);
        gate.let_one_pass(0);
        rig.trim("a", 6).await;
        rig.sweep().await;
        gate.open();
        fork.await.expect("forked");
        rig.sweep().await;
        assert_eq!(rig.text("b/fork").await, "01234567");
        assert_eq!(rig.text("a").await, "67");
    });
}

/// What a source had trimmed stayed when the last fork that could read it went.
#[test]
fn what_only_a_fork_could_read_is_given_back_with_the_fork() {
    over_all(async |rig: Rig| {
        source(&rig, "a", &["01", "23", "45", "67"]).await;
        rig.fork("b/fork", "a").await.expect("forked");
        let (_, with_fork) = rig.usage();
        rig.trim("a", 6).await;
        assert_eq!(rig.usage().1, with_fork, "the fork reads it all");
        rig.delete("b/fork").await;
        let (_, without_fork) = rig.usage();
        rig.delete("a").await;
        source(&rig, "a", &["01", "23", "45", "67"]).await;
        rig.trim("a", 6).await;
        assert_eq!(rig.usage().1, without_fork);
    });
}

#[test]
fn a_fork_inherits_nothing_that_could_still_be_lost() {
    behind_a_gate(async |rig: Rig, gate| {
        source(&rig, "a", &["durable"]).await;
        gate.refuse(|record| appends(record, " and more"));
        gate.hold();
        let mut append = pin!(rig.append("a", " and more"));
        assert!(waits(append.as_mut()).await);
        gate.wait_at_gate(0);
        let mut fork = pin!(rig.fork("b/fork", "a"));
        assert!(waits(fork.as_mut()).await);
        gate.open();
        assert!(append.await.is_err());
        assert_eq!(fork.await.expect("forked").tail.position(), at(7));
        assert_eq!(rig.text("b/fork").await, "durable");
    });
}

#[test]
fn a_fork_goes_its_own_way_from_its_fork_point_on() {
    over_all(async |rig: Rig| {
        source(&rig, "a", &["hello", "world"]).await;
        let five = rig.look("a").await.incarnation().token(at(5));
        let forked = rig
            .create_with("b", fork_of("a", Some(five), 2))
            .await
            .expect("forked");
        assert_eq!(forked.tail.position(), at(7));
        assert_eq!(rig.text("b").await, "hellowo");
        rig.append("b", "mbat").await.expect("appended");
        rig.append("a", "!").await.expect("appended");
        assert_eq!(rig.text("b").await, "hellowombat");
        assert_eq!(rig.text("a").await, "helloworld!");
        let (a, b) = (rig.look("a").await, rig.look("b").await);
        for position in 0..=7 {
            assert_eq!(
                a.incarnation().token(at(position)),
                b.incarnation().token(at(position))
            );
        }
        let own = b.incarnation().token(at(8));
        let resolved = a
            .resolve(Offset::At(own), &a.incarnation().view())
            .await
            .expect("works");
        assert!(resolved.is_err(), "the fork's own offsets are not the source's");
    });
}

#[test]
fn chains_of_forks_read_through_every_storage() {
    over_all(async |rig: Rig| {
        source(&rig, "a", &["aaaa", "AAAA"]).await;
        let place =
            async |stream: &str, position: u64| rig.look(stream).await.incarnation().token(at(position));
        let four = place("a", 4).await;
        rig.create_with("b", fork_of("a", Some(four), 3))
            .await
            .expect("forked");
        rig.append("b", "bbbb").await.expect("appended");
        let eleven = place("b", 11).await;
        rig.create_with("c", fork_of("b", Some(eleven), 0))
            .await
            .expect("forked");
        rig.append("c", "cc").await.expect("appended");
        // Branches off within what its source inherits.
        let two = place("c", 2).await;
        rig.create_with("d", fork_of("c", Some(two), 1))
            .await
            .expect("forked");
        rig.append("d", "d").await.expect("appended");
        let texts = [("b", "aaaaAAAbbbb"), ("c", "aaaaAAAbbbbcc"), ("d", "aaad")];
        for (stream, text) in texts {
            assert_eq!(rig.text(stream).await, text);
            let reader = rig.look(stream).await;
            let view = reader.incarnation().view();
            let records = reader.records(at(0), &view, u64::MAX).await.expect("readable");
            assert_eq!(records.len() as u64, view.messages);
            assert!(
                records.iter().map(|record| record.index).eq(0..view.messages),
                "{records:?}"
            );
            let joined: Vec<u8> = records.iter().flat_map(|record| record.data.to_vec()).collect();
            assert_eq!(joined, text.as_bytes());
        }
        for stream in ["a", "b", "c"] {
            rig.delete(stream).await;
        }
        assert_eq!(rig.text("d").await, "aaad");
        assert!(matches!(rig.engine.look(&name("b")).await, Err(OpenError::Gone)));
        rig.delete("d").await;
        assert_eq!(rig.usage(), (0, 0));
        assert!(matches!(
            rig.engine.look(&name("b")).await,
            Err(OpenError::NotFound)
        ));
        assert!(rig.create("a").await.expect("created").new);
    });
}

/// The limit was applied to each storage by itself, so the first message of the second one came in addition.
#[test]
fn a_read_across_storages_keeps_to_its_limit() {
    over_all(async |rig: Rig| {
        source(&rig, "a", &["0123456789"]).await;
        rig.fork("b", "a").await.expect("forked");
        rig.append("b", &"x".repeat(1_000)).await.expect("appended");
        rig.append("b", "yy").await.expect("appended");
        let reader = rig.look("b").await;
        let view = reader.incarnation().view();
        let lengths = async |from: u64, bytes_max: u64| {
            reader
                .read(at(from), &view, bytes_max)
                .await
                .expect("readable")
                .len()
        };
        assert_eq!(lengths(0, 100).await, 10);
        assert_eq!(lengths(0, 1_010).await, 1_010);
        assert_eq!(lengths(0, 1_011).await, 1_010);
        assert_eq!(lengths(0, 1_012).await, 1_012);
        assert_eq!(
            lengths(10, 100).await,
            1_000,
            "the first message alone may be longer"
        );
        assert_eq!(lengths(0, 3).await, 10);
    });
}

#[test]
fn a_json_fork_branches_off_only_between_messages() {
    over_all(async |rig: Rig| {
        rig.create_json("a").await;
        rig.append_json("a", "[10,20,30]").await;
        rig.append_json("a", "40").await;
        let fork = async |stream: &str, offset, sub| rig.create_with(stream, fork_of("a", offset, sub)).await;
        let refusal = async |offset, sub| match fork("b/refused", offset, sub).await {
            Err(CreateError::Fork(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        let start = Some(OffsetToken::START);
        let place = async |position| Some(rig.look("a").await.incarnation().token(at(position)));
        assert_eq!(
            fork("b/0", start, 2).await.expect("forked").tail.position(),
            at(6)
        );
        assert_eq!(rig.text("b/0").await, "10,20,");
        rig.append_json("b/0", "[21,22]").await;
        assert_eq!(rig.text("b/0").await, "10,20,21,22,");
        assert_eq!(
            fork("b/1", place(3).await, 2)
                .await
                .expect("forked")
                .tail
                .position(),
            at(9)
        );
        assert_eq!(refusal(start, 4).await, ForkRefusal::SubOffset, "past the append");
        assert_eq!(refusal(place(9).await, 2).await, ForkRefusal::SubOffset);
        assert_eq!(
            refusal(place(12).await, 1).await,
            ForkRefusal::SubOffset,
            "nothing follows the tail"
        );
        assert_eq!(
            refusal(place(4).await, 0).await,
            ForkRefusal::Offset,
            "within a message"
        );
        let reader = rig.look("b/0").await;
        let view = reader.incarnation().view();
        assert_eq!(view.messages, 4);
        let fits_three = 3 * (RECORD_BYTES + 3);
        for (bytes_max, count) in [(1, 1), (fits_three - 1, 2), (fits_three, 3), (u64::MAX, 3)] {
            let records = reader.records(at(3), &view, bytes_max).await.expect("readable");
            assert_eq!(records.len(), count, "within {bytes_max} bytes");
        }
        let records = reader.records(at(3), &view, fits_three).await.expect("readable");
        let summary: Vec<_> = records
            .iter()
            .map(|record| (record.index, &record.data[..]))
            .collect();
        assert_eq!(summary, [(1, &b"20,"[..]), (2, b"21,"), (3, b"22,")]);
    });
}

#[test]
fn a_fork_of_a_trimmed_stream_begins_where_its_source_does() {
    over_all(async |rig: Rig| {
        source(&rig, "a", &["aaaa", "bbbb", "cccc"]).await;
        rig.trim("a", 6).await;
        let place = async |position| Some(rig.look("a").await.incarnation().token(at(position)));
        let trimmed = rig.create_with("b/1", fork_of("a", place(4).await, 0)).await;
        assert!(matches!(trimmed, Err(CreateError::Fork(ForkRefusal::Trimmed))));
        rig.create_with("b/2", fork_of("a", place(6).await, 0))
            .await
            .expect("forked");
        rig.create_with("b/3", fork_of("a", place(8).await, 2))
            .await
            .expect("forked");
        for (stream, text, messages) in [("b/2", "own", 3), ("b/3", "bbccown", 4)] {
            rig.append(stream, "own").await.expect("appended");
            let reader = rig.look(stream).await;
            assert_eq!(text_of(&reader).await, text);
            let view = reader.incarnation().view();
            assert_eq!((view.oldest, view.messages), (at(6), messages), "{stream}");
        }
    });
}

#[test]
fn a_fork_of_what_is_gone_or_never_was_is_refused() {
    over_all(async |rig: Rig| {
        source(&rig, "a", &["x"]).await;
        rig.fork("b", "a").await.expect("forked");
        rig.delete("a").await;
        assert!(matches!(rig.fork("c", "a").await, Err(CreateError::SourceGone)));
        assert!(matches!(
            rig.fork("c", "nobody").await,
            Err(CreateError::SourceNotFound)
        ));
        rig.delete("b").await;
        assert!(matches!(
            rig.fork("c", "a").await,
            Err(CreateError::SourceNotFound)
        ));
    });
}

#[test]
fn a_repeated_fork_is_the_same_one_even_when_its_source_went_on_or_away() {
    over_all(async |rig: Rig| {
        source(&rig, "a", &["x"]).await;
        let first = rig.fork("b", "a").await.expect("forked");
        rig.append("a", "y").await.expect("appended");
        let again = rig.fork("b", "a").await.expect("exists");
        assert!(first.new && !again.new && first.tail == again.tail);
        rig.delete("a").await;
        assert!(!rig.fork("b", "a").await.expect("exists").new);
    });
}

/// A name stayed held after the answer to its last fork's deletion, because somebody else had taken over to clear what
/// was left behind and was not done.
#[test]
fn the_name_of_a_source_is_free_once_the_deletion_of_its_last_fork_is_answered() {
    run(async {
        let gate = Gated::slow(1 << 20);
        let rig = Rig::over(Arc::<Gated>::clone(&gate));
        source(&rig, "a", &["inherited"]).await;
        rig.fork("b/fork", "a").await.expect("forked");
        rig.delete("a").await;
        let reader = rig.look("b/fork").await;
        let mut news = reader.incarnation().subscribe();
        gate.hold();
        let mut delete = pin!(rig.delete("b/fork"));
        assert!(waits(delete.as_mut()).await);
        gate.wait_at_gate(1);
        gate.hold_releases();
        gate.let_one_pass(1);
        news.changed().await.expect("the reader holds it");
        drop(reader);
        let mut sweep = pin!(rig.sweep());
        while !gate.is_releasing() {
            assert!(waits(sweep.as_mut()).await);
            tokio::task::yield_now().await;
        }
        let mut still_waits = true;
        for _ in 0..50 {
            still_waits = still_waits && waits(delete.as_mut()).await;
            // Takes as long as any question to the backend.
            assert!(rig.append("none", "x").await.is_err());
        }
        gate.open();
        assert!(still_waits, "answered before the release was done");
        delete.await;
        rig.create("a").await.expect("nothing holds the name any more");
        sweep.await;
    });
}
