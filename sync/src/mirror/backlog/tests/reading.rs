use super::*;

#[test]
fn a_stream_is_read_only_once_it_is_known_where_the_mirror_stands() {
    let now = Instant::now();
    let mut backlog = Backlog::default();
    backlog.seen(sighting("a", 1, 50, false), now);
    assert_eq!(backlog.next_read(now), None);
    let [stream] = &backlog.take_unplaced(9, now)[..] else {
        panic!("one stream is new")
    };
    assert!(backlog.take_unplaced(9, now).is_empty(), "it is given out once");
    backlog.placed(stream, standing(1, 20, false), now);
    let read = backlog.next_read(now).expect("there is more");
    assert_eq!(read.after, offset(20));
}

#[test]
fn streams_with_more_take_turns_and_each_is_read_by_one_reader() {
    let now = Instant::now();
    let mut backlog = placed(&["a", "b", "c"].map(|name| sighting(name, 1, 100, false)), now);
    let first = backlog.next_read(now).expect("all have more");
    assert_eq!(next_names(&mut backlog, now), ["b", "c"], "a is being read");
    assert!(backlog.read(&first.ticket, reach(10, false), now));
    assert_eq!(next_names(&mut backlog, now), ["a"]);
}

#[test]
fn a_stream_that_has_been_read_whole_is_idle_until_there_is_more() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 10, false)], now);
    let read = backlog.next_read(now).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(10, false), now));
    backlog.seen(sighting("a", 1, 10, false), now);
    assert_eq!(backlog.next_read(now), None);
    backlog.seen(sighting("a", 1, 11, false), now);
    assert_eq!(backlog.next_read(now).map(|read| read.after), Some(offset(10)));
}

#[test]
fn a_close_without_data_is_read_too() {
    let now = Instant::now();
    let mut backlog = placed(&[sighting("a", 1, 0, false)], now);
    assert_eq!(backlog.next_read(now), None, "an empty stream has nothing");
    backlog.seen(sighting("a", 1, 0, true), now);
    let read = backlog.next_read(now).expect("the end is to be mirrored");
    assert!(backlog.read(&read.ticket, reach(0, true), now));
    assert_eq!(backlog.next_read(now), None);
    backlog.committed(&read.ticket, 1, reach(0, true), now);
    let complete = Followup::Complete {
        stream: "a".into(),
        incarnation: incarnation(1),
    };
    assert_eq!(followups(&mut backlog), [complete]);
}

#[test]
fn a_stream_that_was_mirrored_whole_in_an_earlier_run_is_complete_at_once() {
    let now = Instant::now();
    let mut backlog = Backlog::default();
    backlog.seen(sighting("a", 1, 10, true), now);
    let streams = backlog.take_unplaced(9, now);
    backlog.placed(&streams[0], standing(1, 10, true), now);
    assert_eq!(backlog.next_read(now), None);
    assert!(matches!(
        &followups(&mut backlog)[..],
        [Followup::Complete { .. }]
    ));
}

#[test]
fn a_stream_that_fails_waits_longer_each_time_and_holds_up_nobody() {
    let mut now = Instant::now();
    let mut backlog = placed(&["a", "b"].map(|name| sighting(name, 1, 100, false)), now);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let read = backlog.next_read(now).expect("a can be read");
        assert_eq!(&*read.ticket.stream, "a");
        let wait = backlog
            .read_failed(&read.ticket, now, 1.0, None)
            .expect("it is current");
        assert_eq!(
            next_names(&mut backlog, now).len(),
            usize::from(waits.is_empty()),
            "b alone, once"
        );
        assert_eq!(backlog.wakes_at(), Some(now + wait));
        now += wait;
        waits.push(wait);
    }
    assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
    let read = backlog.next_read(now).expect("a can be read");
    assert!(backlog.read(&read.ticket, reach(10, false), now));
    backlog.committed(&read.ticket, 1, reach(10, false), now);
    let read = backlog.next_read(now).expect("a can be read");
    assert_eq!(backlog.read_failed(&read.ticket, now, 1.0, None), Some(waits[0]));
}
