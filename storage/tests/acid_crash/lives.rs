//! A store lives, crashes, recovers and lives on, with one fault in each of its lives.

use super::run::{Repair, Run};
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

const FAULTS: [Fault; 7] = [
    Fault::None,
    Fault::Cut,
    Fault::Cut,
    Fault::FailedSync,
    Fault::FailedWrite,
    Fault::FailedRead,
    Fault::Full,
];

fn live(run: &mut Run, fault: Fault) {
    match fault {
        Fault::None => {}
        Fault::Cut => {
            let operation = run.disk.operations() + run.rng.u64(1..200);
            run.disk.cut_at(operation);
        }
        Fault::FailedSync => run.disk.fail_sync(run.rng.u64(1..30)),
        Fault::FailedWrite => run.disk.fail_write(run.rng.u64(1..150)),
        Fault::FailedRead => {
            run.reads_fail = true;
            run.disk.fail_read(run.rng.u64(1..150));
        }
        Fault::Full => run.disk.set_free_bytes(Some(run.rng.u64(..200_000))),
    }
    run.note(format!("{fault:?}"));
    let steps = run.rng.u32(1..40);
    for _ in 0..steps {
        if !run.step() {
            return;
        }
    }
    if run.rng.bool() {
        run.disk.set_free_bytes(None);
        if run.step() {
            run.check();
        }
    }
    if run.rng.u8(..4) == 0 {
        run.close();
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

fn live_on(seed: u64, repair: Repair) {
    let mut run = Run::new(seed, repair);
    recover(&mut run);
    for _ in 0..run.rng.u32(1..6) {
        let fault = *run.rng.choice(&FAULTS).expect("some");
        live(&mut run, fault);
        let crash = run.some_crash();
        run.crash(crash);
        run.disk.set_free_bytes(None);
        recover(&mut run);
        if run.rng.bool() {
            run.check_given_back();
        }
    }
    run.finish();
}

#[test]
fn what_was_acknowledged_stays_through_any_lives() {
    for seed in seeds(80) {
        live_on(seed, Repair::Changing);
    }
}

#[test]
fn what_was_acknowledged_with_one_sync_stays_through_any_lives() {
    for seed in seeds(80) {
        live_on(seed, Repair::Slow);
    }
}
