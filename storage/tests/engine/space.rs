//! Full means refused, with nothing lost; what goes gives its space back exactly.

use std::sync::Arc;

use tailwater_storage::EngineLimits;
use tailwater_storage::engine::{AppendError, AppendRequest, CreateError, EngineError};
use tailwater_storage::stream::{AppendRefusal, CreateCommand};

use crate::support::ask::{Rig, bytes, name, producer, waits};
use crate::support::gated::Gated;
use crate::{over_all, over_each, run};

const ROOM: u64 = 64 * 1024;

/// Appends until there is no space; answers how often that went well.
async fn fill(rig: &Rig, stream: &str) -> usize {
    let body = "0123456789".repeat(100);
    let mut count = 0;
    loop {
        match rig.append(stream, &body).await {
            Ok(_) => count += 1,
            Err(AppendError::Engine(EngineError::Full)) => return count,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_full_store_refuses_and_keeps_what_it_has() {
    over_each(ROOM, EngineLimits::default(), async |rig: Rig| {
        rig.create("a").await.expect("created");
        let count = fill(&rig, "a").await;
        assert!(count > 20);
        assert_eq!(rig.text("a").await.len(), count * 1_000);
        let before = rig.usage();
        let big = CreateCommand {
            body: vec![b'x'; 2_000].into(),
            ..CreateCommand::default()
        };
        for _ in 0..50 {
            let created = rig.create_with("b", big.clone()).await;
            assert!(
                matches!(created, Err(CreateError::Engine(EngineError::Full))),
                "{created:?}"
            );
            fill(&rig, "a").await;
        }
        assert_eq!(rig.usage(), before, "refusals cost nothing");
        assert_eq!(rig.engine.open_streams(), 1, "and leave nothing");
        rig.close("a").await.expect("a full store still closes");
    });
}

#[test]
fn space_is_given_back_exactly_by_deletion_trim_and_expiry() {
    over_each(ROOM, EngineLimits::default(), async |rig: Rig| {
        let mut counts = Vec::new();
        for round in 0..9 {
            rig.create_living("a", 16).await;
            counts.push(fill(&rig, "a").await);
            match round % 3 {
                0 => rig.delete("a").await,
                1 => {
                    let tail = rig.look("a").await.incarnation().view().tail;
                    rig.trim("a", tail.get()).await;
                    assert_eq!(
                        fill(&rig, "a").await,
                        counts[0],
                        "a trimmed stream has room again"
                    );
                    rig.delete("a").await;
                }
                _ => {
                    rig.clock.advance_millis(18_000);
                    rig.sweep().await;
                }
            }
            assert_eq!(rig.usage(), (0, 0));
        }
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    });
}

#[test]
fn a_stream_is_limited_by_itself() {
    let limits = EngineLimits {
        stream_bytes_max: 10,
        producers_max: 1,
        ..EngineLimits::default()
    };
    over_each(1 << 30, limits, async |rig: Rig| {
        rig.create("a").await.expect("created");
        rig.append("a", "01234567").await.expect("appended");
        let refused = rig.append("a", "89a").await;
        assert!(matches!(
            refused,
            Err(AppendError::Refused(AppendRefusal::StreamFull {
                bytes: 11,
                bytes_max: 10
            }))
        ));
        rig.append("a", "89").await.expect("fits");
        rig.trim("a", 8).await;
        rig.append("a", "abcdefgh")
            .await
            .expect("what was trimmed does not count");
        rig.fork("b", "a").await.expect("forked");
        rig.append("b", "0123456789")
            .await
            .expect("what is inherited does not count");
        rig.create("p").await.expect("created");
        let from = |id: &str| AppendRequest {
            producer: Some(producer(id, 0, 0)),
            ..bytes("x")
        };
        rig.engine
            .append(&name("p"), from("one"))
            .await
            .expect("appended");
        assert!(rig.engine.append(&name("p"), from("two")).await.is_err());
    });
}

/// What a request had taken upon itself to give back was forgotten when its client went away.
#[test]
fn space_is_given_back_though_the_client_that_deletes_goes_away() {
    run(async {
        let gate = Gated::slow(1 << 20);
        let rig = Rig::over(Arc::<Gated>::clone(&gate));
        for stream in ["a", "b"] {
            rig.create(stream).await.expect("created");
        }
        let reader = rig.look("a").await;
        let mut news = reader.incarnation().subscribe();
        let (a, b) = (name("a"), name("b"));
        gate.hold();
        {
            let mut abandoned = Box::pin(rig.engine.delete(&a));
            assert!(waits(abandoned.as_mut()).await);
            gate.wait_at_gate(0);
        }
        gate.open();
        news.changed().await.expect("the reader holds it");
        gate.hold_releases();
        {
            let mut abandoned = Box::pin(rig.engine.delete(&b));
            while !gate.is_releasing() {
                assert!(waits(abandoned.as_mut()).await);
                tokio::task::yield_now().await;
            }
        }
        gate.open();
        while rig.usage() != (0, 0) {
            rig.sweep().await;
        }
    });
}

#[test]
fn nothing_is_left_of_a_busy_day() {
    over_all(async |rig: Rig| {
        for round in 0..5_u64 {
            for number in 0..10 {
                let stream = format!("s{number}");
                rig.create_living(&stream, 100).await;
                for seq in 0..5 {
                    let request = AppendRequest {
                        producer: Some(producer("p", round, seq)),
                        ..bytes("some bytes")
                    };
                    rig.engine
                        .append(&name(&stream), request)
                        .await
                        .expect("appended");
                }
                rig.fork(&format!("f{number}"), &stream).await.expect("forked");
                rig.append(&format!("f{number}"), "own").await.expect("appended");
                rig.trim(&stream, 20).await;
            }
            for number in 0..10 {
                let order = if number % 2 == 0 { ["s", "f"] } else { ["f", "s"] };
                for kind in order {
                    rig.delete(&format!("{kind}{number}")).await;
                }
            }
            assert_eq!(rig.usage(), (0, 0), "round {round}");
        }
        // Names of sources that went only with their forks are forgotten when they are idle.
        for _ in 0..61 {
            rig.sweep().await;
        }
        assert_eq!(rig.engine.open_streams(), 0);
    });
}
