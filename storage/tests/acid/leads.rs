//! Names, and all names below a prefix, that lead to another shard than their own.

use std::pin::pin;
use std::sync::Arc;

use tailwater_storage::Backend as _;
use tailwater_storage::engine::{EngineError, Held, Origin, Settled, Settling};
use tailwater_storage::stream::{StreamId, StreamKind};

use crate::support::ask::{Rig, json, name, run, until, waits};
use crate::support::faulty_disk::FaultyDisk;
use crate::support::gated_disk::GatedDisk;
use crate::{open, stop, try_open};

/// A queue, and the names of its runs, whose own places are all over the shards.
async fn hold_runs(rig: &Rig, count: usize) -> Vec<Held> {
    let queue = rig.look("queue").await.incarnation().id;
    let runs: Vec<_> = (0..count)
        .map(|number| name(&format!("runs/queue/{number}")))
        .collect();
    let held = rig.engine.hold_beside(&runs, &name("queue"), queue).await;
    held.expect("led")
}

fn begin_runs(rig: &Rig, held: &[Held]) -> Settling {
    let drafted = rig.engine.together(held, |draft| {
        for nth in 0..held.len() {
            draft
                .create(nth, StreamKind::Run, &Origin::new(json()))
                .expect("the name is free");
        }
        Ok::<_, EngineError>(())
    });
    drafted.expect("queued").1
}

/// How many operations of the disk one commit takes to one shard, with some to spare.
const COMMIT_OPERATIONS: u64 = 60;

/// To lead 256 names took a commit for each.
#[test]
fn many_runs_are_placed_beside_their_queue_with_one_commit_for_each_shard_or_none() {
    for below_a_prefix in [false, true] {
        let disk = FaultyDisk::new(8);
        run(async {
            let rig = open(&disk);
            rig.create_json("queue").await;
            let queue = rig.look("queue").await.incarnation().id;
            if below_a_prefix {
                rig.engine.lead_below("runs/queue/", queue).await.expect("led");
            }
            let before = disk.operations();
            let held = hold_runs(&rig, 256).await;
            let operations = disk.operations() - before;
            if below_a_prefix {
                assert_eq!(operations, 0);
            } else {
                assert!((1..3 * COMMIT_OPERATIONS).contains(&operations), "{operations}");
            }
            assert_eq!(begin_runs(&rig, &held).settled().await, Settled::Durable);
            stop(rig);
            let rig = open(&disk);
            for held in &held {
                let reader = rig.engine.look(held.name()).await.expect("it is found");
                assert!(rig.engine.are_together(reader.incarnation().id, queue));
            }
            // What is led already is not led again.
            let before = disk.operations();
            hold_runs(&rig, 300).await;
            let operations = disk.operations() - before;
            assert!(operations < 3 * COMMIT_OPERATIONS, "{operations}");
            let listed = rig.engine.list("runs/", None, 1_000).await.expect("works");
            assert_eq!(listed.streams.len(), 256);
            assert!(listed.streams.iter().all(|run| run.kind == StreamKind::Run));
            stop(rig);
        });
    }
}

#[test]
fn who_has_a_name_below_a_prefix_is_found_wherever_it_stands() {
    let disk = FaultyDisk::new(9);
    run(async {
        let rig = open(&disk);
        rig.create_json("queue").await;
        let queue = rig.look("queue").await.incarnation().id;
        for number in (0..40).step_by(2) {
            rig.create(&format!("runs/queue/{number}"))
                .await
                .expect("created");
        }
        rig.engine.lead_below("runs/queue/", queue).await.expect("led");
        let held = hold_runs(&rig, 40).await;
        let mut taken = 0;
        let drafted = rig.engine.together(&held, |draft| {
            for nth in 0..held.len() {
                let created = draft.create(nth, StreamKind::Run, &Origin::new(json()));
                taken += usize::from(created.is_err());
            }
            Ok::<_, EngineError>(())
        });
        let ((), settling) = drafted.expect("queued");
        assert_eq!(settling.settled().await, Settled::Durable);
        assert_eq!(taken, 20);
        stop(rig);
        let rig = open(&disk);
        for number in 0..40 {
            let reader = rig.look(&format!("runs/queue/{number}")).await;
            let kind = if number % 2 == 0 {
                StreamKind::Plain
            } else {
                StreamKind::Run
            };
            assert_eq!(reader.incarnation().kind, kind, "{number}");
        }
        // Only whole segments count.
        rig.create("runs/queued").await.expect("created");
        rig.create("runs").await.expect("created");
        stop(rig);
    });
}

/// Nobody but the name's sequencer knows of the fork that is queued.
#[test]
fn a_name_leads_to_a_fork_whose_client_has_gone_away_meanwhile() {
    let disk = FaultyDisk::new(11);
    let store = try_open(&disk, 4).expect("made");
    let place = |text: &str| {
        let id = StreamId::new(store.next_id(1, &name(text), None)).expect("an id");
        store.partition_of(id)
    };
    let source = place("source");
    let mut forks = (0..).map(|number| format!("fork/{number}"));
    let fork = forks.find(|fork| place(fork) != source).expect("one of them");
    drop(store);
    let shard = format!("/data/acid/shards-004/{source:03}.redb");
    let (gated, gate) = GatedDisk::new(Arc::clone(&disk), &shard);
    run(async {
        let rig = Rig::over(Arc::new(try_open(&gated, 4).expect("the store opens")));
        rig.create("source").await.expect("created");
        let held = gate.hold_syncs();
        {
            let mut create = pin!(rig.fork(&fork, "source"));
            while !gate.is_reached() {
                assert!(waits(create.as_mut()).await, "the sync is waited for");
                tokio::task::yield_now().await;
            }
        }
        rig.sweep().await;
        drop(held);
        until(|| async { rig.engine.look(&name(&fork)).await.is_ok() }).await;
        stop(rig);
        let rig = open(&disk);
        rig.look(&fork).await;
        stop(rig);
    });
}

/// A prefix of each queue that there ever was stayed, on the disk and in memory, and every start read all of them.
#[test]
fn a_prefix_that_nobody_uses_any_more_ceases_to_lead() {
    let disk = FaultyDisk::new(10);
    run(async {
        let rig = open(&disk);
        rig.create_json("queue").await;
        let queue = rig.look("queue").await.incarnation().id;
        for prefix in ["runs/queue/", "gone/", "led/", "held/"] {
            rig.engine.lead_below(prefix, queue).await.expect("led");
        }
        let runs = hold_runs(&rig, 4).await;
        assert_eq!(begin_runs(&rig, &runs).settled().await, Settled::Durable);
        drop(runs);
        stop(rig);

        let rig = open(&disk);
        rig.engine.lead_below("led/", queue).await.expect("led");
        // They lead there by their prefix, and are made only afterwards.
        let names = ["held/1", "held/2"].map(name);
        let held = rig.engine.hold_beside(&names, &name("queue"), queue).await;
        let held = held.expect("led");
        for _ in 0..64 {
            rig.sweep().await;
        }
        assert_eq!(begin_runs(&rig, &held).settled().await, Settled::Durable);
        drop(held);
        stop(rig);

        let rig = open(&disk);
        for number in 0..4 {
            rig.look(&format!("runs/queue/{number}")).await;
        }
        for held in names {
            rig.look(held.as_str()).await;
        }
        for (prefix, leads) in [
            ("runs/queue/", true),
            ("led/", true),
            ("held/", true),
            ("gone/", false),
        ] {
            let before = disk.operations();
            rig.engine.lead_below(prefix, queue).await.expect("led");
            assert_eq!(disk.operations() == before, leads, "{prefix} leads there still");
        }
        stop(rig);
    });
}

/// They were answered as if the storage had failed; and each attempt had the shard opened anew, and all of it read.
#[test]
fn names_that_there_is_no_room_to_lead_are_refused_before_anything_is_written() {
    let disk = FaultyDisk::new(9);
    run(async {
        let rig = open(&disk);
        rig.create_json("queue").await;
        let queue = rig.look("queue").await.incarnation().id;
        let long = format!("{}/", "a-long-name-".repeat(70));
        let lead = async |round: usize| {
            let names: Vec<_> = (0..64)
                .map(|number| name(&format!("{long}{round}/{number}")))
                .collect();
            let held = rig.engine.hold_beside(&names, &name("queue"), queue).await;
            assert!(matches!(held, Ok(_) | Err(EngineError::Full)), "{held:?}");
            held.is_ok()
        };
        assert!(lead(0).await, "there is room");
        // What was freed within a shard is used first.
        let mut rounds = 1..200;
        let writes_nothing = async |round| {
            // What a shard that finds no space gives back is taken by somebody else.
            disk.set_free_bytes(Some(0));
            let before = disk.operations();
            !lead(round).await && disk.operations() == before
        };
        while !writes_nothing(rounds.next().expect("the disk is full by now")).await {}
        for round in rounds.by_ref().take(8) {
            assert!(writes_nothing(round).await, "round {round}");
        }
        // Each prefix is one name, and stands in some shard.
        let mut below = 0;
        while rig
            .engine
            .lead_below(&format!("{long}{below}/"), queue)
            .await
            .is_ok()
        {
            below += 1;
        }
        let led = rig.engine.lead_below(&format!("{long}{below}/"), queue).await;
        assert!(matches!(led, Err(EngineError::Full)), "{led:?}");
        disk.set_free_bytes(None);
        assert!(lead(200).await, "there is room again");
    });
}
