//! Many writers on real threads: one order for each stream, nothing lost, nothing twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use tailwater_storage::engine::{AppendError, AppendRequest};
use tailwater_storage::stream::AppendRefusal;
use tailwater_storage::{Backend, EngineLimits, Memory};
use tokio::runtime::Runtime;

use crate::support::ask::run;
use crate::support::ask::{Rig, bytes, fork_of, name, producer, text_of};
use crate::support::gated::Gated;

const WRITERS: u64 = 6;
const ROUNDS: u64 = 150;

/// Engines over every kind of backend; of those with committers, one publishes on their threads and the others in
/// a task of a runtime.
fn rigs() -> [Rig; 4] {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).build().expect("a runtime can be made")
    });
    // Few streams are held, so that sweeps evict what writers come back to.
    let limits = EngineLimits {
        open_streams_max: 1,
        ..EngineLimits::default()
    };
    let alone = Rig::limited(Gated::new(1 << 30), limits);
    let _entered = RUNTIME.enter();
    let backends: [Arc<dyn Backend>; 3] = [
        Arc::new(Memory::new(1 << 30)),
        Gated::new(1 << 30),
        Gated::slow(1 << 30),
    ];
    let [memory, gated, slow] = backends.map(|backend| Rig::limited(backend, limits));
    [memory, alone, gated, slow]
}

/// Runs a task for each writer, each on its own thread and runtime, while another one sweeps.
fn writers(rig: &Rig, task: impl AsyncFn(u64) + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            run(async {
                while !done.load(Ordering::SeqCst) {
                    rig.sweep().await;
                    std::thread::yield_now();
                }
            });
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let task = &task;
                    move || run(async { task(writer).await })
                })
            })
            .collect();
        let ended: Vec<_> = writers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::SeqCst);
        for writer in ended {
            writer.expect("the writer is content");
        }
    });
}

#[test]
fn appends_of_many_writers_are_dense_and_all_that_was_acknowledged_is_there_in_order() {
    for rig in rigs() {
        run(async { drop(rig.create("a").await.expect("created")) });
        let acknowledged = std::sync::Mutex::new(BTreeMap::new());
        writers(&rig, async |writer| {
            for round in 0..ROUNDS {
                let body = format!("{writer}.{round};");
                let tail = rig
                    .append("a", &body)
                    .await
                    .expect("appended")
                    .tail
                    .position()
                    .get();
                let before = acknowledged.lock().expect("no panic").insert(tail, body);
                assert_eq!(before, None, "two appends end at the same place");
            }
        });
        run(async {
            let text = rig.text("a").await;
            let acknowledged = acknowledged.lock().expect("no panic");
            let mut start = 0;
            for (end, body) in acknowledged.iter() {
                assert_eq!(&text[start..*end as usize], body);
                start = *end as usize;
            }
            assert_eq!(
                start,
                text.len(),
                "nothing stands there that was not acknowledged"
            );
            assert_eq!(acknowledged.len() as u64, WRITERS * ROUNDS);
            let mut last = vec![None; WRITERS as usize];
            for body in acknowledged.values() {
                let (writer, round) = body.trim_end_matches(';').split_once('.').expect("two numbers");
                let (writer, round): (usize, u64) =
                    (writer.parse().expect("one"), round.parse().expect("two"));
                assert!(last[writer] < Some(round), "a writer's appends keep their order");
                last[writer] = Some(round);
            }
        });
        rig.engine.stop();
    }
}

#[test]
fn retries_of_many_producers_are_there_once() {
    for rig in rigs() {
        run(async { drop(rig.create("a").await.expect("created")) });
        // Two writers share each producer and send the same requests.
        writers(&rig, async |writer| {
            let id = format!("p{}", writer / 2);
            let mut seq = 0;
            while seq < ROUNDS {
                let request = AppendRequest {
                    producer: Some(producer(&id, 0, seq)),
                    ..bytes(&format!("{id}.{seq};"))
                };
                match rig.engine.append(&name("a"), request).await {
                    Ok(appended) => {
                        let (_, highest) = appended.producer.expect("a producer's answer");
                        assert!(highest.get() >= seq);
                        seq += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
        run(async {
            let text = rig.text("a").await;
            for pair in 0..WRITERS / 2 {
                let of_pair = text
                    .split_terminator(';')
                    .filter(|body| body.starts_with(&format!("p{pair}.")));
                let expected = (0..ROUNDS).map(|seq| format!("p{pair}.{seq}"));
                assert!(of_pair.eq(expected), "in order, once each");
            }
        });
        rig.engine.stop();
    }
}

#[test]
fn stream_seq_grows_whoever_writes() {
    for rig in rigs() {
        run(async { drop(rig.create("a").await.expect("created")) });
        let accepted = std::sync::Mutex::new(BTreeMap::new());
        writers(&rig, async |writer| {
            for round in 0..ROUNDS {
                let seq = format!("{:08}", round * WRITERS + writer);
                let request = AppendRequest {
                    stream_seq: Some(seq.as_str().into()),
                    ..bytes("x")
                };
                match rig.engine.append(&name("a"), request).await {
                    Ok(appended) => {
                        accepted.lock().expect("no panic").insert(appended.tail, seq);
                    }
                    Err(AppendError::Refused(AppendRefusal::StreamSeq { last })) => assert!(*last >= *seq),
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
        let accepted = accepted.into_inner().expect("no panic");
        assert!(accepted.values().is_sorted_by(|a, b| a < b), "{accepted:?}");
        assert!(
            accepted.len() as u64 >= ROUNDS,
            "every round had one that was new"
        );
        rig.engine.stop();
    }
}

#[test]
fn forks_of_streams_that_come_and_go_read_all_they_inherit() {
    for rig in rigs() {
        writers(&rig, async |writer| {
            for round in 0..ROUNDS / 3 {
                if writer % 2 == 0 {
                    // Whoever made it: all of its contents are `x`.
                    let _ = rig.create("a").await;
                    let _ = rig.append("a", &"x".repeat(100)).await;
                    if let Ok(reader) = rig.engine.look(&name("a")).await {
                        let token = reader.incarnation().token(reader.incarnation().view().tail);
                        let _ = rig.engine.trim(&name("a"), token).await;
                    }
                    let _ = rig.append("a", &"x".repeat(50)).await;
                    let _ = rig.engine.delete(&name("a")).await;
                } else {
                    let fork = format!("b/{writer}.{round}");
                    if rig.create_with(&fork, fork_of("a", None, 0)).await.is_err() {
                        continue;
                    }
                    let reader = rig.look(&fork).await;
                    let text = text_of(&reader).await;
                    assert!(text.bytes().all(|byte| byte == b'x'));
                    let leaf = format!("a/{writer}.{round}");
                    rig.fork(&leaf, &fork).await.expect("forked");
                    rig.delete(&fork).await;
                    assert_eq!(rig.text(&leaf).await, text);
                    rig.delete(&leaf).await;
                }
            }
        });
        run(async {
            let _ = rig.engine.delete(&name("a")).await;
            rig.sweep().await;
            rig.sweep().await;
            assert_eq!(rig.usage(), (0, 0));
        });
        rig.engine.stop();
    }
}
