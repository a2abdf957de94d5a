//! Names that lead to another shard than their own.

use std::sync::Arc;

use tailwater_storage::Backend;
use tailwater_storage::acid::{AcidOptions, AcidStore};
use tailwater_storage::backend::ListRequest;
use tailwater_storage::disk::Disk;
use tailwater_storage::stream::StreamId;

use super::history::Crash;
use crate::author::{Author, load, name};
use crate::support::ask::{Rig, run};
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
