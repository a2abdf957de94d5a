//! Where the rules of time zones come from: the system's time zone database, and where there is none, the one that is
//! compiled in.

use jiff::tz::TimeZone;
use tailwater_stream::ScheduleConfig;
use tailwater_stream::schedule::FireTimes;

use super::PutError;

/// The fire times of what is asked for.
pub(super) fn times(config: &ScheduleConfig) -> Result<FireTimes, PutError> {
    let zone = TimeZone::get(&config.time_zone).ok();
    let zone = zone.filter(|zone| !zone.is_unknown()).ok_or(PutError::Zone)?;
    Ok(FireTimes::parse(&config.cron, zone)?)
}
