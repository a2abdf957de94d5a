//! A stream is imported as a whole or not at all, and what it would replace stays until then.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tailwater_storage::engine::{
    AppendRequest, Existing, ExportedAppend, ExportedStream, Finished, ImportError, OpenError,
};
use tailwater_storage::stream::{Lifetime, MessageEnds, StreamId, Timestamp, Transition};
use tailwater_storage::{EngineLimits, Memory};

use super::{Section, append_of, export, import, import_all, other};
use crate::support::ask::{Rig, START_MS, at, bytes, name, producer, text_of, until, waits};
use crate::support::gated::{Gated, transitions};
use crate::{behind_a_gate, over_all, run};

#[test]
fn another_stream_of_the_name_is_kept_unless_it_is_to_be_replaced() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        elsewhere.append("a", "imported").await.expect("appended");
        rig.create("a").await.expect("created");
        rig.append("a", "kept").await.expect("appended");
        let sections = export(&elsewhere, "").await;
        let refused = import(&rig, &sections, Existing::Refuse).await;
        assert!(matches!(refused[..], [Err(ImportError::Exists)]), "{refused:?}");
        rig.sweep().await;
        assert_eq!(rig.text("a").await, "kept");
        let with_one = rig.usage();
        let old = rig.look("a").await;
        let replaced = import(&rig, &sections, Existing::Replace).await;
        assert!(matches!(replaced[..], [Ok(Finished::Imported)]), "{replaced:?}");
        assert!(old.incarnation().view().deleted, "its readers are told");
        drop(old);
        rig.sweep().await;
        assert_eq!(rig.text("a").await, "imported");
        assert_eq!(rig.usage().0, with_one.0, "the old one is gone");
    });
}

#[test]
fn an_import_that_is_given_up_leaves_nothing() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        elsewhere.append("a", "imported").await.expect("appended");
        let sections = export(&elsewhere, "").await;
        let large = ExportedAppend {
            payload: Bytes::from(vec![b'x'; 2 << 20]),
            ..append_of(8, 1, "")
        };
        let mut stream = sections[0].stream.clone();
        stream.state.tail = at(8 + (2 << 20) + 1);
        for gives_up_by_dropping in [true, false] {
            let mut importer = rig.engine.import(Existing::Refuse);
            importer.begin(stream.clone()).await.expect("begun");
            importer
                .append(sections[0].appends[0].clone())
                .await
                .expect("taken");
            importer.append(large.clone()).await.expect("written");
            assert_eq!(rig.usage().0, 1, "it is staged");
            assert!(matches!(
                rig.engine.look(&name("a")).await,
                Err(OpenError::NotFound)
            ));
            assert!(
                rig.engine
                    .list("", None, 10)
                    .await
                    .expect("works")
                    .streams
                    .is_empty()
            );
            if gives_up_by_dropping {
                drop(importer);
            } else {
                importer.abandon();
            }
            rig.sweep().await;
            assert_eq!(rig.usage(), (0, 0));
        }
    });
}

/// What is queued when a client goes away is committed all the same, and must not come to a stream that is gone.
#[test]
fn an_import_whose_client_goes_away_in_the_midst_leaves_nothing() {
    behind_a_gate(async |rig: Rig, gate: Arc<Gated>| {
        let mut importer = rig.engine.import(Existing::Refuse);
        let mut stream = exported_empty("a").await;
        stream.state.tail = at(2 << 20);
        stream.state.messages = 1;
        importer.begin(stream).await.expect("begun");
        gate.hold();
        let large = ExportedAppend {
            payload: Bytes::from(vec![b'x'; 2 << 20]),
            ..append_of(0, 0, "")
        };
        {
            let mut append = Box::pin(importer.append(large));
            assert!(waits(append.as_mut()).await);
        }
        drop(importer);
        rig.sweep().await;
        gate.open();
        // Committed behind what was queued.
        rig.create("b").await.expect("created");
        rig.create("a").await.expect("created");
        rig.sweep().await;
        assert_eq!(rig.usage().0, 2);
    });
}

/// Nobody was left who knew that it was staged, until the next start.
#[test]
fn an_import_whose_client_goes_away_at_its_end_comes_about_or_leaves_nothing() {
    for is_refused in [true, false] {
        behind_a_gate(async |rig: Rig, gate: Arc<Gated>| {
            let elsewhere = other();
            elsewhere.create("a").await.expect("created");
            elsewhere.append("a", "imported").await.expect("appended");
            let sections = export(&elsewhere, "").await;
            let mut importer = rig.engine.import(Existing::Refuse);
            importer.begin(sections[0].stream.clone()).await.expect("begun");
            let append = sections[0].appends[0].clone();
            importer.append(append).await.expect("taken");
            {
                let mut finish = Box::pin(importer.finish());
                wait_with_the_last_record(finish.as_mut(), &gate).await;
            }
            drop(importer);
            rig.sweep().await;
            assert_eq!(rig.usage().0, 1, "what is queued is held");
            gate.refuse(move |_| is_refused);
            gate.open();
            let settled = async || match rig.engine.look(&name("a")).await {
                Ok(_) => !is_refused,
                Err(_) => is_refused && rig.usage() == (0, 0),
            };
            until(async || {
                rig.sweep().await;
                settled().await
            })
            .await;
            rig.sweep().await;
            if !is_refused {
                assert_eq!(rig.text("a").await, "imported");
            }
        });
    }
}

/// An empty stream of this name as an export elsewhere would have it.
async fn exported_empty(stream: &str) -> ExportedStream {
    let elsewhere = Rig::over(Arc::new(Memory::new(1 << 20)));
    elsewhere.create(stream).await.expect("created");
    export(&elsewhere, "").await.remove(0).stream
}

#[test]
fn an_import_without_space_leaves_what_it_would_replace() {
    run(async {
        let rig = Rig::over(Arc::new(Memory::new(100_000)));
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        for _ in 0..100 {
            elsewhere.append("a", &"x".repeat(5_000)).await.expect("appended");
        }
        rig.create("a").await.expect("created");
        rig.append("a", "kept").await.expect("appended");
        let usage = rig.usage();
        let sections = export(&elsewhere, "").await;
        let full = import(&rig, &sections, Existing::Replace).await;
        assert!(
            matches!(
                full[..],
                [Err(ImportError::Engine(
                    tailwater_storage::engine::EngineError::Full
                ))]
            ),
            "{full:?}"
        );
        rig.sweep().await;
        assert_eq!(rig.usage(), usage);
        assert_eq!(rig.text("a").await, "kept");
    });
}

#[test]
fn the_old_stream_is_there_until_the_new_one_is_durable() {
    behind_a_gate(async |rig: Rig, gate: Arc<Gated>| {
        rig.create("a").await.expect("created");
        rig.append("a", "kept").await.expect("appended");
        let mut importer = rig.engine.import(Existing::Replace);
        importer.begin(exported_empty("a").await).await.expect("begun");
        gate.refuse(|record| transitions(record).any(|part| matches!(part, Transition::Import(_))));
        importer.finish().await.expect_err("no space");
        assert_eq!(rig.text("a").await, "kept");
        rig.append("a", ", and goes on").await.expect("appended");
        drop(importer);
        rig.sweep().await;
        assert_eq!(rig.usage().0, 1, "only the old one is there");
        gate.refuse(|_| false);
        let mut importer = rig.engine.import(Existing::Replace);
        importer.begin(exported_empty("a").await).await.expect("begun");
        let old = rig.look("a").await;
        {
            let mut finish = pin!(importer.finish());
            wait_with_the_last_record(finish.as_mut(), &gate).await;
            assert_eq!(text_of(&old).await, "kept, and goes on");
            assert!(!old.incarnation().view().deleted);
            gate.open();
            finish.await.expect("imported");
        }
        assert!(old.incarnation().view().deleted);
        assert_eq!(rig.text("a").await, "");
    });
}

/// Drives the end of an import until the record that lets the name lead to it stands at the gate, which is held then.
async fn wait_with_the_last_record<T>(mut finish: Pin<&mut impl Future<Output = T>>, gate: &Gated) {
    gate.hold();
    assert!(waits(finish.as_mut()).await);
    gate.wait_at_gate(0);
    let before = gate.batches().len();
    gate.let_one_pass(0);
    while gate.batches().len() == before || !gate.is_at_gate(0) {
        assert!(waits(finish.as_mut()).await);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The use of the imported stream was once taken for that of the one it was to replace: refused, it left a stream that
/// seemed to be long over, and the next request deleted it.
#[test]
fn a_refused_import_leaves_the_old_stream_as_long_to_live_as_it_had() {
    behind_a_gate(async |rig: Rig, gate: Arc<Gated>| {
        rig.create_living("a", 60).await;
        rig.append("a", "kept").await.expect("appended");
        for _ in 0..3 {
            rig.clock.advance_millis(40_000);
            rig.engine.reader(&name("a")).await.expect("used");
        }
        let mut unused = exported_empty("a").await;
        unused.state.lifetime = Lifetime::Ttl { seconds: 60 };
        unused.state.touched_at = Timestamp::default();
        let mut importer = rig.engine.import(Existing::Replace);
        importer.begin(unused).await.expect("begun");
        gate.refuse(|record| transitions(record).any(|part| matches!(part, Transition::Import(_))));
        {
            let mut finish = pin!(importer.finish());
            wait_with_the_last_record(finish.as_mut(), &gate).await;
            rig.clock.advance_millis(40_000);
            let reader = rig.engine.reader(&name("a")).await.expect("used meanwhile");
            assert_eq!(text_of(&reader).await, "kept");
            let listing = rig.engine.list("", None, 10).await.expect("works");
            assert_eq!(listing.streams.len(), 1, "it is listed");
            gate.open();
            finish.await.expect_err("no space");
        }
        drop(importer);
        rig.clock.advance_millis(40_000);
        rig.sweep().await;
        assert_eq!(rig.text("a").await, "kept");
        rig.clock.advance_millis(20_000);
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0), "its lifetime ends as that of any other");
    });
}

/// The other way round a refused import once let a stream live on whose lifetime was over.
#[test]
fn a_refused_import_revives_nothing() {
    behind_a_gate(async |rig: Rig, gate: Arc<Gated>| {
        rig.create_living("a", 60).await;
        rig.append("a", "old").await.expect("appended");
        let mut used = exported_empty("a").await;
        used.state.lifetime = Lifetime::Ttl { seconds: 60 };
        used.state.touched_at = Timestamp::from_millis(START_MS + 60_000);
        let mut importer = rig.engine.import(Existing::Replace);
        importer.begin(used).await.expect("begun");
        rig.clock.advance_millis(60_000);
        gate.refuse(|record| transitions(record).any(|part| matches!(part, Transition::Import(_))));
        importer.finish().await.expect_err("no space");
        drop(importer);
        let over = rig.engine.look(&name("a")).await;
        assert!(matches!(over, Err(OpenError::NotFound)));
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0));
    });
}

#[test]
fn a_name_that_was_used_meanwhile_is_not_taken() {
    over_all(async |rig: Rig| {
        let mut importer = rig.engine.import(Existing::Replace);
        importer.begin(exported_empty("a").await).await.expect("begun");
        rig.create("a").await.expect("created");
        rig.append("a", "newer").await.expect("appended");
        let refused = importer.finish().await;
        assert!(matches!(refused, Err(ImportError::Changed)), "{refused:?}");
        assert_eq!(rig.text("a").await, "newer");
        importer
            .begin(exported_empty("a").await)
            .await
            .expect("begun again");
        importer.finish().await.expect("imported");
        assert_eq!(rig.text("a").await, "");
    });
}

#[test]
fn what_does_not_fit_the_limits_here_is_refused() {
    run(async {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        for (number, id) in ["p", "q", "r"].iter().enumerate() {
            let request = AppendRequest {
                producer: Some(producer(id, 0, 0)),
                ..bytes(&"x".repeat(number + 1))
            };
            elsewhere
                .engine
                .append(&name("a"), request)
                .await
                .expect("appended");
        }
        let mut sections = export(&elsewhere, "").await;
        let limited = |producers_max, stream_bytes_max| {
            let limits = EngineLimits {
                producers_max,
                stream_bytes_max,
                ..EngineLimits::default()
            };
            Rig::limited(Arc::new(Memory::new(1 << 20)), limits)
        };
        let refused = import(&limited(2, 100), &sections, Existing::Refuse).await;
        assert!(
            matches!(
                refused[..],
                [Err(ImportError::TooManyProducers {
                    producers: 3,
                    producers_max: 2
                })]
            ),
            "{refused:?}"
        );
        let refused = import(&limited(3, 5), &sections, Existing::Refuse).await;
        assert!(
            matches!(
                refused[..],
                [Err(ImportError::TooLarge {
                    bytes: 6,
                    bytes_max: 5
                })]
            ),
            "{refused:?}"
        );
        import_all(&limited(3, 6), &sections).await;
        let future = StreamId::new(9_000_000_000_000_000).expect("an id");
        sections[0].state().lineage = tailwater_storage::stream::Lineage::root(future);
        let refused = import(&limited(3, 6), &sections, Existing::Refuse).await;
        assert!(
            matches!(refused[..], [Err(ImportError::FromTheFuture { .. })]),
            "{refused:?}"
        );
    });
}

#[test]
fn an_export_that_does_not_fit_together_changes_nothing() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        elsewhere.append("a", "imported").await.expect("appended");
        elsewhere.create_json("j").await;
        elsewhere.append_json("j", "[1]").await;
        let breaks: [fn(&mut Vec<Section>); 8] = [
            |sections| sections[0].appends[0].start = at(1),
            |sections| sections[0].appends[0].payload = Bytes::new(),
            |sections| sections[0].appends[0].payload = Bytes::from_static(b"longer than it was"),
            |sections| sections[0].appends[0].ends = MessageEnds::Many(vec![3, 3, 8].into()),
            |sections| sections[0].appends[0].ends = MessageEnds::Many(vec![3, 9].into()),
            |sections| sections[0].appends.clear(),
            |sections| sections[1].appends[0].payload = Bytes::from_static(b"1}"),
            |sections| sections[0].state().messages = 5,
        ];
        for (number, breaks) in breaks.iter().enumerate() {
            let mut sections = export(&elsewhere, "").await;
            breaks(&mut sections);
            let results = import(&rig, &sections, Existing::Refuse).await;
            let broken = usize::from(number == 6);
            assert!(
                matches!(results[broken], Err(ImportError::Malformed { .. })),
                "{number}: {results:?}"
            );
            let sound = ["j", "a"][broken];
            rig.delete(sound).await;
            rig.sweep().await;
            assert_eq!(rig.usage(), (0, 0), "{number}");
        }
    });
}
