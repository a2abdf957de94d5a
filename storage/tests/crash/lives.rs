//! A store lives, crashes, recovers and lives on, with one fault in each of its lives.

use tailwater_storage::file::Durability;

use super::run::{FAST, Run};
use crate::seeds;

/// What happens to the disk in one life, beside the crash that ends it.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    Cut,
    FailedSync,
    FailedWrite,
    FailedRead,
    /// The disk is full for a while.
    Full,
}

/// What ends a life for good.
const ENDS: [Fault; 5] = [
    Fault::None,
    Fault::Cut,
    Fault::Cut,
    Fault::FailedSync,
    Fault::FailedWrite,
];
/// What a store may live on after, between two ends.
const TROUBLES: [Fault; 5] = [
    Fault::FailedRead,
    Fault::Full,
    Fault::FailedRead,
    Fault::Full,
    Fault::Cut,
];

fn live(run: &mut Run, fault: Fault) {
    match fault {
        Fault::None => {}
        Fault::Cut => {
            let operation = run.disk.operations() + run.rng.u64(1..150);
            run.disk.cut_at(operation);
        }
        Fault::FailedSync => run.disk.fail_sync(run.rng.u64(1..30)),
        Fault::FailedWrite => run.disk.fail_write(run.rng.u64(1..60)),
        Fault::FailedRead => {
            run.reads_fail = true;
            run.disk.fail_read(run.rng.u64(1..150));
        }
        Fault::Full => run.disk.set_free_bytes(Some(run.rng.u64(..1 << 20))),
    }
    run.note(format!("{fault:?}"));
    for _ in 0..run.rng.u32(1..40) {
        if !run.step() {
            return;
        }
    }
    if matches!(fault, Fault::Full) && run.rng.bool() {
        run.disk.set_free_bytes(None);
        if !run.step() {
            return;
        }
    }
    if run.rng.u8(..4) == 0 {
        run.stop();
    } else if !run.disk.has_stopped() {
        run.check();
    }
}

/// Opens the store again; now and then recovery itself is cut, several times.
fn recover(run: &mut Run) {
    while run.rng.u8(..4) == 0 {
        let cut = run.rng.u64(1..30);
        run.disk.cut_at(cut);
        // It is compared with what may be there if it is open after all.
        let _ = run.try_open();
        let crash = run.some_crash();
        run.crash(crash);
    }
    run.open();
}

fn live_on(seed: u64, durability: Durability, faults: [Fault; 5]) {
    let mut run = Run::new(seed, durability);
    recover(&mut run);
    for _ in 0..run.rng.u32(1..6) {
        let fault = *run.rng.choice(&faults).expect("some");
        live(&mut run, fault);
        let crash = run.some_crash();
        run.crash(crash);
        run.disk.set_free_bytes(None);
        recover(&mut run);
    }
    run.finish();
}

#[test]
fn file_durable_keeps_what_it_acknowledged_through_any_lives() {
    for seed in seeds(100) {
        live_on(seed, Durability::Durable, ENDS);
    }
}

#[test]
fn file_fast_keeps_what_it_promised_through_any_lives() {
    for seed in seeds(100) {
        live_on(seed, FAST, ENDS);
    }
}

#[test]
fn what_was_acknowledged_stays_through_reads_that_fail_and_disks_that_are_full() {
    for seed in seeds(40) {
        live_on(seed, Durability::Durable, TROUBLES);
        live_on(seed, FAST, TROUBLES);
    }
}
