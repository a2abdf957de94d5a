//! Forks and their sources: shared where both are imported, and whole where one is.

use tailwater_storage::engine::{Existing, Finished, ImportError, OpenError};
use tailwater_storage::stream::{OffsetToken, StreamId};

use super::{Section, export, import, import_all, other, said};
use crate::support::ask::{Rig, at, fork_of, name, run};
use crate::{over_all, over_shards};

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

/// No record lies in two partitions, and a fork lies in that of its source.
#[test]
fn a_fork_replaces_no_stream_that_stands_elsewhere_than_its_source() {
    run(async {
        let rig = other();
        rig.create("a/source").await.expect("created");
        rig.append("a/source", "new").await.expect("appended");
        let forks: Vec<_> = (0..8).map(|number| format!("fork/{number}")).collect();
        for fork in &forks {
            rig.fork(fork, "a/source").await.expect("forked");
        }
        let there = over_shards();
        for fork in &forks {
            there.create_living(fork, 60).await;
            there.append(fork, "old").await.expect("appended");
        }
        let sections = export(&rig, "").await;
        let results = import(&there, &sections, Existing::Replace).await;
        let mut kept = 0;
        for (section, result) in sections.iter().zip(results) {
            let name = section.stream.state.name.as_str();
            match result {
                Ok(_) => assert_eq!(there.text(name).await, "new"),
                Err(ImportError::Apart { beside }) => {
                    assert_eq!(beside.as_str(), "a/source");
                    assert_eq!(there.text(name).await, "old");
                    kept += 1;
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
        assert!(
            (1..forks.len()).contains(&kept),
            "{kept} forks would be elsewhere"
        );
        // One whose lifetime is over is nobody's to keep.
        there.clock.advance_millis(61_000);
        for result in import(&there, &sections, Existing::Refuse).await {
            result.expect("imported, or there already");
        }
        for fork in &forks {
            assert_eq!(there.text(fork).await, "new");
        }
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

/// It was once imported all the same, and its beginning could never be read.
#[test]
fn a_fork_is_refused_if_what_it_inherits_was_trimmed_meanwhile() {
    over_all(async |rig: Rig| {
        let elsewhere = other();
        elsewhere.create("a").await.expect("created");
        elsewhere.append("a", "old ").await.expect("appended");
        elsewhere.append("a", "new ").await.expect("appended");
        for fork in ["fork/1", "fork/2"] {
            elsewhere.fork(fork, "a").await.expect("forked");
        }
        elsewhere.trim("fork/2", 4).await;
        let sections = export(&elsewhere, "").await;
        let mut importer = rig.engine.import(Existing::Refuse);
        importer.begin(sections[0].stream.clone()).await.expect("begun");
        for append in &sections[0].appends {
            importer.append(append.clone()).await.expect("taken");
        }
        importer.finish().await.expect("imported");
        rig.trim("a", 4).await;
        rig.sweep().await;
        let refused = importer.begin(sections[1].stream.clone()).await;
        let Err(ImportError::TrimmedSource { source_name, oldest }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((source_name, oldest), (name("a"), at(4)));
        // This one never reads what is gone.
        importer.begin(sections[2].stream.clone()).await.expect("begun");
        importer.finish().await.expect("imported");
        assert_eq!(rig.text("fork/2").await, "new ");
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
                [Ok(Finished::Imported), Err(ImportError::OtherSource { .. })]
            ),
            "{results:?}"
        );
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
