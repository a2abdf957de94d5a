//! A batch is all that has gathered, and no more than bounds the time of its commit.

use std::pin::Pin;
use std::sync::Arc;

use tailwater_storage::EngineLimits;
use tailwater_storage::stream::{Record, Transition};

use crate::support::ask::{Rig, run, waits};
use crate::support::gated::{Gated, transitions};

const MIB: usize = 1 << 20;
/// What a batch has at the most, but for a record that is longer alone.
const BATCH_BYTES_MAX: usize = 16 * MIB;
const BATCH_RECORDS_MAX: usize = 8192;

fn payload_bytes(batch: &[Record]) -> usize {
    let bytes = |transition: &Transition| match transition {
        Transition::Append(append) => append.payload.len(),
        _ => 0,
    };
    batch.iter().flat_map(transitions).map(bytes).sum()
}

/// Brings appends to a gate that is held: the first one as a batch of its own, for which the others wait. Then opens it.
async fn gather_behind_the_first<T>(gate: &Gated, appends: &mut [Pin<Box<impl Future<Output = T>>>]) {
    for (number, append) in appends.iter_mut().enumerate() {
        assert!(waits(append.as_mut()).await);
        if number == 0 {
            assert_eq!(gate.wait_at_gate(0), 1);
        }
    }
    gate.open();
}

/// Appends these bodies while the gate is held. Answers the records and bytes of each batch behind that of the first one,
/// which alone was at the gate when the others came.
fn batches_of(bodies: &[usize]) -> Vec<(usize, usize)> {
    let gate = Gated::new(1 << 30);
    let limits = EngineLimits {
        stream_bytes_max: 1 << 30,
        ..EngineLimits::default()
    };
    run(async {
        let rig = Rig::limited(Arc::<Gated>::clone(&gate), limits);
        rig.create("a").await.expect("created");
        gate.hold();
        let bodies: Vec<_> = bodies.iter().map(|bytes| "x".repeat(*bytes)).collect();
        let mut appends: Vec<Pin<Box<_>>> = bodies
            .iter()
            .map(|body| Box::pin(rig.append("a", body)))
            .collect();
        gather_behind_the_first(&gate, &mut appends).await;
        for append in appends {
            append.await.expect("appended");
        }
    });
    // Before them the stream was created, and the first one was appended.
    let batches = gate.batches();
    batches[2..]
        .iter()
        .map(|batch| (batch.len(), payload_bytes(batch)))
        .collect()
}

#[test]
fn all_that_gathers_is_one_batch() {
    assert_eq!(batches_of(&[1; 101]), [(100, 100)]);
}

#[test]
fn every_stream_of_a_batch_shows_what_was_appended_to_it() {
    let gate = Gated::new(1 << 30);
    run(async {
        let rig = Rig::over(Arc::<Gated>::clone(&gate));
        let names: Vec<_> = (0..101).map(|number| format!("s{number}")).collect();
        for name in &names {
            rig.create(name).await.expect("created");
        }
        gate.hold();
        let mut appends: Vec<Pin<Box<_>>> = names
            .iter()
            .map(|name| Box::pin(rig.append(name, name)))
            .collect();
        gather_behind_the_first(&gate, &mut appends).await;
        for (name, append) in names.iter().zip(appends) {
            append.await.expect("appended");
            assert_eq!(rig.text(name).await, *name);
        }
    });
    assert_eq!(gate.batches().last().map(Vec::len), Some(100));
}

#[test]
fn a_batch_has_so_many_bytes_at_the_most() {
    let seen = batches_of(&[1 << 20; 41]);
    assert!(
        seen.iter().all(|(_, bytes)| *bytes <= BATCH_BYTES_MAX),
        "{seen:?}"
    );
    assert_eq!(seen.iter().map(|(records, _)| records).sum::<usize>(), 40);
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn a_record_that_is_longer_alone_has_a_batch_of_its_own() {
    let seen = batches_of(&[1, 10, 17 * MIB, 10, 10]);
    assert_eq!(seen, [(1, 10), (1, 17 * MIB), (2, 20)]);
}

#[test]
fn a_batch_has_so_many_records_at_the_most() {
    let seen = batches_of(&[1; BATCH_RECORDS_MAX + 101]);
    assert_eq!(seen, [(BATCH_RECORDS_MAX, BATCH_RECORDS_MAX), (100, 100)]);
}
