//! The rules of schedules against naive walks over time.
//!
//! | file | what stands there |
//! |---|---|
//! | `times.rs` | fire times against a walk minute by minute, in zones whose clocks are set |
//! | `clocks.rs` | what is fixed of days on which clocks are set, said one by one |
//! | `life.rs` | lives of schedules, with pauses, restarts and steps of the clock, against what should be enqueued |

mod schedule {
    mod clocks;
    mod life;
    mod times;

    use jiff::tz::TimeZone;
    use tailwater_stream::Timestamp;
    use tailwater_stream::schedule::FireTimes;

    pub(crate) fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a zone")
    }

    pub(crate) fn times(cron: &str, zone_name: &str) -> FireTimes {
        FireTimes::parse(cron, zone(zone_name)).expect("an expression")
    }

    /// A time by its text in RFC 3339.
    pub(crate) fn at(text: &str) -> Timestamp {
        let instant: jiff::Timestamp = text.parse().expect("a time");
        Timestamp::from_millis(instant.as_millisecond().try_into().expect("after 1970"))
    }
}
