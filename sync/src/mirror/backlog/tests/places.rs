use super::*;

#[test]
fn what_is_read_and_not_committed_is_nothing_to_be_taken_away_at_the_source() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, true)], now);
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(10, false), now));
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(30, true), now));
    assert!(followups(&mut backlog).is_empty());
    backlog.committed(&read.ticket, 1, reach(10, false), now);
    let told = followups(&mut backlog);
    assert!(
        matches!(&told[..], [Followup::Committed { next, .. }] if *next == offset(10)),
        "{told:?}"
    );
    backlog.committed(&read.ticket, 1, reach(30, true), now);
    assert!(matches!(
        &followups(&mut backlog)[..],
        [Followup::Complete { .. }]
    ));
}

#[test]
fn a_new_incarnation_begins_anew_once_what_was_read_of_the_old_one_is_written() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 10, false)], now);
    let old = backlog.next_read(now).expect("there is more");
    backlog.seen(sighting("a", 2, 3, false), now);
    assert!(
        backlog.read(&old.ticket, reach(10, false), now),
        "it cannot be read again"
    );
    backlog.seen(sighting("a", 2, 5, false), now);
    assert!(backlog.take_unplaced(9, now).is_empty() && backlog.next_read(now).is_none());
    backlog.committed(&old.ticket, 1, reach(10, false), now);
    let told = followups(&mut backlog);
    assert!(
        matches!(&told[..], [Followup::Committed { .. }, Followup::Deleted { .. }]),
        "{told:?}"
    );
    let streams = backlog.take_unplaced(9, now);
    backlog.placed(&streams[0], standing(1, 10, true), now);
    let read = backlog.next_read(now).expect("there is more");
    assert_eq!(
        (read.after, read.ticket.incarnation),
        (Offset::BEGINNING, incarnation(2))
    );
    backlog.seen(sighting("a", 1, 99, true), now);
    assert!(
        backlog.read(&read.ticket, reach(5, false), now),
        "an old one changes nothing"
    );
    assert_eq!(backlog.next_read(now), None, "the last tail that was told counts");
    assert!(
        followups(&mut backlog).is_empty(),
        "the end of the old one is not the new one's"
    );
}

#[test]
fn a_new_incarnation_of_which_nothing_was_read_takes_the_place_of_the_old_one_at_once() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 10, false)], now);
    backlog.seen(sighting("a", 2, 5, false), now);
    assert_eq!(backlog.incarnation("a"), Some(incarnation(2)));
    backlog.seen(sighting("a", 3, 5, false), now);
    backlog.gone(&"a".into(), incarnation(2));
    assert_eq!(
        backlog.incarnation("a"),
        Some(incarnation(3)),
        "the deletion of an older one is none of it"
    );
}

#[test]
fn a_mirror_that_stands_elsewhere_is_followed_and_later_reads_are_void() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let first = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&first.ticket, reach(10, false), now));
    let second = backlog.next_read(now).expect("there is more");
    backlog.set_back(&first.ticket, standing(1, 20, false), now);
    assert!(!backlog.read(&second.ticket, reach(20, false), now));
    let third = backlog.next_read(now).expect("there is more");
    assert_eq!(third.after, offset(20));
    backlog.set_back(&first.ticket, standing(1, 5, false), now);
    assert!(
        backlog.is_current(&third.ticket),
        "an outcome of a void read says nothing"
    );
}

#[test]
fn a_stream_that_cannot_be_written_is_placed_again_after_a_while() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(30, false), now));
    let wait = backlog.refused(&read.ticket, now, 0.5).expect("it is current");
    assert!(backlog.take_unplaced(9, now).is_empty());
    let later = now + wait;
    let streams = backlog.take_unplaced(9, later);
    backlog.placed(&streams[0], standing(1, 10, false), later);
    assert_eq!(backlog.next_read(later).map(|read| read.after), Some(offset(10)));
}

/// It could be read each time, which was taken for a success: such a stream was tried again four times a second for ever.
#[test]
fn a_stream_that_can_be_read_and_not_written_waits_longer_each_time_until_it_is_written() {
    let mut now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let read = backlog.next_read(now).expect("there is more");
        assert!(backlog.read(&read.ticket, reach(20, false), now));
        let wait = backlog.refused(&read.ticket, now, 1.0).expect("it is current");
        now += wait;
        waits.push(wait);
        let streams = backlog.take_unplaced(9, now);
        backlog.placed(&streams[0], None, now);
    }
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(20, false), now));
    backlog.committed(&read.ticket, 1, reach(20, false), now);
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(30, false), now));
    assert_eq!(backlog.refused(&read.ticket, now, 1.0), Some(waits[0]));
}

#[test]
fn a_deleted_stream_is_told_only_once_what_was_read_of_it_is_settled() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let read = backlog.next_read(now).expect("there is more");
    backlog.gone(&"a".into(), incarnation(1));
    assert!(followups(&mut backlog).is_empty(), "it is being read");
    assert!(backlog.read(&read.ticket, reach(30, false), now));
    assert_eq!(backlog.next_read(now), None);
    assert!(followups(&mut backlog).is_empty(), "what was read is not written");
    backlog.committed(&read.ticket, 1, reach(30, false), now);
    let told = followups(&mut backlog);
    assert!(
        matches!(&told[..], [Followup::Committed { .. }, Followup::Deleted { .. }]),
        "{told:?}"
    );
    assert!(backlog.is_empty());

    let mut backlog = placed(&[sighting("a", 1, 30, false)], now);
    let read = backlog.next_read(now).expect("there is more");
    backlog.gone(&"a".into(), incarnation(1));
    assert_eq!(backlog.read_failed(&read.ticket, now, 0.5, None), None);
    assert!(matches!(&followups(&mut backlog)[..], [Followup::Deleted { .. }]));
}

#[test]
fn what_is_on_its_way_of_a_stream_that_is_anothers_now_is_void_and_it_begins_at_its_place_when_it_comes_back()
{
    let now = Instant::now();
    let mut backlog = placed(&["a", "b", "c"].map(|name| sighting(name, 1, 30, false)), now);
    let a = backlog.next_read(now).expect("all have more");
    let b = backlog.next_read(now).expect("all have more");
    assert!(backlog.read(&a.ticket, reach(10, false), now));
    backlog.committed(&a.ticket, 1, reach(10, false), now);
    backlog.forget(|stream| stream != "c");
    assert!(
        followups(&mut backlog).is_empty(),
        "what follows is another's to do"
    );
    assert!(!backlog.is_current(&a.ticket));
    assert!(!backlog.read(&b.ticket, reach(30, false), now));
    assert_eq!(next_names(&mut backlog, now), ["c"]);
    assert_eq!(backlog.lag(now).streams, 1);
    backlog.seen(sighting("a", 1, 30, false), now);
    let streams = backlog.take_unplaced(9, now);
    backlog.placed(&streams[0], standing(1, 20, false), now);
    assert_eq!(backlog.next_read(now).map(|read| read.after), Some(offset(20)));
}
