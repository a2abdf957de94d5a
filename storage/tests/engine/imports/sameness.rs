//! What comes out of one engine is the same in another.

use bytes::Bytes;
use tailwater_storage::engine::{AppendRequest, Existing, Finished, ImportError, OpenError};
use tailwater_storage::stream::{CreateCommand, Lifetime, Offset, Position};

use super::{export, fill, import, import_all, other, said};
use crate::support::ask::{Rig, at, bytes, name, producer};
use crate::{over_all, run};

#[test]
fn everything_of_a_stream_is_the_same_elsewhere() {
    over_all(async |rig: Rig| {
        fill(&rig).await;
        let there = other();
        import_all(&there, &export(&rig, "").await).await;
        assert_eq!(said(export(&there, "").await), said(export(&rig, "").await));
        assert_eq!(there.text("jobs/1").await, "22,333,{\"a\":\"b\"},4,5,");
        assert_eq!(there.text("runs/1").await, "step step step ");
    });
}

#[test]
fn offsets_that_were_given_out_hold_elsewhere() {
    over_all(async |rig: Rig| {
        fill(&rig).await;
        let there = other();
        import_all(&there, &export(&rig, "").await).await;
        for stream in ["jobs/1", "runs/1"] {
            let (here, there) = (rig.look(stream).await, there.look(stream).await);
            let view = there.incarnation().view();
            for position in 1..=view.tail.get() {
                let token = here.incarnation().token(at(position));
                assert_eq!(there.incarnation().token(at(position)), token);
                let (old, new) = (
                    here.resolve(Offset::At(token), &view).await.expect("readable"),
                    there.resolve(Offset::At(token), &view).await.expect("readable"),
                );
                assert_eq!(old, new, "{stream} at {position}");
            }
        }
    });
}

#[test]
fn a_retry_of_a_producer_is_a_duplicate_elsewhere() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        let retried = || AppendRequest {
            producer: Some(producer("p", 1, 0)),
            ..bytes("once")
        };
        let first = rig.engine.append(&name("a"), retried()).await.expect("appended");
        let there = other();
        import_all(&there, &export(&rig, "").await).await;
        let again = there
            .engine
            .append(&name("a"), retried())
            .await
            .expect("a duplicate");
        assert_eq!(again.tail, first.tail);
        assert_eq!(there.text("a").await, "once");
        let fenced = AppendRequest {
            producer: Some(producer("p", 0, 0)),
            ..bytes("zombie")
        };
        there.engine.append(&name("a"), fenced).await.expect_err("fenced");
    });
}

#[test]
fn a_sliding_lifetime_goes_on_where_it_was() {
    over_all(async |rig: Rig| {
        rig.create_living("a", 100).await;
        rig.clock.advance_millis(60_000);
        let there = other();
        there.clock.advance_millis(60_000);
        import_all(&there, &export(&rig, "").await).await;
        there.clock.advance_millis(30_000);
        there.sweep().await;
        assert_eq!(there.usage().0, 1, "it has been idle for 90 s of 100");
        there.clock.advance_millis(30_000);
        there.sweep().await;
        assert_eq!(there.usage(), (0, 0), "it has been idle for 120 s of 100");
    });
}

#[test]
fn what_is_there_already_is_left_as_it_is() {
    over_all(async |rig: Rig| {
        fill(&rig).await;
        rig.fork("fork", "runs/1").await.expect("forked");
        let there = other();
        let sections = export(&rig, "").await;
        import_all(&there, &sections).await;
        let usage = there.usage();
        for existing in [Existing::Refuse, Existing::Replace] {
            for result in import(&there, &sections, existing).await {
                assert_eq!(result.expect("no conflict"), Finished::Present);
            }
        }
        assert_eq!(there.usage(), usage);
        // Also a fork that was left out finds its source.
        there.delete("fork").await;
        let results = import(&there, &sections, Existing::Refuse).await;
        let staged = results
            .iter()
            .filter(|result| matches!(result, Ok(Finished::Imported)));
        assert_eq!(staged.count(), 1);
        assert_eq!(there.text("fork").await, "step step step ");
    });
}

#[test]
fn new_streams_get_ids_behind_the_imported_ones() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.clock.advance_millis(3_600_000);
        elsewhere.create("a").await.expect("created");
        import_all(&rig, &export(&elsewhere, "").await).await;
        let imported = rig.look("a").await.incarnation().lineage.spans()[0].owner;
        rig.create("b").await.expect("created");
        assert!(rig.look("b").await.incarnation().id > imported);
    });
}

#[test]
fn control_keys_come_along() {
    run(async {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        let mut sections = export(&elsewhere, "").await;
        let keys = (0..3_000).map(|number| {
            (
                Bytes::from(format!("key/{number:05}")),
                Bytes::from("v".repeat(600)),
            )
        });
        sections[0].controls = keys.collect();
        let rig = other();
        import_all(&rig, &sections).await;
        assert_eq!(export(&rig, "").await[0].controls, sections[0].controls);
    });
}

/// A queue or a subscription may change without a message of its stream. It was taken for the very same one, and stayed.
#[test]
fn a_stream_with_other_control_keys_is_replaced_and_one_with_the_same_is_not() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        elsewhere.append("a", "text").await.expect("appended");
        let mut sections = export(&elsewhere, "").await;
        let entry = |(key, value): (&'static str, &'static str)| (Bytes::from(key), Bytes::from(value));
        let kept = [("k/1", "one"), ("k/2", "two"), ("k/3", "")].map(entry);
        let changed = [("k/1", "one"), ("k/2", "2"), ("k/3", "")].map(entry);
        let renamed = [("k/1", "one"), ("k/20", "two"), ("k/3", "")].map(entry);
        let more = [("k/1", "one"), ("k/2", "two"), ("k/3", ""), ("k/4", "four")].map(entry);
        for controls in [&[], &kept[..2], &kept[1..], &changed, &renamed, &more] {
            sections[0].controls = kept.to_vec();
            let first = import(&rig, &sections, Existing::Replace).await.remove(0);
            assert_eq!(first.expect("no conflict"), Finished::Imported);
            sections[0].controls = controls.to_vec();
            for (existing, becomes, left) in [
                (Existing::Refuse, Finished::Present, &kept[..]),
                (Existing::Replace, Finished::Imported, controls),
                (Existing::Replace, Finished::Present, controls),
            ] {
                let usage = rig.usage();
                let finished = import(&rig, &sections, existing).await.remove(0);
                assert_eq!(finished.expect("no conflict"), becomes, "{controls:?}");
                assert_eq!(export(&rig, "").await[0].controls, left);
                assert_eq!(rig.text("a").await, "text");
                assert_eq!(rig.usage().0, usage.0, "what was replaced is released");
            }
        }
    });
}

/// Both have the same ids and the same tail. The one that was here was taken for the other one.
#[test]
fn two_that_went_on_separately_are_not_the_same() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        elsewhere.append("a", "both ").await.expect("appended");
        import_all(&rig, &export(&elsewhere, "").await).await;
        rig.append("a", "here ").await.expect("appended");
        elsewhere.clock.advance_millis(1);
        elsewhere.append("a", "there").await.expect("appended");
        let sections = export(&elsewhere, "").await;
        let refused = import(&rig, &sections, Existing::Refuse).await.remove(0);
        assert!(matches!(refused, Err(ImportError::Exists)), "{refused:?}");
        assert_eq!(rig.text("a").await, "both here ");
        let replaced = import(&rig, &sections, Existing::Replace).await.remove(0);
        assert_eq!(replaced.expect("no conflict"), Finished::Imported);
        assert_eq!(rig.text("a").await, "both there");
    });
}

#[test]
fn an_export_tells_what_was_there_when_a_streams_turn_came() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        rig.append("a", "before").await.expect("appended");
        rig.create("b").await.expect("created");
        let mut exporter = rig.engine.export("");
        let mut a = exporter.next().await.expect("works").expect("a");
        rig.append("a", ", after").await.expect("appended");
        rig.delete("a").await;
        rig.delete("b").await;
        rig.sweep().await;
        let append = a.next().await.expect("held").expect("an append");
        assert_eq!(append.payload, "before");
        assert!(a.next().await.expect("held").is_none());
        drop(a);
        assert!(
            exporter.next().await.expect("works").is_none(),
            "b was deleted before its turn"
        );
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0));
    });
}

/// A slow export once kept the name of what it exports: whoever deleted that was told of forks, and there were none.
#[test]
fn a_name_is_free_though_its_old_stream_is_still_exported() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        rig.append("a", "old").await.expect("appended");
        let mut exporter = rig.engine.export("");
        let mut old = exporter.next().await.expect("works").expect("a");
        rig.delete("a").await;
        assert!(matches!(
            rig.engine.look(&name("a")).await,
            Err(OpenError::NotFound)
        ));
        assert!(rig.create("a").await.expect("the name is free").new);
        rig.append("a", "new").await.expect("appended");
        rig.sweep().await;
        assert_eq!(rig.usage().0, 2, "what is exported is held");
        assert_eq!(old.next().await.expect("held").expect("an append").payload, "old");
        assert_eq!(rig.text("a").await, "new");
        drop(old);
        rig.sweep().await;
        assert_eq!(rig.usage().0, 1);
        assert_eq!(rig.text("a").await, "new");
    });
}

#[test]
fn what_a_client_asked_for_is_known_elsewhere() {
    over_all(async |rig: Rig| {
        let command = || CreateCommand {
            lifetime: Lifetime::Ttl { seconds: 77 },
            ..CreateCommand::default()
        };
        rig.create_with("a", command()).await.expect("created");
        let there = other();
        import_all(&there, &export(&rig, "").await).await;
        assert!(!there.create_with("a", command()).await.expect("exists").new);
        there.create("a").await.expect_err("another lifetime");
        assert_eq!(there.look("a").await.incarnation().view().oldest, Position::ZERO);
    });
}
