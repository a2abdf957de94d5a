//! What is fixed of days on which clocks are set, and of expressions.

use tailwater_stream::schedule::{CronRefusal, FireTimes};

use super::{at, times, zone};

/// The first fire times behind a time.
fn first(cron: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let times = times(cron, zone_name);
    let mut last = at(after);
    let mut found = Vec::new();
    for _ in 0..count {
        last = times.after(last).expect("there is one");
        let instant = jiff::Timestamp::from_millisecond(last.as_millis().try_into().expect("in range"));
        found.push(instant.expect("in range").to_string());
    }
    found
}

#[test]
fn a_time_of_day_that_does_not_exist_fires_behind_the_gap() {
    // In London clocks go from 01:00 to 02:00 on that day.
    let found = first("30 1 * * *", "Europe/London", "2026-03-28T12:00:00Z", 2);
    assert_eq!(found, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
}

#[test]
fn a_time_of_day_that_exists_twice_fires_once() {
    let found = first("30 1 * * *", "Europe/London", "2026-10-24T12:00:00Z", 2);
    assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
}

#[test]
fn what_fires_many_times_goes_by_what_clocks_show() {
    let gap = first("*/30 * * * *", "Europe/London", "2026-03-29T00:15:00Z", 3);
    assert_eq!(
        gap,
        [
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z"
        ]
    );
    let overlap = first("*/30 1 * * *", "Europe/London", "2026-10-24T12:00:00Z", 5);
    assert_eq!(
        overlap,
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-26T01:00:00Z"
        ]
    );
}

#[test]
fn a_day_that_a_country_left_out_ends_nothing() {
    // Samoa had no 30 December 2011.
    let found = first("0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z", 2);
    assert_eq!(found, ["2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z"]);
    let last = times("0 12 * * *", "Pacific/Apia").until(at("2011-12-30T21:00:00Z"));
    assert_eq!(last, Some(at("2011-12-29T22:00:00Z")));
}

#[test]
fn seconds_may_come_first_and_a_fraction_of_one_is_behind_it() {
    assert_eq!(
        first("*/20 * * * * *", "UTC", "2026-11-29T11:00:00.001Z", 3),
        [
            "2026-11-29T11:00:20Z",
            "2026-11-29T11:00:40Z",
            "2026-11-29T11:01:00Z"
        ]
    );
    assert_eq!(
        times("*/20 * * * * *", "UTC").until(at("2026-11-29T11:00:20.999Z")),
        Some(at("2026-11-29T11:00:20Z"))
    );
}

#[test]
fn what_never_comes_is_known_as_such() {
    assert_eq!(times("0 0 30 2 *", "UTC").after(at("2026-11-29T11:00:00Z")), None);
    assert_eq!(times("0 0 30 2 *", "UTC").until(at("2026-11-29T11:00:00Z")), None);
}

#[test]
fn what_is_no_expression_is_refused_with_what_is_wrong() {
    let refusal = |cron: &str| FireTimes::parse(cron, zone("UTC")).expect_err("refused");
    for cron in [
        "",
        "* * * *",
        "61 * * * *",
        "* * * * * * 2030",
        "every day",
        "* * 32 * *",
    ] {
        let CronRefusal::Malformed { reason } = refusal(cron) else {
            panic!("{cron}")
        };
        assert!(!reason.is_empty() && !reason.ends_with('.'), "{cron}: {reason}");
    }
    assert_eq!(refusal(&"1,".repeat(200)), CronRefusal::TooLong { bytes: 400 });
}
