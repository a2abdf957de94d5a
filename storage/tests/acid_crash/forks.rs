//! Names that lead to another shard than their own.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::Backend;
use tailwater_storage::acid::{self, AcidOptions, AcidStore};
use tailwater_storage::backend::ListRequest;
use tailwater_storage::disk::Disk;
use tailwater_storage::engine::{CreateError, EngineError, Origin, Settled};
use tailwater_storage::stream::{CreateCommand, StreamId, StreamKind};

use super::history::Crash;
use crate::author::{Author, load, name};
use crate::support::ask::{Rig, fork_of, json, run};
use crate::support::faulty_disk::FaultyDisk;

fn open(disk: &Arc<FaultyDisk>) -> Arc<AcidStore> {
    let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
    let options = AcidOptions {
        shard_count: 4,
        ..AcidOptions::new("/data".into())
    };
    Arc::new(AcidStore::open_unlocked(&disk, &options).expect("it opens"))
}

/// A name whose shard is not that of the stream `source`.
fn name_elsewhere(store: &AcidStore) -> String {
    let place =
        |text: &str| StreamId::new(store.next_id(1, &name(text), None)).map(|id| store.partition_of(id));
    let mut names = (0..).map(|number| format!("fork/{number}"));
    names
        .find(|fork| place(fork) != place("source"))
        .expect("one of them")
}

/// The name was noted after the fork was: a crash in between left a fork that nobody could find.
#[test]
fn wherever_the_machine_stops_while_a_fork_is_made_its_name_leads_to_it_or_to_nothing() {
    let disk = FaultyDisk::new(1);
    let fork = name_elsewhere(&open(&disk));
    run(async {
        let rig = Rig::over(open(&disk));
        rig.create("source").await.expect("created");
        stop(rig);
        let (mut found, mut missing) = (0, 0);
        for cut in 1.. {
            let begun = disk.crash_process();
            let rig = Rig::over(open(&begun));
            begun.cut_at(begun.operations() + cut);
            let is_made = rig.fork(&fork, "source").await.is_ok();
            let crash = if cut % 2 == 0 {
                Crash::Process
            } else {
                Crash::Machine
            };
            let crashed = crash.of(&begun);
            stop(rig);
            let store = open(&crashed);
            let listed = store.list(&everything()).expect("it can be read");
            let is_listed = listed.iter().any(|state| state.name.as_str() == fork);
            assert_eq!(load(store.as_ref(), &fork).is_some(), is_listed, "cut at {cut}");
            assert!(is_listed || !is_made, "cut at {cut}");
            if is_listed {
                found += 1;
            } else {
                missing += 1;
            }
            if is_made {
                break;
            }
        }
        assert!(found > 0 && missing > 1, "{found} and {missing}");
    });
}

/// The names that lead to where no stream has them, as a check tells of them.
fn led_to_nothing(disk: &FaultyDisk) -> Vec<String> {
    let report = acid::verify(disk, Path::new("/data")).expect("it can be looked at");
    assert_eq!(report.damage, [""; 0]);
    report.notes
}

/// Where the name of a fork leads stayed for ever.
#[test]
fn wherever_the_machine_stops_while_a_fork_is_removed_its_name_leads_nowhere_in_the_end() {
    let disk = FaultyDisk::new(4);
    let fork = name_elsewhere(&open(&disk));
    run(async {
        let rig = Rig::over(open(&disk));
        rig.create("source").await.expect("created");
        rig.fork(&fork, "source").await.expect("forked");
        stop(rig);
        assert_eq!(led_to_nothing(&disk), [""; 0]);
        for cut in 1.. {
            let begun = disk.crash_process();
            let rig = Rig::over(open(&begun));
            begun.cut_at(begun.operations() + cut);
            let is_deleted = rig.engine.delete(&name(&fork)).await.is_ok();
            rig.engine.sweep().await.ok();
            let has_stopped = begun.has_stopped();
            let crashed = match cut % 2 {
                0 => Crash::Process.of(&begun),
                _ => Crash::Machine.of(&begun),
            };
            stop(rig);
            let rig = Rig::over(open(&crashed));
            // The start goes on with what is deleted.
            rig.sweep().await;
            let is_there = rig.engine.look(&name(&fork)).await.is_ok();
            assert!(!(is_there && is_deleted), "cut at {cut}");
            if !is_there {
                // The name is free, and leads to another one again.
                rig.fork(&fork, "source").await.expect("forked");
            }
            stop(rig);
            let rig = Rig::over(open(&crashed));
            rig.look(&fork).await;
            rig.delete(&fork).await;
            rig.sweep().await;
            stop(rig);
            assert_eq!(led_to_nothing(&crashed), [""; 0], "cut at {cut}");
            if !has_stopped {
                break;
            }
        }
    });
}

/// A fork that is refused once its name leads to where it was to stand.
#[test]
fn the_name_of_a_fork_that_is_not_made_leads_nowhere() {
    let disk = FaultyDisk::new(5);
    let fork = name_elsewhere(&open(&disk));
    run(async {
        let rig = Rig::over(open(&disk));
        rig.create_json("source").await;
        let command = CreateCommand {
            content_type: Some(json()),
            body: Bytes::from_static(b"no JSON"),
            ..fork_of("source", None, 0)
        };
        let refused = rig.create_with(&fork, command).await;
        assert!(matches!(refused, Err(CreateError::Refused(_))), "{refused:?}");
        rig.sweep().await;
        stop(rig);
        assert_eq!(led_to_nothing(&disk), [""; 0]);
    });
}

/// A client has led the name and makes nothing yet; meanwhile another one's fork of that name comes and goes.
#[test]
fn a_name_leads_where_a_stream_may_still_be_made_though_another_of_that_name_goes() {
    let disk = FaultyDisk::new(6);
    let text = name_elsewhere(&open(&disk));
    run(async {
        let rig = Rig::over(open(&disk));
        rig.create("source").await.expect("created");
        let source = rig.look("source").await.incarnation().id;
        let names = [name(&text)];
        let held = rig.engine.hold_beside(&names, &name("source"), source).await;
        let held = held.expect("led");
        rig.fork(&text, "source").await.expect("forked");
        rig.delete(&text).await;
        rig.sweep().await;
        let drafted = rig.engine.together(&held, |draft| {
            let made = draft.create(0, StreamKind::Plain, &Origin::new(json()));
            made.expect("the name is free");
            Ok::<_, EngineError>(())
        });
        let ((), settling) = drafted.expect("queued");
        assert_eq!(settling.settled().await, Settled::Durable);
        drop(held);
        stop(rig);
        let rig = Rig::over(open(&disk));
        rig.look(&text).await;
        stop(rig);
    });
}

/// Only what no stream needs goes.
#[test]
fn a_name_that_leads_to_several_shards_ceases_to_lead_to_those_that_have_none() {
    let store = open(&FaultyDisk::new(7));
    let mut author = Author::default();
    author.part_by(2);
    let places: Vec<_> = (256..260).filter_map(StreamId::new).collect();
    let text = "fork/1";
    author.go_to(1);
    let (old, create) = author.create(text);
    let delete = author.delete(old);
    for place in places.iter().chain([&old]) {
        store.lead(&[name(text)], *place).expect("led");
    }
    store
        .commit(store.partition_of(old), &[create, delete])
        .expect("committed");
    author.go_to(2);
    let (id, create) = author.create(text);
    store.lead(&[name(text)], id).expect("led");
    store
        .commit(store.partition_of(id), &[create])
        .expect("committed");
    let found = || load(store.as_ref(), text).map(|state| state.id);
    for released in [None, Some(old)] {
        store.end_leads(&name(text), released).expect("written");
        assert_eq!(found(), Some(id));
    }
    store.release(old).expect("released");
    store.end_leads(&name(text), None).expect("written");
    assert_eq!(found(), Some(id));
    assert_eq!(store.led_name(id).expect("readable"), Some(name(text)));
    store.end_leads(&name(text), Some(id)).expect("written");
    assert_eq!(store.led_name(id).expect("readable"), None);
}

fn everything() -> ListRequest<'static> {
    ListRequest {
        prefix: "",
        after: None,
        count_max: 100,
    }
}

/// Ends an engine, and with it all who use its store.
fn stop(rig: Rig) {
    let Rig { engine, .. } = rig;
    engine.stop();
}

/// Two clients forked two streams to one name at once. Each led the name to its own source's shard, the first one made its
/// fork, and the second one's lead stayed: once it was not open any more, the fork was listed and could not be found.
#[test]
fn a_name_leads_to_its_stream_though_it_was_led_elsewhere_later() {
    let store = open(&FaultyDisk::new(2));
    let places: Vec<_> = (256..260).filter_map(StreamId::new).collect();
    let mut author = Author::default();
    author.part_by(2);
    for (number, place) in places.iter().enumerate() {
        let fork = format!("fork/{number}");
        author.go_to(place.get() % 4);
        let (id, create) = author.create(&fork);
        for place in places.iter().chain([&id]).chain(&places) {
            store.lead(&[name(&fork)], *place).expect("led");
        }
        let partition = store.partition_of(id);
        store.commit(partition, &[create]).expect("committed");
        let found = load(store.as_ref(), &fork).expect("it is there");
        assert_eq!(found.id, id);
    }
}

/// A name that a deleted stream keeps, because it has forks, can be given to an imported one, which may stand in another
/// shard. It was looked up in the name's own shard alone, where the deleted one stood.
#[test]
fn a_name_leads_to_the_newest_stream_that_has_it() {
    let store = open(&FaultyDisk::new(3));
    let mut author = Author::default();
    author.part_by(2);
    for number in 0..4 {
        let text = format!("s/{number}");
        let mut newest = None;
        for place in [0, 1, 2, 3, 0] {
            if let Some(old) = newest {
                let delete = author.delete(old);
                store
                    .commit(store.partition_of(old), &[delete])
                    .expect("committed");
            }
            author.go_to(place);
            let (id, create) = author.create(&text);
            store.lead(&[name(&text)], id).expect("led");
            store
                .commit(store.partition_of(id), &[create])
                .expect("committed");
            newest = Some(id);
            assert_eq!(load(store.as_ref(), &text).map(|state| state.id), newest);
        }
    }
}
