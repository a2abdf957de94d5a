//! Exports and imports: what comes out of one engine goes into another, and nothing is half there.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::engine::{
    AppendRequest, Begun, Existing, ExportedAppend, ExportedStream, ImportError, OpenError,
};
use tailwater_storage::stream::{
    CreateCommand, Lifetime, MessageEnds, Offset, OffsetToken, Position, StreamId, StreamState, Transition,
};
use tailwater_storage::{EngineLimits, Memory};

use crate::support::ask::{Rig, at, bytes, fork_of, name, producer, text_of, waits};
use crate::support::gated::{Gated, transitions};
use crate::{behind_a_gate, over_all, run};

/// A stream with all that follows it in an export.
struct Section {
    stream: ExportedStream,
    controls: Vec<(Bytes, Bytes)>,
    appends: Vec<ExportedAppend>,
}

impl Section {
    fn state(&mut self) -> &mut StreamState {
        &mut self.stream.state
    }
}

async fn export(rig: &Rig, prefix: &str) -> Vec<Section> {
    let mut exporter = rig.engine.export(prefix);
    let mut sections = Vec::new();
    while let Some(mut export) = exporter.next().await.expect("the storage works") {
        let mut appends = Vec::new();
        while let Some(append) = export.next().await.expect("the bytes are held") {
            appends.push(append);
        }
        sections.push(Section {
            stream: export.stream().clone(),
            controls: export.controls().to_vec(),
            appends,
        });
    }
    sections
}

/// Imports all sections in one go; answers what became of each.
async fn import(rig: &Rig, sections: &[Section], existing: Existing) -> Vec<Result<Begun, ImportError>> {
    let mut importer = rig.engine.import(existing);
    let mut results = Vec::new();
    for section in sections {
        let result = async {
            let begun = importer.begin(section.stream.clone()).await?;
            if begun == Begun::Staged {
                for (key, value) in &section.controls {
                    importer.control(key.clone(), value.clone()).await?;
                }
                for append in &section.appends {
                    importer.append(append.clone()).await?;
                }
                importer.finish().await?;
            }
            Ok(begun)
        };
        results.push(result.await);
    }
    results
}

async fn import_all(rig: &Rig, sections: &[Section]) {
    for result in import(rig, sections, Existing::Refuse).await {
        assert_eq!(result.expect("imported"), Begun::Staged);
    }
}

fn other() -> Rig {
    Rig::over(Gated::slow(1 << 30))
}

type Said = (StreamState, Vec<(Bytes, Bytes)>, Vec<ExportedAppend>);

/// What an export says, without what is a server's own: ids, and where bytes are stored.
fn said(sections: Vec<Section>) -> Vec<Said> {
    let portable = |section: Section| {
        let mut state = section.stream.state;
        let nobody = StreamId::new(1).expect("an id");
        let spans = state
            .lineage
            .spans()
            .iter()
            .map(|span| tailwater_storage::stream::Span {
                stored_in: nobody,
                ..*span
            });
        state.lineage = tailwater_storage::stream::Lineage::from_spans(spans.collect()).expect("a lineage");
        state.id = nobody;
        if let Some(source) = &mut state.source {
            source.id = nobody;
        }
        (state, section.controls, section.appends)
    };
    sections.into_iter().map(portable).collect()
}

fn append_of(start: u64, first_message: u64, payload: &'static str) -> ExportedAppend {
    ExportedAppend {
        start: at(start),
        at: tailwater_storage::stream::Timestamp::from_millis(7),
        first_message,
        ends: MessageEnds::One,
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

/// Streams with everything that a stream can have.
async fn fill(rig: &Rig) {
    rig.create_json("jobs/1").await;
    for body in ["[1,22,333]", "{\"a\":\"b\"}", "[4,5]"] {
        rig.append_json("jobs/1", body).await;
        rig.clock.advance_millis(1_000);
    }
    rig.trim("jobs/1", 2).await;
    rig.create_living("runs/1", 90).await;
    for seq in 0..3 {
        let request = AppendRequest {
            producer: Some(producer("p", 4, seq)),
            stream_seq: Some(format!("{seq:03}").into()),
            ..bytes("step ")
        };
        rig.engine
            .append(&name("runs/1"), request)
            .await
            .expect("appended");
        rig.clock.advance_millis(500);
    }
    rig.close("runs/1").await.expect("closed");
    rig.create("empty").await.expect("created");
}

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
fn forks_share_their_sources_bytes_elsewhere_too() {
    over_all(async |rig: Rig| {
        rig.create("z/source").await.expect("created");
        rig.append("z/source", "inherited ").await.expect("appended");
        rig.fork("a/fork", "z/source").await.expect("forked");
        rig.append("a/fork", "own ").await.expect("appended");
        rig.fork("a/twice", "a/fork").await.expect("forked");
        rig.append("z/source", "later").await.expect("appended");
        let sections = export(&rig, "").await;
        let order: Vec<_> = sections
            .iter()
            .map(|section| section.stream.state.name.as_str())
            .collect();
        assert_eq!(order, ["z/source", "a/fork", "a/twice"], "sources come first");
        let there = other();
        import_all(&there, &sections).await;
        assert_eq!(said(export(&there, "").await), said(sections));
        assert_eq!(there.text("a/twice").await, "inherited own ");
        assert_eq!(there.text("z/source").await, "inherited later");
        // What is shared is kept, and goes with the last that shares it.
        there.delete("z/source").await;
        there.delete("a/fork").await;
        assert_eq!(there.text("a/twice").await, "inherited own ");
        assert!(matches!(
            there.engine.look(&name("z/source")).await,
            Err(OpenError::Gone)
        ));
        there.delete("a/twice").await;
        there.sweep().await;
        assert_eq!(there.usage(), (0, 0));
    });
}

#[test]
fn a_deleted_source_is_exported_for_its_forks_and_goes_with_them() {
    over_all(async |rig: Rig| {
        rig.create("source").await.expect("created");
        rig.append("source", "inherited").await.expect("appended");
        rig.fork("fork", "source").await.expect("forked");
        rig.delete("source").await;
        let there = other();
        let sections = export(&rig, "").await;
        assert_eq!(sections.len(), 2);
        import_all(&there, &sections).await;
        assert_eq!(there.text("fork").await, "inherited");
        assert!(matches!(
            there.engine.look(&name("source")).await,
            Err(OpenError::Gone)
        ));
        there.delete("fork").await;
        there.sweep().await;
        assert_eq!(there.usage(), (0, 0));
    });
}

#[test]
fn a_deleted_source_whose_forks_do_not_come_is_not_kept() {
    over_all(async |rig: Rig| {
        rig.create("source").await.expect("created");
        rig.append("source", "inherited").await.expect("appended");
        rig.fork("fork", "source").await.expect("forked");
        rig.delete("source").await;
        let there = other();
        import_all(&there, &export(&rig, "").await[..1]).await;
        there.sweep().await;
        assert_eq!(there.usage(), (0, 0));
    });
}

#[test]
fn a_fork_whose_source_is_not_selected_takes_all_bytes_with_it() {
    over_all(async |rig: Rig| {
        rig.create("templates/1").await.expect("created");
        rig.append("templates/1", "inherited ").await.expect("appended");
        rig.fork("runs/1", "templates/1").await.expect("forked");
        rig.append("runs/1", "own").await.expect("appended");
        let token = rig.look("runs/1").await.incarnation().token(at(3));
        let sections = export(&rig, "runs/").await;
        assert_eq!(sections.len(), 1);
        let there = other();
        import_all(&there, &sections).await;
        assert_eq!(there.text("runs/1").await, "inherited own");
        assert_eq!(there.look("runs/1").await.incarnation().token(at(3)), token);
        // A repeated request to create it is known by what it asked for.
        assert!(!there.fork("runs/1", "templates/1").await.expect("exists").new);
        there.delete("runs/1").await;
        there.sweep().await;
        assert_eq!(there.usage(), (0, 0));
    });
}

/// A fork keeps what its source has trimmed since, so the source's export does not have it.
#[test]
fn a_fork_that_reads_what_its_source_trimmed_takes_those_bytes_with_it() {
    over_all(async |rig: Rig| {
        rig.create("source").await.expect("created");
        for body in ["old ", "new "] {
            rig.append("source", body).await.expect("appended");
        }
        rig.fork("fork", "source").await.expect("forked");
        rig.trim("source", 4).await;
        let there = other();
        import_all(&there, &export(&rig, "").await).await;
        assert_eq!(there.text("fork").await, "old new ");
        assert_eq!(there.text("source").await, "new ");
    });
}

#[test]
fn a_fork_that_cuts_a_message_is_the_same_elsewhere() {
    over_all(async |rig: Rig| {
        rig.create("templates/1").await.expect("created");
        rig.append("templates/1", "0123456789").await.expect("appended");
        let cut = fork_of("templates/1", Some(OffsetToken::START), 4);
        rig.create_with("runs/1", cut).await.expect("forked");
        rig.append("runs/1", "x").await.expect("appended");
        for prefix in ["", "runs/"] {
            let sections = export(&rig, prefix).await;
            let there = other();
            import_all(&there, &sections).await;
            assert_eq!(there.text("runs/1").await, "0123x");
            assert_eq!(said(export(&there, prefix).await), said(sections));
        }
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
                assert_eq!(result.expect("no conflict"), Begun::Present);
            }
        }
        assert_eq!(there.usage(), usage);
        // Also a fork that was left out finds its source.
        there.delete("fork").await;
        let results = import(&there, &sections, Existing::Refuse).await;
        let staged = results
            .iter()
            .filter(|result| matches!(result, Ok(Begun::Staged)));
        assert_eq!(staged.count(), 1);
        assert_eq!(there.text("fork").await, "step step step ");
    });
}

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
        assert!(matches!(replaced[..], [Ok(Begun::Staged)]), "{replaced:?}");
        assert!(old.incarnation().view().deleted, "its readers are told");
        drop(old);
        rig.sweep().await;
        assert_eq!(rig.text("a").await, "imported");
        assert_eq!(rig.usage().0, with_one.0, "the old one is gone");
    });
}

#[test]
fn a_replaced_stream_stays_for_its_forks() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        rig.create("a").await.expect("created");
        rig.append("a", "inherited").await.expect("appended");
        rig.fork("fork", "a").await.expect("forked");
        let sections = export(&elsewhere, "").await;
        import(&rig, &sections, Existing::Replace)
            .await
            .remove(0)
            .expect("imported");
        assert_eq!(
            (rig.text("a").await.as_str(), rig.text("fork").await.as_str()),
            ("", "inherited")
        );
        rig.delete("fork").await;
        rig.sweep().await;
        assert_eq!(rig.usage().0, 1);
        rig.delete("a").await;
        rig.sweep().await;
        assert_eq!(rig.usage(), (0, 0));
    });
}

#[test]
fn a_name_that_is_held_by_forks_is_taken_only_to_replace() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        rig.create("a").await.expect("created");
        rig.append("a", "inherited").await.expect("appended");
        rig.fork("fork", "a").await.expect("forked");
        rig.delete("a").await;
        let sections = export(&elsewhere, "").await;
        let refused = import(&rig, &sections, Existing::Refuse).await;
        assert!(
            matches!(refused[..], [Err(ImportError::HeldByForks)]),
            "{refused:?}"
        );
        import(&rig, &sections, Existing::Replace)
            .await
            .remove(0)
            .expect("imported");
        assert_eq!(
            (rig.text("a").await.as_str(), rig.text("fork").await.as_str()),
            ("", "inherited")
        );
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
            gate.hold();
            assert!(waits(finish.as_mut()).await);
            gate.wait_at_gate(0);
            assert_eq!(text_of(&old).await, "kept, and goes on");
            assert!(!old.incarnation().view().deleted);
            gate.open();
            finish.await.expect("imported");
        }
        assert!(old.incarnation().view().deleted);
        assert_eq!(rig.text("a").await, "");
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
fn a_source_that_is_deleted_meanwhile_is_not_forked() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        elsewhere.append("a", "inherited").await.expect("appended");
        elsewhere.fork("fork", "a").await.expect("forked");
        let sections = export(&elsewhere, "").await;
        let mut importer = rig.engine.import(Existing::Refuse);
        importer.begin(sections[0].stream.clone()).await.expect("begun");
        importer
            .append(sections[0].appends[0].clone())
            .await
            .expect("taken");
        importer.finish().await.expect("imported");
        // Begun while its source is there, it holds it.
        importer.begin(sections[1].stream.clone()).await.expect("begun");
        rig.delete("a").await;
        rig.sweep().await;
        importer.finish().await.expect("imported");
        assert_eq!(rig.text("fork").await, "inherited");
        rig.delete("fork").await;
        let gone = importer.begin(sections[1].stream.clone()).await;
        assert!(matches!(gone, Err(ImportError::NoSource { .. })), "{gone:?}");
    });
}

#[test]
fn a_fork_is_refused_if_its_source_is_another_stream_here() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        elsewhere.append("a", "inherited").await.expect("appended");
        elsewhere.fork("fork", "a").await.expect("forked");
        let mut sections = export(&elsewhere, "").await;
        let without = import(&rig, &sections[1..], Existing::Refuse).await;
        assert!(
            matches!(without[..], [Err(ImportError::NoSource { .. })]),
            "{without:?}"
        );
        let stranger = StreamId::new(77).expect("an id");
        sections[0].state().lineage = tailwater_storage::stream::Lineage::root(stranger);
        let results = import(&rig, &sections, Existing::Refuse).await;
        assert!(
            matches!(
                results[..],
                [Ok(Begun::Staged), Err(ImportError::OtherSource { .. })]
            ),
            "{results:?}"
        );
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

/// A fork is exported twice, or without its source, if the order does not mind what happens meanwhile.
#[test]
fn a_fork_made_of_what_was_exported_before_takes_its_bytes_with_it() {
    over_all(async |rig: Rig| {
        rig.create("a").await.expect("created");
        rig.append("a", "early ").await.expect("appended");
        let mut exporter = rig.engine.export("");
        let mut sections = Vec::new();
        while let Some(mut export) = exporter.next().await.expect("works") {
            let mut appends = Vec::new();
            while let Some(append) = export.next().await.expect("held") {
                appends.push(append);
            }
            sections.push(Section {
                stream: export.stream().clone(),
                controls: Vec::new(),
                appends,
            });
            if sections.len() == 1 {
                rig.append("a", "late ").await.expect("appended");
                rig.fork("b/fork", "a").await.expect("forked");
                // Pages are read ahead, so that the fork may be seen only by a new export.
            }
        }
        let there = other();
        import_all(&there, &sections).await;
        assert_eq!(there.text("a").await, "early ");
        import_all(&there, &export(&rig, "b/").await).await;
        assert_eq!(there.text("b/fork").await, "early late ");
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
