//! What an export tells of a stream is of one moment.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_storage::engine::{EngineError, Settled};
use tailwater_storage::stream::{ContentKind, EncodedBody};

use crate::run;
use crate::support::ask::{Rig, at, name, waits};
use crate::support::gated::{Gated, Held};

/// Appends a byte and sets a control key to how many there are, with one record.
async fn put(rig: &Rig, count: &'static str) {
    let held = rig.engine.hold(&[name("a")]).await.expect("readable");
    let drafted = rig.engine.together(&held, |draft| {
        let byte = EncodedBody::new(ContentKind::Binary, &Bytes::from_static(b"x"));
        draft.append(0, byte, None, false).expect("accepted");
        let count = Bytes::from_static(count.as_bytes());
        draft.control(0, Bytes::from_static(b"count"), Some(count));
        Ok::<_, EngineError>(())
    });
    let ((), settling) = drafted.expect("queued");
    assert_eq!(settling.settled().await, Settled::Durable);
}

/// The keys were those of a later moment: a queue that came out so had taken jobs that it did not have, and where it was
/// imported it passed over those that came in their place.
#[test]
fn control_keys_of_an_export_are_of_the_moment_of_its_bytes() {
    for held in [Held::Before, Held::Behind] {
        run(async {
            let gate = Gated::slow(1 << 30);
            let rig = Rig::over(Arc::<Gated>::clone(&gate));
            rig.create("a").await.expect("created");
            put(&rig, "1").await;
            gate.hold_controls(held);
            let mut exporter = rig.engine.export("");
            let mut next = pin!(exporter.next());
            // It is looked at first whether there are any.
            for listings in 1..=2 {
                while gate.listings_at_gate() < listings {
                    assert!(waits(next.as_mut()).await);
                    tokio::task::yield_now().await;
                }
                if listings == 1 {
                    gate.let_one_listing_pass();
                }
            }
            put(&rig, "2").await;
            gate.open();
            let export = next.await.expect("readable").expect("there is one");
            let controls = [(Bytes::from_static(b"count"), Bytes::from_static(b"2"))];
            assert_eq!(export.controls(), controls, "{held:?}");
            assert_eq!(export.stream().state.tail, at(2), "{held:?}");
        });
    }
}
