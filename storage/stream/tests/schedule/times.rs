//! Fire times against a walk minute by minute, which knows nothing of how they are found.

use std::collections::BTreeSet;

use jiff::tz::AmbiguousOffset;
use jiff::{ToSpan as _, Zoned};
use proptest::prelude::*;
use tailwater_stream::Timestamp;

use super::{at, times, zone};

/// An expression as the sets of its fields.
#[derive(Debug, Clone)]
struct Fields {
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    /// All if none are named.
    days_of_week: BTreeSet<i8>,
    /// All if none are named.
    days_of_month: BTreeSet<i8>,
}

fn list(values: &BTreeSet<i8>) -> String {
    if values.is_empty() {
        return "*".to_owned();
    }
    let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
    texts.join(",")
}

impl Fields {
    fn text(&self) -> String {
        format!(
            "{} {} {} * {}",
            list(&self.minutes),
            list(&self.hours),
            list(&self.days_of_month),
            list(&self.days_of_week)
        )
    }

    fn is_time_of_day(&self) -> bool {
        self.minutes.len() == 1 && self.hours.len() == 1
    }

    /// Cron takes a day that either field means, if both are named.
    fn has_day(&self, local: &jiff::civil::DateTime) -> bool {
        let of_month = self.days_of_month.contains(&local.day());
        let of_week = self
            .days_of_week
            .contains(&local.weekday().to_sunday_zero_offset());
        match (self.days_of_month.is_empty(), self.days_of_week.is_empty()) {
            (true, true) => true,
            (false, true) => of_month,
            (true, false) => of_week,
            (false, false) => of_month || of_week,
        }
    }

    fn has(&self, local: &jiff::civil::DateTime) -> bool {
        let is_in = |values: &BTreeSet<i8>, value| values.is_empty() || values.contains(&value);
        local.second() == 0
            && is_in(&self.minutes, local.minute())
            && is_in(&self.hours, local.hour())
            && self.has_day(local)
    }
}

/// Every minute within some days of which one has its clocks set, looked at by itself.
fn walk(fields: &Fields, from: &Zoned, days: i64) -> Vec<Timestamp> {
    let zone = from.time_zone();
    let mut found = Vec::new();
    let end = from.checked_add(days.days()).expect("in range");
    let mut moment = from.timestamp();
    while moment < end.timestamp() {
        let local = moment.to_zoned(zone.clone());
        let civil = local.datetime();
        let mut fires = fields.has(&civil);
        if fields.is_time_of_day() {
            if let AmbiguousOffset::Fold { .. } = zone.to_ambiguous_timestamp(civil).offset() {
                // Of a time that comes twice, the first.
                let first = zone.to_ambiguous_zoned(civil).earlier().expect("in range");
                fires &= first.timestamp() == moment;
            }
            // The first moment behind a gap stands for a time of day within it.
            let before = moment
                .checked_sub(1.second())
                .expect("in range")
                .to_zoned(zone.clone());
            let mut missing = before.datetime().checked_add(1.second()).expect("in range");
            while missing < civil && civil.duration_since(missing).as_secs() <= 86_400 {
                let is_gap = matches!(
                    zone.to_ambiguous_timestamp(missing).offset(),
                    AmbiguousOffset::Gap { .. }
                );
                fires |= is_gap && fields.has(&missing) && fields.has_day(&civil);
                missing = missing.checked_add(1.minute()).expect("in range");
            }
        }
        if fires {
            let millis = moment.as_millisecond().try_into().expect("after 1970");
            found.push(Timestamp::from_millis(millis));
        }
        moment = moment.checked_add(1.minute()).expect("in range");
    }
    found
}

/// A zone and a day on which its clocks are set, or one on which they are not.
const DAYS: [(&str, &str); 8] = [
    ("Europe/London", "2026-03-29"),
    ("Europe/London", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Asia/Kolkata", "2026-02-28"),
    ("UTC", "2028-02-29"),
];

fn some(range: std::ops::Range<i8>, most: usize) -> impl Strategy<Value = BTreeSet<i8>> {
    prop::collection::btree_set(range, 0..=most)
}

fn fields() -> impl Strategy<Value = Fields> {
    // Hours around those at which clocks are set come often.
    let hours = prop_oneof![
        prop::collection::btree_set(0..4_i8, 1..=1),
        some(0..24, 4),
        prop::collection::btree_set(0..24_i8, 1..=3)
    ];
    let minutes = prop_oneof![
        prop::collection::btree_set(0..60_i8, 1..=1),
        prop::collection::btree_set(0..60_i8, 1..=4),
        some(0..60, 2)
    ];
    (minutes, hours, some(0..7, 2), some(1..32, 3)).prop_map(
        |(minutes, hours, days_of_week, days_of_month)| Fields {
            minutes,
            hours,
            days_of_week,
            days_of_month,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn fire_times_are_those_of_a_walk_minute_by_minute(fields in fields(), (zone_name, day) in prop::sample::select(&DAYS[..])) {
        let noon: jiff::civil::Date = day.parse().expect("a day");
        let from = noon
            .checked_sub(1.day())
            .expect("in range")
            .at(12, 0, 0, 0)
            .to_zoned(zone(zone_name))
            .expect("there is noon");
        let walked = walk(&fields, &from, 3);
        let found = times(&fields.text(), zone_name);
        let millis = |at: &Zoned| u64::try_from(at.timestamp().as_millisecond()).expect("after 1970");
        let begin = Timestamp::from_millis(millis(&from) - 1);
        let end = Timestamp::from_millis(millis(&from.checked_add(3.days()).expect("in range")) - 1);

        let mut forward = Vec::new();
        let mut last = begin;
        while let Some(next) = found.after(last).filter(|next| *next <= end) {
            prop_assert!(next > last);
            forward.push(next);
            last = next;
        }
        prop_assert_eq!(&forward, &walked, "{} in {}", fields.text(), zone_name);

        let mut backward = Vec::new();
        let mut last = end;
        while let Some(earlier) = found.until(last).filter(|earlier| *earlier > begin) {
            prop_assert!(earlier <= last);
            backward.push(earlier);
            last = Timestamp::from_millis(earlier.as_millis() - 1);
        }
        backward.reverse();
        prop_assert_eq!(&backward, &walked, "{} in {}, backwards", fields.text(), zone_name);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9*/,#LW@A-Za-z+? -]{0,40}") {
        if let Ok(times) = tailwater_stream::schedule::FireTimes::parse(&text, zone("UTC")) {
            let now = at("2026-11-29T11:00:00Z");
            if let Some(next) = times.after(now) {
                prop_assert!(next > now);
            }
        }
    }
}
