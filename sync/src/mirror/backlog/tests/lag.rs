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

/// Of more streams than are noted at once, the same ones were told of each time, and the tables had no lag of the others.
#[test]
fn all_that_are_behind_are_told_of_in_turns() {
    let now = Instant::now();
    let tails = |number: u64| sighting(&format!("s{number}"), 1, number, false);
    let mut backlog = placed(&(0..6).map(tails).collect::<Vec<_>>(), now);
    let told = |backlog: &mut Backlog| -> BTreeSet<Arc<str>> {
        let tails = backlog.take_tails(2).into_iter();
        tails.map(|tail| tail.stream).collect()
    };
    for _ in 0..2 {
        let [first, second, third] = [(); 3].map(|()| told(&mut backlog));
        assert_eq!(
            [first.len(), second.len(), third.len()],
            [2, 2, 1],
            "one is not behind"
        );
        assert_eq!((&(&first | &second) | &third).len(), 5, "each was told of once");
    }
}
