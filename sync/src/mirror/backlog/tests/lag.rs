use super::*;

#[test]
fn lag_is_what_is_not_committed_and_how_long_it_has_been_known() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let mut backlog = placed(&[sighting("a", 1, 10, false), sighting("b", 1, 0, false)], start);
    backlog.seen(sighting("a", 1, 30, false), at(2));
    let lag = backlog.lag(at(5));
    assert_eq!((lag.streams, lag.bytes, lag.events), (1, 30, 30));
    assert_eq!(lag.oldest, Duration::from_secs(5));
    let read = backlog.next_read(at(5)).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(20, false), at(5)));
    assert_eq!(backlog.lag(at(5)).bytes, 30, "what is read is not committed");
    backlog.committed(&read.ticket, 1, reach(20, false), at(6));
    let lag = backlog.lag(at(6));
    assert_eq!(
        (lag.streams, lag.bytes, lag.oldest),
        (1, 10, Duration::from_secs(4))
    );
    let read = backlog.next_read(at(6)).expect("there is more");
    assert!(backlog.read(&read.ticket, reach(30, false), at(6)));
    backlog.committed(&read.ticket, 1, reach(30, false), at(7));
    assert_eq!(backlog.lag(at(9)), Lag::default());
}
