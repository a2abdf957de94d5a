use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{ASKING_NS_MAX, Meter, Work};
use crate::limits::{Entered, ReadShare, ReadShareConfig};

const US: u64 = 1_000;

/// A share without credit, while an append is made.
fn share() -> ReadShare {
    let share = ReadShare::new(ReadShareConfig {
        percent: 50,
        threads: 1,
        wait_max: Duration::ZERO,
    });
    assert_eq!(share.try_enter_at(true, 0), None);
    share
}

/// One read on each connection, or one behind each preflight, cost nothing while the clock was looked at only if
/// the request before was a read.
#[test]
fn the_first_read_of_a_connection_is_paid_for() {
    let (share, meter) = (share(), Meter::default());
    meter.goes_on_at(10 * US);
    meter.turns_to_at(true, &share, 11 * US);
    meter.settle_at(&share, 211 * US);
    assert_eq!(share.credit_ns(), -200_000);
}

/// What a client takes between two pieces of its answer would be paid for as if the server had worked.
#[test]
fn a_read_is_measured_from_where_it_begins_and_from_where_it_goes_on() {
    let (share, meter) = (share(), Meter::default());
    let begins_at = || meter.since_ns.load(Ordering::Relaxed);
    meter.measure(&share, || {
        let before_ns = share.now_ns();
        meter.turns_to(true, &share);
        assert!(begins_at() >= before_ns);
    });
    let before_ns = share.now_ns();
    meter.measure(&share, || assert!(begins_at() >= before_ns));
}

#[test]
fn what_an_append_takes_behind_a_read_is_not_booked_to_reads() {
    let (share, meter) = (share(), Meter::default());
    meter.turns_to_at(true, &share, 0);
    meter.settle_at(&share, 10 * US);
    meter.goes_on_at(100 * US);
    // The head of the append is read, then the append is made.
    meter.turns_to_at(false, &share, 101 * US);
    meter.settle_at(&share, 500 * US);
    assert_eq!(share.credit_ns(), -11_000);
}

#[test]
fn of_what_is_done_in_one_go_each_part_is_booked_to_what_it_was() {
    let (share, meter) = (share(), Meter::default());
    meter.goes_on_at(0);
    for begins_at in [0, 30 * US, 60 * US] {
        meter.turns_to_at(true, &share, begins_at + 10 * US);
        meter.turns_to_at(false, &share, begins_at + 30 * US);
    }
    meter.settle_at(&share, 100 * US);
    assert_eq!(share.credit_ns(), -60_000);
}

#[test]
fn what_a_read_took_before_it_had_to_wait_is_booked_to_what_becomes_of_it() {
    let ask = |share: &ReadShare, meter: &Meter| {
        meter.goes_on_at(0);
        meter.turns_to_at(true, share, 0);
        meter.waits_at(share, 30 * US);
        meter.settle_at(share, 35 * US);
        assert_eq!(share.taken_ns(), 0, "nobody knows what becomes of it");
        meter.goes_on_at(1_000 * US);
    };
    let (admitted, meter) = (share(), Meter::default());
    ask(&admitted, &meter);
    meter.is_admitted(Entered { paid_ns: 20 * US });
    assert_eq!(meter.work(), Work::PaidRead);
    meter.settle_at(&admitted, 1_065 * US);
    assert_eq!((admitted.credit_ns(), admitted.refusals_ns()), (-80_000, 0));
    assert_eq!(admitted.taken_ns(), 100 * US);

    let (refused, meter) = (share(), Meter::default());
    ask(&refused, &meter);
    meter.is_refused(&refused);
    meter.settle_at(&refused, 1_065 * US);
    assert_eq!((refused.credit_ns(), refused.refusals_ns()), (0, 100 * US));
    assert_eq!(refused.taken_ns(), 100 * US);
}

/// Whoever asked and went away before its turn, over and over, paid nothing for what that took.
#[test]
fn what_a_read_took_whose_client_goes_away_while_it_waits_is_booked_as_a_refusal() {
    let (share, meter) = (share(), Meter::default());
    meter.turns_to_at(true, &share, 0);
    meter.waits_at(&share, 30 * US);
    meter.settle_at(&share, 35 * US);
    meter.is_given_up(&share);
    assert_eq!((share.credit_ns(), share.taken_ns()), (0, 35 * US));
    meter.is_given_up(&share);
    assert_eq!(share.taken_ns(), 35 * US, "it is booked once");
    // One that was admitted is settled whenever it pauses.
    let (share, meter) = (self::share(), Meter::default());
    meter.turns_to_at(true, &share, 0);
    meter.settle_at(&share, 10 * US);
    meter.is_given_up(&share);
    assert_eq!((share.credit_ns(), share.refusals_ns()), (-10_000, 0));
}

#[test]
fn what_was_done_for_an_admitted_read_is_not_booked_to_the_refusal_behind_it() {
    // One that has paid and is answered in the same stretch.
    let (paid, meter) = (share(), Meter::default());
    meter.turns_to_at(true, &paid, 0);
    meter.is_admitted(Entered { paid_ns: 20 * US });
    meter.waits_at(&paid, 50 * US);
    meter.is_refused(&paid);
    assert_eq!((paid.credit_ns(), paid.taken_ns()), (-30_000, 50 * US));

    // The end of an answer that began in another stretch.
    let (long, meter) = (share(), Meter::default());
    meter.turns_to_at(true, &long, 0);
    meter.waits_at(&long, 1_000 * US + ASKING_NS_MAX);
    meter.is_refused(&long);
    assert_eq!((long.credit_ns(), long.taken_ns()), (-1_000_000, 1_000 * US));
}

#[test]
fn a_read_that_is_refused_before_it_could_wait_is_a_refusal_too_and_the_next_one_is_none() {
    let (share, meter) = (share(), Meter::default());
    meter.turns_to_at(true, &share, 0);
    meter.settle_at(&share, 0);
    meter.is_refused(&share);
    assert_eq!(meter.work(), Work::Refusal);
    meter.turns_to(true, &share);
    assert_eq!(meter.work(), Work::FreeRead);
    meter.turns_to(false, &share);
    meter.is_refused(&share);
    assert_eq!(meter.work(), Work::Other);
}

#[test]
fn the_clock_itself_is_looked_at_when_a_read_comes_first() {
    let (share, meter) = (share(), Meter::default());
    meter.measure(&share, || {
        meter.turns_to(true, &share);
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_micros(100) {
            std::hint::spin_loop();
        }
    });
    assert!(share.taken_ns() >= 100_000, "{} ns", share.taken_ns());
}
