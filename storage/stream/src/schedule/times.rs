//! The fire times of a cron expression by the clocks of a time zone. The zone comes in; where its rules are kept is not
//! known here.
//!
//! Days on which clocks are set are treated as Vixie cron does. An expression with one second, one minute and one hour
//! means a time of day: if that time does not exist, it fires at the first moment behind the gap, and if it exists twice,
//! at the first of the two. Any other expression goes by what the clocks show: nothing in a gap, and both passes of an
//! hour that comes twice.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan as _, Zoned};

use crate::expiry::Timestamp;

/// The most bytes in an expression: more than six fields of lists need.
pub const CRON_BYTES_MAX: usize = 256;
/// Times at which clocks are set that a search is begun anew at. One would do, but for zones with more in a few days.
const CLOCK_SETS_MAX: usize = 3;

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronRefusal {
    /// More bytes than allowed.
    #[error("the expression has {bytes} bytes; at most {CRON_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes in it.
        bytes: usize,
    },
    /// It has another form.
    #[error(
        "{reason}; write minute, hour, day of the month, month and day of the week, with the second before them if it \
         matters, such as `30 2 * * MON-FRI`"
    )]
    Malformed {
        /// What is wrong, without a stop at its end.
        reason: Box<str>,
    },
}

/// When something fires. Seconds are the finest.
#[derive(Debug, Clone)]
pub struct FireTimes {
    cron: Cron,
    zone: TimeZone,
}

impl FireTimes {
    /// Reads an expression.
    ///
    /// # Errors
    /// A [`CronRefusal`] that says what is wrong with it.
    pub fn parse(cron: &str, zone: TimeZone) -> Result<Self, CronRefusal> {
        if cron.len() > CRON_BYTES_MAX {
            return Err(CronRefusal::TooLong { bytes: cron.len() });
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(cron).map_err(|error| CronRefusal::Malformed {
            reason: reason(&error),
        })?;
        Ok(Self { cron, zone })
    }

    /// The first fire time after a time; none if there is none before the year 5000.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        // Whatever comes after a fraction of a second comes after the second that it began.
        let from = self.local(time)?;
        let found = self.cron.find_next_occurrence(&from, false).ok();
        // A time of day within a gap of many hours, as when a country moves across the date line, ends a search.
        let found = found.or_else(|| {
            let sets = self.zone.following(from.timestamp()).take(CLOCK_SETS_MAX);
            sets.map(|set| set.timestamp().to_zoned(self.zone.clone()))
                .find_map(|set| self.cron.find_next_occurrence(&set, true).ok())
        });
        timestamp(&found?)
    }

    /// The last fire time that is not after a time; none if there is none since 1970.
    pub fn until(&self, time: Timestamp) -> Option<Timestamp> {
        let from = self.local(time)?;
        let found = self.cron.find_previous_occurrence(&from, true).ok();
        let found = found.or_else(|| {
            let sets = self.zone.preceding(from.timestamp()).take(CLOCK_SETS_MAX);
            sets.filter_map(|set| set.timestamp().checked_sub(1.second()).ok())
                .map(|before| before.to_zoned(self.zone.clone()))
                .find_map(|before| self.cron.find_previous_occurrence(&before, true).ok())
        });
        timestamp(&found?)
    }

    /// What the zone's clocks show, to the second.
    fn local(&self, time: Timestamp) -> Option<Zoned> {
        let seconds = i64::try_from(time.as_millis() / 1_000).ok()?;
        let instant = Instant::from_second(seconds).ok()?;
        Some(instant.to_zoned(self.zone.clone()))
    }
}

fn timestamp(found: &Zoned) -> Option<Timestamp> {
    u64::try_from(found.timestamp().as_millisecond())
        .ok()
        .map(Timestamp::from_millis)
}

fn reason(error: &CronError) -> Box<str> {
    let text = match error {
        CronError::EmptyPattern => "it is empty".to_owned(),
        CronError::InvalidPattern(what)
        | CronError::IllegalCharacters(what)
        | CronError::ComponentError(what) => what.clone(),
        other => other.to_string(),
    };
    text.trim_end_matches('.').into()
}

/// A fire time as it stands in the ids of jobs: RFC 3339, to the second, in UTC.
pub(super) fn text(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_millis() / 1_000).unwrap_or(i64::MAX);
    Instant::from_second(seconds).unwrap_or(Instant::MAX).to_string()
}
